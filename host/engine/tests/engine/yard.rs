//! A yard in memory, whose log can hold back, lose and cut what it was given, and an executor that plays scripts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use opyard_engine::{CancelRequest, Engine, EngineError, EngineSettings, Launch, Parts, RunEnd};
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::event::{Recorded, RunEvent};
use opyard_model::hook::Occasion;
use opyard_model::id::{RunId, TenantId};
use opyard_model::limits::Usage;
use opyard_model::memo::{MemoEntry, MemoKey};
use opyard_model::plan::Plan;
use opyard_model::step::{
    Bound, BoundInput, Call, OpCall, Said, Saying, StepExecutor, StepIdentity, StepOutcome, StepRequest, StepResult,
};
use opyard_model::time::{Clock, Timestamp};
use opyard_model::value::{ArtifactRef, Kept, ValueRef, Yielded};
use opyard_store::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter, Put};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::event_log::{Accepted, Durable, EventLog};
use opyard_store::memo::{MemoAnswer, MemoStore};
use opyard_store::memory::MemoryStore;
use opyard_store::pool::Pools;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::plans::{Scripts, name};

fn broken() -> StoreError {
    StoreError::new("committing", StoreErrorKind::Unavailable("as the test wants it".into()))
}

/// Virtual time: tokio's, which stands still but for sleeping.
pub(crate) struct Time(pub(crate) Instant);

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000_000).after(self.0.elapsed())
    }
}

#[derive(Default)]
struct Log {
    events: Vec<Recorded>,
    durable: usize,
    /// Appends that fail to commit, counted from the next.
    fails: BTreeSet<usize>,
    appends: usize,
    /// Where the first commit that failed began, until somebody is told.
    lost: Option<usize>,
    /// How often the tail was dropped.
    dropped: usize,
}

/// The events of all runs, and what is on disk of them.
pub(crate) struct MemoryLog {
    runs: Arc<Mutex<HashMap<RunId, Log>>>,
    /// How many commits of all runs have come through; appends wait for theirs while `held`.
    commits: watch::Sender<bool>,
}

impl MemoryLog {
    fn new() -> Self {
        Self { runs: Arc::default(), commits: watch::Sender::new(true) }
    }

    /// Holds back durability, or lets it come.
    pub(crate) fn hold(&self, hold: bool) {
        self.commits.send_replace(!hold);
    }

    pub(crate) fn events(&self, run: RunId) -> Vec<Recorded> {
        self.runs.lock().unwrap()[&run].events.clone()
    }

    /// How often the tail of a run was dropped.
    pub(crate) fn dropped(&self, run: RunId) -> usize {
        self.runs.lock().unwrap()[&run].dropped
    }

    pub(crate) fn set(&self, run: RunId, events: &[Recorded]) {
        let log = Log { events: events.to_vec(), durable: events.len(), ..Log::default() };
        self.runs.lock().unwrap().insert(run, log);
    }

    /// The commits of these appends of the run fail, counted from the next.
    pub(crate) fn fail(&self, run: RunId, appends: impl IntoIterator<Item = usize>) {
        let mut runs = self.runs.lock().unwrap();
        let log = runs.entry(run).or_default();
        log.fails = appends.into_iter().map(|at| at + log.appends).collect();
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(
        &self,
        run: RunId,
        expected: u64,
        events: Vec<(Timestamp, RunEvent)>,
    ) -> Result<Accepted, StoreError> {
        let mut runs = self.runs.lock().unwrap();
        let log = runs.entry(run).or_default();
        let last = log.events.len() as u64;
        if expected != last {
            let kind = StoreErrorKind::Conflict { run, expected, last };
            return Err(StoreError::new("appending", kind));
        }
        if events.len() > 10_000 {
            return Err(StoreError::new("appending", StoreErrorKind::TooLarge("events".into())));
        }
        if log.fails.contains(&log.appends) && log.lost.is_none() {
            log.lost = Some(log.events.len());
        }
        for (seq, (at, event)) in (last + 1..).zip(events) {
            log.events.push(Recorded { run, seq, at, event });
        }
        let (upto, dropped) = (log.events.len(), log.dropped);
        log.appends += 1;
        let (runs, mut commits) = (Arc::clone(&self.runs), self.commits.subscribe());
        let durable = Durable::new(async move {
            commits.wait_for(|open| *open).await.map_err(|_| broken())?;
            let mut runs = runs.lock().unwrap();
            let log = runs.get_mut(&run).ok_or_else(broken)?;
            if log.dropped != dropped {
                return Err(broken());
            }
            if let Some(lost) = log.lost.filter(|lost| *lost < upto) {
                (log.lost, log.dropped, log.durable) = (None, dropped + 1, lost);
                log.events.truncate(lost);
                return Err(broken());
            }
            log.durable = log.durable.max(upto);
            Ok(())
        });
        Ok(Accepted { last_seq: upto as u64, durable })
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let runs = self.runs.lock().unwrap();
        let Some(log) = runs.get(&run) else { return Ok(Vec::new()) };
        Ok(log.events[..log.durable].iter().skip(after as usize).take(limit).cloned().collect())
    }

    fn follow(&self, _: RunId, _: u64) -> BoxStream<'static, Result<Recorded, StoreError>> {
        Box::pin(futures::stream::empty())
    }
}

