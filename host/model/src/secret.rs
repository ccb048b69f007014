//! Secrets as definitions know them: names and places. The bytes of a secret are never in this crate.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Largest secret, in bytes: 64 KiB.
pub const MAX_SECRET: usize = 64 << 10;

/// Where a secret is read when a resource needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSpec {
    /// A variable of the environment of the process that runs the step.
    Env(String),
    /// A file of the machine that runs the step; an absolute path. One trailing newline is not part of the secret.
    File(String),
}

impl fmt::Display for SecretSpec {
    /// `the environment variable ACME_API_KEY`, `the file /srv/token`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {path}"),
        }
    }
}

/// Whether `name` can be a variable of the environment: 1 to 255 of `A-Z a-z 0-9 _`, no digit first.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() <= 255 && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
