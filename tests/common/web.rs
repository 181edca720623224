//! HTTP, as far as tests need it: one request on a connection.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::{PATIENCE, Server};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
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
    let mut stream = BufReader::new(TcpStream::connect(to)?);
    stream.get_ref().set_read_timeout(Some(PATIENCE))?;
    let (lines, length) = (lines.join("\r\n"), body.len());
    let lines = if lines.is_empty() {
        lines
    } else {
        lines + "\r\n"
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.get_mut().write_all(request.as_bytes())?;
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
