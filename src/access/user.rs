//! One user, and what it may do.

use std::sync::Arc;

use super::needs::Needs;
#[cfg(feature = "auth")]
use super::password::Secret;
#[cfg(feature = "auth")]
use super::users::Users;
use crate::model::{Account, Key};
#[cfg(feature = "auth")]
use crate::model::{Quota, Whose};

/// What a user may do with the keys that it may name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    /// Take and release locks.
    pub lock: bool,
    /// See locks, sessions and who waits.
    pub read: bool,
    /// End others' sessions and locks.
    pub admin: bool,
}

impl Rights {
    /// All of them.
    pub const ALL: Self = Self {
        lock: true,
        read: true,
        admin: true,
    };
}

/// A user, as one reading of the files describes it. Never changes: after a reload there is another
/// one of the same name, with a later revision.
#[derive(Debug)]
pub struct User {
    /// `None`: anybody, of a server that asks nobody who it is.
    name: Option<Key>,
    rights: Rights,
    keys: Keys,
    revision: u64,
    /// Where what its connections have is counted; the same over all revisions.
    account: Option<Arc<Account>>,
    /// The bounds of the account, once this reading of the files is in force.
    #[cfg(feature = "auth")]
    quota: Quota,
    /// `None`: no password lets this user in, but a trusted address or a certificate may.
    #[cfg(feature = "auth")]
    pub(super) secret: Option<Secret>,
}

/// The keys that a user may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keys {
    All,
    /// Those that begin with one of these.
    #[cfg_attr(not(feature = "auth"), expect(dead_code))]
    BeginWith(Vec<Box<[u8]>>),
}

impl User {
    /// Everybody, who may do everything.
    pub(super) fn anybody() -> Self {
        Self {
            name: None,
            rights: Rights::ALL,
            keys: Keys::All,
            revision: 0,
            account: None,
            #[cfg(feature = "auth")]
            quota: Quota::default(),
            #[cfg(feature = "auth")]
            secret: None,
        }
    }

    #[cfg(feature = "auth")]
    pub(super) fn named(
        name: &str,
        (rights, keys): (Rights, Keys),
        secret: Option<Secret>,
        quota: Quota,
        before: &Users,
    ) -> Self {
        let account = before.user(name.as_bytes());
        let account = account.and_then(|user| user.account.clone());
        Self {
            name: Some(Key::new(name.as_bytes())),
            rights,
            keys,
            revision: before.revision() + 1,
            account: account.or_else(|| Some(Arc::new(Account::new(Whose::User)))),
            quota,
            secret,
        }
    }

    /// Puts its bounds in force.
    #[cfg(feature = "auth")]
    pub(super) fn set_quota(&self) {
        if let Some(account) = &self.account {
            account.set(self.quota);
        }
    }

    /// What the user is called: UTF-8 without spaces and control characters. `None`: anybody.
    pub fn name(&self) -> Option<&Key> {
        self.name.as_ref()
    }

    /// The reading of the files that this user is of: see `Users`.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Where what its connections have is counted; `None`: anybody's is not.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// Whether it may take and release locks whose keys it may name.
    pub fn may_lock(&self) -> bool {
        self.rights.lock
    }

    /// Whether it may see locks and sessions: those that it is [allowed](Self::allows) to, and those
    /// that it [sees](Self::sees_sessions_of).
    pub fn may_read(&self) -> bool {
        self.rights.read
    }

    /// Whether it may end sessions and locks of others, of those that it may see.
    pub fn may_admin(&self) -> bool {
        self.rights.admin
    }

    /// Whether the key is one that the user may name at all; for others it is not there.
    pub fn allows(&self, key: &[u8]) -> bool {
        match &self.keys {
            Keys::All => true,
            Keys::BeginWith(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)),
        }
    }

    /// Whether sessions of this other user are there for it: all of them if it may name all keys,
    /// and its own otherwise, as others' may hold and wait for what it must not see.
    pub fn sees_sessions_of(&self, other: Option<&Key>) -> bool {
        self.keys == Keys::All || self.name() == other
    }

    /// Whether it may do whatever there is, with any key.
    #[inline]
    pub fn may_everything(&self) -> bool {
        self.rights == Rights::ALL && matches!(self.keys, Keys::All)
    }

    /// Whether it may do what needs this.
    pub fn may(&self, needs: &Needs<'_>) -> bool {
        let Rights { lock, read, admin } = self.rights;
        match *needs {
            Needs::Nothing | Needs::Entry => true,
            Needs::Lock(key) => lock && self.allows(key),
            Needs::LockAll(keys) => lock && keys.iter().all(|key| self.allows(key)),
            Needs::Break(key) => (lock || admin) && self.allows(key),
            Needs::Read => read,
            Needs::ReadKey(key) => read && self.allows(key),
            Needs::Admin => admin,
            Needs::AdminKey(key) => admin && self.allows(key),
            Needs::AdminOfAll => admin && self.keys == Keys::All,
        }
    }
}
