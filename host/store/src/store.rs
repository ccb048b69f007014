//! Opening a store, and the handles of one tenant.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opyard_model::id::{Name, RunId, TenantId};
use opyard_model::limits::ByteSize;
use opyard_model::time::Clock;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::artifact::ArtifactStore;
use crate::control::Control;
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::EventLog;
use crate::key_value::KeyValues;
use crate::memo::MemoStore;
use crate::object::Objects;
use crate::pool::Pools;
use crate::run::{MAX_PAGE, RunFilter, RunSummary};
use crate::sqlite::artifacts::SqliteArtifacts;
use crate::sqlite::cache::ValueCache;
use crate::sqlite::events::SqliteEvents;
use crate::sqlite::large::READ_AHEAD;
use crate::sqlite::memo::SqliteMemos;
use crate::sqlite::pools::SqlitePools;
use crate::sqlite::presence::Presence;
use crate::sqlite::queue::Queue;
use crate::sqlite::readers::Readers;
use crate::sqlite::writer::Writer;
use crate::sqlite::{Shared, lock, new_ulid, rows, schema, sqlite_error};

/// What a store is made of.
#[derive(Clone)]
pub struct StoreSettings {
    /// The database file. Made if it is not there, and its folder too.
    pub database: PathBuf,
    /// The object store's address: `file:///…`, `s3://…`, `gs://…`, `az://…`, `memory:///`.
    pub objects: String,
    /// Bytes of small values kept in memory. 16 MiB by default.
    pub cache: ByteSize,
    /// How long to wait for another process's lock of the database. 5 s by default.
    pub busy: Duration,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl StoreSettings {
    /// Settings with the defaults.
    #[must_use]
    pub fn new(database: impl Into<PathBuf>, objects: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self {
            database: database.into(),
            objects: objects.into(),
            cache: ByteSize(16 << 20),
            busy: Duration::from_secs(5),
            clock,
        }
    }
}

/// One yard's database and object store. Cheap to clone.
///
/// Dropping the last handle ends the writer once it has done what was queued; [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Ready when the writer has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.inner.shared.objects)
    }
}

impl Store {
    /// Opens a store, and makes it if there is none: whole or not at all. Blocks for some milliseconds.
    ///
    /// # Errors
    /// `Version` when a newer program made it; `Locked`, `Full`, `Unreadable`, `Unavailable`; `Invalid` for an address that
    /// cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(settings: StoreSettings) -> Result<Self, StoreError> {
        let runtime = Handle::current();
        let objects = Objects::open(&settings.objects, true)?;
        Self::with_objects(settings, objects, runtime)
    }

    pub(crate) fn with_objects(settings: StoreSettings, objects: Objects, runtime: Handle) -> Result<Self, StoreError> {
        let connection = schema::open_writer(&settings.database, settings.busy)?;
        let process = new_ulid(&*settings.clock)?;
        let shared = Arc::new(Shared {
            presence: Presence::enter(&settings.database, &process)?,
            process,
            clock: settings.clock,
            objects,
            queue: Queue::new(),
            readers: Readers::new(settings.database, settings.busy),
            read_ahead: Arc::new(Semaphore::new(READ_AHEAD)),
            tails: Mutex::default(),
            cache: Mutex::new(ValueCache::new(usize::try_from(settings.cache.0).unwrap_or(usize::MAX))),
            claims: Mutex::default(),
            freed: watch::Sender::new(()),
            followers: Mutex::default(),
        });
        let (sender, ended) = oneshot::channel();
        let writer = Writer::new(Arc::clone(&shared), connection, runtime);
        std::thread::Builder::new()
            .name("opyard-store".into())
            .spawn(move || {
                writer.run();
                drop(sender);
            })
            .map_err(|error| StoreError::new("starting the writer", StoreErrorKind::Unavailable(error.to_string())))?;
        Ok(Self { inner: Arc::new(Inner { shared, ended: Mutex::new(Some(ended)) }) })
    }

    /// Ends as if the process had ended between two commits.
    #[cfg(test)]
    pub(crate) async fn kill(self) {
        self.inner.shared.queue.discard();
        self.close().await;
    }

    #[cfg(test)]
    pub(crate) fn objects(&self) -> &Objects {
        &self.inner.shared.objects
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// The handles of one tenant: the only way to anything that is stored.
    #[must_use]
    pub fn tenant(&self, tenant: &TenantId) -> TenantStore {
        TenantStore { inner: Arc::clone(&self.inner), tenant: tenant.clone() }
    }

    /// Ends the writer: what was accepted is committed, or has failed, when this returns. Later calls answer `Unavailable`.
    pub async fn close(&self) {
        self.inner.shared.queue.close();
        let ended = lock(&self.inner.ended).take();
        if let Some(ended) = ended {
            // The writer says nothing; that it is gone is the answer.
            drop(ended.await);
        }
        self.inner.shared.objects.settled().await;
    }
}

