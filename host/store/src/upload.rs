//! Writing an object of unknown size: whole when it is small, in parts when it is not, and never half visible.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload, PutResult, WriteMultipart};

use crate::error::StoreError;
use crate::object::{CALL_TIMEOUT, Objects, bounded};

/// Parts on their way to the object store at a time, for one upload.
const IN_FLIGHT: usize = 2;

/// An object on its way in: at most three parts of it are in memory ([`Objects::part_bytes`]). Dropped before
/// [`finish`](Self::finish), it leaves nothing: what was sent is taken back.
#[derive(Debug)]
pub struct Upload {
    objects: Objects,
    path: Path,
    buffer: Vec<Bytes>,
    buffered: usize,
    size: u64,
    sending: Option<WriteMultipart>,
}

impl Upload {
    /// Begins an object at `path`, which it replaces when it is finished. Nothing is sent yet.
    #[must_use]
    pub fn new(objects: &Objects, path: Path) -> Self {
        Self { objects: objects.clone(), path, buffer: Vec::new(), buffered: 0, size: 0, sending: None }
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes. Waits when the object store is slower than the caller.
    ///
    /// # Errors
    /// `Full`, `Unavailable`. The upload cannot be finished any more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.size += bytes.len() as u64;
        if let Some(sending) = &mut self.sending {
            bounded("writing an object", sending.wait_for_capacity(IN_FLIGHT)).await?;
            sending.put(bytes);
            return Ok(());
        }
        self.buffered += bytes.len();
        self.buffer.push(bytes);
        if self.buffered >= self.objects.part_bytes() {
            let upload = bounded("writing an object", self.objects.store.put_multipart(&self.path)).await?;
            let mut sending = WriteMultipart::new_with_chunk_size(upload, self.objects.part_bytes());
            self.buffer.drain(..).for_each(|bytes| sending.put(bytes));
            self.sending = Some(sending);
        }
        Ok(())
    }

    /// Makes the object visible, whole. It is durable when this returns.
    ///
    /// # Errors
    /// `Full`, `Unavailable`; whether the object is there is in doubt then.
    pub async fn finish(mut self) -> Result<PutResult, StoreError> {
        match self.sending.take() {
            // What is not finished in time is left to the object store's own rules for abandoned uploads.
            Some(sending) => bounded("finishing an object", sending.finish()).await,
            None => {
                let payload: PutPayload = self.buffer.drain(..).collect();
                bounded("writing an object", self.objects.store.put(&self.path, payload)).await
            }
        }
    }

    /// Takes the bytes out, when nothing was sent yet.
    pub(crate) fn take_small(&mut self) -> Option<Bytes> {
        if self.sending.is_some() {
            return None;
        }
        let buffer = std::mem::take(&mut self.buffer);
        if let [bytes] = buffer.as_slice() {
            return Some(bytes.clone());
        }
        Some(Bytes::from(buffer.concat()))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take() {
            self.objects.clean_up(async move {
                // If this fails too, the object store's own rules for abandoned uploads remain.
                drop(tokio::time::timeout(CALL_TIMEOUT, sending.abort()).await);
            });
        }
    }
}

impl Objects {
    /// Removes an object that nobody knows of, without waiting.
    pub(crate) fn discard(&self, path: Path) {
        let store = std::sync::Arc::clone(&self.store);
        self.clean_up(async move { drop(bounded("removing an object", store.delete(&path)).await) });
    }
}
