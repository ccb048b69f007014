//! Keys whose signatures are believed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// What stands before the 32 bytes of an Ed25519 key in DER (RFC 8410): the form that `openssl` and others write.
const DER_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected the line between BEGIN PUBLIC KEY and END PUBLIC KEY of an Ed25519 key: `MCowBQYDK2VwAyEA…`")]
pub struct KeyError;

/// An Ed25519 public key, written as the one line of its PEM file: base 64 of its DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustedKey([u8; 32]);

impl TrustedKey {
    /// Wraps the 32 bytes of a key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its DER: a `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        [DER_PREFIX.as_slice(), &self.0].concat()
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.der()))
    }
}

impl fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedKey({self})")
    }
}

impl FromStr for TrustedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let der = STANDARD.decode(text.trim()).map_err(|_| KeyError)?;
        let bytes = der.strip_prefix(DER_PREFIX.as_slice()).ok_or(KeyError)?;
        bytes.try_into().map(Self).map_err(|_| KeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_nothing_else_does() {
        let key = TrustedKey::from_bytes([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!(key.to_string().starts_with("MCowBQYDK2VwAyEA") && key.to_string().len() == 60);
        for text in ["", "AAAA", &STANDARD.encode([7; 32]), &STANDARD.encode([0; 44]), "-----BEGIN PUBLIC KEY-----"] {
            assert_eq!(text.parse::<TrustedKey>(), Err(KeyError), "{text}");
        }
    }
}
