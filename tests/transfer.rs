//! `elockd export` and `elockd import`, as an operator uses them.
#![cfg(feature = "store")]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::process::{ELOCKD, Process};

/// With grace periods so long that none ends by itself.
fn start(directory: &Path) -> Process {
    Process::start(&["--grace-ms", "3600000", "--data-dir", text(directory)])
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn elockd(arguments: &[&str]) -> Output {
    let mut command = Command::new(ELOCKD);
    command.args(arguments).output().expect("it runs")
}

fn export(directory: &Path, to: &Path) -> Output {
    let mut command = Command::new(ELOCKD);
    command.args(["export", "--data-dir", text(directory)]);
    let file = File::create(to).expect("a file");
    command.stdout(file).output().expect("it runs")
}

fn import(file: &Path, directory: &Path) -> Output {
    elockd(&["import", "--data-dir", text(directory), text(file)])
}

/// What a program says that has failed so.
fn refusal(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

struct Home {
    home: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { home }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

#[test]
fn sessions_go_on_where_their_locks_were_imported() {
    let home = Home::new();
    let (old, file, new) = (home.at("old"), home.at("locks"), home.at("is/made"));
    let mut process = start(&old);
    let mut a = process.connect();
    let id = a.id();
    a.ask("lock x", "200 Acquired");
    a.ask("lock_value y red", "200 Acquired");
    a.send("token x");
    let token = a.read();
    let in_use = refusal(&export(&old, &file), 1);
    assert!(in_use.contains("is in use"), "{in_use}");
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));

    let exported = export(&old, &file);
    assert!(exported.status.success(), "{exported:?}");
    assert_eq!(exported.stderr, b"elockd: locks: 2, sessions: 1\n");
    let imported = import(&file, &new);
    assert!(imported.status.success(), "{imported:?}");

    let process = start(&new);
    let mut b = process.connect();
    b.ask("lock x", "409 Unavailable");
    process.connect().ask("lock_value y red", "200 Acquired");
    b.ask(format!("conn_id {id}"), "200 conn id set");
    b.ask("token x", &token);
    b.ask("lock z", "200 Acquired");
    let number = |answer: String| -> u64 {
        let token = answer.strip_prefix("200 ").expect("a token").to_owned();
        token.parse().expect("a number")
    };
    b.send("token z");
    assert!(number(b.read()) > number(token), "tokens go on");
}

#[test]
fn what_cannot_be_imported_changes_nothing() {
    let home = Home::new();
    let (old, file, cut) = (home.at("old"), home.at("locks"), home.at("cut"));
    let process = start(&old);
    process.connect().ask("lock x", "200 Acquired");
    process.kill();
    assert!(export(&old, &file).status.success());
    let written = fs::read(&file).expect("a file");
    fs::write(&cut, &written[..written.len() - 20]).expect("written");
    for (bad, why) in [
        (&cut, "its end is missing"),
        (&home.at("nowhere"), "No such file"),
        (&old.join("elockd.lock"), "no export of elockd"),
    ] {
        let new = home.at("new");
        let said = refusal(&import(bad, &new), 1);
        assert!(said.contains(why) && said.contains(text(bad)), "{said}");
        assert!(!new.exists(), "nothing is made");
    }
    let full = refusal(&import(&file, &old), 1);
    assert!(full.contains("has a store already"), "{full}");
    let again = home.at("again");
    assert!(export(&old, &again).status.success());
    assert_eq!(fs::read(&again).expect("a file"), written);
}

#[test]
fn what_cannot_be_exported_is_told() {
    let home = Home::new();
    let nowhere = home.at("nowhere");
    let said = refusal(&export(&nowhere, &home.at("locks")), 1);
    assert!(said.contains("there is no store"), "{said}");
    assert!(!nowhere.exists(), "nothing is made");
    let old = home.at("old");
    start(&old).kill();
    let said = refusal(&export(&old, Path::new("/dev/full")), 1);
    assert!(said.contains("cannot write the export"), "{said}");
}

#[test]
fn a_wrong_use_is_told_with_code_2() {
    for (arguments, why) in [
        (&["export"][..], "--data-dir or --etcd"),
        (&["import", "--data-dir", "/nowhere/dir"], "<FILE>"),
        (
            &["export", "--data-dir", "/nowhere/dir", "more"],
            "unexpected argument",
        ),
        #[cfg(feature = "cluster")]
        (
            &[
                "export",
                "--data-dir",
                "/nowhere/dir",
                "--etcd",
                "127.0.0.1:1",
            ],
            "exclude each other",
        ),
    ] {
        let said = refusal(&elockd(arguments), 2);
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    for word in ["export", "import"] {
        let help = elockd(&[word, "--help"]);
        assert!(help.status.success());
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(
            help.contains("--data-dir") && !help.contains("--listen"),
            "{help}"
        );
    }
}
