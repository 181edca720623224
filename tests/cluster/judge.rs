//! What the clients of a cluster were told, in the order in which they wrote it down, and what must never be
//! told. Knows nothing of any server.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::history::{self, Held};

/// A grace period that is not over before the trial is.
pub const LONG: Duration = Duration::from_secs(3600);

/// Who holds a key: a session, or an owner's word. None is used twice.
pub type Holder = u64;

/// One of the few keys.
pub type Key = usize;

/// Written down with the time since the trial's beginning.
#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Duration,
    pub event: Event,
}

/// What a client is about to do is written before it does it, and what it was told after that: so what
/// overlaps here has overlapped.
#[derive(Debug, Clone)]
pub enum Event {
    /// There is a session, which outlives its connection for so long; or an owner's word, which does
    /// for [`LONG`].
    Begins { holder: Holder, grace: Duration },
    /// It is about to ask for all of these keys, by one request.
    Asks {
        holder: Holder,
        keys: Vec<Key>,
        held: Held,
    },
    /// `200` to that.
    Acquired { holder: Holder, key: Key },
    /// `409` or `423` to that. `by_others`: it is said that others have this very key.
    Refused {
        holder: Holder,
        key: Key,
        by_others: bool,
    },
    /// It may hold it or not from here on, by a lease that ends soon or as it could not be stored.
    Doubts { holder: Holder, key: Key },
    /// The answer to `token`; `None` for `403`.
    Token {
        holder: Holder,
        key: Key,
        token: Option<u64>,
    },
    /// It is about to give it back.
    Gives { holder: Holder, key: Key },
    /// The answer to that: `200`, or `403`, as it was not held.
    Released {
        holder: Holder,
        key: Key,
        was_held: bool,
    },
    /// Its connection is gone, or it does not wait any longer for an answer.
    Cut { holder: Holder },
    /// The session cannot be resumed. `silent`: the time since it sent what was answered last.
    Over { holder: Holder, silent: Duration },
    /// A question was answered by `200` on a connection that had lost its session before it was sent.
    AnsweredBehind { holder: Holder, what: String },
}

/// What is wrong with the histories: two who exclude each other were told that they hold a key; a token was not
/// above those before it; a lock or a session that was told of is lost; what was released, or never told of, is
/// held; of several keys that were asked for by one request there are some; or a key was refused although nobody
/// can have held it. Empty if all is well.
pub fn violations(entries: &[Entry]) -> Vec<String> {
    let mut judge = Judge::default();
    for (index, entry) in entries.iter().enumerate() {
        (judge.index, judge.at) = (index, entry.at);
        judge.see(&entry.event);
    }
    judge.end()
}

/// What is so between a holder and a key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Free,
    /// No answer came yet: it holds it or not.
    Asked {
        held: Held,
        since: usize,
        request: usize,
    },
    /// It was told so; by this token, if it was told that, too.
    Has {
        held: Held,
        token: Option<u64>,
    },
    /// It has it, unless its session has ended while it was cut off.
    Unsure {
        held: Held,
        token: Option<u64>,
    },
    /// It had it, and asked for its release.
    Giving {
        held: Held,
        token: Option<u64>,
    },
    /// It has it or not.
    Open {
        held: Held,
        token: Option<u64>,
    },
}

#[derive(Default)]
struct Judge {
    index: usize,
    at: Duration,
    wrong: Vec<String>,
    graces: BTreeMap<Holder, Duration>,
    /// Without those that are free.
    states: BTreeMap<(Key, Holder), State>,
    /// When somebody was found not to have it any more, in this order.
    freed: BTreeMap<Key, Vec<(usize, Holder)>>,
    /// Of requests for several keys: whether one was found to be held afterwards, and whether one was not.
    found: BTreeMap<usize, (bool, bool)>,
    /// For each key what [`history::violations`] judges, and where that stands here.
    histories: BTreeMap<Key, Vec<(usize, history::Event)>>,
}

impl Judge {
    fn see(&mut self, event: &Event) {
        match *event {
            Event::Begins { holder, grace } => drop(self.graces.insert(holder, grace)),
            Event::Asks {
                holder,
                ref keys,
                held,
            } => keys.iter().for_each(|&key| self.asks(holder, key, held)),
            Event::Acquired { holder, key } => match self.state(holder, key) {
                State::Asked { held, .. } => {
                    self.set(holder, key, State::Has { held, token: None });
                }
                state => self.is_wrong(holder, key, &format!("{state:?}, and acquired it")),
            },
            Event::Refused {
                holder,
                key,
                by_others,
            } => self.refused(holder, key, by_others),
            Event::Doubts { holder, key } => self.doubts(holder, key),
            Event::Token {
                holder,
                key,
                token: Some(token),
            } => self.has(holder, key, token),
            Event::Token {
                holder,
                key,
                token: None,
            } => self.has_not(holder, key, "was told that it does not have it"),
            Event::Gives { holder, key } => self.gives(holder, key),
            Event::Released {
                holder,
                key,
                was_held,
            } => self.released(holder, key, was_held),
            Event::Cut { holder } => self.cut(holder),
            Event::Over { holder, silent } => self.over(holder, silent),
            Event::AnsweredBehind { holder, ref what } => {
                let what = format!("{holder} was answered {what} behind its session's back");
                self.wrong.push(format!("{}: {what}", self.place()));
            }
        }
    }

