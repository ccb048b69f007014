//! What runs for a run: the tasks that execute its steps, and the news that they send.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;
use opyard_model::error::Code;
use opyard_model::event::TypeChecked;
use opyard_model::id::{ItemKey, Name};
use opyard_model::json::CanonicalJson;
use opyard_model::memo::{MemoEntry, MemoKey, Resaid};
use opyard_model::metadata::MetadataEntry;
use opyard_model::state::{HookId, InstanceId};
use opyard_model::step::{Said, Saying, StepExecutor, StepOutcome, StepRequest, StepResult};
use opyard_model::value::Yielded;
use opyard_store::event_log::Durable;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};

use crate::decide::Seat;
use crate::request::Fingerprints;

/// One try of one step of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) id: InstanceId,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
}

/// An output that an IO manager took on a memo hit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Handled {
    pub(crate) port: Name,
    pub(crate) manager: Name,
    pub(crate) locator: CanonicalJson,
    pub(crate) metadata: Vec<MetadataEntry>,
}

/// What a task has to tell. A step's news arrive in the order in which it said them.
#[derive(Debug)]
pub(crate) enum News {
    Said {
        of: Try,
        saying: Saying,
        /// Held until it is appended.
        waiting: Waiting,
    },
    Ended {
        of: Try,
        outcome: StepOutcome,
    },
    /// Found, and handed to the IO managers: `outputs` are those of the entry with what they keep filled in.
    MemoHit {
        of: Try,
        entry: Box<MemoEntry>,
        outputs: Vec<Yielded>,
        /// The checks of types that were made anew.
        checked: Vec<TypeChecked>,
        handled: Vec<Handled>,
    },
    /// What IO managers say of inputs from outside, before the memo is asked.
    Fingerprints {
        of: Try,
        told: Fingerprints,
    },
    /// A slot is held.
    Seated {
        seat: Seat,
    },
    /// A slot is not to be had now: it is waited for.
    Waits {
        seat: Seat,
    },
    /// A hook was told: what came of it, and what it said.
    Hooked {
        hook: HookId,
        outcome: StepOutcome,
        said: Vec<Saying>,
    },
    /// Not found; `claimed` when the run holds the key from now on.
    MemoMissed {
        of: Try,
        key: MemoKey,
        claimed: bool,
    },
}

/// Most sayings of a step that wait to be appended before it has to pause. Few, so that what follows from an item is begun
/// when not many more are there; enough that they are appended many at a time.
const MAX_WAITING: usize = 64;

/// How many sayings of a step wait to be appended, and who is to be woken when it has fewer.
#[derive(Debug, Default)]
struct Backlog {
    waiting: AtomicUsize,
    speaker: AtomicWaker,
}

/// One saying that waits to be appended.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Backlog>);

impl Waiting {
    fn new(backlog: &Arc<Backlog>) -> Self {
        backlog.waiting.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(backlog))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == MAX_WAITING {
            self.0.speaker.wake();
        }
    }
}

/// Sends what a step says to the run.
struct Voice {
    of: Try,
    news: UnboundedSender<News>,
    backlog: Arc<Backlog>,
}

