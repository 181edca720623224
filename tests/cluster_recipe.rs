//! README's three servers on one etcd do what it says, word for word: in namespaces of their own, as they take
//! addresses that others may have, and end with them.
#![cfg(all(feature = "cli", feature = "cluster"))]

mod common;

use std::path::Path;
use std::process::Command;

use common::one_etcd::skip;
use common::process::ELOCKD;

const README: &str = include_str!("../README.md");

/// A shell in which nothing of this machine is to be seen but its files.
fn alone(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("unshare");
    let programs = Path::new(ELOCKD).parent().expect("a directory");
    let others = std::env::var("PATH").unwrap_or_default();
    command
        .args([
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-euc",
        ])
        .arg(format!("ip link set lo up; {script}"))
        .current_dir(directory)
        .env("PATH", format!("{}:{others}", programs.display()));
    command
}

#[test]
fn three_servers_on_three_etcd_serve_one_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    let possible = alone(directory.path(), "etcd --version").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return skip("there is no etcd, or no right to make namespaces");
    }
    let (_, block) = README.split_once("```sh cluster\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let output = alone(directory.path(), block).output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("I have it"), "{said}");
    assert!(said.contains("leads"), "{said}");
}
