//! A run: the summary at its end, and all that is known of it.

use anstyle::Style;
use opyard_server::model::error::Code;
use opyard_server::model::event::{Level, Recorded, RunEvent, RunStatus};
use opyard_server::model::time::Timestamp;
use opyard_server::store::run::RunSummary;
use serde_json::{Value, json};

use crate::render::steps::{self, Extent};
use crate::render::style::{BAD, DIM, GOOD, PLAIN, TITLE, WARN, paint};
use crate::render::table::{Cell, Table};
use crate::render::{event, failure, metadata, quantity, text};
use crate::report::{Report, Standing, StepReport};

/// Most rows of the table at the end of a run.
const SUMMARY_ROWS: usize = 40;
/// Most failures, kept outputs, metrics, assets that are drawn unless all are asked for.
const LISTED: usize = 20;

/// How a status is drawn.
pub(crate) const fn style(status: RunStatus) -> Style {
    match status {
        RunStatus::Success => GOOD,
        RunStatus::Failure => BAD,
        RunStatus::Canceling | RunStatus::Canceled => WARN,
        RunStatus::Queued | RunStatus::Starting | RunStatus::Started => PLAIN,
    }
}

fn title(report: &Report) -> String {
    let status = report.status.unwrap_or(RunStatus::Queued);
    let job = report.job.as_ref().map(ToString::to_string).unwrap_or_default();
    let run = report.run.map(|run| run.to_string()).unwrap_or_default();
    let time = quantity::time(report.duration());
    format!("{}  {}  {run}  {time}", paint(style(status).bold(), status.name()), paint(TITLE, job))
}

/// `7 steps: 1 run, 6 memoised`, every kind that there is.
fn tally(report: &Report) -> String {
    let counts = report.counts();
    let steps = report.steps().len();
    let all = [
        (counts.success, "run"),
        (counts.memoized, "memoised"),
        (counts.reused, "reused"),
        (counts.skipped, "skipped"),
        (counts.failure, "failed"),
        (counts.canceled, "canceled"),
        (counts.open, "not ended"),
    ];
    let there: Vec<_> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    format!("{}: {}", text::counted(steps, "step"), there.join(", "))
}

/// What is said when a run has ended. `again` is what a command line needs to find the same yard.
pub(crate) fn summary(report: &Report, again: &str) -> String {
    let mut out = format!("{}\n{}\n", title(report), tally(report));
    section(&mut out, "", &steps::table(report, Extent::Rows(SUMMARY_ROWS), "  "));
    section(&mut out, "", &failures(report, LISTED));
    if let Some(reason) = &report.cancel_reason {
        section(&mut out, "", &format!("canceled: {}", text::one_line(reason, 200)));
    }
    section(&mut out, "kept outside of the yard", &kept(report, LISTED));
    section(&mut out, "type next", &next(report, again));
    out.trim_end().to_owned()
}

fn section(out: &mut String, title: &str, body: &str) {
    if body.is_empty() {
        return;
    }
    let gap = if out.is_empty() { "" } else { "\n" };
    let title = if title.is_empty() { String::new() } else { format!("{}\n", paint(TITLE, title)) };
    out.extend([gap, &title, body, "\n"]);
}

fn failures(report: &Report, limit: usize) -> String {
    let failed = report.steps().iter().filter_map(|step| match &step.standing {
        Standing::Failure(failed) => Some((step, failed)),
        _ => None,
    });
    let mut drawn: Vec<String> = Vec::new();
    let mut count = 0usize;
    for (step, failed) in failed {
        count += 1;
        if count > limit {
            continue;
        }
        let tries = if step.tries > 1 { format!(" after {} tries", step.tries) } else { String::new() };
        let mut text =
            format!("{}\n{}", paint(BAD, format_args!("{} failed{tries}", step.key)), failure::failure(failed, "  "));
        // A panic is logged, and is the failure's description.
        let said = step.complaints.iter().filter(|line| !failed.description.contains(line.trim()));
        let said: Vec<_> = said.map(|line| text::block(line, "      ")).collect();
        if !said.is_empty() {
            text += &format!("\n    {}\n{}", paint(DIM, "it had logged:"), said.join("\n"));
        }
        drawn.push(text);
    }
    if count > limit {
        drawn.push(format!("… and {} failed", text::counted(count - limit, "more step")));
    }
    // The failure of a run is that of its steps, but for one that was too long or too costly.
    if let Some(failed) = &report.failure
        && (count == 0 || matches!(failed.code, Code::RunWallExceeded | Code::RunCpuExceeded))
    {
        drawn.push(failure::failure(failed, ""));
    }
    drawn.join("\n\n")
}

