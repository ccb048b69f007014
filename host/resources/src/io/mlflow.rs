//! The IO manager `mlflow`: each value is a run of an experiment, with its numbers as metrics, and a version of a model.

use std::time::Duration;

use async_trait::async_trait;
use opyard_model::digest::{Digest, FieldHasher};
use opyard_model::error::Failure;
use opyard_model::id::Name;
use opyard_model::json::CanonicalJson;
use opyard_model::metadata::{MetadataEntry, MetadataValue};
use opyard_model::value::ValueRef;
use opyard_store::artifact::{ArtifactReader, ArtifactWriter};
use opyard_store::io_manager::{IoManager, Loaded, Slot, Stored};
use serde::{Deserialize, Serialize};

use super::files::{copy_in, copy_out};
use super::{failed, locator, refused};
use crate::error::ResourceError;
use crate::model_registry::{Holding, Mlflow, place};
use crate::path::ObjectPath;

const KEEPING: &str = "keeping an output on the MLflow server";
const LOADING: &str = "loading an input from the MLflow server";
/// Longest wait for what asks the server several times, the bytes apart.
const LONGEST: Duration = Duration::from_secs(120);

/// Keeps values in runs of one experiment.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    server: Mlflow,
    experiment: String,
    /// Every value becomes a version of this model.
    model: Option<Name>,
}

/// How a value is found: a file among the artifacts of a run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locator {
    run: String,
    file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
}

impl Runs {
    pub(crate) fn new(server: Mlflow, experiment: String, model: Option<Name>) -> Self {
        Self { server, experiment, model }
    }

    fn holding(&self, slot: &Slot) -> Holding<'_> {
        let mut hasher = FieldHasher::new("opyard mlflow slot 1");
        let item = slot.item.as_ref().map(|key| key.as_str());
        hasher
            .field(slot.job.as_str().as_bytes())
            .field(slot.run.to_string().as_bytes())
            .field(slot.step.to_string().as_bytes())
            .field(slot.port.as_str().as_bytes())
            .option(item.map(str::as_bytes))
            .option(self.model.as_ref().map(|model| model.as_str().as_bytes()));
        let key = item.map(|key| format!("[{key}]")).unwrap_or_default();
        let name = format!("{}: {}.{}{key}", slot.job, slot.step, slot.port);
        let tags = vec![
            ("opyard_job", slot.job.to_string()),
            ("opyard_run", slot.run.to_string()),
            ("opyard_step", slot.step.to_string()),
            ("opyard_output", slot.port.to_string()),
        ];
        Holding { experiment: &self.experiment, name, slot: hasher.finish(), since_ms: began_ms(slot), tags }
    }

    async fn keep(
        &self,
        slot: &Slot,
        value: &ValueRef,
        bytes: Box<dyn ArtifactReader>,
    ) -> Result<(String, Vec<MetadataEntry>), Failure> {
        let wrong = |error: ResourceError| failed(KEEPING, error);
        let holding = self.holding(slot);
        let taking = in_time(KEEPING, self.server.take(&holding)).await?;
        let mut writer = taking.file(&slot.port).map_err(wrong)?;
        copy_out(bytes, &mut writer).await?;
        writer.end().await.map_err(wrong)?;
        let metrics = in_time(KEEPING, taking.metrics(numbers(&value.metadata), holding.since_ms)).await?;
        let mut told = vec![int("metrics", metrics as u64)];
        if let Some(model) = &self.model {
            let version = in_time(KEEPING, taking.register(model)).await?;
            told.push(int("model version", version.into()));
        }
        Ok((in_time(KEEPING, taking.finish(value.artifact.digest)).await?, told))
    }
}

/// When the run of Opyard's began: part of its id.
fn began_ms(slot: &Slot) -> i64 {
    i64::try_from(slot.run.unix_ms()).unwrap_or(0)
}

fn int(label: &str, value: u64) -> MetadataEntry {
    let value = MetadataValue::Int(i64::try_from(value).unwrap_or(i64::MAX));
    MetadataEntry { label: label.to_owned(), value }
}

fn numbers(metadata: &[MetadataEntry]) -> impl Iterator<Item = (&str, f64)> {
    metadata.iter().filter_map(|entry| match &entry.value {
        #[expect(clippy::cast_precision_loss, reason = "integers of metadata are within 2^53")]
        MetadataValue::Int(value) => Some((entry.label.as_str(), *value as f64)),
        MetadataValue::Float(value) => Some((entry.label.as_str(), *value)),
        _ => None,
    })
}

async fn in_time<T>(context: &str, call: impl Future<Output = Result<T, ResourceError>>) -> Result<T, Failure> {
    let late = || ResourceError::Unavailable("the MLflow server takes too long".into());
    let answered = tokio::time::timeout(LONGEST, call).await.unwrap_or_else(|_| Err(late()));
    answered.map_err(|error| failed(context, error))
}

#[async_trait]
impl IoManager for Runs {
    async fn handle_output(
        &self,
        slot: &Slot,
        value: &ValueRef,
        bytes: Box<dyn ArtifactReader>,
    ) -> Result<Stored, Failure> {
        let artifact = value.artifact;
        let (run, mut metadata) = match in_time(KEEPING, self.server.held(&self.holding(slot), artifact.digest)).await?
        {
            Some(run) => (run, Vec::new()),
            None => self.keep(slot, value, bytes).await?,
        };
        metadata.insert(0, MetadataEntry { label: "run".into(), value: MetadataValue::Text(run.clone()) });
        let (file, size, digest) = (place(&slot.port), Some(artifact.size), Some(artifact.digest));
        Ok(Stored { locator: locator::write(KEEPING, &Locator { run, file, size, digest })?, metadata })
    }

    async fn load_input(
        &self,
        _slot: &Slot,
        json: &CanonicalJson,
        into: Box<dyn ArtifactWriter>,
    ) -> Result<Loaded, Failure> {
        let Locator { run, file, size, digest } = locator::read(LOADING, json)?;
        let path = ObjectPath::parse(&file).map_err(|error| failed(LOADING, error))?;
        let opened = tokio::time::timeout(LONGEST, self.server.file_of(&run, &path)).await;
        match opened {
            Ok(Ok(reader)) => copy_in(reader, into, (size, digest), &file).await,
            Ok(Err(ResourceError::NotFound)) => Err(refused(LOADING, format!("the run {run} has no '{file}'"))),
            Ok(Err(error)) => Err(failed(LOADING, error)),
            Err(_) => Err(failed(LOADING, ResourceError::Unavailable("the MLflow server takes too long".into()))),
        }
    }

    /// The digest, where the locator has it: what is loaded is compared with it. Otherwise the server cannot tell.
    async fn fingerprint(&self, json: &CanonicalJson) -> Result<Option<String>, Failure> {
        let Locator { digest, .. } = locator::read(LOADING, json)?;
        Ok(digest.map(|digest| digest.to_string()))
    }

    /// Deletes the run. A version of a model stays: whoever uses it knows nothing of runs here.
    async fn forget(&self, json: &CanonicalJson) -> Result<(), Failure> {
        let context = "forgetting a value of the MLflow server";
        let Locator { run, .. } = locator::read(context, json)?;
        in_time(context, self.server.delete_run(&run)).await
    }
}
