//! The answer to a request, read piece by piece.

use bytes::{Bytes, BytesMut};
use opyard_model::error::Code;
use tokio::time::Instant;

use super::describe;
use crate::blob::MAX_CHUNK;
use crate::error::{ResourceError, ResourceFailure};

/// What a server answered. Its body is on its way: dropping this ends the connection.
#[derive(Debug)]
pub struct HttpResponse {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: reqwest::Response,
    /// Read ahead.
    pub(super) held: Bytes,
    /// How many more bytes the body may have.
    pub(super) left: u64,
    pub(super) deadline: Instant,
    /// Who answers, for the operator.
    pub(super) from: String,
    /// What every further read is told.
    pub(super) failed: Option<ResourceFailure>,
}

impl HttpResponse {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers, their names in lower case; without those of the connection and without cookies.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The bytes of status and headers, for limits.
    #[must_use]
    pub fn head_bytes(&self) -> u64 {
        self.headers.iter().map(|(name, value)| name.len() as u64 + value.len() as u64).sum()
    }

    /// The next bytes of the body, as they were sent: exactly `min(max, 1 MiB, bytes left)`; empty at the end. So what is
    /// read does not depend on how the network cut it.
    ///
    /// # Errors
    /// `Limit` when the body is larger than the resource takes, `Unavailable` when it breaks off or takes too long. The same
    /// from then on.
    pub async fn read(&mut self, max: u32) -> Result<Bytes, ResourceFailure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let read = self.fill(usize::try_from(max).unwrap_or(MAX_CHUNK).min(MAX_CHUNK)).await;
        if let Err(failure) = &read {
            self.failed = Some(failure.clone());
        }
        read
    }

    async fn fill(&mut self, wanted: usize) -> Result<Bytes, ResourceFailure> {
        let mut taken = BytesMut::new();
        while taken.len() < wanted {
            if self.held.is_empty() {
                match self.next().await? {
                    Some(bytes) => self.held = bytes,
                    None => break,
                }
            }
            let piece = self.held.split_to(self.held.len().min(wanted - taken.len()));
            if taken.is_empty() && piece.len() == wanted {
                return Ok(piece);
            }
            taken.extend_from_slice(&piece);
        }
        Ok(taken.freeze())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ResourceFailure> {
        match tokio::time::timeout_at(self.deadline, self.body.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                let left = self.left.checked_sub(bytes.len() as u64);
                self.left = left.ok_or_else(|| ResourceFailure::from(too_large()))?;
                Ok(Some(bytes))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => {
                let detail = format!("{}: the answer broke off: {}", self.from, describe(error));
                Err(ResourceFailure::unavailable("the answer broke off", Code::ResourceUnavailable, detail))
            }
            Err(_) => {
                let detail = format!("{}: the answer took too long", self.from);
                Err(ResourceFailure::unavailable("the answer took too long", Code::ResourceUnavailable, detail))
            }
        }
    }
}

/// A body is beyond what the resource takes.
pub(super) fn too_large() -> ResourceError {
    ResourceError::Limit("the answer is larger than `max_response` of the resource".to_owned())
}
