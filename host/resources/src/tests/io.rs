use std::sync::Arc;

use opyard_model::id::TenantId;
use opyard_model::json::CanonicalJson;
use opyard_model::plan::IoManagerSpec;
use opyard_store::conformance::{self, samples::StillClock};
use opyard_store::memory::MemoryStore;

use crate::io::IoManagers;
use crate::pool::file_url;

#[tokio::test]
async fn files_are_kept_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = MemoryStore::new(Arc::new(StillClock::default())).tenant(&TenantId::default()).artifacts();
    let managers = IoManagers::default();
    for url in [file_url(&folder.path().join("reports")).unwrap(), "memory:///reports".to_owned()] {
        let spec = IoManagerSpec::ObjectStore { url, path: "{job}/{run}/{step}.{output}.{key}.bin".into() };
        let manager = managers.open(&spec).unwrap().unwrap();
        conformance::io_manager(manager, Arc::clone(&artifacts)).await;
    }
    assert!(managers.open(&IoManagerSpec::Artifacts).unwrap().is_none());
    for (url, path) in [("memory:///x", "{jbo}"), ("memory:///x", "../x"), ("ftp://x", "x")] {
        assert!(managers.open(&IoManagerSpec::ObjectStore { url: url.into(), path: path.into() }).is_err());
    }
}

#[tokio::test]
async fn what_was_changed_outside_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = MemoryStore::new(Arc::new(StillClock::default())).tenant(&TenantId::default()).artifacts();
    let spec = IoManagerSpec::ObjectStore { url: file_url(folder.path()).unwrap(), path: "{output}".into() };
    let manager = IoManagers::default().open(&spec).unwrap().unwrap();
    std::fs::write(folder.path().join("card"), "four").unwrap();
    let kept = opyard_model::digest::Digest::of(b"five");
    let json = format!(r#"{{"path":"card","size":4,"digest":"{kept}"}}"#);
    let mut writer = artifacts.begin().await.unwrap();
    assert!(manager.load_input(&CanonicalJson::parse(&json).unwrap(), &mut *writer).await.is_err());
}
