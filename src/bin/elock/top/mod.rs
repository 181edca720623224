//! `elock top`: what a server does, live.

mod counters;
mod events;
mod input;
mod intervention;
mod pace;
mod peers;
mod poller;
mod round;
mod rows;
mod state;
mod terminal;
mod text;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;
use elock_client::Servers;
use ratatui::crossterm::event::Event as TerminalEvent;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use crate::duration;
use crate::exit;
use crate::server::ServerArgs;
use events::{Event, Signals};
use input::Wish;
use intervention::Intervention;
use pace::Pace;
use poller::Poller;
use round::Interest;
use state::State;
use terminal::Screen;
use view::Palette;

/// What waits to be drawn. More reports are left out, and more typing waits in the terminal.
const EVENTS: usize = 16;

/// The screen is drawn at least so often: times go on, and a terminal that is gone is noticed.
const TICK: Duration = Duration::from_secs(1);

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Press ? for the keys. NO_COLOR=1 turns colours off.

A server with a million locks is not read whole: its first 10,000 sessions tell for which keys \
anybody waits, and those on the screen are asked for. The screen says what was not read.")]
pub struct TopArgs {
    /// How often to ask the server; less often by itself if it takes long to answer
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
    match bounds.contains(&interval) {
        true => Ok(interval),
        false => Err("not from 100ms to 1h".to_owned()),
    }
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
enum TopError {
    #[error(
        "top needs a terminal on standard output; `elock status --watch` prints the numbers anywhere"
    )]
    NoTerminal,
    #[error(
        "top needs a terminal that can be drawn on, and TERM is {0:?}; `elock status --watch` prints the numbers anywhere"
    )]
    DumbTerminal(String),
    #[error("the terminal fails: {0}")]
    Terminal(#[from] io::Error),
    #[error("cannot start: {0}")]
    Start(io::Error),
    #[error("the part that asks the server failed")]
    PollerEnded,
}

impl TopError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoTerminal | Self::DumbTerminal(_) => ExitCode::from(exit::USAGE),
            Self::Terminal(_) | Self::Start(_) | Self::PollerEnded => ExitCode::FAILURE,
        }
    }
}

/// Why the screen ends, if nothing fails.
#[derive(Debug)]
enum Ending {
    Quit,
    Signal(u8),
}

/// Runs it.
pub fn run(args: TopArgs, server: &ServerArgs) -> ExitCode {
    match show(args, server) {
        Ok(Ending::Quit) => ExitCode::SUCCESS,
        Ok(Ending::Signal(number)) => ExitCode::from(events::exit_code(number)),
        Err(error) => {
            exit::say(&error.to_string());
            error.exit_code()
        }
    }
}

