//! The memo: results that may be used again.

use std::time::Duration;

use async_trait::async_trait;
use opyard_model::id::RunId;
use opyard_model::memo::{MemoEntry, MemoKey};

use crate::error::StoreError;
use crate::event_log::Durable;

/// Largest entry, as JSON: 8 MiB, so that the items of a dynamic output fit, as many as there may be by default.
pub const MAX_ENTRY: usize = 8 << 20;
/// Longest lease of a claim; more is cut.
pub const MAX_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// The answer to a look-up.
#[derive(Debug, Clone, PartialEq)]
pub enum MemoAnswer {
    /// The result is here, and all of its artifacts are.
    Hit(Box<MemoEntry>),
    /// It is not, or too old, or one of its artifacts is missing. The asking run holds the key from now on (for `lease`,
    /// which asking again renews): it computes the result, or lets go.
    Miss,
    /// Another run is computing it. Ask again when its lease ends, or when the returned wait is over.
    Busy {
        /// When to ask again: the rest of the holder's lease, or less, since the holder may be done before it ends.
        wait: Duration,
    },
}

/// The memo of one tenant.
///
/// # Contract
/// One computation per key at a time: between a `Miss` and the holder's `record` or `release`, or the end of its lease,
/// everyone else is told `Busy`. First writer wins, but for an entry
/// that was found too old, or without its artifacts: a `Miss` for such a one makes room for the next. Between processes the
/// claims are shown with the next commit, so that two may compute the same key at the same moment; still, one result stays.
#[async_trait]
pub trait MemoStore: Send + Sync {
    /// Looks up results not older than `max_age` (none = any age), one answer per key, in order. A miss is a claim for
    /// `holder`, for `lease`.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn look_up(
        &self,
        keys: &[MemoKey],
        max_age: Option<Duration>,
        holder: RunId,
        lease: Duration,
    ) -> Result<Vec<MemoAnswer>, StoreError>;

    /// Stores a result and frees its key. It becomes durable after everything that was appended to the event log before:
    /// a memo never outlives the success that it is of. An entry that is there already stays.
    ///
    /// # Errors
    /// `Unavailable` (also when events of the entry's run were lost), `TooLarge` (over [`MAX_ENTRY`] as
    /// JSON): the key is still the holder's. The returned
    /// [`Durable`] fails with `Missing` when an artifact of the entry is not in the store.
    async fn record(&self, entry: MemoEntry) -> Result<Durable, StoreError>;

    /// Frees a key without a result.
    ///
    /// # Errors
    /// `Unavailable`; the lease frees it then.
    async fn release(&self, key: MemoKey, holder: RunId) -> Result<(), StoreError>;
}
