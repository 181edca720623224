//! The rule of deadlocks, told from its end: all who wait are believed to wait for ever, until
//! nothing speaks against it any more for those who are left.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::{Hold, Mode, Model, ModelLock, Request, Who};

/// One reason why a request is not let in: sessions that must go on first. `None` stands for a hold
/// that ends by itself, or that no session stands for.
#[derive(Debug)]
struct Reason {
    sessions: Vec<Option<u64>>,
    /// Whether one of them is enough.
    one_is_enough: bool,
}

impl Reason {
    /// Whether it is one no more when all who are not stuck have gone on.
    fn passes(&self, stuck: &BTreeMap<u64, Vec<Self>>) -> bool {
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
        let mut stuck: BTreeMap<u64, Vec<Reason>> = all
            .map(|one| (one.session, self.reasons(one, requester)))
            .collect();
        loop {
            let before = stuck.len();
            let go_on: Vec<u64> = stuck
                .iter()
                .filter(|(_, reasons)| reasons.iter().all(|reason| reason.passes(&stuck)))
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
        let reasons = self.reasons(request, requester);
        reasons.iter().any(|reason| reason.names(session))
    }

    /// What keeps a request out: what keeps itself out, and all that must be let in before.
    fn reasons(&self, request: &Request, requester: &Request) -> Vec<Reason> {
        let Some(lock) = self.locks.get(&request.key) else {
            return Vec::new();
        };
        let until_ms = requester.until_ms.unwrap_or(self.now_ms);
        let before = self.let_in_before(request).into_iter();
        let all = before.chain([request]);
        let mut reasons: Vec<Reason> = all.filter_map(|one| reason(lock, one, until_ms)).collect();
        // Where one holder must go on in any case, one of all has gone on then, too.
        if reasons.iter().any(|reason| !reason.one_is_enough) {
            reasons.retain(|reason| !reason.one_is_enough);
        }
        reasons
    }

    /// Those before a request in the queue. One by value comes along with the first of its value, if
    /// its owner does not get the lock by an earlier request of these.
    fn let_in_before<'a>(&'a self, request: &'a Request) -> Vec<&'a Request> {
        let queue = self.queue(request.key);
        let before: Vec<&Request> = queue.take_while(|one| *one != request).collect();
        let is_own = |one: &&Request| one.who() == request.who() && one.has_value_of(request);
        let first = before.iter().position(|one| one.has_value_of(request));
        match first {
            Some(first) if !before.iter().any(is_own) => before[..=first].to_vec(),
            _ => before,
        }
    }
}

/// What about the holders keeps a request out.
fn reason(lock: &ModelLock, request: &Request, until_ms: u64) -> Option<Reason> {
    let is_full = match request.mode {
        Mode::Slot(slots) => lock.holders.len() >= slots as usize,
        _ => false,
    };
    let own = lock.holders.get_key_value(&request.who());
    let stands_for = |(who, hold): (&Who, &Hold)| stands_for(*who, hold, until_ms);
    let (sessions, one_is_enough) = match own {
        _ if !lock.mode.goes_with(request.mode) => {
            (lock.holders.iter().map(stands_for).collect(), false)
        }
        Some(own) => (vec![stands_for(own)], false),
        None if is_full => (lock.holders.iter().map(stands_for).collect(), true),
        None => return None,
    };
    Some(Reason {
        sessions,
        one_is_enough,
    })
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
fn all_who_wait_for(goal: u64, waiting: &BTreeMap<u64, Vec<Reason>>) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut next = vec![goal];
    while let Some(goal) = next.pop() {
        for (session, reasons) in waiting {
            let waits = reasons.iter().any(|reason| reason.names(goal));
            if waits && found.insert(*session) {
                next.push(*session);
            }
        }
    }
    found
}
