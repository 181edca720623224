//! The secret that proves the right to resume a session.

use std::fmt;

/// 128 random bits that only the session's client gets to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub u128);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a secret: enough to recognise the secret, and of no use to a reader of the store.
/// A secret is random and long, so a slower hash is not needed.
pub type SecretDigest = [u8; 32];

/// The digest under which a store keeps a secret.
#[cfg(feature = "store")]
pub fn digest(secret: Secret) -> SecretDigest {
    use sha2::{Digest, Sha256};
    Sha256::digest(secret.0.to_be_bytes()).into()
}
