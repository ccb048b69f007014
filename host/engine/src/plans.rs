//! Plans: written to the store in pieces, and not read again while somebody in this process holds them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::id::RunId;
use opyard_model::plan::{MAX_PLAN, Plan};
use opyard_model::value::ArtifactRef;
use opyard_store::artifact::ArtifactStore;
use opyard_store::error::{StoreError, StoreErrorKind};
use tokio::sync::mpsc;

use crate::error::EngineError;

/// The JSON of a plan of 100,000 steps has 70 MB: it is handed on in pieces of this size, and a few of them are held.
const PIECE: usize = 256 << 10;

/// Makes the JSON of a plan an artifact.
///
/// # Errors
/// `TooLarge` beyond [`MAX_PLAN`] bytes; those of the store.
pub(crate) async fn store(
    artifacts: &dyn ArtifactStore,
    run: RunId,
    plan: &Arc<Plan>,
) -> Result<ArtifactRef, EngineError> {
    let mut writer = artifacts.begin().await?;
    let (to, mut pieces) = mpsc::channel(2);
    let plan = Arc::clone(plan);
    let writing = tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { to, piece: Vec::new() };
        serde_json::to_writer(&mut pieces, plan.as_ref())?;
        pieces.flush().map_err(serde_json::Error::io)
    });
    let mut size = 0;
    while let Some(piece) = pieces.recv().await {
        let piece: Bytes = piece;
        size += piece.len() as u64;
        if size > MAX_PLAN {
            let kind = StoreErrorKind::TooLarge(format!("a plan of more than {MAX_PLAN} bytes"));
            return Err(StoreError::new("storing the plan", kind).into());
        }
        writer.write(piece).await?;
    }
    let written = writing.await.map_err(|error| error.to_string());
    written
        .and_then(|written| written.map_err(|error| error.to_string()))
        .map_err(|reason| EngineError::Plan { run, reason })?;
    Ok(writer.finish().await?.artifact)
}

/// Hands on what is written to it. When nobody takes it any more, writing fails.
struct Pieces {
    to: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.to.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Plans by the digest of their JSON: whoever launches a run and drives it does not hold its plan twice, nor read it again.
/// A plan is here for as long as somebody holds it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plans(Arc<Mutex<HashMap<Digest, Weak<Plan>>>>);

impl Plans {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Plan>>> {
        // What is under it is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `plan` has this digest.
    pub(crate) fn note(&self, digest: Digest, plan: &Arc<Plan>) {
        let mut plans = self.lock();
        plans.retain(|_, plan| plan.strong_count() > 0);
        plans.insert(digest, Arc::downgrade(plan));
    }

    /// The plan of that digest, if somebody holds it.
    pub(crate) fn find(&self, digest: Digest) -> Option<Arc<Plan>> {
        self.lock().get(&digest).and_then(Weak::upgrade)
    }
}
