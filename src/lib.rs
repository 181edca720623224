//! elock: a lock server for the eLock text protocol.
//!
//! The way of a request, top to bottom:
//!
//! 1. [`server`] accepts a connection and reads bytes;
//! 2. [`protocol`] makes them lines and requests;
//! 3. [`table`] answers: who holds what, who waits, who would wait for ever;
//! 4. [`protocol`] makes the answer bytes, and [`server`] writes them.
//!
//! What must survive a restart goes from the table to the [`store`], and the answer waits for it.
//! All of them speak in the values of [`model`]. [`config`] holds the settings, and [`check`] is the
//! health check. [`log`] and [`signals`] stand between the program and its surroundings. `protocol.md`
//! is the protocol's norm.
//!
//! The program uses these and [`server`]. The other rooms are public for the tests and benchmarks
//! alone, and may change with every version.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod check;
pub mod config;
mod environment;
pub mod log;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod protocol;
pub mod server;
pub mod signals;
#[doc(hidden)]
pub mod store;
#[cfg(feature = "systemd")]
pub mod systemd;
#[doc(hidden)]
pub mod table;
