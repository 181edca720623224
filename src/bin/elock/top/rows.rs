//! One row for each key that somebody waits for or holds, from what a round has told.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use elock_client::listing::LockEntry;

use super::round::Sample;
use crate::show::visible::visible;

/// By what rows are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Most waiters first, and of equal ones the longest wait.
    #[default]
    Waiters,
    /// Held for the longest time first.
    Held,
    /// By the bytes of the key.
    Key,
}

impl Sort {
    /// The one after it.
    pub fn next(self) -> Self {
        match self {
            Self::Waiters => Self::Held,
            Self::Held => Self::Key,
            Self::Key => Self::Waiters,
        }
    }

    /// As it stands on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiters => "waiters",
            Self::Held => "time held",
            Self::Key => "key",
        }
    }
}

/// Which keys are shown: those with this text in them or, if it begins with `^`, that begin with what
/// follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(pub String);

impl Filter {
    /// Whether a key, as it is shown, passes.
    pub fn passes(&self, shown: &str) -> bool {
        match self.0.strip_prefix('^') {
            Some(prefix) => shown.starts_with(prefix),
            None => shown.contains(&self.0),
        }
    }

    /// What can be asked of the server: how all these keys begin. A backslash may stand for a byte or
    /// for itself, so what follows one is left to [`Filter::passes`].
    pub fn prefix(&self) -> &[u8] {
        let prefix = self.0.strip_prefix('^').unwrap_or("");
        prefix.split('\\').next().unwrap_or("").as_bytes()
    }
}

/// A key.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its bytes.
    pub key: Arc<[u8]>,
    /// As it is shown.
    pub shown: Arc<str>,
    /// How many wait for it.
    pub waiters: u64,
    /// Whether there may be more, as not all sessions were read.
    pub may_have_more_waiters: bool,
    /// The longest that one of them has waited.
    pub longest_ms: Option<u64>,
    /// What is known of the lock.
    pub lock: Lock,
}

/// What is known of a row's lock.
#[derive(Debug, Clone)]
pub enum Lock {
    /// It was not asked for yet.
    Unknown,
    /// Nobody held it when it was asked for.
    Free,
    /// It is held, or was so long before the rest was read.
    Held(Arc<LockEntry>, Duration),
}

impl Row {
    /// The lock, if it is known to be held.
    pub fn entry(&self) -> Option<&LockEntry> {
        match &self.lock {
            Lock::Held(entry, _) => Some(entry),
            _ => None,
        }
    }

    /// How long the holder that has it for the longest time has it.
    pub fn held_ms(&self) -> Option<u64> {
        let holders = &self.entry()?.holders;
        holders.iter().filter_map(|one| one.held_ms).max()
    }

    /// What is left of the lease that ends first.
    pub fn lease_left_ms(&self) -> Option<u64> {
        let holders = &self.entry()?.holders;
        holders.iter().filter_map(|one| one.lease_left_ms).min()
    }

    /// In the wished order; equal ones by their keys, so that rows do not dance.
    fn order(&self, sort: Sort) -> impl Ord + use<> {
        let (first, second) = match sort {
            Sort::Waiters => (self.waiters, self.longest_ms),
            Sort::Held => (0, self.held_ms()),
            Sort::Key => (0, None),
        };
        (Reverse((first, second)), Arc::clone(&self.key))
    }
}

/// All rows that pass, in order.
pub fn rows(sample: &Sample, filter: &Filter, sort: Sort) -> Vec<Row> {
    let mut rows: Vec<Row> = contended(sample)
        .into_values()
        .chain(idle(sample))
        .filter(|row| filter.passes(&row.shown))
        .collect();
    rows.sort_by_cached_key(|row| row.order(sort));
    rows
}

/// Keys that sessions wait for. The waits come with the longest first.
fn contended(sample: &Sample) -> HashMap<&Arc<[u8]>, Row> {
    let mut rows: HashMap<_, Row> = HashMap::new();
    for wait in &sample.waits {
        let row = rows.entry(&wait.key).or_insert_with(|| Row {
            key: Arc::clone(&wait.key),
            shown: Arc::clone(&wait.shown),
            waiters: 0,
            may_have_more_waiters: sample.sessions_cut.is_some(),
            longest_ms: Some(wait.waited_ms),
            lock: lock_of(sample, &wait.key),
        });
        row.waiters += 1;
    }
    for row in rows.values_mut() {
        // What the lock itself says counts those who were not read, unless it is of an earlier round.
        if let Lock::Held(entry, Duration::ZERO) = &row.lock {
            row.waiters = entry.waiting_in_all;
            row.may_have_more_waiters = false;
        }
    }
    rows
}

