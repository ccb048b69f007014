//! What a component says of its ops, checked: names are names, nothing is there twice, and there is not too much of it.

use std::collections::HashSet;
use std::time::Duration;

use opyard_model::component::{
    Backoff, ComponentDescription, ExtensionDefinition, InputDefinition, Interface, Jitter, OpDefinition,
    OutputDefinition, ResourceRequirement, RetryPolicy, TypeName,
};
use opyard_model::error::{Code, Failure, sanitize};
use opyard_model::id::{MediaType, Name};
use opyard_model::json::CanonicalJson;
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::plan::BaseType;
use serde_json::Value;

use crate::bindings::opyard::op::definitions as theirs;
use crate::components::LoadedComponent;

/// Most ops of a component.
const MAX_OPS: usize = 1_000;
/// Most inputs, outputs or resources of an op, and tags.
const MAX_PORTS: usize = 100;
/// Most media types of an input.
const MAX_MEDIA_TYPES: usize = 32;
/// Longest description, in bytes; a longer one is cut.
const MAX_TEXT: usize = 16 << 10;
/// Longest config schema or default value, in bytes.
const MAX_JSON: usize = 256 << 10;
/// What an input says that takes any media type.
const ANY_MEDIA_TYPE: &str = "*/*";

/// What a component may use to describe itself: little, whatever the request says.
pub(crate) fn limits(asked: &Limits) -> Limits {
    Limits {
        cpu: asked.cpu.min(Duration::from_secs(10)),
        wall: asked.wall.min(Duration::from_secs(20)),
        fuel: asked.fuel.min(10_000_000_000),
        memory: ByteSize(asked.memory.0.min(256 << 20)),
        ..asked.clone()
    }
}

/// What a component says that it ships.
#[derive(Default)]
pub(crate) struct Shipped {
    pub(crate) ops: Vec<theirs::OpDefinition>,
    pub(crate) type_checkers: Vec<theirs::ExtensionDefinition>,
    pub(crate) io_managers: Vec<theirs::ExtensionDefinition>,
    pub(crate) hooks: Vec<theirs::ExtensionDefinition>,
}

/// Checks what `describe` gave.
///
/// # Errors
/// `OPY-116`, with the exact place.
pub(crate) fn check(component: &LoadedComponent, shipped: Shipped) -> Result<ComponentDescription, Failure> {
    let whole = Place("the component".to_owned());
    at_most(shipped.ops.len(), MAX_OPS, "ops", &whole)?;
    distinct(shipped.ops.iter().map(|op| op.name.as_str()), "op", &whole)?;
    let ops = shipped.ops.into_iter().map(op).collect::<Result<_, _>>()?;
    let type_checkers = extensions(shipped.type_checkers, "type checker", &whole)?;
    let io_managers = extensions(shipped.io_managers, "IO manager", &whole)?;
    let hooks = extensions(shipped.hooks, "hook", &whole)?;
    Ok(ComponentDescription {
        digest: component.digest,
        size: component.size,
        imports: component.imports.clone(),
        exports: component.exports.clone(),
        ops,
        type_checkers,
        io_managers,
        hooks,
        origin: None,
    })
}

fn extensions(
    shipped: Vec<theirs::ExtensionDefinition>,
    what: &str,
    whole: &Place,
) -> Result<Vec<ExtensionDefinition>, Failure> {
    at_most(shipped.len(), MAX_OPS, &format!("{what}s"), whole)?;
    distinct(shipped.iter().map(|one| one.name.as_str()), what, whole)?;
    shipped.into_iter().map(|one| extension(one, what)).collect()
}

/// Where in a description something is wrong.
struct Place(String);

impl Place {
    fn of(&self, what: &str, name: &str) -> Self {
        Self(format!("{}, {what} '{}'", self.0, sanitize(name, 80)))
    }

    fn bad(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(Code::BadDescription, format!("{}: {why}", self.0))
    }
}

fn at_most(count: usize, max: usize, what: &str, place: &Place) -> Result<(), Failure> {
    if count > max { Err(place.bad(format!("{count} {what}, more than {max}"))) } else { Ok(()) }
}

fn text(text: Option<String>) -> Option<String> {
    text.map(|text| sanitize(&text, MAX_TEXT))
}

