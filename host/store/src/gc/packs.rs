//! Writes the living half of packs into new ones.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt, PutPayload};
use opyard_model::digest::Digest;
use opyard_model::id::TenantId;
use rusqlite::params;

use super::Gc;
use super::scratch::{Scratch, wrong};
use crate::error::{StoreError, StoreErrorKind};
use crate::object::bounded;
use crate::sqlite::rows::signed;
use crate::sqlite::writer::insert_object;
use crate::sqlite::{sqlite_error, unreadable};

/// A new pack is written once it has so many bytes. It may have as many more as half of one old pack has.
const FULL: u64 = 8 << 20;
/// Or once it has so many parts: their rows change in one transaction.
const PARTS: usize = 4_000;
/// Artifact rows read at a time.
const PAGE: i64 = 2_000;
/// Old packs whose names are held at a time.
const PACKS: i64 = 200;

/// A pack of which less than half is live.
struct Sparse {
    object_no: i64,
    tenant: String,
    name: String,
    size: u64,
}

/// A part of a pack that is live.
struct Part {
    old: i64,
    digest: [u8; 32],
    bytes: Bytes,
}

/// A new pack.
#[derive(Default)]
struct New {
    parts: Vec<Part>,
    size: u64,
    replaces: Vec<Sparse>,
}

