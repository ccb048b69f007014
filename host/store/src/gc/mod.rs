//! Clean-up: removes what nothing references.
//!
//! What is live: the artifacts that events and plans of kept runs name, and those that memo rows name. Everything else goes,
//! if nobody put or named it lately: rows of artifacts, objects whose artifacts are all gone, objects and staged uploads that
//! no row knows (a crash leaves them), and the dead half of packs, by writing the living half into new ones.
//!
//! It runs beside writers, in this process and in others; what keeps them apart is told in `sqlite/upkeep.rs`. Rows are
//! removed under the database's write lock, some at a time; objects after the commit that removed their rows. So it may end
//! at any moment: what it leaves is an object without a row, which the next one removes. What it has to remember is in a
//! temporary database: memory does not grow with the yard.

mod mark;
mod names;
mod packs;
mod retain;
mod scratch;
mod strays;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use opyard_model::id::RunId;
use rusqlite::params;
use serde::Serialize;

pub(crate) use mark::Marker;
pub(crate) use scratch::Scratch;

use crate::error::{StoreError, StoreErrorKind};
use crate::object::bounded;
use crate::sqlite::upkeep::{FRESH, Hold, micros};
use crate::sqlite::{Shared, sqlite_error, unreadable};
use crate::store::Store;

/// The tenant of a run that is being removed: no tenant's name has a space. Its row goes last, so that its number is not
/// given to another run while there are events under it.
pub(crate) const REMOVED: &str = "removed run";

/// Objects that are removed at a time.
const DELETES: usize = 8;

/// What clean-up keeps beside what has to be kept. A run that has not ended is always kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Keep so many ended runs of each job, the newest.
    pub keep_runs: Option<u32>,
    /// Keep runs that ended within this time. With both, what either keeps is kept; with neither, every run.
    pub keep_runs_for: Option<Duration>,
    /// Keep memo rows made within this time; none = all.
    pub keep_memos_for: Option<Duration>,
    /// Leave artifacts and objects alone that were put, or put again, within this time: whoever put one may be about to
    /// name it. One hour by default. With less, a run that begins or goes on meanwhile may have to put a value again, or
    /// fail for want of one that it took for stored; what is recorded is never harmed.
    pub min_age: Duration,
    /// Remove nothing; say what would be.
    pub dry_run: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep_runs: None,
            keep_runs_for: None,
            keep_memos_for: None,
            min_age: Duration::from_secs(60 * 60),
            dry_run: false,
        }
    }
}

/// How many, and how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What a clean-up removed, or (a dry one) would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Nothing was removed; the rest says what would be.
    pub dry_run: bool,
    /// Runs.
    pub runs: u64,
    /// Events, of those runs.
    pub events: u64,
    /// Memo rows.
    pub memos: u64,
    /// Artifacts that nothing referenced.
    pub artifacts: Amount,
    /// Objects whose artifacts were all among those.
    pub objects: Amount,
    /// Objects and staged uploads that no row knew: what crashes left behind.
    pub strays: Amount,
    /// Packs of which less than half was live, and their bytes: replaced by new ones.
    pub rewritten: Amount,
    /// Bytes of the new packs.
    pub rewritten_into: u64,
    /// Packs that would have been rewritten, but could not be read whole. They stay.
    pub damaged: u64,
    /// Artifacts that are kept.
    pub kept: Amount,
    /// Of those, what nothing references, put too lately to go.
    pub waiting: Amount,
    /// The oldest run in progress: what was put since it began waits for its end.
    pub in_progress: Option<RunId>,
}

impl GcReport {
    /// Bytes of the object store that came free.
    #[must_use]
    pub fn freed(&self) -> u64 {
        (self.objects.bytes + self.strays.bytes + self.rewritten.bytes).saturating_sub(self.rewritten_into)
    }
}

impl Store {
    /// Removes what nothing references, for every tenant. Other processes may go on with what they do.
    ///
    /// # Errors
    /// `Locked` when another clean-up or a backup is under way; `Unreadable`, `Missing`, `Corrupt` when an event, a memo row
    /// or the plan of a kept run cannot be read, so that it is not known what they reference: no artifact was removed then;
    /// `Unavailable`, `Full`. What was removed before an error is gone; the next clean-up does the rest.
    pub async fn gc(&self, retention: &Retention) -> Result<GcReport, StoreError> {
        let hold = Hold::take(self.shared()).await?;
        let done = Gc::clean(self.shared(), &hold, retention).await;
        hold.release().await;
        done
    }
}

