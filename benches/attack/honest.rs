//! Honest clients: each takes and releases a lock of its own, with a pause after each answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::load::{Protocol, key};

/// How many there are, each a thread that waits for its answer.
const CLIENTS: usize = 10;

/// Each sends a command so often, unless the last answer is still to come.
const PAUSE: Duration = Duration::from_millis(2);

/// An answer that takes longer counts as this.
const PATIENCE: Duration = Duration::from_secs(10);

/// What honest clients have seen: the time from each command to its answer, sorted.
pub struct Seen(Vec<Duration>);

impl Seen {
    pub fn part(&self, part: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0[(last as f64 * part) as usize]
    }
}

pub struct Clients(Vec<TcpStream>);

impl Clients {
    pub fn connect(address: SocketAddr) -> Self {
        Self((0..CLIENTS).map(|_| connect(address)).collect())
    }

    /// Works for this time.
    pub fn work(&mut self, protocol: Protocol, time: Duration) -> Seen {
        let over = AtomicBool::new(false);
        let mut seen = std::thread::scope(|scope| {
            let clients = self.0.iter_mut().enumerate();
            let threads: Vec<_> = clients
                .map(|(number, stream)| {
                    let over = &over;
                    scope.spawn(move || work(stream, number, protocol, over))
                })
                .collect();
            std::thread::sleep(time);
            over.store(true, Ordering::Relaxed);
            let seen = threads.into_iter().map(|thread| thread.join());
            seen.flat_map(|seen| seen.expect("no panic"))
                .collect::<Vec<_>>()
        });
        seen.sort_unstable();
        Seen(seen)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

fn work(
    stream: &mut TcpStream,
    number: usize,
    protocol: Protocol,
    over: &AtomicBool,
) -> Vec<Duration> {
    let (mut lock, mut unlock) = (Vec::new(), Vec::new());
    let key = format!("honest/{}", key(number));
    protocol.put_lock(&key, "", &mut lock);
    protocol.put_unlock(&key, &mut unlock);
    let mut seen = Vec::new();
    for command in [lock, unlock].iter().cycle() {
        let begin = Instant::now();
        if let Err(error) = ask(stream, command) {
            eprintln!("an honest client has no answer: {error}");
            seen.push(PATIENCE);
            return seen;
        }
        let took = begin.elapsed();
        seen.push(took);
        // A client that waits does not send what it would have sent meanwhile, and what it does not
        // send would have waited, too.
        let missed = (1..).map(|number| took.saturating_sub(PAUSE * number));
        seen.extend(missed.take_while(|missed| !missed.is_zero()));
        if over.load(Ordering::Relaxed) {
            return seen;
        }
        std::thread::sleep(PAUSE);
    }
    seen
}

/// Sends a command and reads its answer, which is a line.
fn ask(stream: &mut TcpStream, command: &[u8]) -> io::Result<()> {
    stream.write_all(command)?;
    let mut answer = [0; 512];
    let mut length = 0;
    while answer[..length].last() != Some(&b'\n') {
        match stream.read(&mut answer[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
    }
    Ok(())
}
