//! Rows of the database as values, and back.

use std::str::FromStr;

use opyard_model::digest::{Digest, FieldHasher};
use opyard_model::error::Code;
use opyard_model::event::RunEvent;
use opyard_model::id::{Name, RunId, StepKey, TenantId};
use opyard_model::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::queue::Encoded;
use super::{sqlite_error, unreadable};
use crate::error::StoreError;
use crate::run::{RunSummary, StepCounts, StepEnd, status_from_name};

/// The hash before a run's first event.
pub(crate) const NO_CHAIN: [u8; 32] = [0; 32];

/// A run's row.
pub(crate) struct RunRow {
    /// None: not inserted yet.
    pub(crate) number: Option<i64>,
    pub(crate) summary: RunSummary,
    pub(crate) last_seq: u64,
    pub(crate) chain: [u8; 32],
    pub(crate) owner: Option<String>,
    pub(crate) fence: i64,
    pub(crate) lease_until: Timestamp,
}

pub(crate) const SUMMARY_COLUMNS: &str = "run, job, environment, status, enqueued_at, started_at, ended_at, \
     planned, success, memoized, reused, skipped, failure, canceled, failed_with, tags, parent_run, root_run";

/// [`SUMMARY_COLUMNS`] and the rest.
const RUN_ROW: &str = "SELECT run, job, environment, status, enqueued_at, started_at, ended_at, \
     planned, success, memoized, reused, skipped, failure, canceled, failed_with, tags, parent_run, root_run, \
     run_no, last_seq, chain, owner, fence, lease_until FROM runs WHERE tenant = ?1 AND run = ?2";

/// A text column as what it is the text of.
fn parsed<T: FromStr>(text: &str, context: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| unreadable(context, error))
}

/// Reads [`SUMMARY_COLUMNS`], which start the row.
pub(crate) fn summary(row: &Row<'_>) -> Result<RunSummary, StoreError> {
    let context = "reading a run";
    let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
    let text = |index: usize| row.get::<_, String>(index).map_err(wrong);
    let maybe = |index: usize| row.get::<_, Option<String>>(index).map_err(wrong);
    let moment =
        |index: usize| row.get::<_, Option<i64>>(index).map(|at| at.map(Timestamp::from_micros)).map_err(wrong);
    let count = |index: usize| row.get::<_, u32>(index).map_err(wrong);
    let status = text(3)?;
    Ok(RunSummary {
        run: parsed(&text(0)?, context)?,
        job: parsed(&text(1)?, context)?,
        environment: maybe(2)?.map(|name| parsed::<Name>(&name, context)).transpose()?,
        status: status_from_name(&status).ok_or_else(|| unreadable(context, format!("'{status}' is no status")))?,
        enqueued_at: moment(4)?.unwrap_or(Timestamp::from_micros(0)),
        started_at: moment(5)?,
        ended_at: moment(6)?,
        steps: StepCounts {
            planned: count(7)?,
            success: count(8)?,
            memoized: count(9)?,
            reused: count(10)?,
            skipped: count(11)?,
            failure: count(12)?,
            canceled: count(13)?,
        },
        failure: maybe(14)?
            .map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|error| unreadable(context, error))?,
        parent: maybe(16)?.map(|run| parsed(&run, context)).transpose()?,
        root: maybe(17)?.map(|run| parsed(&run, context)).transpose()?,
        tags: serde_json::from_str(&text(15)?).map_err(|error| unreadable(context, error))?,
    })
}

/// Reads a run's row; none when there is no such run.
pub(crate) fn run_row(connection: &Connection, tenant: &TenantId, run: RunId) -> Result<Option<RunRow>, StoreError> {
    let context = "reading a run";
    let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
    let mut statement = connection.prepare_cached(RUN_ROW).map_err(wrong)?;
    let mut rows = statement.query(params![tenant.as_str(), run.to_string()]).map_err(wrong)?;
    let Some(row) = rows.next().map_err(wrong)? else { return Ok(None) };
    Ok(Some(RunRow {
        summary: summary(row)?,
        number: Some(row.get(18).map_err(wrong)?),
        last_seq: row.get::<_, i64>(19).map_err(wrong)?.unsigned_abs(),
        chain: row.get(20).map_err(wrong)?,
        owner: row.get(21).map_err(wrong)?,
        fence: row.get(22).map_err(wrong)?,
        lease_until: Timestamp::from_micros(row.get(23).map_err(wrong)?),
    }))
}

/// The number, last event and owner of a run.
pub(crate) fn run_head(
    connection: &Connection,
    tenant: &TenantId,
    run: RunId,
) -> Result<Option<(i64, u64, Option<String>)>, StoreError> {
    let wrong = |error: rusqlite::Error| sqlite_error("reading a run", &error);
    connection
        .prepare_cached("SELECT run_no, last_seq, owner FROM runs WHERE tenant = ?1 AND run = ?2")
        .map_err(wrong)?
        .query_row(params![tenant.as_str(), run.to_string()], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs(), row.get(2)?))
        })
        .optional()
        .map_err(wrong)
}

