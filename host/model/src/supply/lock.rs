//! `opyard.lock`: which bytes the references of a definitions file stood for when somebody last looked.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::OciReference;
use crate::digest::{ComponentDigest, ManifestDigest};
use crate::id::Name;

/// Largest lock file, in bytes: 4 MiB.
pub const MAX_LOCK: usize = 4 << 20;
/// The version of its form.
const VERSION: u32 = 1;

/// A lock file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LockError {
    /// It is not what Opyard writes.
    #[error("it is not what `opyard op pull` writes: {0}")]
    Form(String),
    /// A newer version wrote it.
    #[error("it has version {0}, and this version of Opyard reads version {VERSION}")]
    Version(u32),
}

/// One component of a definitions file, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// The reference that was resolved.
    pub reference: OciReference,
    /// What it stood for.
    pub manifest: ManifestDigest,
    /// The component: SHA-256 of its bytes.
    pub component: ComponentDigest,
    /// The version that its manifest, or its tag, says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

impl Locked {
    /// Whether `found`, of the same name, is older than this, or may be: what says no version cannot be compared.
    ///
    /// A registry, or who gets between, can show an old component with a known hole, rightly signed as it is; only the
    /// version tells.
    #[must_use]
    pub fn is_newer_than(&self, found: &Self) -> bool {
        let same = self.reference.path() == found.reference.path() && self.component != found.component;
        same && match (&self.version, &found.version) {
            (Some(had), Some(now)) => now.cmp_precedence(had).is_lt(),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// The components of a definitions file, by their names there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock(BTreeMap<Name, Locked>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    opyard_lock: u32,
    components: BTreeMap<Name, Locked>,
}

/// The form alone, so that a file of a newer form is told so.
#[derive(Deserialize)]
struct Form {
    opyard_lock: u32,
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// When it is of another form.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        let wrong = |error: serde_json::Error| LockError::Form(error.to_string());
        if bytes.len() > MAX_LOCK {
            return Err(LockError::Form(format!("more than {MAX_LOCK} bytes")));
        }
        let form: Form = serde_json::from_slice(bytes).map_err(wrong)?;
        if form.opyard_lock != VERSION {
            return Err(LockError::Version(form.opyard_lock));
        }
        let file: File = serde_json::from_slice(bytes).map_err(wrong)?;
        Ok(Self(file.components))
    }

    /// The text of the file: one form for the same content.
    #[must_use]
    pub fn to_text(&self) -> String {
        let file = File { opyard_lock: VERSION, components: self.0.clone() };
        let text = serde_json::to_string_pretty(&file).expect("plain data with keys that are texts");
        text + "\n"
    }

    /// What the component `name` is pinned to.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Locked> {
        self.0.get(name)
    }

    /// Pins a component. Answers whether that is new.
    pub fn pin(&mut self, name: &Name, locked: Locked) -> bool {
        let is_new = self.0.get(name) != Some(&locked);
        self.0.insert(name.clone(), locked);
        is_new
    }

    /// Drops what `keep` does not name. Answers whether there was any.
    pub fn retain(&mut self, keep: impl Fn(&Name) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|name, _| keep(name));
        self.0.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(reference: &str, component: u8, version: Option<&str>) -> Locked {
        Locked {
            reference: reference.parse().unwrap(),
            manifest: ManifestDigest::from_bytes([component; 32]),
            component: ComponentDigest::from_bytes([component; 32]),
            version: version.map(|text| text.parse().unwrap()),
        }
    }

    #[test]
    fn a_lock_reads_back_and_says_what_is_wrong_with_another() {
        let mut lock = Lock::default();
        let name = Name::new("stats").unwrap();
        assert!(lock.pin(&name, locked("acme/stats:1.4", 1, Some("1.4.2"))));
        assert!(!lock.pin(&name, locked("acme/stats:1.4", 1, Some("1.4.2"))));
        assert_eq!(Lock::parse(lock.to_text().as_bytes()), Ok(lock.clone()));
        assert_eq!(Lock::parse(br#"{"opyard_lock": 2, "more": []}"#), Err(LockError::Version(2)));
        for text in ["", "[]", "{}", r#"{"opyard_lock": 1, "components": {"x": {}}}"#] {
            assert!(matches!(Lock::parse(text.as_bytes()), Err(LockError::Form(_))), "{text}");
        }
    }

    #[test]
    fn older_means_a_lower_version_of_the_same_name() {
        let had = locked("acme/stats:1.4", 1, Some("1.4.2"));
        for (found, is_older) in [
            (locked("acme/stats:1.4", 2, Some("1.4.3")), false),
            (locked("acme/stats:1.4", 2, Some("1.4.2+other")), false),
            (locked("acme/stats:1.4", 2, Some("1.4.2-rc.1")), true),
            (locked("acme/stats:1.3", 2, Some("1.3.9")), true),
            (locked("acme/stats:latest", 2, None), true),
            (locked("acme/other:0.1.0", 2, Some("0.1.0")), false),
            (locked("acme/stats:again", 1, None), false),
        ] {
            assert_eq!(had.is_newer_than(&found), is_older, "{found:?}");
        }
        assert!(!locked("acme/stats:latest", 1, None).is_newer_than(&locked("acme/stats:1.0.0", 2, Some("1.0.0"))));
    }
}
