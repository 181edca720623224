//! A session is taken over: from a connection that stands, from one whose far side is held open by
//! somebody else, from one that vanished without a word, and while a grant, the end of the grace
//! period and a disconnect come at the same time.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread::JoinHandle;
use std::time::Instant;

use common::{Client, PATIENCE, Server};

const RESUMED: &str = "200 Resumed";

/// The public number in a session's id.
fn number(id: &str) -> &str {
    id.split('-').next().expect("a number")
}

fn holds(client: &mut Client, key: &str) -> bool {
    client.send(format!("token {key}"));
    let answer = client.read();
    assert!(
        answer.starts_with("200 ") || answer.starts_with("403 "),
        "{answer}"
    );
    answer.starts_with("200 ")
}

fn info(client: &mut Client, name: &str) -> u64 {
    let lines = client.ask_list("info");
    let line = lines
        .iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("a line").parse().expect("a number")
}

// ---------------------------------------------------------------------------- what it does

#[test]
fn a_connected_session_is_taken_over_at_once_with_all_that_it_has() {
    let server = Server::start();
    let (mut old, mut new) = (server.connect(), server.connect());
    let id = old.id();
    old.ask("lock k", "200 Acquired");
    old.ask("lock_value s v", "200 Acquired");
    old.ask("lock_slot slots 3", "200 Acquired");
    old.ask("lock_all 0 a b", "200 Acquired");
    old.send("token k");
    let token = old.read();
    new.ask(format!("resume {id}"), RESUMED);
    old.expect_closed();
    new.ask("token k", &token);
    assert_eq!(new.id(), id);
    for key in ["k", "s", "slots", "a", "b"] {
        new.ask(format!("unlock {key}"), "200 Unlocked");
    }
    let mut observer = server.connect();
    let left = ["STAT clients 2", "STAT locks 0", "STAT monitoring 2"];
    assert_eq!(observer.ask_list("stats")[1..], left);
    assert_eq!(info(&mut observer, "take_overs"), 1);
    assert_eq!(info(&mut observer, "resumes"), 0);
}

#[test]
fn a_request_that_waits_there_is_never_granted_and_nothing_behind_it_is_run() {
    let server = Server::start();
    let (mut holder, mut old) = (server.connect(), server.connect());
    let (mut next, mut new) = (server.connect(), server.connect());
    let id = old.id();
    holder.ask("lock k", "200 Acquired");
    old.send("lock k 3600\nlock behind\necho behind");
    server.until_waiting(1);
    next.send("lock k 3600");
    server.until_waiting(2);
    new.ask(format!("resume {id}"), RESUMED);
    server.until_waiting(1);
    holder.ask("unlock k", "200 Unlocked");
    next.expect("200 Acquired");
    old.expect_closed();
    new.ask("token k", "403 not_yours");
    new.ask("watch behind", "200 free");
    let mut observer = server.connect();
    assert_eq!(observer.ask_list("stats")[2], "STAT locks 1");
}

#[test]
fn waits_for_several_keys_for_a_watched_key_and_for_an_owners_lock_end_with_it_too() {
    let server = Server::start();
    let (mut holder, mut next) = (server.connect(), server.connect());
    holder.ask("lock k", "200 Acquired");
    let known = token(&mut holder, "k");
    for wait in [
        "lock_all 3600 a k".to_owned(),
        "lock k 3600 word 0".to_owned(),
        "lock_slot k 2 3600".to_owned(),
        format!("watch k {known} 3600"),
    ] {
        let (mut old, mut new) = (server.connect(), server.connect());
        let id = old.id();
        old.send(&wait);
        if !wait.starts_with("watch") {
            server.until_waiting(1);
        }
        new.ask(format!("resume {id}"), RESUMED);
        old.expect_closed();
        server.until_waiting(0);
        next.ask("watch a", "200 free");
        holder.ask("token k", &format!("200 {known}"));
        assert!(!holds(&mut new, "k") && !holds(&mut new, "a"), "{wait}");
    }
    holder.ask("unlock k", "200 Unlocked");
    next.ask("watch k", "200 free");
}

