//! Models in an object store. The layout, which `docs/resources.md` tells to people:
//!
//! ```text
//! MODEL/versions/0000000003.json     the manifest of version 3: it is there once this is
//! MODEL/files/FOLDER/PATH            a file; the manifest names the folder
//! MODEL/aliases/ALIAS.json           {"version": 3}
//! ```
//!
//! A manifest is put where nothing is: so a number is given to one version, and that appears whole. A folder that no manifest
//! names is what a writer left behind.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::PutMode;
use opyard_model::digest::Digest;
use opyard_model::id::Name;
use serde::{Deserialize, Serialize};

use super::draft::{Claim, Written, digest_of};
use super::{MAX_ALIASES, MAX_FILES, MAX_METADATA, ModelVersion, Selector};
use crate::blob::{BlobMeta, BlobReader, BlobWriter, ObjectReader, ObjectWriter};
use crate::error::ResourceError;
use crate::object_store::{MAX_PAGE, ObjectStoreResource};
use crate::path::ObjectPath;
use crate::random;

/// The form of a manifest.
const FORMAT: u32 = 1;
/// Largest manifest: what [`MAX_FILES`] and [`MAX_METADATA`] need, escaped.
const MAX_MANIFEST: usize = 8 << 20;
/// Largest object of an alias.
const MAX_ALIAS: usize = 1_024;
/// Most pages of versions that are looked at for the highest: 100,000 versions.
const MAX_PAGES: usize = 100;
/// How often a number is tried for that another writer was given.
const TRIES: u32 = 100;
/// Aliases that are read at a time.
const AT_ONCE: usize = 8;

/// Models below the root of a store.
#[derive(Debug, Clone)]
pub(super) struct ObjectModels {
    store: ObjectStoreResource,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    opyard_model: u32,
    /// The folder of its files.
    folder: String,
    /// Of all files: see [`digest_of`].
    digest: Digest,
    /// JSON, as text: it stays as it was given.
    metadata: String,
    files: Vec<ManifestFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestFile {
    path: String,
    size: u64,
    digest: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
struct AliasObject {
    version: u32,
}

/// A manifest, checked.
struct Known {
    folder: String,
    digest: Digest,
    metadata: String,
    files: Vec<Written>,
    last_modified_ms: i64,
}

fn version_path(model: &Name, version: u32) -> String {
    format!("{model}/versions/{version:010}.json")
}

fn alias_path(model: &Name, alias: &str) -> String {
    format!("{model}/aliases/{alias}.json")
}

fn file_path(model: &Name, folder: &str, path: &str) -> String {
    format!("{model}/files/{folder}/{path}")
}

fn damaged(what: &str) -> ResourceError {
    ResourceError::Unavailable(format!("{what} is not what was registered"))
}

/// The name of an object in the folder `prefix`, without `.json`; none for whatever else lies there.
fn stem<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)?.strip_suffix(".json").filter(|stem| !stem.contains('/'))
}

/// Reads a manifest, whoever wrote it.
fn read(bytes: &[u8], last_modified_ms: i64) -> Result<Known, ResourceError> {
    let wrong = || damaged("the manifest of the version");
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|_| wrong())?;
    let Manifest { opyard_model, folder, digest, metadata, files } = manifest;
    let plain = folder.len() == 32 && folder.bytes().all(|byte| byte.is_ascii_hexdigit());
    if opyard_model != FORMAT || !plain || files.len() > MAX_FILES || metadata.len() > MAX_METADATA {
        return Err(wrong());
    }
    let mut known = Vec::with_capacity(files.len());
    for ManifestFile { path, size, digest } in files {
        ObjectPath::parse(&path).map_err(|_| wrong())?;
        known.push(Written { path, size, digest });
    }
    if digest_of(&known) != digest {
        return Err(wrong());
    }
    Ok(Known { folder, digest, metadata, files: known, last_modified_ms })
}

fn meta_of(file: &Written, last_modified_ms: i64) -> BlobMeta {
    BlobMeta { path: file.path.clone(), size: file.size, etag: Some(file.digest.to_string()), last_modified_ms }
}

impl ObjectModels {
    pub(super) fn new(store: ObjectStoreResource) -> Self {
        Self { store }
    }

    async fn manifest(&self, model: &Name, version: u32) -> Result<Known, ResourceError> {
        let found = self.store.get_small(&version_path(model, version), MAX_MANIFEST).await?;
        let found = found.ok_or(ResourceError::NotFound)?;
        read(&found.bytes, found.last_modified_ms)
    }

