//! Histories in which something is wrong, for which the judge must say so; and others beside them in which
//! nothing is.

use std::time::Duration;

use super::judge::{Entry, Event, Holder, Key, LONG, violations};
use crate::common::history::Held;

const SHORT: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Planted(Vec<Entry>);

impl Planted {
    fn of(holders: &[(Holder, Duration)]) -> Self {
        let mut planted = Self::default();
        for &(holder, grace) in holders {
            planted = planted.then(Event::Begins { holder, grace });
        }
        planted
    }

    fn then(mut self, event: Event) -> Self {
        let at = Duration::ZERO;
        self.0.push(Entry { at, event });
        self
    }

    fn asks(self, holder: Holder, keys: &[Key], held: Held) -> Self {
        let keys = keys.to_vec();
        self.then(Event::Asks { holder, keys, held })
    }

    fn token(self, holder: Holder, key: Key, token: Option<u64>) -> Self {
        self.then(Event::Token { holder, key, token })
    }

    fn gets_held(self, holder: Holder, key: Key, held: Held, token: u64) -> Self {
        self.asks(holder, &[key], held)
            .then(Event::Acquired { holder, key })
            .token(holder, key, Some(token))
    }

    fn gets(self, holder: Holder, key: Key, token: u64) -> Self {
        self.gets_held(holder, key, Held::Alone, token)
    }

    fn gives(self, holder: Holder, key: Key) -> Self {
        self.then(Event::Gives { holder, key })
    }

    fn releases(self, holder: Holder, key: Key) -> Self {
        let was_held = true;
        self.gives(holder, key).then(Event::Released {
            holder,
            key,
            was_held,
        })
    }

    fn cut(self, holder: Holder) -> Self {
        self.then(Event::Cut { holder })
    }

    fn over(self, holder: Holder, silent: Duration) -> Self {
        self.then(Event::Over { holder, silent })
    }

    fn refused(self, holder: Holder, key: Key) -> Self {
        let by_others = true;
        self.then(Event::Refused {
            holder,
            key,
            by_others,
        })
    }

    #[track_caller]
    fn well(self) -> Self {
        assert_eq!(violations(&self.0), [""; 0]);
        self
    }

    #[track_caller]
    fn convicts(self, of: &str) {
        let wrong = violations(&self.0);
        assert!(wrong.iter().any(|wrong| wrong.contains(of)), "{wrong:?}");
    }
}

fn two() -> Planted {
    Planted::of(&[(1, LONG), (2, LONG)])
}

fn one_of_short_grace() -> Planted {
    Planted::of(&[(1, SHORT), (2, LONG)])
}

#[test]
fn two_who_hold_a_key_at_once() {
    two().gets(1, 0, 10).gets(2, 0, 11).convicts("got it while");
    let shared = two().gets_held(1, 0, Held::Shared(1), 10);
    shared
        .gets_held(2, 0, Held::Shared(2), 11)
        .convicts("got it while");
    let slots = Planted::of(&[(1, LONG), (2, LONG), (3, LONG)])
        .gets_held(1, 0, Held::Slot(2), 10)
        .gets_held(2, 0, Held::Slot(2), 11)
        .well();
    slots
        .gets_held(3, 0, Held::Slot(2), 12)
        .convicts("got it while");
    two().gets(1, 0, 10).gets(2, 1, 11).well();
    two().gets(1, 0, 10).releases(1, 0).gets(2, 0, 11).well();
}

/// Only who would hear of it in time may lose its lock while it is cut off.
#[test]
fn a_lock_that_passes_on_while_its_holder_is_cut_off() {
    two()
        .gets(1, 0, 10)
        .cut(1)
        .gets(2, 0, 11)
        .convicts("got it while");
    one_of_short_grace()
        .gets(1, 0, 10)
        .gets(2, 0, 11)
        .convicts("got it while");
    let passed = one_of_short_grace()
        .gets(1, 0, 10)
        .cut(1)
        .gets(2, 0, 11)
        .well();
    passed.token(1, 0, Some(10)).convicts("kept it by 10");
}

