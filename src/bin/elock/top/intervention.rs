//! What can be done from the screen to whoever holds a key, or waits for it: after a question, over a
//! connection of its own, and only if those who stood on the screen when it was asked still hold the key a
//! moment before.

use std::sync::Arc;
use std::time::Duration;

use elock_client::command::{Break, ForceUnlock, GetInfo, GetLocks, Kick, Name};
use elock_client::listing::LockEntry;
use elock_client::{Connection, Error, NotHeld, Servers};

use super::round::Sample;
use super::rows::Row;
use super::text::fit_ends;
use crate::figures::grouped;
use crate::show::ask::connect_to;
use crate::show::parties;
use crate::show::visible::visible;

/// How much of a key an explanation has room for.
const KEY: usize = 40;

/// How long the server may take for each answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// One thing that can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervention {
    /// What it is, as a question.
    pub question: String,
    /// Whom it meets, and what comes of it.
    pub explanation: String,
    deed: Deed,
    /// The server, and the run of it, that told of it.
    address: String,
    instance: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    /// Ends a session.
    Kick(u64),
    /// Takes a lock from these of its holders, or breaks it, if they are all owners.
    Free {
        key: Arc<[u8]>,
        tokens: Vec<u64>,
        is_owners: bool,
    },
}

/// Why it was not done, or not told that it is.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    #[error("the server was started anew meanwhile, and its sessions are others")]
    OtherRun,
    #[error("nobody holds it any more, or only somebody who got it later")]
    NotLocked,
    #[error("somebody has got it beside those who were shown")]
    OtherHolders,
    #[error("a session has got it meanwhile, and not only owners")]
    NotOwners,
    #[error("there is no such session any more")]
    NoSession,
    #[error(transparent)]
    Refused(#[from] Error),
}

impl NotDone {
    fn verdict(&self) -> &'static str {
        match self {
            // The server may have got it, and its answer may be lost.
            Self::Refused(Error::Connection(_) | Error::NotStored { .. }) => "PERHAPS NOT DONE",
            _ => "NOT DONE",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In a line.
    pub text: String,
    /// Whether it was done.
    pub is_done: bool,
}

/// The sessions that hold this key, and then those that wait for it, each to be ended; none if there are
/// none.
pub fn kicks(row: &Row, sample: &Sample) -> Vec<Intervention> {
    let Some(lock) = row.entry() else {
        return Vec::new();
    };
    let key = fit_ends(&row.shown, KEY);
    let holders = lock.holders.iter().filter_map(|one| {
        let what = format!("It holds {key}");
        Some((one.session?, parties::holder(one), what))
    });
    let waiters = lock.waiting.iter().map(|one| {
        let shown = parties::session_name(one.session, one.name.as_deref());
        (one.session, shown, format!("It waits for {key}"))
    });
    let kick = |(session, shown, what): (u64, String, String)| Intervention {
        question: format!("End session {}?", visible(&shown)),
        explanation: format!(
            "{what}. Its connection is closed, all its locks pass on, and nobody can resume it."
        ),
        deed: Deed::Kick(session),
        address: sample.address.clone(),
        instance: instance(sample),
    };
    holders.chain(waiters).map(kick).collect()
}

/// The lock of this key, to be taken from all who hold it; `None` if nobody does.
pub fn freeing(row: &Row, sample: &Sample) -> Option<Intervention> {
    let lock = row.entry()?;
    let key = &row.shown;
    let has_all = lock.holders.len() as u64 == lock.holders_in_all;
    let is_owners = has_all && lock.holders.iter().all(|one| one.owner.is_some());
    let holders = visible(&parties::holders(lock));
    let (verb, who_knows) = match is_owners {
        true => ("Break", "The owners go on until they ask."),
        false => (
            "Take away",
            "Whoever has it goes on until it asks, and is told 403 revoked.",
        ),
    };
    let next = match lock.waiting_in_all {
        0 => "Nobody waits for it.".to_owned(),
        waiting => format!("{} wait, and the next in line gets it.", grouped(waiting)),
    };
    Some(Intervention {
        question: format!("{verb} {key}?"),
        explanation: format!("It is held by {holders}. {who_knows} {next}"),
        deed: Deed::Free {
            key: Arc::clone(&row.key),
            tokens: lock.holders.iter().map(|one| one.token).collect(),
            is_owners,
        },
        address: sample.address.clone(),
        instance: instance(sample),
    })
}

fn instance(sample: &Sample) -> Option<String> {
    sample.info.get("instance").map(str::to_owned)
}

impl Intervention {
    /// Does it, and says what came of it.
    pub async fn carry_out(self, servers: &Servers) -> Told {
        match self.done(servers).await {
            Ok(()) => Told {
                text: format!("done: {}", self.question.trim_end_matches('?')),
                is_done: true,
            },
            Err(why) => Told {
                text: format!(
                    "{}: {} {}",
                    why.verdict(),
                    self.question,
                    visible(&why.to_string())
                ),
                is_done: false,
            },
        }
    }

