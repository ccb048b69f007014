//! What a step is bound to: IO managers, resources, limits, retries, memo.

use std::collections::BTreeSet;

use super::build::{Catalog, Planning};
use super::flatten::{Builder, Site};
use super::{Access, Grant, Memo, StepOutput};
use crate::component::{Interface, ResourceRequirement, RetryPolicy};
use crate::definitions::{Definitions, GivenLimits, GrantEntry, GrantedKey, IoManagerChoice, Located, MemoChoice};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::error::Code;
use crate::id::Name;
use crate::limits::Limits;

/// What binding makes of a step.
pub(super) struct Bound {
    pub(super) grants: Vec<Grant>,
    pub(super) limits: Limits,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) memo: Memo,
}

/// Who needs a resource: an op, or an extension of a component.
pub(super) struct Who<'a> {
    /// What it is, in a message.
    pub(super) what: &'static str,
    pub(super) component: &'a Name,
    pub(super) name: &'a str,
    /// Where it is named.
    pub(super) place: &'a Place,
}

impl Who<'_> {
    /// As grants name it.
    pub(super) fn full(&self) -> String {
        format!("{}.{}", self.component, self.name)
    }
}

impl<'a> Builder<'a> {
    pub(super) fn bind(&mut self, site: &Site<'a>) -> Bound {
        let who = site.who();
        let grants: Vec<_> = site.op.resources.iter().filter_map(|needed| self.grant(&who, needed)).collect();
        Bound { limits: self.limits(site), retry: self.retry(site), memo: self.memo(site, &grants), grants }
    }

    pub(super) fn outputs(&mut self, site: &Site<'a>) -> Vec<StepOutput> {
        let definition = site.definition;
        let choices = match &definition.io_manager {
            IoManagerChoice::PerOutput(choices) => choices.as_slice(),
            IoManagerChoice::Default | IoManagerChoice::All(_) => &[],
        };
        for (output, _) in choices.iter().chain(&definition.types) {
            let name = output.value.as_str();
            if site.op.output(name).is_none() {
                let op = format!("{}.{}", site.component_name, site.op.name);
                self.found.push(
                    Diagnostic::error(Code::UnknownPort, format!("the op `{op}` has no output `{name}`"))
                        .at(&output.place, "unknown output")
                        .nearest(name, site.op.outputs.iter().map(|port| port.name.as_str())),
                );
            }
        }
        let mut outputs = Vec::with_capacity(site.op.outputs.len());
        for port in &site.op.outputs {
            let chosen = match &site.definition.io_manager {
                IoManagerChoice::Default => None,
                IoManagerChoice::All(name) => Some(&name.value),
                IoManagerChoice::PerOutput(choices) => {
                    choices.iter().find(|(output, _)| output.value == port.name.as_str()).map(|(_, name)| &name.value)
                }
            };
            let io_manager = chosen.cloned().unwrap_or_else(|| Name::new("default").expect("`default` is a name"));
            if let Some(spec) = self.surroundings.io_manager(io_manager.as_str()) {
                self.built.io_managers.entry(io_manager.clone()).or_insert_with(|| spec.clone());
            }
            let (type_name, base) = self.output_type(site, port);
            outputs.push(StepOutput {
                port: port.name.clone(),
                type_name,
                base,
                media_type: port.media_type.clone(),
                optional: port.optional,
                dynamic: port.dynamic,
                io_manager,
            });
        }
        outputs
    }

    /// The grants that hold for an op or an extension: of its component, then its own.
    pub(super) fn entries(&self, who: &Who<'a>) -> [Option<&'a GrantEntry>; 2] {
        let grants = &self.surroundings.definitions.grants;
        let find = |op: Option<&str>| {
            grants.iter().find(|grant| grant.component == *who.component && grant.op.as_deref() == op)
        };
        [find(None), find(Some(who.name))]
    }

