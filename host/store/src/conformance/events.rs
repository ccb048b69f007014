//! What every event log does.

use std::sync::Arc;

use futures::StreamExt;
use opyard_model::event::RunEvent;
use opyard_model::id::RunId;
use opyard_model::value::ArtifactRef;

use super::samples::{at, enqueued, failed, logged, output, run, started, succeeded};
use crate::artifact::ArtifactStore;
use crate::error::StoreErrorKind;
use crate::event_log::{EventLog, MAX_APPEND_BYTES, MAX_APPEND_EVENTS};

/// Runs the suite against an empty log and the artifacts of the same tenant.
pub async fn events(log: Arc<dyn EventLog>, artifacts: Arc<dyn ArtifactStore>) {
    let plan = artifacts.put(b"{}".as_slice().into()).await.unwrap().artifact;
    appends_in_order(&*log, run(1), plan).await;
    refuses_what_is_stale(&*log, run(2), plan).await;
    bounds_an_append(&*log, run(3), plan).await;
    follows(Arc::clone(&log), run(4), plan).await;
    never_names_what_is_not_there(&*log, &*artifacts, plan).await;
    keeps_the_order_of_many(log, plan).await;
}

fn two(plan: ArtifactRef) -> Vec<(opyard_model::time::Timestamp, RunEvent)> {
    vec![(at(1), enqueued(plan, 2)), (at(2), RunEvent::RunStart)]
}

