//! Copies of a yard in use, and what is made of copies that are not whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::event::RunEvent;
use opyard_model::id::TenantId;
use opyard_model::time::Clock;
use opyard_model::value::ArtifactRef;

use super::conform::Yard;
use crate::artifact::read_whole;
use crate::backup::{Beside, Manifest, restore};
use crate::conformance::noise;
use crate::conformance::samples::{StillClock, at, enqueued, output, run};
use crate::error::{StoreError, StoreErrorKind};
use crate::gc::Retention;
use crate::run::RunFilter;
use crate::{Store, StoreSettings, TenantStore};

fn clock(yard: &Yard) -> Arc<dyn Clock> {
    Arc::<StillClock>::clone(&yard.clock) as _
}

/// A run with a small and a large output.
async fn fill(tenant: &TenantStore, number: u64) -> [Bytes; 3] {
    let plan = Bytes::from(format!("{{\"run\": {number}}}"));
    let values =
        [plan, noise(300 + usize::try_from(number).unwrap()), noise(90_000 + usize::try_from(number).unwrap())];
    for value in &values {
        let mut writer = tenant.artifacts().begin().await.unwrap();
        writer.write(value.clone()).await.unwrap();
        writer.finish().await.unwrap();
    }
    let [plan, small, large] = values.each_ref().map(|value| ArtifactRef::of(value));
    let events = vec![
        (at(1), enqueued(plan, 1)),
        (at(2), output("a", small)),
        (at(3), output("b", large)),
        (at(4), RunEvent::RunSuccess),
    ];
    tenant.events().append(run(number), 0, events).await.unwrap().durable.wait().await.unwrap();
    values
}

struct Copied {
    yard: Yard,
    values: Vec<Bytes>,
    folder: PathBuf,
    manifest: Manifest,
}

/// A yard that was copied while it was written to.
async fn copied() -> Copied {
    let yard = Yard::new("file:");
    let tenant = yard.tenant("default");
    let mut values = Vec::new();
    for number in 0..6 {
        values.extend(fill(&tenant, number).await);
    }
    let components = yard.folder.path().join("components");
    std::fs::create_dir(&components).unwrap();
    std::fs::write(components.join("a.wasm"), noise(1_500_000)).unwrap();
    std::fs::write(components.join(".half"), b"in the making").unwrap();
    let folder = yard.folder.path().join("copy");
    let beside = [
        Beside { name: "components", folder: components },
        Beside { name: "more", folder: yard.folder.path().join("is not there") },
    ];
    let writing = async {
        for number in 100..130 {
            fill(&tenant, number).await;
        }
    };
    let (manifest, ()) = futures::join!(yard.store.backup(&folder, &beside), writing);
    Copied { yard, values, folder, manifest: manifest.unwrap() }
}

