//! Wires: what comes into an input, whether it fits, and over what a step is mapped.

use super::flatten::{Builder, Site};
use super::{BaseType, MAX_DEPTH, OutputSlot, Source, StepInput, Trigger, config};
use crate::component::{InputDefinition, OpDefinition, TypeName};
use crate::definitions::tree::{Node, Value};
use crate::definitions::{LatestRef, Levels, Located};
use crate::diagnostic::{Diagnostic, Place};
use crate::digest::Digest;
use crate::error::Code;
use crate::id::MediaType;
use crate::json::CanonicalJson;
use crate::value::{ArtifactRef, ValueRef};

/// What comes into an input, references followed through graphs. `place` is where the thing itself is named.
#[derive(Clone)]
pub(super) enum Wire<'a> {
    Slot {
        slot: OutputSlot,
        place: &'a Place,
    },
    FanIn {
        slots: Vec<(OutputSlot, &'a Place)>,
        place: &'a Place,
    },
    Collect {
        slot: OutputSlot,
        levels: Levels,
        place: &'a Place,
    },
    Value(&'a Node),
    Artifact {
        digest: Digest,
        place: &'a Place,
    },
    Latest {
        latest: &'a LatestRef,
        place: &'a Place,
    },
    /// An optional input of a graph that is not connected.
    Absent,
    /// What is wrong with it was said.
    Broken,
}

/// A wire, the input that it goes to, and where that is written.
pub(super) struct Feeding<'a> {
    pub(super) port: &'a Located<String>,
    pub(super) place: &'a Place,
    pub(super) wire: Wire<'a>,
}

/// An input that is being connected.
pub(super) struct Plug<'s, 'a> {
    pub(super) site: &'s Site<'a>,
    pub(super) port: &'s InputDefinition,
    pub(super) base: BaseType,
    /// Where the input is written.
    pub(super) place: &'a Place,
}

/// A value that is to go into an input: whose it is, what it is, and where that is written.
pub(super) struct Offer<'a> {
    pub(super) from: String,
    pub(super) type_name: TypeName,
    pub(super) base: BaseType,
    pub(super) media_type: MediaType,
    pub(super) home: &'a Place,
}

/// The dynamic outputs that a step is mapped over, outermost first, and the reference that made it so.
struct Mapping<'a> {
    levels: Vec<OutputSlot>,
    place: &'a Place,
}

impl Plug<'_, '_> {
    pub(super) fn name(&self) -> String {
        format!("the input `{}` of `{}`", self.port.name, self.site.path)
    }
}

impl<'a> Builder<'a> {
    /// Connects the inputs of a step, in the op's order. Also answers what the step is mapped over.
    pub(super) fn inputs(&mut self, site: &Site<'a>, fed: Vec<Feeding<'a>>) -> (Vec<StepInput>, Option<OutputSlot>) {
        for feeding in &fed {
            if self.found.is_full() {
                break;
            }
            let name = feeding.port.value.as_str();
            if site.op.input(name).is_none() {
                let op = format!("{}.{}", site.component_name, site.op.name);
                self.found.push(
                    Diagnostic::error(Code::UnknownPort, format!("the op `{op}` has no input `{name}`"))
                        .at(&feeding.port.place, "unknown input")
                        .nearest(name, site.op.inputs.iter().map(|port| port.name.as_str())),
                );
            }
        }
        let mut mapping = None;
        let mut inputs = Vec::with_capacity(site.op.inputs.len());
        for port in &site.op.inputs {
            let base = self.base_type(&port.type_name, &format!("the input `{}`", port.name), site);
            let feeding = fed.iter().find(|feeding| feeding.port.value == port.name.as_str());
            let source = match (feeding, base) {
                (_, None) => Source::Unconnected,
                (Some(feeding), Some(base)) if !matches!(feeding.wire, Wire::Absent) => {
                    let plug = Plug { site, port, base, place: feeding.place };
                    self.connect(&plug, &feeding.wire, &mut mapping)
                }
                (_, Some(base)) => self.unconnected(site, port, base),
            };
            inputs.push(StepInput { port: port.name.clone(), optional: port.optional, many: port.many, source });
        }
        self.check_trigger(site, &inputs);
        if let Some(Mapping { levels, place }) = &mapping
            && levels.len() > MAX_DEPTH
        {
            let problem = format!("`{}` would be mapped over more than {MAX_DEPTH} dynamic outputs", site.path);
            self.found.push(Diagnostic::error(Code::BadMapping, problem).at(place, "items of items of items …"));
        }
        (inputs, mapping.and_then(|mapping| mapping.levels.last().copied()))
    }

