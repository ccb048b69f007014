//! One process, two tenants: one attacks, the other works.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use opyard_server::model::error::Code;
use opyard_server::model::event::{RunEvent, RunStatus};
use opyard_server::model::id::{RunId, TenantId};
use opyard_server::model::limits::{Limits, Usage};
use opyard_server::model::plan::{Launch, Plan};
use opyard_server::{Inspected, LaunchOptions, Project, Yard, YardError, YardSettings};
use opyard_tests::comes_true;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::cases::{Attack, Ends};

/// CPU time beyond its limit that a step may take: what a bulk operation over cold memory does before it can be stopped, and
/// what the step takes to be set up and taken down.
const BEYOND: Duration = Duration::from_millis(400);
/// Memory of the process that may stay after an attack, in bytes: code, caches, the allocator's own.
const STAYS: u64 = 32 << 20;

/// The folder of the whole checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What an attack has come to.
pub(crate) struct Seen {
    pub(crate) events: Vec<RunEvent>,
    /// Of the last try of each step.
    pub(crate) usages: Vec<Usage>,
    /// What the run has yielded, as its tenant sees it.
    pub(crate) outputs: usize,
}

impl Seen {
    /// The details of the limit `name` that was reached, if it was.
    pub(crate) fn limit(&self, name: &str) -> Option<&str> {
        self.events.iter().find_map(|event| match event {
            RunEvent::LimitReached { limit, detail, .. } if limit == name => Some(detail.as_str()),
            _ => None,
        })
    }
}

