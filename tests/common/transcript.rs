//! Transcripts in documents, as tests.

use std::collections::BTreeMap;

use clap::Parser;
use elock::config::Config;

use super::{Client, Server};

/// One of a transcript's clients.
pub trait Speaker {
    /// What the server needs for it.
    fn adapt(_: &mut Config) {}
    /// A new session: sessions are numbered in the order of these calls.
    fn connect(server: &Server) -> Self;
    /// Sends a line.
    fn send(&mut self, line: &str);
    /// Reads a line, without its end.
    fn read(&mut self) -> String;
    /// Expects that the server closes the connection.
    fn expect_closed(&mut self);
}

impl Speaker for Client {
    fn connect(server: &Server) -> Self {
        server.connect()
    }

    fn send(&mut self, line: &str) {
        Self::send(self, line);
    }

    fn read(&mut self) -> String {
        Self::read(self)
    }

    fn expect_closed(&mut self) {
        Self::expect_closed(self);
    }
}

/// A fenced block of a document.
#[derive(Debug)]
pub struct Transcript {
    line: usize,
    flags: Vec<String>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
struct Step {
    line: usize,
    client: char,
    action: Action,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Send(String),
    Receive(String),
    Disconnect,
    SeeClosed,
}

/// The transcripts of a document, at least one.
pub fn transcripts(document: &str) -> Result<Vec<Transcript>, String> {
    let mut found: Vec<Transcript> = Vec::new();
    let mut inside = false;
    for (index, text) in document.lines().enumerate() {
        let line = index + 1;
        if let Some(flags) = text.strip_prefix("```transcript") {
            let flags = flags.split_whitespace().map(str::to_owned).collect();
            found.push(Transcript {
                line,
                flags,
                steps: Vec::new(),
            });
            inside = true;
        } else if text.starts_with("```") {
            inside = false;
        } else if inside {
            let step = parse_step(line, text).ok_or(format!("line {line} is no step: {text}"))?;
            found.last_mut().expect("inside one").steps.push(step);
        }
    }
    match found.iter().find(|transcript| transcript.steps.is_empty()) {
        Some(empty) => Err(format!("line {}: an empty transcript", empty.line)),
        None if found.is_empty() => Err("no transcript at all".to_owned()),
        None => Ok(found),
    }
}

fn parse_step(line: usize, text: &str) -> Option<Step> {
    let client = text.chars().next().filter(char::is_ascii_uppercase)?;
    let rest = text[2..].strip_prefix(' ').unwrap_or(&text[2..]).to_owned();
    let action = match (text.as_bytes()[1], rest.as_str()) {
        (b'>', "(disconnects)") => Action::Disconnect,
        (b'<', "(closed)") => Action::SeeClosed,
        (b'>', _) => Action::Send(rest),
        (b'<', _) => Action::Receive(rest),
        _ => return None,
    };
    Some(Step {
        line,
        client,
        action,
    })
}

impl Transcript {
    /// Each client speaks by an `S`.
    pub fn run<S: Speaker>(&self) -> Result<(), String> {
        let has_users = |flag: &String| ["--auth-file", "--password-file"].contains(&&**flag);
        if cfg!(not(feature = "auth")) && self.flags.iter().any(has_users) {
            return Ok(());
        }
        let flags = ["elockd".to_owned()]
            .into_iter()
            .chain(self.flags.iter().cloned());
        let mut config = Config::try_parse_from(flags)
            .map_err(|error| format!("line {}: {error}", self.line))?;
        S::adapt(&mut config);
        let server = Server::start_with(|default| *default = config);
        let mut clients: BTreeMap<char, S> = BTreeMap::new();
        let mut numbers: BTreeMap<char, usize> = BTreeMap::new();
        for step in &self.steps {
            let next_number = numbers.len() + 1;
            numbers.entry(step.client).or_insert(next_number);
            clients
                .entry(step.client)
                .or_insert_with(|| S::connect(&server));
        }
        // One observer for the whole transcript, so that its number is known: the last.
        let mut observer = None;
        let mut words = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            let number = numbers[&step.client];
            let next = self.steps.get(index + 1).map(|next| next.client);
            let mut until = |what: &str, shows: &dyn Fn(&[String]) -> bool| {
                observer
                    .get_or_insert_with(|| server.connect())
                    .until(what, shows);
            };
            match &step.action {
                Action::Disconnect => {
                    drop(clients.remove(&step.client));
                    let connected = format!("SESSION {{\"id\":{number},");
                    until("the disconnect", &|lines| {
                        !lines.iter().any(|line| {
                            line.starts_with(&connected) && line.contains("\"connected\":true")
                        })
                    });
                }
                Action::Send(text) => {
                    let client = clients.get_mut(&step.client).expect("still connected");
                    client.send(&fill_in(text, &words));
                    // A watch is answered alike, whether it or what it waits for comes first.
                    let is_watch = text.starts_with("watch ");
                    if !is_watch && next.is_some_and(|next| next != step.client) {
                        // Its answer comes later, so it must wait before anything else is done.
                        let waits = format!("REQUEST #{number} ");
                        until("the wait", &|lines| {
                            lines.iter().any(|line| line.starts_with(&waits))
                        });
                    }
                }
                Action::Receive(expected) => {
                    let actual = clients
                        .get_mut(&step.client)
                        .expect("still connected")
                        .read();
                    if !matches(expected, &actual, &mut words) {
                        return Err(format!(
                            "line {}: expected {expected:?}, got {actual:?}",
                            step.line
                        ));
                    }
                }
                Action::SeeClosed => {
                    clients
                        .get_mut(&step.client)
                        .expect("still connected")
                        .expect_closed();
                }
            }
        }
        // Nobody was sent more than the transcript shows.
        let waiting: Vec<char> = self
            .steps
            .iter()
            .rev()
            .filter_map(|step| self.waits_at_the_end(step))
            .collect();
        for (name, client) in &mut clients {
            let closed = self
                .steps
                .iter()
                .any(|step| step.client == *name && step.action == Action::SeeClosed);
            if !waiting.contains(name) && !closed {
                client.send("echo");
                let rest = client.read();
                if rest != "200 []" {
                    return Err(format!("line {}: {name} was sent {rest:?}, too", self.line));
                }
            }
        }
        Ok(())
    }

