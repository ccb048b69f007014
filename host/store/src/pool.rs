//! Slots: what may run side by side, across runs and processes.
//!
//! A pool has a limit, and hands out slots up to it. Who wants one asks, again and again until it holds it: in between
//! it stands in line, by priority and by how long it has waited. A slot is freed when it is given back, when its run
//! ends, when the process that holds it is gone, and when it was not renewed for [`LEASE`].
//!
//! The line is strict. Nobody is given a slot that somebody before it waits for, also while that one waits for another
//! pool: so nobody starves, and two who each want two pools cannot hold one each for ever.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use opyard_model::id::{Name, RunId, StepKey};
use opyard_model::time::Timestamp;
use tokio::sync::watch;

use crate::error::StoreError;

/// How long a slot is held, and a place in line kept, without a sign of life: 30 s. A process that is known to be gone
/// holds none.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often to ask again, at least: slots that other processes free are not announced.
pub const POLL: Duration = Duration::from_millis(500);
/// What one step of priority is worth in line: as if one had asked a minute earlier. So the least waits for the greatest
/// some hours at most.
pub const STEP_OF_PRIORITY: Duration = Duration::from_secs(60);

/// Names a pool of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey(String);

impl PoolKey {
    /// A pool of the definitions.
    #[must_use]
    pub fn named(name: &Name) -> Self {
        Self(name.to_string())
    }

    /// All runs.
    #[must_use]
    pub fn runs() -> Self {
        Self("runs:".to_owned())
    }

    /// Runs with a tag: of one value, or of all that have it. No name of the definitions has a colon.
    #[must_use]
    pub fn runs_with(key: &str, value: Option<&str>) -> Self {
        Self(match value {
            Some(value) => format!("runs: {key}={value}"),
            None => format!("runs: {key}"),
        })
    }

    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A pool that is there only while somebody is in it: of runs.
    pub(crate) fn is_of_runs(&self) -> bool {
        self.0.contains(':')
    }
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Who holds a slot, or waits for one: a run as a whole, or a step of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claimant {
    /// The run.
    pub run: RunId,
    /// The step; none for the run itself.
    pub step: Option<StepKey>,
}

/// Asks for one slot in each of some pools, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRequest {
    /// Who asks.
    pub by: Claimant,
    /// The pools, and the limit that the asker's definitions give each. What the newest run says holds.
    pub pools: Vec<(PoolKey, u32)>,
    /// The higher goes first; see [`STEP_OF_PRIORITY`].
    pub priority: i32,
}

/// A slot that is held, or waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// By whom.
    pub by: Claimant,
    /// Since when.
    pub since: Timestamp,
}

/// A pool as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// The pool.
    pub pool: PoolKey,
    /// How many slots it has.
    pub limit: u32,
    /// Who holds one, in the order in which they asked.
    pub held: Vec<Slot>,
    /// Who waits for one, the next first.
    pub waiting: Vec<Slot>,
}

/// The pools of one tenant.
#[async_trait]
pub trait Pools: Send + Sync {
    /// Asks for slots. True when they are held from now on, for [`LEASE`] unless they are renewed; also when they were held
    /// before. False: the asker stands in line, for as long, unless it asks again. Asking again where nothing has changed
    /// lengthens neither before half of it is over: so nothing has to be written.
    ///
    /// # Errors
    /// `Unavailable`, `Locked`, `Full`. Whether it holds the slots or stands in line is then unknown.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it may hold the slots, or stand in line, until it gives them back or their lease ends.
    async fn ask(&self, request: &SlotRequest) -> Result<bool, StoreError>;

    /// Holds on to slots for another [`LEASE`]. Those that were lost are not held again.
    ///
    /// # Errors
    /// `Unavailable`, `Locked`, `Full`.
    async fn renew(&self, held: &[Claimant]) -> Result<(), StoreError>;

    /// Gives back whatever these hold, or wait for, in this process.
    ///
    /// # Errors
    /// `Unavailable`, `Locked`, `Full`.
    async fn release(&self, by: &[Claimant]) -> Result<(), StoreError>;

    /// Gives back whatever this process holds, or waits for, for a run: of its steps, and with `whole` of the run itself.
    ///
    /// # Errors
    /// `Unavailable`, `Locked`, `Full`.
    async fn release_run(&self, run: RunId, whole: bool) -> Result<(), StoreError>;

    /// Every pool that has a limit, by name.
    ///
    /// # Errors
    /// `Unavailable`, `Unreadable`.
    async fn list(&self) -> Result<Vec<PoolStatus>, StoreError>;

