//! What an op can be given by the host: a parameter of one of these types is a resource, and its name is the key that
//! grants refer to.

use std::error::Error;
use std::fmt;
use std::io;

use crate::Failure;
pub use crate::bindings::opyard::resources::blobs::BlobMeta;
use crate::bindings::opyard::resources::{blobs, errors, object_store as host};
use crate::definition::{OpDefinition, ResourceRequirement};
use crate::port::{Argument, OptionalArgument, Port, Role};

/// The most that crosses in one call.
const MAX_CHUNK: u32 = 1 << 20;

/// Why a resource did not do what was asked.
#[derive(Debug, Clone)]
pub struct ResourceError {
    /// The resource and what was asked of it: ``object store `raw`, get `a.csv` ``.
    pub of: String,
    /// What the host answered.
    pub kind: ResourceErrorKind,
}

/// What a resource answers when it does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResourceErrorKind {
    /// Not granted. Says nothing about whether the thing exists.
    Denied,
    /// There is no such thing.
    NotFound,
    /// A precondition did not hold: it exists already, or has changed.
    Conflict,
    /// A limit of this step; the text names it.
    Limit(String),
    /// The surroundings failed.
    Unavailable(String),
    /// The call itself is wrong: the same next time.
    Invalid(String),
}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.of)?;
        match &self.kind {
            ResourceErrorKind::Denied => f.write_str("denied"),
            ResourceErrorKind::NotFound => f.write_str("not found"),
            ResourceErrorKind::Conflict => f.write_str("conflict"),
            ResourceErrorKind::Limit(text) => write!(f, "limit reached: {text}"),
            ResourceErrorKind::Unavailable(text) => write!(f, "unavailable: {text}"),
            ResourceErrorKind::Invalid(text) => write!(f, "invalid: {text}"),
        }
    }
}

impl Error for ResourceError {}

impl ResourceError {
    pub(crate) fn new(of: String, error: errors::Error) -> Self {
        let kind = match error {
            errors::Error::Denied => ResourceErrorKind::Denied,
            errors::Error::NotFound => ResourceErrorKind::NotFound,
            errors::Error::Conflict => ResourceErrorKind::Conflict,
            errors::Error::Limit(text) => ResourceErrorKind::Limit(text),
            errors::Error::Unavailable(text) => ResourceErrorKind::Unavailable(text),
            errors::Error::Invalid(text) => ResourceErrorKind::Invalid(text),
        };
        Self { of, kind }
    }
}

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
        Ok(BlobReader { of: format!("object store `{}`, read `{path}`", self.key), handle })
    }

    /// The whole object at `path`. Holds it in memory: of a large one, [`get`](Self::get) pieces.
    ///
    /// # Errors
    /// What the host answered.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ResourceError> {
        let reader = self.get(path)?;
        let mut all = Vec::new();
        loop {
            let chunk = reader.chunk(MAX_CHUNK)?;
            if chunk.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&chunk);
        }
    }

    /// Writes the whole object at `path`; it appears at once, or not at all.
    ///
    /// # Errors
    /// What the host answered; [`Conflict`](ResourceErrorKind::Conflict) when `mode` did not hold.
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
        const PAGE: u32 = 1000;
        let mut page = Vec::new().into_iter();
        let mut token = None;
        let mut last = false;
        std::iter::from_fn(move || {
            loop {
                if let Some(meta) = page.next() {
                    return Some(Ok(meta));
                }
                if last {
                    return None;
                }
                match self.handle.list_page(prefix, token.as_deref(), PAGE) {
                    Ok(next) => {
                        last = next.next.is_none();
                        token = next.next;
                        page = next.objects.into_iter();
                    }
                    Err(error) => {
                        last = true;
                        return Some(Err(self.error("list", prefix, error)));
                    }
                }
            }
        })
    }
}

/// Adds a resource to an op: required, unless the parameter is an `Option`.
pub(crate) fn require(port: &Port, through: &str, op: &mut OpDefinition) {
    let (key, through) = (port.name.to_owned(), through.to_owned());
    op.resources.push(ResourceRequirement { key, through, optional: false });
}

/// What was granted, or none when nothing was.
pub(crate) fn unless_denied<T>(opened: Result<T, ResourceError>) -> Result<Option<T>, Failure> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(ResourceError { kind: ResourceErrorKind::Denied, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Argument for ObjectStore {
    const ROLE: Role = Role::Resource;

    fn declare(port: &Port, op: &mut OpDefinition) {
        require(port, "opyard:resources/object-store@0.1.0", op);
    }

    fn acquire(port: &Port) -> Result<Self, Failure> {
        Ok(Self::open(port.name)?)
    }
}

/// None when it was not granted.
impl OptionalArgument for ObjectStore {
    fn acquire_optional(port: &Port) -> Result<Option<Self>, Failure> {
        unless_denied(Self::open(port.name))
    }
}

/// An object that is read piece by piece.
#[derive(Debug)]
pub struct BlobReader {
    of: String,
    handle: blobs::BlobReader,
}

impl BlobReader {
    /// What is known about the object that is being read.
    #[must_use]
    pub fn meta(&self) -> BlobMeta {
        self.handle.meta()
    }

    /// At most `max` bytes (and at most 1 MiB) from `offset`; empty at the end. Does not move the reading position.
    ///
    /// # Errors
    /// What the host answered.
    pub fn read_at(&self, offset: u64, max: u32) -> Result<Vec<u8>, ResourceError> {
        self.handle.read_at(offset, max).map_err(|error| ResourceError::new(self.of.clone(), error))
    }

    fn chunk(&self, max: u32) -> Result<Vec<u8>, ResourceError> {
        self.handle.read(max).map_err(|error| ResourceError::new(self.of.clone(), error))
    }
}

impl io::Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(into.len()).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
        let chunk = self.chunk(max).map_err(io::Error::other)?;
        into[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}
