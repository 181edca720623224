//! What `elock lock` is asked for.

use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use elock_client::command::Mode;

use super::exit;
use crate::duration;
use crate::show::key::{self, Word};

/// The time for a command to end in, unless another is asked for: so much, or this part of the lease or grace
/// period, most of which is for a connection to come back in.
const KILL_AFTER: Duration = Duration::from_secs(10);
const KILL_AFTER_PART: u32 = 4;

/// How long a server is tried to be reached without a --wait: longer than a restart takes.
const SERVER_PATIENCE: Duration = Duration::from_secs(60);

/// The longest wait of the protocol, 136 years.
const FOR_AS_LONG_AS_IT_TAKES: Duration = Duration::from_secs(4_294_967);

/// The flags.
#[derive(Debug, Args)]
#[command(
    override_usage = "elock lock KEY… [OPTIONS] -- COMMAND…",
    after_help = "Exit codes, what the command finds, and when it is ended: elock lock --help",
    after_long_help = format!("\
Exit codes:
  the command's own, or 128 more than the signal that ended it
  1    others hold the lock, to the end of --wait (--conflict-exit-code)
  2    bad usage
  65   the server refused the request, or so long a --grace
  69   no server to the end of --wait, or one that stops or is full; the command was not run
  75   waiting would be a deadlock
  77   the server asks who comes, or this user may not have that key
  79   the lock was lost while the command ran
  126  the command cannot be run
  127  there is no such command
  128+n  signal n ended elock while it waited; the command was not run

The command finds:
  ELOCK_KEY     the key; of several, all in the order given, with spaces between
  ELOCK_TOKEN   the fencing token of each: every later grant has a larger one
  ELOCK_SERVER  the server, and the like, so that elock finds it from within the command; also \
ELOCK_PASSWORD, if it is set: a password that the command should not have belongs into a --password-file that it \
cannot read

When the lock is lost, or elock is killed, or stands still for so long that others may have the lock, \
then the command and all of its process group are ended, before another can have the lock. What has \
a process group of its own, such as a daemon, is not; nor is a command that gains rights by its file \
(setuid) if elock has not got them. A server with --data-dir keeps the lock over a restart. One without \
forgets all locks when it is restarted or killed, and gives them anew at once: so the next command may \
begin before elock has heard of it and ended this one. That it was restarted is what elock takes from a refused \
connection, also if it is a proxy before the server that refuses it: the command is ended then.

What the command leaves running when it ends is left alone. Signals go to the command. While it is stopped by Ctrl-Z nothing renews the lock: after the lease or \
the grace period it is lost. An elock that is stopped while it waits keeps its place: it gets the lock in \
its turn, and keeps it from others until it goes on.

Examples:
  elock lock nightly-report --wait 60s -- ./make-report
  elock lock account-7 account-9 --no-wait -E 0 -- ./transfer 7 9
  elock lock catalog --shared reader -- ./export
  elock lock mailer --slots 5 --lease 1m -- ./send-mails

{}", key::NOTATION)
)]
pub struct LockArgs {
    /// What is locked; of several keys, all or none
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<Word>,
    /// How long to wait while others hold the lock, or a server is started again: 30s, 5m, 1h; a bare number
    /// is seconds. Unless given: for the lock as long as it takes, for a server a minute. For a server that does
    /// not answer, one try of each address, if that is longer (15s)
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    wait: Option<Duration>,
    /// Not to wait at all
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Share the lock with all who name the same value
    #[arg(long, value_name = "VALUE", conflicts_with = "slots")]
    shared: Option<Word>,
    /// Be one of at most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// The lock ends by itself after that time, at least 1s, unless elock renews it, which it does
    /// while it lives
    #[arg(long, value_name = "TIME", value_parser = a_second_or_more)]
    pub lease: Option<Duration>,
    /// How long the lock outlives a broken connection, at least 1s, in which elock connects again. If it
    /// cannot, it asks the command to end early enough: after half of that time, less a second, or later;
    /// a longer --kill-after makes it less
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = a_second_or_more)]
    pub grace: Duration,
    /// When the lock is lost: from asking the command to end (SIGTERM) to ending it (SIGKILL). At most
    /// about half of the lease or grace period, in which nobody else has the lock; unless given, 10s, or a
    /// quarter of that period if it is less. A server that has forgotten the lock (no --data-dir) leaves no such time
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    kill_after: Option<Duration>,
    /// What the command gets when the lock is lost
    #[arg(long, value_name = "WHAT", default_value = "term")]
    pub on_lost: OnLost,
    /// The exit code if others hold the lock, to the end of the wait
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = exit::CONFLICT)]
    pub conflict_exit_code: u8,
    /// What this session is called in listings, unless by machine, process and program
    #[arg(long)]
    name: Option<Word>,
    /// What runs while the lock is held
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What a command gets when the lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnLost {
    /// SIGTERM, and SIGKILL after --kill-after
    Term,
    /// SIGKILL at once
    Kill,
    /// Nothing: a line on standard error says it, and that is all
    Ignore,
}

/// The times that decide when a command ends after its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// A lock counts as lost that long before others could have it.
    pub margin: Duration,
    /// From asking the command to end to ending it.
    pub kill_after: Duration,
    /// The guardian comes in when the wrapper is late by that.
    pub slack: Duration,
}

