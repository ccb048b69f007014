//! `gc`, `backup`, `restore`.

use opyard_server::store::gc::{Amount, GcReport, Retention};
use serde_json::json;

use crate::args::{self, Global};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render::quantity::{count, size};
use crate::render::table::Table;
use crate::render::text::counted;
use crate::screen::Screen;

pub(crate) async fn gc(global: &Global, args: &args::Gc, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let retention = Retention {
        keep_runs: args.keep_runs,
        keep_runs_for: args.keep_runs_for,
        keep_memos_for: args.keep_memos_for,
        min_age: args.min_age,
        dry_run: args.dry_run,
    };
    let report = yard.gc(&retention).await?;
    yard.close().await;
    if screen.json() {
        let mut told = json!(report);
        told["freed"] = json!(report.freed());
        screen.print_json(&told)?;
    } else {
        screen.print(&text(&report))?;
    }
    Ok(Exit::Success)
}

fn text(report: &GcReport) -> String {
    let mut table = Table::new([if report.dry_run { "would remove" } else { "removed" }, ">count", ">size"]);
    let rows = [
        ("runs", report.runs, None),
        ("events", report.events, None),
        ("memo rows", report.memos, None),
        ("artifacts", report.artifacts.count, Some(report.artifacts.bytes)),
        ("objects without an artifact", report.objects.count, Some(report.objects.bytes)),
        ("left behind by crashes", report.strays.count, Some(report.strays.bytes)),
        ("packs, written anew smaller", report.rewritten.count, Some(report.rewritten.bytes)),
    ];
    for (what, number, bytes) in rows.into_iter().filter(|(_, number, _)| *number > 0) {
        table.row([what.into(), count(number).into(), bytes.map(size).unwrap_or_default().into()]);
    }
    let something = *report
        != GcReport {
            dry_run: report.dry_run,
            kept: report.kept,
            waiting: report.waiting,
            in_progress: report.in_progress,
            damaged: report.damaged,
            ..GcReport::default()
        };
    let mut lines = Vec::new();
    if something {
        let freed = if report.dry_run { "would come free" } else { "came free" };
        lines.extend([table.render_all(""), format!("{} {freed}", size(report.freed()))]);
    } else {
        lines.push("nothing to remove".to_owned());
    }
    let Amount { count: kept, bytes } = report.kept;
    lines.push(format!("kept: {} of {}", artifacts(kept), size(bytes)));
    if report.waiting.count > 0 {
        let Amount { count: waiting, bytes } = report.waiting;
        lines.push(format!(
            "of those, {} of {} nothing references: put too lately to go",
            artifacts(waiting),
            size(bytes)
        ));
    }
    if let Some(run) = report.in_progress {
        lines.push(format!("{run} is in progress: what was put since it began waits for its end"));
    }
    if report.damaged > 0 {
        let packs = counted(usize::try_from(report.damaged).unwrap_or(usize::MAX), "pack");
        lines.push(format!("{packs} cannot be read whole, and stayed"));
    }
    lines.join("\n")
}

fn artifacts(number: u64) -> String {
    counted(usize::try_from(number).unwrap_or(usize::MAX), "artifact")
}

pub(crate) async fn backup(global: &Global, args: &args::Backup, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let manifest = yard.backup(&args.folder).await?;
    yard.close().await;
    if screen.json() {
        let mut told = json!(manifest);
        told["folder"] = json!(args.folder);
        screen.print_json(&told)?;
    } else {
        let files: u64 = manifest.files.iter().map(|file| file.size).sum();
        screen.print(&format!(
            "{}: {} and {}, {}",
            args.folder.display(),
            counted(usize::try_from(manifest.objects).unwrap_or(usize::MAX), "object"),
            counted(manifest.files.len(), "file"),
            size(manifest.object_bytes.saturating_add(files)),
        ))?;
    }
    Ok(Exit::Success)
}

pub(crate) async fn restore(global: &Global, args: &args::Restore, screen: &Screen) -> Outcome {
    let place = Place::of_definitions(global, &args.file);
    let restored = opyard_server::restore(&args.folder, &place.yard).await?;
    let Amount { count: number, bytes } = restored.audit.artifacts;
    if screen.json() {
        screen.print_json(
            &json!({ "yard": place.yard, "backup": restored.manifest, "artifacts": restored.audit.artifacts }),
        )?;
    } else {
        let yard = place.yard.display();
        screen.print(&format!("{yard}: {} of {}, every one checked", artifacts(number), size(bytes)))?;
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use opyard_server::model::id::RunId;

    use super::*;
    use crate::render::plain;

    #[test]
    fn a_clean_up_says_what_it_did_and_what_waits() {
        let amount = |count, bytes| Amount { count, bytes };
        let report = GcReport {
            runs: 3,
            events: 12_345,
            artifacts: amount(40, 5 << 20),
            objects: amount(2, 4 << 20),
            rewritten: amount(1, 1 << 20),
            rewritten_into: 1 << 18,
            damaged: 1,
            kept: amount(1, 10),
            waiting: amount(1, 10),
            in_progress: Some(RunId::from_parts(5, 6)),
            ..GcReport::default()
        };
        let told = plain(&text(&report));
        let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        for line in [
            "removed count size",
            "runs 3",
            "events 12.3k",
            "artifacts 40 5 MiB",
            "objects without an artifact 2 4 MiB",
            "packs, written anew smaller 1 1 MiB",
            "4.7 MiB came free",
            "kept: 1 artifact of 10 B",
            "of those, 1 artifact of 10 B nothing references: put too lately to go",
            "1 pack cannot be read whole, and stayed",
        ] {
            assert!(lines.contains(&line.split(' ').collect()), "'{line}' is not in:\n{told}");
        }
        assert!(told.contains("is in progress") && !told.contains("memo rows"), "{told}");
        assert_eq!(plain(&text(&GcReport::default())), "nothing to remove\nkept: 0 artifacts of 0 B");
    }
}
