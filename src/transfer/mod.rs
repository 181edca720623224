//! `elockd export` and `elockd import`: locks and sessions from where one server keeps them to where others
//! will, by way of a file.

mod file;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, Command, value_parser};

pub use file::BadFile;

#[cfg(feature = "cluster")]
use crate::config::ClusterSettings;
use crate::config::{Config, Kept};
use crate::model::Restored;
use crate::store::disk;
#[cfg(feature = "cluster")]
use crate::store::etcd;

const EXPORT: &str = "\
Writes the locks and sessions that a server keeps to standard output, for `elockd import`:
  elockd export --data-dir /var/lib/elockd > locks
  elockd export --etcd http://10.0.0.5:2379 > locks
A directory is read while no server uses it; etcd also while servers do, as it is at one moment.
The file has no passwords and no secrets of sessions (only their SHA-256), but all names of locks.";

const IMPORT: &str = "\
Keeps the locks and sessions of a file that `elockd export` has written:
  elockd import --etcd http://10.0.0.5:2379 locks
  sudo -u elockd elockd import --data-dir /var/lib/elockd locks
Only where none were kept before, and while no server runs there. Stop all servers first, export,
import, and start those that go on. Grace periods and leases begin anew then.";

/// Why nothing was exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The directory.
    #[error(transparent)]
    Directory(Box<disk::DirectoryError>),
    /// etcd.
    #[cfg(feature = "cluster")]
    #[error("etcd, below {namespace}: {error}")]
    Etcd {
        /// What the keys there begin with.
        namespace: String,
        /// What is wrong.
        error: Box<etcd::CopyError>,
    },
    /// The file to import.
    #[error("{}: {why}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: BadFile,
    },
    /// Standard output.
    #[error("cannot write the export: {0}")]
    Output(io::Error),
}

/// What has been done, for people.
#[derive(Debug)]
pub struct Transferred {
    locks: usize,
    sessions: usize,
}

impl std::fmt::Display for Transferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { locks, sessions } = self;
        write!(f, "locks: {locks}, sessions: {sessions}")
    }
}

/// Exports or imports, if the arguments of the program, of which the first is its name, say so. Bad ones,
/// and a question for help, end the process.
///
/// # Errors
///
/// The first thing that is wrong. Then nothing is imported that a server would go on from.
pub fn transfer(arguments: &[OsString]) -> Option<Result<Transferred, TransferError>> {
    let word = arguments.get(1)?.to_str()?;
    let read = |command| match Config::where_kept(command, &arguments[1..]) {
        Ok(read) => read,
        Err(error) => error.exit(),
    };
    Some(match word {
        "export" => export(&read(command(word, EXPORT)).0),
        "import" => {
            let (to, matches) = read(command(word, IMPORT).arg(file_argument()));
            let file = matches.get_one::<PathBuf>(FILE);
            import(file.expect("it is required"), &to)
        }
        _ => return None,
    })
}

/// The argument of `import`.
const FILE: &str = "file";

fn file_argument() -> Arg {
    Arg::new(FILE)
        .required(true)
        .value_name("FILE")
        .help_heading(None::<&str>)
        .value_parser(value_parser!(PathBuf))
        .help("What `elockd export` has written")
}

/// The command of this word, which is the first of its arguments. It takes all settings of a server, so that it
/// can be run with the same variables; its help shows those that matter.
fn command(word: &str, about: &'static str) -> Command {
    use clap::CommandFactory;
    let matters = |id: &str| {
        id == "data_dir"
            || id.starts_with("etcd") && id != "etcd_compact"
            || matches!(id, "help" | "version")
    };
    Config::command()
        .bin_name(format!("elockd {word}"))
        .about(about)
        .after_help("")
        .mut_args(|argument| {
            let is_hidden = !matters(argument.get_id().as_str());
            argument.hide(is_hidden)
        })
}

fn export(from: &Kept) -> Result<Transferred, TransferError> {
    let state = read_state(from)?;
    let mut output = BufWriter::new(io::stdout().lock());
    file::write(&state, &mut output)
        .and_then(|()| output.flush())
        .map_err(TransferError::Output)?;
    Ok(Transferred::all_of(&state))
}

fn import(file: &Path, to: &Kept) -> Result<Transferred, TransferError> {
    let open = File::open(file).map_err(BadFile::from);
    let state = open.and_then(|open| file::read(BufReader::new(open)));
    let state = state.map_err(|why| TransferError::File {
        file: file.to_owned(),
        why,
    })?;
    fill(to, &state)?;
    Ok(Transferred::all_of(&state))
}

impl Transferred {
    fn all_of(state: &Restored) -> Self {
        Self {
            locks: state.grants.len(),
            sessions: state.sessions.len(),
        }
    }
}

fn read_state(from: &Kept) -> Result<Restored, TransferError> {
    match from {
        Kept::Directory(path) => {
            disk::read_state(path).map_err(|error| TransferError::Directory(Box::new(error)))
        }
        #[cfg(feature = "cluster")]
        Kept::Etcd(settings) => in_etcd(settings, etcd::read_state),
    }
}