#[derive(Default)]
struct Artifacts(Arc<Mutex<HashMap<Digest, Bytes>>>);

struct Writer(Arc<Mutex<HashMap<Digest, Bytes>>>, Vec<u8>);
struct Reader(Bytes);

#[async_trait]
impl ArtifactStore for Artifacts {
    async fn put(&self, bytes: Bytes) -> Result<Put, StoreError> {
        let artifact = ArtifactRef::of(&bytes);
        self.0.lock().unwrap().insert(artifact.digest, bytes);
        Ok(Put { artifact, durable: Durable::now() })
    }

    async fn begin(&self) -> Result<Box<dyn ArtifactWriter>, StoreError> {
        Ok(Box::new(Writer(Arc::clone(&self.0), Vec::new())))
    }

    async fn get(&self, digest: Digest) -> Result<Box<dyn ArtifactReader>, StoreError> {
        let bytes = self.0.lock().unwrap().get(&digest).cloned();
        Ok(Box::new(Reader(bytes.ok_or_else(|| StoreError::new("reading", StoreErrorKind::Missing(digest)))?)))
    }

    async fn keep(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let kept = self.0.lock().unwrap();
        let missing = digests.iter().find(|digest| !kept.contains_key(digest));
        missing.map_or(Ok(()), |digest| Err(StoreError::new("keeping", StoreErrorKind::Missing(*digest))))
    }

    fn list(&self) -> BoxStream<'static, Result<ArtifactRef, StoreError>> {
        Box::pin(futures::stream::empty())
    }
}

#[async_trait]
impl ArtifactWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.1.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Put, StoreError> {
        Artifacts(self.0).put(self.1.into()).await
    }
}

#[async_trait]
impl ArtifactReader for Reader {
    fn artifact(&self) -> ArtifactRef {
        ArtifactRef::of(&self.0)
    }

    async fn read_at(&mut self, offset: u64, max: usize) -> Result<Bytes, StoreError> {
        let from = self.0.len().min(offset as usize);
        Ok(self.0.slice(from..self.0.len().min(from + max)))
    }
}

#[derive(Default)]
pub(crate) struct Memos {
    entries: Mutex<HashMap<MemoKey, MemoEntry>>,
    pub(crate) claims: Mutex<HashMap<MemoKey, (RunId, Instant)>>,
    /// Takes no results: they are too large.
    pub(crate) full: AtomicBool,
}

impl Memos {
    pub(crate) fn count(&self) -> usize {
        self.entries.lock().unwrap().len()
    }
}

