//! What every IO manager does.

use bytes::Bytes;
use opyard_model::id::{MappingKey, Name};
use opyard_model::json::CanonicalJson;
use opyard_model::value::ArtifactRef;

use super::artifacts::noise;
use super::samples::{run, yielded};
use crate::artifact::ArtifactStore;
use crate::io_manager::{IoManager, Loaded, Slot, Stored};

fn slot(port: &str, key: Option<&str>) -> Slot {
    Slot {
        job: Name::new("train").unwrap(),
        run: run(1),
        step: "eval.score".parse().unwrap(),
        port: Name::new(port).unwrap(),
        item: key.map(|key| MappingKey::new(key).unwrap()),
        type_name: Name::new("bytes").unwrap(),
    }
}

async fn handle(manager: &dyn IoManager, slot: &Slot, artifacts: &dyn ArtifactStore, bytes: &Bytes) -> Stored {
    let mut writer = artifacts.begin().await.unwrap();
    writer.write(bytes.clone()).await.unwrap();
    let artifact = writer.finish().await.unwrap().artifact;
    let reader = artifacts.get(artifact.digest).await.unwrap();
    manager.handle_output(slot, &yielded(artifact).value, reader).await.unwrap()
}

async fn load(manager: &dyn IoManager, locator: &CanonicalJson, artifacts: &dyn ArtifactStore) -> Option<ArtifactRef> {
    let writer = artifacts.begin().await.unwrap();
    let loaded = manager.load_input(&slot("given", None), locator, writer).await;
    let Loaded { artifact, .. } = loaded.ok()?;
    assert_eq!(artifacts.get(artifact.digest).await.unwrap().artifact(), artifact, "what was loaded is there");
    Some(artifact)
}

/// Runs the suite against an IO manager that keeps nothing yet, and whose places tell slots apart.
pub async fn io_manager(manager: &dyn IoManager, artifacts: &dyn ArtifactStore) {
    for (size, key) in [(0, None), (1_000, None), (1_000, Some("adelie")), (3_000_000, Some("gentoo"))] {
        let slot = slot(&format!("out_{size}"), key);
        let bytes = noise(size);
        let Stored { locator, .. } = handle(manager, &slot, artifacts, &bytes).await;
        assert_eq!(load(manager, &locator, artifacts).await, Some(ArtifactRef::of(&bytes)));
        let fingerprint = manager.fingerprint(&locator).await.unwrap();
        assert_eq!(manager.fingerprint(&locator).await.unwrap(), fingerprint, "nothing has changed");
        let again = handle(manager, &slot, artifacts, &bytes).await;
        assert_eq!(again.locator, locator, "the same again gives the same");
        assert_eq!(load(manager, &locator, artifacts).await, Some(ArtifactRef::of(&bytes)));
        manager.forget(&locator).await.unwrap();
        manager.forget(&locator).await.unwrap();
        assert_eq!(load(manager, &locator, artifacts).await, None, "it is forgotten");
    }
    for wrong in ["{}", "[]", r#"{"path":"../../etc/passwd","size":1,"digest":"b3:00"}"#] {
        let locator = CanonicalJson::parse(wrong).unwrap();
        assert_eq!(load(manager, &locator, artifacts).await, None, "{wrong}");
    }
}