/// What is stored of one tenant. Cheap to clone.
#[derive(Clone)]
pub struct TenantStore {
    inner: Arc<Inner>,
    tenant: TenantId,
}

impl std::fmt::Debug for TenantStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TenantStore({})", self.tenant)
    }
}

impl TenantStore {
    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// The event log.
    #[must_use]
    pub fn events(&self) -> Arc<dyn EventLog> {
        Arc::new(SqliteEvents { shared: Arc::clone(self.shared()), tenant: self.tenant.clone() })
    }

    /// The artifacts.
    #[must_use]
    pub fn artifacts(&self) -> Arc<dyn ArtifactStore> {
        Arc::new(SqliteArtifacts { shared: Arc::clone(self.shared()), tenant: self.tenant.clone() })
    }

    /// The memo.
    #[must_use]
    pub fn memos(&self) -> Arc<dyn MemoStore> {
        Arc::new(SqliteMemos { shared: Arc::clone(self.shared()), tenant: self.tenant.clone() })
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> Arc<dyn Pools> {
        Arc::new(SqlitePools { shared: Arc::clone(self.shared()), tenant: self.tenant.clone() })
    }

    /// A bucket of small values by name. It is there once something was put into it.
    #[must_use]
    pub fn key_values(&self, bucket: &Name) -> KeyValues {
        KeyValues { shared: Arc::clone(self.shared()), tenant: self.tenant.clone(), bucket: bucket.clone() }
    }

    /// Ownership of runs, and requests to their owners.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { shared: Arc::clone(self.shared()), tenant: self.tenant.clone() }
    }

    /// Summaries of runs, the newest first.
    ///
    /// # Errors
    /// `Unavailable`, `Unreadable`.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        let tenant = self.tenant.clone();
        self.shared()
            .readers
            .run(move |connection| {
                let wrong = |error: rusqlite::Error| sqlite_error("listing runs", &error);
                let statuses: Vec<_> = filter.status.iter().map(|status| status.name()).collect();
                let sql = format!(
                    "SELECT {} FROM runs WHERE tenant = ?1 AND run < coalesce(?2, 'run_~') \
                     AND job = coalesce(?3, job) AND (?4 = '[]' OR status IN (SELECT value FROM json_each(?4))) \
                     ORDER BY run DESC LIMIT ?5",
                    rows::SUMMARY_COLUMNS
                );
                let mut statement = connection.prepare_cached(&sql).map_err(wrong)?;
                let mut found = statement
                    .query(rusqlite::params![
                        tenant.as_str(),
                        filter.before.map(|run| run.to_string()),
                        filter.job.as_ref().map(|job| job.as_str()),
                        serde_json::to_string(&statuses).unwrap_or_default(),
                        rows::signed(filter.limit.min(MAX_PAGE) as u64),
                    ])
                    .map_err(wrong)?;
                let mut runs = Vec::new();
                while let Some(row) = found.next().map_err(wrong)? {
                    runs.push(rows::summary(row)?);
                }
                Ok(runs)
            })
            .await
    }

    /// The summary of one run; none when there is no such run.
    ///
    /// # Errors
    /// `Unavailable`, `Unreadable`.
    pub async fn run(&self, run: RunId) -> Result<Option<RunSummary>, StoreError> {
        let tenant = self.tenant.clone();
        let row = self.shared().readers.run(move |connection| rows::run_row(connection, &tenant, run)).await?;
        Ok(row.map(|row| row.summary))
    }
}
