//! The guardian: a second process, which ends the command when the first one does not.
//!
//! The wrapper may be killed, and it may be paused for longer than its lock is kept. So it tells the
//! guardian again and again until when the lock is surely held, through a pipe whose end is the
//! wrapper's end.

use std::io::Read;
use std::process::ExitCode;

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Signal, kill_process_group, setsid};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::boottime::now_ns;
use super::order::{NEVER_NS, Order};

/// What is sent last, when the command has ended.
pub const DONE: &str = "done";

/// Longer than any order: what does not end until then is none.
const LONGEST_LINE: usize = 256;

/// Runs until the wrapper has ended or says that the command has.
pub fn run() -> ExitCode {
    // What ends or stops the wrapper's session or service must leave the guardian for last.
    let _ = setsid();
    let _ = SigSet::all().thread_block();
    match watch(std::io::stdin().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::exit::say(&format!("the guardian failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn watch(mut orders: impl Read + AsFd) -> std::io::Result<()> {
    let timer = timerfd_create(
        TimerfdClockId::Boottime,
        TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
    )?;
    let mut incoming = Incoming::default();
    let mut vigil = Vigil::default();
    loop {
        set(&timer, vigil.next_ns())?;
        let [said, _] = ready(&orders, &timer)?;
        // What the wrapper has said in time counts, also where this process was late.
        if said {
            match incoming.read(&mut orders)? {
                Said::Orders(orders) => orders.into_iter().for_each(|order| vigil.obey(order)),
                Said::Done => return Ok(()),
                Said::Gone => {
                    vigil.end();
                    return Ok(());
                }
            }
        }
        vigil.act(now_ns());
    }
}

fn ready(orders: &impl AsFd, timer: &OwnedFd) -> std::io::Result<[bool; 2]> {
    let mut polled = [
        PollFd::new(orders, PollFlags::IN),
        PollFd::new(timer, PollFlags::IN),
    ];
    poll(&mut polled, None)?;
    let [said, due] = polled;
    Ok([said, due].map(|polled| !polled.revents().is_empty()))
}

/// Sets the timer to a point in time, or to none.
fn set(timer: &OwnedFd, at_ns: u64) -> std::io::Result<()> {
    let parts = |ns: u64| Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
    };
    // Zero would be no time at all.
    let at_ns = if at_ns == NEVER_NS { 0 } else { at_ns.max(1) };
    let at = Itimerspec {
        it_interval: parts(0),
        it_value: parts(at_ns),
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &at)?;
    Ok(())
}

/// What came through the pipe.
enum Said {
    Orders(Vec<Order>),
    Done,
    Gone,
}

#[derive(Default)]
struct Incoming {
    line: Vec<u8>,
}

impl Incoming {
    fn read(&mut self, orders: &mut impl Read) -> std::io::Result<Said> {
        let mut bytes = [0; 4096];
        let read = orders.read(&mut bytes)?;
        if read == 0 {
            return Ok(Said::Gone);
        }
        let mut found = Vec::new();
        for &byte in &bytes[..read] {
            match byte {
                b'\n' if self.line == DONE.as_bytes() => return Ok(Said::Done),
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    let order = std::str::from_utf8(&line).ok().map(str::parse);
                    let order = order.and_then(Result::ok);
                    found.push(order.ok_or(std::io::ErrorKind::InvalidData)?);
                }
                _ if self.line.len() == LONGEST_LINE => {
                    return Err(std::io::ErrorKind::InvalidData.into());
                }
                byte => self.line.push(byte),
            }
        }
        Ok(Said::Orders(found))
    }
}

/// The latest order, and what was done about it.
#[derive(Debug, Default)]
struct Vigil {
    order: Option<Order>,
    is_asked: bool,
}

impl Vigil {
    fn obey(&mut self, order: Order) {
        self.order = Some(order);
    }

    /// When there is something to do.
    fn next_ns(&self) -> u64 {
        match self.order {
            None => NEVER_NS,
            Some(order) if self.is_asked => order.kill_at_ns,
            Some(order) => order.term_at_ns.min(order.kill_at_ns),
        }
    }

    /// What is due.
    fn due(&mut self, now_ns: u64) -> &'static [Signal] {
        match self.order {
            Some(order) if now_ns >= order.kill_at_ns => {
                self.order = None;
                &[Signal::KILL]
            }
            Some(order) if now_ns >= order.term_at_ns && !self.is_asked => {
                self.is_asked = true;
                // A command that is stopped has to go on to hear that it shall end.
                &[Signal::TERM, Signal::CONT]
            }
            _ => &[],
        }
    }

    fn act(&mut self, now_ns: u64) {
        let Some(Order { group, .. }) = self.order else {
            return;
        };
        for &signal in self.due(now_ns) {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Nobody watches over the command any more.
    fn end(&mut self) {
        if let Some(Order { group, .. }) = self.order {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;

    use super::*;

    fn order(term_at_ns: u64, kill_at_ns: u64) -> Order {
        Order {
            group: Pid::from_raw(77).expect("positive"),
            term_at_ns,
            kill_at_ns,
        }
    }

    #[test]
    fn a_command_is_asked_once_and_then_ended() {
        let mut vigil = Vigil::default();
        assert_eq!((vigil.next_ns(), vigil.due(9)), (NEVER_NS, &[][..]));
        vigil.obey(order(10, 20));
        assert_eq!((vigil.next_ns(), vigil.due(9)), (10, &[][..]));
        assert_eq!(vigil.due(10), [Signal::TERM, Signal::CONT]);
        assert_eq!((vigil.next_ns(), vigil.due(11)), (20, &[][..]));
        assert_eq!(vigil.due(20), [Signal::KILL]);
        assert_eq!((vigil.next_ns(), vigil.due(21)), (NEVER_NS, &[][..]));
    }

    #[test]
    fn a_later_order_puts_it_off() {
        let mut vigil = Vigil::default();
        vigil.obey(order(10, 20));
        vigil.obey(order(NEVER_NS, 30));
        assert_eq!((vigil.next_ns(), vigil.due(29)), (30, &[][..]));
        assert_eq!(vigil.due(30), [Signal::KILL]);
    }

    #[test]
    fn orders_are_found_however_the_bytes_come() {
        let mut incoming = Incoming::default();
        let mut found = Vec::new();
        for piece in b"77 1 2\n77 3 4\n".chunks(3) {
            if let Ok(Said::Orders(orders)) = incoming.read(&mut &*piece) {
                found.extend(orders);
            }
        }
        assert_eq!(found, [order(1, 2), order(3, 4)]);
        assert!(matches!(incoming.read(&mut &b"done\n"[..]), Ok(Said::Done)));
        assert!(matches!(
            Incoming::default().read(&mut &b""[..]),
            Ok(Said::Gone)
        ));
        for nonsense in [&b"kill everything\n"[..], &[b'7'; 300]] {
            assert!(Incoming::default().read(&mut &*nonsense).is_err());
        }
    }
}
