//! A store's file that something has damaged: the server starts with what is in it, or says what is
//! wrong, and never with a panic, nor in a loop.

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use elock::model::{Ask, AskedFor, Limits, Mode, Owner, Peer, Value};
use elock::store::{Changes, disk};
use elock::table::{LockTable, TokenClock};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    locks: 100,
    locks_per_session: 100,
    waiters_per_key: 100,
    sessions_in_grace: 100,
    max_hold: None,
    equal_values_pass: false,
};

// Each five bytes are a place in the file, as a fraction of its length, and what is put there.
fuzz_target!(|damage: &[u8]| {
    let sound = sound();
    let directory = tempfile::tempdir().expect("a directory");
    let mut file = sound.bytes.clone();
    for wound in damage.chunks_exact(5) {
        let place = u32::from_le_bytes([wound[0], wound[1], wound[2], wound[3]]);
        let at = place as usize % file.len();
        file[at] = wound[4];
    }
    fs::write(directory.path().join(&sound.name), &file).expect("room");
    if let Ok((storage, restored)) = disk::open(directory.path()) {
        let (changes, writer) = Changes::to(storage).expect("a thread");
        // What contradicts itself is an error of its own.
        let _ = LockTable::restore(
            LIMITS,
            TokenClock::default(),
            changes,
            restored,
            (Instant::now(), Duration::ZERO),
        );
        let _ = writer.finish();
    }
});

struct Sound {
    name: String,
    bytes: Vec<u8>,
}

/// The file of a store with sessions, and locks of every kind.
fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        fill(directory.path());
        let files = fs::read_dir(directory.path()).expect("a directory");
        let largest = files
            .map(|file| file.expect("a file"))
            .max_by_key(|file| file.metadata().expect("a file").len())
            .expect("the store's file");
        Sound {
            name: largest.file_name().into_string().expect("a plain name"),
            bytes: fs::read(largest.path()).expect("a file"),
        }
    })
}

fn fill(path: &Path) {
    let (storage, restored) = disk::open(path).expect("an empty directory");
    let (changes, writer) = Changes::to(storage).expect("a thread");
    let now = Instant::now();
    let restored = LockTable::restore(
        LIMITS,
        TokenClock::default(),
        changes,
        restored,
        (now, Duration::ZERO),
    );
    let (table, _) = restored.expect("nothing contradicts itself");
    let mut session = table.open(Peer::Unix(None), Duration::from_secs(30));
    let modes = [Mode::Exclusive, Mode::Shared(Value::new(b"v"))];
    for (at, mode) in modes.into_iter().cycle().take(20).enumerate() {
        let holder = match at % 3 {
            0 => AskedFor::Owner(Owner::new(b"o"), Some(Duration::from_secs(60))),
            _ => AskedFor::Session,
        };
        let ask = Ask { mode, holder };
        let key = format!("key-{at}").into_bytes();
        let asked = table.try_acquire(&mut session, &key, &ask, now);
        drop(asked.expect("it can be stored"));
    }
    table.stop();
    drop(table.detach(session, now));
    writer.finish().expect("it can be stored");
}
