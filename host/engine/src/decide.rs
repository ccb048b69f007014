//! What a run does next: a pure function of where it stands.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use opyard_model::error::{Code, Failure};
use opyard_model::event::{RunEvent, RunStatus, SkipReason};
use opyard_model::id::Name;
use opyard_model::plan::FailurePolicy;
use opyard_model::state::{HookId, InstanceId, RunState, StepState};
use opyard_model::time::Timestamp;

use crate::seats::pools_of_run;

/// Most events that one decision appends: a large run is folded piece by piece.
pub const MAX_FACTS: usize = 1_000;
/// Most memo look-ups under way at a time.
pub const MAX_LOOK_UPS: usize = 512;
/// Most hooks of a run that are told at a time.
pub const MAX_TELLING: usize = 16;

/// What is known beside the state: the moment, and what is under way without an event of its own.
#[derive(Debug, Clone, Copy)]
pub struct Outlook<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Steps whose memo was asked and has not answered.
    pub asked: &'a HashSet<InstanceId>,
    /// How many steps may run at a time.
    pub slots: usize,
    /// The slots of pools that were asked for.
    pub seats: &'a Seats,
    /// Hooks that are being told.
    pub telling: &'a HashSet<HookId>,
}

/// What a slot of a pool is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seat {
    /// The run as a whole: it goes on only while it holds it.
    Run,
    /// A step: it starts only once it holds it.
    Step(InstanceId),
}

impl Seat {
    /// The step that it is for.
    #[must_use]
    pub fn step(&self) -> Option<&InstanceId> {
        match self {
            Self::Run => None,
            Self::Step(id) => Some(id),
        }
    }
}

/// Slots of pools that a run has asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seats {
    /// Those that it does not hold yet.
    pub asked: BTreeSet<Seat>,
    /// Those that it holds.
    pub held: BTreeSet<Seat>,
}

