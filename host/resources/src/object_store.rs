//! The resource `object_store`: objects by path, below one address.

use std::collections::BinaryHeap;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt as _, PutOptions, PutPayload, UpdateVersion};
use opyard_model::plan::Access;
use opyard_store::object::{CALL_TIMEOUT, Objects};
use opyard_store::upload::Upload;

use crate::error::ResourceError;
use crate::path::{checked, checked_prefix, stays_inside};

/// Most bytes of one read: 1 MiB.
pub const MAX_CHUNK: u32 = 1 << 20;
/// Most entries of one page.
pub const MAX_PAGE: u32 = 1_000;
/// Most objects that a listing looks at.
const MAX_LISTED: usize = 1_000_000;
/// Largest object that is written on a condition: it is held whole, since only a whole write can be refused.
const MAX_CONDITIONAL: usize = 16 << 20;

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMeta {
    /// Its path below the resource's address.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Changes when the content does.
    pub etag: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub last_modified_ms: i64,
}

impl From<ObjectMeta> for BlobMeta {
    fn from(meta: ObjectMeta) -> Self {
        let last_modified_ms = meta.last_modified.timestamp_millis();
        Self { path: meta.location.to_string(), size: meta.size, etag: meta.e_tag, last_modified_ms }
    }
}

/// On which condition an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// None.
    Overwrite,
    /// There is none yet.
    Create,
    /// It has this etag still.
    Update(String),
}

/// One page of a listing, in the order of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The objects.
    pub objects: Vec<BlobMeta>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// Objects by path, with the access of one grant.
#[derive(Debug, Clone)]
pub struct ObjectStoreResource {
    objects: Objects,
    access: Access,
}

async fn timely<T, E: Into<ResourceError>>(call: impl Future<Output = Result<T, E>>) -> Result<T, ResourceError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(ResourceError::Unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
    }
}

impl ObjectStoreResource {
    pub(crate) fn new(objects: Objects, access: Access) -> Self {
        Self { objects, access }
    }

    fn readable(&self, path: &str) -> Result<Path, ResourceError> {
        let path = checked(path)?;
        stays_inside(&self.objects, &path)?;
        Ok(path)
    }

    fn writable(&self, path: &str) -> Result<Path, ResourceError> {
        match self.access {
            Access::Read => Err(ResourceError::Denied),
            Access::ReadWrite => self.readable(path),
        }
    }

    /// What is known of an object.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Denied`, `Unavailable`.
    pub async fn head(&self, path: &str) -> Result<BlobMeta, ResourceError> {
        let path = self.readable(path)?;
        timely(self.objects.store.head(&path)).await.map(BlobMeta::from)
    }

    /// Opens an object.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub async fn get(&self, path: &str) -> Result<BlobReader, ResourceError> {
        let path = self.readable(path)?;
        let found = timely(self.objects.store.get(&path)).await?;
        let meta = BlobMeta::from(found.meta.clone());
        Ok(BlobReader { objects: self.objects.clone(), path, meta, rest: found.into_stream(), buffer: BytesMut::new() })
    }

    /// Begins an object. Nothing is visible before it is committed.
    ///
    /// # Errors
    /// `Denied` when only reading was granted; `Invalid`.
    pub fn put(&self, path: &str, mode: PutMode) -> Result<BlobWriter, ResourceError> {
        let path = self.writable(path)?;
        let writing = match mode {
            PutMode::Overwrite => Writing::Stream(Upload::new(&self.objects, path.clone())),
            PutMode::Create => Writing::Whole(BytesMut::new(), object_store::PutMode::Create),
            PutMode::Update(etag) => {
                let version = UpdateVersion { e_tag: Some(etag), version: None };
                Writing::Whole(BytesMut::new(), object_store::PutMode::Update(version))
            }
        };
        Ok(BlobWriter { objects: self.objects.clone(), path, writing })
    }

    /// Removes an object.
    ///
    /// # Errors
    /// `Denied`, `NotFound` (where the object store tells), `Invalid`, `Unavailable`.
    pub async fn remove(&self, path: &str) -> Result<(), ResourceError> {
        let path = self.writable(path)?;
        timely(self.objects.store.delete(&path)).await
    }

    /// Lists the objects whose path starts with `prefix`, in the order of paths, after `token`; at most `limit` of them
    /// (1 to [`MAX_PAGE`]).
    ///
    /// # Errors
    /// `Invalid`, `Limit` when the folder holds too many objects to look at, `Unavailable`.
    pub async fn list_page(&self, prefix: &str, token: Option<&str>, limit: u32) -> Result<Page, ResourceError> {
        let folder = checked_prefix(prefix)?;
        if let Some(folder) = &folder {
            stays_inside(&self.objects, folder)?;
        }
        let after = token.map(checked).transpose()?;
        let limit = usize::try_from(limit.clamp(1, MAX_PAGE)).unwrap_or(1);
        let mut listed = match &after {
            Some(after) => self.objects.store.list_with_offset(folder.as_ref(), after),
            None => self.objects.store.list(folder.as_ref()),
        };
        // Object stores list in the order of paths, file systems do not: keep the first of them, whatever the order.
        let mut first: BinaryHeap<(String, u64, Option<String>, i64)> = BinaryHeap::new();
        let mut looked_at = 0usize;
        while let Some(meta) = timely(listed.try_next()).await? {
            looked_at += 1;
            if looked_at > MAX_LISTED {
                return Err(ResourceError::Limit(format!("more than {MAX_LISTED} objects")));
            }
            let meta = BlobMeta::from(meta);
            if meta.path.starts_with(prefix) {
                first.push((meta.path, meta.size, meta.etag, meta.last_modified_ms));
                if first.len() > limit + 1 {
                    first.pop();
                }
            }
        }
        let mut objects: Vec<_> = first
            .into_sorted_vec()
            .into_iter()
            .map(|(path, size, etag, last_modified_ms)| BlobMeta { path, size, etag, last_modified_ms })
            .collect();
        let more = objects.len() > limit;
        objects.truncate(limit);
        let next = objects.last().filter(|_| more).map(|last| last.path.clone());
        Ok(Page { objects, next })
    }
}

