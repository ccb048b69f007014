//! The checker against a simple reference, on examples, and on bytes that are no table.

mod arrow;
mod examples;
mod malformed;
mod reference;

use opyard_guest::metadata::MetadataEntry;
use opyard_guest::{Failure, MetadataValue, Reader, Verdict};
use serde_json::Value;

use crate::input::Limits;
use crate::params::TableParams;
use crate::rules::Rules;

pub(super) const CSV: &str = "text/csv";
pub(super) const NDJSON: &str = "application/x-ndjson";
pub(super) const ARROW: &str = "application/vnd.apache.arrow.stream";

pub(super) fn rules(params: Value) -> Result<Rules, Failure> {
    let params: TableParams = serde_json::from_value(params)?;
    Rules::new(params)
}

/// Limits with chunks of this size.
pub(super) fn chunks(chunk: u32) -> Limits {
    Limits { chunk, ..Limits::default() }
}

pub(super) fn check_with(limits: &Limits, media_type: &str, bytes: &[u8], params: Value) -> Verdict {
    crate::check(Reader::from_bytes(media_type, bytes), &rules(params).unwrap(), limits).unwrap()
}

/// Checks with the limits of the component.
pub(super) fn check(media_type: &str, bytes: impl AsRef<[u8]>, params: Value) -> Verdict {
    check_with(&Limits::default(), media_type, bytes.as_ref(), params)
}

pub(super) fn entry<'v>(verdict: &'v Verdict, label: &str) -> Option<&'v MetadataValue> {
    verdict.metadata().iter().find(|entry| entry.label == label).map(|entry| &entry.value)
}

/// A whole number beside the verdict; 0 when it is not there.
pub(super) fn number(verdict: &Verdict, label: &str) -> i64 {
    match entry(verdict, label) {
        Some(MetadataValue::Int(number)) => *number,
        None => 0,
        other => panic!("{label}: {other:?}"),
    }
}

/// What is said about constraints, without how many there are.
pub(super) fn broken(verdict: &Verdict) -> &str {
    let description = verdict.description().unwrap_or_default();
    description.split_once("not hold: ").map_or(description, |(_, broken)| broken)
}

/// The violations, each with its count.
pub(super) fn violations(verdict: &Verdict) -> Vec<(String, i64)> {
    let violation = |entry: &MetadataEntry| {
        let label = entry.label.strip_prefix("violations: ")?;
        Some((label.to_owned(), number(verdict, &entry.label)))
    };
    verdict.metadata().iter().filter_map(violation).collect()
}

/// The offending rows, as `row column value constraint`.
pub(super) fn offending(verdict: &Verdict) -> Vec<String> {
    let Some(MetadataValue::Table((_, rows))) = entry(verdict, "offending rows") else { return Vec::new() };
    let row = |row: &String| {
        let Value::Array(cells) = serde_json::from_str(row).unwrap() else { panic!("{row}") };
        let cells: Vec<_> =
            cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect();
        cells.join(" ")
    };
    rows.iter().map(row).collect()
}