impl Seats {
    fn knows(&self, seat: &Seat) -> bool {
        self.asked.contains(seat) || self.held.contains(seat)
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Append these events: they follow from the state. Decide again after folding them.
    Append(Vec<RunEvent>),
    /// Ask the memo about these steps.
    LookUp(Vec<InstanceId>),
    /// Start this step: append its `step_start`, fold, execute.
    Start(InstanceId),
    /// Ask for a slot for each of these.
    Ask(Vec<Seat>),
    /// Stop what runs for this step.
    Stop(InstanceId),
    /// Tell this hook, once all that was appended is on disk.
    Tell(HookId),
    /// Decide again at this moment at the latest.
    WakeAt(Timestamp),
}

/// What the run does next. Nothing to do and nothing under way = the run has ended.
///
/// Pure: the same state and outlook give the same actions. Costs in proportion to what it answers and to what is under
/// way, not to the size of the run (but once when the run is being stopped).
#[must_use]
pub fn decide(state: &RunState, outlook: Outlook<'_>) -> Vec<Action> {
    match state.status() {
        None | Some(RunStatus::Success | RunStatus::Failure | RunStatus::Canceled) => Vec::new(),
        Some(RunStatus::Queued) if !may_go_on(state, outlook.seats) => ask_for_run(outlook.seats),
        Some(RunStatus::Queued) => {
            vec![Action::Append(vec![RunEvent::RunDequeued, RunEvent::RunStarting])]
        }
        Some(RunStatus::Starting) => vec![Action::Append(vec![RunEvent::RunStart])],
        Some(RunStatus::Canceling) => stop(state, outlook, RunEvent::RunCanceled),
        Some(RunStatus::Started) => {
            if let Some(rule) = state.plan().policy.cancel_when.iter().find(|rule| rule.when.holds(state)) {
                return vec![Action::Append(vec![RunEvent::RunCanceling { reason: rule.reason() }])];
            }
            if let Some(end) = stopped_with(state, outlook.now) {
                return stop(state, outlook, end);
            }
            let facts = facts(state, outlook.now);
            if !facts.is_empty() {
                return vec![Action::Append(facts)];
            }
            if state.all_settled() && state.no_hook_is_open() {
                let end = if state.failed() > 0 { failed(state) } else { RunEvent::RunSuccess };
                return vec![Action::Append(vec![end])];
            }
            go_on(state, outlook)
        }
    }
}

/// Events that follow from the state alone: what was superseded, what is skipped, what an earlier run has, whose wait is
/// over.
fn facts(state: &RunState, now: Timestamp) -> Vec<RunEvent> {
    let plan = state.plan();
    let superseded = state.stale().filter_map(|id| {
        let generation = state.instance(id)?.generation + 1;
        Some(RunEvent::StepSuperseded { step: id.step_key(plan), generation })
    });
    let skipped = state.skips().filter_map(|(id, reason)| {
        let generation = state.instance(id)?.generation;
        Some(RunEvent::StepSkipped { step: id.step_key(plan), generation, reason })
    });
    let restarted = state
        .retries()
        .take_while(|(not_before, _)| *not_before <= now)
        .filter_map(|(_, id)| Some(RunEvent::StepRestarted { of: state.attempt(id)? }));
    let reused = state.reusable().filter_map(|(id, origin, outputs)| {
        let generation = state.instance(id)?.generation;
        Some(RunEvent::StepReused { step: id.step_key(plan), generation, origin, outputs: outputs.to_vec() })
    });
    superseded.chain(skipped).chain(reused).chain(restarted).take(MAX_FACTS).collect()
}

fn go_on(state: &RunState, outlook: Outlook<'_>) -> Vec<Action> {
    let retry = state.retries().next().map(|(not_before, _)| *not_before);
    // Once all steps have ended, hooks alone are waited for, and those have limits of their own.
    let deadline = deadline(state).filter(|_| !state.all_settled());
    let wake = retry.into_iter().chain(deadline).min().map(Action::WakeAt);
    if !may_go_on(state, outlook.seats) {
        // It was taken up again, and somebody else had taken its place meanwhile.
        return ask_for_run(outlook.seats).into_iter().chain(wake).collect();
    }
    let mut actions = Vec::new();
    let room = MAX_LOOK_UPS.saturating_sub(outlook.asked.len());
    let look_up: Vec<_> = state.unlooked().filter(|id| !outlook.asked.contains(id)).take(room).cloned().collect();
    if !look_up.is_empty() {
        actions.push(Action::LookUp(look_up));
    }
    let Choice { start, ask } = choose(state, outlook);
    if !ask.is_empty() {
        actions.push(Action::Ask(ask));
    }
    actions.extend(start.into_iter().map(Action::Start));
    actions.extend(wake);
    actions.extend(tell(state, outlook));
    actions
}

/// The run waits for no other, or its turn has come.
fn may_go_on(state: &RunState, seats: &Seats) -> bool {
    state.plan().run_queue.is_default() || seats.held.contains(&Seat::Run) || pools_of_run(state).is_empty()
}

fn ask_for_run(seats: &Seats) -> Vec<Action> {
    if seats.asked.contains(&Seat::Run) { Vec::new() } else { vec![Action::Ask(vec![Seat::Run])] }
}

/// What goes on next.
#[derive(Default)]
struct Choice {
    start: Vec<InstanceId>,
    ask: Vec<Seat>,
}

/// The steps that start now, and those for which a slot is asked: of all lanes that have room, the one whose first step has
/// the highest priority, then the one whose first step comes first in the plan. A step that holds its slot goes before
/// all others, since nobody else can use it.
fn choose(state: &RunState, outlook: Outlook<'_>) -> Choice {
    let Outlook { seats, slots, .. } = outlook;
    let mut room: Vec<u32> = state.groups().map(|(running, limit)| limit.saturating_sub(running)).collect();
    // Whoever is about to start has its place in the groups already; no more stand in line for a pool than could hold slots.
    let mut in_line: BTreeMap<&Name, u32> = BTreeMap::new();
    for id in seats.asked.iter().chain(&seats.held).filter_map(Seat::step).filter(|id| state.is_runnable(id)) {
        let Some(lane) = state.lane_of(id.step) else { continue };
        lane.groups.iter().for_each(|group| room[*group] = room[*group].saturating_sub(1));
        if let Some(pool) = &lane.pool {
            *in_line.entry(pool).or_default() += 1;
        }
    }
    let free = slots.saturating_sub(state.running().len());
    let seated = seats.held.iter().filter_map(Seat::step).filter(|id| state.is_runnable(id));
    let mut choice = Choice { start: seated.take(free).cloned().collect(), ask: Vec::new() };
    let mut lines: Vec<_> = state
        .waiting_lanes()
        .filter_map(|lane| {
            let is_new = |(_, id): &(Reverse<i32>, &InstanceId)| !seats.knows(&Seat::Step((*id).clone()));
            let limits = state.lane(lane)?;
            let has_seats = limits.pool.is_some();
            Some((limits, state.line(lane).filter(move |head| !has_seats || is_new(head)).peekable()))
        })
        .collect();
    loop {
        let (has_place, asked) = (choice.start.len() < free, seats.asked.len() + choice.ask.len());
        let open = lines.iter_mut().filter(|(lane, _)| {
            let goes = match &lane.pool {
                None => has_place,
                Some(pool) => {
                    let limit = state.plan().pools.get(pool).copied().unwrap_or(1);
                    asked < slots && in_line.get(pool).copied().unwrap_or(0) < limit
                }
            };
            goes && lane.groups.iter().all(|group| room[*group] > 0)
        });
        let heads = open.filter_map(|(lane, line)| line.peek().copied().map(|head| (head, *lane, line)));
        let Some((_, lane, line)) = heads.min_by_key(|(head, ..)| *head) else { return choice };
        let Some((_, id)) = line.next() else { return choice };
        lane.groups.iter().for_each(|group| room[*group] -= 1);
        match &lane.pool {
            None => choice.start.push(id.clone()),
            Some(pool) => {
                *in_line.entry(pool).or_default() += 1;
                choice.ask.push(Seat::Step(id.clone()));
            }
        }
    }
}

/// The end of a run that is being stopped.
///
/// Stopped once is stopped for good, though the failure that it was stopped for may be gone: stopping the op that yielded
/// an item takes the item back, and with it what failed for it.
fn stopped_with(state: &RunState, now: Timestamp) -> Option<RunEvent> {
    // What ended by itself, before it had to be stopped, ends as it did; though it is told later.
    if state.all_settled() && !state.was_stopped() {
        return None;
    }
    let fails_fast = state.plan().on_failure == FailurePolicy::FailFast;
    if fails_fast && state.failed() > 0 {
        return Some(failed(state));
    }
    if let Some(failure) = overrun(state, now) {
        return Some(RunEvent::RunFailure { failure });
    }
    (fails_fast && state.was_stopped()).then(|| failed(state))
}

/// The moment at which the run has taken too long.
fn deadline(state: &RunState) -> Option<Timestamp> {
    Some(state.started_at()?.after(state.plan().policy.timeout?))
}

/// The run has taken more than it may.
fn overrun(state: &RunState, now: Timestamp) -> Option<Failure> {
    let policy = &state.plan().policy;
    if let (Some(most), true) = (policy.timeout, deadline(state).is_some_and(|deadline| now >= deadline)) {
        let text = format!("the run was not over after {most:?}, the `timeout` of its job");
        return Some(Failure::new(Code::RunWallExceeded, text));
    }
    let most = policy.cpu.filter(|most| state.cpu() > *most)?;
    let text = format!("the steps of the run used {:?} of CPU time; the `cpu` of its job is {most:?}", state.cpu());
    Some(Failure::new(Code::RunCpuExceeded, text))
}

/// Hooks that may be told now.
fn tell(state: &RunState, outlook: Outlook<'_>) -> impl Iterator<Item = Action> {
    let room = MAX_TELLING.saturating_sub(outlook.telling.len());
    // At most as many are looked at as are told, and those that are being told already.
    state.due_hooks().filter(move |hook| !outlook.telling.contains(hook)).take(room).cloned().map(Action::Tell)
}

/// Hooks that are told nothing any more, because the run is being stopped: those of what will not come to stand, and, when
/// somebody asked for the end, all that have not begun. A run that fails, or that its own rules cancel, still tells why.
fn skipped_hooks(state: &RunState, outlook: Outlook<'_>) -> Vec<RunEvent> {
    // A run that its own rules cancel has something to tell, too.
    let is_asked = state.status() == Some(RunStatus::Canceling)
        && !state.plan().policy.cancel_when.iter().any(|rule| rule.when.holds(state));
    let due = state.due_hooks().filter(|hook| is_asked && !outlook.telling.contains(hook));
    let skipped = state.held_hooks().chain(due).filter_map(|hook| {
        let (of, hook) = state.hook_name(hook)?;
        Some(RunEvent::HookSkipped { of, hook, reason: SkipReason::Canceled })
    });
    skipped.take(MAX_FACTS).collect()
}

/// Skips what has not begun, stops what runs, and ends the run with `end` when nothing is left.
fn stop(state: &RunState, outlook: Outlook<'_>, end: RunEvent) -> Vec<Action> {
    let plan = state.plan();
    let mut skipped = Vec::new();
    let idle = state.unfinished() > state.running().len();
    for (id, instance) in state.instances().take_while(|_| idle) {
        match instance.state {
            StepState::Pending | StepState::Ready { .. } | StepState::UpForRetry { .. } => {
                let (step, generation) = (id.step_key(plan), instance.generation);
                skipped.push(RunEvent::StepSkipped { step, generation, reason: SkipReason::Canceled });
            }
            StepState::Running { .. }
            | StepState::Success { .. }
            | StepState::Skipped(_)
            | StepState::Failure(_)
            | StepState::Canceled => {}
        }
        if skipped.len() == MAX_FACTS {
            break;
        }
    }
    if !skipped.is_empty() {
        return vec![Action::Append(skipped)];
    }
    let skipped = skipped_hooks(state, outlook);
    if !skipped.is_empty() {
        return vec![Action::Append(skipped)];
    }
    if state.running().len() == 0 && state.no_hook_is_open() {
        return vec![Action::Append(vec![end])];
    }
    state.running().cloned().map(Action::Stop).chain(tell(state, outlook)).collect()
}

/// The end of a run some of whose steps failed.
fn failed(state: &RunState) -> RunEvent {
    let mut names = Vec::new();
    let mut first = None;
    for (id, instance) in state.instances() {
        if let StepState::Failure(failure) = &instance.state {
            first.get_or_insert(failure.code);
            names.push(id.step_key(state.plan()).to_string());
        }
    }
    let shown = names.len().min(5);
    let more = if names.len() > shown { format!(" and {} more", names.len() - shown) } else { String::new() };
    let steps = if names.len() == 1 { "step" } else { "steps" };
    let text = format!("{} {steps} failed: {}{more}", names.len(), names[..shown].join(", "));
    RunEvent::RunFailure { failure: Failure::new(first.unwrap_or(Code::OpFailed), text) }
}
