//! Opens the directory of a store, which one server uses at a time.

use std::fmt;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use redb::StorageBackend;
use redb::backends::FileBackend;
use tracing::{info, warn};

use super::database::{FILE, RedbStorage};
use super::files::{Backend, Files};
use super::format::Unusable;
use super::reserve::{self, allocated};
use crate::model::Restored;
use crate::store::Storage;

/// The file that is locked for as long as a server uses the directory. It stays there, with a
/// [`Note`] in it.
const LOCK_FILE: &str = "elockd.lock";

/// What is so without [`LOCK_FILE`].
const NOT_NOTICED: &str = "a store that lacks its last commit is not noticed";

/// Only the server's user may read the keys.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why a directory cannot be used. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be created, read or written.
    #[error("cannot use the data directory {path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another server uses the directory.
    #[error(
        "the data directory {path} is in use: another elockd runs on it. \
         Stop that one, or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file in it is no store, or a damaged one.
    #[error(
        "cannot read the store {file}: {reason}. Nothing is served, because locks that are held could \
         be given away. When no client works under a lock any more, move the file away to start \
         with none"
    )]
    Unreadable {
        /// The store's file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store was written by a later version of the program.
    #[error("cannot read the store {file}: {reason}. Start the later version that wrote it")]
    Newer {
        /// The store's file.
        file: PathBuf,
        /// The formats of the store and of this program.
        reason: String,
    },
}

impl OpenError {
    /// True if another try would end the same way.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Unreadable { .. } | Self::Newer { .. })
    }

    /// True if another directory, or other permissions, have to be set.
    pub fn is_bad_setting(&self) -> bool {
        use io::ErrorKind::{NotADirectory, PermissionDenied};
        let is_bad = |error: &io::Error| matches!(error.kind(), NotADirectory | PermissionDenied);
        matches!(self, Self::Directory { error, .. } if is_bad(error))
    }
}

/// Why the state of a directory was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The directory, or the store in it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is nothing to read.
    #[error("there is no store: {} does not exist", .0.display())]
    NoStore(PathBuf),
    /// Nothing is written over other locks.
    #[error("{} has a store already, which is or was used: name a new directory", .0.display())]
    NotEmpty(PathBuf),
    /// The disk, or the database on it.
    #[error("it cannot be stored: {0}")]
    NotStored(String),
}

/// Opens the store in the directory `path`, which is created if it is not there, and reads the
/// state that it has kept. No other server can open it until the storage is dropped.
///
/// # Errors
///
/// When the directory is in use, or cannot be created, read or written, or its store cannot be
/// read.
pub fn open(path: &Path) -> Result<(impl Storage + use<>, Restored), OpenError> {
    open_store(path)
}

/// Reads the state of a store that no server uses.
pub(crate) fn read_state(path: &Path) -> Result<Restored, DirectoryError> {
    let file = path.join(FILE);
    match file.try_exists() {
        Ok(true) => Ok(open_store(path)?.1),
        Ok(false) => Err(DirectoryError::NoStore(file)),
        Err(error) => Err(failed(path, error).into()),
    }
}

/// Makes a store with this state, where there is none or one that was never used.
pub(crate) fn fill(path: &Path, state: &Restored) -> Result<(), DirectoryError> {
    let (mut storage, found) = open_store(path)?;
    if found != Restored::default() {
        return Err(DirectoryError::NotEmpty(path.to_owned()));
    }
    let stored = storage.fill(state);
    stored.map_err(|why| DirectoryError::NotStored(why.to_string()))
}

fn open_store(path: &Path) -> Result<(RedbStorage<Directory>, Restored), OpenError> {
    let failed = |error| failed(path, error);
    make(path).map_err(failed)?;
    let had_lock_file = path.join(LOCK_FILE).exists();
    let directory = Directory::claim(path).map_err(failed)?;
    if !directory.exists(FILE).map_err(failed)? {
        tell_of_new_store(path, directory.noted_commit().map_err(failed)?);
    } else if !had_lock_file {
        warn!("{LOCK_FILE} is gone: {NOT_NOTICED}");
    }
    RedbStorage::open(directory).map_err(|unusable| match unusable.into_io() {
        Ok(error) => failed(error),
        Err(unusable) => unreadable(path, &unusable),
    })
}

