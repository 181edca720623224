//! Where the bytes of a store are: files with names, of which one can take another's place.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

/// A directory, or in tests a disk that fails and loses its power.
pub(super) trait Medium: fmt::Debug + Send + 'static {
    /// Whether there is a file of this name.
    fn exists(&self, name: &str) -> io::Result<bool>;

    /// Opens the file of this name, which is created empty if there is none.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// Gives the file `from` the name `to`, and what had that name is gone; all or nothing, and
    /// durable on return.
    fn replace(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the file of this name if there is one.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Passes everything on, and remembers whether a sync has failed: what was written before it is
/// then in no known state, although it may read as if it were there.
#[derive(Debug)]
pub(super) struct Watched {
    inner: Box<dyn StorageBackend>,
    sync_failed: Arc<AtomicBool>,
}

impl Watched {
    pub(super) fn new(inner: Box<dyn StorageBackend>, sync_failed: &Arc<AtomicBool>) -> Self {
        let sync_failed = Arc::clone(sync_failed);
        Self { inner, sync_failed }
    }
}

/// Without the locks of ranges, which default to "not supported": the directory has one of its own.
impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.inner.sync_data();
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Relaxed);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