    /// A step that may run without what it is wired to has to be able to.
    fn check_trigger(&mut self, site: &Site<'a>, inputs: &[StepInput]) {
        let Some(when) = site.definition.when.as_ref().filter(|when| when.value != Trigger::AllSuccess) else { return };
        for input in inputs.iter().filter(|input| !(input.optional || input.many)) {
            let may_be_absent = match input.source {
                Source::Unconnected | Source::Given { .. } | Source::Item { .. } => false,
                Source::Output { .. } | Source::SameKey { .. } | Source::FanIn { .. } | Source::Collect { .. } => true,
            };
            if may_be_absent {
                let message = format!("`{}` may run without `{}`, which it requires", site.path, input.port);
                self.found.push(
                    Diagnostic::error(Code::InputMayBeAbsent, message)
                        .at(&when.place, "runs also when what comes before has failed or was skipped")
                        .at(&site.definition.body_place, format!("requires `{}`", input.port))
                        .help("only optional inputs, and those that take many values, can go without; `after` orders without data"),
                );
            }
        }
    }

    fn unconnected(&mut self, site: &Site<'a>, port: &InputDefinition, base: BaseType) -> Source {
        if let Some(default) = &port.default_value {
            return match literal(default, base) {
                Some((text, media_type)) => given(text, port.type_name.clone(), media_type),
                None => {
                    let problem = format!("the default of the input `{}` does not fit its type", port.name);
                    let diagnostic = Diagnostic::error(Code::BadDescription, problem);
                    self.found.push(diagnostic.at(&site.definition.body_place, "this op"));
                    Source::Unconnected
                }
            };
        }
        if !port.optional {
            let mut diagnostic = Diagnostic::error(
                Code::MissingInput,
                format!("the input `{}` of `{}` is not connected", port.name, site.path),
            )
            .at(&site.definition.body_place, format!("requires `{}`, of type `{}`", port.name, port.type_name));
            let candidates: Vec<_> = self
                .built
                .steps
                .iter()
                .filter(|step| {
                    step.path.as_str().rsplit_once('.').map(|(outer, _)| outer)
                        == site.path.as_str().rsplit_once('.').map(|(outer, _)| outer)
                })
                .flat_map(|step| step.outputs.iter().map(move |output| (step, output)))
                .filter(|(_, output)| output.type_name == port.type_name)
                .map(|(step, output)| format!("{}.{}", step.path.leaf(), output.port))
                .take(3)
                .collect();
            diagnostic = match candidates.first() {
                Some(first) => diagnostic.help(format!("add `inputs: {{ {}: {first} }}`", port.name)),
                None => diagnostic.help(format!("add `inputs: {{ {}: step.output }}`", port.name)),
            };
            self.found.push(diagnostic);
        }
        Source::Unconnected
    }

