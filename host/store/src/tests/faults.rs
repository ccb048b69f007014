use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use opyard_model::event::RunEvent;
use rusqlite::Connection;

use super::conform::Yard;
use crate::Store;
use crate::artifact::{ArtifactReader, ArtifactStore};
use crate::conformance::samples::{at, enqueued, entry, logged, output, run, started, succeeded};
use crate::conformance::survives_faults;
use crate::error::StoreErrorKind;
use crate::fault::{Fault, Faults, Operation};
use crate::sqlite::artifacts::{Opened, SqliteArtifacts};
use crate::sqlite::large::{BLOCK, LargeReader, READ_AHEAD};

#[tokio::test]
async fn a_faulty_log_loses_and_repeats_nothing() {
    let yard = Yard::new("file:");
    let tenant = yard.tenant("default");
    let plan = tenant.artifacts().put(b"{}".as_slice().into()).await.unwrap().artifact;
    let kinds = [Fault::Fail, Fault::Delay(Duration::from_millis(1)), Fault::Truncate, Fault::LoseAcknowledgement];
    let mut number = 0;
    for fault in kinds {
        for operation in [Operation::Append, Operation::Commit, Operation::ReadEvents] {
            if (fault, operation) == (Fault::Truncate, Operation::ReadEvents) {
                continue; // A log that hides durable events breaks its contract: no owner can survive that.
            }
            let faults = Faults::none();
            faults.every(operation, 3, fault).at(Operation::Append, 2, Fault::LoseAcknowledgement);
            number += 1;
            survives_faults(faults.events(tenant.events()), tenant.events(), run(number), plan).await;
        }
    }
    yard.store.close().await;
}

/// A real fault: someone else holds the database longer than the writer waits.
#[tokio::test]
async fn a_failed_commit_drops_the_tail_and_what_hangs_on_it() {
    let yard = Yard::new("file:");
    yard.store.close().await;
    let mut settings = Yard::settings(yard.folder.path(), "file:", &yard.clock);
    settings.busy = Duration::from_millis(20);
    let store = Store::open(settings).unwrap();
    let tenant = store.tenant(yard.tenant("default").tenant());
    let (log, artifacts, memos) = (tenant.events(), tenant.artifacts(), tenant.memos());
    let plan = artifacts.put(b"{}".as_slice().into()).await.unwrap().artifact;
    let begun = vec![(at(1), enqueued(plan, 1)), (at(2), started("a"))];
    log.append(run(1), 0, begun.clone()).await.unwrap().durable.wait().await.unwrap();

    let blocker = Connection::open(yard.folder.path().join("yard.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let value = artifacts.put(b"value".as_slice().into()).await.unwrap();
    let first = log.append(run(1), 2, vec![(at(3), output("a", value.artifact))]).await.unwrap();
    let second = log.append(run(1), 3, vec![(at(4), succeeded("a"))]).await;
    let key = opyard_model::digest::Digest::of(b"key");
    let memo = memos.record(entry(key, run(1), value.artifact, at(4))).await;
    let lost = first.durable.wait().await.unwrap_err();
    assert!(matches!(lost.kind, StoreErrorKind::Locked(_)), "{lost:?}");
    if let Ok(second) = second {
        second.durable.wait().await.unwrap_err();
    }
    if let Ok(memo) = memo {
        memo.wait().await.unwrap_err();
    }
    blocker.execute_batch("ROLLBACK").unwrap();

    // The value was in the failed commit too: an event that names it fails later, whoever appends it.
    assert!(value.durable.wait().await.is_err());
    let folded = log.read(run(1), 0, 100).await.unwrap();
    assert_eq!(folded.len(), 2);
    let dangling = log.append(run(1), 2, vec![(at(3), output("a", value.artifact))]).await.unwrap();
    assert_eq!(dangling.durable.wait().await.unwrap_err().kind, StoreErrorKind::Missing(value.artifact.digest));
    // Put again, it all goes on.
    artifacts.put(b"value".as_slice().into()).await.unwrap();
    let again =
        log.append(run(1), 2, vec![(at(3), output("a", value.artifact)), (at(4), succeeded("a"))]).await.unwrap();
    memos.record(entry(key, run(1), value.artifact, at(4))).await.unwrap().wait().await.unwrap();
    again.durable.wait().await.unwrap();
    assert_eq!(log.read(run(1), 0, 100).await.unwrap().len(), 4);
    store.close().await;
}

#[tokio::test]
async fn altered_bytes_are_never_handed_out_whole() {
    let yard = Yard::new("file:");
    let artifacts = yard.tenant("default").artifacts();
    let bytes = crate::conformance::noise(2_000_000);
    for size in [5_000, 2_000_000] {
        let mut writer = artifacts.begin().await.unwrap();
        writer.write(bytes.slice(..size)).await.unwrap();
        writer.finish().await.unwrap().durable.wait().await.unwrap();
    }
    yard.store.close().await;
    // One bit of every object flips.
    let mut folders = vec![yard.folder.path().join("objects")];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mut content = std::fs::read(&path).unwrap();
                *content.last_mut().unwrap() ^= 1;
                std::fs::write(&path, content).unwrap();
            }
        }
    }
    let store = Store::open(Yard::settings(yard.folder.path(), "file:", &yard.clock)).unwrap();
    let artifacts: Arc<dyn ArtifactStore> = store.tenant(yard.tenant("default").tenant()).artifacts();
    let digest = |size: usize| opyard_model::digest::Digest::of(&bytes[..size]);
    assert_eq!(artifacts.get(digest(5_000)).await.err().unwrap().kind, StoreErrorKind::Corrupt(digest(5_000)));
    let corrupt = StoreErrorKind::Corrupt(digest(2_000_000));
    let mut in_order = artifacts.get(digest(2_000_000)).await.unwrap();
    in_order.read_at(0, 1_000_000).await.unwrap();
    assert_eq!(in_order.read_at(1_000_000, 1_000_000).await.unwrap_err().kind, corrupt);
    let mut anywhere = artifacts.get(digest(2_000_000)).await.unwrap();
    assert_eq!(anywhere.read_at(5, 10).await.unwrap_err().kind, corrupt, "checked whole before the first byte");
    // What was found damaged is stored again by whoever makes the same bytes, and is right from then on.
    for size in [5_000, 2_000_000] {
        let mut writer = artifacts.begin().await.unwrap();
        writer.write(bytes.slice(..size)).await.unwrap();
        writer.finish().await.unwrap().durable.wait().await.unwrap();
    }
    store.close().await;
    let store = Store::open(Yard::settings(yard.folder.path(), "file:", &yard.clock)).unwrap();
    let artifacts = store.tenant(yard.tenant("default").tenant()).artifacts();
    for size in [5_000, 2_000_000] {
        let mut reader = artifacts.get(digest(size)).await.unwrap();
        assert_eq!(reader.read_at(0, size).await.unwrap(), bytes.slice(..size));
    }
    store.close().await;
}

