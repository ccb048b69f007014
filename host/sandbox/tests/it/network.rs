//! HTTP clients and secrets: what was granted can be used, every refusal and every secret that is shown is on record.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use opyard_model::component::Interface;
use opyard_model::error::Code;
use opyard_model::http::{AddedHeader, HttpClientSpec};
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::plan::{Access, ResourceSpec};
use opyard_model::secret::SecretSpec;
use opyard_model::step::{Call, GrantedResource, ResourceRight, Saying, StepResult};
use serde_json::json;

use crate::harness::{Came, Probe, name};

/// Answers every request with its path, and remembers the heads of the requests.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (to, end) = (Arc::clone(&heads), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                // What a client does to a connection is its own affair.
                let _ = stream.and_then(|stream| serve(stream, &to));
            }
        });
        Self { address, heads, over, thread: Some(thread) }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut held, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let end = loop {
        if let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        held.extend_from_slice(&buffer[..count]);
    };
    let head = String::from_utf8_lossy(&held[..end]).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("0").to_owned();
    let mut left = length.parse::<usize>().unwrap().saturating_sub(held.len() - end);
    while left > 0 {
        left = left.saturating_sub(match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => count,
        });
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heads.lock().unwrap().push(head);
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\nX-Me: you\r\n\r\n{path}", path.len())
}

fn right(key: &str, through: Interface, spec: ResourceSpec) -> ResourceRight {
    let granted = GrantedResource { name: name("ours"), access: spec.access(), spec };
    ResourceRight { key: name(key), through, granted: Some(granted) }
}

fn client(server: &Server) -> HttpClientSpec {
    let mut spec = HttpClientSpec::new(vec![server.origin().parse().unwrap()]);
    (spec.allow_private, spec.access) = (true, Access::ReadWrite);
    spec
}

fn http(spec: HttpClientSpec) -> ResourceRight {
    right("api", Interface::HttpClient, ResourceSpec::HttpClient(Box::new(spec)))
}

async fn ask(probe: &Probe, op: &str, config: serde_json::Value, right: ResourceRight, limits: Limits) -> Came {
    let mut call = probe.call(op, config, Vec::new());
    call.rights = vec![right];
    probe.bench.request(Call::Op(Box::new(call)), limits).await
}

