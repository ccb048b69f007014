//! Assets and series over time: what steps said of them, from the views of the log.

use opyard_model::diagnostic::{Diagnostic, Diagnostics};
use opyard_model::error::Code;
use opyard_model::id::RunId;
use opyard_model::metadata::{MetadataEntry, MetadataValue};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::query::{QueryLimits, QueryRows};
use serde::Serialize;
use serde_json::Value;

use crate::error::YardError;
use crate::yard::Yard;

/// One thing that was said of an asset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AssetRecord {
    /// The asset.
    pub asset_key: Vec<String>,
    /// `materialization` or `observation`.
    pub kind: String,
    /// When, in UTC.
    pub at: String,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: String,
    /// The partition.
    pub partition: Option<String>,
    /// What happened.
    pub description: Option<String>,
    /// What is known of it.
    pub metadata: Vec<MetadataEntry>,
}

/// One point of a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesPoint {
    /// When, in UTC.
    pub at: String,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: String,
    /// Where in the series of its run.
    pub series_step: Option<u64>,
    /// The value; none when it was not finite.
    pub value: Option<f64>,
}

/// Numbers under one name, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The metric, or the label of the metadata.
    pub name: String,
    /// Its points.
    pub points: Vec<SeriesPoint>,
}

/// What there is, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed<T> {
    /// What was found.
    pub found: Vec<T>,
    /// There is more.
    pub truncated: bool,
}

impl Yard {
    /// The assets in the order of their keys, each with the latest that was said of it; at most `limit`.
    ///
    /// # Errors
    /// When the yard does not answer.
    pub async fn assets(&self, limit: usize) -> Result<Listed<AssetRecord>, YardError> {
        self.records("SELECT * FROM assets", limit).await
    }

    /// What was said of one asset, the newest first; at most `limit`.
    ///
    /// # Errors
    /// When nothing was ever said of it.
    pub async fn asset(&self, key: &[String], limit: usize) -> Result<Listed<AssetRecord>, YardError> {
        let json = Value::from(key).to_string();
        let sql =
            format!("SELECT * FROM asset_events WHERE asset_key = {} ORDER BY at_us DESC, seq DESC", literal(&json));
        let listed = self.records(&sql, limit).await?;
        if listed.found.is_empty() {
            let known = self.assets(QueryLimits::default().rows).await?.found;
            let known: Vec<_> = known.iter().map(|asset| asset.asset_key.join("/")).collect();
            return Err(unknown("asset", &key.join("/"), &known));
        }
        Ok(listed)
    }

    /// Every series of metrics, in the order of their names, with its latest point; at most `limit`.
    ///
    /// # Errors
    /// When the yard does not answer.
    pub async fn series(&self, limit: usize) -> Result<Listed<Series>, YardError> {
        let rows = self.rows("SELECT * FROM series", limit).await?;
        let found = rows.rows.iter().map(|row| {
            let row = Row { columns: &rows.columns, row };
            Ok(Series { name: row.text("name")?, points: vec![row.point()?] })
        });
        Ok(Listed { found: found.collect::<Result<_, StoreError>>()?, truncated: rows.truncated })
    }

    /// The newest points of one series of metrics, at most `limit`; oldest first.
    ///
    /// # Errors
    /// When there is no such series.
    pub async fn metric(&self, name: &str, limit: usize) -> Result<Listed<SeriesPoint>, YardError> {
        let sql = format!("SELECT * FROM metrics WHERE name = {} ORDER BY at_us DESC, seq DESC", literal(name));
        let rows = self.rows(&sql, limit).await?;
        if rows.rows.is_empty() {
            let known: Vec<_> = self.series(1_000).await?.found.into_iter().map(|series| series.name).collect();
            return Err(unknown("series", name, &known));
        }
        let points = rows.rows.iter().rev().map(|row| Row { columns: &rows.columns, row }.point());
        Ok(Listed { found: points.collect::<Result<_, StoreError>>()?, truncated: rows.truncated })
    }

