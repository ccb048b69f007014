//! What is known of a run as a whole: its tags, when it began, what it has cost, what failed, what was stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lanes::Lanes;
use super::{InstanceId, RunState, StepState};
use crate::condition::Facts;
use crate::event::SkipReason;
use crate::id::StepPath;
use crate::limits::Usage;
use crate::plan::StepIx;
use crate::time::Timestamp;

/// What is known of a run as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Whole {
    /// Its tags.
    pub(super) tags: BTreeMap<String, String>,
    /// When its first steps could start.
    pub(super) started_at: Option<Timestamp>,
    /// The CPU time of all tries that have ended.
    pub(super) cpu: Duration,
    /// Steps that were stopped, or skipped since the run is.
    pub(super) stopped: u32,
    /// How many instances of a step failed and are not to be superseded; only of steps of which one did.
    pub(super) failed_in: BTreeMap<StepIx, u32>,
    /// How many steps of each group run.
    pub(super) running_in: Vec<u32>,
}

fn was_stopped(state: &StepState) -> bool {
    matches!(state, StepState::Canceled | StepState::Skipped(SkipReason::Canceled))
}

impl Whole {
    pub(super) fn new(lanes: &Lanes) -> Self {
        Self { running_in: vec![0; lanes.groups()], ..Self::default() }
    }

    /// A try has ended.
    pub(super) fn used(&mut self, usage: &Usage) {
        self.cpu = self.cpu.saturating_add(usage.cpu);
    }

    /// A step is there in a state.
    pub(super) fn enter(&mut self, lanes: &Lanes, id: &InstanceId, state: &StepState) {
        self.stopped += u32::from(was_stopped(state));
        if matches!(state, StepState::Running { .. }) {
            for group in lanes.lane_of(id.step).into_iter().flat_map(|lane| &lane.groups) {
                self.running_in[*group] += 1;
            }
        }
    }

    /// A step is not in that state any more.
    pub(super) fn leave(&mut self, lanes: &Lanes, id: &InstanceId, state: &StepState) {
        self.stopped -= u32::from(was_stopped(state));
        if matches!(state, StepState::Running { .. }) {
            for group in lanes.lane_of(id.step).into_iter().flat_map(|lane| &lane.groups) {
                self.running_in[*group] -= 1;
            }
        }
    }

    /// A step has failed.
    pub(super) fn fail(&mut self, step: StepIx) {
        *self.failed_in.entry(step).or_default() += 1;
    }

    /// It has not, or that is to be superseded.
    pub(super) fn unfail(&mut self, step: StepIx) {
        if let Some(count) = self.failed_in.get_mut(&step) {
            *count -= 1;
            if *count == 0 {
                self.failed_in.remove(&step);
            }
        }
    }
}

impl RunState {
    /// When the first steps could start; none before.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.whole.started_at
    }

    /// The CPU time of all tries that have ended.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.whole.cpu
    }

    /// The tags of the run.
    #[must_use]
    pub fn tags(&self) -> &BTreeMap<String, String> {
        &self.whole.tags
    }

    /// A step was stopped, or skipped since the run is being stopped.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        self.whole.stopped > 0
    }
}

impl Facts for RunState {
    fn failed_steps(&self) -> u32 {
        self.failed()
    }

    fn has_failed(&self, step: &StepPath) -> bool {
        // A step that is not in this plan (of a re-run, say) has not failed in this run.
        self.find(step).is_some_and(|step| self.whole.failed_in.contains_key(&step))
    }

    fn tag(&self, key: &str) -> Option<&str> {
        self.whole.tags.get(key).map(String::as_str)
    }
}
