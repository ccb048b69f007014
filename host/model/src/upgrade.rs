//! What changes for those who use a component when another one takes its place.
//!
//! Both descriptions are guest-controlled and bounded: names are names, types and media types are checked texts. Of config schemas only
//! what stands at their top is compared by name; anything else in them is one change.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;

use crate::component::{
    ComponentDescription, ExtensionDefinition, InputDefinition, OpDefinition, OutputDefinition, ResourceRequirement,
};
use crate::json::CanonicalJson;

/// How grave a change is, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// It could reach what the old one could not, or knows more: to be granted again, by somebody who looks.
    Reaches,
    /// Definitions that fit the old one may not fit it.
    Breaks,
    /// Definitions fit; what comes of them, or how it is kept, may be different.
    Changes,
    /// There is more of it.
    Adds,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How grave it is.
    pub gravity: Gravity,
    /// Where: `op 'clean', input 'rows'`.
    pub place: String,
    /// What, as a sentence about the new one.
    pub what: String,
}

/// All that is different, the gravest first, then in the order of the old description. Descriptions and tags of the author's are not
/// compared: they are words.
#[must_use]
pub fn changes(old: &ComponentDescription, new: &ComponentDescription) -> Vec<Change> {
    let mut found = Found::default();
    let imports = |one: &ComponentDescription| one.imports.iter().cloned().collect::<BTreeSet<_>>();
    let (before, after) = (imports(old), imports(new));
    for import in after.difference(&before) {
        found.say(Gravity::Reaches, "imports", format!("it imports '{import}'"));
    }
    for import in before.difference(&after) {
        found.say(Gravity::Adds, "imports", format!("it imports '{import}' no more"));
    }
    found.compare(("", "op"), (&old.ops, &new.ops), |op| op.name.as_str(), op);
    for (kind, old, new) in [
        ("type checker", &old.type_checkers, &new.type_checkers),
        ("IO manager", &old.io_managers, &new.io_managers),
        ("hook", &old.hooks, &new.hooks),
    ] {
        found.compare(("", kind), (old, new), |one| one.name.as_str(), extension);
    }
    found.0.sort_by_key(|change| change.gravity);
    found.0
}

#[derive(Default)]
struct Found(Vec<Change>);

impl Found {
    fn say(&mut self, gravity: Gravity, place: &str, what: impl Display) {
        self.0.push(Change { gravity, place: place.to_owned(), what: what.to_string() });
    }

    /// Compares what has the same name, and tells of what is there once.
    fn compare<T>(
        &mut self,
        (within, kind): (&str, &str),
        (old, new): (&[T], &[T]),
        name: fn(&T) -> &str,
        both: fn(&mut Self, &str, (&T, &T)),
    ) {
        let place = |one: &T| {
            let comma = if within.is_empty() { "" } else { ", " };
            format!("{within}{comma}{kind} '{}'", name(one))
        };
        for before in old {
            match new.iter().find(|after| name(after) == name(before)) {
                Some(after) => both(self, &place(before), (before, after)),
                None => self.say(Gravity::Breaks, &place(before), "it is gone"),
            }
        }
        for after in new.iter().filter(|after| !old.iter().any(|before| name(before) == name(after))) {
            self.say(Gravity::Adds, &place(after), "it is new");
        }
    }

    /// Tells that something is another one.
    fn turned<T: PartialEq + Display>(&mut self, gravity: Gravity, place: &str, what: &str, (old, new): (T, T)) {
        if old != new {
            self.say(gravity, place, format!("its {what} is {new}, and was {old}"));
        }
    }
}

fn op(found: &mut Found, place: &str, (old, new): (&OpDefinition, &OpDefinition)) {
    found.compare((place, "input"), (&old.inputs, &new.inputs), |one| one.name.as_str(), input);
    for added in new.inputs.iter().filter(|one| !old.inputs.iter().any(|before| before.name == one.name)) {
        if !added.optional && !added.many && added.default_value.is_none() {
            found.say(Gravity::Breaks, &format!("{place}, input '{}'", added.name), "it has to be connected");
        }
    }
    found.compare((place, "output"), (&old.outputs, &new.outputs), |one| one.name.as_str(), output);
    resources(found, place, (&old.resources, &new.resources));
    if new.uses_execution && !old.uses_execution {
        found.say(Gravity::Reaches, place, "it is told which run it is in");
    }
    if old.is_hermetic() && !new.is_hermetic() {
        let why: Vec<_> = new.leaks().iter().map(ToString::to_string).collect();
        found.say(Gravity::Changes, place, format!("it is hermetic no more, since it {}", why.join(", and ")));
    } else if !old.is_hermetic() && new.is_hermetic() {
        found.say(Gravity::Changes, place, "it is hermetic now, and its results are memoised");
    }
    config(found, place, (old.config_schema.as_ref(), new.config_schema.as_ref()));
    if old.retry_policy != new.retry_policy {
        found.say(Gravity::Changes, place, "it advises to retry in another way");
    }
}

