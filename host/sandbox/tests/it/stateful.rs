//! Key-values and model registries: what was granted can be used, and nothing else.

use opyard_model::component::Interface;
use opyard_model::error::Code;
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::plan::{Access, KeyValueDriver, ModelRegistryDriver, ResourceSpec};
use opyard_model::step::{Bound, Call, GrantedResource, OpCall, ResourceRight, Saying};
use serde_json::{Value, json};

use crate::harness::{Came, Probe, name};

fn bucket(driver: KeyValueDriver, access: Access) -> ResourceRight {
    let spec = ResourceSpec::KeyValue { driver, access: Access::ReadWrite, version: None };
    let granted = Some(GrantedResource { name: name("counters"), spec, access });
    ResourceRight { key: name("state"), through: Interface::KeyValue, granted }
}

fn yard(access: Access) -> ResourceRight {
    bucket(KeyValueDriver::Yard { bucket: name("counters") }, access)
}

fn registry(url: &str, access: Access) -> ResourceRight {
    let driver = ModelRegistryDriver::ObjectStore { url: url.into() };
    let spec = ResourceSpec::ModelRegistry { driver, access: Access::ReadWrite, version: None };
    let granted = Some(GrantedResource { name: name("registry"), spec, access });
    ResourceRight { key: name("models"), through: Interface::ModelRegistry, granted }
}

async fn run(probe: &Probe, mut call: OpCall, right: ResourceRight, limits: Limits) -> Came {
    call.rights = vec![right];
    probe.bench.request(Call::Op(Box::new(call)), limits).await
}

