//! Wrappers that make a store fail: the nth call fails, is late, reads too little, succeeds and says that it failed, or is
//! the one in which the power is cut.
//!
//! Compiled in always, so that tests of every crate (and a person who wants to see what happens) can use them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use opyard_model::digest::Digest;
use opyard_model::event::{Recorded, RunEvent};
use opyard_model::id::RunId;
use opyard_model::memo::{MemoEntry, MemoKey};
use opyard_model::time::Timestamp;
use opyard_model::value::ArtifactRef;
use tokio::sync::watch;

use crate::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter, Put};
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::{Accepted, Durable, EventLog};
use crate::memo::{MemoAnswer, MemoStore};
use crate::memory::MemoryStore;
use crate::sqlite::lock;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing was done.
    Fail,
    /// It is done, later.
    Delay(Duration),
    /// It reads the first half of what it should. Calls that do not read fail.
    Truncate,
    /// It is done, and says that it failed.
    LoseAcknowledgement,
    /// It is not done, and neither is anything after it until [`Faults::restore_power`]. What was not synced is forgotten,
    /// but for the first `luck` changes of each tenant. Needs [`Faults::power`].
    PowerCut {
        /// How many changes reached the disk though nobody had seen to it.
        luck: usize,
    },
}

/// A call that can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `EventLog::append`.
    Append,
    /// What `append` says of durability.
    Commit,
    /// `EventLog::read`, and pages of `follow`.
    ReadEvents,
    /// `ArtifactStore::put`.
    Put,
    /// `ArtifactStore::begin`.
    Begin,
    /// `ArtifactWriter::write`.
    Write,
    /// `ArtifactWriter::finish`.
    Finish,
    /// `ArtifactStore::get`.
    Get,
    /// `ArtifactStore::keep`.
    Keep,
    /// `ArtifactReader::read_at`.
    ReadAt,
    /// `MemoStore::look_up`.
    LookUp,
    /// `MemoStore::record`.
    Record,
    /// `MemoStore::release`.
    Release,
}

#[derive(Default)]
struct Planned {
    calls: HashMap<Operation, u64>,
    /// By operation and number of the call, counted from 1.
    once: HashMap<(Operation, u64), Fault>,
    /// Every so many calls.
    every: HashMap<Operation, (u64, Fault)>,
    /// What loses its power.
    powered: Option<MemoryStore>,
    /// Runs with commits that failed.
    lost: HashMap<RunId, Lost>,
    power: watch::Sender<Power>,
}

/// Commits of a run that failed.
#[derive(Debug, Clone, Copy, Default)]
struct Lost {
    commits: u64,
    /// Its events were not read since: whoever appends builds on what was lost.
    is_unread: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Power {
    is_out: bool,
    /// How often it was cut.
    cuts: u64,
}

/// Which calls go wrong, and how. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Planned>>);

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faults")
    }
}

fn failed(operation: Operation) -> StoreError {
    StoreError::new(format!("{operation:?}"), StoreErrorKind::Unavailable("a planned fault".into()))
}

impl Faults {
    /// Nothing goes wrong yet.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The `nth` call of `operation` from now on goes wrong; 1 is the next one.
    pub fn at(&self, operation: Operation, nth: u64, fault: Fault) -> &Self {
        let mut planned = lock(&self.0);
        let seen = planned.calls.get(&operation).copied().unwrap_or(0);
        planned.once.insert((operation, seen + nth), fault);
        drop(planned);
        self
    }

    /// Every `nth` call of `operation` goes wrong.
    pub fn every(&self, operation: Operation, nth: u64, fault: Fault) -> &Self {
        lock(&self.0).every.insert(operation, (nth.max(1), fault));
        self
    }

    /// Says what [`Fault::PowerCut`] is to happen to.
    pub fn power(&self, store: &MemoryStore) -> &Self {
        lock(&self.0).powered = Some(store.clone());
        self
    }

    /// Ready once power is out. A process that lost its power does not go on: drop what uses the store.
    pub async fn power_is_out(&self) {
        let mut power = lock(&self.0).power.subscribe();
        // The sender lives as long as `self`.
        let _ = power.wait_for(|power| power.is_out).await;
    }

    /// Power is back. What was called before stays without an answer.
    pub fn restore_power(&self) {
        lock(&self.0).power.send_modify(|power| power.is_out = false);
    }

