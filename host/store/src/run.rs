//! The run index: one row a run, kept by the same writer as the events that it is a fold of.

use std::collections::BTreeMap;

use opyard_model::error::{Code, Failure};
use opyard_model::event::{RunEvent, RunStatus};
use opyard_model::id::{Name, RunId};
use opyard_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How many steps of a run ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    /// Steps of the plan; a mapped one counts once here, and once per item in the others.
    pub planned: u32,
    /// Ran and succeeded.
    pub success: u32,
    /// Found in the memo.
    pub memoized: u32,
    /// Taken from an earlier run.
    pub reused: u32,
    /// Did not have to run.
    pub skipped: u32,
    /// Failed.
    pub failure: u32,
    /// Were stopped.
    pub canceled: u32,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepEnd {
    Success,
    Memoized,
    Reused,
    Skipped,
    Failure,
    Canceled,
}

impl StepEnd {
    /// The end that `event` says.
    pub(crate) fn of(event: &RunEvent) -> Option<Self> {
        match event {
            RunEvent::StepFailure { failure, .. } => Self::from_row(event.kind(), Some(failure.code)),
            _ => Self::from_row(event.kind(), None),
        }
    }

    /// The end that an event of that kind with that code says.
    pub(crate) fn from_row(kind: &str, code: Option<Code>) -> Option<Self> {
        match kind {
            "step_success" => Some(Self::Success),
            "step_memoized" => Some(Self::Memoized),
            "step_reused" => Some(Self::Reused),
            "step_skipped" => Some(Self::Skipped),
            "step_failure" if code == Some(Code::Canceled) => Some(Self::Canceled),
            "step_failure" => Some(Self::Failure),
            _ => None,
        }
    }
}

impl StepCounts {
    fn of(&mut self, end: StepEnd) -> &mut u32 {
        match end {
            StepEnd::Success => &mut self.success,
            StepEnd::Memoized => &mut self.memoized,
            StepEnd::Reused => &mut self.reused,
            StepEnd::Skipped => &mut self.skipped,
            StepEnd::Failure => &mut self.failure,
            StepEnd::Canceled => &mut self.canceled,
        }
    }
}

/// What there is to say of a run without reading its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Its job.
    pub job: Name,
    /// Its environment.
    pub environment: Option<Name>,
    /// The run that it goes on from, if it is a re-run.
    pub parent: Option<RunId>,
    /// The first run of the line that it is of, if it is a re-run.
    pub root: Option<RunId>,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was asked for.
    pub enqueued_at: Timestamp,
    /// When its first steps could start.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How its steps ended so far.
    pub steps: StepCounts,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl RunSummary {
    /// The summary of a run whose first event is `event`; none when that is not `RunEnqueued`.
    pub(crate) fn first(run: RunId, at: Timestamp, event: &RunEvent) -> Option<Self> {
        let RunEvent::RunEnqueued { job, environment, steps, tags, parent, root, .. } = event else { return None };
        Some(Self {
            run,
            job: job.clone(),
            environment: environment.clone(),
            parent: *parent,
            root: *root,
            status: RunStatus::Queued,
            enqueued_at: at,
            started_at: None,
            ended_at: None,
            steps: StepCounts { planned: *steps, ..StepCounts::default() },
            failure: None,
            tags: tags.clone(),
        })
    }

    /// Folds an event. `undone` is how a superseded step had ended.
    pub(crate) fn apply(&mut self, at: Timestamp, event: &RunEvent, undone: Option<StepEnd>) {
        if let Some(status) = RunStatus::after(event) {
            self.status = status;
            if status == RunStatus::Started {
                self.started_at.get_or_insert(at);
            }
            if status.is_final() {
                self.ended_at = Some(at);
            }
        }
        if let RunEvent::RunFailure { failure } = event {
            self.failure = Some(failure.clone());
        }
        if let Some(end) = StepEnd::of(event) {
            *self.steps.of(end) += 1;
        }
        if let Some(end) = undone {
            let count = self.steps.of(end);
            *count = count.saturating_sub(1);
        }
    }
}

/// Which runs to list. The default lists all, the newest 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this job only.
    pub job: Option<Name>,
    /// In one of these only; empty = any.
    pub status: Vec<RunStatus>,
    /// Older than this run only: the last of the page before.
    pub before: Option<RunId>,
    /// At most so many, 1,000 at most.
    pub limit: usize,
}

impl Default for RunFilter {
    fn default() -> Self {
        Self { job: None, status: Vec::new(), before: None, limit: 100 }
    }
}

/// Most runs in one page.
pub const MAX_PAGE: usize = 1_000;

/// The status of that name.
pub(crate) fn status_from_name(name: &str) -> Option<RunStatus> {
    use RunStatus::{Canceled, Canceling, Failure, Queued, Started, Starting, Success};
    [Queued, Starting, Started, Success, Failure, Canceling, Canceled].into_iter().find(|status| status.name() == name)
}