pub(crate) struct Ground {
    runtime: Runtime,
    folder: TempDir,
    stranger: Yard,
    victim: Yard,
    work: Arc<Plan>,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let yard = |tenant| {
            let settings = YardSettings::new(folder.path().join("yard"));
            Yard::open(&YardSettings { tenant: TenantId::new(tenant).unwrap(), ..settings }).unwrap()
        };
        let (stranger, victim, work) = runtime.block_on(async {
            let (stranger, victim) = (yard("stranger"), yard("victim"));
            let mut steps = "first: { op: probe.next, inputs: { value: { value: 1 } } }\n".to_owned();
            for step in 1..8 {
                let before = if step == 1 { "first".to_owned() } else { format!("s{}", step - 1) };
                steps += &format!("s{step}: {{ op: probe.next, inputs: {{ value: {before} }} }}\n");
            }
            let work = planned(&victim, folder.path(), "", &steps).await.unwrap();
            (stranger, victim, work)
        });
        Self { runtime, folder, stranger, victim, work }
    }

    /// Plays one attack, while the victim works, and looks at what is left.
    pub(crate) fn play(&self, case: &str, attack: Attack) {
        let before = resident();
        match attack {
            Attack::Elsewhere(_) | Attack::Open(_) => return,
            Attack::Refused { component, codes, words } => self.refuse(case, &component, (codes, words)),
            Attack::Runs { component, steps, ends, check } => {
                std::fs::write(self.folder.path().join("case.wasm"), component).unwrap();
                let seen = self.runtime.block_on(self.run(case, &steps, ends));
                assert!(check(&seen), "{case}: {:#?}", seen.events);
            }
        }
        assert!(comes_true(|| resident() <= before + STAYS), "{case}: its memory is not given back");
    }

    fn refuse(&self, case: &str, component: &[u8], (codes, words): (&[Code], &str)) {
        let victim = {
            let _on = self.runtime.enter();
            self.victim_works()
        };
        let failure = match self.inspect(component) {
            Err(YardError::Failed(failure)) => failure,
            other => panic!("{case}: expected a refusal: {:?}", other.map(|_| "it was taken")),
        };
        assert!(codes.contains(&failure.code), "{case}: {failure:?}");
        assert!(failure.description.contains(words), "{case}: {failure:?}");
        self.runtime.block_on(victim);
    }

    /// What comes of looking at a component.
    pub(crate) fn inspect(&self, component: &[u8]) -> Result<Inspected, YardError> {
        let file = self.folder.path().join("looked_at.wasm");
        std::fs::write(&file, component).unwrap();
        self.runtime.block_on(self.stranger.inspect(&file))
    }

    async fn run(&self, case: &str, steps: &str, ends: Ends) -> Seen {
        let plan = planned(&self.stranger, self.folder.path(), "case: { path: case.wasm }", steps).await;
        let plan = plan.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        let victim = self.victim_works();
        let run = driven(&self.stranger, &plan).await;
        victim.await;
        let events = self.stranger.events(run).await.unwrap();
        let (_, state) = self.stranger.state(run).await.unwrap();
        state.audit().unwrap_or_else(|wrong| panic!("{case}: {wrong}"));
        let over = |event: &RunEvent| RunStatus::after(event).is_some_and(RunStatus::is_final);
        assert_eq!(events.iter().filter(|one| over(&one.event)).count(), 1, "{case}");
        let limits: Vec<Limits> = plan.steps.iter().map(|step| Limits::clone(&step.limits)).collect();
        let (mut failures, mut usages, mut ended) = (Vec::new(), Vec::new(), 0);
        for recorded in &events {
            match &recorded.event {
                RunEvent::StepFailure { failure, usage, .. } => {
                    failures.push(failure.clone());
                    usages.push(*usage);
                }
                RunEvent::StepSuccess { usage, .. } => usages.push(*usage),
                RunEvent::StepSkipped { .. } => {}
                _ => continue,
            }
            ended += 1;
        }
        assert_eq!(ended, state.instances().count(), "{case}: a step has not ended, or more than once");
        for usage in &usages {
            let most = limits.iter().map(|limits| limits.cpu).max().unwrap_or_default();
            assert!(usage.cpu <= most + BEYOND, "{case}: {usage:?}");
            assert!(limits.iter().any(|limits| usage.peak_memory <= limits.memory.0), "{case}: {usage:?}");
        }
        let well = failures.is_empty() && state.status() == Some(RunStatus::Success);
        let all_in = |codes: &[Code]| !well && failures.iter().all(|failure| codes.contains(&failure.code));
        let as_expected = match ends {
            Ends::Well => well,
            Ends::With(codes) => all_in(codes),
            Ends::WellOrWith(code) => well || all_in(&[code]),
        };
        assert!(as_expected, "{case}: {failures:#?}");
        let outputs = self.stranger.outputs(run).await.unwrap().len();
        Seen { events: events.into_iter().map(|recorded| recorded.event).collect(), usages, outputs }
    }

    /// The other tenant's job, on its way; all of it succeeds.
    fn victim_works(&self) -> impl Future<Output = ()> + use<> {
        let (yard, work) = (self.victim.clone(), Arc::clone(&self.work));
        let mut working = JoinSet::new();
        working.spawn(async move {
            let run = driven(&yard, &work).await;
            let summary = yard.summary(run).await.unwrap();
            assert_eq!(summary.status, RunStatus::Success, "the neighbour was harmed");
        });
        async move { working.join_next().await.unwrap().unwrap() }
    }

    /// What is left of the yard is well.
    pub(crate) fn leave(self) {
        self.runtime.block_on(async {
            for found in self.stranger.health().await {
                assert!(found.well, "{found:?}");
            }
            self.stranger.close().await;
            self.victim.close().await;
        });
    }
}

async fn driven(yard: &Yard, plan: &Arc<Plan>) -> RunId {
    let options = LaunchOptions { use_memo: false, ..LaunchOptions::default() };
    let run = yard.launch(Arc::clone(plan), options).await.unwrap().run;
    yard.drive(run, Box::pin(std::future::pending())).await.unwrap();
    run
}

/// Plans a job of these steps.
async fn planned(yard: &Yard, folder: &Path, components: &str, steps: &str) -> Result<Arc<Plan>, YardError> {
    let probe = root().join("target/guests/probe.wasm");
    assert!(probe.is_file(), "{} is missing: run `cargo xtask guests` first", probe.display());
    let steps: String = steps.lines().map(|line| format!("      {}\n", line.trim())).collect();
    let path = folder.join("opyard.yaml");
    let text = format!(
        "opyard: 1\ncomponents:\n  probe: {{ path: \"{}\" }}\n  {components}\njobs:\n  work:\n    steps:\n{steps}",
        probe.display()
    );
    std::fs::write(&path, text).unwrap();
    let project = Project::load(yard, &path).await?;
    let launch = Launch { job: "work", environment: None, settings: &[] };
    Ok(Arc::new(project.plan(yard, &launch).await?.plan))
}

/// Memory of this process that is in use now, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}
