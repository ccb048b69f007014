//! Values in the yard's database.

use bytes::Bytes;
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::key_value::{self, KeyValues};

use super::{Entry, Expected};
use crate::error::ResourceError;

/// A bucket of one tenant.
#[derive(Debug, Clone)]
pub(super) struct YardValues(KeyValues);

/// What failed in the database, without where that is.
fn wrong(error: StoreError) -> ResourceError {
    match error.kind {
        StoreErrorKind::TooLarge(reason) => ResourceError::Limit(reason),
        StoreErrorKind::Full(_) => ResourceError::Unavailable("no space left".into()),
        _ => ResourceError::Unavailable("the yard's database does not answer".into()),
    }
}

impl YardValues {
    pub(super) fn new(values: KeyValues) -> Self {
        Self(values)
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Entry>, ResourceError> {
        let found = self.0.get(name).await.map_err(wrong)?;
        Ok(found.map(|found| Entry { value: found.value, revision: found.revision.to_string() }))
    }

    pub(super) async fn put(&self, name: &str, expected: Expected<'_>, value: Bytes) -> Result<String, ResourceError> {
        let expected = match expected {
            Expected::Anything => key_value::Expected::Anything,
            Expected::Absent => key_value::Expected::Absent,
            // Whatever is no revision of a bucket is none that a value has.
            Expected::Revision(text) => {
                let revision = text.parse::<u64>().ok().filter(|revision| revision.to_string() == text);
                key_value::Expected::Revision(revision.ok_or(ResourceError::Conflict)?)
            }
        };
        let written = self.0.put(name, expected, value).await.map_err(wrong)?;
        written.map(|revision| revision.to_string()).ok_or(ResourceError::Conflict)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<bool, ResourceError> {
        self.0.remove(name).await.map_err(wrong)
    }

    pub(super) async fn names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ResourceError> {
        self.0.names(prefix, after, limit).await.map_err(wrong)
    }
}
