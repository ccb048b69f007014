use bytes::Bytes;
use opyard_model::plan::{Access, ResourceSpec};

use crate::blob::MAX_CHUNK;
use crate::error::ResourceError;
use crate::object_store::{ObjectStoreResource, PutMode};
use crate::pool::{Resources, file_url};
use crate::tests::at_once;

fn open(resources: &Resources, url: &str, access: Access) -> ObjectStoreResource {
    let spec = ResourceSpec::ObjectStore { url: url.into(), access: Access::ReadWrite, version: None };
    at_once(resources.object_store(&spec, access)).unwrap()
}

async fn put(
    store: &ObjectStoreResource,
    path: &str,
    mode: PutMode,
    bytes: &[u8],
) -> Result<Option<String>, ResourceError> {
    let mut writer = store.put(path, mode)?;
    for chunk in bytes.chunks(300_000) {
        writer.write(Bytes::copy_from_slice(chunk)).await?;
    }
    let meta = writer.commit().await?;
    assert_eq!((meta.path.as_str(), meta.size), (path, bytes.len() as u64));
    Ok(meta.etag)
}

async fn read(store: &ObjectStoreResource, path: &str) -> Result<Vec<u8>, ResourceError> {
    let mut reader = store.get(path).await?;
    let mut all = Vec::new();
    loop {
        let chunk = reader.read(700_001).await?;
        if chunk.is_empty() {
            assert_eq!(all.len() as u64, reader.meta().size);
            return Ok(all);
        }
        all.extend_from_slice(&chunk);
    }
}

#[tokio::test]
async fn objects_are_put_read_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let resources = Resources::default();
    for url in [file_url(folder.path()).unwrap(), "memory:///a".to_owned()] {
        let store = open(&resources, &url, Access::ReadWrite);
        let large: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
        put(&store, "in/large.bin", PutMode::Overwrite, b"first").await.unwrap();
        put(&store, "in/large.bin", PutMode::Overwrite, &large).await.unwrap();
        assert_eq!(read(&store, "in/large.bin").await.unwrap(), large);
        let mut reader = store.get("in/large.bin").await.unwrap();
        assert_eq!(reader.read_at(2_999_990, 100).await.unwrap(), large[2_999_990..]);
        assert_eq!(reader.read_at(10, u32::MAX).await.unwrap(), large[10..10 + MAX_CHUNK]);
        assert_eq!(reader.read_at(u64::MAX, 1).await.unwrap(), Bytes::new());
        assert_eq!(reader.read(4).await.unwrap(), large[..4], "read-at does not move read");

        // Preconditions.
        assert_eq!(put(&store, "in/large.bin", PutMode::Create, b"x").await, Err(ResourceError::Conflict));
        let etag = put(&store, "in/new", PutMode::Create, b"x").await.unwrap().unwrap();
        let update = put(&store, "in/new", PutMode::Update(etag.clone()), b"y").await;
        if url.starts_with("file:") {
            assert!(matches!(update, Err(ResourceError::Invalid(_))), "{update:?}");
        } else {
            update.unwrap();
            assert_eq!(put(&store, "in/new", PutMode::Update(etag), b"z").await, Err(ResourceError::Conflict));
        }

        // Nothing of a dropped writer.
        let mut dropped = store.put("in/dropped", PutMode::Overwrite).unwrap();
        dropped.write(Bytes::from(large.clone())).await.unwrap();
        drop(dropped);
        assert_eq!(store.head("in/dropped").await, Err(ResourceError::NotFound));

        // A reader sees one version.
        let mut old = store.get("in/large.bin").await.unwrap();
        put(&store, "in/large.bin", PutMode::Overwrite, &large[..1_000]).await.unwrap();
        assert_eq!(old.read_at(0, 10).await, Err(ResourceError::Conflict));

        // Pages, in order.
        for number in 0..25 {
            put(&store, &format!("list/{number:02}"), PutMode::Overwrite, b"").await.unwrap();
        }
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let page = store.list_page("list/", token.as_deref(), 10).await.unwrap();
            assert!(page.objects.len() <= 10);
            seen.extend(page.objects.into_iter().map(|meta| meta.path));
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..25).map(|number| format!("list/{number:02}")).collect::<Vec<_>>());
        let some = store.list_page("list/1", None, u32::MAX).await.unwrap();
        assert_eq!((some.objects.len(), some.next), (10, None));
        assert_eq!(store.list_page("", None, 0).await.unwrap().objects.len(), 1, "at least one");

        store.remove("in/new").await.unwrap();
        store.remove("in/new").await.unwrap();
        assert_eq!(read(&store, "in/new").await, Err(ResourceError::NotFound));
    }
}

