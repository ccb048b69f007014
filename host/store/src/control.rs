//! What concerns a run from outside its owner: ownership itself, and requests to the owner.
//!
//! A run has one owner among the processes that share a yard. Whoever appends its first event owns it; another process may
//! take it over when the owner let go or its lease is over. From then on the commits of the former owner are refused
//! (its fencing token is old), whatever its clock says: a lease decides only when others may try.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use opyard_model::event::RunStatus;
use opyard_model::id::{RunId, TenantId};
use opyard_model::time::Timestamp;
use rusqlite::{Transaction, params};

use crate::crash::{self, CrashPoint};
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::POLL;
use crate::sqlite::{Shared, rows, sqlite_error, unreadable};

/// How long an owner may be silent before others may take its runs over: 30 s. Renew about every third of it.
pub const LEASE: Duration = Duration::from_secs(30);

/// Longest reason of a request, in bytes.
pub const MAX_REASON: usize = 1_000;

/// Asked of the owner of a run: to cancel it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// Who or what asked, and why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Ownership of one run by this process. Dropping it lets the lease run out; [`release`](Self::release) ends it at once.
#[derive(Debug, Clone)]
pub struct Lease {
    control: Control,
    run: RunId,
    token: i64,
}

/// Ownership and requests of one tenant's runs.
#[derive(Clone)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({})", self.tenant)
    }
}

fn no_run(run: RunId) -> StoreError {
    StoreError::new("looking for a run", StoreErrorKind::Invalid(format!("there is no run {run}")))
}

impl Control {
    /// Does `work` inside the writer's next transaction, and waits for the commit.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Shared, &TenantId) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let tenant = self.tenant.clone();
        self.shared.write(move |transaction, shared| work(transaction, shared, &tenant)).await
    }

    /// Takes a run over, for [`LEASE`]. Durable when this returns.
    ///
    /// # Errors
    /// `NotOwner` when another process owns it, its lease is not over and the process not known to be gone; `Invalid` when there is no such run;
    /// `Unavailable`, `Locked`, `Full`.
    pub async fn claim_run(&self, run: RunId) -> Result<Lease, StoreError> {
        let token = self
            .write(move |transaction, shared, tenant| {
                let row = rows::run_row(transaction, tenant, run)?.ok_or_else(|| no_run(run))?;
                let now = shared.clock.now();
                let foreign = row.owner.as_deref().is_some_and(|owner| owner != shared.process);
                let gone = || row.owner.as_deref().is_some_and(|owner| shared.presence.is_gone(owner));
                if foreign && row.lease_until > now && !gone() {
                    return Err(StoreError::new("taking a run over", StoreErrorKind::NotOwner { run }));
                }
                let token = row.fence + 1;
                transaction
                    .prepare_cached("UPDATE runs SET owner = ?2, fence = ?3, lease_until = ?4 WHERE run_no = ?1")
                    .and_then(|mut statement| {
                        let until = now.after(LEASE).as_micros();
                        statement.execute(params![row.number, shared.process, token, until])
                    })
                    .map_err(|error| sqlite_error("taking a run over", &error))?;
                Ok(token)
            })
            .await?;
        crash::point(CrashPoint::LeaseTaken);
        Ok(Lease { control: self.clone(), run, token })
    }

    /// Asks the owner of a run to cancel it; durable when this returns. Returns where the run stood: nothing happens to one
    /// that has ended.
    ///
    /// # Errors
    /// `Invalid` when there is no such run, or the reason is over [`MAX_REASON`]; `Unavailable`, `Locked`, `Full`.
    pub async fn request_cancel(&self, run: RunId, reason: &str) -> Result<RunStatus, StoreError> {
        let context = "requesting a cancel";
        if reason.len() > MAX_REASON {
            let kind = StoreErrorKind::Invalid(format!("a reason of over {MAX_REASON} bytes"));
            return Err(StoreError::new(context, kind));
        }
        let reason = reason.to_owned();
        self.write(move |transaction, shared, tenant| {
            let row = rows::run_row(transaction, tenant, run)?.ok_or_else(|| no_run(run))?;
            let status = row.summary.status;
            if !status.is_final() {
                transaction
                    .prepare_cached("INSERT INTO requests (tenant, run, reason, at) VALUES (?1, ?2, ?3, ?4)")
                    .and_then(|mut statement| {
                        let at = shared.clock.now().as_micros();
                        statement.execute(params![tenant.as_str(), run.to_string(), reason, at])
                    })
                    .map_err(|error| sqlite_error(context, &error))?;
            }
            Ok(status)
        })
        .await
    }

    /// Follows what is asked of the owner of a run, from its first request on: within half a second, from whatever process
    /// it comes. Ends with the first error.
    #[must_use]
    pub fn follow_requests(&self, run: RunId) -> BoxStream<'static, Result<CancelRequest, StoreError>> {
        let state = (self.clone(), 0i64, VecDeque::new(), false);
        futures::stream::unfold(state, move |(control, mut after, mut page, over)| async move {
            if over {
                return None;
            }
            loop {
                if let Some((number, request)) = page.pop_front() {
                    after = number;
                    return Some((Ok(request), (control, after, page, false)));
                }
                match control.requests(run, after).await {
                    Err(error) => return Some((Err(error), (control, after, page, true))),
                    Ok(found) if found.is_empty() => tokio::time::sleep(POLL).await,
                    Ok(found) => page.extend(found),
                }
            }
        })
        .boxed()
    }

    async fn requests(&self, run: RunId, after: i64) -> Result<Vec<(i64, CancelRequest)>, StoreError> {
        let tenant = self.tenant.clone();
        self.shared
            .readers
            .run(move |connection| {
                let wrong = |error: rusqlite::Error| sqlite_error("reading requests", &error);
                let mut statement = connection
                    .prepare_cached(
                        "SELECT request_no, reason, at FROM requests \
                         WHERE tenant = ?1 AND run = ?2 AND request_no > ?3 ORDER BY request_no LIMIT 100",
                    )
                    .map_err(wrong)?;
                let found = statement
                    .query_map(params![tenant.as_str(), run.to_string(), after], |row| {
                        let at = Timestamp::from_micros(row.get(2)?);
                        Ok((row.get(0)?, CancelRequest { reason: row.get(1)?, at }))
                    })
                    .map_err(wrong)?;
                found.map(|request| request.map_err(wrong)).collect()
            })
            .await
    }

    /// Runs that have not ended and have no living owner, oldest first, at most `limit`: what recovery takes over.
    ///
    /// # Errors
    /// `Unavailable`, `Unreadable`.
    pub async fn abandoned(&self, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let (tenant, now) = (self.tenant.clone(), self.shared.clock.now().as_micros());
        let shared = Arc::clone(&self.shared);
        self.shared
            .readers
            .run(move |connection| {
                let context = "looking for abandoned runs";
                let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
                let mut statement = connection
                    .prepare_cached(
                        "SELECT run, iif(lease_until <= ?2, NULL, owner) FROM runs \
                         WHERE tenant = ?1 AND ended_at IS NULL ORDER BY run",
                    )
                    .map_err(wrong)?;
                let mut rows = statement.query(params![tenant.as_str(), now]).map_err(wrong)?;
                let mut gone: HashMap<String, bool> = HashMap::new();
                let mut found = Vec::new();
                while let Some(row) = rows.next().map_err(wrong)? {
                    let (run, owner): (String, Option<String>) =
                        (row.get(0).map_err(wrong)?, row.get(1).map_err(wrong)?);
                    let is_gone =
                        |owner: String| *gone.entry(owner).or_insert_with_key(|one| shared.presence.is_gone(one));
                    if owner.is_none_or(is_gone) {
                        found.push(run.parse().map_err(|error| unreadable(context, error))?);
                        if found.len() == limit {
                            break;
                        }
                    }
                }
                Ok(found)
            })
            .await
    }
}

