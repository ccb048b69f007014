//! The tables, and opening the database.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{buckets, damage, pools, sqlite_error, views};
use crate::error::{StoreError, StoreErrorKind};
use crate::object::io_kind;

/// How long the log of the database grows before its pages go to the database: 32 MiB. Each page goes there once, however
/// often it was written; with SQLite's own 4 MiB a long run copied the same ones again and again.
const CHECKPOINT_PAGES: u32 = 8_192;

/// The format of the database, in `user_version`. 0 = empty.
pub(crate) const FORMAT: u32 = 3;

/// As much as SQLite needs beside the database to open it.
const PROBE: usize = 32 << 10;

/// `OPYD`: tells the database from anyone else's.
const APPLICATION_ID: i32 = 0x4f50_5944;

/// An event's row id is its run's number and, in the low 32 bits, its sequence number: one clustered key, in the order of
/// reading. `chain` is the BLAKE3 of the event and of the `chain` before it. `used_at` is when an artifact was last put, or
/// first named since; what the one row of `upkeep` means is said in `upkeep.rs`. Keys of `memo` are hashes, its entries half a
/// kilobyte: apart from their keys they are written one after the other, and what is looked up stays small.
const TABLES: &str = "
CREATE TABLE runs (
    run_no INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    run TEXT NOT NULL,
    job TEXT NOT NULL,
    environment TEXT,
    status TEXT NOT NULL,
    enqueued_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    planned INTEGER NOT NULL,
    success INTEGER NOT NULL,
    memoized INTEGER NOT NULL,
    reused INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    failure INTEGER NOT NULL,
    canceled INTEGER NOT NULL,
    failed_with TEXT,
    tags TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    chain BLOB NOT NULL,
    owner TEXT,
    fence INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    parent_run TEXT,
    root_run TEXT,
    UNIQUE (tenant, run)
) STRICT;
CREATE INDEX runs_unfinished ON runs (tenant, run) WHERE ended_at IS NULL;
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    step TEXT,
    mapping TEXT,
    generation INTEGER,
    attempt INTEGER,
    code TEXT,
    payload TEXT NOT NULL,
    chain BLOB NOT NULL
) STRICT;
CREATE INDEX events_said ON events (kind)
    WHERE kind IN ('metric', 'asset_materialization', 'asset_observation');
