//! The artifact store: packs for small values, objects of their own for large ones.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use opyard_model::digest::Digest;
use opyard_model::id::TenantId;
use opyard_model::value::ArtifactRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::cache::{Kept, ValueCache};
use super::large::{LargeReader, LargeWriter};
use super::queue::Command;
use super::upkeep::{FRESH, Moment};
use super::{Shared, damage, lock, sqlite_error, unreadable};
use crate::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter, MAX_PACKED, Put};
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::Durable;
use crate::object::bounded;

/// Rows read at a time by `list`.
const PAGE: u32 = 1_000;

/// The artifacts of one tenant.
#[derive(Clone)]
pub(crate) struct SqliteArtifacts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
}

/// An artifact on the disk.
pub(crate) enum Opened {
    /// Its bytes, checked.
    Small(Bytes),
    /// Where they are.
    Large(Location),
}

/// Where an artifact's bytes are.
pub(crate) struct Location {
    pub(crate) object: Path,
    pub(crate) start: u64,
    pub(crate) size: u64,
}

#[async_trait]
impl ArtifactStore for SqliteArtifacts {
    async fn put(&self, bytes: Bytes) -> Result<Put, StoreError> {
        check_small(&bytes)?;
        let artifact = ArtifactRef::of(&bytes);
        let shared = &*self.shared;
        let known = self.durable(&mut lock(&shared.cache), artifact.digest);
        if let Some(durable) = known {
            return Ok(Put { artifact, durable });
        }
        let room = shared.queue.reserve(bytes.len()).await?;
        // From here to the end no other put of the same bytes can come between.
        let mut cache = lock(&shared.cache);
        if let Some(durable) = self.durable(&mut cache, artifact.digest) {
            drop(cache);
            shared.queue.give_back(room);
            return Ok(Put { artifact, durable });
        }
        let (tenant, digest) = (self.tenant.clone(), artifact.digest);
        let ticket = shared.queue.push(room, Command::Put { tenant, digest, bytes: bytes.clone() })?;
        let durable = ticket.durable();
        cache.pending(&self.tenant, digest, bytes, durable.clone());
        Ok(Put { artifact, durable })
    }

    async fn begin(&self) -> Result<Box<dyn ArtifactWriter>, StoreError> {
        Ok(Box::new(LargeWriter::new(self.clone())?))
    }

    async fn get(&self, digest: Digest) -> Result<Box<dyn ArtifactReader>, StoreError> {
        let cached = lock(&self.shared.cache).get(&self.tenant, digest);
        if let Some((bytes, _)) = cached {
            return Ok(Box::new(SmallReader { digest, bytes }));
        }
        match self.open(digest).await? {
            Opened::Small(bytes) => {
                lock(&self.shared.cache).seen(&self.tenant, digest, bytes.clone());
                Ok(Box::new(SmallReader { digest, bytes }))
            }
            Opened::Large(location) => Ok(Box::new(LargeReader::new(self.clone(), digest, location))),
        }
    }

    async fn keep(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let (tenant, digests) = (self.tenant.clone(), digests.to_vec());
        let touched = self.shared.write(move |transaction, shared| {
            let context = "keeping artifacts";
            let wrong = |error: rusqlite::Error| sqlite_error(context, &error);
            let moment = Moment::read(transaction, &*shared.clock).map_err(wrong)?;
            for digest in digests {
                if !moment.touch(transaction, &tenant, digest).map_err(wrong)? {
                    return Err(StoreError::new(context, StoreErrorKind::Missing(digest)));
                }
            }
            Ok(())
        });
        let touched = touched.await;
        if let Err(StoreError { kind: StoreErrorKind::Missing(digest), .. }) = &touched {
            // It was removed: the next put of these bytes must write them.
            lock(&self.shared.cache).forget(&self.tenant, *digest);
        }
        touched
    }

