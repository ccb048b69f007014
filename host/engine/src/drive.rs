//! The one loop of a run: decide, append, fold, act.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use opyard_model::error::{Code, Failure};
use opyard_model::event::{Recorded, RunEvent, RunStatus};
use opyard_model::id::{RunId, TenantId};
use opyard_model::limits::Usage;
use opyard_model::memo::MemoKey;
use opyard_model::plan::Plan;
use opyard_model::state::{HookId, InstanceId, MemoStanding, RunState, StepState, Tally};
use opyard_model::step::{StepExecutor, StepOutcome, StepResult};
use opyard_model::time::{Clock, Timestamp};
use opyard_store::artifact::ArtifactStore;
use opyard_store::crash::{self, CrashPoint};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::event_log::{Durable, EventLog};
use opyard_store::memo::MemoStore;
use opyard_store::pool::Pools;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::claims::Claims;
use crate::decide::{Action, Outlook, Seat, Seats, decide};
use crate::error::EngineError;
use crate::lookup::{LEASE, LookUp, Question};
use crate::plans::Plans;
use crate::request::{Fingerprints, Whose, is_contained};
use crate::retry::{Setback, after_setback};
use crate::seats::uses_pools;
use crate::tasks::{Begin, Broken, News, Tasks, Try};

mod news;
mod seats;

/// Most events that are read from the log at a time, and most news that are taken at a time.
const PAGE: usize = 1_000;
/// How often in a row, without an event more on disk, a run is folded again after a failed commit before it is given up
/// (and can be taken up later).
const REFOLDS: u32 = 3;
/// The wait before the first of these; doubled each time.
const REFOLD_WAIT: Duration = Duration::from_millis(50);

/// How the engine drives runs.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Steps of one run that run at a time. At least 1.
    pub max_concurrent_steps: usize,
    /// What memo entries are recorded to have been computed by.
    pub wasmtime: String,
}

/// Drives the runs of one tenant.
#[derive(Clone)]
pub struct Engine {
    pub(crate) tenant: TenantId,
    pub(crate) executor: Arc<dyn StepExecutor>,
    pub(crate) events: Arc<dyn EventLog>,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    pub(crate) memos: Arc<dyn MemoStore>,
    pub(crate) pools: Arc<dyn Pools>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: EngineSettings,
    pub(crate) plans: Plans,
}

/// What an engine works with.
pub struct Parts {
    /// Executes steps.
    pub executor: Arc<dyn StepExecutor>,
    /// The tenant's event log.
    pub events: Arc<dyn EventLog>,
    /// The tenant's artifacts.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// The tenant's memo.
    pub memos: Arc<dyn MemoStore>,
    /// The tenant's pools.
    pub pools: Arc<dyn Pools>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    /// `Success`, `Failure` or `Canceled`.
    pub status: RunStatus,
    /// How many steps ended how.
    pub tally: Tally,
}

/// Resolves when somebody asks for the end of a run, with who or what asked. May never resolve.
pub type CancelRequest = BoxFuture<'static, String>;

impl Engine {
    /// An engine for the runs of `tenant`.
    #[must_use]
    pub fn new(tenant: TenantId, parts: Parts, settings: EngineSettings) -> Self {
        let Parts { executor, events, artifacts, memos, pools, clock } = parts;
        Self { tenant, executor, events, artifacts, memos, pools, clock, settings, plans: Plans::default() }
    }

