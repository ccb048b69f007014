//! Removes the rows of artifacts that nothing references, and the objects that hold none any more.

use std::sync::Arc;

use opyard_model::digest::Digest;
use opyard_model::id::TenantId;
use rusqlite::{Connection, params};

use super::mark::Marker;
use super::scratch::{Scratch, is_marked, wrong};
use super::{Gc, strange};
use crate::error::StoreError;
use crate::sqlite::{lock, sqlite_error};

/// Rows read at a time; at most so many are removed in one transaction.
const PAGE: i64 = 1_000;

/// A row that nothing references.
#[derive(Clone)]
struct Dead {
    tenant: String,
    digest: [u8; 32],
    object_no: i64,
    size: u64,
}

/// A page of artifact rows.
struct Page {
    dead: Vec<Dead>,
    kept: super::Amount,
    waiting: super::Amount,
    last: Option<(String, Vec<u8>)>,
}

/// What came of removing rows.
enum Removal {
    /// Those that were used meanwhile are left.
    Done(Vec<Dead>),
    /// Runs have begun that were not looked at.
    LookAgain,
}

impl Gc<'_> {
    /// Removes rows of artifacts that are not marked and were not used lately. Counts what is left, by object.
    pub(super) async fn sweep(&mut self, marker: &mut Marker) -> Result<(), StoreError> {
        let mut from = Some((String::new(), Vec::new()));
        while let Some(after) = from {
            let (scratch, before) = (self.scratch.clone(), self.bounds.before);
            let page = self.shared.readers.run(move |connection| look(connection, &scratch, &after, before));
            let Page { dead, kept, waiting, last } = page.await?;
            from = last;
            self.report.kept.count += kept.count;
            self.report.kept.bytes += kept.bytes;
            self.report.waiting.count += waiting.count;
            self.report.waiting.bytes += waiting.bytes;
            if self.retention.dry_run {
                dead.iter().for_each(|row| self.report.artifacts.add(row.size));
                self.hold.keep().await?;
            } else if !dead.is_empty() {
                self.remove(dead, marker).await?;
            } else {
                self.hold.keep().await?;
            }
        }
        Ok(())
    }

    async fn remove(&mut self, mut dead: Vec<Dead>, marker: &mut Marker) -> Result<(), StoreError> {
        loop {
            let (rows, seen, before) = (dead.clone(), marker.seen(), self.bounds.before);
            let removal = self.hold.write(move |transaction, _| {
                let bad = |error: rusqlite::Error| sqlite_error("removing artifacts", &error);
                // A run's plan names artifacts that the run's first event does not.
                let newest: Option<i64> =
                    transaction.query_row("SELECT max(run_no) FROM runs", [], |row| row.get(0)).map_err(bad)?;
                if newest.is_some_and(|newest| newest > seen) {
                    return Ok(Removal::LookAgain);
                }
                let mut delete = transaction
                    .prepare_cached("DELETE FROM artifacts WHERE tenant = ?1 AND digest = ?2 AND used_at < ?3")
                    .map_err(bad)?;
                let mut left = Vec::new();
                for row in rows {
                    if delete.execute(params![row.tenant, row.digest, before]).map_err(bad)? == 0 {
                        left.push(row);
                    }
                }
                Ok(Removal::Done(left))
            });
            match removal.await? {
                Removal::Done(left) => {
                    self.settle(&dead, &left)?;
                    return Ok(());
                }
                Removal::LookAgain => {
                    marker.mark_runs(Some(self.hold)).await?;
                    let scratch = self.scratch.lock();
                    let mut still = Vec::new();
                    for row in dead {
                        if is_marked(&scratch, &row.tenant, &row.digest)? {
                            count_used(&scratch, row.object_no, row.size)?;
                            self.report.kept.add(row.size);
                        } else {
                            still.push(row);
                        }
                    }
                    drop(scratch);
                    dead = still;
                }
            }
        }
    }

    /// Counts what was removed; `left` was not.
    fn settle(&mut self, dead: &[Dead], left: &[Dead]) -> Result<(), StoreError> {
        let scratch = self.scratch.lock();
        for row in left {
            count_used(&scratch, row.object_no, row.size)?;
            self.report.kept.add(row.size);
        }
        drop(scratch);
        let mut left = left.iter().map(|row| (&row.tenant, row.digest)).peekable();
        let mut cache = lock(&self.shared.cache);
        for row in dead {
            // Both are in the order of the rows.
            if left.next_if_eq(&(&row.tenant, row.digest)).is_some() {
                continue;
            }
            self.report.artifacts.add(row.size);
            if let Ok(tenant) = row.tenant.parse::<TenantId>() {
                cache.forget(&tenant, Digest::from_bytes(row.digest));
            }
        }
        Ok(())
    }

    /// Removes objects of which no artifact is left, rows first. Writes down which packs are to be rewritten.
    pub(super) async fn remove_empty_objects(&mut self) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let (scratch, before) = (self.scratch.clone(), self.bounds.before);
            let page = self.shared.readers.run(move |connection| look_at_objects(connection, &scratch, after, before));
            let (empty, last) = page.await?;
            let Some(last) = last else { return Ok(()) };
            after = last;
            empty.iter().for_each(|object| self.report.objects.add(object.size));
            if empty.is_empty() || self.retention.dry_run {
                self.hold.keep().await?;
                continue;
            }
            let rows = Arc::new(empty);
            let removed = Arc::clone(&rows);
            self.hold
                .write(move |transaction, _| {
                    let bad = |error: rusqlite::Error| sqlite_error("removing objects", &error);
                    let mut delete =
                        transaction.prepare_cached("DELETE FROM objects WHERE object_no = ?1").map_err(bad)?;
                    for object in rows.iter() {
                        if delete.execute([object.number]).map_err(bad)? != 1 {
                            return Err(strange("an object's row went by itself"));
                        }
                    }
                    Ok(())
                })
                .await?;
            self.delete(removed.iter().map(|object| object.name.clone()).collect()).await?;
        }
    }
}

