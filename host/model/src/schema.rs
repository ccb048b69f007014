//! JSON Schema (2020-12), made safe to evaluate: of configs, where the schema is an op's, and of values, where it is the
//! definitions' and the value an op's.
//!
//! Hostile: either side. Nothing is fetched, patterns are linear, and evaluation is bounded: before a value is evaluated,
//! schema and value are walked together as an evaluator would, and what fans out or goes round is given up.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use crate::error::sanitize;
use crate::json::CanonicalJson;

/// Largest schema, in bytes.
const MAX_SCHEMA: usize = 256 << 10;
/// Most subschemas that are applied to one config, all in all.
const MAX_VISITS: usize = 50_000;
/// Most subschemas that are applied to one value of a step.
const MAX_VALUE_VISITS: usize = 5_000_000;
/// Deepest application of a subschema.
const MAX_DEPTH: usize = 128;
/// Most violations that are said of one config.
const MAX_VIOLATIONS: usize = 20;
/// Largest compiled pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Keywords whose value is a schema for the same value.
const IN_PLACE: [&str; 4] = ["not", "if", "then", "else"];
/// Keywords whose value is a list of schemas for the same value.
const IN_PLACE_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords whose value is a schema for every member of an object or item of an array.
const MEMBERS: [&str; 7] = [
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "contains",
    "unevaluatedItems",
    "contentSchema",
];

/// What is said of a key that a schema does not allow.
pub(crate) const UNKNOWN_KEY: &str = "not a key that the schema allows";

/// A schema that can be applied.
pub struct Schema {
    root: Value,
    validator: Validator,
}

/// Something in a value that its schema does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer of the value.
    pub pointer: String,
    /// The key is wrong, not the value.
    pub of_key: bool,
    /// What is wrong: a phrase of at most 300 bytes, which may quote the value (sanitised).
    pub problem: String,
    /// Keys that would be right in its place.
    pub known: Vec<String>,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schema")
    }
}

