//! What came of a case, as text that stands in a file: without times and ids, so that it is the same each time.

use opyard_model::error::Failure;
use opyard_model::event::RunEvent;
use opyard_model::limits::{Limits, Usage};
use serde_json::{Map, Value, json};

use crate::fakes::shown;
use crate::op::{OpOutcome, OpOutput, OpRun};

/// A case as a piece of a snapshot file: YAML, every line after two blanks.
pub(crate) fn text(run: &OpRun) -> String {
    let mut out = String::new();
    let outcome = match &run.outcome {
        OpOutcome::Success => json!("success"),
        OpOutcome::Retry { description } => json!({ "retry": description }),
        OpOutcome::Failure(failure) => {
            // Addresses of code are others with every build.
            let metadata = failure.metadata.iter().filter(|entry| entry.label != "backtrace").cloned().collect();
            json!({ "failure": Failure { metadata, ..failure.clone() } })
        }
    };
    let mut sections = vec![("outcome", outcome), ("outputs", run.outputs.iter().map(output).collect())];
    sections.push(("events", run.events.iter().filter_map(event).collect()));
    sections.push(("resources", run.resources.iter().map(|(key, left)| (key.to_string(), left.clone())).collect()));
    sections.push(("used", used(&run.usage, &run.limits)));
    for (name, value) in sections {
        let is_empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
        if !is_empty {
            entry(&mut out, name, &value, 2);
        }
    }
    out
}

fn output(output: &OpOutput) -> Value {
    let value = &output.value;
    let is_json = value.media_type.as_str().ends_with("json");
    let shown = match &output.bytes {
        Some(bytes) => shown(bytes, is_json),
        None => json!(value.artifact),
    };
    let mut told = Map::new();
    told.insert("port".into(), json!(output.port));
    if let Some(key) = value.mapping_key.text() {
        told.insert("item".into(), json!(key));
    }
    told.insert("type".into(), json!(value.type_name));
    told.insert("media_type".into(), json!(value.media_type));
    if !value.metadata.is_empty() {
        told.insert("metadata".into(), json!(value.metadata));
    }
    told.insert("value".into(), shown);
    told.into()
}

/// An event by its kind; none for what is told elsewhere.
fn event(event: &RunEvent) -> Option<Value> {
    if matches!(event, RunEvent::StepOutput { .. }) {
        return None;
    }
    let mut payload: Value = serde_json::from_str(&event.payload()).ok()?;
    if let Some(fields) = payload.as_object_mut() {
        fields.remove("of");
        fields.remove("from_memo");
        // A payload of one thing is that thing.
        if fields.len() == 1 {
            payload = std::mem::take(fields).into_iter().next()?.1;
        }
    }
    Some(json!({ event.kind(): payload }))
}

/// What was used of what might have been. Rounded up to a power of two: the next build of the same source must not differ, and
/// twice as much must.
fn used(usage: &Usage, limits: &Limits) -> Value {
    let of = |used: u64, limit: u64| format!("{} of {}", rounded(used), short(limit));
    json!({
        "fuel": of(usage.fuel, limits.fuel),
        "memory": of(usage.peak_memory, limits.memory.0),
        "host_calls": of(usage.host_calls, limits.host_calls),
        "read_bytes": of(usage.read_bytes, limits.read_bytes.0),
        "written_bytes": of(usage.written_bytes, limits.output_bytes.0),
    })
}

fn rounded(used: u64) -> String {
    match used {
        0 => "none".to_owned(),
        1 => "1".to_owned(),
        more => format!("at most {}", short(more.checked_next_power_of_two().unwrap_or(u64::MAX))),
    }
}

/// A number that a person can compare: in the largest unit of which it is a whole number.
fn short(number: u64) -> String {
    let units: [(&str, u64); 8] = [
        ("T", 1_000_000_000_000),
        ("G", 1_000_000_000),
        ("M", 1_000_000),
        ("k", 1_000),
        ("Ti", 1 << 40),
        ("Gi", 1 << 30),
        ("Mi", 1 << 20),
        ("Ki", 1 << 10),
    ];
    let unit = units.iter().find(|(_, unit)| number >= *unit && number.is_multiple_of(*unit));
    unit.map_or_else(|| number.to_string(), |(name, unit)| format!("{}{name}", number / unit))
}

/// `name: value` as YAML.
fn entry(out: &mut String, name: &str, value: &Value, indent: usize) {
    out.push_str(&" ".repeat(indent));
    out.push_str(&key(name));
    out.push(':');
    after(out, value, indent);
}

/// A value after its key, or after the dash of its item.
fn after(out: &mut String, value: &Value, indent: usize) {
    let margin = " ".repeat(indent + 2);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            for (name, value) in fields {
                entry(out, name, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() && !is_small(items) => {
            out.push('\n');
            for item in items {
                out.push_str(&margin);
                out.push('-');
                match item.as_object().filter(|fields| !fields.is_empty()) {
                    // The first of its entries stands beside the dash.
                    Some(fields) => {
                        let mut entries = String::new();
                        fields.iter().for_each(|(name, value)| entry(&mut entries, name, value, indent + 4));
                        out.push_str(&entries[indent + 3..]);
                    }
                    None => after(out, item, indent + 2),
                }
            }
        }
        Value::String(text) if is_block(text) => {
            out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.lines() {
                out.push_str(format!("{margin}{line}").trim_end());
                out.push('\n');
            }
        }
        Value::String(text) => out.push_str(&format!(" {}\n", scalar(text))),
        other => out.push_str(&format!(" {other}\n")),
    }
}

/// A list of few short things stands on one line.
fn is_small(items: &[Value]) -> bool {
    let is_scalar = |item: &Value| !item.is_object() && !item.is_array();
    items.iter().all(is_scalar) && items.iter().map(|item| item.to_string().len()).sum::<usize>() <= 60
}

/// Lines that a block holds as they are.
fn is_block(text: &str) -> bool {
    let lines = text.trim_end_matches('\n');
    text.contains('\n')
        && !lines.is_empty()
        && text.len() - lines.len() <= 1
        && !text.starts_with([' ', '\n'])
        && !text.chars().any(|c| c.is_control() && c != '\n')
        && !text.lines().any(|line| line.ends_with(' '))
}

fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_alphanumeric() || "_-./ ,()%+=@".contains(c))
        && !text.ends_with(' ')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

fn key(name: &str) -> String {
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_plain && is_word { name.to_owned() } else { Value::from(name).to_string() }
}
