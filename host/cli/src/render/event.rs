//! One event on one line.

use anstyle::Style;
use opyard_server::model::component::Interface;
use opyard_server::model::error::{Code, Failure};
use opyard_server::model::event::{
    AssetEvent, HookName, Level, OpenedResource, Progress, Recorded, RunEvent, Stream, TypeChecked,
};
use opyard_server::model::json::CanonicalJson;
use opyard_server::model::limits::Usage;
use opyard_server::model::value::Yielded;

use crate::render::style::{BAD, DIM, GOOD, MEMO, PLAIN, WARN, paint};
use crate::render::{quantity, steps, text};

/// Widest text of an event.
const WIDTH: usize = 400;

/// `seq  time  kind  step  text`.
pub(crate) fn line(recorded: &Recorded) -> String {
    let event = &recorded.event;
    let at = recorded.at.to_string();
    // The day is that of the run; the time of day, in UTC, is what tells events apart.
    let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time);
    let step = event.step().map(ToString::to_string).unwrap_or_default();
    let told = text::one_line(&told(event), WIDTH);
    let head = paint(DIM, format_args!("{:>5}  {time}", recorded.seq));
    let kind = paint(style(event), event.kind());
    let gap = " ".repeat(23usize.saturating_sub(event.kind().len()));
    format!("{head}  {kind}{gap}  {step:<16}  {told}").trim_end().to_owned()
}

/// How an event is drawn.
pub(crate) fn style(event: &RunEvent) -> Style {
    match event {
        RunEvent::RunSuccess | RunEvent::StepSuccess { .. } => GOOD,
        RunEvent::StepFailure { failure, .. } if failure.code == Code::Canceled => WARN,
        RunEvent::RunFailure { .. } | RunEvent::StepFailure { .. } => BAD,
        RunEvent::StepMemoized { .. } | RunEvent::StepReused { .. } => MEMO,
        RunEvent::RunCanceling { .. }
        | RunEvent::RunCanceled
        | RunEvent::StepSkipped { .. }
        | RunEvent::StepUpForRetry { .. }
        | RunEvent::StepSuperseded { .. }
        | RunEvent::TypeCheckFailure { .. }
        | RunEvent::HookErrored { .. }
        | RunEvent::HookSkipped { .. }
        | RunEvent::ResourceInitFailure { .. }
        | RunEvent::LimitReached { .. }
        | RunEvent::GrantDenied { .. } => WARN,
        RunEvent::Log { line, .. } if line.level >= Level::Error => BAD,
        RunEvent::Log { line, .. } if line.level == Level::Warning => WARN,
        RunEvent::StepExpectationResult { expectation, .. } if !expectation.success => WARN,
        _ => PLAIN,
    }
}

/// The name of a level.
pub(crate) const fn level(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
        Level::Critical => "critical",
    }
}

/// How far a step is, in words.
pub(crate) fn progress(progress: &Progress) -> String {
    let far = match progress.total {
        Some(total) => format!("{}/{}", quantity::count(progress.done), quantity::count(total)),
        None => quantity::count(progress.done),
    };
    match &progress.message {
        Some(message) => format!("{far} {message}"),
        None => far,
    }
}

/// What an attempt cost, in words.
pub(crate) fn cost(usage: &Usage) -> String {
    let (time, fuel) = (quantity::time(usage.wall), quantity::count(usage.fuel));
    format!("{time}, {fuel} fuel, {}", quantity::size(usage.peak_memory))
}

fn failed(failure: &Failure) -> String {
    format!("{}: {}", failure.code, failure.description)
}

fn yielded(output: &Yielded) -> String {
    let value = &output.value;
    let item = value.mapping_key.last().map(|key| format!("[{key}]")).unwrap_or_default();
    let digest: String = value.artifact.digest.to_string().chars().take(15).collect();
    format!("{}{item}: {}, {}, {digest}…", output.port, value.media_type, quantity::size(value.artifact.size))
}

fn asset(asset: &AssetEvent, from_memo: bool) -> String {
    let partition = asset.partition.as_ref().map(|partition| format!(" [{partition}]")).unwrap_or_default();
    let description = asset.description.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    format!("{}{partition}{description}{}", asset.asset_key.join("/"), again(from_memo))
}