/// A key that a schema which lists properties does not list, and does not refuse either.
pub(crate) struct UnlistedKey {
    pub(crate) pointer: String,
    pub(crate) name: String,
    pub(crate) known: Vec<String>,
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// A phrase: what cannot be used.
    ///
    /// # Limits
    /// 256 KiB; patterns of at most 1 MiB once compiled; `$ref` only to a place in the schema.
    pub fn compile(schema: &CanonicalJson) -> Result<Self, String> {
        if schema.as_str().len() > MAX_SCHEMA {
            return Err(format!("it is larger than {MAX_SCHEMA} bytes"));
        }
        let mut root = schema.to_value();
        // The draft is fixed by the contract; `$id` would only move what `#` means.
        if let Value::Object(root) = &mut root {
            root.remove("$schema");
            root.remove("$id");
        }
        check_references(&root, &root)?;
        let mut visits = MAX_VISITS;
        expand_all(&root, &root, &mut visits)?;
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN);
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(patterns)
            .build(&root)
            .map_err(|error| sanitize(&error.to_string(), 300))?;
        Ok(Self { root, validator })
    }

    /// Inserts the defaults of properties that are absent, through `properties`, `items`, `allOf` and local `$ref`. Answers
    /// with the keys that nothing is said of.
    ///
    /// # Errors
    /// When the schema is too costly to apply to this config.
    pub(crate) fn fill_defaults(&self, config: &mut Value) -> Result<Vec<UnlistedKey>, &'static str> {
        let mut filling = Filling { root: &self.root, visits: MAX_VISITS, unlisted: Vec::new() };
        filling.fill(&[&self.root], config, String::new(), 0)?;
        let unlisted = filling.unlisted;
        let mut visits = MAX_VISITS;
        apply(&self.root, &self.root, config, &mut visits, 0)?;
        Ok(unlisted)
    }

    /// What a value of a step breaks, 20 things at most.
    ///
    /// # Errors
    /// When the schema is too costly to apply to this value.
    pub fn check(&self, value: &Value) -> Result<Vec<Violation>, &'static str> {
        let mut visits = MAX_VALUE_VISITS;
        apply(&self.root, &self.root, value, &mut visits, 0)?;
        Ok(self.violations(value))
    }

    /// What a config breaks. Only for one that [`fill_defaults`](Self::fill_defaults) let through.
    pub(crate) fn violations(&self, config: &Value) -> Vec<Violation> {
        let mut violations = Vec::new();
        for error in self.validator.iter_errors(config).take(MAX_VIOLATIONS) {
            let pointer = error.instance_path().as_str().to_owned();
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected }
                | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                    let known = self.properties_at(&pointer);
                    for key in unexpected {
                        let key_pointer = format!("{pointer}/{}", escape(key));
                        let problem = UNKNOWN_KEY.to_owned();
                        violations.push(Violation {
                            pointer: key_pointer,
                            of_key: true,
                            problem,
                            known: known.clone(),
                        });
                    }
                }
                ValidationErrorKind::Required { property } => {
                    let name = property.as_str().unwrap_or_default();
                    let problem = sanitize(&format!("`{name}` is missing"), 300);
                    violations.push(Violation { pointer, of_key: true, problem, known: Vec::new() });
                }
                _ => {
                    let problem = sanitize(&error.to_string(), 300);
                    violations.push(Violation { pointer, of_key: false, problem, known: Vec::new() });
                }
            }
        }
        violations
    }

    /// The properties that are listed for the object at a JSON pointer.
    fn properties_at(&self, pointer: &str) -> Vec<String> {
        let mut visits = MAX_VISITS;
        let mut layers = layers(&self.root, [&self.root], &mut visits).unwrap_or_default();
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            let next: Vec<_> = layers
                .iter()
                .filter_map(|layer| {
                    layer.get("properties").and_then(|p| p.get(&segment)).or_else(|| layer.get("items"))
                })
                .collect();
            layers = self::layers(&self.root, next, &mut visits).unwrap_or_default();
        }
        let lists = layers.iter().filter_map(|layer| layer.get("properties")?.as_object());
        lists.flat_map(Map::keys).cloned().collect()
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The schema that a local reference leads to.
fn referred<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Value> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(pointer)
}

/// Refuses references that lead out of the schema, or nowhere, and what would change what a reference means.
fn check_references(root: &Value, schema: &Value) -> Result<(), String> {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("$ref", Value::String(_)) if referred(root, schema).is_some() => {}
                    ("$ref", Value::String(target)) => {
                        return Err(sanitize(&format!("`$ref` to `{target}`, which is not in it"), 300));
                    }
                    (
                        "$dynamicRef" | "$recursiveRef" | "$id" | "$schema" | "$anchor" | "$dynamicAnchor",
                        Value::String(_),
                    ) => {
                        return Err(format!("`{key}` is not read; only `$ref` to a place in the schema is"));
                    }
                    _ => check_references(root, value)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_references(root, item)),
        _ => Ok(()),
    }
}

const TOO_COSTLY: &str = "it takes too long to apply";

fn spend(visits: &mut usize, depth: usize) -> Result<(), &'static str> {
    *visits = visits.checked_sub(1).ok_or(TOO_COSTLY)?;
    if depth > MAX_DEPTH { Err(TOO_COSTLY) } else { Ok(()) }
}

/// Subschemas that apply to the same value as `schema` does.
fn in_place<'s>(root: &'s Value, schema: &'s Value) -> impl Iterator<Item = &'s Value> {
    let lists = IN_PLACE_LISTS.iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    let single = IN_PLACE.iter().filter_map(|key| schema.get(key));
    let dependent = schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(Map::values);
    lists.chain(single).chain(dependent).chain(referred(root, schema))
}

/// [`expand`] of every schema in a schema, wherever it stands.
fn expand_all(root: &Value, schema: &Value, visits: &mut usize) -> Result<(), String> {
    match schema {
        Value::Object(map) => {
            expand(root, schema, visits, 0)?;
            map.values().try_for_each(|inner| expand_all(root, inner, visits))
        }
        Value::Array(items) => items.iter().try_for_each(|inner| expand_all(root, inner, visits)),
        _ => Ok(()),
    }
}

