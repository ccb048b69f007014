//! Why a run could not be driven on.

use opyard_model::error::{Code, Failure};
use opyard_model::event::EventDecodeError;
use opyard_model::id::RunId;
use opyard_model::state::IllegalTransition;
use opyard_store::error::StoreError;
use thiserror::Error;

/// A run cannot be driven on here. What was recorded of it stays; it can be taken up again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The store failed.
    #[error("the run's events cannot be kept")]
    Store(#[from] StoreError),
    /// The log holds an event that cannot follow the ones before it: a bug of ours, or an altered log.
    #[error("the run's events make no sense")]
    Illegal(#[from] IllegalTransition),
    /// The log holds an event that this version cannot read.
    #[error("the run's events cannot be read")]
    Event(#[from] EventDecodeError),
    /// The plan that the run was enqueued with cannot be read.
    #[error("the plan of {run} cannot be read: {reason}")]
    Plan {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// There is no such run.
    #[error("there is no run {0}")]
    UnknownRun(RunId),
}

impl EngineError {
    /// The same as a failure that users see.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        match self {
            Self::Store(error) => error.to_failure(),
            Self::Illegal(error) => Failure::new(Code::IllegalTransition, error.to_string()),
            Self::Event(error) => Failure::new(Code::YardVersion, error.to_string()),
            Self::Plan { .. } => Failure::new(Code::Invariant, self.to_string()),
            Self::UnknownRun(_) => Failure::new(Code::UnknownRun, self.to_string()),
        }
    }
}
