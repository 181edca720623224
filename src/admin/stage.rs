//! What the server is doing, on which it depends what it can be asked.

#[cfg(feature = "cluster")]
use std::sync::Arc;
use std::sync::{PoisonError, RwLock};

#[cfg(feature = "cluster")]
use crate::cluster::NodeHandle;
use crate::server::{NotReady, ServerHandle};

/// A stage of a server's life. One that is alone loads and then serves; one of several follows and leads in turns,
/// and loads whenever it has been elected.
#[derive(Debug, Clone, Default)]
pub(super) enum Stage {
    /// There is no table yet.
    #[default]
    Loading,
    /// There is none, as another server leads.
    #[cfg(feature = "cluster")]
    Following(Arc<NodeHandle>),
    Serving(ServerHandle),
}

/// The stage of this time.
#[derive(Debug, Default)]
pub(super) struct CurrentStage(RwLock<Stage>);

/// Why a server has nothing of which it could tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoTable {
    #[error("{}", NotReady::Loading)]
    Loading,
    /// Followed by where the leader is; `None` if nobody leads.
    #[cfg(feature = "cluster")]
    #[error("following: this server passes its clients on and knows of no lock; {}", match .0 {
        Some(leader) => format!("ask the leader, which the other servers reach at {leader}"),
        None => "nobody leads at this time".to_owned(),
    })]
    Following(Option<String>),
}

impl CurrentStage {
    pub(super) fn get(&self) -> Stage {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn enter(&self, stage: Stage) {
        let before = {
            let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, stage)
        };
        // Perhaps the last who has a table of a million locks: nobody waits for its end.
        drop(before);
    }
}

impl Stage {
    /// The server, if it has a table.
    pub(super) fn server(self) -> Result<ServerHandle, NoTable> {
        match self {
            Self::Loading => Err(NoTable::Loading),
            #[cfg(feature = "cluster")]
            Self::Following(node) => Err(NoTable::Following(node.leader())),
            Self::Serving(server) => Ok(server),
        }
    }

    /// All reasons why clients should not be sent here; none if they should.
    pub(super) fn not_ready(&self) -> Vec<NotReady> {
        match self {
            Self::Loading => vec![NotReady::Loading],
            #[cfg(feature = "cluster")]
            Self::Following(node) => node.not_ready().into_iter().collect(),
            Self::Serving(server) => server.not_ready(),
        }
    }
}
