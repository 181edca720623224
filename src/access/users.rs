//! All users of one reading of the files.

#[cfg(feature = "auth")]
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
#[cfg(feature = "admin")]
use std::time::Instant;

#[cfg(feature = "auth")]
use super::trust::Trusted;
use super::user::User;
#[cfg(feature = "admin")]
use crate::model::Nearest;

/// The user whom a password alone stands for.
#[cfg(feature = "auth")]
pub const DEFAULT: &str = "default";

/// The user whom the admin listener's own password stands for.
#[cfg(feature = "auth")]
pub(super) const ADMIN: &str = "admin";

/// Who may come in, and how. Never changes; a reload makes another one.
#[derive(Debug)]
pub struct Users {
    /// Whoever connects, where nobody is asked who it is.
    anybody: Option<Arc<User>>,
    revision: u64,
    #[cfg(feature = "auth")]
    named: HashMap<Box<str>, Arc<User>>,
    /// The networks whose connections need no password.
    #[cfg(feature = "auth")]
    trusted: Vec<Trusted>,
}

impl Users {
    /// Those of a server that asks nobody who it is.
    pub fn anybody() -> Self {
        Self {
            anybody: Some(Arc::new(User::anybody())),
            revision: 0,
            #[cfg(feature = "auth")]
            named: HashMap::new(),
            #[cfg(feature = "auth")]
            trusted: Vec::new(),
        }
    }

    #[cfg(feature = "auth")]
    pub(super) fn named(
        named: HashMap<Box<str>, Arc<User>>,
        trusted: Vec<Trusted>,
        revision: u64,
    ) -> Self {
        Self {
            anybody: None,
            revision,
            named,
            trusted,
        }
    }

    /// Puts the bounds of all in force.
    #[cfg(feature = "auth")]
    pub fn set_quotas(&self) {
        self.named.values().for_each(|user| user.set_quota());
    }

    /// These, and one more; `None` if one of them has that name already.
    #[cfg(feature = "auth")]
    pub(super) fn and(&self, name: &str, user: User) -> Option<Self> {
        let mut named = self.named.clone();
        let before = named.insert(name.into(), Arc::new(user));
        let trusted = self.trusted.clone();
        before
            .is_none()
            .then(|| Self::named(named, trusted, self.revision))
    }

    /// The user as whom everybody is let in; `None` if everybody is asked who it is.
    pub fn anybody_at_all(&self) -> Option<&Arc<User>> {
        self.anybody.as_ref()
    }

    /// Larger for each reading of the files.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The user of this name.
    #[cfg_attr(not(feature = "auth"), expect(unused_variables))]
    pub fn user(&self, name: &[u8]) -> Option<Arc<User>> {
        #[cfg(feature = "auth")]
        let named = self.named.get(std::str::from_utf8(name).ok()?).cloned();
        #[cfg(not(feature = "auth"))]
        let named = None;
        named
    }

    /// As whom a connection from this address comes in without a password; `None` if that is
    /// nobody. Without an address it came by a unix socket.
    #[cfg_attr(not(feature = "auth"), expect(unused_variables))]
    pub fn at_the_door(&self, from: Option<IpAddr>) -> Option<Arc<User>> {
        #[cfg(feature = "auth")]
        if self.anybody.is_none() {
            return Trusted::narrowest(&self.trusted, from);
        }
        self.anybody.clone()
    }

    /// For each bound, the user who is nearest to it.
    #[cfg(feature = "admin")]
    #[cfg_attr(not(feature = "auth"), expect(unused_variables))]
    pub fn nearest(&self, now: Instant) -> Nearest {
        #[cfg_attr(not(feature = "auth"), expect(unused_mut))]
        let mut nearest = Nearest::default();
        #[cfg(feature = "auth")]
        for account in self.named.values().filter_map(|user| user.account()) {
            nearest.look_at(account, now);
        }
        nearest
    }

    /// How many there are.
    #[cfg(feature = "auth")]
    pub fn count(&self) -> usize {
        self.named.len()
    }

    /// The user whom this name and password may stand for, and whether there is such a user. To
    /// check a password for nobody takes the same time as for somebody: then this is any user, whom
    /// no password proves.
    #[cfg(feature = "auth")]
    pub fn claimed(&self, name: &[u8]) -> (Option<&Arc<User>>, bool) {
        let name = std::str::from_utf8(name).ok();
        let claimed = name.and_then(|name| self.named.get(name));
        match claimed.filter(|user| user.secret.is_some()) {
            Some(user) => (Some(user), true),
            None => (
                self.named.values().find(|user| user.has_slow_secret()),
                false,
            ),
        }
    }
}
