//! Models of an MLflow tracking server, over its REST API 2.0 and its artifact proxy.
//!
//! A version is registered so: a run of the experiment `opyard` takes the files as its artifacts, below `model/`; then the
//! version is created, which names that folder. MLflow shows the artifacts of a run before that, and a run that was left
//! behind; as a version nothing is seen before it is whole.
//!
//! Hostile servers: each answer is bounded in bytes, in time and in depth; what it names is checked as if a guest had.

mod artifacts;
mod client;
mod runs;

use std::collections::BTreeMap;

use opyard_model::digest::Digest;
use opyard_model::id::Name;
use serde::Deserialize;
use serde_json::json;

pub(crate) use artifacts::{ArtifactReader, ArtifactWriter};
use client::Request;
pub(crate) use client::{Mlflow, client};
pub(crate) use runs::{Holding, place};

use super::draft::{Claim, Written, digest_of};
use super::{MAX_ALIASES, MAX_FILES, MAX_METADATA, ModelVersion, Selector};
use crate::blob::{BlobMeta, BlobReader, BlobWriter};
use crate::error::ResourceError;
use crate::path::ObjectPath;

/// The experiment whose runs take the files.
const EXPERIMENT: &str = "opyard";
/// The tag of a version with the digest over its files.
const DIGEST: &str = "opyard.digest";
/// The tag of a version with the metadata that it was registered with.
const METADATA: &str = "opyard.metadata";
/// Most folders that are looked into for the files of one version.
const MAX_FOLDERS: usize = 200;
/// Versions that are looked at for the newest that is ready.
const NEWEST: u32 = 20;

#[derive(Debug, Deserialize)]
struct VersionAnswer {
    model_version: Version,
}

#[derive(Debug, Deserialize)]
struct VersionsAnswer {
    #[serde(default)]
    model_versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    aliases: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct UriAnswer {
    artifact_uri: String,
}

#[derive(Debug, Deserialize)]
struct ExperimentAnswer {
    experiment: Experiment,
}

#[derive(Debug, Deserialize)]
struct Experiment {
    experiment_id: String,
}

#[derive(Debug, Deserialize)]
struct RunAnswer {
    run: Run,
}

#[derive(Debug, Deserialize)]
struct Run {
    info: RunInfo,
}

#[derive(Debug, Deserialize)]
struct RunInfo {
    run_id: String,
    artifact_uri: String,
    #[serde(default)]
    lifecycle_stage: String,
}

fn strange(what: &str) -> ResourceError {
    ResourceError::Unavailable(format!("the MLflow server answers with {what}"))
}

/// The path of an address behind the server's own artifact proxy.
fn proxied(uri: &str) -> Result<ObjectPath, ResourceError> {
    let outside = || {
        let reason = "the files of this version are not served by the MLflow server itself (`mlflow-artifacts:`)";
        ResourceError::Invalid(reason.into())
    };
    let path = uri.strip_prefix("mlflow-artifacts:/").ok_or_else(outside)?;
    ObjectPath::parse(path.trim_end_matches('/')).map_err(|_| outside())
}

impl Version {
    fn number(&self) -> Result<u32, ResourceError> {
        self.version.parse().map_err(|_| strange("a version that is no number"))
    }

    /// Where it is whole. Servers of before there were states say nothing.
    fn is_ready(&self) -> bool {
        self.status.is_empty() || self.status == "READY"
    }

    fn told(mut self, model: &Name) -> Result<ModelVersion, ResourceError> {
        let version = self.number()?;
        let tag = |key: &str| self.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.clone());
        // What others wrote is checked again.
        let digest = tag(DIGEST).and_then(|text| text.parse::<Digest>().ok());
        let registered = tag(METADATA)
            .filter(|text| text.len() <= MAX_METADATA && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        let metadata = registered.unwrap_or_else(|| {
            let tags: BTreeMap<_, _> = self.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())).collect();
            json!({ "description": self.description, "run_id": self.run_id, "tags": tags }).to_string()
        });
        if metadata.len() > MAX_METADATA {
            return Err(ResourceError::Limit(format!("the metadata of the version has over {MAX_METADATA} bytes")));
        }
        self.aliases.sort();
        self.aliases.truncate(MAX_ALIASES);
        let digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
        Ok(ModelVersion { name: model.to_string(), version, aliases: self.aliases, digest, metadata })
    }
}

impl Mlflow {
    async fn version(&self, model: &Name, number: u32) -> Result<Version, ResourceError> {
        let number = number.to_string();
        let asked = [("name", model.as_str()), ("version", &number)];
        let answer: VersionAnswer =
            self.ask("looking at a version", Request::Get("model-versions/get", &asked)).await?;
        if answer.model_version.is_ready() { Ok(answer.model_version) } else { Err(ResourceError::NotFound) }
    }

    pub(super) async fn resolve(&self, model: &Name, selector: &Selector) -> Result<ModelVersion, ResourceError> {
        let number = match selector {
            Selector::Version(number) => *number,
            Selector::Alias(alias) => {
                let asked = [("name", model.as_str()), ("alias", alias.as_str())];
                let request = Request::Get("registered-models/alias", &asked);
                match self.ask::<VersionAnswer>("looking at an alias", request).await {
                    Ok(answer) => answer.model_version.number()?,
                    // Names were checked: what the server takes for a wrong value is an alias that is not there.
                    Err(ResourceError::Invalid(_)) => return Err(ResourceError::NotFound),
                    Err(error) => return Err(error),
                }
            }
            Selector::Latest => self.newest(model).await?.ok_or(ResourceError::NotFound)?,
        };
        // Only this answer holds the aliases.
        self.version(model, number).await?.told(model)
    }

