//! IO managers: where outputs are kept beside the artifact store, and how they are loaded again.

use async_trait::async_trait;
use opyard_model::id::{ItemKey, Name, RunId, StepPath};
use opyard_model::json::CanonicalJson;
use opyard_model::value::ValueRef;

use crate::artifact::{ArtifactReader, ArtifactWriter};
use crate::error::StoreError;

/// Which output of which step of which run a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The job.
    pub job: Name,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
    /// The output port.
    pub output: Name,
    /// Which item it is, or which one the step is mapped over; empty for a plain one.
    pub keys: ItemKey,
}

/// Keeps outputs somewhere of its own. (`artifacts` is none of these: it keeps nothing beside the artifact store.)
///
/// # Contract
/// Each call ends within the bounds of its implementation in bytes and time; cancelling one leaves nothing half visible.
#[async_trait]
pub trait IoManager: Send + Sync {
    /// Keeps a value. Idempotent: the same slot and value again gives the same state. Returns how to find it again.
    ///
    /// # Errors
    /// `Unavailable`, `Full`, `Invalid`.
    async fn handle_output(
        &self,
        slot: &Slot,
        value: &ValueRef,
        bytes: &mut dyn ArtifactReader,
    ) -> Result<CanonicalJson, StoreError>;

    /// Loads what `handle_output` kept, into `into` (which is not finished here).
    ///
    /// # Errors
    /// `Unavailable`, `Invalid` when nothing is there.
    async fn load_input(&self, locator: &CanonicalJson, into: &mut dyn ArtifactWriter) -> Result<(), StoreError>;

    /// What tells that a kept value has not changed; none = cannot tell.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn fingerprint(&self, locator: &CanonicalJson) -> Result<Option<String>, StoreError>;

    /// The value is no longer referenced. Nothing there is fine.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn forget(&self, locator: &CanonicalJson) -> Result<(), StoreError>;
}
