//! Models by name and version.

use serde::Serialize;

use super::blob::{BlobReader, MAX_CHUNK};
use super::{BlobMeta, ResourceError, argument};
use crate::bindings::opyard::resources::{blobs, errors, model_registry as host};

pub use crate::bindings::opyard::resources::model_registry::ModelVersion;

/// Models by name and version.
#[derive(Debug)]
pub struct ModelRegistry {
    key: &'static str,
    handle: host::Registry,
}

impl ModelRegistry {
    pub(super) fn open(key: &'static str) -> Result<Self, ResourceError> {
        let handle = host::open(key).map_err(|error| ResourceError::new(format!("model registry `{key}`"), error))?;
        Ok(Self { key, handle })
    }

    fn error(&self, verb: &str, what: &str, error: errors::Error) -> ResourceError {
        ResourceError::new(format!("model registry `{}`, {verb} `{what}`", self.key), error)
    }

    /// The version of a model that `selector` means: a number, an alias, or `latest`.
    ///
    /// # Errors
    /// What the host answered.
    pub fn resolve(&self, model: &str, selector: &str) -> Result<ModelVersion, ResourceError> {
        self.handle
            .resolve(model, selector)
            .map_err(|error| self.error("resolve", &format!("{model}:{selector}"), error))
    }

    /// The files of a version.
    ///
    /// # Errors
    /// What the host answered.
    pub fn files(&self, of: &ModelVersion) -> Result<Vec<BlobMeta>, ResourceError> {
        let named = || format!("{}:{}", of.name, of.version);
        self.handle.files(&of.name, of.version).map_err(|error| self.error("list", &named(), error))
    }

    /// Opens a file of a version for reading piece by piece.
    ///
    /// # Errors
    /// What the host answered.
    pub fn load(&self, of: &ModelVersion, path: &str) -> Result<BlobReader, ResourceError> {
        let named = format!("{}:{}/{path}", of.name, of.version);
        match self.handle.load(&of.name, of.version, path) {
            Ok(handle) => Ok(BlobReader::new(format!("model registry `{}`, read `{named}`", self.key), handle)),
            Err(error) => Err(self.error("load", &named, error)),
        }
    }

    /// A whole file of a version. Holds it in memory: of a large one, [`load`](Self::load) pieces.
    ///
    /// # Errors
    /// What the host answered.
    pub fn read(&self, of: &ModelVersion, path: &str) -> Result<Vec<u8>, ResourceError> {
        self.load(of, path)?.into_bytes()
    }

    /// Starts a new version of a model, with metadata of yours. It is there once it was committed.
    ///
    /// # Errors
    /// What the host answered; [`Invalid`](super::ResourceErrorKind::Invalid) when the metadata is nothing that JSON can say.
    pub fn register(&self, model: &str, metadata: &impl Serialize) -> Result<ModelWriter, ResourceError> {
        let metadata = serde_json::to_string(metadata)
            .map_err(|error| self.error("register", model, errors::Error::Invalid(error.to_string())))?;
        let handle = self.handle.register(model, &metadata).map_err(|error| self.error("register", model, error))?;
        Ok(ModelWriter { of: format!("model registry `{}`, register `{model}`", self.key), handle })
    }

    /// Makes an alias name a version.
    ///
    /// # Errors
    /// What the host answered.
    pub fn set_alias(&self, of: &ModelVersion, alias: &str) -> Result<(), ResourceError> {
        self.handle.set_alias(&of.name, alias, of.version).map_err(|error| self.error("name", alias, error))
    }
}

/// A version in the making. Dropping it before it is committed leaves nothing.
#[derive(Debug)]
pub struct ModelWriter {
    of: String,
    handle: host::ModelWriter,
}

impl ModelWriter {
    /// Writes a whole file of the version.
    ///
    /// # Errors
    /// What the host answered.
    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<BlobMeta, ResourceError> {
        self.put_pieces(path, bytes.chunks(MAX_CHUNK as usize))
    }

    /// Writes a file of the version piece by piece, each of at most 1 MiB.
    ///
    /// # Errors
    /// What the host answered.
    pub fn put_pieces<P: AsRef<[u8]>>(
        &self,
        path: &str,
        pieces: impl IntoIterator<Item = P>,
    ) -> Result<BlobMeta, ResourceError> {
        let error = |error| ResourceError::new(format!("{}, put `{path}`", self.of), error);
        let writer = self.handle.file(path).map_err(error)?;
        for piece in pieces {
            writer.write(piece.as_ref()).map_err(error)?;
        }
        blobs::BlobWriter::commit(writer).map_err(error)
    }

    /// Makes the version visible, whole.
    ///
    /// # Errors
    /// What the host answered.
    pub fn commit(self) -> Result<ModelVersion, ResourceError> {
        host::ModelWriter::commit(self.handle).map_err(|error| ResourceError::new(self.of, error))
    }
}

argument!(ModelRegistry, "opyard:resources/model-registry@0.1.0");
