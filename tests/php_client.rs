//! The tests of `clients/php`, against this build of the server, if this machine has PHPUnit. Tests of
//! frameworks that are not installed are skipped, one by one; with `EVERY_PHP_TEST` set, none may be.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::process::{Command, Output};

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/php");

/// That of composer before that of the system. None, if there is none.
fn phpunit() -> Option<Output> {
    let own = format!("{PACKAGE}/vendor/bin/phpunit");
    for program in [own.as_str(), "phpunit"] {
        let mut phpunit = Command::new(program);
        phpunit.arg("--verbose").current_dir(PACKAGE);
        phpunit.env("ELOCKD", env!("CARGO_BIN_EXE_elockd"));
        match phpunit.output() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            output => return Some(output.expect("phpunit runs")),
        }
    }
    None
}

/// Why tests were skipped, and how many for each reason: the line behind that of a test.
fn skips(told: &str) -> BTreeMap<&str, usize> {
    let mut skips = BTreeMap::new();
    let mut lines = told
        .lines()
        .skip_while(|line| !line.contains(" skipped test"));
    while let Some(line) = lines.next() {
        let is_test = line
            .split_once(") ")
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if is_test && let Some(reason) = lines.next() {
            *skips.entry(reason).or_default() += 1;
        }
    }
    skips
}

/// Written past the test harness, which would show it only if the test failed.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn the_php_package_passes_its_tests() {
    let Some(output) = phpunit() else {
        tell("SKIPPED the_php_package_passes_its_tests: phpunit is not installed");
        return;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    for (reason, times) in skips(&stdout) {
        tell(&format!("SKIPPED {times} tests of clients/php: {reason}"));
        // What this version of a framework does not have is no omission.
        let is_all = std::env::var_os("EVERY_PHP_TEST").is_some();
        assert!(!is_all || reason.starts_with("this "), "{stdout}");
    }
}

#[test]
fn skips_are_counted() {
    let told = "There were 3 skipped tests:\n\n1) A::a\nredis is not installed\n\n2) B::b\nthis version has none\n\n\
                3) A::c\nthis version has none\n\nOK, but incomplete";
    let counted = BTreeMap::from([("redis is not installed", 1), ("this version has none", 2)]);
    assert_eq!(skips(told), counted);
}