fn token(client: &mut Client, key: &str) -> u64 {
    client.send(format!("token {key}"));
    let answer = client.read();
    let token = answer.strip_prefix("200 ").expect("it is held");
    token.parse().expect("a number")
}

/// All locks are granted before the first of their answers is read; of the answers, some are on their
/// way to the client when the session is taken over, and the others are never sent.
#[test]
fn exactly_what_the_old_connection_was_told_of_is_held_by_the_new_one() {
    const LOCKS: usize = 100;
    let server = Server::start_with(|config| config.max_unsent = 1 << 26);
    let (mut old, mut new) = (with_small_buffers(server.address), server.connect());
    let id = old.id();
    // More than what fits into the buffers of two sockets.
    let much = "help\n".repeat(14);
    let batch: String = (0..LOCKS).map(|at| format!("lock k{at}\n{much}")).collect();
    assert!(batch.len() <= 8 * 1024, "what the server reads at once");
    old.send_raw(batch);
    let locks = |lines: &[String]| {
        lines
            .iter()
            .filter(|line| line.starts_with("LOCK "))
            .count()
    };
    server.until("all grants", |lines| locks(lines) == LOCKS);
    // Some are on their way from here on.
    old.expect("200 Acquired");
    new.ask(format!("resume {id}"), RESUMED);
    let told = old.read_at_most(usize::MAX);
    let whole = 1 + told.iter().filter(|line| *line == "200 Acquired").count();
    assert!((1..LOCKS).contains(&whole), "{whole} answers were sent");
    let held: Vec<bool> = (0..LOCKS)
        .map(|at| holds(&mut new, &format!("k{at}")))
        .collect();
    let expected: Vec<bool> = (0..LOCKS).map(|at| at < whole).collect();
    assert_eq!(held, expected);
    let locks = format!("STAT locks {whole}");
    assert_eq!(
        server.connect().ask_list("stats")[2],
        locks,
        "the others are free"
    );
}

/// A client whose socket takes little that it does not read.
fn with_small_buffers(address: SocketAddr) -> Client {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        None,
    );
    let socket = socket.expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    socket.connect(&address.into()).expect("the server accepts");
    Client::over(socket.into())
}

/// The lock passes to a session that cannot be told of it, as its client does not read, and then the
/// session is taken over.
#[test]
fn a_grant_whose_answer_was_not_written_passes_on() {
    let server = Server::start_with(|config| config.max_unsent = 1 << 26);
    let (mut old, mut new) = (with_small_buffers(server.address), server.connect());
    let mut next = server.connect();
    let id = old.id();
    old.send_raw(format!("{}lock k\n", "help\n".repeat(1600)));
    server.until("the grant", |lines| {
        lines.iter().any(|line| line.starts_with("LOCK k "))
    });
    next.send("lock k 3600");
    server.until_waiting(1);
    new.ask(format!("resume {id}"), RESUMED);
    next.expect("200 Acquired");
    new.ask("token k", "403 not_yours");
}

#[test]
fn an_id_that_no_session_has_is_refused_and_the_session_it_resembles_goes_on() {
    let server = Server::start();
    let (mut a, mut ended, mut b) = (server.connect(), server.connect(), server.connect());
    let (id, over) = (a.id(), ended.id());
    ended.ask("set_timeout 0", "200 timeout set");
    drop(ended);
    server.until("its end", |lines| {
        !lines
            .iter()
            .any(|line| line.starts_with("SESSION {\"id\":2,"))
    });
    let resembles = format!("{}-{:032x}", number(&id), 1);
    for id in ["1", "x", "99-00000000000000000000000000000000"] {
        b.ask(format!("resume {id}"), "403 unknown");
    }
    b.ask(format!("resume {resembles}"), "403 unknown");
    b.ask(format!("resume {over}"), "403 unknown");
    a.ask("echo", "200 []");
    assert_eq!(info(&mut a, "take_overs"), 0);
}

