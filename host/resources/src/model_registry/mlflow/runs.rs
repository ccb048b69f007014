//! Runs of an MLflow server that hold one value each: a file, the numbers that are known of it, and, if it is registered, a
//! version of a model.

use opyard_model::digest::Digest;
use opyard_model::id::Name;
use serde::Deserialize;
use serde_json::{Value, json};

use super::artifacts::{ArtifactReader, ArtifactWriter};
use super::client::{Mlflow, Request};
use super::{Experiment, ExperimentAnswer, RunAnswer, RunInfo, VersionAnswer, proxied, strange};
use crate::blob::{BlobMeta, BlobReader, BlobWriter};
use crate::error::ResourceError;
use crate::path::ObjectPath;

/// The tag of a run with the slot whose value it holds.
const SLOT: &str = "opyard_slot";
/// The tag of a run with the digest of its value: set when all of it is there.
const DIGEST: &str = "opyard_digest";
/// The folder of a run's artifacts that a value is in.
const FOLDER: &str = "value";
/// Most numbers of a run: what the server takes at once.
const MAX_METRICS: usize = 1_000;
/// Longest name of a number that the server takes.
const MAX_METRIC: usize = 250;

/// What a run is to hold.
pub(crate) struct Holding<'a> {
    pub(crate) experiment: &'a str,
    /// The name of the run, for people.
    pub(crate) name: String,
    /// Which slot it is for: the same for the same step of the same run.
    pub(crate) slot: Digest,
    /// When the run of Opyard's began: milliseconds since the Unix epoch.
    pub(crate) since_ms: i64,
    /// Tags for people.
    pub(crate) tags: Vec<(&'static str, String)>,
}

#[derive(Debug, Deserialize)]
struct RunsAnswer {
    #[serde(default)]
    runs: Vec<super::Run>,
}

/// A run that takes a value.
pub(crate) struct Taking {
    server: Mlflow,
    pub(crate) run: String,
    artifact_uri: String,
}