    /// What is granted of something that is needed; none when nothing is, which was said.
    pub(super) fn grant(&mut self, who: &Who<'a>, needed: &ResourceRequirement) -> Option<Grant> {
        let key = needed.key.as_str();
        let entries = self.entries(who);
        let granted: Option<&'a GrantedKey> = entries
            .into_iter()
            .rev()
            .flatten()
            .find_map(|entry| granted_keys(entry, needed.through).iter().find(|granted| granted.key.value == key));
        let Some(granted) = granted else {
            if needed.optional {
                let (key, through) = (needed.key.clone(), needed.through);
                return Some(Grant { key, through, resource: None, access: Access::Read });
            }
            let (what, full) = (who.what, who.full());
            let help = self.grant_help(&full, needed);
            self.found.push(
                Diagnostic::error(
                    Code::NotGranted,
                    format!("the {what} `{full}` needs the resource `{key}`, and has no grant for it"),
                )
                .at(who.place, format!("uses `{key}` through `{}`", needed.through.import()))
                .help(help),
            );
            return None;
        };
        let name = &granted.resource.value;
        if needed.through == Interface::Secrets {
            let from = &self.surroundings.definitions.secrets.get(name.as_str())?.value;
            self.built.secrets.entry(name.clone()).or_insert_with(|| from.clone());
            let (key, through) = (needed.key.clone(), needed.through);
            return Some(Grant { key, through, resource: Some(name.clone()), access: Access::Read });
        }
        let spec = self.surroundings.resource(name.as_str())?;
        if spec.interface() != needed.through {
            self.found.push(
                Diagnostic::error(Code::ResourceKindMismatch, format!("`{name}` is not what `{key}` is used as"))
                    .at(&granted.resource.place, format!("of kind `{}`", spec.kind()))
                    .at(who.place, format!("uses `{key}` through `{}`", needed.through.import())),
            );
            return None;
        }
        let most = spec.access();
        // An environment may give less than what the grant was checked against.
        let access = granted.access.as_ref().map_or(most, |asked| asked.value.min(most));
        self.built.resources.entry(name.clone()).or_insert_with(|| spec.clone());
        Some(Grant { key: needed.key.clone(), through: needed.through, resource: Some(name.clone()), access })
    }

    /// The line that would grant what an op needs.
    fn grant_help(&self, op: &str, needed: &ResourceRequirement) -> String {
        let (key, definitions) = (&needed.key, self.surroundings.definitions);
        if needed.through == Interface::Secrets {
            let secret = definitions.secrets.iter().next().map_or("name_of_the_secret", |secret| secret.name.as_str());
            return format!(
                "under `grants` add `{op}: {{ reveal: {{ {key}: {secret} }} }}`, if the op may see the secret itself"
            );
        }
        let fits =
            |resource: &&crate::definitions::Named<super::ResourceSpec>| resource.value.interface() == needed.through;
        let fitting =
            definitions.resources.iter().find(fits).map_or("name_of_the_resource", |resource| resource.name.as_str());
        format!("under `grants` add `{op}: {{ resources: {{ {key}: {fitting} }} }}`")
    }

    /// The yard's defaults, then the component's grant, the op's, the job's, the step's.
    fn limits(&mut self, site: &Site<'a>) -> Limits {
        let [component, op] = self.entries(&site.who());
        let layers: [Option<&'a GivenLimits>; 4] = [
            component.map(|entry| &entry.limits),
            op.map(|entry| &entry.limits),
            Some(&self.job.limits),
            Some(&site.definition.limits),
        ];
        let layers = layers.into_iter().flatten();
        overlaid(self.planning, layers, &site.definition.body_place, &mut self.found)
    }

    /// The step's policy, else the op's, else the job's.
    fn retry(&mut self, site: &Site<'a>) -> Option<RetryPolicy> {
        if let Some(policy) = &site.definition.retry {
            if site.op.is_hermetic() && policy.value.max_retries > 0 {
                self.found.push(
                    Diagnostic::warning(
                        Code::PointlessPolicy,
                        format!("`{}` is hermetic: what it failed at once it fails at again", site.path),
                    )
                    .at(&policy.place, "helps only when the surroundings fail")
                    .help("remove it, unless it is meant for lost executors and wall time-outs"),
                );
            }
            return Some(policy.value.clone());
        }
        let op = site.op.retry_policy.clone();
        op.or_else(|| self.job.retry.as_ref().map(|policy| policy.value.clone()))
    }

    fn memo(&mut self, site: &Site<'a>, grants: &[Grant]) -> Memo {
        let chosen: Option<&Located<MemoChoice>> = site.definition.memo.as_ref();
        if chosen.is_some_and(|chosen| chosen.value == MemoChoice::Off) {
            return Memo::Off;
        }
        let versioned = |grant: &Grant| {
            let name = grant.resource.as_ref();
            name.is_none_or(|name| {
                // A secret has no version.
                let spec = self.surroundings.resource(name.as_str());
                grant.through != Interface::Secrets && spec.is_some_and(|spec| spec.version().is_some())
            })
        };
        let sound =
            site.op.is_hermetic() || site.op.deterministic && !site.op.uses_execution && grants.iter().all(versioned);
        match chosen {
            Some(Located { value: MemoChoice::For(_), place }) if sound => {
                self.found.push(
                    Diagnostic::warning(
                        Code::PointlessPolicy,
                        format!("`{}` depends on nothing that could change: its results never age", site.path),
                    )
                    .at(place, "has no effect")
                    .help("remove it, or write `memo: off`"),
                );
                Memo::Sound
            }
            Some(Located { value: MemoChoice::For(ttl), .. }) => Memo::For(*ttl),
            _ if sound => Memo::Sound,
            _ => Memo::Off,
        }
    }
}

