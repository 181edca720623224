//! The files of a store, by name; one can take another's place.

use std::fmt;
use std::io;

use redb::StorageBackend;

/// A directory, or in tests a disk that fails and loses its power.
pub(super) trait Files: fmt::Debug + Send + 'static {
    /// Whether there is a file of this name.
    fn exists(&self, name: &str) -> io::Result<bool>;

    /// How many bytes of the disk the file of this name takes.
    fn size(&self, name: &str) -> io::Result<u64>;

    /// Opens the file of this name. It reads as it is on disk, without writes that were lost when a
    /// sync failed.
    fn open(&self, name: &str) -> io::Result<Backend>;

    /// Makes a new, empty file of this name, in place of an older one.
    fn create(&self, name: &str) -> io::Result<Backend>;

    /// Gives the file `from` the name `to`, in place of the file that had it; all or nothing, and
    /// durable on return.
    fn replace(&self, from: &str, to: &str) -> io::Result<()>;

    /// Notes that the commit with this number is durable, beside the files. The note outlives the
    /// process; a loss of power may bring an earlier one back.
    fn note_commit(&self, number: u64) -> io::Result<()>;

    /// The last noted number; `None` if there is no note that can be read.
    fn noted_commit(&self) -> io::Result<Option<u64>>;

    /// Removes the note; durable on return.
    fn forget_commits(&self) -> io::Result<()>;

    /// How many bytes of the disk are free.
    fn bytes_free(&self) -> io::Result<u64>;

    /// Takes some room of the disk, unless that was done before. `StorageFull` if too little is left.
    fn make_reserve(&self) -> io::Result<()>;

    /// Gives the room back, if it was taken.
    fn give_up_reserve(&self) -> io::Result<()>;
}

/// An open file of any [`Files`]. Without range locks, which default to "not supported": the
/// directory has its own locks.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Box<dyn StorageBackend>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}
