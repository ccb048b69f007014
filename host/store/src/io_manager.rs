//! IO managers: where outputs are kept beside the artifact store, and how they are loaded again.

use async_trait::async_trait;
use opyard_model::component::TypeName;
use opyard_model::error::Failure;
use opyard_model::id::{MappingKey, Name, RunId, StepKey};
use opyard_model::json::CanonicalJson;
use opyard_model::metadata::MetadataEntry;
use opyard_model::value::{ArtifactRef, ValueRef};

use crate::artifact::{ArtifactReader, ArtifactWriter};

/// Which port of which step of which run a value is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The job.
    pub job: Name,
    /// The run.
    pub run: RunId,
    /// The step, with its own mapping keys.
    pub step: StepKey,
    /// The port.
    pub port: Name,
    /// The key of the item, of a dynamic output.
    pub item: Option<MappingKey>,
    /// What values of the port mean.
    pub type_name: TypeName,
}

impl Slot {
    /// The mapping keys of the step, then of the item; none for a plain one.
    pub fn keys(&self) -> impl Iterator<Item = &MappingKey> {
        self.step.mapping.iter().chain(&self.item)
    }
}

/// A value that was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// How to find it again.
    pub locator: CanonicalJson,
    /// What the manager has to tell of it.
    pub metadata: Vec<MetadataEntry>,
}

/// A value that was loaded into the artifact store.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Its bytes.
    pub artifact: ArtifactRef,
    /// What the manager attached to it.
    pub metadata: Vec<MetadataEntry>,
}

/// Keeps outputs somewhere of its own. (`artifacts` is none of these: it keeps nothing beside the artifact store.)
///
/// # Contract
/// Each call ends within the bounds of its implementation in bytes and time; cancelling one leaves nothing half visible.
///
/// # Errors
/// A failure that can be recorded as the step's: `OPY-131` when the manager cannot do what is asked, `OPY-306` when what
/// it stands on does not answer, and for one that a component ships, whatever became of that.
#[async_trait]
pub trait IoManager: Send + Sync {
    /// Keeps a value. Idempotent: the same slot and value again gives the same state.
    async fn handle_output(
        &self,
        slot: &Slot,
        value: &ValueRef,
        bytes: Box<dyn ArtifactReader>,
    ) -> Result<Stored, Failure>;

    /// Loads what is kept for `slot`, an input, into `into`, and finishes that.
    async fn load_input(
        &self,
        slot: &Slot,
        locator: &CanonicalJson,
        into: Box<dyn ArtifactWriter>,
    ) -> Result<Loaded, Failure>;

    /// What tells that a kept value has not changed, at most 1 KiB; none = cannot tell.
    async fn fingerprint(&self, locator: &CanonicalJson) -> Result<Option<String>, Failure>;

    /// The value is no longer referenced. Nothing there is fine.
    async fn forget(&self, locator: &CanonicalJson) -> Result<(), Failure>;
}
