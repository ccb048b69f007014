//! The one writer: takes what is queued, writes packs, commits, tells.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use opyard_model::digest::Digest;
use opyard_model::event::RunEvent;
use opyard_model::id::TenantId;
use opyard_model::memo::MemoKey;
use opyard_model::time::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::queue::{Answer, Append, ClaimRow, Command, Outcome, Remember};
use super::rows::{self, NO_CHAIN, RunRow, event_id, signed};
use super::upkeep::Moment;
use super::{RunKey, Shared, damage, lock, sqlite_error, unreadable};
use crate::control::LEASE;
use crate::crash::{self, CrashPoint};
use crate::error::{StoreError, StoreErrorKind};
use crate::object::{Place, bounded};
use crate::run::RunSummary;

const COMMITTING: &str = "committing";

/// How often packs are written for one batch: again when clean-up came between them and their rows.
const PACK_TRIES: u32 = 4;

/// Most events of one run: the low half of an event's row id.
const MAX_SEQ: u64 = u32::MAX as u64 - 1;

/// The writer thread's own.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    /// Where calls of a remote object store are driven.
    runtime: tokio::runtime::Handle,
}

/// What one transaction has gathered.
#[derive(Default)]
struct Gathered {
    runs: HashMap<RunKey, RunRow>,
    /// The last event of each run that was written.
    heads: HashMap<RunKey, u64>,
    /// Artifacts whose rows are part of this transaction.
    fresh: HashSet<(TenantId, Digest)>,
    claims: HashMap<(TenantId, MemoKey), ClaimRow>,
    answers: Vec<Answer>,
    outcome: Outcome,
    /// The moment of the transaction.
    at: Option<Timestamp>,
}

/// The small artifacts of a batch.
#[derive(Default)]
struct Small<'a> {
    /// To be written: at most one pack a tenant.
    packs: HashMap<TenantId, Pack>,
    /// Stored already.
    known: Vec<(&'a TenantId, Digest)>,
}

