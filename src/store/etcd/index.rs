//! Which entries of the log still matter: where each grant and session that lives has its last record.
//!
//! The log is cut at its oldest end. An entry that nothing living is in goes as it is; what still lives in
//! one is written once more, in the entry that cuts it.
//!
//! Invariants:
//!
//! 1. The entries are those from `first` on without a gap, as in etcd.
//! 2. A place names an entry of the log, the last one with a record of that subject.
//! 3. `living` of an entry is the number of places that name it, and `living_bytes` the sum of all
//!    places' lengths.

use std::collections::{HashMap, VecDeque};

use super::entry::{Entry, Subject, Unreadable, damaged};
use super::log::LONGEST_ENTRY;

/// How many bytes an entry costs in etcd beside its own.
const OVERHEAD: u64 = 200;

/// The log may be so much longer than what lives in it, beside twice its length.
const SLACK: u64 = 256 * 1024;

/// How many bytes of entries are read at once to be moved, at the most, unless a single entry has more.
const READ_AT_ONCE: u64 = 8 * 1024 * 1024;

/// How many entries are cut at once at most.
const CUT_AT_ONCE: usize = 64;

/// How many bytes are written once more by a commit, at the most: twice as many as it brings itself, but
/// no fewer than these.
const MOVED_AT_ONCE: u64 = 32 * 1024;

#[derive(Debug, Default)]
pub(super) struct Index {
    first: u64,
    entries: VecDeque<Weight>,
    places: HashMap<Subject, Place>,
    bytes: u64,
    living_bytes: u64,
    pub(super) tokens_above: u64,
    pub(super) session_numbers_above: u64,
    /// What the last entry says of that.
    pub(super) lead_ttl_ms: u64,
}

#[derive(Debug)]
struct Weight {
    bytes: u64,
    living: u32,
}

/// The entry of a record, by the lower half of its number, and the record's length.
#[derive(Debug, Clone, Copy)]
struct Place {
    entry: u32,
    len: u32,
}

/// The entries to cut off the oldest end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) entries: u64,
    /// Whether any of them has a record that has to be written once more.
    pub(super) has_living: bool,
}

impl Index {
    /// The index of a log that begins with this entry.
    pub(super) fn from(first: u64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next entry gets.
    pub(super) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the next entry, which takes so many bytes, and forgets the ones that it cuts off.
    ///
    /// # Errors
    ///
    /// If it cuts off what lives: then it is none that a server has written.
    pub(super) fn add(&mut self, entry: &Entry, bytes: usize) -> Result<(), Unreadable> {
        let number = self.next();
        let bytes = bytes as u64 + OVERHEAD;
        self.entries.push_back(Weight { bytes, living: 0 });
        self.bytes += bytes;
        self.tokens_above = self.tokens_above.max(entry.tokens_above);
        self.session_numbers_above = self.session_numbers_above.max(entry.session_numbers_above);
        self.lead_ttl_ms = entry.lead_ttl_ms;
        for record in &entry.records {
            let Some((subject, lives)) = record.subject() else {
                continue;
            };
            let new = lives.then(|| Place {
                entry: number as u32,
                len: u32::try_from(record.len_in_entry()).unwrap_or(u32::MAX),
            });
            self.put(subject, new);
        }
        self.cut_before(entry.first)
    }

    fn put(&mut self, subject: Subject, new: Option<Place>) {
        let old = match new {
            Some(new) => {
                self.living_bytes += u64::from(new.len);
                self.weight(new).living += 1;
                self.places.insert(subject, new)
            }
            None => self.places.remove(&subject),
        };
        if let Some(old) = old {
            self.living_bytes -= u64::from(old.len);
            self.weight(old).living -= 1;
        }
    }

    fn weight(&mut self, place: Place) -> &mut Weight {
        let at = place.entry.wrapping_sub(self.first as u32) as usize;
        &mut self.entries[at]
    }

    /// Whether the subject's last record is in this entry.
    pub(super) fn lives_in(&self, subject: Subject, entry: u64) -> bool {
        let place = self.places.get(&subject);
        place.is_some_and(|place| place.entry == entry as u32)
    }

    /// What a commit with so many bytes should cut off: of the entries that there are, never the last one. What
    /// it brings and what it moves fit into one entry together; if it brings nothing, one entry is moved
    /// however long that is, as none is longer for being moved.
    pub(super) fn to_cut(&self, commit_bytes: u64) -> Cut {
        let (mut cut, mut left, mut moved, mut read) = (Cut::default(), self.bytes, 0, 0);
        let most_moved = MOVED_AT_ONCE.max(2 * commit_bytes);
        let all_but_last = self.entries.len().saturating_sub(1);
        for entry in self.entries.iter().take(all_but_last.min(CUT_AT_ONCE)) {
            read += entry.bytes;
            if left <= 2 * self.living_bytes + SLACK || cut.entries > 0 && read > READ_AT_ONCE {
                break;
            }
            if entry.living > 0 {
                moved += entry.bytes;
                let fits = commit_bytes + moved <= LONGEST_ENTRY as u64;
                let is_alone = commit_bytes == 0 && !cut.has_living;
                if !fits && !is_alone || cut.has_living && moved > most_moved {
                    break;
                }
                cut.has_living = true;
            }
            left -= entry.bytes;
            cut.entries += 1;
        }
        cut
    }

    /// Whether the log has to be cut, and a commit with so many bytes has no room for what that moves.
    pub(super) fn must_cut_alone(&self, commit_bytes: u64) -> bool {
        self.to_cut(commit_bytes).entries == 0 && self.to_cut(0).entries > 0
    }

    /// Forgets the entries before this one, in which nothing lives any more.
    fn cut_before(&mut self, first: u64) -> Result<(), Unreadable> {
        while self.first < first {
            // Invariant 2, unless somebody else has written the entry that says this.
            match self.entries.front() {
                Some(entry) if entry.living == 0 && self.entries.len() > 1 => {
                    self.bytes -= entry.bytes;
                    self.entries.pop_front();
                    self.first += 1;
                }
                _ => return Err(damaged("it cuts off what lives")),
            }
        }
        Ok(())
    }
}
