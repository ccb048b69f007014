//! What `cargo xtask bench` measures: as little as an op can do, and as many bytes as one can move.

use opyard_guest::{Failure, Json, Reader, Writer, op};
use schemars::JsonSchema;
use serde::Deserialize;

/// The most that crosses in one call.
const PIECE: u32 = 1 << 20;

/// One more than its input: the smallest step that reads, computes and writes, and that is no other step again.
#[op]
pub(crate) fn next(value: Json<u64>) -> Json<u64> {
    Json::new(*value + 1)
}

/// What `pour` writes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pour {
    /// How many bytes.
    bytes: u64,
    /// Tells them from those of another.
    salt: u64,
}

/// Writes so many bytes, in the largest pieces that cross in one call, each other than all others.
#[op]
pub(crate) fn pour(config: Pour, mut result: Writer) -> Result<(), Failure> {
    let mut piece = vec![0; usize::try_from(config.bytes.min(PIECE.into()))?];
    let mut left = config.bytes;
    while left > 0 {
        let size = piece.len().min(usize::try_from(left)?);
        for (to, from) in piece.iter_mut().zip(config.salt.to_le_bytes().into_iter().chain(left.to_le_bytes())) {
            *to = from;
        }
        result.write_bytes(&piece[..size])?;
        left -= size as u64;
    }
    result.commit()
}

/// Reads all of its input, in the largest pieces that cross in one call, and gives how many bytes there were.
#[op]
pub(crate) fn drain(value: Reader) -> Result<Json<u64>, Failure> {
    let mut size = 0;
    loop {
        let piece = value.read_at(size, PIECE)?;
        if piece.is_empty() {
            return Ok(Json::new(size));
        }
        size += piece.len() as u64;
    }
}
