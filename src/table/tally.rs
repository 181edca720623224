//! What one session counts for on the accounts of its user and its address.

use std::sync::Arc;

use crate::model::{Account, Exhausted, Resource};

/// The accounts of a session. A clone is the same ones.
pub(super) type Accounts = Arc<[Arc<Account>]>;

/// Belongs to a session for as long as that lives, with a connection or without. Dropped, it gives
/// everything back.
#[derive(Debug)]
pub(super) struct Tally {
    accounts: Accounts,
    /// As many of the session's own locks as are counted.
    locks: u32,
    waits: bool,
    is_in_grace: bool,
}

impl Tally {
    pub(super) fn new(accounts: Vec<Arc<Account>>) -> Self {
        Self {
            accounts: accounts.into(),
            locks: 0,
            waits: false,
            is_in_grace: false,
        }
    }

    /// The accounts, for what the session takes and does not end with it.
    pub(super) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Counts this many locks of the session's own from now on.
    pub(super) fn count_locks(&mut self, locks: usize) {
        let locks = u32::try_from(locks).unwrap_or(u32::MAX);
        if locks == self.locks {
            // Most turns, and others write to the accounts, too.
            return;
        }
        for account in self.accounts.iter() {
            match locks.checked_sub(self.locks) {
                Some(more) => account.add(Resource::Locks, more),
                None => account.give_back(Resource::Locks, self.locks - locks),
            }
        }
        self.locks = locks;
    }

    /// Whether a session that holds so many locks may take one more, for itself or for an owner.
    pub(super) fn may_lock(&self, held: usize) -> Result<(), Exhausted> {
        let more = u32::try_from(held)
            .unwrap_or(u32::MAX)
            .saturating_sub(self.locks);
        let mut accounts = self.accounts.iter();
        accounts.try_for_each(|account| account.has_room(Resource::Locks, more))
    }

    /// Counts a request that waits.
    pub(super) fn begin_wait(&mut self) -> Result<(), Exhausted> {
        self.take(Resource::Waiters)?;
        self.waits = true;
        Ok(())
    }

    pub(super) fn end_wait(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.give_back(Resource::Waiters, 1);
        }
    }

    /// Counts a session in its grace period.
    pub(super) fn enter_grace(&mut self) -> Result<(), Exhausted> {
        self.take(Resource::GraceSessions)?;
        self.is_in_grace = true;
        Ok(())
    }

    /// One on each account, or none.
    fn take(&self, what: Resource) -> Result<(), Exhausted> {
        for (index, account) in self.accounts.iter().enumerate() {
            if let Err(exhausted) = account.take(what) {
                let taken = self.accounts.iter().take(index);
                taken.for_each(|account| account.give_back(what, 1));
                return Err(exhausted);
            }
        }
        Ok(())
    }

    fn give_back(&self, what: Resource, count: u32) {
        for account in self.accounts.iter() {
            account.give_back(what, count);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.count_locks(0);
        self.end_wait();
        if self.is_in_grace {
            self.give_back(Resource::GraceSessions, 1);
        }
    }
}