#[test]
fn who_holds_locks_takes_nothing_over_and_the_other_connection_goes_on() {
    let server = Server::start();
    let (mut a, mut b) = (server.connect(), server.connect());
    let id = a.id();
    b.ask("lock k", "200 Acquired");
    b.ask(format!("resume {id}"), "403 holds_locks");
    a.ask("echo", "200 []");
    b.ask("unlock k", "200 Unlocked");
    // An owner's lock is not the session's.
    b.ask("lock k 0 word 0", "200 Acquired");
    b.ask(format!("resume {id}"), RESUMED);
    a.expect_closed();
    b.ask("unlock k word", "200 Unlocked");
}

#[test]
fn ones_own_session_can_be_taken_over_by_oneself() {
    let server = Server::start();
    let mut a = server.connect();
    let id = a.id();
    a.ask("lock k", "200 Acquired");
    a.ask(format!("resume {id}"), RESUMED);
    a.ask("unlock k", "200 Unlocked");
    a.ask(format!("resume {}-{:032x}", number(&id), 1), "403 unknown");
    assert_eq!(info(&mut a, "take_overs"), 0);
}

#[test]
fn a_session_without_a_grace_period_is_taken_over_and_has_none_afterwards() {
    let server = Server::start();
    let (mut old, mut new) = (server.connect(), server.connect());
    let id = old.id();
    old.ask("set_timeout 0", "200 timeout set");
    old.ask("lock k", "200 Acquired");
    new.ask(format!("resume {id}"), RESUMED);
    old.expect_closed();
    assert!(holds(&mut new, "k"));
    let mut next = server.connect();
    next.send("lock k 3600");
    server.until_waiting(1);
    drop(new);
    next.expect("200 Acquired");
}

/// The connection that takes a session over belongs to a session that is taken over itself.
#[test]
fn two_sessions_that_take_each_other_over_leave_nobody_waiting() {
    let server = Server::start();
    for _ in 0..50 {
        let mut clients = [server.connect(), server.connect()];
        let ids = [clients[1].id(), clients[0].id()];
        for (client, other) in clients.iter_mut().zip(&ids) {
            client.send_if_open(&format!("resume {other}"));
        }
        for mut client in clients {
            let answers = client.read_at_most(1);
            assert!(answers.is_empty() || answers == [RESUMED], "{answers:?}");
        }
    }
}

fn until_both_have_succeeded(observer: &mut Client, successes: u64) {
    let begin = Instant::now();
    while info(observer, "take_overs") + info(observer, "resumes") < successes {
        assert!(begin.elapsed() < PATIENCE, "one has not succeeded");
        std::thread::yield_now();
    }
}

/// Each of two succeeds in turn; the first may be cut off before it is told so.
#[test]
fn of_two_who_take_one_session_over_at_once_exactly_one_has_it_at_the_end() {
    const ROUNDS: u64 = 200;
    let server = Server::start();
    let mut observer = server.connect();
    for round in 1..=ROUNDS {
        let mut owner = server.connect();
        let id = owner.id();
        owner.ask("lock k", "200 Acquired");
        let mut rivals = [server.connect(), server.connect()];
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            for rival in &mut rivals {
                scope.spawn(|| {
                    barrier.wait();
                    rival.send_if_open(&format!("resume {id}"));
                });
            }
        });
        until_both_have_succeeded(&mut observer, 2 * round);
        let mut answers = rivals.each_mut().map(|rival| {
            rival.send_if_open("unlock k");
            rival.read_at_most(2)
        });
        answers.sort();
        assert_eq!(answers[1], [RESUMED, "200 Unlocked"], "in round {round}");
        assert!(
            answers[0].is_empty() || answers[0] == [RESUMED],
            "{answers:?}"
        );
        owner.expect_closed();
    }
}

