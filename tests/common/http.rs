//! HTTP, as far as tests need it: one request on a connection.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{PATIENCE, Server};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line, and the headers as they came.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// Gets this path.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Answer {
    send(connect(address), &head("GET", path, ""))
}

/// The same, as the user that `user:password` names.
#[track_caller]
pub fn get_as(address: SocketAddr, path: &str, who: &str) -> Answer {
    let header = format!("Authorization: Basic {}\r\n", STANDARD.encode(who));
    send(connect(address), &head("GET", path, &header))
}

/// Gets this path from a unix socket.
#[track_caller]
pub fn get_from(socket: &Path, path: &str) -> Answer {
    let stream = UnixStream::connect(socket).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    send(stream, &head("GET", path, ""))
}

/// Sends a request with these lines in its head, and a body.
#[track_caller]
pub fn request(to: SocketAddr, method: &str, path: &str, lines: &[&str], body: &str) -> Answer {
    try_request(to, method, path, lines, body).expect("an answer in time")
}

/// The same, where there may be no answer.
pub fn try_request(
    to: SocketAddr,
    method: &str,
    path: &str,
    lines: &[&str],
    body: &str,
) -> io::Result<Answer> {
    let length = format!("Content-Length: {}", body.len());
    let lines = [lines, &["Connection: close", &length]].concat();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    try_send(try_connect(to)?, &(head(method, path, &lines) + body))
}

pub fn connect(address: SocketAddr) -> TcpStream {
    try_connect(address).expect("the server accepts")
}

fn try_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The head of a request with these headers, each with its end of line.
pub fn head(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// Sends a request and reads its answer.
#[track_caller]
pub fn send(stream: impl Read + Write, request: &str) -> Answer {
    try_send(stream, request).expect("an answer in time")
}

fn try_send(mut stream: impl Read + Write, request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head.split(' ').nth(1).expect("a status");
    let mut answer = Answer {
        status: status.parse().expect("a number"),
        head,
        body: String::new(),
    };
    let length = answer.header("content-length").map(str::parse);
    match length {
        // Not every server closes the connection.
        Some(length) => stream
            .take(length.expect("a number"))
            .read_to_string(&mut answer.body)?,
        None => stream.read_to_string(&mut answer.body)?,
    };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = whole(&answer.body);
    }
    Ok(answer)
}

/// A body that came in chunks.
fn whole(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        body.push_str(&rest[..length]);
        chunks = rest[length..].trim_start_matches("\r\n");
    }
    body
}

impl Server {
    /// A server that serves HTTP, too.
    pub fn start_with_admin() -> Self {
        let server = Self::start_with(|config| {
            config.admin = vec!["127.0.0.1:0".parse().expect("an address")];
        });
        // It answers before it has loaded.
        while server.get("/readyz").status != 200 {}
        server
    }

    /// Asks by `GET`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        request(self.admin.expect("HTTP"), "GET", path, &[], "")
    }

    /// The JSON of a question that is answered.
    #[track_caller]
    pub fn asked(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Orders something by `POST`.
    #[track_caller]
    pub fn order(&self, path: &str, body: &Value) -> Answer {
        let json = ["Content-Type: application/json"];
        let to = self.admin.expect("HTTP");
        request(to, "POST", path, &json, &body.to_string())
    }
}
