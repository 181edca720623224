//! TLS against a real server: who gets in, what is said to those who do not, and what a new certificate
//! changes.
#![cfg(feature = "tls")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

#[cfg(feature = "systemd")]
use common::process::activated;
use common::process::{ELOCKD, Process, run};
use common::tls::{Authority, Pair, TlsClient};
use common::transcript::transcripts;
use common::{Client, PATIENCE, Server};
use elock::config::Config;

/// A server with a certificate, and clients that trust its authority.
struct Encrypted {
    authority: Authority,
    pair: Pair,
    server: Server,
}

impl Encrypted {
    fn start() -> Self {
        Self::start_with(|_, _| {})
    }

    fn start_with(change: impl FnOnce(&mut Config, &Authority)) -> Self {
        let authority = Authority::new();
        let pair = authority.server("server");
        let server = Server::start_with(|config| {
            pair.serve(config);
            change(config, &authority);
        });
        Self {
            authority,
            pair,
            server,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.tls_address.expect("a TLS port")
    }

    fn connect(&self) -> TlsClient {
        let mut client = TlsClient::connect(self.address(), &self.authority.trusted(None));
        client.ask("echo", "200 []");
        client
    }

    fn failures(&self) -> u64 {
        let info = self.server.connect().ask_list("info");
        let line = info
            .iter()
            .find_map(|line| line.strip_prefix("tls_failures "));
        line.expect("a counter").parse().expect("a number")
    }
}

#[test]
fn every_transcript_of_the_protocol_is_true_by_tls() {
    let found = transcripts(include_str!("../protocol.md")).expect("transcripts");
    for transcript in &found {
        transcript.run::<TlsClient>().expect("true");
    }
}

/// Answers of more than one record, requests that come byte by byte, and many in one go.
#[test]
fn bytes_pass_however_they_are_cut() {
    let encrypted = Encrypted::start();
    let mut client = encrypted.connect();
    let word = "x".repeat(4_000);
    let asked = 200;
    for _ in 0..asked {
        client.send(&format!("echo {word}"));
    }
    for _ in 0..asked {
        client.expect(&format!("200 [\"{word}\"]"));
    }
    for byte in "lock k".chars() {
        client.send_bytes(byte.to_string().as_bytes());
    }
    client.ask("", "200 Acquired");
    client.half_close();
    client.expect_closed();
}

#[test]
fn a_client_that_ends_its_input_reads_the_rest_and_an_end_that_is_said() {
    let encrypted = Encrypted::start();
    let mut client = encrypted.connect();
    client.send("lock k\nlock x\nunlock k");
    client.half_close();
    client.expect("200 Acquired");
    client.expect("200 Acquired");
    client.expect("200 Unlocked");
    client.expect_closed();
    let mut client = encrypted.connect();
    client.ask("quit", "200 Hey, it was nice seeing you.");
    client.expect_closed();
}

/// By the kernel's end of the connection, without that of TLS.
#[test]
fn a_client_that_vanishes_keeps_its_locks_for_its_grace_period() {
    let encrypted = Encrypted::start();
    let mut client = encrypted.connect();
    client.ask("lock k", "200 Acquired");
    client.send("conn_id");
    let id = client.read().replace("200 ", "");
    client.socket().shutdown(Shutdown::Both).expect("a socket");
    drop(client);
    let mut other = encrypted.connect();
    other.ask("lock k", "409 Unavailable");
    other.ask(&format!("resume {id}"), "200 Resumed");
    other.ask("unlock k", "200 Unlocked");
}

#[test]
fn a_client_that_is_not_read_for_waits_and_is_ended_after_its_time() {
    let encrypted = Encrypted::start_with(|config, _| {
        config.unsent_timeout_ms = 200;
        config.max_unsent = 1_000;
    });
    let mut client = encrypted.connect();
    client.ask("set_timeout 0", "200 timeout set");
    client.ask("lock k", "200 Acquired");
    // Until nothing goes any more: the client's buffers and the server's are full.
    let stream = client.socket();
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .expect("a socket");
    let word = "x".repeat(4_000);
    while client.try_send(&format!("echo {word}")).is_ok() {}
    encrypted.server.connect().ask("lock k 60", "200 Acquired");
}

#[test]
fn what_is_no_tls_is_told_so_in_plain_text() {
    let encrypted = Encrypted::start();
    for sent in ["lock k\n", "GET / HTTP/1.1\r\n\r\n", "\n", "\x00"] {
        let mut client = Client::connect(encrypted.address());
        client.send_raw(sent);
        client.expect("400 This port speaks TLS only");
        client.expect_closed();
    }
    assert_eq!(encrypted.failures(), 4);
    let mut hello = Client::connect(encrypted.server.address);
    hello.send_raw([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]);
    hello.expect("400 This is TLS, and not eLock");
    hello.expect_closed();
}

#[test]
fn a_certificate_is_verified_by_either_side() {
    let other = Authority::new();
    let stranger = other.client("mallory");
    let encrypted = Encrypted::start_with(|config, authority| {
        config.tls_client_ca = Some(authority.ca.clone());
    });
    let (address, authority) = (encrypted.address(), &encrypted.authority);
    let known = authority.client("web-3");
    let mut client = TlsClient::connect(address, &authority.trusted(Some(&known)));
    client.ask("lock k", "200 Acquired");
    for (config, why) in [
        (other.trusted(Some(&known)), "UnknownIssuer"),
        (authority.trusted(None), "CertificateRequired"),
        (authority.trusted(Some(&stranger)), "UnknownCA"),
        // What a server shows is no client's.
        (authority.trusted(Some(&of_server_only(authority))), "alert"),
        (
            authority.trusted(Some(&expired(authority))),
            "CertificateExpired",
        ),
    ] {
        let refusal = TlsClient::connect(address, &config).refusal();
        assert!(refusal.contains(why), "{refusal} for {why}");
    }
    client.ask("unlock k", "200 Unlocked");
    until(|| encrypted.failures() == 5);
}

fn of_server_only(authority: &Authority) -> Pair {
    authority.sign("server-only", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    })
}