fn extension(found: &mut Found, place: &str, (old, new): (&ExtensionDefinition, &ExtensionDefinition)) {
    resources(found, place, (&old.resources, &new.resources));
    config(found, place, (old.config_schema.as_ref(), new.config_schema.as_ref()));
}

fn input(found: &mut Found, place: &str, (old, new): (&InputDefinition, &InputDefinition)) {
    found.turned(Gravity::Breaks, place, "type", (&old.type_name, &new.type_name));
    let reads = |one: &InputDefinition, media: &_| one.media_types.is_empty() || one.media_types.contains(media);
    for media in old.media_types.iter().filter(|media| !reads(new, media)) {
        found.say(Gravity::Breaks, place, format!("it reads '{media}' no more"));
    }
    if old.media_types.is_empty() && !new.media_types.is_empty() {
        found.say(Gravity::Breaks, place, "it reads some media types, and read any");
    }
    let may_be_left = |one: &InputDefinition| one.optional || one.default_value.is_some();
    if may_be_left(old) && !may_be_left(new) {
        found.say(Gravity::Breaks, place, "it has to be connected");
    } else if old.default_value != new.default_value {
        found.say(Gravity::Changes, place, "its default is another one");
    }
    if old.many && !new.many {
        found.say(Gravity::Breaks, place, "it takes one value, and took several");
    }
}

fn output(found: &mut Found, place: &str, (old, new): (&OutputDefinition, &OutputDefinition)) {
    found.turned(Gravity::Breaks, place, "type", (&old.type_name, &new.type_name));
    found.turned(Gravity::Breaks, place, "media type", (&old.media_type, &new.media_type));
    if new.optional && !old.optional {
        found.say(Gravity::Breaks, place, "it may be left out");
    }
    if new.dynamic != old.dynamic {
        let what = if new.dynamic {
            "it yields items, and yielded one value"
        } else {
            "it yields one value, and yielded items"
        };
        found.say(Gravity::Breaks, place, what);
    }
}

fn resources(found: &mut Found, place: &str, (old, new): (&[ResourceRequirement], &[ResourceRequirement])) {
    for after in new {
        let before = old.iter().find(|before| before.key == after.key);
        let place = format!("{place}, resource '{}'", after.key);
        match before {
            Some(before) if before.through == after.through => {
                if before.optional && !after.optional {
                    found.say(Gravity::Breaks, &place, "it cannot do without");
                }
            }
            _ => {
                let need = if after.optional { "asks for" } else { "needs" };
                found.say(Gravity::Reaches, &place, format!("it {need} it, through '{}'", after.through.import()));
            }
        }
    }
    for before in old.iter().filter(|before| !new.iter().any(|after| after.key == before.key)) {
        found.say(Gravity::Adds, &format!("{place}, resource '{}'", before.key), "it asks for it no more");
    }
}

fn config(found: &mut Found, place: &str, (old, new): (Option<&CanonicalJson>, Option<&CanonicalJson>)) {
    let place = format!("{place}, config");
    let (old, new) = match (old, new) {
        (old, new) if old == new => return,
        (Some(old), Some(new)) => (old.to_value(), new.to_value()),
        (Some(_), None) => return found.say(Gravity::Breaks, &place, "it takes none"),
        (None, Some(new)) => (Value::Null, new.to_value()),
        (None, None) => return,
    };
    let before = found.0.len();
    let properties = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default()
    };
    let required = |schema: &Value| -> BTreeSet<String> {
        let all = schema["required"].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for key in required(&new).difference(&required(&old)) {
        found.say(Gravity::Breaks, &place, format!("'{}' has to be given", shown(key)));
    }
    for key in properties(&old).difference(&properties(&new)) {
        found.say(Gravity::Breaks, &place, format!("'{}' is gone", shown(key)));
    }
    for key in properties(&new).difference(&properties(&old)) {
        found.say(Gravity::Adds, &place, format!("'{}' is new", shown(key)));
    }
    for key in properties(&new).intersection(&properties(&old)) {
        if new["properties"][key] != old["properties"][key] {
            found.say(Gravity::Changes, &place, format!("'{}' is described in another way", shown(key)));
        }
    }
    if found.0.len() == before {
        found.say(Gravity::Changes, &place, "its schema is another one");
    }
}

