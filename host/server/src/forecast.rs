//! What a run would do, before anything runs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use opyard_engine::decide::{Action, Outlook, Seat, Seats, decide};
use opyard_engine::{EngineError, MemoQuestion};
use opyard_model::error::{Code, Failure};
use opyard_model::event::{Recorded, RunEvent, SkipReason};
use opyard_model::id::{Name, RunId, StepPath};
use opyard_model::limits::Usage;
use opyard_model::plan::{Plan, StepIx};
use opyard_model::state::{InstanceId, RunState};
use opyard_model::time::Timestamp;
use opyard_model::value::{ArtifactRef, Yielded};
use opyard_store::memo::MemoAnswer;
use serde::Serialize;

use crate::error::YardError;
use crate::yard::Yard;

/// What one step would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "would", rename_all = "snake_case")]
pub enum Foreseen {
    /// Its result is in the memo.
    Memo,
    /// It runs.
    Run,
    /// It runs: an IO manager cannot tell whether what it loads has changed.
    Unproven {
        /// The input.
        input: Name,
        /// The IO manager.
        manager: Name,
    },
    /// Its result is in the memo if these steps, which run, give what they gave in the job's last run.
    MemoIfUnchanged {
        /// The steps.
        of: Vec<StepPath>,
    },
}

/// What a run would do, step by step, in topological order. A mapped step is `Memo` when all of its items are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The steps.
    pub steps: Vec<(StepPath, Foreseen)>,
}

/// A run that is played through without executing anything: the engine's own decisions, with the memo's answers, and
/// with the outputs of the job's last successful run where a step would have to run.
struct Rehearsal<'a> {
    yard: &'a Yard,
    run: RunId,
    plan: Arc<Plan>,
    state: RunState,
    last: HashMap<StepPath, Vec<Yielded>>,
    /// Per step: the steps whose outputs it takes for unchanged.
    assumes: HashMap<StepIx, HashSet<StepIx>>,
    foreseen: BTreeMap<StepIx, Foreseen>,
}

impl Yard {
    /// Says which steps of `plan` the memo would satisfy. Asks the memo, and runs nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn forecast(&self, plan: Arc<Plan>) -> Result<Forecast, YardError> {
        let last = self.last_outputs(&plan).await?;
        let mut rehearsal = Rehearsal {
            yard: self,
            run: RunId::from_parts(0, 0),
            state: RunState::new(Arc::clone(&plan)),
            plan: Arc::clone(&plan),
            last,
            assumes: HashMap::new(),
            foreseen: BTreeMap::new(),
        };
        rehearsal.play().await?;
        let steps = plan.indices().map(|ix| {
            let foreseen = rehearsal.foreseen.remove(&ix).unwrap_or(Foreseen::Run);
            (plan.step(ix).path.clone(), foreseen)
        });
        Ok(Forecast { steps: steps.collect() })
    }

    /// What the steps of the job's last successful run yielded; mapped steps are left out.
    async fn last_outputs(&self, plan: &Plan) -> Result<HashMap<StepPath, Vec<Yielded>>, YardError> {
        let Some(last) = self.last_success(&plan.job).await? else { return Ok(HashMap::new()) };
        let (plan, state) = self.state(last.run).await?;
        let plain = state.instances().filter(|(id, _)| id.key.is_empty());
        Ok(plain
            .map(|(id, instance)| {
                let step = plan.step(id.step);
                (step.path.clone(), instance.yielded(&step.outputs))
            })
            .collect())
    }
}

