//! The PHP client's traffic, driven from PHP, if this machine has it.

mod common;

use std::io::{ErrorKind, Write};
use std::process::Command;

use common::Server;

#[test]
fn php_clients_connect_unchanged() {
    let server = Server::start();
    let (host, port) = (
        server.address.ip().to_string(),
        server.address.port().to_string(),
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/client.php");
    let output = match Command::new("php").args([script, &host, &port]).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Written past the test harness, which would show it only if the test failed.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED php_clients_connect_unchanged: php is not installed"
            );
            return;
        }
        output => output.expect("php runs"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && stdout == "all checks passed\n",
        "{stdout}{stderr}"
    );
}