impl RunRow {
    /// Inserts the run; its events follow.
    pub(crate) fn insert(&mut self, connection: &Connection, tenant: &TenantId) -> rusqlite::Result<i64> {
        let summary = &self.summary;
        connection
            .prepare_cached(
                "INSERT INTO runs (tenant, run, job, environment, status, enqueued_at, planned, success, memoized, \
                 reused, skipped, failure, canceled, tags, last_seq, chain, owner, fence, lease_until, parent_run, \
                 root_run) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, 0, 0, 0, 0, ?8, 0, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                tenant.as_str(),
                summary.run.to_string(),
                summary.job.as_str(),
                summary.environment.as_ref().map(Name::as_str),
                summary.status.name(),
                summary.enqueued_at.as_micros(),
                summary.steps.planned,
                to_json(&summary.tags),
                self.chain,
                self.owner,
                self.fence,
                self.lease_until.as_micros(),
                summary.parent.as_ref().map(ToString::to_string),
                summary.root.as_ref().map(ToString::to_string),
            ])?;
        let number = connection.last_insert_rowid();
        self.number = Some(number);
        Ok(number)
    }

    /// Writes what events change.
    pub(crate) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        let summary = &self.summary;
        let owner = if summary.status.is_final() { None } else { self.owner.as_deref() };
        connection
            .prepare_cached(
                "UPDATE runs SET status = ?2, started_at = ?3, ended_at = ?4, success = ?5, memoized = ?6, \
                 skipped = ?7, failure = ?8, canceled = ?9, failed_with = ?10, last_seq = ?11, chain = ?12, \
                 owner = ?13, reused = ?14 WHERE run_no = ?1",
            )?
            .execute(params![
                self.number,
                summary.status.name(),
                summary.started_at.map(Timestamp::as_micros),
                summary.ended_at.map(Timestamp::as_micros),
                summary.steps.success,
                summary.steps.memoized,
                summary.steps.skipped,
                summary.steps.failure,
                summary.steps.canceled,
                summary.failure.as_ref().map(to_json),
                signed(self.last_seq),
                self.chain,
                owner,
                summary.steps.reused,
            ])?;
        Ok(())
    }
}

/// Plain data as JSON text. Serialising it into memory cannot fail.
fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A sequence number or size as SQLite holds it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The row id of an event. Sequence numbers stay far below 2^32: the log refuses more.
pub(crate) fn event_id(number: i64, seq: u64) -> i64 {
    (number << 32) | signed(seq)
}

/// The hash of an event and of all before it in its run, which is named by its id.
pub(crate) fn link(chain: &[u8; 32], run: &str, seq: u64, (at, kind, payload): (Timestamp, &str, &str)) -> [u8; 32] {
    *FieldHasher::new("opyard event 1")
        .field(chain)
        .field(run.as_bytes())
        .field(&seq.to_le_bytes())
        .field(&at.as_micros().to_le_bytes())
        .field(kind.as_bytes())
        .field(payload.as_bytes())
        .finish()
        .as_bytes()
}

/// Inserts an event.
pub(crate) fn insert_event(
    connection: &Connection,
    id: i64,
    encoded: &Encoded,
    chain: &[u8; 32],
) -> rusqlite::Result<()> {
    let event = &encoded.event;
    let attempt = event.attempt();
    let generation = attempt.map(|of| of.generation).or(match event {
        RunEvent::StepWaiting { generation, .. }
        | RunEvent::StepSkipped { generation, .. }
        | RunEvent::StepSuperseded { generation, .. }
        | RunEvent::StepMemoized { generation, .. }
        | RunEvent::StepReused { generation, .. }
        | RunEvent::StepMemoMissed { generation, .. } => Some(*generation),
        _ => None,
    });
    let step = event.step();
    connection
        .prepare_cached(
            "INSERT INTO events (id, at, kind, step, mapping, generation, attempt, code, payload, chain) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id,
            encoded.at.as_micros(),
            event.kind(),
            step.map(|step| step.path.as_str()),
            step.and_then(mapping),
            generation,
            attempt.map(|of| of.attempt),
            event.failure().map(|failure| failure.code.to_string()),
            encoded.payload,
            chain,
        ])?;
    Ok(())
}

/// The mapping keys of a step as they stand in its key; none when it is not mapped.
fn mapping(step: &StepKey) -> Option<String> {
    (!step.mapping.is_empty()).then(|| step.mapping.iter().map(|key| format!("[{key}]")).collect())
}

/// How the superseded generation of a step had ended, from the events of its run.
pub(crate) fn end_of(
    connection: &Connection,
    number: i64,
    step: &StepKey,
    generation: u32,
) -> rusqlite::Result<Option<StepEnd>> {
    connection
        .prepare_cached(
            "SELECT kind, code FROM events WHERE id BETWEEN ?1 AND ?2 AND step = ?3 AND mapping IS ?4 \
             AND generation = ?5 \
             AND kind IN ('step_success', 'step_memoized', 'step_reused', 'step_skipped', 'step_failure')",
        )?
        .query_row(
            params![
                event_id(number, 0),
                event_id(number, u64::from(u32::MAX)),
                step.path.as_str(),
                mapping(step),
                generation
            ],
            |row| {
                let (kind, code): (String, Option<String>) = (row.get(0)?, row.get(1)?);
                Ok(StepEnd::from_row(&kind, code.and_then(|code| code.parse::<Code>().ok())))
            },
        )
        .optional()
        .map(Option::flatten)
}

/// The artifact is in the store.
pub(crate) fn has_artifact(connection: &Connection, tenant: &TenantId, digest: Digest) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM artifacts WHERE tenant = ?1 AND digest = ?2")?
        .exists(params![tenant.as_str(), digest.as_bytes()])
}
