//! elock: a lock server for the eLock text protocol.
//!
//! The way of a request, from top to bottom:
//!
//! 1. [`server`] accepts a connection and reads bytes;
//! 2. [`protocol`] turns them into lines and requests;
//! 3. [`table`] decides: which session holds a lock, which request waits, which wait would never
//!    end;
//! 4. [`protocol`] turns the answer into bytes, and [`server`] writes them.
//!
//! The state that must survive a restart goes from the table to the [`store`], and the answer waits
//! for it. `cluster` has one of several servers lead, which alone has a table. All modules share the values of [`model`], and count by [`count`]. [`access`] says who may
//! do what. [`config`] holds the settings, and [`check`] is the health check. [`log`] and [`signals`]
//! connect the program to its surroundings.
//! `protocol.md` is the protocol's norm.
//!
//! The program uses `config`, `check`, `log`, `signals`, `systemd`, [`server`], what hashes
//! passwords, and `transfer`. The other
//! modules are public for the tests and benchmarks alone, and may change with every version.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod access;
#[cfg(feature = "admin")]
mod admin;
#[cfg(all(feature = "admin", fuzzing))]
pub use admin::InMemory;
#[cfg(feature = "tls")]
mod certificate_files;
pub mod check;
#[cfg(feature = "cluster")]
mod cluster;
pub mod config;
#[doc(hidden)]
pub mod count;
mod environment;
pub mod log;
#[doc(hidden)]
pub mod model;
#[cfg(feature = "auth")]
pub mod password_prompt;
#[doc(hidden)]
pub mod protocol;
#[cfg(any(feature = "auth", feature = "cluster", feature = "tls"))]
mod secret_file;
pub mod server;
pub mod signals;
#[doc(hidden)]
pub mod store;
#[cfg(feature = "systemd")]
pub mod systemd;
#[doc(hidden)]
pub mod table;
#[cfg(feature = "store")]
pub mod transfer;
#[cfg(feature = "tls")]
mod unverified;
