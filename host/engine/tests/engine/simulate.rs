//! Deciding and folding alone: a run without clock, disk or tasks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use opyard_engine::decide::{Action, MAX_FACTS, Outlook, Seat, Seats, decide};
use opyard_engine::retry::{Setback, after_setback};
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::event::{Attempt, Recorded, RunEvent, RunStatus};
use opyard_model::hook::{HookIx, Outcome};
use opyard_model::id::{RunId, StepKey};
use opyard_model::limits::Usage;
use opyard_model::plan::{CancelRule, FailurePolicy, Plan, Source};
use opyard_model::state::{HookId, InstanceId, MemoStanding, RunState, StepState};
use opyard_model::step::{BoundInput, StepResult};
use opyard_model::time::Timestamp;
use opyard_model::value::{ArtifactRef, Yielded};
use proptest::prelude::*;

use crate::plans::{self, Scripts};
use crate::reference;

struct Running {
    of: Attempt,
    items: std::vec::IntoIter<Yielded>,
    result: StepResult,
    stopped: bool,
}

/// How a run is played: what comes when.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    words: Vec<u16>,
    slots: usize,
    cancel_after: Option<usize>,
}

pub(crate) struct Simulation<'a> {
    pub(crate) state: RunState,
    scripts: &'a Scripts,
    pub(crate) log: Vec<Recorded>,
    now: Timestamp,
    asked: HashSet<InstanceId>,
    running: HashMap<InstanceId, Running>,
    seats: Seats,
    telling: HashSet<HookId>,
    given: HashMap<Attempt, Vec<BoundInput>>,
    chance: Chance,
    drawn: usize,
    actions: (usize, usize),
}