/// One pack to write.
struct Pack {
    name: String,
    size: u64,
    parts: Vec<(Digest, Bytes)>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, connection: Connection, runtime: tokio::runtime::Handle) -> Self {
        Self { shared, connection, runtime }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(mut batch) = self.shared.queue.take() {
            let mut gathered = Gathered::default();
            if let Err(error) = self.commit(&mut batch.commands, &mut gathered) {
                gathered.outcome.all = Some(error);
            }
            self.settle(&batch.commands, &gathered);
            for answer in gathered.answers {
                answer(gathered.outcome.all.clone().map_or(Ok(()), Err));
            }
            self.shared.queue.tell(batch, Arc::new(gathered.outcome));
        }
        // Leaves one file behind where it can; others may still be reading.
        drop(self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"));
    }

    /// Writes packs, then everything else in one transaction.
    fn commit(&mut self, commands: &mut [Command], gathered: &mut Gathered) -> Result<(), StoreError> {
        let wrong = |error: rusqlite::Error| sqlite_error(COMMITTING, &error);
        let shared = Arc::clone(&self.shared);
        let mut tries = 0;
        let (transaction, moment) = loop {
            let small = Self::small(&self.connection, &shared, commands)?;
            for (tenant, pack) in &small.packs {
                Self::write_pack(&shared, &self.runtime, tenant, pack)?;
                crash::point(CrashPoint::PackWritten);
            }
            tries += 1;
            // `&self.connection` does for a transaction that is dropped in a loop; nobody else has this connection.
            let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate);
            let transaction = transaction.map_err(wrong)?;
            let moment = Moment::read(&transaction, &*shared.clock).map_err(wrong)?;
            if small.is_safe(&transaction, &moment).map_err(wrong)? {
                small.insert(&transaction, &moment, &mut gathered.fresh).map_err(wrong)?;
                break (transaction, moment);
            }
            if tries == PACK_TRIES {
                let reason = "what was put is cleaned up faster than it is recorded; is the clock right?".to_owned();
                return Err(StoreError::new(COMMITTING, StoreErrorKind::Unavailable(reason)));
            }
        };
        gathered.at = Some(moment.timestamp());
        for (index, command) in commands.iter_mut().enumerate() {
            let done = match command {
                Command::Put { .. } => Ok(()),
                Command::Append(append) => shared.append(&transaction, append, (gathered, &moment)),
                Command::Register { tenant, digest, size, object } => {
                    let registered = register(&transaction, (tenant, *digest, *size), object, &moment);
                    if registered.is_ok() {
                        gathered.fresh.insert((tenant.clone(), *digest));
                    }
                    registered
                }
                Command::Remember(row) => remember(&transaction, row, (gathered, &moment)),
                Command::Claims(rows) => {
                    for mut row in rows.drain(..) {
                        forget_stale(&transaction, &row).map_err(wrong)?;
                        let key = (row.tenant.clone(), row.key);
                        // What was to take a row back is to take it back still.
                        row.is_new &= gathered.claims.get(&key).is_none_or(|before| before.is_new);
                        gathered.claims.insert(key, row);
                    }
                    Ok(())
                }
                Command::Call(call) => {
                    let call = std::mem::replace(call, Box::new(|_| Box::new(|_| ())));
                    gathered.flush_runs(&transaction).map_err(wrong)?;
                    gathered.answers.push(call(&transaction));
                    Ok(())
                }
            };
            match done {
                Ok(()) => {}
                // What one command did wrong is its own; what the database cannot do is everyone's.
                Err(error) if is_of_the_command(&error) => drop(gathered.outcome.some.insert(index, error)),
                Err(error) => return Err(error),
            }
        }
        gathered.flush_runs(&transaction).map_err(wrong)?;
        for row in gathered.claims.values() {
            write_claim(&transaction, row, &shared.process).map_err(wrong)?;
        }
        crash::point(CrashPoint::BeforeCommit);
        transaction.commit().map_err(wrong)?;
        crash::point(CrashPoint::Committed);
        Ok(())
    }

    /// The small artifacts of the batch.
    fn small<'a>(connection: &Connection, shared: &Shared, commands: &'a [Command]) -> Result<Small<'a>, StoreError> {
        let mut small = Small::default();
        let mut seen = HashSet::new();
        for command in commands {
            let Command::Put { tenant, digest, bytes } = command else { continue };
            if !seen.insert((tenant, *digest)) {
                continue;
            }
            if damage::has_sound(connection, tenant, *digest).map_err(|error| sqlite_error(COMMITTING, &error))? {
                small.known.push((tenant, *digest));
                continue;
            }
            let pack = match small.packs.get_mut(tenant) {
                Some(pack) => pack,
                None => {
                    let name = shared.object_name(tenant, "packs")?;
                    small.packs.entry(tenant.clone()).or_insert(Pack { name, size: 0, parts: Vec::new() })
                }
            };
            pack.size += bytes.len() as u64;
            pack.parts.push((*digest, bytes.clone()));
        }
        Ok(small)
    }

    fn write_pack(
        shared: &Shared,
        runtime: &tokio::runtime::Handle,
        tenant: &TenantId,
        pack: &Pack,
    ) -> Result<(), StoreError> {
        let context = "writing a pack";
        let payload: PutPayload = pack.parts.iter().map(|(_, bytes)| bytes.clone()).collect();
        let path = Path::from(pack.name.as_str());
        let store = Arc::clone(&shared.objects.store);
        debug_assert!(pack.name.starts_with(tenant.as_str()));
        match shared.objects.place {
            // Outside of a runtime these do their work in place, so the first poll is the last.
            Place::Local | Place::Memory => match store.put(&path, payload).now_or_never() {
                Some(answer) => answer.map(drop).map_err(|error| crate::object::object_error(context, &error)),
                None => Err(unreadable(context, "the local object store did not answer at once")),
            },
            Place::Remote => runtime.block_on(bounded(context, store.put(&path, payload))).map(drop),
        }
    }

    /// Tells tails, caches, claims and followers how it went.
    fn settle(&self, commands: &[Command], gathered: &Gathered) {
        let outcome = &gathered.outcome;
        let shared = &self.shared;
        for (index, command) in commands.iter().enumerate() {
            let committed = outcome.of(index).is_ok();
            if let (Err(StoreError { kind: StoreErrorKind::Missing(digest), .. }), Some(tenant)) =
                (outcome.of(index), command.tenant())
            {
                // It was removed: the next put of these bytes must write them.
                lock(&shared.cache).forget(tenant, digest);
            }
            match command {
                Command::Append(append) => {
                    let over = append.events.last().is_some_and(|last| ends_run(&last.event));
                    let key = (append.tenant.clone(), append.run);
                    lock(&shared.tails).settle(&key, append.tail, committed, over);
                }
                Command::Put { tenant, digest, .. } => {
                    lock(&shared.cache).settle(tenant, *digest, gathered.at.filter(|_| committed));
                }
                Command::Remember(row) => lock(&shared.claims).settle(&row.tenant, row.key),
                Command::Register { .. } | Command::Claims(_) | Command::Call(_) => {}
            }
        }
        if outcome.all.is_none() {
            let mut followers = lock(&shared.followers);
            if !followers.is_empty() {
                for (key, last_seq) in &gathered.heads {
                    if let Some(sender) = followers.get(key)
                        && sender.send(*last_seq).is_err()
                    {
                        followers.remove(key);
                    }
                }
            }
        }
    }
}

