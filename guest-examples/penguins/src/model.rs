//! Learning and predicting: multinomial logistic regression on standardised measurements.

use opyard_guest::{Context, Csv, Failure, Json, events, info, op};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};

use crate::rows::Penguin;

/// What the model looks at, in this order.
const FEATURES: [&str; 4] = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"];

fn features(penguin: &Penguin) -> [f64; 4] {
    [penguin.bill_length_mm, penguin.bill_depth_mm, penguin.flipper_length_mm, penguin.body_mass_g]
}

/// A linear classifier: whoever can read JSON can read what it learned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    /// What it looks at.
    features: Vec<String>,
    /// Mean of each feature in the training rows.
    means: Vec<f64>,
    /// Standard deviation of each feature in the training rows.
    deviations: Vec<f64>,
    /// One for each species.
    classes: Vec<Class>,
}

/// How much speaks for one species: the intercept, and the weights times the standardised features.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    species: String,
    intercept: f64,
    weights: Vec<f64>,
}

impl Model {
    fn standardise(&self, features: [f64; 4]) -> Vec<f64> {
        let scaled = features.iter().zip(&self.means).zip(&self.deviations);
        scaled.map(|((value, mean), deviation)| (value - mean) / deviation).collect()
    }

    /// Refuses a model that this component did not write.
    fn check(&self) -> Result<(), Failure> {
        let count = FEATURES.len();
        let sound = self.features == FEATURES
            && self.means.len() == count
            && self.deviations.len() == count
            && self.deviations.iter().all(|deviation| *deviation > 0.0)
            && self.classes.len() >= 2
            && self.classes.iter().all(|class| class.weights.len() == count);
        if sound { Ok(()) } else { Err(Failure::new("this is no model of ours").no_retry()) }
    }

    /// The likeliest species and how likely it is.
    fn predict(&self, penguin: &Penguin) -> Option<(&str, f64)> {
        let row = self.standardise(features(penguin));
        let evidence = |class: &Class| {
            class.intercept + class.weights.iter().zip(&row).map(|(weight, value)| weight * value).sum::<f64>()
        };
        let evidence: Vec<f64> = self.classes.iter().map(evidence).collect();
        let (best, most) = evidence.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let total: f64 = evidence.iter().map(|evidence| (evidence - most).exp()).sum();
        Some((&self.classes[best].species, 1.0 / total))
    }
}

/// How to learn.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fit {
    /// How strongly large weights are held back; more means a simpler model.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub(crate) regularisation: f64,
}

fn one() -> f64 {
    1.0
}

/// Learns to tell the species from four measurements.
#[op(tags(kind = "train"))]
pub(crate) fn fit(
    /// The rows to learn from.
    #[port(type = "penguin_rows")]
    rows: Csv<Penguin>,
    config: Fit,
) -> Result<Json<Model>, Failure> {
    let mut species: Vec<&str> = rows.iter().map(|penguin| penguin.species.as_str()).collect();
    species.sort_unstable();
    species.dedup();
    if species.len() < 2 {
        return Err(Failure::new("there is nothing to tell apart").with_metadata("species", species.len()).no_retry());
    }

    let measured: Vec<[f64; 4]> = rows.iter().map(features).collect();
    let count = measured.len() as f64;
    let mean = |column: usize| measured.iter().map(|row| row[column]).sum::<f64>() / count;
    let means: Vec<f64> = (0..FEATURES.len()).map(mean).collect();
    let deviation = |column: usize| {
        let squares = measured.iter().map(|row| (row[column] - means[column]).powi(2));
        (squares.sum::<f64>() / count).sqrt()
    };
    let deviations: Vec<f64> = (0..FEATURES.len()).map(deviation).collect();
    if let Some(constant) = deviations.iter().position(|deviation| *deviation == 0.0) {
        return Err(Failure::new(format!("{} is the same in every row", FEATURES[constant])).no_retry());
    }

    let mut model = Model {
        features: FEATURES.map(str::to_owned).to_vec(),
        means,
        deviations,
        classes: Vec::with_capacity(species.len()),
    };
    let inputs: Vec<Vec<f64>> = measured.into_iter().map(|row| model.standardise(row)).collect();
    let label = |penguin: &Penguin| species.binary_search(&penguin.species.as_str()).map(|label| label as u32);
    let labels = rows.iter().map(label).collect::<Result<Vec<u32>, _>>().ok().context("a species without a label")?;
    let inputs = DenseMatrix::from_2d_vec(&inputs)?;
    let parameters = LogisticRegressionParameters::default().with_alpha(config.regularisation);
    let learned = LogisticRegression::fit(&inputs, &labels, parameters)?;

    // Two classes are told apart by one line, more by one each.
    let (lines, _) = learned.coefficients().shape();
    let class = |line: usize, species: &str| Class {
        species: species.to_owned(),
        intercept: *learned.intercept().get((line, 0)),
        weights: (0..FEATURES.len()).map(|feature| *learned.coefficients().get((line, feature))).collect(),
    };
    if lines == species.len() {
        model.classes = species.iter().enumerate().map(|(line, species)| class(line, species)).collect();
    } else {
        let nought = Class { species: species[0].to_owned(), intercept: 0.0, weights: vec![0.0; FEATURES.len()] };
        model.classes = vec![nought, class(0, species[1])];
    }
    info!(rows = rows.len(), species = species; "learned to tell {} species apart", model.classes.len());

    let right = rows.iter().filter(|penguin| model.predict(penguin).is_some_and(|(said, _)| said == penguin.species));
    let accuracy = right.count() as f64 / count;
    events::metric("training_accuracy", accuracy);
    Ok(Json::new(model).with_metadata("rows", rows.len()).with_metadata("training_accuracy", accuracy))
}

/// What the model says of one penguin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Prediction {
    /// What it is.
    pub(crate) species: String,
    /// What the model says it is.
    pub(crate) predicted: String,
    /// How sure the model is: from 0 to 1.
    pub(crate) confidence: f64,
}

/// Says of every row which species it is.
#[op]
pub(crate) fn predict(
    /// What `fit` learned.
    model: Json<Model>,
    /// Rows that the model has not seen.
    #[port(type = "penguin_rows")]
    rows: Csv<Penguin>,
) -> Result<Csv<Prediction>, Failure> {
    model.check()?;
    let prediction = |penguin: &Penguin| {
        let (predicted, confidence) = model.predict(penguin)?;
        Some(Prediction { species: penguin.species.clone(), predicted: predicted.to_owned(), confidence })
    };
    let predictions: Option<Vec<_>> = rows.iter().map(prediction).collect();
    Ok(Csv::new(predictions.context("the model knows no species")?))
}
