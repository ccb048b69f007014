//! From what tasks tell to events of the run.

use std::collections::HashSet;

use opyard_model::digest::FieldHasher;
use opyard_model::error::{Code, Failure};
use opyard_model::event::{Attempt, RunEvent, TypeChecked};
use opyard_model::id::{ItemKey, Name};
use opyard_model::limits::Usage;
use opyard_model::memo::{MemoEntry, MemoKey, Resaid};
use opyard_model::metadata::{MetadataEntry, MetadataValue};
use opyard_model::state::{HookId, MAX_ITEMS};
use opyard_model::step::{Bound, BoundInput, Saying, StepOutcome, StepResult};
use opyard_model::value::Yielded;
use opyard_store::crash::{self, CrashPoint};

use super::{PAGE, Session};
use crate::decide::Seat;
use crate::error::EngineError;
use crate::request::{Fingerprints, check_outputs, typed};
use crate::retry::{Setback, after_setback};
use crate::tasks::{Handled, News, Try};

/// The event that tells what an input port holds; none of one that is outside, of which its loading tells.
pub(super) fn step_input(of: &Attempt, input: &BoundInput) -> Option<RunEvent> {
    if matches!(input.bound, Bound::Outside { .. }) {
        return None;
    }
    let values = input.bound.values();
    let mut hasher = FieldHasher::new("opyard input 1");
    hasher.count(values.len());
    for value in values {
        hasher.field(value.identity().as_bytes());
    }
    Some(RunEvent::StepInput {
        of: of.clone(),
        port: input.port.clone(),
        values: u32::try_from(values.len()).unwrap_or(u32::MAX),
        identity: hasher.finish(),
    })
}

/// A result that was found in the memo, checked and handed to its IO managers.
struct Hit {
    entry: MemoEntry,
    outputs: Vec<Yielded>,
    checked: Vec<TypeChecked>,
    handled: Vec<Handled>,
}

/// Most bytes of log lines of one hook that are recorded.
const MAX_HOOK_LINES: usize = 16 << 10;

/// What becomes of the memo once the events of a piece of news are appended.
enum Afterwards {
    Record(Box<MemoEntry>),
    Release(MemoKey),
    Keep,
}

