//! A disk for tests, which loses its power, its writes or its space on demand.
//!
//! Writes that were not synced may be there after a loss of power or not, each write and each of
//! its sectors by itself. A failed sync loses its writes, although they can still be read until the
//! file is opened again: so do real systems.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::files::{Backend, Files};

const SECTOR: usize = 512;

const BLOCK: usize = 4096;

/// The room that a reserve takes.
const RESERVE: usize = 1 << 20;

#[derive(Debug, Clone, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    files: BTreeMap<String, Contents>,
    /// The power is lost after this many more writes and syncs.
    power_for: Option<u32>,
    sync_fails: bool,
    /// Whether the next sync panics.
    sync_panics: bool,
    /// One sync fails after this many others.
    one_sync_fails_in: Option<u32>,
    /// A rename from the first name to the second that is not on disk yet.
    unsynced_name: Option<(String, String)>,
    /// How many bytes all blocks can take that were ever written to.
    capacity: Option<usize>,
    has_reserve: bool,
    noted: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    synced: Vec<u8>,
    seen: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Those that are no holes.
    blocks: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum Unsynced {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

/// A random number generator, good enough for tests.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

impl FaultyDisk {
    pub(super) fn power_for(&self, operations: u32) {
        self.with(|state| state.power_for = Some(operations));
    }

    pub(super) fn has_power(&self) -> bool {
        self.with(|state| state.power_for != Some(0))
    }

    pub(super) fn set_sync_fails(&self, fails: bool) {
        self.with(|state| state.sync_fails = fails);
    }

    /// One time.
    pub(super) fn set_sync_panics(&self) {
        self.with(|state| state.sync_panics = true);
    }

    pub(super) fn fail_a_sync_in(&self, syncs: u32) {
        self.with(|state| state.one_sync_fails_in = Some(syncs));
    }

    pub(super) fn set_bytes_free(&self, bytes: Option<usize>) {
        self.with(|state| state.capacity = bytes.map(|bytes| state.used() + bytes));
    }

    /// The disk as it is found when the power comes back.
    pub(super) fn after_power_loss(&self, dice: &mut Dice) -> Self {
        let mut state = self.with(|state| state.clone());
        if let Some((from, to)) = state.unsynced_name.take()
            && dice.below(2) == 0
        {
            state.rename(&from, &to);
        }
        for contents in state.files.values_mut() {
            let mut found = contents.synced.clone();
            for unsynced in &contents.unsynced {
                unsynced.apply_partly(&mut found, dice);
            }
            *contents = Contents {
                synced: found.clone(),
                seen: found,
                unsynced: Vec::new(),
                blocks: std::mem::take(&mut contents.blocks),
            };
        }
        state.noted = state.noted.map(|last| last - dice.below(last + 1));
        Self::as_found(state)
    }

    /// The disk as the next process finds it, after one that was killed at this moment.
    pub(super) fn after_kill(&self) -> Self {
        Self::as_found(self.with(|state| state.clone()))
    }

    /// With what is on the disk, and no fault.
    fn as_found(state: State) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: state.files,
            noted: state.noted,
            has_reserve: state.has_reserve,
            ..State::default()
        })))
    }

    /// Changes a file on the disk without the store's knowledge.
    pub(super) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.with(|state| {
            let contents = state.files.get_mut(name).expect("it is there");
            change(&mut contents.seen);
            contents.synced = contents.seen.clone();
        });
    }

    pub(super) fn len(&self, name: &str) -> usize {
        self.with(|state| state.files.get(name).map_or(0, |file| file.seen.len()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().expect("no test panics in here"))
    }
}