    async fn newest(&self, model: &Name) -> Result<Option<u32>, ResourceError> {
        let (filter, count) = (format!("name='{model}'"), NEWEST.to_string());
        let asked = [("filter", filter.as_str()), ("order_by", "version_number DESC"), ("max_results", &count)];
        let request = Request::Get("model-versions/search", &asked);
        let answer: VersionsAnswer = self.ask("looking for versions", request).await?;
        let ready = answer.model_versions.iter().filter(|version| version.is_ready());
        let numbers = ready.map(Version::number).collect::<Result<Vec<_>, _>>()?;
        Ok(numbers.into_iter().max())
    }

    /// The folder of a version's files.
    async fn folder(&self, model: &Name, number: u32) -> Result<ObjectPath, ResourceError> {
        self.version(model, number).await?;
        let number = number.to_string();
        let asked = [("name", model.as_str()), ("version", &number)];
        let request = Request::Get("model-versions/get-download-uri", &asked);
        let answer: UriAnswer = self.ask("looking for the files of a version", request).await?;
        proxied(&answer.artifact_uri)
    }

    pub(super) async fn files(&self, model: &Name, number: u32) -> Result<Vec<BlobMeta>, ResourceError> {
        let root = self.folder(model, number).await?;
        let mut folders = vec![String::new()];
        let mut looked = 0;
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            looked += 1;
            if looked > MAX_FOLDERS {
                return Err(ResourceError::Limit(format!("a version has at most {MAX_FOLDERS} folders")));
            }
            for entry in self.list(&root, &folder).await? {
                if entry.is_folder {
                    folders.push(entry.path);
                } else {
                    files.push(BlobMeta { path: entry.path, size: entry.size, etag: None, last_modified_ms: 0 });
                }
            }
            if files.len() > MAX_FILES {
                return Err(ResourceError::Limit(format!("a version has at most {MAX_FILES} files")));
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    pub(super) async fn load(&self, model: &Name, number: u32, path: &ObjectPath) -> Result<BlobReader, ResourceError> {
        let root = self.folder(model, number).await?;
        let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        let entries = self.list(&root, folder).await?;
        let entry = entries.into_iter().find(|entry| !entry.is_folder && entry.path == path.as_str());
        let entry = entry.ok_or(ResourceError::NotFound)?;
        let meta = BlobMeta { path: entry.path, size: entry.size, etag: None, last_modified_ms: 0 };
        let whole = ObjectPath::parse(&format!("{}/{}", root.as_str(), path.as_str()))?;
        Ok(BlobReader::new(ArtifactReader::new(self.clone(), whole, meta.size).into(), meta))
    }

    pub(super) async fn set_alias(&self, model: &Name, alias: &Name, number: u32) -> Result<(), ResourceError> {
        self.version(model, number).await?;
        let body = json!({ "name": model.as_str(), "alias": alias.as_str(), "version": number.to_string() });
        self.tell("setting an alias", Request::Post("registered-models/alias", body)).await
    }

    /// A run that takes the files of a new version.
    pub(super) async fn begin(&self, model: &Name) -> Result<Making, ResourceError> {
        let experiment = self.experiment_named(EXPERIMENT).await?;
        let body = json!({ "experiment_id": experiment, "run_name": format!("register {model}") });
        let answer: RunAnswer = self.ask("beginning a run", Request::Post("runs/create", body)).await?;
        let RunInfo { run_id, artifact_uri, .. } = answer.run.info;
        let root = ObjectPath::parse(&format!("{}/model", proxied(&artifact_uri)?.as_str()))?;
        Ok(Making { server: self.clone(), run: run_id, source: format!("{artifact_uri}/model"), root })
    }
}

/// A version in the making: a run with artifacts.
#[derive(Debug)]
pub(super) struct Making {
    server: Mlflow,
    run: String,
    /// The address that the version will name.
    source: String,
    /// The same behind the artifact proxy.
    root: ObjectPath,
}

impl Making {
    pub(super) fn file(&self, path: &ObjectPath, claim: Claim) -> Result<BlobWriter, ResourceError> {
        let at = ObjectPath::parse(&format!("{}/{}", self.root.as_str(), path.as_str()))?;
        Ok(BlobWriter::of_version(ArtifactWriter::new(&self.server, &at)?.into(), claim))
    }

    pub(super) async fn commit(
        self,
        model: &Name,
        metadata: String,
        files: Vec<Written>,
    ) -> Result<ModelVersion, ResourceError> {
        let Self { server, run, source, .. } = self;
        let digest = digest_of(&files).to_string();
        let context = "registering a version";
        match server.tell(context, Request::Post("registered-models/create", json!({ "name": model.as_str() }))).await {
            // The model is there already, as a rule.
            Ok(()) | Err(ResourceError::Conflict) => {}
            Err(error) => return Err(error),
        }
        let tags = json!([{ "key": DIGEST, "value": digest }, { "key": METADATA, "value": metadata }]);
        let body = json!({ "name": model.as_str(), "source": source, "run_id": run, "tags": tags });
        let answer: VersionAnswer = server.ask(context, Request::Post("model-versions/create", body)).await?;
        let version = answer.model_version.number()?;
        // The version is there; a run that looks as if it went on does no harm.
        let end = json!({ "run_id": run, "status": "FINISHED" });
        drop(server.tell("ending a run", Request::Post("runs/update", end)).await);
        Ok(ModelVersion { name: model.to_string(), version, aliases: Vec::new(), digest, metadata })
    }
}
