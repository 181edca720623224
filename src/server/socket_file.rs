//! The file of a unix socket, for as long as a server listens on it.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixSocket, UnixStream};
use tracing::debug;

use super::listener::AddressUnavailable;

/// Only the user of the server may lock the file.
const LOCK_FILE_MODE: u32 = 0o600;

/// The bytes of a path that Linux has room for, in an address of 108 with a NUL at its end.
const MAX_PATH: usize = 107;

/// A bound socket's file, which is removed at the end. Drop this before the socket: as long as the
/// socket is open, no other file can get the same identity.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    /// Held for longer than the file is there, so that no other server starts on the path before
    /// this one has left it.
    _lock: File,
}

impl SocketFile {
    /// Binds a new socket to `path`, where a killed server may have left the file of its socket.
    ///
    /// # Errors
    ///
    /// When a server listens there, something else than a socket is there, or the system refuses the
    /// path, the socket or the lock file beside it.
    pub(super) async fn bind(path: &Path) -> Result<(UnixSocket, Self), AddressUnavailable> {
        check_length(path)?;
        // Before the lock file is made, as it would stay beside a file that is no socket.
        is_socket(path)?;
        let lock = lock(path)?;
        remove_stale(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = Self {
            path: path.to_owned(),
            identity: identity(&std::fs::symlink_metadata(path)?),
            _lock: lock,
        };
        Ok((socket, file))
    }
}

impl Drop for SocketFile {
    /// Removes the file unless another one has taken its place, which then belongs to another server.
    fn drop(&mut self) {
        let removed = match std::fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) != self.identity => {
                Err(io::Error::other("it is another server's"))
            }
            Ok(_) => std::fs::remove_file(&self.path),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            debug!("not removing {}: {error}", self.path.display());
        }
    }
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Locks the file beside the socket at `path`. Otherwise, of two servers that find the same stale
/// socket, the slower one would remove the new socket of the faster one, and both would run. A
/// server keeps the lock also if the file of its socket was removed: it may still have clients, and
/// a second server would grant other clients the same keys.
///
/// The lock file stays when the server ends. If it were removed, another server might have opened
/// it just before; the next one would make a new file, and both would have a lock.
fn lock(path: &Path) -> Result<File, AddressUnavailable> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(LOCK_FILE_MODE);
    let locked = options
        .open(&lock)
        .map_err(TryLockError::Error)
        .and_then(|file| file.try_lock().map(|()| file));
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => AddressUnavailable::Locked { lock },
        TryLockError::Error(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(path).to_owned();
            AddressUnavailable::NoDirectory { directory }
        }
        TryLockError::Error(error) => AddressUnavailable::LockFile { lock, error },
    })
}

fn check_length(path: &Path) -> Result<(), AddressUnavailable> {
    let length = path.as_os_str().len();
    match length > MAX_PATH {
        true => Err(AddressUnavailable::PathTooLong {
            length,
            max: MAX_PATH,
        }),
        false => Ok(()),
    }
}

/// Whether a socket is at `path`, rather than nothing.
fn is_socket(path: &Path) -> Result<bool, AddressUnavailable> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(true),
        Ok(_) => Err(AddressUnavailable::NoSocket),
        // If it is an error for the socket, too, the system says so again.
        Err(_) => Ok(false),
    }
}

/// Removes a socket that no server listens on, and nothing else.
async fn remove_stale(path: &Path) -> Result<(), AddressUnavailable> {
    if !is_socket(path)? {
        return Ok(());
    }
    // Not the connect of `std`, which waits for a server that accepts too slowly.
    match UnixStream::connect(path)
        .await
        .map_err(|error| error.kind())
    {
        Err(io::ErrorKind::ConnectionRefused) => Ok(std::fs::remove_file(path)?),
        Ok(_) | Err(io::ErrorKind::WouldBlock) => Err(AddressUnavailable::Served),
        Err(_) => Ok(()),
    }
}