impl Said for Voice {
    fn say(&self, saying: Saying) {
        let waiting = Waiting::new(&self.backlog);
        // Nobody listens any more when the run was given up: then nothing is to be recorded.
        let _ = self.news.send(News::Said { of: self.of.clone(), saying, waiting });
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let has_room = || self.backlog.waiting.load(Ordering::Acquire) < MAX_WAITING;
        if has_room() {
            return Poll::Ready(());
        }
        self.backlog.speaker.register(context.waker());
        // It may have been taken meanwhile.
        if has_room() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Most sayings of one hook that are recorded.
const MAX_HOOK_SAID: usize = 100;

/// Keeps what a hook says until it has ended.
#[derive(Default)]
struct Minutes(Mutex<Vec<Saying>>);

impl Said for Minutes {
    fn say(&self, saying: Saying) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MAX_HOOK_SAID {
            said.push(saying);
        }
    }
}

/// Where a step begins.
pub(crate) enum Begin {
    /// On this thread. For one that runs alone: nothing of the run can happen meanwhile, and waking another thread for it
    /// costs more than a small op. It goes on elsewhere as soon as it waits, or has had its first slice of time.
    Here,
    /// On any thread, once `after` is on disk.
    Elsewhere { after: Option<Durable> },
}

/// A task that executes a step.
#[derive(Debug)]
struct Running {
    of: Try,
    /// None when it has ended already, and its news are on their way.
    abort: Option<AbortHandle>,
    /// What the step said that belongs to its result.
    said: Vec<Resaid>,
    /// The items that it committed.
    items: HashSet<(Name, ItemKey)>,
}

/// What a finished task was, when it did not end by itself.
#[derive(Debug, PartialEq)]
pub(crate) enum Broken {
    /// A step that was stopped on request.
    Stopped(Try),
    /// A step whose task panicked.
    Panicked(Try),
    /// Look-ups whose task panicked.
    LookUp(Vec<Try>),
    /// A hook whose task panicked.
    Hook(HookId),
    /// One that nobody waits for any more.
    Forgotten,
}

/// Most sayings of one step that are kept for its memo.
const MAX_RESAID: usize = 10_000;

/// The tasks of one run. Dropping it stops them all.
#[derive(Debug)]
pub(crate) struct Tasks {
    set: JoinSet<()>,
    running: HashMap<InstanceId, Running>,
    steps: HashMap<tokio::task::Id, InstanceId>,
    look_ups: HashMap<tokio::task::Id, Vec<Try>>,
    hooks: HashMap<tokio::task::Id, HookId>,
    news: UnboundedSender<News>,
}

impl Tasks {
    pub(crate) fn new(news: UnboundedSender<News>) -> Self {
        Self {
            set: JoinSet::new(),
            running: HashMap::new(),
            steps: HashMap::new(),
            look_ups: HashMap::new(),
            hooks: HashMap::new(),
            news,
        }
    }

    /// Executes a try of a step.
    pub(crate) fn execute(&mut self, of: Try, executor: Arc<dyn StepExecutor>, request: StepRequest, begin: Begin) {
        let voice = Voice { of: of.clone(), news: self.news.clone(), backlog: Arc::default() };
        let here = matches!(begin, Begin::Here);
        let work = async move {
            if let Begin::Elsewhere { after: Some(durable) } = begin
                && durable.wait().await.is_err()
            {
                return; // The run is folded again from disk, where this start is not recorded.
            }
            let mut outcome = executor.execute(request, &voice).await;
            if let StepResult::Failure(failure) = &mut outcome.result
                && failure.code == Code::Canceled
            {
                // Only the run cancels its steps, and then nobody hears of this.
                failure.code = Code::ExecutorLost;
            }
            let _ = voice.news.send(News::Ended { of: voice.of.clone(), outcome });
        };
        let abort = if here { self.begin(work) } else { Some(self.set.spawn(work)) };
        if let Some(abort) = &abort {
            self.steps.insert(abort.id(), of.id.clone());
        }
        self.running.insert(of.id.clone(), Running { of, abort, said: Vec::new(), items: HashSet::new() });
    }

    /// Runs a look-up for several steps: on this thread, if it need not wait.
    pub(crate) fn look_up(&mut self, of: Vec<Try>, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(abort) = self.begin(work) {
            self.look_ups.insert(abort.id(), of);
        }
    }

