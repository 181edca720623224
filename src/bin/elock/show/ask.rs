//! Requests to the first server that answers, each with a deadline.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;

use elock_client::command::{Command, Echo, GetLocks, GetSessions};
use elock_client::listing::{LockEntry, ModeShown};
use elock_client::{
    Address, Answer, BadWord, Connection, ConnectionError, DEFAULT_DEADLINE, Error, Line, Servers,
};
use serde::Deserialize;
use tokio::time::timeout;

use super::failure::Failure;
use crate::exit;

/// Runs a command to its end. A name that cannot be looked up is not waited for behind it.
pub fn block_on(command: impl Future<Output = Result<ExitCode, Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Err(error) => Err(error.into()),
        Ok(runtime) => {
            let ended = runtime.block_on(command);
            runtime.shutdown_background();
            ended
        }
    };
    ended.unwrap_or_else(|failure| failure.end())
}

/// A page of a listing may take so long: a server with a million locks searches all of them for each.
const SEARCH_DEADLINE: Duration = Duration::from_secs(30);

/// Connects to the first server that answers, and says which that is.
pub async fn connect(servers: &Servers) -> Result<(Connection, Address), Failure> {
    connect_within(servers, FIRST_ANSWER).await
}

/// The same, to ask for listings.
pub async fn connect_to_search(servers: &Servers) -> Result<(Connection, Address), Failure> {
    connect_within(servers, SEARCH_DEADLINE).await
}

/// How long a server may take to answer first: longer than one of several holds a new connection while none leads,
/// which is 10 s unless set otherwise (`--hold-ms`). Then it says so.
const FIRST_ANSWER: Duration = Duration::from_secs(12);

/// After how long without an answer the next server is asked, too.
const NEXT_AFTER: Duration = Duration::from_secs(2);

/// `deadline` is that of the answers to come. Somebody who waits long is told for what that may be.
async fn connect_within(
    servers: &Servers,
    deadline: Duration,
) -> Result<(Connection, Address), Failure> {
    let mut connecting = pin!(first_to_answer(servers, deadline));
    if let Ok(connected) = timeout(DEFAULT_DEADLINE, connecting.as_mut()).await {
        return connected;
    }
    exit::say(&format!(
        "no answer for {DEFAULT_DEADLINE:?}: it hangs; or none of several servers leads, which each says after its \
         --hold-ms (10s, unless set); waiting for that"
    ));
    connecting.await
}

/// Asks the first server, and the next ones beside it as long as none has answered.
async fn first_to_answer(
    servers: &Servers,
    deadline: Duration,
) -> Result<(Connection, Address), Failure> {
    let addresses = servers.addresses();
    let mut next = addresses.iter().enumerate();
    let (mut asked, mut errors) = (Vec::new(), Vec::new());
    while errors.len() < addresses.len() {
        let patience = match next.next() {
            Some((place, address)) => {
                asked.push(Box::pin(async move {
                    let connected = connect_in(FIRST_ANSWER, servers, address, deadline).await;
                    (place, address, connected)
                }));
                NEXT_AFTER
            }
            None => FIRST_ANSWER,
        };
        match timeout(patience, first_to_end(&mut asked)).await {
            Ok((_, address, Ok(connection))) => return Ok((connection, address.clone())),
            Ok((place, address, Err(error))) => errors.push((place, address, error)),
            Err(_) => {}
        }
    }
    errors.sort_by_key(|&(place, ..)| place);
    let errors = errors
        .into_iter()
        .map(|(_, address, error)| (address, error));
    Err(none_answers(errors.collect()))
}

