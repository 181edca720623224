//! How a client is let in: who it says that it is, and how it knows the server.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::address::Address;
use crate::clock::Moment;
use crate::command::{Auth, Command};
use crate::error::{ConnectionError, Error};

/// A password that was refused is not sent to the same server again before that time is over, by none of
/// the sessions of a client: servers count wrong ones, and let an address wait for that.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// What a connection needs beside an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Access {
    pub(crate) user: Option<Vec<u8>>,
    pub(crate) password: Option<Password>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) Vec<u8>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

impl Access {
    /// Adds what another one names.
    pub(crate) fn add(&mut self, other: Self) -> Result<(), &'static str> {
        fn one<T: PartialEq>(own: &mut Option<T>, other: Option<T>) -> Result<(), &'static str> {
            match (&own, other) {
                (Some(own), Some(other)) if *own != other => {
                    Err("all servers have the same user, password and files")
                }
                (None, Some(other)) => {
                    *own = Some(other);
                    Ok(())
                }
                _ => Ok(()),
            }
        }
        let Self {
            user,
            password,
            ca,
            cert,
            key,
        } = other;
        one(&mut self.user, user)?;
        one(&mut self.password, password)?;
        one(&mut self.ca, ca)?;
        one(&mut self.cert, cert)?;
        one(&mut self.key, key)
    }

    /// What is said first on each connection, if anything is.
    pub(crate) fn auth(&self) -> Option<Auth> {
        let Password(password) = self.password.clone()?;
        let user = self.user.clone();
        Some(Auth { user, password })
    }

    /// Whether these servers can be connected to by it, as far as that can be told before.
    ///
    /// # Errors
    ///
    /// They cannot.
    pub(crate) fn check(&self, addresses: &[Address]) -> Result<(), Error> {
        if self.user.is_some() && self.password.is_none() {
            return Err(Error::BadOption("a user needs a password"));
        }
        if let Some(auth) = self.auth() {
            auth.line()?;
        }
        if self.key.is_some() && self.cert.is_none() {
            return Err(Error::BadOption("a key needs its certificate"));
        }
        let is_tls = |address: &Address| matches!(address, Address::Tls(_));
        if cfg!(not(feature = "tls")) && addresses.iter().any(is_tls) {
            return Err(Error::BadOption(
                "elocks:// needs the feature tls of elock-client",
            ));
        }
        Ok(())
    }
}

/// The servers by which a password was refused just now.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Address, (Moment, ConnectionError)>>);

impl Refusals {
    /// The refusal that still holds.
    pub(crate) fn of(&self, address: &Address) -> Result<(), ConnectionError> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(address) {
            Some((until, refusal)) if Moment::now() < *until => Err(refusal.clone()),
            _ => Ok(()),
        }
    }

    pub(crate) fn note(&self, address: &Address, error: &ConnectionError) {
        if matches!(error, ConnectionError::Unauthorized { .. }) {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let until = Moment::now().plus(REFUSED_FOR);
            all.insert(address.clone(), (until, error.clone()));
        }
    }
}