impl Gc<'_> {
    /// Replaces the packs that were written down by new ones.
    pub(super) async fn rewrite_packs(&mut self) -> Result<(), StoreError> {
        if self.sparse((String::new(), 0))?.is_empty() {
            return Ok(());
        }
        self.find_parts().await?;
        let mut new = New::default();
        let mut after = (String::new(), 0);
        loop {
            let page = self.sparse(after.clone())?;
            let Some(last) = page.last() else { break };
            after = (last.tenant.clone(), last.object_no);
            for pack in page {
                if new.replaces.first().is_some_and(|first| first.tenant != pack.tenant) {
                    self.replace(std::mem::take(&mut new)).await?;
                }
                match self.parts(&pack).await {
                    Ok(parts) => {
                        new.size += parts.iter().map(|part| part.bytes.len() as u64).sum::<u64>();
                        new.parts.extend(parts);
                        new.replaces.push(pack);
                    }
                    Err(error) if matches!(error.kind, StoreErrorKind::Corrupt(_) | StoreErrorKind::Missing(_)) => {
                        self.report.damaged += 1;
                    }
                    Err(error) => return Err(error),
                }
                if new.size >= FULL || new.parts.len() >= PARTS {
                    self.replace(std::mem::take(&mut new)).await?;
                }
                self.hold.keep().await?;
            }
        }
        self.replace(new).await
    }

    fn sparse(&self, after: (String, i64)) -> Result<Vec<Sparse>, StoreError> {
        let scratch = self.scratch.lock();
        let mut statement = scratch
            .prepare_cached(
                "SELECT object_no, tenant, name, size FROM sparse WHERE (tenant, object_no) > (?1, ?2) \
                 ORDER BY tenant, object_no LIMIT ?3",
            )
            .map_err(|error| wrong(&error))?;
        let found = statement
            .query_map(params![after.0, after.1, PACKS], |row| {
                let size = row.get::<_, i64>(3)?.unsigned_abs();
                Ok(Sparse { object_no: row.get(0)?, tenant: row.get(1)?, name: row.get(2)?, size })
            })
            .map_err(|error| wrong(&error))?;
        found.collect::<Result<_, _>>().map_err(|error| wrong(&error))
    }

    /// Writes down where in those packs the live artifacts are.
    async fn find_parts(&self) -> Result<(), StoreError> {
        let mut from = Some((String::new(), Vec::new()));
        while let Some(after) = from {
            let scratch = self.scratch.clone();
            let (before, dry_run) = (self.bounds.before, self.retention.dry_run);
            let page = self.shared.readers.run(move |connection| {
                let bad = |error: rusqlite::Error| sqlite_error("looking at artifacts", &error);
                let mut statement = connection
                    .prepare_cached(
                        "SELECT tenant, digest, size, object_no, start, used_at FROM artifacts \
                         WHERE (tenant, digest) > (?1, ?2) ORDER BY tenant, digest LIMIT ?3",
                    )
                    .map_err(bad)?;
                let mut rows = statement.query(params![after.0, after.1, PAGE]).map_err(bad)?;
                let (mut last, mut count) = (None, 0);
                while let Some(row) = rows.next().map_err(bad)? {
                    let (tenant, digest): (String, [u8; 32]) = (row.get(0).map_err(bad)?, row.get(1).map_err(bad)?);
                    // A dry run has left rows that would be gone.
                    let dead = dry_run
                        && row.get::<_, i64>(5).map_err(bad)? < before
                        && !super::scratch::is_marked(&scratch.lock(), &tenant, &digest)?;
                    if !dead {
                        let (size, object_no, start) =
                            (row.get(2).map_err(bad)?, row.get(3).map_err(bad)?, row.get(4).map_err(bad)?);
                        write_part(&scratch, &tenant, digest, [object_no, start, size])?;
                    }
                    count += 1;
                    last = Some((tenant, digest.to_vec()));
                }
                Ok(last.filter(|_| count == PAGE))
            });
            from = page.await?;
            self.hold.keep().await?;
        }
        Ok(())
    }

    /// Reads what is live of a pack, and checks it.
    async fn parts(&self, pack: &Sparse) -> Result<Vec<Part>, StoreError> {
        let context = "rewriting a pack";
        let rows: Vec<(u64, [u8; 32], u64)> = {
            let scratch = self.scratch.lock();
            let mut statement = scratch
                .prepare_cached("SELECT start, digest, size FROM parts WHERE object_no = ?1 ORDER BY start, digest")
                .map_err(|error| wrong(&error))?;
            let found = statement
                .query_map([pack.object_no], |row| {
                    Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs()))
                })
                .map_err(|error| wrong(&error))?;
            found.collect::<Result<_, _>>().map_err(|error| wrong(&error))?
        };
        let ranges: Vec<_> = rows.iter().filter(|row| row.2 > 0).map(|(start, _, size)| *start..start + size).collect();
        let missing = rows.first().map_or([0; 32], |row| row.1);
        let path = Path::from(pack.name.as_str());
        let call = async {
            match self.shared.objects.store.get_ranges(&path, &ranges).await {
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                answer => answer.map(Some),
            }
        };
        let Some(read) = bounded(context, call).await? else {
            return Err(StoreError::new(context, StoreErrorKind::Missing(Digest::from_bytes(missing))));
        };
        let mut read = read.into_iter();
        rows.into_iter()
            .map(|(_, digest, size)| {
                let bytes = if size == 0 { Bytes::new() } else { read.next().unwrap_or_default() };
                if Digest::of(&bytes).as_bytes() != &digest {
                    return Err(StoreError::new(context, StoreErrorKind::Corrupt(Digest::from_bytes(digest))));
                }
                Ok(Part { old: pack.object_no, digest, bytes })
            })
            .collect()
    }

    /// Writes a new pack, then lets the rows point to it, then removes the old ones.
    async fn replace(&mut self, new: New) -> Result<(), StoreError> {
        let New { parts, size, replaces } = new;
        let Some(tenant) = replaces.first().map(|first| first.tenant.clone()) else { return Ok(()) };
        for pack in &replaces {
            self.report.rewritten.add(pack.size);
        }
        self.report.rewritten_into += size;
        if self.retention.dry_run {
            return Ok(());
        }
        let tenant: TenantId = tenant.parse().map_err(|error| unreadable("rewriting a pack", error))?;
        let name = self.shared.object_name(&tenant, "packs")?;
        let payload: PutPayload = parts.iter().map(|part| part.bytes.clone()).collect();
        let path = Path::from(name.as_str());
        bounded("rewriting a pack", self.shared.objects.store.put(&path, payload)).await?;
        let rows: Vec<(i64, [u8; 32], u64)> =
            parts.iter().map(|part| (part.old, part.digest, part.bytes.len() as u64)).collect();
        drop(parts);
        let replaces = Arc::new(replaces);
        let old = Arc::clone(&replaces);
        self.hold
            .write(move |transaction, moment| {
                let bad = |error: rusqlite::Error| sqlite_error("rewriting a pack", &error);
                if moment.dooms(&name) {
                    let reason = "writing a pack took longer than it may".to_owned();
                    return Err(StoreError::new("rewriting a pack", StoreErrorKind::Unavailable(reason)));
                }
                let object = insert_object(transaction, &tenant, (&name, size), moment).map_err(bad)?;
                let mut start = 0;
                for (old, digest, size) in rows {
                    transaction
                        .prepare_cached(
                            "UPDATE artifacts SET object_no = ?4, start = ?5 \
                             WHERE tenant = ?1 AND digest = ?2 AND object_no = ?3",
                        )
                        .and_then(|mut statement| {
                            statement.execute(params![tenant.as_str(), digest, old, object, signed(start)])
                        })
                        .map_err(bad)?;
                    start += size;
                }
                for pack in old.iter() {
                    transaction.execute("DELETE FROM objects WHERE object_no = ?1", [pack.object_no]).map_err(bad)?;
                }
                Ok(())
            })
            .await?;
        self.delete(replaces.iter().map(|pack| pack.name.clone()).collect()).await
    }
}

/// Writes a part down if its object is one of those that are to be rewritten.
fn write_part(
    scratch: &Scratch,
    tenant: &str,
    digest: [u8; 32],
    [object_no, start, size]: [i64; 3],
) -> Result<(), StoreError> {
    scratch
        .lock()
        .prepare_cached(
            "INSERT OR IGNORE INTO parts (object_no, start, digest, size) \
             SELECT object_no, ?3, ?4, ?5 FROM sparse WHERE tenant = ?1 AND object_no = ?2",
        )
        .and_then(|mut statement| statement.execute(params![tenant, object_no, start, digest, size]))
        .map(drop)
        .map_err(|error| wrong(&error))
}
