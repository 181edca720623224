//! What the screen is drawn for: keys that are typed, another size, a signal, a report of the server.

use std::io;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event as TerminalEvent};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::intervention::Told;
use super::poller::Report;
use super::terminal;

/// One of them.
#[derive(Debug)]
pub enum Event {
    /// From the terminal.
    Terminal(TerminalEvent),
    /// Nothing comes from the terminal any more.
    InputFailed(io::Error),
    /// From the poller.
    Report(Report),
    /// What came of an intervention.
    Told(Told),
    /// The poller ended, which it never does by itself.
    PollerEnded,
    /// A signal that ends the program, by its number.
    Signal(u8),
    /// The program was stopped, and goes on.
    Continued,
}

/// How long a screen may take to end after a signal. A terminal that takes nothing would hold it up for
/// ever.
const TIME_TO_END: Duration = Duration::from_secs(2);

/// Reads the terminal on a thread of its own, which ends with the process.
pub fn read_terminal(events: SyncSender<Event>) {
    std::thread::spawn(move || {
        loop {
            let event = match event::read() {
                Ok(event) => Event::Terminal(event),
                Err(error) => Event::InputFailed(error),
            };
            let is_over = matches!(event, Event::InputFailed(_));
            if events.send(event).is_err() || is_over {
                return;
            }
        }
    });
}

/// The signals that end the program, and the one with which it goes on after a stop.
#[derive(Debug)]
pub struct Signals {
    ending: [(Signal, u8); 3],
    continued: Signal,
}

impl Signals {
    /// From here on these signals do not end the process by themselves.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        let ending = |kind: SignalKind| Ok::<_, io::Error>((signal(kind)?, number(kind)));
        Ok(Self {
            ending: [
                ending(SignalKind::interrupt())?,
                ending(SignalKind::terminate())?,
                ending(SignalKind::hangup())?,
            ],
            continued: signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
        })
    }

    /// Passes them on, and sees to it that the process ends.
    pub async fn pass_on(mut self, events: SyncSender<Event>) {
        loop {
            let [(one, one_number), (two, two_number), (three, three_number)] = &mut self.ending;
            let number = tokio::select! {
                _ = self.continued.recv() => {
                    let _ = events.try_send(Event::Continued);
                    continue;
                }
                _ = one.recv() => *one_number,
                _ = two.recv() => *two_number,
                _ = three.recv() => *three_number,
            };
            let _ = events.try_send(Event::Signal(number));
            tokio::time::sleep(TIME_TO_END).await;
            terminal::abandon();
            std::process::exit(i32::from(exit_code(number)));
        }
    }
}

fn number(kind: SignalKind) -> u8 {
    u8::try_from(kind.as_raw_value()).unwrap_or(0)
}

/// What a shell shows for a program that a signal ended.
pub fn exit_code(signal: u8) -> u8 {
    signal.saturating_add(128)
}
