//! Two stores on one database: what two processes do.

use std::time::Duration;

use futures::StreamExt;
use opyard_model::event::{RunEvent, RunStatus};
use opyard_model::id::TenantId;

use super::conform::Yard;
use crate::Store;
use crate::conformance::samples::{at, enqueued, entry, run, started, succeeded};
use crate::control::LEASE;
use crate::error::StoreErrorKind;
use crate::memo::MemoAnswer;
use crate::run::RunFilter;

struct Two {
    yard: Yard,
    other: Store,
}

impl Two {
    fn new() -> Self {
        let yard = Yard::new("file:");
        let other = Store::open(Yard::settings(yard.folder.path(), "file:", &yard.clock)).unwrap();
        Self { yard, other }
    }

    fn tenants(&self) -> (crate::TenantStore, crate::TenantStore) {
        let tenant = TenantId::default();
        (self.yard.store.tenant(&tenant), self.other.tenant(&tenant))
    }

    async fn begun(&self) {
        let (here, _) = self.tenants();
        let plan = here.artifacts().put(b"{}".as_slice().into()).await.unwrap().artifact;
        let begun = vec![(at(1), enqueued(plan, 1)), (at(2), RunEvent::RunStart)];
        here.events().append(run(1), 0, begun).await.unwrap().durable.wait().await.unwrap();
    }
}

#[tokio::test]
async fn only_the_owner_appends() {
    let two = Two::new();
    two.begun().await;
    let (here, there) = two.tenants();
    let not_owner = StoreErrorKind::NotOwner { run: run(1) };
    let refused = there.events().append(run(1), 2, vec![(at(3), started("a"))]).await.unwrap_err();
    assert_eq!(refused.kind, not_owner, "it never had the lease");
    assert_eq!(there.control().claim_run(run(1)).await.unwrap_err().kind, not_owner, "the owner lives");
    assert_eq!(there.control().abandoned(10).await.unwrap(), []);

    two.yard.clock.advance(LEASE);
    assert_eq!(there.control().abandoned(10).await.unwrap(), [run(1)]);
    // A lease that is over is not yet lost.
    here.events().append(run(1), 2, vec![(at(3), started("a"))]).await.unwrap().durable.wait().await.unwrap();
    let first = there.control().claim_run(run(1)).await.unwrap();
    // The former owner has not noticed: it accepts, and does not commit.
    let late = here.events().append(run(1), 3, vec![(at(4), succeeded("a"))]).await.unwrap();
    assert_eq!(late.durable.wait().await.unwrap_err().kind, not_owner);
    let later = here.events().append(run(1), 3, vec![(at(4), succeeded("a"))]).await.unwrap_err();
    assert_eq!(later.kind, not_owner);
    there.events().append(run(1), 3, vec![(at(4), succeeded("a"))]).await.unwrap().durable.wait().await.unwrap();
    first.renew().await.unwrap();
    assert!(here.control().claim_run(run(1)).await.is_err());
    first.clone().release().await.unwrap();
    assert_eq!(first.renew().await.unwrap_err().kind, not_owner);
    let again = here.control().claim_run(run(1)).await.unwrap();
    assert!(again.token() > first.token());
    let done = here.events().append(run(1), 4, vec![(at(5), RunEvent::RunSuccess)]).await.unwrap();
    done.durable.wait().await.unwrap();
    let seen = there.events().read(run(1), 0, 10).await.unwrap();
    assert_eq!(seen.len(), 5);
    assert_eq!(again.renew().await.unwrap_err().kind, not_owner, "a run that has ended has no owner");
    let summary = there.runs(RunFilter::default()).await.unwrap().remove(0);
    assert_eq!((summary.status, summary.steps.success, summary.ended_at), (RunStatus::Success, 1, Some(at(5))));
}

#[tokio::test]
async fn requests_and_events_reach_the_other_process() {
    let two = Two::new();
    two.begun().await;
    let (here, there) = two.tenants();
    let mut asked = here.control().follow_requests(run(1));
    let mut seen = there.events().follow(run(1), 2);
    assert_eq!(there.control().request_cancel(run(1), "enough").await.unwrap(), RunStatus::Started);
    assert_eq!(asked.next().await.unwrap().unwrap().reason, "enough");
    let last = vec![(at(3), RunEvent::RunCanceling { reason: "enough".into() }), (at(4), RunEvent::RunCanceled)];
    here.events().append(run(1), 2, last).await.unwrap();
    assert_eq!(seen.next().await.unwrap().unwrap().seq, 3);
    assert_eq!(seen.count().await, 1);
    assert_eq!(there.control().request_cancel(run(1), "again").await.unwrap(), RunStatus::Canceled);
}

#[tokio::test]
async fn memo_claims_are_seen_and_end_with_their_lease() {
    let two = Two::new();
    let (here, there) = two.tenants();
    let (key, lease) = (opyard_model::digest::Digest::of(b"key"), Duration::from_secs(60));
    assert_eq!(here.memos().look_up(&[key], None, run(1), lease).await.unwrap(), [MemoAnswer::Miss]);
    // Shown with the next commit.
    let put = here.artifacts().put(b"value".as_slice().into()).await.unwrap();
    put.durable.wait().await.unwrap();
    let busy = there.memos().look_up(&[key], None, run(2), lease).await.unwrap();
    assert!(matches!(busy[..], [MemoAnswer::Busy { .. }]), "{busy:?}");
    two.yard.clock.advance(lease);
    assert_eq!(there.memos().look_up(&[key], None, run(2), lease).await.unwrap(), [MemoAnswer::Miss]);
    let made = entry(key, run(2), put.artifact, at(9));
    there.memos().record(made.clone()).await.unwrap().wait().await.unwrap();
    assert_eq!(here.memos().look_up(&[key], None, run(3), lease).await.unwrap(), [MemoAnswer::Hit(Box::new(made))]);
    // Neither the claim that was over nor the one that led to the result stays.
    let database = rusqlite::Connection::open(two.yard.folder.path().join("yard.db")).unwrap();
    let left = database.query_row("SELECT count(*) FROM memo_claims", [], |row| row.get::<_, i64>(0));
    assert_eq!(left.unwrap(), 0);
}
