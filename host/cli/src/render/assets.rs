//! Assets and series over time, for people.

use opyard_server::model::metadata::MetadataEntry;
use opyard_server::{AssetRecord, Series, SeriesPoint};

use crate::render::style::{DIM, paint};
use crate::render::table::{Cell, Table};
use crate::render::{event, metadata, text};

/// Widest name of an asset or series.
const NAME: usize = 48;
/// Widest description, and widest summary of metadata.
const WIDTH: usize = 60;
/// Points of a sparkline: the newest.
const SPARK: usize = 40;
/// From low to high.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The values from left to right, each as high as it stands between the lowest and the highest; a gap where there is none.
pub(crate) fn sparkline(points: &[SeriesPoint]) -> String {
    let shown = &points[points.len().saturating_sub(SPARK)..];
    let values = || shown.iter().filter_map(|point| point.value);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    // Halves, so that the distance of any two numbers is one.
    let range = high / 2.0 - low / 2.0;
    let block = |value: f64| {
        if range <= 0.0 {
            return BLOCKS[3];
        }
        let share = (value / 2.0 - low / 2.0) / range;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
        let at = (share * 7.0).round() as usize;
        BLOCKS[at.min(7)]
    };
    shown.iter().map(|point| point.value.map_or(' ', block)).collect()
}

fn name(key: &[String]) -> String {
    text::one_line(&key.join("/"), NAME)
}

/// The day and the time of day.
fn moment(at: &str) -> Cell {
    let at: String = at.chars().take(19).collect();
    Cell::styled(at.replace('T', " "), DIM)
}

/// `rows: 344, columns: 7` as far as it fits.
fn summary(entries: &[MetadataEntry]) -> String {
    let parts: Vec<_> = entries.iter().filter_map(metadata::brief).collect();
    text::one_line(&parts.join(", "), WIDTH)
}

/// Assets, one a line, each with the latest that was said of it.
pub(crate) fn list(assets: &[AssetRecord]) -> String {
    let mut table = Table::new(["asset", "latest", "at", "run", "step", "partition", "metadata"]);
    for asset in assets {
        table.row([
            name(&asset.asset_key).into(),
            asset.kind.as_str().into(),
            moment(&asset.at),
            asset.run.to_string().into(),
            text::one_line(&asset.step, NAME).into(),
            text::one_line(asset.partition.as_deref().unwrap_or_default(), 24).into(),
            summary(&asset.metadata).into(),
        ]);
    }
    table.render("")
}

/// One asset: what was said of it, the newest first, all that is known of the newest, and its numbers over time.
pub(crate) fn history(events: &[AssetRecord], series: &[Series]) -> String {
    let Some(newest) = events.first() else { return String::new() };
    let mut parts = vec![name(&newest.asset_key)];
    let mut table = Table::new(["at", "event", "run", "step", "partition", "description", "metadata"]);
    for event in events {
        table.row([
            moment(&event.at),
            event.kind.as_str().into(),
            event.run.to_string().into(),
            text::one_line(&event.step, NAME).into(),
            text::one_line(event.partition.as_deref().unwrap_or_default(), 24).into(),
            text::one_line(event.description.as_deref().unwrap_or_default(), WIDTH).into(),
            summary(&event.metadata).into(),
        ]);
    }
    parts.push(table.render("  "));
    if !newest.metadata.is_empty() {
        parts.push(format!("latest metadata\n{}", metadata::entries(&newest.metadata, "  ")));
    }
    if !series.is_empty() {
        parts.push(format!("numbers over time\n{}", over_time("label", series)));
    }
    parts.join("\n\n")
}

fn over_time(title: &str, series: &[Series]) -> String {
    let mut table = Table::new([title, ">latest", ">lowest", ">highest", ">points", "oldest to newest"]);
    for Series { name, points } in series {
        let values = || points.iter().filter_map(|point| point.value);
        let number = |value: f64| if value.is_finite() { value.to_string() } else { String::new() };
        table.row([
            text::one_line(name, NAME).into(),
            event::metric(points.last().and_then(|point| point.value)).into(),
            number(values().fold(f64::INFINITY, f64::min)).into(),
            number(values().fold(f64::NEG_INFINITY, f64::max)).into(),
            points.len().to_string().into(),
            sparkline(points).into(),
        ]);
    }
    table.render("  ")
}

