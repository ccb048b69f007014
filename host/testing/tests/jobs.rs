//! Jobs and ops of the examples, tested as their authors would.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use opyard_model::error::Code;
use opyard_testing::{Compiling, Fake, JobTest, OpOutcome, OpTests, TestError};
use serde_json::json;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-examples").canonicalize().unwrap()
}

// As docs/testing.md shows it; a test compares the two.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_good_enough() {
    let folder = examples().join("penguins");
    let rows = std::fs::read(folder.join("data/penguins.csv")).unwrap();
    let test = JobTest::load(folder.join("opyard.yaml"), "train").await.unwrap();
    let test = test.set("split.seed=8").unwrap().resource("raw", Fake::objects([("penguins.csv", rows)]));
    let run = test.run().await.unwrap();
    assert!(run.succeeded(), "{:?}", run.failures());
    assert!(run.json("eval.score.metrics").await.unwrap()["accuracy"].as_f64() > Some(0.9));
    assert_eq!(run.steps("asset_observation"), ["load"]);
}

#[test]
fn the_manual_shows_a_real_test() {
    let manual = include_str!("../../../docs/testing.md");
    let shown = manual.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(include_str!("jobs.rs").contains(shown), "docs/testing.md shows another test");
}

fn failure(error: TestError) -> (Code, String) {
    match error {
        TestError::Failed(failure) => (failure.code, failure.description),
        TestError::Definitions(found) => panic!("{found}"),
    }
}

const DEFINITIONS: &str = r#"opyard: 1
components: { probe: { path: "{probe}" } }
secrets: { key: { env: NO_SUCH_VARIABLE }, token: { file: no/such/file } }
resources:
  counts: { kind: key_value, driver: yard, bucket: counts, access: read_write }
  models: { kind: model_registry, driver: mlflow, url: "https://mlflow.example.com", access: read_write }
  places: { kind: object_store, url: "s3://no-such-bucket/x", access: read }
  api:
    kind: http_client
    origins: ["https://api.example.com"]
    headers: { authorization: { secret: key, prefix: "Bearer " } }
grants:
  probe.count_up: { resources: { state: counts } }
  probe.register_model: { resources: { models: models } }
  probe.load_model: { resources: { models: models } }
  probe.touch: { resources: { store: places } }
  probe.fetch: { resources: { api: api } }
  probe.reveal_secret: { reveal: { token: token } }
jobs:
  all:
    steps:
      text:     { op: probe.text, config: { text: weights } }
      count:    { op: probe.count_up, config: { name: visits, times: 2 } }
      register: { op: probe.register_model, inputs: { weights: text }, config: { model: species, alias: newest } }
      load:     { op: probe.load_model, config: { model: species, selector: newest }, after: [register] }
      touch:    { op: probe.touch, config: { path: a/b.txt, text: x } }
      fetch:    { op: probe.fetch, config: { url: "https://api.example.com/rows", must: true } }
      reveal:   { op: probe.reveal_secret, config: { aloud: true } }
"#;

/// One resource of each kind, none of which is there; and none of them is reached.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_resource_can_be_stood_in_for() {
    let folder = tempfile::tempdir().unwrap();
    let probe = examples().join("../target/guests/probe.wasm");
    let path = folder.path().join("opyard.yaml");
    std::fs::write(&path, DEFINITIONS.replace("{probe}", &probe.display().to_string())).unwrap();
    let test = JobTest::load(&path, "all").await.unwrap();
    let (code, told) = failure(test.run().await.err().unwrap());
    assert_eq!(code, Code::NotGranted, "{told}");

    let test = test
        .resource("counts", Fake::values([("visits", "40")]))
        .resource("models", Fake::models().model("species", &["newest"], [("old", "x")]))
        .resource("places", Fake::objects([("a/b.txt", "was there")]))
        .resource("api", Fake::answers().answer("get", "https://api.example.com/rows", 200, "3 rows"))
        .resource("token", Fake::secret("not-a-secret"));
    let (code, told) = failure(test.run().await.err().unwrap());
    assert!(code == Code::NotGranted && told.contains("the secret `key`"), "{told}");

    let test = test.resource("key", Fake::secret("no-key"));
    let run = test.run().await.unwrap();
    assert!(run.succeeded(), "{:?}", run.failures());
    assert_eq!(run.json("count.result").await.unwrap(), json!(42));
    assert_eq!(run.left_in("counts").await.unwrap(), json!({ "visits": 42 }));
    assert_eq!(run.json("register.result").await.unwrap(), json!(2));
    assert_eq!(run.json("load.result").await.unwrap()["version"], json!(2));
    let models = run.left_in("models").await.unwrap();
    assert_eq!((&models["species"][0]["aliases"], &models["species"][1]["aliases"]), (&json!([]), &json!(["newest"])));
    // The rights are those of the definitions: this one may only be read.
    let touched = run.json("touch.result").await.unwrap();
    assert!(touched["put"]["Err"].is_string() && touched["got"]["Ok"] == json!("was there"), "{touched}");
    assert_eq!(run.json("fetch.result").await.unwrap()["body"]["Ok"], json!("3 rows"));
    let asked = run.left_in("api").await.unwrap();
    assert_eq!(asked[0]["headers"]["authorization"], json!("(secret)"), "{asked}");
    assert_eq!(run.json("reveal.result").await.unwrap(), json!("not-a-secret"));
    assert!(run.output("reveal.resul").await.is_err_and(|error| failure(error).1.contains("reveal.result")));
    assert!(!folder.path().join(".opyard").exists(), "a test of a job makes no yard");
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_are_run_from_rust_too_and_say_the_same_each_time() {
    let tests = OpTests::load(&examples().join("probe/resources.test.yaml"), Compiling::default()).await.unwrap();
    for case in ["counts_on", "registers_the_next_version"] {
        let (first, again) = (tests.run(case).await.unwrap(), tests.run(case).await.unwrap());
        assert_eq!((&first.outcome, &first.events), (&OpOutcome::Success, &again.events));
        assert_eq!(first.outputs, again.outputs, "nothing is left of the run before");
    }
    assert!(tests.run("count_on").await.is_err());
}
