//! Runs every transcript of `protocol.md` (and of README.md) against a real server.

mod common;

use common::Client;
use common::transcript::transcripts;
use elock::config::Config;

fn run_all(document: &str) -> Result<usize, String> {
    let transcripts = transcripts(document)?;
    transcripts
        .iter()
        .try_for_each(|transcript| transcript.run::<Client>())?;
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
