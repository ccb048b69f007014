//! From a plan to a run that nothing can lose.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use opyard_model::event::RunEvent;
use opyard_model::id::RunId;
use opyard_model::plan::{Plan, Source};
use opyard_model::value::ArtifactRef;
use opyard_store::artifact::{ArtifactStore, MAX_PACKED};
use opyard_store::error::{StoreError, StoreErrorKind};

use crate::drive::Engine;
use crate::error::EngineError;

/// A run to be.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its id, never used before.
    pub run: RunId,
    /// What it runs.
    pub plan: Arc<Plan>,
    /// Tags of this run, beside those of the plan.
    pub tags: BTreeMap<String, String>,
    /// False: every step runs, whatever the memo has.
    pub use_memo: bool,
}

/// Largest plan, as JSON: 256 MiB.
const MAX_PLAN: u64 = 256 << 20;

impl Engine {
    /// Stores the plan and the literals in it, and appends the run's first event. The run is acknowledged, and survives
    /// anything, once this returns.
    ///
    /// # Errors
    /// When the store fails. The run may be there or not.
    pub async fn enqueue(&self, launch: Launch) -> Result<(), EngineError> {
        let artifacts = self.artifacts.as_ref();
        for step in &launch.plan.steps {
            for input in &step.inputs {
                if let Source::Given { text: Some(text), .. } = &input.source {
                    store(artifacts, Bytes::from(text.clone().into_bytes())).await?;
                }
            }
        }
        let json = serde_json::to_vec(launch.plan.as_ref())
            .map_err(|error| EngineError::Plan { run: launch.run, reason: error.to_string() })?;
        if json.len() as u64 > MAX_PLAN {
            let kind = StoreErrorKind::TooLarge(format!("a plan of {} bytes", json.len()));
            return Err(StoreError::new("storing the plan", kind).into());
        }
        let plan = store(artifacts, Bytes::from(json)).await?;
        self.plans.note(plan.digest, &launch.plan);
        let event = RunEvent::RunEnqueued {
            job: launch.plan.job.clone(),
            environment: launch.plan.environment.clone(),
            plan,
            steps: u32::try_from(launch.plan.steps.len()).unwrap_or(u32::MAX),
            tags: launch.plan.tags.iter().chain(&launch.tags).map(|(k, v)| (k.clone(), v.clone())).collect(),
            use_memo: launch.use_memo,
        };
        let accepted = self.events.append(launch.run, 0, vec![(self.clock.now(), event)]).await?;
        accepted.durable.wait().await?;
        Ok(())
    }

    /// Reads the plan that a run was enqueued with.
    pub(crate) async fn plan_of(&self, run: RunId) -> Result<Arc<Plan>, EngineError> {
        Ok(self.enqueued(run).await?.0)
    }

    /// Reads the plan that a run was enqueued with, and the run's tags.
    pub(crate) async fn enqueued(&self, run: RunId) -> Result<(Arc<Plan>, Arc<BTreeMap<String, String>>), EngineError> {
        let first = self.events.read(run, 0, 1).await?.into_iter().next().map(|recorded| recorded.event);
        let Some(RunEvent::RunEnqueued { plan, tags, .. }) = first else {
            return Err(EngineError::UnknownRun(run));
        };
        if let Some(plan) = self.plans.find(plan.digest) {
            return Ok((plan, Arc::new(tags)));
        }
        let wrong = |reason: String| EngineError::Plan { run, reason };
        if plan.size > MAX_PLAN {
            return Err(wrong(format!("it has {} bytes", plan.size)));
        }
        let mut reader = self.artifacts.get(plan.digest).await?;
        let mut json = Vec::new();
        loop {
            let chunk = reader.read_at(json.len() as u64, 1 << 20).await?;
            if chunk.is_empty() {
                break;
            }
            json.extend_from_slice(&chunk);
        }
        let read = Arc::new(serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?);
        self.plans.note(plan.digest, &read);
        Ok((read, Arc::new(tags)))
    }
}

async fn store(artifacts: &dyn ArtifactStore, bytes: Bytes) -> Result<ArtifactRef, StoreError> {
    if bytes.len() <= MAX_PACKED {
        return Ok(artifacts.put(bytes).await?.artifact);
    }
    let mut writer = artifacts.begin().await?;
    let mut rest = bytes;
    while !rest.is_empty() {
        writer.write(rest.split_to(rest.len().min(1 << 20))).await?;
    }
    Ok(writer.finish().await?.artifact)
}