    fn connect(&mut self, plug: &Plug<'_, 'a>, wire: &Wire<'a>, mapping: &mut Option<Mapping<'a>>) -> Source {
        match wire {
            Wire::Broken | Wire::Absent => Source::Unconnected,
            Wire::Slot { slot, place } => {
                self.check_fit(plug, *slot, place);
                let levels = self.levels(*slot);
                match levels.last() {
                    None => Source::Output { slot: *slot },
                    Some(innermost) => {
                        let is_item = innermost == slot;
                        self.map_over(plug, levels, is_item, place, mapping);
                        if is_item { Source::Item { slot: *slot } } else { Source::SameKey { slot: *slot } }
                    }
                }
            }
            Wire::FanIn { slots, place } => {
                if !plug.port.many {
                    self.found.push(
                        Diagnostic::error(Code::BadReference, format!("{} takes one value, not a list", plug.name()))
                            .at(place, "a list"),
                    );
                }
                for (slot, place) in slots {
                    self.check_fit(plug, *slot, place);
                    if !self.levels(*slot).is_empty() {
                        self.found.push(
                            Diagnostic::error(Code::BadMapping, "a list holds no dynamic reference")
                                .at(place, "yields any number of items")
                                .help("give it an input of its own: `{ collect: … }`"),
                        );
                    }
                }
                Source::FanIn { slots: slots.iter().map(|(slot, _)| *slot).collect() }
            }
            Wire::Collect { slot, levels, place } => {
                self.check_fit(plug, *slot, place);
                let mut around = self.levels(*slot);
                if around.pop().is_none() {
                    self.found.push(
                        Diagnostic::error(Code::BadMapping, "there is nothing to collect")
                            .at(place, "neither dynamic nor of a mapped step")
                            .at(self.homes[slot.step.index()], "yields one value"),
                    );
                } else if !plug.port.many {
                    self.found.push(
                        Diagnostic::error(
                            Code::BadMapping,
                            format!("{} takes one value, and `collect` gives all of them", plug.name()),
                        )
                        .at(place, "many values")
                        .at(&plug.site.definition.body_place, "takes one"),
                    );
                }
                if *levels == Levels::All {
                    around.clear();
                }
                let depth = u8::try_from(around.len()).unwrap_or(u8::MAX);
                if depth > 0 {
                    self.map_over(plug, around, false, place, mapping);
                }
                Source::Collect { slot: *slot, depth }
            }
            Wire::Value(node) => self.value(plug, node),
            Wire::Artifact { digest, place } => self.artifact(plug, digest, place),
            Wire::Latest { latest, place } => self.latest(plug, latest, place),
        }
    }

    /// The dynamic outputs whose items a slot comes in, outermost first; empty for one value.
    fn levels(&self, slot: OutputSlot) -> Vec<OutputSlot> {
        let steps = &self.built.steps;
        let step = &steps[slot.step.index()];
        let own = step.outputs[usize::from(slot.port)].dynamic.then_some(slot);
        let around = std::iter::successors(step.mapped_over, |over| steps[over.step.index()].mapped_over);
        let mut levels: Vec<_> = own.into_iter().chain(around).collect();
        levels.reverse();
        levels
    }

    /// Maps a step over the items of an input, or aligns them with those that it is mapped over already: one list of levels
    /// is the beginning of the other. Items of two ports of one step go together by their keys.
    fn map_over(
        &mut self,
        plug: &Plug<'_, 'a>,
        levels: Vec<OutputSlot>,
        is_item: bool,
        place: &'a Place,
        mapping: &mut Option<Mapping<'a>>,
    ) {
        let Some(first) = mapping else {
            *mapping = Some(Mapping { levels, place });
            return;
        };
        let mut both = first.levels.iter().zip(&levels);
        let Some((before, other)) = both.find(|(before, other)| before != other) else {
            if levels.len() > first.levels.len() {
                *first = Mapping { levels, place };
            }
            return;
        };
        let is_zip = is_item && before.step == other.step && both.next().is_none() && levels.last() == Some(other);
        if is_zip && first.levels.len() >= levels.len() {
            return;
        }
        let name = |slot: OutputSlot| {
            let step = &self.built.steps[slot.step.index()];
            format!("{}.{}", step.path, step.outputs[usize::from(slot.port)].port)
        };
        let problem = format!("`{}` would be mapped over two dynamic outputs", plug.site.path);
        self.found.push(
            Diagnostic::error(Code::BadMapping, problem)
                .at(place, format!("over the items of `{}`", name(*other)))
                .at(first.place, format!("over the items of `{}`", name(*before)))
                .help(match before.step == other.step {
                    true => {
                        "only the items themselves of two outputs of one step go together by their keys; `collect` one"
                    }
                    false => "`collect` one of them",
                }),
        );
    }