pub(crate) fn run() -> RunId {
    RunId::from_parts(1, 1)
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(plan: &Arc<Plan>, scripts: &'a Scripts, chance: Chance) -> Self {
        let mut simulation = Self::resume(plan, scripts, chance, &[]);
        simulation.append(RunEvent::RunEnqueued {
            parent: None,
            root: None,
            job: plan.job.clone(),
            environment: None,
            plan: ArtifactRef::of(b""),
            steps: plan.steps.len() as u32,
            tags: plan.tags.clone(),
            use_memo: true,
        });
        simulation
    }

    /// Takes up a run that was left in the middle.
    fn resume(plan: &Arc<Plan>, scripts: &'a Scripts, chance: Chance, log: &[Recorded]) -> Self {
        let mut simulation = Self {
            state: RunState::new(Arc::clone(plan)),
            scripts,
            log: Vec::new(),
            now: Timestamp::from_micros(0),
            asked: HashSet::new(),
            running: HashMap::new(),
            seats: Seats::default(),
            telling: HashSet::new(),
            given: HashMap::new(),
            chance,
            drawn: 0,
            actions: (0, 0),
        };
        for recorded in log {
            // As it would be read from disk.
            let event = RunEvent::decode(recorded.event.kind(), &recorded.event.payload()).unwrap();
            assert_eq!(event, recorded.event);
            simulation.now = recorded.at;
            simulation.append(event);
        }
        let orphans: Vec<_> = simulation.state.running().cloned().collect();
        for id in orphans {
            let of = simulation.state.attempt(&id).unwrap();
            let lost = after_setback(run(), plan.step(id.step), &of, Setback::Lost, Usage::default(), simulation.now);
            simulation.append(lost);
        }
        simulation
    }

    fn draw(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        let word = self.chance.words.get(self.drawn % self.chance.words.len().max(1)).copied().unwrap_or(0);
        (usize::from(word).wrapping_mul(self.drawn) ^ usize::from(word)) % bound.max(1)
    }

    fn append(&mut self, event: RunEvent) {
        if let RunEvent::StepSuperseded { step, .. } = &event {
            let id = self.state.locate(step).unwrap();
            self.running.remove(&id);
            self.asked.remove(&id);
            self.leave(id);
        }
        let recorded = Recorded { run: run(), seq: self.state.last_seq() + 1, at: self.now, event };
        if let Err(error) = self.state.apply(&recorded) {
            panic!("{error}");
        }
        self.log.push(recorded);
        if let Err(wrong) = self.state.audit() {
            panic!("after {:?}: {wrong}", self.log.last().unwrap().event);
        }
    }

    fn leave(&mut self, id: InstanceId) {
        let seat = Seat::Step(id);
        self.seats.asked.remove(&seat);
        self.seats.held.remove(&seat);
    }

    fn is_over(&self) -> bool {
        self.state.status().is_some_and(RunStatus::is_final)
    }

    pub(crate) fn play(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the run does not end");
            if self.chance.cancel_after == Some(round) && !self.is_over() {
                self.append(RunEvent::RunCanceling { reason: "asked".into() });
            }
            let (seats, telling) = (self.seats.clone(), self.telling.clone());
            let (now, asked, slots) = (self.now, &self.asked, self.chance.slots);
            let outlook = Outlook { now, asked, slots, seats: &seats, telling: &telling };
            let actions = decide(&self.state, outlook);
            assert_eq!(actions, decide(&self.state, outlook));
            let mut wake = None;
            let mut again = false;
            for action in actions {
                match action {
                    Action::Append(events) => {
                        assert!((1..=MAX_FACTS).contains(&events.len()));
                        events.into_iter().for_each(|event| self.append(event));
                        again = true;
                    }
                    Action::LookUp(ids) => {
                        self.actions.0 += ids.len();
                        for id in ids {
                            assert!(self.asked.insert(id), "asked twice");
                        }
                    }
                    Action::Start(id) => self.start(&id),
                    Action::Ask(seats) => {
                        for seat in seats {
                            assert!(!self.seats.held.contains(&seat) && self.seats.asked.insert(seat), "asked twice");
                        }
                        assert!(
                            self.seats.asked.len() <= self.chance.slots,
                            "more stand in line than there are places"
                        );
                    }
                    Action::Stop(id) => self.running.get_mut(&id).unwrap().stopped = true,
                    Action::Tell(hook) => {
                        let by_rule =
                            self.state.plan().policy.cancel_when.iter().any(|one| one.when.holds(&self.state));
                        assert!(by_rule || self.state.status() != Some(RunStatus::Canceling), "told though canceled");
                        assert!(self.state.told(&hook).is_some(), "{hook:?} has nothing to be told");
                        assert!(self.telling.insert(hook), "told twice");
                    }
                    Action::WakeAt(at) => wake = Some(at),
                }
            }
            assert!(self.state.running().len() <= self.chance.slots);
            if again {
                continue;
            }
            if self.is_over() {
                return self.check_end();
            }
            self.happen(wake);
        }
    }

    fn start(&mut self, id: &InstanceId) {
        self.actions.1 += 1;
        let plan = Arc::clone(self.state.plan());
        assert_eq!(self.state.status(), Some(RunStatus::Started));
        assert!(plan.on_failure == FailurePolicy::GoOn || self.state.failed() == 0, "started after a failure");
        self.check_inputs(id);
        self.check_turn(id);
        let of = self.state.attempt(id).unwrap();
        let inputs = self.state.bind(id);
        self.append(RunEvent::StepStart { of: of.clone() });
        let step = plan.step(id.step);
        let (items, result) = self.scripts[&step.op].of(&id.key).play(step, &id.key, of.attempt, &inputs);
        self.given.insert(of.clone(), inputs);
        let running = Running { of, items: items.into_iter(), result, stopped: false };
        assert!(self.running.insert(id.clone(), running).is_none(), "runs twice");
    }

    /// A step starts within the limits by tag, and before it whatever has a higher priority and could start as well.
    fn check_turn(&self, id: &InstanceId) {
        let plan = self.state.plan();
        // Whoever has asked for a slot, or holds one, is as good as running.
        let seated = self.seats.asked.iter().chain(&self.seats.held).filter_map(Seat::step);
        let taken: HashSet<&InstanceId> = self.running.keys().chain(seated).collect();
        let fits = |id: &InstanceId| {
            plan.policy.tag_limits.iter().all(|limit| {
                let of = |id: &InstanceId| limit.group(&plan.step(id.step).tags);
                let beside = |group| taken.iter().filter(|other| **other != id && of(other) == Some(group)).count();
                of(id).is_none_or(|group| beside(group) < limit.limit as usize)
            })
        };
        assert!(fits(id), "{id:?} starts beyond a limit");
        let has_seat = |id: &InstanceId| self.seats.held.contains(&Seat::Step(id.clone()));
        if plan.step(id.step).pool.is_some() {
            assert!(has_seat(id), "{id:?} starts without a slot");
            return; // Before all others, since nobody else can use its slot.
        }
        let priority = plan.step(id.step).priority;
        let stale: HashSet<_> = self.state.stale().collect();
        for (other, instance) in self.state.instances().filter(|(other, _)| !stale.contains(other)) {
            let is_ready = matches!(instance.state, StepState::Ready { memo: MemoStanding::Run, .. });
            let goes_first = plan.step(other.step).priority > priority;
            let can_start = plan.step(other.step).pool.is_none() && fits(&other);
            assert!(!(is_ready && goes_first && can_start), "{id:?} starts before {other:?}");
        }
    }

    /// Whatever a step needs is there, by the states alone.
    fn check_inputs(&self, id: &InstanceId) {
        let step = self.state.plan().step(id.step);
        let succeeded = |of: &InstanceId| {
            let state = &self.state.instance(of).unwrap().state;
            assert!(state.is_final(), "{id:?} starts before {of:?}");
            matches!(state, StepState::Success { .. })
        };
        let within = |ix, depth: usize| {
            let outer = id.key.outer(depth);
            let ids = self.state.instances().map(|(id, _)| id).filter(|id| id.step == ix && id.key.is_within(&outer));
            let ids: Vec<_> = ids.collect();
            ids.iter().for_each(|id| {
                succeeded(id);
            });
        };
        for input in &step.inputs {
            match &input.source {
                Source::Unconnected | Source::Given { .. } | Source::Outside { .. } => {}
                Source::Output { slot } => {
                    assert!(succeeded(&InstanceId::single(slot.step)) || input.optional);
                }
                Source::SameKey { slot } => {
                    let key = id.key.outer(self.state.plan().depth(slot.step));
                    assert!(succeeded(&InstanceId { step: slot.step, key }) || input.optional);
                }
                Source::Item { .. } => {}
                Source::FanIn { slots } => slots.iter().for_each(|slot| within(slot.step, 0)),
                Source::Collect { slot, depth } => within(slot.step, usize::from(*depth)),
            }
        }
        step.after.iter().for_each(|ix| within(*ix, 0));
        for (at, over) in self.state.plan().levels(id.step).enumerate() {
            let depth = id.key.len() - 1 - at;
            let producer = InstanceId { step: over.step, key: id.key.outer(depth) };
            let instance = self.state.instance(&producer).unwrap();
            assert!(instance.items(over.port).any(|(key, _)| *key == id.key[depth]), "no such item");
            assert!(step.hermetic || succeeded(&producer), "starts on a provisional item");
        }
    }

    /// One thing happens, of those that can.
    fn happen(&mut self, wake: Option<Timestamp>) {
        let mut asked: Vec<_> = self.asked.iter().cloned().collect();
        let mut running: Vec<_> = self.running.keys().cloned().collect();
        let mut telling: Vec<_> = self.telling.iter().cloned().collect();
        asked.sort();
        running.sort();
        telling.sort();
        // Slots are free whenever nobody of the run holds them: here there are no others.
        let can_sit = |seat: &&Seat| {
            let pool = |seat: &Seat| self.state.plan().step(seat.step().unwrap().step).pool.clone();
            let held = self.seats.held.iter().filter(|other| pool(other) == pool(seat)).count();
            held < self.state.plan().pools[&pool(seat).unwrap()] as usize
        };
        let seats: Vec<_> = self.seats.asked.iter().filter(can_sit).cloned().collect();
        let count = asked.len() + running.len() + seats.len() + telling.len();
        assert!(count > 0 || wake.is_some(), "nothing can happen any more: {:?}", self.state.tally());
        let pick = self.draw(count + usize::from(wake.is_some()));
        if let Some(id) = asked.get(pick) {
            self.answer(id);
        } else if let Some(id) = running.get(pick - asked.len()) {
            self.advance(id);
        } else if let Some(seat) = seats.get(pick - asked.len() - running.len()) {
            self.seats.asked.remove(seat);
            self.seats.held.insert(seat.clone());
        } else if let Some(hook) = telling.get(pick - asked.len() - running.len() - seats.len()) {
            self.hooked(hook);
        } else {
            self.now = self.now.max(wake.unwrap());
        }
    }

    fn hooked(&mut self, hook: &HookId) {
        self.telling.remove(hook);
        let (of, hook) = self.state.hook_name(hook).unwrap();
        let (lines, usage) = (Vec::new(), Usage::default());
        let failure = Failure::new(Code::ResourceUnavailable, "away");
        let luck = self.draw(2);
        self.append(match luck {
            0 => RunEvent::HookCompleted { of, hook, lines, usage },
            _ => RunEvent::HookErrored { of, hook, failure, lines, usage },
        });
    }

    fn answer(&mut self, id: &InstanceId) {
        self.asked.remove(id);
        let instance = self.state.instance(id).unwrap();
        if !matches!(instance.state, StepState::Ready { memo: MemoStanding::Unknown, .. }) {
            return; // Skipped meanwhile.
        }
        let plan = Arc::clone(self.state.plan());
        let (step, generation) = (id.step_key(&plan), instance.generation);
        let key = Digest::of(b"key");
        let inputs = self.state.bind(id);
        let script = self.scripts[&plan.step(id.step).op].of(&id.key);
        // Whatever is in the memo succeeded once, as the script's last try does.
        let (_, result) = script.play(plan.step(id.step), &id.key, u32::from(script.fails), &inputs);
        match result {
            StepResult::Success { outputs, .. } if script.succeeds() && self.draw(2) == 0 => {
                self.given.insert(Attempt { step: step.clone(), generation, attempt: 0 }, inputs);
                self.append(RunEvent::StepMemoized { step, generation, key, origin: run(), outputs });
            }
            _ => self.append(RunEvent::StepMemoMissed { step, generation, key }),
        }
    }

    fn advance(&mut self, id: &InstanceId) {
        let running = self.running.get_mut(id).unwrap();
        let of = running.of.clone();
        if let Some(output) = running.items.next() {
            return self.append(RunEvent::StepOutput { of, output });
        }
        let running = self.running.remove(id).unwrap();
        self.leave(id.clone());
        let plan = Arc::clone(self.state.plan());
        let step = plan.step(id.step);
        let setback = match running.result {
            _ if running.stopped => Setback::Failed(Failure::new(Code::Canceled, "stopped")),
            StepResult::Success { outputs, .. } => {
                for output in outputs.into_iter().filter(|one| one.value.item_of(&id.key).is_none()) {
                    self.append(RunEvent::StepOutput { of: of.clone(), output });
                }
                return self.append(RunEvent::StepSuccess { of, usage: Usage::default() });
            }
            StepResult::Retry { description, delay } => Setback::AskedAgain { description, delay },
            StepResult::Failure(failure) => Setback::Failed(failure),
            other => panic!("{other:?}"),
        };
        self.append(after_setback(run(), step, &of, setback, Usage::default(), self.now));
    }

    fn check_end(&self) {
        let ends = self.log.iter().filter(|one| RunStatus::after(&one.event).is_some_and(RunStatus::is_final)).count();
        assert_eq!(ends, 1);
        assert!(self.state.instances().all(|(_, instance)| instance.state.is_final()));
        assert_eq!(self.state.running().len(), 0);
        let succeeded = self.state.status() == Some(RunStatus::Success);
        assert!(!(succeeded && self.state.was_stopped()), "what was stopped is said to have succeeded");
        let mut successes = HashSet::new();
        let mut starts = 0;
        for recorded in &self.log {
            match &recorded.event {
                RunEvent::StepSuccess { of, .. } => {
                    assert!(successes.insert((of.step.clone(), of.generation)), "{of:?} succeeded twice");
                }
                RunEvent::StepMemoized { step, generation, .. } => {
                    assert!(successes.insert((step.clone(), *generation)), "{step} succeeded twice");
                }
                RunEvent::StepStart { .. } => starts += 1,
                _ => {}
            }
        }
        self.check_hooks();
        // What was decided was decided once: a decision costs what it answers, not what the run is.
        assert!(self.actions.1 <= starts && self.actions.0 <= self.log.len());
        let outdated: HashSet<_> = self.state.stale().collect();
        for (id, instance) in self.state.instances().filter(|(id, _)| !outdated.contains(id)) {
            if !matches!(instance.state, StepState::Success { .. }) {
                continue;
            }
            let key = id.step_key(self.state.plan());
            let last = self.given.iter().filter(|(of, _)| of.step == key && of.generation == instance.generation);
            let Some((_, given)) = last.max_by_key(|(of, _)| of.attempt) else { continue };
            // A run that was stopped may have left a provisional item without the last word on it.
            if succeeded || !self.is_provisional(&id) {
                assert_eq!(given, &self.state.bind(&id), "{key} was given something else than there is in the end");
            }
        }
    }

    /// Every hook was told, once, of every try that it is for, and of nothing that did not come to stand.
    fn check_hooks(&self) {
        let mut expected: HashMap<(Attempt, HookIx), usize> = HashMap::new();
        let mut generations: HashMap<StepKey, u32> = HashMap::new();
        for recorded in &self.log {
            let (of, outcome) = match &recorded.event {
                RunEvent::StepSuccess { of, .. } => (of, Outcome::Success),
                RunEvent::StepFailure { of, failure, .. } if failure.code != Code::Canceled => (of, Outcome::Failure),
                RunEvent::StepUpForRetry { of, .. } => (of, Outcome::Retry),
                RunEvent::StepSuperseded { step, generation } => {
                    generations.insert(step.clone(), *generation);
                    continue;
                }
                RunEvent::HookSkipped { of, hook, .. } => {
                    let left = expected.remove(&(of.clone(), hook.index));
                    assert_eq!(left, Some(1), "{of:?} {hook:?} was skipped though told, or of what was not");
                    continue;
                }
                RunEvent::HookCompleted { of, hook, .. } | RunEvent::HookErrored { of, hook, .. } => {
                    let left = expected.get_mut(&(of.clone(), hook.index)).expect("told of what was not");
                    assert_eq!(*left, 1, "{of:?} {hook:?} was told twice");
                    *left = 0;
                    continue;
                }
                _ => continue,
            };
            let step = self.state.locate(&of.step).unwrap().step;
            expected.extend(self.state.plan().hooks_of(step, outcome).map(|hook| ((of.clone(), hook), 1)));
        }
        for ((of, hook), left) in &expected {
            let stands = generations.get(&of.step).is_none_or(|last| *last == of.generation);
            assert_eq!(*left == 0, stands, "{of:?} {hook:?}");
        }
        let skipped = self.log.iter().any(|one| matches!(one.event, RunEvent::HookSkipped { .. }));
        let stopped =
            self.state.plan().on_failure == FailurePolicy::FailFast || self.state.status() == Some(RunStatus::Canceled);
        assert!(stopped || !skipped, "a hook was skipped though nobody asked for the end");
    }

    fn is_provisional(&self, id: &InstanceId) -> bool {
        self.state.plan().levels(id.step).enumerate().any(|(at, over)| {
            let producer = InstanceId { step: over.step, key: id.key.outer(id.key.len() - 1 - at) };
            !matches!(self.state.instance(&producer).unwrap().state, StepState::Success { .. })
        })
    }
}

