//! A real server on a free port, and clients that read like transcripts.
//!
//! Nothing here sleeps: what a test waits for is an answer, or a state that `debug` shows. The
//! patience below only bounds how long a failing test hangs.
#![allow(dead_code, reason = "each test program uses its own part")]

#[cfg(feature = "admin")]
pub mod browser;
pub mod failing_disk;
pub mod history;
#[cfg(feature = "admin")]
pub mod http;
#[cfg(feature = "cluster")]
pub mod one_etcd;
pub mod process;
#[cfg(feature = "admin")]
pub mod promtool;
#[cfg(feature = "cli")]
pub mod proxy;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transcript;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use elock::config::{Address, Config};
use elock::server::{self, Control};
use tokio::sync::oneshot;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a thread of this process. Stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    /// Where it speaks TLS, if its settings say so.
    pub tls_address: Option<SocketAddr>,
    pub control: Control,
    /// Where HTTP is served, if the settings name an address for it.
    pub admin: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// With settings changed by `change`.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at("127.0.0.1:0", change)
    }

    /// The same, on an address of this machine.
    pub fn start_at(local: &str, change: impl FnOnce(&mut Config)) -> Self {
        count_panics_in_tasks();
        let local = Address::Tcp(local.to_owned());
        let mut config = Config::default();
        change(&mut config);
        let addresses = [vec![local], config.addresses()].concat();
        let control = Control::default();
        let control_inside = control.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime
                .thread_name(SERVER_THREAD)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listeners = server::bind(&addresses).await.expect("a free port");
                #[cfg(feature = "admin")]
                let for_admin = server::bind_admin(Vec::new(), &config.admin, &[]).await;
                #[cfg(feature = "admin")]
                let for_admin = for_admin.expect("a free port");
                #[cfg(not(feature = "admin"))]
                let for_admin = Vec::new();
                let addresses_of = |listeners: &[server::Listener]| {
                    let addresses = listeners.iter().filter_map(|one| one.tcp_address());
                    addresses.collect::<Vec<_>>()
                };
                started
                    .send((addresses_of(&listeners), addresses_of(&for_admin)))
                    .expect("the test listens");
                let drained = control_inside.clone();
                let shutdown = async {
                    tokio::select! {
                        _ = stopped => {}
                        () = drained.drained() => {}
                    }
                };
                let listeners = listeners.into_iter().chain(for_admin).collect();
                server::run(listeners, config, control_inside, shutdown)
                    .await
                    .expect("the server runs");
            });
        });
        let (addresses, for_admin) = address.recv().expect("the server starts");
        Self {
            address: addresses[0],
            tls_address: addresses.get(1).copied(),
            admin: for_admin.first().copied(),
            control,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Connects and makes sure that the session exists: so sessions are numbered in the order of
    /// these calls.
    pub fn connect(&self) -> Client {
        let mut client = Client::connect(self.address);
        client.send("echo");
        let answer = client.read();
        // The latter to a stranger.
        let is_there = ["200 []", "401 auth required"].contains(&&*answer);
        assert!(is_there, "{answer}");
        client
    }

    /// Asks for `debug` until it shows what the test waits for.
    pub fn until(&self, what: &str, shows: impl Fn(&[String]) -> bool) {
        let mut observer = Client::connect(self.address);
        observer.until(what, shows);
    }

    /// Waits until that many requests wait.
    pub fn until_waiting(&self, requests: usize) {
        let count = |lines: &[String]| {
            lines
                .iter()
                .filter(|line| line.starts_with("REQUEST "))
                .count()
        };
        self.until(&format!("{requests} waiting requests"), |lines| {
            count(lines) == requests
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the server ends");
            let panics = PANICS_IN_TASKS.load(Ordering::SeqCst);
            assert_eq!(panics, 0, "a task of a server panicked");
        }
    }
}

/// A panic in a connection's task ends that task alone, which no client would notice for sure. So
/// they are counted, in all servers of this process.
static PANICS_IN_TASKS: AtomicUsize = AtomicUsize::new(0);

fn count_panics_in_tasks() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some(SERVER_THREAD) {
                PANICS_IN_TASKS.fetch_add(1, Ordering::SeqCst);
            }
            usual(panic);
        }));
    });
}

const SERVER_THREAD: &str = "server under test";

