//! How ops describe themselves to the host: the records of the contract.
//!
//! Of use to a type that implements [`Argument`](crate::port::Argument) or [`OutputField`](crate::port::OutputField) itself.

pub use crate::bindings::opyard::op::definitions::{
    Backoff, ExtensionDefinition, InputDefinition, Jitter, OpDefinition, OutputDefinition, ResourceRequirement,
    RetryPolicy,
};
use crate::port::Port;
use schemars::JsonSchema;

/// An op without ports, which the parameters and the result then fill in.
pub(crate) fn op(name: &str, description: &str) -> OpDefinition {
    OpDefinition {
        name: name.to_owned(),
        description: text(description),
        inputs: Vec::new(),
        outputs: Vec::new(),
        resources: Vec::new(),
        uses_execution: false,
        config_schema: None,
        tags: Vec::new(),
        retry_policy: None,
        deterministic: true,
        attributes: Vec::new(),
    }
}

/// An extension that takes no config and no resources.
#[must_use]
pub fn extension(name: &str, description: &str) -> ExtensionDefinition {
    ExtensionDefinition {
        name: name.to_owned(),
        description: text(description),
        resources: Vec::new(),
        config_schema: None,
        attributes: Vec::new(),
    }
}

/// An input port, single and required.
pub(crate) fn input(port: &Port, type_name: &str, media_types: &[&str]) -> InputDefinition {
    let media_types = if port.media_types.is_empty() { media_types } else { port.media_types };
    InputDefinition {
        name: port.name.to_owned(),
        description: text(port.description),
        type_name: port.type_name.unwrap_or(type_name).to_owned(),
        media_types: media_types.iter().map(|&media_type| media_type.to_owned()).collect(),
        optional: false,
        many: false,
        default_value: port.default.map(|default| default()),
        attributes: Vec::new(),
    }
}

/// An output port, single and required.
pub(crate) fn output(port: &Port, type_name: &str, media_type: &str) -> OutputDefinition {
    OutputDefinition {
        name: port.name.to_owned(),
        description: text(port.description),
        type_name: port.type_name.unwrap_or(type_name).to_owned(),
        media_type: (*port.media_types.first().unwrap_or(&media_type)).to_owned(),
        optional: false,
        dynamic: false,
        attributes: Vec::new(),
    }
}

/// The JSON Schema (2020-12) of a config type.
pub(crate) fn schema<T: JsonSchema>() -> String {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.into_generator().into_root_schema_for::<T>().to_value().to_string()
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_says_what_serde_accepts() {
        #[derive(serde::Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        struct Config {
            /// The share of rows.
            #[schemars(range(min = 0.0, max = 1.0))]
            fraction: f64,
            #[serde(default = "seven")]
            seed: u32,
        }
        fn seven() -> u32 {
            7
        }
        let schema: serde_json::Value = serde_json::from_str(&schema::<Config>()).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["fraction"]));
        assert_eq!(schema["properties"]["seed"]["default"], 7);
        assert_eq!(schema["properties"]["fraction"]["description"], "The share of rows.");
    }
}
