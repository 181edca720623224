//! The user of etcd that a server is, and the token that etcd has given for the password.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

use super::api::AuthenticateRequest;

/// A user. All clones have the same token, as etcd takes a tenth of a second to check a password: nobody
/// should wait for that who has just been elected.
#[derive(Clone)]
pub(crate) struct User {
    name: String,
    password: String,
    token: Arc<Mutex<AuthToken>>,
}

/// By what a user is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AuthToken {
    /// There is none, or etcd has forgotten it.
    Needed,
    Given(MetadataValue<Ascii>),
    /// etcd has users, but asks nobody who it is.
    NotAsked,
}

impl User {
    pub(crate) fn new(name: String, password: String) -> Self {
        Self {
            name,
            password,
            token: Arc::new(Mutex::new(AuthToken::Needed)),
        }
    }

    pub(super) fn token(&self) -> AuthToken {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.clone()
    }

    pub(super) fn set_token(&self, token: AuthToken) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// What asks for a token.
    pub(crate) fn login(&self) -> AuthenticateRequest {
        AuthenticateRequest {
            name: self.name.clone(),
            password: self.password.clone(),
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("User");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether a request was refused for its token alone, or for want of one. Then it was not done.
pub(super) fn asks_for_token(status: &Status) -> bool {
    let words = [
        "etcdserver: invalid auth token",
        "etcdserver: revision of auth store is old",
        "etcdserver: user name is empty",
    ];
    words.contains(&status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let user = User::new("elock".to_owned(), "secret".to_owned());
        assert!(!format!("{user:?}").contains("secret"));
    }
}
