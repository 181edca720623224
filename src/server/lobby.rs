//! Who lets operators in while this server has no table: the same users, by the same files.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::RunError;
use super::arrival::ip_of;
use super::control::Control;
use super::desk::{Desk, NotLetIn};
use super::handle::Porter;
use super::log_lines;
#[cfg(feature = "auth")]
use super::reload;
use super::throttle::Throttles;
use crate::access::User;
use crate::config::Config;
use crate::model::Peer;

/// Knows the operators of a server that does not lead.
#[derive(Debug)]
pub(crate) struct Lobby {
    desk: Desk,
    throttles: Throttles,
}

impl Lobby {
    /// # Errors
    ///
    /// If the files of users are no good, or the system has no randomness.
    pub(crate) fn open(config: &Config) -> Result<Self, RunError> {
        Ok(Self {
            desk: Desk::of(config)?,
            throttles: Throttles::default(),
        })
    }

    /// Reads the files of users now, as they were perhaps read again elsewhere, and whenever `control` asks for
    /// it. Never ready.
    #[cfg(feature = "auth")]
    pub(crate) async fn keep_up(self: Arc<Self>, control: Control) {
        let desk = || {
            let lobby = Arc::clone(&self);
            move || lobby.desk.reload()
        };
        // Who asks for it is told what is wrong with them, and so is who reads them to lead.
        let _ = tokio::task::spawn_blocking(desk()).await;
        loop {
            control.reload_asked().await;
            reload::read_users(desk()).await;
        }
    }

    /// There are no files of users.
    #[cfg(not(feature = "auth"))]
    pub(crate) async fn keep_up(self: Arc<Self>, _: Control) {
        std::future::pending().await
    }
}

impl Porter for Lobby {
    fn asks_operators(&self) -> bool {
        self.desk.asks_operators()
    }

    fn operator_at_the_door(&self, peer: Peer) -> Option<Arc<User>> {
        self.desk.operator_at_the_door(peer)
    }

    async fn verify_operator(
        &self,
        name: &[u8],
        password: &[u8],
        peer: Peer,
    ) -> Result<Arc<User>, NotLetIn> {
        let verified = self.desk.verify_operator(name, password, ip_of(peer)).await;
        let is_wrong = matches!(verified, Err(NotLetIn::Wrong));
        if is_wrong && self.throttles.wrong_passwords.passes(Instant::now()) {
            let user = log_lines::shown_operator(&self.desk, name);
            warn!(%peer, user, "a wrong name or password over HTTP");
        }
        verified
    }
}