fn kept(report: &Report, limit: usize) -> String {
    let mut table = Table::new(["output", "by", "where"]);
    for ((step, port, locator), manager) in report.kept.iter().take(limit) {
        table.row([
            format!("{step}.{port}").into(),
            manager.as_str().into(),
            event::place(locator, report.stores.get(manager).map(String::as_str)).into(),
        ]);
    }
    with_rest(&table, report.kept.len(), limit)
}

/// Inputs that were found in other runs.
fn latest(report: &Report, limit: usize) -> String {
    let mut table = Table::new(["input", "of", "step", "in"]);
    for (step, port, of) in report.latest.iter().take(limit) {
        let input = format!("{step}.{port}");
        table.row([input.into(), of.job.as_str().into(), of.step.as_str().into(), of.run.to_string().into()]);
    }
    with_rest(&table, report.latest.len(), limit)
}

fn with_rest(table: &Table, count: usize, limit: usize) -> String {
    if table.is_empty() {
        return String::new();
    }
    let rest = if count > limit { format!("\n  … and {} more", count - limit) } else { String::new() };
    table.render("  ") + &rest
}

fn next(report: &Report, again: &str) -> String {
    let Some(run) = report.run else { return String::new() };
    let mut lines = vec![(format!("opyard show {run}{again}"), "metrics, assets, metadata")];
    if report.status == Some(RunStatus::Success) {
        lines.push((format!("opyard artifacts {run}{again}"), "all that it made"));
        let last = report.steps().iter().rev().find_map(|step| Some((step, step.last_output.as_ref()?)));
        if let Some((step, (port, item))) = last {
            let name =
                format!("{}.{port}{}", step.key, item.as_ref().map(|key| format!("[{key}]")).unwrap_or_default());
            // Brackets mean something to a shell.
            let name = if name.contains('[') { format!("'{name}'") } else { name };
            lines.push((format!("opyard cat {run} {name}{again}"), "one of its outputs"));
        }
    } else {
        let failed = report.steps().iter().find(|step| matches!(step.standing, Standing::Failure(_)));
        let step = failed
            .map(|step| match step.key.mapping.is_empty() {
                true => format!(" --step {}", step.key),
                // Brackets mean something to a shell.
                false => format!(" --step '{}'", step.key),
            })
            .unwrap_or_default();
        lines.push((format!("opyard events {run}{step}{again}"), "everything that happened"));
        lines.push((format!("opyard rerun {run}{again}"), "what has not succeeded, once it is mended"));
    }
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let drawn = lines.iter().map(|(command, what)| format!("  {command:<width$}  {}", paint(DIM, what)));
    drawn.collect::<Vec<_>>().join("\n")
}

