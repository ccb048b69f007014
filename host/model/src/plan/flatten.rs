//! Nested graphs laid flat, in topological order: every step of the file becomes steps of the plan, at its path.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::bind::Who;
use super::build::{Built, MAX_STEPS, Planning, Surroundings};
use super::types::Known;
use super::wire::{Feeding, Wire};
use super::{OutputSlot, Step, StepIx, config};
use crate::component::{ComponentDescription, OpDefinition};
use crate::definitions::sections::merged;
use crate::definitions::tree::{Node, Value};
use crate::definitions::{
    Body, Flow, Graph, HookDefinition, Job, Named, PortRef, Setting, StepDefinition, Table, Target,
};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::error::Code;
use crate::hook::HookIx;
use crate::id::{Name, StepPath};
use crate::schema::Schema;

/// Most order-only dependencies of one plan: `after` between two large graphs is their product.
const MAX_AFTER: usize = 1_000_000;

pub(super) struct Builder<'a> {
    pub(super) surroundings: Surroundings<'a>,
    pub(super) planning: &'a Planning<'a>,
    pub(super) job: &'a Job,
    pub(super) built: Built,
    pub(super) found: Diagnostics,
    /// Of each step of the plan, where its op is named.
    pub(super) homes: Vec<&'a Place>,
    /// Compiled schemas, by component and op; none = cannot be used, and was said.
    schemas: BTreeMap<(&'a Name, &'a Name), Option<Rc<Schema>>>,
    /// Types of the definitions that ports are of.
    pub(super) types: BTreeMap<&'a str, Known>,
    /// IO managers that were looked at.
    pub(super) managers: BTreeSet<&'a Name>,
    /// What keeps outputs for which nothing is said.
    pub(super) default_manager: &'a Name,
    /// Where each hook of the file stands in the plan; none = it cannot be used, and that was said.
    pub(super) known_hooks: HashMap<*const HookDefinition, Option<HookIx>>,
    settings: BTreeMap<&'a str, Vec<&'a Setting>>,
    used_settings: usize,
    graphs: usize,
    afters: usize,
    full: bool,
}

/// What surrounds a flow: what its `$name`s mean, where it stands, and what comes before all of it.
struct Scope<'a> {
    path: Option<StepPath>,
    inputs: BTreeMap<&'a str, Wire<'a>>,
    after: Vec<StepIx>,
    tags: BTreeMap<String, String>,
    /// The hooks of the graphs around it.
    hooks: Vec<HookIx>,
}

/// What a name of a flow stands for, once that step is in the plan.
enum Local<'a> {
    Op(StepIx),
    Graph {
        outputs: BTreeMap<&'a str, Option<OutputSlot>>,
        steps: Vec<StepIx>,
    },
    /// It could not be built, and that was said.
    Broken,
}

impl Local<'_> {
    fn steps(&self) -> &[StepIx] {
        match self {
            Self::Op(ix) => std::slice::from_ref(ix),
            Self::Graph { steps, .. } => steps,
            Self::Broken => &[],
        }
    }
}

/// One op step of the file, and what is known of it.
pub(super) struct Site<'a> {
    pub(super) definition: &'a StepDefinition,
    pub(super) component: &'a ComponentDescription,
    pub(super) component_name: &'a Name,
    pub(super) op: &'a OpDefinition,
    pub(super) path: StepPath,
}

