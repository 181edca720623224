//! What the log says of locks that were taken from a session, and of what else an operator asks for
//! afterwards. A crowd of such lines is [counted](super::throttle) instead.

use std::sync::Arc;

use tracing::field::display;
use tracing::{info, warn};

use super::Shared;
#[cfg(feature = "admin")]
use super::desk::Desk;
use super::events::{Event, EventKind};
#[cfg(feature = "admin")]
use crate::access::User;
use crate::model::{
    Circle, Holder, Key, Limit, LockEntry, Peer, SessionNumber, Visible, shortened,
};
use crate::protocol::{Request, circle_text};
use crate::table::{self, EndedLease, Grant, Identity, LockKey, Session};

/// How many keys a line names.
const NAMED_KEYS: usize = 3;

/// How many keys the end of a drain names, how many bytes of each, and how many of its holders.
const NAMED_LEFT_OVER: usize = 10;
const SHOWN_KEY: usize = 128;
const NAMED_HOLDERS: usize = 3;

pub(super) fn lease_ended(shared: &Shared, lease: &EndedLease) {
    if shared.throttles.lease_ends.passes(shared.clock.now()) {
        let (session, owner) = (lease.holder.session(), lease.holder.owner());
        let name = session.and_then(|one| shared.table.name(one));
        info!(
            session = session.map(display),
            name = name.as_ref().map(visible),
            peer = session.map(|one| display(peer(shared, one))),
            owner = owner.map(visible),
            key = %Visible(lease.key.as_bytes()),
            token = lease.token.0,
            held_ms = lease.held.as_millis() as u64,
            "a lease ended, and its lock with it"
        );
        shared.note(|| Event {
            session,
            name,
            owner: owner.cloned(),
            key: Some(Key::new(lease.key.as_bytes())),
            token: Some(lease.token),
            held: Some(lease.held),
            text: "its lease ended, and the lock with it".to_owned(),
            ..Event::of(EventKind::LeaseEnd)
        });
    }
}

/// A session with locks is over, for the reason `why`.
pub(super) fn session_ended(shared: &Shared, session: &Session, identity: &Identity, why: &str) {
    let locks = session.held();
    if locks > 0 && shared.throttles.session_ends.passes(shared.clock.now()) {
        let keys = keys(shared, session);
        let peer = identity.peer;
        let (session, name) = (session.number(), identity.name.as_ref().map(visible));
        info!(%session, name, %peer, locks, keys, "{why}, and its session's locks are released");
        shared.note(|| Event {
            session: Some(session),
            name: identity.name.clone(),
            text: format!("{why}; from {peer}; it held {locks}: {keys}"),
            ..Event::of(EventKind::SessionEnd)
        });
    }
}

/// A session was resumed or taken over, as `how` says, from the address `from` by the connection that
/// has it now.
pub(super) fn resumed(shared: &Shared, session: &Session, from: &str, how: &str) {
    if shared.throttles.resumes.passes(shared.clock.now()) {
        let (locks, keys) = (session.held(), keys(shared, session));
        let session = session.number();
        let (name, peer) = (name(shared, session), peer(shared, session));
        info!(%session, name, peer, from, locks, keys, "a session was {how}");
    }
}

/// A session has broken an owner's lock.
pub(super) fn broken(shared: &Shared, by: &Session, grant: &Grant) {
    if shared.throttles.breaks.passes(shared.clock.now()) {
        info!(
            session = %by.number(),
            name = name(shared, by.number()),
            peer = peer(shared, by.number()),
            by_user = by_user(shared, by),
            key = %Visible(grant.key().as_bytes()),
            owner = grant.holder().owner().map(visible),
            token = grant.token().0,
            "an owner's lock was broken"
        );
        shared.note(|| Event {
            owner: grant.holder().owner().cloned(),
            key: Some(Key::new(grant.key().as_bytes())),
            token: Some(grant.token()),
            text: format!("broken {}", by_whom(shared, by)),
            ..Event::of(EventKind::Break)
        });
    }
}

/// A request was refused because its wait would never have ended. Its client is told why; the log has no
/// line.
pub(super) fn deadlock(shared: &Shared, circle: &Circle) {
    let session = circle.requester();
    shared.table.trail().tell(|| table::Event::Deadlock {
        session,
        circle: format!("Deadlock: {}", circle_text(circle)),
    });
    if shared.throttles.deadlocks.passes(shared.clock.now()) {
        let steps = circle.steps();
        let told = if circle.left_out() > 0 { &[] } else { steps };
        shared.note(|| Event {
            session: Some(session),
            name: shared.table.name(session),
            key: steps.first().map(|step| step.key.clone()),
            keys: told.iter().map(|step| step.key.clone()).collect(),
            text: circle_text(circle),
            ..Event::of(EventKind::Deadlock)
        });
    }
}

