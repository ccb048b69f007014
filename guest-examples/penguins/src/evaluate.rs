//! How good is the model, for machines and for people.

use std::fmt::Write;

use opyard_guest::serde_json::{Value, json};
use opyard_guest::{Csv, Failure, Json, MetadataValue, Text, events, op};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Prediction;

/// How good a model is on rows that it has not seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    /// Rows that were predicted.
    pub(crate) rows: usize,
    /// The share that was predicted right.
    pub(crate) accuracy: f64,
    /// One for each species, in alphabetical order.
    pub(crate) species: Vec<SpeciesMetrics>,
}

/// How good a model is at one species.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpeciesMetrics {
    /// The species.
    pub(crate) name: String,
    /// The share of its rows that were predicted right; none when there is no such row.
    pub(crate) recall: Option<f64>,
    /// How often it was predicted as each species, in the order of [`Metrics::species`].
    pub(crate) predicted_as: Vec<usize>,
}

impl Metrics {
    fn of(predictions: &[Prediction]) -> Self {
        let mut names: Vec<&str> = predictions.iter().flat_map(|row| [&*row.species, &*row.predicted]).collect();
        names.sort_unstable();
        names.dedup();
        let count = |species: &str, predicted: &str| {
            predictions.iter().filter(|row| row.species == species && row.predicted == predicted).count()
        };
        let species = names.iter().map(|&name| {
            let predicted_as: Vec<usize> = names.iter().map(|predicted| count(name, predicted)).collect();
            let all: usize = predicted_as.iter().sum();
            let recall = (all > 0).then(|| count(name, name) as f64 / all as f64);
            SpeciesMetrics { name: name.to_owned(), recall, predicted_as }
        });
        let species = species.collect();
        let right = predictions.iter().filter(|row| row.species == row.predicted).count();
        Self { rows: predictions.len(), accuracy: right as f64 / predictions.len() as f64, species }
    }

    /// What is so, down, and what was predicted, across.
    fn confusion_matrix(&self) -> MetadataValue {
        let mut columns = vec![("species", "utf8")];
        columns.extend(self.species.iter().map(|species| (species.name.as_str(), "int64")));
        let row = |species: &SpeciesMetrics| {
            let mut cells = vec![Value::from(species.name.as_str())];
            cells.extend(species.predicted_as.iter().map(|count| json!(count)));
            cells
        };
        MetadataValue::table(&columns, self.species.iter().map(row))
    }
}

/// What is demanded of the model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Score {
    /// Fail when the accuracy is lower.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) threshold: f64,
}

/// Compares what the model says with what is so.
#[op(result(name = "metrics"))]
pub(crate) fn score(predictions: Csv<Prediction>, config: Score) -> Result<Json<Metrics>, Failure> {
    if predictions.is_empty() {
        return Err(Failure::new("nothing was predicted").no_retry());
    }
    let metrics = Metrics::of(&predictions);
    events::metric("accuracy", metrics.accuracy);
    for species in &metrics.species {
        if let Some(recall) = species.recall {
            events::metric(&format!("recall_{}", species.name.to_lowercase()), recall);
        }
    }
    let (accuracy, matrix) = (metrics.accuracy, metrics.confusion_matrix());
    if accuracy < config.threshold {
        let failure = Failure::new(format!("the accuracy is {accuracy:.4}, but {} is demanded", config.threshold));
        let failure = failure.with_metadata("accuracy", accuracy).with_metadata("threshold", config.threshold);
        return Err(failure.with_metadata("confusion_matrix", matrix).no_retry());
    }
    Ok(Json::new(metrics).with_metadata("accuracy", accuracy).with_metadata("confusion_matrix", matrix))
}

/// How the card is headed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// The title of the card.
    #[serde(default = "title")]
    pub(crate) title: String,
}

fn title() -> String {
    "Palmer penguins: species classifier".to_owned()
}

/// Writes a model card: what the model is, how good it is, what it confuses.
#[op(result(name = "card", media = "text/markdown", doc = "The card, in Markdown."))]
pub(crate) fn report(metrics: Json<Metrics>, config: Report) -> Result<Text, Failure> {
    let mut card = String::new();
    writeln!(card, "# {}\n", config.title)?;
    writeln!(card, "A logistic regression on four measurements: length and depth of the bill, length of the")?;
    writeln!(card, "flipper, body mass. It was tested on {} penguins that it had not seen.\n", metrics.rows)?;
    writeln!(card, "**Accuracy: {:.1} %**\n", metrics.accuracy * 100.0)?;
    writeln!(card, "| species | penguins | recognised |\n| --- | ---: | ---: |")?;
    for species in &metrics.species {
        let recall = species.recall.map_or_else(|| "-".to_owned(), |recall| format!("{:.1} %", recall * 100.0));
        writeln!(card, "| {} | {} | {recall} |", species.name, species.predicted_as.iter().sum::<usize>())?;
    }
    writeln!(card, "\n## What it confuses\n")?;
    let names: Vec<&str> = metrics.species.iter().map(|species| species.name.as_str()).collect();
    writeln!(card, "| is \\ said to be | {} |\n| --- |{}", names.join(" | "), " ---: |".repeat(names.len()))?;
    for species in &metrics.species {
        let counts: Vec<String> = species.predicted_as.iter().map(ToString::to_string).collect();
        writeln!(card, "| {} | {} |", species.name, counts.join(" | "))?;
    }
    writeln!(card, "\n## Data\n\nPalmer penguins, Gorman, Williams and Fraser (2014), CC0.")?;
    let accuracy = metrics.accuracy;
    Ok(Text::new(card.clone()).with_metadata("accuracy", accuracy).with_metadata("card", MetadataValue::markdown(card)))
}
