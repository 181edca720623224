//! The protocol: bytes to values and back. Knows no sockets and takes no locks.
//!
//! `protocol.md` at the top of the repository is the norm that this module implements.

mod find;
mod framing;
mod listing;
mod reply;
mod request;

pub use framing::{Framing, Line, Lines};
pub use listing::{put_debug_end, put_debug_start, put_lock, put_request, put_session};
pub use reply::{Reply, StateReply, Stats};
pub use request::{BadRequest, COMMANDS, Request, Usage};
