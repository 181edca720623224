//! What the log says of locks that were taken from a session, and of what else an operator asks for
//! afterwards. A crowd of such lines is [counted](super::throttle) instead.

use tracing::info;

use super::Shared;
use crate::model::{Limit, Peer, SessionNumber, Visible};
use crate::table::{EndedLease, Session};

/// How many keys a line names.
const NAMED_KEYS: usize = 3;

pub(super) fn lease_ended(shared: &Shared, lease: &EndedLease) {
    if shared.throttles.lease_ends.passes(shared.clock.now()) {
        info!(
            session = %lease.session,
            peer = %peer(shared, lease.session),
            key = %Visible(lease.key.as_bytes()),
            token = lease.token.0,
            held_ms = lease.held.as_millis() as u64,
            "a lease ended, and its lock with it"
        );
    }
}

/// A session with locks is over, for the reason `why`.
pub(super) fn session_ended(shared: &Shared, session: &Session, peer: Peer, why: &str) {
    let locks = session.held();
    if locks > 0 && shared.throttles.session_ends.passes(shared.clock.now()) {
        let keys = keys(shared, session);
        info!(session = %session.number(), %peer, locks, keys, "{why}, and its session's locks are released");
    }
}

/// A session is resumed from the address `from`, by the connection that has it now.
pub(super) fn resumed(shared: &Shared, session: &Session, from: &str) {
    if shared.throttles.resumes.passes(shared.clock.now()) {
        let (locks, keys) = (session.held(), keys(shared, session));
        let peer = peer(shared, session.number());
        info!(session = %session.number(), peer, from, locks, keys, "a session was resumed");
    }
}

pub(super) fn limit_reached(shared: &Shared, session: SessionNumber, limit: Limit) {
    if shared.throttles.limits.passes(shared.clock.now()) {
        let (peer, setting) = (peer(shared, session), limit.flag());
        info!(%session, peer, setting, "a limit is reached: {limit}");
    }
}

/// Where a session is, or was last, connected from.
pub(super) fn peer(shared: &Shared, session: SessionNumber) -> String {
    let peer = shared.table.peer(session);
    peer.map_or_else(|| "gone".to_owned(), |peer| peer.to_string())
}

/// Some keys that the session holds, and how many more there are.
fn keys(shared: &Shared, session: &Session) -> String {
    let named = shared.table.some_keys(session, NAMED_KEYS);
    let shown = named.iter().map(|key| Visible(key.as_bytes()).to_string());
    let shown = shown.collect::<Vec<_>>().join(" ");
    match session.held().saturating_sub(named.len()) {
        0 => shown,
        more => format!("{shown} ... and {more} more"),
    }
}
