//! One round of questions to a server. Whatever the server holds, it is a bounded number of pages:
//! sessions first, since they tell for which keys anybody waits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use elock_client::command::{GetInfo, GetLocks, GetSessions};
use elock_client::listing::{Info, LockEntry, SessionEntry};
use elock_client::{Connection, Error};

use super::pace::with_rest;
use super::peers::{self, Peers};
use crate::show::visible::visible;

/// How many pages of a thousand sessions are read.
pub const SESSION_PAGES: usize = 10;

/// How many keys are asked for by themselves in one round.
const KEYS: usize = 64;

/// What is to be read beyond what always is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    /// Keys that are not waited for are read only if they begin so.
    pub prefix: Vec<u8>,
    /// Those on the screen, the most important first.
    pub keys: Vec<Vec<u8>>,
    /// The one of which all is to be told.
    pub detailed: Option<Vec<u8>>,
    /// Grows whenever a person does something that should be answered before the next round.
    pub wishes: u64,
}

/// What a server told in one round.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When `info` was answered.
    pub at: Instant,
    /// How long it took, without the search for keys.
    pub took: Duration,
    /// Which server.
    pub address: String,
    /// The number of the connection, of which each is another.
    pub connection: u64,
    /// Its numbers.
    pub info: Info,
    /// Requests that wait, the longest first.
    pub waits: Vec<Wait>,
    /// How many sessions were read, if there are more.
    pub sessions_cut: Option<usize>,
    /// The keys of the last search, and those that were asked for by themselves.
    pub locks: HashMap<Arc<[u8]>, Known>,
    /// Where those are who hold the detailed key or wait for it.
    pub peers: Peers,
    /// When the last search for keys began.
    pub locks_at: Instant,
    /// How long that took.
    pub search_took: Duration,
    /// How many keys the page had, if there are more.
    pub page_cut: Option<usize>,
    /// The beginning of the keys of the page.
    pub prefix: Vec<u8>,
}

/// What is known of a key.
#[derive(Debug, Clone)]
pub struct Known {
    /// The lock; none if nobody held it.
    pub entry: Option<Arc<LockEntry>>,
    /// When that was so.
    pub at: Instant,
}

/// A request that waits.
#[derive(Debug, Clone)]
pub struct Wait {
    /// Who waits.
    pub session: u64,
    /// What the session is called.
    pub name: Option<String>,
    /// For which key.
    pub key: Arc<[u8]>,
    /// The key as it is shown.
    pub shown: Arc<str>,
    /// For how long.
    pub waited_ms: u64,
    /// For how long it still will.
    pub left_ms: u64,
}

/// Asks over one connection, and remembers what was not asked again.
#[derive(Debug)]
pub struct Reader {
    address: String,
    number: u64,
    asked: HashMap<Arc<[u8]>, Known>,
    search: Search,
    peers: Peers,
}

/// The last search for keys, each of which makes the server look at all that it has.
#[derive(Debug, Clone, Default)]
struct Search {
    begun_at: Option<Instant>,
    took: Duration,
    prefix: Vec<u8>,
    page: HashMap<Arc<[u8]>, Known>,
    page_cut: Option<usize>,
}

impl Search {
    /// Whether the server bears another one.
    fn is_due(&self, prefix: &[u8]) -> bool {
        let has_rested = |at: Instant| at.elapsed() >= with_rest(self.took);
        self.begun_at.is_none_or(has_rested) || self.prefix != prefix
    }

    /// Whether it found the key, or would have if anybody held it.
    fn tells_of(&self, key: &[u8]) -> bool {
        self.page.contains_key(key) || self.page_cut.is_none() && key.starts_with(&self.prefix)
    }
}

impl Reader {
    /// For the connection with that number, to this server.
    pub fn new(address: String, number: u64) -> Self {
        Self {
            address,
            number,
            asked: HashMap::new(),
            search: Search::default(),
            peers: Peers::new(),
        }
    }

