//! `events`: what a step says. Nothing here answers the guest, so that nothing it computes can depend on it.

use opyard_model::error::sanitize;
use opyard_model::event::{AssetEvent, Expectation, Level, MetricPoint, Progress};
use opyard_model::json::{CanonicalJson, MAX_INTEGER};
use opyard_model::step::Saying;
use serde_json::Value;

use crate::bindings::opyard::op::events::{self, Host};
use crate::bindings::opyard::op::types;
use crate::gate::{Doorway, Events};
use crate::metadata::{self, Taken, short};
use crate::state::HostState;

/// Longest description or message, in bytes.
const MAX_MESSAGE: usize = 4 << 10;
/// Most fields of a log line, and most tags of an asset event.
const MAX_FIELDS: usize = 64;
/// Longest field of a log line, in bytes.
const MAX_FIELD: usize = 4 << 10;

impl Host for Doorway<'_, Events> {
    async fn log(
        &mut self,
        level: events::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let state = self.enter()?;
        let level = match level {
            events::Level::Debug => Level::Debug,
            events::Level::Info => Level::Info,
            events::Level::Warning => Level::Warning,
            events::Level::Error => Level::Error,
            events::Level::Critical => Level::Critical,
        };
        let field = |(name, text): (String, String)| (short(&name), field_value(&text));
        let fields = fields.into_iter().take(MAX_FIELDS).map(field).collect();
        state.outbox.log((level, None), &message, fields);
        Ok(())
    }

    async fn progress(&mut self, done: u64, total: Option<u64>, message: Option<String>) -> wasmtime::Result<()> {
        let state = self.enter()?;
        let message = message.map(|text| sanitize(&text, MAX_MESSAGE));
        let total = total.map(|total| total.min(MAX_INTEGER));
        state.outbox.event(Saying::Progress(Progress { done: done.min(MAX_INTEGER), total, message }));
        Ok(())
    }

    async fn materialize(&mut self, event: events::AssetEvent) -> wasmtime::Result<()> {
        asset(self.enter()?, event, Saying::Materialized);
        Ok(())
    }

    async fn observe(&mut self, event: events::AssetEvent) -> wasmtime::Result<()> {
        asset(self.enter()?, event, Saying::Observed);
        Ok(())
    }

    async fn expect(&mut self, event: events::Expectation) -> wasmtime::Result<()> {
        let state = self.enter()?;
        let description = event.description.map(|text| sanitize(&text, MAX_MESSAGE));
        if let Some(metadata) = entries(state, event.metadata, description.as_ref().map_or(0, String::len)) {
            let (label, success) = (short(&event.label), event.success);
            state.outbox.event(Saying::Expected(Expectation { label, success, description, metadata }));
        }
        Ok(())
    }

    async fn metric(&mut self, name: String, value: f64, step: Option<u64>) -> wasmtime::Result<()> {
        let state = self.enter()?;
        let value = value.is_finite().then_some(value);
        let step = step.map(|step| step.min(MAX_INTEGER));
        state.outbox.event(Saying::Metric(MetricPoint { name: short(&name), value, step }));
        Ok(())
    }
}

/// A field of a log line: JSON, or, when it is none, the text that it is.
fn field_value(text: &str) -> CanonicalJson {
    let as_text = || {
        // A string nests nothing and holds no number, so that it always has a canonical form.
        CanonicalJson::new(&Value::String(sanitize(text, MAX_FIELD))).unwrap_or_else(|_| CanonicalJson::empty_object())
    };
    if text.len() > MAX_FIELD { as_text() } else { CanonicalJson::parse(text).unwrap_or_else(|_| as_text()) }
}

/// Metadata of an event. One that is malformed, or for which no room is left, drops its event.
fn entries(
    state: &mut HostState,
    entries: Vec<types::MetadataEntry>,
    text: usize,
) -> Option<Vec<opyard_model::metadata::MetadataEntry>> {
    match metadata::take(entries) {
        Ok(Taken { entries, bytes }) if state.guard.try_metadata(bytes + text as u64) => Some(entries),
        _ => {
            state.outbox.drop_event();
            None
        }
    }
}

fn asset(state: &mut HostState, event: events::AssetEvent, saying: fn(AssetEvent) -> Saying) {
    let description = event.description.map(|text| sanitize(&text, MAX_MESSAGE));
    let tags: Vec<_> = event.tags.iter().take(MAX_FIELDS).map(|(name, value)| (short(name), short(value))).collect();
    let mut size = description.as_ref().map_or(0, |text| text.len() as u64);
    size += tags.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum::<u64>();
    let Ok(asset_key) = metadata::asset_key(&event.asset_key, &mut size) else {
        state.outbox.drop_event();
        return;
    };
    let text = usize::try_from(size).unwrap_or(usize::MAX);
    if let Some(metadata) = entries(state, event.metadata, text) {
        let partition = event.partition.map(|key| short(&key));
        state.outbox.event(saying(AssetEvent { asset_key, partition, description, metadata, tags }));
    }
}