    fn cut_power(&self, luck: usize) {
        let mut planned = lock(&self.0);
        planned.power.send_modify(|power| *power = Power { is_out: true, cuts: power.cuts + 1 });
        if let Some(store) = planned.powered.as_mut() {
            store.cut_power(luck);
        }
    }

    fn current_power(&self) -> Power {
        *lock(&self.0).power.borrow()
    }

    /// The answer of a call, if power is and was there since it was made.
    fn powered<T>(&self, since: Power, operation: Operation, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let now = self.current_power();
        if now.is_out || now != since { Err(failed(operation)) } else { answer }
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        let mut planned = lock(&self.0);
        planned.once.clear();
        planned.every.clear();
    }

    /// How often `operation` was called.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        lock(&self.0).calls.get(&operation).copied().unwrap_or(0)
    }

    fn next(&self, operation: Operation) -> Option<Fault> {
        let mut planned = lock(&self.0);
        let count = planned.calls.entry(operation).or_default();
        *count += 1;
        let count = *count;
        let every =
            planned.every.get(&operation).filter(|(nth, _)| count.is_multiple_of(*nth)).map(|(_, fault)| *fault);
        planned.once.remove(&(operation, count)).or(every)
    }

    /// How many commits of a run failed, for one who appends to it.
    fn lost(&self, run: RunId) -> Result<u64, StoreError> {
        let lost = lock(&self.0).lost.get(&run).copied().unwrap_or_default();
        if lost.is_unread { Err(failed(Operation::Append)) } else { Ok(lost.commits) }
    }

    /// What is said of the durability of an append that was made when `lost` commits of its run had failed: after one that
    /// fails, all fail that were made before the run was read again.
    async fn committed(&self, run: RunId, lost: u64, answer: Result<(), StoreError>) -> Result<(), StoreError> {
        // What fails by itself drops its tail by itself.
        answer.as_ref().map_err(StoreError::clone)?;
        let answer = self.plain(Operation::Commit, std::future::ready(answer)).await;
        let mut planned = lock(&self.0);
        let now = planned.lost.entry(run).or_default();
        if now.commits != lost {
            return Err(failed(Operation::Commit));
        }
        if answer.is_err() {
            *now = Lost { commits: lost + 1, is_unread: true };
        }
        answer
    }

    /// Does `call`, with what goes wrong.
    async fn wrap<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>>,
        truncate: impl FnOnce(T) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let power = self.current_power();
        self.powered(power, operation, Ok(()))?;
        let answer = match self.next(operation) {
            None => call.await,
            Some(Fault::Fail) => Err(failed(operation)),
            Some(Fault::PowerCut { luck }) => {
                self.cut_power(luck);
                Err(failed(operation))
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.powered(power, operation, Ok(()))?;
                call.await
            }
            Some(Fault::Truncate) => truncate(call.await?),
            Some(Fault::LoseAcknowledgement) => {
                call.await?;
                Err(failed(operation))
            }
        };
        self.powered(power, operation, answer)
    }

    async fn plain<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.wrap(operation, call, |_| Err(failed(operation))).await
    }

    /// Wraps an event log.
    #[must_use]
    pub fn events(&self, inner: Arc<dyn EventLog>) -> Arc<dyn EventLog> {
        Arc::new(FaultStore { faults: self.clone(), inner })
    }

    /// Wraps an artifact store.
    #[must_use]
    pub fn artifacts(&self, inner: Arc<dyn ArtifactStore>) -> Arc<dyn ArtifactStore> {
        Arc::new(FaultStore { faults: self.clone(), inner })
    }

    /// Wraps a memo.
    #[must_use]
    pub fn memos(&self, inner: Arc<dyn MemoStore>) -> Arc<dyn MemoStore> {
        Arc::new(FaultStore { faults: self.clone(), inner })
    }
}

/// A store of any kind whose calls may go wrong.
pub struct FaultStore<S: ?Sized> {
    faults: Faults,
    inner: Arc<S>,
}

impl<S: ?Sized> std::fmt::Debug for FaultStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultStore")
    }
}

