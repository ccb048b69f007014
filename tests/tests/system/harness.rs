//! A folder of a test's own, the real binary, and the real components.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use opyard_server::model::event::{Recorded, RunEvent};
use opyard_server::model::id::RunId;
use opyard_server::store::run::RunFilter;
use opyard_server::{Yard, YardSettings};
use tempfile::TempDir;

/// The folder of the whole checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The file of an example component.
pub(crate) fn component(name: &str) -> PathBuf {
    let path = root().join("target/guests").join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing: run `cargo xtask guests` first", path.display());
    path
}

/// The folder that the binary is built into: that of this test's own binary.
pub(crate) fn binaries() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent().and_then(Path::parent).unwrap().to_owned()
}

/// A folder with a definitions file, and its yard.
pub(crate) struct Project {
    folder: TempDir,
}

impl Project {
    /// A folder with this text as `opyard.yaml`. `{{name}}` in it stands for the file of the example component `name`.
    pub(crate) fn new(definitions: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        project.define(definitions);
        project
    }

    /// A copy of an example's folder, its components where they were built.
    pub(crate) fn example(name: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        let from = root().join("guest-examples").join(name);
        let data = from.join("data");
        if data.is_dir() {
            let to = project.path().join("data");
            std::fs::create_dir(&to).unwrap();
            for entry in std::fs::read_dir(data).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        let definitions = std::fs::read_to_string(from.join("opyard.yaml")).unwrap();
        let guests = root().join("target/guests");
        project.define(&definitions.replace("../../target/guests", &guests.display().to_string()));
        project
    }

    /// Replaces the definitions.
    pub(crate) fn define(&self, definitions: &str) {
        let mut text = definitions.to_owned();
        for name in ["notify", "penguins", "textkit", "probe", "modelkit"] {
            let place = format!("{{{{{name}}}}}");
            if text.contains(&place) {
                text = text.replace(&place, &component(name).display().to_string());
            }
        }
        std::fs::write(self.path().join("opyard.yaml"), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the binary in this folder.
    pub(crate) fn opyard(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The binary, to be run in this folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let binary = binaries().join(format!("opyard{}", std::env::consts::EXE_SUFFIX));
        assert!(binary.is_file(), "{} is missing: run `cargo build --package opyard-cli` first", binary.display());
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(self.path()).env_remove("OPYARD_YARD").env("NO_COLOR", "1");
        command
    }

    /// Runs the binary, and expects this exit code. Returns what it printed, results then messages.
    pub(crate) fn expect(&self, arguments: &[&str], code: i32) -> (String, String) {
        let output = self.opyard(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let found = output.status.code();
        assert_eq!(found, Some(code), "opyard {}\n--- out\n{out}\n--- err\n{err}", arguments.join(" "));
        (out.into_owned(), err.into_owned())
    }

    /// The yard of this folder, opened.
    pub(crate) fn yard(&self) -> Yard {
        Yard::open(&YardSettings::new(self.path().join(".opyard"))).unwrap()
    }

    /// The events of the newest run.
    pub(crate) fn last_run(&self) -> Run {
        runtime().block_on(async {
            let yard = self.yard();
            let filter = RunFilter { limit: 1, ..RunFilter::default() };
            let run = yard.tenant_store().runs(filter).await.unwrap().remove(0).run;
            let events = yard.events(run).await.unwrap();
            yard.close().await;
            Run { run, events }
        })
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// A run, by its events.
pub(crate) struct Run {
    pub(crate) run: RunId,
    pub(crate) events: Vec<Recorded>,
}

impl Run {
    /// The steps for which an event of this kind was recorded.
    pub(crate) fn steps(&self, kind: &str) -> BTreeSet<String> {
        let of_kind = self.events.iter().filter(|recorded| recorded.event.kind() == kind);
        of_kind.filter_map(|recorded| recorded.event.step()).map(ToString::to_string).collect()
    }

    /// The latest point of a series.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.events.iter().rev().find_map(|recorded| match &recorded.event {
            RunEvent::Metric { point, .. } if point.name == name => point.value,
            _ => None,
        })
    }
}

pub(crate) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