// ---------------------------------------------------------------------------- far sides that stay open

/// Passes on what comes, to one server; when the client closes, the server is not told.
struct HoldingProxy {
    address: SocketAddr,
    thread: JoinHandle<TcpStream>,
}

impl HoldingProxy {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a port");
        let thread = std::thread::spawn(move || {
            let (near, _) = listener.accept().expect("the client connects");
            let far = TcpStream::connect(server).expect("the server accepts");
            let (answers, client) = (clone(&far), clone(&near));
            std::thread::spawn(move || pass_on(answers, client));
            pass_on(near, clone(&far));
            far
        });
        Self { address, thread }
    }

    /// Waits for the end of the client's connection, and returns the one that is held open.
    fn until_the_client_has_closed(self) -> TcpStream {
        self.thread.join().expect("it passes on")
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket")
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}

#[test]
fn a_far_side_that_somebody_holds_open_hinders_only_the_old_command() {
    let server = Server::start();
    let proxy = HoldingProxy::start(server.address);
    let mut old = Client::connect(proxy.address);
    let (id, mut new) = (old.id(), server.connect());
    old.ask("lock k", "200 Acquired");
    drop(old);
    let mut held_open = proxy.until_the_client_has_closed();
    let connected = "403 cannot set conn id: still connected";
    new.ask(format!("conn_id {id}"), connected);
    new.ask(format!("resume {id}"), RESUMED);
    new.ask("unlock k", "200 Unlocked");
    let mut rest = Vec::new();
    held_open.read_to_end(&mut rest).expect("the server closes");
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

// ---------------------------------------------------------------------------- everything at once

/// Random enough, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        (self.0 >> 33) % bound
    }

    /// Something to do in a short while, which is how the order of several threads comes about.
    fn delay(&mut self) -> impl FnOnce() + Send + use<> {
        let bits = self.below(18);
        let spins = self.below(1 << bits);
        move || (0..spins).for_each(|_| std::hint::spin_loop())
    }
}

/// How a connection ends, and whether its client reads all that the server sent before that.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Not,
    HalfClosed,
    Reset,
}

/// The clients that stay from round to round.
struct Race {
    server: Server,
    holder: Client,
    next: Client,
    observer: Client,
    dice: Dice,
}

/// What one session's client and its rival were told in a round.
struct Told {
    end: End,
    /// Whether the old connection was told of the lock; `None` if nobody has read that.
    of_grant: Option<bool>,
    new: Client,
    is_resumed: bool,
}

impl Race {
    fn start() -> Self {
        let server = Server::start();
        let (holder, next) = (server.connect(), server.connect());
        let observer = server.connect();
        Self {
            server,
            holder,
            next,
            observer,
            dice: Dice(7),
        }
    }

    fn until_waiting(&mut self, requests: usize) {
        let is_request = |line: &&String| line.starts_with("REQUEST ");
        self.observer.until("waiting requests", |lines| {
            lines.iter().filter(is_request).count() == requests
        });
    }