impl Rehearsal<'_> {
    async fn play(&mut self) -> Result<(), YardError> {
        self.fold(RunEvent::RunEnqueued {
            job: self.plan.job.clone(),
            environment: None,
            plan: ArtifactRef::of(b""),
            steps: 0,
            tags: self.plan.tags.clone(),
            use_memo: true,
            parent: None,
            root: None,
        })?;
        // Whoever needs a slot has it: what is foretold does not depend on who else runs.
        let seats = Seats { held: [Seat::Run].into(), ..Seats::default() };
        loop {
            let (nothing, nobody) = (HashSet::new(), HashSet::new());
            let (now, slots) = (Timestamp::from_micros(0), usize::MAX);
            let outlook = Outlook { now, asked: &nothing, slots, seats: &seats, telling: &nobody };
            let actions = decide(&self.state, outlook);
            if actions.is_empty() {
                return Ok(());
            }
            for action in actions {
                match action {
                    Action::Append(events) => events.into_iter().try_for_each(|event| self.fold(event))?,
                    Action::LookUp(ids) => self.look_up(ids).await?,
                    Action::Start(id) => self.pretend(&id)?,
                    Action::Ask(seats) => seats.iter().filter_map(Seat::step).try_for_each(|id| self.pretend(id))?,
                    // Nobody is told of what might be.
                    Action::Tell(hook) => {
                        if let Some((of, hook)) = self.state.hook_name(&hook) {
                            self.fold(RunEvent::HookSkipped { of, hook, reason: SkipReason::Canceled })?;
                        }
                    }
                    Action::Stop(_) | Action::WakeAt(_) => {}
                }
            }
        }
    }

    fn fold(&mut self, event: RunEvent) -> Result<(), YardError> {
        let seq = self.state.last_seq() + 1;
        let recorded = Recorded { run: self.run, seq, at: Timestamp::from_micros(0), event };
        self.state.apply(&recorded).map_err(|error| YardError::from(EngineError::from(error)))
    }

    async fn look_up(&mut self, ids: Vec<InstanceId>) -> Result<(), YardError> {
        for id in ids {
            let (key, max_age) = match self.yard.engine().memo_question(self.run, &self.state, &id).await {
                MemoQuestion::Ask { key, max_age } => (key, max_age),
                MemoQuestion::Unproven { key, input, manager } => {
                    self.note(id.step, Foreseen::Unproven { input, manager });
                    self.fold(RunEvent::StepMemoMissed { step: id.step_key(&self.plan), generation: 0, key })?;
                    continue;
                }
            };
            // A lease of nothing: asking claims nothing.
            let memos = self.yard.tenant_store().memos();
            let answer = memos.look_up(&[key], max_age, self.run, Duration::ZERO).await?.pop();
            let (step, generation) = (id.step_key(&self.plan), 0);
            if let Some(MemoAnswer::Hit(entry)) = answer {
                let assumed: HashSet<_> = self.assumed_by_producers(id.step);
                let foreseen = if assumed.is_empty() {
                    Foreseen::Memo
                } else {
                    let mut of: Vec<_> = assumed.iter().copied().collect();
                    of.sort_unstable();
                    Foreseen::MemoIfUnchanged { of: of.iter().map(|ix| self.plan.step(*ix).path.clone()).collect() }
                };
                self.assumes.entry(id.step).or_default().extend(assumed);
                self.note(id.step, foreseen);
                self.fold(RunEvent::StepMemoized { step, generation, key, origin: entry.run, outputs: entry.outputs })?;
            } else {
                self.fold(RunEvent::StepMemoMissed { step, generation, key })?;
            }
        }
        Ok(())
    }

    /// A step would run: take what it gave last time, so that what follows can be looked at.
    fn pretend(&mut self, id: &InstanceId) -> Result<(), YardError> {
        self.note(id.step, Foreseen::Run);
        let step = self.plan.step(id.step);
        let Some(of) = self.state.attempt(id) else { return Ok(()) };
        let outputs = self.last.get(&step.path).filter(|_| id.key.is_empty()).cloned();
        self.assumes.entry(id.step).or_default().insert(id.step);
        let fits = |one: &Yielded| step.outputs.iter().any(|port| port.port == one.port);
        let outputs = outputs.filter(|outputs| outputs.iter().all(fits));
        self.fold(RunEvent::StepStart { of: of.clone() })?;
        let usage = Usage::default();
        match outputs {
            Some(outputs) => {
                for output in outputs {
                    self.fold(RunEvent::StepOutput { of: of.clone(), output })?;
                }
                self.fold(RunEvent::StepSuccess { of, usage })
            }
            // Nothing is known of what it gives: what follows is skipped here, and so is said to run.
            None => {
                let failure = Failure::new(Code::Canceled, "not known before it runs");
                self.fold(RunEvent::StepFailure { of, failure, usage })
            }
        }
    }

    fn assumed_by_producers(&self, ix: StepIx) -> HashSet<StepIx> {
        let step = self.plan.step(ix);
        let producers = step.sources().map(|slot| slot.step).chain(step.mapped_over.map(|slot| slot.step));
        producers.filter_map(|producer| self.assumes.get(&producer)).flatten().copied().collect()
    }

    /// A mapped step is what the least of its items is.
    fn note(&mut self, ix: StepIx, foreseen: Foreseen) {
        let before = self.foreseen.get(&ix);
        let keep = match (before, &foreseen) {
            (Some(Foreseen::Run | Foreseen::Unproven { .. }), _) => true,
            (Some(Foreseen::MemoIfUnchanged { .. }), Foreseen::Memo | Foreseen::MemoIfUnchanged { .. }) => true,
            (Some(Foreseen::MemoIfUnchanged { .. }), Foreseen::Run | Foreseen::Unproven { .. })
            | (Some(Foreseen::Memo) | None, _) => false,
        };
        if !keep {
            self.foreseen.insert(ix, foreseen);
        }
    }
}
