//! Small values by name, as ops see them: the interface `key-value` of the contract in plain Rust.
//!
//! Hostile guests: names, prefixes, tokens, revisions and values are guest-controlled. Every call is bounded in bytes
//! ([`MAX_NAME`], [`MAX_VALUE`]), in count ([`MAX_NAMES_PAGE`]) and in time.

mod encoding;
mod objects;
mod yard;

use bytes::Bytes;
use opyard_model::plan::Access;
use opyard_store::key_value::KeyValues;

use crate::error::{ResourceError, may_write};
use crate::object_store::ObjectStoreResource;
use objects::ObjectValues;
use yard::YardValues;

/// Longest name, in bytes.
pub const MAX_NAME: usize = 512;
/// Largest value: 1 MiB.
pub const MAX_VALUE: usize = 1 << 20;
/// Most names of one page.
pub const MAX_NAMES_PAGE: usize = 1_000;
/// Longest revision that is looked at: no driver gives a longer one.
const MAX_REVISION: usize = 4 << 10;

/// A value as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// Changes with every write. Means nothing but to the bucket that gave it.
    pub revision: String,
}

/// Some names, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesPage {
    /// The names.
    pub names: Vec<String>,
    /// What to ask for the next page with; none = this is the last.
    pub next: Option<String>,
}

/// What a write needs to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected<'a> {
    Anything,
    Absent,
    Revision(&'a str),
}

/// Where the values are.
#[derive(Debug, Clone)]
enum Driver {
    Yard(YardValues),
    Objects(ObjectValues),
}

/// A bucket of small values that was granted.
#[derive(Debug, Clone)]
pub struct KeyValueResource {
    driver: Driver,
    access: Access,
}

/// Checks the start of a name.
fn check_prefix(prefix: &str) -> Result<(), ResourceError> {
    if prefix.len() > MAX_NAME {
        return Err(ResourceError::Invalid(format!("a name has at most {MAX_NAME} bytes")));
    }
    if prefix.chars().any(char::is_control) {
        return Err(ResourceError::Invalid("a name holds no control characters".into()));
    }
    Ok(())
}

/// Checks a name.
fn check_name(name: &str) -> Result<(), ResourceError> {
    if name.is_empty() {
        return Err(ResourceError::Invalid("a name is not empty".into()));
    }
    check_prefix(name)
}

impl KeyValueResource {
    /// A bucket of the yard's.
    pub(crate) fn in_yard(values: KeyValues, access: Access) -> Self {
        Self { driver: Driver::Yard(YardValues::new(values)), access }
    }

    /// One object a name.
    pub(crate) fn in_objects(store: ObjectStoreResource, access: Access) -> Self {
        Self { driver: Driver::Objects(ObjectValues::new(store)), access }
    }

    /// What may be done with it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The value of a name; none when it has none.
    ///
    /// # Errors
    /// `Invalid` for what is no name; `Unavailable`.
    pub async fn get(&self, name: &str) -> Result<Option<Entry>, ResourceError> {
        check_name(name)?;
        match &self.driver {
            Driver::Yard(values) => values.get(name).await,
            Driver::Objects(values) => values.get(name).await,
        }
    }

    /// Sets a value, whatever it was. It is durable when this returns.
    ///
    /// # Errors
    /// `Denied` when only reading was granted; `Invalid` for what is no name; `Limit` for a value over [`MAX_VALUE`], or when
    /// the bucket would hold too much; `Unavailable`: the value may be set or not.
    pub async fn put(&self, name: &str, value: Bytes) -> Result<String, ResourceError> {
        self.write(name, Expected::Anything, value).await
    }

    /// Sets a value if the name has none (`expected` none) or still has that revision: of several who expect the same, in
    /// whatever process, one succeeds.
    ///
    /// # Errors
    /// `Conflict` when what was expected does not hold; those of [`put`](Self::put); `Invalid` where the bucket cannot do
    /// this: local files can be created so, but not replaced.
    pub async fn compare_and_swap(
        &self,
        name: &str,
        expected: Option<&str>,
        value: Bytes,
    ) -> Result<String, ResourceError> {
        self.write(name, expected.map_or(Expected::Absent, Expected::Revision), value).await
    }

    async fn write(&self, name: &str, expected: Expected<'_>, value: Bytes) -> Result<String, ResourceError> {
        may_write(self.access)?;
        check_name(name)?;
        if value.len() > MAX_VALUE {
            return Err(ResourceError::Limit(format!("a value has at most {MAX_VALUE} bytes")));
        }
        if matches!(expected, Expected::Revision(text) if text.len() > MAX_REVISION) {
            return Err(ResourceError::Conflict);
        }
        match &self.driver {
            Driver::Yard(values) => values.put(name, expected, value).await,
            Driver::Objects(values) => values.put(name, expected, &value).await,
        }
    }

    /// Removes a value; false when there was none. In an object store two who remove the same may both be told true.
    ///
    /// # Errors
    /// `Denied` when only reading was granted; `Invalid` for what is no name; `Unavailable`.
    pub async fn remove(&self, name: &str) -> Result<bool, ResourceError> {
        may_write(self.access)?;
        check_name(name)?;
        match &self.driver {
            Driver::Yard(values) => values.remove(name).await,
            Driver::Objects(values) => values.remove(name).await,
        }
    }

    /// Names that start with `prefix`, in order: the page after the one that gave `token`, at most `limit` (and
    /// [`MAX_NAMES_PAGE`]) of them.
    ///
    /// # Errors
    /// `Invalid` for what is no start of a name, or no token; `Unavailable`; `Limit` when there is too much to look through.
    pub async fn list_page(&self, prefix: &str, token: Option<&str>, limit: u32) -> Result<NamesPage, ResourceError> {
        check_prefix(prefix)?;
        token.map_or(Ok(()), check_name)?;
        let limit = usize::try_from(limit).unwrap_or(MAX_NAMES_PAGE).clamp(1, MAX_NAMES_PAGE);
        let mut names = match &self.driver {
            Driver::Yard(values) => values.names(prefix, token, limit + 1).await?,
            Driver::Objects(values) => values.names(prefix, token, limit + 1).await?,
        };
        let more = names.len() > limit;
        names.truncate(limit);
        let next = names.last().filter(|_| more).cloned();
        Ok(NamesPage { names, next })
    }
}
