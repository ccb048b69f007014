//! Values that are never held whole: written in parts, checked while they are read.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetResult, GetResultPayload, ObjectStore};
use opyard_model::digest::Digest;
use opyard_model::value::ArtifactRef;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinHandle, spawn_blocking};

use super::artifacts::{Location, SqliteArtifacts};
use crate::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter, MAX_PACKED, Put};
use crate::crash::{self, CrashPoint};
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::Durable;
use crate::object::{Place, bounded};
use crate::upload::Upload;

/// How far a value is read ahead: 1 MiB.
pub(crate) const BLOCK: usize = 1 << 20;
/// Values of local files that are read ahead at a time, in one process: each holds two blocks and an open file. More of them are
/// read only as far as they are asked for, and nothing of them is held (of a remote object, what its connection hands over): a
/// guest that opens thousands of inputs and reads a byte of each must not fill the memory of the host.
pub(crate) const READ_AHEAD: usize = 32;

/// An artifact on its way in.
pub(crate) struct LargeWriter {
    store: SqliteArtifacts,
    hasher: blake3::Hasher,
    object: String,
    upload: Upload,
}

impl LargeWriter {
    pub(crate) fn new(store: SqliteArtifacts) -> Result<Self, StoreError> {
        let object = store.shared.object_name(&store.tenant, "large")?;
        let upload = Upload::new(&store.shared.objects, Path::from(object.as_str()));
        Ok(Self { store, hasher: blake3::Hasher::new(), object, upload })
    }
}

#[async_trait]
impl ArtifactWriter for LargeWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&bytes);
        self.upload.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<Put, StoreError> {
        let Self { store, hasher, object, mut upload } = *self;
        if upload.size() <= MAX_PACKED as u64
            && let Some(bytes) = upload.take_small()
        {
            return store.put(bytes).await;
        }
        let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        let artifact = ArtifactRef { digest, size: upload.size() };
        let put = Put { artifact, durable: Durable::now() };
        if store.has_sound(digest).await? {
            match store.keep(&[digest]).await {
                Ok(()) => return Ok(put),
                // Removed at this very moment: written after all.
                Err(StoreError { kind: StoreErrorKind::Missing(_), .. }) => {}
                Err(error) => return Err(error),
            }
        }
        upload.finish().await?;
        crash::point(CrashPoint::LargeStored);
        let path = Path::from(object.as_str());
        if !store.register(artifact, &object).await? {
            // The same bytes were stored meanwhile, and are kept once.
            store.shared.objects.discard(path);
        }
        Ok(put)
    }
}

/// Where a large value is, and what it must be.
struct Source {
    store: SqliteArtifacts,
    digest: Digest,
    location: Location,
}

/// A large value that is being read.
pub(crate) struct LargeReader {
    source: Source,
    state: Reading,
    /// Leave to hold a block.
    ahead: Option<OwnedSemaphorePermit>,
}

enum Reading {
    /// From start to end, hashing on the way.
    InOrder(Box<InOrder>),
    /// The whole was checked. A block that was read ahead, and its offset.
    Checked { block: Bytes, at: u64, etag: Option<String> },
    /// It is not what it should be.
    Failed(StoreError),
}

struct InOrder {
    /// The offset of the first byte of `ready`.
    next: u64,
    /// Bytes that were hashed and not handed out yet.
    ready: BytesMut,
    hasher: blake3::Hasher,
    way: Way,
    etag: Option<String>,
}

/// How the bytes come that were not seen yet.
enum Way {
    /// A piece at a time, of the object by its name.
    Pieces,
    /// Of a remote object, as its connection hands them over.
    Stream(BoxStream<'static, object_store::Result<Bytes>>),
    /// From a file that stays open.
    File(File),
    /// A block of it is being read, while whoever asked for the one before works on that.
    Coming(JoinHandle<(File, io::Result<Vec<u8>>)>),
}

/// Reads on in a file, on a thread that may wait for it. Less than `size` is its end.
fn read_on(mut file: File, size: usize) -> JoinHandle<(File, io::Result<Vec<u8>>)> {
    spawn_blocking(move || {
        let mut bytes = Vec::with_capacity(size);
        let read = file.by_ref().take(size as u64).read_to_end(&mut bytes);
        (file, read.map(|_| bytes))
    })
}

/// What went wrong with a file of a store, as the store says it.
fn file_error(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "file", source: Box::new(error) }
}

impl InOrder {
    fn new() -> Box<Self> {
        let (ready, hasher) = (BytesMut::new(), blake3::Hasher::new());
        Box::new(Self { next: 0, ready, hasher, way: Way::Pieces, etag: None })
    }