/// A key of a schema, which is any text.
fn shown(key: &str) -> String {
    crate::error::sanitize(key, 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::Interface;
    use crate::digest::ComponentDigest;

    fn component(ops: Vec<OpDefinition>) -> ComponentDescription {
        ComponentDescription {
            digest: ComponentDigest::from_bytes([1; 32]),
            size: 1,
            imports: vec!["opyard:op/io@0.1.0".into()],
            exports: Vec::new(),
            ops,
            type_checkers: Vec::new(),
            io_managers: Vec::new(),
            hooks: Vec::new(),
            origin: None,
        }
    }

    fn clean() -> OpDefinition {
        let input = InputDefinition {
            name: "rows".parse().unwrap(),
            description: None,
            type_name: "table".parse().unwrap(),
            media_types: vec!["text/csv".parse().unwrap(), "application/x-ndjson".parse().unwrap()],
            optional: true,
            many: true,
            default_value: None,
        };
        let output = OutputDefinition {
            name: "rows".parse().unwrap(),
            description: None,
            type_name: "table".parse().unwrap(),
            media_type: "text/csv".parse().unwrap(),
            optional: false,
            dynamic: false,
        };
        let schema = serde_json::json!({ "properties": { "drop": { "type": "boolean" } } });
        OpDefinition {
            name: "clean".parse().unwrap(),
            description: None,
            inputs: vec![input],
            outputs: vec![output],
            resources: Vec::new(),
            uses_execution: false,
            config_schema: Some(CanonicalJson::new(&schema).unwrap()),
            tags: Vec::new(),
            retry_policy: None,
            deterministic: true,
        }
    }

    fn told(old: &ComponentDescription, new: &ComponentDescription) -> Vec<String> {
        changes(old, new).into_iter().map(|one| format!("{:?}: {}: {}", one.gravity, one.place, one.what)).collect()
    }

    #[test]
    fn what_an_upgrade_changes_is_told_by_how_grave_it_is() {
        let old = component(vec![clean()]);
        assert_eq!(told(&old, &old), [""; 0]);

        let mut op = clean();
        op.inputs[0].media_types.remove(0);
        (op.inputs[0].optional, op.inputs[0].many) = (false, false);
        let more = InputDefinition { name: "more".parse().unwrap(), ..op.inputs[0].clone() };
        op.inputs.push(more);
        op.outputs[0].media_type = "application/x-ndjson".parse().unwrap();
        (op.outputs[0].optional, op.outputs[0].dynamic) = (true, true);
        let need =
            ResourceRequirement { key: "lake".parse().unwrap(), through: Interface::ObjectStore, optional: false };
        op.resources.push(need);
        op.uses_execution = true;
        let schema = serde_json::json!({ "properties": { "keep": {} }, "required": ["keep"] });
        op.config_schema = Some(CanonicalJson::new(&schema).unwrap());
        let mut new = component(vec![op, OpDefinition { name: "other".parse().unwrap(), ..clean() }]);
        new.imports.push("opyard:resources/object-store@0.1.0".into());
        assert_eq!(
            told(&old, &new),
            [
                "Reaches: imports: it imports 'opyard:resources/object-store@0.1.0'",
                "Reaches: op 'clean', resource 'lake': it needs it, through 'opyard:resources/object-store@0.1.0'",
                "Reaches: op 'clean': it is told which run it is in",
                "Breaks: op 'clean', input 'rows': it reads 'text/csv' no more",
                "Breaks: op 'clean', input 'rows': it has to be connected",
                "Breaks: op 'clean', input 'rows': it takes one value, and took several",
                "Breaks: op 'clean', input 'more': it has to be connected",
                "Breaks: op 'clean', output 'rows': its media type is application/x-ndjson, and was text/csv",
                "Breaks: op 'clean', output 'rows': it may be left out",
                "Breaks: op 'clean', output 'rows': it yields items, and yielded one value",
                "Breaks: op 'clean', config: 'keep' has to be given",
                "Breaks: op 'clean', config: 'drop' is gone",
                "Changes: op 'clean': it is hermetic no more, since it lists the resource 'lake', and uses 'execution'",
                "Adds: op 'clean', input 'more': it is new",
                "Adds: op 'clean', config: 'keep' is new",
                "Adds: op 'other': it is new",
            ]
        );
        // And back: nothing that it reaches is new.
        let back = changes(&new, &old);
        assert!(back.iter().all(|change| change.gravity != Gravity::Reaches), "{back:?}");
        assert!(back.iter().any(|change| change.place == "op 'other'" && change.gravity == Gravity::Breaks));
    }
}