    fn asks(&mut self, holder: Holder, key: Key, held: Held) {
        let state = self.state(holder, key);
        if state != State::Free {
            self.is_wrong(holder, key, &format!("{state:?}, and asks for it"));
        }
        let (since, request) = (self.index, self.index);
        self.set(
            holder,
            key,
            State::Asked {
                held,
                since,
                request,
            },
        );
    }

    fn refused(&mut self, holder: Holder, key: Key, by_others: bool) {
        let State::Asked { since, .. } = self.state(holder, key) else {
            return self.is_wrong(holder, key, "was refused what it has not asked for");
        };
        let range = (key, Holder::MIN)..=(key, Holder::MAX);
        let now = self.states.range(range).map(|((_, other), _)| *other);
        let freed = self.freed.get(&key).into_iter().flatten().rev();
        let meanwhile = freed
            .take_while(|(at, _)| *at > since)
            .map(|(_, other)| *other);
        if by_others && !now.chain(meanwhile).any(|other| other != holder) {
            self.is_wrong(holder, key, "was refused it while nobody could have it");
        }
        self.free(holder, key);
    }

    fn doubts(&mut self, holder: Holder, key: Key) {
        let state = self.state(holder, key);
        let (held, token) = match state {
            State::Free => return self.is_wrong(holder, key, "doubts what it has not"),
            State::Asked { held, .. } => (held, None),
            State::Has { held, token } => {
                self.leaves(holder, key, token);
                (held, token)
            }
            State::Unsure { held, token }
            | State::Giving { held, token }
            | State::Open { held, token } => (held, token),
        };
        self.set(holder, key, State::Open { held, token });
    }

    fn has(&mut self, holder: Holder, key: Key, token: u64) {
        let state = self.state(holder, key);
        let (held, known) = match state {
            State::Has {
                token: Some(known), ..
            } => {
                if known != token {
                    self.is_wrong(holder, key, &format!("had token {known}, and then {token}"));
                }
                return;
            }
            State::Free => {
                return self.is_wrong(holder, key, "has what it released, or was never told of");
            }
            State::Asked { held, request, .. } => {
                self.found.entry(request).or_default().0 = true;
                (held, None)
            }
            State::Has { held, token: known }
            | State::Unsure { held, token: known }
            | State::Giving { held, token: known }
            | State::Open { held, token: known } => (held, known),
        };
        let event = match known {
            Some(known) if known != token => {
                return self.is_wrong(holder, key, &format!("had token {known}, and then {token}"));
            }
            Some(_) => history::Event::Keeps {
                client: holder,
                held,
                token,
            },
            None => history::Event::Got {
                client: holder,
                held,
                arrival: None,
                token: Some(token),
            },
        };
        self.note(key, event);
        let token = Some(token);
        self.set(holder, key, State::Has { held, token });
    }

    fn has_not(&mut self, holder: Holder, key: Key, how: &str) {
        match self.state(holder, key) {
            State::Free => return,
            State::Asked { request, .. } => self.found.entry(request).or_default().1 = true,
            State::Open { .. } => {}
            State::Has { token, .. } => {
                self.is_wrong(holder, key, &format!("has lost it: {how}"));
                self.leaves(holder, key, token);
            }
            State::Unsure { .. } | State::Giving { .. } => {
                self.is_wrong(holder, key, &format!("has lost it: {how}"));
            }
        }
        self.free(holder, key);
    }

    fn gives(&mut self, holder: Holder, key: Key) {
        match self.state(holder, key) {
            State::Has { held, token } => {
                self.leaves(holder, key, token);
                self.set(holder, key, State::Giving { held, token });
            }
            State::Unsure { held, token } => {
                self.set(holder, key, State::Giving { held, token });
            }
            State::Free | State::Asked { .. } | State::Giving { .. } | State::Open { .. } => {}
        }
    }

    fn released(&mut self, holder: Holder, key: Key, was_held: bool) {
        match was_held {
            true => self.free(holder, key),
            false => self.has_not(holder, key, "its unlock was refused"),
        }
    }

