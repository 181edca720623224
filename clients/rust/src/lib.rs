//! A client of elockd.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod acquire;
mod address;
mod answer;
mod client;
mod clock;
pub mod command;
mod connection;
mod error;
mod guard;
mod hold;
mod keeper;
pub mod listing;
mod options;
mod pool;
mod session;
mod word;

pub use acquire::Acquire;
pub use address::{Address, BadAddress, DEFAULT_PORT, Servers};
pub use answer::Answer;
pub use client::{Client, OwnSession};
pub use connection::{Connection, DEFAULT_DEADLINE};
pub use error::{Circle, ConnectionError, Error, Loss, NotHeld, Step};
pub use guard::Guard;
pub use options::{Options, Reconnect};
pub use word::{BadWord, Line};