    /// Reads what there is. Keys are asked for by themselves until `time` has passed, at least one; the
    /// others have their turn in the next rounds. A search is made only if the last is long enough ago.
    ///
    /// # Errors
    ///
    /// The connection broke, or the server answers otherwise than with a `200`.
    pub async fn read(
        &mut self,
        connection: &mut Connection,
        interest: &Interest,
        time: Duration,
    ) -> Result<Sample, Error> {
        let begin = Instant::now();
        let info = connection.call(&GetInfo {}).await?;
        let at = Instant::now();
        let (waits, sessions_cut) = match info.number("waiters") {
            0 => (Vec::new(), None),
            _ => waits(connection).await?,
        };
        let took = begin.elapsed();
        if self.search.is_due(&interest.prefix) {
            self.search(connection, &interest.prefix).await?;
        }
        let is_page_new = self.search.begun_at.is_some_and(|begun_at| begun_at >= at);
        let wanted = wanted(interest, &waits, is_page_new.then_some(&self.search));
        self.ask(connection, wanted, Instant::now() + time).await?;
        let locks = self.locks();
        self.read_peers(connection, interest, &locks).await?;
        Ok(Sample {
            at,
            took,
            address: self.address.clone(),
            connection: self.number,
            info,
            waits,
            sessions_cut,
            locks,
            peers: self.peers.clone(),
            locks_at: self.search.begun_at.unwrap_or(at),
            search_took: self.search.took,
            page_cut: self.search.page_cut,
            prefix: self.search.prefix.clone(),
        })
    }

    /// Reads the first keys.
    async fn search(&mut self, connection: &mut Connection, prefix: &[u8]) -> Result<(), Error> {
        let begin = Instant::now();
        let (page, page_cut) = page(connection, prefix).await?;
        self.search = Search {
            begun_at: Some(begin),
            took: begin.elapsed(),
            prefix: prefix.to_vec(),
            page,
            page_cut,
        };
        Ok(())
    }

    /// The latest that is known of each key.
    fn locks(&self) -> HashMap<Arc<[u8]>, Known> {
        let mut locks = self.search.page.clone();
        for (key, known) in &self.asked {
            let is_later = |before: &Known| before.at < known.at;
            if locks.get(key).is_none_or(is_later) {
                locks.insert(Arc::clone(key), known.clone());
            }
        }
        locks
    }

    async fn read_peers(
        &mut self,
        connection: &mut Connection,
        interest: &Interest,
        locks: &HashMap<Arc<[u8]>, Known>,
    ) -> Result<(), Error> {
        let key = interest.detailed.as_deref();
        match key.and_then(|key| locks.get(key)?.entry.as_ref()) {
            Some(lock) => peers::complete(&mut self.peers, connection, lock).await,
            None => {
                self.peers.clear();
                Ok(())
            }
        }
    }

    /// Asks for these keys, beginning with those of which least is known.
    async fn ask(
        &mut self,
        connection: &mut Connection,
        mut wanted: Vec<Arc<[u8]>>,
        until: Instant,
    ) -> Result<(), Error> {
        self.asked.retain(|key, _| wanted.contains(key));
        wanted.sort_by_key(|key| self.asked.get(key).map(|known| known.at));
        for key in wanted {
            let question = GetLocks {
                prefix: GetLocks::key(&key),
                after: None,
            };
            let answer = connection.call(&question).await;
            let Some(page) = unless_unasked(answer)? else {
                continue;
            };
            let found = page.entries.into_iter();
            let entry = found.map(Arc::new).find(|one| *one.key_bytes() == *key);
            let at = Instant::now();
            self.asked.insert(key, Known { entry, at });
            if Instant::now() > until {
                break;
            }
        }
        Ok(())
    }
}