impl State {
    fn use_power(&mut self) -> io::Result<()> {
        match &mut self.power_for {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> usize {
        let blocks = self.files.values().map(|file| file.blocks.len());
        blocks.sum::<usize>() * BLOCK + usize::from(self.has_reserve) * RESERVE
    }

    /// Takes blocks for what is written, and gives back those behind a new end.
    fn allocate(&mut self, name: &str, change: &Unsynced) -> io::Result<()> {
        let (used, capacity) = (self.used(), self.capacity);
        let blocks = &mut self.file(name)?.blocks;
        match change {
            Unsynced::Length(length) => drop(blocks.split_off(&length.div_ceil(BLOCK))),
            Unsynced::Bytes(at, bytes) => {
                let written = at / BLOCK..(at + bytes.len()).div_ceil(BLOCK);
                let new = written.clone().filter(|block| !blocks.contains(block));
                let needed = used + new.count() * BLOCK;
                if capacity.is_some_and(|capacity| needed > capacity) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                blocks.extend(written);
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) {
        if let Some(file) = self.files.remove(from) {
            self.files.insert(to.to_owned(), file);
        }
    }

    fn sync_fails(&mut self) -> bool {
        let one = match &mut self.one_sync_fails_in {
            Some(0) => {
                self.one_sync_fails_in = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        one || self.sync_fails
    }

    fn file(&mut self, name: &str) -> io::Result<&mut Contents> {
        self.files
            .get_mut(name)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Unsynced {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Length(length) => to.resize(*length, 0),
            Self::Bytes(at, bytes) => {
                to.resize(to.len().max(at + bytes.len()), 0);
                to[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    fn apply_partly(&self, to: &mut Vec<u8>, dice: &mut Dice) {
        match self {
            Self::Length(_) if dice.below(2) == 0 => self.apply(to),
            Self::Length(_) => {}
            Self::Bytes(at, bytes) => {
                let all = dice.below(3);
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    if all == 0 || (all == 1 && dice.below(2) == 0) {
                        Self::Bytes(at + index * SECTOR, sector.to_vec()).apply(to);
                    }
                }
            }
        }
    }
}

impl Files for FaultyDisk {
    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.with(|state| state.files.contains_key(name)))
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.with(|state| Ok((state.file(name)?.blocks.len() * BLOCK) as u64))
    }

    fn open(&self, name: &str) -> io::Result<Backend> {
        let file = OpenFile {
            disk: self.clone(),
            name: name.to_owned(),
        };
        file.sync_data()?;
        self.with(|state| {
            let contents = state.file(name)?;
            contents.seen = contents.synced.clone();
            Ok(Backend(Box::new(file)))
        })
    }

    fn create(&self, name: &str) -> io::Result<Backend> {
        self.with(|state| {
            state.use_power()?;
            state.files.insert(name.to_owned(), Contents::default());
            io::Result::Ok(())
        })?;
        self.open(name)
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|state| {
            state.use_power()?;
            state.unsynced_name = Some((from.to_owned(), to.to_owned()));
            state.use_power()?;
            state.unsynced_name = None;
            state.rename(from, to);
            Ok(())
        })
    }

    fn note_commit(&self, number: u64) -> io::Result<()> {
        self.with(|state| {
            state.use_power()?;
            state.noted = Some(number);
            Ok(())
        })
    }

    fn noted_commit(&self) -> io::Result<Option<u64>> {
        Ok(self.with(|state| state.noted))
    }

    fn forget_commits(&self) -> io::Result<()> {
        self.with(|state| {
            state.use_power()?;
            state.noted = None;
            Ok(())
        })
    }

    fn bytes_free(&self) -> io::Result<u64> {
        let free = |state: &mut State| state.capacity.map(|bytes| bytes - state.used());
        Ok(self.with(free).map_or(u64::MAX, |bytes| bytes as u64))
    }

    fn make_reserve(&self) -> io::Result<()> {
        self.with(|state| {
            state.use_power()?;
            let needed = state.used() + 2 * RESERVE;
            if !state.has_reserve && state.capacity.is_some_and(|capacity| needed > capacity) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.has_reserve = true;
            Ok(())
        })
    }

    fn give_up_reserve(&self) -> io::Result<()> {
        self.with(|state| {
            state.use_power()?;
            state.has_reserve = false;
            Ok(())
        })
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: FaultyDisk,
    name: String,
}

impl OpenFile {
    fn change(&self, change: Unsynced) -> io::Result<()> {
        self.disk.with(|state| {
            state.use_power()?;
            state.allocate(&self.name, &change)?;
            let file = state.file(&self.name)?;
            change.apply(&mut file.seen);
            file.unsynced.push(change);
            Ok(())
        })
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.disk
            .with(|state| Ok(state.file(&self.name)?.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.with(|state| {
            let seen = &state.file(&self.name)?.seen;
            let bytes = seen.get(offset as usize..offset as usize + out.len());
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Unsynced::Length(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let panics = self
            .disk
            .with(|state| std::mem::take(&mut state.sync_panics));
        assert!(!panics, "a fault of the storage");
        self.disk.with(|state| {
            state.use_power()?;
            let fails = state.sync_fails();
            let file = state.file(&self.name)?;
            let unsynced = std::mem::take(&mut file.unsynced);
            if fails {
                return Err(io::Error::other("a bad sector"));
            }
            // Writes that an earlier, failed sync lost are not among these.
            for change in unsynced {
                change.apply(&mut file.synced);
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Unsynced::Bytes(offset as usize, data.to_vec()))
    }
}