/// An object that holds nothing.
struct Empty {
    number: i64,
    name: String,
    size: u64,
}

fn count_used(scratch: &Connection, object_no: i64, size: u64) -> Result<(), StoreError> {
    scratch
        .prepare_cached(
            "INSERT INTO used (object_no, bytes) VALUES (?1, ?2) \
             ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
        )
        .and_then(|mut statement| statement.execute(params![object_no, crate::sqlite::rows::signed(size)]))
        .map(drop)
        .map_err(|error| wrong(&error))
}

/// Looks at a page of artifact rows.
fn look(
    connection: &Connection,
    scratch: &Scratch,
    after: &(String, Vec<u8>),
    before: i64,
) -> Result<Page, StoreError> {
    let bad = |error: rusqlite::Error| sqlite_error("looking at artifacts", &error);
    let scratch = scratch.lock();
    let mut page =
        Page { dead: Vec::new(), kept: super::Amount::default(), waiting: super::Amount::default(), last: None };
    let mut statement = connection
        .prepare_cached(
            "SELECT tenant, digest, size, object_no, used_at FROM artifacts \
             WHERE (tenant, digest) > (?1, ?2) ORDER BY tenant, digest LIMIT ?3",
        )
        .map_err(bad)?;
    let mut rows = statement.query(params![after.0, after.1, PAGE]).map_err(bad)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(bad)? {
        let (tenant, digest): (String, [u8; 32]) = (row.get(0).map_err(bad)?, row.get(1).map_err(bad)?);
        let size = row.get::<_, i64>(2).map_err(bad)?.unsigned_abs();
        let (object_no, used_at): (i64, i64) = (row.get(3).map_err(bad)?, row.get(4).map_err(bad)?);
        count += 1;
        page.last = Some((tenant.clone(), digest.to_vec()));
        let marked = is_marked(&scratch, &tenant, &digest)?;
        if marked || used_at >= before {
            count_used(&scratch, object_no, size)?;
            page.kept.add(size);
            if !marked {
                page.waiting.add(size);
            }
        } else {
            page.dead.push(Dead { tenant, digest, object_no, size });
        }
    }
    page.last = page.last.filter(|_| count == PAGE);
    Ok(page)
}

/// Looks at a page of objects: which hold nothing, and the last number. Those whose row is young are left alone: artifacts
/// of theirs may not have been counted.
fn look_at_objects(
    connection: &Connection,
    scratch: &Scratch,
    after: i64,
    before: i64,
) -> Result<(Vec<Empty>, Option<i64>), StoreError> {
    let bad = |error: rusqlite::Error| sqlite_error("looking at objects", &error);
    let scratch = scratch.lock();
    let mut used =
        scratch.prepare_cached("SELECT bytes FROM used WHERE object_no = ?1").map_err(|error| wrong(&error))?;
    let mut statement = connection
        .prepare_cached(
            "SELECT object_no, tenant, name, size, at FROM objects WHERE object_no > ?1 ORDER BY object_no LIMIT ?2",
        )
        .map_err(bad)?;
    let mut rows = statement.query([after, PAGE]).map_err(bad)?;
    let (mut empty, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next().map_err(bad)? {
        let number: i64 = row.get(0).map_err(bad)?;
        last = Some(number);
        let at: i64 = row.get(4).map_err(bad)?;
        if at >= before {
            continue;
        }
        let (tenant, name): (String, String) = (row.get(1).map_err(bad)?, row.get(2).map_err(bad)?);
        let size = row.get::<_, i64>(3).map_err(bad)?.unsigned_abs();
        let mut found = used.query([number]).map_err(|error| wrong(&error))?;
        let live = match found.next().map_err(|error| wrong(&error))? {
            Some(row) => Some(row.get::<_, i64>(0).map_err(|error| wrong(&error))?.unsigned_abs()),
            None => None,
        };
        match live {
            None => empty.push(Empty { number, name, size }),
            Some(live) if name.contains("/packs/") && live.saturating_mul(2) < size => {
                scratch
                    .prepare_cached("INSERT INTO sparse (tenant, object_no, name, size) VALUES (?1, ?2, ?3, ?4)")
                    .and_then(|mut statement| {
                        statement.execute(params![tenant, number, name, crate::sqlite::rows::signed(size)])
                    })
                    .map_err(|error| wrong(&error))?;
            }
            Some(_) => {}
        }
    }
    Ok((empty, last))
}