/// The event after which nothing more happens to a run.
pub(crate) fn ends_run(event: &RunEvent) -> bool {
    opyard_model::event::RunStatus::after(event).is_some_and(opyard_model::event::RunStatus::is_final)
}

/// A refusal of one command, rather than a failure of the database.
fn is_of_the_command(error: &StoreError) -> bool {
    matches!(
        error.kind,
        StoreErrorKind::Conflict { .. }
            | StoreErrorKind::NotOwner { .. }
            | StoreErrorKind::Missing(_)
            | StoreErrorKind::Invalid(_)
            | StoreErrorKind::TooLarge(_)
    )
}

impl Gathered {
    /// Writes the rows of the runs that were appended to. They are read again when needed: others may change them.
    fn flush_runs(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for (key, row) in self.runs.drain() {
            row.update(transaction)?;
            self.heads.insert(key, row.last_seq);
        }
        Ok(())
    }

    /// Every one of `names` is stored, or will be by this transaction, and clean-up leaves it alone from now on.
    fn check_artifacts(
        &self,
        (transaction, moment): (&Transaction<'_>, &Moment),
        tenant: &TenantId,
        names: &[Digest],
    ) -> Result<(), StoreError> {
        for digest in names {
            let there = self.fresh.contains(&(tenant.clone(), *digest))
                || moment.touch(transaction, tenant, *digest).map_err(|error| sqlite_error(COMMITTING, &error))?;
            if !there {
                return Err(StoreError::new("recording an output", StoreErrorKind::Missing(*digest)));
            }
        }
        Ok(())
    }
}

impl Shared {
    fn append(
        &self,
        transaction: &Transaction<'_>,
        append: &Append,
        (gathered, moment): (&mut Gathered, &Moment),
    ) -> Result<(), StoreError> {
        let context = "appending to a run";
        let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
        gathered.check_artifacts((transaction, moment), &append.tenant, &append.names)?;
        let key = (append.tenant.clone(), append.run);
        let row = match gathered.runs.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                match rows::run_row(transaction, &append.tenant, append.run)? {
                    Some(row) => entry.insert(row),
                    None if append.events.is_empty() && append.first_seq == 1 => return Ok(()),
                    None => entry.insert(self.new_run(transaction, append)?),
                }
            }
        };
        if row.last_seq + 1 != append.first_seq {
            let (expected, last) = (append.first_seq - 1, row.last_seq);
            return Err(StoreError::new(context, StoreErrorKind::Conflict { run: append.run, expected, last }));
        }
        if row.owner.as_deref() != Some(&self.process) {
            return Err(StoreError::new(context, StoreErrorKind::NotOwner { run: append.run }));
        }
        if row.last_seq + append.events.len() as u64 > MAX_SEQ {
            return Err(StoreError::new(context, StoreErrorKind::TooLarge("too many events of one run".into())));
        }
        let number = row.number.ok_or_else(|| unreadable(context, "a run without a number"))?;
        let name = append.run.to_string();
        for encoded in &append.events {
            let undone = match &encoded.event {
                RunEvent::StepSuperseded { step, generation } => {
                    rows::end_of(transaction, number, step, generation.saturating_sub(1)).map_err(wrong)?
                }
                _ => None,
            };
            let seq = row.last_seq + 1;
            let event = &encoded.event;
            row.chain = rows::link(&row.chain, &name, seq, (encoded.at, event.kind(), &encoded.payload));
            rows::insert_event(transaction, event_id(number, seq), encoded, &row.chain).map_err(wrong)?;
            row.last_seq = seq;
            row.summary.apply(encoded.at, event, undone);
        }
        Ok(())
    }

    /// A run that begins with this append: owned by this process from its first event.
    fn new_run(&self, transaction: &Transaction<'_>, append: &Append) -> Result<RunRow, StoreError> {
        let context = "beginning a run";
        let first = append.events.first();
        let summary = first.and_then(|first| RunSummary::first(append.run, first.at, &first.event));
        let Some(summary) = summary.filter(|_| append.first_seq == 1) else {
            let kind = StoreErrorKind::Conflict { run: append.run, expected: append.first_seq - 1, last: 0 };
            return Err(StoreError::new(context, kind));
        };
        let mut row = RunRow {
            number: None,
            summary,
            last_seq: 0,
            chain: NO_CHAIN,
            owner: Some(self.process.clone()),
            fence: 1,
            lease_until: self.clock.now().after(LEASE),
        };
        row.insert(transaction, &append.tenant).map_err(|error| sqlite_error(context, &error))?;
        Ok(row)
    }
}

