//! From definitions to a plan: what is asked, and the order of the work.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Deserializer};

use super::flatten::Builder;
use super::{BaseType, IoManagerSpec, LatestWanted, Plan, ResourceSpec, Step, TypeCheck};
use crate::component::{ComponentDescription, TypeName};
use crate::definitions::{Definitions, Environment, IoManagerDefinition, Job, Named, Setting};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::digest::{ComponentDigest, Digest};
use crate::error::Code;
use crate::hook::{Hook, HookIx};
use crate::id::{Name, RunId};
use crate::limits::Limits;
use crate::secret::SecretSpec;
use crate::supply::Origin;
use crate::value::ValueRef;

/// Most steps of one plan, graphs flattened.
pub const MAX_STEPS: usize = 100_000;

/// What the components of some definitions say of themselves, by their names there.
#[derive(Debug, Clone, Default)]
pub struct Catalog(BTreeMap<Name, ComponentDescription>);

impl Catalog {
    /// What component `name` says of itself.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ComponentDescription> {
        self.0.get(name)
    }

    /// All components, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &ComponentDescription)> {
        self.0.iter()
    }

    /// Where those came from that are not files.
    fn origins(&self) -> BTreeMap<ComponentDigest, Origin> {
        let known = self.0.values().filter_map(|component| Some((component.digest, component.origin.clone()?)));
        known.collect()
    }

    /// Adds a component.
    pub fn insert(&mut self, name: Name, description: ComponentDescription) {
        self.0.insert(name, description);
    }
}

impl FromIterator<(Name, ComponentDescription)> for Catalog {
    fn from_iter<I: IntoIterator<Item = (Name, ComponentDescription)>>(components: I) -> Self {
        Self(components.into_iter().collect())
    }
}

/// Knows what the tenant for whom is planned has stored.
pub trait Stored {
    /// How many bytes the artifact has; none when the tenant has no such artifact. An `{ artifact: … }` names bytes, a plan
    /// also their size.
    fn size(&self, digest: &Digest) -> Option<u64>;

    /// What the last successful run of a job yielded; none when no run has succeeded, or that one yielded no such value.
    fn latest(&self, wanted: &LatestWanted) -> Option<(RunId, ValueRef)>;
}

/// Artifacts whose sizes a function knows, where no job has ever run.
pub struct WithoutRuns<F>(pub F);

impl<F: Fn(&Digest) -> Option<u64>> Stored for WithoutRuns<F> {
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.0(digest)
    }

    fn latest(&self, _: &LatestWanted) -> Option<(RunId, ValueRef)> {
        None
    }
}

/// What planning has to know beyond the definitions.
#[derive(Clone, Copy)]
pub struct Planning<'a> {
    /// The ops.
    pub catalog: &'a Catalog,
    /// Artifacts and results.
    pub stored: &'a dyn Stored,
    /// A `{ latest: … }` of which there is none yet is a mistake: the plan is to be run. Otherwise it is a warning.
    pub needs_latest: bool,
    /// Limits of a step for which the definitions give none. At most the ceiling.
    pub defaults: &'a Limits,
    /// What no step of the tenant may go beyond.
    pub ceiling: &'a Limits,
}

/// What is to be run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The job.
    pub job: &'a str,
    /// The environment, if one was chosen.
    pub environment: Option<&'a str>,
    /// Configs laid over those of the definitions, in order.
    pub settings: &'a [Setting],
}

/// The same steps in less memory: there are many, and a plan stays as long as its run. Those of one op share what is the same.
fn packed(mut steps: Vec<Step>) -> Vec<Step> {
    fn share<T: Clone + PartialEq>(own: &mut T, other: &T) {
        if *own == *other {
            *own = other.clone();
        }
    }
    steps.shrink_to_fit();
    let mut of_op: HashMap<(ComponentDigest, Name), usize> = HashMap::new();
    for at in 0..steps.len() {
        let (before, rest) = steps.split_at_mut(at);
        let step = &mut rest[0];
        let Some(other) = of_op.insert((step.component, step.op.clone()), at).map(|other| &before[other]) else {
            continue;
        };
        share(&mut step.component_name, &other.component_name);
        share(&mut step.op, &other.op);
        share(&mut step.config, &other.config);
        share(&mut step.outputs, &other.outputs);
        share(&mut step.limits, &other.limits);
    }
    steps
}

pub(super) fn read_steps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
    Vec::deserialize(deserializer).map(packed)
}

