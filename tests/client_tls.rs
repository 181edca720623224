//! The client library and the command `elock` by TLS, and as users with passwords.
#![cfg(all(feature = "cli", feature = "tls", feature = "auth"))]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::tls::{Authority, Pair};
use common::{PATIENCE, Server, run};
use elock_client::command::Echo;
use elock_client::{Client, Connection, ConnectionError, Error, Options, Servers};

/// Users `web`, `shop` and `ops`, whose passwords are their names and `-secret`.
const USERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/access/users.toml");

const ELOCK: &str = env!("CARGO_BIN_EXE_elock");

/// A server that speaks TLS and asks who comes.
struct Guarded {
    authority: Authority,
    pair: Pair,
    server: Server,
}

impl Guarded {
    fn start() -> Self {
        Self::start_with(|_, _| {})
    }

    fn start_with(change: impl FnOnce(&mut elock::config::Config, &Authority)) -> Self {
        let authority = Authority::new();
        let pair = authority.server("server");
        let server = Server::start_with(|config| {
            pair.serve(config);
            config.auth_file = Some(PathBuf::from(USERS));
            change(config, &authority);
        });
        Self {
            authority,
            pair,
            server,
        }
    }

    fn url(&self) -> String {
        format!("elocks://{}", self.server.tls_address.expect("a TLS port"))
    }

    /// As `web`, who trusts the server.
    fn options(&self) -> Options {
        let servers: Servers = self.url().parse().expect("an address");
        Options::new(servers)
            .ca(&self.authority.ca)
            .user("web", "web-secret")
            .request_deadline(PATIENCE / 3)
    }

    async fn until_waiting(&self, waiters: u64) {
        while self.info("waiters") != waiters {
            tokio::task::yield_now().await;
        }
    }

    fn info(&self, name: &str) -> u64 {
        let mut client = common::Client::connect(self.server.address);
        client.ask("auth ops ops-secret", "200 OK");
        let info = client.ask_list("info");
        let line = info
            .iter()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.expect("a counter").parse().expect("a number")
    }

    fn elock(&self) -> Command {
        let mut command = Command::new(ELOCK);
        command
            .env("ELOCK_SERVER", self.url())
            .env("ELOCK_CA", &self.authority.ca)
            .env("ELOCK_USER", "web")
            .env("ELOCK_PASSWORD", "web-secret");
        command
    }
}

#[test]
fn a_client_locks_waits_and_hands_over_by_tls_on_every_connection_of_its_pool() {
    let guarded = Guarded::start();
    run(async {
        let one = guarded.options().connect().await.expect("let in");
        let other = guarded.options().connect().await.expect("let in");
        let guard = one.lock("web:k").await.expect("free");
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let other = other.clone();
                tokio::spawn(async move {
                    let next = other.lock("web:k").wait(PATIENCE).await?;
                    assert!(next.is_held());
                    next.release().await
                })
            })
            .collect();
        guarded.until_waiting(4).await;
        drop(guard);
        for next in waiting {
            next.await.expect("no panic").expect("its turn");
        }
        let outside = one.lock("shop:k").await;
        assert!(matches!(outside, Err(Error::NotAllowed)), "{outside:?}");
    });
}

/// More than the socket takes at once, either way.
#[test]
fn much_passes_in_one_go() {
    let guarded = Guarded::start();
    run(async {
        let client = guarded.options().connect().await.expect("let in");
        let word = vec![b'x'; 4_000];
        let asked: Vec<_> = (0..1_000)
            .map(|_| {
                let (client, words) = (client.clone(), vec![word.clone()]);
                tokio::spawn(async move { client.call(&Echo { words }).await })
            })
            .collect();
        for answer in asked {
            answer.await.expect("no panic").expect("an answer");
        }
    });
}

#[test]
fn a_session_is_resumed_by_tls_and_its_password() {
    let guarded = Guarded::start();
    run(async {
        let proxy = Proxy::start(guarded.server.tls_address.expect("a TLS port")).await;
        let servers: Servers = format!("elocks://{}", proxy.address).parse().expect("one");
        let servers = servers
            .ca(&guarded.authority.ca)
            .user("web")
            .password("web-secret");
        let client = Options::new(servers).connect().await.expect("let in");
        let guard = client.lock("web:k").await.expect("free");
        proxy.cut();
        let again = client.lock("web:other").wait(PATIENCE).await.expect("free");
        assert!(guard.is_held() && again.is_held());
        let held = client.watch("web:k").await.expect("an answer");
        assert!(
            matches!(held, elock_client::command::State::Held { token, .. } if token == guard.token())
        );
        guard.release().await.expect("held");
    });
}