fn show(args: TopArgs, server: &ServerArgs) -> Result<Ending, TopError> {
    if !io::stdout().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    if let Some(term @ "dumb") = std::env::var("TERM").ok().as_deref() {
        return Err(TopError::DumbTerminal(term.to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(TopError::Start)?;
    let (sender, events) = sync_channel(EVENTS);
    let (interest, interest_seen) = watch::channel(Interest::default());
    let signals = {
        let _in_runtime = runtime.enter();
        Signals::listen().map_err(TopError::Start)?
    };
    let screen = Screen::enter()?;
    runtime.spawn(signals.pass_on(sender.clone()));
    let pace = Pace::new(args.interval);
    let poller = Poller::new(server.server.clone(), pace, interest_seen, sender.clone());
    spawn_poller(&runtime, poller, sender.clone());
    let hands = Hands {
        runtime: runtime.handle().clone(),
        servers: server.server.clone(),
        events: sender.clone(),
    };
    events::read_terminal(sender);
    let state = State::new(server.server.to_string());
    let ending = Top {
        screen,
        state,
        interest,
        palette: Palette::of_environment(),
        hands,
    }
    .run(&events);
    // Whatever it waits for is of no interest any more.
    runtime.shutdown_background();
    ending
}

/// A poller that panics must not leave a picture behind that looks alive.
fn spawn_poller(runtime: &Runtime, poller: Poller, events: SyncSender<Event>) {
    let polling = runtime.spawn(poller.run());
    runtime.spawn(async move {
        let _ = polling.await;
        let _ = events.try_send(Event::PollerEnded);
    });
}

struct Top {
    screen: Screen,
    state: State,
    interest: watch::Sender<Interest>,
    palette: Palette,
    hands: Hands,
}

/// Does what a person has said yes to, while the screen goes on.
struct Hands {
    runtime: Handle,
    servers: Servers,
    events: SyncSender<Event>,
}

impl Hands {
    fn begin(&self, intervention: Intervention) {
        let (servers, events) = (self.servers.clone(), self.events.clone());
        self.runtime.spawn(async move {
            let told = intervention.carry_out(&servers).await;
            // It must not be left out: it waits until there is room for it, or nobody looks any more.
            let sent = tokio::task::spawn_blocking(move || events.send(Event::Told(told)));
            let _ = sent.await;
        });
    }
}

impl Top {
    fn run(mut self, events: &Receiver<Event>) -> Result<Ending, TopError> {
        loop {
            let (state, palette) = (&mut self.state, self.palette);
            self.screen
                .draw(|frame| view::draw(frame, state, palette, Instant::now()))?;
            let interest = self.state.interest();
            self.interest.send_if_modified(|before| {
                let is_other = *before != interest;
                *before = interest;
                is_other
            });
            let mut next = match events.recv_timeout(TICK) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Err(TopError::PollerEnded),
            };
            // What came meanwhile is drawn at once.
            for _ in 0..EVENTS {
                let Some(event) = next else { break };
                if let Some(ending) = self.take(event)? {
                    return Ok(ending);
                }
                next = events.try_recv().ok();
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<Option<Ending>, TopError> {
        match event {
            Event::Terminal(TerminalEvent::Key(key)) => match input::press(&mut self.state, key) {
                Wish::Quit => return Ok(Some(Ending::Quit)),
                Wish::Suspend => self.screen.suspend()?,
                Wish::Intervene(intervention) => self.hands.begin(intervention),
                Wish::None => {}
            },
            // The next frame has the new size by itself.
            Event::Terminal(_) => {}
            Event::InputFailed(error) => return Err(error.into()),
            Event::Report(report) => self.state.take(report),
            Event::Told(told) => self.state.hear(told),
            Event::PollerEnded => return Err(TopError::PollerEnded),
            Event::Signal(number) => return Ok(Some(Ending::Signal(number))),
            Event::Continued => self.screen.retake()?,
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    //! What the tests of the parts are made of.

    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use elock_client::listing::{Info, LockEntry};

    use super::poller::Report;
    use super::round::{Known, Sample, Wait};

    pub fn sample(waits: Vec<Wait>, locks: Vec<LockEntry>) -> Sample {
        let at = Instant::now();
        let numbers = [
            ("version", "9.8.7"),
            ("store", "memory"),
            ("uptime_seconds", "7400"),
            ("sessions", "12"),
            ("connected_sessions", "11"),
            ("locks", "3"),
            ("waiters", "3"),
        ];
        let numbers = numbers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let known = |entry: LockEntry| {
            let key: Arc<[u8]> = entry.key_bytes().into();
            let entry = Some(Arc::new(entry));
            (key, Known { entry, at })
        };
        Sample {
            at,
            took: Duration::from_millis(3),
            address: "127.0.0.1:11400".to_owned(),
            connection: 1,
            peers: HashMap::new(),
            locks_at: at,
            search_took: Duration::from_millis(2),
            info: Info(numbers.into()),
            waits,
            sessions_cut: None,
            locks: locks.into_iter().map(known).collect::<HashMap<_, _>>(),
            page_cut: None,
            prefix: Vec::new(),
        }
    }

    pub fn told(sample: Sample) -> Report {
        Report::Told(Arc::new(sample), Duration::from_secs(1))
    }

    pub fn waiting(session: u64, key: &str, waited_ms: u64) -> Wait {
        Wait {
            session,
            name: Some(format!("app-{session}")),
            key: key.as_bytes().into(),
            shown: key.into(),
            waited_ms,
            left_ms: 59_000,
        }
    }

    pub fn held(key: &str, session: u64, held_ms: u64, waiters: u64) -> LockEntry {
        let waiting: Vec<_> = (0..waiters)
            .map(|number| {
                serde_json::json!({
                    "session": 24 + number, "mode": "exclusive", "waited_ms": 5, "left_ms": 6,
                })
            })
            .collect();
        let entry = serde_json::json!({
            "key": key,
            "mode": "exclusive",
            "holders": [{
                "session": session, "name": format!("web-{session}"), "token": 7,
                "held_ms": held_ms, "lease_left_ms": 60_000,
            }],
            "holders_in_all": 1,
            "waiting": waiting,
            "waiting_in_all": waiters,
        });
        serde_json::from_value(entry).expect("as a server sends it")
    }

    #[test]
    fn intervals_have_bounds() {
        assert!(super::interval("100ms").is_ok() && super::interval("1h").is_ok());
        assert!(super::interval("99ms").is_err() && super::interval("2h").is_err());
        assert!(super::interval("soon").is_err());
    }
}
