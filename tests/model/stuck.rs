//! The rule of deadlocks, told from its end: all who wait are believed to wait for ever, until
//! nothing speaks against it any more for those who are left.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::{Hold, Model, Request, Who};

/// Why a request is not let in: sessions that must go on first. `None` stands for a hold that ends by
/// itself, or that no session stands for.
#[derive(Debug)]
struct Reason {
    sessions: Vec<Option<u64>>,
    /// Whether one of them is enough.
    one_is_enough: bool,
}

impl Reason {
    /// Whether it is one no more when all who are not stuck have gone on.
    fn passes(&self, stuck: &BTreeMap<u64, Self>) -> bool {
        let goes_on = |session: &Option<u64>| session.is_none_or(|one| !stuck.contains_key(&one));
        match self.one_is_enough {
            true => self.sessions.iter().any(goes_on),
            false => self.sessions.iter().all(goes_on),
        }
    }

    fn names(&self, session: u64) -> bool {
        self.sessions.contains(&Some(session))
    }
}

impl Model {
    /// Whether a request would wait for ever, because all who could end its wait wait for its own
    /// session, directly or through others.
    pub fn is_stuck(&self, requester: &Request) -> bool {
        let all = self.waiting.iter().chain([requester]);
        let mut stuck: BTreeMap<u64, Reason> = all
            .map(|one| (one.session, self.reason(one, requester)))
            .collect();
        loop {
            let before = stuck.len();
            let go_on: Vec<u64> = stuck
                .iter()
                .filter(|(_, reason)| reason.passes(&stuck))
                .map(|(session, _)| *session)
                .collect();
            stuck.retain(|session, _| !go_on.contains(session));
            let waiting = all_who_wait_for(requester.session, &stuck);
            stuck.retain(|session, _| waiting.contains(session));
            if stuck.len() == before {
                return stuck.contains_key(&requester.session);
            }
        }
    }

    /// Whether the wait of a request ends only after this session has gone on, or could; as the
    /// requester sees it, who waits itself for some time only.
    pub fn waits_for(&self, request: &Request, session: u64, requester: &Request) -> bool {
        self.reason(request, requester).names(session)
    }

    /// What about the holders keeps a request out of a lock that is held. Whoever comes before it and
    /// goes with the holders is soon let in, and goes on; for anyone else all holders must have left.
    fn reason(&self, request: &Request, requester: &Request) -> Reason {
        let lock = &self.locks[&request.key];
        let until_ms = requester.until_ms.unwrap_or(self.now_ms);
        let stands_for = |(who, hold): (&Who, &Hold)| stands_for(*who, hold, until_ms);
        let before = self.queue(request.key).take_while(|one| *one != request);
        let all_must_leave = before
            .chain([request])
            .any(|one| !lock.mode.goes_with(one.mode));
        let own = lock.holders.get_key_value(&request.who());
        match own.filter(|_| !all_must_leave) {
            Some(own) => Reason {
                sessions: vec![stands_for(own)],
                one_is_enough: false,
            },
            None => Reason {
                sessions: lock.holders.iter().map(stands_for).collect(),
                one_is_enough: !all_must_leave,
            },
        }
    }
}

/// The session that must go on before a hold ends.
fn stands_for(who: Who, hold: &Hold, until_ms: u64) -> Option<u64> {
    let ends = hold.lease.as_ref().map(|lease| lease.ends_ms);
    match who {
        Who::Session(session) => Some(session),
        Who::Owner(_) if ends.is_some_and(|ends| ends < until_ms) => None,
        Who::Owner(_) => hold.taker,
    }
}

/// All who wait for a session, directly or through others.
fn all_who_wait_for(goal: u64, waiting: &BTreeMap<u64, Reason>) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut next = vec![goal];
    while let Some(goal) = next.pop() {
        for (session, reason) in waiting {
            if reason.names(goal) && found.insert(*session) {
                next.push(*session);
            }
        }
    }
    found
}
