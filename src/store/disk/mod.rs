//! The store on disk: one directory, and in it one file of an embedded database.
//!
//! `directory` finds the directory, claims it and says why it cannot be used; `database`
//! commits and recovers from failures; `format` defines the tables of the file; `reserve` keeps room
//! for what ends. All of it works on `files`; in tests these are on a disk that fails and loses its power.

mod database;
mod directory;
#[cfg(test)]
mod faulty;
mod files;
mod format;
mod reserve;

pub use directory::{DirectoryError, OpenError, open};
pub(crate) use directory::{contradictory, fill, read_state};
