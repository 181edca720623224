//! The secret that proves the right to resume a session.

use std::fmt;

/// 128 random bits that only the session's client gets to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub u128);

impl Secret {
    /// It in 32 hexadecimal digits. There is no `Display`, so that none is shown by mistake.
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// Reads the digits as [`Secret::to_hex`] writes them; `None` for anything else.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let secret = u128::from_str_radix(digits, 16).ok().map(Self)?;
        // Not whatever reads as the same number.
        (secret.to_hex() == digits).then_some(secret)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_as_it_was_written_and_nothing_else_does() {
        let digits = "00000000000000000000000000000abc";
        assert_eq!(Secret(0xabc).to_hex(), digits);
        assert_eq!(Secret::from_hex(digits), Some(Secret(0xabc)));
        for wrong in [
            "",
            "abc",
            "+0000000000000000000000000000abc",
            "00000000000000000000000000000ABC",
            "000000000000000000000000000000abc",
            " 0000000000000000000000000000abc",
        ] {
            assert_eq!(Secret::from_hex(wrong), None, "{wrong}");
        }
    }
}