    /// The old session holds `own` and waits for `k`, and `next` behind it. Then, in any order: `k` is
    /// unlocked, the old connection ends, its short grace period ends, and another takes it over.
    fn round(&mut self) -> Told {
        self.holder.ask("lock k", "200 Acquired");
        let (mut old, mut new) = (self.server.connect(), self.server.connect());
        let grace = format!("set_timeout {}", self.dice.below(4));
        old.ask(grace, "200 timeout set");
        old.ask("lock own", "200 Acquired");
        let id = old.id();
        old.send("lock k 3600");
        self.until_waiting(1);
        self.next.send("lock k 3600");
        self.until_waiting(2);
        let end = [End::Not, End::HalfClosed, End::Reset][self.dice.below(3) as usize];
        let delays = [self.dice.delay(), self.dice.delay(), self.dice.delay()];
        let (barrier, holder) = (Barrier::new(3), &mut self.holder);
        let [first, second, third] = delays;
        let (of_grant, answer) = std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                first();
                holder.ask("unlock k", "200 Unlocked");
            });
            let old = scope.spawn(|| {
                barrier.wait();
                second();
                end_and_read(old, end)
            });
            barrier.wait();
            third();
            new.send(format!("resume {id}"));
            let answer = new.read();
            if answer != RESUMED {
                // Else the server would not end the connection.
                assert_eq!(answer, "403 unknown");
                assert_ne!(end, End::Not, "it was there all the time");
            }
            (old.join().expect("it ends"), answer)
        });
        Told {
            end,
            of_grant,
            new,
            is_resumed: answer == RESUMED,
        }
    }

    /// Whoever was told of the lock has it, alone; and nobody else has.
    fn check(&mut self, told: Told) {
        let Told {
            end,
            of_grant,
            mut new,
            is_resumed,
        } = told;
        let has_it = is_resumed && holds(&mut new, "k");
        assert_eq!(holds(&mut new, "own"), is_resumed);
        // Else it was lost with the session, or read by nobody.
        if let (Some(told), true) = (of_grant, is_resumed) {
            assert_eq!(has_it, told, "{end:?}");
        }
        if has_it {
            let known = token(&mut new, "k");
            self.observer.send("watch k");
            let state = self.observer.read();
            assert!(
                state.starts_with(&format!("200 {known} held by #")),
                "{state}"
            );
            self.until_waiting(1);
            new.ask("unlock k", "200 Unlocked");
        }
        self.next.expect("200 Acquired");
        assert!(!holds(&mut new, "k"), "another has it");
        self.next.ask("unlock k", "200 Unlocked");
        drop(new);
        self.settles();
    }

    /// What is left are the clients that stay, and no lock, request or session of the round.
    fn settles(&mut self) {
        self.observer.until("the end of the round", |lines| {
            let sessions = lines.iter().filter(|line| line.starts_with("SESSION "));
            sessions.count() == 3 && lines.len() == 4
        });
        let left = ["STAT clients 3", "STAT locks 0", "STAT monitoring 3"];
        assert_eq!(self.observer.ask_list("stats")[1..], left);
    }
}

/// Ends the connection, and returns whether its client was told that it has the lock.
fn end_and_read(mut old: Client, end: End) -> Option<bool> {
    match end {
        End::Not => {}
        End::HalfClosed => old.half_close_if_open(),
        End::Reset => {
            old.reset();
            return None;
        }
    }
    let answers = old.read_at_most(usize::MAX);
    let possible: [&[&str]; 3] = [&[], &["200 Acquired"], &["409 Unavailable"]];
    assert!(possible.iter().any(|one| answers == *one), "{answers:?}");
    Some(answers == ["200 Acquired"])
}

#[test]
fn a_take_over_a_grant_a_disconnect_and_the_end_of_the_grace_period_have_one_outcome() {
    const ROUNDS: usize = 600;
    let mut race = Race::start();
    let (mut resumed, mut granted) = (0, 0);
    for _ in 0..ROUNDS {
        let told = race.round();
        resumed += usize::from(told.is_resumed);
        granted += usize::from(told.of_grant == Some(true));
        race.check(told);
    }
    eprintln!("{ROUNDS} rounds: {resumed} resumed, {granted} told of the grant before that");
    assert!((1..ROUNDS).contains(&resumed) && (1..ROUNDS).contains(&granted));
}

// ---------------------------------------------------------------------------- without a word

/// A network namespace with a cable to it; both are gone when this is dropped.
#[cfg(target_os = "linux")]
struct Namespace {
    name: String,
    cable: String,
    near: String,
}

#[cfg(target_os = "linux")]
impl Namespace {
    const FAR_END: &str = "eth0";

