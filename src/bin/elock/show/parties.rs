//! Who holds and who waits, and how, in a few words.

use elock_client::listing::{HolderEntry, LockEntry, ModeShown, WaitingEntry};

use crate::duration;

/// `#24 web-3:cron` or `@job-7`.
pub fn holder(entry: &HolderEntry) -> String {
    match (&entry.owner, entry.session) {
        (Some(owner), _) => format!("@{owner}"),
        (None, session) => session_name(session.unwrap_or(0), entry.name.as_deref()),
    }
}

/// `#24 web-3:cron`.
pub fn session_name(number: u64, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("#{number} {name}"),
        None => format!("#{number}"),
    }
}

/// `#24 web-3:cron`, and for which owner it asks.
pub fn waiter(entry: &WaitingEntry) -> String {
    let session = session_name(entry.session, entry.name.as_deref());
    match &entry.owner {
        Some(owner) => format!("{session} for @{owner}"),
        None => session,
    }
}

/// The first holder, and how many there are besides.
pub fn holders(lock: &LockEntry) -> String {
    let first = lock.holders.first().map_or_else(|| "-".to_owned(), holder);
    match lock.holders_in_all {
        0 | 1 => first,
        all => format!("{first} +{}", all - 1),
    }
}

/// `exclusive`, `shared r`, `slots 2/5`.
pub fn mode(lock: &LockEntry) -> String {
    match lock.mode.slots {
        Some(slots) => format!("slots {}/{slots}", lock.holders_in_all),
        None => asked_mode(&lock.mode),
    }
}

/// `exclusive`, `shared r`, `slots 5`.
pub fn asked_mode(mode: &ModeShown) -> String {
    match (&mode.value, mode.slots) {
        (Some(value), _) => format!("{} {value}", mode.mode),
        (None, Some(slots)) => format!("{} {slots}", mode.mode),
        (None, None) => mode.mode.clone(),
    }
}

/// A time that may not be known.
pub fn time(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), duration::show)
}