/// A key of nearly a line's length cannot be asked for; that is no reason to stop.
fn unless_unasked<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(
            Error::BadWord(_)
            | Error::Refused {
                code: 400 | 413, ..
            },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The requests that wait, of the first sessions.
async fn waits(connection: &mut Connection) -> Result<(Vec<Wait>, Option<usize>), Error> {
    let (mut waits, mut keys) = (Vec::new(), HashMap::new());
    let (mut after, mut read) = (None, 0);
    for _ in 0..SESSION_PAGES {
        let page = connection.call(&GetSessions { after }).await?;
        read += page.entries.len();
        let found = page.entries.into_iter();
        waits.extend(found.filter_map(|one| wait_of(one, &mut keys)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    waits.sort_by_key(|wait| std::cmp::Reverse(wait.waited_ms));
    Ok((waits, after.map(|_| read)))
}

/// Ten thousand may wait for one key, which is then kept once.
fn wait_of(session: SessionEntry, keys: &mut HashMap<Arc<[u8]>, Arc<str>>) -> Option<Wait> {
    let bytes = session.waits_for_bytes()?;
    let shown = session.waits_for?;
    let (key, shown) = match keys.get_key_value(bytes.as_slice()) {
        Some((key, shown)) => (Arc::clone(key), Arc::clone(shown)),
        None => {
            let (key, shown): (Arc<[u8]>, Arc<str>) = (bytes.into(), visible(&shown).into());
            keys.insert(Arc::clone(&key), Arc::clone(&shown));
            (key, shown)
        }
    };
    Some(Wait {
        session: session.session,
        name: session.name,
        key,
        shown,
        waited_ms: session.waited_ms.unwrap_or(0),
        left_ms: session.left_ms.unwrap_or(0),
    })
}

/// The first thousand keys that begin so.
async fn page(
    connection: &mut Connection,
    prefix: &[u8],
) -> Result<(HashMap<Arc<[u8]>, Known>, Option<usize>), Error> {
    let question = GetLocks {
        prefix: GetLocks::prefix_of(prefix),
        after: None,
    };
    let Some(page) = unless_unasked(connection.call(&question).await)? else {
        return Ok((HashMap::new(), None));
    };
    let at = Instant::now();
    let count = page.entries.len();
    let locks = page.entries.into_iter().map(|entry| {
        let key = entry.key_bytes().into();
        let entry = Some(Arc::new(entry));
        (key, Known { entry, at })
    });
    Ok((locks.collect(), page.next.map(|_| count)))
}

/// The keys to ask for by themselves: those on the screen, and those for which most wait, unless a
/// search in this round has told of them.
fn wanted(interest: &Interest, waits: &[Wait], search: Option<&Search>) -> Vec<Arc<[u8]>> {
    let mut waiters: HashMap<&Arc<[u8]>, usize> = HashMap::new();
    for wait in waits {
        *waiters.entry(&wait.key).or_default() += 1;
    }
    let mut busiest: Vec<_> = waiters.into_iter().collect();
    busiest.sort_by_key(|&(key, count)| (std::cmp::Reverse(count), key));
    let is_told = |key: &[u8]| search.is_some_and(|search| search.tells_of(key));
    let mut seen = HashSet::new();
    let on_screen = interest.keys.iter().map(|key| Arc::from(key.as_slice()));
    let busiest = busiest.into_iter().map(|(key, _)| Arc::clone(key));
    on_screen
        .chain(busiest)
        .filter(|key: &Arc<[u8]>| !is_told(key) && seen.insert(Arc::clone(key)))
        .take(KEYS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(key: &str) -> Wait {
        Wait {
            session: 1,
            name: None,
            key: key.as_bytes().into(),
            shown: key.into(),
            waited_ms: 0,
            left_ms: 0,
        }
    }

    #[test]
    fn asked_are_keys_on_screen_then_busy_ones_and_none_that_is_told() {
        let waits = ["a", "b", "b", "c", "told"].map(wait);
        let known = Known {
            entry: None,
            at: Instant::now(),
        };
        let search = |page_cut| Search {
            page: HashMap::from([(Arc::from(&b"told"[..]), known.clone())]),
            page_cut,
            ..Search::default()
        };
        let interest = Interest {
            keys: vec![b"c".to_vec(), b"c".to_vec()],
            ..Interest::default()
        };
        let asked = |search: Option<Search>| -> Vec<String> {
            let keys = wanted(&interest, &waits, search.as_ref());
            let text = |key: &Arc<[u8]>| String::from_utf8_lossy(key).into_owned();
            keys.iter().map(text).collect()
        };
        assert_eq!(asked(Some(search(Some(1)))), ["c", "b", "a"]);
        assert_eq!(
            asked(None),
            ["c", "b", "a", "told"],
            "an earlier page is old"
        );
        assert!(
            asked(Some(search(None))).is_empty(),
            "a whole page has told of all"
        );
    }

    #[test]
    fn no_round_asks_for_more_keys_than_the_bound() {
        let waits: Vec<_> = (0..1_000).map(|n| wait(&n.to_string())).collect();
        let asked = wanted(&Interest::default(), &waits, None);
        assert_eq!(asked.len(), KEYS);
    }
}