/// What a clean-up goes by.
#[derive(Clone, Copy)]
struct Bounds {
    /// When it began.
    begun_at: i64,
    /// Rows not used since, and objects named before, may go.
    before: i64,
}

/// A clean-up under way.
struct Gc<'a> {
    shared: &'a Arc<Shared>,
    hold: &'a Hold,
    retention: &'a Retention,
    bounds: Bounds,
    scratch: Scratch,
    report: GcReport,
}

impl<'a> Gc<'a> {
    async fn clean(shared: &'a Arc<Shared>, hold: &'a Hold, retention: &'a Retention) -> Result<GcReport, StoreError> {
        let (bounds, in_progress) = begin(hold, retention.min_age).await?;
        let scratch = Scratch::new()?;
        let report = GcReport { dry_run: retention.dry_run, in_progress, ..GcReport::default() };
        let mut this = Self { shared, hold, retention, bounds, scratch, report };
        this.choose_runs().await?;
        let mut marker = Marker::new(shared, this.scratch.clone());
        if in_progress.is_none() {
            // A run in progress may be about to name what it found in a memo row, or in a run, that goes now: then the
            // artifacts of those count as referenced, and go with the next clean-up.
            marker.spares_only(this.oldest_memo());
        }
        marker.mark(Some(hold)).await?;
        this.remove_runs().await?;
        this.remove_memos().await?;
        this.sweep(&mut marker).await?;
        this.remove_empty_objects().await?;
        this.rewrite_packs().await?;
        this.remove_strays().await?;
        Ok(this.report)
    }

    /// Removes objects that have no row any more.
    async fn delete(&self, names: Vec<String>) -> Result<(), StoreError> {
        let store = &self.shared.objects.store;
        let mut deleted = stream::iter(names)
            .map(|name| async move {
                let path = Path::from(name);
                let call = async {
                    match store.delete(&path).await {
                        Err(object_store::Error::NotFound { .. }) => Ok(()),
                        answer => answer,
                    }
                };
                bounded("removing an object", call).await
            })
            .buffer_unordered(DELETES);
        while let Some(answer) = deleted.next().await {
            answer?;
        }
        Ok(())
    }
}

/// Writes down that a clean-up begins, and what it takes for abandoned.
async fn begin(hold: &Hold, min_age: Duration) -> Result<(Bounds, Option<RunId>), StoreError> {
    hold.write(move |transaction, moment| {
        let context = "beginning to clean up";
        let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
        let now = moment.as_micros();
        let mut statement = transaction
            .prepare(
                "SELECT run, enqueued_at FROM runs WHERE ended_at IS NULL AND owner IS NOT NULL AND lease_until > ?1 \
                 ORDER BY enqueued_at LIMIT 1",
            )
            .map_err(wrong)?;
        let mut rows = statement.query([now]).map_err(wrong)?;
        let mut before = now.saturating_sub(micros(min_age));
        let mut in_progress = None;
        if let Some(row) = rows.next().map_err(wrong)? {
            let (run, enqueued_at): (String, i64) = (row.get(0).map_err(wrong)?, row.get(1).map_err(wrong)?);
            in_progress = Some(run.parse().map_err(|error| unreadable(context, error))?);
            // A put may have left a row as it was that was just used, and a value in memory that was just put.
            before = before.min(enqueued_at.saturating_sub(2 * micros(FRESH)));
        }
        // Objects are named by the millisecond.
        before -= before.rem_euclid(1_000);
        transaction
            .execute("UPDATE upkeep SET begun_at = ?1, doomed_before = max(doomed_before, ?2)", params![now, before])
            .map_err(wrong)?;
        Ok((Bounds { begun_at: now, before }, in_progress))
    })
    .await
}

/// Someone altered the yard in a way that this program does not.
fn strange(reason: &str) -> StoreError {
    StoreError::new("cleaning up", StoreErrorKind::Unreadable(reason.to_owned()))
}
