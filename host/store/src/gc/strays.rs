//! Objects and staged uploads that no row knows: what crashes left behind.

use std::path::PathBuf;

use futures::StreamExt;
use object_store::ObjectStore as _;

use super::Gc;
use crate::error::{StoreError, StoreErrorKind};
use crate::object::{CALL_TIMEOUT, object_error};
use crate::sqlite::sqlite_error;
use crate::sqlite::upkeep::named_at;

/// Objects looked up at a time.
const PAGE: usize = 500;

/// Where objects are, below their tenant.
const FOLDERS: [&str; 2] = ["packs", "large"];

impl Gc<'_> {
    /// Removes them. Rows for objects of that age are not inserted any more, whatever their writer was doing meanwhile.
    pub(super) async fn remove_strays(&mut self) -> Result<(), StoreError> {
        let context = "listing objects";
        let store = std::sync::Arc::clone(&self.shared.objects.store);
        let mut listed = store.list(None);
        let mut page = Vec::new();
        loop {
            let next = tokio::time::timeout(CALL_TIMEOUT, listed.next())
                .await
                .map_err(|_| StoreError::new(context, StoreErrorKind::Unavailable("no answer".into())))?;
            let over = next.is_none();
            if let Some(object) = next {
                let object = match object {
                    // Removed while it was listed.
                    Err(object_store::Error::NotFound { .. }) => continue,
                    object => object.map_err(|error| object_error(context, &error))?,
                };
                let name = object.location.to_string();
                if is_ours(&name) && named_at(&name).is_some_and(|named| named < self.bounds.before) {
                    page.push((name, object.size));
                }
            }
            if page.len() == PAGE || (over && !page.is_empty()) {
                self.remove_unknown(std::mem::take(&mut page)).await?;
            }
            if over {
                break;
            }
        }
        self.remove_staged().await
    }

    async fn remove_unknown(&mut self, page: Vec<(String, u64)>) -> Result<(), StoreError> {
        let unknown = self.shared.readers.run(move |connection| {
            let bad = |error: rusqlite::Error| sqlite_error("looking for objects", &error);
            let mut statement = connection.prepare_cached("SELECT 1 FROM objects WHERE name = ?1").map_err(bad)?;
            let mut unknown = Vec::new();
            for (name, size) in page {
                if !statement.exists([&name]).map_err(bad)? {
                    unknown.push((name, size));
                }
            }
            Ok(unknown)
        });
        let unknown = unknown.await?;
        unknown.iter().for_each(|(_, size)| self.report.strays.add(*size));
        if !self.retention.dry_run {
            self.delete(unknown.into_iter().map(|(name, _)| name).collect()).await?;
        }
        self.hold.keep().await
    }

    /// Removes files that uploads were staged in. Other object stores show no staged uploads; they have rules of their own
    /// to abandon them.
    async fn remove_staged(&mut self) -> Result<(), StoreError> {
        let Some(root) = self.shared.objects.root.clone() else { return Ok(()) };
        let (before, dry_run) = (self.bounds.before, self.retention.dry_run);
        let removed = tokio::task::spawn_blocking(move || {
            let mut removed = super::Amount::default();
            staged(&root, before, &mut |path, size| {
                removed.add(size);
                if dry_run { Ok(()) } else { std::fs::remove_file(path) }
            })?;
            Ok::<_, std::io::Error>(removed)
        });
        let context = "removing staged uploads";
        let wrong = |text: String| StoreError::new(context, StoreErrorKind::Unavailable(text));
        let removed = removed.await.map_err(|error| wrong(error.to_string()))?;
        let removed = removed.map_err(|error| wrong(error.to_string()))?;
        self.report.strays.count += removed.count;
        self.report.strays.bytes += removed.bytes;
        Ok(())
    }
}

/// `TENANT/packs/ULID` or `TENANT/large/ULID`.
fn is_ours(name: &str) -> bool {
    let mut parts = name.split('/');
    let (_, folder, last, end) = (parts.next(), parts.next(), parts.next(), parts.next());
    folder.is_some_and(|folder| FOLDERS.contains(&folder)) && last.is_some() && end.is_none()
}

/// Calls `with` for every staged upload that was begun before that moment: `ULID#NUMBER`.
fn staged(
    root: &std::path::Path,
    before: i64,
    with: &mut dyn FnMut(PathBuf, u64) -> std::io::Result<()>,
) -> std::io::Result<()> {
    for tenant in std::fs::read_dir(root)? {
        let tenant = tenant?.path();
        for folder in FOLDERS {
            let files = match std::fs::read_dir(tenant.join(folder)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => continue,
                files => files?,
            };
            for file in files {
                let file = file?;
                let name = file.file_name();
                let Some((object, number)) = name.to_str().and_then(|name| name.split_once('#')) else { continue };
                let old = named_at(&format!("{folder}/{object}")).is_some_and(|named| named < before);
                if old && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()) {
                    let size = file.metadata().map_or(0, |about| about.len());
                    match with(file.path(), size) {
                        // Its upload has ended at this moment.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        done => done?,
                    }
                }
            }
        }
    }
    Ok(())
}
