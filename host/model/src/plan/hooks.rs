//! Hooks: from what is written to what is told whom.

use super::bind::{Who, overlaid};
use super::config;
use super::flatten::Builder;
use crate::definitions::{HookBody, HookDefinition};
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::hook::{ComponentHook, Hook, HookAction, HookIx};
use crate::id::Name;
use crate::limits::Limits;
use crate::schema::Schema;

/// How long a hook of a component may take unless the definitions say otherwise: the end of a run waits for it.
const TIME: std::time::Duration = std::time::Duration::from_secs(30);

impl<'a> Builder<'a> {
    /// The hooks of a job or a step in the table of the plan. One that stands in a graph is there once, however often the
    /// graph is used.
    pub(super) fn hooks(&mut self, definitions: &'a [HookDefinition]) -> Vec<HookIx> {
        let mut hooks = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let at = std::ptr::from_ref(definition);
            let known = match self.known_hooks.get(&at) {
                Some(known) => *known,
                None => {
                    let made = self.hook(definition).map(|hook| {
                        self.built.hooks.push(hook);
                        HookIx(u32::try_from(self.built.hooks.len() - 1).unwrap_or(u32::MAX))
                    });
                    self.known_hooks.insert(at, made);
                    made
                }
            };
            hooks.extend(known);
        }
        hooks
    }

    /// None: something is wrong with it, and was said.
    fn hook(&mut self, definition: &'a HookDefinition) -> Option<Hook> {
        let HookDefinition { on, body } = definition;
        let action = match body {
            HookBody::Webhook(webhook) => HookAction::Webhook(webhook.clone()),
            HookBody::Component { .. } => HookAction::Component(Box::new(self.component_hook(body)?)),
        };
        Some(Hook { on: *on, action })
    }

    fn component_hook(&mut self, body: &'a HookBody) -> Option<ComponentHook> {
        let HookBody::Component { component: component_name, hook, place, config } = body else { return None };
        // A component that could not be described was said.
        let component = self.planning.catalog.get(component_name.as_str())?;
        let full = format!("{component_name}.{hook}");
        let Some(known) = component.hook(hook.as_str()) else {
            let message = format!("the component `{component_name}` ships no hook `{hook}`");
            let problem = Diagnostic::error(Code::UnknownExtension, message).at(place, "unknown hook");
            self.found.push(if component.op(hook.as_str()).is_some() {
                problem.help(format!("`{full}` is an op"))
            } else {
                problem.nearest(hook.as_str(), component.hooks.iter().map(|known| known.name.as_str()))
            });
            return None;
        };
        let schema = match known.config_schema.as_ref().map(Schema::compile).transpose() {
            Ok(schema) => schema,
            Err(problem) => {
                self.found.push(config::bad_schema(&full, place, &problem));
                return None;
            }
        };
        let config = config::check(schema.as_ref(), config.as_ref(), &full, place, &mut self.found)?;
        let who = Who { what: "hook", component: component_name, name: known.name.as_str(), place };
        let grants: Vec<_> = known.resources.iter().filter_map(|needed| self.grant(&who, needed)).collect();
        let limits = self.hook_limits(&who);
        let hook = Name::clone(hook);
        let (component_name, component) = (component_name.clone(), component.digest);
        Some(ComponentHook { component_name, component, hook, config, grants, limits })
    }

    fn hook_limits(&mut self, who: &Who<'a>) -> Limits {
        let given = self.entries(who).map(|entry| entry.map(|entry| &entry.limits));
        let layers = given.into_iter().flatten();
        let is_given = layers.clone().any(|given| given.overrides.wall.is_some());
        let mut limits = overlaid(self.planning, layers, who.place, &mut self.found);
        if !is_given {
            limits.wall = limits.wall.min(TIME);
        }
        limits
    }
}
