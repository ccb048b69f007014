//! What can go wrong between a user and a yard.

use opyard_engine::EngineError;
use opyard_model::diagnostic::Diagnostics;
use opyard_model::error::{Blame, Code, Failure};
use opyard_sandbox::SandboxError;
use opyard_store::error::StoreError;
use thiserror::Error;

/// What a user asked for could not be done.
#[derive(Debug, Error)]
pub enum YardError {
    /// Something that a person wrote is wrong: all of it, with places.
    #[error("the definitions are wrong")]
    Definitions(Diagnostics),
    /// Anything else, with the code that says whose move it is.
    #[error("{0}")]
    Failed(Failure),
}

impl YardError {
    /// A failure of that code.
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self::Failed(Failure::new(code, text))
    }

    /// Whose move it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Definitions(_) => Blame::Author,
            Self::Failed(failure) => failure.blame(),
        }
    }
}

impl From<Diagnostics> for YardError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Definitions(diagnostics)
    }
}

impl From<Failure> for YardError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for YardError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_failure())
    }
}

impl From<EngineError> for YardError {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.to_failure())
    }
}

impl From<SandboxError> for YardError {
    fn from(error: SandboxError) -> Self {
        Self::new(Code::FileUnreadable, format!("the sandbox cannot be made: {error}: {}", error.kind))
    }
}
