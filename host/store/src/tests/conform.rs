use std::sync::Arc;

use opyard_model::id::TenantId;

use crate::conformance::{self, samples::StillClock};
use crate::fault::Faults;
use crate::memory::MemoryStore;
use crate::run::RunFilter;
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
        let (tenant, faults) = (yard.tenant("default"), Faults::none());
        conformance::events(tenant.events(), tenant.artifacts()).await;
        let tenant = yard.tenant("wrapped");
        conformance::events(faults.events(tenant.events()), faults.artifacts(tenant.artifacts())).await;
        yard.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts() {
    for place in PLACES {
        let (yard, faults) = (Yard::new(place), Faults::none());
        conformance::artifacts(yard.tenant("a").artifacts(), yard.tenant("b").artifacts()).await;
        let (a, b) = (yard.tenant("c").artifacts(), yard.tenant("d").artifacts());
        conformance::artifacts(faults.artifacts(a), faults.artifacts(b)).await;
        yard.store.close().await;
    }
}

#[tokio::test]
async fn memos() {
    let (yard, faults) = (Yard::new("memory:///"), Faults::none());
    let (a, b) = (yard.tenant("a"), yard.tenant("b"));
    conformance::memos(a.memos(), b.memos(), a.artifacts(), Arc::clone(&yard.clock)).await;
    let (a, b) = (yard.tenant("c"), yard.tenant("d"));
    let (one, other) = (faults.memos(a.memos()), faults.memos(b.memos()));
    conformance::memos(one, other, a.artifacts(), Arc::clone(&yard.clock)).await;
    yard.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let clock = Arc::new(StillClock::default());
    let store = MemoryStore::new(Arc::<StillClock>::clone(&clock));
    let tenant = |name: &str| store.tenant(&TenantId::new(name).unwrap());
    let (a, b) = (tenant("a"), tenant("b"));
    conformance::artifacts(a.artifacts(), b.artifacts()).await;
    conformance::events(a.events(), a.artifacts()).await;
    conformance::memos(a.memos(), b.memos(), a.artifacts(), clock).await;
}

/// Invariant 4: no storage handle without a tenant, and nothing crosses.
#[tokio::test]
async fn tenants_see_nothing_of_each_other() {
    use crate::conformance::samples::{at, enqueued, run};
    let yard = Yard::new("file:");
    let (a, b) = (yard.tenant("a"), yard.tenant("b"));
    let plan = a.artifacts().put(b"{}".as_slice().into()).await.unwrap();
    a.events()
        .append(run(1), 0, vec![(at(1), enqueued(plan.artifact, 1))])
        .await
        .unwrap()
        .durable
        .wait()
        .await
        .unwrap();
    assert_eq!(a.runs(RunFilter::default()).await.unwrap().len(), 1);
    assert_eq!(b.runs(RunFilter::default()).await.unwrap(), []);
    assert_eq!(b.run(run(1)).await.unwrap(), None);
    assert_eq!(b.events().read(run(1), 0, 10).await.unwrap(), []);
    assert!(b.control().claim_run(run(1)).await.is_err());
    assert!(b.control().request_cancel(run(1), "mine").await.is_err());
    let names: Vec<_> = std::fs::read_dir(yard.folder.path().join("objects")).unwrap().collect();
    assert_eq!(names.len(), 1, "objects lie under their tenant");
    // The same run id is another run there.
    let plan = b.artifacts().put(b"{}".as_slice().into()).await.unwrap();
    b.events()
        .append(run(1), 0, vec![(at(1), enqueued(plan.artifact, 1))])
        .await
        .unwrap()
        .durable
        .wait()
        .await
        .unwrap();
    yard.store.close().await;
}

/// The suites against a real object store over the network. `OPYARD_TEST_OBJECTS` names an empty place in it
/// (`s3://bucket/prefix`); `AWS_…`, `AZURE_…` or `GOOGLE_…` say how to reach it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: set OPYARD_TEST_OBJECTS"]
async fn remote() {
    let place = std::env::var("OPYARD_TEST_OBJECTS").expect("OPYARD_TEST_OBJECTS names an empty place");
    let yard = Yard::new(&place);
    let tenant = yard.tenant("default");
    conformance::events(tenant.events(), tenant.artifacts()).await;
    conformance::artifacts(yard.tenant("a").artifacts(), yard.tenant("b").artifacts()).await;
    yard.store.close().await;
}
