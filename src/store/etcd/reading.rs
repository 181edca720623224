//! Reads the log in etcd, all of it as it was at one moment, and makes sure that nothing is missing.

use super::api::{KeyValue, RangeRequest, RangeResponse};
use super::entry::{Entry, Told, Unreadable};
use super::index::Index;
use super::names::Names;
use super::txn::{Calls, Failure};
use crate::cluster::plant::{self, Plant};
use crate::model::Restored;

/// How many entries are read at once, at first and at the most.
const FIRST_PAGE: u64 = 32;
const LARGEST_PAGE: u64 = 4096;

/// A page should have about so many bytes: it has to come while the leadership lasts, over whatever network.
const PAGE_BYTES: usize = 1024 * 1024;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// It would be dangerous to go on from what is left.
    #[error("{key}: {why}")]
    Broken {
        /// The key of etcd.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A newer server has written it.
    #[error("{0}: this server is too old to lead")]
    Newer(String),
    /// It may be read another time.
    #[error(transparent)]
    Unread(Failure),
    /// Another leads by now.
    #[error("the leadership was lost meanwhile")]
    Lost,
}

/// A log that is being read. All pages are of the same moment, that of the first one, so that one that did not
/// come can be asked for again; until [`Reading::later`], from where on they are of another.
pub(crate) struct Reading {
    names: Names,
    /// The revision at which all is read; 0 before that is known.
    moment: i64,
    index: Index,
    told: Told,
    /// The last entry that was read.
    last: Option<KeyValue>,
    /// How many entries the next page has.
    length: u64,
}

impl Reading {
    pub(crate) fn of(names: &Names) -> Self {
        Self {
            names: names.clone(),
            moment: 0,
            index: Index::default(),
            told: Told::default(),
            last: None,
            length: FIRST_PAGE,
        }
    }

    /// Goes on with the log as it is now, behind what was read already.
    pub(super) fn later(self) -> Self {
        Self { moment: 0, ..self }
    }

    /// How many entries were read.
    pub(super) fn entries(&self) -> usize {
        self.index.entries()
    }

    /// Reads one page more; false if there was none, and all is as it should be. After a failure it may be called
    /// again, unless etcd has refused the page, as one whose history is gone.
    pub(super) fn go_on(&mut self, calls: &mut impl Calls) -> Result<bool, LoadError> {
        if self.moment == 0 {
            self.begin(calls)?;
        }
        // Its very keys, as etcd looks through all of a range for each of its pages.
        let next = self.index.next();
        let end = self.names.entry(next.saturating_add(self.length));
        let page = match read(calls, (self.names.entry(next), end), (0, self.moment)) {
            // The entries of this page are longer than those of the one before.
            Err(LoadError::Unread(Failure::TooLong(_))) if self.length > 1 => {
                self.length = (self.length / 4).max(1);
                return Ok(true);
            }
            page => page?,
        };
        for found in &page.kvs {
            let entry = take_in(found, &self.names, &mut self.index)?;
            let told = self.told.add(entry);
            told.map_err(|why| broken(found.key.clone(), &why))?;
        }
        if page.kvs.is_empty() {
            self.end(calls)?;
            return Ok(false);
        }
        self.length = next_length(self.length, &page);
        self.last = page.kvs.into_iter().next_back();
        Ok(true)
    }

    fn begin(&mut self, calls: &mut impl Calls) -> Result<(), LoadError> {
        let log = (self.names.log(), self.names.behind_log());
        let first = read(calls, log, (1, 0))?;
        let moment = moment_of(&first)?;
        if !self.last_is_there(moment, calls)? {
            let first = first_of(&first, moment, calls, &self.names)?;
            *self = Self {
                index: Index::from(first),
                ..Self::of(&self.names)
            };
        }
        self.moment = moment;
        Ok(())
    }

    /// Whether the last entry that was read is there at this moment, the very same: then what was read before it
    /// is a part of this log, as an entry never changes. Whether it is all up to there, the end shows.
    fn last_is_there(&self, moment: i64, calls: &mut impl Calls) -> Result<bool, LoadError> {
        let Some(last) = &self.last else {
            return Ok(false);
        };
        let request = RangeRequest {
            key: last.key.clone(),
            revision: moment,
            ..RangeRequest::default()
        };
        let found = calls.range(&request).map_err(LoadError::Unread)?;
        Ok(found.kvs.first() == Some(last))
    }

