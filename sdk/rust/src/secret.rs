//! Secrets that an op may see.

use std::fmt;

use crate::bindings::opyard::resources::secrets as host;
use crate::resource::{ResourceError, argument};

/// The bytes of a secret, revealed when the op starts; the host keeps a record of it.
///
/// Prefer a resource that uses the secret on the host's side, as [`HttpClient`](crate::HttpClient) does: then neither the op
/// nor a mistake in it can give it away. `Debug` shows none of it.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps bytes: for the author's own tests.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    fn open(key: &str) -> Result<Self, ResourceError> {
        host::reveal(key).map(Self).map_err(|error| ResourceError::new(format!("secret `{key}`"), error))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text; none when they are not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

argument!(Secret, "opyard:resources/secrets@0.1.0");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_is_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!((secret.bytes(), secret.text()), (&b"hunter2"[..], Some("hunter2")));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(Secret::new([0xff]).text(), None);
    }
}
