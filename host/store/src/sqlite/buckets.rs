//! Small values by name.
//!
//! A bucket's row counts what the bucket holds, so that its bounds cost no look at all of it, and the writes to it. The row
//! stays when the bucket is empty: a revision never comes again.

use bytes::Bytes;
use opyard_model::id::{Name, TenantId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::rows::signed;
use super::sqlite_error;
use crate::error::{StoreError, StoreErrorKind};
use crate::key_value::{Expected, KeyValue, MAX_BUCKET, MAX_NAMES};

/// Added to databases that were made before there were buckets.
pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS buckets (
    bucket_no INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    bucket TEXT NOT NULL,
    names INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    UNIQUE (tenant, bucket)
) STRICT;
CREATE TABLE IF NOT EXISTS key_values (
    value_no INTEGER PRIMARY KEY,
    bucket_no INTEGER NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (bucket_no, name)
) STRICT;
";

/// A bucket of a tenant.
type Whose<'a> = (&'a TenantId, &'a Name);

/// What a bucket's row says.
struct Bucket {
    number: i64,
    names: u64,
    bytes: u64,
    revision: u64,
}

impl Bucket {
    fn find(connection: &Connection, (tenant, bucket): Whose<'_>) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached("SELECT bucket_no, names, bytes, revision FROM buckets WHERE tenant = ?1 AND bucket = ?2")?
            .query_row(params![tenant.as_str(), bucket.as_str()], |row| {
                Ok(Self {
                    number: row.get(0)?,
                    names: row.get::<_, i64>(1)?.unsigned_abs(),
                    bytes: row.get::<_, i64>(2)?.unsigned_abs(),
                    revision: row.get::<_, i64>(3)?.unsigned_abs(),
                })
            })
            .optional()
    }

    fn find_or_make(transaction: &Transaction<'_>, whose: Whose<'_>) -> rusqlite::Result<Self> {
        if let Some(bucket) = Self::find(transaction, whose)? {
            return Ok(bucket);
        }
        transaction
            .prepare_cached("INSERT INTO buckets (tenant, bucket, names, bytes, revision) VALUES (?1, ?2, 0, 0, 0)")?
            .execute(params![whose.0.as_str(), whose.1.as_str()])?;
        Ok(Self { number: transaction.last_insert_rowid(), names: 0, bytes: 0, revision: 0 })
    }

    fn update(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction
            .prepare_cached("UPDATE buckets SET names = ?2, bytes = ?3, revision = ?4 WHERE bucket_no = ?1")?
            .execute(params![self.number, signed(self.names), signed(self.bytes), signed(self.revision)])
            .map(drop)
    }

    /// The revision of a name and the bytes of its value.
    fn held(&self, connection: &Connection, name: &str) -> rusqlite::Result<Option<(u64, u64)>> {
        connection
            .prepare_cached("SELECT revision, length(value) FROM key_values WHERE bucket_no = ?1 AND name = ?2")?
            .query_row(params![self.number, name], |row| {
                Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()))
            })
            .optional()
    }
}

/// The value of a name.
pub(crate) fn get(connection: &Connection, whose: Whose<'_>, name: &str) -> Result<Option<KeyValue>, StoreError> {
    let (tenant, bucket) = whose;
    connection
        .prepare_cached(
            "SELECT key_values.value, key_values.revision FROM key_values JOIN buckets USING (bucket_no) \
             WHERE tenant = ?1 AND bucket = ?2 AND name = ?3",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![tenant.as_str(), bucket.as_str(), name], |row| {
                    let value: Vec<u8> = row.get(0)?;
                    Ok(KeyValue { value: Bytes::from(value), revision: row.get::<_, i64>(1)?.unsigned_abs() })
                })
                .optional()
        })
        .map_err(|error| sqlite_error("reading a value", &error))
}

/// Sets a value; none when what was expected does not hold.
pub(crate) fn put(
    transaction: &Transaction<'_>,
    whose: Whose<'_>,
    (name, expected): (&str, Expected),
    value: &Bytes,
) -> Result<Option<u64>, StoreError> {
    let context = "writing a value";
    let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
    let mut bucket = Bucket::find_or_make(transaction, whose).map_err(wrong)?;
    let held = bucket.held(transaction, name).map_err(wrong)?;
    let holds = match expected {
        Expected::Anything => true,
        Expected::Absent => held.is_none(),
        Expected::Revision(revision) => held.is_some_and(|(found, _)| found == revision),
    };
    if !holds {
        return Ok(None);
    }
    match held {
        Some((_, bytes)) => bucket.bytes = bucket.bytes.saturating_sub(bytes),
        None => {
            bucket.names += 1;
            bucket.bytes += name.len() as u64;
        }
    }
    bucket.bytes += value.len() as u64;
    let too_large = |reason: String| StoreError::new(context, StoreErrorKind::TooLarge(reason));
    if bucket.names > MAX_NAMES {
        return Err(too_large(format!("a bucket holds at most {MAX_NAMES} names")));
    }
    if bucket.bytes > MAX_BUCKET {
        return Err(too_large(format!("a bucket holds at most {MAX_BUCKET} bytes")));
    }
    bucket.revision += 1;
    transaction
        .prepare_cached(
            "INSERT INTO key_values (bucket_no, name, revision, value) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET revision = excluded.revision, value = excluded.value",
        )
        .and_then(|mut statement| {
            statement.execute(params![bucket.number, name, signed(bucket.revision), value.as_ref()])
        })
        .map_err(wrong)?;
    bucket.update(transaction).map_err(wrong)?;
    Ok(Some(bucket.revision))
}

/// Removes a value; false when there was none.
pub(crate) fn remove(transaction: &Transaction<'_>, whose: Whose<'_>, name: &str) -> Result<bool, StoreError> {
    let wrong = |error: rusqlite::Error| sqlite_error("removing a value", &error);
    let Some(mut bucket) = Bucket::find(transaction, whose).map_err(wrong)? else { return Ok(false) };
    let Some((_, bytes)) = bucket.held(transaction, name).map_err(wrong)? else { return Ok(false) };
    transaction
        .prepare_cached("DELETE FROM key_values WHERE bucket_no = ?1 AND name = ?2")
        .and_then(|mut statement| statement.execute(params![bucket.number, name]))
        .map_err(wrong)?;
    bucket.names = bucket.names.saturating_sub(1);
    bucket.bytes = bucket.bytes.saturating_sub(bytes + name.len() as u64);
    bucket.update(transaction).map_err(wrong)?;
    Ok(true)
}

/// Names in the order of their bytes, in which those with one prefix stand together.
pub(crate) fn names(
    connection: &Connection,
    whose: Whose<'_>,
    (prefix, after): (&str, Option<&str>),
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let wrong = |error: rusqlite::Error| sqlite_error("listing names", &error);
    let Some(bucket) = Bucket::find(connection, whose).map_err(wrong)? else { return Ok(Vec::new()) };
    let mut statement = connection
        .prepare_cached(
            "SELECT name FROM key_values WHERE bucket_no = ?1 AND name >= ?2 AND (?3 IS NULL OR name > ?3) \
             ORDER BY name LIMIT ?4",
        )
        .map_err(wrong)?;
    let from = after.map_or(prefix, |after| after.max(prefix));
    let mut rows = statement.query(params![bucket.number, from, after, signed(limit as u64)]).map_err(wrong)?;
    let mut names = Vec::new();
    while let Some(row) = rows.next().map_err(wrong)? {
        let name: String = row.get(0).map_err(wrong)?;
        if !name.starts_with(prefix) {
            break;
        }
        names.push(name);
    }
    Ok(names)
}
