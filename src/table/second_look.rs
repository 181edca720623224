//! The second look: for requests that wait and whose first look was too short to see all that they wait
//! for.
//!
//! First one look for all of them at once, since very many may have come together: whoever can go on is
//! in no circle, and nearly all can. It leaves out what only some of them see, so that those who seem to
//! be stuck are looked for one by one, in the order in which they entered the graph. Who closed a circle
//! then leaves its queue, and its wait ends with the circle.
//!
//! Guards are held for one piece of what is read, and the one who looks rests in between. So the graph
//! moves meanwhile; why the looks find every circle and no false one is said at the
//! [graph](super::wait_graph).

use std::time::Instant;

use super::knot::Knot;
use super::look::{Found, GivenUp, Pace, look_round};
use super::sight::Sight;
use super::wait_graph::Entry;
use super::{LockTable, interleave};

/// How many steps are taken before the others get their turn: some tens of microseconds.
const BETWEEN_RESTS: usize = 2_000;

/// How many entries are taken out of the graph under one hold of its mutex.
const AT_ONCE: usize = 256;

/// The pace of one that rests now and then, and gives up when the server stops.
struct WithRests<'a, R> {
    table: &'a LockTable,
    left: usize,
    rest: R,
}

impl<R: FnMut()> Pace for WithRests<'_, R> {
    fn spend(&mut self, steps: usize) -> Result<(), GivenUp> {
        self.left = self.left.saturating_sub(steps);
        if self.left == 0 {
            (self.rest)();
            self.left = BETWEEN_RESTS;
        }
        match self.table.is_stopping() {
            true => Err(GivenUp),
            false => Ok(()),
        }
    }
}

impl LockTable {
    /// Returns when there may be requests that need a [second look](LockTable::take_second_look). Cancel
    /// safe, for one caller at a time.
    pub async fn unseen(&self) {
        self.unseen.notified().await;
    }

    /// Looks for circles that requests have closed whose own look came to no end, until there are no such
    /// requests any more, or the server stops. Whoever has closed one is told so as the end of its wait.
    ///
    /// May take long, and calls `rest` between two parts of its work, where it keeps nobody waiting. For one
    /// caller at a time.
    pub fn take_second_look(&self, now: impl Fn() -> Instant, rest: impl FnMut()) {
        let mut pace = WithRests {
            table: self,
            left: BETWEEN_RESTS,
            rest,
        };
        while let Ok(true) = self.look_for_unseen(&now, &mut pace) {}
    }

    /// Looks for all who are unseen at this time; false if there are none.
    fn look_for_unseen(
        &self,
        now: &impl Fn() -> Instant,
        pace: &mut impl Pace,
    ) -> Result<bool, GivenUp> {
        let mut unseen: Vec<Entry> = Vec::new();
        loop {
            let last = unseen.last().map_or(0, |entry| entry.number);
            let more = interleave::lock(&self.waits).unseen_after(last, AT_ONCE);
            pace.spend(more.len())?;
            let is_last = more.len() < AT_ONCE;
            unseen.extend(more);
            if is_last {
                break;
            }
        }
        let requesters = unseen.iter().map(|entry| &entry.waiter);
        let is_stuck = Knot::of(requesters, &Sight::of_all(self), pace)?
            .stuck_among_first(unseen.len(), pace)?;
        for (entry, is_stuck) in unseen.iter().zip(is_stuck) {
            if is_stuck {
                self.look_for_one(entry, now, pace)?;
            }
            pace.spend(1)?;
            interleave::lock(&self.waits).seen(entry.number);
        }
        Ok(!unseen.is_empty())
    }

    fn look_for_one(
        &self,
        entry: &Entry,
        now: &impl Fn() -> Instant,
        pace: &mut impl Pace,
    ) -> Result<(), GivenUp> {
        // Each time that it finds one who does not wait any more, there are fewer to be found.
        while entry.waiter.is_waiting() {
            let Some(found) = look_round(&entry.waiter, &Sight::of(self, entry), pace)? else {
                return Ok(());
            };
            pace.spend(found.circle.len() + found.beside.len())?;
            if found.is_waiting() {
                self.refuse(entry, &found, now());
            }
        }
        Ok(())
    }

