//! What has settled: a step, everything of a step below an item, the whole of it; and who is told of that.

use super::{Group, InstanceId, Node, RunState, StepState};
use crate::id::ItemKey;
use crate::plan::StepIx;

impl RunState {
    /// A step has settled, and with it perhaps everything that is below one of the items around it.
    pub(super) fn settled(&mut self, id: &InstanceId) {
        self.all_settled_within(id.step, &id.key);
        for depth in (0..id.key.len()).rev() {
            let outer = id.key.outer(depth);
            if let Some(group) = self.group_mut(id.step, &outer) {
                group.unsettled -= 1;
                if group.is_settled() {
                    self.all_settled_within(id.step, &outer);
                }
            }
        }
    }

    /// Everything of a step that is for `key`, or below it, has settled: whoever waits for that is told.
    fn all_settled_within(&mut self, step: StepIx, key: &ItemKey) {
        self.open_nodes -= usize::from(key.is_empty());
        let mapped = self.wiring.mapped_over(step).to_vec();
        if key.len() == self.wiring.depth(step) {
            // What it yielded is certain now: who is for an item that is not there, or should not be, is not to run.
            for id in mapped.iter().flat_map(|(_, consumer)| self.ids_within(*consumer, key)).collect::<Vec<_>>() {
                if self.item_of(&id).is_none() {
                    self.dependency_settled(&id);
                }
                self.revoke(&id);
            }
            self.release_hooks(step, key);
        }
        for edge in self.wiring.consumers(step).to_vec() {
            if usize::from(edge.depth) == key.len() {
                self.ids_within(edge.step, key).iter().for_each(|id| self.dependency_settled(id));
            }
        }
        for (_, consumer) in mapped {
            if let Some(group) = self.group_mut(consumer, key) {
                let first = !std::mem::replace(&mut group.closed, true);
                if first && group.unsettled == 0 {
                    self.all_settled_within(consumer, key);
                }
            }
        }
    }

    /// A step that had settled has not any more.
    pub(super) fn unsettled(&mut self, id: &InstanceId) {
        self.unsettled_within(id.step, &id.key);
        for depth in (0..id.key.len()).rev() {
            let outer = id.key.outer(depth);
            if let Some(group) = self.group_mut(id.step, &outer) {
                let before = group.is_settled();
                group.unsettled += 1;
                if before {
                    self.unsettled_within(id.step, &outer);
                }
            }
        }
    }

    /// Not everything of a step that is for `key`, or below it, has settled any more: whoever has not begun waits again.
    /// (Whoever has is for the item that has changed, and starts over.)
    fn unsettled_within(&mut self, step: StepIx, key: &ItemKey) {
        self.open_nodes += usize::from(key.is_empty());
        for edge in self.wiring.consumers(step).to_vec() {
            if usize::from(edge.depth) == key.len() {
                self.ids_within(edge.step, key).iter().for_each(|id| self.lacks_again(id));
            }
        }
        let mapped = self.wiring.mapped_over(step).to_vec();
        if key.len() == self.wiring.depth(step) {
            for id in mapped.iter().flat_map(|(_, consumer)| self.ids_within(*consumer, key)).collect::<Vec<_>>() {
                if self.item_of(&id).is_none() {
                    self.lacks_again(&id);
                } else if self.indices.skips.remove(&id).is_some()
                    && self.instance(&id).is_some_and(|one| one.waiting == 0)
                {
                    self.arrived(&id); // There may be another reason.
                }
            }
        }
        for (_, consumer) in mapped {
            if let Some(group) = self.group_mut(consumer, key) {
                let before = group.is_settled();
                group.closed = false;
                if before {
                    self.unsettled_within(consumer, key);
                }
            }
        }
    }

    fn group_mut(&mut self, step: StepIx, key: &ItemKey) -> Option<&mut Group> {
        match self.nodes.get_mut(step.index())? {
            Node::Single(_) => None,
            Node::Mapped { groups, .. } => groups.get_mut(key),
        }
    }

    pub(super) fn dependency_settled(&mut self, id: &InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        if instance.state != StepState::Pending || instance.waiting == 0 {
            return;
        }
        instance.waiting -= 1;
        if instance.waiting == 0 {
            self.arrived(id);
        }
    }
}