    fn check_fit(&mut self, plug: &Plug<'_, 'a>, slot: OutputSlot, place: &'a Place) {
        let producer = &self.built.steps[slot.step.index()];
        let output = &producer.outputs[usize::from(slot.port)];
        let offer = Offer {
            from: format!("`{}.{}`", producer.path, output.port),
            type_name: output.type_name.clone(),
            base: output.base,
            media_type: output.media_type.clone(),
            home: self.homes[slot.step.index()],
        };
        self.check_offer(plug, &offer, place);
    }

    /// Type and media type of a value against an input. Answers whether they fit.
    pub(super) fn check_offer(&mut self, plug: &Plug<'_, 'a>, output: &Offer<'a>, place: &'a Place) -> bool {
        let (from, home) = (&output.from, output.home);
        let labels = |diagnostic: Diagnostic, yields: &str, takes: &str| {
            let diagnostic = if plug.place == place || plug.place.range().contains(&place.range().start) {
                diagnostic.at(place, takes)
            } else {
                diagnostic.at(plug.place, takes).at(place, "which is this")
            };
            diagnostic.at(home, yields)
        };
        let port = plug.port;
        if !fits(&port.type_name, plug.base, &output.type_name, output.base) {
            let message = format!("{from} does not fit {}", plug.name());
            let mut diagnostic = labels(
                Diagnostic::error(Code::TypeMismatch, message),
                &format!("yields `{}`", output.type_name),
                &format!("takes `{}`", port.type_name),
            );
            if plug.base == BaseType::Nothing || output.base == BaseType::Nothing {
                diagnostic = diagnostic.help("to order steps without data use `after`");
            } else if plug.base == output.base {
                diagnostic = diagnostic.help(format!(
                    "`{}` and `{}` both stand on `{}`, but are not the same type",
                    output.type_name,
                    port.type_name,
                    plug.base.name()
                ));
            }
            self.found.push(diagnostic);
            false
        } else if !(port.media_types.is_empty() || port.media_types.contains(&output.media_type))
            && plug.base != BaseType::Nothing
        {
            let readable: Vec<_> = port.media_types.iter().map(|media| format!("`{media}`")).collect();
            let message = format!("{} cannot read what {from} is written in", plug.name());
            let help = match self.converter(output, plug) {
                Some((op, best)) => format!("put `{op}` between them: it turns `{}` into `{best}`", output.media_type),
                None => {
                    let best = port.media_types.first().map(MediaType::as_str).unwrap_or_default();
                    format!("put an op between them that turns `{}` into `{best}`", output.media_type)
                }
            };
            self.found.push(
                labels(
                    Diagnostic::error(Code::MediaTypeMismatch, message),
                    &format!("writes `{}`", output.media_type),
                    &format!("reads {}", readable.join(", ")),
                )
                .help(help),
            );
            false
        } else {
            true
        }
    }

    /// An op of the known components that takes what `output` yields, and nothing else, and yields what `plug` reads.
    fn converter(&self, output: &Offer<'a>, plug: &Plug<'_, 'a>) -> Option<(String, MediaType)> {
        let base = |name: &TypeName| self.base_of(name.as_str());
        let converted = |op: &OpDefinition| {
            let [input] = op.inputs.as_slice() else { return None };
            let [result] = op.outputs.as_slice() else { return None };
            let takes = fits(&input.type_name, base(&input.type_name)?, &output.type_name, output.base)
                && (input.media_types.is_empty() || input.media_types.contains(&output.media_type));
            let yields = fits(&plug.port.type_name, plug.base, &result.type_name, base(&result.type_name)?)
                && plug.port.media_types.contains(&result.media_type);
            (takes && yields && !result.dynamic && !input.many).then(|| result.media_type.clone())
        };
        self.planning.catalog.iter().find_map(|(name, component)| {
            component.ops.iter().find_map(|op| Some((format!("{name}.{}", op.name), converted(op)?)))
        })
    }

