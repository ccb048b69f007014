//! The event log.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use opyard_model::digest::Digest;
use opyard_model::event::{Recorded, RunEvent};
use opyard_model::id::{RunId, TenantId};
use opyard_model::time::Timestamp;
use rusqlite::{Connection, params};
use tokio::sync::watch;

use super::queue::{Append, Command, Encoded};
use super::rows::{self, NO_CHAIN, event_id, signed};
use super::writer::ends_run;
use super::{Shared, lock, sqlite_error, unreadable};
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::{Accepted, EventLog, MAX_APPEND_BYTES, MAX_APPEND_EVENTS, POLL};

/// Events read at a time by those who follow.
const PAGE: usize = 512;

/// The event log of one tenant.
pub(crate) struct SqliteEvents {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
}

/// The artifacts that an event names: it must not be recorded without them.
pub(crate) fn named(event: &RunEvent) -> impl Iterator<Item = Digest> + '_ {
    let (one, many) = match event {
        RunEvent::RunEnqueued { plan, .. } => (Some(plan.digest), &[][..]),
        RunEvent::StepOutput { output, .. } => (Some(output.value.artifact.digest), &[][..]),
        RunEvent::LoadedInput { input, .. } => (Some(input.artifact.digest), &[][..]),
        RunEvent::StepMemoized { outputs, .. } | RunEvent::StepReused { outputs, .. } => (None, outputs.as_slice()),
        _ => (None, &[][..]),
    };
    one.into_iter().chain(many.iter().map(|output| output.value.artifact.digest))
}

/// Events with their payloads as text, within the limits of one append.
pub(crate) fn encode(events: Vec<(Timestamp, RunEvent)>) -> Result<(Vec<Encoded>, usize), StoreError> {
    let too_large = |what: String| StoreError::new("appending to a run", StoreErrorKind::TooLarge(what));
    if events.len() > MAX_APPEND_EVENTS {
        return Err(too_large(format!("{} events at once; {MAX_APPEND_EVENTS} are the limit", events.len())));
    }
    let mut bytes = 0;
    let mut encoded = Vec::with_capacity(events.len());
    for (at, event) in events {
        let payload = event.payload();
        bytes += payload.len();
        if bytes > MAX_APPEND_BYTES {
            return Err(too_large(format!("over {MAX_APPEND_BYTES} bytes of events at once")));
        }
        encoded.push(Encoded { at, event, payload });
    }
    Ok((encoded, bytes))
}

/// The first event of a run says what it is, and no other does.
pub(crate) fn check_first(expected: u64, events: &[Encoded]) -> Result<(), StoreError> {
    let wrong = events.iter().enumerate().any(|(index, encoded)| {
        let first = expected == 0 && index == 0;
        first != matches!(encoded.event, RunEvent::RunEnqueued { .. })
    });
    if wrong {
        let reason = "the first event of a run, and no other, is run_enqueued".to_owned();
        return Err(StoreError::new("appending to a run", StoreErrorKind::Invalid(reason)));
    }
    Ok(())
}

#[async_trait]
impl EventLog for SqliteEvents {
    async fn append(
        &self,
        run: RunId,
        expected: u64,
        events: Vec<(Timestamp, RunEvent)>,
    ) -> Result<Accepted, StoreError> {
        let context = "appending to a run";
        let (events, bytes) = encode(events)?;
        check_first(expected, &events)?;
        let shared = &*self.shared;
        let key = (self.tenant.clone(), run);
        let known = lock(&shared.tails).known(&key).is_some_and(|tail| !tail.lost);
        let from_disk = if known { 0 } else { self.last_on_disk(run).await? };
        let room = shared.queue.reserve(bytes).await?;

        let mut tails = lock(&shared.tails);
        let tail = tails.load(&key, from_disk);
        if tail.last_seq != expected {
            let last = tail.last_seq;
            drop(tails);
            shared.queue.give_back(room);
            return Err(StoreError::new(context, StoreErrorKind::Conflict { run, expected, last }));
        }
        let count = events.len() as u64;
        let names = events.iter().flat_map(|encoded| named(&encoded.event)).collect();
        let (id, first_seq) = (tail.id, tail.last_seq + 1);
        let append = Append { tenant: self.tenant.clone(), run, tail: id, first_seq, events, names };
        // An empty append is queued too: it is durable when all before it is.
        let ticket = shared.queue.push(room, Command::Append(append))?;
        tail.accept(count);
        Ok(Accepted { last_seq: expected + count, durable: ticket.durable() })
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let tenant = self.tenant.clone();
        self.shared.readers.run(move |connection| read(connection, &tenant, run, (after, limit))).await
    }

