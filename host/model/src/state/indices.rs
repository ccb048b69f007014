//! What follows from the states of the steps, kept so that deciding need not look at every step.

use std::collections::{BTreeMap, BTreeSet};

use super::lanes::Turn;
use super::{InstanceId, MemoStanding, RunState, StepState};
use crate::event::SkipReason;
use crate::time::Timestamp;

/// The steps that something can be done about, by what it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Indices {
    /// Ready, and the memo is to be asked.
    pub(super) unlooked: BTreeSet<InstanceId>,
    /// Ready, and the plan has the result.
    pub(super) reusable: BTreeSet<InstanceId>,
    /// Ready to run.
    pub(super) runnable: BTreeSet<(Turn, InstanceId)>,
    /// Running.
    pub(super) running: BTreeSet<InstanceId>,
    /// Waiting for a moment.
    pub(super) retries: BTreeSet<(Timestamp, InstanceId)>,
    /// Pending, and can only be skipped.
    pub(super) skips: BTreeMap<InstanceId, SkipReason>,
    /// To be superseded.
    pub(super) stale: BTreeSet<InstanceId>,
}

/// The index that a step stands in, which follows from its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Pending,
    Unlooked,
    Reusable,
    Runnable(Turn),
    Running,
    Retries(Timestamp),
    Nowhere,
}

impl RunState {
    /// The index that a step in `state` stands in.
    pub(super) fn place_of(&self, id: &InstanceId, state: &StepState) -> Place {
        match state {
            StepState::Pending => Place::Pending,
            StepState::Ready { memo: MemoStanding::Unknown, .. } => Place::Unlooked,
            StepState::Ready { memo: MemoStanding::Run, .. } => Place::Runnable(self.turn(id.step)),
            StepState::Ready { memo: MemoStanding::Reuse, .. } => Place::Reusable,
            StepState::Running { .. } => Place::Running,
            StepState::UpForRetry { not_before, .. } => Place::Retries(*not_before),
            StepState::Success { .. } | StepState::Skipped(_) | StepState::Failure(_) | StepState::Canceled => {
                Place::Nowhere
            }
        }
    }
}

impl Indices {
    pub(super) fn leave(&mut self, place: Place, id: &InstanceId) {
        match place {
            Place::Pending => {
                self.skips.remove(id);
            }
            Place::Unlooked => {
                self.unlooked.remove(id);
            }
            Place::Reusable => {
                self.reusable.remove(id);
            }
            Place::Runnable(turn) => {
                self.runnable.remove(&(turn, id.clone()));
            }
            Place::Running => {
                self.running.remove(id);
            }
            Place::Retries(not_before) => {
                self.retries.remove(&(not_before, id.clone()));
            }
            Place::Nowhere => {}
        }
    }

    pub(super) fn enter(&mut self, place: Place, id: &InstanceId) {
        match place {
            Place::Unlooked => {
                self.unlooked.insert(id.clone());
            }
            Place::Reusable => {
                self.reusable.insert(id.clone());
            }
            Place::Runnable(turn) => {
                self.runnable.insert((turn, id.clone()));
            }
            Place::Running => {
                self.running.insert(id.clone());
            }
            Place::Retries(not_before) => {
                self.retries.insert((not_before, id.clone()));
            }
            Place::Pending | Place::Nowhere => {}
        }
    }
}
