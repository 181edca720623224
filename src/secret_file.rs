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