/// Walks what every value is asked at least: a schema that goes round, or fans out, without taking the value apart would
/// keep a compiler or evaluator busy for ever.
fn expand(root: &Value, schema: &Value, visits: &mut usize, depth: usize) -> Result<(), String> {
    spend(visits, depth)?;
    in_place(root, schema).try_for_each(|inner| expand(root, inner, visits, depth + 1))
}

/// Walks schema and value together as an evaluator does, to know the cost before it is paid.
fn apply(root: &Value, schema: &Value, value: &Value, visits: &mut usize, depth: usize) -> Result<(), &'static str> {
    spend(visits, depth)?;
    for inner in in_place(root, schema) {
        apply(root, inner, value, visits, depth + 1)?;
    }
    let all = |visits: &mut usize, inner: &Value| match value {
        Value::Object(map) => map.values().try_for_each(|item| apply(root, inner, item, visits, depth + 1)),
        Value::Array(items) => items.iter().try_for_each(|item| apply(root, inner, item, visits, depth + 1)),
        _ => Ok(()),
    };
    for inner in MEMBERS.iter().filter_map(|key| schema.get(key)) {
        all(visits, inner)?;
    }
    for inner in schema.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        all(visits, inner)?;
    }
    for inner in schema.get("prefixItems").and_then(Value::as_array).into_iter().flatten() {
        all(visits, inner)?;
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, inner) in properties.into_iter().flatten() {
        if let Some(item) = value.get(key) {
            apply(root, inner, item, visits, depth + 1)?;
        }
    }
    Ok(())
}

/// The schemas that hold for sure wherever `schemas` do: themselves, what they refer to, and all of `allOf`.
fn layers<'s>(
    root: &'s Value,
    schemas: impl IntoIterator<Item = &'s Value>,
    visits: &mut usize,
) -> Result<Vec<&'s Value>, &'static str> {
    let mut open: Vec<&Value> = schemas.into_iter().collect();
    let mut layers: Vec<&Value> = Vec::new();
    while let Some(schema) = open.pop() {
        spend(visits, 0)?;
        if layers.iter().any(|seen| std::ptr::eq(*seen, schema)) {
            continue;
        }
        layers.push(schema);
        open.extend(referred(root, schema));
        open.extend(schema.get("allOf").and_then(Value::as_array).into_iter().flatten());
    }
    Ok(layers)
}

struct Filling<'s> {
    root: &'s Value,
    visits: usize,
    unlisted: Vec<UnlistedKey>,
}

