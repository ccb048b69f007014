use std::sync::Arc;

use opyard_model::id::TenantId;

use crate::conformance::{self, samples::StillClock};
use crate::{Store, StoreSettings, TenantStore};

/// A store of its own in a folder, and its clock.
pub(super) struct Yard {
    pub(super) folder: tempfile::TempDir,
    pub(super) clock: Arc<StillClock>,
    pub(super) store: Store,
}

impl Yard {
    pub(super) fn settings(folder: &std::path::Path, objects: &str, clock: &Arc<StillClock>) -> StoreSettings {
        let objects = match objects {
            "file:" => url::Url::from_directory_path(folder.join("objects")).unwrap().to_string(),
            other => other.to_owned(),
        };
        let clock: Arc<dyn opyard_model::time::Clock> = Arc::<StillClock>::clone(clock);
        StoreSettings::new(folder.join("yard.db"), objects, clock)
    }

    pub(super) fn new(objects: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(StillClock::default());
        let store = Store::open(Self::settings(folder.path(), objects, &clock)).unwrap();
        Self { folder, clock, store }
    }

    pub(super) fn tenant(&self, name: &str) -> TenantStore {
        self.store.tenant(&TenantId::new(name).unwrap())
    }
}

const PLACES: [&str; 2] = ["file:", "memory:///"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events() {
    for place in PLACES {
        let yard = Yard::new(place);
        let tenant = yard.tenant("default");
        conformance::events(tenant.events(), tenant.artifacts()).await;
        yard.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts() {
    for place in PLACES {
        let yard = Yard::new(place);
        conformance::artifacts(yard.tenant("a").artifacts(), yard.tenant("b").artifacts()).await;
        yard.store.close().await;
    }
}

#[tokio::test]
async fn memos() {
    let yard = Yard::new("memory:///");
    let (a, b) = (yard.tenant("a"), yard.tenant("b"));
    conformance::memos(a.memos(), b.memos(), a.artifacts(), Arc::clone(&yard.clock)).await;
    yard.store.close().await;
}
