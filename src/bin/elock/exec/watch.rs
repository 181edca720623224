//! Watches over the command and its lock until both have ended.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use elock_client::{Error, Guard, Loss};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::args::{Ending, LockArgs, OnLost};
use super::boottime::{after_ns, now_ns};
use super::briefing::Briefing;
use super::exit;
use super::job::{Change, Job};
use super::order::{NEVER_NS, Order};
use super::signals::Signals;
use super::terminal::{Terminal, has_job_control};

/// How often the guardian hears until when the lock is surely held: a few times in the time that it is
/// kept without a word, and so seldom that it costs nothing.
const SHORTEST_BEAT: Duration = Duration::from_millis(10);
const LONGEST_BEAT: Duration = Duration::from_secs(1);

/// Two looks at the guardian that are further apart than a beat and that mean that this process, or its
/// machine, stood still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// How often it is looked whether anything of a group is left whose first process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A process that was killed, and is still there after that time, is stuck in the system.
const STUCK: Duration = Duration::from_secs(2);

/// How a command has ended.
pub struct Ended {
    /// Its exit code.
    pub code: u8,
    /// Why the lock was lost before that, if it was.
    pub loss: Option<Loss>,
}

/// A running command, its lock, its guardian, its terminal.
pub struct Watch<'a> {
    job: Job,
    guard: &'a Guard,
    briefing: Briefing,
    terminal: Option<Terminal>,
    on_lost: OnLost,
    ending: Ending,
    beat: Duration,
    looked_ns: u64,
    loss: Option<Loss>,
    kill_at: Option<Instant>,
    killed_at: Option<Instant>,
    code: Option<u8>,
    is_unguarded: bool,
}

impl<'a> Watch<'a> {
    /// Watches from now on.
    pub fn new(
        args: &LockArgs,
        job: Job,
        guard: &'a Guard,
        briefing: Briefing,
        terminal: Option<Terminal>,
    ) -> Self {
        let mut watch = Self {
            job,
            guard,
            briefing,
            terminal,
            on_lost: args.on_lost,
            ending: args.ending(),
            beat: (args.shortest() / 8).clamp(SHORTEST_BEAT, LONGEST_BEAT),
            looked_ns: now_ns(),
            loss: None,
            kill_at: None,
            killed_at: None,
            code: None,
            is_unguarded: false,
        };
        watch.brief();
        watch
    }

