//! What right definitions become.

use std::time::Duration;

use opyard_model::component::Backoff;
use opyard_model::definitions::Setting;
use opyard_model::diagnostic::Source;
use opyard_model::http::{AddedHeader, HttpClientSpec};
use opyard_model::id::Name;
use opyard_model::plan::{
    Access, FailurePolicy, IoManagerSpec, KeyValueDriver, Memo, Plan, ResourceSpec, Source as From, StepIx,
};
use opyard_model::secret::SecretSpec;

use crate::{parse, plan};

const EXAMPLE: &str = include_str!("../example.yaml");

fn built(text: &str) -> Plan {
    let (plan, warnings) = plan(text, None, &[]).unwrap_or_else(|found| panic!("{found}"));
    assert!(warnings.is_empty(), "{warnings}");
    plan
}

fn shapes(steps: &str) -> String {
    format!("opyard: 1\ncomponents: {{ shapes: {{ path: s.wasm }} }}\njobs:\n  job:\n    steps:\n{steps}")
}

/// One line a step: path, config, sources, mapping, memo.
fn outline(plan: &Plan) -> String {
    let slot =
        |slot: &opyard_model::plan::OutputSlot| format!("{}.{}", plan.step(slot.step).path, plan.output(*slot).port);
    let source = |source: &From| match source {
        From::Unconnected => "-".to_owned(),
        From::Given { value, text, latest } => {
            let from = latest.as_ref().map(|latest| format!(", {} of {}", latest.step, latest.run)).unwrap_or_default();
            format!("{} {}{from}", value.media_type, text.clone().unwrap_or_else(|| value.artifact.digest.to_string()))
        }
        From::Outside { value } => format!("{} of {} as {}", value.locator, value.manager, value.media_type),
        From::Output { slot: from } => slot(from),
        From::Item { slot: from } => format!("item of {}", slot(from)),
        From::SameKey { slot: from } => format!("same key of {}", slot(from)),
        From::FanIn { slots } => format!("[{}]", slots.iter().map(slot).collect::<Vec<_>>().join(", ")),
        From::Collect { slot: from, depth: 0 } => format!("all of {}", slot(from)),
        From::Collect { slot: from, depth } => format!("all of {} at {depth}", slot(from)),
    };
    let mut out = String::new();
    for ix in plan.indices() {
        let step = plan.step(ix);
        let inputs: Vec<_> =
            step.inputs.iter().map(|input| format!("{}: {}", input.port, source(&input.source))).collect();
        let after: Vec<_> = step.after.iter().map(|ix| plan.step(*ix).path.to_string()).collect();
        let over = step.mapped_over.map(|over| format!(" over {}", slot(&over))).unwrap_or_default();
        let after = if after.is_empty() { String::new() } else { format!(" after [{}]", after.join(", ")) };
        out += &format!("{} {} ({}){over}{after} {:?}\n", step.path, step.config, inputs.join("; "), step.memo);
    }
    out
}

#[test]
fn the_example_becomes_a_plan() {
    let plan = built(EXAMPLE);
    insta::assert_snapshot!("example", outline(&plan));
    assert_eq!(plan.on_failure, FailurePolicy::GoOn);
    let load = plan.step(plan.find("load").unwrap());
    assert_eq!((load.limits.wall, load.limits.cpu), (Duration::from_secs(60), Duration::from_secs(30)));
    let retry = load.retry.as_ref().unwrap();
    assert_eq!((retry.max_retries, retry.delay, retry.backoff), (3, Duration::from_secs(2), Backoff::Exponential));
    assert_eq!(load.grants[0].access, Access::Read);
    assert!(!load.hermetic && plan.step(plan.find("split").unwrap()).hermetic);
    let card = &plan.step(plan.find("card").unwrap()).outputs[0];
    assert_eq!(card.io_manager.as_str(), "reports");
    assert!(
        matches!(&plan.io_managers[&card.io_manager], IoManagerSpec::ObjectStore { url, .. } if url.url == "file:///yard/reports")
    );
    let stored = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), plan);
}

#[test]
fn environments_override_key_by_key() {
    let (plan, _) = plan(EXAMPLE, Some("prod"), &[]).unwrap();
    let raw = plan.resources.values().next().unwrap().clone();
    let s3 = ResourceSpec::ObjectStore { url: "s3://acme-raw".into(), access: Access::Read, version: None };
    assert_eq!(raw, s3);
    assert_eq!(plan.environment.unwrap().as_str(), "prod");
}

