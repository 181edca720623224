//! Requests of HTTP, one a connection, as the server answers no more than one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// As they came, with the status line before them.
    pub head: String,
    pub body: String,
}

/// Gets this path.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Answer {
    send(connect(address), &request("GET", path, ""))
}

/// The same, as the user that `user:password` names.
#[track_caller]
pub fn get_as(address: SocketAddr, path: &str, who: &str) -> Answer {
    let header = format!("Authorization: Basic {}\r\n", STANDARD.encode(who));
    send(connect(address), &request("GET", path, &header))
}

/// Gets this path from a unix socket.
#[track_caller]
pub fn get_from(socket: &Path, path: &str) -> Answer {
    let stream = UnixStream::connect(socket).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    send(stream, &request("GET", path, ""))
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// A request with these headers, each with its end of line.
pub fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// Sends a request and reads its answer, up to the end of the connection.
#[track_caller]
pub fn send(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).expect("it is sent");
    read(stream)
}

/// Reads an answer.
#[track_caller]
pub fn read(mut stream: impl Read) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer in time");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
