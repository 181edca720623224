//! The desk: who is let in, as whom, and until when.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

#[cfg(feature = "auth")]
use tracing::info;

use super::RunError;
use super::arrival::{AccountPlaces, Addresses, Arrival, ip_of};
#[cfg(feature = "auth")]
use super::entropy::Entropy;
#[cfg(feature = "auth")]
use super::passwords::Passwords;
#[cfg(feature = "auth")]
use crate::access::{FileError, Files};
use crate::access::{User, Users};
use crate::config::Config;
#[cfg(feature = "admin")]
use crate::model::Nearest;
use crate::model::{Exhausted, Peer, Resource, Taken};

/// The users of this time, and where they are read from. One for each server; shared by all that
/// asks who somebody is.
#[derive(Debug)]
pub(crate) struct Desk {
    users: RwLock<Arc<Users>>,
    /// Those of the admin listener: the users, and the one who is there alone.
    #[cfg(all(feature = "admin", feature = "auth"))]
    operators: RwLock<Arc<Users>>,
    /// That of `users`, to be read by every connection once a turn.
    revision: AtomicU64,
    /// Where addresses have bounds.
    addresses: Option<Addresses>,
    #[cfg(feature = "auth")]
    files: Files,
    #[cfg(feature = "auth")]
    passwords: Passwords,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(feature = "auth"), expect(dead_code))]
pub(crate) enum NotLetIn {
    /// There is no such user, or it has another password: nobody is told which.
    #[error("wrong user or password")]
    Wrong,
    /// Too many from there wait for a check.
    #[error("too many passwords to check")]
    Busy,
}

impl Desk {
    /// One that lets in the users that the settings name, or else anybody. Blocks.
    ///
    /// # Errors
    ///
    /// If their files are no good, or the system has no randomness.
    pub(super) fn of(config: &Config) -> Result<Self, RunError> {
        #[cfg(feature = "auth")]
        let (files, passwords) = (config.users(), Passwords::new(&Entropy::open()?)?);
        #[cfg(feature = "auth")]
        let users = Arc::new(files.read(&Users::anybody())?);
        #[cfg(feature = "auth")]
        if files.are_given() {
            users.set_quotas();
            info!(users = users.count(), "only users are let in");
        }
        #[cfg(not(feature = "auth"))]
        let users = Arc::new(Users::anybody());
        Ok(Self {
            revision: AtomicU64::new(users.revision()),
            #[cfg(all(feature = "admin", feature = "auth"))]
            operators: RwLock::new(files.read_for_admin(&users, &Users::anybody())?),
            users: RwLock::new(users),
            addresses: Addresses::with(config.address_quota()),
            #[cfg(feature = "auth")]
            files,
            #[cfg(feature = "auth")]
            passwords,
        })
    }

    /// Whom a new connection brings.
    ///
    /// # Errors
    ///
    /// If its address, or its user, has as many connections as it may have.
    pub(super) fn arrival(&self, peer: Peer, now: Instant) -> Result<Arrival, Exhausted> {
        let stranger = self.stranger(peer, now)?;
        stranger.known_as(self.at_the_door(peer))
    }

    /// The same of somebody who has not come so far that there is a user.
    ///
    /// # Errors
    ///
    /// If the address has as many connections as it may have.
    pub(super) fn stranger(&self, peer: Peer, now: Instant) -> Result<Arrival, Exhausted> {
        let mut places = AccountPlaces::default();
        if let (Some(addresses), Some(from)) = (&self.addresses, ip_of(peer)) {
            let account = addresses.account(from, now);
            places.address = Some(Taken::one(&account, Resource::Connections)?);
        }
        Ok(Arrival::stranger(peer, places))
    }

    /// As whom somebody comes in who says nothing; `None`: as a stranger.
    pub(super) fn at_the_door(&self, peer: Peer) -> Option<Arc<User>> {
        self.users().at_the_door(ip_of(peer))
    }

    /// The user of this name, for whom another proof than a password stands, such as a certificate.
    pub(super) fn user_by_name(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users().user(name)
    }

    /// Tells a user of this reading of the files from one of an earlier.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The same user as the files describe it now; `None` if it is there no more.
    pub(super) fn renewed(&self, user: &User) -> Option<Arc<User>> {
        self.user_by_name(user.name()?.as_bytes())
    }

    /// The user whom a name (without one: the user `default`) and a password stand for. `from` is
    /// where they come from, which slows down wrong ones; `None` for a unix socket. Takes as long for
    /// a name that nobody has as for a wrong password. Cancel safe. Without users, everybody is
    /// anybody, whatever the password.
    ///
    /// # Errors
    ///
    /// If nobody is let in by that.
    pub(super) async fn verify(
        &self,
        name: Option<&[u8]>,
        password: &[u8],
        from: Option<IpAddr>,
    ) -> Result<Arc<User>, NotLetIn> {
        self.verify_among(|| self.users(), name, password, from)
            .await
    }

