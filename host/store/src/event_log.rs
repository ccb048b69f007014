//! The event log: the only truth about runs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt, Shared};
use futures::stream::BoxStream;
use opyard_model::event::{Recorded, RunEvent};
use opyard_model::id::RunId;
use opyard_model::time::Timestamp;

use crate::error::StoreError;

/// Most events of one append.
pub const MAX_APPEND_EVENTS: usize = 10_000;
/// Most bytes of the payloads of one append: 16 MiB.
pub const MAX_APPEND_BYTES: usize = 16 << 20;
/// How often those who follow look for what other processes committed.
pub(crate) const POLL: Duration = Duration::from_millis(250);

/// Becomes ready when what it stands for is committed and synced, or when that failed. Cheap to clone; every clone gets
/// the same answer, and dropping it changes nothing.
#[derive(Clone)]
pub struct Durable {
    settled: Shared<BoxFuture<'static, Result<(), StoreError>>>,
    hurry: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Durable {
    /// Wraps a future.
    pub fn new(future: impl Future<Output = Result<(), StoreError>> + Send + 'static) -> Self {
        Self { settled: future.boxed().shared(), hurry: None }
    }

    /// The same, of a commit that gathers more while nobody waits: `hurry` is called when somebody does.
    #[must_use]
    pub fn hurried_by(self, hurry: impl Fn() + Send + Sync + 'static) -> Self {
        Self { hurry: Some(Arc::new(hurry)), ..self }
    }

    /// Something that is durable already.
    #[must_use]
    pub fn now() -> Self {
        Self::new(std::future::ready(Ok(())))
    }

    /// Waits, and has it committed at once.
    ///
    /// # Errors
    /// When the commit failed: what it held is not recorded, and neither is anything that was appended to the run later.
    pub async fn wait(&self) -> Result<(), StoreError> {
        self.hurry();
        self.settled().await
    }

    /// Has it committed at once, without waiting.
    pub(crate) fn hurry(&self) {
        if let Some(hurry) = &self.hurry
            && self.settled.peek().is_none()
        {
            hurry();
        }
    }

    /// Waits for as long as it takes: for those who want to know how it went, and can go on meanwhile.
    ///
    /// # Errors
    /// As those of [`wait`](Self::wait).
    pub async fn settled(&self) -> Result<(), StoreError> {
        self.settled.clone().await
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Durable")
    }
}

/// The answer to an append.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The sequence number of the last event of the run, the appended ones included.
    pub last_seq: u64,
    /// When the appended events, and all before them, are durable.
    pub durable: Durable,
}

/// The event log of one tenant.
///
/// # Contract
/// Events of a run have gap-free sequence numbers from 1. `append` is all or nothing, in the order of the calls. An
/// accepted event is in the run's *tail*: the caller may fold it at once; it is *durable* when [`Accepted::durable`] says
/// so. After one failed commit every later `durable` of that run fails and the tail is dropped: the caller drops its
/// state too and folds again from [`read`](Self::read). An event whose artifacts are not in the store (because the commit
/// that held them failed) fails its commit likewise. `read` and `follow` show durable events only.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends `events`, all or none, to the run's tail.
    ///
    /// `expected` is the sequence number of the last event that the caller has folded, 0 for a new run. Waits only when
    /// too much is on its way to the disk already (back-pressure). Empty `events` only checks `expected`.
    ///
    /// # Limits
    /// At most 10,000 events and 16 MiB of payload a call.
    ///
    /// # Errors
    /// `Conflict` when `expected` is stale; `NotOwner` when another process took the run over; `TooLarge`; `Invalid` when
    /// the first event of a run is not `RunEnqueued`, or another one is; `Unavailable` when the log is closed.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the events are accepted or not.
    async fn append(
        &self,
        run: RunId,
        expected: u64,
        events: Vec<(Timestamp, RunEvent)>,
    ) -> Result<Accepted, StoreError>;

    /// Reads durable events of a run after sequence number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// `Unavailable`, `Unreadable`. A run that is not there has no events.
    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Recorded>, StoreError>;

    /// Follows a run: durable events after `after`, then those to come, until the run's final event. Also sees what other
    /// processes commit, within half a second.
    fn follow(&self, run: RunId, after: u64) -> BoxStream<'static, Result<Recorded, StoreError>>;
}
