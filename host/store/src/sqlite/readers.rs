//! A few connections for reading, used on the threads for blocking work.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{closed, lock, schema, unreadable};
use crate::error::StoreError;

/// Connections that may be open at a time: reading is short, and each holds up to 4 MiB of pages.
const CONNECTIONS: usize = 4;

/// A pool of read-only connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Pool>);

struct Pool {
    path: PathBuf,
    busy: Duration,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, busy: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        Self(Arc::new(Pool { path, busy, idle: Mutex::new(Vec::new()), permits }))
    }

    /// Where the database is, and how long to wait for a lock.
    pub(crate) fn database(&self) -> (&PathBuf, Duration) {
        (&self.0.path, self.0.busy)
    }

    /// Runs `work` with a connection, here and now when one is idle: for a few rows by their keys, which takes some
    /// microseconds, while going to a thread for blocking work and coming back takes tens.
    ///
    /// # Errors
    /// Those of opening and of `work`.
    pub(crate) async fn run_short<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.0.permits.try_acquire();
        let idle = permit.as_ref().ok().and_then(|_| lock(&self.0.idle).pop());
        let Some(connection) = idle else {
            drop(permit);
            return self.run(work).await;
        };
        let answer = work(&connection);
        lock(&self.0.idle).push(connection);
        answer
    }

    /// Runs `work` with a connection, on a thread for blocking work.
    ///
    /// # Errors
    /// Those of opening and of `work`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let pool = Arc::clone(&self.0);
        let permit = Arc::clone(&pool.permits).acquire_owned().await.map_err(|_| closed("reading"))?;
        let answer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = lock(&pool.idle).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => schema::open_reader(&pool.path, pool.busy)?,
            };
            let answer = work(&connection);
            lock(&pool.idle).push(connection);
            answer
        });
        answer.await.map_err(|error| unreadable("reading", error))?
    }
}
