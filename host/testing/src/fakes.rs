//! What stands in for resources: filled before a test, and looked at after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use opyard_model::definitions::op_test::{self, Content, FakeAnswer, FakeModel};
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::id::Name;
use opyard_model::json::CanonicalJson;
use opyard_model::plan::{Access, ModelRegistryDriver, ResourceSpec};
use opyard_resources::{
    BlobWriter, GivenAnswer, GivenAnswers, KeyValueResource, ModelRegistryResource, ObjectStoreResource, PutMode,
    ResourceError, ResourceFailure, SecretBytes,
};
use opyard_server::YardError;
use opyard_store::error::{StoreError, StoreErrorKind};
use serde_json::{Map, Value, json};

use crate::bench::Bench;

/// Largest file of a fixture: 64 MiB.
const MAX_FILE: u64 = 64 << 20;
/// Longest value that a snapshot shows.
const SHOWN: usize = 4 << 10;

/// What stands in for a resource of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Fake(pub(crate) op_test::Fake);

fn contents<P: Into<String>, B: Into<Vec<u8>>>(all: impl IntoIterator<Item = (P, B)>) -> Vec<(String, Content)> {
    all.into_iter().map(|(name, bytes)| (name.into(), Content::Bytes(bytes.into()))).collect()
}

impl Fake {
    /// An object store that holds these objects by their paths.
    pub fn objects<P: Into<String>, B: Into<Vec<u8>>>(objects: impl IntoIterator<Item = (P, B)>) -> Self {
        Self(op_test::Fake::Objects(contents(objects)))
    }

    /// A key-value that holds these values by their names.
    pub fn values<P: Into<String>, B: Into<Vec<u8>>>(values: impl IntoIterator<Item = (P, B)>) -> Self {
        Self(op_test::Fake::Values(contents(values)))
    }

    /// A model registry without models; [`model`](Self::model) adds some.
    #[must_use]
    pub fn models() -> Self {
        Self(op_test::Fake::Models(Vec::new()))
    }

    /// Adds a version of a model to a model registry, the next one of that model, with these aliases.
    ///
    /// # Panics
    /// When it stands in for something else, or a name cannot be one.
    #[must_use]
    pub fn model<P: Into<String>, B: Into<Vec<u8>>>(
        mut self,
        model: &str,
        aliases: &[&str],
        files: impl IntoIterator<Item = (P, B)>,
    ) -> Self {
        let op_test::Fake::Models(models) = &mut self.0 else { panic!("only a model registry has models") };
        let name = |text: &str| Name::new(text).expect("a name of a model or alias");
        models.push(FakeModel {
            model: name(model),
            files: contents(files),
            metadata: CanonicalJson::parse("{}").expect("an empty map is JSON"),
            aliases: aliases.iter().map(|alias| name(alias)).collect(),
        });
        self
    }

    /// An HTTP client whose requests are answered by this test; [`answer`](Self::answer) adds answers. Its rules are those of
    /// the definitions.
    #[must_use]
    pub fn answers() -> Self {
        Self(op_test::Fake::Answers(Vec::new()))
    }

    /// Adds an answer. Those to the same request are given in their order, the last of them from then on.
    ///
    /// # Panics
    /// When it stands in for something else.
    #[must_use]
    pub fn answer(mut self, method: &str, url: &str, status: u16, body: impl Into<Vec<u8>>) -> Self {
        let op_test::Fake::Answers(answers) = &mut self.0 else { panic!("only an HTTP client has answers") };
        let (method, url) = (method.to_ascii_uppercase(), url.to_owned());
        answers.push(FakeAnswer { method, url, status, headers: Vec::new(), body: Content::Bytes(body.into()) });
        self
    }

    /// The bytes of a secret, which are none.
    pub fn secret(bytes: impl Into<Vec<u8>>) -> Self {
        Self(op_test::Fake::Secret(Content::Bytes(bytes.into())))
    }

    /// The kind of resource that it can stand in for.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.0 {
            op_test::Fake::Objects(_) => "object_store",
            op_test::Fake::Values(_) => "key_value",
            op_test::Fake::Models(_) => "model_registry",
            op_test::Fake::Answers(_) => "http_client",
            op_test::Fake::Secret(_) => "secret",
        }
    }
}

