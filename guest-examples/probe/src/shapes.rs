//! Optional, dynamic and collected ports; resources.

use opyard_guest::resource::PutMode;
use opyard_guest::{Bytes, Context, Dynamic, Failure, Json, ObjectStore, Outputs, Reader, Text, op};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Whether `maybe` yields.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Yields {
    /// Whether the output is yielded.
    #[serde(default)]
    yields: bool,
}

/// Yields its output, or does not.
#[op]
pub(crate) fn maybe(value: Option<Bytes>, config: Yields) -> Option<Bytes> {
    config.yields.then(|| Bytes::new(value.map(Bytes::into_inner).unwrap_or_default()))
}

/// Which way to go.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Way {
    Left,
    Right,
}

/// Which way `branch` goes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Branch {
    way: Way,
}

/// Exactly one of the two.
#[derive(Outputs)]
pub(crate) struct Branches {
    left: Option<Text>,
    right: Option<Text>,
}

/// Yields one of two outputs, as its config says.
#[op]
pub(crate) fn branch(config: Branch) -> Branches {
    match config.way {
        Way::Left => Branches { left: Some(Text::new("left")), right: None },
        Way::Right => Branches { left: None, right: Some(Text::new("right")) },
    }
}

/// How many items `fan` yields.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fan {
    /// Number of items.
    items: u32,
    /// Fail after this many items.
    #[serde(default)]
    fail_after: Option<u32>,
}

/// Yields items `item-0`, `item-1` and so on, each its number.
#[op]
pub(crate) fn fan(config: Fan, item: Dynamic<Json<u32>>) -> Result<(), Failure> {
    for number in 0..config.items {
        if config.fail_after == Some(number) {
            opyard_guest::fail!("failed after {number} items, as asked");
        }
        item.emit(&format!("item-{number}"), Json::new(number))?;
    }
    Ok(())
}

/// Doubles a number; what is mapped over the items of `fan`.
#[op]
pub(crate) fn item(value: Json<f64>) -> Json<f64> {
    Json::new(*value * 2.0)
}

/// Joins any number of texts with a comma, in order.
#[op]
pub(crate) fn join(parts: Vec<Text>) -> Text {
    let parts: Vec<_> = parts.iter().map(|part| part.as_str()).collect();
    Text::new(parts.join(","))
}

/// Gives the number of its input, or 42 when it is not connected.
#[op]
pub(crate) fn fallback(#[port(default = 42)] value: Json<f64>) -> Json<f64> {
    Json::new(*value)
}

/// What a reader tells about a value.
#[derive(Serialize)]
pub(crate) struct Told {
    type_name: String,
    media_type: String,
    size: u64,
    mapping_key: Option<String>,
    metadata: Vec<String>,
}

/// Tells what can be known of each of its inputs without reading them, and the step's own mapping key and partition.
#[op]
pub(crate) fn probe_many(values: Vec<Reader>) -> Json<Value> {
    let told = |reader: &Reader| Told {
        type_name: reader.type_name(),
        media_type: reader.media_type(),
        size: reader.size(),
        mapping_key: reader.mapping_key(),
        metadata: reader.metadata().into_iter().map(|entry| entry.label).collect(),
    };
    let values: Vec<_> = values.iter().map(told).collect();
    let partition = opyard_guest::context::partition().map(|partition| partition.key);
    Json::new(json!({ "values": values, "mapping_key": opyard_guest::context::mapping_key(), "partition": partition }))
}

/// Reads its input twice through fresh readers, and once from its middle, and says whether all agree.
#[op]
pub(crate) fn reads_twice(value: Reader) -> Result<Json<bool>, Failure> {
    use opyard_guest::bindings::opyard::op::io;
    let again = || io::input("value").ok().flatten().context("no second reader");
    let (first, second) = (value, again()?);
    let whole = second.read(1 << 20).ok().context("the second reader does not read")?;
    let middle = u64::try_from(whole.len() / 2)?;
    let tail = first.read_at(middle, 1 << 20)?;
    let loaded = io::load("value").ok().flatten().context("load does not load")?;
    Ok(Json::new(loaded == whole && whole.ends_with(&tail) && tail.len() as u64 == whole.len() as u64 - middle))
}

/// Stores its input by the short way.
#[op]
pub(crate) fn stored(value: Bytes, result: Option<opyard_guest::Writer>) -> Result<(), Failure> {
    // Drops the writer: what it started leaves nothing behind, and the short way is free to be the first commit.
    drop(result);
    opyard_guest::bindings::opyard::op::io::store("result", &value)
        .map_err(|error| Failure::new(format!("store: {error:?}")))
}

/// Which object `touch` writes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Touch {
    /// The path of the object.
    path: String,
    /// Its text.
    #[serde(default)]
    text: String,
}

/// Puts an object, gets it back, lists its folder and tries to create it again; tells what came of each.
#[op]
pub(crate) fn touch(store: ObjectStore, config: Touch) -> Json<Value> {
    let put = store.put(&config.path, PutMode::Overwrite, config.text.as_bytes());
    let got = store.read(&config.path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let folder = config.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let listed = store.list(folder).map(|meta| meta.map(|meta| meta.path)).collect::<Result<Vec<_>, _>>();
    let created = store.put(&config.path, PutMode::Create, b"again");
    let tell = |error: opyard_guest::resource::ResourceError| error.to_string();
    Json::new(json!({
        "put": put.map(|meta| meta.size).map_err(tell),
        "got": got.map_err(tell),
        "listed": listed.map_err(tell),
        "created": created.map(|meta| meta.size).map_err(tell),
    }))
}

/// How often `opens` opens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Opens {
    /// Times, beside the first.
    times: u32,
}

/// Opens what it was given before, again and again; tells how often that went well.
#[op]
pub(crate) fn opens(store: ObjectStore, config: Opens) -> Json<usize> {
    let _held = store;
    let open = || opyard_guest::bindings::opyard::resources::object_store::open("store");
    Json::new((0..config.times).filter(|_| open().is_ok()).count())
}

/// Lists a store that it may not have been given.
#[op]
pub(crate) fn listed(store: Option<ObjectStore>) -> Result<Json<Option<Vec<String>>>, Failure> {
    let paths =
        |store: ObjectStore| store.list("").map(|meta| meta.map(|meta| meta.path)).collect::<Result<Vec<_>, _>>();
    Ok(Json::new(store.map(paths).transpose()?))
}
