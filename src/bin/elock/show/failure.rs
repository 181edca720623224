//! Why a command ended early, and its exit code.

use std::process::ExitCode;

use elock_client::{ConnectionError, Error};

use crate::exit;

/// What ends a command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server refused, or the connection broke.
    #[error(transparent)]
    Asked(#[from] Error),
    /// None of several servers answers.
    #[error("no server answers: {reasons}")]
    NoServer {
        /// One for each address.
        reasons: String,
    },
    /// This program cannot do its part.
    #[error("cannot go on: {0}")]
    System(#[from] std::io::Error),
    /// Whoever read the output has enough of it.
    #[error("the output is closed")]
    OutputClosed,
    /// What is shown fills the screen already.
    #[error("the screen is full")]
    ScreenFull,
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Asked(error.into())
    }
}

impl Failure {
    /// Whether it says that nobody wants more, and nothing went wrong.
    pub fn is_enough(&self) -> bool {
        matches!(self, Self::OutputClosed | Self::ScreenFull)
    }

    /// Says it on standard error, unless it is a quiet end, and is the exit code.
    pub fn end(&self) -> ExitCode {
        match self {
            Self::OutputClosed | Self::ScreenFull => ExitCode::SUCCESS,
            Self::Asked(error) => exit::fail(error),
            Self::NoServer { .. } | Self::System(_) => {
                exit::say(&self.to_string());
                ExitCode::from(exit::UNAVAILABLE)
            }
        }
    }
}