impl Plan {
    /// Checks one job against its ops, and wires it. Answers with the plan and with warnings.
    ///
    /// # Errors
    /// All that is wrong with the job, each with its place.
    ///
    /// # Hostile guests
    /// Descriptions are guest-controlled: config schemas are bounded in what they may cost, default values are data.
    pub fn build(
        definitions: &Definitions,
        launch: &Launch<'_>,
        planning: &Planning<'_>,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        let (job, environment) = named(definitions, launch)?;
        let mut found = Diagnostics::default();
        let surroundings = Surroundings { definitions, environment: environment.map(|entry| &entry.value) };
        let mut builder = Builder::new(surroundings, planning, &job.value, launch.settings);
        builder.job();
        let (built, builder_found) = builder.finish();
        found.append(builder_found);
        let plan = Self {
            job: job.name.clone(),
            environment: environment.map(|entry| entry.name.clone()),
            tags: job.value.tags.clone(),
            steps: packed(built.steps),
            resources: built.resources,
            secrets: built.secrets,
            io_managers: built.io_managers,
            types: built.types,
            hooks: built.hooks,
            job_hooks: built.job_hooks,
            on_failure: job.value.policy.on_failure,
            policy: job.value.policy.run.clone(),
            pools: built.pools,
            run_queue: definitions.run_queue.clone(),
            settings: launch.settings.iter().filter_map(Setting::recorded).collect(),
            origins: planning.catalog.origins(),
            reuse: Vec::new(),
        };
        found.or(Some(plan))
    }
}

/// The job and the environment of a launch.
///
/// # Errors
/// When there is none of that name.
pub(super) fn named<'a>(
    definitions: &'a Definitions,
    launch: &Launch<'_>,
) -> Result<(&'a Named<Job>, Option<&'a Named<Environment>>), Diagnostics> {
    let mut found = Diagnostics::default();
    let job = definitions.jobs.get(launch.job);
    if job.is_none() {
        let file = definitions.source.name();
        let problem = Diagnostic::error(Code::UnknownJob, format!("there is no job `{}` in {file}", launch.job));
        found.push(problem.nearest(launch.job, definitions.jobs.names()));
    }
    let environment = launch.environment.and_then(|name| {
        let environment = definitions.environments.get(name);
        if environment.is_none() {
            let file = definitions.source.name();
            let mut text = format!("there is no environment `{name}` in {file}");
            if definitions.environments.names().next().is_none() {
                text.push_str(", which has none");
            }
            let problem = Diagnostic::error(Code::UnknownEnvironment, text);
            found.push(problem.nearest(name, definitions.environments.names()));
        }
        environment
    });
    match job {
        Some(job) if found.is_empty() => Ok((job, environment)),
        _ => Err(found),
    }
}

impl Definitions {
    /// Checks every job against its ops, and every grant. Answers with warnings.
    ///
    /// # Errors
    /// All that is wrong, each with its place.
    pub fn check(&self, planning: &Planning<'_>) -> Result<Diagnostics, Diagnostics> {
        let mut found = super::bind::check_grants(self, planning.catalog);
        for (job, _) in self.jobs() {
            let launch = Launch { job: job.as_str(), environment: None, settings: &[] };
            match Plan::build(self, &launch, planning) {
                Ok((_, warnings)) => found.append(warnings),
                Err(errors) => found.append(errors),
            }
        }
        self.note_idle_checks(planning.catalog, &mut found);
        found.or(Some(())).map(|((), warnings)| warnings)
    }

    /// Notes types with a check that nothing is of: most likely a slip, and then values go unchecked.
    fn note_idle_checks(&self, catalog: &Catalog, found: &mut Diagnostics) {
        let used: BTreeSet<_> = self.types_in_use(catalog.iter().map(|(_, component)| component)).collect();
        let idle = |name: &Name| !used.contains(name);
        for entry in self.types.iter().filter(|entry| entry.value.check.is_some() && idle(&entry.name)) {
            let message = format!("nothing is of the type `{}`, so that its check is never made", entry.name);
            let names = used.iter().map(|name| name.as_str()).filter(|name| BaseType::from_name(name).is_none());
            found.push(
                Diagnostic::warning(Code::PointlessPolicy, message)
                    .at(&entry.place, "no port of an op, and no step's `types`, names it")
                    .nearest(entry.name.as_str(), names),
            );
        }
    }
}

/// The definitions as an environment sees them.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) definitions: &'a Definitions,
    pub(super) environment: Option<&'a Environment>,
}

impl<'a> Surroundings<'a> {
    pub(super) fn resource(&self, name: &str) -> Option<&'a ResourceSpec> {
        let own = self.environment.and_then(|environment| environment.resources.get(name));
        own.or_else(|| self.definitions.resources.get(name)).map(|entry| &entry.value)
    }

    pub(super) fn io_manager(&self, name: &str) -> Option<&'a IoManagerDefinition> {
        let own = self.environment.and_then(|environment| environment.io_managers.get(name));
        own.or_else(|| self.definitions.io_managers.get(name)).map(|entry| &entry.value)
    }
}

/// What building makes.
#[derive(Default)]
pub(super) struct Built {
    pub(super) steps: Vec<super::Step>,
    pub(super) resources: BTreeMap<Name, ResourceSpec>,
    pub(super) secrets: BTreeMap<Name, SecretSpec>,
    pub(super) io_managers: BTreeMap<Name, IoManagerSpec>,
    pub(super) types: BTreeMap<TypeName, TypeCheck>,
    pub(super) pools: BTreeMap<Name, u32>,
    pub(super) hooks: Vec<Hook>,
    pub(super) job_hooks: Vec<HookIx>,
}
