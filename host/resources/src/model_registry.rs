//! Models by name and version, as ops see them: the interface `model-registry` of the contract in plain Rust.
//!
//! Hostile guests: names, selectors, paths and metadata are guest-controlled; so is what lies in a registry that others
//! write to. Every call is bounded in bytes, in count ([`MAX_FILES`], [`MAX_ALIASES`]) and in time.

mod draft;
mod mlflow;
mod objects;

use std::time::Duration;

use opyard_model::id::Name;
use opyard_model::plan::Access;

use crate::blob::{BlobMeta, BlobReader, BlobWriter};
use crate::error::{ResourceError, may_write};
use crate::object_store::ObjectStoreResource;
use crate::path::ObjectPath;
use draft::Draft;
use objects::ObjectModels;

pub(crate) use draft::Claim;
pub(crate) use mlflow::{ArtifactReader, ArtifactWriter, Holding, Mlflow, client, place};

/// Most files of one version.
pub const MAX_FILES: usize = 1_000;
/// Most aliases of one model.
pub const MAX_ALIASES: usize = 100;
/// Most bytes of a version's metadata: 64 KiB.
pub const MAX_METADATA: usize = 64 << 10;

/// Longest wait for what asks a registry several times.
const LONGEST: Duration = Duration::from_secs(120);

/// A version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelVersion {
    /// The model.
    pub name: String,
    /// The version, from 1.
    pub version: u32,
    /// The aliases that name this version, in order.
    pub aliases: Vec<String>,
    /// BLAKE3 over paths, sizes and digests of its files; empty when the registry does not know it.
    pub digest: String,
    /// JSON.
    pub metadata: String,
}

/// Which version is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    Version(u32),
    Alias(Name),
    Latest,
}

/// Where the models are.
#[derive(Debug, Clone)]
enum Driver {
    Objects(ObjectModels),
    Mlflow(Mlflow),
}

/// A model registry that was granted.
#[derive(Debug, Clone)]
pub struct ModelRegistryResource {
    driver: Driver,
    access: Access,
}

/// A version in the making. Dropped before [`commit`](Self::commit), it leaves nothing that can be found.
#[derive(Debug)]
pub struct ModelWriter {
    name: Name,
    metadata: String,
    draft: Draft,
    driver: Making,
}

/// Where a version in the making is.
#[derive(Debug)]
enum Making {
    Objects(objects::Making),
    Mlflow(mlflow::Making),
}

/// Waits, [`LONGEST`] at most.
async fn in_time<T>(call: impl Future<Output = Result<T, ResourceError>>) -> Result<T, ResourceError> {
    let late = || ResourceError::Unavailable("the model registry takes too long".into());
    tokio::time::timeout(LONGEST, call).await.map_err(|_| late())?
}

fn name(text: &str, what: &str) -> Result<Name, ResourceError> {
    Name::new(text).map_err(|error| ResourceError::Invalid(format!("not the name of {what}: it is {}", error.rule())))
}

fn alias(text: &str) -> Result<Name, ResourceError> {
    let alias = name(text, "an alias")?;
    if alias.as_str() == "latest" {
        return Err(ResourceError::Invalid("`latest` is the newest version, and no alias".into()));
    }
    Ok(alias)
}

fn version(number: u32) -> Result<u32, ResourceError> {
    if number == 0 { Err(ResourceError::Invalid("versions start from 1".into())) } else { Ok(number) }
}

impl Selector {
    fn parse(text: &str) -> Result<Self, ResourceError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let number = text.parse().ok().filter(|number: &u32| number.to_string() == text);
            let number = number.ok_or_else(|| ResourceError::Invalid("not the number of a version".into()))?;
            return version(number).map(Self::Version);
        }
        alias(text).map(Self::Alias)
    }
}

impl ModelRegistryResource {
    /// Models in an object store.
    pub(crate) fn in_objects(store: ObjectStoreResource, access: Access) -> Self {
        Self { driver: Driver::Objects(ObjectModels::new(store)), access }
    }

    /// Models of an MLflow server.
    pub(crate) fn of_mlflow(server: Mlflow, access: Access) -> Self {
        Self { driver: Driver::Mlflow(server), access }
    }