    /// `None` if this machine or this user cannot make one.
    fn make() -> Option<Self> {
        let pid = std::process::id();
        let (name, cable) = (format!("elock{pid}"), format!("el{pid}"));
        let near = format!("198.18.{}.1", pid % 256);
        let this = ip(&["netns", "add", &name]).then_some(Self { name, cable, near })?;
        let (name, cable) = (&*this.name, &*this.cable);
        let near = format!("{}/30", this.near);
        let far = format!("198.18.{}.2/30", pid % 256);
        let end = Self::FAR_END;
        let is_made = ip(&[
            "link", "add", cable, "type", "veth", "peer", "name", end, "netns", name,
        ]) && ip(&["addr", "add", &near, "dev", cable])
            && ip(&["link", "set", cable, "up"])
            && ip(&["-n", name, "addr", "add", &far, "dev", end])
            && ip(&["-n", name, "link", "set", end, "up"]);
        is_made.then_some(this)
    }

    /// A client in there, which sends these lines and writes what it is answered to its output.
    fn client(&self, server: SocketAddr, lines: &str) -> std::process::Child {
        let (address, port) = (server.ip(), server.port());
        let script =
            format!("exec 3<>/dev/tcp/{address}/{port} && printf '{lines}' >&3 && exec cat <&3");
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &self.name, "bash", "-c", &script]);
        let spawned = command.stdout(std::process::Stdio::piped()).spawn();
        spawned.expect("ip runs")
    }

    /// From here on no packet passes, and nobody is told.
    fn cut(&self) {
        let cut = ip(&["-n", &self.name, "link", "set", Self::FAR_END, "down"]);
        assert!(cut);
    }
}

#[cfg(target_os = "linux")]
impl Drop for Namespace {
    fn drop(&mut self) {
        // The namespace lives on for as long as there is a connection in it that nobody ends.
        ip(&["link", "del", &self.cable]);
        ip(&["netns", "del", &self.name]);
    }
}

#[cfg(target_os = "linux")]
fn ip(arguments: &[&str]) -> bool {
    succeeds("ip", arguments)
}

#[cfg(target_os = "linux")]
fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let done = std::process::Command::new(program).args(arguments).output();
    done.is_ok_and(|done| done.status.success())
}

/// Ends a child with the test, however that ends.
#[cfg(target_os = "linux")]
struct Vanished(std::process::Child);

#[cfg(target_os = "linux")]
impl Drop for Vanished {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_vanished_without_a_word_is_taken_over_at_once() {
    use std::io::BufRead;
    let can_connect = succeeds("bash", &["-c", "true"]);
    let Some(namespace) = can_connect.then(Namespace::make).flatten() else {
        eprintln!("SKIPPED: a client in a network namespace needs root, `ip` and `bash`");
        return;
    };
    let open = |config: &mut elock::config::Config| config.allow_anonymous = true;
    let server = Server::start_at(&format!("{}:0", namespace.near), open);
    let (mut holder, mut new) = (server.connect(), server.connect());
    holder.ask("lock waited 0", "200 Acquired");
    let lines = "conn_id\\nlock k\\nlock waited 3600\\n";
    let mut child = Vanished(namespace.client(server.address, lines));
    let output = child.0.stdout.take().expect("piped");
    let mut answers = std::io::BufReader::new(output).lines();
    let mut answer = || answers.next().expect("an answer").expect("text");
    let id = answer().trim_end().replacen("200 ", "", 1);
    assert_eq!(answer().trim_end(), "200 Acquired");
    server.until_waiting(1);
    namespace.cut();
    let _ = child.0.kill();
    let connected = "403 cannot set conn id: still connected";
    new.ask(format!("conn_id {id}"), connected);
    new.ask(format!("resume {id}"), RESUMED);
    server.until_waiting(0);
    holder.ask("unlock waited", "200 Unlocked");
    holder.ask("watch waited", "200 free");
    new.ask("unlock k", "200 Unlocked");
}
