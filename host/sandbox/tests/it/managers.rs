//! IO managers that components ship, and inputs that are outside.

use std::sync::Arc;

use async_trait::async_trait;
use opyard_model::component::{ComponentDescription, Interface};
use opyard_model::error::{Code, Failure};
use opyard_model::event::LoadedValue;
use opyard_model::id::ItemKey;
use opyard_model::json::CanonicalJson;
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::plan::{
    Access, BaseType, ComponentManager, IoManagerSpec, KeyValueDriver, OutsideValue, ResourceSpec, StepOutput,
};
use opyard_model::step::{
    Bound, BoundManager, Call, GrantedResource, HandleCall, KeptCall, ResourceRight, Saying, StepResult,
};
use opyard_model::value::ValueRef;
use opyard_store::artifact::{ArtifactReader, ArtifactWriter};
use opyard_store::conformance;
use opyard_store::io_manager::{IoManager, Loaded, Slot, Stored};
use serde_json::{Value, json};

use crate::harness::{Came, Probe, in_memory, name};

fn right(key: &str, through: Interface, spec: ResourceSpec) -> ResourceRight {
    let granted = Some(GrantedResource { name: name("granted"), spec, access: Access::ReadWrite });
    ResourceRight { key: name(key), through, granted }
}

/// The IO manager of a component, as a plan would describe it.
fn manager(component: &ComponentDescription, which: &str, config: &Value, rights: Vec<ResourceRight>) -> BoundManager {
    assert!(component.io_manager(which).is_some(), "{which} is described");
    let manager = ComponentManager {
        component_name: name("guest"),
        component: component.digest,
        manager: name(which),
        config: CanonicalJson::new(config).unwrap(),
        grants: Vec::new(),
        limits: Limits::default(),
    };
    BoundManager { spec: IoManagerSpec::Component(Box::new(manager)), rights }
}

fn moody(probe: &Probe, behaves: &str) -> BoundManager {
    let driver = KeyValueDriver::Yard { bucket: name("kept") };
    let spec = ResourceSpec::KeyValue { driver, access: Access::ReadWrite, version: None };
    let rights = vec![right("bucket", Interface::KeyValue, spec)];
    manager(&probe.description, "moody", &json!({ "behaves": behaves }), rights)
}

fn outside(locator: &Value, base: BaseType, media_type: &str) -> OutsideValue {
    OutsideValue {
        manager: name("lake"),
        locator: CanonicalJson::new(locator).unwrap(),
        type_name: name(base.name()),
        base,
        media_type: media_type.parse().unwrap(),
    }
}

/// Asks an IO manager through the one door that the sandbox has.
struct Through<'a>(&'a Probe, BoundManager);

impl Through<'_> {
    fn kept(&self, locator: &CanonicalJson) -> Box<KeptCall> {
        Box::new(KeptCall { name: name("lake"), manager: self.1.clone(), locator: locator.clone() })
    }

    async fn ask(&self, call: Call) -> Result<StepResult, Failure> {
        match self.0.bench.request(call, Limits::default()).await.outcome.result {
            StepResult::Failure(failure) => Err(failure),
            result => Ok(result),
        }
    }

    /// Runs an op on a value that is outside.
    async fn echo(&self, value: OutsideValue, fingerprint: Option<&str>, limits: Limits) -> Came {
        let fingerprint = fingerprint.map(str::to_owned);
        let bound = Bound::Outside { value: Box::new(value), many: false, fingerprint };
        let mut call = self.0.call("echo", json!({}), vec![("value", bound)]);
        call.managers.insert(name("lake"), self.1.clone());
        self.0.bench.request(Call::Op(Box::new(call)), limits).await
    }
}

