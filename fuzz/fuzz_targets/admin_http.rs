//! Bytes to the HTTP side of a server, whoever sends them: it answers once, never fails, shows nobody what
//! is not theirs to see, and acts for nobody who may not act.

#![no_main]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use elock::InMemory;
use elock::config::Config;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::runtime::{Builder, Runtime};

const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// `ops:ops-secret` and `web:web-secret` as they stand in a request. There is no other way to write them.
const OPS: &[u8] = b"b3BzOm9wcy1zZWNyZXQ=";
const WEB: &[u8] = b"d2ViOndlYi1zZWNyZXQ=";

/// What is in all keys, values, names and owners that only `ops` may see; and in those of `web`'s.
const HIDDEN: &str = "veiled";
const OF_WEB: &str = "of-web";

const AS_OPS: &str = "Host: localhost\r\nAuthorization: Basic b3BzOm9wcy1zZWNyZXQ=\r\n\r\n";

/// What the headers of every answer begin with.
const ON_ALL: [&str; 5] = [
    "x-content-type-options: nosniff",
    "cache-control: no-store",
    "x-frame-options: DENY",
    "referrer-policy: no-referrer",
    "content-security-policy: default-src 'none'",
];

// The first byte says what the server is like, and how its client behaves.
fuzz_target!(|data: &[u8]| {
    let Some((&kind, request)) = data.split_first() else {
        return;
    };
    WORLD.with_borrow_mut(|world| {
        let stage = Stage::of(kind);
        let manners = Manners {
            hangs_up: kind & 4 > 0,
            pipe_bytes: if kind & 8 > 0 { 8 } else { 64 * 1024 },
        };
        // hyper takes a hang-up for the end of everything; and is done with a request for another protocol
        // whose body nobody reads before its answer is sent, which is a request that nobody has a use for.
        let asks_for_other = contains(&request.to_ascii_lowercase(), b"upgrade");
        let may_be_cut = manners.hangs_up || asks_for_other;
        let answer = Answer::of(&world.ask(stage, request, manners), may_be_cut);
        if let Some(answer) = &answer {
            answer.check(stage, request);
        }
        // It may have acted without telling.
        let has_acted = match &answer {
            Some(answer) => answer.has_acted(),
            None => contains(request, b"POST "),
        };
        if has_acted {
            world.assert_others_have_all(stage, request);
            // The next request finds everything as it was.
            *world = World::default();
        }
    });
});

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// What the server is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has the users of `users.toml`.
    Users,
    /// It has none, and so asks nobody who it is.
    Open,
    /// It has users, and reads its store.
    Loading,
    /// It has users, and stops.
    Stopping,
}

impl Stage {
    fn of(kind: u8) -> Self {
        [Self::Users, Self::Open, Self::Loading, Self::Stopping][usize::from(kind & 3)]
    }
}

/// How a client behaves.
#[derive(Debug, Clone, Copy)]
struct Manners {
    /// Whether it sends an end behind its request, or is silent.
    hangs_up: bool,
    /// How many bytes are under way at one time.
    pipe_bytes: usize,
}

const POLITE: Manners = Manners {
    hangs_up: false,
    pipe_bytes: 64 * 1024,
};

/// A server of each stage, on a clock that stands still while anybody has something to do.
struct World {
    runtime: Runtime,
    servers: [InMemory; 4],
}

impl Default for World {
    fn default() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let servers = runtime.block_on(async {
            [
                busy_server(true).await,
                busy_server(false).await,
                InMemory::loading(config(true)),
                stopping_server().await,
            ]
        });
        Self { runtime, servers }
    }
}

impl World {
    /// Sends a request, and returns all that comes back.
    fn ask(&self, stage: Stage, request: &[u8], manners: Manners) -> Vec<u8> {
        let server = &self.servers[stage as usize];
        let (ours, theirs) = duplex(manners.pipe_bytes);
        let asking = async {
            let (mut reader, mut writer) = split(theirs);
            let sending = async {
                // The server need not read all.
                let _ = writer.write_all(request).await;
                if manners.hangs_up {
                    let _ = writer.shutdown().await;
                }
            };
            let mut answer = Vec::new();
            let (_, read) = tokio::join!(sending, reader.read_to_end(&mut answer));
            read.expect("a pipe does not break");
            answer
        };
        let both = async { tokio::join!(server.serve(ours, FROM), asking).1 };
        self.runtime.block_on(both)
    }

    /// Whoever acted as `web`, the locks and sessions that `web` must not see are there.
    fn assert_others_have_all(&self, stage: Stage, request: &[u8]) {
        if stage != Stage::Users || contains(request, OPS) {
            return;
        }
        for (path, what, all) in [
            ("/api/locks", "\"key\":\"shop:", 4),
            ("/api/sessions", "\"user\":\"shop\"", 2),
        ] {
            let head = format!("GET {path} HTTP/1.1\r\n{AS_OPS}");
            let told = self.ask(stage, head.as_bytes(), POLITE);
            let told = String::from_utf8_lossy(&told);
            assert_eq!(told.matches(what).count(), all, "{path}: {told}");
        }
    }
}

fn config(has_users: bool) -> Config {
    let users = concat!(env!("CARGO_MANIFEST_DIR"), "/users.toml");
    Config {
        admin: vec!["127.0.0.1:11480".parse().expect("an address")],
        auth_file: has_users.then(|| users.into()),
        ..Config::default()
    }
}

