//! The protocol: bytes to values and back. Knows no sockets and takes no locks.
//!
//! `protocol.md` at the top of the repository is the norm that this module implements.

mod find;
mod framing;
mod json;
mod listing;
mod refusal;
mod reply;
mod request;

pub use framing::{Framing, Line, Lines};
#[cfg(feature = "admin")]
pub(crate) use json::{Object, base64};
#[cfg(feature = "admin")]
pub(crate) use listing::{lock_object, session_object, word_of};
pub use listing::{
    put_end, put_lock, put_lock_entry, put_next_key, put_next_session, put_request, put_session,
    put_session_entry, put_start,
};
pub use refusal::Refusal;
pub(crate) use reply::circle_text;
pub use reply::{Fact, Info, NotKicked, Reply, StateReply, Stats};
pub use request::{
    AskedMode, BadRequest, COMMANDS, KeysAsked, KnownState, LONGEST_NAME, Owned, Request,
    SessionAsked, Usage,
};
