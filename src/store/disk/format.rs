//! The tables of the store, and their formats.
//!
//! Grants are kept by token. Tokens only grow, so grants that come and go all the time stay
//! together in a few pages at the end, whatever their keys and however many locks are held.

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::reserve;
use crate::model::{
    Holder, Key, Mode, Restored, RestoredSession, SecretDigest, SessionNumber, StoredGrant, Token,
    digest,
};
use crate::store::Batch;

/// Key, value if it is shared, number of slots if it is in one of them, session that holds it if no
/// owner does, owner, milliseconds of the lease.
type GrantRow<'a> = (
    &'a [u8],
    Option<&'a [u8]>,
    Option<u32>,
    u64,
    Option<&'a [u8]>,
    Option<u64>,
);

/// A row of formats 1 and 2: key, value, session, milliseconds of the lease.
type OldGrantRow = (&'static [u8], Option<&'static [u8]>, u64, Option<u64>);

/// Milliseconds of the grace period, digest of the secret, user.
type SessionRow<'a> = (u64, Option<&'a SecretDigest>, Option<&'a [u8]>);

/// A row of formats 1 to 3: milliseconds of the grace period, digest of the secret.
type OldSessionRow = (u64, Option<&'static SecretDigest>);

const GRANTS: TableDefinition<'_, u64, GrantRow<'static>> = TableDefinition::new("grants");
const OLD_GRANTS: TableDefinition<'_, u64, OldGrantRow> = TableDefinition::new("holds");
const SESSIONS: TableDefinition<'_, u64, SessionRow<'static>> =
    TableDefinition::new("sessions of users");
const OLD_SESSIONS: TableDefinition<'_, u64, OldSessionRow> = TableDefinition::new("sessions");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The row of [`GRANTS`] with the number of the last commit in the place of the session. No token
/// is so large. Here the row shares a page with the newest grants, which most commits write anyway;
/// in a table of its own it would cost each commit a page.
const LAST_COMMIT: u64 = u64::MAX;

/// The format's number in [`META`].
const FORMAT: &str = "format";

/// No token and no session number above these was ever given out.
const TOKENS: &str = "tokens reserved";
const SESSION_NUMBERS: &str = "session numbers reserved";

/// How many tokens are reserved at a time, so that few commits have to write a reservation. Tokens
/// grow with the time, by ten million a second: a block is enough for some 13 s.
const TOKEN_BLOCK: u64 = 1 << 27;

/// The same of session numbers, in smaller steps, as people read them.
const SESSION_BLOCK: u64 = 1000;

/// A step that brings a store from one format to the next, the first from 1 to 2, in the
/// transaction that also writes the new number. To change a format, add a step; it never goes away
/// again.
pub(super) type Migration = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// All steps. The format of this program is their number plus one.
pub(super) const MIGRATIONS: &[Migration] =
    &[commits_are_counted, grants_have_owners, sessions_have_users];

/// A store without the row [`LAST_COMMIT`] is at commit 0, so there is nothing to do. The step is
/// there because earlier programs would take the row for a lock.
fn commits_are_counted(_: &WriteTransaction) -> Result<(), redb::Error> {
    Ok(())
}

/// Grants may be held by owners and in slots: their rows have these, too. The row [`LAST_COMMIT`] comes
/// along.
fn grants_have_owners(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut grants = transaction.open_table(GRANTS)?;
    let old_grants = transaction.open_table(OLD_GRANTS)?;
    for row in old_grants.iter()? {
        let (token, old) = row?;
        let (key, value, session, lease_ms) = old.value();
        grants.insert(token.value(), (key, value, None, session, None, lease_ms))?;
    }
    drop(old_grants);
    transaction.delete_table(OLD_GRANTS)?;
    Ok(())
}

/// Sessions may belong to users. Those that there are belong to whoever has their ids.
fn sessions_have_users(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut sessions = transaction.open_table(SESSIONS)?;
    let old_sessions = transaction.open_table(OLD_SESSIONS)?;
    for row in old_sessions.iter()? {
        let (number, old) = row?;
        let (grace_ms, digest) = old.value();
        sessions.insert(number.value(), (grace_ms, digest, None))?;
    }
    drop(old_sessions);
    transaction.delete_table(OLD_SESSIONS)?;
    Ok(())
}

/// The numbers that are reserved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) tokens: u64,
    pub(super) session_numbers: u64,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error(transparent)]
    Database(Box<redb::Error>),
    #[error("it has format {found}, and this elockd knows those up to {known}")]
    Newer { found: u64, known: u64 },
    #[error("it holds no store of elockd")]
    NoStore,
    #[error("it is damaged")]
    Damaged,
    #[error(
        "it ends with commit {found}, and commit {noted} was answered: it is damaged, or an older \
         copy was put in its place"
    )]
    Behind { found: u64, noted: u64 },
}

