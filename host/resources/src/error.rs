//! What a resource answers when it cannot do what was asked.

use opyard_store::error::{StoreError, StoreErrorKind};
use thiserror::Error;

/// What a resource answers when it cannot do what was asked: the variant `error` of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResourceError {
    /// Not granted. Says nothing about whether the thing exists.
    #[error("denied")]
    Denied,
    /// There is no such thing.
    #[error("not found")]
    NotFound,
    /// A precondition did not hold.
    #[error("conflict")]
    Conflict,
    /// A limit; the text names it.
    #[error("limit: {0}")]
    Limit(String),
    /// The surroundings failed.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The call itself is wrong.
    #[error("invalid: {0}")]
    Invalid(String),
}

impl From<StoreError> for ResourceError {
    /// The operator's addresses and paths are not for the guest: the text keeps what happened and drops where.
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Missing(_) => Self::NotFound,
            StoreErrorKind::TooLarge(text) => Self::Limit(text),
            StoreErrorKind::Full(_) => Self::Unavailable("no space left".into()),
            _ => Self::Unavailable("the object store does not answer".into()),
        }
    }
}

impl From<object_store::Error> for ResourceError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => Self::Conflict,
            object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                Self::Invalid("this object store cannot do that".into())
            }
            object_store::Error::InvalidPath { .. } => Self::Invalid("not a path".into()),
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Unavailable("the object store refuses the operator's credentials".into())
            }
            _ => Self::Unavailable("the object store does not answer".into()),
        }
    }
}
