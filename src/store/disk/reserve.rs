//! A file that keeps room on the disk for the time when the disk is full. Then it is removed, and what ends
//! can be stored in its place.

use std::fs::{File, Metadata, OpenOptions, remove_file};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};

use super::directory::private;

const FILE: &str = "elockd.reserve";

/// Ends are written in small pieces, so that this is enough for any number of them.
pub(super) const MOST_BYTES: u64 = 4 << 20;

/// Of a small disk it is one part of so many.
pub(super) const PART_OF_DISK: u64 = 8;

/// Makes the reserve, unless it is there.
///
/// # Errors
///
/// When the disk has no room for it and as much again: what leaves no room is not kept for long. Any other
/// error than that of a full disk means that the disk tells of room enough.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    make_on(&statvfs(directory)?, directory)
}

/// The same in a directory of the disk of which `disk` tells.
fn make_on(disk: &StatVfs, directory: &Path) -> io::Result<()> {
    let (path, bytes) = (directory.join(FILE), bytes_on(disk));
    if std::fs::metadata(&path).is_ok_and(|file| allocated(&file) >= bytes) {
        return Ok(());
    }
    let made = take(disk, &path, bytes);
    if made.is_err() {
        give_up(directory)?;
    }
    made
}

/// The disk is asked first: to try would take its last bytes from others for a moment.
fn take(disk: &StatVfs, path: &Path, bytes: u64) -> io::Result<()> {
    if free_on(disk) < 2 * bytes {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file = private(OpenOptions::new().create(true)).open(path)?;
    allocate(&file, 2 * bytes)?;
    file.set_len(bytes)
}

/// How many bytes are free on the disk of a directory.
pub(super) fn bytes_free(directory: &Path) -> io::Result<u64> {
    Ok(free_on(&statvfs(directory)?))
}

fn free_on(disk: &StatVfs) -> u64 {
    match tells_its_size(disk) {
        true => disk.f_bavail.saturating_mul(disk.f_frsize),
        false => u64::MAX,
    }
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

/// How large the reserve is on a disk.
fn bytes_on(disk: &StatVfs) -> u64 {
    match tells_its_size(disk) {
        true => MOST_BYTES.min(disk.f_blocks.saturating_mul(disk.f_frsize) / PART_OF_DISK),
        false => MOST_BYTES,
    }
}

/// False of a disk that has no bound, or does not tell it.
fn tells_its_size(disk: &StatVfs) -> bool {
    disk.f_blocks > 0 && disk.f_frsize > 0
}

fn allocate(mut file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
            file.sync_all()
        }
        allocated => Ok(allocated?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_of_a_disk_are_not_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let mut disk = statvfs(path).expect("it tells");
        (disk.f_blocks, disk.f_frsize) = (1 << 30, 1);
        disk.f_bavail = 2 * MOST_BYTES - 1;
        let refused = make_on(&disk, path).expect_err("there is too little");
        assert!(is_full(&refused), "{refused}");
        assert!(!path.join(FILE).exists());
        disk.f_bavail = 2 * MOST_BYTES;
        make_on(&disk, path).expect("there is enough");
        let made = std::fs::metadata(path.join(FILE)).expect("it is there");
        assert_eq!(allocated(&made), MOST_BYTES);
        // Room that was taken before is kept.
        disk.f_bavail = 0;
        make_on(&disk, path).expect("it is there");
    }

    /// Otherwise the server would take a disk for one with room, again and again.
    #[test]
    fn a_full_disk_is_full_also_where_no_reserve_can_be_made_for_another_reason() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("is gone");
        let mut disk = statvfs(directory.path()).expect("it tells");
        (disk.f_blocks, disk.f_frsize, disk.f_bavail) = (1 << 30, 1, 0);
        assert!(make_on(&disk, &path).is_err_and(|error| is_full(&error)));
        disk.f_bavail = 1 << 30;
        assert!(make_on(&disk, &path).is_err_and(|error| !is_full(&error)));
    }
}
