//! Steps that start under the same conditions: what follows from the plan alone, computed once per run.
//!
//! Steps that are ready wait in *lanes*. All steps of a lane are held back by the same limits, so that deciding looks at
//! the first of each lane and never at the ones behind it.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{InstanceId, RunState};
use crate::id::Name;
use crate::plan::{Plan, StepIx};

/// Names a lane of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneIx(u32);

/// Steps that are held back by the same limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The groups of [`RunPolicy::tag_limits`](crate::plan::RunPolicy) that they count in, as indices of
    /// [`RunState::groups`].
    pub groups: Vec<usize>,
    /// The pool of which each of them needs a slot.
    pub pool: Option<Name>,
}

/// Where a step that is ready stands in line: by lane, then by priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    lane: LaneIx,
    rank: Reverse<i32>,
}

/// The lanes of a plan.
#[derive(Debug, PartialEq)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// Of each step; empty when there is only one lane.
    of: Vec<LaneIx>,
    /// How many steps of each group may run.
    limits: Vec<u32>,
}

impl Lanes {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut lanes = Self { lanes: Vec::new(), of: Vec::new(), limits: Vec::new() };
        let mut known: HashMap<Lane, LaneIx> = HashMap::new();
        let mut groups: HashMap<(usize, &str), usize> = HashMap::new();
        for step in &plan.steps {
            let mut lane = Lane { groups: Vec::new(), pool: step.pool.clone() };
            for (nth, limit) in plan.policy.tag_limits.iter().enumerate() {
                let Some(name) = limit.group(&step.tags) else { continue };
                lane.groups.push(*groups.entry((nth, name)).or_insert_with(|| {
                    lanes.limits.push(limit.limit);
                    lanes.limits.len() - 1
                }));
            }
            let next = LaneIx(u32::try_from(known.len()).unwrap_or(u32::MAX));
            let ix = *known.entry(lane.clone()).or_insert_with(|| {
                lanes.lanes.push(lane);
                next
            });
            lanes.of.push(ix);
        }
        if lanes.lanes.len() < 2 {
            lanes.of = Vec::new();
        }
        lanes
    }

    pub(super) fn groups(&self) -> usize {
        self.limits.len()
    }

    pub(super) fn lane_of(&self, step: StepIx) -> Option<&Lane> {
        self.lanes.get(self.ix_of(step).0 as usize)
    }

    fn ix_of(&self, step: StepIx) -> LaneIx {
        self.of.get(step.index()).copied().unwrap_or_default()
    }
}

impl RunState {
    pub(super) fn turn(&self, step: StepIx) -> Turn {
        Turn { lane: self.lanes.ix_of(step), rank: Reverse(self.plan.step(step).priority) }
    }

    /// The lanes in which steps are ready to run. Costs as many looks as there are.
    pub fn waiting_lanes(&self) -> impl Iterator<Item = LaneIx> {
        let next = |after: Option<LaneIx>| {
            let from = LaneIx(after.map_or(0, |lane| lane.0.saturating_add(1)));
            self.indices.runnable.range(head_of(from)..).next().map(|(turn, _)| turn.lane)
        };
        std::iter::successors(next(None), move |lane| next(Some(*lane)))
    }

    /// Steps of one lane that are ready to run, the highest priority first, then in topological order.
    pub fn line(&self, lane: LaneIx) -> impl Iterator<Item = (Reverse<i32>, &InstanceId)> {
        let line = self.indices.runnable.range(head_of(lane)..);
        line.take_while(move |(turn, _)| turn.lane == lane).map(|(turn, id)| (turn.rank, id))
    }

    /// The step is ready to run.
    #[must_use]
    pub fn is_runnable(&self, id: &InstanceId) -> bool {
        self.indices.runnable.contains(&(self.turn(id.step), id.clone()))
    }

    /// What holds back a step, once it is ready.
    #[must_use]
    pub fn lane_of(&self, step: StepIx) -> Option<&Lane> {
        self.lanes.lane_of(step)
    }

    /// What holds back the steps of a lane.
    #[must_use]
    pub fn lane(&self, lane: LaneIx) -> Option<&Lane> {
        self.lanes.lanes.get(lane.0 as usize)
    }

    /// How many steps of each group run, and may run.
    pub fn groups(&self) -> impl Iterator<Item = (u32, u32)> {
        self.whole.running_in.iter().copied().zip(self.lanes.limits.iter().copied())
    }
}

/// Comes before all steps of a lane.
fn head_of(lane: LaneIx) -> (Turn, InstanceId) {
    (Turn { lane, rank: Reverse(i32::MAX) }, InstanceId::single(StepIx(0)))
}
