//! Watching a run.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use opyard_model::event::Recorded;
use opyard_model::id::RunId;
use opyard_store::error::StoreError;

use crate::error::YardError;
use crate::yard::Yard;

/// The durable events of a run as they come, until its last.
pub struct Following(BoxStream<'static, Result<Recorded, StoreError>>);

impl Following {
    /// The next event; none after the run's last.
    ///
    /// # Errors
    /// When the store does not answer.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it has taken nothing.
    pub async fn next(&mut self) -> Option<Result<Recorded, YardError>> {
        Some(self.0.next().await?.map_err(YardError::from))
    }
}

impl std::fmt::Debug for Following {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Following")
    }
}

impl Yard {
    /// Follows a run: its durable events after sequence number `after`, then those to come, whoever drives it.
    #[must_use]
    pub fn follow(&self, run: RunId, after: u64) -> Following {
        Following(self.tenant_store().events().follow(run, after))
    }
}
