//! Jobs, graphs and their steps.

use super::reading::{Keys, Reading, short};
use super::tree::{Key, Node, Value};
use super::{
    Body, Feed, Flow, Graph, InputDefinition, IoManagerChoice, Job, LatestRef, Levels, Located, MemoChoice, PortRef,
    StepDefinition, Table, Target,
};
use crate::component::{Backoff, Jitter, RetryPolicy};
use crate::diagnostic::{Diagnostic, Place};
use crate::error::Code;
use crate::id::{Name, StepPath};
use crate::limits::parse_duration;
use crate::plan::Trigger;

const JOB: Keys = Keys {
    what: "a job",
    known: &["description", "tags", "steps", "policy", "retry", "limits", "hooks", "io_manager"],
    later: &["partitions", "resources", "config", "graph", "pool", "timeout", "assets"],
};
const LATEST: Keys = Keys { what: "`latest`", known: &["job", "step", "output"], later: &["partition"] };
const GRAPH: Keys = Keys { what: "a graph", known: &["description", "inputs", "steps", "outputs"], later: &["config"] };
const GRAPH_INPUT: Keys =
    Keys { what: "an input of a graph", known: &["optional", "description"], later: &["type", "default"] };
const STEP: Keys = Keys {
    what: "a step",
    known: &[
        "op",
        "graph",
        "description",
        "inputs",
        "config",
        "retry",
        "timeout",
        "limits",
        "io_manager",
        "after",
        "tags",
        "memo",
        "types",
        "when",
        "hooks",
        "priority",
        "pool",
    ],
    later: &["partitions"],
};
const RETRY: Keys =
    Keys { what: "a retry policy", known: &["max_retries", "delay", "backoff", "jitter"], later: &["max_delay"] };
const MEMO: Keys = Keys { what: "`memo`", known: &["ttl"], later: &["scope"] };
const FEEDS: [&str; 5] = ["value", "artifact", "collect", "latest", "load"];
const LOAD: Keys = Keys { what: "`load`", known: &["manager", "locator"], later: &["media_type"] };

/// Most retries of a step: beyond it, the surroundings will not come back by asking again.
const MAX_RETRIES: u64 = 1_000;