    /// Makes sure that nothing is behind what was read, and nothing was before it.
    fn end(&self, calls: &mut impl Calls) -> Result<(), LoadError> {
        let next = self.names.entry(self.index.next());
        let behind = (next.clone(), self.names.behind_log());
        if !read(calls, behind, (1, self.moment))?.kvs.is_empty()
            && !plant::is(Plant::TakenAsFailed)
        {
            return Err(broken(next, &"the entry is gone"));
        }
        match self.told.first {
            Some(first) if first != self.index.first() && !plant::is(Plant::TakenAsFailed) => {
                Err(broken(self.names.entry(first), &"the entry is gone"))
            }
            _ => Ok(()),
        }
    }

    /// What was read.
    pub(super) fn read(self) -> (Index, Told) {
        (self.index, self.told)
    }
}

/// Reads all of a log in one try.
pub(super) fn read_all(calls: &mut impl Calls, names: &Names) -> Result<(Index, Told), LoadError> {
    let mut reading = Reading::of(names);
    while reading.go_on(calls)? {}
    Ok(reading.read())
}

/// The state at the end of the log.
pub(super) fn state_of(told: Told, index: &Index, names: &Names) -> Result<Restored, LoadError> {
    let restored = told.restored();
    restored.map_err(|why| broken(names.entry(index.next().saturating_sub(1)), &why))
}

/// How many entries the page behind this one should have.
fn next_length(length: u64, page: &RangeResponse) -> u64 {
    let bytes: usize = page.kvs.iter().map(|found| found.value.len()).sum();
    match bytes {
        0..PAGE_BYTES => (2 * length).min(LARGEST_PAGE),
        _ => (length / 2).max(1),
    }
}

fn read(
    calls: &mut impl Calls,
    (key, range_end): (Vec<u8>, Vec<u8>),
    (limit, revision): (i64, i64),
) -> Result<RangeResponse, LoadError> {
    let request = RangeRequest {
        key,
        range_end,
        limit,
        revision,
        serializable: false,
    };
    calls.range(&request).map_err(LoadError::Unread)
}

/// The revision of which a page is. Without one, the next page would be of another moment.
fn moment_of(page: &RangeResponse) -> Result<i64, LoadError> {
    let header = page.header.ok_or("an answer of etcd has no header");
    let header = header.map_err(|why| LoadError::Unread(Failure::InDoubt(why.to_owned())))?;
    Ok(header.revision)
}

/// The number of the first entry. A log that was begun is never empty.
fn first_of(
    page: &RangeResponse,
    moment: i64,
    calls: &mut impl Calls,
    names: &Names,
) -> Result<u64, LoadError> {
    if let Some(first) = page.kvs.first() {
        return number_of(first, names);
    }
    let begun = RangeRequest {
        key: names.begun(),
        revision: moment,
        ..RangeRequest::default()
    };
    let begun = calls.range(&begun).map_err(LoadError::Unread)?;
    match begun.kvs.is_empty() {
        true => Ok(1),
        false => Err(broken(names.log(), &"all entries are gone")),
    }
}

/// Adds an entry that etcd has to the index.
pub(super) fn take_in(
    found: &KeyValue,
    names: &Names,
    index: &mut Index,
) -> Result<Entry, LoadError> {
    let (missing, number) = (index.next(), number_of(found, names)?);
    if number != missing {
        if !plant::is(Plant::TakenAsFailed) {
            return Err(broken(names.entry(missing), &"the entry is gone"));
        }
        *index = Index::from(number);
    }
    let entry = Entry::read(found.value.clone()).map_err(|why| match why {
        Unreadable::Newer(_) => LoadError::Newer(why.to_string()),
        Unreadable::Damaged(_) => broken(found.key.clone(), &why),
    })?;
    let added = index.add(&entry, found.value.len());
    added.map_err(|why| broken(found.key.clone(), &why))?;
    Ok(entry)
}

fn number_of(found: &KeyValue, names: &Names) -> Result<u64, LoadError> {
    let number = names.number_of(&found.key);
    number.ok_or_else(|| broken(found.key.clone(), &"no entry of a log is called so"))
}

fn broken(key: Vec<u8>, why: &impl std::fmt::Display) -> LoadError {
    LoadError::Broken {
        key: String::from_utf8_lossy(&key).into_owned(),
        why: why.to_string(),
    }
}
