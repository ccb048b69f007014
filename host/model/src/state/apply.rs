//! The transition table: what each event does to the state of a run, and where it cannot happen.

use std::collections::BTreeSet;
use std::fmt;

use super::bind::Verdict;
use super::indices::Place;
use super::wiring::Edge;
use super::{IllegalTransition, Instance, InstanceId, Item, MemoStanding, Node, Provenance, RunState, StepState};
use crate::error::Code;
use crate::event::{Attempt, Recorded, RunEvent, RunStatus, SkipReason};
use crate::hook::Outcome;
use crate::id::{ItemKey, StepKey};
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
                self.expect(self.no_hook_is_open(), "hooks are open")?;
            }
            RunEvent::RunFailure { .. } => {
                self.expect_status(&[Some(RunStatus::Queued), Some(RunStatus::Starting), Some(RunStatus::Started)])?;
                // Before its start a run can fail as a whole: then no step has begun.
                self.expect(self.unfinished == 0 || self.status != Some(RunStatus::Started), "steps are open")?;
                self.expect(self.no_hook_is_open(), "hooks are open")?;
            }
            RunEvent::RunCanceling { .. } => {
                self.expect_status(&[Some(RunStatus::Queued), Some(RunStatus::Starting), Some(RunStatus::Started)])?;
            }
            RunEvent::RunCanceled => {
                self.expect_status(&[Some(RunStatus::Canceling)])?;
                self.expect(self.unfinished == 0, "steps are open")?;
                self.expect(self.no_hook_is_open(), "hooks are open")?;
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
                self.tell_hooks(&id, of, Outcome::Success, None);
            }
            RunEvent::StepFailure { of, failure, usage } => {
                let id = self.expect_running(of)?;
                self.whole.used(usage);
                if failure.code == Code::Canceled {
                    self.set_state(&id, StepState::Canceled);
                } else {
                    self.set_state(&id, StepState::Failure(Box::new(failure.clone())));
                    self.tell_hooks(&id, of, Outcome::Failure, Some(failure));
                }
            }
            RunEvent::StepSkipped { step, generation, reason } => {
                let id = self.at_generation(step, *generation)?;
                match self.state_of(&id)? {
                    StepState::Pending | StepState::Ready { .. } | StepState::UpForRetry { .. } => {}
                    other => return Err(wrong_state(other)),
                }
                self.set_state(&id, StepState::Skipped(*reason));
            }
            RunEvent::StepUpForRetry { of, not_before, failure, usage } => {
                let id = self.expect_running(of)?;
                self.whole.used(usage);
                self.set_state(&id, StepState::UpForRetry { attempt: of.attempt + 1, not_before: *not_before });
                self.tell_hooks(&id, of, Outcome::Retry, Some(failure));
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
            | RunEvent::LoadedInput { of, .. }
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
            RunEvent::HookCompleted { of, hook, .. } | RunEvent::HookErrored { of, hook, .. } => {
                self.end_hook(of, hook, false)?;
            }
            RunEvent::HookSkipped { of, hook, .. } => self.end_hook(of, hook, true)?,
            RunEvent::EngineEvent { .. } => self.expect(self.status.is_some(), "the run has not begun")?,
        }
        Ok(())
    }

    // What an event must find.

    pub(super) fn expect(&self, holds: bool, otherwise: impl fmt::Display) -> Result<(), String> {
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

    /// The port that a value was yielded on. An item has a key of its own below that of its step, any other value its step's.
    fn port_of(&self, id: &InstanceId, output: &Yielded) -> Result<u16, String> {
        let ports = &self.plan.step(id.step).outputs;
        let index = ports.iter().position(|port| port.port == output.port).ok_or("there is no such output")?;
        self.expect(
            !ports[index].dynamic || output.value.item_of(&id.key).is_some(),
            "an item of a dynamic output has a mapping key, and that of its step before it",
        )?;
        u16::try_from(index).map_err(|_| "too many outputs".to_owned())
    }

    // What an event does.

    fn release_first_steps(&mut self) {
        for step in self.plan.indices() {
            let id = InstanceId::single(step);
            if self.instance(&id).is_some_and(|instance| instance.waiting == 0) {
                self.arrived(&id);
            }
        }
    }

    fn yielded(&mut self, id: &InstanceId, attempt: u32, output: &Yielded) -> Result<(), String> {
        let port = self.port_of(id, output)?;
        let ports = &self.plan.step(id.step).outputs;
        let (count, dynamic) = (ports.len(), ports[usize::from(port)].dynamic);
        let instance = self.instance_mut(id).ok_or("there is no such step")?;
        if dynamic {
            let key = output.value.item_of(&id.key).ok_or("an item of a dynamic output has a mapping key")?;
            let place = (port, key.clone());
            if instance.items.get(&place).is_some_and(|before| before.attempt == attempt) {
                return Err("the item was yielded before".to_owned());
            }
            let before = instance.items.insert(place, Item { value: output.value.clone(), attempt });
            let changed = before.as_ref().is_some_and(|before| before.value.identity() != output.value.identity());
            for (at, step) in self.wiring.mapped_over(id.step).to_vec() {
                let consumer = InstanceId { step, key: output.value.mapping_key.clone() };
                match &before {
                    _ if at != port => {}
                    // It was there before its producer started over, and waits for its item.
                    None if self.instance(&consumer).is_some() => self.dependency_settled(&consumer),
                    None => self.create(consumer),
                    Some(_) if changed => self.mark_stale(&consumer),
                    Some(_) => {}
                }
            }
            return Ok(());
        }
        let StepState::Running { outputs, .. } = &mut instance.state else {
            return Err("it does not run".to_owned());
        };
        if outputs.iter().any(|one| one.port == output.port) {
            return Err("the output was yielded before".to_owned());
        }
        // As many as there can be: a vector that grows by itself holds room for four, in every step of the run.
        outputs.reserve_exact(count.saturating_sub(outputs.len()));
        outputs.push(output.clone());
        Ok(())
    }

    /// Ends a step with a result that is there already.
    fn succeed_with(&mut self, id: &InstanceId, outputs: &[Yielded], from: Provenance) -> Result<(), String> {
        // Checked whole before anything is changed.
        let mut seen = BTreeSet::new();
        for output in outputs {
            let port = self.port_of(id, output)?;
            self.expect(seen.insert((port, &output.value.mapping_key)), "the output was yielded before")?;
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
        // Items of earlier tries that this one did not yield again were provisional, and are gone: whoever is for one is
        // told so below, once the step has settled.
        let gone: Vec<_> = instance.items.extract_if(.., |_, item| item.attempt != attempt).map(|(at, _)| at).collect();
        for (port, key) in gone {
            for (_, step) in self.wiring.mapped_over(id.step).to_vec().into_iter().filter(|(at, _)| *at == port) {
                self.lacks_again(&InstanceId { step, key: id.key.child(&key) });
            }
        }
        self.set_state(id, StepState::Success { outputs, from });
    }

    /// An item has come: a step is there for it, and groups for what may be below it.
    fn create(&mut self, id: InstanceId) {
        for step in self.wiring.below(id.step).to_vec() {
            if let Some(Node::Mapped { groups, .. }) = self.nodes.get_mut(step.index()) {
                groups.entry(id.key.clone()).or_default();
            }
        }
        let waiting = self.count_waiting(&id);
        if let Some(Node::Mapped { instances, groups }) = self.nodes.get_mut(id.step.index()) {
            instances.insert(id.key.clone(), Instance::new(waiting));
            for depth in 0..id.key.len() {
                groups.entry(id.key.outer(depth)).or_default().unsettled += 1;
            }
            self.unfinished += 1;
            self.items += 1;
        }
        if waiting == 0 {
            self.arrived(&id);
        }
    }

    /// How many dependencies of a step have not settled. Its item is one while it is not there and may yet come.
    pub(super) fn count_waiting(&self, id: &InstanceId) -> u32 {
        let open = |edge: &&Edge| !self.is_settled(edge.step, &id.key.outer(usize::from(edge.depth)));
        let edges = self.wiring.dependencies(id.step).iter().filter(open).count();
        u32::try_from(edges + usize::from(self.awaits_item(id))).unwrap_or(u32::MAX)
    }

    /// The item that the step is for is not there, and may yet come.
    fn awaits_item(&self, id: &InstanceId) -> bool {
        self.origin(id).is_some_and(|(producer, slot)| {
            !producer.is_settled()
                && id.key.last().is_some_and(|key| !producer.items.contains_key(&(slot.port, key.clone())))
        })
    }

    /// Everything of a step that is for `key`, or below it, has settled, and no more will come. What is not there is: it will
    /// be, if at all, before anybody who asks is.
    pub(super) fn is_settled(&self, step: StepIx, key: &ItemKey) -> bool {
        match self.nodes.get(step.index()) {
            Some(Node::Single(instance)) => instance.is_settled(),
            Some(Node::Mapped { instances, .. }) if key.len() == self.wiring.depth(step) => {
                instances.get(key).is_none_or(Instance::is_settled)
            }
            Some(Node::Mapped { groups, .. }) => groups.get(key).is_none_or(|group| group.is_settled()),
            None => true,
        }
    }

    /// All that a pending step waits for has settled.
    pub(super) fn arrived(&mut self, id: &InstanceId) {
        match self.verdict(id) {
            Verdict::Run => self.set_state(id, StepState::Ready { attempt: 0, memo: self.memo_standing(id) }),
            Verdict::Skip(reason) => {
                self.indices.skips.insert(id.clone(), reason);
            }
        }
    }

    /// The item of the step is gone: it is skipped, after superseding it if it has begun or was skipped for another reason.
    pub(super) fn revoke(&mut self, id: &InstanceId) {
        let Some(reason) = self.revoked(id) else { return };
        match self.instance(id).map(|instance| &instance.state) {
            None => {}
            Some(StepState::Skipped(before)) if *before == reason || *before == SkipReason::Canceled => {}
            Some(StepState::Pending) => {
                self.indices.skips.insert(id.clone(), reason);
            }
            Some(_) => self.mark_stale(id),
        }
    }

    /// One thing that a pending step waits for has not settled any more.
    pub(super) fn lacks_again(&mut self, id: &InstanceId) {
        if let Some(instance) = self.instance_mut(id)
            && instance.state == StepState::Pending
        {
            instance.waiting += 1;
            self.indices.skips.remove(id);
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
            self.unsettled(id);
        }
    }

    /// A step starts over. Its items are gone with what it was given: who is for one starts over too, or waits for it.
    fn supersede(&mut self, id: &InstanceId) {
        self.drop_hooks(id);
        self.set_state(id, StepState::Pending);
        let items = self.instance_mut(id).map(|instance| std::mem::take(&mut instance.items)).unwrap_or_default();
        let waiting = self.count_waiting(id);
        if let Some(instance) = self.instance_mut(id) {
            instance.generation += 1;
            instance.stale = false;
            instance.waiting = waiting;
        }
        self.indices.stale.remove(id);
        for (port, key) in items.into_keys() {
            for (_, step) in self.wiring.mapped_over(id.step).to_vec().into_iter().filter(|(at, _)| *at == port) {
                let consumer = InstanceId { step, key: id.key.child(&key) };
                self.lacks_again(&consumer);
                self.mark_stale(&consumer);
            }
        }
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
}

fn wrong_state(state: &StepState) -> String {
    format!("it is {}", state.name())
}
