//! Metadata of guests, checked into metadata of ours.

use opyard_model::error::sanitize;
use opyard_model::json::{CanonicalJson, MAX_INTEGER};
use opyard_model::metadata::{Column, MetadataEntry, MetadataValue};
use serde_json::Value;

use crate::bindings::opyard::op::types;

/// Longest label or other short name, in bytes.
const MAX_LABEL: usize = 252;
/// Longest single text, in bytes; longer ones are cut.
const MAX_TEXT: usize = 64 << 10;
/// Most entries at once.
const MAX_ENTRIES: usize = 1_000;
/// Most columns of a table or a schema.
const MAX_COLUMNS: usize = 1_000;
/// Most rows of a table.
const MAX_ROWS: usize = 10_000;
/// Most parts of an asset's key.
const MAX_ASSET_KEY: usize = 16;

/// Guest-controlled metadata that cannot be taken, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata '{label}': {why}")]
pub(crate) struct BadMetadata {
    label: String,
    why: String,
}

/// Entries that were taken, and how many bytes they count for.
#[derive(Debug, PartialEq)]
pub(crate) struct Taken {
    pub(crate) entries: Vec<MetadataEntry>,
    pub(crate) bytes: u64,
}

/// Checks and converts entries.
///
/// # Errors
/// When a number is beyond 2^53, a text is not the JSON that it should be, or there is too much of something.
pub(crate) fn take(entries: Vec<types::MetadataEntry>) -> Result<Taken, BadMetadata> {
    if entries.len() > MAX_ENTRIES {
        return Err(BadMetadata { label: "…".to_owned(), why: format!("more than {MAX_ENTRIES} entries at once") });
    }
    let mut taken = Vec::with_capacity(entries.len());
    let mut bytes = 0;
    for entry in entries {
        let label = short(&entry.label);
        let mut size = 16 + label.len() as u64;
        let value = convert(entry.value, &mut size).map_err(|why| BadMetadata { label: label.clone(), why })?;
        bytes += size;
        taken.push(MetadataEntry { label, value });
    }
    Ok(Taken { entries: taken, bytes })
}

/// A label, name or key, fit to be stored.
pub(crate) fn short(text: &str) -> String {
    sanitize(text, MAX_LABEL)
}

fn convert(value: types::MetadataValue, size: &mut u64) -> Result<MetadataValue, String> {
    use types::MetadataValue as Theirs;
    let mut text = |text: &str| {
        let text = sanitize(text, MAX_TEXT);
        *size += text.len() as u64;
        text
    };
    Ok(match value {
        Theirs::Null => MetadataValue::Null,
        Theirs::Boolean(value) => MetadataValue::Boolean(value),
        Theirs::Int(value) => MetadataValue::Int(whole(value)?),
        // A number that JSON cannot hold is kept as the text of it.
        Theirs::Float(value) if !value.is_finite() => MetadataValue::Text(text(&value.to_string())),
        Theirs::Float(value) => MetadataValue::Float(value),
        Theirs::Text(value) => MetadataValue::Text(text(&value)),
        Theirs::Markdown(value) => MetadataValue::Markdown(text(&value)),
        Theirs::Url(value) => MetadataValue::Url(text(&value)),
        Theirs::Path(value) => MetadataValue::Path(text(&value)),
        Theirs::TimestampMs(value) => MetadataValue::TimestampMs(whole(value)?),
        Theirs::Json(value) => MetadataValue::Json(json(&value, size)?),
        Theirs::Asset(key) => MetadataValue::Asset(asset_key(&key, size)?),
        Theirs::Run(value) => MetadataValue::Run(text(&short(&value))),
        Theirs::TableSchema(columns) => MetadataValue::TableSchema(convert_columns(columns, size)?),
        Theirs::Table((columns, rows)) => {
            let columns = convert_columns(columns, size)?;
            if rows.len() > MAX_ROWS {
                return Err(format!("a table of more than {MAX_ROWS} rows"));
            }
            let rows = rows.iter().map(|text| row(text, columns.len(), size)).collect::<Result<_, _>>()?;
            MetadataValue::Table { columns, rows }
        }
    })
}

fn whole(value: i64) -> Result<i64, String> {
    if value.unsigned_abs() <= MAX_INTEGER { Ok(value) } else { Err(format!("the number {value} is beyond 2^53")) }
}

fn json(text: &str, size: &mut u64) -> Result<CanonicalJson, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("JSON of more than {MAX_TEXT} bytes"));
    }
    let json = CanonicalJson::parse(text).map_err(|error| error.to_string())?;
    *size += json.as_str().len() as u64;
    Ok(json)
}

