//! What every artifact store does.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use opyard_model::digest::Digest;
use opyard_model::value::ArtifactRef;

use crate::artifact::{ArtifactReader, ArtifactStore, MAX_PACKED};
use crate::error::StoreErrorKind;

/// Runs the suite against the empty artifacts of one tenant, and those of another one of the same store.
pub async fn artifacts(store: Arc<dyn ArtifactStore>, other: Arc<dyn ArtifactStore>) {
    let small = Bytes::from_static(b"species,body_mass_g\nAdelie,3750\n");
    puts_once(&*store, &small).await;
    keeps_tenants_apart(&*store, &*other, &small).await;
    for size in [0, 1, MAX_PACKED - 1, MAX_PACKED, MAX_PACKED + 1, 3_500_000] {
        streams(&*store, size).await;
    }
    let error = store.put(Bytes::from(vec![7; MAX_PACKED + 1])).await.unwrap_err();
    assert!(matches!(error.kind, StoreErrorKind::TooLarge(_)), "{error:?}");
    leaves_nothing_of_the_dropped(&*store).await;
    puts_at_the_same_time(Arc::clone(&store)).await;
    let listed: Vec<ArtifactRef> = store.list().try_collect().await.unwrap();
    let known: BTreeSet<_> = listed.iter().copied().collect();
    assert_eq!(known.len(), listed.len(), "each artifact is listed once");
    for artifact in listed {
        assert_eq!(read(&*store, artifact, 1 << 20).await, artifact);
    }
}

/// `size` bytes that do not repeat.
#[must_use]
pub(crate) fn noise(size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn read(store: &dyn ArtifactStore, artifact: ArtifactRef, chunk: usize) -> ArtifactRef {
    let mut reader = store.get(artifact.digest).await.unwrap();
    assert_eq!(reader.artifact(), artifact);
    let (mut hasher, mut offset) = (blake3::Hasher::new(), 0);
    loop {
        let bytes = reader.read_at(offset, chunk).await.unwrap();
        let expected = usize::try_from(artifact.size - offset).unwrap().min(chunk);
        assert_eq!(bytes.len(), expected, "exactly what is left, or what was asked for");
        if bytes.is_empty() {
            break;
        }
        hasher.update(&bytes);
        offset += bytes.len() as u64;
    }
    ArtifactRef { digest: Digest::from_bytes(*hasher.finalize().as_bytes()), size: offset }
}

async fn puts_once(store: &dyn ArtifactStore, bytes: &Bytes) {
    let first = store.put(bytes.clone()).await.unwrap();
    assert_eq!(first.artifact, ArtifactRef::of(bytes));
    assert_eq!(read(store, first.artifact, 7).await, first.artifact, "it can be read at once");
    let again = store.put(bytes.clone()).await.unwrap();
    assert_eq!(again.artifact, first.artifact);
    first.durable.wait().await.unwrap();
    again.durable.wait().await.unwrap();
    let mut writer = store.begin().await.unwrap();
    for byte in bytes.chunks(3) {
        writer.write(Bytes::copy_from_slice(byte)).await.unwrap();
    }
    let streamed = writer.finish().await.unwrap();
    assert_eq!(streamed.artifact, first.artifact, "however it was put");
    streamed.durable.wait().await.unwrap();
    let listed: Vec<ArtifactRef> = store.list().try_collect().await.unwrap();
    assert_eq!(listed, [first.artifact]);
}

async fn keeps_tenants_apart(store: &dyn ArtifactStore, other: &dyn ArtifactStore, bytes: &Bytes) {
    let digest = Digest::of(bytes);
    let missing = StoreErrorKind::Missing(digest);
    assert_eq!(other.get(digest).await.err().unwrap().kind, missing, "a digest alone never authorises a read");
    assert_eq!(other.list().try_collect::<Vec<_>>().await.unwrap(), []);
    let absent = Digest::of(b"never put");
    assert_eq!(store.get(absent).await.err().unwrap().kind, StoreErrorKind::Missing(absent));
    other.put(bytes.clone()).await.unwrap().durable.wait().await.unwrap();
    assert_eq!(read(other, ArtifactRef::of(bytes), 1 << 20).await, ArtifactRef::of(bytes));
}

async fn streams(store: &dyn ArtifactStore, size: usize) {
    let bytes = noise(size);
    let mut writer = store.begin().await.unwrap();
    for chunk in bytes.chunks(300_000) {
        writer.write(bytes.slice_ref(chunk)).await.unwrap();
    }
    let put = writer.finish().await.unwrap();
    assert_eq!(put.artifact, ArtifactRef::of(&bytes));
    put.durable.wait().await.unwrap();
    assert_eq!(read(store, put.artifact, 100_003).await, put.artifact);
    out_of_order(&mut *store.get(put.artifact.digest).await.unwrap(), &bytes).await;
}

async fn out_of_order(reader: &mut dyn ArtifactReader, bytes: &Bytes) {
    let size = bytes.len();
    for (offset, max) in
        [(size / 2, 10), (0, 5), (size.saturating_sub(3), 100), (size, 10), (size + 9, 1), (0, usize::MAX)]
    {
        let got = reader.read_at(offset as u64, max).await.unwrap();
        let start = offset.min(size);
        assert_eq!(got, bytes.slice(start..start.saturating_add(max).min(size)), "{max} from {offset} of {size}");
    }
    assert_eq!(reader.read_at(u64::MAX, usize::MAX).await.unwrap(), Bytes::new());
}

async fn leaves_nothing_of_the_dropped(store: &dyn ArtifactStore) {
    let before: Vec<ArtifactRef> = store.list().try_collect().await.unwrap();
    let bytes = noise(2_500_001);
    for chunks in [0, 1, 100] {
        let mut writer = store.begin().await.unwrap();
        for chunk in bytes.chunks(100_000).take(chunks) {
            writer.write(bytes.slice_ref(chunk)).await.unwrap();
        }
    }
    assert_eq!(store.list().try_collect::<Vec<_>>().await.unwrap().len(), before.len());
    assert!(store.get(Digest::of(&bytes)).await.is_err());
}

async fn puts_at_the_same_time(store: Arc<dyn ArtifactStore>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..32 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let bytes = noise(1_000 + number % 4);
            let put = store.put(bytes).await.unwrap();
            assert_eq!(read(&*store, put.artifact, 999).await, put.artifact);
            let mut large = store.begin().await.unwrap();
            large.write(noise(200_000 + number % 2)).await.unwrap();
            let large = large.finish().await.unwrap();
            assert_eq!(read(&*store, large.artifact, 64 << 10).await, large.artifact);
            put.durable.wait().await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