/// Runs a test of asynchronous clients, no longer than a test's patience.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let ended = tokio::time::timeout(PATIENCE, test).await;
        ended.expect("the test ends in time")
    })
}

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the server accepts"))
    }

    /// Over a connection that stands.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends these bytes and nothing else.
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .get_mut()
            .write_all(bytes.as_ref())
            .expect("the connection stands");
    }

    /// Sends a line.
    pub fn send(&mut self, line: impl AsRef<[u8]>) {
        self.send_raw([line.as_ref(), b"\n"].concat());
    }

    /// Reads a line without its end, which must be CRLF.
    #[track_caller]
    pub fn read_bytes(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream
            .read_until(b'\n', &mut line)
            .expect("an answer in time");
        assert!(
            line.ends_with(b"\r\n"),
            "a whole line, not {:?}",
            line.escape_ascii().to_string()
        );
        line.truncate(line.len() - 2);
        line
    }

    #[track_caller]
    pub fn read(&mut self) -> String {
        String::from_utf8(self.read_bytes()).expect("text")
    }

    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.read(), line);
    }

    /// Sends a line and expects this answer.
    #[track_caller]
    pub fn ask(&mut self, line: impl AsRef<[u8]>, answer: &str) {
        self.send(line);
        self.expect(answer);
    }

    /// Sends a line and returns the answer's lines up to `END`.
    pub fn ask_list(&mut self, line: &str) -> Vec<String> {
        self.send(line);
        let mut lines = Vec::new();
        loop {
            match self.read() {
                end if end == "END" => return lines,
                line => lines.push(line),
            }
        }
    }

    /// This session's secret id.
    pub fn id(&mut self) -> String {
        self.send("conn_id");
        let answer = self.read();
        answer.strip_prefix("200 ").expect("an id").to_owned()
    }

    pub fn until(&mut self, what: &str, shows: impl Fn(&[String]) -> bool) {
        let begin = Instant::now();
        while !shows(&self.ask_list("debug")) {
            assert!(begin.elapsed() < PATIENCE, "{what} did not come about");
            std::thread::yield_now();
        }
    }

    /// Sends nothing more, but goes on reading.
    pub fn half_close(&mut self) {
        self.stream
            .get_mut()
            .shutdown(Shutdown::Write)
            .expect("the connection stands");
    }

    /// The same, if the server has not closed the connection before.
    pub fn half_close_if_open(&mut self) {
        let _ = self.stream.get_mut().shutdown(Shutdown::Write);
    }

    /// Ends the connection in the rudest way: a reset instead of an end.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(self.stream.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Reads to the end, expecting that nothing more comes.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), ""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// Sends a line, to a server that may have closed the connection.
    pub fn send_if_open(&mut self, line: &str) {
        let sent = self
            .stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes());
        if let Err(error) = sent {
            let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
    }

    /// Reads so many whole lines, or fewer if the server closes the connection before that.
    pub fn read_at_most(&mut self, most: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < most {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(_) if line.ends_with("\r\n") => lines.push(line.trim_end().to_owned()),
                Ok(_) => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    break;
                }
            }
        }
        lines
    }

    /// Whether the server closes the connection; takes what it sent before that.
    pub fn drains_to_the_end(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok()
    }
}

/// Reads the log of a server that listens on a free port of 127.0.0.1 up to the line that names it.
pub fn address_in_log(log: &mut impl BufRead) -> SocketAddr {
    let line = next_line_with(log, "listening on ");
    let address = line
        .split("127.0.0.1:")
        .nth(1)
        .expect("an address in the log");
    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
    format!("127.0.0.1:{port}").parse().expect("an address")
}

/// The line by which a server says where it listens, or why it does not.
pub fn listening_or_refusal(log: &mut impl BufRead) -> String {
    loop {
        let mut line = String::new();
        let read = log.read_line(&mut line).expect("a log");
        if read == 0 || line.contains("listening on ") || line.starts_with("elockd: ") {
            return line;
        }
    }
}

pub fn next_line_with(log: &mut impl BufRead, text: &str) -> String {
    loop {
        let mut line = String::new();
        let read = log.read_line(&mut line).expect("a log");
        assert!(read > 0, "the log ended without {text:?}");
        if line.contains(text) {
            return line;
        }
    }
}
