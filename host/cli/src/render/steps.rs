//! The table of a run's steps.

use std::time::Duration;

use anstyle::Style;
use opyard_server::model::event::SkipReason;
use opyard_server::model::time::Timestamp;

use crate::render::style::{BAD, DIM, GOOD, MEMO, PLAIN, WARN};
use crate::render::table::{Cell, Table};
use crate::render::{quantity, text};
use crate::report::{Counts, Report, Standing, StepReport};

/// More items of one mapped step than this are drawn as one row.
const FOLDED: usize = 8;

/// How much is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// At most so many rows; many items of a mapped step in one.
    Rows(usize),
    /// Everything.
    All,
}

/// Draws the table.
pub(crate) fn table(report: &Report, extent: Extent, indent: &str) -> String {
    let mut table = Table::new(["step", "state", ">tries", ">time", ">fuel", ">memory", "note"]);
    let groups: Vec<_> = report.steps().chunk_by(|a, b| a.key.path == b.key.path).collect();
    let (limit, fold) = match extent {
        Extent::Rows(limit) => (limit, FOLDED),
        Extent::All => (usize::MAX, usize::MAX),
    };
    let mut drawn = 0;
    let mut left = 0;
    for group in groups {
        let rows = if group.len() > fold { 1 } else { group.len() };
        if drawn + rows > limit {
            left += group.len();
            continue;
        }
        drawn += rows;
        if group.len() > fold {
            table.row(folded(group));
        } else {
            group.iter().for_each(|step| table.row(row(step, report.last_at)));
        }
    }
    let more = if left > 0 { format!("\n{indent}… and {}", text::counted(left, "more step")) } else { String::new() };
    if table.is_empty() { String::new() } else { table.render(indent) + &more }
}

/// How a state is drawn.
pub(crate) fn style(standing: &Standing) -> Style {
    match standing {
        Standing::Pending | Standing::Waiting(_) => DIM,
        Standing::Running => PLAIN,
        Standing::UpForRetry | Standing::Skipped(_) | Standing::Canceled => WARN,
        Standing::Success => GOOD,
        Standing::Memoized(_) | Standing::Reused(_) => MEMO,
        Standing::Failure(_) => BAD,
    }
}

/// Why a step was skipped, as a phrase.
pub(crate) const fn skip_reason(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NotYielded => "an output that it needs was not yielded",
        SkipReason::UpstreamFailed => "a step that it needs failed",
        SkipReason::Canceled => "the run was canceled",
    }
}

/// What a step has to say beside its figures.
pub(crate) fn note(standing: &Standing) -> String {
    match standing {
        Standing::Memoized(origin) | Standing::Reused(origin) => format!("from {origin}"),
        Standing::Waiting(pool) => format!("for a slot of the pool {pool}"),
        Standing::Skipped(reason) => skip_reason(*reason).to_owned(),
        Standing::Failure(failure) => format!("{} {}", failure.code, text::one_line(&failure.description, 70)),
        Standing::Pending | Standing::Running | Standing::UpForRetry | Standing::Success | Standing::Canceled => {
            String::new()
        }
    }
}

fn row(step: &StepReport, now: Option<Timestamp>) -> Vec<Cell> {
    // What runs, or was stopped, has not been told what it cost.
    let untold = match (&step.standing, step.began) {
        (Standing::Running | Standing::Canceled, Some(began)) => {
            step.ended.or(now).map(|until| until.since(began)).unwrap_or_default()
        }
        _ => Duration::ZERO,
    };
    let time = step.usage.wall.max(untold);
    let figure = |number: u64, text: fn(u64) -> String| if number == 0 { String::new() } else { text(number) };
    let ran = step.tries > 0;
    let when = |ran: bool, text: String| if ran { text } else { String::new() };
    vec![
        step.key.to_string().into(),
        Cell::styled(step.standing.name(), style(&step.standing)),
        when(step.tries > 1, step.tries.to_string()).into(),
        when(ran, quantity::time(time)).into(),
        figure(step.usage.fuel, quantity::count).into(),
        figure(step.usage.peak_memory, quantity::size).into(),
        Cell::styled(note(&step.standing), if matches!(step.standing, Standing::Failure(_)) { PLAIN } else { DIM }),
    ]
}

/// Many items of one mapped step in one row: sums, and the largest memory.
fn folded(items: &[StepReport]) -> Vec<Cell> {
    let mut counts = Counts::default();
    items.iter().for_each(|item| counts.add(&item.standing));
    let worst =
        [counts.failure, counts.canceled, counts.open, counts.success, counts.memoized + counts.reused, counts.skipped];
    let style = match worst.iter().position(|count| *count > 0) {
        Some(0) => BAD,
        Some(1) => WARN,
        Some(3) => GOOD,
        Some(4) => MEMO,
        _ => PLAIN,
    };
    let usage = || items.iter().map(|item| item.usage);
    let ran = items.iter().any(|item| item.tries > 0);
    let when = |text: String| if ran { text } else { String::new() };
    let path = items.first().map(|item| item.key.path.to_string()).unwrap_or_default();
    vec![
        format!("{path}[×{}]", items.len()).into(),
        Cell::styled(summary(counts), style),
        "".into(),
        when(quantity::time(usage().map(|usage| usage.wall).sum())).into(),
        when(quantity::count(usage().fold(0, |sum, usage| usage.fuel.saturating_add(sum)))).into(),
        when(quantity::size(usage().map(|usage| usage.peak_memory).max().unwrap_or(0))).into(),
    ]
}

/// `3 success, 2 memoized`.
pub(crate) fn summary(counts: Counts) -> String {
    let Counts { success, memoized, reused, skipped, failure, canceled, open } = counts;
    let all = [
        (failure, "failure"),
        (success, "success"),
        (memoized, "memoized"),
        (reused, "reused"),
        (skipped, "skipped"),
        (canceled, "canceled"),
        (open, "open"),
    ];
    let there: Vec<_> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    there.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plain;
    use crate::report::sample;

    #[test]
    fn steps_are_drawn_with_what_they_cost_and_many_items_in_one_row() {
        let report = Report::of(&sample::small_run(), None);
        insta::assert_snapshot!(plain(&table(&report, Extent::Rows(50), "  ")));
        assert!(table(&report, Extent::All, "").lines().count() > 30);
        assert!(table(&report, Extent::Rows(2), "").ends_with("… and 33 more steps"));
    }
}
