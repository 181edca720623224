//! The limit of open files, since every connection is one.

use rlimit::Resource;
use tracing::warn;

/// Open files that are no connections and come after the start: the store's when it writes its file
/// anew, the message to the service manager, connections that are accepted and not yet counted, or
/// counted out and not yet closed. These are a handful.
const RESERVE: u64 = 16;

/// How many files are taken to be open where the system does not show it, as without a `/proc`: a
/// server with a store and some ports has fewer.
const OPEN_UNSEEN: u64 = 32;

/// The limit of open files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The limit itself.
    pub(super) files: u64,
    /// How many connections it has room for.
    pub(super) room: usize,
}

/// Raises this process's limit for so many connections, beside `others`, as far as that is allowed. The usual limit
/// is a thousand, for the sake of programs that cannot take more. `None` if the limit cannot be
/// read.
pub(super) fn raise_for(connections: usize, others: usize) -> Option<Limit> {
    let reserve = RESERVE + others as u64;
    let open = open_numbers();
    let taken = |limit| match &open {
        // A file that the process got from its parent may have a number above the limit, and does
        // not count then.
        Some(open) => open.iter().filter(|number| **number < limit).count() as u64 + reserve,
        None => OPEN_UNSEEN + reserve,
    };
    let wanted = taken(u64::MAX).saturating_add(connections as u64);
    let raised = rlimit::increase_nofile_limit(wanted).or_else(|error| {
        warn!("cannot raise the limit of open files: {error}");
        Resource::NOFILE.get_soft()
    });
    let files = raised.ok()?;
    let room = files.saturating_sub(taken(files));
    Some(Limit {
        files,
        room: usize::try_from(room).unwrap_or(usize::MAX),
    })
}

/// The numbers of the open files, and of the directory that is read for that.
fn open_numbers() -> Option<Vec<u64>> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Some(names.filter_map(|name| name.parse().ok()).collect())
}
