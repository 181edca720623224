//! What commands under one lock write down, and what may not stand there.
//!
//! Each line is appended to one file, which is the moment that counts: a line of a command that stands
//! behind the first line of its successor was written by one that was no holder any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file, and one beside it that keeps commands running for as long as it is there.
pub struct Journal {
    directory: tempfile::TempDir,
}

/// A line: who was alive, under which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub process: u32,
    pub token: u64,
    at_ns: u64,
}

impl Journal {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Self { directory };
        fs::write(journal.path(), "").expect("a file");
        journal
    }

    /// The command: writes its marks for a moment, and for as long as it is held.
    pub fn script(&self) -> String {
        let (path, hold) = (self.path(), self.hold_path());
        format!(
            "mark() {{ echo \"$$ $ELOCK_TOKEN $(date +%s%N)\" >>'{}'; }}
            mark; mark; mark; while test -e '{}'; do mark; sleep 0.005; done; mark",
            path.display(),
            hold.display()
        )
    }

    /// Whether commands run on and on.
    pub fn hold(&self, is_held: bool) {
        match is_held {
            true => fs::write(self.hold_path(), "").expect("a file"),
            false => fs::remove_file(self.hold_path()).unwrap_or(()),
        }
    }

    pub fn marks(&self) -> Vec<Mark> {
        let text = fs::read_to_string(self.path()).expect("a file");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(parse).collect()
    }

    pub fn latest(&self) -> Option<Mark> {
        self.marks().pop()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("marks")
    }

    fn hold_path(&self) -> PathBuf {
        Path::new(self.directory.path()).join("hold")
    }
}

fn parse(line: &str) -> Mark {
    let mut words = line.split(' ').map(|word| word.parse::<u64>());
    let mut next = || words.next().and_then(Result::ok);
    let parsed = (|| {
        Some(Mark {
            process: u32::try_from(next()?).ok()?,
            token: next()?,
            at_ns: next()?,
        })
    })();
    parsed.unwrap_or_else(|| panic!("no mark: {line:?}"))
}

/// What is wrong with the marks of commands that exclude each other, each of which may go on for so
/// long after its successor has begun.
pub fn violations(marks: &[Mark], late: Duration) -> Vec<String> {
    let late_ns = u64::try_from(late.as_nanos()).expect("a short time");
    let mut wrong = Vec::new();
    let mut latest: Option<Mark> = None;
    for mark in marks {
        let Some(first) = latest else {
            latest = Some(*mark);
            continue;
        };
        let since_ns = mark.at_ns.saturating_sub(first.at_ns);
        if mark.token > first.token {
            latest = Some(*mark);
        } else if mark.token == first.token && mark.process != first.process {
            wrong.push(format!("{mark:?} has the token of {first:?}"));
        } else if mark.token < first.token && (late_ns == 0 || since_ns > late_ns) {
            wrong.push(format!("{mark:?} came {since_ns} ns after {first:?}"));
        }
    }
    wrong
}

/// A mark, for a test of the checker.
pub fn mark(process: u32, token: u64, at_ns: u64) -> Mark {
    Mark {
        process,
        token,
        at_ns,
    }
}
