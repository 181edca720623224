//! A connection of a client that may be cut at any moment.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The connection has ended, or is not to be had.
    Closed,
    /// Nothing came for as long as the client waits.
    Silent,
}

/// How long a client tries to connect.
const CONNECT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Line {
    stream: BufReader<TcpStream>,
    /// What has come of an answer.
    partly: Vec<u8>,
    /// When requests were sent that are not answered yet.
    asked: VecDeque<Instant>,
    /// When that was sent which was answered last.
    pub answered: Option<Instant>,
}

impl Line {
    pub fn open(address: SocketAddr, patience: Duration) -> Result<Self, Lost> {
        let stream = TcpStream::connect_timeout(&address, CONNECT).map_err(|_| Lost::Closed)?;
        stream.set_nodelay(true).map_err(|_| Lost::Closed)?;
        stream
            .set_read_timeout(Some(patience))
            .map_err(|_| Lost::Closed)?;
        Ok(Self {
            stream: BufReader::new(stream),
            partly: Vec::new(),
            asked: VecDeque::new(),
            answered: None,
        })
    }

    /// Sends one request.
    pub fn send(&mut self, request: &str) -> Result<(), Lost> {
        let line = format!("{request}\n");
        self.asked.push_back(Instant::now());
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        sent.map_err(|_| Lost::Closed)
    }

    pub fn read(&mut self) -> Result<String, Lost> {
        match self.stream.read_until(b'\n', &mut self.partly) {
            Ok(_) if self.partly.ends_with(b"\r\n") => {}
            Ok(_) => return Err(Lost::Closed),
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(Lost::Silent);
            }
            Err(_) => return Err(Lost::Closed),
        }
        self.answered = self.asked.pop_front();
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.partly)).into_owned();
        Ok(line.trim_end().to_owned())
    }

    pub fn ask(&mut self, request: &str) -> Result<String, Lost> {
        self.send(request)?;
        self.read()
    }

    /// How many requests are not answered.
    pub fn unanswered(&self) -> usize {
        self.asked.len()
    }

    /// From now on reading does not wait.
    pub fn be_impatient(&mut self) -> Result<(), Lost> {
        let changed = self.stream.get_ref().set_nonblocking(true);
        changed.map_err(|_| Lost::Closed)
    }
}
