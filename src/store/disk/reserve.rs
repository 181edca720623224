//! A file that keeps room on the disk for the time when the disk is full. Then it is removed, and what ends
//! can be stored in its place.

use std::fs::{File, Metadata, OpenOptions, remove_file};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use super::directory::private;

const FILE: &str = "elockd.reserve";

/// Ends are written in small pieces, so that this is enough for any number of them.
const MOST_BYTES: u64 = 4 << 20;

/// Of a small disk it is one part of so many.
const PART_OF_DISK: u64 = 8;

/// Makes the reserve, unless it is there.
///
/// # Errors
///
/// When the disk has no room for it and as much again: what leaves no room is not kept for long.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    let path = directory.join(FILE);
    let file = private(OpenOptions::new().create(true)).open(&path)?;
    let bytes = bytes_on(&file)?;
    if allocated(&file.metadata()?) >= bytes {
        return Ok(());
    }
    let made = allocate(&file, 2 * bytes).and_then(|()| file.set_len(bytes));
    if made.is_err() {
        give_up(directory)?;
    }
    made
}

/// Gives the room back to the disk.
pub(super) fn give_up(directory: &Path) -> io::Result<()> {
    match remove_file(directory.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// True if an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// How many bytes of the disk a file takes: holes in it take none.
pub(super) fn allocated(file: &Metadata) -> u64 {
    file.blocks() * 512
}

/// How large the reserve is on the disk of `file`.
fn bytes_on(file: &File) -> io::Result<u64> {
    let disk = fstatvfs(file)?;
    Ok(match disk.f_blocks.saturating_mul(disk.f_frsize) {
        // It has no bound, or does not tell it.
        0 => MOST_BYTES,
        bytes => MOST_BYTES.min(bytes / PART_OF_DISK),
    })
}

fn allocate(mut file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
            file.sync_all()
        }
        allocated => Ok(allocated?),
    }
}