    /// What may be done with it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The version that `selector` means: a number, an alias, or `latest`, the highest that is there.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no name or selector; `Unavailable`.
    pub async fn resolve(&self, model: &str, selector: &str) -> Result<ModelVersion, ResourceError> {
        let (model, selector) = (name(model, "a model")?, Selector::parse(selector)?);
        match &self.driver {
            Driver::Objects(models) => in_time(models.resolve(&model, &selector)).await,
            Driver::Mlflow(server) => in_time(server.resolve(&model, &selector)).await,
        }
    }

    /// The files of a version, at most [`MAX_FILES`], in the order of their paths.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no name or version; `Limit` when there are more; `Unavailable`.
    pub async fn files(&self, model: &str, number: u32) -> Result<Vec<BlobMeta>, ResourceError> {
        let (model, number) = (name(model, "a model")?, version(number)?);
        match &self.driver {
            Driver::Objects(models) => in_time(models.files(&model, number)).await,
            Driver::Mlflow(server) => in_time(server.files(&model, number)).await,
        }
    }

    /// Opens a file of a version for reading.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no name, version or path; `Unavailable`.
    pub async fn load(&self, model: &str, number: u32, path: &str) -> Result<BlobReader, ResourceError> {
        let (model, number, path) = (name(model, "a model")?, version(number)?, ObjectPath::parse(path)?);
        match &self.driver {
            Driver::Objects(models) => in_time(models.load(&model, number, &path)).await,
            Driver::Mlflow(server) => in_time(server.load(&model, number, &path)).await,
        }
    }

    /// Begins a new version. Its number is known once it is committed.
    ///
    /// # Errors
    /// `Denied` when only reading was granted; `Invalid` for what is no name, or no JSON; `Limit` for metadata over
    /// [`MAX_METADATA`]; `Unavailable`.
    pub async fn register(&self, model: &str, metadata: &str) -> Result<ModelWriter, ResourceError> {
        may_write(self.access)?;
        let model = name(model, "a model")?;
        if metadata.len() > MAX_METADATA {
            return Err(ResourceError::Limit(format!("the metadata of a version has at most {MAX_METADATA} bytes")));
        }
        // Nesting is bounded by the parser.
        serde_json::from_str::<serde::de::IgnoredAny>(metadata)
            .map_err(|_| ResourceError::Invalid("the metadata is not JSON".into()))?;
        let driver = match &self.driver {
            Driver::Objects(models) => Making::Objects(models.begin(&model)?),
            Driver::Mlflow(server) => Making::Mlflow(in_time(server.begin(&model)).await?),
        };
        Ok(ModelWriter { name: model, metadata: metadata.to_owned(), draft: Draft::default(), driver })
    }

    /// Makes an alias name a version, whatever it named before; of two who do so, the later one decides.
    ///
    /// # Errors
    /// `Denied` when only reading was granted; `NotFound` when there is no such version; `Invalid` for what is no name;
    /// `Limit` over [`MAX_ALIASES`]; `Unavailable`: the alias may be set or not.
    pub async fn set_alias(&self, model: &str, new: &str, number: u32) -> Result<(), ResourceError> {
        may_write(self.access)?;
        let (model, new, number) = (name(model, "a model")?, alias(new)?, version(number)?);
        match &self.driver {
            Driver::Objects(models) => in_time(models.set_alias(&model, &new, number)).await,
            Driver::Mlflow(server) => in_time(server.set_alias(&model, &new, number)).await,
        }
    }
}

impl ModelWriter {
    /// Begins a file of the version.
    ///
    /// # Errors
    /// `Invalid` for what is no path, or one inside of another file; `Conflict` when there is one at this path; `Limit` over
    /// [`MAX_FILES`]; `Unavailable`.
    pub fn file(&self, path: &str) -> Result<BlobWriter, ResourceError> {
        let path = ObjectPath::parse(path)?;
        let claim = self.draft.claim(path.as_str())?;
        match &self.driver {
            Making::Objects(making) => making.file(&path, claim),
            Making::Mlflow(making) => making.file(&path, claim),
        }
    }

    /// Makes the version visible, whole: the files that were committed are its files.
    ///
    /// # Errors
    /// `Invalid` when it has no files; `Unavailable`: the version may be there.
    pub async fn commit(self) -> Result<ModelVersion, ResourceError> {
        let files = self.draft.close();
        if files.is_empty() {
            return Err(ResourceError::Invalid("a version has at least one file".into()));
        }
        match self.driver {
            Making::Objects(making) => in_time(making.commit(&self.name, self.metadata, files)).await,
            Making::Mlflow(making) => in_time(making.commit(&self.name, self.metadata, files)).await,
        }
    }
}
