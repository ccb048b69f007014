//! The transition table: what each event does to the state of a run, and where it cannot happen.

use std::collections::BTreeSet;
use std::fmt;

use super::bind::Verdict;
use super::indices::Place;
use super::wiring::Edge;
use super::{IllegalTransition, Instance, InstanceId, Item, MemoStanding, Node, Provenance, RunState, StepState};
use crate::error::Code;
use crate::event::{Attempt, Recorded, RunEvent, RunStatus, SkipReason};
use crate::id::{MappingKey, StepKey};
use crate::plan::StepIx;
use crate::value::Yielded;

impl RunState {
    /// Folds one event.
    ///
    /// # Errors
    /// When the event cannot follow the ones before it. The state is then as it was.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalTransition> {
        let event = &recorded.event;
        let illegal = |reason: String| IllegalTransition {
            event: event.kind(),
            subject: event.step().map_or_else(|| recorded.run.to_string(), ToString::to_string),
            reason,
        };
        if recorded.seq != self.last_seq + 1 {
            return Err(illegal(format!("event {} came after event {}", recorded.seq, self.last_seq)));
        }
        self.transition(event).map_err(illegal)?;
        if let Some(status) = RunStatus::after(event) {
            self.status = Some(status);
        }
        if matches!(event, RunEvent::RunStart) {
            self.whole.started_at = Some(recorded.at);
        }
        self.last_seq = recorded.seq;
        Ok(())
    }

    fn transition(&mut self, event: &RunEvent) -> Result<(), String> {
        match event {
            RunEvent::RunEnqueued { use_memo, tags, .. } => {
                self.expect_status(&[None])?;
                self.use_memo = *use_memo;
                self.whole.tags.clone_from(tags);
            }
            RunEvent::RunDequeued | RunEvent::RunStarting => self.expect_status(&[Some(RunStatus::Queued)])?,
            RunEvent::RunStart => {
                self.expect_status(&[Some(RunStatus::Starting)])?;
                self.release_first_steps();
            }
            RunEvent::RunSuccess => {
                self.expect_status(&[Some(RunStatus::Started)])?;
                self.expect(self.all_settled() && self.failed == 0, "steps are open, or failed")?;
            }
            RunEvent::RunFailure { .. } => {
                self.expect_status(&[Some(RunStatus::Queued), Some(RunStatus::Starting), Some(RunStatus::Started)])?;
                // Before its start a run can fail as a whole: then no step has begun.
                self.expect(self.unfinished == 0 || self.status != Some(RunStatus::Started), "steps are open")?;
            }
            RunEvent::RunCanceling { .. } => {
                self.expect_status(&[Some(RunStatus::Queued), Some(RunStatus::Starting), Some(RunStatus::Started)])?;
            }
            RunEvent::RunCanceled => {
                self.expect_status(&[Some(RunStatus::Canceling)])?;
                self.expect(self.unfinished == 0, "steps are open")?;
            }
            RunEvent::StepWaiting { step, generation, .. } => {
                self.expect_status(&[Some(RunStatus::Started)])?;
                self.ready_at(step, *generation, MemoStanding::Run)?;
            }
            RunEvent::StepStart { of } => {
                self.expect_status(&[Some(RunStatus::Started)])?;
                let id = self.at_attempt(of)?;
                match self.state_of(&id)? {
                    StepState::Ready { attempt, memo: MemoStanding::Run } if *attempt == of.attempt => {}
                    other => return Err(wrong_state(other)),
                }
                self.set_state(&id, StepState::Running { attempt: of.attempt, outputs: Vec::new() });
            }
            RunEvent::StepOutput { of, output } => {
                let id = self.expect_running(of)?;
                self.yielded(&id, of.attempt, output)?;
            }
            RunEvent::StepSuccess { of, usage } => {
                let id = self.expect_running(of)?;
                self.whole.used(usage);
                self.succeed(&id, of.attempt, Provenance::Execution);
            }
            RunEvent::StepFailure { of, failure, usage } => {
                let id = self.expect_running(of)?;
                self.whole.used(usage);
                let state = if failure.code == Code::Canceled {
                    StepState::Canceled
                } else {
                    StepState::Failure(Box::new(failure.clone()))
                };
                self.set_state(&id, state);
            }
            RunEvent::StepSkipped { step, generation, reason } => {
                let id = self.at_generation(step, *generation)?;
                match self.state_of(&id)? {
                    StepState::Pending | StepState::Ready { .. } | StepState::UpForRetry { .. } => {}
                    other => return Err(wrong_state(other)),
                }
                self.set_state(&id, StepState::Skipped(*reason));
            }
            RunEvent::StepUpForRetry { of, not_before, usage, .. } => {
                let id = self.expect_running(of)?;
                self.whole.used(usage);
                self.set_state(&id, StepState::UpForRetry { attempt: of.attempt + 1, not_before: *not_before });
            }
            RunEvent::StepRestarted { of } => {
                let id = self.at_attempt(of)?;
                match self.state_of(&id)? {
                    StepState::UpForRetry { attempt, .. } if *attempt == of.attempt => {}
                    other => return Err(wrong_state(other)),
                }
                self.set_state(&id, StepState::Ready { attempt: of.attempt, memo: MemoStanding::Run });
            }
            RunEvent::StepSuperseded { step, generation } => {
                let before = generation.checked_sub(1).ok_or("generations start at 0")?;
                let id = self.at_generation(step, before)?;
                self.expect(
                    self.instance(&id).is_some_and(|instance| instance.stale),
                    "nothing that it was given has changed",
                )?;
                self.supersede(&id);
            }
            RunEvent::StepMemoized { step, generation, outputs, .. } => {
                let id = self.ready_at(step, *generation, MemoStanding::Unknown)?;
                self.succeed_with(&id, outputs, Provenance::Memo)?;
            }
            RunEvent::StepReused { step, generation, outputs, .. } => {
                let id = self.ready_at(step, *generation, MemoStanding::Reuse)?;
                self.succeed_with(&id, outputs, Provenance::EarlierRun)?;
            }
            RunEvent::StepMemoMissed { step, generation, .. } => {
                let id = self.ready_at(step, *generation, MemoStanding::Unknown)?;
                self.set_state(&id, StepState::Ready { attempt: 0, memo: MemoStanding::Run });
            }
            RunEvent::AssetMaterialization { of, from_memo: true, .. }
            | RunEvent::AssetObservation { of, from_memo: true, .. }
            | RunEvent::StepExpectationResult { of, from_memo: true, .. }
            | RunEvent::Metric { of, from_memo: true, .. } => {
                let id = self.at_attempt(of)?;
                match self.state_of(&id)? {
                    StepState::Success { from: Provenance::Memo, .. } => {}
                    other => return Err(wrong_state(other)),
                }
            }
            RunEvent::HandledOutput { of, .. } | RunEvent::TypeCheckSuccess { of, .. } => {
                // On a memo hit the outputs are checked, and the managers take them, before the hit is said.
                let id = self.at_attempt(of)?;
                match self.state_of(&id)? {
                    StepState::Running { attempt, .. } if *attempt == of.attempt => {}
                    StepState::Ready { memo: MemoStanding::Unknown, .. } => {}
                    other => return Err(wrong_state(other)),
                }
            }
            RunEvent::StepInput { of, .. }
            | RunEvent::ResourceInitStarted { of, .. }
            | RunEvent::ResourceInitSuccess { of, .. }
            | RunEvent::ResourceInitFailure { of, .. }
            | RunEvent::TypeCheckFailure { of, .. }
            | RunEvent::AssetMaterialization { of, from_memo: false, .. }
            | RunEvent::AssetObservation { of, from_memo: false, .. }
            | RunEvent::StepExpectationResult { of, from_memo: false, .. }
            | RunEvent::Metric { of, from_memo: false, .. }
            | RunEvent::Log { of, .. }
            | RunEvent::Progress { of, .. }
            | RunEvent::LimitReached { of, .. }
            | RunEvent::GrantDenied { of, .. } => {
                self.expect_running(of)?;
            }
            RunEvent::EngineEvent { .. } => self.expect(self.status.is_some(), "the run has not begun")?,
        }
        Ok(())
    }

    // What an event must find.

    fn expect(&self, holds: bool, otherwise: impl fmt::Display) -> Result<(), String> {
        if holds { Ok(()) } else { Err(otherwise.to_string()) }
    }

    fn expect_status(&self, allowed: &[Option<RunStatus>]) -> Result<(), String> {
        let name = self.status.map_or("not begun", RunStatus::name);
        self.expect(allowed.contains(&self.status), format_args!("the run is {name}"))
    }

    fn state_of(&self, id: &InstanceId) -> Result<&StepState, String> {
        self.instance(id).map(|instance| &instance.state).ok_or_else(|| "there is no such step".to_owned())
    }

    fn at_generation(&self, step: &StepKey, generation: u32) -> Result<InstanceId, String> {
        let id = self.locate(step).ok_or("there is no such step")?;
        let instance = self.instance(&id).ok_or("there is no such item")?;
        self.expect(instance.generation == generation, format_args!("it is in generation {}", instance.generation))?;
        Ok(id)
    }

    fn at_attempt(&self, of: &Attempt) -> Result<InstanceId, String> {
        self.at_generation(&of.step, of.generation)
    }

    fn expect_running(&self, of: &Attempt) -> Result<InstanceId, String> {
        let id = self.at_attempt(of)?;
        match self.state_of(&id)? {
            StepState::Running { attempt, .. } if *attempt == of.attempt => Ok(id),
            other => Err(wrong_state(other)),
        }
    }

    fn ready_at(&self, step: &StepKey, generation: u32, standing: MemoStanding) -> Result<InstanceId, String> {
        let id = self.at_generation(step, generation)?;
        match self.state_of(&id)? {
            StepState::Ready { memo, .. } if *memo == standing => Ok(id),
            other => Err(wrong_state(other)),
        }
    }

    fn port_of(&self, id: &InstanceId, output: &Yielded) -> Result<(u16, bool), String> {
        let ports = &self.plan.step(id.step).outputs;
        let index = ports.iter().position(|port| port.port == output.port).ok_or("there is no such output")?;
        let dynamic = ports[index].dynamic;
        self.expect(!dynamic || output.value.mapping_key.is_some(), "an item of a dynamic output has a mapping key")?;
        Ok((u16::try_from(index).map_err(|_| "too many outputs")?, dynamic))
    }

    // What an event does.

    fn release_first_steps(&mut self) {
        for step in self.plan.indices() {
            let id = InstanceId { step, key: None };
            if self.instance(&id).is_some_and(|instance| instance.waiting == 0) {
                self.arrived(&id);
            }
        }
    }

    fn yielded(&mut self, id: &InstanceId, attempt: u32, output: &Yielded) -> Result<(), String> {
        let (port, dynamic) = self.port_of(id, output)?;
        let ports = self.plan.step(id.step).outputs.len();
        let instance = self.instance_mut(id).ok_or("there is no such step")?;
        match (&output.value.mapping_key, dynamic) {
            (Some(key), true) => {
                let place = (port, key.clone());
                if instance.items.get(&place).is_some_and(|before| before.attempt == attempt) {
                    return Err("the item was yielded before".to_owned());
                }
                let item = Item { value: output.value.clone(), attempt };
                let before = instance.items.insert(place, item);
                let changed = before.as_ref().is_some_and(|before| before.value.identity() != output.value.identity());
                for (at, consumer) in self.mapped_consumers(id.step) {
                    if at != port {
                        continue;
                    }
                    let consumer = InstanceId { step: consumer, key: Some(key.clone()) };
                    if before.is_none() {
                        self.create(consumer);
                    } else if changed {
                        self.mark_stale(&consumer);
                    }
                }
            }
            (None, true) => return Err("an item of a dynamic output has a mapping key".to_owned()),
            (_, false) => {
                let StepState::Running { outputs, .. } = &mut instance.state else {
                    return Err("it does not run".to_owned());
                };
                if outputs.iter().any(|one| one.port == output.port) {
                    return Err("the output was yielded before".to_owned());
                }
                // As many as there can be: a vector that grows by itself holds room for four, in every step of the run.
                outputs.reserve_exact(ports.saturating_sub(outputs.len()));
                outputs.push(output.clone());
            }
        }
        Ok(())
    }

    /// Ends a step with a result that is there already.
    fn succeed_with(&mut self, id: &InstanceId, outputs: &[Yielded], from: Provenance) -> Result<(), String> {
        // Checked whole before anything is changed.
        let mut seen = BTreeSet::new();
        for output in outputs {
            let (port, dynamic) = self.port_of(id, output)?;
            let key = output.value.mapping_key.as_ref().filter(|_| dynamic);
            self.expect(seen.insert((port, key)), "the output was yielded before")?;
        }
        self.set_state(id, StepState::Running { attempt: 0, outputs: Vec::new() });
        for output in outputs {
            self.yielded(id, 0, output)?;
        }
        self.succeed(id, 0, from);
        Ok(())
    }

    fn succeed(&mut self, id: &InstanceId, attempt: u32, from: Provenance) {
        let Some(instance) = self.instance_mut(id) else { return };
        let outputs = match &mut instance.state {
            StepState::Running { outputs, .. } => std::mem::take(outputs),
            _ => Vec::new(),
        };
        // Items of earlier tries that this one did not yield again were provisional, and are gone.
        let gone: Vec<(u16, MappingKey)> =
            instance.items.iter().filter(|(_, item)| item.attempt != attempt).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            instance.items.remove(key);
        }
        for (port, key) in gone {
            for (at, consumer) in self.mapped_consumers(id.step) {
                if at == port {
                    self.revoke(&InstanceId { step: consumer, key: Some(key.clone()) }, SkipReason::NotYielded);
                }
            }
        }
        self.set_state(id, StepState::Success { outputs, from });
    }

    fn mapped_consumers(&self, producer: StepIx) -> Vec<(u16, StepIx)> {
        self.wiring.mapped_over(producer).to_vec()
    }

    fn create(&mut self, id: InstanceId) {
        let Some(key) = id.key.clone() else { return };
        let waiting = self.count_waiting(&id);
        if let Some(Node::Mapped { instances, unsettled, .. }) = self.nodes.get_mut(id.step.index()) {
            instances.insert(key, Instance::new(waiting));
            *unsettled += 1;
            self.unfinished += 1;
        }
        if waiting == 0 {
            self.arrived(&id);
        }
    }

    /// How many dependencies of a step have not settled.
    pub(super) fn count_waiting(&self, id: &InstanceId) -> u32 {
        let open = |(producer, edge): &&(StepIx, Edge)| match edge {
            Edge::Whole => !self.node_settled(*producer),
            Edge::SameKey => {
                let producer = InstanceId { step: *producer, key: id.key.clone() };
                self.instance(&producer).is_some_and(|instance| !instance.is_settled())
            }
        };
        u32::try_from(self.wiring.dependencies(id.step).iter().filter(open).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn node_settled(&self, ix: StepIx) -> bool {
        match self.nodes.get(ix.index()) {
            Some(Node::Single(instance)) => instance.is_settled(),
            Some(Node::Mapped { unsettled, closed, .. }) => *closed && *unsettled == 0,
            None => false,
        }
    }

    /// All that a pending step waits for has settled.
    fn arrived(&mut self, id: &InstanceId) {
        match self.verdict(id) {
            Verdict::Run => self.set_state(id, StepState::Ready { attempt: 0, memo: self.memo_standing(id) }),
            Verdict::Skip(reason) => {
                self.indices.skips.insert(id.clone(), reason);
            }
        }
    }

    /// What the step was given is gone: skip it, after superseding it if it has begun or was skipped for another reason.
    fn revoke(&mut self, id: &InstanceId, reason: SkipReason) {
        match self.instance(id).map(|instance| &instance.state) {
            None => {}
            Some(StepState::Skipped(before)) if *before == reason || *before == SkipReason::Canceled => {}
            Some(StepState::Pending) => {
                self.indices.skips.insert(id.clone(), reason);
            }
            Some(_) => self.mark_stale(id),
        }
    }

    /// What the step was given has changed. One that has not begun notices by itself.
    fn mark_stale(&mut self, id: &InstanceId) {
        let Some(instance) = self.instance(id) else { return };
        if instance.stale || instance.state == StepState::Pending {
            return;
        }
        let was_final = instance.state.is_final();
        let failed = matches!(instance.state, StepState::Failure(_));
        let place = self.place_of(id, &instance.state);
        if let Some(instance) = self.instance_mut(id) {
            instance.stale = true;
        }
        // It goes on running until it is superseded; nothing else is started with it.
        if place != Place::Running {
            self.indices.leave(place, id);
        }
        self.indices.stale.insert(id.clone());
        if failed {
            self.failed -= 1;
            self.whole.unfail(id.step);
        }
        if was_final {
            if let Some(Node::Mapped { unsettled, .. }) = self.nodes.get_mut(id.step.index()) {
                *unsettled += 1;
            }
            self.unsettled(id);
        }
    }

    /// A step that had settled has not any more: whoever has not begun waits for it again.
    fn unsettled(&mut self, id: &InstanceId) {
        for (consumer, edge) in self.wiring.consumers(id.step).to_vec() {
            // A mapped step settles as a whole only once no item of it can change: nobody waited for the whole.
            if edge != Edge::SameKey {
                continue;
            }
            let consumer = InstanceId { step: consumer, key: id.key.clone() };
            if let Some(instance) = self.instance_mut(&consumer)
                && instance.state == StepState::Pending
            {
                instance.waiting += 1;
                self.indices.skips.remove(&consumer);
            }
        }
    }

    fn supersede(&mut self, id: &InstanceId) {
        self.set_state(id, StepState::Pending);
        let waiting = self.count_waiting(id);
        if let Some(instance) = self.instance_mut(id) {
            instance.generation += 1;
            instance.stale = false;
            instance.waiting = waiting;
        }
        self.indices.stale.remove(id);
        if let Some(reason) = self.revoked(id) {
            self.indices.skips.insert(id.clone(), reason);
        } else if waiting == 0 {
            self.arrived(id);
        }
    }

    /// Moves a step to `new`, keeps the indices, and tells its consumers when it has settled.
    fn set_state(&mut self, id: &InstanceId, new: StepState) {
        let Some(instance) = self.instance(id) else { return };
        let stale = instance.stale;
        let (fails, ends) = (matches!(new, StepState::Failure(_)), new.is_final());
        let enters = self.place_of(id, &new);
        self.whole.enter(&self.lanes, id, &new);
        let Some(instance) = self.instance_mut(id) else { return };
        let old = std::mem::replace(&mut instance.state, new);
        self.whole.leave(&self.lanes, id, &old);
        self.indices.leave(self.place_of(id, &old), id);
        if !stale || enters == Place::Running {
            self.indices.enter(enters, id);
        }
        match (old.is_final(), ends) {
            (false, true) => self.unfinished -= 1,
            (true, false) => self.unfinished += 1,
            (true, true) | (false, false) => {}
        }
        // The end of a step that is to be superseded is no end.
        if !stale {
            if matches!(old, StepState::Failure(_)) {
                self.failed -= 1;
                self.whole.unfail(id.step);
            }
            if fails {
                self.failed += 1;
                self.whole.fail(id.step);
            }
            if ends && !old.is_final() {
                self.settled(id);
            }
        }
    }

    fn settled(&mut self, id: &InstanceId) {
        let consumers = self.wiring.consumers(id.step).to_vec();
        if id.key.is_some() {
            for (consumer, edge) in &consumers {
                if *edge == Edge::SameKey {
                    self.dependency_settled(&InstanceId { step: *consumer, key: id.key.clone() });
                }
            }
        }
        let whole = match self.nodes.get_mut(id.step.index()) {
            Some(Node::Single(_)) => true,
            Some(Node::Mapped { unsettled, closed, .. }) => {
                *unsettled -= 1;
                *closed && *unsettled == 0
            }
            None => false,
        };
        if whole {
            self.whole_settled(id.step);
        }
    }

    /// A step has settled as a whole: all of its items, when it is mapped.
    fn whole_settled(&mut self, step: StepIx) {
        self.open_nodes -= 1;
        let mapped = self.mapped_consumers(step);
        let succeeded = matches!(
            self.nodes.get(step.index()),
            Some(Node::Single(Instance { state: StepState::Success { .. }, .. }))
        );
        if !succeeded {
            for (_, consumer) in &mapped {
                for id in self.instance_ids(*consumer) {
                    self.revoke(&id, SkipReason::UpstreamFailed);
                }
            }
        }
        for (consumer, edge) in self.wiring.consumers(step).to_vec() {
            if edge == Edge::Whole {
                for id in self.instance_ids(consumer) {
                    self.dependency_settled(&id);
                }
            }
        }
        for (_, consumer) in mapped {
            if let Some(Node::Mapped { unsettled, closed, .. }) = self.nodes.get_mut(consumer.index()) {
                let first = !std::mem::replace(closed, true);
                if first && *unsettled == 0 {
                    self.whole_settled(consumer);
                }
            }
        }
    }

    fn instance_ids(&self, step: StepIx) -> Vec<InstanceId> {
        match self.nodes.get(step.index()) {
            Some(Node::Single(_)) => vec![InstanceId { step, key: None }],
            Some(Node::Mapped { instances, .. }) => {
                instances.keys().map(|key| InstanceId { step, key: Some(key.clone()) }).collect()
            }
            None => Vec::new(),
        }
    }

    fn dependency_settled(&mut self, id: &InstanceId) {
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

fn wrong_state(state: &StepState) -> String {
    format!("it is {}", state.name())
}
