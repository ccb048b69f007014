//! Whether rows look like those that a model learned from.

use std::collections::BTreeMap;

use opyard_guest::events::{self, Asset};
use opyard_guest::{Bytes, Context, Failure, Json, op};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most different texts of a column that is told by their shares.
const MAX_KINDS: usize = 50;

/// What can be said of rows without showing one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statistics {
    rows: u64,
    /// Columns of numbers.
    numbers: BTreeMap<String, Numbers>,
    /// Columns of few different texts: the share of each.
    kinds: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A column of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbers {
    mean: f64,
    /// Standard deviation (of the rows themselves, not of what they are a sample of).
    deviation: f64,
    min: f64,
    max: f64,
}

impl Statistics {
    fn of(rows: &[u8]) -> Result<Self, Failure> {
        let mut reader = csv::Reader::from_reader(rows);
        let header = reader.headers().context("the header")?.clone();
        let mut cells: Vec<Vec<String>> = vec![Vec::new(); header.len()];
        for row in reader.records() {
            let row = row.context("the rows")?;
            cells.iter_mut().zip(row.iter()).for_each(|(column, cell)| column.push(cell.to_owned()));
        }
        let rows = cells.first().map_or(0, Vec::len) as u64;
        let (mut numbers, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        for (name, column) in header.iter().zip(&cells) {
            let parsed: Option<Vec<f64>> =
                column.iter().map(|cell| cell.parse().ok().filter(|number: &f64| number.is_finite())).collect();
            if let Some(found) = parsed.as_deref().and_then(Numbers::of) {
                numbers.insert(name.to_owned(), found);
                continue;
            }
            let mut counts: BTreeMap<String, f64> = BTreeMap::new();
            for cell in column {
                *counts.entry(cell.clone()).or_default() += 1.0 / column.len() as f64;
            }
            if (1..=MAX_KINDS).contains(&counts.len()) {
                kinds.insert(name.to_owned(), counts);
            }
        }
        Ok(Self { rows, numbers, kinds })
    }

    /// How far each column of `observed` is from this: means in standard deviations, shares by the largest difference.
    fn shifts(&self, observed: &Self) -> BTreeMap<String, f64> {
        let far = f64::MAX;
        let numbers = self.numbers.iter().map(|(name, before)| {
            let shift = observed.numbers.get(name).map_or(far, |now| match (now.mean - before.mean).abs() {
                0.0 => 0.0,
                difference if before.deviation > 0.0 => difference / before.deviation,
                _ => far,
            });
            (name.clone(), shift)
        });
        let kinds = self.kinds.iter().map(|(name, before)| {
            let shift = observed.kinds.get(name).map_or(far, |now| {
                let all = before.keys().chain(now.keys());
                let share = |shares: &BTreeMap<String, f64>, kind| shares.get(kind).copied().unwrap_or(0.0);
                all.map(|kind| (share(before, kind) - share(now, kind)).abs()).fold(0.0, f64::max)
            });
            (name.clone(), shift)
        });
        numbers.chain(kinds).collect()
    }
}

impl Numbers {
    fn of(column: &[f64]) -> Option<Self> {
        let count = column.len() as f64;
        let mean = column.iter().sum::<f64>() / count;
        let squares = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let min = column.iter().copied().reduce(f64::min)?;
        let max = column.iter().copied().reduce(f64::max)?;
        Some(Self { mean, deviation: (squares / count).sqrt(), min, max })
    }
}

/// Tells of each column of a CSV with a header its mean, spread and bounds, or the share of each text.
#[op]
pub(crate) fn describe(#[port(type = "table", media = "text/csv")] rows: Bytes) -> Result<Json<Statistics>, Failure> {
    let statistics = Statistics::of(&rows)?;
    let (rows, columns) = (statistics.rows, statistics.numbers.len() + statistics.kinds.len());
    Ok(Json::new(statistics).with_metadata("rows", rows).with_metadata("columns", columns))
}

/// How much may change.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tolerance {
    /// Most standard deviations that a mean may move.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0))]
    mean: f64,
    /// Most that the share of a text may change.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    share: f64,
}

fn half() -> f64 {
    0.5
}

fn tenth() -> f64 {
    0.1
}

/// What has moved, and how far.
#[derive(Debug, Serialize)]
pub(crate) struct Drift {
    drifted: Vec<String>,
    shifts: BTreeMap<String, f64>,
}

/// Compares statistics of rows with those of the rows that a model learned from: an expectation for each column.
#[op]
pub(crate) fn drift(
    /// Of the rows that the model learned from.
    reference: Json<Statistics>,
    /// Of the rows that came since.
    observed: Json<Statistics>,
    config: Tolerance,
) -> Json<Drift> {
    let shifts = reference.shifts(&observed);
    let mut drifted = Vec::new();
    for (column, shift) in &shifts {
        let most = if reference.numbers.contains_key(column) { config.mean } else { config.share };
        let stays = *shift <= most;
        let told = format!("moved by {shift:.3}, and {most} is allowed");
        events::expect(&format!("{column}_stays"), stays, Some(&told), Vec::new());
        if !stays {
            drifted.push(column.clone());
        }
    }
    let largest = shifts.values().copied().fold(0.0, f64::max);
    events::metric("largest_shift", largest);
    Asset::new(["drift"])
        .with_metadata("largest_shift", largest)
        .with_metadata("drifted_columns", drifted.len())
        .observe();
    let count = drifted.len();
    Json::new(Drift { drifted, shifts }).with_metadata("drifted_columns", count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_told_by_what_is_in_them() {
        let found = Statistics::of(b"mass,kind\n1,a\n3,b\n5,a\n7,a\n").expect("a table");
        let mass = found.numbers["mass"];
        assert_eq!((found.rows, mass.mean, mass.min, mass.max), (4, 4.0, 1.0, 7.0));
        assert!((mass.deviation - 5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(found.kinds["kind"]["a"], 0.75);
        assert_eq!(found.shifts(&found).into_values().fold(0.0, f64::max), 0.0);
    }

    #[test]
    fn what_moved_is_told_by_how_far() {
        let before = Statistics::of(b"mass,kind\n1,a\n3,b\n").expect("a table");
        let now = Statistics::of(b"mass,kind\n3,a\n5,a\n").expect("a table");
        let shifts = before.shifts(&now);
        assert_eq!((shifts["mass"], shifts["kind"]), (2.0, 0.5));
        let gone = Statistics::of(b"other\n1\n").expect("a table");
        assert_eq!(before.shifts(&gone)["mass"], f64::MAX);
    }
}
