//! What every memo does.

use std::sync::Arc;
use std::time::Duration;

use opyard_model::digest::Digest;
use opyard_model::time::Clock;
use opyard_model::value::ArtifactRef;

use super::samples::{StillClock, entry, run};
use crate::artifact::ArtifactStore;
use crate::error::StoreErrorKind;
use crate::memo::{MAX_ENTRY, MemoAnswer, MemoStore};

const LEASE: Duration = Duration::from_secs(10);

async fn ask(memos: &dyn MemoStore, key: Digest, holder: u64) -> MemoAnswer {
    memos.look_up(&[key], None, run(holder), LEASE).await.unwrap().remove(0)
}

fn busy(answer: &MemoAnswer) -> bool {
    matches!(answer, MemoAnswer::Busy { wait } if !wait.is_zero() && *wait <= LEASE)
}

/// Asks until the result that was recorded is committed.
async fn hit(memos: &dyn MemoStore, key: Digest, holder: u64) -> Box<opyard_model::memo::MemoEntry> {
    loop {
        match ask(memos, key, holder).await {
            MemoAnswer::Hit(entry) => return entry,
            MemoAnswer::Busy { wait } => tokio::time::sleep(wait).await,
            MemoAnswer::Miss => panic!("missed what was recorded"),
        }
    }
}

/// Runs the suite against the empty memo and artifacts of one tenant, the memo of another one, and their clock.
pub async fn memos(
    memos: Arc<dyn MemoStore>,
    other: Arc<dyn MemoStore>,
    artifacts: Arc<dyn ArtifactStore>,
    clock: Arc<StillClock>,
) {
    let artifact = artifacts.put(b"model".as_slice().into()).await.unwrap().artifact;
    let key = Digest::of(b"key 1");
    let memos = &*memos;

    // One computation per key at a time.
    assert_eq!(ask(memos, key, 1).await, MemoAnswer::Miss);
    assert_eq!(ask(memos, key, 1).await, MemoAnswer::Miss, "asking again renews");
    assert!(busy(&ask(memos, key, 2).await));
    assert_eq!(ask(&*other, key, 2).await, MemoAnswer::Miss, "another tenant's keys are its own");
    let made = entry(key, run(1), artifact, clock.now());
    memos.record(made.clone()).await.unwrap().wait().await.unwrap();
    assert_eq!(*hit(memos, key, 2).await, made);
    assert!(busy(&ask(&*other, key, 3).await), "another tenant's claims are its own");

    // First writer wins.
    let late = entry(key, run(2), artifact, clock.now());
    memos.record(late).await.unwrap().wait().await.unwrap();
    assert_eq!(*hit(memos, key, 3).await, made);

    // Letting go; a lease that ends; letting go of what is someone else's.
    let (key2, key3) = (Digest::of(b"key 2"), Digest::of(b"key 3"));
    assert_eq!(memos.look_up(&[key2, key, key3], None, run(1), LEASE).await.unwrap().len(), 3);
    memos.release(key2, run(2)).await.unwrap();
    assert!(busy(&ask(memos, key2, 2).await));
    memos.release(key2, run(1)).await.unwrap();
    assert_eq!(ask(memos, key2, 2).await, MemoAnswer::Miss);
    clock.advance(LEASE);
    assert_eq!(ask(memos, key3, 2).await, MemoAnswer::Miss);

    // Too old for one asker.
    clock.advance(Duration::from_secs(3_600));
    let young = memos.look_up(&[key], Some(Duration::from_secs(7_200)), run(4), LEASE).await.unwrap();
    assert_eq!(young, [MemoAnswer::Hit(Box::new(made))]);
    let old = memos.look_up(&[key], Some(Duration::from_secs(60)), run(4), LEASE).await.unwrap();
    assert_eq!(old, [MemoAnswer::Miss]);
    let fresh = entry(key, run(4), artifact, clock.now());
    memos.record(fresh.clone()).await.unwrap().wait().await.unwrap();
    assert_eq!(*hit(memos, key, 5).await, fresh, "what was found too old makes room");

    // A result without its artifact is none.
    let (key4, missing) = (Digest::of(b"key 4"), ArtifactRef::of(b"not there"));
    let dangling = match memos.record(entry(key4, run(1), missing, clock.now())).await {
        Ok(durable) => durable.wait().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(dangling.kind, StoreErrorKind::Missing(missing.digest));
    assert_eq!(ask(memos, key4, 1).await, MemoAnswer::Miss);

    let mut huge = entry(Digest::of(b"key 5"), run(1), artifact, clock.now());
    huge.wasmtime = "x".repeat(MAX_ENTRY);
    assert!(matches!(memos.record(huge).await.err().unwrap().kind, StoreErrorKind::TooLarge(_)));

    // Many at once, in order.
    let keys: Vec<_> = (0..1_000u32).map(|number| Digest::of(&number.to_le_bytes())).collect();
    for key in keys.iter().step_by(2) {
        memos.record(entry(*key, run(6), artifact, clock.now())).await.unwrap();
    }
    memos.record(entry(key2, run(6), artifact, clock.now())).await.unwrap().wait().await.unwrap();
    let answers = memos.look_up(&keys, None, run(6), LEASE).await.unwrap();
    for (index, (answer, key)) in answers.iter().zip(&keys).enumerate() {
        match answer {
            MemoAnswer::Hit(entry) => assert!(index % 2 == 0 && entry.key == *key),
            MemoAnswer::Miss => assert_eq!(index % 2, 1),
            MemoAnswer::Busy { .. } => panic!("nobody else asks"),
        }
    }
}
