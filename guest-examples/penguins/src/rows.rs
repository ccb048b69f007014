//! From a file to rows that a model can learn from.

use std::io::Write;

use opyard_guest::events::{self, Asset};
use opyard_guest::{Context, Csv, Failure, ObjectStore, Outputs, Writer, info, op};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Which file to load.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// The path of the CSV file in the object store.
    object: String,
}

/// Loads a CSV file with a header from an object store, as it is.
///
/// Fails when it is no table: every row must have as many cells as the header.
#[op]
pub(crate) fn load_csv(
    raw: ObjectStore,
    config: Load,
    #[port(type = "table", media = "text/csv")] mut result: Writer,
) -> Result<(), Failure> {
    let bytes = raw.read(&config.object)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let columns = reader.headers().context(&config.object)?.len();
    let mut rows = 0_u64;
    for row in reader.byte_records() {
        row.context(&config.object)?;
        rows += 1;
    }
    info!(rows = rows, columns = columns; "read {}", config.object);
    Asset::new(["raw", &config.object]).with_metadata("rows", rows).with_metadata("bytes", bytes.len()).observe();
    result.add_metadata("rows", rows)?;
    result.add_metadata("columns", columns)?;
    result.write_all(&bytes)?;
    result.commit()
}

/// One row as it was published: anything may be missing.
#[derive(Debug, Deserialize)]
pub(crate) struct Observation {
    #[serde(deserialize_with = "missing")]
    species: Option<String>,
    #[serde(deserialize_with = "missing")]
    island: Option<String>,
    #[serde(deserialize_with = "missing")]
    bill_length_mm: Option<f64>,
    #[serde(deserialize_with = "missing")]
    bill_depth_mm: Option<f64>,
    #[serde(deserialize_with = "missing")]
    flipper_length_mm: Option<f64>,
    #[serde(deserialize_with = "missing")]
    body_mass_g: Option<f64>,
    #[serde(deserialize_with = "missing")]
    sex: Option<String>,
    #[serde(deserialize_with = "missing")]
    year: Option<u16>,
}

/// An empty cell, or `NA`, is a value that is missing.
fn missing<'de, T, D>(cell: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: Deserializer<'de>,
{
    let cell = String::deserialize(cell)?;
    match cell.trim() {
        "" | "NA" => Ok(None),
        text => text.parse().map(Some).map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}"))),
    }
}

/// One penguin, measured completely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Penguin {
    pub(crate) species: String,
    pub(crate) island: String,
    pub(crate) bill_length_mm: f64,
    pub(crate) bill_depth_mm: f64,
    pub(crate) flipper_length_mm: f64,
    pub(crate) body_mass_g: f64,
    pub(crate) sex: String,
    pub(crate) year: u16,
}

impl Penguin {
    fn complete(row: Observation) -> Option<Self> {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        Some(Self {
            species: row.species?,
            island: row.island?,
            bill_length_mm: finite(row.bill_length_mm)?,
            bill_depth_mm: finite(row.bill_depth_mm)?,
            flipper_length_mm: finite(row.flipper_length_mm)?,
            body_mass_g: finite(row.body_mass_g)?,
            sex: row.sex?,
            year: row.year?,
        })
    }
}

/// Drops every row in which a value is missing.
///
/// What remains is written in one form only, so a change in a row that is dropped changes nothing below.
#[op(result(type = "penguin_rows"))]
pub(crate) fn clean(rows: Csv<Observation>) -> Result<Csv<Penguin>, Failure> {
    let before = rows.len();
    let complete: Vec<_> = rows.into_inner().into_iter().filter_map(Penguin::complete).collect();
    info!(before = before, after = complete.len(); "dropped {} rows", before - complete.len());
    events::expect("some_rows_are_complete", !complete.is_empty(), None, Vec::new());
    if complete.is_empty() {
        return Err(Failure::new("every row lacks a value").with_metadata("rows", before).no_retry());
    }
    // Not how many were dropped: metadata is part of the value, and a dropped row is to leave no trace in it.
    let kept = complete.len();
    Ok(Csv::new(complete).with_metadata("rows", kept))
}

/// How to divide the rows.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitConfig {
    /// The share of rows that the model is tested with.
    #[schemars(range(min = 0.05, max = 0.95))]
    pub(crate) test_fraction: f64,
    /// Chooses which rows those are.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub(crate) seed: u64,
}

/// The rows, divided.
#[derive(Outputs)]
pub(crate) struct Split {
    /// What the model learns from.
    #[port(type = "penguin_rows")]
    pub(crate) train: Csv<Penguin>,
    /// What the model is tested with.
    #[port(type = "penguin_rows")]
    pub(crate) test: Csv<Penguin>,
}

/// Divides rows at random into those to learn from and those to test with.
#[op]
pub(crate) fn split(
    /// Complete rows.
    #[port(type = "penguin_rows")]
    rows: Csv<Penguin>,
    config: SplitConfig,
) -> Result<Split, Failure> {
    let mut rows = rows.into_inner();
    shuffle(&mut rows, config.seed);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is a count")]
    let tested = (rows.len() as f64 * config.test_fraction).round() as usize;
    if tested == 0 || tested >= rows.len() {
        let failure = Failure::new("one of the two parts would be empty");
        return Err(failure.with_metadata("rows", rows.len()).with_metadata("tested", tested).no_retry());
    }
    let train = rows.split_off(tested);
    let part = |rows: Vec<Penguin>| {
        let count = rows.len();
        Csv::new(rows).with_metadata("rows", count)
    };
    Ok(Split { train: part(train), test: part(rows) })
}

/// Fisher and Yates, with a generator that is the same everywhere and always.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for last in (1..items.len()).rev() {
        let below = last as u128 + 1;
        // The high half of a product is even enough: the error is below 2^-32 for as many rows as fit into memory.
        let chosen = (u128::from(random.next_u64()) * below) >> 64;
        items.swap(last, usize::try_from(chosen).expect("less than the number of items"));
    }
}