    /// The highest version that is there.
    async fn highest(&self, model: &Name) -> Result<Option<u32>, ResourceError> {
        let prefix = format!("{model}/versions/");
        let (mut highest, mut token) = (None, None);
        for _ in 0..MAX_PAGES {
            let page_size = u32::try_from(MAX_PAGE).unwrap_or(u32::MAX);
            let page = self.store.list_page(&prefix, token.as_deref(), page_size).await?;
            let numbers = page.objects.iter().filter_map(|meta| {
                let stem = stem(&meta.path, &prefix)?;
                stem.parse::<u32>().ok().filter(|number| *number > 0 && format!("{number:010}") == stem)
            });
            highest = highest.max(numbers.max());
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(highest),
            }
        }
        Err(ResourceError::Limit(format!("over {} versions of one model", MAX_PAGES * MAX_PAGE)))
    }

    async fn alias(&self, model: &Name, alias: &str) -> Result<Option<u32>, ResourceError> {
        let Some(found) = self.store.get_small(&alias_path(model, alias), MAX_ALIAS).await? else { return Ok(None) };
        let alias: AliasObject = serde_json::from_slice(&found.bytes).map_err(|_| damaged("an alias"))?;
        Ok(Some(alias.version))
    }

    /// The names of a model's aliases, in order.
    async fn alias_names(&self, model: &Name) -> Result<Vec<String>, ResourceError> {
        let prefix = format!("{model}/aliases/");
        // One more than there may be, so that more is seen.
        let page = self.store.list_page(&prefix, None, u32::try_from(MAX_ALIASES + 1).unwrap_or(u32::MAX)).await?;
        let stems = page.objects.iter().filter_map(|meta| stem(&meta.path, &prefix));
        Ok(stems.filter(|stem| Name::new(stem).is_ok()).map(str::to_owned).collect())
    }

    /// The aliases that name a version, in order.
    async fn aliases_of(&self, model: &Name, version: u32) -> Result<Vec<String>, ResourceError> {
        let names = self.alias_names(model).await?;
        let read = names.into_iter().map(|name| async move {
            let named = self.alias(model, &name).await?;
            Ok::<_, ResourceError>((named == Some(version)).then_some(name))
        });
        let found: Vec<_> = futures::stream::iter(read).buffered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    pub(super) async fn resolve(&self, model: &Name, selector: &Selector) -> Result<ModelVersion, ResourceError> {
        let version = match selector {
            Selector::Version(version) => Some(*version),
            Selector::Alias(alias) => self.alias(model, alias.as_str()).await?,
            Selector::Latest => self.highest(model).await?,
        };
        let version = version.ok_or(ResourceError::NotFound)?;
        let known = self.manifest(model, version).await?;
        Ok(ModelVersion {
            name: model.to_string(),
            version,
            aliases: self.aliases_of(model, version).await?,
            digest: known.digest.to_string(),
            metadata: known.metadata,
        })
    }

    pub(super) async fn files(&self, model: &Name, version: u32) -> Result<Vec<BlobMeta>, ResourceError> {
        let known = self.manifest(model, version).await?;
        Ok(known.files.iter().map(|file| meta_of(file, known.last_modified_ms)).collect())
    }

    pub(super) async fn load(
        &self,
        model: &Name,
        version: u32,
        path: &ObjectPath,
    ) -> Result<BlobReader, ResourceError> {
        let known = self.manifest(model, version).await?;
        let file = known.files.iter().find(|file| file.path == path.as_str()).ok_or(ResourceError::NotFound)?;
        let at = file_path(model, &known.folder, &file.path);
        let found = match self.store.head(&at).await {
            Err(ResourceError::NotFound) => return Err(damaged("a file of the version")),
            found => found?,
        };
        if found.size != file.size {
            return Err(damaged("a file of the version"));
        }
        let reader = ObjectReader::new(self.store.clone(), self.store.path(&at)?, found.etag);
        Ok(BlobReader::new(reader.into(), meta_of(file, known.last_modified_ms)))
    }

    pub(super) async fn set_alias(&self, model: &Name, alias: &Name, version: u32) -> Result<(), ResourceError> {
        self.manifest(model, version).await?;
        let names = self.alias_names(model).await?;
        if names.len() >= MAX_ALIASES && !names.iter().any(|name| name == alias.as_str()) {
            return Err(ResourceError::Limit(format!("a model has at most {MAX_ALIASES} aliases")));
        }
        let object = serde_json::to_vec(&AliasObject { version }).map_err(|_| damaged("an alias"))?;
        // One object an alias, which is replaced whole: nothing that it held before is worth a condition.
        let path = alias_path(model, alias.as_str());
        self.store.put_small(&path, Bytes::from(object), PutMode::Overwrite).await.map(drop)
    }

    /// A place for the files of a new version.
    pub(super) fn begin(&self, model: &Name) -> Result<Making, ResourceError> {
        let folder = random::bytes()?.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Making { models: self.clone(), model: model.clone(), folder })
    }
}

/// A version in the making.
#[derive(Debug)]
pub(super) struct Making {
    models: ObjectModels,
    model: Name,
    folder: String,
}

impl Making {
    pub(super) fn file(&self, path: &ObjectPath, claim: Claim) -> Result<BlobWriter, ResourceError> {
        let store = &self.models.store;
        let at = store.path(&file_path(&self.model, &self.folder, path.as_str()))?;
        Ok(BlobWriter::of_version(ObjectWriter::stream(store.clone(), at).into(), claim))
    }

    pub(super) async fn commit(
        self,
        model: &Name,
        metadata: String,
        files: Vec<Written>,
    ) -> Result<ModelVersion, ResourceError> {
        let digest = digest_of(&files);
        let files = files.into_iter().map(|Written { path, size, digest }| ManifestFile { path, size, digest });
        let files = files.collect();
        let manifest = Manifest { opyard_model: FORMAT, folder: self.folder, digest, metadata, files };
        let object = serde_json::to_vec_pretty(&manifest)
            .map_err(|_| ResourceError::Invalid("the version cannot be written down".into()))?;
        let object = Bytes::from(object);
        let mut version = self.models.highest(model).await?.unwrap_or(0);
        for _ in 0..TRIES {
            version += 1;
            let path = version_path(model, version);
            match self.models.store.put_small(&path, object.clone(), PutMode::Create).await {
                // Another writer was given that number.
                Err(ResourceError::Conflict) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    let (name, digest) = (model.to_string(), digest.to_string());
                    return Ok(ModelVersion {
                        name,
                        version,
                        aliases: Vec::new(),
                        digest,
                        metadata: manifest.metadata,
                    });
                }
            }
        }
        Err(ResourceError::Unavailable("too many others register versions of this model".into()))
    }
}
