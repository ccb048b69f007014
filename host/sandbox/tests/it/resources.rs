//! Resources: what was granted can be used, and nothing else.

use opyard_model::component::Interface;
use opyard_model::error::Code;
use opyard_model::event::OpenedResource;
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::plan::{Access, ResourceSpec};
use opyard_model::step::{Call, GrantedResource, InitStage, ResourceRight, Saying};
use serde_json::json;

use crate::harness::{Probe, name};

fn right(url: &str, access: Access) -> ResourceRight {
    let spec = ResourceSpec::ObjectStore { url: url.into(), access: Access::ReadWrite, version: None };
    ResourceRight {
        key: name("store"),
        through: Interface::ObjectStore,
        granted: Some(GrantedResource { name: name("raw"), spec, access }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_object_store_is_read_and_written_as_far_as_the_grant_goes() {
    let folder = tempfile::tempdir().unwrap();
    let url = opyard_resources::file_url(folder.path()).unwrap();
    let probe = Probe::new().await;
    let touch = async |right: ResourceRight, limits: Limits| {
        let mut call = probe.call("touch", json!({ "path": "a/b.txt", "text": "hello" }), Vec::new());
        call.rights = vec![right];
        let came = probe.bench.request(Call::Op(Box::new(call)), limits).await;
        (probe.bench.json(&came.outputs()[0].1).await, came)
    };
    let (told, came) = touch(right(&url, Access::ReadWrite), Limits::default()).await;
    assert_eq!(told["put"]["Ok"], json!(5), "{told}");
    assert_eq!(told["got"]["Ok"], json!("hello"));
    assert_eq!(told["listed"]["Ok"], json!(["a/b.txt"]));
    assert!(told["created"]["Err"].as_str().is_some(), "{told}");
    assert_eq!(std::fs::read_to_string(folder.path().join("a/b.txt")).unwrap(), "hello");
    assert!(came.memoisable(), "nothing was out of reach");

    let (told, _) = touch(right(&url, Access::Read), Limits::default()).await;
    assert!(told["put"]["Err"].as_str().is_some() && told["got"]["Ok"] == json!("hello"), "{told}");

    let limits = Limits { read_bytes: ByteSize(2), ..Limits::default() };
    let (told, came) = touch(right(&url, Access::Read), limits).await;
    assert!(told["got"]["Err"].as_str().unwrap().contains("read_bytes"), "{told}");
    assert!(!came.memoisable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_optional_resource_that_was_not_granted_is_denied() {
    let probe = Probe::new().await;
    let mut call = probe.call("listed", json!({}), Vec::new());
    call.rights = vec![ResourceRight { key: name("store"), through: Interface::ObjectStore, granted: None }];
    let came = probe.bench.request(Call::Op(Box::new(call)), Limits::default()).await;
    assert_eq!(probe.bench.json(&came.outputs()[0].1).await, json!(null));
    assert!(came.said.contains(&Saying::GrantDenied { key: "store".to_owned() }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_opening_of_each_resource_is_said_and_how_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let probe = Probe::new().await;
    let stages = |said: &[Saying]| -> Vec<_> {
        let opened = said.iter().filter_map(|saying| match saying {
            Saying::ResourceInit { resource, stage } => Some((resource.clone(), stage.clone())),
            _ => None,
        });
        opened.collect()
    };
    let open = async |times: u32, url: &str| {
        let mut call = probe.call("opens", json!({ "times": times }), Vec::new());
        call.rights = vec![right(url, Access::Read)];
        let came = probe.bench.request(Call::Op(Box::new(call)), Limits { events: 0, ..Limits::default() }).await;
        stages(&came.said)
    };
    let opened = || OpenedResource { key: name("store"), name: name("raw"), through: Interface::ObjectStore };
    let url = opyard_resources::file_url(folder.path()).unwrap();
    // Not once a call: how often is the guest's to say.
    assert_eq!(open(5, &url).await, [(opened(), InitStage::Started), (opened(), InitStage::Success)]);

    let said = open(5, "nowhere:///").await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0], (opened(), InitStage::Started));
    let InitStage::Failure(failure) = &said[1].1 else { panic!("{said:?}") };
    assert_eq!(failure.code, Code::ResourceUnavailable);

    let came = probe.run("noop", json!({}), Vec::new()).await;
    assert_eq!(stages(&came.said), [], "an op without resources has nothing to open");
}