    fn list(&self) -> BoxStream<'static, Result<ArtifactRef, StoreError>> {
        let store = self.clone();
        let pages = stream::try_unfold(Some([0u8; 32]), move |after| {
            let store = store.clone();
            async move {
                let Some(after) = after else { return Ok::<_, StoreError>(None) };
                let page = store.page(after).await?;
                let next = (page.len() == PAGE as usize).then(|| page.last().map(|last| *last.digest.as_bytes()));
                Ok(Some((stream::iter(page.into_iter().map(Ok)), next.flatten())))
            }
        });
        pages.try_flatten().boxed()
    }
}

/// A value that is put whole is small.
pub(crate) fn check_small(bytes: &Bytes) -> Result<(), StoreError> {
    if bytes.len() > MAX_PACKED {
        let reason = format!("{} bytes at once; {MAX_PACKED} are the limit", bytes.len());
        return Err(StoreError::new("storing an artifact", StoreErrorKind::TooLarge(reason)));
    }
    Ok(())
}

impl SqliteArtifacts {
    /// When a value that is in memory is durable; none when it is not there, or may have been removed from the disk.
    fn durable(&self, cache: &mut ValueCache, digest: Digest) -> Option<Durable> {
        match cache.get(&self.tenant, digest)? {
            (_, Kept::Soon(durable)) => Some(*durable),
            (_, Kept::Since(at)) if self.shared.clock.now().since(at) < FRESH => Some(Durable::now()),
            (_, Kept::Since(_) | Kept::Seen) => None,
        }
    }

    /// Opens what is on the disk: reads a small value and checks it, says where a large one is.
    pub(crate) async fn open(&self, digest: Digest) -> Result<Opened, StoreError> {
        let mut tried: Option<Path> = None;
        loop {
            let Some(Location { object, start, size }) = self.locate(digest).await? else {
                return Err(StoreError::new("opening an artifact", StoreErrorKind::Missing(digest)));
            };
            if size > MAX_PACKED as u64 {
                return Ok(Opened::Large(Location { object, start, size }));
            }
            let read = match self.range(digest, &object, start..start + size).await {
                Ok(bytes) if Digest::of(&bytes) != digest => {
                    Err(StoreError::new("reading an artifact", StoreErrorKind::Corrupt(digest)))
                }
                read => read,
            };
            match read {
                // A view into what the object store answered could keep more alive than it shows.
                Ok(bytes) => return Ok(Opened::Small(Bytes::copy_from_slice(&bytes))),
                // Clean-up has moved it to another pack meanwhile, unless it is gone from where it was before, too.
                Err(StoreError { kind: StoreErrorKind::Missing(_), .. }) if tried.as_ref() != Some(&object) => {
                    tried = Some(object);
                }
                Err(error) => return Err(self.understood(error, digest, &Location { object, start, size }).await),
            }
        }
    }

    /// What it means that an artifact could not be read. When it is the artifact itself, and not only the way to it, it is
    /// not counted upon any more.
    pub(crate) async fn understood(&self, error: StoreError, digest: Digest, location: &Location) -> StoreError {
        let damaged = match error.kind {
            StoreErrorKind::Missing(_) | StoreErrorKind::Corrupt(_) => true,
            // An object that was cut short is no error of its own to an object store.
            StoreErrorKind::Unavailable(_) => {
                let head = bounded("reading an artifact", self.shared.objects.store.head(&location.object)).await;
                head.is_ok_and(|meta| meta.size < location.start + location.size)
            }
            _ => false,
        };
        if !damaged {
            return error;
        }
        damage::note(&self.shared, &self.tenant, digest).await;
        match error.kind {
            StoreErrorKind::Unavailable(_) => StoreError::new(error.context, StoreErrorKind::Corrupt(digest)),
            _ => error,
        }
    }

    /// The artifact is there, and nothing is known against it.
    pub(crate) async fn has_sound(&self, digest: Digest) -> Result<bool, StoreError> {
        let tenant = self.tenant.clone();
        let look = move |connection: &Connection| {
            damage::has_sound(connection, &tenant, digest)
                .map_err(|error| sqlite_error("looking for an artifact", &error))
        };
        self.shared.readers.run(look).await
    }

