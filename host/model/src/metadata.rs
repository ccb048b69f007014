//! What producers attach to outputs, failures and asset events.

use serde::{Deserialize, Serialize};

use crate::json::CanonicalJson;

/// One labelled value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetadataEntry {
    /// What the value is. Guest-controlled: sanitised, at most 255 bytes.
    pub label: String,
    /// The value.
    pub value: MetadataValue,
}

/// A value of one of the kinds that the contract knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum MetadataValue {
    /// Nothing.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number, at most 2^53 in magnitude.
    Int(i64),
    /// A number. Not finite ones are kept as text in JSON, so this holds finite ones only.
    Float(f64),
    /// Plain text.
    Text(String),
    /// Text in a safe subset of Markdown. Never shown as HTML.
    Markdown(String),
    /// An address. Shown, never fetched.
    Url(String),
    /// A path of the author's.
    Path(String),
    /// Milliseconds since the Unix epoch, UTC.
    TimestampMs(i64),
    /// Any JSON.
    Json(CanonicalJson),
    /// The key of an asset.
    Asset(Vec<String>),
    /// The id of a run.
    Run(String),
    /// The columns of a table.
    TableSchema(Vec<Column>),
    /// A small table: columns, then one JSON array a row.
    Table {
        /// The columns.
        columns: Vec<Column>,
        /// One array a row, as long as `columns`.
        rows: Vec<CanonicalJson>,
    },
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its values, in the words of whoever wrote it.
    pub data_type: String,
    /// May hold nothing.
    pub nullable: bool,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