/// A guest may open thousands of inputs, and read a byte of each.
#[tokio::test]
async fn many_open_values_hold_little_memory() {
    const OPEN: usize = 200;
    let yard = Yard::new("file:");
    let tenant = yard.tenant("default");
    let bytes = crate::conformance::noise(2 * BLOCK);
    let mut writer = tenant.artifacts().begin().await.unwrap();
    writer.write(bytes.clone()).await.unwrap();
    let digest = writer.finish().await.unwrap().artifact.digest;
    let artifacts = SqliteArtifacts { shared: Arc::clone(tenant.shared()), tenant: tenant.tenant().clone() };
    let mut readers = Vec::new();
    for _ in 0..OPEN {
        let Opened::Large(location) = artifacts.open(digest).await.unwrap() else { panic!("it is large") };
        let mut reader = LargeReader::new(artifacts.clone(), digest, location);
        // In order, and anywhere.
        let (offset, size) = if readers.len().is_multiple_of(2) { (0, 1) } else { (7, BLOCK) };
        assert_eq!(reader.read_at(offset as u64, size).await.unwrap(), bytes[offset..offset + size]);
        readers.push(reader);
    }
    let held: usize = readers.iter().map(LargeReader::held).sum();
    assert!(held <= READ_AHEAD * 2 * BLOCK + OPEN * 64, "{held} bytes are held");
    // Those that must not read ahead read right.
    let in_order = &mut readers[OPEN - 2];
    assert_eq!(in_order.read_at(1, BLOCK + 5).await.unwrap(), bytes[1..BLOCK + 6]);
    assert_eq!(in_order.read_at(7, 9).await.unwrap(), bytes[7..16]);
    // Who is done leaves room for others.
    readers.clear();
    assert_eq!(tenant.shared().read_ahead.available_permits(), READ_AHEAD);
    yard.store.close().await;
}