#[async_trait]
impl IoManager for Through<'_> {
    async fn handle_output(
        &self,
        slot: &Slot,
        value: &ValueRef,
        _: Box<dyn ArtifactReader>,
    ) -> Result<Stored, Failure> {
        let output = StepOutput {
            port: slot.port.clone(),
            type_name: slot.type_name.clone(),
            base: BaseType::Bytes,
            media_type: "application/octet-stream".parse().unwrap(),
            optional: false,
            dynamic: slot.item.is_some(),
            io_manager: name("lake"),
        };
        // As one that the step of these requests has yielded, which is mapped itself.
        let step: ItemKey = "k".parse().unwrap();
        let mapping_key = slot.item.as_ref().map_or_else(|| step.clone(), |key| step.child(key));
        let value = ValueRef { mapping_key, ..value.clone() };
        match self.ask(Call::HandleOutput(Box::new(HandleCall { output, manager: self.1.clone(), value }))).await? {
            StepResult::Handled { value, metadata } => Ok(Stored { locator: value.kept.unwrap().locator, metadata }),
            other => panic!("{other:?}"),
        }
    }

    async fn load_input(
        &self,
        _: &Slot,
        locator: &CanonicalJson,
        mut into: Box<dyn ArtifactWriter>,
    ) -> Result<Loaded, Failure> {
        let value = outside(&locator.to_value(), BaseType::Bytes, "application/octet-stream");
        let came = self.echo(value, None, Limits::default()).await;
        if let StepResult::Failure(failure) = &came.outcome.result {
            return Err(failure.clone());
        }
        into.write(self.0.bench.bytes(&came.outputs()[0].1).await).await.unwrap();
        Ok(Loaded { artifact: into.finish().await.unwrap().artifact, metadata: Vec::new() })
    }

    async fn fingerprint(&self, locator: &CanonicalJson) -> Result<Option<String>, Failure> {
        match self.ask(Call::Fingerprint(self.kept(locator))).await? {
            StepResult::Fingerprint(told) => Ok(told),
            other => panic!("{other:?}"),
        }
    }

    async fn forget(&self, locator: &CanonicalJson) -> Result<(), Failure> {
        assert_eq!(self.ask(Call::Forget(self.kept(locator))).await?, StepResult::Forgotten);
        Ok(())
    }
}

fn loaded(came: &Came) -> Vec<&LoadedValue> {
    let loaded = came.said.iter().filter_map(|saying| match saying {
        Saying::Loaded(loaded) => Some(loaded),
        _ => None,
    });
    loaded.collect()
}

