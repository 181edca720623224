//! The protocol: bytes to values and back. Knows no sockets and takes no locks.
//!
//! `protocol.md` at the top of the repository is the norm that this room implements.

mod codec;
mod debug;
mod reply;
mod request;

pub use codec::{Line, LineCodec, Lines};
pub use debug::{put_debug_end, put_debug_start, put_lock, put_request, put_session};
pub use reply::{Reply, Stats};
pub use request::{BadRequest, COMMANDS, Request, Usage};
