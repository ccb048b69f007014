//! Values in, values out.

use std::io::{Read, Write};

use opyard_guest::{Bytes, Failure, Json, Nothing, Reader, Text, Writer, op};
use schemars::JsonSchema;
use serde::Deserialize;

/// Gives back the bytes it was given.
#[op]
pub(crate) fn echo(value: Bytes) -> Bytes {
    Bytes::new(value.into_inner())
}

/// Adds up any number of JSON numbers.
#[op]
pub(crate) fn add(numbers: Vec<Json<f64>>) -> Json<f64> {
    Json::new(numbers.iter().map(|number| **number).sum::<f64>())
}

/// What `constant` gives.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Constant {
    /// Any JSON value.
    value: serde_json::Value,
}

/// Gives the value of its config.
#[op(name = "const")]
pub(crate) fn constant(config: Constant) -> Json<serde_json::Value> {
    Json::new(config.value)
}

/// What `text` gives.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Words {
    /// The text.
    #[serde(default)]
    text: String,
}

/// Gives the text of its config.
#[op]
pub(crate) fn text(config: Words) -> Text {
    Text::new(config.text)
}

/// How much to write.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Size {
    /// Mebibytes.
    mib: u32,
}

/// Writes so many MiB, in pieces of 64 KiB that differ from each other.
#[op]
pub(crate) fn big(config: Size, mut result: Writer) -> Result<(), Failure> {
    let mut piece = vec![0; 64 << 10];
    for number in 0..u64::from(config.mib) * 16 {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        result.write_all(&piece)?;
    }
    result.commit()
}

/// Reads any number of bytes in little memory and gives how many there were and their FNV-1a hash.
#[op]
pub(crate) fn digest(mut value: Reader) -> Result<Json<(u64, String)>, Failure> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut size = 0;
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = value.read(&mut piece)?;
        if read == 0 {
            return Ok(Json::new((size, format!("{hash:016x}"))));
        }
        size += read as u64;
        for &byte in &piece[..read] {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Copies its input to its output, piece by piece.
#[op]
pub(crate) fn relay(mut value: Reader, mut result: Writer) -> Result<(), Failure> {
    std::io::copy(&mut value, &mut result)?;
    result.commit()
}

/// Does nothing, after any number of others.
#[op(result(name = "done"))]
pub(crate) fn noop(after: Vec<Nothing>) -> Nothing {
    drop(after);
    Nothing
}