impl Lease {
    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The fencing token: larger than that of every owner before.
    #[must_use]
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Holds on for another [`LEASE`].
    ///
    /// # Errors
    /// `NotOwner` when the run was taken over; `Unavailable`, `Locked`, `Full`.
    pub async fn renew(&self) -> Result<(), StoreError> {
        self.update("UPDATE runs SET lease_until = ?4 WHERE tenant = ?1 AND run = ?2 AND fence = ?3 AND owner = ?5")
            .await
    }

    /// Lets go: anyone may take the run over.
    ///
    /// # Errors
    /// `NotOwner` when the run was taken over, or has ended; `Unavailable`, `Locked`, `Full`.
    pub async fn release(self) -> Result<(), StoreError> {
        self.update(
            "UPDATE runs SET owner = NULL, lease_until = ?4 WHERE tenant = ?1 AND run = ?2 AND fence = ?3 AND owner = ?5",
        )
        .await
    }

    async fn update(&self, sql: &'static str) -> Result<(), StoreError> {
        let (run, token) = (self.run, self.token);
        self.control
            .write(move |transaction, shared, tenant| {
                let until = shared.clock.now().after(LEASE).as_micros();
                let changed = transaction
                    .prepare_cached(sql)
                    .and_then(|mut statement| {
                        statement.execute(params![tenant.as_str(), run.to_string(), token, until, shared.process])
                    })
                    .map_err(|error| sqlite_error("holding a run", &error))?;
                if changed == 0 {
                    return Err(StoreError::new("holding a run", StoreErrorKind::NotOwner { run }));
                }
                Ok(())
            })
            .await
    }
}