#[test]
fn a_wrong_password_is_told_at_once_and_tried_once() {
    let guarded = Guarded::start();
    run(async {
        let wrong = guarded.options().user("web", "guess");
        let begin = Instant::now();
        for _ in 0..20 {
            let refused = wrong.clone().connect().await.expect_err("it is wrong");
            assert!(
                matches!(
                    &refused,
                    Error::Connection(ConnectionError::Unauthorized { .. })
                ),
                "{refused}"
            );
            assert!(!format!("{refused} {refused:?} {wrong:?}").contains("guess"));
        }
        assert!(begin.elapsed() < Duration::from_secs(4));
        let servers: Servers = guarded.url().parse().expect("an address");
        let unsaid = Options::new(servers).ca(&guarded.authority.ca);
        let refused = unsaid.connect().await.expect_err("it is asked for");
        assert!(
            matches!(
                &refused,
                Error::Connection(ConnectionError::Unauthorized { .. })
            ),
            "{refused}"
        );
    });
    assert_eq!(guarded.info("wrong_passwords"), 1);
}

/// Its connection stands, so only what needs another one learns of it: soon, and without many tries.
#[test]
fn a_password_that_is_changed_is_told_to_callers_and_not_retried_without_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "first").expect("written");
    let server = Server::start_with(|config| config.password_file = Some(file.clone()));
    run(async {
        let servers: Servers = server.address.to_string().parse().expect("an address");
        let client = Options::new(servers.password("first")).connect().await;
        let client = client.expect("let in");
        let guard = client.lock("k").await.expect("free");
        std::fs::write(&file, "second").expect("written");
        server.control.reload();
        let mut probe = common::Client::connect(server.address);
        loop {
            probe.send("auth second");
            match probe.read().as_str() {
                "200 OK" => break,
                _ => probe = common::Client::connect(server.address),
            }
        }
        for _ in 0..50 {
            let refused = client.session().await.expect_err("the password is another");
            assert!(
                matches!(
                    &refused,
                    Error::Connection(ConnectionError::Unauthorized { .. })
                ),
                "{refused}"
            );
        }
        assert!(guard.is_held());
        let info = client.info().await.expect("its connection stands");
        assert!(info.number("wrong_passwords") < 10);
    });
}

#[test]
fn a_certificate_is_a_user_without_a_password() {
    let guarded = Guarded::start_with(|config, authority| {
        config.tls_client_ca = Some(authority.ca.clone());
    });
    let web = guarded.authority.client("web");
    let nobody = guarded.authority.client("nobody");
    run(async {
        let servers: Servers = guarded.url().parse().expect("an address");
        let options = || Options::new(servers.clone()).ca(&guarded.authority.ca);
        let client = options().client_certificate(&web.cert, &web.key).connect();
        let client = client.await.expect("let in");
        let _held = client.lock("web:k").await.expect("free");
        let outside = client.lock("shop:k").await;
        assert!(matches!(outside, Err(Error::NotAllowed)));
        // A name that is no user's is a stranger, who may still know a password.
        let options = options().client_certificate(&nobody.cert, &nobody.key);
        let stranger = options.clone().connect().await.expect_err("no user");
        assert!(
            matches!(
                &stranger,
                Error::Connection(ConnectionError::Unauthorized { .. })
            ),
            "{stranger}"
        );
        let options = options.user("web", "web-secret");
        options.connect().await.expect("let in");
    });
}

#[test]
fn what_is_wrong_with_tls_is_said() {
    let guarded = Guarded::start_with(|config, authority| {
        config.tls_client_ca = Some(authority.ca.clone());
    });
    let other = Authority::new();
    let known = guarded.authority.client("web");
    // As `openssl ec -aes256` writes it.
    let encrypted = known.key.with_extension("encrypted");
    let text = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
                MIIB\n-----END EC PRIVATE KEY-----\n";
    std::fs::write(&encrypted, text).expect("written");
    run(async {
        let plain = format!("elocks://{}", guarded.server.address);
        let url = guarded.url();
        let with = |url: &str| url.parse::<Servers>().expect("an address");
        let trusted = |servers: Servers| servers.ca(&guarded.authority.ca);
        for (servers, said) in [
            (with(&url), "not trusted"),
            (with(&url).ca(&other.ca), "not trusted"),
            (with(&url).ca("/nowhere"), "cannot read /nowhere"),
            (with(&url).ca(&known.key), "has no certificate in PEM form"),
            (trusted(with(&plain)), "speaks no TLS"),
            (
                trusted(with(&url)),
                "refuses the connection: CertificateRequired",
            ),
            (
                trusted(with(&url)).client_certificate(&known.cert, &guarded.pair.key),
                "is not the key of the certificate in",
            ),
            (
                trusted(with(&url)).client_certificate(known.of_version_1(), &known.key),
                "is of X.509 version 1",
            ),
            (
                trusted(with(&url)).client_certificate(&known.cert, &encrypted),
                "is encrypted; \"openssl pkey",
            ),
            (
                trusted(with(&url)).client_certificate(&known.cert, "/nowhere"),
                "cannot read /nowhere",
            ),
        ] {
            let refused = Options::new(servers).connect().await.expect_err(said);
            assert!(refused.to_string().contains(said), "{refused} for {said}");
            assert!(
                matches!(&refused, Error::Connection(ConnectionError::Tls { .. })),
                "{refused:?}"
            );
        }
        let plain = url.replace("elocks", "elock");
        let told = Client::connect(&plain)
            .await
            .expect_err("it speaks TLS only");
        assert!(
            told.to_string()
                .contains(&format!("this port speaks TLS only: name it {url}")),
            "{told}"
        );
        let alone = Options::new(with(&url).user("web")).connect().await;
        assert!(matches!(alone, Err(Error::BadOption(_))));
        let address = with(&url).addresses()[0].clone();
        let servers = with(&url)
            .ca(&guarded.authority.ca)
            .client_certificate(&known.cert, &known.key);
        let mut connection = Connection::to(&servers, &address, PATIENCE)
            .await
            .expect("let in");
        connection.call(&Echo::default()).await.expect("an answer");
    });
}

