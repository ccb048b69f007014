//! Files behind an MLflow server's artifact proxy.

use std::io;

use bytes::Bytes;
use opyard_store::object::CALL_TIMEOUT;
use reqwest::{Body, Method, StatusCode, header};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Mlflow, checked, in_time, no_answer, read};
use super::strange;
use crate::blob::MAX_CHUNK;
use crate::error::ResourceError;
use crate::path::ObjectPath;

/// Chunks on their way to the server at a time, for one file.
const IN_FLIGHT: usize = 2;
/// Largest file that is held whole, of a server that does not serve parts of one: 64 MiB.
const MAX_WHOLE: u64 = 64 << 20;

/// What lies in a folder.
pub(super) struct ArtifactEntry {
    /// From the root of the version.
    pub(super) path: String,
    pub(super) is_folder: bool,
    pub(super) size: u64,
}

#[derive(Debug, Deserialize)]
struct ListAnswer {
    #[serde(default)]
    files: Vec<ListedFile>,
}

#[derive(Debug, Deserialize)]
struct ListedFile {
    path: String,
    #[serde(default)]
    is_dir: bool,
    /// A number, or one in text: both are JSON for the same.
    #[serde(default)]
    file_size: serde_json::Value,
}

impl Mlflow {
    /// What lies in `folder` (empty: all) of a version's `root`.
    pub(super) async fn list(&self, root: &ObjectPath, folder: &str) -> Result<Vec<ArtifactEntry>, ResourceError> {
        let below = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let whole = if folder.is_empty() { root.as_str().to_owned() } else { format!("{}/{folder}", root.as_str()) };
        let answer: ListAnswer = self.artifacts(&whole).await?;
        let entry = |file: ListedFile| {
            let size = file.file_size.as_u64().or_else(|| file.file_size.as_str()?.parse().ok()).unwrap_or(0);
            // The server says the name alone. It is checked like any path.
            let path = below(&file.path);
            if file.path.contains('/') || ObjectPath::parse(&path).is_err() {
                return Err(strange("a file of no usable name"));
            }
            Ok(ArtifactEntry { path, is_folder: file.is_dir, size })
        };
        answer.files.into_iter().map(entry).collect()
    }
}

/// Reads a file in blocks.
#[derive(Debug)]
pub(crate) struct ArtifactReader {
    server: Mlflow,
    path: ObjectPath,
    size: u64,
    /// Read ahead, from `block_at`.
    block: Bytes,
    block_at: u64,
}

impl ArtifactReader {
    pub(crate) fn new(server: Mlflow, path: ObjectPath, size: u64) -> Self {
        Self { server, path, size, block: Bytes::new(), block_at: 0 }
    }

    /// `wanted` bytes from `offset`, where `left` are left.
    pub(crate) async fn read_exact(&mut self, offset: u64, wanted: usize, left: usize) -> Result<Bytes, ResourceError> {
        if let Some(bytes) = self.held(offset, wanted) {
            return Ok(bytes);
        }
        let ahead = MAX_CHUNK.min(left);
        let range = format!("bytes={offset}-{}", offset + ahead as u64 - 1);
        let request = self.server.artifact(Method::GET, &self.path)?.header(header::RANGE, range);
        let (whole, bytes) = in_time(async {
            let response = checked(request.send().await.map_err(no_answer)?).await?;
            let whole = response.status() != StatusCode::PARTIAL_CONTENT;
            if whole && self.size > MAX_WHOLE {
                let reason =
                    format!("this MLflow server serves no parts of files, and the file has over {MAX_WHOLE} bytes");
                return Err(ResourceError::Limit(reason));
            }
            let most = if whole { usize::try_from(self.size).unwrap_or(usize::MAX) } else { ahead };
            Ok((whole, read(response, most).await?))
        })
        .await?;
        let expected = if whole { self.size } else { ahead as u64 };
        if bytes.len() as u64 != expected {
            return Err(ResourceError::Conflict);
        }
        (self.block, self.block_at) = (Bytes::from(bytes), if whole { 0 } else { offset });
        self.held(offset, wanted).ok_or(ResourceError::Conflict)
    }

    fn held(&self, offset: u64, wanted: usize) -> Option<Bytes> {
        let skip = usize::try_from(offset.checked_sub(self.block_at)?).ok()?;
        (skip.saturating_add(wanted) <= self.block.len()).then(|| self.block.slice(skip..skip + wanted))
    }
}

/// A piece of a file, or its end: a file that just stops is none.
#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
}

/// Sends a file while it is written. Dropped before it is committed, it breaks the connection off.
#[derive(Debug)]
pub(crate) struct ArtifactWriter {
    /// The request. First, so that it is stopped before it can miss the pieces.
    sending: JoinSet<Result<(), ResourceError>>,
    pieces: mpsc::Sender<Piece>,
}

impl ArtifactWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// `Invalid` when the server's address cannot be used.
    pub(crate) fn new(server: &Mlflow, path: &ObjectPath) -> Result<Self, ResourceError> {
        let (pieces, receiver) = mpsc::channel(IN_FLIGHT);
        let body = futures::stream::unfold(Some(receiver), |receiver| async {
            let mut receiver: mpsc::Receiver<Piece> = receiver?;
            match receiver.recv().await {
                Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
                Some(Piece::End) => None,
                None => Some((Err(io::Error::other("the file was given up")), None)),
            }
        });
        let request = server.artifact(Method::PUT, path)?.body(Body::wrap_stream(body));
        let mut sending = JoinSet::new();
        sending.spawn(async move {
            // Bounded by whoever writes: each piece, and the end, has its time.
            checked(request.send().await.map_err(no_answer)?).await.map(drop)
        });
        Ok(Self { sending, pieces })
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), ResourceError> {
        self.give(Piece::Bytes(bytes)).await
    }

    pub(crate) async fn commit(mut self) -> Result<(), ResourceError> {
        self.give(Piece::End).await?;
        self.answer().await
    }

    async fn give(&mut self, piece: Piece) -> Result<(), ResourceError> {
        let late =
            || ResourceError::Unavailable(format!("the MLflow server takes nothing for {} s", CALL_TIMEOUT.as_secs()));
        match tokio::time::timeout(CALL_TIMEOUT, self.pieces.send(piece)).await.map_err(|_| late())? {
            Ok(()) => Ok(()),
            // The request has ended before the file.
            Err(_) => Err(self.answer().await.err().unwrap_or_else(|| strange("an end before the file's"))),
        }
    }

    async fn answer(&mut self) -> Result<(), ResourceError> {
        in_time(async {
            match self.sending.join_next().await {
                Some(Ok(answer)) => answer,
                Some(Err(_)) | None => Err(strange("nothing")),
            }
        })
        .await
    }
}