impl Small<'_> {
    /// The packs cannot have been taken for abandoned, and what was there is there still; it is marked as used.
    fn is_safe(&self, transaction: &Transaction<'_>, moment: &Moment) -> rusqlite::Result<bool> {
        for (tenant, digest) in &self.known {
            if !moment.touch(transaction, tenant, *digest)? {
                return Ok(false);
            }
        }
        Ok(!self.packs.values().any(|pack| moment.dooms(&pack.name)))
    }

    /// Inserts the rows of the packs.
    fn insert(
        self,
        transaction: &Transaction<'_>,
        moment: &Moment,
        fresh: &mut HashSet<(TenantId, Digest)>,
    ) -> rusqlite::Result<()> {
        for (tenant, pack) in self.packs {
            let object = insert_object(transaction, &tenant, (&pack.name, pack.size), moment)?;
            let mut start = 0;
            for (digest, bytes) in pack.parts {
                let size = bytes.len() as u64;
                insert_artifact(transaction, (&tenant, digest, size), (object, start), moment)?;
                start += size;
                fresh.insert((tenant.clone(), digest));
            }
        }
        Ok(())
    }
}

/// Inserts an object's row; returns its number.
pub(crate) fn insert_object(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    (name, size): (&str, u64),
    moment: &Moment,
) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("INSERT INTO objects (tenant, name, size, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![tenant.as_str(), name, signed(size), moment.as_micros()])?;
    Ok(transaction.last_insert_rowid())
}