/// The bytes of a fixture.
pub(crate) fn bytes_of(content: &Content) -> Result<Bytes, Failure> {
    let path = match content {
        Content::Bytes(bytes) => return Ok(bytes.clone().into()),
        Content::File(path) => path,
    };
    let failed = |code, reason: String| Failure::new(code, format!("{}: {reason}", path.display()));
    let unreadable = |error: std::io::Error| failed(Code::FileUnreadable, error.to_string());
    // Looked at before it is opened: opening a pipe waits for whoever writes.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(failed(Code::FileUnreadable, "not a file".into()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(unreadable)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(Code::TooLarge, format!("more than {MAX_FILE} bytes")));
    }
    Ok(bytes.into())
}

/// What the test itself may do with a resource: everything.
fn opened_wide(spec: &ResourceSpec) -> ResourceSpec {
    let mut spec = spec.clone();
    match &mut spec {
        ResourceSpec::ObjectStore { access, .. }
        | ResourceSpec::KeyValue { access, .. }
        | ResourceSpec::ModelRegistry { access, .. } => *access = Access::ReadWrite,
        ResourceSpec::HttpClient(_) | ResourceSpec::Secret { .. } => {}
    }
    spec
}

/// A resource of a test, filled.
pub(crate) enum Filled {
    Objects(ObjectStoreResource),
    Values(KeyValueResource),
    /// The registry, and the objects that it keeps.
    Models(ModelRegistryResource, ObjectStoreResource),
    Answers(Arc<GivenAnswers>),
    Secret,
}

/// Fills what stands in for the resource `name` of `spec`; none for a secret.
pub(crate) async fn fill(
    bench: &Bench,
    name: &Name,
    spec: Option<&ResourceSpec>,
    fake: &op_test::Fake,
) -> Result<Filled, YardError> {
    let wrong = |what: &str, error: ResourceError| {
        YardError::from(Failure::new(Code::ValueInvalid, format!("what is given for `{name}`: {what}: {error}")))
    };
    let unopened = |failure: ResourceFailure| wrong("it", failure.answer);
    let wide = spec.map(opened_wide);
    let unfit = || wrong("it", ResourceError::Invalid("it stands in for a resource of another kind".into()));
    match (fake, &wide) {
        (op_test::Fake::Secret(content), _) => {
            bench.given.give_secret(name, SecretBytes::given(bytes_of(content)?.to_vec()));
            Ok(Filled::Secret)
        }
        (op_test::Fake::Answers(answers), _) => {
            let mut given = Vec::with_capacity(answers.len());
            for FakeAnswer { method, url, status, headers, body } in answers {
                let (method, url, headers) = (method.clone(), url.clone(), headers.clone());
                given.push(GivenAnswer { method, url, status: *status, headers, body: bytes_of(body)? });
            }
            let answers = Arc::new(GivenAnswers::new(given));
            bench.given.give_answers(name, Arc::clone(&answers));
            Ok(Filled::Answers(answers))
        }
        (op_test::Fake::Objects(objects), Some(spec @ ResourceSpec::ObjectStore { .. })) => {
            let store = bench.resources.object_store(spec, Access::ReadWrite).await.map_err(unopened)?;
            for (path, content) in objects {
                let writer = store.put(path, PutMode::Overwrite).map_err(|error| wrong(path, error))?;
                write(writer, bytes_of(content)?).await.map_err(|error| wrong(path, error))?;
            }
            Ok(Filled::Objects(store))
        }
        (op_test::Fake::Values(values), Some(spec @ ResourceSpec::KeyValue { .. })) => {
            let no_yard = |_: &Name| Err(StoreError::new("opening", StoreErrorKind::Unavailable("no yard".into())));
            let bucket = bench.resources.key_value(spec, Access::ReadWrite, no_yard).await;
            let bucket = bucket.map_err(unopened)?;
            for (key, content) in values {
                bucket.put(key, bytes_of(content)?).await.map_err(|error| wrong(key, error))?;
            }
            Ok(Filled::Values(bucket))
        }
        (op_test::Fake::Models(models), Some(spec @ ResourceSpec::ModelRegistry { driver, .. })) => {
            let registry = bench.resources.model_registry(spec, Access::ReadWrite).await.map_err(unopened)?;
            for model in models {
                register(&registry, model).await.map_err(|error| match error {
                    Registering::Resource(error) => wrong(model.model.as_str(), error),
                    Registering::Fixture(failure) => failure.into(),
                })?;
            }
            let ModelRegistryDriver::ObjectStore { url } = driver else { return Err(unfit()) };
            let objects = ResourceSpec::ObjectStore { url: url.clone(), access: Access::Read, version: None };
            let objects = bench.resources.object_store(&objects, Access::Read).await.map_err(unopened)?;
            Ok(Filled::Models(registry, objects))
        }
        _ => Err(unfit()),
    }
}

