//! Registries that lie, stall, flood and ask for what is not theirs. Servers are real, and on this machine.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use opyard_model::definitions::registries::{Credentials, RegistrySpec};
use opyard_model::digest::{ComponentDigest, ManifestDigest};
use opyard_model::error::Code;
use opyard_model::secret::SecretSpec;
use opyard_model::supply::{At, OciReference, release_version};

use super::server::{Reply, Seen, Server, Then};
use crate::oci::{Fetched, MAX_COMPONENT, Purpose, Registry, Release, Sha256, digest_of};

const WASM: &[u8] = b"\0asm, or what passes for it";

fn reference() -> OciReference {
    "acme/stats:1.4.2".parse().unwrap()
}

fn spec(url: &str) -> RegistrySpec {
    RegistrySpec { url: url.to_owned(), credentials: None, token_server: None }
}

/// A password in a file, and the header that it becomes.
fn robot(url: &str, folder: &tempfile::TempDir) -> (RegistrySpec, &'static str) {
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let password = SecretSpec::File(file.display().to_string());
    let credentials = Some(Credentials { username: "robot".to_owned(), password });
    (RegistrySpec { credentials, ..spec(url) }, "Basic cm9ib3Q6czNjcmV0")
}

fn manifest() -> Fetched {
    let release = Release { version: release_version("1.4.2"), imports: Vec::new(), exports: Vec::new() };
    Fetched::of(release.to_manifest(digest_of(WASM), WASM.len() as u64)).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Sha256::default();
    hasher.add(bytes);
    hasher.hex()
}

/// What an honest registry with one component answers.
fn honest(asked: &Seen) -> Reply {
    let fetched = manifest();
    let tail = asked.path.split('/').next_back().unwrap_or_default();
    let by = [fetched.digest.to_string(), "1.4.2".to_owned()];
    match asked.path.as_str() {
        "/v2/" => Reply::new(200, "", b"{}"),
        path if path.contains("/manifests/") && by.iter().any(|name| name == tail) => {
            Reply::new(200, "", &fetched.bytes)
        }
        path if path.contains("/blobs/") && tail == digest_of(WASM).to_string() => Reply::new(200, "", WASM),
        _ => Reply::new(404, "", b"nothing"),
    }
}

async fn pull(spec: &RegistrySpec) -> Result<Bytes, opyard_model::error::Failure> {
    let registry = Registry::open(spec, &reference(), Purpose::Pull).await?;
    let fetched = registry.manifest(reference().at()).await?;
    assert!(registry.signatures(fetched.digest).await?.is_empty());
    registry.component(&fetched.manifest).await
}

#[tokio::test]
async fn what_an_honest_registry_has_is_pulled() {
    let server = Server::new(honest).await;
    assert_eq!(pull(&spec(&format!("{}/team", server.origin()))).await.unwrap(), WASM);
    let paths: Vec<_> = server.seen().into_iter().map(|seen| seen.path).collect();
    assert!(paths.iter().skip(1).all(|path| path.starts_with("/v2/team/stats/")), "{paths:?}");

    let registry = Registry::open(&spec(&server.origin()), &reference(), Purpose::Pull).await.unwrap();
    let absent = registry.manifest(&At::Tag("9.9.9".to_owned())).await.unwrap_err();
    assert_eq!(absent.code, Code::ComponentUnreadable);
    let pinned = registry.manifest(&At::Manifest(manifest().digest)).await.unwrap();
    assert_eq!(pinned.manifest.version, release_version("1.4.2"));
}

