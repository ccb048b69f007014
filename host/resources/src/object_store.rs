//! Object stores, as ops see them: the interface `object-store` of the contract in plain Rust.
//!
//! Hostile guests: paths, prefixes and tokens are guest-controlled. Every call is bounded in count ([`MAX_PAGE`]) and in time
//! (30 s); of files, nothing outside of the root is touched, wherever symbolic links lead.

use std::collections::BinaryHeap;
use std::path::PathBuf;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, UpdateVersion};
use opyard_model::plan::Access;
use opyard_store::object::{CALL_TIMEOUT, Objects, Place, bounded};

use crate::blob::{BlobMeta, BlobReader, BlobWriter, ObjectReader, ObjectWriter};
use crate::error::{ResourceError, may_write};
use crate::path::{ObjectPath, Prefix};

/// Most objects of one page.
pub const MAX_PAGE: usize = 1_000;
/// Most objects looked at for one page, of a store that does not list in order.
const MAX_SCANNED: usize = 1_000_000;

/// What must hold for a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Nothing: what is there is replaced.
    Overwrite,
    /// Nothing is there.
    Create,
    /// What is there has this etag.
    Update(String),
}

/// Some objects, in the order of their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The objects.
    pub objects: Vec<BlobMeta>,
    /// What to ask for the next page with; none = this is the last.
    pub next: Option<String>,
}

/// A small object, whole.
#[derive(Debug)]
pub(crate) struct SmallObject {
    pub(crate) bytes: Bytes,
    pub(crate) etag: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) last_modified_ms: i64,
}

/// An object store that was granted.
#[derive(Debug, Clone)]
pub struct ObjectStoreResource {
    objects: Objects,
    access: Access,
}

/// What an error of an object store means to an op, where it is not just no answer.
fn meaning(error: &object_store::Error) -> Option<ResourceError> {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => Some(ResourceError::NotFound),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => Some(ResourceError::Conflict),
        Error::InvalidPath { .. } => Some(ResourceError::Invalid("no path of this object store".into())),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            Some(ResourceError::Unavailable("the object store refuses the operator's credentials".into()))
        }
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            Some(ResourceError::Invalid("this object store cannot do that".into()))
        }
        _ => None,
    }
}

/// Waits for a call of the object store, [`CALL_TIMEOUT`] at most.
pub(crate) async fn call<T>(
    context: &str,
    call: impl Future<Output = object_store::Result<T>>,
) -> Result<T, ResourceError> {
    let answer = async {
        match call.await {
            Ok(value) => Ok(Ok(value)),
            Err(error) => meaning(&error).map_or(Err(error), |meaning| Ok(Err(meaning))),
        }
    };
    bounded(context, answer).await?
}

fn blob_meta(meta: ObjectMeta) -> BlobMeta {
    BlobMeta {
        path: meta.location.into(),
        size: meta.size,
        etag: meta.e_tag,
        last_modified_ms: meta.last_modified.timestamp_millis(),
    }
}

/// Nothing at `path` leads out of `root`: neither the object nor a folder on the way to it.
fn stays_inside(root: &std::path::Path, path: &str) -> bool {
    let mut at = PathBuf::from(root);
    for segment in path.split('/') {
        at.push(segment);
        match std::fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => match at.canonicalize() {
                Ok(target) if target.starts_with(root) => {}
                _ => return false,
            },
            Ok(_) => {}
            // What is not there leads nowhere.
            Err(_) => return true,
        }
    }
    true
}

impl ObjectStoreResource {
    pub(crate) fn new(objects: Objects, access: Access) -> Self {
        Self { objects, access }
    }

    /// What may be done with it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Checks a path, and that no symbolic link on it leads out.
    pub(crate) fn path(&self, path: &str) -> Result<ObjectPath, ResourceError> {
        let path = ObjectPath::parse(path)?;
        let inside = self.objects.root.as_ref().is_none_or(|root| stays_inside(root, path.as_str()));
        if inside { Ok(path) } else { Err(ResourceError::Denied) }
    }

    /// What is known of an object.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Unavailable`, `Invalid`.
    pub async fn head(&self, path: &str) -> Result<BlobMeta, ResourceError> {
        let path = self.path(path)?;
        call("looking at an object", self.objects.store.head(path.as_path())).await.map(blob_meta)
    }

    /// Opens an object for reading.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Unavailable`, `Invalid`.
    pub async fn get(&self, path: &str) -> Result<BlobReader, ResourceError> {
        let path = self.path(path)?;
        let meta = call("opening an object", self.objects.store.head(path.as_path())).await?;
        let meta = blob_meta(meta);
        Ok(BlobReader::new(ObjectReader::new(self.clone(), path, meta.etag.clone()).into(), meta))
    }

    /// Begins an object. Nothing is visible before [`BlobWriter::commit`].
    ///
    /// # Errors
    /// `Denied` when only reading was granted; `Invalid`.
    pub fn put(&self, path: &str, mode: PutMode) -> Result<BlobWriter, ResourceError> {
        may_write(self.access)?;
        let path = self.path(path)?;
        let writer = match mode {
            PutMode::Overwrite => ObjectWriter::stream(self.clone(), path),
            PutMode::Create => ObjectWriter::held(self.clone(), path, object_store::PutMode::Create),
            PutMode::Update(_) if self.objects.place == Place::Local => {
                let reason = "files cannot be replaced on the condition that they are unchanged";
                return Err(ResourceError::Invalid(reason.into()));
            }
            PutMode::Update(etag) => {
                let version = UpdateVersion { e_tag: Some(etag), version: None };
                ObjectWriter::held(self.clone(), path, object_store::PutMode::Update(version))
            }
        };
        Ok(BlobWriter::new(writer.into()))
    }