/// All that is known of a run; `all` of long lists.
pub(crate) fn show(report: &Report, all: bool) -> String {
    let limit = if all { usize::MAX } else { LISTED };
    let mut out = format!("{}\n{}\n", title(report), tally(report));
    let tags: Vec<_> = report.tags.iter().map(|(key, value)| text::one_line(&format!("{key}={value}"), 100)).collect();
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let facts = [
        ("environment", report.environment.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("tags", tags.join(" ")),
        ("goes on from", report.parent.map(|run| run.to_string()).unwrap_or_default()),
        ("asked for", time(report.enqueued_at)),
        ("started", time(report.started_at)),
        ("ended", time(report.ended_at)),
        ("canceled", report.cancel_reason.as_deref().map(|reason| text::one_line(reason, 200)).unwrap_or_default()),
    ];
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    let facts: Vec<_> =
        facts.map(|(name, value)| format!("  {} {value}", paint(DIM, format_args!("{name:<12}")))).collect();
    section(&mut out, "", &facts.join("\n"));
    let extent = if all { Extent::All } else { Extent::Rows(200) };
    section(&mut out, "", &steps::table(report, extent, "  "));
    section(&mut out, "", &failures(report, limit));
    section(&mut out, "inputs from other runs", &latest(report, limit));
    section(&mut out, "metrics", &metrics(report, limit));
    section(&mut out, "assets", &assets(report, limit));
    section(&mut out, "expectations", &expectations(report, limit));
    section(&mut out, "outputs say", &notes(report, limit));
    section(&mut out, "kept outside of the yard", &kept(report, limit));
    section(&mut out, "limits and denials", &trouble(report, limit));
    out.trim_end().to_owned()
}

fn metrics(report: &Report, limit: usize) -> String {
    let mut table = Table::new(["name", ">value", ">at", "step"]);
    for ((name, step), point) in report.metrics.iter().take(limit) {
        table.row([
            text::one_line(name, 60).into(),
            event::metric(point.value).into(),
            point.step.map(|at| at.to_string()).unwrap_or_default().into(),
            Cell::styled(step.to_string(), DIM),
        ]);
    }
    with_rest(&table, report.metrics.len(), limit)
}

fn assets(report: &Report, limit: usize) -> String {
    let drawn = report.assets.iter().take(limit).map(|told| {
        let verb = if told.made { "made" } else { "observed" };
        let memo = if told.from_memo { ", when it was computed" } else { "" };
        let partition = told.asset.partition.as_ref().map(|partition| format!(" [{partition}]")).unwrap_or_default();
        let key = text::one_line(&format!("{}{partition}", told.asset.asset_key.join("/")), 100);
        let mut lines = vec![format!("  {key}  {}", paint(DIM, format_args!("{verb} by {}{memo}", told.step)))];
        lines.extend(told.asset.description.as_deref().map(|text| text::block(text, "    ")));
        lines.extend(Some(metadata::entries(&told.asset.metadata, "    ")).filter(|text| !text.is_empty()));
        lines.join("\n")
    });
    let mut drawn: Vec<_> = drawn.collect();
    if report.assets.len() > limit {
        drawn.push(format!("  … and {} more", report.assets.len() - limit));
    }
    drawn.join("\n")
}

fn expectations(report: &Report, limit: usize) -> String {
    let mut table = Table::new(["expected", "result", "step", "note"]);
    for (step, expectation) in report.expectations.iter().take(limit) {
        let (result, style) = if expectation.success { ("met", GOOD) } else { ("not met", BAD) };
        table.row([
            text::one_line(&expectation.label, 60).into(),
            Cell::styled(result, style),
            step.to_string().into(),
            Cell::styled(text::one_line(expectation.description.as_deref().unwrap_or_default(), 80), DIM),
        ]);
    }
    with_rest(&table, report.expectations.len(), limit)
}

fn notes(report: &Report, limit: usize) -> String {
    let all = || {
        report.steps().iter().flat_map(|step| step.notes.iter().map(move |(output, entries)| (step, output, entries)))
    };
    let drawn = all().take(limit).map(|(step, (port, item), entries)| {
        let item = item.as_ref().map(|key| format!("[{key}]")).unwrap_or_default();
        format!("  {}.{port}{item}\n{}", step.key, metadata::entries(entries, "    "))
    });
    let mut drawn: Vec<_> = drawn.collect();
    let count = all().count();
    if count > limit {
        drawn.push(format!("  … and {} more", count - limit));
    }
    drawn.join("\n")
}

fn trouble(report: &Report, limit: usize) -> String {
    let mut table = Table::new(["step", "what", "detail"]);
    for (step, limit, detail) in report.limits.iter().take(limit) {
        table.row([step.to_string().into(), text::one_line(limit, 40).into(), text::one_line(detail, 100).into()]);
    }
    for (step, key) in report.denied.iter().take(limit) {
        table.row([
            step.to_string().into(),
            "denied".into(),
            text::one_line(&format!("asked for '{key}'"), 100).into(),
        ]);
    }
    with_rest(&table, report.limits.len().max(report.denied.len()), limit)
}

/// A run for machines.
pub(crate) fn json(report: &Report) -> Value {
    let counts = report.counts();
    let millis = |duration: std::time::Duration| duration.as_micros() as f64 / 1_000.0;
    let step = |step: &StepReport| {
        let mut told = json!({
            "step": step.key,
            "state": step.standing.name(),
            "tries": step.tries,
            "time_ms": millis(step.usage.wall),
            "cpu_ms": millis(step.usage.cpu),
            "fuel": step.usage.fuel,
            "peak_memory_bytes": step.usage.peak_memory,
            "read_bytes": step.usage.read_bytes,
            "written_bytes": step.usage.written_bytes,
        });
        match &step.standing {
            Standing::Memoized(origin) | Standing::Reused(origin) => told["origin"] = json!(origin),
            Standing::Skipped(reason) => told["reason"] = json!(reason),
            Standing::Failure(failed) => told["failure"] = failure::failure_json(failed),
            _ => {}
        }
        if !step.notes.is_empty() {
            let note = |((port, item), entries): (&crate::report::OutputName, &Vec<_>)| json!({ "output": port, "item": item, "metadata": entries });
            told["outputs"] = step.notes.iter().map(note).collect();
        }
        told
    };
    json!({
        "run": report.run,
        "job": report.job,
        "environment": report.environment,
        "parent_run_id": report.parent,
        "root_run_id": report.root,
        "status": report.status,
        "tags": report.tags,
        "enqueued_at": report.enqueued_at.map(|at| at.to_string()),
        "started_at": report.started_at.map(|at| at.to_string()),
        "ended_at": report.ended_at.map(|at| at.to_string()),
        "time_ms": millis(report.duration()),
        "counts": {
            "planned": report.planned,
            "success": counts.success,
            "memoized": counts.memoized,
            "reused": counts.reused,
            "skipped": counts.skipped,
            "failure": counts.failure,
            "canceled": counts.canceled,
            "open": counts.open,
        },
        "failure": report.failure.as_ref().map(failure::failure_json),
        "cancel_reason": report.cancel_reason,
        "latest": report.latest.iter().map(|(step, input, of)| {
            json!({ "step": step, "input": input, "job": of.job, "run": of.run, "of": of.step })
        }).collect::<Value>(),
        "steps": report.steps().iter().map(step).collect::<Value>(),
        "metrics": report.metrics.iter().map(|((name, step), point)| {
            json!({ "name": name, "step": step, "value": point.value, "at": point.step })
        }).collect::<Value>(),
        "assets": report.assets.iter().map(|told| {
            json!({ "step": told.step, "made": told.made, "from_memo": told.from_memo, "asset": told.asset })
        }).collect::<Value>(),
        "expectations": report.expectations.iter().map(|(step, expectation)| {
            json!({ "step": step, "expectation": expectation })
        }).collect::<Value>(),
        "limits": report.limits.iter().map(|(step, limit, detail)| {
            json!({ "step": step, "limit": limit, "detail": detail })
        }).collect::<Value>(),
        "denied": report.denied.iter().map(|(step, key)| json!({ "step": step, "key": key })).collect::<Value>(),
        "kept": report.kept.iter().map(|((step, port, locator), manager)| {
            json!({ "step": step, "output": port, "io_manager": manager, "locator": locator })
        }).collect::<Value>(),
    })
}

/// Runs, one a line.
pub(crate) fn list(runs: &[RunSummary]) -> String {
    let mut table = Table::new(["run", "job", "status", "asked for", ">time", "steps", "tags"]);
    for run in runs {
        let counts = run.steps;
        let there = [
            (counts.success, "run"),
            (counts.memoized, "memoised"),
            (counts.reused, "reused"),
            (counts.skipped, "skipped"),
            (counts.failure, "failed"),
            (counts.canceled, "canceled"),
        ];
        let there: Vec<_> = there.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let environment = run.environment.as_ref().map(|name| format!("@{name}")).unwrap_or_default();
        let tags: Vec<_> = run.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        // Without the fraction of a second.
        let asked: String = run.enqueued_at.to_string().chars().take(19).collect();
        table.row([
            run.run.to_string().into(),
            format!("{}{environment}", run.job).into(),
            Cell::styled(run.status.name(), style(run.status)),
            Cell::styled(asked.replace('T', " "), DIM),
            run.ended_at.map(|ended| quantity::time(ended.since(run.enqueued_at))).unwrap_or_default().into(),
            there.join(", ").into(),
            Cell::styled(text::one_line(&tags.join(" "), 40), DIM),
        ]);
    }
    table.render("")
}

/// A step's event while its run is watched without a terminal: `+1.2s  fit  started`; none for what is not worth a line.
pub(crate) fn news(report: &Report, recorded: &Recorded) -> Option<String> {
    let since = report.enqueued_at.map(|from| recorded.at.since(from)).unwrap_or_default();
    let worth = match &recorded.event {
        RunEvent::RunEnqueued { .. }
        | RunEvent::RunFailure { .. }
        | RunEvent::RunSuccess
        | RunEvent::RunCanceled
        | RunEvent::RunDequeued
        | RunEvent::RunStarting
        | RunEvent::RunStart
        | RunEvent::ResourceInitStarted { .. }
        | RunEvent::ResourceInitSuccess { .. }
        | RunEvent::TypeCheckSuccess { .. }
        | RunEvent::StepInput { .. }
        | RunEvent::StepOutput { .. }
        | RunEvent::StepRestarted { .. }
        | RunEvent::StepMemoMissed { .. }
        | RunEvent::HandledOutput { .. }
        | RunEvent::LoadedInput { .. }
        | RunEvent::HookCompleted { .. }
        | RunEvent::HookSkipped { .. }
        | RunEvent::AssetMaterialization { .. }
        | RunEvent::AssetObservation { .. }
        | RunEvent::Metric { .. }
        | RunEvent::Progress { .. } => None,
        RunEvent::StepExpectationResult { expectation, .. } if expectation.success => None,
        RunEvent::Log { line, .. } if line.level < Level::Warning => None,
        RunEvent::StepWaiting { .. } => Some("waits"),
        RunEvent::StepStart { .. } => Some("started"),
        RunEvent::StepSuccess { .. } => Some("success"),
        RunEvent::StepFailure { failure, .. } if failure.code == Code::Canceled => Some("canceled"),
        RunEvent::StepFailure { .. } => Some("failure"),
        RunEvent::StepSkipped { .. } => Some("skipped"),
        RunEvent::StepUpForRetry { .. } => Some("up for retry"),
        RunEvent::StepSuperseded { .. } => Some("superseded"),
        RunEvent::StepMemoized { .. } => Some("memoised"),
        RunEvent::StepReused { .. } => Some("reused"),
        RunEvent::StepExpectationResult { .. } => Some("unexpected"),
        RunEvent::Log { .. } => Some("says"),
        RunEvent::TypeCheckFailure { .. } => Some("wrong type"),
        RunEvent::HookErrored { .. } => Some("hook failed"),
        RunEvent::ResourceInitFailure { .. } => Some("no resource"),
        RunEvent::LimitReached { .. } => Some("limit"),
        RunEvent::GrantDenied { .. } => Some("denied"),
        RunEvent::RunCanceling { .. } => Some("canceling"),
        RunEvent::EngineEvent { .. } => Some("note"),
    }?;
    let who = recorded.event.step().map_or_else(|| "run".to_owned(), ToString::to_string);
    let told = text::one_line(&event::told(&recorded.event), 160);
    let time = paint(DIM, format_args!("{:>8}", format!("+{}", quantity::time(since))));
    let gap = " ".repeat(12usize.saturating_sub(worth.len()));
    let worth = paint(event::style(&recorded.event), worth);
    Some(format!("{time}  {who:<16}  {worth}{gap}  {told}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plain;
    use crate::report::sample;

    #[test]
    fn a_failed_run_is_summed_up() {
        let report = Report::of(&sample::small_run(), None);
        insta::assert_snapshot!(plain(&summary(&report, " -f a/opyard.yaml")));
    }

    #[test]
    fn a_run_is_shown_whole() {
        let report = Report::of(&sample::small_run(), None);
        insta::assert_snapshot!(plain(&show(&report, false)));
        let told = json(&report);
        assert_eq!((&told["status"], &told["counts"]["success"]), (&json!("failure"), &json!(31)));
        assert_eq!(told["steps"][3]["failure"]["code"], "OPY-102");
        assert_eq!(told["metrics"][0]["value"], 0.75);
    }

    #[test]
    fn news_are_what_a_log_file_needs() {
        let mut report = Report::default();
        let mut lines = Vec::new();
        for recorded in sample::small_run().into_iter().take(18).chain(sample::recorded(sample::one_of_each())) {
            report.apply(&recorded);
            lines.extend(news(&report, &recorded));
        }
        insta::assert_snapshot!(plain(&lines.join("\n")));
    }
}
