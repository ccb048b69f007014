//! `acme/stats:1.4.2`: a component in a registry, by a namespace that the operator knows.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::digest::ManifestDigest;
use crate::id::Name;

/// Longest reference, in bytes.
pub const MAX_REFERENCE: usize = 512;
/// Longest path, namespace included: what registries allow.
const MAX_PATH: usize = 255;
/// Longest tag.
const MAX_TAG: usize = 128;

/// A text is not a reference to a component in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ReferenceError(&'static str);

/// Which of the manifests of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// The one that a tag names now. Tags can be moved.
    Tag(String),
    /// The one with this digest.
    Manifest(ManifestDigest),
}

/// A component in a registry: `namespace/name:tag`, or `namespace/name@sha256:…`.
///
/// # Invariants
/// - It names no host. The namespace, its first segment, is looked up in the operator's map of registries; so nobody who
///   writes definitions chooses whom this machine speaks to, and no second registry is asked when one has no such name.
/// - Path and tag can stand in an address as they are: `a-z 0-9 . _ -` in the path, `A-Z` too in the tag; no empty segment,
///   none that is `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OciReference {
    namespace: Name,
    /// What follows the namespace and its slash.
    name: String,
    at: At,
}

impl OciReference {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Name {
        &self.namespace
    }

    /// What follows the namespace: `stats`, `team/stats`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Namespace and name: `acme/stats`. What signatures are about.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Which one of that name.
    #[must_use]
    pub fn at(&self) -> &At {
        &self.at
    }

    /// The same name at another place.
    #[must_use]
    pub fn with(&self, at: At) -> Self {
        Self { at, ..self.clone() }
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Tag(tag) => write!(f, "{}/{}:{tag}", self.namespace, self.name),
            At::Manifest(digest) => write!(f, "{}/{}@{digest}", self.namespace, self.name),
        }
    }
}

impl FromStr for OciReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_REFERENCE {
            return Err(ReferenceError("it is longer than any registry allows"));
        }
        let (path, at) = match (text.split_once('@'), text.rsplit_once(':')) {
            (Some((path, digest)), _) => {
                let digest = digest.parse().map_err(|_| ReferenceError("after `@` stands `sha256:` and 64 digits"))?;
                (path, At::Manifest(digest))
            }
            (None, Some((path, tag))) if !tag.contains('/') => {
                let mut bytes = tag.bytes();
                let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !first || tag.len() > MAX_TAG || !bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
                    return Err(ReferenceError("after `:` stands a tag, such as `1.4.2`"));
                }
                (path, At::Tag(tag.to_owned()))
            }
            _ => return Err(ReferenceError("it says no version: `namespace/name:1.4.2`")),
        };
        let (namespace, name) =
            path.split_once('/').ok_or(ReferenceError("it has no namespace: `namespace/name:tag`"))?;
        if namespace.contains(['.', ':']) || namespace == "localhost" {
            return Err(ReferenceError(
                "it names a host: write a namespace, the operator's `registries.yaml` says where that is",
            ));
        }
        let lower = |text: &str| !text.bytes().any(|b| b.is_ascii_uppercase());
        let namespace = Name::new(namespace).ok().filter(|name| lower(name.as_str()));
        let namespace = namespace.ok_or(ReferenceError("its namespace is not `a-z 0-9 _ -`, a letter first"))?;
        if path.len() > MAX_PATH || !name.split('/').all(is_segment) {
            return Err(ReferenceError("its name is not `a-z 0-9`, with single `.`, `_` or `-` between"));
        }
        Ok(Self { namespace, name: name.to_owned(), at })
    }
}

/// A segment of a path, as registries allow it: separators stand between letters or digits.
fn is_segment(text: &str) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
    let single = bytes.windows(2).all(|pair| plain(&pair[0]) || plain(&pair[1]) || pair == b"--" || pair == b"__");
    ends && single && bytes.iter().all(|b| plain(b) || b"._-".contains(b))
}

/// The version that a text says, if it is one (Semantic Versioning 2.0): what can be compared.
#[must_use]
pub fn release_version(text: &str) -> Option<Version> {
    Version::parse(text).ok().filter(|_| text.len() <= MAX_TAG)
}

impl Serialize for OciReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OciReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reference_names_a_namespace_and_never_a_host() {
        let digest = format!("acme/stats@sha256:{}", "0a".repeat(32));
        for text in ["acme/stats:1.4.2", "acme/team/stats:latest", "a_b/c--d.e:V1_2-3", digest.as_str()] {
            assert_eq!(text.parse::<OciReference>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "stats:1",
            "acme/stats",
            "acme/stats:",
            "acme/stats:-1",
            "acme/stats@sha256:0a",
            "registry.example.com/acme/stats:1",
            "localhost/acme/stats:1",
            "localhost:5000/stats:1",
            "Acme/stats:1",
            "acme/Stats:1",
            "acme/../stats:1",
            "acme//stats:1",
            "acme/.stats:1",
            "acme/st%61ts:1",
            "acme/stats:1/2",
            "acme/a?b:1",
            "acme/a b:1",
        ] {
            assert!(text.parse::<OciReference>().is_err(), "{text}");
        }
    }

    proptest! {
        /// Whatever is read stands in an address as it is, and reads back.
        #[test]
        fn what_is_read_is_plain_and_reads_back(text in "[a-zA-Z0-9./:@_%?# -]{0,40}") {
            if let Ok(reference) = text.parse::<OciReference>() {
                prop_assert_eq!(reference.to_string(), text);
                let path = reference.path();
                prop_assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
                prop_assert!(path.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/._-".contains(&b)));
            }
        }
    }
}
