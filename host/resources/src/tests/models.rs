//! One suite for every model registry, wherever it is kept; and servers that answer with nonsense.

use bytes::Bytes;
use opyard_model::plan::{Access, ModelRegistryDriver, ResourceSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::blob::MAX_CHUNK;
use crate::error::ResourceError;
use crate::model_registry::{MAX_ALIASES, MAX_METADATA, ModelRegistryResource, ModelVersion};
use crate::pool::{Resources, file_url};
use crate::tests::at_once;

fn in_objects(resources: &Resources, url: &str, access: Access) -> ModelRegistryResource {
    let driver = ModelRegistryDriver::ObjectStore { url: url.into() };
    let spec = ResourceSpec::ModelRegistry { driver, access: Access::ReadWrite, version: None };
    at_once(resources.model_registry(&spec, access)).unwrap()
}

fn of_mlflow(resources: &Resources, url: &str, access: Access) -> ModelRegistryResource {
    let driver = ModelRegistryDriver::Mlflow { url: url.into() };
    let spec = ResourceSpec::ModelRegistry { driver, access: Access::ReadWrite, version: None };
    at_once(resources.model_registry(&spec, access)).unwrap()
}

async fn register(
    models: &ModelRegistryResource,
    name: &str,
    metadata: &str,
    files: &[(&str, &[u8])],
) -> Result<ModelVersion, ResourceError> {
    let writer = models.register(name, metadata).await?;
    for (path, bytes) in files {
        let mut file = writer.file(path)?;
        for chunk in bytes.chunks(300_000) {
            file.write(Bytes::copy_from_slice(chunk)).await?;
        }
        let meta = file.commit().await?;
        assert_eq!((meta.path.as_str(), meta.size), (*path, bytes.len() as u64));
    }
    writer.commit().await
}

async fn read(models: &ModelRegistryResource, name: &str, version: u32, path: &str) -> Result<Vec<u8>, ResourceError> {
    let mut reader = models.load(name, version, path).await?;
    let mut all = Vec::new();
    loop {
        let chunk = reader.read(700_001).await?;
        if chunk.is_empty() {
            assert_eq!((reader.meta().size, reader.meta().path.as_str()), (all.len() as u64, path));
            return Ok(all);
        }
        all.extend_from_slice(&chunk);
    }
}

/// What every registry does. `model` is a name that is not there yet; `reader` is the same registry, only to be read.
async fn conforms(models: &ModelRegistryResource, reader: &ModelRegistryResource, model: &str) {
    let large: Vec<u8> = (0..2_500_000u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let missing = Err(ResourceError::NotFound);
    for selector in ["latest", "1", "champion"] {
        assert_eq!(models.resolve(model, selector).await, missing, "{selector}");
    }
    assert_eq!(models.files(model, 1).await, Err(ResourceError::NotFound));
    assert_eq!(models.set_alias(model, "champion", 1).await, Err(ResourceError::NotFound));

    // A version is there once it was committed, whole.
    let metadata = "{\"rows\": 3, \"text\": \"\\u00e9\\n\"}";
    let files: [(&str, &[u8]); 3] = [("weights/a b.bin", &large), ("weights/empty", b""), ("é.md", b"# Card")];
    let first = register(models, model, metadata, &files).await.unwrap();
    assert_eq!((first.name.as_str(), first.version, first.metadata.as_str()), (model, 1, metadata));
    assert!(first.digest.starts_with("b3:"), "{}", first.digest);
    for selector in ["1", "latest"] {
        assert_eq!(models.resolve(model, selector).await.unwrap(), first);
    }
    let listed = models.files(model, 1).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|meta| (meta.path.as_str(), meta.size)).collect();
    assert_eq!(listed, [("weights/a b.bin", large.len() as u64), ("weights/empty", 0), ("é.md", 6)]);
    for (path, bytes) in files {
        assert_eq!(read(models, model, 1, path).await.unwrap(), bytes, "{path}");
    }
    let mut middle = models.load(model, 1, "weights/a b.bin").await.unwrap();
    assert_eq!(middle.read_at(2_499_990, 100).await.unwrap(), large[2_499_990..]);
    assert_eq!(middle.read_at(10, u32::MAX).await.unwrap(), large[10..10 + MAX_CHUNK]);
    assert_eq!(middle.read_at(u64::MAX, 1).await.unwrap(), Bytes::new());
    assert_eq!(middle.read(4).await.unwrap(), large[..4], "read-at does not move read");
    for path in ["weights", "weights/none", "none"] {
        assert_eq!(models.load(model, 1, path).await.err(), Some(ResourceError::NotFound), "{path}");
    }

    // The digest is of the files alone.
    let second = register(models, model, "null", &files).await.unwrap();
    assert_eq!((second.version, &second.digest), (2, &first.digest));
    let third = register(models, model, "null", &files[1..]).await.unwrap();
    assert_ne!(third.digest, first.digest);

    // Nothing of what was given up: neither of a file, nor of a version.
    let writer = models.register(model, "{}").await.unwrap();
    let mut dropped = writer.file("given-up").unwrap();
    dropped.write(Bytes::from(large.clone())).await.unwrap();
    assert_eq!(writer.file("given-up").err(), Some(ResourceError::Conflict), "its path is taken");
    assert!(matches!(writer.file("given-up/inner"), Err(ResourceError::Invalid(_))), "it is no folder");
    drop(dropped);
    let mut kept = writer.file("given-up").unwrap();
    kept.write(Bytes::from_static(b"kept")).await.unwrap();
    kept.commit().await.unwrap();
    assert_eq!(models.resolve(model, "latest").await.unwrap().version, 3);
    drop(writer);
    let writer = models.register(model, "{}").await.unwrap();
    let mut late = writer.file("late").unwrap();
    late.write(Bytes::from_static(b"late")).await.unwrap();
    let mut file = writer.file("in-time").unwrap();
    file.write(Bytes::from_static(b"in time")).await.unwrap();
    file.commit().await.unwrap();
    let fourth = writer.commit().await.unwrap();
    assert_eq!(fourth.version, 4, "what was given up took no number");
    assert_eq!(late.commit().await, Err(ResourceError::Conflict), "the version is closed");
    let empty = models.register(model, "{}").await.unwrap().commit().await;
    assert!(matches!(empty, Err(ResourceError::Invalid(_))), "{empty:?}");

    // Aliases.
    models.set_alias(model, "champion", 2).await.unwrap();
    models.set_alias(model, "Other-1", 2).await.unwrap();
    assert_eq!(models.resolve(model, "champion").await.unwrap().aliases, ["Other-1", "champion"]);
    models.set_alias(model, "champion", 4).await.unwrap();
    assert_eq!(models.resolve(model, "champion").await.unwrap().version, 4);
    assert_eq!(models.resolve(model, "2").await.unwrap().aliases, ["Other-1"]);
    assert_eq!(models.resolve(model, "none").await, missing);
    assert_eq!(models.set_alias(model, "champion", 9).await, Err(ResourceError::NotFound));
    assert_eq!(models.resolve(model, "champion").await.unwrap().version, 4);

    what_is_wrong_is_refused(models, model).await;

    // Reading is not writing.
    assert_eq!(read(reader, model, 1, "é.md").await.unwrap(), b"# Card");
    assert_eq!(reader.register(model, "{}").await.err(), Some(ResourceError::Denied));
    assert_eq!(reader.set_alias(model, "champion", 1).await, Err(ResourceError::Denied));
    assert_eq!(reader.access(), Access::Read);
}

async fn what_is_wrong_is_refused(models: &ModelRegistryResource, model: &str) {
    let is_invalid = |error: Option<ResourceError>| matches!(error, Some(ResourceError::Invalid(_)));
    for wrong in ["", "a.b", "a/b", "..", "1a", "é", "a b", &"x".repeat(64)] {
        assert!(is_invalid(models.resolve(wrong, "latest").await.err()), "{wrong}");
        assert!(is_invalid(models.files(wrong, 1).await.err()), "{wrong}");
        assert!(is_invalid(models.register(wrong, "{}").await.err()), "{wrong}");
        assert!(is_invalid(models.set_alias(model, wrong, 1).await.err()), "{wrong}");
        assert!(is_invalid(models.resolve(model, wrong).await.err()), "{wrong}");
    }
    for wrong in ["0", "01", "-1", "4294967296", "1.0"] {
        assert!(is_invalid(models.resolve(model, wrong).await.err()), "{wrong}");
    }
    assert!(is_invalid(models.files(model, 0).await.err()));
    assert!(is_invalid(models.set_alias(model, "latest", 1).await.err()));
    for wrong in ["../x", "/x", "a//b", "", "a%2Fb", "a\\b"] {
        assert!(is_invalid(models.load(model, 1, wrong).await.err()), "{wrong}");
    }
    for wrong in ["", "{", "{} {}", &"[".repeat(1_000)] {
        assert!(is_invalid(models.register(model, wrong).await.err()), "{wrong:.20}");
    }
    let long = format!("\"{}\"", "x".repeat(MAX_METADATA));
    assert!(matches!(models.register(model, &long).await, Err(ResourceError::Limit(_))));
}

#[tokio::test]
async fn models_in_an_object_store_conform() {
    let folder = tempfile::tempdir().unwrap();
    let resources = Resources::default();
    for url in [file_url(folder.path()).unwrap(), "memory:///m".to_owned()] {
        let models = in_objects(&resources, &url, Access::ReadWrite);
        conforms(&models, &in_objects(&resources, &url, Access::Read), "iris").await;
    }
}

/// The layout that `docs/resources.md` promises.
#[tokio::test]
async fn the_layout_is_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let models = in_objects(&Resources::default(), &file_url(folder.path()).unwrap(), Access::ReadWrite);
    let version = register(&models, "iris", "{\"a\":1}", &[("w/1.bin", b"123")]).await.unwrap();
    models.set_alias("iris", "champion", 1).await.unwrap();
    let text = std::fs::read_to_string(folder.path().join("iris/versions/0000000001.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let own = manifest["folder"].as_str().unwrap();
    assert_eq!(std::fs::read(folder.path().join("iris/files").join(own).join("w/1.bin")).unwrap(), b"123");
    let alias = std::fs::read_to_string(folder.path().join("iris/aliases/champion.json")).unwrap();
    assert_eq!(alias, "{\"version\":1}");
    let expected = serde_json::json!({
        "opyard_model": 1, "folder": own, "digest": version.digest, "metadata": "{\"a\":1}",
        "files": [{ "path": "w/1.bin", "size": 3, "digest": format!("b3:{}", blake3::hash(b"123").to_hex()) }],
    });
    assert_eq!(manifest, expected);
}

/// Writers of several handles never share a number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_given_once() {
    let folder = tempfile::tempdir().unwrap();
    for url in [file_url(folder.path()).unwrap(), "memory:///race".to_owned()] {
        let resources = Resources::default();
        let tasks: JoinSet<_> = (0..8u8)
            .map(|number| {
                // Of files, each with an opened store of its own, as another process has.
                let resources = if url.starts_with("file:") { Resources::default() } else { resources.clone() };
                let models = in_objects(&resources, &url, Access::ReadWrite);
                async move { register(&models, "iris", "{}", &[("a", &[number])]).await.unwrap().version }
            })
            .collect();
        let mut versions = tasks.join_all().await;
        versions.sort_unstable();
        assert_eq!(versions, (1..=8).collect::<Vec<_>>());
        let models = in_objects(&resources, &url, Access::Read);
        assert_eq!(models.resolve("iris", "latest").await.unwrap().version, 8);
    }
}

/// What was altered behind our back is neither taken for what was registered, nor does it lead out.
#[tokio::test]
async fn what_was_altered_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let models = in_objects(&Resources::default(), &file_url(folder.path()).unwrap(), Access::ReadWrite);
    register(&models, "iris", "{}", &[("a", b"123")]).await.unwrap();
    let path = folder.path().join("iris/versions/0000000001.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    let own = serde_json::from_str::<serde_json::Value>(&whole).unwrap()["folder"].as_str().unwrap().to_owned();
    let is_damaged = |error: Option<ResourceError>| matches!(error, Some(ResourceError::Unavailable(_)));
    for (from, to) in [("\"size\": 3", "\"size\": 4"), ("\"a\"", "\"../a\""), (own.as_str(), "../../..")] {
        std::fs::write(&path, whole.replace(from, to)).unwrap();
        assert!(is_damaged(models.resolve("iris", "1").await.err()), "{to}");
        assert!(is_damaged(models.load("iris", 1, "a").await.err()), "{to}");
    }
    std::fs::write(&path, "x").unwrap();
    assert!(is_damaged(models.files("iris", 1).await.err()));
    std::fs::write(&path, &whole).unwrap();
    let file = folder.path().join("iris/files").join(&own).join("a");
    std::fs::write(&file, "1234").unwrap();
    assert!(is_damaged(models.load("iris", 1, "a").await.err()), "another size");
    std::fs::remove_file(&file).unwrap();
    assert!(is_damaged(models.load("iris", 1, "a").await.err()), "gone");
    // What lies beside versions and aliases is none.
    for stray in ["versions/1.json", "versions/0000000009.txt", "versions/x/0000000007.json", "aliases/a b.json"] {
        let stray = folder.path().join("iris").join(stray);
        std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
        std::fs::write(stray, "{}").unwrap();
    }
    assert_eq!(models.resolve("iris", "latest").await.unwrap().version, 1);
}

#[tokio::test]
async fn a_model_has_so_many_aliases() {
    let models = in_objects(&Resources::default(), "memory:///aliases", Access::ReadWrite);
    register(&models, "iris", "{}", &[("a", b"1")]).await.unwrap();
    for number in 0..MAX_ALIASES {
        models.set_alias("iris", &format!("alias-{number}"), 1).await.unwrap();
    }
    assert!(matches!(models.set_alias("iris", "one-more", 1).await, Err(ResourceError::Limit(_))));
    models.set_alias("iris", "alias-7", 1).await.unwrap();
    assert_eq!(models.resolve("iris", "latest").await.unwrap().aliases.len(), MAX_ALIASES);
}

/// A server that answers every request with the same. It ends when this is dropped.
struct Answering {
    url: String,
    _connections: JoinSet<()>,
}

impl Answering {
    async fn with(answer: Vec<u8>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    let mut piece = [0; 4_096];
                    match stream.read(&mut piece).await {
                        Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                        _ => break,
                    }
                }
                // Whoever has heard enough hangs up.
                drop(stream.write_all(&answer).await);
            }
        });
        Self { url, _connections: server }
    }
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_server_that_answers_with_nonsense_is_told_from_one_that_answers() {
    let resources = Resources::default();
    let resolved = async |answer: Vec<u8>| {
        let server = Answering::with(answer).await;
        let models = of_mlflow(&resources, &server.url, Access::ReadWrite);
        models.resolve("iris", "1").await
    };
    let version =
        |more: &str| format!("{{\"model_version\": {{\"name\": \"x\", \"version\": \"1\"{more}}}}}").into_bytes();
    let fine = resolved(http("200 OK", "", &version(", \"unknown\": [1]"))).await.unwrap();
    assert_eq!((fine.name.as_str(), fine.version, fine.digest.as_str()), ("iris", 1, ""));

    let deep = format!("{{\"model_version\": {}}}", "[".repeat(100_000)).into_bytes();
    let tags = |value: &str| format!(", \"tags\": [{{\"key\": \"k\", \"value\": \"{value}\"}}]");
    for (answer, what) in [
        (http("200 OK", "", b"<html>"), "no JSON"),
        (http("200 OK", "", b""), "nothing"),
        (http("200 OK", "", &deep), "deep"),
        (http("200 OK", "", &vec![b' '; 5 << 20]), "too long"),
        (http("200 OK", "", b"{\"model_version\": {\"version\": \"one\"}}"), "no number"),
        (http("302 Found", "location: http://127.0.0.1:1/\r\n", b""), "elsewhere"),
        (http("500 Oops", "", b"{\"error_code\": \"INTERNAL_ERROR\"}"), "failed"),
        (http("401 No", "", b""), "credentials"),
        (b"nonsense\r\n\r\n".to_vec(), "no HTTP"),
    ] {
        let error = resolved(answer).await.unwrap_err();
        assert!(matches!(&error, ResourceError::Unavailable(text) if text.contains("MLflow")), "{what}: {error:?}");
    }
    let pending = resolved(http("200 OK", "", &version(", \"status\": \"PENDING_REGISTRATION\""))).await;
    assert_eq!(pending, Err(ResourceError::NotFound), "not whole yet");
    let gone = http("404 Not Found", "", b"{\"error_code\": \"RESOURCE_DOES_NOT_EXIST\", \"message\": \"x\"}");
    assert_eq!(resolved(gone).await, Err(ResourceError::NotFound));
    let large = resolved(http("200 OK", "", &version(&tags(&"x".repeat(MAX_METADATA))))).await;
    assert!(matches!(large, Err(ResourceError::Limit(_))), "{large:?}");
    let refused = resolved(http("400 Bad", "", b"{\"error_code\": \"\\u001b[31mBAD\"}")).await;
    assert_eq!(refused, Err(ResourceError::Invalid("the MLflow server refuses this: 400".into())));
    // Files outside of the server, or of names that lead elsewhere.
    for (uri, listed) in [
        ("s3://bucket/x", "[]"),
        ("file:///etc", "[]"),
        ("mlflow-artifacts://other.example.com/x", "[]"),
        ("mlflow-artifacts:/../x", "[]"),
        ("mlflow-artifacts:/1/x", "[{\"path\": \"../../etc\", \"is_dir\": true}]"),
        ("mlflow-artifacts:/1/x", "[{\"path\": \"a/b\"}]"),
    ] {
        // One answer for all questions: whoever asks reads what it knows.
        let body =
            format!("{{\"model_version\": {{\"version\": \"1\"}}, \"artifact_uri\": \"{uri}\", \"files\": {listed}}}");
        let server = Answering::with(http("200 OK", "", body.as_bytes())).await;
        let files = of_mlflow(&resources, &server.url, Access::Read).files("iris", 1).await;
        assert!(matches!(files, Err(ResourceError::Invalid(_) | ResourceError::Unavailable(_))), "{uri}: {files:?}");
    }
    // A folder in itself has an end.
    let body = b"{\"model_version\": {\"version\": \"1\"}, \"artifact_uri\": \"mlflow-artifacts:/x\", \
                 \"files\": [{\"path\": \"a\", \"is_dir\": true}]}";
    let server = Answering::with(http("200 OK", "", body)).await;
    let files = of_mlflow(&resources, &server.url, Access::Read).files("iris", 1).await;
    assert!(files.is_err(), "{files:?}");
    // Nobody there.
    let models = of_mlflow(&resources, "http://127.0.0.1:1", Access::Read);
    assert!(matches!(models.resolve("iris", "1").await, Err(ResourceError::Unavailable(_))));
}