#[test]
fn a_token_that_falls() {
    let back = two().gets(1, 0, 10).releases(1, 0).gets(2, 0, 9);
    back.convicts("token 9 after 10");
    let same = two().gets(1, 0, 10).releases(1, 0).gets(2, 0, 10);
    same.convicts("token 10 after 10");
    two()
        .gets(1, 0, 10)
        .token(1, 0, Some(11))
        .convicts("had token 10, and then 11");
}

#[test]
fn a_lock_that_is_lost() {
    two()
        .gets(1, 0, 10)
        .cut(1)
        .token(1, 0, None)
        .convicts("has lost it");
    one_of_short_grace()
        .gets(1, 0, 10)
        .cut(1)
        .token(1, 0, None)
        .convicts("has lost it");
    let key = 0;
    let told = two()
        .asks(1, &[key], Held::Alone)
        .then(Event::Acquired { holder: 1, key });
    told.cut(1).token(1, 0, None).convicts("has lost it");
    let (holder, was_held) = (1, false);
    let refused = Event::Released {
        holder,
        key,
        was_held,
    };
    two()
        .gets(1, 0, 10)
        .gives(1, 0)
        .then(refused.clone())
        .convicts("has lost it");
    // It was done the first time.
    two()
        .gets(1, 0, 10)
        .gives(1, 0)
        .cut(1)
        .gives(1, 0)
        .then(refused)
        .well();
}

#[test]
fn a_session_that_is_lost() {
    two()
        .gets(1, 0, 10)
        .cut(1)
        .over(1, SHORT)
        .convicts("was lost after");
    let almost = SHORT - Duration::from_millis(1);
    one_of_short_grace()
        .gets(1, 0, 10)
        .cut(1)
        .over(1, almost)
        .convicts("was lost after");
    one_of_short_grace()
        .gets(1, 0, 10)
        .cut(1)
        .over(1, SHORT)
        .well();
}

#[test]
fn a_released_lock_that_comes_back() {
    two()
        .gets(1, 0, 10)
        .releases(1, 0)
        .cut(1)
        .token(1, 0, Some(10))
        .convicts("released");
    two().token(1, 0, Some(10)).convicts("never told of");
    // That may be, as nobody has answered.
    two()
        .gets(1, 0, 10)
        .gives(1, 0)
        .cut(1)
        .token(1, 0, Some(10))
        .well();
    two()
        .asks(1, &[0], Held::Alone)
        .cut(1)
        .token(1, 0, Some(10))
        .well();
}

#[test]
fn a_released_lock_that_stays() {
    let asks = || {
        two()
            .gets(1, 0, 10)
            .releases(1, 0)
            .asks(2, &[0], Held::Alone)
    };
    asks().refused(2, 0).convicts("nobody could have it");
    let before = two()
        .gets(1, 0, 10)
        .asks(2, &[0], Held::Alone)
        .releases(1, 0);
    before.refused(2, 0).well();
    let asked = || two().asks(1, &[0], Held::Alone).asks(2, &[0], Held::Alone);
    asked().refused(2, 0).well();
    asked()
        .refused(1, 0)
        .asks(1, &[0], Held::Alone)
        .refused(1, 0)
        .well();
    let over = one_of_short_grace().gets(1, 0, 10).cut(1).over(1, SHORT);
    over.asks(2, &[0], Held::Alone)
        .refused(2, 0)
        .convicts("nobody could have it");
}

#[test]
fn some_of_several_keys() {
    let asks = || two().asks(1, &[0, 1], Held::Alone).cut(1);
    asks()
        .token(1, 0, Some(10))
        .token(1, 1, None)
        .convicts("and some not");
    asks().token(1, 0, Some(10)).token(1, 1, Some(11)).well();
    asks().token(1, 0, None).token(1, 1, None).well();
}

#[test]
fn an_answer_behind_a_sessions_back() {
    let what = "200 10".to_owned();
    two()
        .then(Event::AnsweredBehind { holder: 1, what })
        .convicts("200 10");
}
