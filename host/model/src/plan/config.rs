//! The config of a step: merged from definitions and settings, defaults filled in, checked against the op's schema, and
//! written in the one form that the guest is given.

use serde_json::{Map, Number, Value as Json};

use crate::definitions::tree::{Node, Value};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::error::Code;
use crate::json::{CanonicalJson, MAX_INTEGER};
use crate::schema::{Schema, UNKNOWN_KEY};

/// Why a part of a file is not JSON.
#[derive(Debug)]
pub(crate) struct NotJson {
    place: Place,
    problem: &'static str,
}

impl NotJson {
    pub(crate) fn diagnostic(&self, what: &str) -> Diagnostic {
        Diagnostic::error(Code::BadQuantity, format!("{what} cannot be said in JSON")).at(&self.place, self.problem)
    }
}

/// The canonical JSON of a part of a file.
pub(crate) fn to_json(node: &Node) -> Result<CanonicalJson, NotJson> {
    // What `value` lets through has no other way to fail: the depth of a file is below that of JSON.
    CanonicalJson::new(&value(node)?).map_err(|_| NotJson { place: node.place.clone(), problem: "nested too deep" })
}

fn value(node: &Node) -> Result<Json, NotJson> {
    let wrong = |problem| NotJson { place: node.place.clone(), problem };
    Ok(match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) if value.unsigned_abs() > MAX_INTEGER.into() => {
            return Err(wrong("beyond 2^53: quote it, or round it"));
        }
        Value::Int(value) => Json::Number(
            i64::try_from(*value).map(Number::from).map_err(|_| wrong("beyond 2^53: quote it, or round it"))?,
        ),
        Value::Float(value) => {
            Json::Number(Number::from_f64(*value).ok_or_else(|| wrong("neither infinity nor NaN are numbers of JSON"))?)
        }
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(value).collect::<Result<_, _>>()?),
        Value::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, item)| Ok((key.text.clone(), value(item)?)))
                .collect::<Result<Map<_, _>, NotJson>>()?,
        ),
    })
}

/// Checks the config of one step against its op's schema.
///
/// `node` is what was given, `home` the place to point at when something is missing from a step that gives no config.
/// None: something is wrong, and was said.
pub(super) fn check(
    schema: Option<&Schema>,
    node: Option<&Node>,
    step: &str,
    home: &Place,
    found: &mut Diagnostics,
) -> Option<CanonicalJson> {
    let given = match node.map(value).transpose() {
        Ok(given) => given.unwrap_or(Json::Null),
        Err(error) => {
            found.push(error.diagnostic("this config"));
            return None;
        }
    };
    let Some(schema) = schema else {
        return match node.filter(|_| given.as_object().is_some_and(|given| !given.is_empty())) {
            Some(node) => {
                found.push(
                    Diagnostic::error(Code::ConfigInvalid, format!("`{step}` takes no config"))
                        .at(&node.place, "remove this")
                        .at(home, "this op"),
                );
                None
            }
            None => Some(CanonicalJson::empty_object()),
        };
    };
    let mut config = if given.is_null() { Json::Object(Map::new()) } else { given };
    let place = |pointer: &str| match node {
        Some(node) => locate(node, pointer),
        None => (home.clone(), home.clone()),
    };
    let unknown = match schema.fill_defaults(&mut config) {
        Ok(unknown) => unknown,
        Err(problem) => {
            found.push(bad_schema(step, home, problem));
            return None;
        }
    };
    for key in unknown {
        let (_, at) = place(&key.pointer);
        found.push(
            Diagnostic::warning(Code::ConfigInvalid, format!("the schema of `{step}` says nothing of `{}`", key.name))
                .at(&at, "not a key of this config")
                .nearest(&key.name, key.known.iter().map(String::as_str)),
        );
    }
    let before = found.iter().count();
    for violation in schema.violations(&config) {
        let (value_place, key_place) = place(&violation.pointer);
        let at = if violation.of_key { &key_place } else { &value_place };
        let problem = if violation.problem == UNKNOWN_KEY { "not a key of this config" } else { &violation.problem };
        let mut diagnostic =
            Diagnostic::error(Code::ConfigInvalid, format!("the config of `{step}` breaks its schema")).at(at, problem);
        if !violation.known.is_empty() {
            let name = violation.pointer.rsplit('/').next().unwrap_or_default();
            diagnostic = diagnostic.nearest(name, violation.known.iter().map(String::as_str));
        }
        found.push(diagnostic);
    }
    if found.iter().count() > before {
        return None;
    }
    match CanonicalJson::new(&config) {
        Ok(config) => Some(config),
        // Only a default of the op's own schema can do so: what was given is within the bounds.
        Err(error) => {
            found.push(bad_schema(step, home, &format!("a default is {error}")));
            None
        }
    }
}

pub(super) fn bad_schema(step: &str, home: &Place, problem: &str) -> Diagnostic {
    Diagnostic::error(
        Code::BadDescription,
        format!("the config schema of the op of `{step}` cannot be used: {problem}"),
    )
    .at(home, "this op")
    .help("the author of the component has to mend the schema")
}

/// Places of the value at a JSON pointer, and of its key. What was not written (a default, something missing) is shown
/// at the nearest thing around it that was.
pub(super) fn locate(node: &Node, pointer: &str) -> (Place, Place) {
    let mut value = node;
    let mut key = &node.place;
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let next = match &value.value {
            Value::Map(entries) => {
                entries.iter().find(|(key, _)| key.text == segment).map(|(key, item)| (&key.place, item))
            }
            Value::List(items) => {
                segment.parse::<usize>().ok().and_then(|index| items.get(index)).map(|item| (&item.place, item))
            }
            _ => None,
        };
        let Some((key_place, item)) = next else { break };
        (key, value) = (key_place, item);
    }
    (value.place.clone(), key.clone())
}
