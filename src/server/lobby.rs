//! Who lets operators in while this server has no table: the same users, by the same files.

use std::sync::Arc;
use std::time::Instant;

use super::RunError;
use super::control::Control;
use super::desk::{Desk, NotLetIn};
use super::log_lines;
use super::porter::Porter;
#[cfg(feature = "auth")]
use super::reload;
use super::throttle::Throttles;
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
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn note_refused(&self, why: NotLetIn, name: &[u8], peer: Peer) {
        let is_wrong = why == NotLetIn::Wrong;
        if is_wrong && self.throttles.wrong_passwords.passes(Instant::now()) {
            log_lines::warn_of_operator(&self.desk, peer, name);
        }
    }
}