/// A session has taken a lock from one of its holders.
pub(super) fn revoked(shared: &Shared, by: &Session, grant: &Grant) {
    if shared.throttles.revocations.passes(shared.clock.now()) {
        let session = grant.holder().session();
        info!(
            session = session.map(display),
            name = session.and_then(|one| name(shared, one)),
            owner = grant.holder().owner().map(visible),
            by = %by.number(),
            by_name = name(shared, by.number()),
            by_peer = peer(shared, by.number()),
            by_user = by_user(shared, by),
            key = %Visible(grant.key().as_bytes()),
            token = grant.token().0,
            "a lock was taken from its holder"
        );
        shared.note(|| Event {
            session,
            name: session.and_then(|one| shared.table.name(one)),
            owner: grant.holder().owner().cloned(),
            key: Some(Key::new(grant.key().as_bytes())),
            token: Some(grant.token()),
            text: format!("taken from its holder {}", by_whom(shared, by)),
            ..Event::of(EventKind::Revocation)
        });
    }
}

/// A session ends another one, which is `known` by this.
pub(super) fn kicked(shared: &Shared, by: &Session, session: SessionNumber, known: &Identity) {
    if shared.throttles.kicks.passes(shared.clock.now()) {
        let Identity {
            peer: from, name, ..
        } = known;
        info!(
            by = %by.number(),
            by_name = self::name(shared, by.number()),
            by_peer = peer(shared, by.number()),
            by_user = by_user(shared, by),
            %session,
            name = name.as_ref().map(visible),
            peer = %from,
            "an operator ends a session"
        );
        shared.note(|| Event {
            session: Some(session),
            name: name.clone(),
            text: format!("from {from}, ended {}", by_whom(shared, by)),
            ..Event::of(EventKind::Kick)
        });
    }
}

pub(super) fn limit_reached(shared: &Shared, session: SessionNumber, limit: Limit) {
    if shared.throttles.limits.passes(shared.clock.now()) {
        let (peer, setting) = (peer(shared, session), limit.flag());
        let name = name(shared, session);
        info!(%session, name, peer, setting, "a limit is reached: {limit}");
    }
}

/// The user who acts, where users have names.
pub(super) fn by_user(shared: &Shared, by: &Session) -> Option<impl tracing::Value> {
    let user = shared.table.user(by.number())?;
    Some(display(Visible(user.as_bytes()).to_string()))
}

/// A connection has to rest before its next command is run.
pub(super) fn rests(shared: &Shared, session: SessionNumber, limit: Limit) {
    shared.table.counters().rests.add(1);
    if shared.throttles.rests.passes(shared.clock.now()) {
        let (peer, setting) = (peer(shared, session), limit.flag());
        let name = name(shared, session);
        info!(%session, name, peer, setting, "a client has to rest: {limit}");
    }
}

/// `by #24 (web-3:cron) at 10.0.0.5:40312`
fn by_whom(shared: &Shared, by: &Session) -> String {
    let (named, peer) = (named(shared, by.number()), peer(shared, by.number()));
    format!("by {named} at {peer}")
}

/// Somebody asks for what only operators may do, and may not.
pub(super) fn not_allowed(shared: &Shared, session: SessionNumber, request: &Request<'_>) {
    let identity = shared.table.identity(session);
    shared.table.trail().tell(|| table::Event::NotAllowed {
        session: Some(session),
        peer: identity
            .as_ref()
            .map_or(Peer::BeforeRestart, |one| one.peer),
        user: identity.and_then(|one| one.user),
        request: format!("{request:?}"),
    });
}

/// The same, over HTTP.
#[cfg(feature = "admin")]
pub(super) fn operator_not_allowed(shared: &Shared, peer: Peer, user: &User, request: String) {
    shared.table.trail().tell(|| table::Event::NotAllowed {
        session: None,
        peer,
        user: user.name().cloned(),
        request,
    });
}