enum Registering {
    Resource(ResourceError),
    Fixture(Failure),
}

impl From<ResourceError> for Registering {
    fn from(error: ResourceError) -> Self {
        Self::Resource(error)
    }
}

async fn register(registry: &ModelRegistryResource, given: &FakeModel) -> Result<(), Registering> {
    let FakeModel { model, files, metadata, aliases } = given;
    let version = registry.register(model.as_str(), metadata.as_str()).await?;
    for (path, content) in files {
        let bytes = bytes_of(content).map_err(Registering::Fixture)?;
        write(version.file(path)?, bytes).await?;
    }
    let version = version.commit().await?;
    for alias in aliases {
        registry.set_alias(model.as_str(), alias.as_str(), version.version).await?;
    }
    Ok(())
}

async fn write(mut writer: BlobWriter, mut bytes: Bytes) -> Result<(), ResourceError> {
    while !bytes.is_empty() {
        writer.write(bytes.split_to(bytes.len().min(1 << 20))).await?;
    }
    writer.commit().await.map(drop)
}

/// Bytes as a snapshot shows them: JSON, text, or what tells them apart.
pub(crate) fn shown(bytes: &[u8], is_json: bool) -> Value {
    let short = Some(bytes).filter(|bytes| bytes.len() <= SHOWN);
    let json = short.filter(|_| is_json).and_then(|bytes| serde_json::from_slice(bytes).ok());
    let text = || short.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(Value::from);
    json.or_else(text).unwrap_or_else(|| json!({ "size": bytes.len(), "digest": Digest::of(bytes).to_string() }))
}

impl Filled {
    /// What is in it now, as a snapshot shows it; none for what shows nothing.
    pub(crate) async fn look(&self) -> Result<Option<Value>, ResourceError> {
        match self {
            Self::Secret => Ok(None),
            Self::Objects(store) => {
                let mut objects = Map::new();
                for meta in store.list_page("", None, 1_000).await?.objects {
                    let bytes = read(store, &meta.path).await?;
                    objects.insert(meta.path, shown(&bytes, false));
                }
                Ok(Some(objects.into()))
            }
            Self::Values(bucket) => {
                let mut values = Map::new();
                for name in bucket.list_page("", None, 1_000).await?.names {
                    let value = bucket.get(&name).await?.map_or(Value::Null, |entry| shown(&entry.value, true));
                    values.insert(name, value);
                }
                Ok(Some(values.into()))
            }
            Self::Models(registry, objects) => {
                let listed = objects.list_page("", None, 1_000).await?.objects;
                let versions: BTreeSet<_> = listed.iter().filter_map(|meta| version_of(&meta.path)).collect();
                let mut models: BTreeMap<String, Vec<Value>> = BTreeMap::new();
                for (model, number) in versions {
                    let version = registry.resolve(&model, &number.to_string()).await?;
                    let files = registry.files(&model, number).await?;
                    let files: Map<_, _> = files.into_iter().map(|file| (file.path, file.size.into())).collect();
                    let metadata: Value = serde_json::from_str(&version.metadata).unwrap_or_default();
                    models.entry(model).or_default().push(json!({
                        "version": number, "aliases": version.aliases, "metadata": metadata, "digest": version.digest,
                        "files": files,
                    }));
                }
                Ok(Some(json!(models)))
            }
            Self::Answers(answers) => {
                let seen = answers.seen().into_iter().map(|request| {
                    let headers: Map<_, _> =
                        request.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
                    let body = (!request.body.is_empty()).then(|| shown(&request.body, true));
                    json!({ "method": request.method, "url": request.url, "headers": headers, "body": body })
                });
                Ok(Some(seen.collect()))
            }
        }
    }
}

/// `MODEL/versions/0000000003.json`.
fn version_of(path: &str) -> Option<(String, u32)> {
    let (model, file) = path.split_once("/versions/")?;
    Some((model.to_owned(), file.strip_suffix(".json")?.parse().ok()?))
}

async fn read(store: &ObjectStoreResource, path: &str) -> Result<Vec<u8>, ResourceError> {
    let mut reader = store.get(path).await?;
    let mut bytes = Vec::new();
    loop {
        let piece = reader.read(1 << 20).await?;
        if piece.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&piece);
    }
}