fn op(op: theirs::OpDefinition) -> Result<OpDefinition, Failure> {
    let place = Place(format!("op '{}'", sanitize(&op.name, 80)));
    let name = Name::new(&op.name).map_err(|error| place.bad(error))?;
    at_most(op.inputs.len(), MAX_PORTS, "inputs", &place)?;
    at_most(op.outputs.len(), MAX_PORTS, "outputs", &place)?;
    at_most(op.resources.len(), MAX_PORTS, "resources", &place)?;
    at_most(op.tags.len(), MAX_PORTS, "tags", &place)?;
    distinct(op.inputs.iter().map(|input| input.name.as_str()), "input", &place)?;
    distinct(op.outputs.iter().map(|output| output.name.as_str()), "output", &place)?;
    distinct(op.resources.iter().map(|resource| resource.key.as_str()), "resource", &place)?;
    let config_schema = match op.config_schema {
        None => None,
        Some(schema) => Some(config_schema(&schema, &Place(format!("{}, config schema", place.0)))?),
    };
    let short = |text: &str| sanitize(text, 200);
    Ok(OpDefinition {
        name,
        description: text(op.description),
        inputs: op.inputs.into_iter().map(|port| input(port, &place)).collect::<Result<_, _>>()?,
        outputs: op.outputs.into_iter().map(|port| output(port, &place)).collect::<Result<_, _>>()?,
        resources: op.resources.iter().map(|asked| resource(asked, &place)).collect::<Result<_, _>>()?,
        uses_execution: op.uses_execution,
        config_schema,
        tags: op.tags.iter().map(|(key, value)| (short(key), short(value))).collect(),
        retry_policy: op.retry_policy.map(retry_policy),
        deterministic: op.deterministic,
    })
}

fn extension(extension: theirs::ExtensionDefinition, what: &str) -> Result<ExtensionDefinition, Failure> {
    let place = Place(format!("{what} '{}'", sanitize(&extension.name, 80)));
    let name = Name::new(&extension.name).map_err(|error| place.bad(error))?;
    at_most(extension.resources.len(), MAX_PORTS, "resources", &place)?;
    distinct(extension.resources.iter().map(|resource| resource.key.as_str()), "resource", &place)?;
    let config_schema = match extension.config_schema {
        None => None,
        Some(schema) => Some(config_schema(&schema, &Place(format!("{}, config schema", place.0)))?),
    };
    Ok(ExtensionDefinition {
        name,
        description: text(extension.description),
        resources: extension.resources.iter().map(|asked| resource(asked, &place)).collect::<Result<_, _>>()?,
        config_schema,
    })
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>, what: &str, place: &Place) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(place.of(what, name).bad("there are two of that name"));
        }
    }
    Ok(())
}

fn config_schema(schema: &str, place: &Place) -> Result<CanonicalJson, Failure> {
    at_most(schema.len(), MAX_JSON, "bytes", place)?;
    let schema = CanonicalJson::parse(schema).map_err(|error| place.bad(error))?;
    match schema.to_value() {
        Value::Object(_) | Value::Bool(_) => Ok(schema),
        _ => Err(place.bad("a JSON Schema is an object or a boolean")),
    }
}

fn type_name(name: &str, place: &Place) -> Result<TypeName, Failure> {
    TypeName::new(name).map_err(|error| place.bad(format!("its type: {error}")))
}

fn input(port: theirs::InputDefinition, op: &Place) -> Result<InputDefinition, Failure> {
    let place = op.of("input", &port.name);
    at_most(port.media_types.len(), MAX_MEDIA_TYPES, "media types", &place)?;
    let type_name = type_name(&port.type_name, &place)?;
    let media_types = if port.media_types.iter().any(|media_type| media_type == ANY_MEDIA_TYPE) {
        Vec::new()
    } else {
        let media_type = |text: &String| MediaType::new(text).map_err(|error| place.bad(error));
        port.media_types.iter().map(media_type).collect::<Result<_, _>>()?
    };
    let default_value = match port.default_value {
        None => None,
        Some(_) if port.many => return Err(place.bad("an input of many values has no default")),
        Some(default) => Some(default_value(&default, &type_name, &place)?),
    };
    Ok(InputDefinition {
        name: Name::new(&port.name).map_err(|error| place.bad(error))?,
        description: text(port.description),
        type_name,
        media_types,
        optional: port.optional,
        many: port.many,
        default_value,
    })
}

fn default_value(default: &str, type_name: &TypeName, place: &Place) -> Result<CanonicalJson, Failure> {
    at_most(default.len(), MAX_JSON, "bytes of default value", place)?;
    let default = CanonicalJson::parse(default).map_err(|error| place.bad(format!("its default: {error}")))?;
    match BaseType::from_name(type_name.as_str()) {
        Some(BaseType::Bytes | BaseType::Table | BaseType::Nothing) => {
            Err(place.bad(format!("an input of type '{type_name}' has no default: only 'json' and 'text' do")))
        }
        Some(BaseType::Text) if !default.as_str().starts_with('"') => {
            Err(place.bad("the default of a text is a JSON string"))
        }
        _ => Ok(default),
    }
}

fn output(port: theirs::OutputDefinition, op: &Place) -> Result<OutputDefinition, Failure> {
    let place = op.of("output", &port.name);
    Ok(OutputDefinition {
        name: Name::new(&port.name).map_err(|error| place.bad(error))?,
        description: text(port.description),
        type_name: type_name(&port.type_name, &place)?,
        media_type: MediaType::new(&port.media_type).map_err(|error| place.bad(error))?,
        optional: port.optional,
        dynamic: port.dynamic,
    })
}