    /// The offset behind what was seen.
    fn seen(&self) -> u64 {
        self.next + self.ready.len() as u64
    }
}

impl Source {
    fn error(&self, kind: StoreErrorKind) -> StoreError {
        StoreError::new("reading an artifact", kind)
    }

    /// An answer of the object store, or what its error means here.
    async fn answer<T>(&self, call: impl Future<Output = object_store::Result<T>>) -> Result<T, StoreError> {
        let call = async {
            match call.await {
                Err(object_store::Error::NotFound { .. }) => Ok(Err(StoreErrorKind::Missing(self.digest))),
                // Another object than the one that was checked.
                Err(object_store::Error::Precondition { .. }) => Ok(Err(StoreErrorKind::Corrupt(self.digest))),
                answer => answer.map(Ok),
            }
        };
        bounded("reading an artifact", call).await?.map_err(|kind| self.error(kind))
    }

    /// Bytes from `offset` to the end.
    fn left(&self, offset: u64) -> usize {
        usize::try_from(self.location.size.saturating_sub(offset)).unwrap_or(usize::MAX)
    }

    /// Asks for a range of the object.
    async fn open(&self, offset: u64, size: u64, etag: Option<String>) -> Result<GetResult, StoreError> {
        let start = self.location.start + offset;
        let options = GetOptions { range: Some((start..start + size).into()), if_match: etag, ..GetOptions::default() };
        self.answer(self.store.shared.objects.store.get_opts(&self.location.object, options)).await
    }

    /// The next bytes of the object, hashed; false at its end. Who has come again will come once more: the block after them
    /// is read meanwhile.
    async fn more(&self, reading: &mut InOrder, (wanted, block): (usize, usize)) -> Result<bool, StoreError> {
        let seen = reading.seen();
        let left = self.left(seen);
        // Streams of files are cut in small pieces, each with a cost of its own.
        let size = wanted.max(block).min(left);
        let bytes = match std::mem::replace(&mut reading.way, Way::Pieces) {
            Way::Stream(mut stream) => {
                let more = self.answer(async { stream.next().await.transpose() }).await?;
                reading.way = Way::Stream(stream);
                more.unwrap_or_default()
            }
            _ if left == 0 => return Ok(false),
            Way::Coming(block) => self.came(reading, block).await?,
            Way::File(file) => self.came(reading, read_on(file, size)).await?,
            Way::Pieces if self.store.shared.objects.place == Place::Remote => {
                let got = self.open(0, self.location.size, None).await?;
                reading.etag.clone_from(&got.meta.e_tag);
                reading.way = Way::Stream(got.into_stream());
                return Ok(true);
            }
            Way::Pieces => {
                let got = self.open(seen, size as u64, reading.etag.clone()).await?;
                reading.etag.clone_from(&got.meta.e_tag);
                match got.payload {
                    GetResultPayload::File(mut file, _) if block > 0 => {
                        let start = SeekFrom::Start(self.location.start + seen);
                        self.answer(async { file.seek(start).map_err(file_error) }).await?;
                        self.came(reading, read_on(file, size)).await?
                    }
                    payload => self.answer(GetResult { payload, ..got }.bytes()).await?,
                }
            }
        };
        if bytes.is_empty() {
            return Ok(false);
        }
        let left = self.left(seen + bytes.len() as u64);
        if block > 0 && reading.next > 0 && left > 0 && reading.ready.is_empty() {
            reading.way = match std::mem::replace(&mut reading.way, Way::Pieces) {
                Way::File(file) => Way::Coming(read_on(file, BLOCK.min(left))),
                way => way,
            };
        }
        reading.hasher.update(&bytes);
        if reading.ready.is_empty() {
            // Not copied when nobody else holds it.
            reading.ready = BytesMut::from(bytes);
        } else {
            reading.ready.extend_from_slice(&bytes);
        }
        Ok(true)
    }

    /// The block that is being read.
    async fn came(
        &self,
        reading: &mut InOrder,
        block: JoinHandle<(File, io::Result<Vec<u8>>)>,
    ) -> Result<Bytes, StoreError> {
        let (file, read) = self.answer(async { block.await.map_err(file_error) }).await?;
        reading.way = Way::File(file);
        self.answer(async { read.map(Bytes::from).map_err(file_error) }).await
    }

