//! What a session proves that it is itself by.

use std::fmt;

/// 128 random bits that only the session itself gets to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub u128);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a secret: enough to know it again, of no use to a thief who reads it. A secret is
/// random and long, so nothing slower is needed.
pub type SecretDigest = [u8; 32];

/// The digest under which a store keeps a secret.
#[cfg(feature = "store")]
pub fn digest(secret: Secret) -> SecretDigest {
    use sha2::{Digest, Sha256};
    Sha256::digest(secret.0.to_be_bytes()).into()
}
