//! Finds what is referenced: the artifacts that events, plans and memo rows name.

use std::sync::Arc;

use opyard_model::digest::Digest;
use opyard_model::event::RunEvent;
use opyard_model::id::TenantId;
use opyard_model::memo::MemoEntry;
use opyard_model::plan::MAX_PLAN;
use rusqlite::{Connection, params};

use super::REMOVED;
use super::names::digests;
use super::scratch::{Scratch, mark, wrong};
use crate::artifact::read_whole;
use crate::error::StoreError;
use crate::sqlite::artifacts::SqliteArtifacts;
use crate::sqlite::events::named;
use crate::sqlite::rows::event_id;
use crate::sqlite::upkeep::Hold;
use crate::sqlite::{Shared, sqlite_error, unreadable};

/// Events that name something, or memo rows, read at a time.
const PAGE: i64 = 2_000;
/// Runs looked at in one go.
const RUNS: i64 = 200;
/// Plans whose names are held at a time. One plan itself is.
const PLANS: i64 = 100;

/// Writes down what is referenced.
pub(crate) struct Marker {
    shared: Arc<Shared>,
    scratch: Scratch,
    /// What doomed runs and memo rows older than this name is not referenced.
    oldest_memo: i64,
    skip_doomed: bool,
    /// Every run up to this number was looked at.
    seen: i64,
}

/// How far the events are read.
#[derive(Clone, Copy)]
struct Cursor {
    run_no: i64,
    event: i64,
}

impl Marker {
    /// A marker to which every run and memo row counts.
    pub(crate) fn new(shared: &Arc<Shared>, scratch: Scratch) -> Self {
        Self { shared: Arc::clone(shared), scratch, oldest_memo: i64::MIN, skip_doomed: false, seen: 0 }
    }

    /// From now on, runs that are to be removed and memo rows older than `oldest_memo` do not count.
    pub(super) fn spares_only(&mut self, oldest_memo: Option<i64>) {
        self.skip_doomed = true;
        self.oldest_memo = oldest_memo.unwrap_or(i64::MIN);
    }

    /// The last run that was looked at, as a number.
    pub(super) fn seen(&self) -> i64 {
        self.seen
    }

    /// Marks all that is referenced.
    ///
    /// # Errors
    /// When something cannot be read that could name an artifact.
    pub(crate) async fn mark(&mut self, hold: Option<&Hold>) -> Result<(), StoreError> {
        self.mark_runs(hold).await?;
        self.mark_memos(hold).await
    }

    /// Marks what runs reference that were not looked at yet.
    pub(crate) async fn mark_runs(&mut self, hold: Option<&Hold>) -> Result<(), StoreError> {
        let mut cursor = Some(Cursor { run_no: self.seen + 1, event: 0 });
        while let Some(from) = cursor {
            let (scratch, skip_doomed) = (self.scratch.clone(), self.skip_doomed);
            let page = self.shared.readers.run(move |connection| mark_events(connection, &scratch, from, skip_doomed));
            let (next, seen) = page.await?;
            (cursor, self.seen) = (next, self.seen.max(seen));
            keep(hold).await?;
        }
        self.mark_plans(hold).await
    }

    /// Marks what the plans name that were found and not read yet.
    async fn mark_plans(&self, hold: Option<&Hold>) -> Result<(), StoreError> {
        loop {
            let plans = self.unread_plans()?;
            if plans.is_empty() {
                return Ok(());
            }
            for (tenant, digest) in plans {
                let tenant: TenantId = tenant.parse().map_err(|error| unreadable("reading a plan", error))?;
                let artifacts = SqliteArtifacts { shared: Arc::clone(&self.shared), tenant };
                let json = read_whole(&artifacts, digest, MAX_PLAN).await.map_err(|error| StoreError {
                    context: format!("reading the plan {digest}, to know what it needs: {}", error.context),
                    ..error
                })?;
                self.mark_plan(artifacts.tenant.as_str(), digest, &json)?;
                drop(json);
                keep(hold).await?;
            }
        }
    }

    fn mark_plan(&self, tenant: &str, plan: Digest, json: &[u8]) -> Result<(), StoreError> {
        let scratch = self.scratch.lock();
        let mut marked = Ok(());
        let read = digests(json, &mut |digest| {
            if marked.is_ok() {
                marked = mark(&scratch, tenant, digest.as_bytes());
            }
        });
        read.map_err(|error| unreadable("reading a plan", error))?;
        marked?;
        scratch
            .prepare_cached("UPDATE plans SET read = 1 WHERE tenant = ?1 AND digest = ?2")
            .and_then(|mut statement| statement.execute(params![tenant, plan.as_bytes()]))
            .map(drop)
            .map_err(|error| wrong(&error))
    }

    fn unread_plans(&self) -> Result<Vec<(String, Digest)>, StoreError> {
        let scratch = self.scratch.lock();
        let mut statement = scratch
            .prepare_cached("SELECT tenant, digest FROM plans WHERE read = 0 LIMIT ?1")
            .map_err(|error| wrong(&error))?;
        let found = statement
            .query_map([PLANS], |row| Ok((row.get(0)?, Digest::from_bytes(row.get(1)?))))
            .map_err(|error| wrong(&error))?;
        found.collect::<Result<_, _>>().map_err(|error| wrong(&error))
    }