    async fn rows(&self, sql: &str, limit: usize) -> Result<QueryRows, StoreError> {
        // One more than is shown says that there are more.
        let limits = QueryLimits { rows: limit.min(QueryLimits::default().rows), ..QueryLimits::default() };
        self.tenant_store().query(&format!("{sql} LIMIT {}", limits.rows.saturating_add(1)), limits).await
    }

    async fn records(&self, sql: &str, limit: usize) -> Result<Listed<AssetRecord>, YardError> {
        let rows = self.rows(sql, limit).await?;
        let found = rows.rows.iter().map(|row| Row { columns: &rows.columns, row }.record());
        Ok(Listed { found: found.collect::<Result<_, StoreError>>()?, truncated: rows.truncated })
    }
}

/// The numbers among the metadata of `records`, which are the newest first: one series a label, in the order in which the
/// newest of them has them.
#[must_use]
pub fn numeric_metadata(records: &[AssetRecord]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for record in records {
        for entry in &record.metadata {
            let value = match &entry.value {
                #[expect(clippy::cast_precision_loss, reason = "at most 2^53 in magnitude")]
                MetadataValue::Int(value) => *value as f64,
                MetadataValue::Float(value) => *value,
                _ => continue,
            };
            let point = SeriesPoint {
                at: record.at.clone(),
                run: record.run,
                step: record.step.clone(),
                series_step: None,
                value: Some(value),
            };
            match all.iter_mut().find(|series| series.name == entry.label) {
                Some(series) => series.points.push(point),
                None => all.push(Series { name: entry.label.clone(), points: vec![point] }),
            }
        }
    }
    all.iter_mut().for_each(|series| series.points.reverse());
    all
}

/// A text of SQL. Guest-controlled names are among what is looked for: a quote is the one thing that ends a text, and the
/// query may read the tenant's views and do nothing else, whatever it says.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''").replace('\0', ""))
}

fn unknown(what: &str, name: &str, known: &[String]) -> YardError {
    let shown = opyard_model::error::sanitize(name, 200);
    let problem = Diagnostic::error(Code::UnknownAsset, format!("nothing was ever said of the {what} `{shown}`"));
    let listing = if what == "asset" { "`opyard assets` lists them" } else { "`opyard metrics` lists them" };
    Diagnostics::from(problem.nearest(name, known.iter().map(String::as_str)).help(listing)).into()
}

/// A row of an answer, by the names of its columns.
struct Row<'a> {
    columns: &'a [String],
    row: &'a [Value],
}

impl Row<'_> {
    fn cell(&self, name: &str) -> &Value {
        let at = self.columns.iter().position(|column| column == name);
        at.and_then(|at| self.row.get(at)).unwrap_or(&Value::Null)
    }

    fn maybe(&self, name: &str) -> Option<String> {
        self.cell(name).as_str().map(ToOwned::to_owned)
    }

    fn text(&self, name: &str) -> Result<String, StoreError> {
        self.maybe(name).ok_or_else(|| unreadable(format!("the column {name} holds no text")))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(name)?).map_err(|error| unreadable(format!("the column {name}: {error}")))
    }

    fn run(&self) -> Result<RunId, StoreError> {
        self.text("run")?.parse().map_err(|error| unreadable(format!("the column run: {error}")))
    }

    fn point(&self) -> Result<SeriesPoint, StoreError> {
        Ok(SeriesPoint {
            at: self.text("at")?,
            run: self.run()?,
            step: self.text("step")?,
            series_step: self.cell("series_step").as_u64(),
            value: self.cell("value").as_f64(),
        })
    }

    fn record(&self) -> Result<AssetRecord, StoreError> {
        let metadata = if self.cell("metadata").is_null() { Vec::new() } else { self.json("metadata")? };
        Ok(AssetRecord {
            asset_key: self.json("asset_key")?,
            kind: self.text("kind")?,
            at: self.text("at")?,
            run: self.run()?,
            step: self.text("step")?,
            partition: self.maybe("partition"),
            description: self.maybe("description"),
            metadata,
        })
    }
}

fn unreadable(reason: String) -> StoreError {
    StoreError::new("reading what was said of assets", StoreErrorKind::Unreadable(reason))
}
