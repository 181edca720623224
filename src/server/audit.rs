//! The audit: every grant and how it ended, and what operators do, each as an event of the target
//! `audit`. Only a log filter that names the target lets it through (`--log info,audit=info`); otherwise
//! nothing is told and no thread runs.
//!
//! A thread of its own makes the lines, so that those who grant locks only leave word of it. What it
//! cannot follow is dropped, counted and said, as with all lines of the log.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::field::display;
use tracing::{Level, enabled, error, info};

use super::Shared;
use crate::model::{Holder, Key, Mode, SessionNumber, Visible};
use crate::table::{End, Event, Grant, Identity, Trail, Why};

/// How long the end of the server waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The stack of the thread, which formats lines.
const STACK: usize = 256 * 1024;

/// What the table is to tell, if the log's filter lets the audit through.
pub(super) fn trail() -> Trail {
    match enabled!(target: "audit", Level::INFO) {
        true => Trail::followed(),
        false => Trail::default(),
    }
}

/// The running audit. Its drop ends it, without waiting for its last lines.
pub(super) struct Audit {
    trail: Trail,
    finished: Option<oneshot::Receiver<()>>,
}

impl Audit {
    /// Begins to make lines of what the table tells.
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let trail = shared.table.trail().clone();
        let finished = match trail.is_followed() {
            true => Some(follow(Arc::clone(shared))?),
            false => None,
        };
        Ok(Self { trail, finished })
    }

    /// Waits a little until all is a line that was told up to now. Nothing is told afterwards.
    pub(super) async fn finish(mut self) {
        self.trail.close();
        if let Some(finished) = self.finished.take() {
            // If it takes longer, what is left is lost with the process.
            let _ = timeout(LAST_LINES, finished).await;
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.trail.close();
    }
}

/// Ready when the thread that follows the trail has ended.
fn follow(shared: Arc<Shared>) -> io::Result<oneshot::Receiver<()>> {
    let (finished, is_finished) = oneshot::channel();
    let run = move || {
        let mut auditor = Auditor::new(&shared);
        while let Some((events, dropped)) = shared.table.trail().follow() {
            events.into_iter().for_each(|event| auditor.write(event));
            auditor.report_dropped(dropped);
        }
        // Nobody may wait for it any more.
        let _ = finished.send(());
    };
    thread::Builder::new()
        .name("elockd-audit".to_owned())
        .stack_size(STACK)
        .spawn(run)?;
    Ok(is_finished)
}

/// Makes lines of events. It remembers what sessions are known by until their last grant has ended, as
/// the server forgets them before.
struct Auditor<'a> {
    shared: &'a Shared,
    sessions: HashMap<SessionNumber, Known>,
    dropped: u64,
}

#[derive(Default)]
struct Known {
    identity: Option<Identity>,
    grants: usize,
    is_over: bool,
}

/// A session as a line shows it.
struct Who {
    number: SessionNumber,
    identity: Option<Identity>,
}

impl Who {
    fn peer(&self) -> Option<impl tracing::Value> {
        self.identity
            .as_ref()
            .map(|identity| display(identity.peer))
    }

    fn name(&self) -> Option<impl tracing::Value> {
        visible(self.identity.as_ref()?.name.as_ref())
    }

    fn user(&self) -> Option<impl tracing::Value> {
        visible(self.identity.as_ref()?.user.as_ref())
    }
}

/// A line of the audit: what happened, which session it happened to, if it was one, and more fields.
macro_rules! line {
    ($what:literal, $who:expr, $($fields:tt)+) => {{
        let who: Option<&Who> = $who;
        info!(
            target: "audit",
            session = who.map(number),
            name = who.and_then(Who::name),
            user = who.and_then(Who::user),
            peer = who.and_then(Who::peer),
            $($fields)+,
            $what
        );
    }};
}

fn visible(text: Option<&Key>) -> Option<impl tracing::Value> {
    text.map(|text| display(Visible(text.as_bytes()).to_string()))
}

