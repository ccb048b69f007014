//! Why a resource could not do what it was asked.

use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::plan::Access;
use opyard_store::error::{StoreError, StoreErrorKind};
use thiserror::Error;

/// A resource could not do what it was asked: the `error` variant of the contract, word by word.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResourceError {
    /// Not granted. Says nothing about whether the thing exists.
    #[error("denied")]
    Denied,
    /// It is not there.
    #[error("not found")]
    NotFound,
    /// A precondition did not hold.
    #[error("the precondition did not hold")]
    Conflict,
    /// Beyond a bound.
    #[error("beyond a limit: {0}")]
    Limit(String),
    /// No answer, or an error that may pass.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Asked in a way that has no meaning.
    #[error("invalid: {0}")]
    Invalid(String),
}

/// What an op is told, and what the operator is told besides: an op hears no name and no place of the operator's.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{answer}")]
pub struct ResourceFailure {
    /// What the op is told.
    pub answer: ResourceError,
    /// What happened, for the operator; none when the op is told all of it. Never holds a byte of a secret.
    pub detail: Option<Box<Failure>>,
}

impl ResourceFailure {
    /// The op is told that something does not answer, the operator what and why.
    pub(crate) fn unavailable(told: &str, code: Code, detail: impl Into<String>) -> Self {
        let detail = Failure::new(code, sanitize(&detail.into(), MAX_DESCRIPTION));
        Self { answer: ResourceError::Unavailable(told.to_owned()), detail: Some(Box::new(detail)) }
    }

    /// The op is told no more than that, the operator which rule refuses what.
    pub(crate) fn denied(detail: impl Into<String>) -> Self {
        let detail = Failure::new(Code::ResourceDenied, sanitize(&detail.into(), MAX_DESCRIPTION));
        Self { answer: ResourceError::Denied, detail: Some(Box::new(detail)) }
    }
}

impl From<ResourceError> for ResourceFailure {
    fn from(answer: ResourceError) -> Self {
        Self { answer, detail: None }
    }
}

/// Whether a grant of `access` lets an op change something.
///
/// # Errors
/// `Denied`.
pub(crate) fn may_write(access: Access) -> Result<(), ResourceError> {
    match access {
        Access::ReadWrite => Ok(()),
        Access::Read => Err(ResourceError::Denied),
    }
}

impl From<StoreError> for ResourceError {
    /// Addresses and files of the operator are none of the op's business: the text keeps what happened and drops where.
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::TooLarge(reason) => Self::Limit(reason),
            StoreErrorKind::Full(_) => Self::Unavailable("no space left".into()),
            _ => Self::Unavailable("the object store does not answer".into()),
        }
    }
}
