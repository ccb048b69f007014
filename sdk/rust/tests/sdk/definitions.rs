//! The definition of an op follows from its signature.

use opyard_guest::definition::{Backoff, Jitter, OpDefinition};
use opyard_guest::schemars::JsonSchema;
use opyard_guest::serde::{Deserialize, Serialize};
use opyard_guest::{
    Bytes, Csv, Dynamic, Execution, Failure, HttpClient, Json, KeyValue, ModelRegistry, Nothing, ObjectStore, Op,
    Outputs, Reader, Secret, Text, Writer, op,
};

#[derive(Serialize, Deserialize)]
#[serde(crate = "opyard_guest::serde")]
struct Row {
    name: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "opyard_guest::serde", deny_unknown_fields)]
#[schemars(crate = "opyard_guest::schemars")]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Settings {
    seed: u32,
}

#[derive(Outputs)]
struct Parts {
    /// The first rows.
    #[port(type = "row_list")]
    head: Csv<Row>,
    #[port(name = "rest", media = "text/markdown")]
    tail: Option<Text>,
    done: Nothing,
}

/// Takes and gives one of everything.
///
/// At some length.
#[op(
    name = "everything",
    tags(team = "ecology", "a/b" = "c"),
    retry(max = 3, delay = "2s", backoff = exponential, jitter = plus_minus),
    deterministic = false
)]
#[expect(clippy::too_many_arguments, reason = "one of everything")]
fn all(
    /// The rows.
    #[port(type = "row_list", media("text/csv", "text/tab-separated-values"))]
    rows: Csv<Row>,
    more: Vec<Json<f64>>,
    note: Option<Text>,
    #[port(default = 42)] answer: Json<u32>,
    blob: Reader,
    after: Vec<Nothing>,
    raw: ObjectStore,
    cache: Option<ObjectStore>,
    counters: KeyValue,
    models: Option<ModelRegistry>,
    api: HttpClient,
    token: Option<Secret>,
    #[config] settings: Settings,
    execution: Execution,
    item: Dynamic<Bytes>,
    #[port(type = "json", media = "application/json")] log: Option<Writer>,
) -> Result<Parts, Failure> {
    drop((more, note, answer, blob, after, raw, cache, counters, models, settings, execution, item));
    drop((log, api, token));
    Ok(Parts { head: rows, tail: None, done: Nothing })
}

/// Has one output, under a name of its own.
#[op(result(name = "card", media = "text/markdown", doc = "The card."))]
fn single(text: Text) -> Option<Text> {
    Some(text)
}

#[op]
fn silent() {}

fn inputs(op: &OpDefinition) -> Vec<String> {
    let flag = |on: bool, name: &str| if on { format!(" {name}") } else { String::new() };
    let input = |input: &opyard_guest::definition::InputDefinition| {
        let (name, types, media) = (&input.name, &input.type_name, input.media_types.join("+"));
        let (optional, many) = (flag(input.optional, "optional"), flag(input.many, "many"));
        let default = input.default_value.as_ref().map_or_else(String::new, |value| format!(" = {value}"));
        format!("{name}: {types} [{media}]{optional}{many}{default}")
    };
    op.inputs.iter().map(input).collect()
}

fn outputs(op: &OpDefinition) -> Vec<String> {
    let flag = |on: bool, name: &str| if on { format!(" {name}") } else { String::new() };
    let output = |output: &opyard_guest::definition::OutputDefinition| {
        let (optional, dynamic) = (flag(output.optional, "optional"), flag(output.dynamic, "dynamic"));
        format!("{}: {} [{}]{optional}{dynamic}", output.name, output.type_name, output.media_type)
    };
    op.outputs.iter().map(output).collect()
}

#[test]
fn everything_follows_from_the_signature() {
    let op = <all as Op>::definition();
    assert_eq!((op.name.as_str(), <all as Op>::NAME), ("everything", "everything"));
    assert_eq!(op.description.as_deref(), Some("Takes and gives one of everything.\n\nAt some length."));
    assert_eq!(
        inputs(&op),
        [
            "rows: row_list [text/csv+text/tab-separated-values]",
            "more: json [application/json] many",
            "note: text [] optional",
            "answer: json [application/json] optional = 42",
            "blob: bytes []",
            "after: nothing [application/octet-stream] many",
        ]
    );
    assert_eq!(op.inputs[0].description.as_deref(), Some("The rows."));
    assert_eq!(
        outputs(&op),
        [
            "item: bytes [application/octet-stream] dynamic",
            "log: json [application/json] optional",
            "head: row_list [text/csv]",
            "rest: text [text/markdown] optional",
            "done: nothing [application/octet-stream]",
        ]
    );
    assert_eq!(op.outputs[2].description.as_deref(), Some("The first rows."));
    let resources: Vec<_> = op.resources.iter().map(|it| (it.key.as_str(), it.through.as_str(), it.optional)).collect();
    let through = "opyard:resources/object-store@0.1.0";
    let others = ["opyard:resources/key-value@0.1.0", "opyard:resources/model-registry@0.1.0"];
    let (http, secrets) = ("opyard:resources/http-client@0.1.0", "opyard:resources/secrets@0.1.0");
    let expected = [
        ("raw", through, false),
        ("cache", through, true),
        ("counters", others[0], false),
        ("models", others[1], true),
        ("api", http, false),
        ("token", secrets, true),
    ];
    assert_eq!(resources, expected);
    assert!(op.uses_execution && !op.deterministic);
    assert!(op.config_schema.is_some_and(|schema| schema.contains(r#""additionalProperties":false"#)));
    let tags: Vec<_> = op.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(tags, [("team", "ecology"), ("a/b", "c")]);
    let retry = op.retry_policy.expect("it was said");
    assert_eq!((retry.max_retries, retry.delay_ms), (3, 2000));
    assert!(matches!((retry.backoff, retry.jitter), (Backoff::Exponential, Jitter::PlusMinus)));
}

#[test]
fn little_is_said_of_an_op_that_does_little() {
    let op = <single as Op>::definition();
    assert_eq!(outputs(&op), ["card: text [text/markdown] optional"]);
    assert_eq!(op.outputs[0].description.as_deref(), Some("The card."));
    assert!(!op.uses_execution && op.deterministic && op.config_schema.is_none() && op.retry_policy.is_none());
    let op = <silent as Op>::definition();
    assert_eq!((op.description, op.inputs.len(), op.outputs.len()), (None, 0, 0));
}

#[test]
fn an_op_stays_a_function() {
    let card = single(Text::new("# Card").with_metadata("lines", 1)).expect("always some");
    assert_eq!((card.as_str(), card.metadata().len()), ("# Card", 1));
}