impl Session<'_> {
    /// Takes all that has arrived: what a task told before it ended comes before what its end means.
    pub(super) async fn catch_up(&mut self) -> Result<(), EngineError> {
        while !self.inbox.is_empty() {
            self.take(None).await?;
        }
        Ok(())
    }

    /// Takes `first` and whatever else has arrived, up to a bound, appends what follows from it in one go, and folds.
    pub(super) async fn take(&mut self, first: Option<News>) -> Result<(), EngineError> {
        let mut events = Vec::new();
        let mut afterwards = Vec::new();
        let mut waiting = Vec::new();
        let mut next = first.or_else(|| self.inbox.try_recv().ok());
        while let Some(news) = next {
            match news {
                News::Said { of, saying, waiting: one } => {
                    waiting.push(one);
                    afterwards.extend(self.said(of, saying, &mut events));
                }
                News::Ended { of, outcome } => afterwards.push(self.ended(&of, outcome, &mut events)),
                News::Hooked { hook, outcome, said } => self.hooked(&hook, outcome, said, &mut events),
                News::MemoHit { of, entry, outputs, checked, handled } => {
                    self.memo_hit(&of, Hit { entry: *entry, outputs, checked, handled }, &mut events);
                }
                News::Fingerprints { of, told } => self.fingerprints(&of, told, &mut events),
                News::Seated { seat } => self.seated(seat),
                News::Waits { seat } => events.extend(self.waits(&seat)),
                News::MemoMissed { of, key, claimed } => {
                    afterwards.push(self.memo_missed(&of, key, claimed, &mut events));
                }
            }
            next = if events.len() < PAGE { self.inbox.try_recv().ok() } else { None };
        }
        self.append(events).await?;
        drop(waiting);
        self.free().await;
        for one in afterwards {
            // Neither is worth failing a run for: without a record the step runs again another time, and a claim that is
            // not released ends with its lease.
            match one {
                Afterwards::Record(entry) => {
                    let key = entry.key;
                    if self.engine.memos.record(*entry).await.is_err() {
                        // Too large, or the store is in trouble: nobody is to wait for a result that never comes.
                        let _ = self.engine.memos.release(key, self.whose.run).await;
                    }
                    crash::point(CrashPoint::MemoRecorded);
                    self.unpark(&key);
                }
                Afterwards::Release(key) => {
                    let _ = self.engine.memos.release(key, self.whose.run).await;
                    self.unpark(&key);
                }
                Afterwards::Keep => {}
            }
        }
        Ok(())
    }

    fn attempt_of(&self, of: &Try) -> Attempt {
        let step = of.id.step_key(self.state.plan());
        Attempt { step, generation: of.generation, attempt: of.attempt }
    }

    fn said(&mut self, of: Try, saying: Saying, events: &mut Vec<RunEvent>) -> Option<Afterwards> {
        if !self.is_current(&of) {
            return None;
        }
        let kept = match &saying {
            Saying::Materialized(asset) => Some(Resaid::Materialized(asset.clone())),
            Saying::Observed(asset) => Some(Resaid::Observed(asset.clone())),
            Saying::Expected(expectation) => Some(Resaid::Expected(expectation.clone())),
            Saying::Metric(point) => Some(Resaid::Metric(point.clone())),
            Saying::Log(_)
            | Saying::Progress(_)
            | Saying::ItemCommitted(_)
            | Saying::Handled { .. }
            | Saying::Loaded(_)
            | Saying::ResourceInit { .. }
            | Saying::TypeChecked { .. }
            | Saying::LimitReached { .. }
            | Saying::GrantDenied { .. }
            | Saying::Audited { .. } => None,
        };
        if let Some(kept) = kept {
            self.tasks.keep(&of.id, kept);
        }
        if let Saying::ItemCommitted(Yielded { port, value }) = &saying {
            let ports = &self.state.plan().step(of.id.step).outputs;
            let is_dynamic = ports.iter().any(|output| output.port == *port && output.dynamic);
            let is_item = is_dynamic && value.item_of(&of.id.key).is_some();
            if !(is_item && self.tasks.committed(&of.id, port, &value.mapping_key)) {
                return None; // An event for it could not be folded. If the executor answers with it too, the step fails.
            }
            // Those of this batch are not folded yet.
            let told = events.iter().filter(|event| matches!(event, RunEvent::StepOutput { .. })).count();
            if !self.state.has_room_for(of.id.step, told + 1) {
                self.tasks.forget(&of.id);
                let outcome = StepOutcome { result: StepResult::Failure(too_many_items()), usage: Usage::default() };
                return Some(self.ended(&of, outcome, events));
            }
        }
        let of = self.attempt_of(&of);
        events.push(saying.into_event(of));
        None
    }

    fn ended(&mut self, of: &Try, outcome: StepOutcome, events: &mut Vec<RunEvent>) -> Afterwards {
        if !self.is_current(of) {
            return Afterwards::Keep;
        }
        let (said, items) = self.tasks.ended(&of.id);
        self.leave(Seat::Step(of.id.clone()));
        let attempt = self.attempt_of(of);
        let key = self.claims.held_by(&of.id);
        let StepOutcome { result, usage } = outcome;
        let setback = match result {
            StepResult::Success { outputs, memoisable } => match self.check(of, &outputs, &items) {
                Ok(()) => {
                    let entry = key.filter(|_| memoisable).map(|key| self.entry(key, of, &outputs, said));
                    events.extend(self.untold(of, outputs, &items).map(|output| {
                        let of = attempt.clone();
                        RunEvent::StepOutput { of, output }
                    }));
                    events.push(RunEvent::StepSuccess { of: attempt, usage });
                    return match (entry, key) {
                        (Some(entry), _) => Afterwards::Record(Box::new(entry)),
                        (None, Some(key)) => Afterwards::Release(key),
                        (None, None) => Afterwards::Keep,
                    };
                }
                Err(failure) => Setback::Failed(failure),
            },
            StepResult::Failure(failure) => Setback::Failed(failure),
            StepResult::Retry { description, delay } => Setback::AskedAgain { description, delay },
            StepResult::Described(_)
            | StepResult::Checked(_)
            | StepResult::Handled { .. }
            | StepResult::Fingerprint(_)
            | StepResult::Forgotten
            | StepResult::Hooked => Setback::Failed(another_answer()),
        };
        let step = self.state.plan().step(of.id.step);
        let event = after_setback(self.whose.run, step, &attempt, setback, usage, self.engine.clock.now());
        let goes_on = matches!(event, RunEvent::StepUpForRetry { .. });
        events.push(event);
        match key {
            Some(key) if !goes_on => Afterwards::Release(key),
            Some(_) | None => Afterwards::Keep,
        }
    }

    /// A hook has ended. However it did, nothing but its own outcome follows.
    fn hooked(&mut self, hook: &HookId, outcome: StepOutcome, said: Vec<Saying>, events: &mut Vec<RunEvent>) {
        self.telling.remove(hook);
        if self.state.told(hook).is_none() {
            return;
        }
        let Some((of, hook)) = self.state.hook_name(hook) else { return };
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for saying in said {
            match saying {
                Saying::Log(line) => {
                    bytes +=
                        line.message.len() + line.fields.iter().map(|(k, v)| k.len() + v.as_str().len()).sum::<usize>();
                    if bytes <= MAX_HOOK_LINES {
                        lines.push(line);
                    }
                }
                Saying::GrantDenied { key } => {
                    let message = format!("the hook `{}` asked for `{key}`, which it was not granted", hook.name);
                    events.push(audited(&of, message, Vec::new()));
                }
                Saying::Audited { message, metadata } => events.push(audited(&of, message, metadata)),
                // What is not the step's is no event of the step.
                Saying::Progress(_)
                | Saying::Metric(_)
                | Saying::Materialized(_)
                | Saying::Observed(_)
                | Saying::Expected(_)
                | Saying::ItemCommitted(_)
                | Saying::Handled { .. }
                | Saying::Loaded(_)
                | Saying::TypeChecked { .. }
                | Saying::ResourceInit { .. }
                | Saying::LimitReached { .. } => {}
            }
        }
        let StepOutcome { result, usage } = outcome;
        events.push(match result {
            StepResult::Hooked => RunEvent::HookCompleted { of, hook, lines, usage },
            StepResult::Failure(failure) => RunEvent::HookErrored { of, hook, failure, lines, usage },
            StepResult::Success { .. }
            | StepResult::Described(_)
            | StepResult::Checked(_)
            | StepResult::Handled { .. }
            | StepResult::Fingerprint(_)
            | StepResult::Forgotten
            | StepResult::Retry { .. } => RunEvent::HookErrored { of, hook, failure: another_answer(), lines, usage },
        });
    }

    /// Checks what an executor answered: outputs of the step, and every item that it said was committed.
    fn check(&self, of: &Try, outputs: &[Yielded], items: &HashSet<(Name, ItemKey)>) -> Result<(), Failure> {
        let step = self.state.plan().step(of.id.step);
        check_outputs(step, &of.id.key, outputs)?;
        let is_item = |one: &&Yielded| step.outputs.iter().any(|output| output.port == one.port && output.dynamic);
        let answered = outputs.iter().filter(is_item).filter(|one| is_among(items, one)).count();
        if answered < items.len() {
            return Err(Failure::new(Code::Invariant, "the executor left out items that it had committed"));
        }
        let all = outputs.iter().filter(is_item).count();
        if !self.state.has_room_for(of.id.step, all - answered) {
            return Err(too_many_items());
        }
        Ok(())
    }

    /// The outputs that were not told yet: plain ones, and items that were not said one by one.
    fn untold<'a>(
        &'a self,
        of: &Try,
        outputs: Vec<Yielded>,
        items: &'a HashSet<(Name, ItemKey)>,
    ) -> impl Iterator<Item = Yielded> + 'a {
        let ports = &self.state.plan().step(of.id.step).outputs;
        outputs.into_iter().filter(move |one| {
            let is_plain = ports.iter().any(|output| output.port == one.port && !output.dynamic);
            is_plain || !is_among(items, one)
        })
    }

    fn entry(&self, key: MemoKey, of: &Try, outputs: &[Yielded], said: Vec<Resaid>) -> MemoEntry {
        let plan = self.state.plan();
        let step = plan.step(of.id.step);
        // The executor says that a step succeeded only when all of its values passed.
        let checked = typed(plan, step, outputs).map(|typed| typed.key(&self.whose.tenant)).collect();
        let mut outputs = outputs.to_vec();
        for output in &mut outputs {
            // Where a manager keeps this run's copy is this run's affair.
            output.value.kept = None;
        }
        MemoEntry {
            key,
            run: self.whose.run,
            step: of.id.step_key(plan),
            op: step.op.clone(),
            at: self.engine.clock.now(),
            wasmtime: self.engine.settings.wasmtime.clone(),
            outputs,
            said,
            checked,
        }
    }

    fn memo_hit(&mut self, of: &Try, hit: Hit, events: &mut Vec<RunEvent>) {
        let Hit { entry, outputs, checked, handled } = hit;
        if !self.is_of_this_generation(of) {
            return;
        }
        self.asked.remove(&of.id);
        self.unpark(&entry.key);
        if !self.is_waiting_for_memo(of) {
            return;
        }
        // Every output may be an item: rather run a step once more than lose count.
        if !self.state.has_room_for(of.id.step, outputs.len()) {
            let of = self.attempt_of(of);
            events.push(RunEvent::StepMemoMissed { step: of.step, generation: of.generation, key: entry.key });
            return;
        }
        let of = self.attempt_of(of);
        events.extend(checked.into_iter().map(|check| RunEvent::TypeCheckSuccess { of: of.clone(), check }));
        events.extend(handled.into_iter().map(|Handled { port, manager, locator, metadata }| {
            RunEvent::HandledOutput { of: of.clone(), port, manager, locator, metadata }
        }));
        let (step, generation) = (of.step.clone(), of.generation);
        events.push(RunEvent::StepMemoized { step, generation, key: entry.key, origin: entry.run, outputs });
        events.extend(entry.said.into_iter().map(|said| {
            let (of, from_memo) = (of.clone(), true);
            match said {
                Resaid::Materialized(asset) => RunEvent::AssetMaterialization { of, asset, from_memo },
                Resaid::Observed(asset) => RunEvent::AssetObservation { of, asset, from_memo },
                Resaid::Expected(expectation) => RunEvent::StepExpectationResult { of, expectation, from_memo },
                Resaid::Metric(point) => RunEvent::Metric { of, point, from_memo },
            }
        }));
    }

    /// A step whose inputs from outside are known not to have changed asks its memo next; any other runs.
    fn fingerprints(&mut self, of: &Try, told: Fingerprints, events: &mut Vec<RunEvent>) {
        if !self.is_of_this_generation(of) {
            return;
        }
        self.asked.remove(&of.id);
        if !self.is_waiting_for_memo(of) {
            return;
        }
        let given = self.whose.given(&self.state, &of.id, Some(&told));
        if given.is_proven {
            self.fingerprints.insert(of.id.clone(), told);
        } else {
            let of = self.attempt_of(of);
            events.push(RunEvent::StepMemoMissed { step: of.step, generation: of.generation, key: given.key });
        }
    }

    fn memo_missed(&mut self, of: &Try, key: MemoKey, claimed: bool, events: &mut Vec<RunEvent>) -> Afterwards {
        if !self.is_of_this_generation(of) {
            // The step has started over, and let go of the key when it did.
            return if claimed && !self.claims.is_held(&key) { Afterwards::Release(key) } else { Afterwards::Keep };
        }
        self.asked.remove(&of.id);
        let waits = self.is_waiting_for_memo(of);
        if waits {
            let of = self.attempt_of(of);
            events.push(RunEvent::StepMemoMissed { step: of.step, generation: of.generation, key });
        }
        match (waits, claimed) {
            (true, true) => {
                self.claims.grant(key);
                Afterwards::Keep
            }
            (false, true) => Afterwards::Release(key),
            (_, false) => {
                self.unpark(&key);
                Afterwards::Keep
            }
        }
    }
}

fn too_many_items() -> Failure {
    let text = format!("with one item more, the run would have over {MAX_ITEMS} steps for items");
    Failure::new(Code::TooManyItems, text)
}

/// What is told the operator of what a step, or a hook of it, did.
fn audited(of: &Attempt, message: String, mut metadata: Vec<MetadataEntry>) -> RunEvent {
    let text = |label: &str, text: String| MetadataEntry { label: label.to_owned(), value: MetadataValue::Text(text) };
    metadata.insert(0, text("step", of.step.to_string()));
    metadata.insert(1, text("attempt", of.attempt.to_string()));
    RunEvent::EngineEvent { message, metadata }
}

fn another_answer() -> Failure {
    Failure::new(Code::Invariant, "the executor answered another question than it was asked")
}

fn is_among(items: &HashSet<(Name, ItemKey)>, one: &Yielded) -> bool {
    items.contains(&(one.port.clone(), one.value.mapping_key.clone()))
}