/// Somebody is not let in. A name that no user has is not shown, as it may be a password in the wrong
/// place.
pub(super) fn wrong_password(shared: &Shared, session: SessionNumber, name: Option<&[u8]>) {
    let peer = shared.table.peer(session);
    let known = name.filter(|name| shared.desk.user_by_name(name).is_some());
    shared.table.trail().tell(|| table::Event::AuthFailed {
        peer: peer.unwrap_or(Peer::BeforeRestart),
        user: known.map(Key::new),
        why: "wrong user or password",
    });
    if shared.throttles.wrong_passwords.passes(shared.clock.now()) {
        let (peer, user) = (peer.map(|peer| peer.to_string()), shown_user(name, known));
        warn!(%session, peer, user, "a wrong name or password");
    }
}

/// The same, over HTTP.
#[cfg(feature = "admin")]
pub(super) fn wrong_operator(shared: &Shared, peer: Peer, name: &[u8]) {
    shared.table.trail().tell(|| table::Event::AuthFailed {
        peer,
        user: known_operator(&shared.desk, name).map(Key::new),
        why: "wrong user or password over HTTP",
    });
    if shared.throttles.wrong_passwords.passes(shared.clock.now()) {
        warn_of_operator(&shared.desk, peer, name);
    }
}

/// The line of the log for it, which a server without a table writes, too.
#[cfg(feature = "admin")]
pub(super) fn warn_of_operator(desk: &Desk, peer: Peer, name: &[u8]) {
    let user = shown_user(Some(name), known_operator(desk, name));
    warn!(%peer, user, "a wrong name or password over HTTP");
}

#[cfg(feature = "admin")]
fn known_operator<'a>(desk: &Desk, name: &'a [u8]) -> Option<&'a [u8]> {
    Some(name).filter(|name| desk.is_operator(name))
}

/// The name if there is such a user: otherwise it may be a password in the wrong place.
fn shown_user(name: Option<&[u8]>, known: Option<&[u8]>) -> String {
    match (name, known) {
        (None, _) => "none named".to_owned(),
        (_, Some(name)) => Visible(name).to_string(),
        (Some(_), None) => "unknown".to_owned(),
    }
}

/// `#24`, or `#24 (web-3:cron)` if the session has a name.
fn named(shared: &Shared, session: SessionNumber) -> String {
    match name(shared, session) {
        Some(name) => format!("{session} ({name})"),
        None => session.to_string(),
    }
}

/// A session's name, if it has one.
pub(super) fn name(shared: &Shared, session: SessionNumber) -> Option<String> {
    shared.table.name(session).as_ref().map(visible)
}

fn visible(word: &Key) -> String {
    Visible(word.as_bytes()).to_string()
}

/// The session by number and name, or the owner.
fn holder_named(shared: &Shared, holder: &Holder) -> String {
    match holder {
        Holder::Session(session) => named(shared, *session),
        Holder::Owner(_) => holder.to_string(),
    }
}

/// Where a session is, or was last, connected from.
pub(super) fn peer(shared: &Shared, session: SessionNumber) -> String {
    let peer = shared.table.peer(session);
    peer.map_or_else(|| "gone".to_owned(), |peer| peer.to_string())
}

/// `#24 (web-3:cron) at 10.0.0.5:40100`.
pub(super) fn named_at_peer(shared: &Shared, session: SessionNumber) -> String {
    let (named, peer) = (named(shared, session), peer(shared, session));
    format!("{named} at {peer}")
}

/// Some of the locks that are held, each with who has it, and how many more there are. Looks at all that is
/// held, on a thread of its own.
pub(super) async fn left_over(shared: &Arc<Shared>) -> String {
    let shared = Arc::clone(shared);
    let named = tokio::task::spawn_blocking(move || {
        let table = &shared.table;
        let keys = table.keys_after(b"", None, NAMED_LEFT_OVER, |_| true);
        let held = |key: &LockKey| Some(held_by(&shared, &shared.lock_entry(key.as_bytes())?));
        let mut named: Vec<_> = keys.iter().filter_map(held).collect();
        match table.held().saturating_sub(named.len()) {
            0 => {}
            more => named.push(format!("... and {more} more")),
        }
        named.join("; ")
    });
    named.await.unwrap_or_default()
}

/// `report: #24 (web-3:cron)`.
fn held_by(shared: &Shared, lock: &LockEntry) -> String {
    let holders = lock.holders.iter().take(NAMED_HOLDERS);
    let holders = holders.map(|one| holder_named(shared, &one.holder));
    let mut named: Vec<_> = holders.collect();
    match lock.holders_in_all.saturating_sub(named.len()) {
        0 => {}
        more => named.push(format!("{more} more")),
    }
    let (key, dots) = shortened(lock.key.as_bytes(), SHOWN_KEY);
    format!("{}{dots}: {}", Visible(key), named.join(", "))
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
