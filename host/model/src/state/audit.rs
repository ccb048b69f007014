//! What is kept beside the states, computed again from the states alone.

use std::collections::BTreeSet;

use super::bind::Verdict;
use super::indices::Indices;
use super::whole::Whole;
use super::{Group, InstanceId, Node, RunState, StepState};
use crate::event::RunStatus;
use crate::id::ItemKey;

impl RunState {
    /// Compares everything that is kept for speed with what follows from the states. Looks at every step; for tests and
    /// for diagnosis.
    ///
    /// # Errors
    /// The first thing that differs: a bug of ours.
    pub fn audit(&self) -> Result<(), String> {
        let mut indices = Indices::default();
        let mut whole = Whole::new(&self.lanes);
        let (mut unfinished, mut failed) = (0, 0);
        for (id, instance) in self.instances() {
            let fits = |holds: bool, what: &str| {
                if holds { Ok(()) } else { Err(format!("{} is {instance:?}, but {what}", id.step_key(&self.plan))) }
            };
            unfinished += usize::from(!instance.state.is_final());
            whole.enter(&self.lanes, &id, &instance.state);
            if !instance.stale && matches!(instance.state, StepState::Failure(_)) {
                failed += 1;
                whole.fail(id.step);
            }
            if instance.stale {
                fits(instance.state != StepState::Pending, "stale")?;
                indices.stale.insert(id.clone());
            }
            if !instance.stale || matches!(instance.state, StepState::Running { .. }) {
                indices.enter(self.place_of(&id, &instance.state), &id);
            }
            if instance.state != StepState::Pending {
                continue;
            }
            let waiting = self.count_waiting(&id);
            fits(instance.waiting == waiting, &format!("waits for {waiting}"))?;
            if let Some(reason) = self.skip_of(&id, waiting) {
                indices.skips.insert(id.clone(), reason);
            } else {
                fits(waiting > 0 || self.status != Some(RunStatus::Started), "waits for nothing")?;
            }
        }
        let open =
            self.nodes.iter().zip(self.plan.indices()).filter(|(_, ix)| !self.is_settled(*ix, &ItemKey::NONE)).count();
        for ((what, kept), found) in [("open nodes", self.open_nodes), ("unfinished", self.unfinished)]
            .into_iter()
            .chain([("failed", self.failed as usize)])
            .zip([open, unfinished, failed])
        {
            if kept != found {
                return Err(format!("{what}: {kept} kept, {found} found"));
            }
        }
        let Whole { tags, started_at, cpu, stopped: _, failed_in: _, running_in: _ } = self.whole.clone();
        let whole = Whole { tags, started_at, cpu, ..whole };
        if self.whole != whole {
            return Err(format!("{:?} kept, {whole:?} found", self.whole));
        }
        if self.indices != indices {
            return Err(format!("indices:\n{:?} kept\n{indices:?} found", self.indices));
        }
        self.audit_hooks()?;
        self.audit_nodes()
    }

    fn audit_nodes(&self) -> Result<(), String> {
        let mut items = 0;
        for (ix, node) in self.plan.indices().zip(&self.nodes) {
            let (Node::Mapped { instances, groups }, Some(slot)) = (node, self.plan.step(ix).mapped_over) else {
                continue;
            };
            items += instances.len();
            let mut around: BTreeSet<_> = instances.keys().map(|key| key.outer(key.len() - 1)).collect();
            around.retain(|key| !groups.contains_key(key));
            if !around.is_empty() {
                return Err(format!("{:?}: no groups {around:?}", self.plan.step(ix).path));
            }
            for (key, group) in groups {
                let unsettled =
                    self.within(ix, key).map(|(_, instance)| u32::from(!instance.is_settled())).sum::<u32>();
                let found = Group { unsettled, closed: self.is_settled(slot.step, key) };
                if *group != found {
                    return Err(format!("{:?} {key:?}: {group:?} kept, {found:?} found", self.plan.step(ix).path));
                }
            }
        }
        if self.items == items { Ok(()) } else { Err(format!("{} items kept, {items} found", self.items)) }
    }

    /// Why a pending step is to be skipped, if it is.
    fn skip_of(&self, id: &InstanceId, waiting: u32) -> Option<crate::event::SkipReason> {
        if let Some(reason) = self.revoked(id) {
            return Some(reason);
        }
        match self.verdict(id) {
            Verdict::Skip(reason) if waiting == 0 => Some(reason),
            Verdict::Skip(_) | Verdict::Run => None,
        }
    }
}
