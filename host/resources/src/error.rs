//! Why a resource could not do what it was asked.

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

/// An error of a resource as one of a store, for IO managers.
pub(crate) fn store_error(context: &str, error: ResourceError) -> StoreError {
    let kind = match error {
        ResourceError::Unavailable(reason) => StoreErrorKind::Unavailable(reason),
        ResourceError::Limit(reason) => StoreErrorKind::TooLarge(reason),
        other => StoreErrorKind::Invalid(other.to_string()),
    };
    StoreError::new(context, kind)
}
