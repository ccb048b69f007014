//! What a clean-up or an audit has to remember, in a temporary database: on the disk where it is much.

use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::sqlite::{lock, sqlite_error};

const TABLES: &str = "
PRAGMA journal_mode = off;
PRAGMA synchronous = off;
PRAGMA cache_size = -8192;
CREATE TABLE marks (tenant TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (tenant, digest)) WITHOUT ROWID;
CREATE TABLE plans (tenant TEXT NOT NULL, digest BLOB NOT NULL, read INTEGER NOT NULL, PRIMARY KEY (tenant, digest))
    WITHOUT ROWID;
CREATE TABLE doomed_runs (run_no INTEGER PRIMARY KEY);
CREATE TABLE used (object_no INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
CREATE TABLE sparse (tenant TEXT NOT NULL, object_no INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (tenant, object_no)) WITHOUT ROWID;
CREATE TABLE parts (object_no INTEGER NOT NULL, start INTEGER NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (object_no, start, digest)) WITHOUT ROWID;
";

/// A temporary database, gone when the last handle is. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scratch(Arc<Mutex<Connection>>);

impl Scratch {
    pub(crate) fn new() -> Result<Self, StoreError> {
        // The empty name: a file that nobody else sees, made once the cache is full, and removed when it is closed.
        let connection = Connection::open("").map_err(|error| wrong(&error))?;
        connection.set_prepared_statement_cache_capacity(32);
        connection.execute_batch(TABLES).map_err(|error| wrong(&error))?;
        // One transaction for everything: nothing here has to last.
        connection.execute_batch("BEGIN").map_err(|error| wrong(&error))?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// The connection. Locked for one page at a time, by whoever reads that page.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        lock(&self.0)
    }
}

pub(crate) fn wrong(error: &rusqlite::Error) -> StoreError {
    sqlite_error("using the temporary database", error)
}

/// Remembers that an artifact is referenced.
pub(crate) fn mark(scratch: &Connection, tenant: &str, digest: &[u8; 32]) -> Result<(), StoreError> {
    scratch
        .prepare_cached("INSERT OR IGNORE INTO marks (tenant, digest) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.execute(params![tenant, digest]))
        .map(drop)
        .map_err(|error| wrong(&error))
}

/// The artifact is referenced.
pub(crate) fn is_marked(scratch: &Connection, tenant: &str, digest: &[u8; 32]) -> Result<bool, StoreError> {
    scratch
        .prepare_cached("SELECT 1 FROM marks WHERE tenant = ?1 AND digest = ?2")
        .and_then(|mut statement| statement.exists(params![tenant, digest]))
        .map_err(|error| wrong(&error))
}
