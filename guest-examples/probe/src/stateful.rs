//! What outlives a step: values by name, models by version.

use opyard_guest::{Bytes, Failure, Json, KeyValue, ModelRegistry, op};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// What `count_up` counts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountUp {
    /// The name of the counter.
    name: String,
    /// How often it is counted up.
    #[serde(default = "once")]
    times: u32,
}

fn once() -> u32 {
    1
}

/// Counts up a counter that others count up too, and gives what it was then.
#[op]
pub(crate) fn count_up(state: KeyValue, config: CountUp) -> Result<Json<u64>, Failure> {
    let mut count = 0;
    for _ in 0..config.times {
        count = state.update(&config.name, |before: Option<u64>| before.unwrap_or(0) + 1)?;
    }
    Ok(Json::new(count))
}

/// What `keep` keeps.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keep {
    /// The name of the value.
    name: String,
    /// Its text, so many times.
    text: String,
    #[serde(default = "many")]
    times: usize,
}

fn many() -> usize {
    1
}

/// Puts a value, gets it back, lists it, tries to create it again and removes it; tells what came of each.
#[op]
pub(crate) fn keep(state: KeyValue, config: Keep) -> Json<Value> {
    let value = config.text.repeat(config.times);
    let put = state.put(&config.name, value.as_bytes());
    let got = state.get(&config.name).map(|value| value.map(|value| value.len()));
    let listed = state.names("").collect::<Result<Vec<_>, _>>();
    let created = state.compare_and_swap(&config.name, None, b"again");
    let stale = state.compare_and_swap(&config.name, Some("no revision"), b"again");
    let removed = state.remove(&config.name);
    let tell = |error: opyard_guest::resource::ResourceError| error.to_string();
    Json::new(json!({
        "put": put.map(|_| ()).map_err(tell),
        "got": got.map_err(tell),
        "listed": listed.map_err(tell),
        "created": created.map(|_| ()).map_err(tell),
        "stale": stale.map(|_| ()).map_err(tell),
        "removed": removed.map_err(tell),
    }))
}

/// Tells whether it was given a key-value.
#[op]
pub(crate) fn remembers(state: Option<KeyValue>) -> Json<bool> {
    Json::new(state.is_some())
}

/// What `register_model` registers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    /// The model.
    model: String,
    /// An alias for the new version.
    #[serde(default)]
    alias: Option<String>,
    /// Give the version up before it is whole.
    #[serde(default)]
    give_up: bool,
}

/// Registers its input as a file of a new version of a model, beside a readme, and gives the version.
#[op]
pub(crate) fn register_model(
    weights: Bytes,
    models: ModelRegistry,
    config: Register,
) -> Result<Json<Option<u32>>, Failure> {
    let writer = models.register(&config.model, &json!({ "rows": 3 }))?;
    writer.put("weights/part-0.bin", &weights)?;
    writer.put("README.md", b"# A model")?;
    if config.give_up {
        return Ok(Json::new(None));
    }
    let version = writer.commit()?;
    if let Some(alias) = &config.alias {
        models.set_alias(&version, alias)?;
    }
    Ok(Json::new(Some(version.version)))
}

/// Which version `load_model` loads.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// The model.
    model: String,
    /// A number, an alias, or `latest`.
    selector: String,
}

/// Loads a version of a model, and tells all that can be known of it.
#[op]
pub(crate) fn load_model(models: ModelRegistry, config: Load) -> Result<Json<Value>, Failure> {
    let version = models.resolve(&config.model, &config.selector)?;
    let mut files = Vec::new();
    for file in models.files(&version)? {
        let bytes = models.read(&version, &file.path)?;
        files.push(json!({ "path": file.path, "size": file.size, "text": String::from_utf8_lossy(&bytes) }));
    }
    Ok(Json::new(json!({
        "version": version.version,
        "aliases": version.aliases,
        "digest": version.digest,
        "metadata": serde_json::from_str::<Value>(&version.metadata)?,
        "files": files,
    })))
}