async fn appends_in_order(log: &dyn EventLog, run: RunId, plan: ArtifactRef) {
    assert_eq!(log.read(run, 0, 100).await.unwrap(), []);
    let first = log.append(run, 0, two(plan)).await.unwrap();
    assert_eq!(first.last_seq, 2);
    // Accepted, not yet waited for: the next append goes on from there.
    let more = vec![(at(3), started("a")), (at(4), logged("a", "ünïcode \u{0}\n")), (at(5), succeeded("a"))];
    let second = log.append(run, 2, more.clone()).await.unwrap();
    assert_eq!(second.last_seq, 5);
    second.durable.wait().await.unwrap();
    first.durable.wait().await.unwrap();
    let all = log.read(run, 0, 100).await.unwrap();
    assert_eq!(all.iter().map(|recorded| recorded.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(all[2..].iter().map(|recorded| (recorded.at, recorded.event.clone())).collect::<Vec<_>>(), more);
    assert_eq!(log.read(run, 3, 1).await.unwrap(), all[3..4]);
    assert_eq!(log.read(run, 0, 2).await.unwrap(), all[..2]);
    assert_eq!(log.read(run, 5, 100).await.unwrap(), []);
    assert_eq!(log.read(run, u64::MAX, usize::MAX).await.unwrap(), []);
    assert_eq!(log.read(run, 0, 0).await.unwrap(), []);
}

async fn refuses_what_is_stale(log: &dyn EventLog, run: RunId, plan: ArtifactRef) {
    log.append(run, 0, two(plan)).await.unwrap();
    for expected in [0, 1, 3] {
        // The first event of a run is always one that says what the run is.
        let events = if expected == 0 { two(plan) } else { vec![(at(3), started("a"))] };
        let error = log.append(run, expected, events).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Conflict { run, expected, last: 2 });
        let error = log.append(run, expected, Vec::new()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Conflict { run, expected, last: 2 }, "empty appends check too");
    }
    let checked = log.append(run, 2, Vec::new()).await.unwrap();
    assert_eq!(checked.last_seq, 2);
    checked.durable.wait().await.unwrap();
    assert_eq!(log.read(run, 0, 100).await.unwrap().len(), 2, "an empty append waits for all before it");
    let error = log.append(run, 2, two(plan)).await.unwrap_err();
    assert!(matches!(error.kind, StoreErrorKind::Invalid(_)), "a run begins once: {error:?}");
    let error = log.append(super::samples::run(99), 0, vec![(at(1), started("a"))]).await.unwrap_err();
    assert!(matches!(error.kind, StoreErrorKind::Invalid(_)), "a run begins with run_enqueued: {error:?}");
}

async fn bounds_an_append(log: &dyn EventLog, run: RunId, plan: ArtifactRef) {
    log.append(run, 0, two(plan)).await.unwrap();
    let many = vec![(at(3), started("a")); MAX_APPEND_EVENTS + 1];
    let large = vec![(at(3), logged("a", &"x".repeat(MAX_APPEND_BYTES)))];
    for events in [many, large] {
        let error = log.append(run, 2, events).await.unwrap_err();
        assert!(matches!(error.kind, StoreErrorKind::TooLarge(_)), "{error:?}");
    }
    let last = log.append(run, 2, vec![(at(3), started("a")); MAX_APPEND_EVENTS]).await.unwrap();
    last.durable.wait().await.unwrap();
    assert_eq!(log.read(run, 0, usize::MAX).await.unwrap().len(), MAX_APPEND_EVENTS + 2);
}

async fn follows(log: Arc<dyn EventLog>, run: RunId, plan: ArtifactRef) {
    let mut all = log.follow(run, 0);
    log.append(run, 0, two(plan)).await.unwrap();
    assert_eq!(all.next().await.unwrap().unwrap().seq, 1);
    let mut late = log.follow(run, 1);
    assert_eq!(late.next().await.unwrap().unwrap().seq, 2);
    log.append(run, 2, vec![(at(3), started("a")), (at(4), succeeded("a")), (at(5), RunEvent::RunSuccess)])
        .await
        .unwrap();
    let rest: Vec<_> = late.map(|recorded| recorded.unwrap().seq).collect().await;
    assert_eq!(rest, [3, 4, 5], "it ends with the run");
    assert_eq!(all.count().await, 4);
    assert_eq!(log.follow(run, 3).count().await, 2);
}

async fn never_names_what_is_not_there(log: &dyn EventLog, artifacts: &dyn ArtifactStore, plan: ArtifactRef) {
    let run = run(5);
    log.append(run, 0, two(plan)).await.unwrap();
    let missing = ArtifactRef::of(b"nobody has put this");
    let lost = match log.append(run, 2, vec![(at(3), output("a", missing))]).await {
        Ok(accepted) => {
            let later = log.append(run, 3, vec![(at(4), succeeded("a"))]).await;
            if let Ok(later) = later {
                later.durable.wait().await.unwrap_err();
            }
            accepted.durable.wait().await.unwrap_err()
        }
        Err(error) => error,
    };
    assert_eq!(lost.kind, StoreErrorKind::Missing(missing.digest));
    // The tail is dropped: whoever folds again may go on.
    assert_eq!(log.read(run, 0, 100).await.unwrap().len(), 2);
    let there = artifacts.put(b"nobody has put this".as_slice().into()).await.unwrap();
    assert_eq!(there.artifact, missing);
    let accepted = log.append(run, 2, vec![(at(3), output("a", missing)), (at(4), succeeded("a"))]).await.unwrap();
    accepted.durable.wait().await.unwrap();
    there.durable.wait().await.unwrap();
}

async fn keeps_the_order_of_many(log: Arc<dyn EventLog>, plan: ArtifactRef) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            let run = run(100 + number);
            let mut last = log.append(run, 0, two(plan)).await.unwrap().last_seq;
            let mut durable = None;
            for index in 0..50i64 {
                let event = if index % 7 == 0 {
                    failed("b", opyard_model::error::Code::OpFailed)
                } else {
                    logged("b", &format!("{number} {index}"))
                };
                let accepted = log.append(run, last, vec![(at(10 + index), event)]).await.unwrap();
                last = accepted.last_seq;
                durable = Some(accepted.durable);
            }
            durable.unwrap().wait().await.unwrap();
            let all = log.read(run, 0, 1_000).await.unwrap();
            assert_eq!(all.len(), 52);
            let seen: Vec<_> = all[2..].iter().map(|recorded| recorded.at).collect();
            assert_eq!(seen, (0..50).map(|index| at(10 + index)).collect::<Vec<_>>());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Drives a run through a log whose calls may fail, as an owner does (after an error: read, fold, decide again), and checks
/// in `truth`, which shows the same log without faults, that nothing is lost, repeated or out of order.
pub async fn survives_faults(faulty: Arc<dyn EventLog>, truth: Arc<dyn EventLog>, run: RunId, plan: ArtifactRef) {
    const STEPS: u64 = 20;
    // What must be in the log in the end: the run's first two events, then numbered lines.
    let line = |index: u64| (at(10), logged("a", &index.to_string()));
    let (mut last, mut acknowledged) = (0, 0);
    for _ in 0..400 {
        let next = if last == 0 { two(plan) } else { vec![line(last)] };
        let appended = match faulty.append(run, last, next).await {
            Ok(accepted) => {
                last = accepted.last_seq;
                accepted.durable.wait().await.map(|()| acknowledged = last)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &appended {
            if let StoreErrorKind::Conflict { last: ahead, .. } = error.kind
                && ahead > last
            {
                // Accepted without an answer, and on its way to the disk.
                truth.follow(run, last).next().await.unwrap().unwrap();
            }
            let read = faulty.read(run, 0, 1_000).await;
            let Ok(events) = read else { continue };
            last = events.last().map_or(0, |recorded| recorded.seq);
            assert!(last >= acknowledged, "an acknowledged event was lost");
        }
        if last >= STEPS && appended.is_ok() {
            break;
        }
    }
    let all = truth.read(run, 0, 1_000).await.unwrap();
    assert!(all.len() as u64 >= STEPS, "it never got through");
    for (index, recorded) in all.iter().enumerate() {
        let seq = index as u64 + 1;
        assert_eq!(recorded.seq, seq);
        if seq > 2 {
            assert_eq!((recorded.at, recorded.event.clone()), line(seq - 1));
        }
    }
}
