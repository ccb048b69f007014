//! What planning wants to know of the yard, asked and answered in turns: planning is pure.

use std::cell::RefCell;
use std::collections::HashMap;

use opyard_model::digest::Digest;
use opyard_model::event::RunStatus;
use opyard_model::id::{ItemKey, Name, RunId, StepKey};
use opyard_model::plan::{LatestWanted, Stored};
use opyard_model::state::StepState;
use opyard_model::value::ValueRef;
use opyard_store::run::{RunFilter, RunSummary};

use crate::error::YardError;
use crate::yard::Yard;

/// What was answered so far, and what was asked in vain since.
#[derive(Default)]
pub(crate) struct Known {
    sizes: HashMap<Digest, Option<u64>>,
    latest: HashMap<LatestWanted, Option<(RunId, ValueRef)>>,
    asked: RefCell<Asked>,
}

#[derive(Default)]
struct Asked {
    sizes: Vec<Digest>,
    latest: Vec<LatestWanted>,
}

impl Stored for Known {
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.sizes.get(digest).copied().unwrap_or_else(|| {
            self.asked.borrow_mut().sizes.push(*digest);
            None
        })
    }

    fn latest(&self, wanted: &LatestWanted) -> Option<(RunId, ValueRef)> {
        self.latest.get(wanted).cloned().unwrap_or_else(|| {
            self.asked.borrow_mut().latest.push(wanted.clone());
            None
        })
    }
}

impl Known {
    /// Looks up what was asked in vain. False when that was nothing.
    pub(crate) async fn learn(&mut self, yard: &Yard) -> Result<bool, YardError> {
        let asked = self.asked.take();
        for digest in &asked.sizes {
            self.sizes.insert(*digest, yard.artifact_size(*digest).await?);
        }
        for wanted in &asked.latest {
            if !self.latest.contains_key(wanted) {
                self.latest.insert(wanted.clone(), yard.latest(wanted).await?);
            }
        }
        Ok(!(asked.sizes.is_empty() && asked.latest.is_empty()))
    }
}

impl Yard {
    /// What the last successful run of a job has on an output, in that run or in one that it went on from.
    async fn latest(&self, wanted: &LatestWanted) -> Result<Option<(RunId, ValueRef)>, YardError> {
        let Some(run) = self.last_success(&wanted.job).await? else { return Ok(None) };
        for earlier in self.line(&run).await? {
            let key = StepKey { path: wanted.step.clone(), mapping: ItemKey::NONE };
            let Some(id) = earlier.state.locate(&key) else { continue };
            let Some(instance) = earlier.state.instance(&id) else { continue };
            if !matches!(instance.state, StepState::Success { .. }) {
                return Ok(None);
            }
            let outputs = instance.yielded(&earlier.state.plan().step(id.step).outputs);
            let is_wanted = |port: &Name| wanted.output.as_ref().is_none_or(|output| output == port);
            let mut found =
                outputs.into_iter().filter(|one| is_wanted(&one.port) && one.value.mapping_key.is_no_item());
            let (Some(one), None) = (found.next(), found.next()) else { return Ok(None) };
            let is_there = self.artifact_size(one.value.artifact.digest).await?.is_some();
            return Ok(is_there.then_some((earlier.run, one.value)));
        }
        Ok(None)
    }

    /// The last run of a job that has succeeded.
    pub(crate) async fn last_success(&self, job: &Name) -> Result<Option<RunSummary>, YardError> {
        let filter =
            RunFilter { job: Some(job.clone()), status: vec![RunStatus::Success], limit: 1, ..RunFilter::default() };
        Ok(self.tenant_store().runs(filter).await?.into_iter().next())
    }
}
