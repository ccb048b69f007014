//! From a plan to a run that nothing can lose.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::event::RunEvent;
use opyard_model::id::RunId;
use opyard_model::plan::{MAX_PLAN, Plan, Source};
use opyard_model::value::ArtifactRef;
use opyard_store::artifact::{ArtifactStore, MAX_PACKED, read_whole};
use opyard_store::crash::{self, CrashPoint};
use opyard_store::error::{StoreError, StoreErrorKind};

use crate::drive::Engine;
use crate::error::EngineError;
use crate::plans;

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
    /// The run that it goes on from, if it is a re-run.
    pub lineage: Option<Lineage>,
}

/// Where a re-run comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// The run that it goes on from.
    pub parent: RunId,
    /// The first run of the line: one that is no re-run.
    pub root: RunId,
}

impl Engine {
    /// Stores the plan and the literals in it, and appends the run's first event. The run is acknowledged, and survives
    /// anything, once this returns.
    ///
    /// # Errors
    /// When the store fails. The run may be there or not.
    pub async fn enqueue(&self, launch: Launch) -> Result<(), EngineError> {
        let artifacts = self.artifacts.as_ref();
        let mut given = Vec::new();
        for value in given_values(&launch.plan) {
            given.push(value.digest);
            if let Some(text) = value.text {
                store(artifacts, text).await?;
            }
        }
        // What the definitions name by digest has to be there, and nobody else may need it.
        if !given.is_empty() {
            artifacts.keep(&given).await?;
        }
        let plan = plans::store(artifacts, launch.run, &launch.plan).await?;
        self.plans.note(plan.digest, &launch.plan);
        let event = RunEvent::RunEnqueued {
            job: launch.plan.job.clone(),
            environment: launch.plan.environment.clone(),
            plan,
            steps: u32::try_from(launch.plan.steps.len()).unwrap_or(u32::MAX),
            tags: launch.plan.tags.iter().chain(&launch.tags).map(|(k, v)| (k.clone(), v.clone())).collect(),
            use_memo: launch.use_memo,
            parent: launch.lineage.map(|lineage| lineage.parent),
            root: launch.lineage.map(|lineage| lineage.root),
        };
        let accepted = self.events.append(launch.run, 0, vec![(self.clock.now(), event)]).await?;
        accepted.durable.wait().await?;
        crash::point(CrashPoint::RunRecorded);
        self.keep_given(&launch.plan, &given).await?;
        Ok(())
    }

    /// From its first event on a run holds what its plan names; a clean-up that began before may have removed it at the
    /// last moment.
    async fn keep_given(&self, plan: &Plan, given: &[Digest]) -> Result<(), StoreError> {
        let artifacts = self.artifacts.as_ref();
        while !given.is_empty() {
            let missing = match artifacts.keep(given).await {
                Err(StoreError { kind: StoreErrorKind::Missing(digest), context }) => (digest, context),
                kept => return kept,
            };
            let text = given_values(plan).find(|value| value.digest == missing.0).and_then(|value| value.text);
            match text {
                Some(text) => store(artifacts, text).await?,
                None => return Err(StoreError::new(missing.1, StoreErrorKind::Missing(missing.0))),
            };
        }
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
        let read = read_whole(self.artifacts.as_ref(), plan.digest, MAX_PLAN).await;
        let json = read.map_err(|error| StoreError { context: format!("reading the plan of {run}"), ..error })?;
        let read = Arc::new(serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?);
        self.plans.note(plan.digest, &read);
        Ok((read, Arc::new(tags)))
    }
}

/// A value that a plan was given.
struct GivenValue {
    digest: Digest,
    /// Its bytes, of a literal.
    text: Option<Bytes>,
}

fn given_values(plan: &Plan) -> impl Iterator<Item = GivenValue> {
    plan.steps.iter().flat_map(|step| &step.inputs).filter_map(|input| match &input.source {
        Source::Given { value, text, .. } => {
            let text = text.as_ref().map(|text| Bytes::copy_from_slice(text.as_bytes()));
            Some(GivenValue { digest: value.artifact.digest, text })
        }
        _ => None,
    })
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