/// The suite against a real MLflow server. `OPYARD_TEST_MLFLOW` is its address (`http://127.0.0.1:5000`); a model of a new
/// name is registered there.
#[tokio::test]
#[ignore = "needs a server: set OPYARD_TEST_MLFLOW"]
async fn mlflow_is_a_registry() {
    let server = std::env::var("OPYARD_TEST_MLFLOW").expect("OPYARD_TEST_MLFLOW is the address of a server");
    let resources = Resources::default();
    let models = of_mlflow(&resources, &server, Access::ReadWrite);
    let model = format!("iris-{}", &blake3::hash(&crate::random::bytes().unwrap()).to_hex()[..8]);
    conforms(&models, &of_mlflow(&resources, &server, Access::Read), &model).await;
}

/// The suite against a real object store over the network: see `remote` in the tests of the store.
#[tokio::test]
#[ignore = "needs a server: set OPYARD_TEST_OBJECTS"]
async fn remote_objects_are_a_registry() {
    let place = std::env::var("OPYARD_TEST_OBJECTS").expect("OPYARD_TEST_OBJECTS names an empty place");
    let (resources, url) = (Resources::default(), format!("{place}/models"));
    let models = in_objects(&resources, &url, Access::ReadWrite);
    conforms(&models, &in_objects(&resources, &url, Access::Read), "iris").await;
}