    /// The step's client, if the step is the last of that client and a request without an answer.
    fn waits_at_the_end(&self, step: &Step) -> Option<char> {
        let last = self
            .steps
            .iter()
            .rfind(|other| other.client == step.client)?;
        let unanswered = last.line == step.line && matches!(step.action, Action::Send(_));
        unanswered.then_some(step.client)
    }
}

/// Replaces `{name}` by the word that it stood for.
fn fill_in(text: &str, words: &BTreeMap<String, String>) -> String {
    words.iter().fold(text.to_owned(), |text, (name, word)| {
        text.replace(&format!("{{{name}}}"), word)
    })
}

/// Compares with placeholders: a `{name}` made of letters takes what stands up to the next
/// character of the pattern, and is remembered.
fn matches(pattern: &str, actual: &str, words: &mut BTreeMap<String, String>) -> bool {
    let pattern = fill_in(pattern, words);
    let named = pattern
        .char_indices()
        .filter(|(_, byte)| *byte == '{')
        .find_map(|(start, _)| {
            let length = pattern[start..].find('}')?;
            let name = &pattern[start + 1..start + length];
            let is_name =
                !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphabetic());
            is_name.then(|| (start, name.to_owned(), &pattern[start + length + 1..]))
        });
    let Some((start, name, rest)) = named else {
        return pattern == actual;
    };
    let Some(tail) = actual.strip_prefix(&pattern[..start]) else {
        return false;
    };
    let ends = |letter: char| {
        rest.chars()
            .next()
            .map_or(letter == ' ', |next| letter == next)
    };
    let end = tail.find(ends).unwrap_or(tail.len());
    words.insert(name, tail[..end].to_owned());
    end > 0 && matches(rest, &tail[end..], words)
}
