//! The values that all modules share. Imports nothing of the other modules.

mod account;
mod change;
mod circle;
mod holder;
mod key;
mod limits;
mod mode;
mod rate;
mod secret;
mod session_id;
mod token;
mod view;

pub use account::{Account, Exhausted, Nearest, Quota, Resource, Taken, Usage, Whose};
pub use change::{Change, NotStored, Restored, RestoredSession, Seq, StoredGrant, StoredSession};
pub use circle::{Circle, Step};
pub use holder::{Ask, AskedFor, Holder, Owner};
pub use key::{Key, Value, Visible, is_unseen, shortened, unescape, write_escaped};
pub use limits::{Limit, Limits};
pub use mode::Mode;
pub use rate::{OneCommand, Rate};
#[cfg(feature = "store")]
pub use secret::digest;
pub use secret::{Secret, SecretDigest};
pub use session_id::{NotResumed, Peer, SessionId, SessionNumber};
pub use token::Token;
pub use view::{
    HolderEntry, LockEntry, LockView, SessionEntry, SessionView, WaiterEntry, WaitsFor,
};
