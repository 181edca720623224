//! Files of users and of passwords, whatever is in them: who is let in may do what the file says and no
//! more, what is wrong is told without a secret, and no password is hashed meanwhile.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use elock::access::{FileError, Files, User, Users};
use elock::model::Resource;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use toml::{Table, Value};

/// What the seeds and the dictionary have for a password, wherever it stands. No text of elock's has it.
const SECRET: &str = "hunter2!";

fuzz_target!(|data: &[u8]| {
    // No file of users begins so.
    match data.strip_prefix(b"=") {
        Some(password) => read_password(password),
        None => read_users(data),
    }
});

fn read_users(bytes: &[u8]) {
    let files = Files {
        users: Some(file("users", bytes)),
        ..Files::default()
    };
    let text = String::from_utf8_lossy(bytes);
    let users = match files.read(&Users::anybody()) {
        Ok(users) => users,
        Err(wrong) => return assert_tells_no_secret(&wrong, &text),
    };
    users.set_quotas();
    let file: Table = text.parse().expect("it is TOML, as it was read");
    let written = file["users"].as_table().expect("a table");
    assert_eq!((users.count(), users.revision()), (written.len(), 1));
    let shown = format!("{users:?}");
    for (name, entry) in written {
        let user = users.user(name.as_bytes()).expect("it is written");
        assert_eq!(
            user.name().map(|name| name.as_bytes()),
            Some(name.as_bytes())
        );
        assert_is_as_written(&user, entry.as_table().expect("a table"));
        // A name may be the very same text as a hash.
        let hash = entry.get("password").and_then(Value::as_str);
        let hash = hash.and_then(|hash| hash.rsplit('$').next());
        assert!(hash.is_none_or(|hash| text.matches(hash).count() > 1 || !shown.contains(hash)));
    }
    assert!(users.at_the_door(None).is_none(), "everybody is asked");
    assert_stays(&files, &users, written);
}

fn assert_is_as_written(user: &User, entry: &Table) {
    let words = |name: &str| -> Vec<&str> {
        let words = entry[name].as_array().expect("a list");
        words
            .iter()
            .map(|word| word.as_str().expect("text"))
            .collect()
    };
    let (rights, prefixes) = (words("rights"), words("prefixes"));
    let has = [
        (user.may_lock(), "lock"),
        (user.may_read(), "read"),
        (user.may_admin(), "admin"),
    ];
    for (may, right) in has {
        assert_eq!(may, rights.contains(&right), "{right}");
    }
    assert!(
        has.iter().any(|(may, _)| *may),
        "everybody may do something"
    );
    let sees_all = prefixes.contains(&"*");
    assert_eq!(user.sees_sessions_of(None), sees_all);
    for prefix in &prefixes {
        let bytes = prefix.as_bytes();
        let shorter = bytes.split_last().map_or(bytes, |(_, shorter)| shorter);
        for key in [bytes, shorter, &[bytes, b"x"].concat()] {
            let is_written = prefixes.iter().any(|one| key.starts_with(one.as_bytes()));
            assert_eq!(user.allows(key), sees_all || is_written, "{prefix}");
        }
    }
    assert_eq!(user.has_slow_secret(), entry.contains_key("password"));
    let account = user.account().expect("a user has one");
    for (resource, name) in [
        (Resource::Connections, "max_connections"),
        (Resource::GraceSessions, "max_grace_sessions"),
        (Resource::Locks, "max_locks"),
        (Resource::Waiters, "max_waiters"),
    ] {
        let bound = account
            .has_room(resource, u32::MAX)
            .expect_err("too many")
            .max;
        let written = entry.get(name).and_then(Value::as_integer);
        assert_eq!(
            i64::from(bound),
            written.unwrap_or(u32::MAX.into()),
            "{name}"
        );
    }
}

/// A second reading of the same; and one with a user of the operator's own, and one with a trusted network,
/// which may be wrong together with the file.
fn assert_stays(files: &Files, users: &Users, written: &Table) {
    let again = files.read(users).expect("it was read before");
    assert_eq!((again.count(), again.revision()), (users.count(), 2));
    let again = std::sync::Arc::new(again);
    let with_admin = Files {
        admin: Some(file("admin", b"admin-secret")),
        ..files.clone()
    };
    let operators = with_admin.read_for_admin(&again, users);
    assert_eq!(operators.is_err(), written.contains_key("admin"));
    let trusting = Files {
        trust: vec!["10.0.0.0/8=web".parse().expect("good")],
        ..files.clone()
    };
    let from = Some([10, 1, 2, 3].into());
    let trusted = trusting
        .read(users)
        .ok()
        .and_then(|users| users.at_the_door(from));
    assert_eq!(trusted.is_some(), written.contains_key("web"));
}

fn read_password(bytes: &[u8]) {
    let files = Files {
        password: Some(file("password", bytes)),
        ..Files::default()
    };
    match files.read(&Users::anybody()) {
        Ok(users) => {
            let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let user = users.user(b"default").expect("the one user");
            assert!(user.has_password(line) && !user.has_password(&line[1..]));
            assert!(line.iter().all(|byte| *byte > b' ' && *byte != 0x7f));
        }
        Err(wrong) => assert_tells_no_secret(&wrong, ""),
    }
}

/// Names of what is written in the wrong place are told, and values are not.
fn assert_tells_no_secret(wrong: &FileError, text: &str) {
    let told = wrong.to_string();
    let is_a_name = told.contains("unknown field `");
    assert!(is_a_name || !told.contains(SECRET), "{told}");
    assert!(!told.contains("$argon2") || is_a_name, "{told}");
    assert!(!told.contains('\n'), "one line of the log: {told}");
    if let FileError::Line { line, .. } = wrong {
        assert!((1..=text.lines().count() + 1).contains(line), "{told}");
    }
}

/// A file with this in it; the one before is no more.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| tempfile::tempdir().expect("a directory"));
    let path = directory.path().join(name);
    fs::write(&path, bytes).expect("room");
    path
}
