//! The store in one file of an embedded database, and its recovery from failures.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use redb::{Builder, Database, StorageBackend};
use tracing::warn;

use super::files::{Backend, Files};
use super::format::{self, MIGRATIONS, Migration, Reserved, Unusable};
use super::reserve::{MOST_BYTES, PART_OF_DISK, is_full};
use crate::model::{NotStored, Restored};
use crate::store::{Batch, Storage};

/// The file with everything in it.
pub(super) const FILE: &str = "elockd.redb";

/// A new store while it is being made. A file that is found under this name was never finished.
const NEW_FILE: &str = "elockd.redb.new";

/// A small cache is enough, as commits touch few pages, and the same ones again and again.
const CACHE_BYTES: usize = 32 << 20;

/// How many ends are written at a time while the disk is full. Each may need a page or two of its own, and
/// gives them back.
const ENDS_AT_A_TIME: usize = 32;

/// While the disk is full, what is stored beside ends takes no more than about one part of so many of what
/// is free. A commit that runs into the end of the disk keeps the blocks that it took, and would leave
/// none for ends.
const PART_OF_FREE: u64 = 4;

/// So many bytes find their place in the file, more often than not.
const TRIED_ANYHOW: u64 = 16 << 10;

/// Compactions take no more than one part of so many of the time.
const PAUSE_OF_COMPACTIONS: u32 = 10;

/// The pause after one that failed. The next commit checks the whole file then.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// A store on a set of [`Files`].
///
/// Every commit has a number, kept within the database; and the number of the last durable commit
/// is noted beside it. If a page of the last commit is damaged, the database falls back to the
/// commit before, as it must after a crash in the middle of a commit, and cannot tell the two cases
/// apart. The note can: a commit is noted once it is durable, and answered after that. If the
/// database synced twice in each commit, it could tell most of these cases as well, but that would
/// cost a third of all commits.
#[derive(Debug)]
pub(super) struct RedbStorage<F> {
    files: F,
    /// `None` after a failure: only the file itself can tell then whether the commit is in it.
    database: Option<Database>,
    reserved: Reserved,
    last_commit: u64,
    /// Whether the reserve is given up. What ends is stored all the same.
    is_full: bool,
    compacted: Compacted,
}

/// The last compaction.
#[derive(Debug, Default)]
struct Compacted {
    /// The last commit before it: what came later may have left room.
    commit: u64,
    not_again_before: Option<Instant>,
    failed: bool,
}

impl<F: Files> RedbStorage<F> {
    /// Opens the store, a new one if there is none, checks every page of it, and reads it.
    pub(super) fn open(files: F) -> Result<(Self, Restored), Unusable> {
        Self::open_with(files, MIGRATIONS)
    }

    fn open_with(files: F, migrations: &[Migration]) -> Result<(Self, Restored), Unusable> {
        if !files.exists(FILE)? {
            let new = open(files.create(NEW_FILE)?)?;
            format::create(&new, migrations.len() as u64 + 1)?;
            drop(new);
            files.forget_commits()?;
            files.replace(NEW_FILE, FILE)?;
        }
        let noted = files.noted_commit()?.unwrap_or(0);
        let opened = match open_existing(&files, migrations, noted) {
            Err(error) if error.is_full() => {
                files.give_up_reserve()?;
                open_existing(&files, migrations, noted)
            }
            opened => opened,
        };
        let (database, last_commit) = opened?;
        let restored = unless_damaged(|| format::read(&database))?;
        let mut store = Self {
            reserved: Reserved {
                tokens: restored.tokens_above.0,
                session_numbers: restored.session_numbers_above.0,
            },
            database: Some(database),
            files,
            last_commit,
            is_full: false,
            compacted: Compacted::default(),
        };
        store.look_for_room();
        Ok((store, restored))
    }

    /// Stores a whole state, in a store that is empty, completely or not at all.
    pub(super) fn fill(&mut self, state: &Restored) -> Result<(), Unusable> {
        let number = self.last_commit + 1;
        // Only a commit that has failed takes it away, and there was none.
        let database = self.database.take().ok_or(Unusable::Damaged)?;
        format::fill(&database, state, number)?;
        self.files.note_commit(number)?;
        self.last_commit = number;
        self.database = Some(database);
        Ok(())
    }