/// Inserts the row of an artifact that was written. A row that is there stays, and is marked as used; but for one that was
/// found damaged, whose place this one takes.
fn insert_artifact(
    transaction: &Transaction<'_>,
    (tenant, digest, size): (&TenantId, Digest, u64),
    (object, start): (i64, u64),
    moment: &Moment,
) -> rusqlite::Result<()> {
    if damage::mend(transaction, tenant, digest)? {
        transaction
            .prepare_cached("DELETE FROM artifacts WHERE tenant = ?1 AND digest = ?2")?
            .execute(params![tenant.as_str(), digest.as_bytes()])?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO artifacts (tenant, digest, size, object_no, start, used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT DO UPDATE SET used_at = excluded.used_at",
        )?
        .execute(params![tenant.as_str(), digest.as_bytes(), signed(size), object, signed(start), moment.as_micros()])
        .map(drop)
}

/// Inserts the rows of a large artifact, unless someone stored the same bytes first; the writer of the object looks
/// afterwards whose object it became.
fn register(
    transaction: &Transaction<'_>,
    (tenant, digest, size): (&TenantId, Digest, u64),
    object: &str,
    moment: &Moment,
) -> Result<(), StoreError> {
    let context = "storing an artifact";
    let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
    let sound = damage::has_sound(transaction, tenant, digest).map_err(wrong)?;
    if !(sound && moment.touch(transaction, tenant, digest).map_err(wrong)?) {
        if moment.dooms(object) {
            // It took so long that it was taken for abandoned.
            return Err(StoreError::new(context, StoreErrorKind::Missing(digest)));
        }
        let object = insert_object(transaction, tenant, (object, size), moment).map_err(wrong)?;
        insert_artifact(transaction, (tenant, digest, size), (object, 0), moment).map_err(wrong)?;
    }
    Ok(())
}

/// Stores a memo row if the success that it is of is committed; the first one stays.
fn remember(
    transaction: &Transaction<'_>,
    row: &Remember,
    (gathered, moment): (&mut Gathered, &Moment),
) -> Result<(), StoreError> {
    let context = "recording a memo";
    let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
    // Either way the key is free again.
    if gathered.claims.remove(&(row.tenant.clone(), row.key)).is_none_or(|claim| !claim.is_new) {
        delete_claim(transaction, &row.tenant, row.key, None).map_err(wrong)?;
    }
    if row.after > 0 {
        let key = (row.tenant.clone(), row.run);
        let last = match gathered.runs.get(&key) {
            Some(run) => run.last_seq,
            None => rows::run_head(transaction, &row.tenant, row.run)?.map_or(0, |(_, last, _)| last),
        };
        if last < row.after {
            let kind = StoreErrorKind::Conflict { run: row.run, expected: row.after, last };
            return Err(StoreError::new(context, kind));
        }
    }
    gathered.check_artifacts((transaction, moment), &row.tenant, &row.names)?;
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO memo (tenant, key, at, op, wasmtime, entry) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                row.tenant.as_str(),
                row.key.as_bytes(),
                row.at.as_micros(),
                row.op,
                row.wasmtime,
                row.entry,
            ])
        })
        .map_err(wrong)?;
    Ok(())
}

/// Deletes the memo row that was found too old, or without its artifacts, so that a new one can take its place.
fn forget_stale(transaction: &Transaction<'_>, row: &ClaimRow) -> rusqlite::Result<()> {
    let Some(at) = row.stale else { return Ok(()) };
    transaction
        .prepare_cached("DELETE FROM memo WHERE tenant = ?1 AND key = ?2 AND at <= ?3")?
        .execute(params![row.tenant.as_str(), row.key.as_bytes(), at.as_micros()])
        .map(drop)
}

fn write_claim(transaction: &Transaction<'_>, row: &ClaimRow, process: &str) -> rusqlite::Result<()> {
    match row.until {
        None => delete_claim(transaction, &row.tenant, row.key, Some(process)),
        Some(until) => transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO memo_claims (tenant, key, holder, process, until) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                row.tenant.as_str(),
                row.key.as_bytes(),
                row.holder.to_string(),
                process,
                until.as_micros(),
            ])
            .map(drop),
    }
}

/// Takes a claim back; with `process`, only if it is that one's.
fn delete_claim(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    key: MemoKey,
    process: Option<&str>,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM memo_claims WHERE tenant = ?1 AND key = ?2 AND process = coalesce(?3, process)")?
        .execute(params![tenant.as_str(), key.as_bytes(), process])
        .map(drop)
}
