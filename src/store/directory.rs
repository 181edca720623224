//! A directory of files, used by one server at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;
use tracing::info;

use super::embedded::{Embedded, FILE};
use super::medium::Medium;
use super::tables::Unusable;
use super::{Restored, Storage};

/// Locked for as long as a server uses the directory. It stays there, empty.
const LOCK_FILE: &str = "elockd.lock";

/// Keys may be nobody else's business.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why a directory cannot be used. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be created, read or written.
    #[error("cannot use the data directory {path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another server uses it.
    #[error(
        "the data directory {path} is in use: another elockd runs on it. \
         Stop that one, or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The store in it is no store, damaged, or of a later version.
    #[error(
        "cannot read the store {file}: {reason}. Nothing is served, because locks that are held could \
         be given away. Put a good copy of the file back or, if nobody holds a lock any more, move \
         it away to start with none"
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
        /// Which versions those are.
        reason: String,
    },
}

/// Opens the store in the directory `path`, which is created if it is not there, and reads what was
/// kept. Nobody else can open it until the storage is dropped.
///
/// # Errors
///
/// When it is in use, or cannot be created, read or written.
pub fn open(path: &Path) -> Result<(impl Storage + use<>, Restored), OpenError> {
    let failed = |error| OpenError::Directory {
        path: path.to_owned(),
        error,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
        .map_err(failed)?;
    let directory = Directory {
        lock: private_file(&path.join(LOCK_FILE)).map_err(failed)?,
        path: path.to_owned(),
    };
    directory.lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::InUse {
            path: path.to_owned(),
        },
        TryLockError::Error(error) => failed(error),
    })?;
    if !directory.exists(FILE).map_err(failed)? {
        info!("making a new, empty store in {}", path.display());
    }
    Embedded::open(directory).map_err(|unusable| {
        let (file, reason) = (path.join(FILE), unusable.to_string());
        match unusable {
            Unusable::Newer { .. } => OpenError::Newer { file, reason },
            _ => OpenError::Unreadable { file, reason },
        }
    })
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Medium for Directory {
    fn exists(&self, name: &str) -> io::Result<bool> {
        self.path.join(name).try_exists()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = private_file(&self.path.join(name))?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn replace(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    options.mode(FILE_MODE).open(path)
}