/// An open object. Reads what was there when it was opened: a change meanwhile is a `Conflict` where the object store can
/// tell.
pub struct BlobReader {
    objects: Objects,
    path: Path,
    meta: BlobMeta,
    rest: BoxStream<'static, object_store::Result<Bytes>>,
    buffer: BytesMut,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobReader({})", self.meta.path)
    }
}

impl BlobReader {
    /// What it is.
    #[must_use]
    pub fn meta(&self) -> &BlobMeta {
        &self.meta
    }

    /// The next bytes: exactly `min(max, 1 MiB, bytes left)`; empty at the end.
    ///
    /// # Errors
    /// `Unavailable`, `NotFound`.
    pub async fn read(&mut self, max: u32) -> Result<Bytes, ResourceError> {
        let wanted = usize::try_from(max.min(MAX_CHUNK)).unwrap_or(0);
        while self.buffer.len() < wanted {
            match timely(self.rest.try_next()).await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => break,
            }
        }
        let taken = wanted.min(self.buffer.len());
        Ok(self.buffer.split_to(taken).freeze())
    }

    /// Likewise from `offset`; does not move the reading position.
    ///
    /// # Errors
    /// `Unavailable`, `NotFound`, `Conflict` when the object has changed.
    pub async fn read_at(&self, offset: u64, max: u32) -> Result<Bytes, ResourceError> {
        let end = offset.saturating_add(u64::from(max.min(MAX_CHUNK))).min(self.meta.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let range = Some(GetRange::Bounded(offset..end));
        let options = GetOptions { range, if_match: self.meta.etag.clone(), ..GetOptions::default() };
        let found = timely(self.objects.store.get_opts(&self.path, options)).await?;
        timely(found.bytes()).await
    }
}

enum Writing {
    Stream(Upload),
    Whole(BytesMut, object_store::PutMode),
}

/// An object on its way in. Dropped before it is committed, it leaves nothing.
pub struct BlobWriter {
    objects: Objects,
    path: Path,
    writing: Writing,
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobWriter({})", self.path)
    }
}

impl BlobWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// `Limit` (16 MiB when the object is written on a condition), `Unavailable`.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ResourceError> {
        match &mut self.writing {
            Writing::Stream(upload) => Ok(upload.write(bytes).await?),
            Writing::Whole(buffer, _) if buffer.len() + bytes.len() > MAX_CONDITIONAL => Err(ResourceError::Limit(
                format!("an object written on a condition has at most {MAX_CONDITIONAL} bytes"),
            )),
            Writing::Whole(buffer, _) => {
                buffer.extend_from_slice(&bytes);
                Ok(())
            }
        }
    }

    /// Makes it visible, whole.
    ///
    /// # Errors
    /// `Conflict` when the condition does not hold; `Invalid` when the object store knows no such condition;
    /// `Unavailable`.
    pub async fn commit(self) -> Result<BlobMeta, ResourceError> {
        match self.writing {
            Writing::Stream(upload) => {
                upload.finish().await?;
            }
            Writing::Whole(buffer, mode) => {
                let options = PutOptions { mode, ..PutOptions::default() };
                timely(self.objects.store.put_opts(&self.path, PutPayload::from(buffer.freeze()), options)).await?;
            }
        }
        timely(self.objects.store.head(&self.path)).await.map(BlobMeta::from)
    }
}
