//! The shell's connections: each is a task that sends lines, and prints answers as they come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use elock_client::command::Name;
use elock_client::listing::SessionEntry;
use elock_client::{Answer, Connection, ConnectionError, Error, Servers};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::printer::Printer;
use super::{request, transcript};
use crate::show::ask::{connect, sessions};
use crate::show::visible::visible;

/// What all connections share.
#[derive(Clone)]
pub struct Common {
    /// The servers, of which the first that answers is taken.
    pub servers: Servers,
    /// Where answers go.
    pub printer: Printer,
    /// Whether the numbers of sessions are asked for.
    pub wants_numbers: bool,
    /// How many connections are open.
    pub open: Arc<AtomicUsize>,
    /// Whether one could not be opened, or broke.
    pub has_failed: Arc<AtomicBool>,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// So many requests were answered, or will never be.
    pub answered: u64,
    /// The number of its session, if it is known.
    pub session: Option<u64>,
}

/// A connection that is opened when there is something to send. It ends when this is dropped.
pub struct Link {
    lines: mpsc::Sender<Vec<u8>>,
    sent: u64,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

/// So many lines may be typed ahead of what can be sent.
const MOST_UNSENT: usize = 64;

impl Link {
    /// Nothing is opened yet.
    pub fn new(letter: char, common: &Common, runtime: &Handle) -> Self {
        let (lines, receiver) = mpsc::channel(MOST_UNSENT);
        let (progress, progress_seen) = watch::channel(Progress::default());
        let speaker = Speaker {
            letter,
            common: common.clone(),
            progress,
            open: None,
        };
        let task = runtime.spawn(speaker.run(receiver));
        Self {
            lines,
            sent: 0,
            progress: progress_seen,
            task,
        }
    }

    /// Sends a line behind all others; its number among them is what [`Progress`] counts to.
    pub async fn send(&mut self, line: Vec<u8>) -> u64 {
        // The task ends with this, and not before.
        let _ = self.lines.send(line).await;
        self.sent += 1;
        self.sent
    }

    /// Ends it at once, whatever it does.
    pub async fn close(self) {
        self.task.abort();
        // It is over when the connection is, and not before.
        let _ = self.task.await;
    }

    /// Whether one before the request of this number is not answered yet.
    pub fn is_behind(&self, number: u64) -> bool {
        self.progress.borrow().answered + 1 < number
    }

    /// The number of the session, if it is known.
    pub fn session(&self) -> Option<u64> {
        self.progress.borrow().session
    }

    /// Waits until that many requests are answered.
    pub async fn answered(&mut self, number: u64) {
        let _ = self
            .progress
            .wait_for(|progress| progress.answered >= number)
            .await;
    }