/// The messages for the operator, with their metadata as text.
fn audited(came: &Came) -> Vec<String> {
    let text = |saying: &Saying| match saying {
        Saying::Audited { message, metadata } => Some(format!("{message} {metadata:?}")),
        _ => None,
    };
    came.said.iter().filter_map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_client_is_used_within_its_rules() {
    let (server, probe) = (Server::new(), Probe::new().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-5c1e\n").unwrap();
    let mut spec = client(&server);
    let from = SecretSpec::File(path.to_str().unwrap().to_owned());
    let added = AddedHeader::Secret { secret: name("api_key"), from, prefix: "Bearer ".into() };
    spec.headers.insert("authorization".into(), added);
    let fetch = async |config, limits| ask(&probe, "fetch", config, http(spec.clone()), limits).await;

    let url = format!("{}/rows?of=a", server.origin());
    let came = fetch(json!({ "url": url, "piece": 3 }), Limits::default()).await;
    let told = probe.bench.json(&came.outputs()[0].1).await;
    assert_eq!((&told["status"], &told["body"]["Ok"]), (&json!(200), &json!("/rows?of=a")), "{told}");
    assert!(told["headers"].as_array().unwrap().contains(&json!(["x-me", "you"])), "{told}");
    assert!(came.memoisable() && came.outcome.usage.read_bytes == 10, "{:?}", came.outcome);
    assert!(server.heads()[0].contains("authorization: bearer canary-5c1e\r\n"));
    assert!(!format!("{came:?}{told}").contains("canary"));

    // What its rules refuse: the op hears that it was denied, the operator why. Nothing is sent.
    for (config, why) in [
        (json!({ "url": "https://evil.example/?q=hunter2" }), "https://evil.example is not among its origins"),
        (json!({ "url": url, "method": "TRACE" }), "TRACE is never sent"),
        (
            json!({ "url": url, "headers": [["Authorization", "mine"]] }),
            "the definitions set the header `authorization`",
        ),
        (json!({ "url": url, "headers": [["Host", "evil.example"]] }), "an op may not set the header `host`"),
    ] {
        let came = fetch(config, Limits::default()).await;
        assert_eq!(probe.bench.json(&came.outputs()[0].1).await, json!({ "error": "Denied" }));
        let told = audited(&came);
        assert!(told.len() == 1 && told[0].contains(why) && told[0].contains("\"api\""), "{told:?}");
        assert!(!told[0].contains("hunter2") && !came.memoisable(), "{told:?}");
    }
    let came = fetch(json!({ "url": "https://evil.example/", "must": true }), Limits::default()).await;
    assert_eq!(came.code(), Code::OpFailed);
    assert_eq!(server.heads().len(), 1);

    // What it may use up.
    let limited = async |config, limits: Limits, limit: &str| {
        let came = fetch(config, limits).await;
        let told = probe.bench.json(&came.outputs()[0].1).await.to_string();
        assert!(told.contains(limit) && !came.memoisable(), "{told}");
        let reached = |saying: &Saying| matches!(saying, Saying::LimitReached { limit: found, .. } if found == limit);
        assert!(came.said.iter().any(reached), "{:?}", came.said);
    };
    let post = json!({ "url": url, "method": "POST", "body": "x".repeat(500) });
    limited(json!({ "url": url, "times": 3 }), Limits { http_calls: 2, ..Limits::default() }, "http_calls").await;
    assert_eq!(server.heads().len(), 3);
    limited(post.clone(), Limits { http_bytes: ByteSize(400), ..Limits::default() }, "http_bytes").await;
    limited(post.clone(), Limits { output_bytes: ByteSize(400), ..Limits::default() }, "output_bytes").await;
    assert_eq!(server.heads().len(), 3, "what is too much is not sent");
    limited(json!({ "url": url }), Limits { read_bytes: ByteSize(9), ..Limits::default() }, "read_bytes").await;

    let large = |mib: usize| json!({ "url": url, "bytes": mib << 20 });
    let send = async |mib, limits| ask(&probe, "post_large", large(mib), http(client(&server)), limits).await;
    assert_eq!(send(8, Limits::default()).await.code(), Code::HostCallLimit);
    let wide = Limits { host_call_bytes: ByteSize(32 << 20), ..Limits::default() };
    let came = send(16, wide.clone()).await;
    assert_eq!(probe.bench.json(&came.outputs()[0].1).await, json!(200));
    let came = send(17, wide).await;
    let told = probe.bench.json(&came.outputs()[0].1).await.to_string();
    assert!(told.contains("Limit") && told.contains("16777216"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_is_not_the_ops_fault() {
    let (server, probe) = (Server::new(), Probe::new().await);
    let config = json!({ "url": server.origin(), "must": true });
    let mut spec = client(&server);
    let from = SecretSpec::Env("OPYARD_NO_SUCH_VARIABLE".into());
    let added = AddedHeader::Secret { secret: name("api_key"), from, prefix: String::new() };
    spec.headers.insert("authorization".into(), added);
    let came = ask(&probe, "fetch", config.clone(), http(spec), Limits::default()).await;
    let text = &came.failure().description;
    assert_eq!(came.code(), Code::SecretMissing, "{text}");
    assert!(text.contains("the secret `api_key` cannot be had from the environment variable OPYARD_NO_SUCH"), "{text}");

    let spec = client(&server);
    drop(server);
    let came = ask(&probe, "fetch", config.clone(), http(spec), Limits::default()).await;
    assert_eq!(came.code(), Code::ResourceUnavailable, "{:?}", came.failure());

    let none = ResourceRight { key: name("api"), through: Interface::HttpClient, granted: None };
    let came = ask(&probe, "fetch", config, none, Limits::default()).await;
    assert_eq!(came.code(), Code::OpFailed);
    assert!(came.said.contains(&Saying::GrantDenied { key: "api".to_owned() }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_shown_to_whom_it_was_granted_and_each_time_is_on_record() {
    let probe = Probe::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "canary-9d2b\n").unwrap();
    let from = SecretSpec::File(path.to_str().unwrap().to_owned());
    let granted = || right("token", Interface::Secrets, ResourceSpec::Secret { from: from.clone() });

    let came = ask(&probe, "reveal_secret", json!({ "aloud": true }), granted(), Limits::default()).await;
    assert_eq!(probe.bench.json(&came.outputs()[0].1).await, json!("canary-9d2b"));
    let told = audited(&came);
    assert!(told.len() == 1 && told[0].contains("the op `reveal_secret` was shown the secret `ours`"), "{told:?}");
    assert!(told[0].contains("\"token\"") && !format!("{came:?}").contains("canary"), "{told:?}");

    // Nothing is shown that cannot be put on record.
    let full = Limits { events: 0, ..Limits::default() };
    let came = ask(&probe, "reveal_secret", json!({}), granted(), full).await;
    assert!(came.failure().description.contains("limit reached: events"), "{:?}", came.failure());

    let none = || ResourceRight { key: name("token"), through: Interface::Secrets, granted: None };
    let came = ask(&probe, "may_reveal", json!({}), none(), Limits::default()).await;
    assert_eq!(probe.bench.json(&came.outputs()[0].1).await, json!(false));
    assert!(came.said.contains(&Saying::GrantDenied { key: "token".to_owned() }) && audited(&came).is_empty());

    // Wherever it says the secret, there stands something else; its output is its own.
    for ending in ["success", "failure", "retry", "panic"] {
        let came = ask(&probe, "blab", json!({ "ending": ending }), granted(), Limits::default()).await;
        let told = format!("{came:?}");
        assert!(!told.contains("canary") && !told.contains("63616e617279"), "{ending}: {told}");
        assert!(told.contains("it is [redacted:ours]") && came.said.len() > 5, "{ending}: {told}");
        match &came.outcome.result {
            StepResult::Success { outputs, .. } => {
                assert_eq!(probe.bench.bytes(&outputs[0].value).await.as_ref(), b"canary-9d2b");
                assert_eq!(outputs[0].value.metadata[0].label, "[redacted:ours]");
            }
            StepResult::Failure(failure) => assert!(failure.description.contains("[redacted:ours]"), "{failure}"),
            StepResult::Retry { description, .. } => assert_eq!(description, "[redacted:ours]"),
            other => panic!("{other:?}"),
        }
    }

    // A grant for one interface opens no other, and an op that lists none is stopped.
    let through = ResourceRight { through: Interface::ObjectStore, ..granted() };
    let came = ask(&probe, "may_reveal", json!({}), through, Limits::default()).await;
    assert_eq!(came.code(), Code::ForbiddenImport);
    let came = probe.run("peek", json!({}), Vec::new()).await;
    assert_eq!(came.code(), Code::ForbiddenImport);

    std::fs::remove_file(&path).unwrap();
    let came = ask(&probe, "reveal_secret", json!({}), granted(), Limits::default()).await;
    assert_eq!(came.code(), Code::SecretMissing);
    assert!(audited(&came).is_empty(), "nothing was shown");
}