#[async_trait]
impl MemoStore for Memos {
    async fn look_up(
        &self,
        keys: &[MemoKey],
        max_age: Option<Duration>,
        holder: RunId,
        lease: Duration,
    ) -> Result<Vec<MemoAnswer>, StoreError> {
        let (entries, mut claims) = (self.entries.lock().unwrap(), self.claims.lock().unwrap());
        let now = Instant::now();
        if max_age == Some(Duration::ZERO) {
            // Renewing a lease: of a key that is only being asked for, it would throw away the result that is there.
            let own = |key| claims.get(key).is_some_and(|(other, _): &(RunId, _)| *other == holder);
            assert!(keys.iter().all(own), "a lease is renewed that was never given");
        }
        let answer = |key: &MemoKey| match (entries.get(key), claims.get(key)) {
            (Some(entry), _) if max_age.is_none() => MemoAnswer::Hit(Box::new(entry.clone())),
            (_, Some((other, until))) if *other != holder && *until > now => MemoAnswer::Busy { wait: *until - now },
            _ => {
                claims.insert(*key, (holder, now + lease));
                MemoAnswer::Miss
            }
        };
        Ok(keys.iter().map(answer).collect())
    }

    async fn record(&self, entry: MemoEntry) -> Result<Durable, StoreError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::new("recording", StoreErrorKind::TooLarge("as the test wants it".into())));
        }
        self.claims.lock().unwrap().remove(&entry.key);
        self.entries.lock().unwrap().entry(entry.key).or_insert(entry);
        Ok(Durable::now())
    }

    async fn release(&self, key: MemoKey, holder: RunId) -> Result<(), StoreError> {
        let mut claims = self.claims.lock().unwrap();
        if claims.get(&key).is_some_and(|(other, _)| *other == holder) {
            claims.remove(&key);
        }
        Ok(())
    }
}

/// What an op does beside what its script says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Never ends.
    Hangs,
    /// Panics, after it said something.
    Panics,
    /// Takes so long.
    Takes(Duration),
    /// Yields its items, and never ends.
    Lingers,
}

/// Plays the scripts of ops.
#[derive(Default)]
pub(crate) struct Player {
    pub(crate) scripts: Scripts,
    pub(crate) manners: Mutex<BTreeMap<String, Manner>>,
    /// Every call: step, try, moment.
    pub(crate) calls: Mutex<Vec<(String, u32, Option<Instant>)>>,
    pub(crate) inside: AtomicUsize,
    /// What hooks were told.
    pub(crate) told: Mutex<Vec<Occasion>>,
    pub(crate) handled: AtomicUsize,
    /// What IO managers say of every value outside, and whether another value is there once it is loaded.
    pub(crate) fingerprint: Mutex<Option<String>>,
    pub(crate) changes: AtomicBool,
    /// The CPU time of every call.
    pub(crate) cpu: Duration,
}

impl Player {
    /// Puts what a call will yield into a store.
    pub(crate) async fn keep(&self, request: &StepRequest, artifacts: &dyn ArtifactStore) -> Result<(), StoreError> {
        let (Call::Op(call), Some(step)) = (&request.call, &request.step) else { return Ok(()) };
        for bytes in self.played(call, step).2 {
            artifacts.put(bytes).await?;
        }
        Ok(())
    }

    /// What a call yields, how it ends, and the bytes of what it yields.
    fn played(&self, call: &OpCall, of: &StepIdentity) -> (Vec<Yielded>, StepResult, Vec<Bytes>) {
        let mut described = crate::plans::step(call.op.as_str(), Vec::new());
        described.hermetic = call.hermetic;
        described.outputs = Arc::clone(&call.outputs);
        let scripted = self.scripts.get(&call.op).copied();
        let script = scripted.unwrap_or(crate::plans::Script { fails: 0, yields: 255, items: 7, salt: 1 });
        let item = &of.key.mapping;
        let script = script.of(item);
        let (items, mut result, bytes) = script.play_with_bytes(&described, item, of.attempt, &call.inputs);
        // As the sandbox does it: what is loaded has to be what the request takes it for.
        let is_unknown = |input: &BoundInput| match &input.bound {
            Bound::Outside { fingerprint, .. } => fingerprint.is_none() || self.changes.load(Ordering::SeqCst),
            Bound::Absent | Bound::One(_) | Bound::Many(_) => false,
        };
        if let StepResult::Success { memoisable, .. } = &mut result {
            *memoisable &= !call.inputs.iter().any(is_unknown);
        }
        (items, result, bytes)
    }

    pub(crate) fn calls_of(&self, step: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(key, ..)| key == step).count()
    }
}

struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl StepExecutor for Player {
    async fn execute(&self, request: StepRequest, said: &dyn Said) -> StepOutcome {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let _inside = Inside(&self.inside);
        let step = request.step.unwrap();
        let result = match request.call {
            Call::Op(call) => {
                let op = call.op.to_string();
                self.calls.lock().unwrap().push((step.key.to_string(), step.attempt, Some(Instant::now())));
                let manner = self.manners.lock().unwrap().get(&op).copied();
                match manner {
                    Some(Manner::Hangs) => std::future::pending().await,
                    Some(Manner::Panics) => {
                        said.say(Saying::GrantDenied { key: "x".into() });
                        panic!("as the test wants it");
                    }
                    Some(Manner::Takes(time)) => tokio::time::sleep(time).await,
                    Some(Manner::Lingers) | None => {}
                }
                let (items, result, _) = self.played(&call, &step);
                for item in items {
                    said.say(Saying::ItemCommitted(item));
                    tokio::task::yield_now().await;
                }
                if manner == Some(Manner::Lingers) {
                    std::future::pending::<()>().await;
                }
                result
            }
            Call::HandleOutput(call) => {
                self.handled.fetch_add(1, Ordering::SeqCst);
                let locator = opyard_model::json::CanonicalJson::empty_object();
                let kept = Some(Kept { manager: call.output.io_manager, locator });
                StepResult::Handled { value: Box::new(ValueRef { kept, ..call.value }), metadata: Vec::new() }
            }
            Call::Fingerprint(_) => StepResult::Fingerprint(self.fingerprint.lock().unwrap().clone()),
            Call::Forget(_) => panic!("the engine forgets nothing while it drives"),
            Call::Hook(call) => {
                self.told.lock().unwrap().push(call.occasion.clone());
                tokio::task::yield_now().await;
                // Whatever hooks do, nothing follows from it.
                match call.occasion.idempotency_key.as_bytes()[0] % 3 {
                    0 => StepResult::Failure(Failure::new(Code::ResourceUnavailable, "away")),
                    1 => StepResult::Checked(Vec::new()),
                    _ => StepResult::Hooked,
                }
            }
            Call::CheckType(_) => panic!("no type of these plans has a check"),
            Call::Describe { .. } => panic!("the engine does not ask for descriptions"),
        };
        StepOutcome { result, usage: Usage { cpu: self.cpu, ..Usage::default() } }
    }
}

/// One installation in memory.
pub(crate) struct Yard {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) memos: Arc<Memos>,
    pub(crate) pools: Arc<dyn Pools>,
    pub(crate) player: Arc<Player>,
    pub(crate) engine: Engine,
}

impl Yard {
    pub(crate) fn new(player: Player, slots: usize) -> Self {
        let (log, memos, player) = (Arc::new(MemoryLog::new()), Arc::new(Memos::default()), Arc::new(player));
        let clock: Arc<dyn Clock> = Arc::new(Time(Instant::now()));
        let pools = MemoryStore::new(Arc::clone(&clock)).tenant(&TenantId::default()).pools();
        let parts = Parts {
            executor: Arc::<Player>::clone(&player),
            events: Arc::<MemoryLog>::clone(&log),
            artifacts: Arc::new(Artifacts::default()),
            memos: Arc::<Memos>::clone(&memos),
            pools: Arc::clone(&pools),
            clock,
        };
        let settings = EngineSettings { max_concurrent_steps: slots, wasmtime: "none".into() };
        Self { log, memos, pools, player, engine: Engine::new(TenantId::default(), parts, settings) }
    }

    pub(crate) async fn enqueue(&self, run: RunId, plan: &Plan) {
        let launch = Launch {
            lineage: None,
            run,
            plan: Arc::new(plan.clone()),
            tags: BTreeMap::from([("who".into(), name("me").to_string())]),
            use_memo: true,
        };
        self.engine.enqueue(launch).await.unwrap();
    }

    pub(crate) async fn drive(&self, run: RunId) -> Result<RunEnd, EngineError> {
        self.engine.drive(run, never()).await
    }

    pub(crate) async fn run(&self, run: RunId, plan: &Plan) -> RunEnd {
        self.enqueue(run, plan).await;
        self.drive(run).await.unwrap()
    }
}

pub(crate) fn never() -> CancelRequest {
    Box::pin(std::future::pending())
}
