//! Small values by name, in the yard's database: what a resource of kind `key_value` with the driver `yard` keeps.

use std::sync::Arc;

use bytes::Bytes;
use opyard_model::id::{Name, TenantId};

use crate::error::StoreError;
use crate::sqlite::{Shared, buckets};

/// Most names of one bucket.
pub const MAX_NAMES: u64 = 100_000;
/// Most bytes of one bucket, names and values: 256 MiB.
pub const MAX_BUCKET: u64 = 256 << 20;

/// A value as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The value.
    pub value: Bytes,
    /// Differs from that of every write of the bucket before, whatever was removed meanwhile.
    pub revision: u64,
}

/// What a write needs to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: what is there is replaced.
    Anything,
    /// The name has no value.
    Absent,
    /// The name has the value of this revision.
    Revision(u64),
}

/// One bucket of one tenant. Cheap to clone; it is there once something was put.
///
/// # Contract
/// A write is durable when it returns. What a write expects is checked in the transaction that writes: of several
/// processes that expect the same, one succeeds. Clean-up leaves buckets alone, and a backup holds them.
///
/// # Limits
/// [`MAX_NAMES`] and [`MAX_BUCKET`]; how large a name or value may be is the caller's to say.
#[derive(Clone)]
pub struct KeyValues {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
    pub(crate) bucket: Name,
}

impl std::fmt::Debug for KeyValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyValues({}, {})", self.tenant, self.bucket)
    }
}

impl KeyValues {
    /// The value of a name; none when it has none.
    ///
    /// # Errors
    /// `Unavailable`, `Unreadable`.
    pub async fn get(&self, name: &str) -> Result<Option<KeyValue>, StoreError> {
        let (tenant, bucket, name) = (self.tenant.clone(), self.bucket.clone(), name.to_owned());
        self.shared.readers.run(move |connection| buckets::get(connection, (&tenant, &bucket), &name)).await
    }

    /// Sets a value; returns its revision, or none when it did not hold what was expected: nothing was written then.
    ///
    /// # Errors
    /// `TooLarge` when the bucket would hold too much: nothing was written. `Unavailable`, `Locked`, `Full` when the commit
    /// failed: nothing was written.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the value is written or not.
    pub async fn put(&self, name: &str, expected: Expected, value: Bytes) -> Result<Option<u64>, StoreError> {
        let (tenant, bucket, name) = (self.tenant.clone(), self.bucket.clone(), name.to_owned());
        let bytes = name.len() + value.len();
        let put = move |transaction: &rusqlite::Transaction<'_>, _: &Shared| {
            buckets::put(transaction, (&tenant, &bucket), (&name, expected), &value)
        };
        self.shared.write_of(bytes, put).await
    }

    /// Removes the value of a name; false when it had none.
    ///
    /// # Errors
    /// `Unavailable`, `Locked`, `Full` when the commit failed: nothing was removed.
    pub async fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let (tenant, bucket, name) = (self.tenant.clone(), self.bucket.clone(), name.to_owned());
        self.shared.write(move |transaction, _| buckets::remove(transaction, (&tenant, &bucket), &name)).await
    }

    /// The first `limit` names that start with `prefix` and come after `after`, in the order of their bytes.
    ///
    /// # Errors
    /// `Unavailable`, `Unreadable`.
    pub async fn names(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        let (tenant, bucket) = (self.tenant.clone(), self.bucket.clone());
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.shared
            .readers
            .run(move |connection| buckets::names(connection, (&tenant, &bucket), (&prefix, after.as_deref()), limit))
            .await
    }
}
