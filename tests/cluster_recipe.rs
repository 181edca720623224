//! README's three servers on one etcd do what it says, word for word: in namespaces of their own, as they take
//! addresses that others may have, and end with them.
#![cfg(all(feature = "cli", feature = "cluster"))]

mod common;

use std::path::Path;
use std::process::Command;

use common::one_etcd::skip;
use common::process::ELOCKD;

const README: &str = include_str!("../README.md");

/// A shell in which nothing of this machine is to be seen but its files. It is the one that people have: another
/// does not know in `$(…)` what it has started.
fn alone(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("timeout");
    let programs = Path::new(ELOCKD).parent().expect("a directory");
    let others = std::env::var("PATH").unwrap_or_default();
    command
        .args([
            "100",
            "unshare",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
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
    let block = |words: &str| {
        let (_, block) = README
            .split_once(&format!("```{words}\n"))
            .expect("a block");
        block.split_once("```").expect("its end").0
    };
    let (begin, end) = (block("sh cluster"), block("sh cluster end"));
    // As the package starts one.
    let usual =
        "etcd --data-dir usual > usual.log 2>&1 &\nuntil etcdctl endpoint health; do :; done";
    let count = "echo \"$(jobs -rp | wc -l) run\"";
    let mut all = alone(
        directory.path(),
        &format!("{usual}\n{begin}{count}\n{end}wait"),
    );
    let output = all.output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("I have it"), "{said}");
    assert!(said.contains("leads"), "{said}");
    // Three etcd, three elockd, and the usual one.
    assert!(said.contains("7 run\n"), "{said}");
}
