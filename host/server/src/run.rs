//! Launching runs, driving them to their end, and asking for their end.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use opyard_engine::{CancelRequest, Launch, Lineage, RunEnd};
use opyard_model::error::Code;
use opyard_model::id::RunId;
use opyard_model::plan::Plan;
use opyard_model::time::Clock as _;
use opyard_store::control::LEASE;
use opyard_store::error::{StoreError, StoreErrorKind};

use crate::clock::SystemClock;
use crate::error::YardError;
use crate::yard::Yard;

/// How a run is launched.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// Tags of the run.
    pub tags: BTreeMap<String, String>,
    /// False: every step runs, whatever the memo has.
    pub use_memo: bool,
    /// The run that it goes on from, if it is a re-run.
    pub lineage: Option<Lineage>,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self { tags: BTreeMap::new(), use_memo: true, lineage: None }
    }
}

/// A run that is recorded: nothing can lose it any more.
#[derive(Debug, Clone)]
pub struct Started {
    /// Its id.
    pub run: RunId,
}

impl Yard {
    /// Records a new run of `plan`. It runs when somebody [drives](Self::drive) it.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn launch(&self, plan: Arc<Plan>, options: LaunchOptions) -> Result<Started, YardError> {
        let run = new_run_id()?;
        let LaunchOptions { tags, use_memo, lineage } = options;
        self.engine().enqueue(Launch { run, plan, tags, use_memo, lineage }).await?;
        Ok(Started { run })
    }

    /// Drives a run to its end. `interrupt` resolves when whoever waits here wants it to end; requests by
    /// [`cancel`](Self::cancel), also of other processes, are followed too.
    ///
    /// # Errors
    /// When its events cannot be kept. The run can be driven again.
    pub async fn drive(&self, run: RunId, interrupt: CancelRequest) -> Result<RunEnd, YardError> {
        let mut requests = self.tenant_store().control().follow_requests(run);
        let cancel: CancelRequest = Box::pin(async move {
            let requested = async {
                match requests.next().await {
                    Some(Ok(request)) => request.reason,
                    // The store does not answer: the run's own appends say so.
                    Some(Err(_)) | None => std::future::pending().await,
                }
            };
            tokio::select! {
                reason = interrupt => reason,
                reason = requested => reason,
            }
        });
        tokio::select! {
            end = self.engine().drive(run, cancel) => Ok(end?),
            lost = self.hold(run) => Err(lost.into()),
        }
    }

    /// Takes over a run that nobody drives any more, to [drive](Self::drive) it.
    ///
    /// # Errors
    /// When another process drives it still, or there is no such run.
    pub async fn take_over(&self, run: RunId) -> Result<(), YardError> {
        self.tenant_store().control().claim_run(run).await?;
        Ok(())
    }

    /// Keeps the ownership of a run for as long as this is polled; ends when it is lost. A run that ends within a third
    /// of the lease that launching it began costs nothing.
    async fn hold(&self, run: RunId) -> StoreError {
        let mut lease = None;
        loop {
            tokio::time::sleep(LEASE / 3).await;
            let held = match &lease {
                None => self.tenant_store().control().claim_run(run).await.map(|new| lease = Some(new)),
                Some(held) => held.renew().await,
            };
            match held {
                Err(error) if matches!(error.kind, StoreErrorKind::NotOwner { .. }) => {
                    // Nobody owns a run that has ended: whoever drives it is about to hear of that.
                    if self.summary(run).await.is_ok_and(|summary| summary.status.is_final()) {
                        return std::future::pending().await;
                    }
                    return error;
                }
                // Anything else may pass; the run's own appends say when it does not.
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Asks for the end of a run, whoever drives it.
    ///
    /// # Errors
    /// When there is no such run, or it has ended.
    pub async fn cancel(&self, run: RunId, reason: &str) -> Result<(), YardError> {
        self.summary(run).await?;
        let status = self.tenant_store().control().request_cancel(run, reason).await?;
        if status.is_final() {
            let text = format!("{run} ended before: {}; there is nothing left to cancel", status.name());
            return Err(YardError::new(Code::RunEnded, text));
        }
        Ok(())
    }
}

/// An id that no run had before.
///
/// # Errors
/// When the system gives no randomness.
pub fn new_run_id() -> Result<RunId, YardError> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| YardError::new(Code::FileUnreadable, format!("the system gives no randomness: {error}")))?;
    let unix_ms = u64::try_from(SystemClock.now().as_millis()).unwrap_or(0);
    Ok(RunId::from_parts(unix_ms, u128::from_le_bytes(random)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opyard_model::event::RunEvent;
    use opyard_store::conformance::samples::{at, enqueued};

    use crate::YardSettings;

    /// A renewal that stood in line behind the end of its run.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_run_is_no_loss() {
        let folder = tempfile::tempdir().unwrap();
        let yard = Yard::open(&YardSettings::new(folder.path().join("yard"))).unwrap();
        let (tenant, run) = (yard.tenant_store(), new_run_id().unwrap());
        let plan = tenant.artifacts().put(b"{}".as_slice().into()).await.unwrap().artifact;
        tenant.events().append(run, 0, vec![(at(1), enqueued(plan, 0))]).await.unwrap().durable.wait().await.unwrap();
        let mut held = std::pin::pin!(yard.hold(run));
        // Long enough for it to be held and renewed.
        assert!(tokio::time::timeout(LEASE, held.as_mut()).await.is_err());
        let end = vec![(at(2), RunEvent::RunSuccess)];
        tenant.events().append(run, 1, end).await.unwrap().durable.wait().await.unwrap();
        assert!(tokio::time::timeout(LEASE, held.as_mut()).await.is_err(), "it was lost");
        yard.close().await;
    }
}