    fn follow(&self, run: RunId, after: u64) -> BoxStream<'static, Result<Recorded, StoreError>> {
        let key = (self.tenant.clone(), run);
        let news = lock(&self.shared.followers).entry(key).or_insert_with(|| watch::Sender::new(0)).subscribe();
        let log = Self { shared: Arc::clone(&self.shared), tenant: self.tenant.clone() };
        let follower = Follower { log, run, after, news, page: VecDeque::new(), over: false };
        futures::stream::unfold(follower, Follower::next).boxed()
    }
}

impl SqliteEvents {
    /// There is no such run.
    async fn is_gone(&self, run: RunId) -> bool {
        let tenant = self.tenant.clone();
        let head = self.shared.readers.run(move |connection| rows::run_head(connection, &tenant, run)).await;
        matches!(head, Ok(None))
    }

    /// The last durable event of a run that this process may append to.
    async fn last_on_disk(&self, run: RunId) -> Result<u64, StoreError> {
        let (tenant, process) = (self.tenant.clone(), self.shared.process.clone());
        self.shared
            .readers
            .run(move |connection| match rows::run_head(connection, &tenant, run)? {
                None => Ok(0),
                Some((_, last, owner)) if owner.as_deref() == Some(&process) => Ok(last),
                Some(_) => Err(StoreError::new("appending to a run", StoreErrorKind::NotOwner { run })),
            })
            .await
    }
}

/// Someone who follows a run.
struct Follower {
    log: SqliteEvents,
    run: RunId,
    after: u64,
    news: watch::Receiver<u64>,
    page: VecDeque<Recorded>,
    over: bool,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Recorded, StoreError>, Self)> {
        loop {
            if let Some(recorded) = self.page.pop_front() {
                self.after = recorded.seq;
                self.over = ends_run(&recorded.event);
                return Some((Ok(recorded), self));
            }
            if self.over {
                return None;
            }
            self.news.mark_unchanged();
            match self.log.read(self.run, self.after, PAGE).await {
                // Clean-up has removed it.
                Ok(page) if page.is_empty() && self.after > 0 && self.log.is_gone(self.run).await => return None,
                Ok(page) if page.is_empty() => {
                    // Another process's commits are not announced here: look again after a while. When the store is
                    // closed, the sender is gone.
                    if let Ok(Err(_)) = tokio::time::timeout(POLL, self.news.changed()).await {
                        tokio::time::sleep(POLL).await;
                    }
                }
                Ok(page) => self.page = page.into(),
                Err(error) => {
                    self.over = true;
                    return Some((Err(error), self));
                }
            }
        }
    }
}

/// Reads events of a run, checking that each carries the hash of the one before.
pub(crate) fn read(
    connection: &Connection,
    tenant: &TenantId,
    run: RunId,
    (after, limit): (u64, usize),
) -> Result<Vec<Recorded>, StoreError> {
    let context = format!("reading the events of {run}");
    let wrong = |error: rusqlite::Error| sqlite_error(&context, &error);
    let Some((number, last_seq, _)) = rows::run_head(connection, tenant, run)? else { return Ok(Vec::new()) };
    let after = after.min(u64::from(u32::MAX));
    let name = run.to_string();
    let mut chain = (after == 0).then_some(NO_CHAIN);
    let mut statement = connection
        .prepare_cached(
            "SELECT id, at, kind, payload, chain FROM events WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
        )
        .map_err(wrong)?;
    // The event before the first is read for its hash.
    let most = signed(limit as u64).saturating_add(i64::from(after > 0));
    let mut found = statement
        .query(params![event_id(number, after.max(1)), event_id(number, u64::from(u32::MAX)), most])
        .map_err(wrong)?;
    let mut events = Vec::new();
    let mut seq = if after == 0 { 1 } else { after };
    while let Some(row) = found.next().map_err(wrong)? {
        let id: i64 = row.get(0).map_err(wrong)?;
        if id != event_id(number, seq) {
            return Err(unreadable(&context, format!("event {seq} is missing")));
        }
        let stored: [u8; 32] = row.get(4).map_err(wrong)?;
        if let Some(before) = chain {
            let at = Timestamp::from_micros(row.get(1).map_err(wrong)?);
            let kind = row.get_ref(2).map_err(wrong)?.as_str().map_err(|error| unreadable(&context, error))?;
            let payload = row.get_ref(3).map_err(wrong)?.as_str().map_err(|error| unreadable(&context, error))?;
            if rows::link(&before, &name, seq, (at, kind, payload)) != stored {
                return Err(unreadable(&context, format!("event {seq} or one before it was altered")));
            }
            let event = RunEvent::decode(kind, payload).map_err(|error| unreadable(&context, error))?;
            events.push(Recorded { run, seq, at, event });
        }
        chain = Some(stored);
        seq += 1;
    }
    // The run's row is of the same transaction as its last event, and was read before.
    if events.len() < limit && seq <= last_seq && after <= last_seq {
        return Err(unreadable(&context, format!("event {seq} is missing")));
    }
    Ok(events)
}
