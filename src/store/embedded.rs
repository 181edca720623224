//! The store in one file of an embedded database, and what happens when that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Builder, Database};
use tracing::warn;

use super::medium::{Medium, Watched};
use super::tables::{self, MIGRATIONS, Migration, Reserved, Unusable};
use super::{Batch, NotStored, Restored, Storage};

/// The file with everything in it.
pub(super) const FILE: &str = "elockd.redb";

/// A file that is being made to take its place. One that is found was never finished.
const NEW_FILE: &str = "elockd.redb.new";

/// Commits touch few pages, and those again and again.
const CACHE_BYTES: usize = 32 << 20;

/// A store on a [`Medium`].
#[derive(Debug)]
pub(super) struct Embedded<M> {
    medium: M,
    /// `None` after a failure: what such a database would do next, only a fresh look at the file
    /// can tell.
    database: Option<Database>,
    reserved: Reserved,
    sync_failed: Arc<AtomicBool>,
}

impl<M: Medium> Embedded<M> {
    /// Opens the store, a new one if there is none, checks every page of it, and reads it.
    pub(super) fn open(medium: M) -> Result<(Self, Restored), Unusable> {
        Self::open_with(medium, MIGRATIONS)
    }

    fn open_with(medium: M, migrations: &[Migration]) -> Result<(Self, Restored), Unusable> {
        medium.remove(NEW_FILE)?;
        if !medium.exists(FILE)? {
            let new = open(&medium, NEW_FILE, &Arc::default(), false)?;
            tables::create(&new, migrations.len() as u64 + 1)?;
            drop(new);
            medium.replace(NEW_FILE, FILE)?;
        } else if medium.open(FILE)?.len()? == 0 {
            // The database would take it for a new one.
            return Err(Unusable::NoStore);
        }
        let sync_failed = Arc::default();
        // Of a file that something else has changed, no more is promised than an error.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = open(&medium, FILE, &sync_failed, true)?;
            tables::migrate(&database, migrations)?;
            let restored = tables::read(&database)?;
            Ok((database, restored))
        }));
        let (database, restored) = opened.unwrap_or(Err(Unusable::Damaged))?;
        let store = Self {
            reserved: tables::reserved(&database)?,
            database: Some(database),
            medium,
            sync_failed,
        };
        Ok((store, restored))
    }

    fn reopen(&mut self) -> Result<Database, Unusable> {
        if self.sync_failed.load(Ordering::Relaxed) {
            self.rewrite()?;
        }
        open(&self.medium, FILE, &self.sync_failed, false)
    }

    /// After a failed sync the system may show pages as written that never will be. So everything
    /// is written once more, to a file that has seen no failure.
    fn rewrite(&mut self) -> Result<(), Unusable> {
        warn!("a sync of the store has failed: writing all of it to a new file");
        let new_sync_failed = Arc::default();
        self.medium.remove(NEW_FILE)?;
        let old = open(&self.medium, FILE, &self.sync_failed, false)?;
        let new = open(&self.medium, NEW_FILE, &new_sync_failed, false)?;
        tables::copy(&old, &new)?;
        drop((old, new));
        self.medium.replace(NEW_FILE, FILE)?;
        self.sync_failed = new_sync_failed;
        Ok(())
    }
}

impl<M: Medium> Storage for Embedded<M> {
    fn commit(&mut self, batch: &Batch) -> Result<(), NotStored> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen().map_err(NotStored::new)?,
        };
        self.reserved = tables::write(&database, batch, self.reserved).map_err(NotStored::new)?;
        self.database = Some(database);
        Ok(())
    }
}

fn open(
    medium: &impl Medium,
    name: &str,
    sync_failed: &Arc<AtomicBool>,
    check: bool,
) -> Result<Database, Unusable> {
    let backend = Watched::new(medium.open(name)?, sync_failed);
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(check);
    Ok(builder.create_with_backend(backend)?)
}