impl Unusable {
    /// True if the disk has no room.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Database(error) => {
                matches!(&**error, redb::Error::Io(error) if reserve::is_full(error))
            }
            _ => false,
        }
    }

    /// Separates an error of the system, which says nothing about the store, from all others.
    pub(super) fn into_io(self) -> Result<io::Error, Self> {
        let is_of_contents = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
            )
        };
        match self {
            Self::Database(error) => match *error {
                redb::Error::Io(error) if !is_of_contents(&error) => Ok(error),
                error => Err(Self::Database(Box::new(error))),
            },
            other => Err(other),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// Makes all tables, empty.
pub(super) fn create(database: &Database, format: u64) -> Result<(), Unusable> {
    let transaction = database.begin_write()?;
    transaction.open_table(GRANTS)?;
    transaction.open_table(SESSIONS)?;
    transaction.open_table(META)?.insert(FORMAT, format)?;
    Ok(transaction.commit()?)
}

/// Brings an older store to the newest format, completely or not at all.
pub(super) fn migrate(database: &Database, migrations: &[Migration]) -> Result<(), Unusable> {
    let known = migrations.len() as u64 + 1;
    let found = match database.begin_read()?.open_table(META) {
        Ok(meta) => meta.get(FORMAT)?.map(|format| format.value()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let found = found
        .filter(|&format| format > 0)
        .ok_or(Unusable::NoStore)?;
    if found > known {
        return Err(Unusable::Newer { found, known });
    }
    if found == known {
        return Ok(());
    }
    tracing::info!("migrating the store from format {found} to {known}");
    let transaction = database.begin_write()?;
    // `found` fits a `usize`, as it is not above the number of migrations.
    for migration in migrations.iter().skip(found as usize - 1) {
        migration(&transaction)?;
    }
    transaction.open_table(META)?.insert(FORMAT, known)?;
    Ok(transaction.commit()?)
}

/// Writes the changes of `batch` as the commit with this number and reserves the numbers that it
/// needs, in one transaction, which the database makes durable by default.
pub(super) fn write(
    database: &Database,
    batch: &Batch,
    reserved: Reserved,
    commit: u64,
) -> Result<Reserved, redb::Error> {
    let transaction = database.begin_write()?;
    write_grants(&transaction, batch, commit)?;
    write_sessions(&transaction, batch)?;
    let last_token = batch.grants.keys().next_back().map(|token| token.0);
    let last_number = batch.sessions.keys().next_back().map(|number| number.0);
    let needed = Reserved {
        tokens: enough(reserved.tokens, last_token, TOKEN_BLOCK),
        session_numbers: enough(reserved.session_numbers, last_number, SESSION_BLOCK),
    };
    if needed != reserved {
        let mut meta = transaction.open_table(META)?;
        meta.insert(TOKENS, needed.tokens)?;
        meta.insert(SESSION_NUMBERS, needed.session_numbers)?;
    }
    transaction.commit()?;
    Ok(needed)
}

fn enough(reserved: u64, last: Option<u64>, block: u64) -> u64 {
    match last {
        Some(last) if last > reserved => last.saturating_add(block),
        _ => reserved,
    }
}

fn write_grants(
    transaction: &WriteTransaction,
    batch: &Batch,
    commit: u64,
) -> Result<(), redb::Error> {
    let mut grants = transaction.open_table(GRANTS)?;
    for (token, grant) in &batch.grants {
        match grant {
            Some(grant) => drop(grants.insert(token.0, grant_row(grant))?),
            None => drop(grants.remove(token.0)?),
        }
    }
    grants.insert(LAST_COMMIT, (&[][..], None, None, commit, None, None))?;
    Ok(())
}

fn write_sessions(transaction: &WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    if batch.sessions.is_empty() {
        return Ok(());
    }
    let mut sessions = transaction.open_table(SESSIONS)?;
    for (number, session) in &batch.sessions {
        match session {
            Some(session) => {
                let digest = session.secret.map(digest);
                let user = session.user.as_ref().map(Key::as_bytes);
                let row = (millis(session.grace), digest.as_ref(), user);
                drop(sessions.insert(number.0, row)?);
            }
            None => drop(sessions.remove(number.0)?),
        }
    }
    Ok(())
}

fn grant_row(grant: &StoredGrant) -> GrantRow<'_> {
    let value = grant.mode.value().map(Key::as_bytes);
    let slots = match &grant.mode {
        Mode::Slot(slots) => Some(slots.get()),
        Mode::Exclusive | Mode::Shared(_) => None,
    };
    let (session, owner) = match &grant.holder {
        Holder::Session(session) => (session.0, None),
        Holder::Owner(owner) => (0, Some(owner.as_bytes())),
    };
    let lease_ms = grant.lease.map(millis);
    (grant.key.as_bytes(), value, slots, session, owner, lease_ms)
}

/// Saturates, which no setting reaches.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a whole state into an empty store, as the commit with this number.
pub(super) fn fill(database: &Database, state: &Restored, commit: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let grants = state.grants.iter();
    let grants = Batch {
        grants: grants
            .map(|(token, grant)| (*token, Some(grant.clone())))
            .collect(),
        ..Batch::default()
    };
    write_grants(&transaction, &grants, commit)?;
    let mut sessions = transaction.open_table(SESSIONS)?;
    for session in &state.sessions {
        let user = session.user.as_ref().map(Key::as_bytes);
        let row = (millis(session.grace), session.secret.as_ref(), user);
        drop(sessions.insert(session.number.0, row)?);
    }
    drop(sessions);
    let mut meta = transaction.open_table(META)?;
    meta.insert(TOKENS, state.tokens_above.0)?;
    meta.insert(SESSION_NUMBERS, state.session_numbers_above.0)?;
    drop(meta);
    Ok(transaction.commit()?)
}

/// The number of the last commit in the store; 0 if it has none.
pub(super) fn last_commit(database: &Database) -> Result<u64, Unusable> {
    let grants = database.begin_read()?.open_table(GRANTS)?;
    let row = grants.get(LAST_COMMIT)?;
    Ok(row.map_or(0, |row| row.value().3))
}

/// Reads the whole state.
pub(super) fn read(database: &Database) -> Result<Restored, Unusable> {
    let transaction = database.begin_read()?;
    let reserved = read_reserved(&transaction)?;
    let mut restored = Restored {
        tokens_above: Token(reserved.tokens),
        session_numbers_above: SessionNumber(reserved.session_numbers),
        ..Restored::default()
    };
    for row in transaction.open_table(GRANTS)?.range(..LAST_COMMIT)? {
        let (token, grant) = row?;
        let (key, value, slots, session, owner, lease_ms) = grant.value();
        let grant = StoredGrant {
            holder: match owner {
                Some(owner) => Holder::Owner(Key::new(owner)),
                None => Holder::Session(SessionNumber(session)),
            },
            key: Key::new(key),
            mode: match (value, slots.and_then(NonZeroU32::new)) {
                (Some(value), _) => Mode::Shared(Key::new(value)),
                (None, Some(slots)) => Mode::Slot(slots),
                (None, None) => Mode::Exclusive,
            },
            lease: lease_ms.map(Duration::from_millis),
        };
        restored.grants.push((Token(token.value()), grant));
    }
    for row in transaction.open_table(SESSIONS)?.iter()? {
        let (number, session) = row?;
        let (grace_ms, digest, user) = session.value();
        restored.sessions.push(RestoredSession {
            number: SessionNumber(number.value()),
            grace: Duration::from_millis(grace_ms),
            secret: digest.copied(),
            user: user.map(Key::new),
        });
    }
    Ok(restored)
}

fn read_reserved(transaction: &ReadTransaction) -> Result<Reserved, Unusable> {
    let meta = transaction.open_table(META)?;
    let number = |name| Ok(meta.get(name)?.map_or(0, |number| number.value()));
    let number = |name| -> Result<u64, redb::Error> { number(name) };
    Ok(Reserved {
        tokens: number(TOKENS)?,
        session_numbers: number(SESSION_NUMBERS)?,
    })
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn the_sessions_of_an_older_store_belong_to_nobody() {
        let backend = InMemoryBackend::new();
        let database = Database::builder()
            .create_with_backend(backend)
            .expect("a database");
        let transaction = database.begin_write().expect("it works");
        let mut sessions = transaction.open_table(OLD_SESSIONS).expect("a table");
        sessions
            .insert(7, (30_000, Some(&[5; 32])))
            .expect("it works");
        sessions.insert(8, (0, None)).expect("it works");
        drop(sessions);
        drop(transaction.open_table(GRANTS).expect("a table"));
        let mut meta = transaction.open_table(META).expect("a table");
        meta.insert(FORMAT, 3).expect("it works");
        drop(meta);
        transaction.commit().expect("it works");
        migrate(&database, MIGRATIONS).expect("it is known");
        let session = |number, grace_ms, secret| RestoredSession {
            number: SessionNumber(number),
            grace: Duration::from_millis(grace_ms),
            secret,
            user: None,
        };
        let restored = read(&database).expect("it reads").sessions;
        let expected = [session(7, 30_000, Some([5; 32])), session(8, 0, None)];
        assert_eq!(restored, expected);
    }
}