async fn told(probe: &Probe, came: &Came) -> Value {
    probe.bench.json(&came.outputs()[0].1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_goes_on_where_it_was() {
    let probe = Probe::new().await;
    let count = async |right: ResourceRight, limits: Limits| {
        let call = probe.call("count_up", json!({ "name": "runs", "times": 3 }), Vec::new());
        run(&probe, call, right, limits).await
    };
    for expected in [3, 6] {
        let came = count(yard(Access::ReadWrite), Limits::default()).await;
        assert_eq!(told(&probe, &came).await, json!(expected));
        assert!(came.outcome.usage.written_bytes > 0, "what is put is counted");
    }
    // Another bucket, in another place, is another counter.
    let memory = KeyValueDriver::ObjectStore { url: "memory:///".into() };
    let came = count(bucket(memory, Access::ReadWrite), Limits::default()).await;
    assert_eq!(told(&probe, &came).await, json!(3));

    let came = count(yard(Access::Read), Limits::default()).await;
    assert_eq!(came.code(), Code::OpFailed);
    assert!(came.failure().description.contains("denied"), "{}", came.failure().description);
    let came = count(yard(Access::ReadWrite), Limits { output_bytes: ByteSize(0), ..Limits::default() }).await;
    assert!(came.failure().description.contains("output_bytes"), "{}", came.failure().description);
    let came = count(yard(Access::ReadWrite), Limits { read_bytes: ByteSize(0), ..Limits::default() }).await;
    assert!(came.failure().description.contains("read_bytes"), "{}", came.failure().description);
    let came = count(yard(Access::ReadWrite), Limits { host_calls: 4, ..Limits::default() }).await;
    assert_eq!(came.code(), Code::HostCallLimit);
}

/// Steps at the same time count up the same counter, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_count_up_together() {
    let probe = Probe::new().await;
    let call = || probe.call("count_up", json!({ "name": "shared", "times": 5 }), Vec::new());
    let one = || run(&probe, call(), yard(Access::ReadWrite), Limits::default());
    let (a, b, c) = tokio::join!(one(), one(), one());
    let mut last = 0;
    for came in [a, b, c] {
        last = last.max(told(&probe, &came).await.as_u64().unwrap());
    }
    assert_eq!(last, 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_put_listed_and_removed_as_far_as_the_grant_goes() {
    let folder = tempfile::tempdir().unwrap();
    let probe = Probe::new().await;
    let keep = async |right: ResourceRight, config: Value| {
        let came = run(&probe, probe.call("keep", config, Vec::new()), right, Limits::default()).await;
        told(&probe, &came).await
    };
    let url = opyard_resources::file_url(folder.path()).unwrap();
    let files = KeyValueDriver::ObjectStore { url: url.into() };
    for right in [yard(Access::ReadWrite), bucket(files.clone(), Access::ReadWrite)] {
        let told = keep(right, json!({ "name": "ä/1", "text": "hello" })).await;
        assert_eq!((&told["put"]["Ok"], &told["got"]["Ok"]), (&json!(null), &json!(5)), "{told}");
        assert_eq!((&told["listed"]["Ok"], &told["removed"]["Ok"]), (&json!(["ä/1"]), &json!(true)), "{told}");
        let refused = |what: &str| told[what]["Err"].as_str().unwrap_or_default().to_owned();
        assert!(refused("created").contains("conflict"), "{told}");
        let on_a_revision = refused("stale");
        assert!(on_a_revision.contains("conflict") || on_a_revision.contains("folder of files"), "{told}");
    }
    let told = keep(bucket(files, Access::Read), json!({ "name": "a", "text": "x" })).await;
    for what in ["put", "created", "stale", "removed"] {
        assert!(told[what]["Err"].as_str().unwrap_or_default().contains("denied"), "{what}: {told}");
    }
    assert_eq!(told["got"]["Ok"], json!(null));
    let told = keep(yard(Access::ReadWrite), json!({ "name": "a", "text": "x", "times": (1 << 20) + 1 })).await;
    assert!(told["put"]["Err"].as_str().unwrap_or_default().contains("limit"), "{told}");
    let told = keep(yard(Access::ReadWrite), json!({ "name": "a\nb", "text": "x" })).await;
    assert!(told["put"]["Err"].as_str().unwrap_or_default().contains("invalid"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_value_that_was_not_granted_is_denied() {
    let probe = Probe::new().await;
    let none = |through| ResourceRight { key: name("state"), through, granted: None };
    let call = probe.call("remembers", json!({}), Vec::new());
    let came = run(&probe, call, none(Interface::KeyValue), Limits::default()).await;
    assert_eq!(told(&probe, &came).await, json!(false));
    assert!(came.said.contains(&Saying::GrantDenied { key: "state".to_owned() }));
    // A grant for another interface is none for this one, and its door is shut.
    let call = probe.call("remembers", json!({}), Vec::new());
    let came = run(&probe, call, none(Interface::ObjectStore), Limits::default()).await;
    assert_eq!(came.code(), Code::ForbiddenImport);
    assert!(came.failure().description.contains("key-value"), "{}", came.failure().description);
    // Nor does a registry open as anything else.
    let call = probe.call("load_model", json!({ "model": "iris", "selector": "1" }), Vec::new());
    let came = run(&probe, call, yard(Access::ReadWrite), Limits::default()).await;
    assert_eq!(came.code(), Code::ForbiddenImport);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_registered_and_loaded_as_far_as_the_grant_goes() {
    let folder = tempfile::tempdir().unwrap();
    let url = opyard_resources::file_url(folder.path()).unwrap();
    let probe = Probe::new().await;
    let weights = "w".repeat(2_500_000);
    let value = probe.bench.value(weights.clone(), "bytes", "application/octet-stream").await;
    let register = async |config: Value, access, limits: Limits| {
        let call = probe.call("register_model", config, vec![("weights", Bound::One(value.clone()))]);
        run(&probe, call, registry(&url, access), limits).await
    };
    let load = async |selector: &str, limits: Limits| {
        let call = probe.call("load_model", json!({ "model": "iris", "selector": selector }), Vec::new());
        run(&probe, call, registry(&url, Access::Read), limits).await
    };
    let came = load("latest", Limits::default()).await;
    assert!(came.failure().description.contains("not found"), "{}", came.failure().description);

    let given_up = register(json!({ "model": "iris", "give_up": true }), Access::ReadWrite, Limits::default()).await;
    assert_eq!(told(&probe, &given_up).await, json!(null));
    let came = load("latest", Limits::default()).await;
    assert!(came.failure().description.contains("not found"), "what was given up is not there");

    let config = json!({ "model": "iris", "alias": "champion" });
    let came = register(config.clone(), Access::ReadWrite, Limits::default()).await;
    assert_eq!(told(&probe, &came).await, json!(1));
    let came = register(json!({ "model": "iris" }), Access::ReadWrite, Limits::default()).await;
    assert_eq!(told(&probe, &came).await, json!(2));
    let model = told(&probe, &load("champion", Limits::default()).await).await;
    assert_eq!(
        (&model["version"], &model["aliases"]),
        (&json!(1), &json!(["champion"])),
        "{}",
        model["files"][0]["path"]
    );
    assert_eq!(model["metadata"], json!({ "rows": 3 }));
    assert_eq!(model["files"][0], json!({ "path": "README.md", "size": 9, "text": "# A model" }));
    assert_eq!(model["files"][1]["text"].as_str().map(str::len), Some(weights.len()));
    let latest = told(&probe, &load("latest", Limits::default()).await).await;
    assert_eq!((&latest["version"], &latest["digest"]), (&json!(2), &model["digest"]), "the same files");

    let came = register(config.clone(), Access::Read, Limits::default()).await;
    assert!(came.failure().description.contains("denied"), "{}", came.failure().description);
    let came = register(config, Access::ReadWrite, Limits { output_bytes: ByteSize(1_000), ..Limits::default() }).await;
    assert!(came.failure().description.contains("output_bytes"), "{}", came.failure().description);
    let came = load("latest", Limits { read_bytes: ByteSize(1_000), ..Limits::default() }).await;
    assert!(came.failure().description.contains("read_bytes"), "{}", came.failure().description);
}
