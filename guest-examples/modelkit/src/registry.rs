//! Models in a registry.

use opyard_guest::{Bytes, Failure, Json, ModelRegistry, info, op};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The file of a version that holds the model.
const FILE: &str = "model.json";

/// As what a model is published.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish {
    /// The name of the model.
    name: String,
    /// The alias that the new version gets.
    #[serde(default = "champion_alias")]
    alias: String,
}

/// Which version is loaded.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Champion {
    /// The name of the model.
    name: String,
    /// A number, an alias, or `latest`.
    #[serde(default = "champion_alias")]
    version: String,
}

fn champion_alias() -> String {
    "champion".to_owned()
}

/// A version of a model.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    name: String,
    version: u32,
    alias: String,
}

/// Registers a model as a new version, and makes an alias name it.
#[op]
pub(crate) fn publish(
    #[port(type = "json", media = "application/json")] model: Bytes,
    models: ModelRegistry,
    config: Publish,
) -> Result<Json<Version>, Failure> {
    let writer = models.register(&config.name, &json!({ "bytes": model.len() }))?;
    writer.put(FILE, &model)?;
    let registered = writer.commit()?;
    models.set_alias(&registered, &config.alias)?;
    info!(version = registered.version; "published {}", config.name);
    let version = registered.version;
    Ok(Json::new(Version { name: config.name, version, alias: config.alias }).with_metadata("version", version))
}

/// Loads a version of a model.
#[op(result(type = "json", media = "application/json"))]
pub(crate) fn champion(models: ModelRegistry, config: Champion) -> Result<Bytes, Failure> {
    let version = models.resolve(&config.name, &config.version)?;
    let bytes = models.read(&version, FILE)?;
    info!(version = version.version; "loaded {}", config.name);
    Ok(Bytes::new(bytes).with_metadata("version", version.version))
}