CREATE TABLE objects (
    object_no INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE TABLE artifacts (
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL,
    size INTEGER NOT NULL,
    object_no INTEGER NOT NULL,
    start INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE upkeep (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    holder TEXT,
    held_until INTEGER NOT NULL,
    begun_at INTEGER NOT NULL,
    doomed_before INTEGER NOT NULL
) STRICT;
INSERT INTO upkeep VALUES (1, NULL, 0, 0, 0);
CREATE TABLE memo (
    memo_no INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    key BLOB NOT NULL,
    at INTEGER NOT NULL,
    op TEXT NOT NULL,
    wasmtime TEXT NOT NULL,
    entry TEXT NOT NULL,
    UNIQUE (tenant, key)
) STRICT;
CREATE TABLE memo_claims (
    tenant TEXT NOT NULL,
    key BLOB NOT NULL,
    holder TEXT NOT NULL,
    process TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE requests (
    request_no INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    run TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX requests_of_run ON requests (tenant, run);
";

/// What makes a database of format n one of format n + 1, from format 1 on. Programs that know only the older format and
/// have the database open meanwhile fail to store artifacts from then on.
const UPGRADES: [&str; FORMAT as usize - 1] = [
    "
ALTER TABLE artifacts RENAME TO artifacts_before;
CREATE TABLE artifacts (
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL,
    size INTEGER NOT NULL,
    object_no INTEGER NOT NULL,
    start INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;
INSERT INTO artifacts SELECT tenant, digest, size, object_no, start, unixepoch() * 1000000 FROM artifacts_before;
DROP TABLE artifacts_before;
CREATE TABLE upkeep (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    holder TEXT,
    held_until INTEGER NOT NULL,
    begun_at INTEGER NOT NULL,
    doomed_before INTEGER NOT NULL
) STRICT;
INSERT INTO upkeep VALUES (1, NULL, 0, 0, 0);
ALTER TABLE runs ADD COLUMN reused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN parent_run TEXT;
ALTER TABLE runs ADD COLUMN root_run TEXT;
",
    "
ALTER TABLE memo RENAME TO memo_before;
CREATE TABLE memo (
    memo_no INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    key BLOB NOT NULL,
    at INTEGER NOT NULL,
    op TEXT NOT NULL,
    wasmtime TEXT NOT NULL,
    entry TEXT NOT NULL,
    UNIQUE (tenant, key)
) STRICT;
INSERT INTO memo (tenant, key, at, op, wasmtime, entry)
    SELECT tenant, key, at, op, wasmtime, entry FROM memo_before ORDER BY at;
DROP TABLE memo_before;
",
];

/// Opens the connection that writes, and makes the tables if the database is new, or brings them to the newest format:
/// all of them or none.
///
/// # Errors
/// `Version` when a newer program made it, `Locked`, `Full`, `ReadOnly`, `Unreadable`, `Unavailable`.
pub(crate) fn open_writer(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    prepare_writer(path, busy).map_err(|error| explained(path, error))
}

/// What SQLite does not tell apart: nothing can be written where the database is, or there is no space.
fn explained(path: &Path, error: StoreError) -> StoreError {
    if !matches!(error.kind, StoreErrorKind::Unavailable(_)) {
        return error;
    }
    let probe = path.with_extension("probe");
    let tried = std::fs::write(&probe, [0; PROBE]);
    drop(std::fs::remove_file(&probe));
    match tried.map_err(|tried| io_kind(&tried)) {
        Err(kind @ (StoreErrorKind::Full(_) | StoreErrorKind::ReadOnly(_))) => StoreError::new(error.context, kind),
        Ok(()) | Err(_) => error,
    }
}

fn prepare_writer(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    let context = format!("opening the database {}", path.display());
    let wrong = |error: rusqlite::Error| sqlite_error(&context, &error);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        crate::folder::make(folder)
            .map_err(|error| StoreError::new(&context, StoreErrorKind::Unavailable(error.to_string())))?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
    connection.busy_timeout(busy).map_err(wrong)?;
    connection.set_prepared_statement_cache_capacity(64);
    check_version(&connection, &context)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(wrong)?;
    connection.pragma_update(None, "synchronous", "full").map_err(wrong)?;
    connection.pragma_update(None, "cache_size", -6_144).map_err(wrong)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(wrong)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrong)?;
    // Again, now that nobody else can be making it.
    let found = check_version(&transaction, &context)?;
    match found {
        0 => {
            transaction.execute_batch(TABLES).map_err(wrong)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrong)?;
        }
        _ => {
            for upgrade in UPGRADES.iter().skip(found as usize - 1) {
                transaction.execute_batch(upgrade).map_err(wrong)?;
            }
        }
    }
    transaction.execute_batch(damage::TABLE).map_err(wrong)?;
    transaction.execute_batch(buckets::TABLES).map_err(wrong)?;
    transaction.execute_batch(pools::TABLES).map_err(wrong)?;
    transaction.execute_batch(views::INDICES).map_err(wrong)?;
    if found != FORMAT {
        transaction.pragma_update(None, "user_version", FORMAT).map_err(wrong)?;
    }
    transaction.commit().map_err(wrong)?;
    Ok(connection)
}

fn check_version(connection: &Connection, context: &str) -> Result<u32, StoreError> {
    let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrong)?;
    if found > FORMAT {
        return Err(StoreError::new(context, StoreErrorKind::Version { found, known: FORMAT }));
    }
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(wrong)?;
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(wrong)?;
    let ours = if found == 0 { tables == 0 } else { application == APPLICATION_ID };
    if !ours {
        return Err(StoreError::new(context, StoreErrorKind::Unreadable("a database of some other program".into())));
    }
    Ok(found)
}

/// Opens a connection that can only read, and make temporary views.
///
/// # Errors
/// `Locked`, `Unreadable`, `Unavailable`.
pub(crate) fn open_viewer(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    let context = format!("opening the database {}", path.display());
    let wrong = |error: rusqlite::Error| sqlite_error(&context, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
    connection.busy_timeout(busy).map_err(wrong)?;
    connection.pragma_update(None, "cache_size", -1_024).map_err(wrong)?;
    Ok(connection)
}

/// Opens a connection that can only read.
///
/// # Errors
/// `Locked`, `Unreadable`, `Unavailable`.
pub(crate) fn open_reader(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    let connection = open_viewer(path, busy)?;
    let context = format!("opening the database {}", path.display());
    connection.pragma_update(None, "query_only", true).map_err(|error| sqlite_error(&context, &error))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Makes the tables in a database of a test.
#[cfg(test)]
pub(crate) fn create_for_test(connection: &Connection) {
    connection.execute_batch(TABLES).expect("the tables are well-formed");
    connection.execute_batch(damage::TABLE).expect("the table is well-formed");
    connection.execute_batch(buckets::TABLES).expect("the tables are well-formed");
    connection.execute_batch(pools::TABLES).expect("the tables are well-formed");
    connection.execute_batch(views::INDICES).expect("the indices are well-formed");
}
