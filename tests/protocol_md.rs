//! Runs every transcript of `protocol.md` (and of README.md) against a real server.

mod common;

use std::collections::BTreeMap;

use clap::Parser;
use common::{Client, Server};
use elock::config::Config;

/// A fenced block of a document.
#[derive(Debug)]
struct Transcript {
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

fn transcripts(document: &str) -> Result<Vec<Transcript>, String> {
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
    fn run(&self) -> Result<(), String> {
        let flags = ["elockd".to_owned()]
            .into_iter()
            .chain(self.flags.iter().cloned());
        let config = Config::try_parse_from(flags)
            .map_err(|error| format!("line {}: {error}", self.line))?;
        let server = Server::start_with(|default| *default = config);
        let mut clients: BTreeMap<char, Client> = BTreeMap::new();
        let mut numbers: BTreeMap<char, usize> = BTreeMap::new();
        for step in &self.steps {
            let next_number = numbers.len() + 1;
            numbers.entry(step.client).or_insert(next_number);
            clients
                .entry(step.client)
                .or_insert_with(|| server.connect());
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
                    client.send(fill_in(text, &words));
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

fn run_all(document: &str) -> Result<usize, String> {
    let transcripts = transcripts(document)?;
    transcripts.iter().try_for_each(Transcript::run)?;
    Ok(transcripts.len())
}

#[test]
fn every_transcript_of_the_protocol_is_true() {
    let run = run_all(include_str!("../protocol.md")).expect("all true");
    assert!(run >= 15, "only {run} transcripts");
}

#[test]
fn every_transcript_of_the_readme_is_true() {
    run_all(include_str!("../README.md")).expect("all true");
}

#[test]
fn every_command_has_its_section_and_its_transcript() {
    let document = include_str!("../protocol.md");
    for usage in elock::protocol::COMMANDS {
        let title = format!("### {} {}", usage.name, usage.arguments);
        let section = document
            .split(title.trim_end())
            .nth(1)
            .expect("a section")
            .split("\n#")
            .next();
        let shown = format!("> {}", usage.name);
        let section = section.expect("not empty");
        assert!(
            section.contains("```transcript") && section.contains(&shown),
            "{title}"
        );
    }
}

#[test]
fn a_document_that_proves_nothing_is_refused() {
    for document in [
        "# No transcript",
        "```transcript\n```",
        "```transcript\nlock k\n```",
    ] {
        assert!(run_all(document).is_err(), "{document}");
    }
}

#[test]
fn a_transcript_that_is_not_true_is_caught() {
    for steps in [
        "A> lock k\nA< 409 Unavailable",
        "A> lock k\nA< 200 Acquired\nB> lock k\nB< 200 Acquired",
        "A> conn_id\nA< 200 {id}\nB> conn_id\nB< 200 {id}",
        "A> stats\nA< 200 STATS\nA< STAT clients 2",
        "A> stats\nA< 200 STATS",
    ] {
        let document = format!("```transcript\n{steps}\n```");
        assert!(run_all(&document).is_err(), "{document}");
    }
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    use clap::CommandFactory;
    let readme = include_str!("../README.md");
    for argument in Config::command().get_arguments() {
        let Some(variable) = argument.get_env() else {
            continue;
        };
        let (flag, variable) = (
            argument.get_long().expect("a flag"),
            variable.to_string_lossy(),
        );
        let default = match argument.get_default_values() {
            [default] => default.to_string_lossy().into_owned(),
            _ if flag == "listen" => "127.0.0.1:11400 and [::1]:11400".to_owned(),
            _ => "none".to_owned(),
        };
        let row = format!("| `--{flag}` | `{variable}` | {default} |");
        assert!(readme.contains(&row), "no row {row}");
    }
}

#[test]
fn the_protocol_states_the_true_defaults() {
    let document = include_str!("../protocol.md");
    let config = Config::default();
    let grouped = |number: u64| {
        let digits = number.to_string();
        let groups: Vec<&str> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(|group| std::str::from_utf8(group).expect("digits"))
            .collect();
        groups.join(",")
    };
    for row in [
        format!("| bytes in a line | {} |", config.max_line),
        format!(
            "| connections | {} |",
            grouped(config.max_connections.into())
        ),
        format!("| locks in all | {} |", grouped(config.max_locks.into())),
        format!(
            "| locks of one session | {} |",
            grouped(config.max_session_locks.into())
        ),
        format!("| keys in one `lock_all` | {} |", config.max_request_keys),
        format!(
            "| waiters for one key | {} |",
            grouped(config.max_key_waiters.into())
        ),
        format!(
            "| sessions in their grace period | {} |",
            grouped(config.max_grace_sessions.into())
        ),
        format!("| `set_timeout` | {} ms |", grouped(config.max_grace_ms)),
        format!(
            "| unsent answers | {} KiB, for {} s |",
            config.max_unsent / 1024,
            config.unsent_timeout_ms / 1000
        ),
        format!(
            "| sent ahead of the answer to a request that waits | {} KiB |",
            config.max_ahead / 1024
        ),
        format!("A new session has\n{} ms", grouped(config.grace_ms)),
    ] {
        assert!(document.contains(&row), "no {row}");
    }
}
