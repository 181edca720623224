//! The source of session secrets.

use std::fs::File;
use std::io::{self, Read};

use crate::model::Secret;

/// The kernel's random numbers. Opened once, so that a server that has run out of file
/// descriptors can still draw secrets.
#[derive(Debug)]
pub(crate) struct Entropy(File);

impl Entropy {
    pub(crate) fn open() -> io::Result<Self> {
        let path = "/dev/urandom";
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot open {path}: {error}"));
        File::open(path).map(Self).map_err(named)
    }

    pub(crate) fn secret(&self) -> io::Result<Secret> {
        let mut bytes = [0; 16];
        (&self.0).read_exact(&mut bytes)?;
        Ok(Secret(u128::from_ne_bytes(bytes)))
    }
}