    /// Comes back when the command has ended, and is not guarded any more.
    ///
    /// # Errors
    ///
    /// The system does not tell of children; then the command is ended.
    pub async fn run(mut self, mut signals: Signals) -> io::Result<Ended> {
        let mut children =
            signal(SignalKind::child()).inspect_err(|_| self.job.signal(Signal::KILL))?;
        let mut lost = pin!(self.guard.lost());
        let mut beat = interval(self.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What happened before the line above was told to nobody.
        self.look_at_job();
        while !self.is_over() {
            let waits_for_group = self.code.is_some();
            tokio::select! {
                _ = children.recv() => self.look_at_job(),
                signal = signals.next() => self.pass_on(signal),
                why = &mut lost, if self.loss.is_none() => self.lose(why),
                _ = beat.tick() => self.brief(),
                () = at(self.kill_at) => self.kill(),
                () = sleep(LOOK), if waits_for_group => {}
                () = sleep(STUCK), if self.killed_at.is_some() => {}
            }
        }
        self.briefing.end();
        Ok(Ended {
            code: self.code.unwrap_or(u8::MAX),
            loss: self.loss,
        })
    }

    /// With its lock, a command may leave others running; without it, they have to end, too.
    fn is_over(&self) -> bool {
        let is_stuck = self.killed_at.is_some_and(|at| at.elapsed() >= STUCK);
        let may_leave_others = self.loss.is_none() || self.on_lost == OnLost::Ignore;
        let is_all = may_leave_others || self.killed_at.is_some() || self.job.is_gone();
        is_stuck || (self.code.is_some() && is_all)
    }

    fn look_at_job(&mut self) {
        while self.code.is_none() {
            match self.job.change() {
                None => return,
                Some(Change::Stopped(signal)) => self.stop_with_it(signal),
                Some(Change::Ended(code)) => {
                    self.code = Some(code);
                    if let Some(terminal) = &mut self.terminal {
                        terminal.take_back(self.job.group());
                    }
                    self.notice_guardian();
                }
            }
        }
    }

    /// A command that wants the terminal gets it if it is there to be given. A command that was stopped
    /// from the terminal is stopped for whoever started this one.
    fn stop_with_it(&mut self, signal: Signal) {
        let Some(terminal) = &mut self.terminal else {
            return;
        };
        let wants_terminal = [Signal::TTIN, Signal::TTOU].contains(&signal);
        if wants_terminal && terminal.is_ours() {
            terminal.give(self.job.group());
            self.job.signal(Signal::CONT);
        } else if has_job_control() {
            terminal.stop(self.job.group());
        } else if signal != Signal::STOP {
            // As the system has it, where nobody would continue it.
            self.job.signal(Signal::CONT);
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        if self.code.is_some() {
            return;
        }
        if signal == Signal::CONT
            && let Some(terminal) = &mut self.terminal
            && terminal.is_for_the_command()
            && terminal.is_ours()
        {
            terminal.give(self.job.group());
        }
        self.job.signal(signal);
    }

    fn lose(&mut self, why: Loss) {
        self.loss = Some(why);
        let what = match self.on_lost {
            OnLost::Term if self.code.is_none() => "; the command is asked to end",
            OnLost::Kill if self.code.is_none() => "; the command is ended",
            OnLost::Ignore if self.code.is_none() => "; the command goes on",
            _ => "",
        };
        exit::say(&format!("{}{what}", Error::Lost { why }));
        match self.on_lost {
            OnLost::Ignore => {}
            OnLost::Kill => self.kill(),
            OnLost::Term => {
                self.job.ask_to_end();
                self.kill_at = Some(Instant::now() + self.ending.kill_after);
                self.brief();
            }
        }
    }

    fn kill(&mut self) {
        self.kill_at = None;
        self.killed_at = Some(Instant::now());
        self.job.signal(Signal::KILL);
    }

    /// Tells the guardian until when the command may run. Without a guardian, which the system has no
    /// room for, the command goes on, and the next beat tries again.
    fn brief(&mut self) {
        self.notice_guardian();
        let order = self.order();
        if let Err(error) = self.briefing.tell(order)
            && !std::mem::replace(&mut self.is_unguarded, true)
        {
            exit::say(&format!("the command goes on without a guardian: {error}"));
        }
    }

    fn order(&self) -> Order {
        // The clock is read first, so that a pause between the two lines makes the time shorter.
        let now = now_ns();
        let surely_held = self.guard.remaining();
        let slack = self.ending.slack;
        let (term_at_ns, kill_at_ns) = match (self.on_lost, self.kill_at) {
            (OnLost::Ignore, _) => (NEVER_NS, NEVER_NS),
            (_, Some(at)) => {
                let left = at.saturating_duration_since(Instant::now());
                (NEVER_NS, after_ns(after_ns(now, left), slack))
            }
            (_, None) => deadlines(self.on_lost, self.ending, now, surely_held),
        };
        Order {
            group: self.job.group(),
            term_at_ns,
            kill_at_ns,
        }
    }

    /// After a pause in which the guardian's time came, the lock counts as lost whatever else is known.
    fn notice_guardian(&mut self) {
        let now = now_ns();
        let looked_ns = std::mem::replace(&mut self.looked_ns, now);
        let told = self.briefing.last();
        let begun = told.is_some_and(|order| now >= order.term_at_ns.min(order.kill_at_ns));
        if self.loss.is_none() && begun {
            let stood_still = now > after_ns(looked_ns, self.beat + STANDSTILL);
            self.lose(match stood_still {
                true => Loss::StoodStill,
                false => Loss::NotResumed,
            });
        }
    }
}

/// When the guardian asks the command to end, and when it ends it, unless the lock is renewed.
pub fn deadlines(
    on_lost: OnLost,
    ending: Ending,
    now_ns: u64,
    surely_held: Duration,
) -> (u64, u64) {
    let late = after_ns(after_ns(now_ns, surely_held), ending.slack);
    match on_lost {
        OnLost::Ignore => (NEVER_NS, NEVER_NS),
        OnLost::Kill => (NEVER_NS, late),
        OnLost::Term => (late, after_ns(late, ending.kill_after)),
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
