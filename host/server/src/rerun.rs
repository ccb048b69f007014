//! Going on from earlier runs: what is to run again, and which results are taken from where.

use std::collections::HashSet;

use opyard_engine::Lineage;
use opyard_model::definitions::Setting;
use opyard_model::digest::Digest;
use opyard_model::error::Code;
use opyard_model::id::Name;
use opyard_model::plan::{Earlier, EarlierRun, Launch, Plan, Scope};
use opyard_model::selection::Selection;
use opyard_store::error::StoreErrorKind;
use opyard_store::run::RunSummary;

use crate::error::YardError;
use crate::project::{PlannedJob, Project};
use crate::yard::Yard;

/// How many runs back results are looked for.
const MAX_LINE: usize = 100;

/// What of an earlier run is to run again.
#[derive(Debug, Clone)]
pub enum Again {
    /// What has not succeeded, and all that needs it.
    FromFailure,
    /// These steps, and all that needs them.
    From(Selection),
    /// These steps alone.
    Selected(Selection),
    /// Everything.
    All,
}

/// What is laid over what the earlier run was launched with.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Another environment.
    pub environment: Option<String>,
    /// More settings, over those of the earlier run.
    pub settings: Vec<Setting>,
}

/// A job that is planned to go on from an earlier run.
#[derive(Debug)]
pub struct PlannedRerun {
    /// What would run.
    pub planned: PlannedJob,
    /// Where it comes from.
    pub lineage: Lineage,
}

impl Yard {
    /// Plans to go on from `parent` with the definitions as they are now.
    ///
    /// # Errors
    /// When `parent` has not ended, nothing is to run, a result that is needed is not there any more, or something is wrong
    /// with the job.
    pub async fn plan_rerun(
        &self,
        project: &Project,
        parent: &RunSummary,
        again: &Again,
        changes: Changes,
    ) -> Result<PlannedRerun, YardError> {
        if !parent.status.is_final() {
            let text = format!("{} has not ended: it is {}", parent.run, parent.status.name());
            return Err(YardError::new(Code::BadCall, text));
        }
        let (old, _) = self.state(parent.run).await?;
        let line = self.line(parent).await?;
        let mut settings: Vec<Setting> = old.settings.iter().map(Setting::of_run).collect();
        settings.extend(changes.settings);
        let environment = changes.environment.or_else(|| old.environment.as_ref().map(Name::to_string));
        let launch = Launch { job: old.job.as_str(), environment: environment.as_deref(), settings: &settings };
        let PlannedJob { plan, warnings } = project.plan(self, &launch).await?;
        let scope = match again {
            Again::FromFailure => Scope::Unsuccessful,
            Again::From(selection) => Scope::From(selection.resolve(&plan)?),
            Again::Selected(selection) => Scope::Only(selection.resolve(&plan)?),
            Again::All => Scope::All,
        };
        let plan = self.after(plan, &line, scope).await?;
        let lineage = Lineage { parent: parent.run, root: parent.root.unwrap_or(parent.run) };
        Ok(PlannedRerun { planned: PlannedJob { plan, warnings }, lineage })
    }

    /// The part of `plan` that is selected; what else it needs is taken from the job's latest successful run.
    ///
    /// # Errors
    /// When the selection matches nothing, or a result that is needed is nowhere.
    pub async fn select(&self, plan: Plan, selection: &Selection) -> Result<Plan, YardError> {
        let scope = Scope::Only(selection.resolve(&plan)?);
        let line = match self.last_success(&plan.job).await? {
            Some(latest) => self.line(&latest).await?,
            None => Vec::new(),
        };
        self.after(plan, &line, scope).await
    }

    async fn after(&self, plan: Plan, line: &[EarlierRun], scope: Scope) -> Result<Plan, YardError> {
        let gone = self.gone(line).await?;
        Ok(plan.after(Earlier { runs: line, gone: &|digest| gone.contains(digest) }, scope)?)
    }

    /// A run, the run that it went on from, and so on.
    pub(crate) async fn line(&self, newest: &RunSummary) -> Result<Vec<EarlierRun>, YardError> {
        let mut line: Vec<EarlierRun> = Vec::new();
        let mut next = Some(newest.clone());
        while let Some(summary) = next.filter(|_| line.len() < MAX_LINE) {
            let (_, state) = self.state(summary.run).await?;
            line.push(EarlierRun { run: summary.run, state });
            next = match summary.parent {
                // A parent that was removed since has nothing to give.
                Some(parent) => self.tenant_store().run(parent).await?,
                None => None,
            };
        }
        Ok(line)
    }

    /// The artifacts of some runs that are not in the store any more.
    async fn gone(&self, line: &[EarlierRun]) -> Result<HashSet<Digest>, YardError> {
        let artifacts = self.tenant_store().artifacts();
        let (mut seen, mut gone) = (HashSet::new(), HashSet::new());
        for run in line {
            let plan = run.state.plan();
            for (id, instance) in run.state.instances() {
                for output in instance.yielded(&plan.step(id.step).outputs) {
                    let digest = output.value.artifact.digest;
                    if !seen.insert(digest) {
                        continue;
                    }
                    match artifacts.get(digest).await {
                        Ok(_) => {}
                        Err(error) if matches!(error.kind, StoreErrorKind::Missing(_)) => {
                            gone.insert(digest);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(gone)
    }
}
