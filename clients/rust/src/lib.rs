//! A client of elockd.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod answer;
pub mod command;
mod connection;
mod error;
pub mod listing;
mod word;

pub use address::{Address, BadAddress, DEFAULT_PORT, Servers};
pub use answer::Answer;
pub use connection::{Connection, DEFAULT_DEADLINE};
pub use error::{Circle, ConnectionError, Error, Loss, NotHeld, Step};
pub use word::{BadWord, Line};
