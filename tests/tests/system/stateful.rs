//! What outlives a run: key-values and models, here, and elsewhere in another environment.

use opyard_server::model::id::TenantId;
use opyard_server::{Yard, YardSettings};
use serde_json::{Value, json};

use crate::harness::{Project, runtime, set};

/// A job that counts its runs, and registers a model and loads it again. Which counter, and which registry, the environment
/// says: the graph does not.
const DEFINITIONS: &str = "opyard: 1
components:
  probe: { path: \"{{probe}}\" }
resources:
  state:  { kind: key_value, driver: yard, access: read_write }
  models: { kind: model_registry, driver: object_store, url: \"file:./models\", access: read_write }
environments:
  test: { resources: { state: { bucket: tests } } }
  prod: { resources: { state:  { driver: object_store, url: \"memory:///\" },
                       models: { url: \"file:./production\" } } }
grants:
  probe.count_up:       { resources: { state: state } }
  probe.register_model: { resources: { models: models } }
  probe.load_model:     { resources: { models: { resource: models, access: read } } }
jobs:
  work:
    steps:
      count: { op: probe.count_up, config: { name: runs } }
      fit:   { op: probe.const, config: { value: [1, 2, 3] } }
      keep:  { op: probe.register_model, config: { model: iris, alias: champion }, inputs: { weights: fit } }
      load:  { op: probe.load_model, config: { model: iris, selector: champion }, after: [keep] }
";

/// Runs the job, and tells the count and the version that was loaded.
fn run(project: &Project, environment: &str) -> (Value, Value) {
    project.expect(&["run", "work", "-e", environment], 0);
    assert!(
        project.last_run().steps("step_start").is_superset(&set(&["count", "keep", "load"])),
        "never from the memo"
    );
    let told = |output| serde_json::from_str::<Value>(&project.expect(&["cat", "latest", output], 0).0).unwrap();
    (told("count"), told("load"))
}

#[test]
fn an_environment_says_where_state_is() {
    let project = Project::new(DEFINITIONS);
    let version = |told: &Value| (told["version"].clone(), told["files"][1]["text"].clone());
    for number in [1, 2] {
        let (count, loaded) = run(&project, "test");
        assert_eq!((count, version(&loaded)), (json!(number), (json!(number), json!("[1,2,3]"))), "the second goes on");
        assert_eq!(loaded["aliases"], json!(["champion"]));
    }
    for number in [1, 2] {
        // Memory is new with each process; the other folder is not.
        let (count, loaded) = run(&project, "prod");
        assert_eq!((count, version(&loaded)), (json!(1), (json!(number), json!("[1,2,3]"))));
    }
    assert!(project.path().join("models/iris/versions/0000000002.json").is_file());
    assert!(project.path().join("production/iris/versions/0000000002.json").is_file());
    // Without an environment it is the bucket of the resource's own name.
    project.expect(&["run", "work"], 0);
    assert_eq!(project.expect(&["cat", "latest", "count"], 0).0.trim(), "1");
    // A copy of the yard has the counters, and cleaning up leaves them alone.
    project.expect(&["gc", "--keep-runs", "0"], 0);
    assert_eq!(run(&project, "test").0, json!(3));
}

/// The same graph keeps its models in a folder in one environment, and on a server in the other.
#[test]
#[ignore = "needs a server: set OPYARD_TEST_OBJECTS"]
fn remote_production_is_the_same_graph() {
    let place = std::env::var("OPYARD_TEST_OBJECTS").expect("OPYARD_TEST_OBJECTS names an empty place");
    let elsewhere = format!("{place}/{}", std::process::id());
    let definitions = DEFINITIONS
        .replace("\"memory:///\"", &format!("\"{elsewhere}/state\""))
        .replace("\"file:./production\"", &format!("\"{elsewhere}/models\""));
    let project = Project::new(&definitions);
    for number in [1, 2] {
        let (here, there) = (run(&project, "test"), run(&project, "prod"));
        assert_eq!(here.0, json!(number));
        assert_eq!(here.0, there.0, "the counter goes on in both");
        for key in ["version", "files", "aliases"] {
            assert_eq!(here.1[key], there.1[key], "{key}");
        }
    }
}

#[test]
fn tenants_do_not_see_each_others_values() {
    let project = Project::new(DEFINITIONS);
    run(&project, "test");
    runtime().block_on(async {
        let bucket = "tests".parse().unwrap();
        let value = async |tenant: &str| {
            let settings = YardSettings {
                tenant: TenantId::new(tenant).unwrap(),
                ..YardSettings::new(project.path().join(".opyard"))
            };
            let yard = Yard::open(&settings).unwrap();
            let values = yard.tenant_store().key_values(&bucket);
            let found = values.get("runs").await.unwrap().map(|found| found.value);
            let names = values.names("", None, 10).await.unwrap();
            yard.close().await;
            (found, names)
        };
        let (found, names) = value("default").await;
        assert_eq!((found.as_deref(), names), (Some(b"1".as_slice()), vec!["runs".to_owned()]));
        assert_eq!(value("other").await, (None, Vec::new()));
    });
}
