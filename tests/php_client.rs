//! The tests of `clients/php`, against this build of the server, if this machine has PHPUnit. Tests of
//! frameworks that are not installed are skipped, one by one; with `ELOCK_PHP_ALL` set, none may be.

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
        if std::env::var_os("ELOCK_PHP_ALL").is_some() {
            phpunit.arg("--fail-on-skipped");
        }
        match phpunit.output() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            output => return Some(output.expect("phpunit runs")),
        }
    }
    None
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
    let is_telling = |line: &&str| line.contains("Skipped:") || line.starts_with("OK ");
    for line in stdout.lines().filter(is_telling) {
        tell(&format!("clients/php: {line}"));
    }
}