    /// Drives a run from wherever its events left it to its end, and returns once the end is durable.
    ///
    /// A run that was left in the middle (the host stopped) goes on: what ran then starts over.
    ///
    /// # Errors
    /// When its events cannot be kept or make no sense. What is recorded stays, and the run can be driven again.
    ///
    /// # Cancel safety
    /// Dropping the future stops whatever runs; the run can be driven again.
    pub async fn drive(&self, run: RunId, mut cancel: CancelRequest) -> Result<RunEnd, EngineError> {
        let (plan, tags) = self.enqueued(run).await?;
        let whose = Whose { tenant: self.tenant.clone(), run, tags };
        let uses_pools = uses_pools(&plan);
        if uses_pools {
            // Whoever drove it in this process, and was stopped in the middle, gave nothing back.
            let _ = self.pools.release_run(run, false).await;
        }
        let mut canceled = None;
        let (mut refolds, mut reached) = (0, 0);
        loop {
            let state = self.fold(run, &plan).await?;
            if state.last_seq() > reached {
                (refolds, reached) = (0, state.last_seq());
            }
            let mut session = Session::new(self, whose.clone(), state);
            let end = session.go(&mut cancel, &mut canceled).await;
            // Before anything is folded again, whatever was started from what is not on disk has to be gone.
            session.tasks.shut_down().await;
            if uses_pools {
                // One that is driven on keeps its turn; what its steps held is asked for anew. What is not given back now
                // ends with its lease.
                let _ = self.pools.release_run(run, end.is_ok()).await;
            }
            match end {
                Err(EngineError::Store(error)) if refolds < REFOLDS && is_worth_a_refold(&error) => {
                    tokio::time::sleep(REFOLD_WAIT * 2u32.pow(refolds)).await;
                    refolds += 1;
                }
                end => return end,
            }
        }
    }

    pub(crate) async fn fold(&self, run: RunId, plan: &Arc<Plan>) -> Result<RunState, EngineError> {
        let mut state = RunState::new(Arc::clone(plan));
        loop {
            let page = self.events.read(run, state.last_seq(), PAGE).await?;
            if page.is_empty() {
                return Ok(state);
            }
            for recorded in &page {
                state.apply(recorded)?;
            }
        }
    }
}

/// One run, driven from one fold of its events.
struct Session<'a> {
    engine: &'a Engine,
    whose: Whose,
    state: RunState,
    tasks: Tasks,
    inbox: UnboundedReceiver<News>,
    /// Steps whose memo was asked, or waits to be asked, and has not answered.
    asked: HashSet<InstanceId>,
    /// Hooks that are being told.
    telling: HashSet<HookId>,
    claims: Claims,
    /// What is known of inputs from outside, of steps that have asked: their memo is asked, or they run, on the strength of it.
    fingerprints: HashMap<InstanceId, Fingerprints>,
    seats: Seats,
    /// Who asks for the seats that were asked for.
    asking: BTreeMap<Seat, AbortHandle>,
    /// Seats to be given back.
    to_free: Vec<Seat>,
    /// The last events appended, while they are not known to be durable.
    durable: Option<Durable>,
}

impl<'a> Session<'a> {
    fn new(engine: &'a Engine, whose: Whose, state: RunState) -> Self {
        let (news, inbox) = unbounded_channel();
        Self {
            engine,
            whose,
            state,
            tasks: Tasks::new(news),
            inbox,
            asked: HashSet::new(),
            telling: HashSet::new(),
            claims: Claims::default(),
            fingerprints: HashMap::new(),
            seats: Seats::default(),
            asking: BTreeMap::new(),
            to_free: Vec::new(),
            durable: None,
        }
    }