fn resource(asked: &theirs::ResourceRequirement, op: &Place) -> Result<ResourceRequirement, Failure> {
    let place = op.of("resource", &asked.key);
    let through = Interface::from_import(&asked.through).ok_or_else(|| {
        let known: Vec<_> = Interface::ALL.into_iter().map(Interface::import).collect();
        let through = sanitize(&asked.through, 200);
        place.bad(format!("'{through}' is no interface of resources: there are {}", known.join(", ")))
    })?;
    let key = Name::new(&asked.key).map_err(|error| place.bad(error))?;
    Ok(ResourceRequirement { key, through, optional: asked.optional })
}

fn retry_policy(policy: theirs::RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        max_retries: policy.max_retries,
        delay: Duration::from_millis(policy.delay_ms.into()),
        backoff: match policy.backoff {
            theirs::Backoff::Constant => Backoff::Constant,
            theirs::Backoff::Linear => Backoff::Linear,
            theirs::Backoff::Exponential => Backoff::Exponential,
        },
        jitter: match policy.jitter {
            theirs::Jitter::None => Jitter::None,
            theirs::Jitter::Full => Jitter::Full,
            theirs::Jitter::PlusMinus => Jitter::PlusMinus,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opyard_model::digest::ComponentDigest;

    fn definition() -> theirs::OpDefinition {
        theirs::OpDefinition {
            name: "op".to_owned(),
            description: None,
            inputs: vec![theirs::InputDefinition {
                name: "rows".to_owned(),
                description: None,
                type_name: "json".to_owned(),
                media_types: vec!["application/json".to_owned()],
                optional: true,
                many: false,
                default_value: Some("[1]".to_owned()),
                attributes: Vec::new(),
            }],
            outputs: vec![theirs::OutputDefinition {
                name: "rows".to_owned(),
                description: None,
                type_name: "bytes".to_owned(),
                media_type: "text/csv".to_owned(),
                optional: false,
                dynamic: false,
                attributes: Vec::new(),
            }],
            resources: vec![theirs::ResourceRequirement {
                key: "raw".to_owned(),
                through: "opyard:resources/object-store@0.1.0".to_owned(),
                optional: false,
            }],
            uses_execution: false,
            config_schema: Some("{}".to_owned()),
            tags: Vec::new(),
            retry_policy: None,
            deterministic: true,
            attributes: Vec::new(),
        }
    }

    fn shipped(ops: Vec<theirs::OpDefinition>) -> Shipped {
        Shipped { ops, ..Shipped::default() }
    }

    fn checked(ops: Vec<theirs::OpDefinition>) -> Result<ComponentDescription, Failure> {
        let digest = ComponentDigest::from_bytes([0; 32]);
        check(&LoadedComponent { digest, size: 1, imports: Vec::new(), exports: Vec::new() }, shipped(ops))
    }

    #[test]
    fn a_good_description_passes() {
        let description = checked(vec![definition()]).unwrap();
        assert_eq!(description.op("op").unwrap().resources[0].through, Interface::ObjectStore);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        type Change = fn(&mut theirs::OpDefinition);
        let cases: &[(Change, &str)] = &[
            (|op| op.name = "a b".to_owned(), "op 'a b'"),
            (|op| op.inputs.push(op.inputs[0].clone()), "op 'op', input 'rows': there are two"),
            (|op| op.inputs[0].name = "\u{1b}".to_owned(), "op 'op', input '\\u{1b}'"),
            (|op| op.inputs[0].default_value = Some("{".to_owned()), "op 'op', input 'rows': its default"),
            (|op| op.inputs[0].many = true, "op 'op', input 'rows': an input of many"),
            (|op| op.outputs[0].media_type = "csv".to_owned(), "op 'op', output 'rows'"),
            (|op| op.outputs[0].type_name = String::new(), "op 'op', output 'rows': its type"),
            (|op| op.resources[0].through = "wasi:http".to_owned(), "op 'op', resource 'raw': 'wasi:http' is no"),
            (|op| op.config_schema = Some("[]".to_owned()), "op 'op', config schema: a JSON Schema"),
            (|op| op.config_schema = Some("[".repeat(100)), "op 'op', config schema: nested"),
            (|op| op.outputs = vec![op.outputs[0].clone(); 101], "op 'op': 101 outputs"),
        ];
        for (change, text) in cases {
            let mut op = definition();
            change(&mut op);
            let failure = checked(vec![op]).unwrap_err();
            assert_eq!(failure.code, Code::BadDescription);
            assert!(failure.description.starts_with(text), "{} / {text}", failure.description);
        }
        let twice = checked(vec![definition(), definition()]).unwrap_err();
        assert_eq!(twice.description, "the component, op 'op': there are two of that name");
    }
}
