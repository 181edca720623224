//! What is said first on a connection: the session is begun or resumed, and what it held is looked at.

use std::sync::Arc;
use std::time::Duration;

use super::{Server, Vital};
use crate::address::Address;
use crate::answer::Answer;
use crate::clock::Moment;
use crate::command::{
    Command, ConnId, Expire, GetInfo, Name, Resume, SessionId, SetTimeout, Token,
};
use crate::connection::{Connection, turned_away};
use crate::error::{ConnectionError, Error, Loss, NotHeld};
use crate::hold::Hold;
use crate::listing::Info;

/// Locks that are asked about in one go: their answers fit into what a server keeps for a client that
/// is still writing.
const ASKED_AT_ONCE: usize = 256;

/// A connection that speaks for the session.
pub(super) struct Joined {
    pub(super) connection: Connection,
    pub(super) server: Server,
}

/// Connects to this server, and resumes the session `id`, or begins one, whose id is then put there.
pub(super) async fn join(
    vital: &Vital,
    address: &Address,
    id: &mut Option<SessionId>,
) -> Result<Joined, ConnectionError> {
    let options = &vital.options;
    options.refusals.of(address)?;
    let joined = join_now(vital, address, id).await;
    if let Err(error) = &joined {
        options.refusals.note(address, error);
    }
    joined
}

async fn join_now(
    vital: &Vital,
    address: &Address,
    id: &mut Option<SessionId>,
) -> Result<Joined, ConnectionError> {
    let options = &vital.options;
    let access = &options.servers.access;
    let connecting = Connection::begin(address, access, options.connect_deadline);
    let mut talk = Talk {
        connection: connecting.await?,
        address,
        deadline: options.request_deadline,
    };
    let is_resumed = match id {
        Some(known) => talk.resume(known, vital).await?,
        None => false,
    };
    if !is_resumed {
        if id.take().is_some() {
            vital.session_ended();
        }
        *id = Some(talk.begin(vital).await?);
    }
    let number = id.as_ref().and_then(SessionId::number).unwrap_or(0);
    vital
        .number
        .store(number, std::sync::atomic::Ordering::SeqCst);
    let server = talk.introduce(vital).await?;
    talk.verify(vital).await?;
    Ok(Joined {
        connection: talk.connection,
        server,
    })
}

struct Talk<'a> {
    connection: Connection,
    address: &'a Address,
    deadline: Duration,
}

