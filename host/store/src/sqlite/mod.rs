//! The traits over one SQLite database and one object store.
//!
//! Everything that changes goes through one queue to one writer thread, which takes all that is there, writes the small
//! artifacts of it as one object (a pack), commits everything else in one transaction and then tells everyone who waits.
//! Reading has connections of its own. What keeps clean-up and writers out of each other's way is in `upkeep.rs`.

pub(crate) mod artifacts;
pub(crate) mod buckets;
pub(crate) mod cache;
pub(crate) mod claims;
pub(crate) mod damage;
pub(crate) mod events;
pub(crate) mod large;
pub(crate) mod memo;
pub(crate) mod pools;
pub(crate) mod presence;
pub(crate) mod queue;
pub(crate) mod readers;
pub(crate) mod rows;
pub(crate) mod schema;
pub(crate) mod tails;
pub(crate) mod upkeep;
pub(crate) mod views;
pub(crate) mod writer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opyard_model::id::{RunId, TenantId};
use opyard_model::time::Clock;
use rusqlite::{ErrorCode, Transaction};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::error::{StoreError, StoreErrorKind};
use crate::object::Objects;

/// A run of a tenant.
pub(crate) type RunKey = (TenantId, RunId);

/// What the writer thread and every handle share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) objects: Objects,
    /// Who this process is, among those that have opened the same database.
    pub(crate) process: String,
    pub(crate) presence: presence::Presence,
    pub(crate) queue: queue::Queue,
    pub(crate) readers: readers::Readers,
    /// Leave to read large values ahead.
    pub(crate) read_ahead: Arc<Semaphore>,
    pub(crate) tails: Mutex<tails::Tails>,
    pub(crate) cache: Mutex<cache::ValueCache>,
    pub(crate) claims: Mutex<claims::Claims>,
    /// Changes when slots of pools are given back here.
    pub(crate) freed: watch::Sender<()>,
    /// Who follows which run; told the last durable sequence number after each commit.
    pub(crate) followers: Mutex<HashMap<RunKey, watch::Sender<u64>>>,
}

impl Shared {
    /// A new object's name: sorts by time, and holds nothing that a user or guest chose but the tenant.
    ///
    /// # Errors
    /// `Unavailable` when the system has no randomness.
    pub(crate) fn object_name(&self, tenant: &TenantId, folder: &str) -> Result<String, StoreError> {
        Ok(format!("{tenant}/{folder}/{}", new_ulid(&*self.clock)?))
    }

    /// Does `work` inside the writer's next transaction, and waits for the commit. What it has changed when it fails is
    /// committed all the same.
    ///
    /// # Errors
    /// Those of `work`; `Unavailable`, `Locked`, `Full` when the commit fails.
    pub(crate) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Transaction<'_>, &Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write_of(0, work).await
    }

    /// As [`write`](Self::write), of work that holds so many bytes until it is done.
    ///
    /// # Errors
    /// As for `write`.
    pub(crate) async fn write_of<T: Send + 'static>(
        self: &Arc<Self>,
        bytes: usize,
        work: impl FnOnce(&Transaction<'_>, &Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let shared = Arc::clone(self);
        let call = move |transaction: &Transaction<'_>| -> queue::Answer {
            let done = work(transaction, &shared);
            Box::new(move |committed| drop(sender.send(committed.and(done))))
        };
        let room = self.queue.reserve(bytes).await?;
        self.queue.push(room, queue::Command::Call(Box::new(call)))?;
        answer.await.map_err(|_| closed("committing"))?
    }
}

/// A new ULID, in text.
///
/// # Errors
/// `Unavailable` when the system has no randomness.
pub(crate) fn new_ulid(clock: &dyn Clock) -> Result<String, StoreError> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| StoreError::new("making an id", StoreErrorKind::Unavailable(error.to_string())))?;
    let ms = u64::try_from(clock.now().as_millis()).unwrap_or(0);
    let mut buffer = [0u8; ulid::ULID_LEN];
    Ok(ulid::Ulid::from_parts(ms, u128::from_le_bytes(random)).array_to_str(&mut buffer).to_owned())
}

/// Locks; a panic of another holder cannot leave what these locks guard half changed, so that is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an error of SQLite means.
pub(crate) fn sqlite_error(context: &str, error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Locked(text),
        Some(ErrorCode::DiskFull) => StoreErrorKind::Full(text),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreErrorKind::ReadOnly(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Unreadable(text),
        Some(ErrorCode::TooBig) => StoreErrorKind::TooLarge(text),
        _ => StoreErrorKind::Unavailable(text),
    };
    StoreError::new(context, kind)
}

/// Stored data that is not what this program wrote.
pub(crate) fn unreadable(context: &str, reason: impl std::fmt::Display) -> StoreError {
    StoreError::new(context, StoreErrorKind::Unreadable(reason.to_string()))
}

/// The store is closed, or its writer is gone.
pub(crate) fn closed(context: &str) -> StoreError {
    StoreError::new(context, StoreErrorKind::Unavailable("the store is closed".into()))
}