const fn again(from_memo: bool) -> &'static str {
    if from_memo { " (said when it was computed)" } else { "" }
}

fn fields(fields: &[(String, CanonicalJson)]) -> String {
    fields.iter().map(|(name, value)| format!(" {name}={value}")).collect()
}

/// What an event says beside its kind and step.
pub(crate) fn told(event: &RunEvent) -> String {
    match event {
        RunEvent::RunEnqueued { job, environment, steps, tags, use_memo, parent, .. } => {
            let environment = environment.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
            let tags: String = tags.iter().map(|(key, value)| format!(" {key}={value}")).collect();
            let memo = if *use_memo { "" } else { ", without the memo" };
            let parent = parent.map(|parent| format!(", after {parent}")).unwrap_or_default();
            format!("job {job}{environment}, {}{memo}{parent}{tags}", text::counted(*steps as usize, "step"))
        }
        RunEvent::RunDequeued
        | RunEvent::RunStarting
        | RunEvent::RunStart
        | RunEvent::RunSuccess
        | RunEvent::RunCanceled => String::new(),
        RunEvent::RunFailure { failure } => failed(failure),
        RunEvent::RunCanceling { reason } => reason.clone(),
        RunEvent::StepStart { of } if of.attempt == 0 => String::new(),
        RunEvent::StepStart { of } | RunEvent::StepRestarted { of } => format!("try {}", of.attempt.saturating_add(1)),
        RunEvent::StepInput { port, values, .. } => format!("{port}: {}", text::counted(*values as usize, "value")),
        RunEvent::StepOutput { output, .. } => yielded(output),
        RunEvent::StepSuccess { usage, .. } => cost(usage),
        RunEvent::StepFailure { failure, usage, .. } => format!("{} ({})", failed(failure), cost(usage)),
        RunEvent::StepSkipped { reason, .. } => steps::skip_reason(*reason).to_owned(),
        RunEvent::StepUpForRetry { failure, not_before, .. } => format!("{}; again at {not_before}", failed(failure)),
        RunEvent::StepSuperseded { .. } => "what it was given has changed".to_owned(),
        RunEvent::StepMemoized { origin, .. } => format!("computed by {origin}"),
        RunEvent::StepReused { origin, .. } => format!("taken from {origin}"),
        RunEvent::StepMemoMissed { .. } => "not in the memo".to_owned(),
        RunEvent::StepWaiting { pool, .. } => format!("for a slot of the pool {pool}"),
        RunEvent::HandledOutput { port, manager, locator, .. } => {
            format!("{port} kept by {manager}: {}", place(locator, None))
        }
        RunEvent::LoadedInput { input, .. } => {
            let size = quantity::size(input.artifact.size);
            format!("{} loaded by {}: {} ({size})", input.port, input.manager, place(&input.locator, None))
        }
        RunEvent::AssetMaterialization { asset: made, from_memo, .. } => asset(made, *from_memo),
        RunEvent::AssetObservation { asset: seen, from_memo, .. } => asset(seen, *from_memo),
        RunEvent::StepExpectationResult { expectation, from_memo, .. } => {
            let met = if expectation.success { "met" } else { "not met" };
            let description = expectation.description.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            format!("{} {met}{description}{}", expectation.label, again(*from_memo))
        }
        RunEvent::ResourceInitStarted { resource, .. } | RunEvent::ResourceInitSuccess { resource, .. } => {
            opened(resource)
        }
        RunEvent::ResourceInitFailure { resource, failure, .. } => {
            format!("{}: {}", opened(resource), failed(failure))
        }
        RunEvent::TypeCheckSuccess { check, .. } => type_check(check, "is"),
        RunEvent::TypeCheckFailure { check, .. } => type_check(check, "is not"),
        RunEvent::HookCompleted { hook, .. } => hooked(hook),
        RunEvent::HookErrored { hook, failure, .. } => format!("{}: {}", hooked(hook), failed(failure)),
        RunEvent::HookSkipped { hook, .. } => format!("{}: the run is being stopped", hooked(hook)),
        RunEvent::Metric { point, from_memo, .. } => {
            let at = point.step.map(|step| format!(" at {step}")).unwrap_or_default();
            format!("{} = {}{at}{}", point.name, metric(point.value), again(*from_memo))
        }
        RunEvent::Log { line, .. } => {
            let stream = match line.stream {
                Some(Stream::Stdout) => " (stdout)",
                Some(Stream::Stderr) => " (stderr)",
                None => "",
            };
            format!("{}{stream}: {}{}", level(line.level), line.message, fields(&line.fields))
        }
        RunEvent::Progress { progress: far, .. } => progress(far),
        RunEvent::LimitReached { limit, detail, .. } => format!("{limit}: {detail}"),
        RunEvent::GrantDenied { key, .. } => format!("asked for '{key}', which it was not granted"),
        RunEvent::EngineEvent { message, .. } => message.clone(),
    }
}

