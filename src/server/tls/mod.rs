//! TLS: who this server is, and which clients it lets in.
//!
//! A connection's own task makes the [handshake], before its session begins. What comes of
//! the files of the settings is kept here and replaced as a whole at a reload: connections that stand
//! are not touched, and handshakes that have begun go on with what they began with.

mod certificate;
mod files;
mod handshake;
mod stream;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::Semaphore;
use tracing::{error, info};

pub(super) use handshake::{refuse, serve};

use super::Shared;
use crate::certificate_files::TlsError;
use crate::config::Config;
use files::{Files, Loaded};

/// How often the log speaks of certificates that end soon, beside each start and reload.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What the server does about TLS, if it does.
#[derive(Debug)]
pub(super) struct Tls {
    files: Files,
    loaded: RwLock<Arc<Loaded>>,
    /// Handshakes that are computed at one time: each may take a millisecond of a worker, and half of
    /// them are left for clients that have had theirs.
    turns: Semaphore,
}

impl Tls {
    /// `None` if no setting names a certificate.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be used.
    pub(super) fn start(config: &Config) -> Result<Option<Self>, TlsError> {
        let Some(files) = Files::of(config) else {
            return Ok(None);
        };
        let loaded = files.load()?;
        loaded.warn_of_dates();
        Ok(Some(Self {
            files,
            loaded: RwLock::new(Arc::new(loaded)),
            turns: Semaphore::new((config.worker_threads() / 2).max(1)),
        }))
    }

    /// Reads the files again, for the connections that come from now on. If one cannot be used, all
    /// stays as it was.
    pub(super) async fn reload(&self) {
        let files = self.files.clone();
        // A disk may be slow, and a file may be none.
        let read = tokio::task::spawn_blocking(move || files.load());
        match read.await {
            Ok(Ok(loaded)) => {
                info!("TLS: {} is read again: {}", self.files, loaded.own());
                loaded.warn_of_dates();
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
            }
            Ok(Err(why)) => error!("TLS goes on with the certificate that it has: {why}"),
            Err(why) => error!("TLS goes on with the certificate that it has: {why}"),
        }
    }

    /// When certificates end, as [`Loaded::ends`] says.
    #[cfg(feature = "admin")]
    pub(super) fn certificate_ends(&self) -> Vec<(&'static str, i64)> {
        self.loaded().ends()
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded().config)
    }
}

/// Says every day which certificates end soon, until the server stops.
pub(super) async fn watch_certificates(shared: Arc<Shared>) {
    let Some(tls) = &shared.tls else { return };
    let watch = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            tls.loaded().warn_of_dates();
        }
    };
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = watch => {}
    }
}
