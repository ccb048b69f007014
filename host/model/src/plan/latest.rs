//! Values of other runs: `{ latest: { job, step, output } }`.
//!
//! Found when a run is launched, and recorded in its plan: what runs later does not change it.

use serde::{Deserialize, Serialize};

use super::flatten::Builder;
use super::wire::{Offer, Plug};
use super::{BaseType, Plan, Source};
use crate::definitions::{Body, Flow, LatestRef, Located, StepDefinition, Target};
use crate::diagnostic::{Diagnostic, Place};
use crate::error::Code;
use crate::id::{ItemKey, Name, RunId, StepPath};

/// One output of the last successful run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LatestWanted {
    /// The job.
    pub job: Name,
    /// The step.
    pub step: StepPath,
    /// The output port; the step's only one, if none is named.
    pub output: Option<Name>,
}

/// Where a value that was the latest comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestOutput {
    /// The job.
    pub job: Name,
    /// The run that yielded it.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
}

impl Plan {
    /// The inputs that were found in other runs: the step, the port, and where the value is from.
    pub fn latest(&self) -> impl Iterator<Item = (&StepPath, &Name, &LatestOutput)> {
        let inputs = self.steps.iter().flat_map(|step| step.inputs.iter().map(move |input| (&step.path, input)));
        inputs.filter_map(|(step, input)| match &input.source {
            Source::Given { latest: Some(latest), .. } => Some((step, &input.port, &**latest)),
            _ => None,
        })
    }
}

/// A step that is named from outside its flow: inside graphs, and as a graph's output.
struct Found<'a> {
    step: &'a StepDefinition,
    path: StepPath,
    output: Option<&'a str>,
}

impl<'a> Builder<'a> {
    /// The latest value of an output.
    pub(super) fn latest(&mut self, plug: &Plug<'_, 'a>, latest: &'a LatestRef, place: &'a Place) -> Source {
        let Some(job) = self.surroundings.definitions.jobs.get(latest.job.value.as_str()) else {
            return Source::Unconnected; // That was said.
        };
        let wanted = latest.output.as_ref().map(|output| output.value.as_str());
        let Some(found) = self.walk(&job.value.flow, &latest.step, wanted) else { return Source::Unconnected };
        let home = &found.step.body_place;
        let port = match &found.step.body {
            Body::Graph(_) => None,
            Body::Op { component, op } => {
                let op = self.planning.catalog.get(component.as_str()).and_then(|component| component.op(op));
                match (op, found.output) {
                    // Its component was not asked, since this job does not need it. The value says itself what it is.
                    (None, _) => None,
                    (Some(op), output) => {
                        let port = match output {
                            Some(output) => op.output(output),
                            None if op.outputs.len() == 1 => op.outputs.first(),
                            None => None,
                        };
                        if port.is_none() {
                            self.no_such_output(latest, op.outputs.iter().map(|port| port.name.as_str()), home);
                            return Source::Unconnected;
                        }
                        port
                    }
                }
            }
        };
        let from = format!("`{}.{}` of `{}`", latest.step.value, wanted.unwrap_or("its output"), job.name);
        if let Some(port) = port {
            if port.dynamic {
                self.found.push(
                    Diagnostic::error(Code::BadMapping, format!("{from} is dynamic, and `latest` is of one value"))
                        .at(place, "any number of values")
                        .at(home, "yields items"),
                );
                return Source::Unconnected;
            }
            let chosen = found.step.types.iter().find(|(output, _)| output.value == port.name.as_str());
            let type_name = chosen.map_or(&port.type_name, |(_, chosen)| &chosen.value).clone();
            let Some(base) = self.base_of(type_name.as_str()) else { return Source::Unconnected };
            let offer = Offer { from: from.clone(), type_name, base, media_type: port.media_type.clone(), home };
            if !self.check_offer(plug, &offer, place) {
                return Source::Unconnected;
            }
        }
        let output = port.map(|port| port.name.clone()).or_else(|| found.output.and_then(|name| Name::new(name).ok()));
        let wanted = LatestWanted { job: job.name.clone(), step: found.path, output };
        let Some((run, mut value)) = self.planning.stored.latest(&wanted) else {
            if !plug.port.optional {
                self.nothing_yet(&wanted, place);
            }
            return Source::Unconnected;
        };
        // It is no item here, whatever it was there; and its artifact is what counts.
        (value.mapping_key, value.kept) = (ItemKey::NONE, None);
        if let Some(base) = self.base_of(value.type_name.as_str()) {
            // The job, or its ops, may have changed since.
            let (type_name, media_type) = (value.type_name.clone(), value.media_type.clone());
            let from = format!("what {run} has of {from}");
            self.check_offer(plug, &Offer { from, type_name, base, media_type, home }, place);
        }
        let latest = LatestOutput { job: wanted.job, run, step: wanted.step };
        Source::Given { value: value.into(), text: None, latest: Some(latest.into()) }
    }