fn lock_of(sample: &Sample, key: &Arc<[u8]>) -> Lock {
    match sample.locks.get(key) {
        None => Lock::Unknown,
        Some(known) => match &known.entry {
            None => Lock::Free,
            Some(entry) => {
                let age = sample.at.saturating_duration_since(known.at);
                Lock::Held(Arc::clone(entry), age)
            }
        },
    }
}

/// Keys that the last search found held, and that no session which was read waits for.
fn idle(sample: &Sample) -> impl Iterator<Item = Row> {
    let contended: std::collections::HashSet<_> =
        sample.waits.iter().map(|wait| &wait.key).collect();
    sample.locks.iter().filter_map(move |(key, known)| {
        let entry = known
            .entry
            .as_ref()
            .filter(|_| known.at >= sample.locks_at)?;
        let row = Row {
            key: Arc::clone(key),
            shown: visible(&entry.key).into(),
            waiters: entry.waiting_in_all,
            may_have_more_waiters: false,
            longest_ms: entry.waiting.iter().map(|one| one.waited_ms).max(),
            lock: lock_of(sample, key),
        };
        (!contended.contains(key)).then_some(row)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{held, sample, waiting};
    use super::*;

    fn keys(sample: &Sample, filter: &str, sort: Sort) -> Vec<String> {
        let rows = rows(sample, &Filter(filter.to_owned()), sort);
        rows.iter().map(|row| row.shown.to_string()).collect()
    }

    #[test]
    fn rows_are_sorted_and_filtered() {
        let waits = vec![
            waiting(5, "busy", 900),
            waiting(6, "busy", 20),
            waiting(7, "b", 5),
        ];
        let locks = vec![
            held("busy", 1, 1_000, 2),
            held("b", 2, 9_000, 1),
            held("quiet", 3, 4_000, 0),
        ];
        let sample = sample(waits, locks);
        assert_eq!(keys(&sample, "", Sort::Waiters), ["busy", "b", "quiet"]);
        assert_eq!(keys(&sample, "", Sort::Held), ["b", "quiet", "busy"]);
        assert_eq!(keys(&sample, "", Sort::Key), ["b", "busy", "quiet"]);
        assert_eq!(keys(&sample, "u", Sort::Key), ["busy", "quiet"]);
        assert_eq!(keys(&sample, "^b", Sort::Key), ["b", "busy"]);
        assert_eq!(keys(&sample, "^B", Sort::Key), [""; 0]);
    }

    #[test]
    fn a_key_is_found_by_what_the_screen_shows() {
        let sample = sample(vec![], vec![held("a\u{2028}b", 1, 1_000, 0)]);
        assert_eq!(
            keys(&sample, r"\xE2\x80\xA8", Sort::Key),
            [r"a\xE2\x80\xA8b"]
        );
    }

    #[test]
    fn a_wait_shows_its_key_though_the_lock_was_not_read() {
        let mut sample = sample(vec![waiting(5, "far", 900)], vec![]);
        sample.sessions_cut = Some(10_000);
        let rows = rows(&sample, &Filter::default(), Sort::default());
        assert!(matches!(rows[0].lock, Lock::Unknown));
        assert!(rows[0].may_have_more_waiters);
        assert_eq!((rows[0].waiters, rows[0].longest_ms), (1, Some(900)));
    }

    #[test]
    fn an_earlier_round_tells_of_a_holder_and_not_of_idle_keys() {
        let mut sample = sample(
            vec![waiting(5, "k", 900)],
            vec![held("k", 1, 10, 7), held("gone", 2, 10, 0)],
        );
        sample.at += Duration::from_secs(3);
        sample.locks_at = sample.at;
        let rows = rows(&sample, &Filter::default(), Sort::default());
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].waiters, 1);
        let Lock::Held(_, age) = &rows[0].lock else {
            panic!("it is known")
        };
        assert!(*age >= Duration::from_secs(2));
    }

    #[test]
    fn what_a_prefix_asks_of_the_server() {
        let prefix = |text: &str| Filter(text.to_owned()).prefix().to_vec();
        assert_eq!(prefix("^mail"), b"mail");
        assert_eq!(prefix("mail"), b"");
        assert_eq!(prefix(r"^a\x0D"), b"a");
    }
}
