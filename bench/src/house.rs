//! A yard in a folder of its own, and the jobs that are measured in it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use opyard_server::model::event::{RunEvent, RunStatus};
use opyard_server::model::id::RunId;
use opyard_server::model::plan::{Launch, Plan};
use opyard_server::{LaunchOptions, Project, Yard, YardSettings};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::meter::{Meter, Spent};

/// Steps of the graph that chains are made of.
const LINKS: usize = 100;

/// The component whose ops are measured.
pub(crate) fn probe() -> Result<PathBuf> {
    let path = guest("probe");
    path.canonicalize().with_context(|| format!("{}: `cargo xtask guests` makes it", path.display()))
}

/// A component of an op that does nothing, in Python; none where it could not be made.
pub(crate) fn python_probe() -> Option<PathBuf> {
    guest("pyprobe").canonicalize().ok()
}

pub(crate) fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests").join(name).with_extension("wasm")
}

/// A folder beside this program, on the disk that it was built on: a folder for temporary files may be in memory.
pub(crate) fn folder() -> Result<TempDir> {
    let here = std::env::current_exe()?;
    Ok(tempfile::tempdir_in(here.parent().context("this program is nowhere")?)?)
}

/// Definitions with one job, `work`, that has these steps.
pub(crate) fn definitions(graphs: &str, steps: &str) -> Result<String> {
    let probe = probe()?;
    Ok(format!(
        "opyard: 1\ncomponents:\n  probe: {{ path: \"{}\" }}\n{graphs}jobs:\n  work:\n    steps:\n{steps}",
        probe.display()
    ))
}

/// A chain of so many steps, each of which adds one to what the one before gave, from `start` on. Steps of two chains whose
/// numbers do not meet are not the same to the memo.
pub(crate) fn chain(steps: usize, start: usize) -> Result<String> {
    let mut graph = "graphs:\n  links:\n    inputs: { value: }\n    steps:\n".to_owned();
    let mut job = String::new();
    for link in 0..LINKS {
        let value = if link == 0 { "$value".to_owned() } else { format!("s{:02}", link - 1) };
        writeln!(graph, "      s{link:02}: {{ op: probe.next, inputs: {{ value: {value} }} }}")?;
    }
    writeln!(graph, "    outputs: {{ value: s{} }}", LINKS - 1)?;
    for part in 0..steps / LINKS {
        let value = if part == 0 { format!("{{ value: {start} }}") } else { format!("g{}", part - 1) };
        writeln!(job, "      g{part}: {{ graph: links, inputs: {{ value: {value} }} }}")?;
    }
    definitions(&graph, &job)
}

/// The same chain without graphs: a step a line.
pub(crate) fn flat_chain(steps: usize, start: usize) -> Result<String> {
    let mut job = String::new();
    for step in 0..steps {
        let value = if step == 0 { format!("{{ value: {start} }}") } else { format!("s{}", step - 1) };
        writeln!(job, "      s{step}: {{ op: probe.next, inputs: {{ value: {value} }} }}")?;
    }
    definitions("", &job)
}

/// A step that yields so many items, and one that is mapped over them.
pub(crate) fn fan(items: usize) -> Result<String> {
    let producer = format!("      fan: {{ op: probe.fan, config: {{ items: {items} }} }}\n");
    definitions("", &format!("{producer}      item: {{ op: probe.item, inputs: {{ value: fan }} }}\n"))
}

/// A yard.
pub(crate) struct House {
    folder: TempDir,
    pub(crate) yard: Yard,
}

/// A run that ended well.
pub(crate) struct Ran {
    pub(crate) run: RunId,
    /// From being recorded to its end being on disk.
    pub(crate) spent: Spent,
}

impl House {
    /// An empty yard. `at_once` steps of a run run at a time; none = as many as usual.
    pub(crate) fn new(at_once: Option<usize>) -> Result<Self> {
        let folder = folder()?;
        let settings = YardSettings { max_concurrent_steps: at_once, ..YardSettings::new(folder.path().join("yard")) };
        Ok(Self { yard: Yard::open(&settings)?, folder })
    }

    /// Reads definitions and plans their job `work`.
    pub(crate) async fn plan(&self, definitions: &str) -> Result<Arc<Plan>> {
        let path = self.folder.path().join("opyard.yaml");
        std::fs::write(&path, definitions)?;
        let project = Project::load(&self.yard, &path).await?;
        let launch = Launch { job: "work", environment: None, settings: &[] };
        Ok(Arc::new(project.plan(&self.yard, &launch).await?.plan))
    }

    /// Runs a plan to its end, and measures from when it is recorded.
    pub(crate) async fn run(&self, plan: &Arc<Plan>, use_memo: bool) -> Result<Ran> {
        let options = LaunchOptions { use_memo, ..LaunchOptions::default() };
        let run = self.yard.launch(Arc::clone(plan), options).await?.run;
        // On a thread of the runtime, as the command line does it.
        let (mut driving, yard) = (JoinSet::new(), self.yard.clone());
        let meter = Meter::start();
        driving.spawn(async move { yard.drive(run, Box::pin(std::future::pending())).await });
        let end = driving.join_next().await.context("nothing was driven")???;
        let spent = meter.stop();
        ensure!(end.status == RunStatus::Success, "a run ended with {end:?}");
        Ok(Ran { run, spent })
    }

    /// The bytes of the payloads of a run's events, and of the artifacts that they name.
    pub(crate) async fn bytes_of(&self, run: RunId) -> Result<usize> {
        let events = self.yard.events(run).await?;
        let size = |event: &RunEvent| match event {
            RunEvent::StepOutput { output, .. } => usize::try_from(output.value.artifact.size).unwrap_or(0),
            _ => 0,
        };
        Ok(events.iter().map(|recorded| recorded.event.payload().len() + size(&recorded.event)).sum())
    }
}
