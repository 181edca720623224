//! Passwords: their hashes, and what is remembered of one that was right.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::user::User;

/// How long a password that was right is right without another check: a pool of PHP workers connects
/// anew for each request of a browser, and a check takes longer than all that it then does here.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The longest password, in bytes.
const LONGEST: usize = 256;

/// The most that a hash may cost to check: 256 MiB, 16 times over. More would be a way to bring this
/// server to its knees, though for none but its operator.
const MOST_KIB: u32 = 256 * 1024;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// Why a password cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// There is none.
    #[error("the password is empty")]
    Empty,
    /// A client cannot send it, as it is a word of a line.
    #[error("the password has a space, or a control character")]
    NoWord,
    /// A file has more than it: which line is meant?
    #[error("there is more than one line, and the file is for the password alone")]
    SeveralLines,
    /// It is too long.
    #[error("the password is longer than {LONGEST} bytes")]
    TooLong,
    /// It cannot be hashed, for want of randomness or memory.
    #[error("the password cannot be hashed: {0}")]
    NotHashed(#[from] argon2::password_hash::Error),
}

/// Why a text is no hash that a user can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHash {
    #[error("`password` is no hash of Argon2: `elockd hash-password` makes one")]
    NoHash,
    #[error(
        "to check this `password` would cost too much: more than {} MiB, {MOST_PASSES} passes or \
         {MOST_LANES} lanes", MOST_KIB / 1024
    )]
    TooCostly,
}

/// By what a user's password is known.
pub(super) struct Secret {
    kind: Kind,
    /// The last password that was right, and when it was checked.
    remembered: Mutex<Option<(Proof, Instant)>>,
}

enum Kind {
    /// Slow to check, so that whoever steals the file cannot try many.
    Hash(Box<PasswordHash>),
    /// Of a password that stands in a file as it is.
    Digest([u8; 32]),
}

/// The key under which right passwords are remembered: drawn anew by each process.
pub struct ProofKey(pub [u8; 32]);

/// What is remembered of a user's password: of no use to anybody without the [`ProofKey`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proof([u8; 32]);

/// Masked, as all of these are.
macro_rules! masked {
    ($($name:ident)*) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )* };
}

masked! { Secret ProofKey Proof }

impl ProofKey {
    /// What would be remembered of this password, were it right.
    pub fn proof(&self, password: &[u8]) -> Proof {
        Proof(
            Sha256::new()
                .chain_update(self.0)
                .chain_update(password)
                .finalize()
                .into(),
        )
    }
}

impl Secret {
    fn new(kind: Kind) -> Self {
        let remembered = Mutex::default();
        Self { kind, remembered }
    }

    /// From a hash in the form that [`hash_password`] gives it.
    pub(super) fn from_hash(text: &str) -> Result<Self, BadHash> {
        let hash = PasswordHash::new(text).map_err(|_| BadHash::NoHash)?;
        let params = Params::try_from(&hash).map_err(|_| BadHash::NoHash)?;
        let is_argon2 = argon2::Algorithm::try_from(hash.algorithm.as_str()).is_ok();
        if !is_argon2 || hash.salt.is_none() || hash.hash.is_none() {
            return Err(BadHash::NoHash);
        }
        let costs = (params.m_cost(), params.t_cost(), params.p_cost());
        match costs.0 > MOST_KIB || costs.1 > MOST_PASSES || costs.2 > MOST_LANES {
            true => Err(BadHash::TooCostly),
            false => Ok(Self::new(Kind::Hash(Box::new(hash)))),
        }
    }

    /// Of a password as it is.
    pub(super) fn from_password(password: &[u8]) -> Result<Self, BadPassword> {
        let password = checked(password)?;
        Ok(Self::new(Kind::Digest(Sha256::digest(password).into())))
    }
}

impl User {
    /// Whether a check of its password takes long, so that it must not run on a worker.
    pub fn has_slow_secret(&self) -> bool {
        let kind = self.secret.as_ref().map(|secret| &secret.kind);
        matches!(kind, Some(Kind::Hash(_)))
    }

    /// Whether this is its password. May take some 20 ms and 19 MiB.
    pub fn has_password(&self, password: &[u8]) -> bool {
        match self.secret.as_ref().map(|secret| &secret.kind) {
            Some(Kind::Hash(hash)) => Argon2::default().verify_password(password, &**hash).is_ok(),
            Some(Kind::Digest(digest)) => digest.ct_eq(&Sha256::digest(password)).into(),
            None => false,
        }
    }

    /// Remembers that the password of this proof was right at `now`.
    pub fn remember(&self, proof: Proof, now: Instant) {
        if let Some(secret) = &self.secret {
            *secret.remembered() = Some((proof, now));
        }
    }

    /// Whether the password of this proof was right a short while ago.
    pub fn remembers(&self, proof: Proof, now: Instant) -> bool {
        let remembered = self.secret.as_ref().and_then(|secret| *secret.remembered());
        remembered.is_some_and(|(right, since)| {
            right == proof && now.saturating_duration_since(since) < REMEMBERED
        })
    }
}

impl Secret {
    /// Nothing is half done where a holder could panic.
    fn remembered(&self) -> std::sync::MutexGuard<'_, Option<(Proof, Instant)>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hash of a password, with a salt of its own, as it stands in the file of users.
///
/// # Errors
///
/// If it cannot be a password, or the system has no randomness.
pub fn hash_password(password: &[u8]) -> Result<String, BadPassword> {
    let hash = Argon2::default().hash_password(checked(password)?)?;
    Ok(hash.to_string())
}

/// What a client can send, as a word at the end of a line.
fn checked(password: &[u8]) -> Result<&[u8], BadPassword> {
    let is_of_a_word = |&byte: &u8| byte != b' ' && !byte.is_ascii_control();
    match password {
        [] => Err(BadPassword::Empty),
        _ if password.len() > LONGEST => Err(BadPassword::TooLong),
        _ if !password.iter().all(is_of_a_word) => Err(BadPassword::NoWord),
        _ => Ok(password),
    }
}
