//! A disk beneath a real server that fails when it is told to: see `failing_disk.c`.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::ELOCKD;

/// What fails, and which calls: one in so many, as the seed says.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Writes, with this error.
    Write(&'static str, u64),
    /// Writes, of which half of the bytes arrive.
    Torn(u64),
    /// Syncs, which do nothing.
    Sync(u64),
    /// No sync comes to an end.
    Hang,
}

/// A directory on such a disk.
pub struct FailingDisk {
    home: tempfile::TempDir,
    directory: PathBuf,
}

impl FailingDisk {
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home
            .path()
            .canonicalize()
            .expect("it is there")
            .join("data");
        std::fs::create_dir(&directory).expect("it is made");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/failing_disk.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        compiler.arg(home.path().join("shim.so")).arg(source);
        let compiled = compiler
            .arg("-ldl")
            .status()
            .expect("cc, as rustc links with it");
        assert!(compiled.success());
        Self { home, directory }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The server on this disk.
    pub fn command(&self) -> Command {
        let mut command = Command::new(ELOCKD);
        command
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&self.directory)
            .env("LD_PRELOAD", self.home.path().join("shim.so"))
            .env("FAILING_DISK_UNDER", &self.directory)
            .env("FAILING_DISK_CONTROL", self.control());
        command
    }

    /// From here on this fails.
    pub fn fails(&self, fault: Fault, seed: u64) {
        self.says(match fault {
            Fault::Write(error, one_in) => format!("write {error} {one_in} {seed}"),
            Fault::Torn(one_in) => format!("torn EIO {one_in} {seed}"),
            Fault::Sync(one_in) => format!("sync EIO {one_in} {seed}"),
            Fault::Hang => format!("hang EIO 1 {seed}"),
        });
    }

    pub fn works(&self) {
        self.says("");
    }

    /// In one step, as the server may read it at any moment.
    fn says(&self, text: impl Display) {
        let new = self.home.path().join("control.new");
        std::fs::write(&new, text.to_string()).expect("it is written");
        std::fs::rename(new, self.control()).expect("it is renamed");
    }

    fn control(&self) -> PathBuf {
        self.home.path().join("control")
    }
}
