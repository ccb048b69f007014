//! What can be set of a job: the configs of its steps, and the schemas that they obey.

use serde_json::{Map, Value, json};

use super::build::Planning;
use super::flatten::Builder;
use super::{Launch, build};
use crate::definitions::Definitions;
use crate::diagnostic::Diagnostics;
use crate::id::{Name, StepPath};
use crate::json::CanonicalJson;

/// A step whose op takes a config.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigurableStep {
    /// The step.
    pub path: StepPath,
    /// The component, by its name in the definitions.
    pub component: Name,
    /// The op.
    pub op: Name,
    /// The op's JSON Schema (2020-12). Guest-controlled.
    pub schema: CanonicalJson,
    /// Its config as a run would have it, defaults filled in; empty when it does not obey the schema as it stands.
    pub config: CanonicalJson,
}

/// The steps of a job that can be configured, in topological order, whatever else is wrong with the job.
///
/// # Errors
/// When there is no such job or environment.
pub fn configurable(
    definitions: &Definitions,
    launch: &Launch<'_>,
    planning: &Planning<'_>,
) -> Result<Vec<ConfigurableStep>, Diagnostics> {
    let (job, environment) = build::named(definitions, launch)?;
    let surroundings = build::Surroundings { definitions, environment: environment.map(|entry| &entry.value) };
    let mut builder = Builder::new(surroundings, planning, &job.value, launch.settings);
    builder.job();
    // A config that is missing something is why one asks.
    let (built, _) = builder.finish();
    let steps = built.steps.into_iter().filter_map(|step| {
        let op = planning.catalog.get(step.component_name.as_str())?.op(step.op.as_str())?;
        let schema = op.config_schema.clone()?;
        Some(ConfigurableStep {
            path: step.path,
            component: step.component_name,
            op: step.op,
            schema,
            config: step.config,
        })
    });
    Ok(steps.collect())
}

/// The JSON Schema (2020-12) of what `--config` may say of these steps. Each op's schema is a resource of its own, so that
/// its references stay its own.
#[must_use]
pub fn config_schema(job: &str, steps: &[ConfigurableStep]) -> Value {
    let properties: Map<_, _> = steps
        .iter()
        .map(|step| {
            let mut schema = step.schema.to_value();
            if let Value::Object(schema) = &mut schema {
                schema.remove("$schema");
                schema.insert("$id".into(), format!("urn:opyard:step:{}", step.path).into());
                // What a file says is laid over the definitions, which may have the rest.
                schema.remove("required");
            }
            (step.path.to_string(), schema)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("config of the job {job}"),
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}
