//! What keeps clean-up ([`gc`](crate::gc)) and writers, of this process and of others, out of each other's way.
//!
//! A clean-up begins in a transaction of its own: that writes down when (`begun_at`), and which objects without a row it
//! will take for abandoned (`doomed_before`: those named before that moment). Then it looks for what is referenced, page by
//! page, and removes the rest. Whoever writes meanwhile follows three rules, each inside the transaction that it is about:
//!
//! 1. What names an artifact marks its row as used ([`Moment::touch`]) unless it was since the last clean-up began, and
//!    fails if there is no row. So a reference that a clean-up in progress may have missed is to a row that it leaves alone.
//! 2. A put of bytes that are there already marks the row as used, and writes the bytes if the row has gone.
//! 3. Rows of an object that is doomed are not inserted: it may be gone already. The bytes are written again.
//!
//! The database's write lock orders all of it; clocks decide only how long an artifact that nothing names is left alone.
//! `begun_at` never goes back, and the moments written into rows after it are later, whatever the clock says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use opyard_model::digest::Digest;
use opyard_model::id::TenantId;
use opyard_model::time::{Clock, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Shared, new_ulid, sqlite_error};
use crate::error::{StoreError, StoreErrorKind};

/// How long a row counts as just used: a put of the same bytes need not mark it again.
pub(crate) const FRESH: Duration = Duration::from_secs(10 * 60);

/// How long clean-up or a backup may be silent before another may begin.
pub(crate) const HOLD: Duration = Duration::from_secs(60);

/// A span as rows hold it.
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The moment of one transaction, and what the last clean-up began with.
pub(crate) struct Moment {
    now: i64,
    begun_at: i64,
    doomed_before: i64,
}

impl Moment {
    /// The moment of this transaction. Read once it holds the write lock.
    pub(crate) fn read(transaction: &Transaction<'_>, clock: &dyn Clock) -> rusqlite::Result<Self> {
        let mut statement = transaction.prepare_cached("SELECT begun_at, doomed_before FROM upkeep")?;
        let (begun_at, doomed_before): (i64, i64) = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self { now: clock.now().as_micros().max(begun_at.saturating_add(1)), begun_at, doomed_before })
    }

    /// As rows hold it.
    pub(crate) fn as_micros(&self) -> i64 {
        self.now
    }

    /// As the cache holds it.
    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    /// Marks an artifact as used; false when it is not there.
    pub(crate) fn touch(
        &self,
        transaction: &Transaction<'_>,
        tenant: &TenantId,
        digest: Digest,
    ) -> rusqlite::Result<bool> {
        let used: Option<i64> = transaction
            .prepare_cached("SELECT used_at FROM artifacts WHERE tenant = ?1 AND digest = ?2")?
            .query_row(params![tenant.as_str(), digest.as_bytes()], |row| row.get(0))
            .optional()?;
        let Some(used) = used else { return Ok(false) };
        if used <= self.begun_at || used < self.now.saturating_sub(micros(FRESH)) {
            transaction
                .prepare_cached("UPDATE artifacts SET used_at = ?3 WHERE tenant = ?1 AND digest = ?2")?
                .execute(params![tenant.as_str(), digest.as_bytes(), self.now])?;
        }
        Ok(true)
    }

    /// The object of that name may have been taken for abandoned.
    pub(crate) fn dooms(&self, object: &str) -> bool {
        named_at(object).is_none_or(|named| named < self.doomed_before)
    }
}

/// When an object was named; none when this program did not name it.
pub(crate) fn named_at(object: &str) -> Option<i64> {
    let (_, id) = object.rsplit_once('/')?;
    let id = ulid::Ulid::from_string(id).ok()?;
    i64::try_from(id.timestamp_ms()).ok()?.checked_mul(1_000)
}

/// The right to clean up or to copy the yard: one holder at a time. It lasts for [`HOLD`] after the last sign of life.
pub(crate) struct Hold {
    shared: Arc<Shared>,
    holder: String,
    renewed: AtomicI64,
}

/// Another clean-up or backup holds the yard.
fn held(text: &str) -> StoreError {
    StoreError::new("holding the yard for upkeep", StoreErrorKind::Locked(text.to_owned()))
}

impl Hold {
    /// Takes it.
    ///
    /// # Errors
    /// `Locked` when somebody else has it; `Unavailable`, `Full`.
    pub(crate) async fn take(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let holder = new_ulid(&*shared.clock)?;
        let me = holder.clone();
        let now = shared.write(move |transaction, shared| {
            let wrong = |error: rusqlite::Error| sqlite_error("holding the yard for upkeep", &error);
            let now = shared.clock.now().as_micros();
            let until = now.saturating_add(micros(HOLD));
            let taken = transaction
                .execute(
                    "UPDATE upkeep SET holder = ?1, held_until = ?2 WHERE holder IS NULL OR held_until <= ?3",
                    params![me, until, now],
                )
                .map_err(wrong)?;
            if taken == 0 {
                return Err(held("another clean-up or backup is under way"));
            }
            Ok(now)
        });
        let renewed = AtomicI64::new(now.await?);
        Ok(Self { shared: Arc::clone(shared), holder, renewed })
    }

    /// Does `work` inside the writer's next transaction if this is held still, and holds on.
    ///
    /// # Errors
    /// `Locked` when another has taken it meanwhile: nothing was done then; those of `work` and of the commit.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Moment) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let me = self.holder.clone();
        let done = self.shared.write(move |transaction, shared| {
            let wrong = |error: rusqlite::Error| sqlite_error("holding the yard for upkeep", &error);
            let now = shared.clock.now().as_micros();
            let until = now.saturating_add(micros(HOLD));
            let held_still = transaction
                .prepare_cached("UPDATE upkeep SET held_until = ?2 WHERE holder = ?1")
                .and_then(|mut statement| statement.execute(params![me, until]))
                .map_err(wrong)?;
            if held_still == 0 {
                return Err(held("this was silent for too long, and another clean-up or backup has begun"));
            }
            let moment = Moment::read(transaction, &*shared.clock).map_err(wrong)?;
            Ok((work(transaction, &moment)?, now))
        });
        let (value, now) = done.await?;
        self.renewed.store(now, Ordering::Relaxed);
        Ok(value)
    }

    /// Gives a sign of life, if the last one is some time ago. Called between the pages of long work.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) async fn keep(&self) -> Result<(), StoreError> {
        let silent = self.shared.clock.now().as_micros().saturating_sub(self.renewed.load(Ordering::Relaxed));
        if silent >= micros(HOLD) / 4 {
            self.write(|_, _| Ok(())).await?;
        }
        Ok(())
    }

    /// Lets go. That fails without harm: it ends by itself.
    pub(crate) async fn release(self) {
        let me = self.holder.clone();
        let released = self.shared.write(move |transaction, _| {
            transaction
                .execute("UPDATE upkeep SET holder = NULL WHERE holder = ?1", params![me])
                .map_err(|error| sqlite_error("holding the yard for upkeep", &error))
        });
        drop(released.await);
    }
}