fn open(folder: &Path, yard: &Yard) -> Store {
    let objects = url::Url::from_directory_path(folder.join("objects")).unwrap().to_string();
    Store::open(StoreSettings::new(folder.join("opyard.db"), objects, clock(yard))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_in_use_is_a_yard_of_one_moment() {
    let Copied { yard, values, folder, manifest } = copied().await;
    let paths: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["opyard.db", "components/a.wasm"]);
    let busy = yard.store.backup(&folder, &[]).await.unwrap_err();
    assert_eq!(busy.kind, StoreErrorKind::NotEmpty);

    let to = yard.folder.path().join("restored");
    let restored = restore(&folder, &to, clock(&yard)).await.unwrap();
    assert_eq!(restored.manifest, manifest);
    assert!(restored.audit.is_sound() && restored.audit.artifacts.count >= values.len() as u64);
    assert_eq!(std::fs::read(to.join("components/a.wasm")).unwrap(), noise(1_500_000));
    assert!(!to.join("components/.half").exists());
    let store = open(&to, &yard);
    let tenant = store.tenant(&TenantId::default());
    for value in &values {
        let read = read_whole(tenant.artifacts().as_ref(), Digest::of(value), u64::MAX).await.unwrap();
        assert_eq!(read, *value);
    }
    for summary in tenant.runs(RunFilter::default()).await.unwrap() {
        assert_eq!(tenant.events().read(summary.run, 0, 10).await.unwrap().len(), 4, "no run is there in part");
    }
    // It is a yard like any other: nobody holds it, and it can be cleaned up and copied.
    yard.clock.advance(Duration::from_secs(2 * 3_600));
    store.gc(&Retention { keep_runs: Some(1), ..Retention::default() }).await.unwrap();
    store.backup(&yard.folder.path().join("again"), &[]).await.unwrap();
    assert_eq!(restore(&folder, &to, clock(&yard)).await.unwrap_err().kind, StoreErrorKind::NotEmpty);
    store.close().await;
    yard.store.close().await;
}

/// Every file of a backup in turn is cut, altered or lost; what its manifest says may be anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_not_whole_is_refused_and_leaves_nothing() {
    let Copied { yard, folder, .. } = copied().await;
    yard.store.close().await;
    let to = yard.folder.path().join("restored");
    let mut files = Vec::new();
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let large = files.iter().filter(|path| path.to_str().unwrap().contains("/large/")).nth(1).cloned();
    let packs = files.iter().find(|path| path.to_str().unwrap().contains("/packs/")).cloned();
    let others = files.iter().filter(|path| !path.to_str().unwrap().contains("/objects/")).cloned();
    for path in others.chain(large).chain(packs) {
        let whole = std::fs::read(&path).unwrap();
        let mut altered = whole.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 0x80;
        let cut = whole[..whole.len() / 2].to_vec();
        for content in [Some(altered), Some(cut), None] {
            match content {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            refused(&folder, &to, &yard).await;
        }
        std::fs::write(&path, whole).unwrap();
    }
    let manifest = folder.join("backup.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    for (from, into) in [
        ("components/a.wasm", "../a.wasm"),
        ("components/a.wasm", "/tmp/a.wasm"),
        ("components/a.wasm", "objects/a.wasm"),
        ("components/a.wasm", "components/../../a.wasm"),
        ("components/a.wasm", "components/.a.wasm"),
        ("opyard.db", "other.db"),
        ("\"objects\": ", "\"objects\": 1"),
        ("\"opyard_backup\": 1", "\"opyard_backup\": 2"),
        ("\"format\": ", "\"format\": 9"),
    ] {
        std::fs::write(&manifest, text.replace(from, into)).unwrap();
        refused(&folder, &to, &yard).await;
    }
    std::fs::write(&manifest, text).unwrap();
    restore(&folder, &to, clock(&yard)).await.unwrap();
}

async fn refused(folder: &Path, to: &Path, yard: &Yard) {
    let error: StoreError = restore(folder, to, clock(yard)).await.unwrap_err();
    assert!(matches!(error.kind, StoreErrorKind::NotABackup(_) | StoreErrorKind::Version { .. }), "{error}");
    assert_eq!(std::fs::read_dir(to).map_or(0, Iterator::count), 0);
    let beside = std::fs::read_dir(to.parent().unwrap()).unwrap();
    let left = beside.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().contains("restoring"));
    assert_eq!(left.count(), 0, "nothing is left of it");
}

/// While a copy is made nothing is cleaned up, and the copy fails if it was silent for so long that it happened.
#[tokio::test]
async fn a_copy_and_a_clean_up_exclude_each_other() {
    let yard = Yard::new("file:");
    fill(&yard.tenant("default"), 1).await;
    let hold = crate::sqlite::upkeep::Hold::take(yard.store.shared()).await.unwrap();
    let folder = yard.folder.path().join("copy");
    let refused = yard.store.backup(&folder, &[]).await.unwrap_err();
    assert!(matches!(refused.kind, StoreErrorKind::Locked(_)), "{refused}");
    hold.release().await;
    yard.store.backup(&folder, &[]).await.unwrap();
    yard.store.gc(&Retention::default()).await.unwrap();
    yard.store.close().await;
}
