//! What producers attached, for people. Everything here is guest-controlled: bounded, one line where one line is meant,
//! and never a live link.

use opyard_server::model::json::CanonicalJson;
use opyard_server::model::metadata::{Column, MetadataEntry, MetadataValue};
use opyard_server::model::time::Timestamp;
use serde_json::Value;

use crate::render::style::{DIM, paint};
use crate::render::table::{Cell, Side, Table};
use crate::render::text;

/// Most entries that are drawn of one list.
const MAX_ENTRIES: usize = 50;
/// Most rows that are drawn of one table.
const MAX_ROWS: usize = 40;
/// Widest cell of a table.
const MAX_CELL: usize = 40;
/// Widest label.
const MAX_LABEL: usize = 40;
/// Widest value that stands beside its label.
const MAX_INLINE: usize = 100;

/// `label: value`, one below the other, each line after `indent`; empty for no entries.
pub(crate) fn entries(entries: &[MetadataEntry], indent: &str) -> String {
    let mut lines: Vec<_> = entries.iter().take(MAX_ENTRIES).map(|entry| one(entry, indent)).collect();
    if entries.len() > MAX_ENTRIES {
        lines.push(format!("{indent}… {} more", entries.len() - MAX_ENTRIES));
    }
    lines.join("\n")
}

fn one(entry: &MetadataEntry, indent: &str) -> String {
    let label = paint(DIM, format_args!("{}:", text::one_line(&entry.label, MAX_LABEL)));
    match value(&entry.value) {
        Drawn::Inline(value) => format!("{indent}{label} {value}").trim_end().to_owned(),
        Drawn::Below(block) => {
            let inner = format!("{indent}  ");
            format!("{indent}{label}\n{}", text::block(&block, &inner))
        }
        Drawn::Table(table) => format!("{indent}{label}\n{}", table.render(&format!("{indent}  "))),
    }
}

/// `label: value`, of an entry whose value stands on one line.
pub(crate) fn brief(entry: &MetadataEntry) -> Option<String> {
    match value(&entry.value) {
        Drawn::Inline(value) => Some(format!("{}: {value}", text::one_line(&entry.label, MAX_LABEL))),
        Drawn::Below(_) | Drawn::Table(_) => None,
    }
}

enum Drawn {
    Inline(String),
    Below(String),
    Table(Table),
}

fn value(value: &MetadataValue) -> Drawn {
    match value {
        MetadataValue::Null => Drawn::Inline("null".into()),
        MetadataValue::Boolean(value) => Drawn::Inline(value.to_string()),
        MetadataValue::Int(value) => Drawn::Inline(value.to_string()),
        MetadataValue::Float(value) => Drawn::Inline(value.to_string()),
        MetadataValue::Text(value)
        | MetadataValue::Markdown(value)
        | MetadataValue::Url(value)
        | MetadataValue::Path(value)
        | MetadataValue::Run(value) => words(value),
        MetadataValue::TimestampMs(ms) => Drawn::Inline(Timestamp::from_micros(ms.saturating_mul(1_000)).to_string()),
        MetadataValue::Json(json) if json.as_str().len() <= MAX_INLINE => words(json.as_str()),
        MetadataValue::Json(json) => Drawn::Below(format!("{:#}", json.to_value())),
        MetadataValue::Asset(key) => words(&key.join("/")),
        MetadataValue::TableSchema(columns) => Drawn::Table(schema(columns)),
        MetadataValue::Table { columns, rows } => Drawn::Table(table(columns, rows)),
    }
}

fn words(value: &str) -> Drawn {
    if value.contains('\n') || value.len() > MAX_INLINE {
        Drawn::Below(value.to_owned())
    } else {
        Drawn::Inline(text::one_line(value, MAX_INLINE))
    }
}

fn schema(columns: &[Column]) -> Table {
    let mut table = Table::new(["column", "type", "nullable", "description"]);
    for column in columns.iter().take(MAX_ROWS) {
        table.row([
            text::one_line(&column.name, MAX_CELL).into(),
            text::one_line(&column.data_type, MAX_CELL).into(),
            if column.nullable { "yes" } else { "no" }.into(),
            text::one_line(column.description.as_deref().unwrap_or_default(), 60).into(),
        ]);
    }
    table
}

fn table(columns: &[Column], rows: &[CanonicalJson]) -> Table {
    let shown: Vec<Vec<Value>> = rows.iter().take(MAX_ROWS).map(cells).collect();
    let numeric = |at: usize| shown.iter().all(|row| row.get(at).is_none_or(|cell| cell.is_number() || cell.is_null()));
    let titles = columns.iter().enumerate().map(|(at, column)| {
        let side = if numeric(at) { Side::Right } else { Side::Left };
        (text::one_line(&column.name, MAX_CELL), side)
    });
    let mut table = Table::of_columns(titles.collect());
    for row in &shown {
        table.row(row.iter().take(columns.len()).map(|value| cell(value, MAX_CELL)));
    }
    if rows.len() > MAX_ROWS {
        table.row([Cell::styled(format!("… {} more", rows.len() - MAX_ROWS), DIM)]);
    }
    table
}

fn cells(row: &CanonicalJson) -> Vec<Value> {
    match row.to_value() {
        Value::Array(cells) => cells,
        other => vec![other],
    }
}

/// One JSON value in a cell: texts without quotes.
pub(crate) fn cell(value: &Value, width: usize) -> Cell {
    match value {
        Value::Null => "".into(),
        Value::String(value) => text::one_line(value, width).into(),
        other => text::one_line(&other.to_string(), width).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plain;

    fn column(name: &str) -> Column {
        Column { name: name.into(), data_type: "text".into(), nullable: true, description: Some("what\nit is".into()) }
    }

    #[test]
    fn every_kind_is_drawn_and_none_leaves_its_place() {
        let json = |text: &str| CanonicalJson::parse(text).unwrap();
        let values = [
            MetadataValue::Null,
            MetadataValue::Boolean(true),
            MetadataValue::Int(-3),
            MetadataValue::Float(0.976_744_186_046_511_6),
            MetadataValue::Text("plain \u{1b}]8;;http://x\u{7}text".into()),
            MetadataValue::Markdown("# Card\n\n| a | b |\n".into()),
            MetadataValue::Url("https://example.org".into()),
            MetadataValue::Path("a/b".into()),
            MetadataValue::TimestampMs(951_827_696_789),
            MetadataValue::Json(json(r#"{"a":[1,2]}"#)),
            MetadataValue::Json(json(&format!(r#"{{"a":"{}","b":1}}"#, "x".repeat(100)))),
            MetadataValue::Asset(vec!["models".into(), "penguins".into()]),
            MetadataValue::Run("run_x".into()),
            MetadataValue::TableSchema(vec![column("species"), column("mass")]),
            MetadataValue::Table {
                columns: vec![column("true class"), column("Adelie"), column("recall")],
                rows: vec![json(r#"["Adelie",36,0.97]"#), json(r#"["Gentoo\nx",0,null]"#), json(r#"["short"]"#)],
            },
            MetadataValue::Table {
                columns: vec![column("n")],
                rows: (0..50).map(|n| json(&format!("[{n}]"))).collect(),
            },
        ];
        let all: Vec<_> = values
            .into_iter()
            .enumerate()
            .map(|(at, value)| MetadataEntry { label: format!("label\n{at}"), value })
            .collect();
        insta::assert_snapshot!(plain(&entries(&all, "  ")));
    }
}
