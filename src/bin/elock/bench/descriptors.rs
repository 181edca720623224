//! The limit of open files, by which that of connections goes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::failure::Failure;

/// What the process has open beside its connections.
const OTHERS: u64 = 64;

/// Makes room for so many connections, as far as the limit can be raised.
///
/// # Errors
///
/// There is not enough.
pub fn make_room(clients: u32) -> Result<(), Failure> {
    let needed = u64::from(clients) + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if is_enough(limit.current) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    if is_enough(limit.maximum) && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    let most = limit.maximum.unwrap_or(0);
    Err(Failure::Usage(format!(
        "{clients} clients need {needed} open files, and this process may have {most}: raise the \
         limit (ulimit -Hn {needed}, as root), or take fewer --clients"
    )))
}
