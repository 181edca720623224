//! The time of day of each elockd, which libfaketime steps. What etcd's nodes are told by the kernel it cannot
//! change: their leases do not go by it.

use std::path::{Path, PathBuf};

use super::network::{MACHINES, shell};

/// How far a clock steps, in seconds: by more than any trial lasts.
const STEP: i64 = 24 * 3600;

/// Where a clock is: as far from the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Right,
    Ahead,
    Behind,
}

#[derive(Debug)]
pub struct Clocks {
    library: String,
    directory: PathBuf,
}

impl Clocks {
    /// All are right.
    ///
    /// # Errors
    ///
    /// If there is no libfaketime here.
    pub fn new(directory: &Path) -> Result<Self, String> {
        let library = shell("ls /usr/lib/*/faketime/libfaketimeMT.so.1")
            .map_err(|_| "there is no libfaketime here")?;
        let clocks = Self {
            library,
            directory: directory.to_owned(),
        };
        (0..MACHINES).for_each(|machine| clocks.step(machine, Clock::Right));
        Ok(clocks)
    }

    /// What a process needs to go by the clock of this machine. Only the time of day is another, no span of time.
    pub fn environment(&self, machine: usize) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.clone()),
            (
                "FAKETIME_TIMESTAMP_FILE",
                self.file(machine).display().to_string(),
            ),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    pub fn step(&self, machine: usize, clock: Clock) {
        let seconds = match clock {
            Clock::Right => 0,
            Clock::Ahead => STEP,
            Clock::Behind => -STEP,
        };
        let (file, new) = (self.file(machine), self.file(machine).with_extension("new"));
        // Nobody reads half of it.
        std::fs::write(&new, format!("{seconds:+}")).expect("a file");
        std::fs::rename(new, file).expect("a file");
    }

    /// Removes what libfaketime keeps of a process that was killed.
    pub fn forget(process: u32) {
        for kept in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = std::fs::remove_file(format!("/dev/shm/{kept}{process}"));
        }
    }

    /// Whether a log has a line of a clock that was so: half a step from now and further.
    pub fn was(&self, clock: Clock, log: &Path) -> bool {
        let (sign, order) = match clock {
            Clock::Right => return true,
            Clock::Ahead => ("+", ">"),
            Clock::Behind => ("-", "<"),
        };
        let (half, log) = (STEP / 2, log.display());
        let lines = format!(
            "limit=$(date -u -d '{sign}{half} seconds' +%FT%T)
            awk -v limit=\"$limit\" '/^2[0-9-]*T/ && $1 {order} limit {{ found = 1 }} END {{ exit !found }}' {log}"
        );
        shell(&lines).is_ok()
    }

    fn file(&self, machine: usize) -> PathBuf {
        self.directory.join(format!("clock-{machine}"))
    }
}