impl<'s> Filling<'s> {
    fn fill(
        &mut self,
        schemas: &[&'s Value],
        value: &mut Value,
        pointer: String,
        depth: usize,
    ) -> Result<(), &'static str> {
        spend(&mut self.visits, depth)?;
        let layers = layers(self.root, schemas.iter().copied(), &mut self.visits)?;
        match value {
            Value::Object(map) => {
                let mut properties: Map<String, Value> = Map::new();
                let mut schemas: std::collections::BTreeMap<&str, Vec<&'s Value>> = std::collections::BTreeMap::new();
                for (key, schema) in layers.iter().filter_map(|layer| layer.get("properties")?.as_object()).flatten() {
                    schemas.entry(key).or_default().push(schema);
                }
                for (key, schemas) in &schemas {
                    if !map.contains_key(*key) {
                        let layers = self::layers(self.root, schemas.iter().copied(), &mut self.visits)?;
                        if let Some(default) = layers.iter().find_map(|layer| layer.get("default")) {
                            properties.insert((*key).to_owned(), default.clone());
                        }
                    }
                }
                self.note_unlisted(&layers, map, &schemas, &pointer);
                map.append(&mut properties);
                for (key, schemas) in &schemas {
                    if let Some(item) = map.get_mut(*key) {
                        self.fill(schemas, item, format!("{pointer}/{}", escape(key)), depth + 1)?;
                    }
                }
            }
            Value::Array(items) => {
                let schemas: Vec<_> = layers.iter().filter_map(|layer| layer.get("items")).collect();
                for (index, item) in items.iter_mut().enumerate().filter(|_| !schemas.is_empty()) {
                    self.fill(&schemas, item, format!("{pointer}/{index}"), depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes keys that are most likely slips: the schema lists properties, and has no other way to speak of keys.
    fn note_unlisted(
        &mut self,
        layers: &[&Value],
        map: &Map<String, Value>,
        listed: &std::collections::BTreeMap<&str, Vec<&Value>>,
        pointer: &str,
    ) {
        const OTHER_WAYS: [&str; 11] = [
            "additionalProperties",
            "unevaluatedProperties",
            "patternProperties",
            "propertyNames",
            "anyOf",
            "oneOf",
            "not",
            "if",
            "dependentSchemas",
            "minProperties",
            "maxProperties",
        ];
        let speaks = layers.iter().any(|layer| OTHER_WAYS.iter().any(|key| layer.get(key).is_some()));
        if speaks || listed.is_empty() {
            return;
        }
        for name in map.keys().filter(|name| !listed.contains_key(name.as_str())) {
            let known = listed.keys().map(|name| (*name).to_owned()).collect();
            self.unlisted.push(UnlistedKey {
                pointer: format!("{pointer}/{}", escape(name)),
                name: name.clone(),
                known,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compile(schema: &Value) -> Result<Schema, String> {
        Schema::compile(&CanonicalJson::new(schema).unwrap())
    }

    #[test]
    fn defaults_are_filled_in_through_references() {
        let schema = compile(&json!({
            "type": "object",
            "properties": {
                "seed": { "type": "integer", "default": 7 },
                "tree": { "$ref": "#/$defs/tree", "default": {} },
                "list": { "type": "array", "items": { "$ref": "#/$defs/tree" } },
                "none": { "type": "string" },
            },
            "allOf": [ { "properties": { "extra": { "default": null } } } ],
            "$defs": { "tree": { "properties": { "depth": { "default": 3 }, "child": { "$ref": "#/$defs/tree" } } } },
        }))
        .unwrap();
        let mut config = json!({ "list": [ {}, { "depth": 1, "child": {} } ] });
        assert!(schema.fill_defaults(&mut config).unwrap().is_empty());
        assert_eq!(
            config,
            json!({ "seed": 7, "tree": { "depth": 3 }, "extra": null,
                    "list": [ { "depth": 3 }, { "depth": 1, "child": { "depth": 3 } } ] })
        );
    }

    #[test]
    fn hostile_schemas_are_refused() {
        let mut ladder = json!({ "$ref": "#/$defs/a0", "$defs": {} });
        for n in 0..60 {
            let next = format!("#/$defs/a{}", n + 1);
            ladder["$defs"][format!("a{n}")] = json!({ "allOf": [ { "$ref": next }, { "$ref": next } ] });
        }
        ladder["$defs"]["a60"] = json!(true);
        let defs = std::mem::take(&mut ladder["$defs"]);
        let below_a_property = json!({ "properties": { "x": { "$ref": "#/$defs/a0" } }, "$defs": defs.clone() });
        ladder["$defs"] = defs;
        for schema in [
            json!({ "$ref": "#" }),
            json!({ "allOf": [ { "$ref": "#" } ] }),
            ladder,
            below_a_property,
            json!({ "$ref": "https://example.com/schema.json" }),
            json!({ "$ref": "#/nowhere" }),
            json!({ "$dynamicRef": "#x" }),
            json!({ "properties": { "x": { "$id": "https://example.com" } } }),
            json!({ "pattern": "(?=a)b" }),
            json!({ "pattern": "(((a{1000}){1000}){1000})" }),
            json!({ "type": "no such type" }),
        ] {
            assert!(compile(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn linear_patterns_are_taken() {
        let schema = compile(&json!({ "properties": { "a": { "pattern": "^(a+)+$" } } })).unwrap();
        assert_eq!(schema.violations(&json!({ "a": format!("{}b", "a".repeat(50_000)) })).len(), 1);
    }
}
