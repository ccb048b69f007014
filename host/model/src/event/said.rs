//! What a step says while it runs, and what is said of its values.

use serde::{Deserialize, Serialize};

use crate::component::{Interface, TypeName};
use crate::id::{ItemKey, Name};
use crate::json::CanonicalJson;
use crate::metadata::MetadataEntry;

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// For whoever watches.
    Info,
    /// Something to look at.
    Warning,
    /// Something failed.
    Error,
    /// Nothing can go on.
    Critical,
}

/// Where a line was printed that was not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output. Its lines have the level `info`.
    Stdout,
    /// Standard error. Its lines have the level `warning`.
    Stderr,
}

/// A line that a step logged or printed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// How grave.
    pub level: Level,
    /// Where it was printed; none for what was logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// What it says (sanitised).
    pub message: String,
    /// Structured fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, CanonicalJson)>,
}

/// How far a step says that it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: Option<u64>,
    /// What it is doing (sanitised).
    pub message: Option<String>,
}

/// One point of a numeric series of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPoint {
    /// The series.
    pub name: String,
    /// The value; one that is not finite is kept as none.
    pub value: Option<f64>,
    /// Where in the series (an epoch, say).
    pub step: Option<u64>,
}

/// An asset that was made or looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssetEvent {
    /// The asset.
    pub asset_key: Vec<String>,
    /// The partition.
    pub partition: Option<String>,
    /// What happened.
    pub description: Option<String>,
    /// What is known of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataEntry>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
}

/// Something that was expected, and was so or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// What was expected.
    pub label: String,
    /// It was so.
    pub success: bool,
    /// More words.
    pub description: Option<String>,
    /// What is known of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataEntry>,
}

/// Which side of an op a port is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What it is given.
    Input,
    /// What it yields.
    Output,
}

/// A value that was checked against its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeChecked {
    /// Which side of the op the port is on.
    pub direction: Direction,
    /// The port.
    pub port: Name,
    /// Which item it is; none when it is none.
    #[serde(default, skip_serializing_if = "ItemKey::is_no_item")]
    pub mapping_key: ItemKey,
    /// The type.
    pub type_name: TypeName,
    /// What checked it: `component.checker`, or `JSON Schema`.
    pub by: String,
    /// What the checker says (sanitised).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it adds: counts, offending rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataEntry>,
}

/// A granted resource that an op opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedResource {
    /// The op's key.
    pub key: Name,
    /// The resource, or for `secrets` the secret, by its name in the definitions.
    pub name: Name,
    /// The interface that it is used through.
    pub through: Interface,
}
