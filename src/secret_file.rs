//! Files with secrets.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tracing::warn;

/// A secret that every user of the machine can read keeps none of them out.
pub(crate) fn warn_of_readers(path: &Path) {
    let is_open = |meta: Metadata| meta.permissions().mode() & 0o004 != 0;
    if path.metadata().is_ok_and(is_open) {
        warn!(
            "{0} can be read by every user of this machine: chmod o= {0}",
            path.display()
        );
    }
}

/// No file of users or passwords is longer than this, in bytes.
#[cfg(any(feature = "auth", feature = "cluster"))]
const LONGEST: u64 = 4 << 20;

/// Reads a whole file, and warns if every user could. Blocks.
#[cfg(any(feature = "auth", feature = "cluster"))]
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;

    let file = std::fs::File::open(path)?;
    warn_of_readers(path);
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(std::io::Error::other("it is too long")),
        false => Ok(bytes),
    }
}

/// What stands in a file of one password, without its line's end; `None` if there are several lines.
#[cfg(any(feature = "auth", feature = "cluster"))]
pub(crate) fn only_line(bytes: &[u8]) -> Option<&[u8]> {
    // An editor ends the last line.
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (!line.contains(&b'\n')).then_some(line)
}
