//! Names that refer to other places of the file.

use super::{
    Body, CheckDefinition, Definitions, Feed, Flow, Graph, HookBody, HookDefinition, IoManagerDefinition, Located,
    PortRef, StepDefinition, Table, Target, flow,
};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::error::Code;
use crate::id::Name;

impl Definitions {
    /// Checks that every name leads somewhere, and puts steps in order.
    pub(super) fn check_names(&mut self, found: &mut Diagnostics) {
        for graph in self.graphs.iter() {
            self.check_flow(&graph.value.flow, Some(&graph.value.inputs), found);
            for output in graph.value.outputs.iter() {
                self.check_ref(&output.value, &graph.value.flow, None, found);
            }
        }
        for job in self.jobs.iter() {
            self.check_hooks(&job.value.hooks, found);
            self.check_flow(&job.value.flow, None, found);
            job.value.io_manager.iter().for_each(|name| self.check_manager(name, found));
        }
        flow::check_nesting(&self.graphs, found);
        for entry in self.types.iter() {
            if let Some(CheckDefinition::Checker { component, place, .. }) = &entry.value.check
                && !found.is_full()
                && !self.components.knows(component.as_str())
            {
                let known = self.components.names();
                found.push(unknown(Code::UnknownComponent, "component", component.as_str(), place, known));
            }
        }
        self.check_manager_components(found);
        self.check_grants(found);
        for schedule in self.schedules.iter() {
            let job = schedule.value.job.as_str();
            if !found.is_full() && !self.jobs.knows(job) {
                let problem = unknown(Code::UnknownJob, "job", job, &schedule.value.job_place, self.jobs.names());
                found.push(problem);
            }
        }
        for graph in &mut self.graphs.entries {
            graph.value.flow.order = flow::order(&graph.value.flow.steps, found);
        }
        for job in &mut self.jobs.entries {
            job.value.flow.order = flow::order(&job.value.flow.steps, found);
        }
    }

    fn check_flow(&self, flow: &Flow, inputs: Option<&Table<bool>>, found: &mut Diagnostics) {
        for step in flow.steps.iter() {
            if found.is_full() {
                return;
            }
            let step = &step.value;
            self.check_body(step, found);
            self.check_hooks(&step.hooks, found);
            for input in &step.inputs {
                match &input.feed.value {
                    Feed::Port(port) | Feed::Collect(port, _) => self.check_ref(port, flow, inputs, found),
                    Feed::FanIn(ports) => ports.iter().for_each(|port| self.check_ref(port, flow, inputs, found)),
                    Feed::Latest(latest) if !self.jobs.knows(latest.job.value.as_str()) => {
                        let known = self.jobs.names();
                        found.push(unknown(
                            Code::UnknownJob,
                            "job",
                            latest.job.value.as_str(),
                            &latest.job.place,
                            known,
                        ));
                    }
                    Feed::Value(_) | Feed::Artifact(_) | Feed::Latest(_) | Feed::Load { .. } => {}
                }
            }
            for name in &step.after {
                if !found.is_full() && !flow.steps.knows(name.value.as_str()) {
                    found.push(unknown_step(name.value.as_str(), &name.place, flow));
                }
            }
            for (_, name) in &step.types {
                if !found.is_full() && !self.types.knows(name.value.as_str()) {
                    let known = self.types.names();
                    found.push(unknown(Code::UnknownType, "type", name.value.as_str(), &name.place, known));
                }
            }
            if let Some(pool) = &step.pool
                && !found.is_full()
                && !self.pools.knows(pool.value.as_str())
            {
                found.push(unknown(Code::UnknownPool, "pool", pool.value.as_str(), &pool.place, self.pools.names()));
            }
            step.managers().for_each(|name| self.check_manager(name, found));
        }
    }

    fn check_manager(&self, name: &Located<Name>, found: &mut Diagnostics) {
        if !found.is_full() && !self.io_managers.knows(name.value.as_str()) {
            let known = self.io_managers.names();
            found.push(unknown(Code::UnknownIoManager, "IO manager", name.value.as_str(), &name.place, known));
        }
    }

    fn check_manager_components(&self, found: &mut Diagnostics) {
        let environments = self.environments.iter().map(|entry| &entry.value.io_managers);
        for entry in std::iter::once(&self.io_managers).chain(environments).flat_map(Table::iter) {
            if let IoManagerDefinition::Component { component, place, .. } = &entry.value
                && !found.is_full()
                && !self.components.knows(component.as_str())
            {
                let known = self.components.names();
                found.push(unknown(Code::UnknownComponent, "component", component.as_str(), place, known));
            }
        }
    }

    fn check_hooks(&self, hooks: &[HookDefinition], found: &mut Diagnostics) {
        for hook in hooks {
            if let HookBody::Component { component, place, .. } = &hook.body
                && !found.is_full()
                && !self.components.knows(component.as_str())
            {
                let known = self.components.names();
                found.push(unknown(Code::UnknownComponent, "component", component.as_str(), place, known));
            }
        }
    }

    fn check_body(&self, step: &StepDefinition, found: &mut Diagnostics) {
        match &step.body {
            Body::Op { component, .. } => {
                if !self.components.knows(component.as_str()) {
                    let known = self.components.names();
                    found.push(unknown(
                        Code::UnknownComponent,
                        "component",
                        component.as_str(),
                        &step.body_place,
                        known,
                    ));
                }
            }
            Body::Graph(name) => match self.graphs.get(name.as_str()) {
                Some(graph) => check_graph_inputs(step, name.as_str(), &graph.value, &graph.place, found),
                None if self.graphs.knows(name.as_str()) => {}
                None => {
                    let known = self.graphs.names();
                    found.push(unknown(Code::UnknownGraph, "graph", name.as_str(), &step.body_place, known));
                }
            },
        }
    }

