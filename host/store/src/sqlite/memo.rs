//! The memo.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opyard_model::id::{RunId, TenantId};
use opyard_model::memo::{MemoEntry, MemoKey};
use opyard_model::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::claims::{Asked, wait_for};
use super::queue::{ClaimRow, Command, Remember};
use super::{Shared, damage, lock, sqlite_error, unreadable};
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::Durable;
use crate::memo::{MAX_ENTRY, MAX_LEASE, MemoAnswer, MemoStore};

/// Keys looked up on one connection before it is given back.
const CHUNK: usize = 4_096;
/// So many keys are looked up on the thread that asks.
const FEW: usize = 4;

/// The memo of one tenant.
pub(crate) struct SqliteMemos {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
}

/// What the database knows of a key.
enum Found {
    Entry(Box<MemoEntry>),
    /// Someone in another process computes it.
    Claimed(Timestamp),
    /// Nothing that could be used.
    Nothing(Left),
}

/// What is in the database of a key that has no result.
#[derive(Default)]
struct Left {
    /// When the result that is there was made: it is too old, or not whole.
    stale: Option<Timestamp>,
    /// A claim of this process, or one that nobody holds any more.
    claim: bool,
}

#[async_trait]
impl MemoStore for SqliteMemos {
    async fn look_up(
        &self,
        keys: &[MemoKey],
        max_age: Option<Duration>,
        holder: RunId,
        lease: Duration,
    ) -> Result<Vec<MemoAnswer>, StoreError> {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let until = now.after(lease.min(MAX_LEASE));
        // Claimed before the database is asked: whoever had a claim and is done had committed before it let go.
        let asked: Vec<Asked> = {
            let mut claims = lock(&shared.claims);
            keys.iter().map(|key| claims.ask(&self.tenant, *key, holder, (now, until))).collect()
        };
        let found = match self.find(keys, max_age, now).await {
            Ok(found) => found,
            Err(error) => {
                let mut claims = lock(&shared.claims);
                for (key, _) in keys.iter().zip(&asked).filter(|(_, asked)| **asked == Asked::Taken) {
                    claims.release(&self.tenant, *key, holder);
                }
                return Err(error);
            }
        };
        let mut to_show = Vec::new();
        let answers = keys
            .iter()
            .zip(asked)
            .zip(found)
            .map(|((key, asked), found)| {
                let there = Left { stale: None, claim: true };
                let (answer, left) = match (found, asked) {
                    (Found::Entry(entry), _) => (MemoAnswer::Hit(entry), there),
                    (_, Asked::Busy(wait)) => (MemoAnswer::Busy { wait }, there),
                    (Found::Claimed(until), Asked::Taken) => (MemoAnswer::Busy { wait: wait_for(until, now) }, there),
                    (Found::Claimed(_), Asked::Renewed) => (MemoAnswer::Miss, there),
                    (Found::Nothing(left), Asked::Taken | Asked::Renewed) => (MemoAnswer::Miss, left),
                };
                match answer {
                    MemoAnswer::Miss => {
                        let (tenant, key, until) = (self.tenant.clone(), *key, Some(until));
                        let is_new = asked == Asked::Taken && !left.claim;
                        to_show.push(ClaimRow { tenant, key, holder, until, stale: left.stale, is_new });
                    }
                    MemoAnswer::Hit(_) | MemoAnswer::Busy { .. } if asked == Asked::Taken => {
                        lock(&shared.claims).release(&self.tenant, *key, holder);
                    }
                    MemoAnswer::Hit(_) | MemoAnswer::Busy { .. } => {}
                }
                answer
            })
            .collect();
        if !to_show.is_empty() {
            let room = shared.queue.reserve(to_show.len() * 128).await?;
            shared.queue.push(room, Command::Claims(to_show))?;
        }
        Ok(answers)
    }

