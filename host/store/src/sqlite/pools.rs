//! Slots of pools.
//!
//! A row for each claimant in each pool. They are few: a run asks for no more slots at a time than it has places for steps.
//! What is asked in vain is found so by reading; only what changes something is written.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use opyard_model::id::{RunId, TenantId};
use opyard_model::time::Timestamp;
use rusqlite::{Connection, Transaction, params};
use tokio::sync::watch;

use super::{Shared, sqlite_error, unreadable};
use crate::error::StoreError;
use crate::pool::{Asked, Book, Claimant, LEASE, Limit, Now, PoolKey, PoolStatus, Pools, Row, SlotRequest};

/// Added to databases that were made before there were pools. `step` is empty for a run as a whole.
pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS pools (
    tenant TEXT NOT NULL,
    pool TEXT NOT NULL,
    slots INTEGER NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (tenant, pool)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pool_slots (
    tenant TEXT NOT NULL,
    pool TEXT NOT NULL,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    rank INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    held_since INTEGER,
    until INTEGER NOT NULL,
    process TEXT NOT NULL,
    PRIMARY KEY (tenant, pool, run, step)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pool_slots_of_run ON pool_slots (tenant, run, step);
";

/// The pools of one tenant.
pub(crate) struct SqlitePools {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
}

fn step_of(by: &Claimant) -> String {
    by.step.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Reads the rows of some pools (of all, when none is named). The second are of claimants that do not live any more.
fn read(
    connection: &Connection,
    (shared, tenant): (&Shared, &TenantId),
    pools: &[PoolKey],
    now: Timestamp,
) -> Result<(Book, Vec<Row>), StoreError> {
    let context = "reading the pools";
    let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
    let names: Vec<&str> = pools.iter().map(PoolKey::as_str).collect();
    let names = serde_json::to_string(&names).unwrap_or_default();
    let (mut book, mut dead) = (Book::default(), Vec::new());
    let mut statement = connection
        .prepare_cached(
            "SELECT pool, slots, run FROM pools \
             WHERE tenant = ?1 AND (?2 = '[]' OR pool IN (SELECT value FROM json_each(?2)))",
        )
        .map_err(wrong)?;
    let mut rows = statement.query(params![tenant.as_str(), names]).map_err(wrong)?;
    while let Some(row) = rows.next().map_err(wrong)? {
        let by: String = row.get(2).map_err(wrong)?;
        let by = by.parse().map_err(|error| unreadable(context, error))?;
        let limit = Limit { slots: row.get(1).map_err(wrong)?, by };
        book.limits.insert(PoolKey::stored(row.get(0).map_err(wrong)?), limit);
    }
    let mut statement = connection
        .prepare_cached(
            "SELECT pool, run, step, rank, asked_at, held_since, until, process, \
                EXISTS (SELECT 1 FROM runs WHERE runs.tenant = slot.tenant AND runs.run = slot.run \
                    AND runs.ended_at IS NOT NULL) \
             FROM pool_slots AS slot \
             WHERE tenant = ?1 AND (?2 = '[]' OR pool IN (SELECT value FROM json_each(?2)))",
        )
        .map_err(wrong)?;
    let mut rows = statement.query(params![tenant.as_str(), names]).map_err(wrong)?;
    let mut gone: HashMap<String, bool> = HashMap::new();
    while let Some(row) = rows.next().map_err(wrong)? {
        let (run, step): (String, String) = (row.get(1).map_err(wrong)?, row.get(2).map_err(wrong)?);
        let moment = |at: i64| Timestamp::from_micros(at);
        let found = Row {
            pool: PoolKey::stored(row.get(0).map_err(wrong)?),
            by: Claimant {
                run: run.parse().map_err(|error| unreadable(context, error))?,
                step: match step.as_str() {
                    "" => None,
                    step => Some(step.parse().map_err(|error| unreadable(context, error))?),
                },
            },
            rank: row.get(3).map_err(wrong)?,
            asked_at: moment(row.get(4).map_err(wrong)?),
            held_since: row.get::<_, Option<i64>>(5).map_err(wrong)?.map(moment),
            until: moment(row.get(6).map_err(wrong)?),
            process: row.get(7).map_err(wrong)?,
        };
        let has_ended: bool = row.get(8).map_err(wrong)?;
        let is_gone = |process: &str| match gone.get(process) {
            Some(gone) => *gone,
            None => *gone.entry(process.to_owned()).or_insert_with_key(|one| shared.presence.is_gone(one)),
        };
        let is_dead =
            has_ended || found.until <= now || (found.process != shared.process && { is_gone }(&found.process));
        if is_dead { dead.push(found) } else { book.rows.push(found) }
    }
    Ok((book, dead))
}

fn remove(transaction: &Transaction<'_>, tenant: &TenantId, row: &Row) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM pool_slots WHERE tenant = ?1 AND pool = ?2 AND run = ?3 AND step = ?4")?
        .execute(params![tenant.as_str(), row.pool.as_str(), row.by.run.to_string(), step_of(&row.by)])
        .map(drop)
}

/// Forgets the limits of pools of runs in which nobody is: there may be one for each value of a tag.
fn forget_empty(transaction: &Transaction<'_>, tenant: &TenantId) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM pools WHERE tenant = ?1 AND instr(pool, ':') > 0 AND NOT EXISTS \
             (SELECT 1 FROM pool_slots WHERE pool_slots.tenant = pools.tenant AND pool_slots.pool = pools.pool)",
        )?
        .execute(params![tenant.as_str()])
        .map(drop)
}

fn write(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    request: &SlotRequest,
    (book, asked, dead): (&Book, &Asked, &[Row]),
) -> rusqlite::Result<()> {
    for row in dead {
        remove(transaction, tenant, row)?;
    }
    for (pool, limit) in book.limits_after(request) {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO pools (tenant, pool, slots, run) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![tenant.as_str(), pool.as_str(), limit.slots, limit.by.to_string()])?;
    }
    for row in &asked.rows {
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO pool_slots \
                 (tenant, pool, run, step, rank, asked_at, held_since, until, process) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                tenant.as_str(),
                row.pool.as_str(),
                row.by.run.to_string(),
                step_of(&row.by),
                row.rank,
                row.asked_at.as_micros(),
                row.held_since.map(Timestamp::as_micros),
                row.until.as_micros(),
                row.process,
            ])?;
    }
    Ok(())
}