/// Each lie, and what it is told as.
#[tokio::test]
async fn nothing_that_a_registry_says_is_believed() {
    let altered = || {
        let mut bytes = WASM.to_vec();
        bytes[7] ^= 1;
        bytes
    };
    let large = || {
        let release = Release { version: None, imports: Vec::new(), exports: Vec::new() };
        release.to_manifest(digest_of(WASM), MAX_COMPONENT + 1)
    };
    type Lie = Box<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;
    let manifests =
        |reply: Reply| -> Lie { Box::new(move |asked| asked.path.contains("/manifests/1.4.2").then(|| reply.clone())) };
    let blobs = |reply: Reply| -> Lie { Box::new(move |asked| asked.path.contains("/blobs/").then(|| reply.clone())) };
    let endless = |length: &str| Reply(format!("HTTP/1.1 200 x\r\n{length}\r\n").into_bytes(), Then::Trickle);
    let lies: Vec<(&str, Lie, Code)> = vec![
        ("another component", blobs(Reply::new(200, "", &altered())), Code::RegistryInvalid),
        ("less of it", blobs(Reply::new(200, "", &WASM[1..])), Code::RegistryInvalid),
        ("more of it", blobs(Reply::new(200, "", &[WASM, b"!"].concat())), Code::RegistryInvalid),
        ("without an end", blobs(endless("connection: close\r\n")), Code::RegistryInvalid),
        (
            "cut off",
            blobs(Reply(b"HTTP/1.1 200 x\r\ncontent-length: 30\r\n\r\nabc".to_vec(), Then::Close)),
            Code::RegistryUnavailable,
        ),
        ("none of it", blobs(Reply::new(404, "", b"")), Code::RegistryInvalid),
        ("too large a component", manifests(Reply::new(200, "", &large())), Code::TooLarge),
        ("too large a manifest", manifests(Reply::new(200, "", &vec![b' '; 300 << 10])), Code::RegistryInvalid),
        ("no manifest", manifests(Reply::new(200, "", b"<html>")), Code::RegistryInvalid),
        ("an image", manifests(Reply::new(200, "", br#"{"schemaVersion":2,"layers":[]}"#)), Code::RegistryInvalid),
        ("a fault", manifests(Reply::new(503, "", b"later")), Code::RegistryUnavailable),
        ("a circle", manifests(Reply::to(307, "/v2/stats/manifests/1.4.2")), Code::RegistryInvalid),
        ("to a file", manifests(Reply::to(307, "file:///etc/passwd")), Code::RegistryInvalid),
        ("with credentials", manifests(Reply::to(307, "http://a:b@127.0.0.1/x")), Code::RegistryInvalid),
        ("to nowhere", manifests(Reply::new(307, "", b"")), Code::RegistryInvalid),
    ];
    for (name, lie, code) in lies {
        let server = Server::new(move |asked| lie(asked).unwrap_or_else(|| honest(asked))).await;
        let pulled = tokio::time::timeout(Duration::from_secs(20), pull(&spec(&server.origin()))).await.unwrap();
        assert_eq!(pulled.map_err(|failure| failure.code), Err(code), "{name}");
    }
    let server = Server::new(|asked| match asked.path.contains("/manifests/sha256") {
        true => honest(&Seen { path: "/v2/stats/manifests/1.4.2".to_owned(), ..asked.clone() }),
        false => honest(asked),
    });
    let server = server.await;
    let registry = Registry::open(&spec(&server.origin()), &reference(), Purpose::Pull).await.unwrap();
    let other = At::Manifest(ManifestDigest::from_bytes([1; 32]));
    assert_eq!(registry.manifest(&other).await.unwrap_err().code, Code::RegistryInvalid);
}

/// The password goes to the registry's own origin, and a token to nowhere else.
#[tokio::test]
async fn credentials_stay_at_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    // The store that blobs are redirected to.
    let store = Server::new(|_| Reply::new(200, "", WASM)).await;
    let to = format!("{}/signed?x=1", store.origin());
    let redirecting = move |asked: &Seen| match asked.header("authorization") {
        None => Reply::new(401, "www-authenticate: Basic realm=\"x\"\r\n", b""),
        Some(_) if asked.path.contains("/blobs/") => Reply::to(307, &to),
        Some(_) => honest(asked),
    };
    let server = Server::new(redirecting).await;
    let (spec_of_robot, header) = robot(&server.origin(), &folder);
    assert_eq!(pull(&spec_of_robot).await.unwrap(), WASM);
    assert!(server.seen().iter().skip(1).all(|seen| seen.header("authorization") == Some(header)));
    assert_eq!(store.seen().len(), 1);
    assert_eq!(store.seen()[0].header("authorization"), None);
    // Who has no password is told so, and so is who would send it in the clear.
    assert_eq!(pull(&spec(&server.origin())).await.unwrap_err().code, Code::RegistryUnavailable);
    let (clear, _) = robot("http://registry.example.com", &folder);
    assert_eq!(pull(&clear).await.unwrap_err().code, Code::BadUrl);
}

#[tokio::test]
async fn a_token_is_asked_for_where_the_operator_says() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Server::new(|_| Reply::new(200, "", br#"{"token": "t0ken"}"#)).await;
    let realm = Arc::new(OnceLock::<String>::new());
    let wanted = Arc::clone(&realm);
    let server = Server::new(move |asked| match asked.header("authorization") {
        Some("Bearer t0ken") => honest(asked),
        _ if asked.path.starts_with("/token") => Reply::new(200, "", br#"{"access_token": "t0ken"}"#),
        _ => {
            let challenge =
                format!("www-authenticate: Bearer realm=\"{}/token\",service=\"s\"\r\n", wanted.get().unwrap());
            Reply::new(401, &challenge, b"")
        }
    });
    let server = server.await;
    realm.set(tokens.origin()).unwrap();
    let (spec, header) = robot(&server.origin(), &folder);
    // The registry names another host: nothing is sent there.
    assert_eq!(pull(&spec).await.unwrap_err().code, Code::RegistryInvalid);
    assert_eq!(tokens.connections(), 0);
    let named = RegistrySpec { token_server: Some(tokens.origin()), ..spec };
    assert_eq!(pull(&named).await.unwrap(), WASM);
    let asked = &tokens.seen()[0];
    assert_eq!(asked.header("authorization"), Some(header));
    assert_eq!(asked.path, "/token?scope=repository%3Astats%3Apull&service=s");
}

#[tokio::test]
async fn uploads_do_not_leave_the_registry() {
    let elsewhere = Server::new(|_| Reply::new(201, "", b"")).await;
    let to = format!("{}/upload", elsewhere.origin());
    let server = Server::new(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", _) => Reply::to(202, &to),
        (_, "/v2/") => Reply::new(200, "", b""),
        _ => Reply::new(404, "", b""),
    });
    let server = server.await;
    let registry = Registry::open(&spec(&server.origin()), &reference(), Purpose::Push).await.unwrap();
    let release = Release { version: None, imports: Vec::new(), exports: Vec::new() };
    let failure = registry.push(Bytes::from_static(WASM), &release, false).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryInvalid);
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn digests_are_those_of_others() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(sha256(b""), empty);
    assert_eq!(digest_of(b""), format!("sha256:{empty}").parse::<ComponentDigest>().unwrap());
}