impl Talk<'_> {
    /// Whether the session goes on.
    async fn resume(&mut self, id: &SessionId, vital: &Vital) -> Result<bool, ConnectionError> {
        let sent = Moment::now();
        let resume = Resume { id: id.clone() };
        let answer = self.ask(&[line(&resume)]).await?.remove(0);
        match answer.code {
            200 => {
                vital.confirm(sent);
                Ok(true)
            }
            // Also where there is no such command.
            400 | 403 => Ok(false),
            _ => Err(self.turned_away(&answer)),
        }
    }

    async fn begin(&mut self, vital: &Vital) -> Result<SessionId, ConnectionError> {
        let sent = Moment::now();
        let grace = vital.options.grace;
        let lines = [line(&SetTimeout { grace }), line(&ConnId {})];
        let mut answers = self.ask(&lines).await?;
        if let Some(refused) = answers.iter().find(|answer| answer.code != 200) {
            return Err(self.turned_away(refused));
        }
        vital.confirm(sent);
        Ok(SessionId::new(answers.remove(1).text))
    }

    /// Tells the name, which a server may not know, and learns what kind of a server it is.
    async fn introduce(&mut self, vital: &Vital) -> Result<Server, ConnectionError> {
        if let Some(name) = &vital.options.name {
            let name = Name { name: name.clone() };
            self.ask(&[line(&name)]).await?;
        }
        let asked = line(&GetInfo {});
        self.connection.send(&asked).await?;
        let answer = self.receive(true).await?;
        let info = Info::read(&answer);
        vital.set_max_hold(info.max_hold());
        Ok(Server {
            address: self.address.clone(),
            is_durable: info.is_durable(),
            has_others: info.get("role").is_some(),
            instance: info.get("instance").map(str::to_owned),
        })
    }

    /// Asks for the token of each lock, and tells the guards of those that are gone. Others have their
    /// leases renewed: a server that started anew may give shorter ones.
    async fn verify(&mut self, vital: &Vital) -> Result<(), ConnectionError> {
        let holds = vital.holds();
        for some in holds.chunks(ASKED_AT_ONCE) {
            let lines: Vec<Vec<u8>> = some.iter().map(|hold| line(&token_of(hold))).collect();
            let answers = self.ask(&lines).await?;
            let mut there = Vec::with_capacity(some.len());
            for (hold, answer) in some.iter().zip(answers) {
                match missing(hold, answer) {
                    Ok(None) => there.push(hold),
                    Ok(Some(why)) => vital.lose(hold, why),
                    Err(answer) => return Err(self.turned_away(&answer)),
                }
            }
            self.renew(&there).await?;
        }
        Ok(())
    }

    async fn renew(&mut self, holds: &[&Arc<Hold>]) -> Result<(), ConnectionError> {
        let leases = holds.iter().filter_map(|hold| Some((hold, hold.lease()?)));
        let (mut lines, mut renewals) = (Vec::new(), Vec::new());
        for (hold, lease) in leases {
            lines.push(line(&expire_of(hold, lease)));
            renewals.push((hold, hold.renewing(lease)));
        }
        let sent = Moment::now();
        for ((hold, renewal), answer) in renewals.iter().zip(self.ask(&lines).await?) {
            match answer.code {
                200 => hold.renewed(*renewal, sent),
                // The keeper asks again, and learns what it is.
                _ => hold.set_renew_at(Moment(0)),
            }
        }
        Ok(())
    }

    async fn ask(&mut self, lines: &[Vec<u8>]) -> Result<Vec<Answer>, ConnectionError> {
        self.connection.send(&lines.concat()).await?;
        let mut answers: Vec<Answer> = Vec::with_capacity(lines.len());
        for _ in lines {
            match (self.receive(false).await, answers.last()) {
                (Ok(answer), _) => answers.push(answer),
                // A server that does not want the client answers once, and not each request.
                (Err(ConnectionError::Closed { .. }), Some(last)) if last.code != 200 => {
                    return Err(self.turned_away(last));
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(answers)
    }

    async fn receive(&mut self, is_listing: bool) -> Result<Answer, ConnectionError> {
        let received = self.connection.receive(is_listing);
        match tokio::time::timeout(self.deadline, received).await {
            Ok(received) => received,
            Err(_) => Err(ConnectionError::TimedOut {
                address: self.address.clone(),
                after: self.deadline,
            }),
        }
    }

    fn turned_away(&self, answer: &Answer) -> ConnectionError {
        turned_away(self.address, answer)
    }
}

/// These words were looked at before: ids come from the server, and names and keys were sent already.
fn line<C: Command>(command: &C) -> Vec<u8> {
    match command.line() {
        Ok(line) => line.as_bytes().to_vec(),
        Err(_) => b"\n".to_vec(),
    }
}

pub(crate) fn token_of(hold: &Arc<Hold>) -> Token {
    Token {
        key: hold.key.clone(),
        owner: hold.owner.clone(),
    }
}

pub(crate) fn expire_of(hold: &Hold, lease: Duration) -> Expire {
    Expire {
        key: hold.key.clone(),
        lease,
        owner: hold.owner.clone(),
    }
}

/// Why the lock is not held by the grant that the guard knows, if so; or an answer that tells nothing.
pub(crate) fn missing(hold: &Hold, answer: Answer) -> Result<Option<Loss>, Answer> {
    let told = answer.clone();
    match answer.done().and_then(Token::read) {
        Ok(token) if token == hold.token => Ok(None),
        Ok(_) | Err(Error::NotHeld(NotHeld::NotYours | NotHeld::NotLocked)) => {
            // An owner is not told of the end of its lease.
            Ok(Some(match hold.owner.is_some() && !hold.is_held() {
                true => Loss::LeaseEnded,
                false => Loss::Released,
            }))
        }
        Err(Error::NotHeld(why)) => Ok(Some(why.into())),
        Err(_) => Err(told),
    }
}
