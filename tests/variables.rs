//! Settings as they are given by `ELOCK_…` variables, and what is said of bad ones.

mod common;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use common::process::{ELOCKD, Process};
use elock::config::Config;

/// All variables, as clap knows them.
fn variables() -> Vec<OsString> {
    let command = Config::command();
    let variables = command
        .get_arguments()
        .filter_map(|argument| argument.get_env());
    let variables: Vec<_> = variables.map(OsStr::to_owned).collect();
    assert!(variables.len() > 10, "{variables:?}");
    variables
}

/// Ends soon, whatever the settings: nobody is at the address that it asks.
fn check_with(variable: &OsStr, value: &OsStr) -> Output {
    let (_directory, nobody) = nobody();
    let mut command = Command::new(ELOCKD);
    command.args(["--check", &nobody]).env(variable, value);
    command.output().expect("it runs")
}

fn nobody() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let address = format!("unix:{}/nobody", directory.path().display());
    (directory, address)
}

fn refusal(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

#[test]
fn an_empty_variable_is_not_set_whichever_it_is() {
    for variable in variables() {
        let output = check_with(&variable, "".as_ref());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{variable:?}: {stderr}");
    }
    let empty = variables().into_iter().map(|variable| (variable, ""));
    let process = Process::spawn(
        Command::new(ELOCKD)
            .envs(empty)
            .args(["--listen", "127.0.0.1:0"]),
    );
    process.connect().ask("lock k", "200 Acquired");
}

#[test]
fn a_bad_variable_is_named_whichever_it_is() {
    for variable in variables() {
        let name = variable.to_string_lossy();
        // Every path is good, and whether something is there is not known before it is opened; and so is
        // every name of a user.
        let paths = [
            "ELOCK_DATA_DIR",
            "ELOCK_ETCD_CA",
            "ELOCK_ETCD_CERT",
            "ELOCK_ETCD_KEY",
            "ELOCK_ETCD_USER",
            "ELOCK_TLS_CERT",
            "ELOCK_TLS_KEY",
            "ELOCK_TLS_CLIENT_CA",
        ];
        if name.ends_with("_FILE") || paths.contains(&&*name) {
            continue;
        }
        for bad in [&b"=no="[..], &b"\xff"[..]] {
            let stderr = refusal(check_with(&variable, OsStr::from_bytes(bad)));
            assert!(
                stderr.contains(&format!("for '{name}'")),
                "{name}: {stderr}"
            );
        }
    }
}

#[test]
fn a_bad_flag_is_blamed_on_the_flag_also_beside_a_bad_variable() {
    let (_directory, nobody) = nobody();
    let output = Command::new(ELOCKD)
        .args(["--check", &nobody, "--max-line", "many"])
        .env("ELOCK_MAX_LOCKS", "few")
        .output();
    let stderr = refusal(output.expect("it runs"));
    assert!(stderr.contains("'--max-line <BYTES>'"), "{stderr}");
}

#[test]
fn settings_that_contradict_are_named_as_they_were_given_with_their_numbers() {
    let contradiction = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(ELOCKD);
        command.args(flags).envs(variables.iter().copied());
        let stderr = refusal(command.output().expect("it runs"));
        stderr.lines().next().expect("a line").to_owned()
    };
    assert_eq!(
        contradiction(&["--grace-ms", "90000000"], &[]),
        "error: --grace-ms 90000000 is above --max-grace-ms 86400000"
    );
    assert_eq!(
        contradiction(&["--max-grace-ms", "5"], &[("ELOCK_GRACE_MS", "6")]),
        "error: ELOCK_GRACE_MS=6 is above --max-grace-ms 5"
    );
    assert_eq!(
        contradiction(&[], &[("ELOCK_MAX_GRACE_MS", "29999")]),
        "error: --grace-ms 30000 is above ELOCK_MAX_GRACE_MS=29999"
    );
}