impl Reading<'_> {
    pub(super) fn job(&mut self, node: &Node) -> Option<Job> {
        let fields = self.fields(node, &JOB)?;
        let description = match fields.get("description") {
            Some(node) => self.text(node, "`description`").map(str::to_owned),
            None => None,
        };
        let tags = self.tags(fields.get("tags"));
        let policy = fields.get("policy").and_then(|node| self.policy(node)).unwrap_or_default();
        let retry = fields.get("retry").and_then(|node| self.retry(node));
        let limits = self.limits(fields.get("limits"));
        let io_manager = fields.get("io_manager").and_then(|node| self.located_name(node, "`io_manager`"));
        let hooks = self.hooks(fields.get("hooks"));
        let steps = fields.require(self, "steps", "a job has at least one step")?;
        let flow = self.flow(steps)?;
        Some(Job { description, tags, flow, policy, io_manager, retry, limits, hooks })
    }

    pub(super) fn graph(&mut self, node: &Node) -> Option<Graph> {
        let fields = self.fields(node, &GRAPH)?;
        let inputs = self.table(fields.get("inputs"), "`inputs`", |r, _, node| r.graph_input(node));
        let outputs = self.table(fields.get("outputs"), "`outputs`", |r, _, node| {
            let port = r.port_ref(node)?;
            if matches!(port.target, Target::GraphInput(_)) {
                r.push(
                    Diagnostic::error(Code::BadReference, "an output of a graph comes from a step of it")
                        .at(&node.place, "this is an input of the graph"),
                );
                return None;
            }
            Some(port)
        });
        let steps = fields.require(self, "steps", "a graph has at least one step")?;
        let flow = self.flow(steps)?;
        Some(Graph { inputs, flow, outputs })
    }

    /// `name:` with nothing after it is a required input.
    fn graph_input(&mut self, node: &Node) -> Option<bool> {
        let fields = self.fields(node, &GRAPH_INPUT)?;
        fields.get("optional").map_or(Some(false), |node| self.boolean(node, "`optional`"))
    }

    fn flow(&mut self, node: &Node) -> Option<Flow> {
        let steps = self.table(Some(node), "`steps`", |r, _, node| r.step(node));
        if steps.names().next().is_none() && matches!(node.value, Value::Map(_) | Value::Null) {
            self.push(
                Diagnostic::error(Code::WrongShape, "there are no steps").at(&node.place, "at least one is needed"),
            );
            return None;
        }
        Some(Flow { steps, order: Vec::new() })
    }

    fn step(&mut self, node: &Node) -> Option<StepDefinition> {
        let fields = self.fields(node, &STEP)?;
        let body = self.body(&fields, node);
        if let Some((_, Body::Graph(_))) = &body {
            for name in
                ["config", "retry", "timeout", "limits", "io_manager", "types", "memo", "when", "priority", "pool"]
            {
                if let Some((key, _)) = fields.entry(name) {
                    self.push(
                        Diagnostic::error(Code::UnknownKey, format!("`{name}` means nothing for a graph"))
                            .at(&key.place, "belongs to the steps inside the graph"),
                    );
                }
            }
        }
        let mut inputs = Vec::new();
        for (key, item) in fields.get("inputs").and_then(|node| self.entries(node, "`inputs`")).unwrap_or_default() {
            let port = Located { value: key.text.clone(), place: key.place.clone() };
            if let Some(value) = self.feed(key, item) {
                inputs.push(InputDefinition { port, feed: Located { value, place: item.place.clone() } });
            }
        }
        let config = fields.get("config").filter(|node| self.config(node)).cloned();
        let retry = fields.get("retry").and_then(|node| self.retry(node));
        let mut limits = self.limits(fields.get("limits"));
        if let Some((key, node)) = fields.entry("timeout") {
            if let Some((_, first)) = limits.places.iter().find(|(name, _)| *name == "wall") {
                self.push(
                    Diagnostic::error(Code::DuplicateName, "`timeout` and the limit `wall` are the same")
                        .at(&key.place, "given again here")
                        .at(first, "given first here"),
                );
            }
            self.limit(&mut limits, "wall", node);
        }
        let io_manager = fields.get("io_manager").and_then(|node| self.io_manager_choice(node)).unwrap_or_default();
        let types = fields.get("types").map(|node| self.named_outputs(node, "`types`", "a type")).unwrap_or_default();
        let after = fields.get("after").map(|node| self.after(node)).unwrap_or_default();
        let when = fields.get("when").and_then(|node| {
            let value = self.one_of(node, "trigger rule", &Trigger::ALL)?;
            Some(Located { value, place: node.place.clone() })
        });
        let priority = fields.get("priority").and_then(|node| self.priority(node)).unwrap_or_default();
        let pool = fields
            .get("pool")
            .and_then(|node| Some(Located { value: self.name_at(node, "`pool`")?, place: node.place.clone() }));
        let tags = self.tags(fields.get("tags"));
        let memo = fields.get("memo").and_then(|node| self.memo(node));
        let hooks = self.hooks(fields.get("hooks"));
        let (body_place, body) = body?;
        Some(StepDefinition {
            body,
            body_place,
            inputs,
            config,
            retry,
            limits,
            io_manager,
            types,
            after,
            when,
            priority,
            pool,
            tags,
            memo,
            hooks,
        })
    }

    /// A config is a map; what is in it is checked against the op's schema, later.
    pub(super) fn config(&mut self, node: &Node) -> bool {
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            return self.shape::<()>(node, "`config`", "a map").is_some();
        }
        self.unique_keys(node);
        true
    }

    fn body(&mut self, fields: &super::reading::Fields<'_>, node: &Node) -> Option<(Place, Body)> {
        match (fields.get("op"), fields.get("graph")) {
            (Some(op), None) => {
                let text = self.text(op, "`op`")?;
                let Some((component, name)) = text.split_once('.').filter(|(_, name)| !name.contains('.')) else {
                    self.push(
                        Diagnostic::error(Code::BadReference, format!("`{}` does not name an op", short(text)))
                            .at(&op.place, "expected `component.op`"),
                    );
                    return None;
                };
                let component = self.name(component, &op.place)?;
                self.name(name, &op.place)?;
                Some((op.place.clone(), Body::Op { component, op: name.to_owned() }))
            }
            (None, Some(graph)) => Some((graph.place.clone(), Body::Graph(self.name_at(graph, "`graph`")?))),
            (Some(_), Some(graph)) => {
                self.push(
                    Diagnostic::error(Code::WrongShape, "a step runs an op or a graph, not both")
                        .at(&graph.place, "remove one of the two"),
                );
                None
            }
            (None, None) => {
                self.push(
                    Diagnostic::error(Code::MissingKey, "a step names what it runs")
                        .at(&node.place, "here")
                        .help("add `op: component.op` or `graph: name`"),
                );
                None
            }
        }
    }

    fn feed(&mut self, key: &Key, node: &Node) -> Option<Feed> {
        self.name(&key.text, &key.place)?;
        match &node.value {
            Value::Text(_) => self.port_ref(node).map(Feed::Port),
            Value::List(items) => {
                let refs: Vec<_> = items.iter().filter_map(|item| self.port_ref(item)).collect();
                (refs.len() == items.len()).then_some(Feed::FanIn(refs))
            }
            Value::Map(entries) => {
                let (key, item) = match entries.as_slice() {
                    [entry] => entry,
                    [(key, port), (more, levels)]
                        if (key.text.as_str(), more.text.as_str()) == ("collect", "levels") =>
                    {
                        return match &levels.value {
                            Value::Text(text) if text == "all" => {
                                self.port_ref(port).map(|port| Feed::Collect(port, Levels::All))
                            }
                            _ => {
                                self.bad_feed(levels, "`levels` is `all`, or left out: then the innermost is collected")
                            }
                        };
                    }
                    _ => {
                        let known = "expected one of `value`, `artifact`, `collect`, `latest` and `load`";
                        return self.bad_feed(node, known);
                    }
                };
                match key.text.as_str() {
                    "value" => {
                        self.unique_keys(item);
                        Some(Feed::Value(item.clone()))
                    }
                    "collect" => self.port_ref(item).map(|port| Feed::Collect(port, Levels::Innermost)),
                    "artifact" => {
                        let text = self.text(item, "`artifact`")?;
                        match text.parse() {
                            Ok(digest) => Some(Feed::Artifact(digest)),
                            Err(error) => self.bad_feed(item, &error.to_string()),
                        }
                    }
                    "load" => self.load(item),
                    "latest" => self.latest(item),
                    other => {
                        self.push(
                            Diagnostic::error(
                                Code::BadReference,
                                format!("`{}` is not a way to feed an input", short(other)),
                            )
                            .at(&key.place, "unknown key")
                            .nearest(other, FEEDS),
                        );
                        None
                    }
                }
            }
            _ => self.bad_feed(node, "expected a step, `step.output`, a list of them, or `{ value: … }`"),
        }
    }

    /// `{ manager: …, locator: … }`.
    fn load(&mut self, node: &Node) -> Option<Feed> {
        let fields = self.fields(node, &LOAD)?;
        let manager = fields.require(self, "manager", "name the IO manager that loads it: `manager: lake`");
        let locator = fields.require(self, "locator", "say what it is to load, in its own words: `locator: { … }`");
        let manager = self.located_name(manager?, "`manager`")?;
        self.unique_keys(locator?);
        Some(Feed::Load { manager, locator: locator?.clone() })
    }

    fn located_name(&mut self, node: &Node, what: &str) -> Option<Located<Name>> {
        Some(Located { value: self.name_at(node, what)?, place: node.place.clone() })
    }

    fn latest(&mut self, node: &Node) -> Option<Feed> {
        let fields = self.fields(node, &LATEST)?;
        let job = fields.require(self, "job", "the job whose last successful run has the value");
        let step = fields.require(self, "step", "the step that yielded it; inside a graph `outer.step`");
        let job = job.and_then(|node| self.located_name(node, "a job"));
        let output = fields.get("output").map(|node| self.located_name(node, "an output"));
        let step = step?;
        let text = self.text(step, "`step`")?;
        let Ok(path) = StepPath::new(text) else {
            return self.bad_feed(step, "expected the path of a step: `step`, or `outer.step` inside a graph");
        };
        let output = match output {
            Some(output) => Some(output?),
            None => None,
        };
        let step = Located { value: path, place: step.place.clone() };
        Some(Feed::Latest(Box::new(LatestRef { job: job?, step, output })))
    }

    fn bad_feed<T>(&mut self, node: &Node, problem: &str) -> Option<T> {
        self.push(
            Diagnostic::error(Code::BadReference, "this does not say where the input comes from")
                .at(&node.place, problem),
        );
        None
    }

    /// `step`, `step.output` or `$input`.
    fn port_ref(&mut self, node: &Node) -> Option<PortRef> {
        let text = self.text(node, "a reference")?;
        let place = node.place.clone();
        if let Some(input) = text.strip_prefix('$') {
            let name = self.name(input, &place)?;
            return Some(PortRef { place, target: Target::GraphInput(name) });
        }
        let (step, output) = match text.split_once('.') {
            Some((step, output)) => (step, Some(output)),
            None => (text, None),
        };
        if output.is_some_and(|output| output.contains('.')) {
            self.push(
                Diagnostic::error(Code::BadReference, "a reference has at most one dot")
                    .at(&place, "expected `step` or `step.output`")
                    .help("what is inside a graph is reached through the graph's outputs"),
            );
            return None;
        }
        if let Some(output) = output {
            self.name(output, &place)?;
        }
        let step = self.name(step, &place)?;
        Some(PortRef { place, target: Target::Step { step, output: output.map(str::to_owned) } })
    }

    fn retry(&mut self, node: &Node) -> Option<Located<RetryPolicy>> {
        let fields = self.fields(node, &RETRY)?;
        let max_retries = match fields.get("max_retries") {
            Some(node) => self.whole_number(node, "`max_retries`", MAX_RETRIES).and_then(|n| u32::try_from(n).ok()),
            None => Some(1),
        };
        let delay = fields.get("delay").map_or(Some(std::time::Duration::ZERO), |node| self.duration(node));
        let backoff = fields.get("backoff").map_or(Some(Backoff::Constant), |node| {
            let known =
                [("constant", Backoff::Constant), ("linear", Backoff::Linear), ("exponential", Backoff::Exponential)];
            self.one_of(node, "`backoff`", &known)
        });
        let jitter = fields.get("jitter").map_or(Some(Jitter::None), |node| {
            let known = [("none", Jitter::None), ("full", Jitter::Full), ("plus_minus", Jitter::PlusMinus)];
            self.one_of(node, "`jitter`", &known)
        });
        let value = RetryPolicy { max_retries: max_retries?, delay: delay?, backoff: backoff?, jitter: jitter? };
        Some(Located { value, place: node.place.clone() })
    }

    fn one_of<T: Copy>(&mut self, node: &Node, what: &str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, what)?;
        let value = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if value.is_none() {
            let listed: Vec<_> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.push(
                Diagnostic::error(Code::WrongShape, format!("`{}` is not a {}", short(text), what.trim_matches('`')))
                    .at(&node.place, format!("expected {}", listed.join(", ")))
                    .nearest(text, known.iter().map(|(name, _)| *name)),
            );
        }
        value
    }

    fn memo(&mut self, node: &Node) -> Option<Located<MemoChoice>> {
        let value = match &node.value {
            Value::Text(text) if text == "off" => MemoChoice::Off,
            Value::Map(_) => {
                let fields = self.fields(node, &MEMO)?;
                let ttl = fields.require(self, "ttl", "how old a result may be, as in `ttl: 1h`")?;
                MemoChoice::For(self.duration(ttl)?)
            }
            Value::Text(text) if parse_duration(text).is_ok() => {
                self.push(
                    Diagnostic::error(Code::WrongShape, "`memo` is `off` or `{ ttl: … }`")
                        .at(&node.place, "")
                        .help(format!("write `memo: {{ ttl: {text} }}`")),
                );
                return None;
            }
            _ => return self.shape(node, "`memo`", "`off` or `{ ttl: … }`"),
        };
        Some(Located { value, place: node.place.clone() })
    }

    fn io_manager_choice(&mut self, node: &Node) -> Option<IoManagerChoice> {
        if !matches!(node.value, Value::Map(_)) {
            return self.located_name(node, "`io_manager`").map(IoManagerChoice::All);
        }
        Some(IoManagerChoice::PerOutput(self.named_outputs(node, "`io_manager`", "an IO manager")))
    }

    /// Outputs of an op, each with a name.
    fn named_outputs(&mut self, node: &Node, section: &str, what: &str) -> Vec<(Located<String>, Located<Name>)> {
        let mut named = Vec::new();
        for (key, item) in self.entries(node, section).unwrap_or_default() {
            if let Some(value) = self.name_at(item, what) {
                let output = Located { value: key.text.clone(), place: key.place.clone() };
                named.push((output, Located { value, place: item.place.clone() }));
            }
        }
        named
    }

    fn after(&mut self, node: &Node) -> Vec<Located<Name>> {
        let items = self.list(node, "`after`").unwrap_or_default();
        items
            .iter()
            .filter_map(|item| Some(Located { value: self.name_at(item, "a step")?, place: item.place.clone() }))
            .collect()
    }
}

/// The steps that a step of `steps` refers to, with the places.
pub(crate) fn needs(step: &StepDefinition) -> impl Iterator<Item = (&str, &Place)> {
    let refs = step.inputs.iter().flat_map(|input| match &input.feed.value {
        Feed::Port(port) | Feed::Collect(port, _) => std::slice::from_ref(port),
        Feed::FanIn(ports) => ports.as_slice(),
        Feed::Value(_) | Feed::Artifact(_) | Feed::Latest(_) | Feed::Load { .. } => &[],
    });
    let data = refs.filter_map(|port| match &port.target {
        Target::Step { step, .. } => Some((step.as_str(), &port.place)),
        Target::GraphInput(_) => None,
    });
    data.chain(step.after.iter().map(|name| (name.value.as_str(), &name.place)))
}

/// The graphs that are used in a flow.
pub(super) fn uses(steps: &Table<StepDefinition>) -> impl Iterator<Item = (&str, &Place)> {
    steps.iter().filter_map(|step| match &step.value.body {
        Body::Graph(name) => Some((name.as_str(), &step.value.body_place)),
        Body::Op { .. } => None,
    })
}
