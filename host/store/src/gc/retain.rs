//! Runs and memo rows that are not to be kept.

use rusqlite::params;

use super::scratch::wrong;
use super::{Gc, REMOVED, strange};
use crate::error::StoreError;
use crate::sqlite::rows::event_id;
use crate::sqlite::sqlite_error;
use crate::sqlite::upkeep::micros;

/// Events or memo rows removed in one transaction: some milliseconds for whoever waits to write.
const PAGE: i64 = 2_000;
/// Runs taken from their tenants in one transaction.
const RUNS: i64 = 200;

impl Gc<'_> {
    /// Memo rows made before this moment go.
    pub(super) fn oldest_memo(&self) -> Option<i64> {
        self.retention.keep_memos_for.map(|time| self.bounds.begun_at.saturating_sub(micros(time)))
    }

    /// Writes down which runs go.
    pub(super) async fn choose_runs(&mut self) -> Result<(), StoreError> {
        let retention = self.retention;
        if retention.keep_runs.is_none() && retention.keep_runs_for.is_none() {
            return Ok(());
        }
        let newest = retention.keep_runs.unwrap_or(0);
        let ended_before =
            retention.keep_runs_for.map_or(i64::MAX, |time| self.bounds.begun_at.saturating_sub(micros(time)));
        let scratch = self.scratch.clone();
        let chosen = self.shared.readers.run(move |connection| {
            let bad = |error: rusqlite::Error| sqlite_error("choosing the runs that go", &error);
            let scratch = scratch.lock();
            let mut insert = scratch
                .prepare_cached("INSERT OR IGNORE INTO doomed_runs (run_no) VALUES (?1)")
                .map_err(|error| wrong(&error))?;
            let mut statement = connection
                .prepare(
                    "SELECT run_no, last_seq FROM (SELECT run_no, last_seq, ended_at, \
                         row_number() OVER (PARTITION BY tenant, job ORDER BY run DESC) AS place \
                     FROM runs WHERE ended_at IS NOT NULL AND tenant <> ?3) WHERE place > ?1 AND ended_at < ?2",
                )
                .map_err(bad)?;
            let mut rows = statement.query(params![newest, ended_before, REMOVED]).map_err(bad)?;
            let (mut runs, mut events) = (0u64, 0u64);
            while let Some(row) = rows.next().map_err(bad)? {
                insert.execute([row.get::<_, i64>(0).map_err(bad)?]).map_err(|error| wrong(&error))?;
                runs += 1;
                events += row.get::<_, i64>(1).map_err(bad)?.unsigned_abs();
            }
            Ok((runs, events))
        });
        (self.report.runs, self.report.events) = chosen.await?;
        Ok(())
    }

    /// Removes them: first from their tenants, each at once, then what is under them.
    pub(super) async fn remove_runs(&mut self) -> Result<(), StoreError> {
        if self.retention.dry_run {
            return Ok(());
        }
        let mut after = 0;
        loop {
            let page = self.doomed_runs(after)?;
            let Some(last) = page.last() else { break };
            after = *last;
            self.hold
                .write(move |transaction, _| {
                    let bad = |error: rusqlite::Error| sqlite_error("removing runs", &error);
                    for run_no in page {
                        transaction
                            .prepare_cached(
                                "DELETE FROM requests WHERE (tenant, run) IN \
                                 (SELECT tenant, run FROM runs WHERE run_no = ?1 AND ended_at IS NOT NULL)",
                            )
                            .and_then(|mut statement| statement.execute([run_no]))
                            .map_err(bad)?;
                        transaction
                            .prepare_cached(
                                "UPDATE runs SET tenant = ?2, run = CAST(run_no AS TEXT) \
                                 WHERE run_no = ?1 AND ended_at IS NOT NULL",
                            )
                            .and_then(|mut statement| statement.execute(params![run_no, REMOVED]))
                            .map_err(bad)?;
                    }
                    Ok(())
                })
                .await?;
        }
        // Also those that an earlier clean-up did not come to.
        while self.remove_events().await? {}
        Ok(())
    }

    fn doomed_runs(&self, after: i64) -> Result<Vec<i64>, StoreError> {
        let scratch = self.scratch.lock();
        let mut statement = scratch
            .prepare_cached("SELECT run_no FROM doomed_runs WHERE run_no > ?1 ORDER BY run_no LIMIT ?2")
            .map_err(|error| wrong(&error))?;
        let found = statement.query_map([after, RUNS], |row| row.get(0)).map_err(|error| wrong(&error))?;
        found.collect::<Result<_, _>>().map_err(|error| wrong(&error))
    }

    /// Removes some events of runs that belong to nobody, and the runs that have none left; false when there are no more.
    async fn remove_events(&self) -> Result<bool, StoreError> {
        let removed = self.hold.write(|transaction, _| {
            let bad = |error: rusqlite::Error| sqlite_error("removing events", &error);
            let runs: Vec<i64> = transaction
                .prepare_cached("SELECT run_no FROM runs WHERE tenant = ?1 LIMIT ?2")
                .map_err(bad)?
                .query_map(params![REMOVED, RUNS], |row| row.get(0))
                .map_err(bad)?
                .collect::<Result<_, _>>()
                .map_err(bad)?;
            let mut left = usize::try_from(PAGE).unwrap_or(0);
            for run_no in &runs {
                let (first, last) = (event_id(*run_no, 0), event_id(*run_no, u64::from(u32::MAX)));
                let most = i64::try_from(left).unwrap_or(PAGE);
                let gone = transaction
                    .prepare_cached(
                        "DELETE FROM events WHERE id IN \
                         (SELECT id FROM events WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)",
                    )
                    .and_then(|mut statement| statement.execute([first, last, most]))
                    .map_err(bad)?;
                if gone == left {
                    return Ok(true);
                }
                left = left.checked_sub(gone).ok_or_else(|| strange("more events went than were asked for"))?;
                transaction
                    .prepare_cached("DELETE FROM runs WHERE run_no = ?1")
                    .and_then(|mut statement| statement.execute([run_no]))
                    .map_err(bad)?;
            }
            Ok(!runs.is_empty())
        });
        removed.await
    }

    /// Removes memo rows that are too old, and claims that are over.
    pub(super) async fn remove_memos(&mut self) -> Result<(), StoreError> {
        let dry_run = self.retention.dry_run;
        if !dry_run {
            let now = self.bounds.begun_at;
            let claims = self.hold.write(move |transaction, _| {
                transaction
                    .execute("DELETE FROM memo_claims WHERE until <= ?1", [now])
                    .map_err(|error| sqlite_error("removing memo claims", &error))
            });
            claims.await?;
        }
        let Some(oldest) = self.oldest_memo() else { return Ok(()) };
        if dry_run {
            let count = self.shared.readers.run(move |connection| {
                connection
                    .query_row("SELECT count(*) FROM memo WHERE at < ?1", [oldest], |row| row.get::<_, i64>(0))
                    .map_err(|error| sqlite_error("counting memo rows", &error))
            });
            self.report.memos = count.await?.unsigned_abs();
            return Ok(());
        }
        let mut after = (String::new(), Vec::new());
        loop {
            let page = self.old_memos(after, oldest).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.clone();
            let removed = self.hold.write(move |transaction, _| {
                let mut removed = 0;
                for (tenant, key) in page {
                    removed += transaction
                        .prepare_cached("DELETE FROM memo WHERE tenant = ?1 AND key = ?2 AND at < ?3")
                        .and_then(|mut statement| statement.execute(params![tenant, key, oldest]))
                        .map_err(|error| sqlite_error("removing memo rows", &error))?;
                }
                Ok(removed)
            });
            self.report.memos += removed.await? as u64;
        }
    }

    async fn old_memos(&self, after: (String, Vec<u8>), oldest: i64) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let page = self.shared.readers.run(move |connection| {
            let bad = |error: rusqlite::Error| sqlite_error("looking for old memo rows", &error);
            connection
                .prepare_cached(
                    "SELECT tenant, key FROM memo WHERE (tenant, key) > (?1, ?2) AND at < ?3 \
                     ORDER BY tenant, key LIMIT ?4",
                )
                .map_err(bad)?
                .query_map(params![after.0, after.1, oldest, PAGE], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(bad)?
                .collect::<Result<Vec<_>, _>>()
                .map_err(bad)
        });
        page.await
    }
}