/// Only the first start makes a store in silence: locks that were held may have been lost with one.
fn tell_of_new_store(path: &Path, noted: Option<u64>) {
    let file = path.join(FILE);
    match noted {
        Some(commit @ 1..) => warn!(
            "{LOCK_FILE} tells of commit {commit}, and {} is gone: all its locks are free now. \
             Making a new, empty store",
            file.display()
        ),
        _ => info!("making a new, empty store in {}", path.display()),
    }
}

/// The error that the system gave for a directory or the files in it.
fn failed(path: &Path, error: io::Error) -> OpenError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { path },
        _ => OpenError::Directory { path, error },
    }
}

fn unreadable(path: &Path, unusable: &Unusable) -> OpenError {
    let (file, reason) = (path.join(FILE), unusable.to_string());
    match unusable {
        Unusable::Newer { .. } => OpenError::Newer { file, reason },
        _ => OpenError::Unreadable { file, reason },
    }
}

/// The error for a store in `path` that was read, and contradicts itself.
pub(crate) fn contradictory(path: &Path, contradiction: &impl std::fmt::Display) -> OpenError {
    OpenError::Unreadable {
        file: path.join(FILE),
        reason: contradiction.to_string(),
    }
}

/// A directory that this server alone uses.
///
/// Two files are locked for that, for as long as this lives. Before there is a database, only
/// [`LOCK_FILE`] keeps two servers apart that start at the same time. But somebody may remove that
/// file, as it looks superfluous: so the database is locked as well.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    lock: Mutex<File>,
    database: OnceLock<Claimed>,
}

/// The database file that was found at first. No other file can take its place: it would lack the
/// later commits.
#[derive(Debug)]
struct Claimed {
    identity: Identity,
    /// A lock belongs to the open file that took it. After a failure the database is opened anew,
    /// and this file stays open. So there is no moment without the lock; and the lock conflicts
    /// with none of this server's own, as the files for reading and writing are not locked.
    _locked: File,
}

impl Directory {
    /// # Errors
    ///
    /// `WouldBlock` if another server uses it.
    fn claim(path: &Path) -> io::Result<Self> {
        Ok(Self {
            lock: Mutex::new(lock_file(path)?),
            database: OnceLock::new(),
            path: path.to_owned(),
        })
    }

    /// Locks the database, or checks that it is still the locked one.
    fn claim_database(&self, path: &Path, file: &File) -> io::Result<()> {
        let found = identity(&file.metadata()?);
        let claimed = match self.database.get() {
            Some(claimed) => claimed,
            None => {
                let locked = private(&mut OpenOptions::new()).open(path)?;
                locked.try_lock()?;
                let identity = identity(&locked.metadata()?);
                let _locked = locked;
                self.database.get_or_init(|| Claimed { identity, _locked })
            }
        };
        match claimed.identity == found {
            true => Ok(()),
            false => Err(moved(path)),
        }
    }

    /// Whether the file of this name was there, and this server has it.
    fn is_claimed(&self, name: &str) -> bool {
        name == FILE && self.database.get().is_some()
    }

    fn lock_file(&self) -> MutexGuard<'_, File> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes and locks [`LOCK_FILE`] again if somebody has removed it. The database's own lock
    /// keeps other servers out meanwhile; a server that is just about to find that lock may hold
    /// the new file for a moment.
    fn kept_lock_file(&self) -> io::Result<MutexGuard<'_, File>> {
        let mut lock = self.lock_file();
        if is_at(&self.path.join(LOCK_FILE), identity(&lock.metadata()?)) {
            return Ok(lock);
        }
        match lock_file(&self.path) {
            Ok(new) => {
                let path = self.path.display();
                warn!("somebody has removed {LOCK_FILE} from {path}: made it again");
                *lock = new;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(lock)
    }
}

fn lock_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = private(options.create(true)).open(directory.join(LOCK_FILE))?;
    file.try_lock()?;
    Ok(file)
}

/// The text of [`LOCK_FILE`]: the number of the last commit, twice, so that a text that is damaged
/// or half written is not believed.
#[derive(Debug, PartialEq, Eq)]
struct Note(u64);

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All notes have one length, so that each overwrites the one before.
        writeln!(f, "{:020} {:020}", self.0, self.0)
    }
}

impl FromStr for Note {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let note = text
            .get(..20)
            .and_then(|number| number.parse().ok())
            .map(Note);
        note.filter(|note| note.to_string() == text).ok_or(())
    }
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn is_at(path: &Path, expected: Identity) -> bool {
    std::fs::metadata(path).is_ok_and(|found| identity(&found) == expected)
}