fn expired(authority: &Authority) -> Pair {
    authority.sign("expired", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    })
}

#[test]
fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_none() {
    let encrypted = Encrypted::start();
    let mut before = encrypted.connect();
    before.ask("lock k", "200 Acquired");
    let first = before.certificate();
    encrypted
        .authority
        .server("renewed")
        .replace(&encrypted.pair);
    encrypted.server.control.reload();
    let shown = || encrypted.connect().certificate();
    until(|| shown() != first);
    let second = shown();
    before.ask("unlock k", "200 Unlocked");
    // Its key is another's, as in the middle of a renewal.
    let third = encrypted.authority.server("third");
    std::fs::copy(&third.cert, &encrypted.pair.cert).expect("copied");
    encrypted.server.control.reload();
    std::fs::copy(&third.key, &encrypted.pair.key).expect("copied");
    // Whether or not it saw the key, it shows one that is whole, and at last the third.
    until(|| {
        encrypted.server.control.reload();
        let now = shown();
        assert_ne!(now, first);
        now != second
    });
}

#[test]
fn clients_of_an_authority_that_is_gone_are_not_let_in_again() {
    let encrypted = Encrypted::start_with(|config, authority| {
        config.tls_client_ca = Some(authority.ca.clone());
    });
    let (address, authority) = (encrypted.address(), &encrypted.authority);
    let config = authority.trusted(Some(&authority.client("web-3")));
    let mut client = TlsClient::connect(address, &config);
    client.ask("lock k", "200 Acquired");
    std::fs::copy(Authority::new().ca, &authority.ca).expect("copied");
    encrypted.server.control.reload();
    // The same settings of the client, with whatever it remembers of the first connection.
    until(|| {
        let mut again = TlsClient::connect(address, &config);
        again.try_send("echo").is_err() || again.try_read().is_err()
    });
    client.ask("unlock k", "200 Unlocked");
}

