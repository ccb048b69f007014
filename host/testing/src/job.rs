//! A job of a definitions file, run on memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use opyard_engine::{Engine, EngineSettings, Launch as Enqueue, Parts};
use opyard_model::definitions::{ComponentPlace, Definitions, Setting};
use opyard_model::diagnostic::{Diagnostics, nearest};
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::event::{Recorded, RunEvent, RunStatus};
use opyard_model::id::{Name, RunId};
use opyard_model::limits::Limits;
use opyard_model::plan::{Catalog, IoManagerSpec, Launch, Plan, Planning, WithoutRuns};
use opyard_model::value::Yielded;
use opyard_server::{SystemClock, YardError};
use opyard_store::artifact::read_whole;
use serde_json::Value;

use crate::bench::{Bench, Compiling, Repeatable};
use crate::fakes::{Fake, Filled, fill};

/// Steps that run at a time.
const AT_ONCE: usize = 4;
/// Events that are read at a time.
const PAGE: usize = 1_000;
/// Largest output that is read.
const MAX_OUTPUT: u64 = 256 << 20;

/// A job of a definitions file, to be run on memory with resources that stand in for the real ones.
pub struct JobTest {
    bench: Bench,
    definitions: Definitions,
    catalog: Catalog,
    job: String,
    environment: Option<String>,
    settings: Vec<Setting>,
    fakes: BTreeMap<String, Fake>,
}

impl JobTest {
    /// Reads the definitions file at `path`, and asks the components that it names what they ship.
    ///
    /// # Errors
    /// All that is wrong with the file and its components.
    pub async fn load(path: impl AsRef<Path>, job: &str) -> Result<Self, YardError> {
        let (source, path) = opyard_server::read_source(path.as_ref(), "definitions file")?;
        let definitions = Definitions::parse(&source, path.parent().unwrap_or(&path))?;
        let bench = Bench::new(Compiling::default())?;
        let problem =
            |name: &str, failure: &Failure| definitions.component_problem(name, failure.code, &failure.description);
        let mut files = Vec::new();
        for (name, place) in definitions.components() {
            match place {
                ComponentPlace::File(file) => files.push((name, file.as_path())),
                ComponentPlace::Oci(_) => {
                    let text = "there is no yard here that could keep it: name a file";
                    let mut problems = Diagnostics::default();
                    problems.push(definitions.component_problem(name.as_str(), Code::NotSupported, text));
                    return Err(problems.into());
                }
            }
        }
        let catalog = bench.catalog(files.into_iter(), problem).await?;
        let (job, fakes) = (job.to_owned(), BTreeMap::new());
        Ok(Self { bench, definitions, catalog, job, environment: None, settings: Vec::new(), fakes })
    }

    /// In this environment of the definitions.
    #[must_use]
    pub fn environment(mut self, name: &str) -> Self {
        self.environment = Some(name.to_owned());
        self
    }

    /// Sets a key of a step's config, as `opyard run --set` does: `step.key=value`.
    ///
    /// # Errors
    /// When it is no setting.
    pub fn set(mut self, setting: &str) -> Result<Self, YardError> {
        self.settings.push(Setting::parse(setting)?);
        Ok(self)
    }

    /// Says what stands in for a resource, or for a secret, by its name in the definitions.
    #[must_use]
    pub fn resource(mut self, name: &str, fake: Fake) -> Self {
        self.fakes.insert(name.to_owned(), fake);
        self
    }

    /// Runs the job to its end. Outputs stay in memory, whatever IO managers the definitions name.
    ///
    /// # Errors
    /// All that is wrong with the job; a resource or secret that it uses and nothing stands in for. That a step fails is
    /// in the answer.
    pub async fn run(&self) -> Result<JobRun<'_>, YardError> {
        let launch = Launch { job: &self.job, environment: self.environment.as_deref(), settings: &self.settings };
        let none = WithoutRuns(|_: &Digest| None);
        let planning = Planning {
            catalog: &self.catalog,
            stored: &none,
            needs_latest: true,
            defaults: &Limits::default(),
            ceiling: &Limits::ceiling(),
        };
        let (mut plan, _) = Plan::build(&self.definitions, &launch, &planning)?;
        let filled = self.fill(&mut plan).await?;
        plan.io_managers.values_mut().for_each(|manager| *manager = IoManagerSpec::Artifacts);
        let store = &self.bench.store;
        let parts = Parts {
            executor: Arc::new(Repeatable(Arc::clone(&self.bench.sandbox))),
            events: store.events(),
            artifacts: store.artifacts(),
            memos: store.memos(),
            pools: store.pools(),
            clock: Arc::new(SystemClock),
        };
        let settings = EngineSettings { max_concurrent_steps: AT_ONCE, wasmtime: opyard_server::WASMTIME.to_owned() };
        let engine = Engine::new(self.bench.tenant.clone(), parts, settings);
        let run = opyard_server::new_run_id()?;
        let (plan, tags) = (Arc::new(plan), BTreeMap::new());
        engine.enqueue(Enqueue { run, plan, tags, use_memo: true, lineage: None }).await?;
        let end = engine.drive(run, Box::pin(std::future::pending())).await?;
        let mut events: Vec<Recorded> = Vec::new();
        loop {
            let page = store.events().read(run, events.last().map_or(0, |last| last.seq), PAGE).await?;
            if page.is_empty() {
                return Ok(JobRun { test: self, run, status: end.status, events, filled });
            }
            events.extend(page);
        }
    }

    /// Puts what stands in into the place of every resource and secret of the plan.
    async fn fill(&self, plan: &mut Plan) -> Result<BTreeMap<Name, Filled>, YardError> {
        let known: Vec<_> = self.fakes.keys().map(String::as_str).collect();
        let missing = |what: &str, name: &Name| {
            let near = nearest(name.as_str(), &known).map(|near| format!("; there is one for `{near}`"));
            let text = format!("nothing stands in for the {what} `{name}` of the job `{}`", self.job);
            YardError::from(Failure::new(Code::NotGranted, text + &near.unwrap_or_default()))
        };
        let secrets: Vec<Name> = plan.secrets_needed().into_keys().cloned().collect();
        let mut filled = BTreeMap::new();
        self.bench.on_memory(plan);
        for (name, spec) in &plan.resources {
            let fake = self.fakes.get(name.as_str()).ok_or_else(|| missing("resource", name))?;
            if fake.kind() != spec.kind() {
                let text =
                    format!("what stands in for `{name}` is of kind {}, and it is a {}", fake.kind(), spec.kind());
                return Err(Failure::new(Code::ResourceKindMismatch, text).into());
            }
            filled.insert(name.clone(), fill(&self.bench, name, Some(spec), &fake.0).await?);
        }
        for name in secrets {
            let fake = self.fakes.get(name.as_str()).filter(|fake| fake.kind() == "secret");
            let fake = fake.ok_or_else(|| missing("secret", &name))?;
            fill(&self.bench, &name, None, &fake.0).await?;
        }
        Ok(filled)
    }
}

