//! Names and ids: newtypes with one strict text form each.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Longest name, mapping key or tenant id, in bytes.
pub const MAX_NAME: usize = 63;

/// A text cannot be a name, key or id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{text}' is not {what}: {rule}")]
pub struct IdError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

impl IdError {
    fn new(text: &str, what: &'static str, rule: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), what, rule }
    }

    /// The rule that the text breaks, as a phrase.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and wraps it.
            ///
            /// # Errors
            /// When `text` breaks the rule of this kind of name.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(IdError::new(text, $what, $rule)) }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_NAME
        && bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-')
}

fn is_key(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_NAME).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_' || *b == b'-')
}

text_id! {
    /// The name of a job, step, graph, op, port, resource, IO manager, type, environment, ...
    Name, "a name", "1 to 63 of A-Z, a-z, 0-9, '_' and '-', starting with a letter or '_'", is_name
}

text_id! {
    /// The key of one item of a dynamic output.
    MappingKey, "a mapping key", "1 to 63 of a-z, 0-9, '_' and '-'", is_key
}

text_id! {
    /// Who owns jobs, runs, artifacts and quotas. One installation starts with the tenant `default`.
    TenantId, "a tenant id", "1 to 63 of a-z, 0-9, '_' and '-'", is_key
}

text_id! {
    /// Where a step stands in its job: the names of the graphs around it and its own, joined by dots.
    StepPath, "a step path", "names joined by dots, at most 1,000 bytes", |text| {
        text.len() <= 1_000 && text.split('.').all(is_name)
    }
}

text_id! {
    /// How the bytes of a value are laid out: `text/csv`, `application/json`, ...
    MediaType, "a media type", "'type/subtype' in lower case, at most 127 bytes", |text| {
        text.len() <= 127 && text.split_once('/').is_some_and(|(top, sub)| {
            [top, sub].iter().all(|part| !part.is_empty() && part.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$&-^_.+".contains(&b)
            }))
        })
    }
}

impl Default for TenantId {
    /// The tenant `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl StepPath {
    /// The path of `name` inside the graph at `self`.
    ///
    /// # Errors
    /// When the path would be too long.
    pub fn join(&self, name: &Name) -> Result<Self, IdError> {
        Self::new(&format!("{self}.{name}"))
    }

    /// The last name of the path: the step's own.
    #[must_use]
    pub fn leaf(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or(&self.0)
    }
}

impl From<Name> for StepPath {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

/// Which item: the mapping keys of every dynamic output above it, outermost first. Empty for what is not an item.
///
/// Written with slashes between the keys. Sorted so that the items below one stand together, behind it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ItemKey(Option<Arc<[MappingKey]>>);

impl ItemKey {
    /// Of what is not an item.
    pub const NONE: Self = Self(None);

    /// The item `key` below this one.
    #[must_use]
    pub fn child(&self, key: &MappingKey) -> Self {
        self.iter().chain([key]).cloned().collect()
    }

    /// The item that it is below, `depth` levels deep; itself when it is no deeper.
    #[must_use]
    pub fn outer(&self, depth: usize) -> Self {
        if depth >= self.len() { self.clone() } else { self[..depth].iter().cloned().collect() }
    }

    /// As guests are told it: the keys with slashes between them; none for what is no item.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        (!self.is_no_item()).then(|| self.to_string())
    }

    /// It is the key of what is no item.
    #[must_use]
    pub fn is_no_item(&self) -> bool {
        self.0.is_none()
    }

    /// It is `other`, or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.starts_with(other)
    }
}

impl std::ops::Deref for ItemKey {
    type Target = [MappingKey];

    fn deref(&self) -> &[MappingKey] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl FromIterator<MappingKey> for ItemKey {
    fn from_iter<I: IntoIterator<Item = MappingKey>>(keys: I) -> Self {
        let mut keys = keys.into_iter().peekable();
        Self(keys.peek().is_some().then(|| keys.collect()))
    }
}

impl From<MappingKey> for ItemKey {
    fn from(key: MappingKey) -> Self {
        Self(Some(Arc::new([key])))
    }
}

impl fmt::Display for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, key) in self.iter().enumerate() {
            write!(f, "{}{key}", if at == 0 { "" } else { "/" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl FromStr for ItemKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() { Ok(Self::default()) } else { text.split('/').map(MappingKey::new).collect() }
    }
}

impl Serialize for ItemKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ItemKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One step of one run: `outer.inner.step`, or `outer.inner.step[key]` for a mapped one (`[a][b]` when nested).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepKey {
    /// Where the step stands in its job.
    pub path: StepPath,
    /// The item that it is mapped over; empty for a step that is not mapped.
    pub mapping: ItemKey,
}

impl StepKey {
    /// The key of a step that is not mapped.
    #[must_use]
    pub fn plain(path: StepPath) -> Self {
        Self { path, mapping: ItemKey::default() }
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path.as_str())?;
        self.mapping.iter().try_for_each(|key| write!(f, "[{key}]"))
    }
}

impl fmt::Debug for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StepKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::new(text, "a step key", "'outer.inner.step' or 'outer.inner.step[key]'");
        let (path, keys) = match text.split_once('[') {
            None => (text, ItemKey::default()),
            Some((path, rest)) => {
                let rest = rest.strip_suffix(']').ok_or_else(wrong)?;
                (path, rest.split("][").map(MappingKey::new).collect::<Result<_, _>>().map_err(|_| wrong())?)
            }
        };
        Ok(Self { path: StepPath::new(path).map_err(|_| wrong())?, mapping: keys })
    }
}

impl Serialize for StepKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StepKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One execution of a job: `run_` and 26 characters (a ULID), so that ids sort by the time they were made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(ulid::Ulid);

impl RunId {
    /// Makes an id from the time (milliseconds since the Unix epoch; the low 48 bits count) and 80 random bits (the low
    /// ones of `random` count). The caller supplies both: this crate has neither clock nor randomness.
    #[must_use]
    pub fn from_parts(unix_ms: u64, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(unix_ms, random))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0u8; ulid::ULID_LEN];
        f.pad(&format!("run_{}", self.0.array_to_str(&mut buffer)))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::new(text, "a run id", "'run_' and 26 characters, as 'opyard runs' prints it");
        let ulid = text.strip_prefix("run_").ok_or_else(wrong)?;
        let id = Self(ulid::Ulid::from_string(ulid).map_err(|_| wrong())?);
        if id.to_string() == text { Ok(id) } else { Err(wrong()) }
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_keys_round_trip() {
        for text in ["load", "eval.score", "eval.score[a]", "a.b[k_1][z-9]"] {
            assert_eq!(text.parse::<StepKey>().unwrap().to_string(), text);
        }
        for wrong in ["", ".", "a.", "a[", "a[]", "a[A]", "a[b]c", "a[b", "1a", "a b", "a[b][]"] {
            assert!(wrong.parse::<StepKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn run_ids_round_trip_and_sort_by_time() {
        let (a, b) = (RunId::from_parts(1, u128::MAX), RunId::from_parts(2, 0));
        assert!(a.to_string() < b.to_string());
        assert_eq!(a.to_string().parse::<RunId>().unwrap(), a);
        assert!(a.to_string().to_lowercase().parse::<RunId>().is_err());
    }
}
