//! One task for all locks of a client: it renews leases, hears of connections on which locks rest, and
//! calls lost what cannot be believed held any longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Moment;
use crate::command::{Echo, GetSessions};
use crate::error::{Error, Loss};
use crate::hold::Hold;
use crate::listing::{Page, SessionEntry};
use crate::options::Options;
use crate::session::handshake::{expire_of, missing, token_of};
use crate::session::{Batch, Outcome, Session, Vital};

/// The timer of the runtime may stand still while the machine sleeps, so it is never set for longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Renewals that come close together are sent together.
const SHORTEST_SLEEP: Duration = Duration::from_millis(5);

/// A look that is later than planned by that comes from a program, or a machine, that stood still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Requests that wait and are asked about in one look. Each costs the server a page of its sessions.
const MAX_ATTESTED: usize = 16;

#[derive(Debug)]
pub(crate) struct Keeper {
    options: Arc<Options>,
    sessions: Mutex<Vec<Kept>>,
    /// Rung when a lock was granted, a request waits, or a connection was made.
    bell: Arc<Notify>,
    /// The server did not show its sessions, on that connection of the first session, counted from one.
    blind_on: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    session: Weak<Session>,
    beat_at: Moment,
    attest_at: Moment,
}

impl Keeper {
    /// Runs until the client and all its guards are gone.
    pub(crate) fn start(options: &Arc<Options>) -> Arc<Self> {
        let keeper = Arc::new(Self {
            options: Arc::clone(options),
            sessions: Mutex::default(),
            bell: Arc::default(),
            blind_on: AtomicU64::new(0),
        });
        tokio::spawn(run(Arc::downgrade(&keeper), Arc::clone(&keeper.bell)));
        keeper
    }

    /// A new session, the first of which is the one that answers for the others while they wait.
    pub(crate) fn new_session(&self) -> Arc<Session> {
        let session = Session::start(&self.options, &self.bell);
        self.all().push(Kept {
            session: Arc::downgrade(&session),
            beat_at: Moment(0),
            attest_at: Moment(0),
        });
        session
    }

    /// Of all sessions that somebody uses.
    pub(crate) fn vitals(&self) -> Vec<Arc<Vital>> {
        let sessions = self.all();
        let used = sessions.iter().filter_map(|kept| kept.session.upgrade());
        used.map(|session| Arc::clone(&session.vital)).collect()
    }

    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due, and returns when to look again; never, if there is nothing to look after.
    fn look(self: &Arc<Self>, now: Moment, stood_still: bool) -> Moment {
        let mut next = Moment::NEVER;
        let mut attested = 0;
        let mut all = self.all();
        let main = all.first().and_then(|first| first.session.upgrade());
        all.retain_mut(|kept| {
            let Some(session) = kept.session.upgrade() else {
                return false;
            };
            let is_waiting = session.vital.waiting_since().is_some();
            let holds = session.vital.holds();
            for hold in &holds {
                if now >= hold.believed_until() {
                    let why = match stood_still {
                        true => Loss::StoodStill,
                        false => hold.lapse(),
                    };
                    session.vital.lose(hold, why);
                } else {
                    next = next.min(self.look_at(&session, hold, is_waiting, now));
                }
            }
            if is_waiting {
                // Locks that rest on the session are lost if nobody knows of it.
                let has_turn = !holds.is_empty() || attested < MAX_ATTESTED;
                let main = main.as_ref().filter(|_| has_turn);
                let (asked, again) = self.attest(kept, &session, main, now);
                attested += usize::from(asked);
                next = next.min(again);
            } else if !holds.is_empty() && session.is_up() {
                next = next.min(self.beat(kept, &session, &holds, now));
            }
            true
        });
        // Those that had no turn are the first ones the next time. The first session stays the first.
        if let Some((_, others)) = all.split_first_mut() {
            others.rotate_left(attested.min(others.len()));
        }
        next
    }

    /// Renews the lease; when to look at it again.
    fn look_at(
        &self,
        session: &Arc<Session>,
        hold: &Arc<Hold>,
        is_waiting: bool,
        now: Moment,
    ) -> Moment {
        // Behind a request that waits nothing is renewed: the lease was made longer before it.
        if now >= hold.renew_at() && !is_waiting && session.is_up() {
            renew(session, hold);
        }
        let renewed = match is_waiting || !session.is_up() {
            true => Moment::NEVER,
            false => hold.renew_at(),
        };
        hold.believed_until().min(renewed)
    }

    /// Hears of the server, and of the locks that nothing else is heard of: those of owners, which anyone
    /// can release, and those without a lease, which an operator can take.
    fn beat(
        &self,
        kept: &mut Kept,
        session: &Arc<Session>,
        holds: &[Arc<Hold>],
        now: Moment,
    ) -> Moment {
        let beat = self.options.beat();
        if now < kept.beat_at {
            return kept.beat_at;
        }
        kept.beat_at = now.plus(beat);
        let deadline = self.options.request_deadline.min(beat);
        if let Ok(batch) = Batch::one(&Echo::default()) {
            session.call(batch, deadline, drop);
        }
        let is_unheard_of = |hold: &&Arc<Hold>| hold.owner.is_some() || hold.lease().is_none();
        for hold in holds.iter().filter(is_unheard_of) {
            let Ok(batch) = Batch::one(&token_of(hold)) else {
                continue;
            };
            let (hold, of) = (Arc::clone(hold), Arc::downgrade(session));
            session.call(batch, deadline, move |outcome| {
                verified(&of, &hold, outcome)
            });
        }
        kept.beat_at
    }

