//! The command, as a process and the group of what it starts.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, test_kill_process_group, waitpid,
};

use super::stage::{Entry, StageArgs, own_program};

/// A command that was started. The number of its process is that of its group.
pub struct Job {
    group: Pid,
}

/// What has become of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is stopped, by this signal.
    Stopped(Signal),
    /// It has ended, with this code: 128 more than a signal that ended it.
    Ended(u8),
}

/// What a command finds in its environment.
pub struct Environment {
    /// `ELOCK_KEY`
    pub keys: Vec<Vec<u8>>,
    /// `ELOCK_TOKEN`
    pub tokens: Vec<u64>,
    /// `ELOCK_SERVER` and others, by which an `elock` in the command finds the same server.
    pub server: Vec<(&'static str, OsString)>,
}

impl Job {
    /// Starts a command in a group of its own.
    ///
    /// # Errors
    ///
    /// The system has no room for it. A command that cannot be run is seen by its exit code.
    pub fn start(
        command: &[OsString],
        environment: &Environment,
        entry: Entry,
    ) -> io::Result<Self> {
        let tokens: Vec<String> = environment.tokens.iter().map(u64::to_string).collect();
        let stage = own_program()
            .args(StageArgs::words(getpid(), entry, command))
            .env(
                "ELOCK_KEY",
                OsStr::from_bytes(&environment.keys.join(&b' ')),
            )
            .env("ELOCK_TOKEN", tokens.join(" "))
            .envs(environment.server.iter().cloned())
            .process_group(0)
            .spawn()?;
        let group = i32::try_from(stage.id()).ok().and_then(Pid::from_raw);
        Ok(Self {
            group: group.ok_or(io::ErrorKind::InvalidData)?,
        })
    }

    /// Its group.
    pub fn group(&self) -> Pid {
        self.group
    }

    /// What has happened since it was last asked for.
    pub fn change(&self) -> Option<Change> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        let status = match waitpid(Some(self.group), options) {
            Ok(Some((_, status))) => status,
            Ok(None) => return None,
            // Whoever started this program may have said that nobody waits for children.
            Err(_) => return Some(Change::Ended(u8::MAX)),
        };
        if let Some(stopped) = status.stopping_signal() {
            let signal = Signal::from_named_raw(stopped).unwrap_or(Signal::STOP);
            return Some(Change::Stopped(signal));
        }
        let code = status.exit_status();
        let code = code.or(status.terminating_signal().map(|signal| 128 + signal));
        Some(Change::Ended(code_of(code?)))
    }

    /// Sends a signal to all of the group.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Asks all of the group to end. What is stopped has to go on to hear that.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Whether nothing of the group is left.
    pub fn is_gone(&self) -> bool {
        test_kill_process_group(self.group) == Err(Errno::SRCH)
    }
}

fn code_of(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// How a command is called by default, for those who look who has a lock: the machine, the process and
/// the program, as one word.
pub fn default_name(command: &[OsString]) -> Vec<u8> {
    const LONGEST: usize = 128;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let program = command.first().cloned().unwrap_or_default().into_vec();
    let program = program.rsplit(|&byte| byte == b'/').next();
    let mut name = format!("{}:{}:", host.trim(), getpid().as_raw_nonzero()).into_bytes();
    name.extend_from_slice(program.unwrap_or_default());
    name.truncate(LONGEST);
    for byte in &mut name {
        if !byte.is_ascii_graphic() {
            *byte = b'_';
        }
    }
    name
}