    async fn go(&mut self, cancel: &mut CancelRequest, canceled: &mut Option<String>) -> Result<RunEnd, EngineError> {
        self.take_up_orphans().await?;
        let mut renewal = tokio::time::interval_at(tokio::time::Instant::now() + LEASE / 3, LEASE / 3);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(reason) = canceled.as_ref() {
                self.cancel(reason.clone()).await?;
            }
            let wake = self.act().await?;
            if let Some(status) = self.state.status().filter(|status| status.is_final()) {
                if let Some(durable) = self.durable.take() {
                    durable.wait().await?;
                }
                crash::point(CrashPoint::RunEnded);
                self.let_go().await;
                return Ok(RunEnd { status, tally: self.state.tally() });
            }
            let pause = wake.map(|at| at.since(self.engine.clock.now()));
            tokio::select! {
                // First what a talkative guest must not be able to put off.
                biased;
                reason = &mut *cancel, if canceled.is_none() => *canceled = Some(reason),
                failed = durability(self.durable.as_ref()), if self.durable.is_some() => {
                    self.durable = None;
                    failed?;
                }
                news = self.inbox.recv() => {
                    if news.is_some() {
                        self.take(news).await?;
                    }
                }
                broken = self.tasks.next_broken(), if !self.tasks.is_empty() => {
                    if let Some(broken) = broken {
                        self.mend(broken).await?;
                    }
                }
                () = tokio::time::sleep(pause.unwrap_or(Duration::MAX / 4)), if pause.is_some() => {}
                _ = renewal.tick(), if !(self.claims.none_granted() && self.seats.held.is_empty()) => {
                    self.renew_claims().await;
                    self.renew_seats().await;
                }
            }
        }
    }

    /// Steps that ran when the host stopped: they start over.
    async fn take_up_orphans(&mut self) -> Result<(), EngineError> {
        let (run, now) = (self.whose.run, self.engine.clock.now());
        let plan = Arc::clone(self.state.plan());
        let lost = self.state.running().filter_map(|id| {
            let of = self.state.attempt(id)?;
            Some(after_setback(run, plan.step(id.step), &of, Setback::Lost, Usage::default(), now))
        });
        let lost: Vec<_> = lost.collect();
        self.append(lost).await
    }

    async fn cancel(&mut self, reason: String) -> Result<(), EngineError> {
        match self.state.status() {
            Some(RunStatus::Queued | RunStatus::Starting | RunStatus::Started) => {
                self.append(vec![RunEvent::RunCanceling { reason }]).await
            }
            None | Some(RunStatus::Canceling | RunStatus::Success | RunStatus::Failure | RunStatus::Canceled) => Ok(()),
        }
    }

    /// Appends events and folds them, in as many pieces as the log takes. Nothing is acted upon before.
    ///
    /// Each piece is folded first, so that an event that cannot follow never gets into the log, where it would spoil the
    /// run for good; when the log then refuses the piece, the whole session goes, and its state with it.
    async fn append(&mut self, events: Vec<RunEvent>) -> Result<(), EngineError> {
        let (run, at) = (self.whose.run, self.engine.clock.now());
        let mut events: VecDeque<_> = events.into();
        let mut piece = PAGE;
        while !events.is_empty() {
            let expected = self.state.last_seq();
            let now: Vec<_> = events.drain(..piece.min(events.len())).collect();
            let mut stamped = Vec::with_capacity(now.len());
            for (seq, event) in (expected + 1..).zip(now) {
                if let RunEvent::StepSuperseded { step, .. } = &event
                    && let Some(id) = self.state.locate(step)
                {
                    self.drop_work(&id).await;
                }
                let recorded = Recorded { run, seq, at, event };
                self.state.apply(&recorded)?;
                stamped.push((at, recorded.event));
            }
            self.durable = Some(self.accept(expected, stamped, &mut piece).await?);
            crash::point(CrashPoint::Appended);
        }
        Ok(())
    }

    /// Has the log accept events that were folded; in smaller pieces when they are too many bytes for one.
    async fn accept(
        &self,
        mut expected: u64,
        mut events: Vec<(Timestamp, RunEvent)>,
        piece: &mut usize,
    ) -> Result<Durable, StoreError> {
        let mut rest = Vec::new();
        loop {
            // Kept for a second try only where one can help.
            let again = if events.len() > 1 { Some(events.clone()) } else { None };
            match (self.engine.events.append(self.whose.run, expected, events).await, again) {
                (Err(StoreError { kind: StoreErrorKind::TooLarge(_), .. }), Some(mut first)) => {
                    *piece = first.len() / 2;
                    let second = first.split_off(*piece);
                    rest.push(second);
                    events = first;
                }
                (Err(error), _) => return Err(error),
                (Ok(accepted), _) => {
                    let Some(next) = rest.pop() else { return Ok(accepted.durable) };
                    expected = accepted.last_seq;
                    events = next;
                }
            }
        }
    }

    /// Does what there is to do now. Returns the moment at which there is more to do at the latest.
    async fn act(&mut self) -> Result<Option<Timestamp>, EngineError> {
        loop {
            let outlook = Outlook {
                now: self.engine.clock.now(),
                asked: &self.asked,
                slots: self.engine.settings.max_concurrent_steps.max(1),
                seats: &self.seats,
                telling: &self.telling,
            };
            let (mut again, mut wake, mut starts) = (false, None, Vec::new());
            let actions = decide(&self.state, outlook);
            crash::point(CrashPoint::Decided);
            for action in actions {
                match action {
                    Action::Append(events) => {
                        self.append(events).await?;
                        again = true;
                    }
                    Action::LookUp(ids) => self.look_up(ids),
                    Action::Ask(seats) => self.ask_for(seats),
                    Action::Start(id) => starts.push(id),
                    Action::Stop(id) => self.tasks.stop(&id),
                    Action::Tell(hook) => self.tell(hook),
                    Action::WakeAt(at) => wake = Some(at),
                }
            }
            self.start(starts).await?;
            if !again {
                return Ok(wake);
            }
        }
    }

    async fn start(&mut self, ids: Vec<InstanceId>) -> Result<(), EngineError> {
        let mut events = Vec::new();
        let mut starting = Vec::new();
        for id in ids {
            let Some(of) = self.state.attempt(&id) else { continue };
            let given = self.whose.given(&self.state, &id, self.fingerprints.get(&id));
            events.push(RunEvent::StepStart { of: of.clone() });
            events.extend(given.inputs.iter().filter_map(|input| news::step_input(&of, input)));
            starting.push((Try { id, generation: of.generation, attempt: of.attempt }, given));
        }
        self.append(events).await?;
        let plan = Arc::clone(self.state.plan());
        let is_alone = starting.len() == 1 && self.tasks.none_runs();
        for (of, given) in starting {
            let step = plan.step(of.id.step);
            // Only a step without any effect outside may run before what it builds on is on disk.
            let begin = match is_contained(&plan, step) {
                true if is_alone => Begin::Here,
                true => Begin::Elsewhere { after: None },
                false => Begin::Elsewhere { after: self.durable.clone() },
            };
            if self.state.asks_memo(of.id.step) && given.is_proven {
                // It holds the key already, unless the run was taken up again after its memo was asked.
                self.claims.claim_if_free(given.key, &of.id);
            }
            let request = self.whose.op_request(&plan, &of.id, given, of.attempt);
            self.tasks.execute(of, Arc::clone(&self.engine.executor), request, begin);
        }
        Ok(())
    }

    fn tell(&mut self, hook: HookId) {
        let Some(request) = self.whose.hook_request(&self.state, &hook) else { return };
        self.telling.insert(hook.clone());
        // What a hook is told is certain.
        self.tasks.tell(hook, Arc::clone(&self.engine.executor), request, self.durable.clone());
    }

    fn look_up(&mut self, ids: Vec<InstanceId>) {
        let mut questions = Vec::with_capacity(ids.len());
        let mut unknown = Vec::new();
        for id in ids {
            let Some(instance) = self.state.instance(&id) else { continue };
            let of = Try { id: id.clone(), generation: instance.generation, attempt: 0 };
            let told = self.fingerprints.get(&id);
            self.asked.insert(id.clone());
            if told.is_none() && self.state.plan().step(id.step).outside().next().is_some() {
                unknown.push(of);
                continue;
            }
            let key = self.whose.given(&self.state, &id, told).key;
            if self.claims.claim_or_park(key, id) {
                questions.push(Question { of, key });
            }
        }
        if !questions.is_empty() {
            let of = questions.iter().map(|question| question.of.clone()).collect();
            self.tasks.look_up(of, self.looking().ask(questions));
        }
        if !unknown.is_empty() {
            self.tasks.look_up(unknown.clone(), self.looking().ask_managers(unknown));
        }
    }

    fn looking(&self) -> LookUp {
        LookUp {
            whose: self.whose.clone(),
            plan: Arc::clone(self.state.plan()),
            memos: Arc::clone(&self.engine.memos),
            executor: Arc::clone(&self.engine.executor),
            news: self.tasks.news(),
            durable: self.durable.clone(),
        }
    }

    async fn renew_claims(&self) {
        let keys = self.claims.granted();
        if keys.is_empty() {
            return;
        }
        // A lease that could not be renewed only means that somebody else may compute the same.
        let _ = self.engine.memos.look_up(&keys, Some(Duration::ZERO), self.whose.run, LEASE).await;
    }

    /// The key is free again, or has a result: whoever waited for it asks again.
    fn unpark(&mut self, key: &MemoKey) {
        for id in self.claims.free(key) {
            self.asked.remove(&id);
        }
    }

    /// Lets go of what is under way for a step that starts over.
    async fn drop_work(&mut self, id: &InstanceId) {
        self.tasks.forget(id);
        self.leave(Seat::Step(id.clone()));
        self.free().await;
        self.asked.remove(id);
        self.fingerprints.remove(id);
        self.claims.unpark(id);
        if let Some(key) = self.claims.held_by(id) {
            let _ = self.engine.memos.release(key, self.whose.run).await;
            self.unpark(&key);
        }
    }

    /// Frees what other runs may wait for, when this one has ended.
    async fn let_go(&self) {
        for key in self.claims.keys() {
            let _ = self.engine.memos.release(key, self.whose.run).await;
        }
    }

    /// A task was stopped or broke: its step has failed.
    async fn mend(&mut self, broken: Broken) -> Result<(), EngineError> {
        self.catch_up().await?;
        let (of, failure) = match broken {
            Broken::Stopped(of) => (of, Failure::new(Code::Canceled, "stopped on request")),
            Broken::Panicked(of) => (of, Failure::new(Code::HostPanic, "the host panicked while the step ran")),
            Broken::LookUp(of) => {
                for of in of {
                    if !self.is_waiting_for_memo(&of) {
                        continue;
                    }
                    let news = match self.claims.held_by(&of.id) {
                        Some(key) => News::MemoMissed { of, key, claimed: false },
                        None => News::Fingerprints { of, told: Fingerprints::new() },
                    };
                    self.take(Some(news)).await?;
                }
                return Ok(());
            }
            Broken::Hook(hook) => {
                let failure = Failure::new(Code::HostPanic, "the host panicked while the hook was told");
                let outcome = StepOutcome { result: StepResult::Failure(failure), usage: Usage::default() };
                return self.take(Some(News::Hooked { hook, outcome, said: Vec::new() })).await;
            }
            Broken::Forgotten => return Ok(()),
        };
        let outcome = StepOutcome { result: StepResult::Failure(failure), usage: Usage::default() };
        self.take(Some(News::Ended { of, outcome })).await
    }

    /// The try is the one that runs now.
    fn is_current(&self, of: &Try) -> bool {
        self.state.instance(&of.id).is_some_and(|instance| {
            instance.generation == of.generation
                && matches!(instance.state, StepState::Running { attempt, .. } if attempt == of.attempt)
        })
    }

    /// The step has not started over since.
    fn is_of_this_generation(&self, of: &Try) -> bool {
        self.state.instance(&of.id).is_some_and(|instance| instance.generation == of.generation)
    }

    /// The step still waits for its memo.
    fn is_waiting_for_memo(&self, of: &Try) -> bool {
        self.state.instance(&of.id).is_some_and(|instance| {
            instance.generation == of.generation
                && matches!(instance.state, StepState::Ready { memo: MemoStanding::Unknown, .. })
        })
    }
}

/// The log may take another try: what is on disk is right, what was in memory is not.
fn is_worth_a_refold(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Unavailable(_) | StoreErrorKind::Conflict { .. })
}

async fn durability(durable: Option<&Durable>) -> Result<(), StoreError> {
    match durable {
        Some(durable) => durable.settled().await,
        None => std::future::pending().await,
    }
}