/// Series, one a line, each with its latest point.
pub(crate) fn series(all: &[Series]) -> String {
    let mut table = Table::new(["series", ">latest", "at", "run", "step"]);
    for Series { name, points } in all {
        let Some(point) = points.last() else { continue };
        table.row([
            text::one_line(name, NAME).into(),
            event::metric(point.value).into(),
            moment(&point.at),
            point.run.to_string().into(),
            text::one_line(&point.step, NAME).into(),
        ]);
    }
    table.render("")
}

/// One series, point by point.
pub(crate) fn points(series: &Series) -> String {
    let mut table = Table::new(["at", "run", "step", ">where", ">value"]);
    for point in &series.points {
        table.row([
            moment(&point.at),
            point.run.to_string().into(),
            text::one_line(&point.step, NAME).into(),
            point.series_step.map(|step| step.to_string()).unwrap_or_default().into(),
            event::metric(point.value).into(),
        ]);
    }
    let head = paint(DIM, text::one_line(&series.name, NAME));
    format!("{head}\n\n{}\n\n{}", over_time("series", std::slice::from_ref(series)), table.render("  "))
}

#[cfg(test)]
mod tests {
    use opyard_server::model::id::RunId;
    use opyard_server::model::metadata::MetadataValue;
    use opyard_server::numeric_metadata;

    use super::*;
    use crate::render::plain;

    fn point(value: Option<f64>) -> SeriesPoint {
        let at = "2026-11-23T04:47:00.000Z".to_owned();
        SeriesPoint { at, run: RunId::from_parts(1, 2), step: "fit".into(), series_step: Some(3), value }
    }

    fn spark(values: &[f64]) -> String {
        sparkline(&values.iter().map(|value| point(value.is_finite().then_some(*value))).collect::<Vec<_>>())
    }

    #[test]
    fn a_sparkline_stands_between_its_lowest_and_its_highest() {
        assert_eq!(spark(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), "▁▂▃▄▅▆▇█");
        assert_eq!(spark(&[5.0, 5.0]), "▄▄");
        assert_eq!(spark(&[f64::MIN, 0.0, f64::MAX]), "▁▅█");
        assert_eq!(spark(&[1.0, f64::NAN, 2.0]), "▁ █");
        assert_eq!(spark(&[f64::NAN]), " ");
        assert_eq!(spark(&[]), "");
        assert_eq!(spark(&[1.0; 1_000]).chars().count(), SPARK);
    }

    #[test]
    fn an_asset_is_shown_with_its_history() {
        let record = |at: &str, kind: &str, rows: i64| AssetRecord {
            asset_key: vec!["lake".into(), "pen\u{1b}[2Jguins".into()],
            kind: kind.into(),
            at: at.into(),
            run: RunId::from_parts(1, 2),
            step: "load".into(),
            partition: Some("2007".into()),
            description: Some("read".into()),
            metadata: vec![
                MetadataEntry { label: "rows".into(), value: MetadataValue::Int(rows) },
                MetadataEntry { label: "note".into(), value: MetadataValue::Text("two\nlines".into()) },
            ],
        };
        let events = [
            record("2026-11-23T04:47:02.000Z", "materialization", 344),
            record("2026-11-23T04:47:01.000Z", "observation", 100),
            record("2026-11-23T04:47:00.000Z", "materialization", 300),
        ];
        let drawn = [
            list(&events[..1]),
            history(&events, &numeric_metadata(&events)),
            series(&[Series { name: "loss".into(), points: vec![point(Some(0.25))] }]),
            points(&Series { name: "loss".into(), points: vec![point(Some(0.5)), point(None), point(Some(0.25))] }),
        ];
        insta::assert_snapshot!(plain(&drawn.join("\n\n---\n\n")));
    }
}
