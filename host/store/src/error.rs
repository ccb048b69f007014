//! Why a store could not do what it was asked.

use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::id::RunId;
use thiserror::Error;

/// A store could not do what it was asked. `Clone`, since one failed commit fails everyone who waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{context}")]
pub struct StoreError {
    /// What was being done, and to what.
    pub context: String,
    /// What went wrong.
    #[source]
    pub kind: StoreErrorKind,
}

/// What went wrong in a store.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No answer, or an error that may pass. What was written is in doubt; the same call may be repeated.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// No space left. Nothing was written.
    #[error("no space left: {0}")]
    Full(String),
    /// What has to be written may only be read. Nothing was written.
    #[error("it may not be written: {0}")]
    ReadOnly(String),
    /// Another process holds the database. Nothing was written.
    #[error("another process holds the database: {0}")]
    Locked(String),
    /// The log has other events than the caller has folded. Nothing was written: fold what was missed and decide again.
    #[error("expected event {expected} to be the last of {run}, but {last} is")]
    Conflict {
        /// The run.
        run: RunId,
        /// What the caller took for the last event.
        expected: u64,
        /// What is.
        last: u64,
    },
    /// Another process owns the run (or none does). Nothing was written.
    #[error("{run} is not owned by this process")]
    NotOwner {
        /// The run.
        run: RunId,
    },
    /// An artifact is not there. Also the answer when it is another tenant's.
    #[error("artifact {0} is not here")]
    Missing(Digest),
    /// An artifact's bytes are not those of its digest.
    #[error("artifact {0} was altered")]
    Corrupt(Digest),
    /// Beyond a bound of the store. Nothing was written; do not repeat.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The yard was made by a newer version.
    #[error("made by a newer version (format {found}, this program knows {known})")]
    Version {
        /// Format of the yard.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// A folder that has to be empty is not. Nothing was written.
    #[error("there is something in it already")]
    NotEmpty,
    /// A folder is not a whole backup, or one that was altered.
    #[error("not a whole backup: {0}")]
    NotABackup(String),
    /// Stored data that cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The caller asked for something that has no meaning (a malformed query or address).
    #[error("{0}")]
    Invalid(String),
}

impl StoreError {
    /// An error of `kind` while doing `context`.
    #[must_use]
    pub fn new(context: impl Into<String>, kind: StoreErrorKind) -> Self {
        Self { context: context.into(), kind }
    }

    /// The code that users see.
    #[must_use]
    pub fn code(&self) -> Code {
        match &self.kind {
            StoreErrorKind::Unavailable(_) => Code::StoreUnavailable,
            StoreErrorKind::Full(_) => Code::StoreFull,
            StoreErrorKind::Locked(_) => Code::YardLocked,
            StoreErrorKind::Conflict { .. } | StoreErrorKind::NotOwner { .. } => Code::NotOwner,
            StoreErrorKind::Missing(_) => Code::ArtifactMissing,
            StoreErrorKind::Corrupt(_) => Code::ArtifactCorrupt,
            StoreErrorKind::Unreadable(_) => Code::YardDamaged,
            StoreErrorKind::ReadOnly(_) => Code::FileUnreadable,
            StoreErrorKind::TooLarge(_) => Code::TooLarge,
            StoreErrorKind::Version { .. } => Code::YardVersion,
            StoreErrorKind::NotEmpty => Code::BadCall,
            StoreErrorKind::NotABackup(_) => Code::BackupUnusable,
            StoreErrorKind::Invalid(_) => Code::BadQuery,
        }
    }

    /// The same as a failure that can be recorded.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        Failure::new(self.code(), format!("{}: {}", self.context, self.kind))
    }
}