    /// Where an artifact is; none when it is not there.
    pub(crate) async fn locate(&self, digest: Digest) -> Result<Option<Location>, StoreError> {
        let tenant = self.tenant.clone();
        self.shared
            .readers
            .run(move |connection| {
                let wrong = |error: rusqlite::Error| sqlite_error("looking for an artifact", &error);
                connection
                    .prepare_cached(
                        "SELECT name, start, artifacts.size FROM artifacts JOIN objects USING (object_no) \
                         WHERE artifacts.tenant = ?1 AND digest = ?2",
                    )
                    .map_err(wrong)?
                    .query_row(params![tenant.as_str(), digest.as_bytes()], |row| {
                        let (start, size): (i64, i64) = (row.get(1)?, row.get(2)?);
                        Ok(Location {
                            object: Path::from(row.get::<_, String>(0)?),
                            start: start.unsigned_abs(),
                            size: size.unsigned_abs(),
                        })
                    })
                    .optional()
                    .map_err(wrong)
            })
            .await
    }

    /// Bytes of an object.
    pub(crate) async fn range(
        &self,
        digest: Digest,
        object: &Path,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let context = "reading an artifact";
        let wanted = range.end - range.start;
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let store = &self.shared.objects.store;
        let call = async {
            match store.get_range(object, range).await {
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                answer => answer.map(Some),
            }
        };
        match bounded(context, call).await? {
            None => Err(StoreError::new(context, StoreErrorKind::Missing(digest))),
            // A truncated object.
            Some(bytes) if bytes.len() as u64 != wanted => {
                Err(StoreError::new(context, StoreErrorKind::Corrupt(digest)))
            }
            Some(bytes) => Ok(bytes),
        }
    }

    async fn page(&self, after: [u8; 32]) -> Result<Vec<ArtifactRef>, StoreError> {
        let tenant = self.tenant.clone();
        self.shared
            .readers
            .run(move |connection| {
                let wrong = |error: rusqlite::Error| sqlite_error("listing artifacts", &error);
                let mut statement = connection
                    .prepare_cached(
                        "SELECT digest, size FROM artifacts WHERE tenant = ?1 AND digest > ?2 ORDER BY digest LIMIT ?3",
                    )
                    .map_err(wrong)?;
                let found = statement
                    .query_map(params![tenant.as_str(), after, PAGE], |row| {
                        let size = row.get::<_, i64>(1)?.unsigned_abs();
                        Ok(ArtifactRef { digest: Digest::from_bytes(row.get(0)?), size })
                    })
                    .map_err(wrong)?;
                found.map(|artifact| artifact.map_err(wrong)).collect()
            })
            .await
    }

    /// Makes the object of a large artifact known; true when it was the first of these bytes.
    pub(crate) async fn register(&self, artifact: ArtifactRef, object: &str) -> Result<bool, StoreError> {
        let (tenant, digest, size) = (self.tenant.clone(), artifact.digest, artifact.size);
        let room = self.shared.queue.reserve(0).await?;
        let command = Command::Register { tenant, digest, size, object: object.to_owned() };
        self.shared.queue.push(room, command)?.durable().wait().await?;
        let location = self.locate(digest).await?;
        let location = location.ok_or_else(|| unreadable("storing an artifact", "its row is not there"))?;
        Ok(location.object == Path::from(object))
    }
}

/// A value that is in memory, and was checked.
pub(crate) struct SmallReader {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

/// The part of `bytes` that starts at `offset` and is at most `max` long.
pub(crate) fn part(bytes: &Bytes, offset: u64, max: usize) -> Bytes {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(start..start.saturating_add(max).min(bytes.len()))
}

#[async_trait]
impl ArtifactReader for SmallReader {
    fn artifact(&self) -> ArtifactRef {
        ArtifactRef { digest: self.digest, size: self.bytes.len() as u64 }
    }

    async fn read_at(&mut self, offset: u64, max: usize) -> Result<Bytes, StoreError> {
        Ok(part(&self.bytes, offset, max))
    }
}