    fn check_ref(&self, port: &PortRef, flow: &Flow, inputs: Option<&Table<bool>>, found: &mut Diagnostics) {
        if found.is_full() {
            return;
        }
        match &port.target {
            Target::GraphInput(name) => match inputs {
                Some(inputs) if inputs.knows(name.as_str()) => {}
                Some(inputs) => found.push(
                    Diagnostic::error(Code::BadReference, format!("this graph has no input `{name}`"))
                        .at(&port.place, "unknown input")
                        .nearest(name.as_str(), inputs.names()),
                ),
                None => found.push(
                    Diagnostic::error(Code::BadReference, format!("a job has no inputs, so there is no `${name}`"))
                        .at(&port.place, "only inside a graph"),
                ),
            },
            Target::Step { step, output } => {
                let Some(entry) = flow.steps.get(step.as_str()) else {
                    if !flow.steps.knows(step.as_str()) {
                        let mut problem = unknown_step(step.as_str(), &port.place, flow);
                        if inputs.is_some_and(|inputs| inputs.knows(step.as_str())) {
                            problem.help = vec![format!("for the input of the graph write `${step}`")];
                        }
                        found.push(problem);
                    }
                    return;
                };
                let Body::Graph(name) = &entry.value.body else { return };
                let Some(graph) = self.graphs.get(name.as_str()) else { return };
                check_graph_output(port, output.as_deref(), name.as_str(), &graph.value, found);
            }
        }
    }

    fn check_grants(&self, found: &mut Diagnostics) {
        for grant in &self.grants {
            if found.is_full() {
                return;
            }
            let component = grant.component.as_str();
            if !self.components.knows(component) {
                found.push(unknown(
                    Code::UnknownComponent,
                    "component",
                    component,
                    &grant.place,
                    self.components.names(),
                ));
            }
            for revealed in &grant.reveal {
                let name = revealed.resource.value.as_str();
                if !found.is_full() && !self.secrets.knows(name) {
                    let place = &revealed.resource.place;
                    found.push(unknown(Code::UnknownResource, "secret", name, place, self.secrets.names()));
                }
            }
            for granted in &grant.resources {
                if found.is_full() {
                    return;
                }
                let name = granted.resource.value.as_str();
                let Some(resource) = self.resources.get(name) else {
                    if !self.resources.knows(name) {
                        let known = self.resources.names();
                        found.push(unknown(Code::UnknownResource, "resource", name, &granted.resource.place, known));
                    }
                    continue;
                };
                let most = resource.value.access();
                if let Some(asked) = granted.access.as_ref().filter(|asked| asked.value > most) {
                    found.push(
                        Diagnostic::error(Code::AboveCeiling, format!("this grants more of `{name}` than it gives"))
                            .at(&asked.place, "asks for `read_write`")
                            .at(&resource.place, "gives `read`")
                            .help("give the resource `access: read_write`, or grant `read`"),
                    );
                }
            }
        }
    }
}

/// Inputs of a step that runs a graph.
fn check_graph_inputs(step: &StepDefinition, name: &str, graph: &Graph, place: &Place, found: &mut Diagnostics) {
    for input in &step.inputs {
        if found.is_full() {
            return;
        }
        if !graph.inputs.knows(&input.port.value) {
            found.push(
                Diagnostic::error(Code::UnknownPort, format!("the graph `{name}` has no input `{}`", input.port.value))
                    .at(&input.port.place, "unknown input")
                    .nearest(&input.port.value, graph.inputs.names()),
            );
        }
    }
    for input in graph.inputs.iter() {
        if !input.value && !step.inputs.iter().any(|given| given.port.value == input.name.as_str()) {
            found.push(
                Diagnostic::error(
                    Code::MissingInput,
                    format!("the input `{}` of the graph `{name}` is not connected", input.name),
                )
                .at(&step.body_place, "")
                .at(place, format!("`{name}` requires `{}`", input.name))
                .help(format!("add `inputs: {{ {}: step.output }}`", input.name)),
            );
        }
    }
}

fn check_graph_output(port: &PortRef, output: Option<&str>, name: &str, graph: &Graph, found: &mut Diagnostics) {
    match output {
        Some(output) if !graph.outputs.knows(output) => found.push(
            Diagnostic::error(Code::UnknownPort, format!("the graph `{name}` has no output `{output}`"))
                .at(&port.place, "unknown output")
                .nearest(output, graph.outputs.names()),
        ),
        Some(_) => {}
        None => {
            let outputs: Vec<_> = graph.outputs.names().collect();
            if outputs.len() != 1 {
                let problem = format!("the graph `{name}` has {} outputs; say which", outputs.len());
                let mut diagnostic = Diagnostic::error(Code::BadReference, problem).at(&port.place, "ambiguous");
                if let [first, ..] = outputs.as_slice() {
                    diagnostic = diagnostic.help(format!("write `{}.{first}`", port.place.text()));
                }
                found.push(diagnostic);
            }
        }
    }
}

fn unknown_step(name: &str, place: &Place, flow: &Flow) -> Diagnostic {
    unknown(Code::UnknownStep, "step", name, place, flow.steps.names())
}

pub(crate) fn unknown<'a>(
    code: Code,
    what: &str,
    name: &str,
    place: &Place,
    known: impl IntoIterator<Item = &'a str>,
) -> Diagnostic {
    Diagnostic::error(code, format!("there is no {what} `{name}`"))
        .at(place, format!("unknown {what}"))
        .nearest(name, known)
}