#[test]
fn broken_hellos_leave_nothing_behind() {
    let encrypted = Encrypted::start_with(|config, _| config.max_connections = 8);
    let hello = hello();
    for count in 0..1_000 {
        let mut stream = TcpStream::connect(encrypted.address()).expect("accepted");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let sent = match count % 4 {
            0 => &b"\x16\x03\x01\x00\x05hello"[..],
            1 => &hello[..hello.len() / 2],
            2 => &b"\x16\x03\x01\xff\xff"[..],
            _ => &hello[..],
        };
        stream.write_all(sent).expect("sent");
        stream.shutdown(Shutdown::Write).expect("a socket");
        let mut rest = Vec::new();
        // An alert, the server's own hello, or nothing; and then the end.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    until(|| encrypted.failures() == 1_000);
    let _all: Vec<TlsClient> = (0..6).map(|_| encrypted.connect()).collect();
    let mut observer = encrypted.connect();
    observer.ask("stats", "200 STATS");
    observer.expect("STAT clients 7");
}

/// The first bytes that a client sends.
fn hello() -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let config = Authority::new().trusted(None);
    let client = std::thread::spawn(move || TlsClient::connect(address, &config).refusal());
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut head = [0; 5];
    stream.read_exact(&mut head).expect("a record");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut rest).expect("a record");
    drop(stream);
    client.join().expect("it ends");
    [&head[..], &rest].concat()
}

#[test]
fn a_half_made_handshake_takes_a_place_and_whoever_finds_none_is_told_so_by_tls() {
    let encrypted = Encrypted::start_with(|config, _| config.max_connections = 2);
    let half = hello();
    let mut silent = TcpStream::connect(encrypted.address()).expect("accepted");
    silent.write_all(&half[..half.len() / 2]).expect("sent");
    let mut second = encrypted.connect();
    let trusted = encrypted.authority.trusted(None);
    let mut third = TlsClient::connect(encrypted.address(), &trusted);
    third.ask("echo", "503 Too many connections: at most 2");
    third.expect_closed();
    drop(silent);
    until(|| {
        let mut third = TlsClient::connect(encrypted.address(), &trusted);
        third.send("echo");
        third.read() == "200 []"
    });
    second.ask("echo", "200 []");
}

#[test]
fn a_stop_waits_for_no_handshake() {
    let encrypted = Encrypted::start();
    let half = hello();
    let mut silent = TcpStream::connect(encrypted.address()).expect("accepted");
    silent.write_all(&half[..half.len() / 2]).expect("sent");
    let mut client = encrypted.connect();
    client.ask("lock k", "200 Acquired");
    let begin = Instant::now();
    drop(encrypted.server);
    assert!(begin.elapsed() < Duration::from_secs(4));
    client.expect_closed();
}

fn until(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it did not come about");
        std::thread::yield_now();
    }
}