    /// The base of a type of the contract or of the definitions.
    pub(super) fn base_of(&self, name: &str) -> Option<BaseType> {
        let defined = || self.surroundings.definitions.types.get(name).map(|entry| entry.value.base);
        BaseType::from_name(name).or_else(defined)
    }

    /// Follows a path through graphs, and the outputs of a graph to the step that yields them.
    fn walk(&mut self, flow: &'a Flow, path: &'a Located<StepPath>, wanted: Option<&'a str>) -> Option<Found<'a>> {
        let (mut flow, mut output) = (flow, wanted);
        let mut names: Vec<&'a str> = path.value.as_str().split('.').rev().collect();
        let mut walked: Vec<&'a str> = Vec::new();
        while let Some(name) = names.pop() {
            let Some(step) = flow.steps.get(name) else {
                if !flow.steps.knows(name) {
                    self.found.push(
                        Diagnostic::error(Code::UnknownStep, format!("there is no step `{name}` there"))
                            .at(&path.place, "unknown step")
                            .nearest(name, flow.steps.names()),
                    );
                }
                return None;
            };
            walked.push(name);
            let Body::Graph(graph) = &step.value.body else {
                if let Some(inner) = names.last() {
                    let problem = format!("`{name}` is an op, and has no step `{inner}`");
                    self.found.push(Diagnostic::error(Code::UnknownStep, problem).at(&path.place, "unknown step"));
                    return None;
                }
                let path = StepPath::new(&walked.join(".")).ok()?;
                return Some(Found { step: &step.value, path, output });
            };
            let graph = &self.surroundings.definitions.graphs.get(graph.as_str())?.value;
            if names.is_empty() {
                // The graph's output is one of a step inside.
                let port = match output {
                    Some(output) => graph.outputs.get(output),
                    None => graph.outputs.iter().next().filter(|_| graph.outputs.iter().count() == 1),
                };
                let Some(Target::Step { step: inner, output: of }) = port.map(|port| &port.value.target) else {
                    let known = graph.outputs.names();
                    let problem = format!("the graph `{}` yields no such output", path.value);
                    let found = Diagnostic::error(Code::UnknownPort, problem).at(&path.place, "which of them?");
                    self.found.push(found.nearest(output.unwrap_or_default(), known));
                    return None;
                };
                names.push(inner.as_str());
                output = of.as_deref();
            }
            flow = &graph.flow;
        }
        None
    }

    fn no_such_output<'n>(&mut self, latest: &LatestRef, known: impl Iterator<Item = &'n str>, home: &Place) {
        let known: Vec<_> = known.collect();
        let (place, name) = match &latest.output {
            Some(output) => (&output.place, output.value.as_str()),
            None => (&latest.step.place, ""),
        };
        let problem = match &latest.output {
            Some(output) => format!("`{}` has no output `{}`", latest.step.value, output.value),
            None => format!("`{}` has {} outputs; say which with `output`", latest.step.value, known.len()),
        };
        let found = Diagnostic::error(Code::UnknownPort, problem).at(place, "unknown output").at(home, "of this op");
        self.found.push(if name.is_empty() { found } else { found.nearest(name, known) });
    }

    fn nothing_yet(&mut self, wanted: &LatestWanted, place: &Place) {
        let LatestWanted { job, step, .. } = wanted;
        let problem = format!("no run of `{job}` has succeeded yet that has one value of `{step}`");
        let found = if self.planning.needs_latest {
            Diagnostic::error(Code::NothingYet, problem).help(format!("`opyard run {job}` first"))
        } else {
            Diagnostic::warning(Code::NothingYet, problem).help(format!("run `{job}` before this job"))
        };
        self.found.push(found.at(place, "nothing there yet"));
    }
}