    fn cut(&mut self, holder: Holder) {
        let ends = self.graces.get(&holder).is_some_and(|grace| *grace < LONG);
        for key in self.keys_of(holder) {
            match self.state(holder, key) {
                State::Has { held, token } if ends => {
                    self.leaves(holder, key, token);
                    self.set(holder, key, State::Unsure { held, token });
                }
                State::Giving { held, token } => {
                    self.set(holder, key, State::Open { held, token });
                }
                _ => {}
            }
        }
    }

    fn over(&mut self, holder: Holder, silent: Duration) {
        let grace = self.graces.get(&holder).copied().unwrap_or(LONG);
        if silent < grace {
            let what = format!("session {holder} was lost after {silent:?}, within {grace:?}");
            self.wrong.push(format!("{}: {what}", self.place()));
        }
        for key in self.keys_of(holder) {
            if let State::Has { token, .. } = self.state(holder, key) {
                self.leaves(holder, key, token);
            }
            self.free(holder, key);
        }
    }

    fn end(mut self) -> Vec<String> {
        for (request, (one_is, one_is_not)) in &self.found {
            if *one_is && *one_is_not {
                let what = "some of the keys are held that were asked for, and some not";
                self.wrong.push(format!("event {request}: {what}"));
            }
        }
        for (key, events) in &self.histories {
            let (places, events): (Vec<usize>, Vec<history::Event>) =
                events.iter().cloned().unzip();
            for found in history::violations(&events) {
                let place = found
                    .strip_prefix("event ")
                    .and_then(|rest| rest.split_once(':'))
                    .and_then(|(number, what)| Some((number.parse::<usize>().ok()?, what)));
                self.wrong.push(match place {
                    Some((number, what)) => format!("event {}: k{key}:{what}", places[number]),
                    None => format!("k{key}: {found}"),
                });
            }
        }
        self.wrong
    }

    fn state(&self, holder: Holder, key: Key) -> State {
        let state = self.states.get(&(key, holder)).copied();
        state.unwrap_or(State::Free)
    }

    fn set(&mut self, holder: Holder, key: Key, state: State) {
        self.states.insert((key, holder), state);
    }

    fn free(&mut self, holder: Holder, key: Key) {
        if self.states.remove(&(key, holder)).is_some() {
            let freed = self.freed.entry(key).or_default();
            freed.push((self.index, holder));
        }
    }

    fn keys_of(&self, holder: Holder) -> Vec<Key> {
        let of_it = self.states.keys().filter(|(_, other)| *other == holder);
        of_it.map(|(key, _)| *key).collect()
    }

    /// It does not rely on the lock any longer. It is not in the history before its token is.
    fn leaves(&mut self, holder: Holder, key: Key, token: Option<u64>) {
        if token.is_some() {
            self.note(key, history::Event::Gives { client: holder });
        }
    }

    fn note(&mut self, key: Key, event: history::Event) {
        let index = self.index;
        self.histories.entry(key).or_default().push((index, event));
    }

    fn is_wrong(&mut self, holder: Holder, key: Key, what: &str) {
        let wrong = format!("{}: k{key}: {holder} {what}", self.place());
        self.wrong.push(wrong);
    }

    fn place(&self) -> String {
        format!("event {} after {} ms", self.index, self.at.as_millis())
    }
}

/// The events around the first that was convicted, of the same key where it is of one, as lines.
pub fn around(entries: &[Entry], wrong: &str) -> Vec<String> {
    let number = wrong.strip_prefix("event ").and_then(|rest| {
        let digits = rest.split(|byte: char| !byte.is_ascii_digit()).next()?;
        digits.parse::<usize>().ok()
    });
    let key = wrong
        .split(" k")
        .nth(1)
        .and_then(|rest| rest.split(':').next()?.parse().ok());
    let Some(number) = number else {
        return Vec::new();
    };
    let is_of_interest = |event: &Event| match (key, key_of(event)) {
        (Some(key), Some(of)) => of.contains(&key),
        _ => !matches!(event, Event::Begins { .. }),
    };
    let before = entries.iter().enumerate().take(number + 1);
    let mut lines: Vec<String> = before
        .filter(|(_, entry)| is_of_interest(&entry.event))
        .map(|(index, entry)| format!("{index} {} ms {:?}", entry.at.as_millis(), entry.event))
        .collect();
    lines.drain(..lines.len().saturating_sub(40));
    lines
}

fn key_of(event: &Event) -> Option<Vec<Key>> {
    match event {
        Event::Asks { keys, .. } => Some(keys.clone()),
        Event::Acquired { key, .. }
        | Event::Refused { key, .. }
        | Event::Doubts { key, .. }
        | Event::Token { key, .. }
        | Event::Gives { key, .. }
        | Event::Released { key, .. } => Some(vec![*key]),
        Event::Begins { .. }
        | Event::Cut { .. }
        | Event::Over { .. }
        | Event::AnsweredBehind { .. } => None,
    }
}