    /// Waits until all are.
    pub async fn all_answered(&mut self) {
        self.answered(self.sent).await;
    }
}

struct Speaker {
    letter: char,
    common: Common,
    progress: watch::Sender<Progress>,
    open: Option<Open>,
}

/// A connection and what is asked by it.
struct Open {
    connection: Connection,
    asked: VecDeque<Asked>,
    /// When the answer must be there to the request that was asked first.
    deadline: Instant,
    counted: Arc<AtomicUsize>,
    /// Whether the answer to `quit` has come, behind which nothing is run.
    is_over: bool,
}

struct Asked {
    is_listing: bool,
    is_last: bool,
    allowed: Duration,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counted.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Open {
    fn new(connection: Connection, counted: Arc<AtomicUsize>) -> Self {
        counted.fetch_add(1, Ordering::Relaxed);
        Self {
            connection,
            asked: VecDeque::new(),
            deadline: Instant::now(),
            counted,
            is_over: false,
        }
    }

    fn push(&mut self, line: &[u8]) {
        let asked = Asked {
            is_listing: request::is_listing(line),
            is_last: request::is_last(line),
            allowed: request::deadline(line),
        };
        if self.asked.is_empty() {
            self.deadline = Instant::now() + asked.allowed;
        }
        self.asked.push_back(asked);
    }

    /// The next answer, and whether it is a listing. Nothing is lost if this is dropped.
    async fn next(&mut self) -> Result<(Answer, bool), Why> {
        if self.is_over {
            return Err(Why::Over);
        }
        let Some(first) = self.asked.front() else {
            // Nothing is sent unasked, but for the end.
            return Ok((self.connection.receive(false).await?, false));
        };
        let is_last = first.is_last;
        let is_listing = first.is_listing;
        let receiving = self.connection.receive(is_listing);
        let answer = timeout_at(self.deadline, receiving)
            .await
            .map_err(|_| Why::NoAnswer)??;
        self.asked.pop_front();
        self.is_over = is_last;
        if let Some(next) = self.asked.front() {
            self.deadline = Instant::now() + next.allowed;
        }
        Ok((answer, is_listing))
    }
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error(transparent)]
    Broken(#[from] ConnectionError),
    #[error("the connection is over")]
    Over,
    #[error("no answer, longer than the request allows")]
    NoAnswer,
}

impl Speaker {
    /// Until there are no more lines to come. What was received is looked at first, so that no line
    /// goes to a connection that is known to be over.
    async fn run(mut self, mut lines: mpsc::Receiver<Vec<u8>>) {
        loop {
            let next = async {
                match &mut self.open {
                    Some(open) => open.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                next = next => match next {
                    Ok((answer, is_listing)) => {
                        self.print_answer(&answer, is_listing);
                        self.count(1);
                    }
                    Err(why) => self.close(&why),
                },
                line = lines.recv() => match line {
                    Some(line) => self.ask(&line).await,
                    None => return,
                },
            }
        }
    }

    async fn ask(&mut self, line: &[u8]) {
        if self.open.is_none() {
            match self.connect().await {
                Ok(connection) => {
                    let counted = self.common.open.clone();
                    self.open = Some(Open::new(connection, counted));
                }
                Err(why) => {
                    self.common.has_failed.store(true, Ordering::Relaxed);
                    self.say(&why);
                    return self.count(1);
                }
            }
        }
        let Some(open) = &mut self.open else { return };
        open.push(line);
        if let Err(error) = open.connection.send(&[line, b"\n"].concat()).await {
            self.close(&error.into());
        }
    }

    async fn connect(&mut self) -> Result<Connection, String> {
        let connected = connect(&self.common.servers).await;
        let (mut connection, _) = connected.map_err(|failure| failure.to_string())?;
        let session = self.introduce(&mut connection).await;
        let session = session.map_err(|error| error.to_string())?;
        self.progress
            .send_modify(|progress| progress.session = session);
        Ok(connection)
    }

    /// Gives the session a name, by which people know whose it is, and this shell finds its number.
    async fn introduce(&mut self, connection: &mut Connection) -> Result<Option<u64>, Error> {
        let name = format!("elock-shell-{}:{}", std::process::id(), self.letter);
        connection
            .call(&Name {
                name: name.clone().into_bytes(),
            })
            .await?;
        if !self.common.wants_numbers {
            return Ok(None);
        }
        let (mut after, mut number) = (None, None);
        loop {
            let page = sessions::<SessionEntry>(connection, after).await?;
            // Of several, the one that came last is connected.
            let own = page
                .entries
                .iter()
                .rfind(|one| one.entry.name.as_deref() == Some(&name));
            number = own.map(|own| own.entry.session).or(number);
            if page.next.is_none() {
                return Ok(number);
            }
            after = page.next;
        }
    }

    fn close(&mut self, why: &Why) {
        let Some(open) = self.open.take() else { return };
        let lost = open.asked.len() as u64;
        drop(open);
        let text = match lost {
            0 => format!("{why}; the next line opens another, with a new session"),
            lost => {
                self.common.has_failed.store(true, Ordering::Relaxed);
                format!("{why}; {lost} without an answer")
            }
        };
        self.say(&text);
        self.count(lost);
    }

    fn count(&self, more: u64) {
        self.progress
            .send_modify(|progress| progress.answered += more);
    }

    fn print_answer(&self, answer: &Answer, is_listing: bool) {
        let begin = match self.common.open.load(Ordering::Relaxed) > 1 {
            true => format!("{}: ", self.letter),
            false => String::new(),
        };
        self.common
            .printer
            .print(transcript::lines(answer, is_listing, &begin));
    }

    /// Something that is no answer.
    fn say(&self, text: &str) {
        self.common
            .printer
            .print(format!("({}: {})\n", self.letter, visible(text)));
    }
}