fn row(text: &str, columns: usize, size: &mut u64) -> Result<CanonicalJson, String> {
    let row = json(text, size)?;
    match row.to_value() {
        Value::Array(cells) if cells.len() == columns => Ok(row),
        Value::Array(cells) => Err(format!("a row of {} cells in a table of {columns} columns", cells.len())),
        _ => Err("a row that is not a JSON array".to_owned()),
    }
}

/// The parts of an asset's key, fit to be stored.
pub(crate) fn asset_key(key: &[String], size: &mut u64) -> Result<Vec<String>, String> {
    if key.is_empty() || key.len() > MAX_ASSET_KEY {
        return Err(format!("an asset key has 1 to {MAX_ASSET_KEY} parts, not {}", key.len()));
    }
    let key: Vec<_> = key.iter().map(|part| short(part)).collect();
    *size += key.iter().map(|part| 16 + part.len() as u64).sum::<u64>();
    Ok(key)
}

fn convert_columns(columns: Vec<types::Column>, size: &mut u64) -> Result<Vec<Column>, String> {
    if columns.len() > MAX_COLUMNS {
        return Err(format!("more than {MAX_COLUMNS} columns"));
    }
    let convert = |column: types::Column| {
        let column = Column {
            name: short(&column.name),
            data_type: short(&column.data_type),
            nullable: column.nullable,
            description: column.description.map(|text| sanitize(&text, 4 << 10)),
        };
        *size += 32 + (column.name.len() + column.data_type.len()) as u64;
        *size += column.description.as_ref().map_or(0, |text| text.len() as u64);
        column
    };
    Ok(columns.into_iter().map(convert).collect())
}

/// The same entry in the contract's words, for whoever reads the value.
pub(crate) fn give(entry: &MetadataEntry) -> types::MetadataEntry {
    use types::MetadataValue as Theirs;
    let value = match &entry.value {
        MetadataValue::Null => Theirs::Null,
        MetadataValue::Boolean(value) => Theirs::Boolean(*value),
        MetadataValue::Int(value) => Theirs::Int(*value),
        MetadataValue::Float(value) => Theirs::Float(*value),
        MetadataValue::Text(value) => Theirs::Text(value.clone()),
        MetadataValue::Markdown(value) => Theirs::Markdown(value.clone()),
        MetadataValue::Url(value) => Theirs::Url(value.clone()),
        MetadataValue::Path(value) => Theirs::Path(value.clone()),
        MetadataValue::TimestampMs(value) => Theirs::TimestampMs(*value),
        MetadataValue::Json(value) => Theirs::Json(value.as_str().to_owned()),
        MetadataValue::Asset(key) => Theirs::Asset(key.clone()),
        MetadataValue::Run(value) => Theirs::Run(value.clone()),
        MetadataValue::TableSchema(columns) => Theirs::TableSchema(columns.iter().map(give_column).collect()),
        MetadataValue::Table { columns, rows } => Theirs::Table((
            columns.iter().map(give_column).collect(),
            rows.iter().map(|row| row.as_str().to_owned()).collect(),
        )),
    };
    types::MetadataEntry { label: entry.label.clone(), value }
}

fn give_column(column: &Column) -> types::Column {
    types::Column {
        name: column.name.clone(),
        data_type: column.data_type.clone(),
        nullable: column.nullable,
        description: column.description.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: types::MetadataValue) -> Result<MetadataValue, BadMetadata> {
        take(vec![types::MetadataEntry { label: "l\u{1b}".to_owned(), value }]).map(|mut taken| {
            let entry = taken.entries.pop().unwrap();
            assert_eq!(entry.label, "l\\u{1b}");
            assert!(taken.bytes >= 16);
            entry.value
        })
    }

    #[test]
    fn what_not_every_language_can_hold_is_refused() {
        use types::MetadataValue as Theirs;
        assert_eq!(one(Theirs::Int(1 << 53)), Ok(MetadataValue::Int(1 << 53)));
        assert!(one(Theirs::Int((1 << 53) + 1)).is_err());
        assert!(one(Theirs::TimestampMs(i64::MIN)).is_err());
        assert_eq!(one(Theirs::Float(f64::NAN)), Ok(MetadataValue::Text("NaN".to_owned())));
        assert!(one(Theirs::Json("[".repeat(100))).is_err());
        assert!(one(Theirs::Asset(Vec::new())).is_err());
    }

    #[test]
    fn rows_fit_their_columns() {
        use types::MetadataValue as Theirs;
        let column = |name: &str| types::Column {
            name: name.to_owned(),
            data_type: "int".to_owned(),
            nullable: false,
            description: None,
        };
        let table = |rows: &[&str]| {
            one(Theirs::Table((vec![column("a"), column("b")], rows.iter().map(|row| (*row).to_owned()).collect())))
        };
        assert!(table(&["[1, 2]", "[3, null]"]).is_ok());
        assert!(table(&["[1]"]).is_err());
        assert!(table(&["{}"]).is_err());
    }
}