/// The suite of the IO managers that are built in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_of_components_pass_the_suite() {
    let probe = Probe::new().await;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/lake.wasm");
    let bytes = std::fs::read(&path).expect("target/guests/lake.wasm: build it with `cargo xtask guests`");
    let component = probe.bench.load(bytes).await.unwrap();
    let lake = probe.bench.describe(component.digest).await.unwrap();
    let spec = ResourceSpec::ObjectStore { url: "memory:///".into(), access: Access::ReadWrite, version: None };
    let rights = vec![right("store", Interface::ObjectStore, spec)];
    let config = json!({ "folder": "lake", "part_bytes": 100_000 });
    let through = Through(&probe, manager(&lake, "lines", &config, rights));
    conformance::io_manager(&through, &*probe.bench.artifacts).await;

    // Of what it was not granted, it is told as any op is.
    let denied = Through(&probe, manager(&lake, "lines", &config, Vec::new()));
    let locator = CanonicalJson::parse(r#"{"manifest":"x/manifest.json"}"#).unwrap();
    let failure = denied.fingerprint(&locator).await.unwrap_err();
    assert_eq!(failure.code, Code::ForbiddenImport, "{failure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_manager_of_a_component_does_wrong_fails_the_step_and_names_the_manager() {
    let probe = Probe::new().await;
    let value = probe.bench.value("[1, 2]", "json", "application/json").await;
    let cases = [
        ("fails", Code::IoManagerFailed, "it does not want to"),
        ("panics", Code::Trapped, "it cannot stand this"),
        ("spins", Code::CpuExceeded, "CPU time"),
        ("rambles", Code::IoManagerFailed, "its locator has 70011 bytes"),
    ];
    for (behaves, code, text) in cases {
        let mut bound = moody(&probe, behaves);
        if let IoManagerSpec::Component(manager) = &mut bound.spec {
            manager.limits.cpu = std::time::Duration::from_millis(100);
        }
        let mut call = probe.call("echo", json!({}), vec![("value", Bound::One(value.clone()))]);
        call.managers.insert(name("lake"), bound);
        Arc::make_mut(&mut call.outputs)[0].io_manager = name("lake");
        let came = probe.bench.request(Call::Op(Box::new(call)), Limits::default()).await;
        let failure = came.failure();
        assert_eq!(failure.code, code, "{behaves}: {failure:?}");
        assert!(failure.description.starts_with("the IO manager `lake` (guest.moody): "), "{failure:?}");
        assert!(failure.description.contains(text), "{behaves}: {failure:?}");
    }
    let place = || outside(&json!({ "name": "x" }), BaseType::Json, "application/json");
    let cases = [
        ("forgets", Code::IoManagerFailed, "without committing"),
        ("garbles", Code::TypeCheckFailed, "the value loaded for 'value' is not what its type says"),
        ("pours", Code::TooLarge, "the limit `read_bytes`"),
        ("boasts", Code::IoManagerFailed, "its fingerprint has 2000 bytes"),
        ("well", Code::IoManagerFailed, "there is no `x`"),
    ];
    for (behaves, code, text) in cases {
        let through = Through(&probe, moody(&probe, behaves));
        let limits = Limits { read_bytes: ByteSize(1 << 20), ..Limits::default() };
        let came = through.echo(place(), None, limits).await;
        assert_eq!(came.code(), code, "{behaves}: {:?}", came.failure());
        assert!(came.failure().description.contains(text), "{behaves}: {:?}", came.failure());
        assert_eq!(came.outcome.usage.host_calls, 0, "{behaves}: the op has run");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_of_a_component_is_handed_outputs_and_loads_them() {
    let probe = Probe::new().await;
    let through = Through(&probe, moody(&probe, "well"));
    let mut call = probe.call("fan", json!({ "items": 2 }), Vec::new());
    call.managers.insert(name("lake"), through.1.clone());
    Arc::make_mut(&mut call.outputs)[0].io_manager = name("lake");
    let came = probe.bench.request(Call::Op(Box::new(call)), Limits::default()).await;
    let values = came.outputs();
    let handled = came.said.iter().filter(|saying| {
        matches!(saying, Saying::Handled { manager, metadata, .. } if *manager == name("lake") && metadata.len() == 1)
    });
    assert_eq!((values.len(), handled.count()), (2, 2));
    let (_, last) = values.last().unwrap();
    let locator = last.kept.clone().unwrap().locator.to_value();

    // What it keeps is a value for whoever names it.
    let place = || outside(&locator, BaseType::Json, "application/json");
    let first = through.echo(place(), None, Limits::default()).await;
    assert_eq!(first.outputs()[0].1.artifact, last.artifact);
    let told = loaded(&first);
    assert_eq!((told.len(), told[0].artifact, &told[0].port), (1, last.artifact, &name("value")));
    assert_eq!(told[0].metadata.len(), 1);
    assert!(!first.memoisable(), "nobody knew what it would be");
    let fingerprint = told[0].fingerprint.clone().unwrap();
    let known = through.echo(place(), Some(&fingerprint), Limits::default()).await;
    assert!(known.memoisable());
    let other = through.echo(place(), Some("another"), Limits::default()).await;
    assert!(!other.memoisable(), "it is not what the request takes it for");
    assert_eq!(other.outputs()[0].1.artifact, last.artifact);
}

/// The same for managers that are built in; and a manager that cannot tell is no reason to fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_from_outside_is_checked_and_told() {
    let probe = Probe::new().await;
    for (kept, bytes) in [("rows", "[1]"), ("unknown", "[2]"), ("wrong", "[3")] {
        probe.bench.kept.0.lock().unwrap().insert(kept.to_owned(), bytes.into());
    }
    let through = Through(&probe, in_memory());
    let place = |name: &str| outside(&json!({ "name": name }), BaseType::Json, "application/json");
    let rows = through.fingerprint(&place("rows").locator).await.unwrap().unwrap();
    let came = through.echo(place("rows"), Some(&rows), Limits::default()).await;
    assert!(came.memoisable());
    assert_eq!(loaded(&came)[0].fingerprint.as_deref(), Some(&*rows));
    let came = through.echo(place("unknown"), None, Limits::default()).await;
    assert!(!came.memoisable() && loaded(&came)[0].fingerprint.is_none());
    assert_eq!(probe.bench.json(&came.outputs()[0].1).await, json!([2]));
    for (which, limits, code) in [
        ("wrong", Limits::default(), Code::TypeCheckFailed),
        ("rows", Limits { read_bytes: ByteSize(2), ..Limits::default() }, Code::TooLarge),
        ("nowhere", Limits::default(), Code::IoManagerFailed),
    ] {
        let came = through.echo(place(which), None, limits).await;
        assert_eq!(came.code(), code, "{which}: {:?}", came.failure());
        assert!(loaded(&came).is_empty());
    }
}
