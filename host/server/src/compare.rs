//! What is different between two runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opyard_model::digest::{ComponentDigest, Digest};
use opyard_model::event::{Recorded, RunEvent};
use opyard_model::id::{Name, RunId, StepKey};
use opyard_model::json::CanonicalJson;
use opyard_model::plan::Plan;
use opyard_model::state::RunState;
use opyard_model::step::Bound;
use serde::{Serialize, Serializer};

use crate::error::YardError;
use crate::yard::Yard;

/// Two values of one thing; none where a run has none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Both<T> {
    /// In the first run.
    pub before: Option<T>,
    /// In the second.
    pub after: Option<T>,
}

/// What is known of a step in one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepFacts {
    /// How it ended, or where it stands.
    pub status: &'static str,
    /// The component.
    pub component: ComponentDigest,
    /// The op.
    pub op: Name,
    /// The config.
    pub config: CanonicalJson,
    /// The identities of the values on each input, in order.
    pub inputs: BTreeMap<Name, Vec<Digest>>,
    /// The identities of the values of each output, items in key order.
    pub outputs: BTreeMap<Name, Vec<Digest>>,
    /// Time of its last try, in JSON as milliseconds; none when it did not run.
    #[serde(rename = "time_ms", serialize_with = "as_millis")]
    pub time: Option<Duration>,
}

/// What kind of thing is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// Only one run has the step.
    Presence,
    /// The component's bytes.
    Component,
    /// Which op it is.
    Op,
    /// The config.
    Config,
    /// What it was given.
    Inputs,
    /// What it gave.
    Outputs,
    /// How it ended. That one ran and the other had the result already is no difference.
    Status,
}

/// A step in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepDifference {
    /// The step.
    pub step: StepKey,
    /// What is different; empty when nothing is.
    pub changed: BTreeSet<Changed>,
    /// What is known of it.
    #[serde(flatten)]
    pub facts: Both<StepFacts>,
}

/// The last point of a series in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricDifference {
    /// Which step said it.
    pub step: StepKey,
    /// The series.
    pub name: String,
    /// Its values.
    #[serde(flatten)]
    pub values: Both<f64>,
}

/// What is different between two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The runs.
    pub runs: (RunId, RunId),
    /// Every step of either, in the order of the second run's plan.
    pub steps: Vec<StepDifference>,
    /// Every series of either whose last points differ.
    pub metrics: Vec<MetricDifference>,
}

/// One run, read.
struct Side {
    plan: std::sync::Arc<Plan>,
    state: RunState,
    events: Vec<Recorded>,
}

impl Yard {
    /// Compares two runs, step by step.
    ///
    /// # Errors
    /// When there is no such run, or its events make no sense.
    pub async fn compare(&self, first: RunId, second: RunId) -> Result<Comparison, YardError> {
        let (before, after) = (self.side(first).await?, self.side(second).await?);
        let mut old: BTreeMap<_, _> = before.steps().into_iter().collect();
        let mut steps = Vec::new();
        for (step, facts) in after.steps() {
            let facts = Both { before: old.remove(&step), after: Some(facts) };
            steps.push(StepDifference { step, changed: changed(&facts), facts });
        }
        for (step, facts) in old {
            let facts = Both { before: Some(facts), after: None };
            steps.push(StepDifference { step, changed: changed(&facts), facts });
        }
        let (mut old, mut metrics) = (before.metrics(), Vec::new());
        for ((step, name), value) in after.metrics() {
            let values = Both { before: old.remove(&(step.clone(), name.clone())), after: Some(value) };
            metrics.push(MetricDifference { step, name, values });
        }
        let gone = old.into_iter().map(|((step, name), value)| {
            let values = Both { before: Some(value), after: None };
            MetricDifference { step, name, values }
        });
        metrics.extend(gone);
        metrics.retain(|metric| metric.values.before != metric.values.after);
        Ok(Comparison { runs: (first, second), steps, metrics })
    }

    async fn side(&self, run: RunId) -> Result<Side, YardError> {
        let (plan, state) = self.state(run).await?;
        Ok(Side { plan, state, events: self.events(run).await? })
    }
}

fn as_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64() * 1e3).serialize(serializer)
}

impl Side {
    fn steps(&self) -> Vec<(StepKey, StepFacts)> {
        let mut times = BTreeMap::new();
        for recorded in &self.events {
            if let RunEvent::StepSuccess { of, usage } | RunEvent::StepFailure { of, usage, .. } = &recorded.event {
                times.insert(of.step.clone(), usage.wall);
            }
        }
        let steps = self.state.instances().map(|(id, instance)| {
            let (step, key) = (self.plan.step(id.step), id.step_key(&self.plan));
            let values = |bound: &Bound| bound.values().iter().map(opyard_model::value::ValueRef::identity).collect();
            let inputs = self.state.bind(&id);
            let mut outputs: BTreeMap<Name, Vec<Digest>> = BTreeMap::new();
            for output in instance.yielded(&step.outputs) {
                outputs.entry(output.port).or_default().push(output.value.identity());
            }
            let facts = StepFacts {
                status: instance.state.name(),
                component: step.component,
                op: step.op.clone(),
                config: step.config.clone(),
                inputs: inputs.iter().map(|input| (input.port.clone(), values(&input.bound))).collect(),
                outputs,
                time: times.remove(&key),
            };
            (key, facts)
        });
        steps.collect()
    }

    fn metrics(&self) -> BTreeMap<(StepKey, String), f64> {
        let points = self.events.iter().filter_map(|recorded| match &recorded.event {
            RunEvent::Metric { of, point, .. } => Some(((of.step.clone(), point.name.clone()), point.value?)),
            _ => None,
        });
        points.collect()
    }
}

fn changed(facts: &Both<StepFacts>) -> BTreeSet<Changed> {
    let Both { before: Some(before), after: Some(after) } = facts else { return BTreeSet::from([Changed::Presence]) };
    let ended = |status: &'static str| if matches!(status, "memoized" | "reused") { "success" } else { status };
    // A step whose result was taken as it was has no inputs to compare.
    let inputs_known = before.status != "reused" && after.status != "reused";
    let all = [
        (Changed::Component, before.component != after.component),
        (Changed::Op, before.op != after.op),
        (Changed::Config, before.config != after.config),
        (Changed::Inputs, inputs_known && before.inputs != after.inputs),
        (Changed::Outputs, before.outputs != after.outputs),
        (Changed::Status, ended(before.status) != ended(after.status)),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}
