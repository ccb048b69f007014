//! IO managers: what keeps outputs beside the artifact store, and what loads inputs that are nowhere else.

use serde::{Deserialize, Serialize};

use super::bind::{Who, overlaid};
use super::flatten::Builder;
use super::{BaseType, Grant, config};
use crate::component::TypeName;
use crate::definitions::IoManagerDefinition;
use crate::definitions::tree::Node;
use crate::diagnostic::{Diagnostic, Place};
use crate::digest::ComponentDigest;
use crate::error::Code;
use crate::id::{MediaType, Name};
use crate::json::CanonicalJson;
use crate::limits::Limits;
use crate::location::Location;
use crate::schema::Schema;

/// An IO manager of the definitions, in the environment of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum IoManagerSpec {
    /// The yard's artifact store: content-addressed, memoised. Keeps nothing else.
    Artifacts,
    /// Readable files in an object store, beside the artifact.
    ObjectStore {
        /// Where.
        url: Location,
        /// The path of each value below `url`, with `{job}`, `{run}`, `{step}`, `{output}`, `{key}`.
        path: String,
    },
    /// Runs of an experiment on an MLflow server, beside the artifact: each value with its numbers as metrics.
    Mlflow {
        /// The server.
        url: Location,
        /// The experiment.
        experiment: String,
        /// Every value becomes a version of this model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<Name>,
    },
    /// A manager that a component ships.
    Component(Box<ComponentManager>),
}

/// An IO manager of a component, and what it may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentManager {
    /// The component, by the name in the definitions.
    pub component_name: Name,
    /// The component, by its bytes.
    pub component: ComponentDigest,
    /// The manager, by its name in the component.
    pub manager: Name,
    /// Its config: checked, defaults filled in; the very text that it is given.
    pub config: CanonicalJson,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// The limits of one call.
    pub limits: Limits,
}

impl IoManagerSpec {
    /// Where it keeps things; none of one that says nothing of it.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::ObjectStore { url, .. } | Self::Mlflow { url, .. } => Some(url),
            Self::Artifacts | Self::Component(_) => None,
        }
    }

    /// What it may use: nothing, but for one of a component.
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        match self {
            Self::Component(manager) => &manager.grants,
            Self::Artifacts | Self::ObjectStore { .. } | Self::Mlflow { .. } => &[],
        }
    }
}

/// A value whose only copy is outside: what it is taken for, and how its manager finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideValue {
    /// The IO manager, a name of [`Plan::io_managers`](super::Plan::io_managers).
    pub manager: Name,
    /// How it finds the value.
    pub locator: CanonicalJson,
    /// What the value means.
    pub type_name: TypeName,
    /// The base of the type.
    pub base: BaseType,
    /// How its bytes are laid out.
    pub media_type: MediaType,
}

impl<'a> Builder<'a> {
    /// Makes the IO manager `name` part of the plan. A name that leads nowhere, and what is wrong with a manager, is said
    /// once.
    pub(super) fn use_manager(&mut self, name: &'a Name) {
        if !self.managers.insert(name) {
            return;
        }
        let spec = match self.surroundings.io_manager(name.as_str()) {
            None => return,
            Some(IoManagerDefinition::BuiltIn(spec)) => spec.clone(),
            Some(IoManagerDefinition::Component { component, manager, place, config }) => {
                let Some(manager) = self.component_manager(component, manager, place, config.as_ref()) else { return };
                IoManagerSpec::Component(Box::new(manager))
            }
        };
        self.built.io_managers.insert(name.clone(), spec);
    }

    fn component_manager(
        &mut self,
        component_name: &'a Name,
        manager: &'a Name,
        place: &'a Place,
        config: Option<&Node>,
    ) -> Option<ComponentManager> {
        // A component that could not be described was said.
        let component = self.planning.catalog.get(component_name.as_str())?;
        let who = Who { what: "IO manager", component: component_name, name: manager.as_str(), place };
        let Some(definition) = component.io_manager(manager.as_str()) else {
            let message = format!("the component `{component_name}` ships no IO manager `{manager}`");
            let problem = Diagnostic::error(Code::UnknownExtension, message).at(place, "unknown IO manager");
            self.found.push(if component.op(manager.as_str()).is_some() {
                problem.help(format!("`{}` is an op", who.full()))
            } else {
                problem.nearest(manager.as_str(), component.io_managers.iter().map(|known| known.name.as_str()))
            });
            return None;
        };
        let schema = match definition.config_schema.as_ref().map(Schema::compile).transpose() {
            Ok(schema) => schema,
            Err(problem) => {
                self.found.push(config::bad_schema(&who.full(), place, &problem));
                return None;
            }
        };
        let config = config::check(schema.as_ref(), config, &who.full(), place, &mut self.found);
        let grants = definition.resources.iter().filter_map(|needed| self.grant(&who, needed)).collect();
        let layers = self.entries(&who).into_iter().flatten().map(|entry| &entry.limits);
        let limits = overlaid(self.planning, layers, place, &mut self.found);
        Some(ComponentManager {
            component_name: component_name.clone(),
            component: component.digest,
            manager: manager.clone(),
            config: config?,
            grants,
            limits,
        })
    }
}
