//! An object store whose client misses answers, and asks again.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use opyard_model::plan::Access;
use opyard_store::object::{Objects, Place};

use crate::error::ResourceError;
use crate::key_value::KeyValueResource;
use crate::model_registry::ModelRegistryResource;
use crate::object_store::ObjectStoreResource;

/// Puts everything twice, and tells what came of the second time.
#[derive(Debug, Default)]
struct Twice(InMemory);

impl fmt::Display for Twice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Twice")
    }
}

#[async_trait]
impl ObjectStore for Twice {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        drop(self.0.put_opts(at, payload.clone(), options.clone()).await);
        self.0.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(at, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

fn store() -> ObjectStoreResource {
    let objects = Objects::new(Arc::new(Twice::default()), Place::Remote, None);
    ObjectStoreResource::new(objects, Access::ReadWrite)
}

#[tokio::test]
async fn what_was_written_is_no_conflict_with_itself() {
    let bucket = KeyValueResource::in_objects(store(), Access::ReadWrite);
    let swap = async |expected: Option<&str>| bucket.compare_and_swap("a", expected, Bytes::from_static(b"same")).await;
    let first = swap(None).await.unwrap();
    assert_eq!(swap(None).await, Err(ResourceError::Conflict), "the same value of another write is another's");
    let second = swap(Some(&first)).await.unwrap();
    assert_eq!(bucket.get("a").await.unwrap().unwrap().revision, second);
    assert_eq!(swap(Some(&first)).await, Err(ResourceError::Conflict));

    let models = ModelRegistryResource::in_objects(store(), Access::ReadWrite);
    for number in 1..=3 {
        let writer = models.register("iris", "{}").await.unwrap();
        let mut file = writer.file("a").unwrap();
        file.write(Bytes::from_static(b"same")).await.unwrap();
        file.commit().await.unwrap();
        assert_eq!(writer.commit().await.unwrap().version, number, "no number is taken twice for one version");
    }
}