    async fn record(&self, entry: MemoEntry) -> Result<Durable, StoreError> {
        let context = "recording a memo";
        let shared = &*self.shared;
        let json = serde_json::to_string(&entry).map_err(|error| unreadable(context, error))?;
        if json.len() > MAX_ENTRY {
            let reason = format!("{} bytes of memo; {MAX_ENTRY} are the limit", json.len());
            return Err(StoreError::new(context, StoreErrorKind::TooLarge(reason)));
        }
        let room = shared.queue.reserve(json.len()).await?;
        let mut tails = lock(&shared.tails);
        let after = match tails.known(&(self.tenant.clone(), entry.run)) {
            Some(tail) if tail.lost => {
                drop(tails);
                shared.queue.give_back(room);
                lock(&shared.claims).release(&self.tenant, entry.key, entry.run);
                let reason = format!("events of {} were lost", entry.run);
                return Err(StoreError::new(context, StoreErrorKind::Unavailable(reason)));
            }
            Some(tail) => tail.last_seq,
            None => 0,
        };
        let key = entry.key;
        lock(&shared.claims).recorded(&self.tenant, key, entry.run);
        let row = Remember {
            tenant: self.tenant.clone(),
            key,
            run: entry.run,
            after,
            at: entry.at,
            op: entry.op.to_string(),
            wasmtime: entry.wasmtime,
            entry: json,
            names: entry.outputs.iter().map(|output| output.value.artifact.digest).collect(),
        };
        let pushed = shared.queue.push(room, Command::Remember(row));
        if pushed.is_err() {
            lock(&shared.claims).settle(&self.tenant, key);
        }
        Ok(pushed?.durable())
    }

    async fn release(&self, key: MemoKey, holder: RunId) -> Result<(), StoreError> {
        let shared = &*self.shared;
        if lock(&shared.claims).release(&self.tenant, key, holder) {
            let room = shared.queue.reserve(128).await?;
            let row = ClaimRow { tenant: self.tenant.clone(), key, holder, until: None, stale: None, is_new: false };
            shared.queue.push(room, Command::Claims(vec![row]))?;
        }
        Ok(())
    }
}

impl SqliteMemos {
    async fn find(
        &self,
        keys: &[MemoKey],
        max_age: Option<Duration>,
        now: Timestamp,
    ) -> Result<Vec<Found>, StoreError> {
        let oldest =
            max_age.map(|age| now.as_micros().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)));
        let mut found = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let (keys, tenant, shared) = (chunk.to_vec(), self.tenant.clone(), Arc::clone(&self.shared));
            let find = move |connection: &Connection| {
                let asker = Asker { tenant: &tenant, shared: &shared, oldest, now };
                keys.iter().map(|key| asker.find(connection, *key)).collect::<Result<Vec<_>, _>>()
            };
            let readers = &self.shared.readers;
            found.extend(if chunk.len() <= FEW { readers.run_short(find).await? } else { readers.run(find).await? });
        }
        Ok(found)
    }
}

/// Who looks up, and what is too old for it.
struct Asker<'a> {
    tenant: &'a TenantId,
    shared: &'a Shared,
    oldest: Option<i64>,
    now: Timestamp,
}

impl Asker<'_> {
    fn find(&self, connection: &Connection, key: MemoKey) -> Result<Found, StoreError> {
        let context = "looking up the memo";
        let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
        let row: Option<(i64, String)> = connection
            .prepare_cached("SELECT at, entry FROM memo WHERE tenant = ?1 AND key = ?2")
            .map_err(wrong)?
            .query_row(params![self.tenant.as_str(), key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(wrong)?;
        let mut left = Left::default();
        if let Some((at, json)) = row {
            // A row that this program cannot read is one that it cannot use: it computes the result again.
            let entry = serde_json::from_str::<MemoEntry>(&json).ok().filter(|entry| entry.key == key);
            if let Some(entry) = entry.filter(|_| self.oldest.is_none_or(|oldest| at >= oldest)) {
                let mut complete = true;
                for output in &entry.outputs {
                    complete &=
                        damage::has_sound(connection, self.tenant, output.value.artifact.digest).map_err(wrong)?;
                }
                if complete {
                    return Ok(Found::Entry(Box::new(entry)));
                }
            }
            left.stale = Some(Timestamp::from_micros(at));
        }
        let claimed: Option<(i64, String)> = connection
            .prepare_cached("SELECT until, process FROM memo_claims WHERE tenant = ?1 AND key = ?2")
            .map_err(wrong)?
            .query_row(params![self.tenant.as_str(), key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(wrong)?;
        let Some((until, process)) = claimed else { return Ok(Found::Nothing(left)) };
        let until = Timestamp::from_micros(until);
        if process != self.shared.process && until > self.now && !self.shared.presence.is_gone(&process) {
            return Ok(Found::Claimed(until));
        }
        left.claim = true;
        Ok(Found::Nothing(left))
    }
}