/// Another driver takes over what belongs to none: an address or a bucket of the one before means nothing to it.
#[test]
fn environments_override_drivers() {
    let text = "
opyard: 1
components: { shapes: { path: shapes.wasm } }
resources:
  counters: { kind: key_value, driver: yard, bucket: shared, access: read_write, version: v1 }
  default:  { kind: key_value, driver: yard }
grants: { shapes.kept: { resources: { bucket: counters } } }
environments:
  same:  { resources: { counters: { bucket: other, access: read } } }
  prod:  { resources: { counters: { driver: object_store, url: \"s3://acme/counters/\" } } }
  named: { resources: { counters: { driver: yard } } }
jobs: { train: { steps: { kept: { op: shapes.kept } } } }
";
    let counters = |environment| {
        let (plan, _) = plan(text, environment, &[]).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(plan.steps[0].grants[0].access, plan.resources.values().next().unwrap().access());
        plan.resources.into_values().next().unwrap()
    };
    let bucket = |bucket: &str| KeyValueDriver::Yard { bucket: bucket.parse().unwrap() };
    let version = Some("v1".to_owned());
    let spec = |driver, access| ResourceSpec::KeyValue { driver, access, version: version.clone() };
    assert_eq!(counters(None), spec(bucket("shared"), Access::ReadWrite));
    assert_eq!(counters(Some("same")), spec(bucket("other"), Access::Read));
    assert_eq!(counters(Some("named")), spec(bucket("shared"), Access::ReadWrite));
    let objects = KeyValueDriver::ObjectStore { url: "s3://acme/counters".into() };
    assert_eq!(counters(Some("prod")), spec(objects, Access::ReadWrite));
    let unnamed = text.replace("{ bucket: counters }", "{ bucket: default }");
    let (plan, _) = plan(&unnamed, None, &[]).unwrap();
    let expected = ResourceSpec::KeyValue { driver: bucket("default"), access: Access::Read, version: None };
    assert_eq!(plan.resources.into_values().next().unwrap(), expected, "the bucket is named as the resource is");
}

#[test]
fn settings_are_laid_over_the_definitions() {
    let mut settings = Setting::from_file(&Source::new("c.yaml", "split: { seed: 8, test_fraction: 0.5 }\n")).unwrap();
    settings.push(Setting::parse("split.seed=9").unwrap());
    settings.push(Setting::parse("eval.score:threshold=1").unwrap());
    settings.push(Setting::parse("fit.forest.criterion=entropy").unwrap());
    let (plan, _) = plan(EXAMPLE, None, &settings).unwrap();
    let config = |path: &str| plan.step(plan.find(path).unwrap()).config.as_str().to_owned();
    assert_eq!(config("split"), r#"{"seed":9,"test_fraction":0.5}"#);
    assert_eq!(config("eval.score"), r#"{"threshold":1}"#);
    assert_eq!(config("fit"), r#"{"forest":{"criterion":"entropy","trees":10}}"#);
}

#[test]
fn every_way_to_feed_an_input() {
    let known = "1".repeat(64);
    let plan = built(&shapes(&format!(
        r#"
      total:   {{ op: shapes.sum, inputs: {{ items: {{ collect: squares }} }} }}
      squares: {{ op: shapes.square, inputs: {{ item: list }} }}
      list:    {{ op: shapes.list }}
      pairs:   {{ op: shapes.pair, inputs: {{ a: squares, b: list }} }}
      mixed:   {{ op: shapes.pair, inputs: {{ a: squares, b: total }} }}
      single:  {{ op: shapes.pair, inputs: {{ a: {{ value: {{ b: 1.0, a: [x] }} }} }} }}
      several: {{ op: shapes.sum, inputs: {{ items: [total, single] }} }}
      one:     {{ op: shapes.sum, inputs: {{ items: total }} }}
      every:   {{ op: shapes.sum, inputs: {{ items: {{ collect: list }} }} }}
      stored:  {{ op: shapes.square, inputs: {{ item: {{ artifact: "b3:{known}" }} }} }}
      hello:   {{ op: shapes.greet }}
      hi:      {{ op: shapes.greet, inputs: {{ name: {{ value: "$me" }}, data: {{ value: null }} }}, after: [stored, hello] }}
      signal:  {{ op: shapes.signal }}
      wait:    {{ op: shapes.wait, inputs: {{ signal: signal }} }}
"#
    )));
    insta::assert_snapshot!("feeds", outline(&plan));
}

#[test]
fn items_have_items() {
    let plan = built(&shapes(
        r#"
      list:    { op: shapes.list }
      lists:   { op: shapes.relist, inputs: { item: list } }
      deeper:  { op: shapes.relist, inputs: { item: lists } }
      square:  { op: shapes.square, inputs: { item: deeper } }
      aligned: { op: shapes.pair, inputs: { a: list, b: square } }
      again:   { op: shapes.pair, inputs: { a: lists, b: list } }
      inner:   { op: shapes.sum, inputs: { items: { collect: square } } }
      items:   { op: shapes.sum, inputs: { items: { collect: deeper } } }
      outer:   { op: shapes.sum, inputs: { items: { collect: inner } } }
      all:     { op: shapes.sum, inputs: { items: { collect: square, levels: all } } }
      each:    { op: shapes.pair, inputs: { a: outer, b: all } }
"#,
    ));
    insta::assert_snapshot!("items_of_items", outline(&plan));
    let depths: Vec<_> = plan.indices().map(|ix| (plan.step(ix).path.to_string(), plan.depth(ix))).collect();
    let depth = |name: &str| depths.iter().find(|(path, _)| path == name).unwrap().1;
    assert_eq!(
        ["list", "lists", "square", "inner", "items", "outer", "all", "each"].map(depth),
        [0, 1, 3, 2, 2, 1, 0, 1]
    );
}

#[test]
fn the_latest_of_another_job_is_given() {
    let plan = built(
        r#"
opyard: 1
components: { shapes: { path: s.wasm } }
graphs:
  squared:
    inputs: { x: }
    steps: { square: { op: shapes.square, inputs: { item: $x } } }
    outputs: { out: square }
jobs:
  compare:
    steps:
      before: { op: shapes.square, inputs: { item: { latest: { job: make, step: nest, output: out } } } }
      again: { op: shapes.pair, inputs: { a: { latest: { job: make, step: nest.square } }, b: { latest: { job: compare, step: again } } } }
  make:
    steps: { nest: { graph: squared, inputs: { x: { value: 2 } } } }
"#,
    );
    insta::assert_snapshot!("latest", outline(&plan));
}

#[test]
fn graphs_are_laid_flat() {
    let plan = built(
        r#"
opyard: 1
components: { shapes: { path: s.wasm } }
graphs:
  inner:
    inputs: { x: , y: { optional: true } }
    steps:
      p: { op: shapes.pair, inputs: { a: $x, b: $y } }
      q: { op: shapes.square, inputs: { item: p } }
    outputs: { out: q }
  outer:
    inputs: { x: }
    steps:
      first: { graph: inner, inputs: { x: $x } }
      second: { graph: inner, inputs: { x: first, y: { value: 3 } } }
    outputs: { out: second.out, early: first }
jobs:
  job:
    steps:
      before: { op: shapes.branch }
      list: { op: shapes.list }
      nest: { graph: outer, inputs: { x: list }, after: [before], tags: { a: b } }
      sum: { op: shapes.sum, inputs: { items: { collect: nest.out } } }
      last: { op: shapes.list, after: [nest] }
"#,
    );
    insta::assert_snapshot!("graphs", outline(&plan));
    assert_eq!(plan.step(StepIx(2)).tags["a"], "b");
}

#[test]
fn memo_is_kept_where_it_is_sound() {
    let text = |version: &str, memo: &str| {
        format!(
            r#"
opyard: 1
components: {{ shapes: {{ path: s.wasm }} }}
resources: {{ r: {{ kind: object_store, url: "memory:///"{version} }} }}
grants: {{ shapes.cached: {{ resources: {{ cache: r }} }} }}
jobs:
  job:
    steps:
      cached: {{ op: shapes.cached{memo} }}
      whoami: {{ op: shapes.whoami{memo} }}
      dice:   {{ op: shapes.dice{memo} }}
      list:   {{ op: shapes.list }}
"#
        )
    };
    let memos = |version: &str, memo: &str| -> Vec<Memo> {
        built(&text(version, memo)).steps.iter().map(|step| step.memo).collect()
    };
    let hour = Memo::For(Duration::from_secs(3600));
    assert_eq!(memos("", ""), [Memo::Off, Memo::Off, Memo::Off, Memo::Sound]);
    assert_eq!(memos(", version: v1", ""), [Memo::Sound, Memo::Off, Memo::Off, Memo::Sound]);
    assert_eq!(memos("", ", memo: { ttl: 1h }"), [hour, hour, hour, Memo::Sound]);
    assert_eq!(memos(", version: v1", ", memo: off"), [Memo::Off, Memo::Off, Memo::Off, Memo::Sound]);
}

#[test]
fn retries_come_from_the_step_the_op_or_the_job() {
    let text = |job: &str, step: &str| {
        shapes(&format!("      dice: {{ op: shapes.dice{step} }}\n      who: {{ op: shapes.whoami }}\n")) + job
    };
    let retries = |job: &str, step: &str| -> Vec<_> {
        built(&text(job, step)).steps.iter().map(|step| step.retry.as_ref().map(|retry| retry.max_retries)).collect()
    };
    assert_eq!(retries("", ""), [Some(2), None]);
    assert_eq!(retries("    retry: { max_retries: 5 }\n", ""), [Some(2), Some(5)]);
    assert_eq!(retries("    retry: {}\n", ", retry: { max_retries: 0 }"), [Some(0), Some(1)]);
}

#[test]
fn definitions_answer_what_is_in_them() {
    let definitions = parse(EXAMPLE).unwrap();
    let paths: Vec<_> = definitions.components().map(|(name, path)| (name.as_str(), path.to_string())).collect();
    assert_eq!(paths, [("penguins", "/yard/target/guests/penguins.wasm".to_owned())]);
    assert_eq!(definitions.components_of("train").len(), 1);
    assert_eq!(definitions.schedules().next().unwrap().1.timezone, "America/New_York");
    crate::with_planning(|planning| assert!(definitions.check(planning).unwrap().is_empty()));
}

#[test]
fn clients_and_secrets_are_names_and_places() {
    let text = r#"opyard: 1
components: { net: { path: net.wasm } }
secrets: { api_key: { env: ACME_API_KEY }, other_key: { env: OTHER }, db_token: { file: secrets/token } }
resources:
  api:
    kind: http_client
    origins: ["https://API.example.com", "https://*.acme.example:8443"]
    headers: { authorization: { secret: api_key, prefix: "Bearer " }, x-team: ecology }
    timeout: 5s
grants:
  net.fetch: { resources: { api: api } }
  net.login: { reveal: { token: db_token } }
jobs:
  train:
    steps: { fetch: { op: net.fetch }, login: { op: net.login }, may: { op: net.may_login } }
environments:
  prod:
    resources:
      api: { access: read_write, redirects: 0, version: "1", headers: { authorization: { secret: other_key } } }
"#;
    let (base, _) = plan(text, None, &[]).unwrap();
    let client = |plan: &Plan| match plan.resources.values().next() {
        Some(ResourceSpec::HttpClient(spec)) => HttpClientSpec::clone(spec),
        other => panic!("{other:?}"),
    };
    let spec = client(&base);
    let origins: Vec<_> = spec.origins.iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["https://api.example.com", "https://*.acme.example:8443"]);
    assert_eq!((spec.timeout, spec.redirects, spec.allow_private), (Duration::from_secs(5), 5, false));
    let secret = |plan: &Plan| match &client(plan).headers["authorization"] {
        AddedHeader::Secret { secret, from, prefix } => (secret.to_string(), from.clone(), prefix.clone()),
        AddedHeader::Text(text) => panic!("{text}"),
    };
    let bearer =
        |name: &str, variable: &str| (name.to_owned(), SecretSpec::Env(variable.to_owned()), "Bearer ".to_owned());
    assert_eq!(secret(&base), bearer("api_key", "ACME_API_KEY"));
    let step = |plan: &Plan, path: &str| plan.step(plan.find(path).unwrap()).clone();
    let fetch = step(&base, "fetch");
    assert_eq!((fetch.grants[0].access, fetch.memo, fetch.hermetic), (Access::Read, Memo::Off, false));
    let login = step(&base, "login");
    let token = ResourceSpec::Secret { from: SecretSpec::File("/yard/secrets/token".into()) };
    assert_eq!((base.granted(&login.grants[0]), login.memo), (Some(token), Memo::Off));
    assert_eq!(base.granted(&step(&base, "may").grants[0]), None);
    let needed: Vec<_> = base.secrets_needed().into_keys().map(Name::as_str).collect();
    assert_eq!(needed, ["api_key", "db_token"]);

    let (prod, _) = plan(text, Some("prod"), &[]).unwrap();
    assert_eq!(secret(&prod), bearer("other_key", "OTHER"));
    let fetch = step(&prod, "fetch");
    assert_eq!((fetch.grants[0].access, fetch.memo, client(&prod).redirects), (Access::ReadWrite, Memo::Sound, 0));
    assert_eq!(step(&prod, "login").memo, Memo::Off, "what a secret is, nobody can promise");
}
