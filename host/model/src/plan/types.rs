//! Types of the definitions: what they stand on, and how their values are checked.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::bind::overlaid;
use super::flatten::{Builder, Site};
use super::{BaseType, config};
use crate::component::{OutputDefinition, TypeName};
use crate::definitions::tree::Node;
use crate::definitions::{CheckDefinition, Named, TypeDefinition};
use crate::diagnostic::{Diagnostic, Place};
use crate::digest::ComponentDigest;
use crate::error::Code;
use crate::id::Name;
use crate::json::CanonicalJson;
use crate::limits::Limits;
use crate::schema::Schema;

/// What a value of a type has to be, beyond what the type stands on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum TypeCheck {
    /// Valid by a JSON Schema (2020-12). Checked by the host, of values of at most 16 MiB.
    Schema {
        /// The schema: local references and linear patterns only.
        schema: CanonicalJson,
    },
    /// Passed by a type checker of a component.
    Checker {
        /// The component, by the name in the definitions.
        component_name: Name,
        /// The component, by its bytes.
        component: ComponentDigest,
        /// The checker.
        checker: Name,
        /// What is wanted: checked against the checker's schema, defaults filled in; the very text that it is given.
        params: CanonicalJson,
        /// The limits of one check.
        limits: Box<Limits>,
    },
}

impl std::fmt::Display for TypeCheck {
    /// `component.checker`, or `JSON Schema`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Schema { .. } => f.write_str("JSON Schema"),
            Self::Checker { component_name, checker, .. } => write!(f, "{component_name}.{checker}"),
        }
    }
}

/// How values of a type are checked, while a plan is built.
#[derive(Clone)]
pub(super) enum Known {
    /// They are not.
    Free,
    /// By a schema, which literals are checked against at once.
    Schema(Rc<Schema>),
    /// When they are there.
    Later,
}

impl<'a> Builder<'a> {
    /// What a type of a port stands on. The check of its values becomes part of the plan.
    pub(super) fn base_type(&mut self, name: &TypeName, port: &str, site: &Site<'a>) -> Option<BaseType> {
        if let Some(base) = BaseType::from_name(name.as_str()) {
            return Some(base);
        }
        let definitions = self.surroundings.definitions;
        let Some(entry) = definitions.types.get(name.as_str()) else {
            let message = format!("the type `{name}` is not defined");
            // Said once, however many ports are of it; and a type that could not be read was said where it is.
            let is_told =
                definitions.types.knows(name.as_str()) || self.found.iter().any(|told| told.message == message);
            if !is_told {
                self.found.push(
                    Diagnostic::error(Code::UnknownType, message)
                        .at(&site.definition.body_place, format!("{port} of this op is of it"))
                        .help(format!("define what it stands on: `types: {{ {name}: {{ base: table }} }}`")),
                );
            }
            return None;
        };
        if !self.types.contains_key(name.as_str()) {
            let known = self.learn(entry);
            self.types.insert(entry.name.as_str(), known);
        }
        Some(entry.value.base)
    }

    /// The type of an output: the op's, or what the step makes of it.
    pub(super) fn output_type(&mut self, site: &Site<'a>, port: &OutputDefinition) -> (TypeName, BaseType) {
        let what = format!("the output `{}`", port.name);
        // An unknown type was said; any base will do for what comes after.
        let base = self.base_type(&port.type_name, &what, site).unwrap_or(BaseType::Bytes);
        let chosen = site.definition.types.iter().find(|(output, _)| output.value == port.name.as_str());
        let Some((_, chosen)) = chosen else { return (port.type_name.clone(), base) };
        let Some(finer) = self.base_type(&chosen.value, &what, site) else { return (port.type_name.clone(), base) };
        // Only what the op leaves open can be said more exactly.
        let is_open = port.type_name.as_str() == base.name();
        if !(is_open && finer == base) {
            self.found.push(
                Diagnostic::error(
                    Code::TypeMismatch,
                    format!("{what} of `{}` cannot be a `{}`", site.path, chosen.value),
                )
                .at(&chosen.place, format!("stands on `{}`", finer.name()))
                .at(&site.definition.body_place, format!("yields `{}`", port.type_name)),
            );
            return (port.type_name.clone(), base);
        }
        (chosen.value.clone(), base)
    }

