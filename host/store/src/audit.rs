//! Whether a yard is whole: everything that is referenced is there, and every byte is what it was.

use std::sync::Arc;

use opyard_model::digest::Digest;
use opyard_model::id::TenantId;
use rusqlite::params;
use serde::Serialize;

use crate::artifact::ArtifactReader;
use crate::error::{StoreError, StoreErrorKind};
use crate::gc::{Amount, Marker, Scratch};
use crate::sqlite::artifacts::{Opened, SqliteArtifacts};
use crate::sqlite::large::LargeReader;
use crate::sqlite::rows;
use crate::sqlite::{Shared, sqlite_error, unreadable};
use crate::store::Store;

/// Rows looked at at a time.
const PAGE: i64 = 1_000;
/// Bytes of a large artifact read at a time.
const BLOCK: usize = 1 << 20;
/// Findings that are told one by one.
const EXAMPLES: usize = 100;

/// What is wrong with an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// An event, a plan or a memo row names it, and it is not stored.
    NotStored,
    /// It is stored, and its object is not there.
    Missing,
    /// Its bytes are not those of its digest.
    Corrupt,
}

/// Something that an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose it is.
    pub tenant: String,
    /// The artifact.
    pub digest: Digest,
    /// What is wrong with it.
    pub damage: Damage,
}

/// What an audit looked at, and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Artifacts that were read.
    pub artifacts: Amount,
    /// How many artifacts are damaged.
    pub damaged: u64,
    /// The first of those, at most 100.
    pub findings: Vec<Finding>,
}

impl AuditReport {
    /// Nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged == 0
    }

    fn found(&mut self, tenant: &str, digest: Digest, damage: Damage) {
        self.damaged += 1;
        if self.findings.len() < EXAMPLES {
            self.findings.push(Finding { tenant: tenant.to_owned(), digest, damage });
        }
    }
}

impl Store {
    /// Reads every artifact of every tenant from the object store and compares it with its digest, and looks for
    /// artifacts that are named and not stored. Takes as long as reading it all takes. What happens meanwhile may be seen
    /// or not.
    ///
    /// # Errors
    /// When the database, an event or a plan cannot be read; `Unavailable`. Damaged artifacts are not errors but findings.
    pub async fn audit(&self) -> Result<AuditReport, StoreError> {
        let shared = self.shared();
        let scratch = Scratch::new()?;
        let mut report = AuditReport::default();
        Marker::new(shared, scratch.clone()).mark(None).await?;
        find_unstored(shared, &scratch, &mut report).await?;
        read_all(shared, &mut report).await?;
        Ok(report)
    }
}

async fn find_unstored(shared: &Shared, scratch: &Scratch, report: &mut AuditReport) -> Result<(), StoreError> {
    let mut from = Some((String::new(), [0; 32].to_vec()));
    while let Some(after) = from {
        let scratch = scratch.clone();
        let page = shared.readers.run(move |connection| {
            let wrong = |error: rusqlite::Error| sqlite_error("comparing names and artifacts", &error);
            let scratch = scratch.lock();
            let mut statement = scratch
                .prepare_cached(
                    "SELECT tenant, digest FROM marks WHERE (tenant, digest) > (?1, ?2) \
                     ORDER BY tenant, digest LIMIT ?3",
                )
                .map_err(wrong)?;
            let mut found = statement.query(params![after.0, after.1, PAGE]).map_err(wrong)?;
            let (mut unstored, mut last, mut count) = (Vec::new(), None, 0);
            while let Some(row) = found.next().map_err(wrong)? {
                let (name, digest): (String, [u8; 32]) = (row.get(0).map_err(wrong)?, row.get(1).map_err(wrong)?);
                let tenant: TenantId = name.parse().map_err(|error| unreadable("reading a tenant", error))?;
                if !rows::has_artifact(connection, &tenant, Digest::from_bytes(digest)).map_err(wrong)? {
                    unstored.push((name.clone(), digest));
                }
                count += 1;
                last = Some((name, digest.to_vec()));
            }
            Ok((unstored, last.filter(|_| count == PAGE)))
        });
        let (unstored, last) = page.await?;
        for (tenant, digest) in unstored {
            report.found(&tenant, Digest::from_bytes(digest), Damage::NotStored);
        }
        from = last;
    }
    Ok(())
}

async fn read_all(shared: &Arc<Shared>, report: &mut AuditReport) -> Result<(), StoreError> {
    let mut after = (String::new(), Vec::new());
    loop {
        let from = after.clone();
        let page = shared.readers.run(move |connection| {
            let wrong = |error: rusqlite::Error| sqlite_error("listing artifacts", &error);
            connection
                .prepare_cached(
                    "SELECT tenant, digest, size FROM artifacts WHERE (tenant, digest) > (?1, ?2) \
                     ORDER BY tenant, digest LIMIT ?3",
                )
                .map_err(wrong)?
                .query_map(params![from.0, from.1, PAGE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .map_err(wrong)?
                .collect::<Result<Vec<(String, [u8; 32], i64)>, _>>()
                .map_err(wrong)
        });
        let page = page.await?;
        let Some((tenant, digest, _)) = page.last() else { return Ok(()) };
        after = (tenant.clone(), digest.to_vec());
        for (name, digest, size) in page {
            let tenant: TenantId = name.parse().map_err(|error| unreadable("reading a tenant", error))?;
            let artifacts = SqliteArtifacts { shared: Arc::clone(shared), tenant };
            let digest = Digest::from_bytes(digest);
            report.artifacts.add(size.unsigned_abs());
            match read(artifacts, digest).await {
                Ok(()) => {}
                Err(StoreError { kind: StoreErrorKind::Missing(_), .. }) => {
                    report.found(&name, digest, Damage::Missing);
                }
                Err(StoreError { kind: StoreErrorKind::Corrupt(_), .. }) => {
                    report.found(&name, digest, Damage::Corrupt);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads an artifact from the object store to its end.
async fn read(artifacts: SqliteArtifacts, digest: Digest) -> Result<(), StoreError> {
    if let Opened::Large(location) = artifacts.open(digest).await? {
        let mut reader = LargeReader::new(artifacts, digest, location);
        let mut offset = 0;
        loop {
            let bytes = reader.read_at(offset, BLOCK).await?;
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
        }
    }
    Ok(())
}
