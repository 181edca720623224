//! What operators do to others: they end a session, take a lock from whoever has it, or free an owners'
//! lock. Clients ask for it by `kick`, `force_unlock` and `break`, and [operators](super::operator) by HTTP.
//!
//! Each has a session, by which the log tells who it was, and by whose signal it is told to end. What comes
//! of an act is an [`Outcome`]: who tells of it looks first whether that is durable, each in its own way.

use std::sync::Arc;

use super::Shared;
use super::log_lines;
use super::session_guard::{SLICE, give_way, release_kicked};
use crate::model::{Key, NotStored, SessionNumber, Token};
use crate::table::{Basis, Kick, NotHeld, Order, Outcome, Session};

/// Why an act is not done, or why nobody waits any more until it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// There is no such session, or it is over.
    #[error("there is no such session")]
    NoSession,
    /// It is the session of the one who asks.
    #[error("this session is the one by which it is asked for")]
    OwnSession,
    /// No grant is meant, or others than owners have the lock. That this is so rests on what is not
    /// durable yet.
    #[error("{}", match .0.value {
        NotHeld::NotYours => "a session holds this lock, and not only owners",
        _ => "nobody holds this lock, or only somebody who got it later",
    })]
    NotHeld(Outcome<NotHeld>),
    /// Nothing can be stored at this time; it may be done in memory, and be undone by a restart.
    #[error("not stored: {0}")]
    NotStored(#[from] NotStored),
    /// The session of the one who asks has to end. What was ordered goes on where it can.
    #[error("{}", match .0 {
        Order::Stop => "the server is stopping",
        Order::TakenOver | Order::Kill => "an operator has ended the session by which it is asked for",
    })]
    MustEnd(Order),
}

/// How many grants were looked at in a slice, or why there is nothing to end.
type Slice = Result<Outcome<Result<usize, NotHeld>>, NotStored>;

/// Ends a session, if the user whom it belongs to is one that is `seen`, and returns when all that it held
/// is free.
pub(super) async fn kick(
    shared: &Arc<Shared>,
    by: &Session,
    number: SessionNumber,
    seen: impl Fn(Option<&Key>) -> bool,
) -> Result<Outcome<()>, NotDone> {
    if number == by.number() {
        return Err(NotDone::OwnSession);
    }
    let known = shared.table.identity(number);
    let known = known.filter(|known| seen(known.user.as_ref()));
    let known = known.ok_or(NotDone::NoSession)?;
    match shared.table.kick(number, by.number())? {
        Kick::Unknown => return Err(NotDone::NoSession),
        Kick::Ordered => {}
        // In a task of its own, which goes on if the one who asks does not wait.
        Kick::Over(session) => {
            let released = release_kicked(Arc::clone(shared), session);
            drop(shared.tasks.spawn_on(released, &shared.runtime));
        }
    }
    log_lines::kicked(shared, by, number, &known);
    tokio::select! {
        biased;
        over = shared.table.until_over(number) => Ok(over),
        order = by.signal().any() => Err(NotDone::MustEnd(order)),
    }
}

/// Takes a lock from all who hold it by tokens up to `last`, or by any.
pub(super) async fn force_unlock(
    shared: &Shared,
    by: &mut Session,
    key: &Key,
    mut last: Option<Token>,
) -> Result<Outcome<()>, NotDone> {
    let (table, clock) = (&shared.table, &shared.clock);
    in_slices(shared, by, |by| {
        let revoked = table.revoke_some(by, key.as_bytes(), last, SLICE, clock.now())?;
        Ok(revoked.map(|revoked| {
            let revoked = revoked?;
            for grant in &revoked.grants {
                log_lines::revoked(shared, by, grant);
            }
            last = Some(revoked.last);
            Ok(revoked.looked_at)
        }))
    })
    .await
}

/// Frees a lock that only owners hold by tokens up to `last`, or by any.
pub(super) async fn break_lock(
    shared: &Shared,
    by: &mut Session,
    key: &Key,
    last: Option<Token>,
) -> Result<Outcome<()>, NotDone> {
    let (table, clock) = (&shared.table, &shared.clock);
    let last = last.unwrap_or_else(|| table.last_token());
    in_slices(shared, by, |by| {
        let broken = table.break_some(by, key.as_bytes(), last, SLICE, clock.now())?;
        Ok(broken.map(|broken| {
            let broken = broken?;
            for grant in &broken.grants {
                log_lines::broken(shared, by, grant);
            }
            Ok(broken.looked_at)
        }))
    })
    .await
}

/// Goes on as long as a slice was full, as very many may hold one key.
async fn in_slices(
    shared: &Shared,
    by: &mut Session,
    mut slice: impl FnMut(&mut Session) -> Slice,
) -> Result<Outcome<()>, NotDone> {
    let mut is_first = true;
    loop {
        let Outcome { value, basis } = slice(by)?;
        let is_last = match value {
            // Those that were meant have gone by themselves, and others hold it.
            Ok(0) if is_first => return Err(not_held(NotHeld::NotLocked, basis)),
            Ok(looked_at) => looked_at < SLICE,
            Err(why) if is_first => return Err(not_held(why, basis)),
            Err(_) => true,
        };
        if is_last {
            return Ok(Outcome { value: (), basis });
        }
        is_first = false;
        give_way(&shared.table, basis.seq()).await;
        if let Some(order) = by.signal().is_cut_off() {
            return Err(NotDone::MustEnd(order));
        }
    }
}

fn not_held(why: NotHeld, basis: Basis) -> NotDone {
    NotDone::NotHeld(Outcome { value: why, basis })
}
