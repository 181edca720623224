//! Who may do what: users, their rights, and how one is known for who it is. No sockets, no tasks.
//!
//! A server without users lets everybody do everything: then there is one [`User`], anybody. With
//! users, a connection is a stranger's until it has said who it is by a password (`auth`), or its
//! address is a trusted one. What a request asks of its user is said in one place, [`Needs::of`],
//! and whether a user may do that in another, [`User::may`].
//!
//! All users of one reading of the files are one [`Users`], which never changes: a reload makes
//! another one, of a later revision. So what is remembered of a user's password ends with a reload.

#[cfg(feature = "auth")]
mod file;
mod needs;
mod open_door;
#[cfg(feature = "auth")]
mod password;
#[cfg(feature = "auth")]
mod trust;
mod user;
mod users;

#[cfg(feature = "auth")]
pub use file::{FileError, Files};
pub use needs::Needs;
pub use open_door::{OpenDoor, Port, Way, refuse_open_doors};
#[cfg(feature = "auth")]
pub use password::{BadPassword, Proof, ProofKey, hash_password};
#[cfg(feature = "auth")]
pub use trust::{BadTrust, Trust};
pub use user::{Rights, User};
#[cfg(feature = "auth")]
pub use users::DEFAULT;
pub use users::Users;