#[tokio::test]
async fn dropped_and_repeated_uploads_leave_no_objects() {
    let yard = Yard::new("memory:///");
    let (tenant, objects) = (yard.tenant("default"), yard.store.objects());
    let artifacts = tenant.artifacts();
    let bytes = crate::conformance::noise(3_000_000);
    for finish in [true, true, false] {
        let mut writer = artifacts.begin().await.unwrap();
        writer.write(bytes.clone()).await.unwrap();
        if finish {
            writer.finish().await.unwrap();
        }
    }
    objects.settled().await;
    let all = objects.store.list_with_delimiter(Some(&"default/large".into())).await.unwrap();
    assert_eq!(all.objects.len(), 1);
    objects.store.delete(&all.objects[0].location).await.unwrap();
    let digest = opyard_model::digest::Digest::of(&bytes);
    let mut reader = artifacts.get(digest).await.unwrap();
    assert_eq!(reader.read_at(0, 10).await.unwrap_err().kind, StoreErrorKind::Missing(digest));
    yard.store.close().await;
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let yard = Yard::new("file:");
    yard.store.close().await;
    let open = |path: std::path::PathBuf| {
        let mut settings = Yard::settings(yard.folder.path(), "file:", &yard.clock);
        settings.database = path;
        settings.busy = Duration::from_millis(20);
        Store::open(settings).err().map(|error| error.kind)
    };
    let database = yard.folder.path().join("yard.db");
    let raw = Connection::open(&database).unwrap();
    raw.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(matches!(open(database.clone()), Some(StoreErrorKind::Locked(_))));
    raw.execute_batch("ROLLBACK; PRAGMA user_version = 99").unwrap();
    assert_eq!(open(database), Some(StoreErrorKind::Version { found: 99, known: crate::sqlite::schema::FORMAT }));
    let foreign = yard.folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(open(foreign), Some(StoreErrorKind::Unreadable(_))));
    let text = yard.folder.path().join("text.db");
    std::fs::write(&text, "not a database at all, but long enough to look at ".repeat(50)).unwrap();
    assert!(matches!(open(text), Some(StoreErrorKind::Unreadable(_))));
    assert!(matches!(open(yard.folder.path().to_owned()), Some(StoreErrorKind::Unavailable(_))));
    for wrong in ["", "objects", "ftp://example.com", "file:relative", "s3://user:word@bucket"] {
        let settings = Yard::settings(yard.folder.path(), wrong, &yard.clock);
        assert!(
            matches!(Store::open(settings).err().map(|error| error.kind), Some(StoreErrorKind::Invalid(_))),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn an_altered_log_is_not_read() {
    let yard = Yard::new("file:");
    let tenant = yard.tenant("default");
    let plan = tenant.artifacts().put(b"{}".as_slice().into()).await.unwrap().artifact;
    let mut events = vec![(at(1), enqueued(plan, 1))];
    events.extend((0..5).map(|index| (at(2), logged("a", &index.to_string()))));
    events.push((at(3), RunEvent::RunSuccess));
    let log = tenant.events();
    log.append(run(1), 0, events).await.unwrap().durable.wait().await.unwrap();
    let raw = Connection::open(yard.folder.path().join("yard.db")).unwrap();
    for (change, back) in [
        (
            "UPDATE events SET payload = replace(payload, '\"3\"', '\"4\"')",
            "UPDATE events SET payload = replace(payload, '\"4\"', '\"3\"') WHERE id & 0xff = 5",
        ),
        ("UPDATE events SET at = at + 1 WHERE id & 0xff = 5", "UPDATE events SET at = at - 1 WHERE id & 0xff = 5"),
        (
            "UPDATE events SET id = id + 100 WHERE id & 0xff = 7",
            "UPDATE events SET id = id - 100 WHERE id & 0xff = 107",
        ),
        (
            "UPDATE events SET id = id + 100 WHERE id & 0xff = 3",
            "UPDATE events SET id = id - 100 WHERE id & 0xff = 103",
        ),
    ] {
        assert_eq!(log.read(run(1), 0, 100).await.unwrap().len(), 7);
        raw.execute_batch(change).unwrap();
        let error = log.read(run(1), 0, 100).await.unwrap_err();
        assert!(matches!(error.kind, StoreErrorKind::Unreadable(_)), "{change}: {error:?}");
        raw.execute_batch(back).unwrap();
    }
    yard.store.close().await;
}

/// Puts a small value and streams a large one, trying again until both are acknowledged. Returns how often it took.
async fn put_both(store: &dyn ArtifactStore, small: &bytes::Bytes, large: &bytes::Bytes) -> u32 {
    let mut tries = 0;
    loop {
        tries += 1;
        assert!(tries < 20, "the faults do not end");
        let attempt = async {
            store.put(small.clone()).await?.durable.wait().await?;
            let mut writer = store.begin().await?;
            for chunk in large.chunks(50_000) {
                writer.write(bytes::Bytes::copy_from_slice(chunk)).await?;
            }
            writer.finish().await?.durable.wait().await
        };
        if attempt.await.is_ok() {
            return tries;
        }
    }
}

#[tokio::test]
async fn a_faulty_artifact_store_keeps_each_value_once_and_whole() {
    use futures::TryStreamExt as _;
    let yard = Yard::new("file:");
    let kinds = [Fault::Fail, Fault::Delay(Duration::from_millis(1)), Fault::Truncate, Fault::LoseAcknowledgement];
    let operations = [Operation::Put, Operation::Begin, Operation::Write, Operation::Finish];
    for (number, (fault, operation)) in kinds.into_iter().flat_map(|f| operations.map(|o| (f, o))).enumerate() {
        let tenant = yard.tenant(&format!("t{number}"));
        let faults = Faults::none();
        faults.at(operation, 1, fault);
        let store = faults.artifacts(tenant.artifacts());
        let small = bytes::Bytes::from(format!("small {number}"));
        let large: bytes::Bytes = (0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into();
        let tries = put_both(store.as_ref(), &small, &large).await;
        assert_eq!(tries > 1, !matches!(fault, Fault::Delay(_)), "{fault:?} of {operation:?} was told");
        // What was tried again is there once, and reads back: also when a read fails, or is cut short, on the way.
        let listed: Vec<_> = tenant.artifacts().list().try_collect().await.unwrap();
        assert_eq!(listed.len(), 2, "{fault:?} of {operation:?}: {listed:?}");
        for (value, artifact) in
            [&small, &large].into_iter().map(|value| (value, opyard_model::value::ArtifactRef::of(value)))
        {
            faults.at(Operation::Get, 1, Fault::Fail).at(Operation::ReadAt, 1, Fault::Truncate);
            assert!(store.get(artifact.digest).await.is_err());
            let mut reader = store.get(artifact.digest).await.unwrap();
            let mut read = Vec::new();
            while read.len() < value.len() {
                let chunk = reader.read_at(read.len() as u64, 1 << 20).await.unwrap();
                assert!(!chunk.is_empty());
                read.extend_from_slice(&chunk);
            }
            assert_eq!(read, *value);
        }
    }
    yard.store.close().await;
}

#[tokio::test]
async fn a_faulty_memo_forgets_no_result_and_keeps_no_key() {
    use crate::memo::MemoAnswer;
    let yard = Yard::new("memory:///");
    let lease = Duration::from_secs(30);
    for (number, fault) in
        [Fault::Fail, Fault::Delay(Duration::from_millis(1)), Fault::Truncate, Fault::LoseAcknowledgement]
            .into_iter()
            .enumerate()
    {
        let tenant = yard.tenant(&format!("m{number}"));
        let artifact = tenant.artifacts().put(b"value".as_slice().into()).await.unwrap().artifact;
        let faults = Faults::none();
        let memos = faults.memos(tenant.memos());
        let key = opyard_model::digest::Digest::of(b"key");
        faults.at(Operation::LookUp, 1, fault).at(Operation::Record, 1, fault).at(Operation::Release, 1, fault);
        // The asker of a look-up that failed asks again, and holds the key then.
        let answers = loop {
            match memos.look_up(&[key], None, run(1), lease).await {
                Ok(answers) => break answers,
                Err(_) => assert!(!matches!(fault, Fault::Delay(_))),
            }
        };
        assert_eq!(answers, [MemoAnswer::Miss]);
        // Letting go fails, or seems to: trying again does it, and another may have the key.
        while memos.release(key, run(1)).await.is_err() {}
        assert_eq!(memos.look_up(&[key], None, run(2), lease).await.unwrap(), [MemoAnswer::Miss]);
        let made = entry(key, run(2), artifact, at(1));
        loop {
            match memos.record(made.clone()).await {
                Ok(durable) => break durable.wait().await.unwrap(),
                Err(_) => assert!(!matches!(fault, Fault::Delay(_))),
            }
        }
        // First writer wins, however often it was told.
        memos.record(entry(key, run(3), artifact, at(2))).await.unwrap().wait().await.unwrap();
        let answers = memos.look_up(&[key], None, run(3), lease).await.unwrap();
        assert_eq!(answers, [MemoAnswer::Hit(Box::new(made))]);
    }
    yard.store.close().await;
}