#[tokio::test]
async fn reading_is_not_writing() {
    let resources = Resources::default();
    let writer = open(&resources, "memory:///b", Access::ReadWrite);
    put(&writer, "a", PutMode::Overwrite, b"1").await.unwrap();
    let reader = open(&resources, "memory:///b", Access::Read);
    assert_eq!(read(&reader, "a").await.unwrap(), b"1", "the same store");
    assert_eq!(reader.put("a", PutMode::Overwrite).err(), Some(ResourceError::Denied));
    assert_eq!(reader.remove("a").await, Err(ResourceError::Denied));
    let spec = ResourceSpec::ObjectStore { url: "memory:///b".into(), access: Access::Read, version: None };
    let capped = resources.object_store(&spec, Access::ReadWrite).await.unwrap();
    assert_eq!(capped.access(), Access::Read, "a grant never gives more than the resource");
    let missing =
        ResourceSpec::ObjectStore { url: "file:///no/such/folder".into(), access: Access::Read, version: None };
    let failure = resources.object_store(&missing, Access::Read).await.unwrap_err();
    assert!(matches!(failure.answer, ResourceError::Unavailable(_)));
}

#[tokio::test]
async fn no_link_leads_out() {
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    std::fs::write(root.join("sub/inner"), "inner").unwrap();
    let link = |target: &std::path::Path, name: &str| std::os::unix::fs::symlink(target, root.join(name)).unwrap();
    link(&outside.join("secret"), "file");
    link(&outside, "folder");
    link(&outside.join("absent"), "dangling");
    link(&root.join("sub"), "within");
    let store = open(&Resources::default(), &file_url(&root).unwrap(), Access::ReadWrite);
    for path in ["file", "folder/secret", "folder/new", "dangling"] {
        assert_eq!(read(&store, path).await, Err(ResourceError::Denied), "{path}");
        assert_eq!(store.head(path).await, Err(ResourceError::Denied), "{path}");
        assert_eq!(put(&store, path, PutMode::Overwrite, b"x").await, Err(ResourceError::Denied), "{path}");
        assert_eq!(store.remove(path).await, Err(ResourceError::Denied), "{path}");
    }
    assert_eq!(read(&store, "within/inner").await.unwrap(), b"inner");
    let listed = store.list_page("", None, 100).await.unwrap();
    let paths: Vec<_> = listed.objects.into_iter().map(|meta| meta.path).collect();
    assert_eq!(paths, ["sub/inner", "within/inner"]);
    assert_eq!(store.list_page("folder/", None, 100).await.unwrap().objects, []);
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    for wrong in ["../outside/secret", "/etc/passwd", "folder/../../outside", ""] {
        assert!(matches!(store.head(wrong).await, Err(ResourceError::Invalid(_))), "{wrong}");
        assert!(matches!(store.put(wrong, PutMode::Overwrite), Err(ResourceError::Invalid(_))), "{wrong}");
    }
    for wrong in ["../", "/", "a/../", "..", "a//"] {
        assert!(store.list_page(wrong, None, 1).await.is_err(), "{wrong}");
        assert!(store.list_page("", Some(wrong), 1).await.is_err(), "{wrong}");
    }
}