    /// Ends the wait of a request that has closed a circle, unless it has ended meanwhile.
    fn refuse(&self, entry: &Entry, found: &Found, now: Instant) {
        interleave::between_guards();
        if let Some(let_in) = self.leave(&entry.waiter, Some(found.circle()), now) {
            self.wake_all(&let_in);
            interleave::between_guards();
            entry.waiter.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::model::{Mode, Peer, Value};
    use crate::table::plain::{PlainTable, test_table};
    use crate::table::{Ending, Locked, Session};

    const ALL_ALONE: Mode = Mode::Exclusive;

    fn open(table: &PlainTable, count: usize) -> Vec<Session> {
        let one = |_| table.open(Peer::Unix(None), Duration::ZERO);
        (0..count).map(one).collect()
    }

    fn take(table: &PlainTable, session: &mut Session, key: &[u8], mode: &Mode) {
        let answer = table.lock(session, key, mode, Instant::now());
        assert_eq!(answer, Locked::Acquired);
    }

    fn wait(table: &PlainTable, session: &mut Session, key: &[u8], mode: &Mode) {
        let answer = table.lock_or_wait(session, key, mode, Instant::now());
        assert_eq!(answer, Locked::Waiting);
    }

    fn look(table: &PlainTable) {
        table.take_second_look(Instant::now, || {});
    }

    fn unseen(table: &PlainTable) -> usize {
        interleave::lock(&table.waits)
            .unseen_after(0, usize::MAX)
            .len()
    }

    /// How many sessions the circle has for which the request was refused; 0 if it still waits.
    fn refused(table: &PlainTable, session: &mut Session) -> usize {
        let waiter = session.waiting.as_ref().expect("it waits");
        if waiter.is_waiting() {
            return 0;
        }
        match table.end_wait(session, Ending::Decided, Instant::now()) {
            Locked::Deadlock(circle) => circle.len(),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Each session has its own key and waits for that of the next, the last one for the first one's.
    fn ring(table: &PlainTable, count: usize) -> Vec<Session> {
        let mut sessions = open(table, count);
        for (at, session) in sessions.iter_mut().enumerate() {
            take(table, session, &at.to_ne_bytes(), &ALL_ALONE);
        }
        for (at, session) in sessions.iter_mut().enumerate() {
            let next = (at + 1) % count;
            wait(table, session, &next.to_ne_bytes(), &ALL_ALONE);
        }
        sessions
    }

    #[test]
    fn holders_that_are_more_than_one_piece_are_all_read() {
        let shared = Mode::Shared(Value::new(b"v"));
        let slots = Mode::Slot(NonZeroU32::new(1000).expect("not zero"));
        for (mode, all_wait, is_circle) in [
            (&shared, false, true),
            (&slots, true, true),
            (&slots, false, false),
        ] {
            let table = test_table();
            let mut requester = open(&table, 1).remove(0);
            let mut holders = open(&table, 1000);
            for holder in &mut holders {
                take(&table, holder, b"k", mode);
            }
            take(&table, &mut requester, b"own", &ALL_ALONE);
            let asked = match mode {
                Mode::Slot(_) => mode,
                _ => &ALL_ALONE,
            };
            let first = if all_wait { 0 } else { 999 };
            for holder in &mut holders[first..] {
                wait(&table, holder, b"own", &ALL_ALONE);
            }
            wait(&table, &mut requester, b"k", asked);
            look(&table);
            let expected = if is_circle { 2 } else { 0 };
            assert_eq!(refused(&table, &mut requester), expected, "{mode:?}");
            assert_eq!(unseen(&table), 0);
        }
    }

    /// Most requests of the ring were short walks, as nobody after them waited yet.
    #[test]
    fn only_who_has_much_to_see_is_looked_for_again() {
        let table = test_table();
        let mut sessions = ring(&table, 1000);
        assert_eq!(unseen(&table), 1);
        look(&table);
        assert_eq!(
            (refused(&table, &mut sessions[999]), unseen(&table)),
            (1000, 0)
        );
        let still_wait = |session: &mut Session| refused(&table, session) == 0;
        assert!(sessions[..999].iter_mut().all(still_wait));
    }

    /// While the look rests, one of those in the ring gives up.
    #[test]
    fn a_circle_that_is_no_more_is_not_told() {
        let rests_before = |leaves_at: usize| {
            let table = test_table();
            let mut sessions = ring(&table, 1500);
            let mut one = sessions.remove(700);
            let mut rests = 0;
            table.take_second_look(Instant::now, || {
                rests += 1;
                if rests == leaves_at {
                    table.end_wait(&mut one, Ending::Deadline, Instant::now());
                }
            });
            (rests, refused(&table, &mut sessions[1498]))
        };
        let (rests, told) = rests_before(usize::MAX);
        assert!(told == 1500 && rests > 5, "{told} told after {rests} rests");
        // The last rest comes when the circle is found.
        for leaves_at in 1..=rests {
            assert_eq!(rests_before(leaves_at).1, 0, "{leaves_at} of {rests}");
        }
    }

    #[test]
    fn a_request_that_has_left_is_not_looked_for() {
        let table = test_table();
        let mut sessions = ring(&table, 1000);
        let ended = table.end_wait(&mut sessions[999], Ending::Deadline, Instant::now());
        assert_eq!((ended, unseen(&table)), (Locked::Busy, 0));
    }

    #[test]
    fn a_look_ends_when_the_server_stops() {
        let table = test_table();
        let _sessions = ring(&table, 1000);
        table.stop();
        look(&table);
        assert_eq!(unseen(&table), 1);
    }
}
