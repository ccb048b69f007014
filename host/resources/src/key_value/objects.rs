//! Values as objects: one a name, at the path that [`encoding`](super::encoding) gives.
//!
//! An object is [`MAGIC`], sixteen random bytes, and the value: so that two writes of the same value differ for stores whose
//! etags are made of the content. A revision is what the store compares: its version and etag.

use bytes::{Bytes, BytesMut};
use object_store::{PutMode, UpdateVersion};
use opyard_store::object::{CALL_TIMEOUT, Place};

use super::encoding::{name_of, path_of, start_of};
use super::{Entry, Expected, MAX_VALUE};
use crate::error::ResourceError;
use crate::object_store::{MAX_PAGE, ObjectStoreResource};
use crate::random;

/// What an object that holds a value starts with.
const MAGIC: &[u8; 8] = b"opykv 1\n";
/// Bytes before the value.
const HEAD: usize = MAGIC.len() + 16;

/// A bucket in an object store.
#[derive(Debug, Clone)]
pub(super) struct ObjectValues {
    store: ObjectStoreResource,
}

/// The text of a revision: `LENGTH.VERSION` and the etag, of whatever the store gave.
fn revision(etag: Option<&str>, version: Option<&str>) -> String {
    let version = version.unwrap_or("");
    format!("{}.{version}{}", version.len(), etag.unwrap_or(""))
}

/// A revision as the store wants it. Guest-controlled; what no store gave is none that an object has.
fn parsed(text: &str) -> Option<UpdateVersion> {
    let (length, rest) = text.split_once('.')?;
    let (version, etag) = rest.split_at_checked(length.parse().ok()?)?;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // They go into headers.
    let plain = rest.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then(|| UpdateVersion { e_tag: some(etag), version: some(version) })
}

impl ObjectValues {
    pub(super) fn new(store: ObjectStoreResource) -> Self {
        Self { store }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Entry>, ResourceError> {
        let Some(found) = self.store.get_small(&path_of(name), MAX_VALUE + HEAD).await? else { return Ok(None) };
        if !found.bytes.starts_with(MAGIC) || found.bytes.len() < HEAD {
            return Err(ResourceError::Unavailable("an object in the place of a value is none".into()));
        }
        let revision = revision(found.etag.as_deref(), found.version.as_deref());
        Ok(Some(Entry { value: found.bytes.slice(HEAD..), revision }))
    }

    pub(super) async fn put(&self, name: &str, expected: Expected<'_>, value: &Bytes) -> Result<String, ResourceError> {
        let mode = match expected {
            Expected::Anything => PutMode::Overwrite,
            Expected::Absent => PutMode::Create,
            Expected::Revision(_) if self.store.objects().place == Place::Local => {
                let reason = "this bucket is a folder of files, which cannot be replaced on the condition that they are \
                              unchanged";
                return Err(ResourceError::Invalid(reason.into()));
            }
            Expected::Revision(text) => PutMode::Update(parsed(text).ok_or(ResourceError::Conflict)?),
        };
        let mut object = BytesMut::with_capacity(HEAD + value.len());
        object.extend_from_slice(MAGIC);
        object.extend_from_slice(&random::bytes()?);
        object.extend_from_slice(value);
        match self.store.put_small(&path_of(name), object.freeze(), mode).await {
            Ok(put) => Ok(revision(put.e_tag.as_deref(), put.version.as_deref())),
            // What should be unchanged is gone.
            Err(ResourceError::NotFound) => Err(ResourceError::Conflict),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn remove(&self, name: &str) -> Result<bool, ResourceError> {
        let path = path_of(name);
        // Object stores do not say whether there was anything.
        match self.store.head(&path).await {
            Ok(_) => self.store.remove(&path).await.map(|()| true),
            Err(ResourceError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ResourceError> {
        tokio::time::timeout(CALL_TIMEOUT, self.look_through(prefix, after, limit))
            .await
            .map_err(|_| ResourceError::Unavailable("listing took too long".into()))?
    }

    async fn look_through(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ResourceError> {
        let start = start_of(prefix);
        let mut token = after.map(path_of);
        let mut names = Vec::new();
        let page_size = u32::try_from(MAX_PAGE).unwrap_or(u32::MAX);
        loop {
            let page = self.store.list_page(&start, token.as_deref(), page_size).await?;
            // Objects that are no values are somebody else's.
            for name in page.objects.iter().filter_map(|meta| name_of(&meta.path)) {
                if name.starts_with(prefix) {
                    names.push(name);
                    if names.len() == limit {
                        return Ok(names);
                    }
                } else if name.as_str() > prefix {
                    return Ok(names);
                }
            }
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(names),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_come_back_and_others_are_none() {
        for (etag, version) in [(Some("\"a.b\""), None), (Some("x"), Some("17")), (None, Some("v.1")), (None, None)] {
            let back = parsed(&revision(etag, version)).unwrap();
            assert_eq!((back.e_tag.as_deref(), back.version.as_deref()), (etag, version));
        }
        for wrong in ["", "x", "9.abc", "-1.a", "0.a\nb", "1.é"] {
            assert!(parsed(wrong).is_none(), "{wrong}");
        }
    }
}
