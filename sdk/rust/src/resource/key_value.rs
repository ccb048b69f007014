//! Small values by name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{PAGE, ResourceError, ResourceErrorKind, argument, pages};
use crate::bindings::opyard::resources::{errors, key_value as host};

pub use crate::bindings::opyard::resources::key_value::Entry;

/// How often [`KeyValue::update`] begins again because another writer was faster.
const TRIES: u32 = 1_000;

/// A bucket of small values by name.
#[derive(Debug)]
pub struct KeyValue {
    key: &'static str,
    handle: host::Bucket,
}

impl KeyValue {
    pub(super) fn open(key: &'static str) -> Result<Self, ResourceError> {
        let handle = host::open(key).map_err(|error| ResourceError::new(format!("key-value `{key}`"), error))?;
        Ok(Self { key, handle })
    }

    fn error(&self, verb: &str, name: &str, error: errors::Error) -> ResourceError {
        ResourceError::new(format!("key-value `{}`, {verb} `{name}`", self.key), error)
    }

    /// The value of `name` and its revision; none when it has none.
    ///
    /// # Errors
    /// What the host answered.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>, ResourceError> {
        self.handle.get(name).map_err(|error| self.error("get", name, error))
    }

    /// The value of `name`; none when it has none.
    ///
    /// # Errors
    /// What the host answered.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ResourceError> {
        Ok(self.entry(name)?.map(|entry| entry.value))
    }

    /// Sets a value, whatever it was. Returns its revision.
    ///
    /// # Errors
    /// What the host answered.
    pub fn put(&self, name: &str, value: &[u8]) -> Result<String, ResourceError> {
        self.handle.put(name, value).map_err(|error| self.error("put", name, error))
    }

    /// Sets a value if `name` has none (`expected` none) or still has that revision. Returns the new revision.
    ///
    /// # Errors
    /// What the host answered; [`Conflict`](ResourceErrorKind::Conflict) when what was expected does not hold.
    pub fn compare_and_swap(&self, name: &str, expected: Option<&str>, value: &[u8]) -> Result<String, ResourceError> {
        self.handle.compare_and_swap(name, expected, value).map_err(|error| self.error("swap", name, error))
    }

    /// Replaces a JSON value by what `change` makes of it, as often as it takes until nobody else was faster. Returns what
    /// it is now. `change` is given none when there is no value.
    ///
    /// # Errors
    /// What the host answered; [`Invalid`](ResourceErrorKind::Invalid) when the value is not JSON of that shape.
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        change: impl Fn(Option<T>) -> T,
    ) -> Result<T, ResourceError> {
        let wrong = |error: serde_json::Error| self.error("update", name, errors::Error::Invalid(error.to_string()));
        for _ in 0..TRIES {
            let entry = self.entry(name)?;
            let before = entry.as_ref().map(|entry| serde_json::from_slice(&entry.value)).transpose().map_err(wrong)?;
            let after = change(before);
            let bytes = serde_json::to_vec(&after).map_err(wrong)?;
            let expected = entry.as_ref().map(|entry| entry.revision.as_str());
            match self.compare_and_swap(name, expected, &bytes) {
                Ok(_) => return Ok(after),
                Err(ResourceError { kind: ResourceErrorKind::Conflict, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.error("update", name, errors::Error::Conflict))
    }

    /// Removes a value; false when there was none.
    ///
    /// # Errors
    /// What the host answered.
    pub fn remove(&self, name: &str) -> Result<bool, ResourceError> {
        self.handle.remove(name).map_err(|error| self.error("remove", name, error))
    }

    /// The names that start with `prefix`, in order, page by page as the iterator is advanced.
    pub fn names(&self, prefix: &str) -> impl Iterator<Item = Result<String, ResourceError>> {
        pages(move |token| {
            let page = self.handle.list_page(prefix, token, PAGE);
            page.map(|page| (page.names, page.next)).map_err(|error| self.error("list", prefix, error))
        })
    }
}

argument!(KeyValue, "opyard:resources/key-value@0.1.0");