    fn value(&mut self, plug: &Plug<'_, 'a>, node: &'a Node) -> Source {
        if let Value::Map(_) | Value::List(_) = node.value
            && plug.base == BaseType::Text
        {
            self.refuse_value(plug, node);
            return Source::Unconnected;
        }
        let json = match config::to_json(node) {
            Ok(json) => json,
            Err(problem) => {
                self.found.push(problem.diagnostic("this value"));
                return Source::Unconnected;
            }
        };
        let Some((text, media_type)) = literal(&json, plug.base) else {
            self.refuse_value(plug, node);
            return Source::Unconnected;
        };
        if !(plug.port.media_types.is_empty() || plug.port.media_types.contains(&media_type)) {
            let message = format!("{} cannot read a value that is written here", plug.name());
            let diagnostic = Diagnostic::error(Code::MediaTypeMismatch, message);
            self.found.push(
                diagnostic
                    .at(&node.place, format!("is `{media_type}`"))
                    .at(&plug.site.definition.body_place, "reads another media type"),
            );
        }
        self.check_literal(&plug.port.type_name, &json, node);
        given(text, plug.port.type_name.clone(), media_type)
    }

    fn refuse_value(&mut self, plug: &Plug<'_, 'a>, node: &Node) {
        let message = format!("{} is of type `{}`", plug.name(), plug.port.type_name);
        let diagnostic = Diagnostic::error(Code::TypeMismatch, message).at(&node.place, node.value.kind());
        self.found.push(match plug.base {
            BaseType::Text => diagnostic.help("a value for it is text: quote it"),
            _ => diagnostic
                .help("only `text` and `json`, and types that stand on them, take a value that is written here"),
        });
    }

    fn artifact(&mut self, plug: &Plug<'_, 'a>, digest: &Digest, place: &Place) -> Source {
        if plug.base == BaseType::Nothing {
            self.found.push(
                Diagnostic::error(Code::TypeMismatch, format!("{} takes no bytes", plug.name()))
                    .at(place, "to order steps without data use `after`"),
            );
            return Source::Unconnected;
        }
        let Some(size) = self.planning.stored.size(digest) else {
            self.found.push(
                Diagnostic::error(Code::ArtifactMissing, "there is no such artifact in this yard")
                    .at(place, "unknown artifact")
                    .help("`opyard artifacts RUN` shows the artifacts of a run"),
            );
            return Source::Unconnected;
        };
        let octets = || MediaType::new("application/octet-stream").expect("a media type");
        let media_type = plug.port.media_types.first().cloned().unwrap_or_else(octets);
        let artifact = ArtifactRef { digest: *digest, size };
        let value = ValueRef::plain(artifact, plug.port.type_name.clone(), media_type);
        Source::Given { value: value.into(), text: None, latest: None }
    }
}

/// Whether a value of one type can go into an input of another: the same type, a type that stands on the input's, and
/// anything that has bytes into `bytes`.
fn fits(takes: &TypeName, takes_base: BaseType, yields: &TypeName, yields_base: BaseType) -> bool {
    let takes_base_itself = takes.as_str() == takes_base.name();
    takes == yields
        || takes_base_itself && takes_base == yields_base
        || takes_base_itself && takes_base == BaseType::Bytes && yields_base != BaseType::Nothing
}

/// Text and media type of a value that is written down; none when the type cannot hold it.
fn literal(json: &CanonicalJson, base: BaseType) -> Option<(String, MediaType)> {
    let media = |text: &str| MediaType::new(text).expect("a media type");
    match base {
        BaseType::Json => Some((json.as_str().to_owned(), media("application/json"))),
        BaseType::Text => Some((json.to_value().as_str()?.to_owned(), media("text/plain"))),
        BaseType::Bytes | BaseType::Table | BaseType::Nothing => None,
    }
}

fn given(text: String, type_name: TypeName, media_type: MediaType) -> Source {
    let artifact = ArtifactRef::of(text.as_bytes());
    Source::Given { value: ValueRef::plain(artifact, type_name, media_type).into(), text: Some(text), latest: None }
}
