//! What the `check` block of a type says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Number;

/// What a table has to be.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableParams {
    /// The columns that the table has, by name, and what is demanded of each.
    #[serde(default)]
    pub(crate) columns: BTreeMap<String, Column>,
    /// Whether other columns are refused.
    #[serde(default)]
    pub(crate) strict: bool,
    /// Columns that occur in this order, whatever stands between them. Each is one of `columns`. (A list, because the keys
    /// of `columns` have no order.)
    #[serde(default)]
    pub(crate) ordered: Vec<String>,
    /// How many rows the table has.
    #[serde(default)]
    pub(crate) rows: Rows,
}

/// How many rows a table has.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rows {
    /// At least so many.
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub(crate) min: Option<u64>,
    /// At most so many.
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub(crate) max: Option<u64>,
}

/// What is demanded of a column.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Column {
    /// What its values are.
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// Whether values may be missing.
    #[serde(default = "yes")]
    pub(crate) nullable: bool,
    /// The only values that it may have. Dates and timestamps are strings.
    #[serde(rename = "in")]
    #[schemars(length(min = 1, max = 10_000))]
    pub(crate) allowed: Option<Vec<Literal>>,
    /// The least value; for `int64`, `float64`, `date` and `timestamp`.
    pub(crate) min: Option<Literal>,
    /// The greatest value; for `int64`, `float64`, `date` and `timestamp`.
    pub(crate) max: Option<Literal>,
    /// What is found in every value; for `utf8`. `^` and `$` make it match the whole value.
    #[schemars(length(max = 1_000))]
    pub(crate) pattern: Option<String>,
    /// Whether no value occurs twice.
    #[serde(default)]
    pub(crate) unique: bool,
}

fn yes() -> bool {
    true
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Text.
    Utf8,
    /// A whole number of 64 bits.
    Int64,
    /// A number.
    Float64,
    /// True or false.
    Boolean,
    /// A day.
    Date,
    /// A moment, to the nanosecond.
    Timestamp,
}

impl Kind {
    /// As it is written in the definitions file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
        }
    }
}

/// A value in the definitions file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Literal {
    /// For `boolean`.
    Boolean(bool),
    /// For `int64` and `float64`.
    Number(Number),
    /// For `utf8`, `date` and `timestamp`.
    Text(String),
}