    /// Takes bytes from the object store, `block` at a time, until `wanted` are ready, or all. Compares with the digest as
    /// soon as the last byte was seen, which is before it is handed out.
    async fn fill(&self, reading: &mut InOrder, (wanted, block): (usize, usize)) -> Result<(), StoreError> {
        while reading.ready.len() < wanted && self.more(reading, (wanted - reading.ready.len(), block)).await? {}
        let size = self.location.size;
        let seen = reading.seen();
        let truncated = reading.ready.len() < wanted;
        let altered = seen == size && reading.hasher.finalize().as_bytes() != self.digest.as_bytes();
        if truncated || altered || seen > size {
            return Err(self.error(StoreErrorKind::Corrupt(self.digest)));
        }
        Ok(())
    }

    /// Reads the whole without keeping it; returns the tag of the object that was read.
    async fn check(&self) -> Result<Option<String>, StoreError> {
        let mut reading = InOrder::new();
        while reading.next < self.location.size {
            let wanted = BLOCK.min(self.left(reading.next));
            self.fill(&mut reading, (wanted, BLOCK)).await?;
            reading.next += reading.ready.len() as u64;
            reading.ready.clear();
        }
        Ok(reading.etag.take())
    }
}

impl LargeReader {
    pub(crate) fn new(store: SqliteArtifacts, digest: Digest, location: Location) -> Self {
        Self { source: Source { store, digest, location }, state: Reading::InOrder(InOrder::new()), ahead: None }
    }

    /// Bytes that it holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        match &self.state {
            Reading::InOrder(reading) => {
                reading.ready.capacity() + if matches!(reading.way, Way::Coming(_)) { BLOCK } else { 0 }
            }
            Reading::Checked { block, .. } => block.len(),
            Reading::Failed(_) => 0,
        }
    }

    /// How far it may read ahead.
    fn block(&mut self) -> usize {
        if self.ahead.is_none() {
            self.ahead = Arc::clone(&self.source.store.shared.read_ahead).try_acquire_owned().ok();
        }
        if self.ahead.is_some() { BLOCK } else { 0 }
    }

    async fn read(&mut self, offset: u64, wanted: usize) -> Result<Bytes, StoreError> {
        let allowed = self.block();
        let Self { source, state, .. } = self;
        if let Reading::InOrder(reading) = state {
            if reading.next == offset {
                source.fill(reading, (wanted, allowed)).await?;
                reading.next += wanted as u64;
                // Taken whole, it has one owner, who can make a `Vec` of it without a copy.
                let whole = wanted == reading.ready.len();
                let taken = if whole { std::mem::take(&mut reading.ready) } else { reading.ready.split_to(wanted) };
                return Ok(taken.freeze());
            }
            let etag = source.check().await?;
            *state = Reading::Checked { block: Bytes::new(), at: 0, etag };
        }
        match state {
            Reading::Checked { block, at, etag } => {
                let skip = offset.checked_sub(*at).and_then(|skip| usize::try_from(skip).ok());
                if let Some(skip) = skip.filter(|skip| skip.saturating_add(wanted) <= block.len()) {
                    return Ok(block.slice(skip..skip + wanted));
                }
                let ahead = wanted.max(allowed).min(source.left(offset));
                let got = source.open(offset, ahead as u64, etag.clone()).await?;
                let read = source.answer(got.bytes()).await?;
                if read.len() != ahead {
                    return Err(source.error(StoreErrorKind::Corrupt(source.digest)));
                }
                let taken = read.slice(..wanted);
                if allowed > 0 {
                    (*block, *at) = (read, offset);
                }
                Ok(taken)
            }
            Reading::Failed(error) => Err(error.clone()),
            Reading::InOrder(_) => Err(source.error(StoreErrorKind::Unavailable("read again".into()))),
        }
    }
}

#[async_trait]
impl ArtifactReader for LargeReader {
    fn artifact(&self) -> ArtifactRef {
        ArtifactRef { digest: self.source.digest, size: self.source.location.size }
    }

    async fn read_at(&mut self, offset: u64, max: usize) -> Result<Bytes, StoreError> {
        let wanted = max.min(self.source.left(offset));
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let error = match self.read(offset, wanted).await {
            Ok(bytes) => return Ok(bytes),
            // Told again, it is known already.
            Err(error) if matches!(self.state, Reading::Failed(_)) => return Err(error),
            Err(error) => error,
        };
        let Source { store, digest, location } = &self.source;
        let error = store.understood(error, *digest, location).await;
        // What was taken from the stream is gone: later reads must not go on from there.
        self.state = match error.kind {
            StoreErrorKind::Unavailable(_) => Reading::InOrder(InOrder::new()),
            _ => Reading::Failed(error.clone()),
        };
        Err(error)
    }
}