impl SqlitePools {
    /// What would come of a request, if nothing happened meanwhile; none when something has to be written.
    async fn look(&self, request: &SlotRequest) -> Result<Option<bool>, StoreError> {
        let (shared, tenant, request) = (Arc::clone(&self.shared), self.tenant.clone(), request.clone());
        self.shared
            .readers
            .run_short(move |connection| {
                let now = shared.clock.now();
                let pools: Vec<_> = request.pools.iter().map(|(pool, _)| pool.clone()).collect();
                let (book, _) = read(connection, (&shared, &tenant), &pools, now)?;
                let asked = book.ask(&request, Now { process: &shared.process, at: now });
                Ok(asked.is_as_before.then_some(asked.held))
            })
            .await
    }

    async fn change(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Shared, &TenantId) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let tenant = self.tenant.clone();
        let work = move |transaction: &Transaction<'_>, shared: &Shared| {
            work(transaction, shared, &tenant).map_err(|error| sqlite_error("holding slots", &error))
        };
        self.shared.write(work).await
    }
}

#[async_trait]
impl Pools for SqlitePools {
    async fn ask(&self, request: &SlotRequest) -> Result<bool, StoreError> {
        if let Some(held) = self.look(request).await? {
            return Ok(held);
        }
        let (tenant, request) = (self.tenant.clone(), request.clone());
        self.shared
            .write(move |transaction, shared| {
                let now = shared.clock.now();
                let pools: Vec<_> = request.pools.iter().map(|(pool, _)| pool.clone()).collect();
                let (mut book, dead) = read(transaction, (shared, &tenant), &pools, now)?;
                // What a former owner of the run held is its new owner's, unless somebody was faster.
                let is_mine = |row: &Row| row.by == request.by && row.until > now;
                let (mine, dead): (Vec<_>, Vec<_>) = dead.into_iter().partition(is_mine);
                book.rows.extend(mine);
                let asked = book.ask(&request, Now { process: &shared.process, at: now });
                write(transaction, &tenant, &request, (&book, &asked, &dead))
                    .map_err(|error| sqlite_error("asking for a slot", &error))?;
                Ok(asked.held)
            })
            .await
    }

    async fn renew(&self, held: &[Claimant]) -> Result<(), StoreError> {
        let held = held.to_vec();
        self.change(move |transaction, shared, tenant| {
            let now = shared.clock.now();
            let until = now.after(LEASE).as_micros();
            for by in &held {
                // What has run out may be somebody else's by now.
                transaction
                    .prepare_cached(
                        "UPDATE pool_slots SET until = ?4 \
                         WHERE tenant = ?1 AND run = ?2 AND step = ?3 AND process = ?5 AND until > ?6",
                    )?
                    .execute(params![
                        tenant.as_str(),
                        by.run.to_string(),
                        step_of(by),
                        until,
                        shared.process,
                        now.as_micros(),
                    ])?;
            }
            Ok(())
        })
        .await
    }

    async fn release(&self, by: &[Claimant]) -> Result<(), StoreError> {
        let by = by.to_vec();
        self.change(move |transaction, shared, tenant| {
            for by in &by {
                transaction
                    .prepare_cached(
                        "DELETE FROM pool_slots WHERE tenant = ?1 AND run = ?2 AND step = ?3 AND process = ?4",
                    )?
                    .execute(params![tenant.as_str(), by.run.to_string(), step_of(by), shared.process])?;
            }
            forget_empty(transaction, tenant)
        })
        .await?;
        self.shared.freed.send_replace(());
        Ok(())
    }

    async fn release_run(&self, run: RunId, whole: bool) -> Result<(), StoreError> {
        self.change(move |transaction, shared, tenant| {
            transaction
                .prepare_cached(
                    "DELETE FROM pool_slots WHERE tenant = ?1 AND run = ?2 AND process = ?3 AND (?4 OR step <> '')",
                )?
                .execute(params![tenant.as_str(), run.to_string(), shared.process, whole])?;
            forget_empty(transaction, tenant)
        })
        .await?;
        self.shared.freed.send_replace(());
        Ok(())
    }

    async fn list(&self) -> Result<Vec<PoolStatus>, StoreError> {
        let (shared, tenant) = (Arc::clone(&self.shared), self.tenant.clone());
        let book = self.shared.readers.run(move |connection| {
            let now = shared.clock.now();
            read(connection, (&shared, &tenant), &[], now).map(|(book, _)| book)
        });
        Ok(book.await?.status())
    }

    fn freed(&self) -> watch::Receiver<()> {
        self.shared.freed.subscribe()
    }
}
