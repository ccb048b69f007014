//! Buckets of the yard: their bounds, and what copies and cleans the yard. What they do else is tested with the resource.

use bytes::Bytes;
use opyard_model::id::Name;

use super::conform::Yard;
use crate::error::StoreErrorKind;
use crate::gc::Retention;
use crate::key_value::{Expected, KeyValues, MAX_BUCKET, MAX_NAMES};

fn bucket(yard: &Yard) -> KeyValues {
    yard.tenant("default").key_values(&Name::new("bucket").unwrap())
}

/// Pretends that the bucket holds so much.
fn fill(yard: &Yard, names: u64, bytes: u64) {
    let raw = rusqlite::Connection::open(yard.folder.path().join("yard.db")).unwrap();
    let (names, bytes) = (i64::try_from(names).unwrap(), i64::try_from(bytes).unwrap());
    assert_eq!(raw.execute("UPDATE buckets SET names = ?1, bytes = ?2", [names, bytes]).unwrap(), 1);
}

#[tokio::test]
async fn a_bucket_holds_so_much_and_no_more() {
    let yard = Yard::new("memory:///");
    let bucket = bucket(&yard);
    let put = async |name: &str, size: usize| bucket.put(name, Expected::Anything, Bytes::from(vec![0; size])).await;
    put("a", 10).await.unwrap().unwrap();
    fill(&yard, MAX_NAMES - 1, 11);
    put("b", 1).await.unwrap().unwrap();
    assert!(matches!(put("c", 1).await.unwrap_err().kind, StoreErrorKind::TooLarge(_)), "one name too many");
    assert_eq!(bucket.get("c").await.unwrap(), None);
    put("a", 1).await.unwrap().unwrap();
    assert!(bucket.remove("b").await.unwrap());
    put("c", 1).await.unwrap().unwrap();

    fill(&yard, 2, MAX_BUCKET - 5);
    assert!(matches!(put("a", 7).await.unwrap_err().kind, StoreErrorKind::TooLarge(_)));
    put("a", 6).await.unwrap().unwrap();
    assert!(matches!(put("d", 0).await.unwrap_err().kind, StoreErrorKind::TooLarge(_)), "names count too");
    assert_eq!(bucket.get("a").await.unwrap().unwrap().value.len(), 6);
    yard.store.close().await;
}

/// The count of a bucket is what it holds, whatever was done to it.
#[tokio::test]
async fn a_bucket_knows_what_it_holds() {
    let yard = Yard::new("memory:///");
    let bucket = bucket(&yard);
    for round in 0..20_u32 {
        let name = format!("name-{}", round % 7);
        let size = usize::try_from(round * 13 % 50).unwrap();
        bucket.put(&name, Expected::Anything, Bytes::from(vec![1; size])).await.unwrap();
        assert_eq!(bucket.put(&name, Expected::Absent, Bytes::new()).await.unwrap(), None);
        bucket.remove(&format!("name-{}", round % 3)).await.unwrap();
    }
    let raw = rusqlite::Connection::open(yard.folder.path().join("yard.db")).unwrap();
    let row = |sql: &str| raw.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let counted = row("SELECT count(*), sum(length(CAST(name AS BLOB)) + length(value)) FROM key_values");
    assert_eq!(row("SELECT names, bytes FROM buckets"), counted);
    yard.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_up_leaves_values_and_a_backup_holds_them() {
    let yard = Yard::new("file:");
    let value = Bytes::from_static(b"kept");
    let revision = bucket(&yard).put("a", Expected::Absent, value.clone()).await.unwrap().unwrap();
    yard.clock.advance(std::time::Duration::from_secs(1 << 24));
    yard.store.gc(&Retention { keep_runs: Some(0), ..Retention::default() }).await.unwrap();
    assert_eq!(bucket(&yard).get("a").await.unwrap().unwrap().value, value);

    let copy = yard.folder.path().join("copy");
    yard.store.backup(&copy, &[]).await.unwrap();
    let raw = rusqlite::Connection::open(copy.join(crate::backup::DATABASE)).unwrap();
    let copied = raw.query_row("SELECT value, revision FROM key_values", [], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
    });
    assert_eq!(copied.unwrap(), (value.to_vec(), revision));
    yard.store.close().await;
}

/// A put is on disk when it returns.
#[tokio::test]
async fn a_value_survives_the_end_of_the_process() {
    let yard = Yard::new("memory:///");
    bucket(&yard).put("a", Expected::Absent, Bytes::from_static(b"1")).await.unwrap().unwrap();
    let Yard { folder, clock, store } = yard;
    store.kill().await;
    let store = crate::Store::open(Yard::settings(folder.path(), "memory:///", &clock)).unwrap();
    let yard = Yard { folder, clock, store };
    assert_eq!(bucket(&yard).get("a").await.unwrap().unwrap().value, Bytes::from_static(b"1"));
    yard.store.close().await;
}
