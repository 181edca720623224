//! What the guardian is told: until when a command may run.

use std::fmt;
use std::str::FromStr;

use rustix::process::Pid;

/// A point in time that never comes.
pub const NEVER_NS: u64 = u64::MAX;

/// Until when a group of processes may run, unless a later order says otherwise. Times are those of
/// [`boottime`](super::boottime).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The group.
    pub group: Pid,
    /// Then it is asked to end.
    pub term_at_ns: u64,
    /// Then it is ended.
    pub kill_at_ns: u64,
}

/// A line is no order.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no order")]
pub struct NoOrder;

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group.as_raw_nonzero();
        write!(f, "{group} {} {}", self.term_at_ns, self.kill_at_ns)
    }
}

impl FromStr for Order {
    type Err = NoOrder;

    fn from_str(line: &str) -> Result<Self, NoOrder> {
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or(NoOrder);
        let (group, term, kill) = (next()?, next()?, next()?);
        // Group 1 would be everything that can be reached.
        let group = group.parse().ok().filter(|&group: &i32| group > 1);
        Ok(Self {
            group: group.and_then(Pid::from_raw).ok_or(NoOrder)?,
            term_at_ns: term.parse().map_err(|_| NoOrder)?,
            kill_at_ns: kill.parse().map_err(|_| NoOrder)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_back_and_nothing_else_is_one() {
        let order = Order {
            group: Pid::from_raw(77).expect("positive"),
            term_at_ns: 5,
            kill_at_ns: NEVER_NS,
        };
        assert_eq!(order.to_string().parse(), Ok(order));
        for line in ["", "77", "77 5", "77 5 x", "1 5 5", "-7 5 5", "0 5 5"] {
            assert_eq!(line.parse::<Order>(), Err(NoOrder), "{line}");
        }
    }
}