/// Makes the directory and its parents if they are not there. Their names are on disk on return.
fn make(path: &Path) -> io::Result<()> {
    if path.exists() && !path.is_dir() {
        // The system would say that it exists, which is what the user wants of a directory.
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is no directory",
        ));
    }
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(DIRECTORY_MODE).create(path)?;
    let above = missing.into_iter().filter_map(Path::parent);
    above.chain([path]).try_for_each(sync)
}

/// Writes the names in a directory to disk.
fn sync(directory: &Path) -> io::Result<()> {
    let here = directory.as_os_str().is_empty();
    let directory = if here { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).write(true).mode(FILE_MODE)
}

fn backend(file: File, path: PathBuf) -> io::Result<Backend> {
    let metadata = file.metadata()?;
    let file = StoreFile {
        path,
        identity: identity(&metadata),
        length: AtomicU64::new(metadata.len()),
        inner: FileBackend::new(file).map_err(io::Error::other)?,
    };
    Ok(Backend(Box::new(file)))
}

impl Files for Directory {
    fn exists(&self, name: &str) -> io::Result<bool> {
        self.path.join(name).try_exists()
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(allocated(&std::fs::metadata(self.path.join(name))?))
    }

    /// After a failed sync, the system may keep pages that it could not write as if it had written
    /// them. They are dropped here, so that later reads come from the disk.
    fn open(&self, name: &str) -> io::Result<Backend> {
        let path = self.path.join(name);
        let opened = private(&mut OpenOptions::new()).open(&path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if self.is_claimed(name) => moved(&path),
            _ => error,
        })?;
        if name == FILE {
            self.claim_database(&path, &file)?;
        }
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        backend(file, path)
    }

    fn create(&self, name: &str) -> io::Result<Backend> {
        let mut options = OpenOptions::new();
        let path = self.path.join(name);
        let file = private(options.create(true)).open(&path)?;
        // Locked before it is emptied, as another server may just be making it.
        file.try_lock()?;
        file.set_len(0)?;
        backend(file, path)
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))?;
        sync(&self.path)
    }

    fn note_commit(&self, number: u64) -> io::Result<()> {
        let note = Note(number).to_string();
        self.kept_lock_file()?.write_all_at(note.as_bytes(), 0)
    }

    fn noted_commit(&self) -> io::Result<Option<u64>> {
        let mut note = String::new();
        let mut lock = self.lock_file();
        lock.rewind()?;
        // A damaged note may not even be text.
        let read = lock.read_to_string(&mut note);
        let Note(number) = match (read, note.parse()) {
            (Ok(0), _) => return Ok(None),
            (Ok(_), Ok(noted)) => noted,
            (Err(error), _) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
            _ => {
                warn!("{LOCK_FILE} is damaged: {NOT_NOTICED}");
                return Ok(None);
            }
        };
        Ok(Some(number))
    }

    fn forget_commits(&self) -> io::Result<()> {
        let lock = self.lock_file();
        lock.set_len(0)?;
        lock.sync_all()
    }

    fn bytes_free(&self) -> io::Result<u64> {
        reserve::bytes_free(&self.path)
    }

    fn make_reserve(&self) -> io::Result<()> {
        reserve::make(&self.path)
    }

    fn give_up_reserve(&self) -> io::Result<()> {
        reserve::give_up(&self.path)
    }
}

fn moved(path: &Path) -> io::Error {
    let path = path.display();
    io::Error::other(format!(
        "somebody has moved, removed or replaced the store's file {path}"
    ))
}

fn changed(path: &Path) -> io::Error {
    let path = path.display();
    io::Error::other(format!("somebody has changed the store's file {path}"))
}

/// A file that somebody may move away or cut off while it is in use. Later writes to it would not be found
/// at the next start, so they are errors.
#[derive(Debug)]
struct StoreFile {
    inner: FileBackend,
    path: PathBuf,
    identity: Identity,
    length: AtomicU64,
}

impl StoreFile {
    /// Whether the file is still at its place, and as long as it was made.
    fn check(&self) -> io::Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(found) if identity(&found) != self.identity => Err(moved(&self.path)),
            Ok(found) if found.len() != self.length.load(Ordering::Relaxed) => {
                Err(changed(&self.path))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(moved(&self.path)),
        }
    }
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)?;
        self.length.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()?;
        self.check()
    }

    /// A commit begins with the header. What it writes later may give a file that was cut off its old
    /// length.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 {
            self.check()?;
        }
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
