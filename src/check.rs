//! The health check of `elockd --check`: asks servers for their `stats`, as a client would.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Address;

const PATIENCE: Duration = Duration::from_secs(2);

/// The answer of a server that has as many clients as it takes.
const CROWDED: &str = "503 Too many connections";

/// The answer of a server that has users, to a stranger.
const ASKS: &str = "401 ";

/// Why a server counts as not answering.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No answer came, or not all of it, be it for the network, a resolver or the server.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// The connection could not be made, or it broke.
    #[error(transparent)]
    Connection(#[from] io::Error),
    /// The answer is in another protocol, or of a server in trouble.
    #[error("unexpected answer: {0:?}")]
    Answer(String),
}

/// The addresses that failed, each with its reason; the others answered.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.0))]
pub struct Failed(pub Vec<(Address, CheckError)>);

fn list(failures: &[(Address, CheckError)]) -> String {
    let failures = failures
        .iter()
        .map(|(address, error)| format!("{address}: {error}"));
    failures.collect::<Vec<_>>().join("; ")
}

/// Asks the servers at all of `addresses` at the same time, for two seconds. In place of an address
/// that means all of this machine's, such as `0.0.0.0`, it asks the loopback address.
///
/// The threads of addresses that do not answer are left running, so this is for a process that ends
/// soon.
///
/// # Errors
///
/// When not all of them answered.
pub fn check(addresses: &[Address]) -> Result<(), Failed> {
    let deadline = Instant::now() + PATIENCE;
    let asked: Vec<_> = addresses
        .iter()
        .map(|address| (address, start(address)))
        .collect();
    let failures = asked.into_iter().filter_map(|(address, answer)| {
        let answer = answer.and_then(|answer| wait(&answer, deadline));
        Some((address.clone(), answer.err()?))
    });
    match failures.collect::<Vec<_>>() {
        none if none.is_empty() => Ok(()),
        failures => Err(Failed(failures)),
    }
}

type Answer = Result<(), CheckError>;

/// Asks in a thread, as a resolver and a full socket have no time limit.
fn start(address: &Address) -> Result<Receiver<Answer>, CheckError> {
    let (answered, answer) = mpsc::channel();
    let address = address.clone();
    thread::Builder::new().spawn(move || {
        // The receiver is gone if the answer took too long.
        let _ = answered.send(connect_and_ask(&address));
    })?;
    Ok(answer)
}

fn wait(answer: &Receiver<Answer>, deadline: Instant) -> Answer {
    let patience = deadline.saturating_duration_since(Instant::now());
    answer
        .recv_timeout(patience)
        .unwrap_or(Err(CheckError::Silent))
}

fn connect_and_ask(address: &Address) -> Answer {
    match address {
        Address::Tcp(host) => ask(TcpStream::connect(&*reachable(host))?),
        Address::Unix(path) => ask(UnixStream::connect(path)?),
    }
}

/// The address to connect to: the loopback address in place of an address that means all, to which
/// a connection need not be possible.
fn reachable(host: &str) -> Cow<'_, str> {
    match host.parse::<SocketAddr>() {
        Ok(mut address) if address.ip().is_unspecified() => {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
            address.to_string().into()
        }
        _ => host.into(),
    }
}

fn ask(mut stream: impl Read + Write) -> Answer {
    stream.write_all(b"stats\r\n")?;
    let mut lines = BufReader::new(stream.take(1024)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    // A server with too many clients works: a restart would lose all locks. So does one that asks who
    // this is.
    if first.starts_with(CROWDED) || first.starts_with(ASKS) {
        return Ok(());
    }
    let rest: io::Result<Vec<String>> = lines
        .take_while(|line| !line.as_ref().is_ok_and(|line| line == "END"))
        .collect();
    match first == "200 STATS" && rest?.len() == 3 {
        true => Ok(()),
        false => Err(CheckError::Answer(first)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_asked_as_loopback_and_others_as_they_are() {
        for (host, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.5:1", "10.0.0.5:1"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(reachable(host), asked);
        }
    }
}
