//! The terminal: whose keyboard it is, and who is stopped by Ctrl-Z.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileTypeExt;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal, killpg};
// The number of what began outside of this namespace of processes is 0, for which rustix has no value.
use nix::unistd::{Pid, getpgid, getpgrp, getpid, getppid, getsid, tcgetpgrp, tcsetpgrp};
use rustix::process::{self, Signal, kill_current_process_group, kill_process};
use rustix::termios::isatty;

/// The terminal of the session that this process belongs to.
pub struct Terminal {
    tty: File,
    is_given: bool,
}

impl Terminal {
    /// None, if the session has no terminal.
    pub fn open() -> Option<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty");
        Some(Self {
            tty: tty.ok()?,
            is_given: false,
        })
    }

    /// Whether a command would have the terminal if this process were the command: so it should have
    /// it from the start. If others are in this process's group, a pager or the script that it is
    /// called from, then they keep it, and the command gets it when it first asks for it.
    pub fn is_for_the_command(&self) -> bool {
        let is_pipe = |file: std::io::Result<File>| {
            let kind = file.and_then(|file| file.metadata());
            kind.is_ok_and(|kind| kind.file_type().is_fifo() || kind.file_type().is_socket())
        };
        let stdout = rustix::io::dup(std::io::stdout()).map(File::from);
        isatty(std::io::stdin()) && getpgrp() == getpid() && !is_pipe(stdout.map_err(Into::into))
    }

    /// Whether this process's group has the terminal.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.tty) == Ok(getpgrp())
    }

    /// Gives it to the command's group.
    pub fn give(&mut self, group: process::Pid) {
        self.is_given = self.set(numbered(group));
    }

    /// The stage takes it for its own group, with which it becomes the command: before that there is
    /// nothing that could ask for it.
    pub fn take_for_stage(&self) {
        self.set(getpgrp());
    }

    /// What the stage did.
    pub fn stage_takes(&mut self) {
        self.is_given = true;
    }

    /// Takes it back from the command's group. It stays with a shell that has taken it meanwhile.
    pub fn take_back(&mut self, group: process::Pid) {
        if !std::mem::take(&mut self.is_given) {
            return;
        }
        let Ok(foreground) = tcgetpgrp(&self.tty) else {
            return;
        };
        let is_gone = killpg(foreground, None) == Err(Errno::ESRCH);
        if foreground == numbered(group) || is_gone {
            self.set(getpgrp());
        }
    }

    /// Whoever does this from the background is stopped by a signal, unless that is blocked. It is so for
    /// no longer than this, as commands inherit what is blocked.
    fn set(&self, group: Pid) -> bool {
        let stopping = SigSet::from(NixSignal::SIGTTOU);
        let Ok(before) = stopping.thread_swap_mask(SigmaskHow::SIG_BLOCK) else {
            return false;
        };
        let is_set = tcsetpgrp(&self.tty, group).is_ok();
        let _ = before.thread_set_mask();
        is_set
    }

    /// Stops, so that the shell has its turn, until it is continued. If the command had the terminal,
    /// Ctrl-Z was meant for everyone in this process's group.
    pub fn stop(&mut self, group: process::Pid) {
        let was_given = self.is_given;
        self.take_back(group);
        let _ = match was_given {
            true => kill_current_process_group(Signal::STOP),
            false => kill_process(process::getpid(), Signal::STOP),
        };
    }
}

fn numbered(pid: process::Pid) -> Pid {
    Pid::from_raw(pid.as_raw_nonzero().get())
}

/// Whether a shell watches over this process's group, and would continue it: as the system has it,
/// somebody's parent is in the session and not in the group.
pub fn has_job_control() -> bool {
    const OUTSIDE: Pid = Pid::from_raw(0);
    let (group, session) = (getpgrp(), getsid(None));
    let mut parent = Some(getppid());
    while let Some(pid) = parent.filter(|&pid| pid != OUTSIDE) {
        if getsid(Some(pid)) != session {
            return false;
        }
        if getpgid(Some(pid)) != Ok(group) {
            return true;
        }
        parent = parent_of(pid);
    }
    false
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses, and may have some of its own.
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let parent = behind_name.split(' ').nth(1)?;
    Some(Pid::from_raw(parent.parse().ok()?))
}