    /// Changes when slots are given back in this process: time to ask again.
    fn freed(&self) -> watch::Receiver<()>;
}

/// What is kept of a claimant in one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) pool: PoolKey,
    pub(crate) by: Claimant,
    /// Its place in line: by this, then by claimant.
    pub(crate) rank: i64,
    pub(crate) asked_at: Timestamp,
    /// None while it waits.
    pub(crate) held_since: Option<Timestamp>,
    /// Its sign of life.
    pub(crate) until: Timestamp,
    /// The process that gave it.
    pub(crate) process: String,
}

/// The limit of a pool, and the run that said so last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) slots: u32,
    pub(crate) by: RunId,
}

/// The rows of some pools, of claimants that live.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    pub(crate) rows: Vec<Row>,
    pub(crate) limits: BTreeMap<PoolKey, Limit>,
}

/// Who asks, when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now<'a> {
    pub(crate) process: &'a str,
    pub(crate) at: Timestamp,
}

/// What comes of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) held: bool,
    /// The rows of the asker from now on.
    pub(crate) rows: Vec<Row>,
    /// Nothing has changed, and its last sign of life will do for now.
    pub(crate) is_as_before: bool,
}

impl Book {
    /// The limits as they are once the asker has said its own: the newest run's hold.
    pub(crate) fn limits_after(&self, request: &SlotRequest) -> BTreeMap<PoolKey, Limit> {
        let said = request.pools.iter().map(|(pool, slots)| {
            let new = Limit { slots: *slots, by: request.by.run };
            let before = self.limits.get(pool).copied().filter(|before| before.by > new.by);
            (pool.clone(), before.unwrap_or(new))
        });
        said.collect()
    }

    /// What comes of a request. Changes nothing.
    pub(crate) fn ask(&self, request: &SlotRequest, now: Now<'_>) -> Asked {
        let own = |pool: &PoolKey| self.rows.iter().find(|row| row.by == request.by && row.pool == *pool);
        let before: Vec<Option<&Row>> = request.pools.iter().map(|(pool, _)| own(pool)).collect();
        let asked_at = before.iter().flatten().map(|row| row.asked_at).min().unwrap_or(now.at);
        let worth = i64::try_from(STEP_OF_PRIORITY.as_micros()).unwrap_or(i64::MAX);
        let rank = asked_at.as_micros().saturating_sub(worth.saturating_mul(request.priority.into()));
        let was_held = before.iter().all(|row| row.is_some_and(|row| row.held_since.is_some()));
        let limits = self.limits_after(request);
        let has_room = |pool: &PoolKey| {
            let goes_first = |row: &&Row| {
                row.pool == *pool
                    && row.by != request.by
                    && (row.held_since.is_some() || (row.rank, &row.by) < (rank, &request.by))
            };
            let before = self.rows.iter().filter(goes_first).count();
            limits.get(pool).is_some_and(|limit| before < limit.slots as usize)
        };
        let held = was_held || request.pools.iter().all(|(pool, _)| has_room(pool));
        let lasts = |row: &Row| row.until.since(now.at) > LEASE / 2;
        let is_as_before = held == was_held
            && limits.iter().all(|(pool, limit)| self.limits.get(pool) == Some(limit))
            && before.iter().all(|row| row.is_some_and(|row| row.process == now.process && lasts(row)));
        let rows = request.pools.iter().zip(&before).map(|((pool, _), before)| Row {
            pool: pool.clone(),
            by: request.by.clone(),
            rank,
            asked_at,
            held_since: before.and_then(|row| row.held_since).filter(|_| was_held).or(held.then_some(now.at)),
            until: before.filter(|_| is_as_before).map_or(now.at.after(LEASE), |row| row.until),
            process: now.process.to_owned(),
        });
        Asked { held, rows: rows.collect(), is_as_before }
    }

    /// The pools as they stand.
    pub(crate) fn status(&self) -> Vec<PoolStatus> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| (row.rank, &row.by));
        let of = |pool: &PoolKey, held: bool| {
            let those = rows.iter().filter(|row| row.pool == *pool && row.held_since.is_some() == held);
            those.map(|row| Slot { by: row.by.clone(), since: row.held_since.unwrap_or(row.asked_at) }).collect()
        };
        let status = |(pool, limit): (&PoolKey, &Limit)| PoolStatus {
            pool: pool.clone(),
            limit: limit.slots,
            held: of(pool, true),
            waiting: of(pool, false),
        };
        self.limits.iter().map(status).collect()
    }
}