fn text(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(text).expect("text")
}

#[test]
fn every_command_of_elock_is_let_in_by_tls() {
    let guarded = Guarded::start();
    let ops = |arguments: &[&str]| {
        let mut command = guarded.elock();
        command
            .env("ELOCK_USER", "ops")
            .env("ELOCK_PASSWORD", "ops-secret")
            .args(arguments);
        command
    };
    let said = |mut command: Command| {
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{command:?}: {}", text(&output));
        text(&output)
    };
    let mut lock = guarded.elock();
    // From within the command, too.
    let script = format!("{ELOCK} who web:k && {ELOCK} send 'token web:none' || echo $?");
    let told = said({
        lock.args(["lock", "web:k", "--", "sh", "-c", &script]);
        lock
    });
    assert!(told.contains("not_locked") && told.contains("65"), "{told}");
    for arguments in [
        &["status"][..],
        &["locks"],
        &["sessions"],
        &["graph"],
        &["send", "echo"],
    ] {
        said(ops(arguments));
    }
    let mut shell = ops(&["shell"]);
    shell
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut shell = shell.spawn().expect("it starts");
    let mut typed = shell.stdin.take().expect("piped");
    std::io::Write::write_all(&mut typed, b"echo by tls\n:b echo\n").expect("typed");
    drop(typed);
    let output = shell.wait_with_output().expect("it ends");
    assert!(
        text(&output).contains("[\"by\",\"tls\"]"),
        "{}",
        text(&output)
    );
    let password = guarded.authority.ca.with_file_name("password");
    std::fs::write(&password, "any\n").expect("written");
    let open = Server::start_with(|config| guarded.pair.serve(config));
    for workload in ["own", "contended", "churn", "mixed"] {
        let mut bench = Command::new(ELOCK);
        let url = format!("elocks://{}", open.tls_address.expect("a TLS port"));
        bench
            .args(["bench", "--clients", "4", "--duration", "50ms", "--json"])
            .args(["--workload", workload, "--server", &url])
            .arg("--ca")
            .arg(&guarded.authority.ca)
            .arg("--password-file")
            .arg(&password);
        assert!(said(bench).contains("requests_per_second"));
    }
}

#[test]
fn the_command_says_who_is_not_let_in_and_never_shows_a_password() {
    let guarded = Guarded::start();
    let output = |change: &dyn Fn(&mut Command)| {
        let mut command = guarded.elock();
        change(command.args(["status"]));
        let output = command.output().expect("it runs");
        assert!(!text(&output).contains("hush"), "{}", text(&output));
        (output.status.code(), text(&output))
    };
    let (code, said) = output(&|command| {
        command.env("ELOCK_PASSWORD", "hush");
    });
    assert!(
        code == Some(77) && said.contains("wrong user or password"),
        "{said}"
    );
    let (code, said) = output(&|command| {
        command.env("ELOCK_PASSWORD", "").env("ELOCK_USER", "");
    });
    assert!(
        code == Some(77)
            && said.contains("the server asks who comes: auth required: give --password-file FILE"),
        "{said}"
    );
    let (code, said) = output(&|command| {
        command.env("ELOCK_PASSWORD", "");
    });
    assert!(
        code == Some(2) && said.contains("--user needs a password"),
        "{said}"
    );
    let (code, said) = output(&|command| {
        let url = guarded.url().replace("://", "://web:hush@");
        command.args(["--server", &url]);
    });
    assert!(
        code == Some(2) && said.contains("sees the password"),
        "{said}"
    );
    let (code, said) = output(&|command| {
        let url = guarded.url().replace("://", "://web:web-secret@");
        command
            .env("ELOCK_SERVER", url)
            .env("ELOCK_PASSWORD", "")
            .env("ELOCK_USER", "");
    });
    assert!(code != Some(2) && code != Some(77), "{said}");
    for password in ["", "hush"] {
        let (code, said) = output(&|command| {
            let plain = guarded.url().replace("elocks://", "");
            command.args(["--server", &plain]);
            command
                .env("ELOCK_PASSWORD", password)
                .env("ELOCK_USER", "");
        });
        let hint = format!("this port speaks TLS only: name it {}", guarded.url());
        assert!(code == Some(69) && said.contains(&hint), "{said}");
    }
    let (code, said) = output(&|command| {
        command.args(["--password-file", "/nowhere"]);
    });
    assert!(code == Some(2) && said.contains("/nowhere"), "{said}");
    let (code, said) = output(&|command| {
        command.env("ELOCK_CA", "/nowhere");
    });
    assert!(
        code == Some(69) && said.contains("cannot read /nowhere"),
        "{said}"
    );
}