    /// While a session's request waits, the server says nothing on its connection. So it is asked, by
    /// another, whether it still has that session connected and waiting: then the session's locks are
    /// held for a grace period from now on at least; and if not, the connection is made anew.
    fn attest(
        self: &Arc<Self>,
        kept: &mut Kept,
        session: &Arc<Session>,
        main: Option<&Arc<Session>>,
        now: Moment,
    ) -> (bool, Moment) {
        let sees = |main: &&Arc<Session>| {
            main.vital.joins() != self.blind_on.load(Ordering::Relaxed) && main.is_up()
        };
        let Some(main) = main.filter(sees) else {
            return (false, now.plus(LONGEST_SLEEP));
        };
        let since = session.vital.waiting_since().unwrap_or(now);
        kept.attest_at = kept.attest_at.max(since.plus(self.options.beat()));
        if now < kept.attest_at {
            return (false, kept.attest_at);
        }
        kept.attest_at = now.plus(self.options.beat());
        // A session's number says nothing to another server, or to another run of this one.
        let instance = |session: &Session| session.server().and_then(|server| server.instance);
        match (instance(main), instance(session)) {
            (Some(asked), Some(meant)) if asked == meant => {}
            (Some(_), Some(_)) => {
                session.sever();
                return (false, kept.attest_at);
            }
            _ => return (false, kept.attest_at),
        }
        let number = session.vital.number();
        let after = (number > 1).then(|| (number - 1).to_string().into_bytes());
        if let Ok(batch) = Batch::one(&GetSessions { after }) {
            let (keeper, session) = (Arc::downgrade(self), Arc::downgrade(session));
            let (deadline, joins) = (self.options.request_deadline, main.vital.joins());
            main.call(batch, deadline, move |outcome| {
                if let (Some(keeper), Some(session)) = (keeper.upgrade(), session.upgrade()) {
                    keeper.attested(&session, since, joins, outcome);
                }
            });
        }
        (true, kept.attest_at)
    }

    /// `joins`: on which connection it was asked.
    fn attested(&self, session: &Arc<Session>, since: Moment, joins: u64, outcome: Outcome) {
        let vital = &session.vital;
        // Another wait by now, or none: this was about one that is over.
        if vital.waiting_since() != Some(since) {
            return;
        }
        let Ok(mut answers) = outcome else {
            // If the other connection broke, this one may have, too.
            if vital.missed_before() {
                session.sever();
            }
            return;
        };
        let answer = answers.list.remove(0);
        let page = answer
            .done()
            .and_then(|answer| Page::<SessionEntry>::read(&answer, "SESSION "));
        let page = match page {
            Ok(page) => page,
            Err(Error::Refused { .. }) => {
                self.blind_on.store(joins, Ordering::Relaxed);
                return;
            }
            Err(_) => return,
        };
        let number = vital.number();
        match page.entries.iter().find(|entry| entry.session == number) {
            Some(entry) if entry.connected => {
                vital.confirm(answers.sent);
                if entry.waits_for.is_some() || !vital.is_in_queue() {
                    vital.is_not_missed();
                } else if vital.missed_before() {
                    // It was answered, and twice was time enough for the answer to come.
                    session.sever();
                }
            }
            _ => session.sever(),
        }
    }
}

async fn run(keeper: Weak<Keeper>, bell: Arc<Notify>) {
    let mut planned = Moment::NEVER;
    loop {
        let now = Moment::now();
        let stood_still = now > planned.plus(STANDSTILL);
        let Some(keeper) = keeper.upgrade() else {
            return;
        };
        let next = keeper.look(now, stood_still);
        drop(keeper);
        let now = Moment::now();
        let time = next.after(now).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        planned = now.plus(time);
        tokio::select! {
            () = bell.notified() => {}
            () = tokio::time::sleep(time) => {}
        }
    }
}

fn renew(session: &Arc<Session>, hold: &Arc<Hold>) {
    let Some(lease) = hold.lease() else {
        return;
    };
    let Ok(batch) = Batch::one(&expire_of(hold, lease)) else {
        return;
    };
    let renewal = hold.renewing(lease);
    let deadline = session.vital.options.request_deadline.min(lease / 3);
    let (hold, of) = (Arc::clone(hold), Arc::downgrade(session));
    session.call(batch, deadline, move |outcome| {
        let Ok(mut answers) = outcome else {
            // On the next connection.
            hold.set_renew_at(Moment(0));
            return;
        };
        match answers.list.remove(0).done() {
            Ok(_) => hold.renewed(renewal, answers.sent),
            Err(Error::NotHeld(why)) => {
                // An owner is not told of the end of its lease.
                let why = match hold.owner.is_some() && !hold.is_held() {
                    true => Loss::LeaseEnded,
                    false => why.into(),
                };
                if let Some(session) = of.upgrade() {
                    session.vital.lose(&hold, why);
                }
            }
            // It is held, and perhaps not renewed.
            Err(_) => hold.set_renew_at(Moment::now().plus(LONGEST_SLEEP)),
        }
    });
}

fn verified(session: &Weak<Session>, hold: &Arc<Hold>, outcome: Outcome) {
    let Ok(mut answers) = outcome else {
        return;
    };
    if let (Ok(Some(why)), Some(session)) =
        (missing(hold, answers.list.remove(0)), session.upgrade())
    {
        session.vital.lose(hold, why);
    }
}
