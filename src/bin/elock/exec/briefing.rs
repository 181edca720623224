//! The wrapper's side of the guardian: starts it, and tells it what it has to know.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, ChildStdin, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::guardian::DONE;
use super::order::Order;
use super::stage::own_program;

/// A guardian, and what it was told last.
pub struct Briefing {
    guardian: Child,
    orders: ChildStdin,
    last: Option<Order>,
}

impl Briefing {
    /// Starts a guardian that has nothing to guard yet.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start() -> io::Result<Self> {
        // It keeps neither a pipe open that others wait for the end of, nor a directory.
        let mut guardian = own_program()
            .arg("__guard")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let orders = guardian.stdin.take().ok_or(ErrorKind::BrokenPipe)?;
        // A guardian that is paused must not pause the wrapper.
        fcntl_setfl(&orders, fcntl_getfl(&orders)? | OFlags::NONBLOCK)?;
        Ok(Self {
            guardian,
            orders,
            last: None,
        })
    }

    /// Tells it an order, if that is news. A guardian that somebody has killed is replaced.
    ///
    /// # Errors
    ///
    /// There is no guardian, and none can be started.
    pub fn tell(&mut self, order: Order) -> io::Result<()> {
        if self.last == Some(order) {
            return Ok(());
        }
        let line = format!("{order}\n");
        match self.orders.write_all(line.as_bytes()) {
            Ok(()) => {}
            // It has not read thousands of orders, and will read this one's successors.
            Err(full) if full.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => {
                let _ = self.guardian.wait();
                *self = Self::start()?;
                self.orders.write_all(line.as_bytes())?;
            }
        }
        self.last = Some(order);
        Ok(())
    }

    /// Where orders are written, for the command's stage, which gives the first one.
    pub fn pipe(&self) -> RawFd {
        self.orders.as_raw_fd()
    }

    /// What it was told last.
    pub fn last(&self) -> Option<Order> {
        self.last
    }

    /// The command has ended, and with it the guardian's task.
    pub fn end(mut self) {
        let _ = self.orders.write_all(format!("{DONE}\n").as_bytes());
    }
}