    /// Reads an object of at most `max` bytes whole, and what a conditional put of it needs; none when there is none.
    ///
    /// # Errors
    /// `Unavailable`, also when it is larger: only this program writes such objects; `Denied`, `Invalid`.
    pub(crate) async fn get_small(&self, path: &str, max: usize) -> Result<Option<SmallObject>, ResourceError> {
        let path = self.path(path)?;
        let got = call("reading an object", async {
            let got = self.objects.store.get_opts(path.as_path(), GetOptions::default()).await?;
            let ObjectMeta { size, e_tag, version, last_modified, .. } = got.meta.clone();
            if size > max as u64 {
                return Ok(None);
            }
            let last_modified_ms = last_modified.timestamp_millis();
            Ok(Some(SmallObject { bytes: got.bytes().await?, etag: e_tag, version, last_modified_ms }))
        });
        match got.await {
            Ok(Some(object)) => Ok(Some(object)),
            Ok(None) => {
                Err(ResourceError::Unavailable(format!("an object of over {max} bytes where a small one belongs")))
            }
            Err(ResourceError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts an object whole, if `mode` holds; returns what the next conditional put of it needs.
    ///
    /// With a condition, `bytes` are like no others that were ever put there: a client that asks again because it missed the
    /// answer is told that the condition does not hold, and what lies there says whether that was our own doing.
    ///
    /// # Errors
    /// `Conflict`, `Denied` when only reading was granted; `Unavailable`, `Invalid`.
    pub(crate) async fn put_small(
        &self,
        path: &str,
        bytes: Bytes,
        mode: object_store::PutMode,
    ) -> Result<UpdateVersion, ResourceError> {
        may_write(self.access)?;
        let at = self.path(path)?;
        let is_conditional = !matches!(mode, object_store::PutMode::Overwrite);
        let put = self.objects.store.put_opts(at.as_path(), bytes.clone().into(), mode.into());
        match call("writing an object", put).await {
            Err(ResourceError::Conflict) if is_conditional => {
                let found = self.get_small(path, bytes.len()).await.ok().flatten();
                let ours = found.filter(|found| found.bytes == bytes).ok_or(ResourceError::Conflict)?;
                Ok(UpdateVersion { e_tag: ours.etag, version: ours.version })
            }
            answer => answer.map(Into::into),
        }
    }

    /// Removes an object. Nothing there is fine, as object stores cannot tell.
    ///
    /// # Errors
    /// `Denied` when only reading was granted; `Unavailable`, `Invalid`.
    pub async fn remove(&self, path: &str) -> Result<(), ResourceError> {
        may_write(self.access)?;
        let path = self.path(path)?;
        match call("removing an object", self.objects.store.delete(path.as_path())).await {
            Err(ResourceError::NotFound) => Ok(()),
            answer => answer,
        }
    }

    /// Objects whose paths start with `prefix`, in the order of their paths: the page after the one that gave `token`, at
    /// most `limit` (and [`MAX_PAGE`]) of them.
    ///
    /// # Errors
    /// `Limit` when there are too many to put in order, `Unavailable`, `Invalid`.
    pub async fn list_page(&self, prefix: &str, token: Option<&str>, limit: u32) -> Result<Page, ResourceError> {
        let prefix = Prefix::parse(prefix)?;
        let after = token.map(ObjectPath::parse).transpose()?;
        let limit = usize::try_from(limit).unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        let scan = self.scan(&prefix, after.as_ref().map(ObjectPath::as_path), limit + 1);
        let mut found = tokio::time::timeout(CALL_TIMEOUT, scan)
            .await
            .map_err(|_| ResourceError::Unavailable("listing took too long".into()))??;
        let more = found.len() > limit;
        found.truncate(limit);
        let objects: Vec<_> = found.into_iter().map(blob_meta).collect();
        let next = objects.last().filter(|_| more).map(|last| last.path.clone());
        Ok(Page { objects, next })
    }

    /// The first `count` objects after `after`, in order.
    async fn scan(
        &self,
        prefix: &Prefix<'_>,
        after: Option<&Path>,
        count: usize,
    ) -> Result<Vec<ObjectMeta>, ResourceError> {
        let store = &self.objects.store;
        let mut listed = match after {
            Some(after) => store.list_with_offset(prefix.folder.as_ref(), after),
            None => store.list(prefix.folder.as_ref()),
        };
        let in_order = self.objects.place != Place::Local;
        let mut first = BinaryHeap::new();
        let mut scanned = 0;
        while let Some(meta) = call("listing objects", async { listed.next().await.transpose() }).await? {
            scanned += 1;
            if scanned > MAX_SCANNED {
                return Err(ResourceError::Limit(format!("over {MAX_SCANNED} objects under one prefix")));
            }
            let path = meta.location.as_ref();
            let inside = || self.objects.root.as_ref().is_none_or(|root| stays_inside(root, path));
            if !path.starts_with(prefix.text) || ObjectPath::parse(path).is_err() || !inside() {
                continue;
            }
            first.push(ByPath(meta));
            if first.len() > count {
                first.pop();
            }
            if in_order && first.len() == count {
                break;
            }
        }
        Ok(first.into_sorted_vec().into_iter().map(|ByPath(meta)| meta).collect())
    }
}

/// An object, ordered by its path as text.
struct ByPath(ObjectMeta);

impl PartialEq for ByPath {
    fn eq(&self, other: &Self) -> bool {
        self.0.location == other.0.location
    }
}

impl Eq for ByPath {}

impl PartialOrd for ByPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.location.as_ref().cmp(other.0.location.as_ref())
    }
}
