//! The health check of `elockd --check`: asks a server for its `stats`, as a client would.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::Address;

const PATIENCE: Duration = Duration::from_secs(2);

/// Connects, sends `stats` and reads the answer to its end.
///
/// # Errors
///
/// What kept the server from answering: no connection within two seconds, silence for as long, or
/// another answer.
pub fn check(address: &Address) -> io::Result<()> {
    match address {
        Address::Tcp(host) => {
            let stream = connect(host)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            ask(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            ask(stream)
        }
    }
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(b"stats\r\n")?;
    let mut lines = BufReader::new(stream.take(1024)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let rest: io::Result<Vec<String>> = lines
        .take_while(|line| !line.as_ref().is_ok_and(|line| line == "END"))
        .collect();
    let whole_answer = first == "200 STATS" && rest?.len() == 3;
    // A server with too many clients is not a sick one: restarting it would lose all locks.
    let is_crowded = first.starts_with("503 Too many connections");
    match whole_answer || is_crowded {
        true => Ok(()),
        false => Err(io::Error::other(format!("unexpected answer: {first:?}"))),
    }
}