    /// Tells a hook something, once `after` is on disk.
    pub(crate) fn tell(
        &mut self,
        hook: HookId,
        executor: Arc<dyn StepExecutor>,
        request: StepRequest,
        after: Option<Durable>,
    ) {
        let (news, told) = (self.news.clone(), hook.clone());
        let work = async move {
            if let Some(durable) = after
                && durable.wait().await.is_err()
            {
                return; // The run is folded again from disk, where there may be nothing to tell.
            }
            let minutes = Minutes::default();
            let outcome = executor.execute(request, &minutes).await;
            let said = minutes.0.into_inner().unwrap_or_else(PoisonError::into_inner);
            let _ = news.send(News::Hooked { hook: told, outcome, said });
        };
        let id = self.set.spawn(work).id();
        self.hooks.insert(id, hook);
    }

    /// Does on this thread what can be done at once. None when that was all; otherwise a task does the rest.
    fn begin(&mut self, work: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut work = Box::pin(work);
        // The task asks again, so that nobody has to be woken for this.
        let mut context = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context))) {
            Ok(Poll::Ready(())) => None,
            Ok(Poll::Pending) => Some(self.set.spawn(work)),
            // Told like any other task that panics.
            Err(panic) => Some(self.set.spawn(async move { resume_unwind(panic) })),
        }
    }

    /// Waits for something until it is told not to.
    pub(crate) fn wait(&mut self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.set.spawn(work)
    }

    /// No step of the run is running.
    pub(crate) fn none_runs(&self) -> bool {
        self.running.is_empty()
    }

    pub(crate) fn news(&self) -> UnboundedSender<News> {
        self.news.clone()
    }

    /// Notes that a step committed an item. False when it did so before.
    pub(crate) fn committed(&mut self, id: &InstanceId, port: &Name, key: &ItemKey) -> bool {
        self.running.get_mut(id).is_some_and(|running| running.items.insert((port.clone(), key.clone())))
    }

    /// Keeps what a step said for its memo.
    pub(crate) fn keep(&mut self, id: &InstanceId, said: Resaid) {
        if let Some(running) = self.running.get_mut(id)
            && running.said.len() < MAX_RESAID
        {
            running.said.push(said);
        }
    }

    /// The task of this step has ended by itself: what it said for its memo, and the items that it committed.
    pub(crate) fn ended(&mut self, id: &InstanceId) -> (Vec<Resaid>, HashSet<(Name, ItemKey)>) {
        self.running.remove(id).map(|running| (running.said, running.items)).unwrap_or_default()
    }

    /// Stops a step; [`next_broken`](Self::next_broken) tells when it has.
    pub(crate) fn stop(&self, id: &InstanceId) {
        if let Some(abort) = self.running.get(id).and_then(|running| running.abort.as_ref()) {
            abort.abort();
        }
    }

    /// Stops a step about which nobody wants to know any more.
    pub(crate) fn forget(&mut self, id: &InstanceId) {
        if let Some(abort) = self.running.remove(id).and_then(|running| running.abort) {
            self.steps.remove(&abort.id());
            abort.abort();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Stops everything, and returns once nothing runs any more.
    pub(crate) async fn shut_down(&mut self) {
        self.set.shutdown().await;
    }

    /// Waits until a task was stopped or broke, and says what it was. None when the last has ended by itself.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next_broken(&mut self) -> Option<Broken> {
        let error = loop {
            match self.set.join_next_with_id().await? {
                Ok((id, ())) => {
                    self.steps.remove(&id);
                    self.look_ups.remove(&id);
                    self.hooks.remove(&id);
                }
                Err(error) => break error,
            }
        };
        let step = self.steps.remove(&error.id());
        let look_ups = self.look_ups.remove(&error.id());
        if let Some(hook) = self.hooks.remove(&error.id()) {
            return Some(Broken::Hook(hook));
        }
        Some(match (step.and_then(|step| self.running.remove(&step)), look_ups) {
            (Some(running), _) if error.is_cancelled() => Broken::Stopped(running.of),
            (Some(running), _) => Broken::Panicked(running.of),
            (None, Some(of)) => Broken::LookUp(of),
            (None, None) => Broken::Forgotten,
        })
    }
}
