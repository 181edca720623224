//! Who holds the lock that is asked for, told to those who wait for it or did not get it.

use std::convert::Infallible;
use std::future::pending;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use elock_client::Client;
use elock_client::command::GetLocks;
use elock_client::listing::LockEntry;
use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::termios::{LocalModes, tcgetattr};
use tokio::time::{Instant, sleep, timeout_at};

use super::exit;
use super::held::Request;
use crate::show::key;
use crate::show::parties::{holder, time};
use crate::show::table::cut;
use crate::show::visible::visible;

/// A wait that is shorter is not worth a line.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// How long asking who holds the lock may take in all.
const LONGEST_QUESTION: Duration = Duration::from_secs(1);

/// Of many keys, so many lines are enough to see where to look.
const MOST_LINES: usize = 5;

/// Keys and names may have thousands of bytes, a line for people has not.
const LONGEST_KEY: usize = 60;
const LONGEST_HOLDER: usize = 80;

/// Tells somebody who sits at the terminal, once, what is waited for; then it has nothing more to do.
pub async fn tell_while_waiting(client: &Client, request: &Request) -> Infallible {
    sleep(SHORT_WAIT).await;
    if stderr().is_terminal() && !stops_who_writes() {
        // They are taken one after the other in this order, so the first of others is waited for.
        let mut keys: Vec<&[u8]> = distinct(&request.keys).collect();
        keys.sort_unstable();
        let held = held(client, &keys, 1, |lock| !is_own(lock, request)).await;
        exit::say(&match held.first() {
            Some((key, lock)) => format!("waiting for {}, held by {}", named(key), holders(lock)),
            None => format!("waiting for {}", all_named(&request.keys)),
        });
    }
    pending().await
}

/// Tells who holds the lock that was not to be had.
pub async fn tell_at_the_end(client: &Client, request: &Request) {
    let keys: Vec<&[u8]> = distinct(&request.keys).collect();
    let held = held(client, &keys, MOST_LINES, |_| true).await;
    for (key, lock) in &held {
        let since = lock.holders.first().and_then(|first| first.held_ms);
        let since = since.map_or_else(String::new, |ms| format!(", for {}", time(Some(ms))));
        exit::say(&format!("{}: held by {}{since}", named(key), holders(lock)));
    }
    if held.is_empty() {
        let keys = all_named(&request.keys);
        exit::say(&format!("{keys}: the lock is not to be had"));
    }
}

/// The first so many of the keys whose locks are meant, as far as the server tells it in time.
async fn held<'a>(
    client: &Client,
    keys: &[&'a [u8]],
    most: usize,
    is_meant: impl Fn(&LockEntry) -> bool,
) -> Vec<(&'a [u8], LockEntry)> {
    let until = Instant::now() + LONGEST_QUESTION;
    let mut held = Vec::new();
    for &key in keys {
        let question = GetLocks {
            prefix: GetLocks::key(key),
            after: None,
        };
        let Ok(Ok(page)) = timeout_at(until, client.call(&question)).await else {
            break;
        };
        let locks = page.entries.into_iter().filter(&is_meant);
        held.extend(locks.map(|lock| (key, lock)));
        if held.len() >= most {
            break;
        }
    }
    held
}

/// Whether this session may hold it: whoever waits for one of several keys has those before it. The
/// session's number is not known here, so all that are called the same count, and what nobody waits for.
fn is_own(lock: &LockEntry, request: &Request) -> bool {
    let own_name = key::shown(&request.name);
    let mut names = lock.holders.iter().filter_map(|one| one.name.as_deref());
    let has_own_name = names.any(|name| visible(name) == own_name);
    request.keys.len() > 1 && (has_own_name || lock.waiting_in_all == 0)
}

/// Whether the terminal stops processes in the background that write to it. One that is stopped in the
/// queue would get the lock in its turn, and do nothing with it.
fn stops_who_writes() -> bool {
    let is_in_background = tcgetpgrp(stderr()).is_ok_and(|group| group != getpgrp());
    let attributes = tcgetattr(stderr());
    is_in_background && attributes.is_ok_and(|set| set.local_modes.contains(LocalModes::TOSTOP))
}

fn named(key: &[u8]) -> String {
    cut(&key::shown(key), LONGEST_KEY)
}

fn all_named(keys: &[Vec<u8>]) -> String {
    let mut shown: Vec<String> = distinct(keys).take(MOST_LINES + 1).map(named).collect();
    if let Some(beyond) = shown.get_mut(MOST_LINES) {
        "…".clone_into(beyond);
    }
    shown.join(", ")
}

/// A key that is named twice is locked once, and told once.
fn distinct(keys: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    let is_new = |&(index, key): &(usize, &Vec<u8>)| !keys[..index].contains(key);
    let new = keys.iter().enumerate().filter(is_new);
    new.map(|(_, key)| key.as_slice())
}

fn holders(lock: &LockEntry) -> String {
    let first = lock.holders.first().map(holder).unwrap_or_default();
    let first = cut(&visible(&first), LONGEST_HOLDER);
    match lock.holders_in_all {
        0 | 1 => first,
        2 => format!("{first} and another"),
        all => format!("{first} and {} others", all - 1),
    }
}