    /// Makes the check of a type ready. What is wrong with it is said, once.
    fn learn(&mut self, entry: &'a Named<TypeDefinition>) -> Known {
        let (known, check) = match &entry.value.check {
            None => return Known::Free,
            Some(CheckDefinition::Schema(node)) => {
                let Some((compiled, schema)) = self.schema(entry, node) else { return Known::Later };
                (Known::Schema(compiled), TypeCheck::Schema { schema })
            }
            Some(CheckDefinition::Checker { component, checker, place, params }) => {
                let Some(check) = self.checker(component, checker, place, params) else { return Known::Later };
                (Known::Later, check)
            }
        };
        self.built.types.insert(entry.name.clone(), check);
        known
    }

    fn schema(&mut self, entry: &Named<TypeDefinition>, node: &Node) -> Option<(Rc<Schema>, CanonicalJson)> {
        let schema = match config::to_json(node) {
            Ok(schema) => schema,
            Err(problem) => {
                self.found.push(problem.diagnostic("this schema"));
                return None;
            }
        };
        match Schema::compile(&schema) {
            Ok(compiled) => Some((Rc::new(compiled), schema)),
            Err(problem) => {
                let message = format!("the schema of the type `{}` cannot be used", entry.name);
                self.found.push(Diagnostic::error(Code::BadSchema, message).at(&node.place, problem));
                None
            }
        }
    }

    fn checker(
        &mut self,
        component_name: &'a Name,
        checker: &Name,
        place: &'a Place,
        params: &Node,
    ) -> Option<TypeCheck> {
        // A component that could not be described was said.
        let component = self.planning.catalog.get(component_name.as_str())?;
        let full = format!("{component_name}.{checker}");
        let Some(definition) = component.type_checker(checker.as_str()) else {
            let message = format!("the component `{component_name}` ships no type checker `{checker}`");
            let problem = Diagnostic::error(Code::UnknownExtension, message).at(place, "unknown type checker");
            self.found.push(if component.op(checker.as_str()).is_some() {
                problem.help(format!("`{full}` is an op"))
            } else {
                problem.nearest(checker.as_str(), component.type_checkers.iter().map(|known| known.name.as_str()))
            });
            return None;
        };
        if let Some(needed) = definition.resources.first() {
            let message = format!("the type checker `{full}` asks for the resource `{}`", needed.key);
            self.found.push(
                Diagnostic::error(Code::NotSupported, message).at(place, "a type checker gets nothing but the value"),
            );
            return None;
        }
        let schema = match definition.config_schema.as_ref().map(Schema::compile).transpose() {
            Ok(schema) => schema,
            Err(problem) => {
                self.found.push(config::bad_schema(&full, place, &problem));
                return None;
            }
        };
        let params = config::check(schema.as_ref(), Some(params), &full, place, &mut self.found)?;
        let grants = &self.surroundings.definitions.grants;
        let layers = [None, Some(checker.as_str())]
            .map(|name| grants.iter().find(|grant| grant.component == *component_name && grant.op.as_deref() == name));
        let limits =
            overlaid(self.planning, layers.into_iter().flatten().map(|entry| &entry.limits), place, &mut self.found);
        Some(TypeCheck::Checker {
            component_name: component_name.clone(),
            component: component.digest,
            checker: checker.clone(),
            params,
            limits: Box::new(limits),
        })
    }

    /// Checks a value that is written in the definitions, if its type has a schema.
    pub(super) fn check_literal(&mut self, type_name: &TypeName, json: &CanonicalJson, node: &Node) {
        let Some(Known::Schema(schema)) = self.types.get(type_name.as_str()).cloned() else { return };
        let violations = match schema.check(&json.to_value()) {
            Ok(violations) => violations,
            Err(problem) => {
                let message = format!("the schema of the type `{type_name}` cannot be used: {problem}");
                self.found.push(Diagnostic::error(Code::BadSchema, message).at(&node.place, "to check this"));
                return;
            }
        };
        for violation in violations {
            let (value, key) = config::locate(node, &violation.pointer);
            let message = format!("this is not a `{type_name}`");
            let at = if violation.of_key { &key } else { &value };
            self.found.push(Diagnostic::error(Code::ValueInvalid, message).at(at, &violation.problem));
        }
    }
}