impl Mlflow {
    /// The experiment of that name, made if there is none.
    pub(super) async fn experiment_named(&self, name: &str) -> Result<String, ResourceError> {
        let context = "looking for the experiment";
        for _ in 0..2 {
            let asked = [("experiment_name", name)];
            match self.ask::<ExperimentAnswer>(context, Request::Get("experiments/get-by-name", &asked)).await {
                Ok(ExperimentAnswer { experiment: Experiment { experiment_id } }) => return Ok(experiment_id),
                Err(ResourceError::NotFound) => {}
                Err(error) => return Err(error),
            }
            match self.tell(context, Request::Post("experiments/create", json!({ "name": name }))).await {
                // Somebody else was first.
                Ok(()) | Err(ResourceError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(strange("no experiment of that name, though there is one"))
    }

    /// The run that holds this value for this slot already, whole.
    pub(crate) async fn held(&self, holding: &Holding<'_>, digest: Digest) -> Result<Option<String>, ResourceError> {
        let experiment = self.experiment_named(holding.experiment).await?;
        let filter = format!("tags.{SLOT} = '{}' and tags.{DIGEST} = '{digest}'", holding.slot);
        let body = json!({
            "experiment_ids": [experiment], "filter": filter, "run_view_type": "ACTIVE_ONLY", "max_results": 1,
        });
        let answer: RunsAnswer = self.ask("looking for a run", Request::Post("runs/search", body)).await?;
        Ok(answer.runs.into_iter().next().map(|run| run.info.run_id))
    }

    /// Begins a run that takes a value.
    pub(crate) async fn take(&self, holding: &Holding<'_>) -> Result<Taking, ResourceError> {
        let experiment = self.experiment_named(holding.experiment).await?;
        let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
        let mut tags = vec![tag(SLOT, &holding.slot.to_string())];
        tags.extend(holding.tags.iter().map(|(key, value)| tag(key, value)));
        let body = json!({
            "experiment_id": experiment, "run_name": holding.name, "start_time": holding.since_ms, "tags": tags,
        });
        let answer: RunAnswer = self.ask("beginning a run", Request::Post("runs/create", body)).await?;
        let RunInfo { run_id, artifact_uri, .. } = answer.run.info;
        Ok(Taking { server: self.clone(), run: run_id, artifact_uri })
    }

    /// Opens a file of a run. A run that was deleted has none.
    pub(crate) async fn file_of(&self, run: &str, path: &ObjectPath) -> Result<BlobReader, ResourceError> {
        let request = Request::Get("runs/get", &[("run_id", run)]);
        let answer: RunAnswer = self.ask("looking at a run", request).await?;
        if answer.run.info.lifecycle_stage == "deleted" {
            return Err(ResourceError::NotFound);
        }
        let root = proxied(&answer.run.info.artifact_uri)?;
        let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        let entries = self.list(&root, folder).await?;
        let entry = entries.into_iter().find(|entry| !entry.is_folder && entry.path == path.as_str());
        let entry = entry.ok_or(ResourceError::NotFound)?;
        let meta = BlobMeta { path: entry.path, size: entry.size, etag: None, last_modified_ms: 0 };
        let whole = ObjectPath::parse(&format!("{}/{}", root.as_str(), path.as_str()))?;
        Ok(BlobReader::new(ArtifactReader::new(self.clone(), whole, meta.size).into(), meta))
    }

    /// Deletes a run; one that is not there is fine.
    pub(crate) async fn delete_run(&self, run: &str) -> Result<(), ResourceError> {
        match self.tell("deleting a run", Request::Post("runs/delete", json!({ "run_id": run }))).await {
            Ok(()) | Err(ResourceError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Where the file `name` of a value is, from the root of its run.
pub(crate) fn place(name: &Name) -> String {
    format!("{FOLDER}/{name}")
}

impl Taking {
    /// Begins the file of the value.
    pub(crate) fn file(&self, name: &Name) -> Result<BlobWriter, ResourceError> {
        let at = ObjectPath::parse(&format!("{}/{}", proxied(&self.artifact_uri)?.as_str(), place(name)))?;
        Ok(BlobWriter::new(ArtifactWriter::new(&self.server, &at)?.into()))
    }

    /// Notes numbers that are known of the value. Names that the server does not take are changed, and beyond [`MAX_METRICS`]
    /// none is noted. Returns how many were.
    pub(crate) async fn metrics(
        &self,
        numbers: impl Iterator<Item = (&str, f64)>,
        at_ms: i64,
    ) -> Result<usize, ResourceError> {
        let is_taken = |c: &char| c.is_ascii_alphanumeric() || "_-. /".contains(*c);
        let noted = numbers.filter(|(_, value)| value.is_finite()).take(MAX_METRICS).map(|(name, value)| {
            let key: String = name.chars().map(|c| if is_taken(&c) { c } else { '_' }).take(MAX_METRIC).collect();
            json!({ "key": key, "value": value, "timestamp": at_ms, "step": 0 })
        });
        let noted: Vec<Value> = noted.collect();
        let count = noted.len();
        if count > 0 {
            let body = json!({ "run_id": self.run, "metrics": noted });
            self.server.tell("noting metrics", Request::Post("runs/log-batch", body)).await?;
        }
        Ok(count)
    }

    /// Registers the value as a version of a model. Returns its number.
    pub(crate) async fn register(&self, model: &Name) -> Result<u32, ResourceError> {
        let context = "registering a version";
        let create = Request::Post("registered-models/create", json!({ "name": model.as_str() }));
        match self.server.tell(context, create).await {
            // The model is there already, as a rule.
            Ok(()) | Err(ResourceError::Conflict) => {}
            Err(error) => return Err(error),
        }
        let source = format!("{}/{FOLDER}", self.artifact_uri);
        let body = json!({ "name": model.as_str(), "source": source, "run_id": self.run });
        let answer: VersionAnswer = self.server.ask(context, Request::Post("model-versions/create", body)).await?;
        answer.model_version.number()
    }

    /// All of it is there.
    pub(crate) async fn finish(self, digest: Digest) -> Result<String, ResourceError> {
        let end = json!({ "run_id": self.run, "status": "FINISHED" });
        self.server.tell("ending a run", Request::Post("runs/update", end)).await?;
        let tag = json!({ "run_id": self.run, "key": DIGEST, "value": digest.to_string() });
        self.server.tell("ending a run", Request::Post("runs/set-tag", tag)).await?;
        Ok(self.run)
    }
}