/// A run of a job in a test.
pub struct JobRun<'t> {
    test: &'t JobTest,
    run: RunId,
    /// How it ended.
    pub status: RunStatus,
    /// What happened, in order.
    pub events: Vec<Recorded>,
    filled: BTreeMap<Name, Filled>,
}

impl JobRun<'_> {
    /// Every step ended, none failed.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status == RunStatus::Success
    }

    /// The steps that failed, and why.
    #[must_use]
    pub fn failures(&self) -> Vec<(String, Failure)> {
        let failures = self.events.iter().filter_map(|recorded| match &recorded.event {
            RunEvent::StepFailure { of, failure, .. } => Some((of.step.to_string(), failure.clone())),
            _ => None,
        });
        failures.collect()
    }

    /// The step keys of which an event of this kind tells.
    #[must_use]
    pub fn steps(&self, kind: &str) -> Vec<String> {
        let of_kind = self.events.iter().filter(|recorded| recorded.event.kind() == kind);
        of_kind.filter_map(|recorded| recorded.event.step()).map(ToString::to_string).collect()
    }

    /// The bytes of an output: `step.output`, or `step[key].output` of a mapped step.
    ///
    /// # Errors
    /// When no step yielded it.
    pub async fn output(&self, name: &str) -> Result<Bytes, YardError> {
        let all = self.events.iter().flat_map(|recorded| match &recorded.event {
            RunEvent::StepOutput { of, output } => vec![(of.step.to_string(), output)],
            RunEvent::StepMemoized { step, outputs, .. } | RunEvent::StepReused { step, outputs, .. } => {
                outputs.iter().map(|output| (step.to_string(), output)).collect()
            }
            _ => Vec::new(),
        });
        let named = |(step, output): &(String, &Yielded)| format!("{step}.{}", output.port);
        let all: Vec<_> = all.collect();
        let Some((_, output)) = all.iter().rfind(|one| named(one) == name) else {
            let known: Vec<_> = all.iter().map(named).collect();
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            let near = nearest(name, &known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let text = format!("{} has no output `{name}`{near}", self.run);
            return Err(Failure::new(Code::UnknownOutput, text).into());
        };
        let artifacts = self.test.bench.store.artifacts();
        Ok(read_whole(artifacts.as_ref(), output.value.artifact.digest, MAX_OUTPUT).await?.into())
    }

    /// An output as JSON.
    ///
    /// # Errors
    /// When no step yielded it, or it is none.
    pub async fn json(&self, name: &str) -> Result<Value, YardError> {
        let bytes = self.output(name).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Code::ValueInvalid, format!("the output `{name}` is no JSON: {error}")).into()
        })
    }

    /// What is in a resource now, as JSON: objects by path, values by name, versions by model, or the requests that were
    /// made. Small values are shown whole, larger ones by size and digest.
    ///
    /// # Errors
    /// When nothing stands in for a resource of that name.
    pub async fn left_in(&self, name: &str) -> Result<Value, YardError> {
        let filled = self.filled.iter().find(|(one, _)| one.as_str() == name).map(|(_, filled)| filled);
        let unknown = || Failure::new(Code::UnknownResource, format!("the job uses no resource `{name}`"));
        let left = filled.ok_or_else(unknown)?.look().await;
        left.map(Option::unwrap_or_default).map_err(|error| {
            Failure::new(Code::ResourceUnavailable, format!("what is left in `{name}` cannot be read: {error}")).into()
        })
    }
}
