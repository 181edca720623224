//! What the server itself counts, before the measurement and after it.

use std::time::Duration;

use elock_client::command::{GetInfo, Lock, Mode, SetTimeout};
use elock_client::listing::Info;
use elock_client::{Connection, Error};

use super::crew::Plan;
use super::failure::Failure;
use super::nearby::Target;
use super::workload::Workload;

/// The first of these addresses at which a server answers, and what it tells of itself: nothing, if it
/// is one that does not know `info`.
///
/// # Errors
///
/// There is none.
pub async fn first_to_answer(targets: Vec<Target>) -> Result<(Target, Option<Info>), Failure> {
    let mut last = None;
    for target in targets {
        match ask(&target).await {
            Ok(info) => return Ok((target, info)),
            Err(error) => last = Some(error),
        }
    }
    let none = || Failure::Connecting(std::io::ErrorKind::NotFound.into());
    Err(last.map_or_else(none, Failure::Asked))
}

/// What the server tells now, by a connection of its own.
///
/// # Errors
///
/// It is not there.
pub async fn ask(target: &Target) -> Result<Option<Info>, Error> {
    let mut connection = target.connect().await?;
    info(&mut connection).await
}

async fn info(connection: &mut Connection) -> Result<Option<Info>, Error> {
    match connection.call(&GetInfo {}).await {
        Ok(info) => Ok(Some(info)),
        Err(Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whoever holds the key of which all others are refused, as long as it is not dropped.
#[derive(Debug)]
pub struct Holder(Connection);

impl Holder {
    /// Takes it, for a workload that has such a key.
    ///
    /// # Errors
    ///
    /// The server is not there, or refuses it.
    pub async fn take(plan: &Plan) -> Result<Option<Self>, Failure> {
        if plan.workload != Workload::Mixed {
            return Ok(None);
        }
        let mut connection = plan.target.connect().await?;
        let grace = Duration::ZERO;
        connection.call(&SetTimeout { grace }).await?;
        let lock = Lock {
            key: plan.names.held().into_bytes(),
            mode: Mode::Exclusive,
            wait: Duration::ZERO,
            owner: None,
        };
        connection.call(&lock).await?;
        Ok(Some(Self(connection)))
    }

    /// Gives it back.
    ///
    /// # Errors
    ///
    /// The server has not answered, or it was lost meanwhile.
    pub async fn give_back(mut self, plan: &Plan) -> Result<(), Failure> {
        let unlock = elock_client::command::Unlock {
            key: plan.names.held().into_bytes(),
            owner: None,
        };
        self.0.call(&unlock).await.map_err(Failure::Asked)
    }
}

/// What the server counted meanwhile: for all of its clients, and not only those of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Locks that were granted.
    pub grants: u64,
    /// Those of them that went to a request that waited.
    pub hand_overs: u64,
    /// Refusals.
    pub refusals: u64,
    /// Connections.
    pub connections: u64,
    /// Commits of its store, each of which makes the changes of many requests durable.
    pub commits: u64,
}

impl Counters {
    /// The difference between two moments.
    pub fn between(before: &Info, after: &Info) -> Self {
        let counted = |name| after.number(name).saturating_sub(before.number(name));
        Self {
            grants: counted("grants"),
            hand_overs: counted("hand_overs"),
            refusals: counted("refusals"),
            connections: counted("connections"),
            commits: counted("commits"),
        }
    }
}