/// A hook, and of what it is told.
fn hooked(hook: &HookName) -> String {
    format!("{} on {}", hook.name, hook.on.name())
}

/// A resource, and the op's key for it where that is another.
fn opened(resource: &OpenedResource) -> String {
    let OpenedResource { key, name, through } = resource;
    let key = if key == name { String::new() } else { format!(" as {key}") };
    let secret = if *through == Interface::Secrets { "the secret " } else { "" };
    format!("{secret}{name}{key}")
}

/// A value and its type.
fn type_check(check: &TypeChecked, verdict: &str) -> String {
    let TypeChecked { port, mapping_key, type_name, by, description, .. } = check;
    let key = mapping_key.last().map(|key| format!("[{key}]")).unwrap_or_default();
    let description = description.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    format!("{port}{key} {verdict} a {type_name} by {by}{description}")
}

/// The value of a metric.
pub(crate) fn metric(value: Option<f64>) -> String {
    value.map_or_else(|| "not a number".to_owned(), |value| value.to_string())
}

/// Where an IO manager keeps a value: the address or path, below `base` if that is known, where there is one; else what it
/// wrote down.
pub(crate) fn place(locator: &CanonicalJson, base: Option<&str>) -> String {
    use serde_json::Value;
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let value = locator.to_value();
    let found = match &value {
        Value::String(place) => Some(place.clone()),
        Value::Object(fields) => fields.get("path").and_then(text),
        _ => None,
    };
    let shown = match (found, base) {
        (Some(path), Some(base)) => format!("{}/{path}", base.trim_end_matches('/')),
        (Some(path), None) => path,
        (None, _) => locator.to_string(),
    };
    text::one_line(&shown, WIDTH)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::render::plain;
    use crate::report::sample;

    #[test]
    fn every_kind_has_its_line() {
        let lines: Vec<_> = sample::recorded(sample::one_of_each()).iter().map(|event| plain(&line(event))).collect();
        insta::assert_snapshot!(lines.join("\n"));
        assert!(lines.iter().all(|line| !line.contains(char::is_control)));
    }

    /// The samples are one of every kind there is, and the manual has every kind with every field of its payload.
    #[test]
    fn every_kind_and_field_is_in_the_manual() {
        let refusal = RunEvent::decode("none of them", "{}").unwrap_err().to_string();
        let known: Vec<_> = refusal.split('`').skip(1).step_by(2).filter(|kind| *kind != "none of them").collect();
        let samples = sample::one_of_each();
        let sampled: Vec<_> = samples.iter().map(RunEvent::kind).collect();
        assert_eq!(sampled, known);

        let manual = include_str!("../../../../docs/events.md");
        for event in &samples {
            let title = format!("### `{}`\n", event.kind());
            let (_, section) = manual.split_once(&title).unwrap_or_else(|| panic!("docs/events.md has no {title}"));
            let section = section.split("\n#").next().unwrap();
            let payload: Value = serde_json::from_str(&event.payload()).unwrap();
            for field in payload.as_object().unwrap().keys() {
                assert!(section.contains(&format!("| `{field}` |")), "{}.{field}", event.kind());
            }
        }
        let documented = manual.matches("\n### `").count();
        assert_eq!(documented, known.len(), "docs/events.md has a kind that does not exist");
    }
}
