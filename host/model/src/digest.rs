//! Content identities: what bytes are, said in 32 bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A text is not a digest of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{text}' is not a digest: expected '{prefix}' and 64 lower-case hex digits")]
pub struct DigestError {
    text: String,
    prefix: &'static str,
}

fn hex(bytes: &[u8; 32], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 64];
    for (i, byte) in bytes.iter().enumerate() {
        text[2 * i] = DIGITS[usize::from(byte >> 4)];
        text[2 * i + 1] = DIGITS[usize::from(byte & 15)];
    }
    out.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn unhex(text: &str, prefix: &'static str) -> Result<[u8; 32], DigestError> {
    let wrong = || DigestError { text: text.chars().take(80).collect(), prefix };
    let digits = text.strip_prefix(prefix).ok_or_else(wrong)?.as_bytes();
    if digits.len() != 64 {
        return Err(wrong());
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(wrong()),
    };
    let mut bytes = [0u8; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = value(digits[2 * i])? << 4 | value(digits[2 * i + 1])?;
    }
    Ok(bytes)
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes that are known to be such a digest.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;
            fn from_str(text: &str) -> Result<Self, DigestError> {
                unhex(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest! {
    /// The BLAKE3 digest of an artifact's bytes, or of a canonical encoding of our own: `b3:` and 64 hex digits.
    Digest, "b3:"
}

digest! {
    /// The SHA-256 digest of a component's bytes, as registries compute it: `sha256:` and 64 hex digits.
    ComponentDigest, "sha256:"
}

digest! {
    /// The SHA-256 digest of a manifest's bytes, as registries compute it: `sha256:` and 64 hex digits.
    ManifestDigest, "sha256:"
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Hashes a sequence of fields so that no two different sequences give the same bytes.
///
/// Every field is preceded by its length (u64, little endian), so that `("ab", "c")` and `("a", "bc")` differ. Used for
/// value identities, memo keys and the chain of events; the domain string keeps those apart.
#[derive(Clone)]
pub struct FieldHasher(blake3::Hasher);

impl FieldHasher {
    /// Starts a hash in `domain`, which names the purpose and the format version.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        let mut hasher = Self(blake3::Hasher::new());
        hasher.field(domain.as_bytes());
        hasher
    }

    /// Adds one field.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a field that may be absent; absent and empty differ.
    pub fn option(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.field(&[1]).field(bytes),
            None => self.field(&[0]),
        }
    }

    /// Adds a count, before the items of a list.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.field(&(count as u64).to_le_bytes())
    }

    /// The digest of all fields so far.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_is_strict() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for wrong in [
            "",
            "b3:",
            "b3:zz",
            &digest.to_string().to_uppercase(),
            &format!("{digest}0"),
            &format!("sha256:{}", &digest.to_string()[3..]),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn fields_do_not_run_together() {
        let two = |a: &[u8], b: &[u8]| FieldHasher::new("t").field(a).field(b).finish();
        assert_ne!(two(b"ab", b"c"), two(b"a", b"bc"));
        assert_ne!(FieldHasher::new("t").option(None).finish(), FieldHasher::new("t").option(Some(b"")).finish());
    }
}
