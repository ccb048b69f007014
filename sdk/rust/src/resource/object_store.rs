//! Objects by path.

use super::blob::{BlobReader, MAX_CHUNK};
use super::{BlobMeta, PAGE, ResourceError, argument, pages};
use crate::bindings::opyard::resources::{blobs, errors, object_store as host};

/// When a put takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Always.
    Overwrite,
    /// Only where nothing is yet.
    Create,
    /// Only where the object still has this etag.
    Update(String),
}

/// Objects by path: a bucket, or a folder.
#[derive(Debug)]
pub struct ObjectStore {
    key: &'static str,
    handle: host::Store,
}

impl ObjectStore {
    fn open(key: &'static str) -> Result<Self, ResourceError> {
        let handle = host::open(key).map_err(|error| ResourceError::new(format!("object store `{key}`"), error))?;
        Ok(Self { key, handle })
    }

    fn error(&self, verb: &str, path: &str, error: errors::Error) -> ResourceError {
        ResourceError::new(format!("object store `{}`, {verb} `{path}`", self.key), error)
    }

    /// What is known about the object at `path`.
    ///
    /// # Errors
    /// What the host answered.
    pub fn head(&self, path: &str) -> Result<BlobMeta, ResourceError> {
        self.handle.head(path).map_err(|error| self.error("head", path, error))
    }

    /// Opens the object at `path` for reading piece by piece.
    ///
    /// # Errors
    /// What the host answered.
    pub fn get(&self, path: &str) -> Result<BlobReader, ResourceError> {
        let handle = self.handle.get(path).map_err(|error| self.error("get", path, error))?;
        Ok(BlobReader::new(format!("object store `{}`, read `{path}`", self.key), handle))
    }

    /// The whole object at `path`. Holds it in memory: of a large one, [`get`](Self::get) pieces.
    ///
    /// # Errors
    /// What the host answered.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ResourceError> {
        self.get(path)?.into_bytes()
    }

    /// Writes the whole object at `path`; it appears at once, or not at all.
    ///
    /// # Errors
    /// What the host answered; [`Conflict`](crate::resource::ResourceErrorKind::Conflict) when `mode` did not hold.
    pub fn put(&self, path: &str, mode: PutMode, bytes: &[u8]) -> Result<BlobMeta, ResourceError> {
        let mode = match mode {
            PutMode::Overwrite => host::PutMode::Overwrite,
            PutMode::Create => host::PutMode::Create,
            PutMode::Update(etag) => host::PutMode::Update(etag),
        };
        let error = |error| self.error("put", path, error);
        let writer = self.handle.put(path, &mode).map_err(error)?;
        for chunk in bytes.chunks(MAX_CHUNK as usize) {
            writer.write(chunk).map_err(error)?;
        }
        blobs::BlobWriter::commit(writer).map_err(error)
    }

    /// Removes the object at `path`.
    ///
    /// # Errors
    /// What the host answered.
    pub fn remove(&self, path: &str) -> Result<(), ResourceError> {
        self.handle.remove(path).map_err(|error| self.error("remove", path, error))
    }

    /// The objects whose path starts with the folder `prefix`, page by page as the iterator is advanced.
    pub fn list(&self, prefix: &str) -> impl Iterator<Item = Result<BlobMeta, ResourceError>> {
        pages(move |token| {
            let page = self.handle.list_page(prefix, token, PAGE);
            page.map(|page| (page.objects, page.next)).map_err(|error| self.error("list", prefix, error))
        })
    }
}

argument!(ObjectStore, "opyard:resources/object-store@0.1.0");
