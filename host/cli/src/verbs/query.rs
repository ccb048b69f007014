//! `query`: questions in SQL.

use std::io::IsTerminal as _;

use opyard_server::model::error::sanitize;
use opyard_server::store::query::{QueryLimits, QueryRows};
use serde_json::{Map, Value};

use crate::args::{self, Format, Global};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render::metadata;
use crate::render::table::{Side, Table};
use crate::render::text::{counted, one_line};
use crate::screen::Screen;

pub(crate) async fn query(global: &Global, args: &args::Query, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let answer = yard.tenant_store().query(&args.sql, QueryLimits::default()).await?;
    match if screen.json() { Format::Json } else { args.format } {
        Format::Json => screen.print_json(&objects(&answer))?,
        Format::Csv => {
            let text = csv(&answer);
            // A file gets every byte; a terminal is not to be driven by what a guest wrote.
            let text = if std::io::stdout().is_terminal() { sanitize(&text, usize::MAX) } else { text };
            screen.print_as_is(&text)?;
        }
        Format::Table => {
            screen.print(&table(&answer))?;
            screen.note(&counted(answer.rows.len(), "row"));
        }
    }
    if answer.truncated {
        screen.note("there are more rows than one answer may have; narrow the query, or page with LIMIT and OFFSET");
    }
    Ok(Exit::Success)
}

fn table(answer: &QueryRows) -> String {
    let numeric = |at: usize| {
        let mut cells = answer.rows.iter().filter_map(|row| row.get(at)).filter(|cell| !cell.is_null()).peekable();
        cells.peek().is_some() && cells.all(Value::is_number)
    };
    let columns = answer
        .columns
        .iter()
        .enumerate()
        .map(|(at, name)| (one_line(name, 60), if numeric(at) { Side::Right } else { Side::Left }));
    let mut table = Table::of_columns(columns.collect());
    for row in &answer.rows {
        table.row(row.iter().map(|cell| metadata::cell(cell, 80)));
    }
    table.render_all("")
}

fn objects(answer: &QueryRows) -> Value {
    let object = |row: &Vec<Value>| -> Value {
        answer.columns.iter().cloned().zip(row.iter().cloned()).collect::<Map<_, _>>().into()
    };
    answer.rows.iter().map(object).collect()
}

/// RFC 4180 with line feeds: a field with a comma, a quote or a line end is quoted.
fn csv(answer: &QueryRows) -> String {
    fn field(text: &str) -> String {
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    }
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => field(text),
        other => field(&other.to_string()),
    };
    let head = answer.columns.iter().map(|name| field(name)).collect::<Vec<_>>().join(",");
    let rows = answer.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(","));
    [head].into_iter().chain(rows).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::plain;

    #[test]
    fn rows_are_written_in_every_format() {
        let answer = QueryRows {
            columns: vec!["job".into(), "n".into(), "note".into(), "nothing".into()],
            rows: vec![
                vec![json!("train"), json!(3), json!("a, \"b\"\nc"), json!(null)],
                vec![json!("x"), json!(12.5), json!("\u{1b}[2J"), json!(null)],
            ],
            truncated: false,
        };
        insta::assert_snapshot!(plain(&table(&answer)));
        assert_eq!(csv(&answer), "job,n,note,nothing\ntrain,3,\"a, \"\"b\"\"\nc\",\nx,12.5,\u{1b}[2J,\n");
        assert_eq!(objects(&answer)[1], json!({ "job": "x", "n": 12.5, "note": "\u{1b}[2J", "nothing": null }));
    }
}