pub(crate) fn chances() -> impl Strategy<Value = Chance> {
    (proptest::collection::vec(any::<u16>(), 1..60), 1usize..6).prop_map(|(words, slots)| Chance {
        words,
        slots,
        cancel_after: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// Live, replayed and taken up again from anywhere, a run ends as the naive scheduler says.
    #[test]
    fn runs_end_as_their_plan_says((plan, scripts) in plans::plans(30), chance in chances(), cuts: [u16; 3]) {
        let plan = Arc::new(Plan { on_failure: FailurePolicy::GoOn, ..plan });
        let expected = reference::ends(&plan, &scripts);
        let mut live = Simulation::new(&plan, &scripts, chance.clone());
        live.play();
        prop_assert_eq!(&reference::ends_of(&live.state), &expected);
        let failed = expected.values().any(|end| *end == reference::End::Failure);
        let status = if failed { RunStatus::Failure } else { RunStatus::Success };
        prop_assert_eq!(live.state.status(), Some(status));

        let replayed = Simulation::resume(&plan, &scripts, chance.clone(), &live.log);
        prop_assert_eq!(&replayed.state, &live.state);
        for cut in cuts {
            let cut = 1 + usize::from(cut) % live.log.len();
            let mut resumed = Simulation::resume(&plan, &scripts, chance.clone(), &live.log[..cut]);
            resumed.play();
            prop_assert_eq!(&reference::ends_of(&resumed.state), &expected);
            prop_assert_eq!(resumed.state.status(), Some(status));
        }
    }

    /// A run is canceled by its conditions if, and only if, the failures of the whole of it would meet one; with its reason.
    #[test]
    fn conditions_cancel_runs(
        (plan, scripts, when) in plans::plans(20).prop_flat_map(|(plan, scripts)| {
            let conditions = plans::conditions(&plan);
            (Just(plan), Just(scripts), conditions)
        }),
        chance in chances(),
        cut: u16,
    ) {
        let mut plan = Plan { on_failure: FailurePolicy::GoOn, ..plan };
        let expected = reference::ends(&plan, &scripts);
        let holds = when.holds(&reference::Failures(&plan, &expected));
        plan.policy.cancel_when = vec![CancelRule { when, message: Some("enough".into()) }];
        let plan = Arc::new(plan);
        let mut live = Simulation::new(&plan, &scripts, chance.clone());
        live.play();
        let cut = 1 + usize::from(cut) % live.log.len();
        let mut resumed = Simulation::resume(&plan, &scripts, chance, &live.log[..cut]);
        resumed.play();
        for run in [&live, &resumed] {
            prop_assert_eq!(run.state.status() == Some(RunStatus::Canceled), holds);
            let asked = run.log.iter().find_map(|one| match &one.event {
                RunEvent::RunCanceling { reason } => Some(reason.as_str()),
                _ => None,
            });
            prop_assert_eq!(asked, holds.then_some("enough"));
        }
        if !holds {
            prop_assert_eq!(&reference::ends_of(&live.state), &expected);
        }
    }

}

proptest! {
    // What stops a run while its items are provisional is rare among them.
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// Canceled or failing fast at any moment, a run ends, and nothing starts after.
    #[test]
    fn stopped_runs_end((plan, scripts) in plans::plans(30), chance in chances(), cancel_after in 0usize..200) {
        let plan = Arc::new(plan);
        let mut live = Simulation::new(&plan, &scripts, Chance { cancel_after: Some(cancel_after), ..chance });
        live.play();
        let stopped = live.log.iter().position(|one| matches!(one.event, RunEvent::RunCanceling { .. }));
        if let Some(at) = stopped {
            prop_assert_eq!(live.state.status(), Some(RunStatus::Canceled));
            let started = live.log[at..].iter().any(|one| matches!(one.event, RunEvent::StepStart { .. }));
            prop_assert!(!started);
        }
    }
}

/// The plans above are worth their name: among them are items of items, which start over too, and steps that collect them.
#[test]
fn random_plans_have_what_there_is_to_get_wrong() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut nested, mut superseded, mut collected) = (0, 0, 0);
    for _ in 0..1_500 {
        let (plan, scripts) = plans::plans(30).new_tree(&mut runner).unwrap().current();
        let chance = chances().new_tree(&mut runner).unwrap().current();
        let plan = Arc::new(Plan { on_failure: FailurePolicy::GoOn, ..plan });
        let mut live = Simulation::new(&plan, &scripts, chance);
        live.play();
        let deep = |id: &InstanceId| id.key.len() > 1;
        nested += usize::from(
            live.state
                .instances()
                .any(|(id, instance)| deep(&id) && matches!(instance.state, StepState::Success { .. })),
        );
        superseded += usize::from(live.state.instances().any(|(id, instance)| deep(&id) && instance.generation > 0));
        collected +=
            usize::from(plan.steps.iter().any(|step| {
                step.inputs.iter().any(|input| matches!(input.source, Source::Collect { depth: 1.., .. }))
            }));
    }
    assert!(
        nested > 80 && superseded > 2 && collected > 50,
        "{nested} nested, {superseded} superseded, {collected} collected"
    );
}