#[async_trait]
impl EventLog for FaultStore<dyn EventLog> {
    async fn append(
        &self,
        run: RunId,
        expected: u64,
        events: Vec<(Timestamp, RunEvent)>,
    ) -> Result<Accepted, StoreError> {
        let lost = self.faults.lost(run)?;
        let mut accepted = self.faults.plain(Operation::Append, self.inner.append(run, expected, events)).await?;
        let (faults, durable) = (self.faults.clone(), accepted.durable);
        let settled = durable.clone();
        accepted.durable = Durable::new(async move {
            // Whoever is told of a failure folds again: what was accepted is on the disk by then, or never will be.
            let answer = settled.settled().await;
            faults.committed(run, lost, answer).await
        })
        .hurried_by(move || durable.hurry());
        Ok(accepted)
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let half = |mut events: Vec<Recorded>| {
            events.truncate(events.len() / 2);
            Ok(events)
        };
        let read = self.faults.wrap(Operation::ReadEvents, self.inner.read(run, after, limit), half).await?;
        if let Some(lost) = lock(&self.faults.0).lost.get_mut(&run) {
            lost.is_unread = false;
        }
        Ok(read)
    }

    fn follow(&self, run: RunId, after: u64) -> BoxStream<'static, Result<Recorded, StoreError>> {
        let faults = self.faults.clone();
        self.inner
            .follow(run, after)
            .then(move |recorded| {
                let faults = faults.clone();
                async move { faults.plain(Operation::ReadEvents, async { recorded }).await }
            })
            .boxed()
    }
}

#[async_trait]
impl ArtifactStore for FaultStore<dyn ArtifactStore> {
    async fn put(&self, bytes: Bytes) -> Result<Put, StoreError> {
        self.faults.plain(Operation::Put, self.inner.put(bytes)).await
    }

    async fn begin(&self) -> Result<Box<dyn ArtifactWriter>, StoreError> {
        let inner = self.faults.plain(Operation::Begin, self.inner.begin()).await?;
        Ok(Box::new(FaultWriter { faults: self.faults.clone(), inner }))
    }

    async fn get(&self, digest: Digest) -> Result<Box<dyn ArtifactReader>, StoreError> {
        let inner = self.faults.plain(Operation::Get, self.inner.get(digest)).await?;
        Ok(Box::new(FaultReader { faults: self.faults.clone(), inner }))
    }

    async fn keep(&self, digests: &[Digest]) -> Result<(), StoreError> {
        self.faults.plain(Operation::Keep, self.inner.keep(digests)).await
    }

    fn list(&self) -> BoxStream<'static, Result<ArtifactRef, StoreError>> {
        self.inner.list()
    }
}

struct FaultWriter {
    faults: Faults,
    inner: Box<dyn ArtifactWriter>,
}

#[async_trait]
impl ArtifactWriter for FaultWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.faults.plain(Operation::Write, self.inner.write(bytes)).await
    }

    async fn finish(self: Box<Self>) -> Result<Put, StoreError> {
        let Self { faults, inner } = *self;
        faults.plain(Operation::Finish, inner.finish()).await
    }
}

struct FaultReader {
    faults: Faults,
    inner: Box<dyn ArtifactReader>,
}

#[async_trait]
impl ArtifactReader for FaultReader {
    fn artifact(&self) -> ArtifactRef {
        self.inner.artifact()
    }

    async fn read_at(&mut self, offset: u64, max: usize) -> Result<Bytes, StoreError> {
        let half = |bytes: Bytes| Ok(bytes.slice(..bytes.len() / 2));
        self.faults.wrap(Operation::ReadAt, self.inner.read_at(offset, max), half).await
    }
}

#[async_trait]
impl MemoStore for FaultStore<dyn MemoStore> {
    async fn look_up(
        &self,
        keys: &[MemoKey],
        max_age: Option<Duration>,
        holder: RunId,
        lease: Duration,
    ) -> Result<Vec<MemoAnswer>, StoreError> {
        self.faults.plain(Operation::LookUp, self.inner.look_up(keys, max_age, holder, lease)).await
    }

    async fn record(&self, entry: MemoEntry) -> Result<Durable, StoreError> {
        self.faults.plain(Operation::Record, self.inner.record(entry)).await
    }

    async fn release(&self, key: MemoKey, holder: RunId) -> Result<(), StoreError> {
        self.faults.plain(Operation::Release, self.inner.release(key, holder)).await
    }
}
