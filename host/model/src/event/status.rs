//! Where a run stands as a whole.

use serde::{Deserialize, Serialize};

use super::RunEvent;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for its turn.
    Queued,
    /// Is being made ready.
    Starting,
    /// Runs.
    Started,
    /// Ended, nothing failed.
    Success,
    /// Ended, something failed.
    Failure,
    /// Is being stopped.
    Canceling,
    /// Was stopped.
    Canceled,
}

impl RunStatus {
    /// Its wire name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
        }
    }

    /// Nothing more will happen to the run.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Success | Self::Failure | Self::Canceled => true,
            Self::Queued | Self::Starting | Self::Started | Self::Canceling => false,
        }
    }

    /// The status after `event`; none when the event does not change it.
    #[must_use]
    pub const fn after(event: &RunEvent) -> Option<Self> {
        match event {
            RunEvent::RunEnqueued { .. } => Some(Self::Queued),
            RunEvent::RunStarting => Some(Self::Starting),
            RunEvent::RunStart => Some(Self::Started),
            RunEvent::RunSuccess => Some(Self::Success),
            RunEvent::RunFailure { .. } => Some(Self::Failure),
            RunEvent::RunCanceling { .. } => Some(Self::Canceling),
            RunEvent::RunCanceled => Some(Self::Canceled),
            _ => None,
        }
    }
}