/// The yard's defaults, with what was given laid over them in order. Says what goes beyond the ceiling, at `home` if it was
/// not given.
pub(super) fn overlaid<'a>(
    planning: &Planning<'_>,
    layers: impl DoubleEndedIterator<Item = &'a GivenLimits> + Clone,
    home: &Place,
    found: &mut Diagnostics,
) -> Limits {
    let limits = layers.clone().fold(planning.defaults.clone(), |limits, layer| layer.overrides.over(&limits));
    for name in limits.above(planning.ceiling) {
        let given = layers.clone().rev().find_map(|layer| layer.places.iter().find(|(given, _)| *given == name));
        let place = given.map_or(home, |(_, place)| place);
        let ceiling = shown(planning.ceiling, name);
        found.push(
            Diagnostic::error(Code::AboveCeiling, format!("the limit `{name}` is above what may be had here"))
                .at(place, format!("the most is {ceiling}")),
        );
    }
    limits
}

/// What an entry grants to be used through an interface.
fn granted_keys(entry: &GrantEntry, through: Interface) -> &[GrantedKey] {
    if through == Interface::Secrets { &entry.reveal } else { &entry.resources }
}

/// A limit as a definitions file says it.
fn shown(limits: &Limits, name: &str) -> String {
    match name {
        "cpu" => duration(limits.cpu),
        "wall" => duration(limits.wall),
        "memory" => limits.memory.to_string(),
        "host_call_bytes" => limits.host_call_bytes.to_string(),
        "read_bytes" => limits.read_bytes.to_string(),
        "output_bytes" => limits.output_bytes.to_string(),
        "log_bytes" => limits.log_bytes.to_string(),
        "metadata_bytes" => limits.metadata_bytes.to_string(),
        "http_bytes" => limits.http_bytes.to_string(),
        other => serde_json::to_value(limits)
            .ok()
            .and_then(|limits| limits.get(other).map(ToString::to_string))
            .unwrap_or_default(),
    }
}

/// A duration in the largest unit that divides it.
fn duration(duration: std::time::Duration) -> String {
    let ms = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let (unit, factor) =
        units.into_iter().find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor)).unwrap_or(("ms", 1));
    format!("{}{unit}", ms / factor)
}

/// Grants for ops that do not exist, and for keys that no op asks for.
pub(super) fn check_grants(definitions: &Definitions, catalog: &Catalog) -> Diagnostics {
    let mut found = Diagnostics::default();
    for grant in &definitions.grants {
        if found.is_full() {
            break;
        }
        let Some(component) = catalog.get(grant.component.as_str()) else { continue };
        let name = &grant.component;
        let ops = component.ops.iter().map(|op| (&op.name, &op.resources));
        let hooks = component.hooks.iter().map(|hook| (&hook.name, &hook.resources));
        let mut users = ops.chain(hooks);
        let needs: Vec<_> = match &grant.op {
            None => users.map(|(_, resources)| resources).collect(),
            Some(op) => match users.find(|(name, _)| name.as_str() == op) {
                Some((_, resources)) => vec![resources],
                // For its limits.
                None if component.type_checker(op).is_some() => Vec::new(),
                None => {
                    found.push(
                        Diagnostic::error(Code::UnknownOp, format!("the component `{name}` ships no op `{op}`"))
                            .at(&grant.place, "unknown op")
                            .nearest(op, component.ops.iter().map(|op| op.name.as_str())),
                    );
                    continue;
                }
            },
        };
        for (what, granted, secrets) in [("resource", &grant.resources, false), ("secret", &grant.reveal, true)] {
            let keys: BTreeSet<_> = needs
                .iter()
                .flat_map(|resources| resources.iter())
                .filter(|needed| (needed.through == Interface::Secrets) == secrets)
                .map(|needed| needed.key.as_str())
                .collect();
            let unknown = |key: &Located<String>| !keys.contains(key.value.as_str());
            for granted in granted.iter().filter(|granted| unknown(&granted.key)) {
                let place: &Place = &granted.key.place;
                let whose = grant.place.text();
                found.push(
                    Diagnostic::error(
                        Code::UnknownResource,
                        format!("`{whose}` asks for no {what} `{}`", granted.key.value),
                    )
                    .at(place, "nothing asks for this")
                    .nearest(&granted.key.value, keys.iter().copied()),
                );
            }
        }
    }
    found
}