    async fn done(&self, servers: &Servers) -> Result<(), NotDone> {
        let mut connection = self.connect(servers).await?;
        match &self.deed {
            Deed::Kick(session) => {
                let who = format!("#{session}").into_bytes();
                match connection.call(&Kick { who }).await {
                    Err(Error::Refused { code: 403, .. }) => Err(NotDone::NoSession),
                    kicked => Ok(kicked.map(drop)?),
                }
            }
            Deed::Free {
                key,
                tokens,
                is_owners,
            } => {
                let lock = lock_of(&mut connection, key).await?;
                still_held(lock.as_ref(), tokens)?;
                let key = key.to_vec();
                let freed = match is_owners {
                    true => connection.call(&Break { key }).await,
                    false => connection.call(&ForceUnlock { key }).await,
                };
                match freed {
                    Err(Error::NotHeld(NotHeld::NotYours)) => Err(NotDone::NotOwners),
                    Err(Error::NotHeld(_)) => Err(NotDone::NotLocked),
                    freed => Ok(freed?),
                }
            }
        }
    }

    /// To the server that told of it, and to no other run of it: numbers of sessions are those of a run.
    async fn connect(&self, servers: &Servers) -> Result<Connection, NotDone> {
        let mut addresses = servers.addresses().iter();
        let address = addresses.find(|one| one.to_string() == self.address);
        let address = address.ok_or(NotDone::OtherRun)?;
        let mut connection = connect_to(servers, address, DEADLINE).await?;
        let info = connection.call(&GetInfo {}).await?;
        if info.get("instance") != self.instance.as_deref() {
            return Err(NotDone::OtherRun);
        }
        // For the log of the server, which may have no names.
        let name = Name {
            name: b"elock-top".to_vec(),
        };
        let _ = connection.call(&name).await;
        Ok(connection)
    }
}

async fn lock_of(connection: &mut Connection, key: &[u8]) -> Result<Option<LockEntry>, Error> {
    let question = GetLocks {
        prefix: GetLocks::key(key),
        after: None,
    };
    let page = connection.call(&question).await?;
    Ok(page.entries.into_iter().next())
}

/// Whether those hold the lock who did, and nobody else; as far as it is listed.
fn still_held(lock: Option<&LockEntry>, tokens: &[u64]) -> Result<(), NotDone> {
    let holders = lock.map_or(&[][..], |lock| &lock.holders);
    let known = holders.iter().filter(|one| tokens.contains(&one.token));
    match known.count() {
        0 => Err(NotDone::NotLocked),
        known if known < holders.len() => Err(NotDone::OtherHolders),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Filter, Sort, rows};
    use super::super::tests::{held, sample};
    use super::*;

    fn shown(lock: LockEntry) -> (Row, Sample) {
        let sample = sample(vec![], vec![lock]);
        let row = rows(&sample, &Filter::default(), Sort::default()).swap_remove(0);
        (row, sample)
    }

    #[test]
    fn holders_and_then_waiters_can_be_ended_and_owners_not() {
        let mut lock = held("report", 1, 10, 2);
        let mut owner = lock.holders[0].clone();
        (owner.session, owner.owner) = (None, Some("job".to_owned()));
        lock.holders.push(owner);
        let (row, sample) = shown(lock);
        let questions = kicks(&row, &sample);
        let questions: Vec<_> = questions.iter().map(|one| one.question.as_str()).collect();
        let expected = [
            "End session #1 web-1?",
            "End session #24?",
            "End session #25?",
        ];
        assert_eq!(questions, expected);
    }

    #[test]
    fn a_lock_of_owners_is_broken_and_any_other_is_taken_away() {
        let mut lock = held("report", 1, 10, 2);
        let asked = |lock: &LockEntry| {
            let (row, sample) = shown(lock.clone());
            freeing(&row, &sample).expect("it is held").question
        };
        assert_eq!(asked(&lock), "Take away report?");
        (lock.holders[0].session, lock.holders[0].owner) = (None, Some("job".to_owned()));
        assert_eq!(asked(&lock), "Break report?");
        lock.holders_in_all = 2;
        assert_eq!(asked(&lock), "Take away report?", "not all are listed");
    }

    #[test]
    fn only_those_who_were_shown_lose_it() {
        let mut lock = held("report", 1, 10, 0);
        let mut later = lock.holders[0].clone();
        later.token = 9;
        assert!(still_held(Some(&lock), &[7, 8]).is_ok());
        assert!(matches!(
            still_held(Some(&lock), &[8]),
            Err(NotDone::NotLocked)
        ));
        assert!(matches!(still_held(None, &[7]), Err(NotDone::NotLocked)));
        lock.holders.push(later);
        let both = still_held(Some(&lock), &[7, 8]);
        assert!(matches!(both, Err(NotDone::OtherHolders)));
    }
}