fn fill(to: &Kept, state: &Restored) -> Result<(), TransferError> {
    match to {
        Kept::Directory(path) => {
            disk::fill(path, state).map_err(|error| TransferError::Directory(Box::new(error)))
        }
        #[cfg(feature = "cluster")]
        Kept::Etcd(settings) => in_etcd(settings, |access, names| etcd::fill(access, names, state)),
    }
}

#[cfg(feature = "cluster")]
fn in_etcd<T>(
    settings: &ClusterSettings,
    act: impl FnOnce(&etcd::Access, &etcd::Names) -> Result<T, etcd::CopyError>,
) -> Result<T, TransferError> {
    let names = etcd::Names::below(&settings.etcd_namespace);
    let access = settings.access().map_err(etcd::CopyError::from);
    let done = access.and_then(|access| act(&access, &names));
    done.map_err(|error| TransferError::Etcd {
        namespace: settings.etcd_namespace.clone(),
        error: Box::new(error),
    })
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::real_etcd::RealEtcd;
    use crate::model::{Holder, Key, Mode, RestoredSession, SessionNumber, StoredGrant, Token};
    use crate::store::{Batch, Storage};

    /// More than one entry of a log takes.
    fn state() -> Restored {
        let grant = |token: u64| StoredGrant {
            holder: Holder::Session(SessionNumber(7)),
            key: Key::new(&[token as u8; 4000]),
            mode: Mode::Exclusive,
            lease: Some(Duration::from_secs(token)),
        };
        Restored {
            // Above all that live.
            tokens_above: Token(5000),
            session_numbers_above: SessionNumber(9),
            grants: (1..600).map(|token| (Token(token), grant(token))).collect(),
            sessions: vec![RestoredSession {
                number: SessionNumber(7),
                grace: Duration::from_secs(30),
                secret: Some([3; 32]),
                user: Some(Key::new(b"report")),
            }],
        }
    }

    fn on(etcd: &RealEtcd) -> Kept {
        Kept::Etcd(Box::new(ClusterSettings {
            etcd: etcd.access.urls.clone(),
            ..Config::default().cluster
        }))
    }

    fn by_file(state: &Restored) -> Restored {
        let mut file = Vec::new();
        file::write(state, &mut file).expect("memory takes all");
        file::read(&file[..]).expect("it reads")
    }

    #[test]
    fn a_state_goes_from_a_directory_to_etcd_and_back() {
        let Some(etcd) = RealEtcd::start() else {
            return;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let [first, last] =
            ["first", "last"].map(|name| Kept::Directory(directory.path().join(name)));
        fill(&first, &state()).expect("it is empty");
        let exported = read_state(&first).expect("it is there");
        assert_eq!(exported, state());
        let etcd = on(&etcd);
        let nothing = read_state(&etcd).expect_err("nothing is there yet");
        assert!(
            nothing.to_string().contains("no server has ever"),
            "{nothing}"
        );
        fill(&etcd, &by_file(&exported)).expect("it is empty");
        let exported = read_state(&etcd).expect("it is there");
        assert_eq!(exported, state());
        fill(&last, &by_file(&exported)).expect("it is empty");
        assert_eq!(read_state(&last).expect("it is there"), state());
        for full in [&first, &etcd, &last] {
            for other in [Restored::default(), state()] {
                assert!(fill(full, &other).is_err());
            }
            assert_eq!(read_state(full).expect("it is there"), state());
        }
    }

    #[test]
    fn nothing_is_imported_while_somebody_leads_or_uses_the_directory() {
        let Some(etcd) = RealEtcd::start() else {
            return;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let (mut storage, _) = disk::open(directory.path()).expect("a store");
        let kept = Kept::Directory(directory.path().to_owned());
        let in_use = fill(&kept, &state()).expect_err("a server uses it");
        assert!(in_use.to_string().contains("in use"), "{in_use}");
        assert!(read_state(&kept).is_err());
        // Also when it has nothing any more that lives, but had.
        let released = [(Token(3), None)].into();
        let batch = Batch {
            grants: released,
            ..Batch::default()
        };
        storage.commit(&batch).expect("there is room");
        drop(storage);
        let used = fill(&kept, &state()).expect_err("it was used");
        assert!(used.to_string().contains("was used"), "{used}");
        let kept = on(&etcd);
        let leader =
            r#"{"id":"a","address":"10.0.0.5:11401","secret":"","version":"","lead_ttl_ms":1}"#;
        etcd.put("/elock/leader", leader);
        let led = fill(&kept, &state()).expect_err("somebody leads");
        assert!(led.to_string().contains("10.0.0.5:11401 leads"), "{led}");
        etcd.delete("/elock/leader");
        fill(&kept, &state()).expect("nobody leads");
        // And nobody is kept from leading any longer than it takes.
        assert_eq!(etcd.get("/elock/leader"), "");
    }
}