    /// Commits in one step, but while the disk is full what is over before that, in small steps: each
    /// leaves room for the next, and all are stored even if there is no room for the rest.
    fn commit_in_steps(&mut self, batch: &Batch) -> Result<(), Unusable> {
        if self.is_full {
            let all_ends = batch.ends(ENDS_AT_A_TIME);
            for ends in all_ends.iter().filter(|ends| ends.len() < batch.len()) {
                self.commit_at_once(ends)?;
            }
            let bytes = batch.bytes();
            if bytes > TRIED_ANYHOW && self.files.bytes_free()? / PART_OF_FREE < bytes {
                return Err(io::Error::from(io::ErrorKind::StorageFull).into());
            }
        }
        self.commit_at_once(batch)
    }

    fn commit_at_once(&mut self, batch: &Batch) -> Result<(), Unusable> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let (database, found) = open_existing(&self.files, MIGRATIONS, self.last_commit)?;
                self.last_commit = found;
                database
            }
        };
        let number = self.last_commit + 1;
        self.reserved = format::write(&database, batch, self.reserved, number)?;
        self.files.note_commit(number)?;
        self.last_commit = number;
        self.database = Some(database);
        Ok(())
    }

    /// Makes the reserve, if there is room.
    fn look_for_room(&mut self) {
        let made = self.files.make_reserve();
        self.is_full = made.as_ref().is_err_and(is_full);
        if let Err(error) = made
            && !self.is_full
        {
            warn!("no room can be kept for the time when the disk is full: {error}");
        }
    }

    /// Gives the disk what room there is in the file, if something was stored since this was last looked
    /// at.
    fn compact(&mut self) {
        let (begun, last) = (Instant::now(), &self.compacted);
        if last.commit == self.last_commit || last.not_again_before.is_some_and(|at| begun < at) {
            return;
        }
        let Some(mut database) = self.database.take() else {
            return;
        };
        let compacted = compact_if_worth_it(&mut database, self.bytes());
        let pause = match &compacted {
            Ok(()) => begun.elapsed() * PAUSE_OF_COMPACTIONS,
            Err(_) => PAUSE_AFTER_FAILURE,
        };
        let had_failed = self.compacted.failed;
        self.compacted = Compacted {
            commit: self.last_commit,
            not_again_before: Some(Instant::now() + pause),
            failed: compacted.is_err(),
        };
        match compacted {
            Ok(()) => self.database = Some(database),
            Err(error) if !had_failed => warn!("the store cannot be made smaller: {error}"),
            Err(_) => {}
        }
    }
}

impl<F: Files> Storage for RedbStorage<F> {
    fn commit(&mut self, batch: &Batch) -> Result<(), NotStored> {
        let mut stored = self.commit_in_steps(batch);
        if !self.is_full && stored.as_ref().is_err_and(Unusable::is_full) {
            self.is_full = true;
            let given_up = self.files.give_up_reserve().map_err(Unusable::from);
            stored = given_up.and_then(|()| self.commit_in_steps(batch));
        }
        stored.map_err(NotStored::new)
    }

    fn has_room(&self) -> bool {
        !self.is_full
    }

    fn make_room(&mut self) -> bool {
        self.look_for_room();
        if self.is_full {
            self.compact();
            self.look_for_room();
        }
        !self.is_full
    }

    fn bytes(&self) -> u64 {
        self.files.size(FILE).unwrap_or(0)
    }
}

/// Compacts a database that takes so many bytes of the disk, if that frees about as much as a reserve
/// takes: while it goes on, there are no commits.
fn compact_if_worth_it(database: &mut Database, bytes: u64) -> Result<(), redb::Error> {
    let stats = database.begin_write()?.stats()?;
    let used = stats.allocated_pages() * stats.page_size() as u64;
    if bytes.saturating_sub(used) >= MOST_BYTES.min(bytes / PART_OF_DISK) {
        database.compact()?;
    }
    Ok(())
}

/// Opens the store that is there, and returns the number of its last commit, which must not be
/// below `noted`.
fn open_existing(
    files: &impl Files,
    migrations: &[Migration],
    noted: u64,
) -> Result<(Database, u64), Unusable> {
    let backend = files.open(FILE)?;
    if backend.len()? == 0 {
        // The database would make a new one of it.
        return Err(Unusable::NoStore);
    }
    unless_damaged(|| {
        let database = open(backend)?;
        format::migrate(&database, migrations)?;
        match format::last_commit(&database)? {
            found if found < noted => Err(Unusable::Behind { found, noted }),
            found => Ok((database, found)),
        }
    })
}