/// One with locks and waiters of everybody's, and with events.
async fn busy_server(has_users: bool) -> InMemory {
    let mut server = InMemory::loading(config(has_users));
    server.serves();
    let [shop, other_shop, web, other_web, ops] = [(); 5].map(|()| server.connect());
    for (client, line) in [
        (shop, "auth shop shop-secret"),
        (shop, "name veiled-shop"),
        (shop, "lock shop:veiled-1"),
        (shop, "lock_value shop:veiled-2 veiled-value"),
        (shop, "lock shop:veiled-3 0 veiled-owner 86400000"),
        (web, "auth web web-secret"),
        (web, "name web-1:of-web"),
        (web, "lock web:of-web-1"),
        (web, "lock_slot common:of-web-2 3"),
        (web, "lock common:of-web-3 0 of-web-owner 86400000"),
        (other_web, "auth web web-secret"),
        (other_shop, "auth shop shop-secret"),
        (other_shop, "lock common:of-web-4"),
        (ops, "auth ops ops-secret"),
        (ops, "lock shop:veiled-4"),
        // Events: a lease that ends, and a lock that is taken away.
        (shop, "lock shop:veiled-5"),
        (shop, "expire shop:veiled-5 1"),
        (web, "lock web:of-web-5"),
        (ops, "force_unlock web:of-web-5"),
    ] {
        server.ask(client, line, "200").await;
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    server.wait(other_web, "lock web:of-web-1 86400", 1).await;
    server.wait(other_shop, "lock shop:veiled-4 86400", 2).await;
    // And one that `web` must not be told of, as it names a key of `shop`'s, too.
    server.ask(ops, "lock common:of-web-4 1", "423").await;
    server
}

async fn stopping_server() -> InMemory {
    let server = busy_server(true).await;
    server.begins_to_stop();
    server
}

/// What came back, which is one answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
    may_be_cut: bool,
}

impl Answer {
    /// `None` if there is none, as to a request that has no end, or not a whole head.
    fn of(bytes: &[u8], may_be_cut: bool) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let text = text
            .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
            .unwrap_or(&text);
        if text.is_empty() {
            return None;
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(may_be_cut, "no whole head: {text}");
            return None;
        };
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        assert!(head.starts_with("HTTP/1."), "{head}");
        Some(Self {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: body.to_owned(),
            may_be_cut,
        })
    }

    fn has_acted(&self) -> bool {
        self.body == "{\"done\":true}\n"
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(other, value)| (other == name).then_some(value))
    }

    fn check(&self, stage: Stage, request: &[u8]) {
        self.check_form(request);
        self.check_status(stage);
        match stage {
            Stage::Users | Stage::Stopping => self.check_rights(request),
            Stage::Open => self.check_names(request),
            Stage::Loading => assert!(self.is_health() || self.status >= 400, "{}", self.body),
        }
    }

    fn check_form(&self, request: &[u8]) {
        let length = self.header("content-length").map(|length| length.parse());
        let is_whole = length == Some(Ok(self.body.len()));
        assert!(
            is_whole || self.may_be_cut || self.body.is_empty() && contains(request, b"HEAD"),
            "{}",
            self.head
        );
        // What is no request at all has no answer but hyper's own.
        let is_of_hyper = matches!(self.status, 400 | 414 | 431) && self.body.is_empty();
        if self.header("content-type").is_none() && is_of_hyper {
            return;
        }
        for header in ON_ALL {
            assert!(self.head.contains(header), "{header}: {}", self.head);
        }
    }

    fn check_status(&self, stage: Stage) {
        let may_be_busy = matches!(stage, Stage::Loading | Stage::Stopping);
        assert!(
            self.status < 500 || self.status == 503 && may_be_busy,
            "{}",
            self.body
        );
        assert!(self.status != 101 && self.status >= 200, "{}", self.head);
    }

    /// What is anybody's to know.
    fn is_health(&self) -> bool {
        matches!(&*self.body, "ok\n" | "ready\n" | "") || self.status == 503
    }

    fn check_rights(&self, request: &[u8]) {
        if contains(request, OPS) {
            return;
        }
        // What makes no sense is told in the client's own words.
        let knows =
            |word: &str| matches!(self.status, 400 | 422) && contains(request, word.as_bytes());
        assert!(
            knows(HIDDEN) || !self.body.contains(HIDDEN),
            "{}",
            self.body
        );
        if !contains(request, WEB) {
            assert!(!self.body.contains(OF_WEB), "{}", self.body);
            assert!(self.is_health() || self.status >= 400, "{}", self.body);
        }
    }

    /// Without a password, a page of a stranger's is kept out by the names that it must give.
    fn check_names(&self, request: &[u8]) {
        if !values(request, "host").any(|host| is_of_this_machine(&host)) {
            assert!(self.is_health() || self.status >= 400, "{}", self.body);
        }
        let of_page = values(request, "sec-fetch-site").next();
        if of_page.is_some_and(|site| site != "same-origin" && site != "none") {
            assert!(!self.has_acted(), "it is a stranger's page");
        }
    }
}

/// The values of a header in lines that may be of a head.
fn values(request: &[u8], name: &str) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(request).into_owned();
    let lines: Vec<_> = text.split('\n').map(str::to_owned).collect();
    lines.into_iter().filter_map(move |line| {
        let (found, value) = line.split_once(':')?;
        let value = value.trim().to_owned();
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn is_of_this_machine(host: &str) -> bool {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let name = if port.ends_with(']') { host } else { name };
    let name = name.trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