#[cfg(feature = "cluster")]
#[test]
fn settings_of_etcd_that_contradict_are_named() {
    const URL: &str = "http://127.0.0.1:2379";
    const OWN: [&str; 4] = ["--etcd", URL, "--advertise", "127.0.0.1:11401"];
    let contradiction = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(ELOCKD);
        command.args(flags).envs(variables.iter().copied());
        let stderr = refusal(command.output().expect("it runs"));
        let line = stderr.lines().next().expect("a line");
        line.strip_prefix("error: ").expect("an error").to_owned()
    };
    let beside_etcd = |flags: &[&str]| contradiction(&[&OWN[..], flags].concat(), &[]);
    assert_eq!(
        contradiction(&OWN, &[("ELOCK_DATA_DIR", "/var/lib/elockd")]),
        "--etcd http://127.0.0.1:2379 and ELOCK_DATA_DIR=/var/lib/elockd exclude each other, as locks are \
         kept in one place; an empty ELOCK_DATA_DIR is not set"
    );
    assert_eq!(
        contradiction(&OWN[..2], &[]),
        "--etcd http://127.0.0.1:2379 needs --advertise HOST:PORT, where the other servers reach this one, \
         or --no-lead"
    );
    for (flags, given) in [
        (&["--no-lead"][..], "--no-lead"),
        (&["--etcd-compact", "off"], "--etcd-compact off"),
    ] {
        assert_eq!(
            contradiction(flags, &[]),
            format!("{given} means nothing without --etcd")
        );
    }
    assert_eq!(
        contradiction(&[], &[("ELOCK_NO_LEAD", "yes")]),
        "ELOCK_NO_LEAD=yes means nothing without --etcd"
    );
    assert_eq!(
        beside_etcd(&["--etcd-user", "elock"]),
        "--etcd-user elock means nothing without --etcd-password-file"
    );
    #[cfg(feature = "tls")]
    {
        assert_eq!(
            beside_etcd(&["--etcd-key", "/key"]),
            "--etcd-key /key means nothing without --etcd-cert"
        );
        assert_eq!(
            contradiction(&OWN, &[("ELOCK_ETCD_CA", "/ca")]),
            "ELOCK_ETCD_CA=/ca is for https:// URLs alone, and there is --etcd http://127.0.0.1:2379"
        );
    }
}

/// As a file does that shows all settings.
#[cfg(feature = "cluster")]
#[test]
fn a_default_that_is_given_contradicts_nothing() {
    let off = [("ELOCK_NO_LEAD".into(), "no".into())];
    let command = Config::command();
    let arguments = command.get_arguments();
    let defaults = arguments.filter_map(|argument| {
        let default = argument.get_default_values().first()?;
        Some((argument.get_env()?.to_owned(), OsString::from(default)))
    });
    let defaults: Vec<_> = defaults.chain(off).collect();
    assert!(defaults.len() > 10, "{defaults:?}");
    let (_directory, nobody) = nobody();
    let mut command = Command::new(ELOCKD);
    command.args(["--check", &nobody]).envs(defaults);
    let output = command.output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
}

/// Whoever wants locks to be on several machines must not get less.
#[cfg(not(feature = "cluster"))]
#[test]
fn etcd_is_not_passed_over_where_there_is_none() {
    let stderr = refusal(check_with("ELOCK_ETCD".as_ref(), "127.0.0.1:2379".as_ref()));
    assert!(stderr.contains("was built without etcd"), "{stderr}");
}

#[test]
fn a_log_filter_with_a_typing_error_is_refused() {
    for filter in ["inf0", "warning", "elock=debug,inf0", "elock=loudly"] {
        let stderr = refusal(check_with("ELOCK_LOG".as_ref(), filter.as_ref()));
        assert!(stderr.contains("is no level"), "{stderr}");
    }
    let stderr = refusal(check_with("ELOCK_LOG".as_ref(), "info,=debug".as_ref()));
    assert!(stderr.contains("names no module"), "{stderr}");
    for filter in ["info", "elock=debug,info", "elock::store=trace", "off"] {
        let output = check_with("ELOCK_LOG".as_ref(), filter.as_ref());
        assert_eq!(output.status.code(), Some(1), "{filter}");
    }
}

#[test]
fn a_variable_that_is_no_setting_is_warned_of_unless_it_is_a_clients() {
    let variables = [
        // Not warned of: settings, an empty variable, those of clients, and other programs' own.
        ("ELOCK_GRACE_MS", "1000"),
        ("ELOCK_NOTHING", ""),
        ("ELOCK_SERVER", "10.0.0.5:11400"),
        ("ELOCK_KEY", "report"),
        ("ELOCK_TOKEN", "7"),
        ("ELOCKER", "1"),
        ("MY_ELOCK_GRACE", "1"),
        // Warned of, once each, in the order of their names.
        ("ELOCK_GRACE", "1000"),
        ("ELOCK_DATADIR", "/var/lib/elockd"),
        ("ELOCK_\n", "1"),
    ];
    let mut child = Command::new(ELOCKD)
        .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
        .envs(variables)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let log = BufReader::new(child.stderr.take().expect("piped"));
    let mut warned = Vec::new();
    for line in log.lines().map(|line| line.expect("text")) {
        if line.contains("listening on ") {
            break;
        }
        if line.contains("WARN") {
            warned.push(line);
        }
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(warned.len(), 3, "{warned:?}");
    for (line, name) in warned
        .iter()
        .zip(["ELOCK_DATADIR", "ELOCK_GRACE", "ELOCK_\\\\x0A"])
    {
        assert!(line.contains(&format!("{name} is no setting")), "{line}");
    }
}
