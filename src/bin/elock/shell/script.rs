//! A shell whose input is no terminal: lines are run one by one.

use std::io::{self, BufReader};
use std::process::ExitCode;
use std::time::Duration;

use elock_client::listing::SessionEntry;
use elock_client::{Connection, Servers};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::input;
use super::lines;
use super::links::{Done, Links};
use super::printer::Printer;
use super::request;
use crate::exit;
use crate::show::ask::sessions;
use crate::show::failure::Failure;

/// Runs the lines, and then waits for the answers that are still to come. `observer`: a connection
/// that sends no lines, but sees who waits.
pub fn run(
    servers: &Servers,
    mut observer: Connection,
    runtime: &Handle,
) -> Result<ExitCode, Failure> {
    let mut links = Links::new(servers, Printer::stdout(), true, runtime);
    let mut input = BufReader::new(io::stdin());
    while !links.is_unread() {
        let Some(line) = lines::next(&mut input)? else {
            break;
        };
        let parsed = input::parse(&line);
        let wait = match &parsed {
            input::Input::Request(_, line) => request::wait(line),
            _ => Duration::ZERO,
        };
        let done = runtime.block_on(links.take(parsed));
        match done {
            Done::Quit => break,
            Done::Here => {}
            Done::Sent(letter, number) => {
                runtime.block_on(settle(&mut links, letter, number, wait, &mut observer));
            }
        }
    }
    runtime.block_on(links.all_answered());
    Ok(match links.has_failed() && !links.is_unread() {
        true => ExitCode::from(exit::UNAVAILABLE),
        false => ExitCode::SUCCESS,
    })
}

/// How long a request may take to be seen in its queue.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until the request is answered, or waits itself: so that the next line finds what this one has
/// made, on whichever connection it is.
async fn settle(
    links: &mut Links,
    letter: char,
    number: u64,
    wait: Duration,
    observer: &mut Connection,
) {
    let Some(link) = links.get(letter) else {
        return;
    };
    if link.is_behind(number) {
        // It has its turn when the one before it is answered.
        return;
    }
    if wait.is_zero() {
        return link.answered(number).await;
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        tokio::select! {
            () = link.answered(number) => return,
            () = sleep(PAUSE) => {}
        }
        match link.session() {
            Some(session) if is_waiting(observer, session).await => return,
            _ => {}
        }
    }
}

async fn is_waiting(observer: &mut Connection, session: u64) -> bool {
    let after = session.saturating_sub(1).to_string().into_bytes();
    let page = sessions::<SessionEntry>(observer, Some(after)).await;
    let entry = page.ok().and_then(|page| page.entries.into_iter().next());
    entry.is_some_and(|one| one.entry.session == session && one.entry.waits_for.is_some())
}
