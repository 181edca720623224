//! What the Debian package says of elockd is so.
#![cfg(all(feature = "keepalive", feature = "store"))]

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use clap::CommandFactory;
use common::process::{ELOCKD, Process};
use elock::config::Config;

/// The settings that the file of the service shows, and that are to be commented out.
fn settings() -> BTreeMap<&'static str, &'static str> {
    let file = include_str!("../packaging/elockd.default");
    let mut settings = BTreeMap::new();
    for line in file.lines().filter(|line| !line.is_empty()) {
        let line = line.strip_prefix('#').expect("each line is a comment");
        if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.contains(' ')) {
            assert_eq!(settings.insert(name, value), None, "{name} twice");
        }
    }
    settings
}

#[test]
fn the_file_of_settings_shows_each_with_its_default() {
    let mut settings = settings();
    for argument in Config::command().get_arguments() {
        let Some(name) = argument.get_env() else {
            continue;
        };
        let name = name.to_string_lossy();
        let shown = settings.remove(&*name);
        let default = match &*name {
            "ELOCK_LISTEN" => Some("127.0.0.1:11400,[::1]:11400".into()),
            // The unit's.
            "ELOCK_DATA_DIR" => Some("/var/lib/elockd".into()),
            // A switch has no default that the library tells.
            "ELOCK_ALLOW_ANONYMOUS" | "ELOCK_NO_LEAD" => Some("false".into()),
            _ => argument
                .get_default_values()
                .first()
                .map(|value| value.to_string_lossy()),
        };
        // An empty one is not set, and neither is one without a default.
        assert_eq!(
            shown,
            Some(default.as_deref().unwrap_or_default()),
            "{name}"
        );
    }
    assert_eq!(settings, BTreeMap::new(), "these are no settings");
}

#[test]
fn the_unit_keeps_locks_where_the_settings_and_the_purge_say() {
    let unit = include_str!("../packaging/elockd.service");
    for line in [
        "StateDirectory=elockd",
        "Environment=ELOCK_DATA_DIR=/var/lib/elockd",
        "EnvironmentFile=-/etc/default/elockd",
        // What `packaging/build-deb` looks for.
        "ExecStart=/usr/local/bin/elockd",
    ] {
        assert!(unit.lines().any(|one| one == line), "{line}");
    }
    assert_eq!(settings()["ELOCK_DATA_DIR"], "/var/lib/elockd");
    let purge = include_str!("../packaging/debian/postrm");
    assert!(purge.contains("rm -rf /var/lib/elockd /var/lib/private/elockd\n"));
}

#[test]
fn the_server_takes_all_the_settings_that_the_file_shows() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(ELOCKD);
    command
        .envs(settings())
        .env("ELOCK_LISTEN", "127.0.0.1:0")
        .env("ELOCK_DATA_DIR", directory.path());
    let process = Process::spawn(&mut command);
    process.connect().ask("lock k", "200 Acquired");
}

#[test]
fn the_socket_unit_opens_the_addresses_that_the_service_opens_without_it() {
    let unit = include_str!("../packaging/elockd.socket");
    let streams = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ListenStream="));
    let addresses = streams.collect::<Vec<_>>().join(",");
    assert_eq!(addresses, settings()["ELOCK_LISTEN"]);
}