impl LockArgs {
    /// How the lock is held, and whether that goes with the other flags.
    ///
    /// # Errors
    ///
    /// Several keys can only be held exclusively.
    pub fn mode(&self) -> Result<Mode, clap::Error> {
        let mode = match (&self.shared, self.slots) {
            (Some(value), _) => Mode::Shared(value.0.clone()),
            (None, Some(slots)) => Mode::Slots(slots),
            (None, None) => Mode::Exclusive,
        };
        if mode != Mode::Exclusive && self.keys.len() > 1 {
            return Err(bad_usage("--shared and --slots go with one key"));
        }
        Ok(mode)
    }

    /// Whether there is as much time to end the command in as is asked for.
    ///
    /// # Errors
    ///
    /// Others may have the lock before that.
    pub fn check_kill_after(&self) -> Result<(), clap::Error> {
        let used = self.ending().kill_after;
        let Some(asked) = self.kill_after else {
            return Ok(());
        };
        if self.on_lost != OnLost::Term || asked <= used {
            return Ok(());
        }
        let (flag, time) = match self.lease {
            Some(lease) if lease <= self.grace => ("--lease", lease),
            _ => ("--grace", self.grace),
        };
        Err(bad_usage(&format!(
            "--kill-after {asked:?} is more than {flag} {time:?} leaves room for, which is {used:?}"
        )))
    }

    /// How long to wait.
    pub fn wait(&self) -> Duration {
        match self.no_wait {
            true => Duration::ZERO,
            false => self.wait.unwrap_or(FOR_AS_LONG_AS_IT_TAKES),
        }
    }

    /// For how long a server is tried to be reached, which is a part of the wait.
    pub fn server_patience(&self) -> Duration {
        match self.no_wait {
            true => Duration::ZERO,
            false => self.wait.unwrap_or(SERVER_PATIENCE),
        }
    }

    /// What the session is called.
    pub fn name(&self) -> Vec<u8> {
        match &self.name {
            Some(name) => name.0.clone(),
            None => super::job::default_name(&self.command),
        }
    }

    /// After how long of silence others may have the lock.
    pub fn shortest(&self) -> Duration {
        self.lease.map_or(self.grace, |lease| lease.min(self.grace))
    }

    /// The times at the lock's end: the command has ended when others may have the lock, and half of
    /// the time remains for the lock to be renewed in.
    pub fn ending(&self) -> Ending {
        const RESERVE: Duration = Duration::from_secs(1);
        const MOST_SLACK: Duration = Duration::from_millis(250);
        let kill_after = match self.on_lost {
            OnLost::Term => {
                let unasked = KILL_AFTER.min(self.shortest() / KILL_AFTER_PART);
                self.kill_after.unwrap_or(unasked)
            }
            OnLost::Kill | OnLost::Ignore => Duration::ZERO,
        };
        let margin = kill_after.saturating_add(RESERVE).min(self.shortest() / 2);
        let slack = (margin / 8).min(MOST_SLACK);
        Ending {
            margin,
            kill_after: kill_after.min(margin - 2 * slack),
            slack,
        }
    }
}

fn bad_usage(text: &str) -> clap::Error {
    let mut command = LockArgs::augment_args(clap::Command::new("elock lock"));
    command.error(ErrorKind::ArgumentConflict, text)
}

/// What is shorter is over before a client has connected again, or renewed it.
fn a_second_or_more(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(time) if time < Duration::from_secs(1) => Err("has to be 1s or more".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Parsed {
        #[command(flatten)]
        args: LockArgs,
    }

    fn ending(flags: &str) -> [u128; 3] {
        let words = format!("elock k {flags} -- true");
        let args = Parsed::parse_from(words.split_whitespace()).args;
        let Ending {
            margin,
            kill_after,
            slack,
        } = args.ending();
        [margin, kill_after, slack].map(|time| time.as_millis())
    }

    #[test]
    fn a_command_has_ended_when_others_may_have_the_lock() {
        assert_eq!(ending(""), [8_500, 7_500, 250]);
        assert_eq!(ending("--grace 60s"), [11_000, 10_000, 250]);
        assert_eq!(ending("--grace 10s"), [3_500, 2_500, 250]);
        assert_eq!(ending("--grace 4s"), [2_000, 1_000, 250]);
        assert_eq!(ending("--lease 1.6s"), [800, 400, 100]);
        assert_eq!(ending("--grace 4s --kill-after 2s"), [2_000, 1_500, 250]);
        assert_eq!(ending("--on-lost kill"), [1_000, 0, 125]);
        assert_eq!(ending("--kill-after 0"), [1_000, 0, 125]);
    }

    #[test]
    fn more_time_than_there_is_is_refused() {
        let check = |flags: &str| {
            let words = format!("elock k {flags} -- true");
            let args = Parsed::parse_from(words.split_whitespace()).args;
            args.check_kill_after().map_err(|error| error.to_string())
        };
        for flags in [
            "--lease 10s",
            "--grace 1s",
            "--kill-after 14.5s",
            "--lease 10s --kill-after 20s --on-lost kill",
        ] {
            assert_eq!(check(flags), Ok(()), "{flags}");
        }
        for (flags, told) in [
            (
                "--lease 10s --kill-after 20s",
                "--lease 10s leaves room for, which is 4.5s",
            ),
            (
                "--lease 60s --kill-after 20s",
                "--grace 30s leaves room for, which is 14.5s",
            ),
        ] {
            let error = check(flags).expect_err("it is too long");
            assert!(error.contains(told), "{error}");
        }
    }
}
