//! What a step says while it runs.

use opyard_guest::events::{self, Asset, Level};
use opyard_guest::metadata::entry;
use opyard_guest::{Execution, Json, MetadataValue, Nothing, debug, error, info, log, op, warning};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// How much `chatty` says.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chatty {
    /// Number of log lines.
    lines: u32,
    /// Bytes of each line, at least.
    #[serde(default)]
    width: usize,
}

/// Logs so many lines.
#[op]
pub(crate) fn chatty(config: Chatty) -> Nothing {
    for line in 0..config.lines {
        info!(line = line; "{line:>width$}", width = config.width);
    }
    Nothing
}

/// Says one of everything that can be said, and attaches one of every kind of metadata.
#[op]
pub(crate) fn log_all() -> Json<u32> {
    debug!("debug");
    info!(rows = 3, name = "three"; "info");
    warning!("warning");
    error!("error");
    log!(Level::Critical, "critical");
    events::progress(1, Some(2), Some("half"));
    events::progress(2, None, None);
    events::metric("plain", 0.5);
    events::metric_at("series", 0.25, 7);
    let asset = || Asset::new(["lake", "penguins"]).partition("2007").description("rows").tag("team", "ecology");
    asset().with_metadata("rows", 344).materialize();
    asset().with_metadata("rows", 344).observe();
    events::expect("rows", true, Some("as many as before"), vec![entry("rows", 344)]);
    events::expect("nulls", false, None, Vec::new());
    Json::new(1_u32)
        .with_metadata("null", MetadataValue::Null)
        .with_metadata("boolean", true)
        .with_metadata("int", -7)
        .with_metadata("float", 0.5)
        .with_metadata("text", "text")
        .with_metadata("markdown", MetadataValue::markdown("**bold**"))
        .with_metadata("url", MetadataValue::Url("https://example.com/".to_owned()))
        .with_metadata("path", MetadataValue::Path("a/b".to_owned()))
        .with_metadata("timestamp", MetadataValue::TimestampMs(1_600_000_000_000))
        .with_metadata("json", json!({ "a": [1, 2] }))
        .with_metadata("asset", MetadataValue::Asset(vec!["lake".to_owned(), "penguins".to_owned()]))
        .with_metadata("table", MetadataValue::table(&[("a", "int"), ("b", "text")], [vec![json!(1), json!("x")]]))
}

/// Tells which execution it is.
#[op]
pub(crate) fn who(execution: Execution) -> Json<Value> {
    Json::new(json!({
        "run_id": execution.run_id(),
        "job": execution.job(),
        "step_key": execution.step_key(),
        "tags": execution.tags(),
        "attempt": execution.attempt(),
        "idempotency_key": execution.idempotency_key(),
    }))
}