    #[cfg_attr(not(feature = "auth"), expect(unused_variables, clippy::unused_async))]
    async fn verify_among(
        &self,
        users: impl Fn() -> Arc<Users>,
        name: Option<&[u8]>,
        password: &[u8],
        from: Option<IpAddr>,
    ) -> Result<Arc<User>, NotLetIn> {
        if let Some(anybody) = users().anybody_at_all() {
            return Ok(Arc::clone(anybody));
        }
        #[cfg(feature = "auth")]
        let verified = self.passwords.verify(users, name, password, from);
        #[cfg(feature = "auth")]
        return verified.await;
        #[cfg(not(feature = "auth"))]
        Err(NotLetIn::Wrong)
    }

    /// Reads the files again. From then on these are the users, for every connection from its next
    /// turn on. If the files are no good, all stays as it is. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the files.
    #[cfg(feature = "auth")]
    pub(super) fn reload(&self) -> Result<Arc<Users>, FileError> {
        let users = Arc::new(self.files.read(&self.users())?);
        #[cfg(feature = "admin")]
        {
            let operators = self.files.read_for_admin(&users, &self.operators())?;
            *self
                .operators
                .write()
                .unwrap_or_else(PoisonError::into_inner) = operators;
        }
        users.set_quotas();
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&users);
        // After the users, so that whoever sees it finds them.
        self.revision.store(users.revision(), Ordering::Release);
        Ok(users)
    }

    /// Nothing is half done where a holder could panic.
    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// For the admin listener, whose users are the same, and one more by a password of its own. Wrong tries
/// there slow down tries by the protocol, and the other way round.
#[cfg(feature = "admin")]
impl Desk {
    /// For each bound of an address, the one that is nearest to it; `None` if addresses have no bounds.
    pub(super) fn nearest_address(&self, now: Instant) -> Option<Nearest> {
        self.addresses
            .as_ref()
            .map(|addresses| addresses.nearest(now))
    }

    /// For each bound of a user, the one who is nearest to it.
    pub(super) fn nearest_user(&self, now: Instant) -> Nearest {
        self.users().nearest(now)
    }

    /// Whether anybody is asked who it is.
    pub(super) fn asks_operators(&self) -> bool {
        self.operators().anybody_at_all().is_none()
    }

    /// As [`Desk::at_the_door`].
    pub(super) fn operator_at_the_door(&self, peer: Peer) -> Option<Arc<User>> {
        self.operators().at_the_door(ip_of(peer))
    }

    /// Whether there is a user of this name.
    pub(super) fn is_operator(&self, name: &[u8]) -> bool {
        self.operators().user(name).is_some()
    }

    /// As [`Desk::verify`].
    ///
    /// # Errors
    ///
    /// If nobody is let in by that.
    pub(super) async fn verify_operator(
        &self,
        name: &[u8],
        password: &[u8],
        from: Option<IpAddr>,
    ) -> Result<Arc<User>, NotLetIn> {
        self.verify_among(|| self.operators(), Some(name), password, from)
            .await
    }

    fn operators(&self) -> Arc<Users> {
        #[cfg(feature = "auth")]
        return Arc::clone(
            &self
                .operators
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        );
        #[cfg(not(feature = "auth"))]
        self.users()
    }
}

#[cfg(all(test, feature = "auth", feature = "admin"))]
mod tests {
    use super::*;

    /// One of the files is good, and the other is not.
    #[test]
    fn a_reload_that_fails_changes_no_bounds() {
        let directory = tempfile::tempdir().expect("a directory");
        let [users, password] = ["users.toml", "password"].map(|name| directory.path().join(name));
        let write = |path, text: &str| std::fs::write(path, text).expect("it can be written");
        let web = "[users.web]\nrights = ['lock']\nprefixes = ['*']\n";
        write(&users, web);
        write(&password, "secret");
        let desk = Desk::of(&Config {
            auth_file: Some(users.clone()),
            admin_password_file: Some(password.clone()),
            ..Config::default()
        });
        let desk = desk.expect("good files");
        let come = || {
            desk.stranger(Peer::Unix(None), Instant::now())?
                .known_as(desk.user_by_name(b"web"))
        };
        let _first = come().expect("no bound");
        write(&users, &format!("{web}max_connections = 1\n"));
        write(&password, "");
        assert!(desk.reload().is_err());
        let _second = come().expect("still none");
        write(&password, "secret");
        assert!(desk.reload().is_ok());
        assert!(come().is_err());
    }
}