impl<'a> Site<'a> {
    /// The op, as one who needs resources.
    pub(super) fn who(&self) -> Who<'a> {
        let (component, name) = (self.component_name, self.op.name.as_str());
        Who { what: "op", component, name, place: &self.definition.body_place }
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        surroundings: Surroundings<'a>,
        planning: &'a Planning<'a>,
        job: &'a Job,
        given: &'a [Setting],
    ) -> Self {
        let mut settings: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for setting in given {
            settings.entry(setting.step.as_str()).or_default().push(setting);
        }
        Self {
            surroundings,
            planning,
            job,
            built: Built::default(),
            found: Diagnostics::default(),
            homes: Vec::new(),
            schemas: BTreeMap::new(),
            types: BTreeMap::new(),
            managers: BTreeSet::new(),
            default_manager: surroundings.definitions.default_manager(),
            known_hooks: HashMap::new(),
            settings,
            used_settings: 0,
            graphs: 0,
            afters: 0,
            full: false,
        }
    }

    pub(super) fn job(&mut self) {
        self.built.job_hooks = self.hooks(&self.job.hooks);
        let (inputs, tags) = (BTreeMap::new(), BTreeMap::new());
        let scope = Scope { path: None, inputs, after: Vec::new(), tags, hooks: Vec::new() };
        self.flow(&self.job.flow, &scope);
        self.check_settings();
        if !self.full {
            self.check_policy();
        }
    }

    pub(super) fn finish(self) -> (Built, Diagnostics) {
        (self.built, self.found)
    }

    fn flow(&mut self, flow: &'a Flow, scope: &Scope<'a>) -> BTreeMap<&'a str, Local<'a>> {
        let mut locals = BTreeMap::new();
        for index in &flow.order {
            if self.full {
                break;
            }
            let step = flow.steps.at(*index);
            let local = self.step(step, &locals, scope);
            locals.insert(step.name.as_str(), local);
        }
        locals
    }

    fn step(
        &mut self,
        step: &'a Named<StepDefinition>,
        locals: &BTreeMap<&'a str, Local<'a>>,
        scope: &Scope<'a>,
    ) -> Local<'a> {
        let path = match &scope.path {
            None => Ok(StepPath::from(step.name.clone())),
            Some(outer) => outer.join(&step.name),
        };
        let Ok(path) = path else {
            self.overflow(&step.place, "graphs are nested too deep: the path of this step is too long");
            return Local::Broken;
        };
        if self.built.steps.len() >= MAX_STEPS || self.graphs >= MAX_STEPS {
            self.overflow(&step.place, &format!("with its graphs, this job has more than {MAX_STEPS} steps"));
            return Local::Broken;
        }
        let mut after: Vec<StepIx> = step
            .value
            .after
            .iter()
            .filter_map(|name| locals.get(name.value.as_str()))
            .flat_map(|local| local.steps().iter().copied())
            .collect();
        // What comes before a whole graph comes before those of its steps that wait for no other.
        if crate::definitions::steps::needs(&step.value).next().is_none() {
            after.extend(&scope.after);
        }
        after.sort_unstable();
        after.dedup();
        self.afters += after.len();
        if self.afters > MAX_AFTER {
            self.overflow(&step.place, &format!("this job orders more than {MAX_AFTER} pairs of steps by `after`"));
            return Local::Broken;
        }
        let mut tags = scope.tags.clone();
        tags.extend(step.value.tags.clone());
        let mut hooks = scope.hooks.clone();
        hooks.extend(self.hooks(&step.value.hooks));
        let wires: Vec<Feeding<'a>> = step
            .value
            .inputs
            .iter()
            .map(|input| Feeding {
                port: &input.port,
                place: &input.feed.place,
                wire: self.wire(&input.feed, locals, &scope.inputs),
            })
            .collect();
        match &step.value.body {
            Body::Graph(name) => match self.surroundings.definitions.graphs.get(name.as_str()) {
                Some(graph) => {
                    let mut inputs: BTreeMap<&'a str, Wire<'a>> =
                        graph.value.inputs.iter().map(|input| (input.name.as_str(), Wire::Absent)).collect();
                    inputs.extend(wires.into_iter().map(|fed| (fed.port.value.as_str(), fed.wire)));
                    self.nested(&graph.value, &Scope { path: Some(path), inputs, after, tags, hooks })
                }
                None => Local::Broken,
            },
            Body::Op { component, op } => {
                let Some(site) = self.site(&step.value, component, op, path) else { return Local::Broken };
                let built = Step { hooks, ..self.op_step(&site, wires, after, tags) };
                self.built.steps.push(built);
                self.homes.push(&step.value.body_place);
                let ix = StepIx(u32::try_from(self.built.steps.len() - 1).unwrap_or(u32::MAX));
                Local::Op(ix)
            }
        }
    }

    fn nested(&mut self, graph: &'a Graph, scope: &Scope<'a>) -> Local<'a> {
        self.graphs += 1;
        let locals = self.flow(&graph.flow, scope);
        let mut steps: Vec<_> = locals.values().flat_map(|local| local.steps().iter().copied()).collect();
        steps.sort_unstable();
        let outputs = outputs_of(&graph.outputs).map(|(name, port)| (name, self.port(port, &locals))).collect();
        Local::Graph { outputs, steps }
    }

    /// Finds the op that a step runs.
    fn site(&mut self, definition: &'a StepDefinition, name: &'a Name, op: &str, path: StepPath) -> Option<Site<'a>> {
        let Some(component) = self.planning.catalog.get(name.as_str()) else {
            if self.surroundings.definitions.components.get(name.as_str()).is_some() {
                let problem = format!("the component `{name}` is not described: its file could not be read");
                self.found.push(self.surroundings.definitions.component_problem(
                    name.as_str(),
                    Code::ComponentUnreadable,
                    &problem,
                ));
            }
            return None;
        };
        let Some(found) = component.op(op) else {
            self.found.push(
                Diagnostic::error(Code::UnknownOp, format!("the component `{name}` ships no op `{op}`"))
                    .at(&definition.body_place, "unknown op")
                    .nearest(op, component.ops.iter().map(|op| op.name.as_str())),
            );
            return None;
        };
        Some(Site { definition, component, component_name: name, op: found, path })
    }

    fn op_step(
        &mut self,
        site: &Site<'a>,
        wires: Vec<Feeding<'a>>,
        after: Vec<StepIx>,
        mut tags: BTreeMap<String, String>,
    ) -> Step {
        let (inputs, mapped_over) = self.inputs(site, wires);
        let outputs = self.outputs(site);
        let config = self.config(site);
        let bound = self.bind(site);
        for (key, value) in &site.op.tags {
            tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Step {
            path: site.path.clone(),
            component_name: site.component_name.clone(),
            component: site.component.digest,
            op: site.op.name.clone(),
            config,
            inputs,
            outputs: outputs.into(),
            after,
            when: site.definition.when.as_ref().map(|when| when.value).unwrap_or_default(),
            mapped_over,
            grants: bound.grants,
            limits: Arc::new(bound.limits),
            retry: bound.retry,
            hermetic: site.op.is_hermetic(),
            uses_execution: site.op.uses_execution,
            memo: bound.memo,
            hooks: Vec::new(),
            priority: site.definition.priority,
            pool: self.pool(site.definition),
            tags,
        }
    }

    fn config(&mut self, site: &Site<'a>) -> crate::json::CanonicalJson {
        let home = &site.definition.body_place;
        let path = site.path.as_str();
        let settings = self.settings.get(path).cloned().unwrap_or_default();
        self.used_settings += settings.len();
        let mut node = site.definition.config.clone();
        for setting in settings {
            let base = node.unwrap_or_else(|| Node { value: Value::Map(Vec::new()), place: home.clone() });
            node = Some(merged(&base, &setting.config));
        }
        let schema = match &site.op.config_schema {
            None => None,
            Some(text) => {
                let key = (site.component_name, &site.op.name);
                let found = &mut self.found;
                let compiled = self.schemas.entry(key).or_insert_with(|| {
                    let compiled = Schema::compile(text);
                    compiled.map_err(|problem| found.push(config::bad_schema(path, home, &problem))).ok().map(Rc::new)
                });
                match compiled {
                    Some(schema) => Some(Rc::clone(schema)),
                    None => return crate::json::CanonicalJson::empty_object(),
                }
            }
        };
        let checked = config::check(schema.as_deref(), node.as_ref(), path, home, &mut self.found);
        checked.unwrap_or_else(crate::json::CanonicalJson::empty_object)
    }

    /// The output that a reference leads to; none when it leads to nothing, which was said.
    fn port(&mut self, port: &'a PortRef, locals: &BTreeMap<&'a str, Local<'a>>) -> Option<OutputSlot> {
        let Target::Step { step, output } = &port.target else { return None };
        match locals.get(step.as_str())? {
            Local::Broken => None,
            Local::Graph { outputs, .. } => match output {
                Some(output) => outputs.get(output.as_str()).copied().flatten(),
                None => outputs.values().next().copied().flatten(),
            },
            Local::Op(ix) => self.op_port(*ix, output.as_deref(), port),
        }
    }

    fn op_port(&mut self, ix: StepIx, output: Option<&str>, port: &PortRef) -> Option<OutputSlot> {
        let step = &self.built.steps[ix.index()];
        let op = format!("{}.{}", step.component_name, step.op);
        let home = self.homes[ix.index()];
        let names: Vec<_> = step.outputs.iter().map(|output| output.port.as_str()).collect();
        let index = match output {
            Some(output) => names.iter().position(|name| *name == output),
            None => (names.len() == 1).then_some(0),
        };
        let problem =
            match (index, output) {
                (Some(index), _) => return Some(OutputSlot { step: ix, port: u16::try_from(index).ok()? }),
                (None, Some(output)) => {
                    Diagnostic::error(Code::UnknownPort, format!("the op `{op}` has no output `{output}`"))
                        .at(&port.place, "unknown output")
                        .at(home, "of this op")
                        .nearest(output, names.iter().copied())
                }
                (None, None) if names.is_empty() => {
                    Diagnostic::error(Code::BadReference, format!("the op `{op}` has no outputs"))
                        .at(&port.place, "nothing to take")
                        .at(home, "of this op")
                        .help("to order steps without data use `after`")
                }
                (None, None) => Diagnostic::error(
                    Code::BadReference,
                    format!("the op `{op}` has {} outputs; say which", names.len()),
                )
                .at(&port.place, "ambiguous")
                .at(home, "of this op")
                .help(format!(
                    "write {}",
                    names.iter().map(|name| format!("`{}.{name}`", port.place.text())).collect::<Vec<_>>().join(" or ")
                )),
            };
        self.found.push(problem);
        None
    }

    fn wire(
        &mut self,
        feed: &'a crate::definitions::Located<crate::definitions::Feed>,
        locals: &BTreeMap<&'a str, Local<'a>>,
        inputs: &BTreeMap<&'a str, Wire<'a>>,
    ) -> Wire<'a> {
        use crate::definitions::Feed;
        match &feed.value {
            Feed::Port(PortRef { target: Target::GraphInput(name), .. }) => {
                inputs.get(name.as_str()).cloned().unwrap_or(Wire::Broken)
            }
            Feed::Port(port) => match self.port(port, locals) {
                Some(slot) => Wire::Slot { slot, place: &port.place },
                None => Wire::Broken,
            },
            Feed::Collect(port, levels) => match self.single(port, locals, inputs) {
                Some(slot) => Wire::Collect { slot, levels: *levels, place: &feed.place },
                None => Wire::Broken,
            },
            Feed::FanIn(ports) => {
                let slots: Vec<_> =
                    ports.iter().filter_map(|port| Some((self.single(port, locals, inputs)?, &port.place))).collect();
                if slots.len() == ports.len() { Wire::FanIn { slots, place: &feed.place } } else { Wire::Broken }
            }
            Feed::Value(node) => Wire::Value(node),
            Feed::Artifact(digest) => Wire::Artifact { digest: *digest, place: &feed.place },
            Feed::Load { manager, locator } => Wire::Outside { manager, locator, place: &feed.place },
            Feed::Latest(latest) => Wire::Latest { latest, place: &feed.place },
        }
    }

    /// The one output that an entry of a list, or a `collect`, refers to.
    fn single(
        &mut self,
        port: &'a PortRef,
        locals: &BTreeMap<&'a str, Local<'a>>,
        inputs: &BTreeMap<&'a str, Wire<'a>>,
    ) -> Option<OutputSlot> {
        let Target::GraphInput(name) = &port.target else { return self.port(port, locals) };
        match inputs.get(name.as_str())? {
            Wire::Slot { slot, .. } => Some(*slot),
            Wire::Broken => None,
            Wire::Absent
            | Wire::FanIn { .. }
            | Wire::Collect { .. }
            | Wire::Value(_)
            | Wire::Artifact { .. }
            | Wire::Latest { .. }
            | Wire::Outside { .. } => {
                self.found.push(
                    Diagnostic::error(
                        Code::BadReference,
                        format!(
                            "`${name}` is not one output of a step, so it cannot be part of a list or be collected"
                        ),
                    )
                    .at(&port.place, ""),
                );
                None
            }
        }
    }

    fn overflow(&mut self, place: &Place, problem: &str) {
        self.full = true;
        self.found.push(Diagnostic::error(Code::TooLarge, problem).at(place, "here"));
    }

    /// Notes settings that no step took.
    fn check_settings(&mut self) {
        if self.full || self.used_settings == self.settings.values().map(Vec::len).sum::<usize>() {
            return;
        }
        let paths: std::collections::BTreeSet<_> = self.built.steps.iter().map(|step| step.path.as_str()).collect();
        let unknown = self.settings.iter().filter(|(path, _)| !paths.contains(*path));
        for setting in unknown.flat_map(|(_, settings)| settings) {
            if self.found.is_full() {
                return;
            }
            let path = setting.step.as_str();
            let diagnostic = Diagnostic::error(Code::UnknownStep, format!("this job has no step `{path}`"))
                .at(&setting.place, "unknown step");
            let inside = paths.iter().any(|known| known.starts_with(&format!("{path}.")));
            self.found.push(if inside {
                diagnostic.help(format!("`{path}` is a graph: write `{path}.step:key=value`"))
            } else {
                diagnostic.nearest(path, paths.iter().copied())
            });
        }
    }
}

fn outputs_of(outputs: &Table<PortRef>) -> impl Iterator<Item = (&str, &PortRef)> {
    outputs.iter().map(|output| (output.name.as_str(), &output.value))
}