    async fn mark_memos(&self, hold: Option<&Hold>) -> Result<(), StoreError> {
        let mut from = Some((String::new(), Vec::new()));
        while let Some(after) = from {
            let (scratch, oldest) = (self.scratch.clone(), self.oldest_memo);
            let page = self.shared.readers.run(move |connection| mark_memos(connection, &scratch, &after, oldest));
            from = page.await?;
            keep(hold).await?;
        }
        Ok(())
    }
}

async fn keep(hold: Option<&Hold>) -> Result<(), StoreError> {
    match hold {
        Some(hold) => hold.keep().await,
        None => Ok(()),
    }
}

/// Marks a page of events; returns where to go on, and the last run that was looked at whole.
fn mark_events(
    connection: &Connection,
    scratch: &Scratch,
    from: Cursor,
    skip_doomed: bool,
) -> Result<(Option<Cursor>, i64), StoreError> {
    let context = "looking for what events name";
    let bad = |error: rusqlite::Error| sqlite_error(context, &error);
    let scratch = scratch.lock();
    let mut runs = connection
        .prepare_cached("SELECT run_no, tenant FROM runs WHERE run_no >= ?1 AND tenant <> ?2 ORDER BY run_no LIMIT ?3")
        .map_err(bad)?;
    let mut events = connection
        .prepare_cached(
            "SELECT id, kind, payload FROM events WHERE id > ?1 AND id <= ?2 \
             AND kind IN ('run_enqueued', 'step_output', 'step_memoized', 'step_reused', 'loaded_input') \
             ORDER BY id LIMIT ?3",
        )
        .map_err(bad)?;
    let mut doomed =
        scratch.prepare_cached("SELECT 1 FROM doomed_runs WHERE run_no = ?1").map_err(|error| wrong(&error))?;
    let mut left = PAGE;
    let (mut looked_at, mut seen) = (0, from.run_no - 1);
    let mut rows = runs.query(params![from.run_no, REMOVED, RUNS]).map_err(bad)?;
    while let Some(row) = rows.next().map_err(bad)? {
        let (run_no, tenant): (i64, String) = (row.get(0).map_err(bad)?, row.get(1).map_err(bad)?);
        looked_at += 1;
        if skip_doomed && doomed.exists([run_no]).map_err(|error| wrong(&error))? {
            seen = run_no;
            continue;
        }
        let mut after = if run_no == from.run_no { from.event } else { 0 }.max(event_id(run_no, 0));
        let last = event_id(run_no, u64::from(u32::MAX));
        let mut found = events.query(params![after, last, left]).map_err(bad)?;
        while let Some(row) = found.next().map_err(bad)? {
            after = row.get(0).map_err(bad)?;
            left -= 1;
            let kind: String = row.get(1).map_err(bad)?;
            let payload = row.get_ref(2).map_err(bad)?.as_str().map_err(|error| unreadable(context, error))?;
            let event = RunEvent::decode(&kind, payload).map_err(|error| unreadable(context, error))?;
            for digest in named(&event) {
                mark(&scratch, &tenant, digest.as_bytes())?;
            }
            if let RunEvent::RunEnqueued { plan, .. } = &event {
                scratch
                    .prepare_cached("INSERT OR IGNORE INTO plans (tenant, digest, read) VALUES (?1, ?2, 0)")
                    .and_then(|mut statement| statement.execute(params![tenant, plan.digest.as_bytes()]))
                    .map_err(|error| wrong(&error))?;
            }
        }
        if left <= 0 {
            return Ok((Some(Cursor { run_no, event: after }), seen));
        }
        seen = run_no;
    }
    let next = (looked_at == RUNS).then_some(Cursor { run_no: seen + 1, event: 0 });
    Ok((next, seen))
}

/// Marks a page of memo rows; returns the last one's key, unless there are no more.
fn mark_memos(
    connection: &Connection,
    scratch: &Scratch,
    after: &(String, Vec<u8>),
    oldest: i64,
) -> Result<Option<(String, Vec<u8>)>, StoreError> {
    let context = "looking for what memo rows name";
    let bad = |error: rusqlite::Error| sqlite_error(context, &error);
    let scratch = scratch.lock();
    let mut statement = connection
        .prepare_cached(
            "SELECT tenant, key, at, entry FROM memo WHERE (tenant, key) > (?1, ?2) ORDER BY tenant, key LIMIT ?3",
        )
        .map_err(bad)?;
    let mut rows = statement.query(params![after.0, after.1, PAGE]).map_err(bad)?;
    let (mut last, mut count) = (None, 0);
    while let Some(row) = rows.next().map_err(bad)? {
        let (tenant, key, at): (String, Vec<u8>, i64) =
            (row.get(0).map_err(bad)?, row.get(1).map_err(bad)?, row.get(2).map_err(bad)?);
        count += 1;
        if at >= oldest {
            let json = row.get_ref(3).map_err(bad)?.as_str().map_err(|error| unreadable(context, error))?;
            // A row that this program cannot read, no look-up of it uses either.
            if let Ok(entry) = serde_json::from_str::<MemoEntry>(json) {
                for output in &entry.outputs {
                    mark(&scratch, &tenant, output.value.artifact.digest.as_bytes())?;
                }
            }
        }
        last = Some((tenant, key));
    }
    Ok(last.filter(|_| count == PAGE))
}
