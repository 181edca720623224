//! `elock __pages`: manual pages, and completions as real shells take them.
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const ELOCK: &str = env!("CARGO_BIN_EXE_elock");

fn pages() -> TempDir {
    let prefix = tempfile::tempdir().expect("a temporary directory");
    let written = Command::new(ELOCK)
        .arg("__pages")
        .arg(prefix.path())
        .output();
    let written = written.expect("it runs");
    assert!(written.status.success(), "{written:?}");
    assert!(written.stdout.is_empty() && written.stderr.is_empty());
    prefix
}

fn read(prefix: &TempDir, path: &str) -> String {
    fs::read_to_string(prefix.path().join("share").join(path)).expect("a page")
}

/// The subcommands that help shows.
fn subcommands() -> BTreeSet<String> {
    let help = Command::new(ELOCK).arg("--help").output();
    let help = text(&help.expect("it runs"));
    let (_, commands) = help.split_once("\nCommands:\n").expect("commands");
    commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All files, by their paths.
fn files(directory: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            let content = fs::read_to_string(&path).expect("a text");
            files.push((path.display().to_string(), content));
        }
    }
    files
}

/// What the shell prints for the script; `None` where there is no such shell.
fn shell(name: &str, arguments: &[&str], prefix: &TempDir) -> Option<String> {
    let output = Command::new(name)
        .args(arguments)
        .current_dir(prefix.path().join("share"))
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: {name} is not here");
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {error}");
    assert_eq!(error, "", "{name}");
    Some(text(&output))
}

#[test]
fn each_subcommand_that_is_not_hidden_has_a_page() {
    let prefix = pages();
    let pages = fs::read_dir(prefix.path().join("share/man/man1")).expect("pages");
    let pages: BTreeSet<_> = pages
        .map(|page| page.expect("a page").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let mut expected: BTreeSet<_> = subcommands()
        .iter()
        .map(|subcommand| format!("elock-{subcommand}.1"))
        .collect();
    expected.insert("elock.1".to_owned());
    assert!(expected.contains("elock-lock.1"), "{expected:?}");
    assert_eq!(pages, expected);
}

/// A terminal without UTF-8 has no other characters, and `man` complains of them.
#[test]
fn pages_are_ascii() {
    let prefix = pages();
    for (path, content) in files(&prefix.path().join("share/man")) {
        let strange: Vec<&str> = content.lines().filter(|line| !line.is_ascii()).collect();
        assert!(strange.is_empty(), "{path}: {strange:?}");
    }
}

#[test]
fn what_is_hidden_is_in_no_file() {
    let prefix = pages();
    for (path, content) in files(prefix.path()) {
        assert!(!content.contains("__stage"), "{path}");
        assert!(
            !content.contains("__pages") && !content.contains("elock-__"),
            "{path}"
        );
    }
}

#[test]
fn the_files_are_the_same_whatever_the_environment_is() {
    let content = |prefix: &TempDir| -> BTreeSet<_> {
        let files = files(&prefix.path().join("share"));
        files.into_iter().map(|(_, content)| content).collect()
    };
    let prefix = tempfile::tempdir().expect("a temporary directory");
    let written = Command::new(ELOCK)
        .arg("__pages")
        .arg(prefix.path())
        .env("ELOCK_SERVER", "build-machine.example:1234")
        .env("ELOCK_LISTEN", "build-machine.example:1234")
        .env("COLUMNS", "40")
        .status();
    assert!(written.expect("it runs").success());
    assert_eq!(content(&prefix), content(&pages()));
}

#[test]
fn pages_name_flags_variables_and_each_other() {
    let prefix = pages();
    let page = read(&prefix, "man/man8/elockd.8");
    for expected in [
        ".TH elockd 8 \"\" \"elockd ",
        "\\fBelockd\\fR [OPTIONS]",
        "\\fB\\-\\-data\\-dir\\fR",
        "\\fBELOCK_DATA_DIR\\fR",
        "\nelock(1)\n",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let page = read(&prefix, "man/man1/elock.1");
    for expected in [
        "elock\\-lock(1)",
        "\\fBELOCK_SERVER\\fR",
        ".SH EXAMPLES\n",
        "elock lock mailer \\-\\-slots 5 \\-\\- ./send\\-mails",
        "\nelockd(8)\n",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let page = read(&prefix, "man/man1/elock-lock.1");
    assert!(page.contains("\\fBelock lock\\fR "), "{page}");
}

#[test]
fn bash_completes_subcommands_and_flags() {
    let prefix = pages();
    // As bash calls it: the command, the word, and the word before it.
    let script = "
        set -u
        for name in elock elockd; do source bash-completion/completions/$name; complete -p $name; done
        COMP_WORDS=(elock lo); COMP_CWORD=1; _elock elock lo elock; echo \"${COMPREPLY[*]}\"
        COMP_WORDS=(elock ''); COMP_CWORD=1; _elock elock '' elock; echo \"${COMPREPLY[*]}\"
        COMP_WORDS=(elockd --data); COMP_CWORD=1; _elockd elockd --data elockd; echo \"${COMPREPLY[*]}\"
    ";
    let Some(output) = shell("bash", &["--norc", "-c", script], &prefix) else {
        return;
    };
    let lines: Vec<_> = output.lines().collect();
    let &[elock, elockd, started, everything, flag] = lines.as_slice() else {
        panic!("{output}");
    };
    assert!(elock.starts_with("complete ") && elock.ends_with("-F _elock elock"));
    assert!(elockd.starts_with("complete ") && elockd.ends_with("-F _elockd elockd"));
    assert!(
        started.split(' ').any(|one| one == "lock"),
        "{started}: lock"
    );
    assert!(!started.contains("top"), "{started}");
    let words: BTreeSet<_> = everything.split(' ').map(str::to_owned).collect();
    assert!(words.is_superset(&subcommands()), "{words:?}");
    assert_eq!(flag, "--data-dir");
}

#[test]
fn zsh_takes_its_functions() {
    let prefix = pages();
    let script = "
        fpath=($PWD/zsh/site-functions $fpath)
        autoload -U compinit && compinit -u -D && print $_comps[elock] $_comps[elockd]
        autoload +X _elock _elockd && zsh -n zsh/site-functions/*
    ";
    if let Some(output) = shell("zsh", &["-f", "-c", script], &prefix) {
        assert_eq!(output, "_elock _elockd\n");
    }
}

#[test]
fn fish_completes_subcommands_and_flags() {
    let prefix = pages();
    let script = "
        for name in elock elockd; source fish/vendor_completions.d/$name.fish; end
        complete -C 'elock lo'
        complete -C 'elockd --data'
    ";
    if let Some(output) = shell("fish", &["--no-config", "-c", script], &prefix) {
        assert!(output.lines().any(|line| line.starts_with("lock\t")));
        assert!(output.lines().any(|line| line.starts_with("--data-dir\t")));
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_without_escape_sequences() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = home.path().join("\u{1b}[31mred");
    fs::write(&file, "").expect("it is written");
    let output = Command::new(ELOCK).arg("__pages").arg(&file).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(73));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("elock: cannot write "), "{error}");
    assert!(error.contains("\\u{1b}[31mred"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}