/// The outcome of the first of these that ends, which is not among them any more.
async fn first_to_end<F: Future + Unpin>(running: &mut Vec<F>) -> F::Output {
    poll_fn(|context| {
        for place in 0..running.len() {
            if let Poll::Ready(outcome) = Pin::new(&mut running[place]).poll(context) {
                drop(running.swap_remove(place));
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}

/// What that means of all the servers that were asked.
fn none_answers(mut errors: Vec<(&Address, Error)>) -> Failure {
    let lacks_leader = |(_, error): &(&Address, Error)| matches!(error, Error::NoLeader);
    let all_lack_leader = errors.iter().all(lacks_leader);
    match errors.pop() {
        Some((_, only)) if errors.is_empty() || all_lack_leader => only.into(),
        last => {
            let reasons = errors.into_iter().chain(last).map(|(address, error)| {
                // Errors of connections name the address themselves.
                match error {
                    Error::Connection(error) => error.to_string(),
                    error => format!("{address}: {error}"),
                }
            });
            let reasons = reasons.collect::<Vec<_>>().join("; ");
            Failure::NoServer { reasons }
        }
    }
}

/// A server that is full or stops accepts connections, too, and so does one that hangs.
pub async fn connect_to(
    servers: &Servers,
    address: &Address,
    deadline: Duration,
) -> Result<Connection, Error> {
    connect_in(DEFAULT_DEADLINE, servers, address, deadline).await
}

/// The same, in so much time.
async fn connect_in(
    time: Duration,
    servers: &Servers,
    address: &Address,
    deadline: Duration,
) -> Result<Connection, Error> {
    let connecting = async {
        let mut connection = Connection::to(servers, address, deadline).await?;
        connection.call(&Echo::default()).await?;
        Ok(connection)
    };
    let timed_out = |_| ConnectionError::TimedOut {
        address: address.clone(),
        after: time,
    };
    timeout(time, connecting).await.map_err(timed_out)?
}

/// An entry of a listing, and the JSON that it came as, which may have members unknown here.
pub struct Listed<T> {
    /// What is shown of it.
    pub entry: T,
    /// One object, without its end of line.
    pub json: String,
}

/// A part of a listing.
pub struct ListedPage<T> {
    /// At most a thousand.
    pub entries: Vec<Listed<T>>,
    /// What to go on with.
    pub next: Option<Vec<u8>>,
}

/// A command whose answer is taken as it comes.
struct Raw<C>(C);

impl<C: Command> Command for Raw<C> {
    type Output = Answer;
    const IS_LISTING: bool = C::IS_LISTING;

    fn line(&self) -> Result<Line, BadWord> {
        self.0.line()
    }

    fn read(answer: Answer) -> Result<Answer, Error> {
        Ok(answer)
    }
}

/// A page of locks.
pub async fn locks(
    connection: &mut Connection,
    prefix: &[u8],
    after: Option<Vec<u8>>,
) -> Result<ListedPage<LockEntry>, Error> {
    asked_locks(connection, GetLocks::prefix_of(prefix), after).await
}

async fn asked_locks(
    connection: &mut Connection,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
) -> Result<ListedPage<LockEntry>, Error> {
    let command = Raw(GetLocks {
        prefix,
        after: after.clone(),
    });
    page(connection.call(&command).await?, "LOCK ", after)
}

/// A page of sessions, as whatever of them is asked for.
pub async fn sessions<T: for<'a> Deserialize<'a>>(
    connection: &mut Connection,
    after: Option<Vec<u8>>,
) -> Result<ListedPage<T>, Error> {
    let command = Raw(GetSessions {
        after: after.clone(),
    });
    page(connection.call(&command).await?, "SESSION ", after)
}

fn page<T: for<'a> Deserialize<'a>>(
    answer: Answer,
    kind: &str,
    after: Option<Vec<u8>>,
) -> Result<ListedPage<T>, Error> {
    let bad = |what: &str| Error::Refused {
        code: answer.code,
        text: what.to_owned(),
    };
    let (mut entries, mut next) = (Vec::with_capacity(answer.lines.len()), None);
    for line in &answer.lines {
        if let Some(object) = line.strip_prefix(kind.as_bytes()) {
            let json = std::str::from_utf8(object).map_err(|_| bad("a listing is no UTF-8"))?;
            let entry = serde_json::from_str(json).map_err(|_| bad("a listing is no JSON"))?;
            entries.push(Listed {
                entry,
                json: json.to_owned(),
            });
        } else if let Some(word) = line.strip_prefix(b"NEXT ") {
            next = Some(word.to_owned());
        }
    }
    match next.is_some() && next == after {
        true => Err(bad("a listing goes round in circles")),
        false => Ok(ListedPage { entries, next }),
    }
}

/// The lock of just this key, if it is held.
pub async fn lock(
    connection: &mut Connection,
    key: &[u8],
) -> Result<Option<Listed<LockEntry>>, Error> {
    let page = asked_locks(connection, GetLocks::key(key), None).await?;
    let first = page.entries.into_iter().next();
    Ok(first.filter(|first| first.entry.key_bytes() == key))
}

/// The bytes of a key, of which a listing shows this text, and base64 if that is not all.
pub fn key_bytes(shown: &str, base64: Option<&str>) -> Vec<u8> {
    let entry = LockEntry {
        key: shown.to_owned(),
        key_base64: base64.map(str::to_owned),
        mode: ModeShown {
            mode: String::new(),
            value: None,
            slots: None,
        },
        holders: Vec::new(),
        holders_in_all: 0,
        waiting: Vec::new(),
        waiting_in_all: 0,
    };
    entry.key_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[Error]) -> String {
        let addresses = ["a:1", "b:2", "c:3"].map(|text| text.parse().expect("an address"));
        let errors = addresses.iter().zip(errors.iter().cloned());
        none_answers(errors.collect()).to_string()
    }

    #[test]
    fn what_all_servers_say_is_said_once_and_what_each_says_with_its_name() {
        let nobody_leads = Error::NoLeader.to_string();
        assert_eq!(told(&[Error::NoLeader]), nobody_leads);
        assert_eq!(told(&[Error::NoLeader, Error::NoLeader]), nobody_leads);
        let gone = ConnectionError::TimedOut {
            address: "b:2".parse().expect("an address"),
            after: FIRST_ANSWER,
        };
        let one_is_gone = [Error::NoLeader, gone.into(), Error::ShuttingDown];
        assert_eq!(
            told(&one_is_gone),
            format!(
                "no server answers: a:1: {nobody_leads}; b:2: no answer within 12s; c:3: {}",
                Error::ShuttingDown
            )
        );
    }
}
