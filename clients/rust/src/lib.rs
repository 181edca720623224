//! A client of [elockd](https://docs.rs/elockd) that never pretends: a [`Guard`] says that its lock is lost
//! as soon as it can no longer be believed held.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.rs"));
//! # #[tokio::main]
//! # async fn main() -> Result<(), elock_client::Error> {
//! # let servers = server().await;
//! use std::time::Duration;
//! use elock_client::{Client, Error};
//!
//! // Such as "elock://127.0.0.1:11400".
//! let client = Client::connect(&servers).await?;
//! let guard = client
//!     .lock("report")
//!     .wait(Duration::from_secs(5))
//!     .lease(Duration::from_secs(60))
//!     .await?;
//! tokio::select! {
//!     () = make_report(guard.token()) => guard.release().await?,
//!     why = guard.lost() => return Err(Error::Lost { why }),
//! }
//! # Ok(())
//! # }
//! # async fn make_report(token: u64) {
//! #     assert!(token > 0);
//! # }
//! ```
//!
//! # What a lock survives
//!
//! | | the guard |
//! | --- | --- |
//! | the connection breaks, falls silent, or is held open by somebody in between | stays held: the client notices within half of the grace period, connects again, resumes its session, and asks for each lock by its token |
//! | it does not come back within what is surely left of the grace period | is lost, before another can have the lock |
//! | the server restarts, with a store | stays held |
//! | the server restarts, without one | is lost as soon as the client hears of it, at its next attempt to connect; another may have the lock by then. So it is when a proxy before such a server refuses a connection: the two look alike |
//! | the server has no room for one more session in its grace period | is lost as soon as the client is connected again |
//! | an operator takes the lock (`force_unlock`), or ends its session (`kick`) | is lost as soon as the client asks for the lock, which it does several times within each grace period; or when the connection ends |
//! | the process stands still for longer than the lease or the grace period; the machine sleeps | is lost, from the first moment that it goes on |
//! | the lock has a lease | it is renewed at each third of it; so a lease has to be longer than it takes to notice a silent connection and to make another |
//!
//! What a guard cannot do is stop what its process does at that very moment. Where that matters,
//! compare the [fencing token](Guard::token).
//!
//! # How it is built
//!
//! A [`Client`] has one session for all that does not wait, and a small pool of others. Each session is
//! a task that alone reads and writes its connection. One more task renews leases, hears of silent
//! connections, and calls lost what has to be. [`Connection`] is underneath: one connection, and every
//! [command] with the type of its answer.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access;
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
#[cfg(feature = "tls")]
mod tls;
mod word;

pub use acquire::Acquire;
pub use address::{Address, BadAddress, DEFAULT_PORT, Servers};
pub use answer::Answer;
pub use client::{Client, OwnSession};
pub use connection::{Connection, DEFAULT_DEADLINE, ReadHalf, WriteHalf};
pub use error::{Circle, ConnectionError, Error, Loss, NotHeld, Step};
pub use guard::Guard;
pub use options::{Options, Reconnect};
pub use word::{BadWord, Line};
