//! What every IO manager does.

use std::sync::Arc;

use bytes::Bytes;
use opyard_model::id::{MappingKey, Name, StepPath};
use opyard_model::json::CanonicalJson;
use opyard_model::value::ArtifactRef;

use super::artifacts::noise;
use super::samples::{run, yielded};
use crate::artifact::ArtifactStore;
use crate::io_manager::{IoManager, Slot};

async fn handle(manager: &dyn IoManager, slot: &Slot, artifacts: &dyn ArtifactStore, bytes: &Bytes) -> CanonicalJson {
    let mut writer = artifacts.begin().await.unwrap();
    writer.write(bytes.clone()).await.unwrap();
    let artifact = writer.finish().await.unwrap().artifact;
    let mut reader = artifacts.get(artifact.digest).await.unwrap();
    manager.handle_output(slot, &yielded(artifact).value, &mut *reader).await.unwrap()
}

async fn load(manager: &dyn IoManager, locator: &CanonicalJson, artifacts: &dyn ArtifactStore) -> ArtifactRef {
    let mut writer = artifacts.begin().await.unwrap();
    manager.load_input(locator, &mut *writer).await.unwrap();
    writer.finish().await.unwrap().artifact
}

/// Runs the suite against an IO manager that keeps nothing yet, and whose paths tell slots apart.
pub async fn io_manager(manager: Arc<dyn IoManager>, artifacts: Arc<dyn ArtifactStore>) {
    let (manager, artifacts) = (&*manager, &*artifacts);
    for (size, key) in [(0, None), (1_000, None), (1_000, Some("adelie")), (3_000_000, Some("gentoo"))] {
        let slot = Slot {
            job: Name::new("train").unwrap(),
            run: run(1),
            step: StepPath::new("eval.score").unwrap(),
            output: Name::new(&format!("out_{size}")).unwrap(),
            keys: key.map(|key| MappingKey::new(key).unwrap()).into_iter().collect(),
        };
        let bytes = noise(size);
        let locator = handle(manager, &slot, artifacts, &bytes).await;
        assert_eq!(load(manager, &locator, artifacts).await, ArtifactRef::of(&bytes));
        let fingerprint = manager.fingerprint(&locator).await.unwrap();
        assert_eq!(manager.fingerprint(&locator).await.unwrap(), fingerprint, "nothing has changed");
        assert_eq!(handle(manager, &slot, artifacts, &bytes).await, locator, "the same again gives the same");
        assert_eq!(load(manager, &locator, artifacts).await, ArtifactRef::of(&bytes));
        manager.forget(&locator).await.unwrap();
        manager.forget(&locator).await.unwrap();
        let mut writer = artifacts.begin().await.unwrap();
        assert!(manager.load_input(&locator, &mut *writer).await.is_err(), "it is forgotten");
    }
    for wrong in ["{}", "[]", r#"{"path":"../../etc/passwd","size":1,"digest":"b3:00"}"#] {
        let locator = CanonicalJson::parse(wrong).unwrap();
        let mut writer = artifacts.begin().await.unwrap();
        assert!(manager.load_input(&locator, &mut *writer).await.is_err(), "{wrong}");
    }
}