impl<'a> Auditor<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            sessions: HashMap::new(),
            dropped: 0,
        }
    }

    fn write(&mut self, event: Event) {
        match event {
            Event::Known(number, identity) => {
                self.sessions.entry(number).or_default().identity = Some(identity);
            }
            Event::Granted { grant, taker, mode } => self.granted(&grant, taker, &mode),
            Event::Ended { grant, held, end } => self.ended(&grant, held, end),
            Event::SessionOver(number, why) => self.session_over(number, why),
            Event::Deadlock { session, circle } => {
                line!("deadlock", Some(&self.who(session)), circle);
            }
            Event::AuthFailed { peer, user, why } => {
                info!(
                    target: "audit",
                    user = visible(user.as_ref()),
                    peer = %peer,
                    why,
                    "auth_failure"
                );
            }
            Event::NotAllowed {
                session,
                peer,
                user,
                request,
            } => {
                let who = session.map(|session| self.who(session));
                info!(
                    target: "audit",
                    session = who.as_ref().map(number),
                    name = who.as_ref().and_then(Who::name),
                    user = visible(user.as_ref()),
                    peer = %peer,
                    request,
                    "not_allowed"
                );
            }
            Event::Kicked { session, by } => {
                let (who, by) = (self.who(session), self.who(by));
                line!(
                    "kick",
                    Some(&who),
                    by = number(&by),
                    by_name = by.name(),
                    by_user = by.user(),
                    by_peer = by.peer()
                );
            }
        }
    }

    fn granted(&mut self, grant: &Grant, taker: SessionNumber, mode: &Mode) {
        if let Holder::Session(number) = grant.holder() {
            self.sessions.entry(*number).or_default().grants += 1;
        }
        let who = self.who(taker);
        let (kind, value, slots) = match mode {
            Mode::Exclusive => ("exclusive", None, None),
            Mode::Shared(value) => ("shared", Some(value), None),
            Mode::Slot(slots) => ("slots", None, Some(slots.get())),
        };
        line!(
            "grant",
            Some(&who),
            owner = owner(grant.holder()),
            key = %Visible(grant.key().as_bytes()),
            token = grant.token().0,
            mode = kind,
            value = visible(value),
            slots
        );
    }

    fn ended(&mut self, grant: &Grant, held: Option<Duration>, end: End) {
        let holder = match grant.holder() {
            Holder::Session(number) => Some(self.who(*number)),
            Holder::Owner(_) => None,
        };
        let by = end.by.map(|by| self.who(by));
        let by = by.as_ref();
        line!(
            "end",
            holder.as_ref(),
            owner = owner(grant.holder()),
            key = %Visible(grant.key().as_bytes()),
            token = grant.token().0,
            held_ms = held.map(|held| held.as_millis() as u64),
            why = word(end.why),
            by = by.map(number),
            by_name = by.and_then(Who::name),
            by_user = by.and_then(Who::user),
            by_peer = by.and_then(Who::peer)
        );
        if let Some(holder) = holder {
            self.forget_grant(holder.number);
        }
    }

    /// A line for those that did not end by their client's will alone.
    fn session_over(&mut self, session: SessionNumber, why: Why) {
        if matches!(why, Why::GraceEnded | Why::NoRoom | Why::Failed) {
            line!("session_end", Some(&self.who(session)), why = word(why));
        }
        if let Entry::Occupied(mut known) = self.sessions.entry(session) {
            match known.get().grants {
                0 => drop(known.remove()),
                _ => known.get_mut().is_over = true,
            }
        }
    }

    /// As it was told, or as the server knows it: nothing was told of a session from before a restart.
    fn who(&self, number: SessionNumber) -> Who {
        let known = self.sessions.get(&number);
        let told = known.and_then(|known| known.identity.clone());
        Who {
            number,
            identity: told.or_else(|| self.shared.table.identity(number)),
        }
    }

    fn forget_grant(&mut self, number: SessionNumber) {
        if let Entry::Occupied(mut known) = self.sessions.entry(number) {
            let left = known.get().grants.saturating_sub(1);
            known.get_mut().grants = left;
            if left == 0 && known.get().is_over {
                known.remove();
            }
        }
    }

    /// Says how many events were dropped. What was remembered may be wrong from then on, and is
    /// forgotten: the server is asked instead.
    fn report_dropped(&mut self, dropped: u64) {
        if dropped > self.dropped {
            error!(
                "{dropped} events of the audit were dropped since the start: there were too many"
            );
            self.dropped = dropped;
            self.sessions.clear();
        }
    }
}

/// As the other lines of the log have it: `#24`.
fn number(who: &Who) -> impl tracing::Value + use<> {
    display(who.number)
}

fn owner(holder: &Holder) -> Option<impl tracing::Value> {
    visible(holder.owner())
}

fn word(why: Why) -> &'static str {
    match why {
        Why::Unlocked => "unlock",
        Why::LeaseEnded => "lease_end",
        Why::GraceEnded => "grace_end",
        Why::Disconnected => "disconnect",
        Why::NoRoom => "no_room_for_grace",
        Why::Kicked => "kick",
        Why::Broken => "break",
        Why::Revoked => "force_unlock",
        Why::NotTold => "not_told",
        Why::NotStored => "not_stored",
        Why::Failed => "failure",
    }
}
