//! What a request needs of the user who sends it.

use crate::protocol::Request;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs<'a> {
    /// Nothing: a stranger may ask it, too.
    Nothing,
    /// That one is let in at all: it touches nothing but one's own session, or shows nothing but
    /// numbers.
    Entry,
    /// The right to lock, and to name this key.
    Lock(&'a [u8]),
    /// The same for several keys.
    LockAll(&'a [&'a [u8]]),
    /// To free this key, if owners hold it: the right to lock it, or that of an admin. Whoever may
    /// lock a key may release it in any owner's name anyway, as these names are no secrets.
    Break(&'a [u8]),
    /// The right to read. What is shown is what the user may see.
    Read,
    /// The right to read, and to name this key.
    ReadKey(&'a [u8]),
    /// The right of an admin. Whom it reaches is among those that the user may see.
    Admin,
    /// The right of an admin, and to name this key.
    AdminKey(&'a [u8]),
    /// The right of an admin, and to name all keys, as it reaches everybody.
    AdminOfAll,
}

impl<'a> Needs<'a> {
    /// Whether it reaches what others have, so that the audit tells who was refused it.
    pub(crate) fn is_an_operators(&self) -> bool {
        match self {
            Self::Break(_) | Self::Admin | Self::AdminKey(_) | Self::AdminOfAll => true,
            Self::Nothing
            | Self::Entry
            | Self::Lock(_)
            | Self::LockAll(_)
            | Self::Read
            | Self::ReadKey(_) => false,
        }
    }

    /// What this request needs: the one place that says so. Without a wildcard, so that no new
    /// command is let through by mistake.
    pub fn of(request: &'a Request<'_>) -> Self {
        match request {
            Request::Auth { .. } | Request::Help | Request::Quit => Self::Nothing,
            Request::Lock { key, .. }
            | Request::Unlock { key, .. }
            | Request::Token { key, .. }
            | Request::Expire { key, .. }
            | Request::SetMode { key, .. } => Self::Lock(key),
            Request::LockAll { keys, .. } => Self::LockAll(keys),
            Request::Break { key } => Self::Break(key),
            Request::ForceUnlock { key } => Self::AdminKey(key),
            Request::Kick { .. } => Self::Admin,
            Request::Drain | Request::Failover => Self::AdminOfAll,
            Request::Watch { key, .. } => Self::ReadKey(key),
            Request::Locks { .. } | Request::Sessions { .. } | Request::Debug => Self::Read,
            Request::UnlockAll
            | Request::SetTimeout { .. }
            | Request::ConnId
            | Request::SetConnId { .. }
            | Request::Resume { .. }
            | Request::Name { .. }
            | Request::Info
            | Request::Stats
            | Request::Echo { .. } => Self::Entry,
        }
    }
}