fn open(backend: Backend) -> Result<Database, Unusable> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(backend)?)
}

/// The database may panic on a file that something else has changed.
fn unless_damaged<T>(read: impl FnOnce() -> Result<T, Unusable>) -> Result<T, Unusable> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(Unusable::Damaged))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::iter::once;
    use std::num::NonZeroU32;

    use proptest::prelude::*;
    use redb::{ReadableTable, TableDefinition};

    use super::*;
    use crate::model::{
        Change, Holder, Key, Mode, RestoredSession, Secret, SessionNumber, StoredGrant,
        StoredSession, Token, digest,
    };
    use crate::store::disk::faulty::{Dice, FaultyDisk};
    use crate::store::{Changes, Room};

    /// The state that a store should hold: a batch in which nothing is over.
    type Expected = Batch;

    fn apply(expected: &mut Expected, batch: &Batch) {
        for (token, grant) in &batch.grants {
            match grant {
                Some(grant) => drop(expected.grants.insert(*token, Some(grant.clone()))),
                None => drop(expected.grants.remove(token)),
            }
        }
        for (number, session) in &batch.sessions {
            match session {
                Some(session) => drop(expected.sessions.insert(*number, Some(session.clone()))),
                None => drop(expected.sessions.remove(number)),
            }
        }
    }

    fn holds_all_of(expected: &Expected, restored: &Restored) -> bool {
        let grants = expected
            .grants
            .iter()
            .map(|(token, grant)| (*token, grant.clone()));
        let sessions = expected.sessions.iter().map(|(number, session)| {
            let session = session.clone().expect("it lives");
            RestoredSession {
                number: *number,
                grace: session.grace,
                secret: session.secret.map(digest),
                user: session.user,
            }
        });
        let tokens_go_on = expected
            .grants
            .last_key_value()
            .is_none_or(|(token, _)| *token <= restored.tokens_above);
        let restored_grants = restored.grants.iter().cloned();
        tokens_go_on
            && restored_grants
                .map(|(token, grant)| (token, Some(grant)))
                .eq(grants)
            && restored.sessions.iter().cloned().eq(sessions)
    }

    fn bytes(dice: &mut Dice) -> Key {
        let length = dice.below(40);
        let bytes: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
        Key::new(&bytes)
    }

    fn grant(dice: &mut Dice) -> StoredGrant {
        StoredGrant {
            holder: match dice.below(2) {
                0 => Holder::Session(SessionNumber(dice.below(5))),
                _ => Holder::Owner(bytes(dice)),
            },
            key: bytes(dice),
            mode: match dice.below(3) {
                0 => Mode::Exclusive,
                1 => Mode::Slot(NonZeroU32::MIN.saturating_add(dice.below(5) as u32)),
                _ => Mode::Shared(bytes(dice)),
            },
            lease: (dice.below(3) == 0).then(|| Duration::from_millis(dice.below(1 << 40))),
        }
    }

    /// A few grants, releases, and sessions that come and go; tokens grow.
    fn batch(dice: &mut Dice, next_token: &mut u64) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..=dice.below(30) {
            let number = SessionNumber(dice.below(5));
            batch.add(match dice.below(8) {
                0 => Change::SessionOver(number),
                1 => Change::Session(
                    number,
                    StoredSession {
                        grace: Duration::from_millis(dice.below(1 << 40)),
                        secret: (dice.below(2) == 0).then(|| Secret(dice.below(u64::MAX).into())),
                        user: (dice.below(2) == 0).then(|| bytes(dice)),
                    },
                ),
                2..5 => Change::Released(Token(1 + dice.below(1 + *next_token))),
                _ => {
                    *next_token += 1 + dice.below(3);
                    Change::Granted(Token(*next_token), grant(dice))
                }
            });
        }
        batch
    }

    fn open_all(disk: &FaultyDisk) -> (RedbStorage<FaultyDisk>, Restored) {
        RedbStorage::open(disk.clone()).expect("the disk works")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_was_committed_is_read_back(seed in 1..u64::MAX) {
            let (mut dice, disk, mut next_token) = (Dice(seed), FaultyDisk::default(), 0);
            let mut expected = Expected::default();
            for _ in 0..5 {
                let (mut store, restored) = open_all(&disk);
                prop_assert!(holds_all_of(&expected, &restored));
                for _ in 0..dice.below(5) {
                    let batch = batch(&mut dice, &mut next_token);
                    prop_assert_eq!(store.commit(&batch), Ok(()));
                    apply(&mut expected, &batch);
                }
            }
        }

        /// The power is lost at any write or sync, of the first start, of a commit, of the repair;
        /// or the process is killed, and its writes are there.
        #[test]
        fn a_crash_loses_nothing_that_was_committed(seed in 1..u64::MAX) {
            let (mut dice, mut disk, mut next_token) = (Dice(seed), FaultyDisk::default(), 0);
            let mut expected = Expected::default();
            for _ in 0..8 {
                disk.power_for(dice.below(60) as u32);
                let mut last = Batch::default();
                if let Ok((mut store, restored)) = RedbStorage::open(disk.clone()) {
                    prop_assert!(holds_all_of(&expected, &restored));
                    while disk.has_power() {
                        last = batch(&mut dice, &mut next_token);
                        if store.commit(&last).is_err() {
                            break;
                        }
                        apply(&mut expected, &std::mem::take(&mut last));
                    }
                }
                disk = match dice.below(2) {
                    0 => disk.after_kill(),
                    _ => disk.after_power_loss(&mut dice),
                };
                // A commit that was not answered may be there or not.
                let (_, restored) = open_all(&disk);
                if !holds_all_of(&expected, &restored) {
                    apply(&mut expected, &last);
                    prop_assert!(holds_all_of(&expected, &restored));
                }
            }
        }

        /// Writes, syncs and space fail for a while. The batch that failed grows and is tried again;
        /// once it is committed, even a loss of power takes nothing away.
        #[test]
        fn a_commit_that_failed_can_be_tried_again(seed in 1..u64::MAX, syncs in any::<bool>()) {
            let (mut dice, mut disk, mut next_token) = (Dice(seed), FaultyDisk::default(), 0);
            let mut expected = Expected::default();
            for _ in 0..5 {
                let (mut store, restored) = open_all(&disk);
                prop_assert!(holds_all_of(&expected, &restored));
                let mut all = Batch::default();
                for attempt in 0..4 {
                    let fails = attempt < 3 && dice.below(3) > 0;
                    disk.set_sync_fails(fails && syncs);
                    disk.set_bytes_free((fails && !syncs).then_some(0));
                    let more = batch(&mut dice, &mut next_token);
                    all.grants.extend(more.grants);
                    all.sessions.extend(more.sessions);
                    match store.commit(&all) {
                        Ok(()) => apply(&mut expected, &std::mem::take(&mut all)),
                        Err(why) => prop_assert!(fails, "{why}"),
                    }
                }
                disk = disk.after_power_loss(&mut dice);
            }
        }

        /// All faults in any order: syncs that fail and lose their writes, a process that ends or
        /// goes on, and losses of power, also during a recovery.
        #[test]
        fn faults_that_come_together_lose_nothing_that_was_committed(seed in 1..u64::MAX) {
            let (mut dice, mut disk, mut next_token) = (Dice(seed), FaultyDisk::default(), 0);
            let mut expected = Expected::default();
            // A failed commit may be there or not, until another commit decides it.
            let mut open_tries = vec![Batch::default()];
            let mut store = None;
            for _ in 0..40 {
                match dice.below(8) {
                    0 => disk.fail_a_sync_in(dice.below(6) as u32),
                    1 => store = None,
                    2 => disk.power_for(dice.below(20) as u32),
                    _ => {}
                }
                if !disk.has_power() {
                    store = None;
                    disk = disk.after_power_loss(&mut dice);
                }
                if store.is_none() {
                    let Ok((opened, restored)) = RedbStorage::open(disk.clone()) else {
                        // The open fails for a reason that passes.
                        continue;
                    };
                    let fits = open_tries.iter().position(|tried| {
                        let mut expected = expected.clone();
                        apply(&mut expected, tried);
                        holds_all_of(&expected, &restored)
                    });
                    prop_assert!(fits.is_some(), "something is lost");
                    let tried = open_tries.swap_remove(fits.unwrap_or(0));
                    apply(&mut expected, &tried);
                    open_tries = vec![Batch::default()];
                    store = Some(opened);
                }
                let mut all = open_tries.last().cloned().unwrap_or_default();
                let more = batch(&mut dice, &mut next_token);
                all.grants.extend(more.grants);
                all.sessions.extend(more.sessions);
                if let Some(store) = &mut store {
                    match store.commit(&all) {
                        Ok(()) => {
                            apply(&mut expected, &all);
                            open_tries = vec![Batch::default()];
                        }
                        Err(_) => open_tries.push(all),
                    }
                }
            }
            disk = disk.after_power_loss(&mut dice);
            let opened = RedbStorage::open(disk);
            prop_assert!(opened.is_ok(), "{opened:?}");
        }

        /// A file that something else has changed is refused, or the change did not matter.
        #[test]
        fn damage_is_found(seed in 1..u64::MAX) {
            let (mut dice, disk, mut next_token) = (Dice(seed), FaultyDisk::default(), 0);
            let mut expected = Expected::default();
            let (mut store, _) = open_all(&disk);
            for _ in 0..5 {
                let batch = batch(&mut dice, &mut next_token);
                prop_assert_eq!(store.commit(&batch), Ok(()));
                apply(&mut expected, &batch);
            }
            drop(store);
            disk.tamper(FILE, |bytes| {
                let at = dice.below(bytes.len() as u64) as usize;
                match dice.below(3) {
                    0 => bytes.truncate(at),
                    1 => bytes[at] ^= 1 << dice.below(8),
                    _ => {
                        let length = bytes.len();
                        bytes[at..length.min(at + 4096)].fill(0);
                    }
                }
            });
            let opened = RedbStorage::open(disk);
            if let Ok((_, restored)) = opened {
                prop_assert!(holds_all_of(&expected, &restored));
            }
        }

        /// Two steps of migration, and the power is lost between or within them.
        #[test]
        fn an_old_format_is_migrated_once(seed in 1..u64::MAX) {
            const COUNT: TableDefinition<'_, u64, u64> = TableDefinition::new("count");
            fn first(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
                transaction.open_table(COUNT)?.insert(1, 1)?;
                Ok(())
            }
            fn second(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
                let mut count = transaction.open_table(COUNT)?;
                let before = count.get(1)?.map_or(0, |count| count.value());
                count.insert(1, before * 10 + 2)?;
                Ok(())
            }
            let (mut dice, mut disk, mut next_token) = (Dice(seed), FaultyDisk::default(), 0);
            let mut expected = Expected::default();
            let (mut store, _) = RedbStorage::open_with(disk.clone(), &[]).expect("the disk works");
            let batch = batch(&mut dice, &mut next_token);
            prop_assert_eq!(store.commit(&batch), Ok(()));
            apply(&mut expected, &batch);
            drop(store);
            let history: [&[Migration]; 4] = [&[], &[first], &[first, second], &[first, second]];
            for known in history {
                disk.power_for(dice.below(30) as u32);
                let _ = RedbStorage::open_with(disk.clone(), known);
                disk = disk.after_power_loss(&mut dice);
            }
            let (store, restored) = RedbStorage::open_with(disk.clone(), &[first, second])
                .expect("the disk works");
            prop_assert!(holds_all_of(&expected, &restored));
            let database = store.database.as_ref().expect("open");
            let transaction = database.begin_write().expect("the disk works");
            let count = transaction.open_table(COUNT).expect("it was made");
            prop_assert_eq!(count.get(1).expect("it reads").map(|count| count.value()), Some(12));
            drop(count);
            drop((transaction, store));
            let refused = RedbStorage::open_with(disk, &[first]).map(drop);
            let is_newer = matches!(refused, Err(Unusable::Newer { found: 3, known: 2 }));
            prop_assert!(is_newer, "{refused:?}");
        }
    }

    /// A disk with a store whose server was killed after its last commit, and the expected state.
    fn killed() -> (FaultyDisk, Expected) {
        let (mut dice, disk, mut next_token) = (Dice(187), FaultyDisk::default(), 0);
        let mut expected = Expected::default();
        let (mut store, _) = open_all(&disk);
        for _ in 0..6 {
            let mut batch = batch(&mut dice, &mut next_token);
            next_token += 1;
            batch.add(Change::Granted(Token(next_token), grant(&mut dice)));
            assert_eq!(store.commit(&batch), Ok(()));
            apply(&mut expected, &batch);
        }
        (disk.after_kill(), expected)
    }

    /// The database alone would fall back to the commit before, without an error.
    #[test]
    fn after_a_kill_a_flipped_bit_is_refused_or_does_not_matter() {
        const HEADER: usize = 320;
        let (disk, expected) = killed();
        let mut refused = 0;
        let bits = (0..HEADER * 8).chain((HEADER * 8..disk.len(FILE) * 8).step_by(4001));
        for bit in bits {
            let disk = disk.after_kill();
            disk.tamper(FILE, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match RedbStorage::open(disk) {
                Ok((_, restored)) => assert!(holds_all_of(&expected, &restored), "bit {bit}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > HEADER, "{refused} were refused");
    }

    #[test]
    fn an_older_copy_is_refused_as_long_as_the_note_is_there() {
        let disk = FaultyDisk::default();
        let (mut store, _) = open_all(&disk);
        let older = disk.after_kill();
        assert_eq!(store.commit(&Batch::default()), Ok(()));
        drop(store);
        assert_eq!(disk.noted_commit().expect("it reads"), Some(1));
        older.note_commit(1).expect("the disk works");
        let opened = RedbStorage::open(older.after_kill()).map(drop);
        let is_behind = matches!(opened, Err(Unusable::Behind { found: 0, noted: 1 }));
        assert!(is_behind, "{opened:?}");
        older.forget_commits().expect("the disk works");
        drop(open_all(&older));
    }

    #[test]
    fn an_empty_file_is_not_taken_for_a_new_store() {
        let disk = FaultyDisk::default();
        drop(open_all(&disk));
        disk.tamper(FILE, Vec::clear);
        assert!(matches!(
            RedbStorage::open(disk.clone()).map(drop),
            Err(Unusable::NoStore)
        ));
        assert_eq!(disk.len(FILE), 0);
    }

    /// A grant of a key of 3,000 bytes.
    fn large_grant(token: u64) -> Change {
        grant_of(token, 3000)
    }

    fn grant_of(token: u64, bytes: usize) -> Change {
        let grant = StoredGrant {
            holder: Holder::Session(SessionNumber(1)),
            key: Key::new(&vec![0; bytes]),
            mode: Mode::Exclusive,
            lease: None,
        };
        Change::Granted(Token(token), grant)
    }

    fn commit(
        store: &mut RedbStorage<FaultyDisk>,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), NotStored> {
        let mut batch = Batch::default();
        changes.into_iter().for_each(|change| batch.add(change));
        store.commit(&batch)
    }

    /// A disk of eight megabytes that its store has filled with grants, and the number of these.
    fn full_disk() -> (FaultyDisk, RedbStorage<FaultyDisk>, u64) {
        let disk = FaultyDisk::default();
        disk.set_bytes_free(Some(8 << 20));
        let (mut store, _) = open_all(&disk);
        let mut tokens = 0;
        while store.has_room() {
            tokens += 1;
            assert_eq!(commit(&mut store, [large_grant(tokens)]), Ok(()));
        }
        assert!(tokens > 500, "{tokens} filled it");
        (disk, store, tokens)
    }

    /// All at once, and every second one first: that changes all pages, and frees none.
    #[test]
    fn a_full_disk_stores_what_ends_and_has_room_again() {
        let (_disk, mut store, tokens) = full_disk();
        let released = |first: u64| {
            (first..=tokens)
                .step_by(2)
                .map(|one| Change::Released(Token(one)))
        };
        assert_eq!(commit(&mut store, released(1)), Ok(()));
        assert_eq!(commit(&mut store, released(2)), Ok(()));
        assert!(store.make_room());
        assert_eq!(commit(&mut store, [large_grant(tokens + 1)]), Ok(()));
        assert!(store.has_room());
    }

    /// A release passes a lock to more waiters than there is room for: they are not stored, and it is,
    /// as is all that is released after it.
    #[tokio::test]
    async fn a_full_disk_stores_a_release_that_grants_too_much() {
        // In a few changes, and in many.
        for (waiters, bytes) in [(20, 100_000), (1000, 3000)] {
            let (disk, store, tokens) = full_disk();
            let (changes, writer) = Changes::to(store).expect("a thread");
            let grants = (tokens + 1..=tokens + waiters).map(|one| grant_of(one, bytes));
            let granted = changes.push_all(once(Change::Released(Token(1))).chain(grants));
            assert!(changes.durable(granted).await.is_err());
            let (_, restored) = open_all(&disk.after_kill());
            assert_eq!(restored.grants[0].0, Token(2));
            assert_eq!(restored.grants.len() as u64, tokens - 1);

            assert_eq!(changes.accept(Room::NotNeeded), Ok(()));
            let released = (2..=tokens + waiters).map(|one| Change::Released(Token(one)));
            let released = changes.push_all(released);
            assert_eq!(writer.finish(), Ok(()));
            assert_eq!(changes.durable(released).await, Ok(()));
            assert_eq!(open_all(&disk.after_kill()).1.grants, []);
        }
    }

    /// All grants of a full disk but the first are over, which leaves much in the file.
    fn full_disk_with_room_in_the_file() -> (FaultyDisk, RedbStorage<FaultyDisk>) {
        let (disk, mut store, tokens) = full_disk();
        let released = (2..=tokens).map(|one| Change::Released(Token(one)));
        assert_eq!(commit(&mut store, released), Ok(()));
        (disk, store)
    }

    #[test]
    fn a_full_store_is_not_compacted_for_little() {
        let (disk, mut store, _) = full_disk();
        assert_eq!(commit(&mut store, [Change::Released(Token(1))]), Ok(()));
        // A compaction would fail.
        disk.set_sync_fails(true);
        assert!(!store.make_room());
        assert!(store.database.is_some());
    }

    #[test]
    fn a_compaction_that_failed_is_not_tried_again_at_once() {
        let (disk, mut store) = full_disk_with_room_in_the_file();
        disk.set_sync_fails(true);
        assert!(!store.make_room());
        assert!(store.database.is_none());
        let soon = Instant::now() + PAUSE_AFTER_FAILURE / 2;
        assert!(store.compacted.not_again_before > Some(soon));
        disk.set_sync_fails(false);
        assert_eq!(commit(&mut store, [Change::Released(Token(1))]), Ok(()));
        disk.set_sync_fails(true);
        assert!(!store.make_room());
        assert!(store.database.is_some());
        store.compacted.not_again_before = Some(Instant::now());
        disk.set_sync_fails(false);
        assert!(store.make_room());
        assert!(!store.compacted.failed);
    }

    /// What it left in memory is not used any more.
    #[test]
    fn after_a_compaction_that_panics_the_store_is_opened_anew() {
        let (disk, mut store) = full_disk_with_room_in_the_file();
        disk.set_sync_panics();
        assert!(catch_unwind(AssertUnwindSafe(|| store.make_room())).is_err());
        assert!(store.database.is_none());
        assert_eq!(commit(&mut store, [Change::Released(Token(1))]), Ok(()));
        assert_eq!(open_all(&disk.after_kill()).1.grants, []);
    }

    #[test]
    fn a_full_disk_is_full_after_a_restart_until_something_ends() {
        let (disk, store, tokens) = full_disk();
        drop(store);
        let (mut store, restored) = open_all(&disk);
        assert_eq!(restored.grants.len() as u64, tokens);
        assert!(!store.has_room());
        assert_eq!(
            commit(
                &mut store,
                (1..=tokens).map(|one| Change::Released(Token(one)))
            ),
            Ok(())
        );
        drop(store);
        let (store, _) = open_all(&disk);
        assert!(store.has_room());
    }

    /// The state is kept and not its history: a hundred thousand locks come and go, and a thousand
    /// stay.
    #[test]
    fn the_file_does_not_grow_with_what_was_done() {
        let (disk, mut dice) = (FaultyDisk::default(), Dice(1));
        let (mut store, _) = open_all(&disk);
        let mut sizes = Vec::new();
        for round in 0..100_u64 {
            let mut batch = Batch::default();
            for token in round * 1000..(round + 1) * 1000 {
                batch.add(Change::Granted(Token(token), grant(&mut dice)));
                if let Some(old) = token.checked_sub(1000) {
                    batch.add(Change::Released(Token(old)));
                }
            }
            assert_eq!(store.commit(&batch), Ok(()));
            sizes.push(disk.len(FILE));
        }
        let (early, late) = (sizes[10], sizes[99]);
        assert!(late <= early * 2, "{early} bytes, and then {late}");
    }

    #[test]
    fn numbers_are_reserved_above_all_that_were_given() {
        let disk = FaultyDisk::default();
        let mut given = 0;
        for _ in 0..3 {
            let (mut store, restored) = open_all(&disk);
            assert!(restored.tokens_above >= Token(given));
            given = restored.tokens_above.0 + 1;
            let grants = BTreeMap::from([(Token(given), None)]);
            let batch = Batch {
                grants,
                ..Batch::default()
            };
            assert_eq!(store.commit(&batch), Ok(()));
        }
    }
}