/// What the program says of its settings, before it serves anyone.
#[test]
fn a_bad_setting_is_named_with_its_file_and_ends_the_program_with_code_2() {
    let authority = Authority::new();
    let (pair, other) = (authority.server("server"), authority.server("other"));
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (cert, key) = (text(&pair.cert), text(&pair.key));
    let encrypted = pair.key.with_extension("encrypted");
    let begin =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(&encrypted, begin).expect("written");
    // As `openssl ec -aes256` writes it.
    let older = pair.key.with_extension("older");
    let begin = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
                 MIIB\n-----END EC PRIVATE KEY-----\n";
    std::fs::write(&older, begin).expect("written");
    let flags = |cert: &str, key: &str| {
        let listen = ["--tls-listen", "127.0.0.1:0", "--tls-cert", cert];
        [&listen[..], &["--tls-key", key]].concat().join("\n")
    };
    let (other_key, ca) = (text(&other.key), text(&authority.ca));
    for (flags, said) in [
        (
            flags("/nowhere", &key),
            "cannot read /nowhere: No such file",
        ),
        (flags(&key, &key), "server.key has no certificate"),
        (flags(&cert, &cert), "server.pem has no private key"),
        (
            flags(&cert, &text(&encrypted)),
            "is encrypted; \"openssl pkey",
        ),
        (flags(&cert, &text(&older)), "is encrypted; \"openssl pkey"),
        (
            flags(&text(&pair.of_version_1()), &key),
            "it is of X.509 version 1, which TLS here does not take",
        ),
        (
            flags(&cert, &other_key),
            "is not the key of the certificate",
        ),
        (flags(&cert, "/dev/zero"), "too large for a certificate"),
        (
            flags(&cert, &key) + &format!("\n--tls-client-ca\n{key}"),
            "server.key has no certificate",
        ),
        (
            format!("--tls-listen\n127.0.0.1:0\n--tls-cert\n{cert}"),
            "needs --tls-cert and --tls-key",
        ),
        (
            format!("--tls-client-ca\n{ca}"),
            "means nothing without --tls-listen",
        ),
        ("--tls-listen\nunix:/tmp/x".to_owned(), "invalid value"),
        ("--listen\ntls://127.0.0.1:1".to_owned(), "invalid value"),
        (
            flags(&cert, &key) + "\n--tls-listen\nnowhere.invalid:1",
            "cannot listen on tls://",
        ),
    ] {
        let output = run(&flags.lines().collect::<Vec<_>>());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(said), "{flags}: {error}");
        assert_eq!(output.status.code(), Some(2), "{flags}: {error}");
    }
}

#[test]
fn the_program_serves_by_tls_alone_and_its_check_and_its_log_know_it() {
    let authority = Authority::new();
    let pair = authority.sign("server", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let flags = [
        "--tls-listen".to_owned(),
        "127.0.0.1:0".to_owned(),
        "--tls-cert".to_owned(),
        text(&pair.cert),
        "--tls-key".to_owned(),
        text(&pair.key),
    ];
    let mut command = std::process::Command::new(ELOCKD);
    let mut process = Process::spawn(command.args(&flags));
    let address = process.address;
    let check = |address: &str| run(&["--check", address]).status.code();
    assert_eq!(check(&format!("tls://{address}")), Some(0));
    assert_eq!(check(&address.to_string()), Some(1));
    authority.server("renewed").replace(&pair);
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&pair.key, everybody).expect("it is ours");
    process.signal("HUP");
    process.until_logged("server.key can be read by every user of this machine");
    process.until_logged("server.pem is read again");
    let config = authority.trusted(None);
    let mut client = TlsClient::connect(address, &config);
    client.ask("lock k", "200 Acquired");
    std::fs::write(&pair.key, "gone").expect("written");
    process.signal("HUP");
    process.until_logged("TLS goes on with the certificate that it has");
    client.ask("unlock k", "200 Unlocked");
    TlsClient::connect(address, &config).ask("echo", "200 []");
}

/// A server that refuses it for its lack of a certificate is well.
#[test]
fn the_check_takes_a_server_that_asks_for_certificates_for_well() {
    let encrypted = Encrypted::start_with(|config, authority| {
        config.tls_client_ca = Some(authority.ca.clone());
    });
    let address = format!("tls://{}", encrypted.address());
    assert_eq!(run(&["--check", &address]).status.code(), Some(0));
}

/// As long as the settings name its address, too, for which the certificate is.
#[cfg(feature = "systemd")]
#[test]
fn a_socket_from_systemd_that_is_named_tls_speaks_it() {
    let authority = Authority::new();
    let pair = authority.server("server");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = port.local_addr().expect("an address");
    let mut command = activated([port.into()], "tls");
    command
        .args(["--tls-listen", &address.to_string(), "--tls-cert"])
        .arg(&pair.cert)
        .arg("--tls-key")
        .arg(&pair.key);
    let _process = Process::spawn(&mut command);
    let mut client = TlsClient::connect(address, &authority.trusted(None));
    client.ask("lock k", "200 Acquired");
}
