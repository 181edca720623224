//! Where the server listens: several addresses, names, and what is no address of this machine.

mod common;

use std::io::BufReader;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

#[cfg(feature = "dual-stack")]
use common::Client;
use common::process::{ELOCKD, Process, run};

/// The exit code of a server that cannot start, and the one line that it says.
#[track_caller]
fn refusal(flags: &[&str]) -> (Option<i32>, String) {
    let output = run(flags);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    (output.status.code(), stderr)
}

#[test]
fn a_name_that_means_nothing_is_a_bad_setting_and_an_address_of_elsewhere_may_come_later() {
    // Names under `.invalid` and addresses of 192.0.2.0/24 are set aside: they mean nothing anywhere.
    for (address, expected) in [("elockd.invalid:0", 2), ("192.0.2.1:0", 1)] {
        let (code, line) = refusal(&["--listen", "127.0.0.1:0", "--listen", address]);
        assert_eq!(code, Some(expected), "{line}");
        let begin = format!("elockd: cannot listen on {address}: ");
        assert!(line.starts_with(&begin), "{line}");
    }
}

#[test]
fn an_address_in_use_is_none() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("an address").to_string();
    let (code, line) = refusal(&["--listen", &address]);
    assert_eq!(code, Some(1), "{line}");
}

#[cfg(feature = "admin")]
#[test]
fn an_address_is_for_clients_or_for_operators() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let free = other.local_addr().expect("an address").to_string();
    drop(other);
    let unix = format!("unix:{}", directory.path().join("x.sock").display());
    for address in [free, unix] {
        let (code, line) = refusal(&["--listen", &address, "--admin", &address]);
        assert!(
            line.contains("give --admin an address of its own"),
            "{line}"
        );
        assert_eq!(code, Some(2), "{line}");
    }
}

#[test]
fn the_variable_may_have_spaces_around_its_commas() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("elockd.sock");
    let addresses = format!("127.0.0.1:0 , unix:{} ", path.display());
    let process = Process::spawn(Command::new(ELOCKD).env("ELOCK_LISTEN", addresses));
    process.connect().ask("lock k", "200 Acquired");
    assert!(path.exists());
}

/// Starts a server on a port that was found free, at the addresses that `name` gives to it. Somebody
/// else may take that port in between; then another one is tried.
fn start_on_a_port(name: impl Fn(u16) -> Vec<String>) -> Process {
    for _ in 0..20 {
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let flags = name(port)
            .into_iter()
            .flat_map(|address| ["--listen".to_owned(), address]);
        let mut child = Command::new(ELOCKD)
            .args(flags)
            .arg("--allow-anonymous")
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let line = common::listening_or_refusal(&mut log);
        let process = Process {
            child,
            log: Some(log),
            address: (Ipv4Addr::LOCALHOST, port).into(),
        };
        match line.split_once("listening on ") {
            Some((_, addresses)) => {
                let mut wanted = name(port);
                wanted.dedup();
                assert_eq!(addresses.trim_end(), wanted.join(", "));
                return process;
            }
            None => assert!(line.contains("Address already in use"), "{line}"),
        }
    }
    panic!("none of twenty free ports could be listened on");
}

#[test]
fn an_address_that_is_given_twice_is_listened_on_once() {
    let process = start_on_a_port(|port| vec![format!("127.0.0.1:{port}"); 2]);
    process.connect().ask("lock k", "200 Acquired");
}

#[cfg(feature = "dual-stack")]
#[test]
fn all_addresses_of_both_families_go_together_on_one_port() {
    use std::net::Ipv6Addr;

    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        println!("skipped, since there is no IPv6 here");
        return;
    }
    let process = start_on_a_port(|port| vec![format!("0.0.0.0:{port}"), format!("[::]:{port}")]);
    let mut four = process.connect();
    four.ask("lock k", "200 Acquired");
    let mut six = Client::connect((Ipv6Addr::LOCALHOST, process.address.port()).into());
    six.ask("lock k", "409 Unavailable");
    let own = four.socket().local_addr().expect("an address");
    let shown = four.ask_list("debug").join("\n");
    assert!(shown.contains(&format!("\"{own}\"")), "{shown}");
}
