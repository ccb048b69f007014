//! Rules that no request gets past, and what is made of answers. Servers are real, names are looked up by the tests.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::error::Code;
use opyard_model::http::{AddedHeader, HttpClientSpec, Origin};
use opyard_model::id::{Name, TenantId};
use opyard_model::limits::ByteSize;
use opyard_model::plan::Access;
use opyard_model::secret::SecretSpec;
use proptest::prelude::*;

use super::server::{Reply, Seen, Server, Then};
use crate::blob::MAX_CHUNK;
use crate::error::{ResourceError, ResourceFailure};
use crate::http::address::{Reach, reach};
use crate::http::resolve::{Lookup, System};
use crate::http::rules::Rules;
use crate::http::{Clients, HttpClientResource, HttpRequest, HttpResponse, MAX_BODY};

fn spec(origins: &[&str]) -> HttpClientSpec {
    let origins = origins.iter().map(|origin| origin.parse::<Origin>().unwrap()).collect();
    HttpClientSpec { access: Access::ReadWrite, ..HttpClientSpec::new(origins) }
}

/// A client for servers of this machine.
fn local(origins: &[&str]) -> HttpClientSpec {
    HttpClientSpec { allow_private: true, ..spec(origins) }
}

async fn open_with(clients: &Clients, spec: &HttpClientSpec) -> HttpClientResource {
    let name = Name::new("api").unwrap();
    clients.open(&TenantId::default(), &name, spec, Access::ReadWrite).await.unwrap()
}

async fn open(spec: &HttpClientSpec) -> HttpClientResource {
    open_with(&Clients::default(), spec).await
}

fn request(method: &str, url: &str) -> HttpRequest {
    HttpRequest { method: method.to_owned(), url: url.to_owned(), ..HttpRequest::default() }
}

async fn get(client: &HttpClientResource, url: &str) -> Result<HttpResponse, ResourceFailure> {
    client.send(&request("GET", url), Bytes::new()).await
}

async fn body(mut response: HttpResponse, max: u32) -> Result<Vec<u8>, ResourceFailure> {
    let mut all = Vec::new();
    loop {
        let piece = response.read(max).await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&piece);
    }
}

/// What the operator is told, of a request that was denied.
fn rule<T>(answer: Result<T, ResourceFailure>) -> String {
    match answer {
        Err(ResourceFailure { answer: ResourceError::Denied, detail: Some(detail) }) => {
            assert_eq!(detail.code, Code::ResourceDenied);
            detail.description
        }
        Err(other) => panic!("not denied: {other:?}"),
        Ok(_) => panic!("not denied, but answered"),
    }
}

/// What the operator is told, of a request that was not answered.
fn trouble<T>(answer: Result<T, ResourceFailure>, told: &str) -> String {
    match answer {
        Err(ResourceFailure { answer: ResourceError::Unavailable(text), detail: Some(detail) }) => {
            assert!(text.contains(told), "{text}: {detail:?}");
            assert_eq!(detail.code, Code::ResourceUnavailable);
            detail.description
        }
        Err(other) => panic!("not unavailable: {other:?}"),
        Ok(_) => panic!("not unavailable, but answered"),
    }
}

fn limit<T>(answer: Result<T, ResourceFailure>) -> String {
    match answer {
        Err(ResourceFailure { answer: ResourceError::Limit(text), .. }) => text,
        Err(other) => panic!("no limit: {other:?}"),
        Ok(_) => panic!("no limit, but answered"),
    }
}

#[test]
fn addresses_are_told_apart() {
    for (address, expected) in [
        ("1.1.1.1", Reach::Public),
        ("9.255.255.255", Reach::Public),
        ("172.15.255.255", Reach::Public),
        ("172.32.0.0", Reach::Public),
        ("100.63.255.255", Reach::Public),
        ("100.128.0.0", Reach::Public),
        ("223.255.255.255", Reach::Public),
        ("192.0.1.1", Reach::Public),
        ("127.0.0.1", Reach::Private),
        ("127.255.255.254", Reach::Private),
        ("10.0.0.1", Reach::Private),
        ("172.16.0.1", Reach::Private),
        ("172.31.255.255", Reach::Private),
        ("192.168.0.1", Reach::Private),
        ("169.254.169.254", Reach::Private),
        ("100.64.0.1", Reach::Private),
        ("100.100.100.200", Reach::Private),
        ("198.18.0.1", Reach::Private),
        ("198.19.255.255", Reach::Private),
        ("0.0.0.0", Reach::Nobody),
        ("0.1.2.3", Reach::Nobody),
        ("192.0.0.8", Reach::Nobody),
        ("192.0.2.1", Reach::Nobody),
        ("198.51.100.1", Reach::Nobody),
        ("203.0.113.1", Reach::Nobody),
        ("192.88.99.1", Reach::Nobody),
        ("224.0.0.1", Reach::Nobody),
        ("239.255.255.255", Reach::Nobody),
        ("240.0.0.1", Reach::Nobody),
        ("255.255.255.255", Reach::Nobody),
        ("2606:4700:4700::1111", Reach::Public),
        ("2a00:1450::1", Reach::Public),
        ("2001:200::1", Reach::Public),
        ("::1", Reach::Private),
        ("::ffff:127.0.0.1", Reach::Private),
        ("::ffff:8.8.8.8", Reach::Private),
        ("::ffff:0.0.0.0", Reach::Nobody),
        ("::127.0.0.1", Reach::Private),
        ("fc00::1", Reach::Private),
        ("fd00::1", Reach::Private),
        ("fd00:ec2::254", Reach::Private),
        ("fe80::1", Reach::Private),
        ("febf::1", Reach::Private),
        ("fec0::1", Reach::Private),
        ("64:ff9b::8.8.8.8", Reach::Public),
        ("64:ff9b::10.0.0.1", Reach::Private),
        ("64:ff9b::169.254.169.254", Reach::Private),
        ("64:ff9b::0.0.0.0", Reach::Nobody),
        ("64:ff9b:1::10.0.0.1", Reach::Private),
        ("64:ff9b:1::8.8.8.8", Reach::Private),
        ("2002:7f00:1::1", Reach::Private),
        ("2002:808:808::1", Reach::Private),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Reach::Nobody),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", Reach::Private),
        ("2001:2::1", Reach::Private),
        ("::", Reach::Nobody),
        ("ff02::1", Reach::Nobody),
        ("ff0e::1", Reach::Nobody),
        ("2001:db8::1", Reach::Nobody),
        ("3fff::1", Reach::Nobody),
        ("2001:10::1", Reach::Nobody),
        ("2001:20::1", Reach::Nobody),
        ("100::1", Reach::Nobody),
        ("5f00::1", Reach::Nobody),
        ("4000::1", Reach::Nobody),
        ("::ffff:0:127.0.0.1", Reach::Nobody),
    ] {
        assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
    }
}

proptest! {
    /// What stands for an IPv4 address is reached by no more than that address, however it is written.
    #[test]
    fn no_form_of_an_address_reaches_further(bits: u32) {
        let v4 = Ipv4Addr::from(bits);
        let own = reach(IpAddr::V4(v4));
        let [a, b, c, d] = v4.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        for form in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low),
        ] {
            // A short number alone (`::1`) is no IPv4 address.
            prop_assert!(reach(IpAddr::V6(form)) >= own || form == Ipv6Addr::LOCALHOST, "{form}");
        }
        if v4.is_private() || v4.is_loopback() || v4.is_link_local() {
            prop_assert_eq!(own, Reach::Private);
        }
        if v4.is_multicast() || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified() {
            prop_assert_eq!(own, Reach::Nobody);
        }
    }

    #[test]
    fn only_what_is_given_out_is_public(bits: u128) {
        let address = Ipv6Addr::from(bits);
        let first = address.segments()[0];
        let public = reach(IpAddr::V6(address)) == Reach::Public;
        prop_assert!(!public || (0x2000..0x4000).contains(&first) || first == 0x64);
    }

    /// Whatever an op writes: what is let through goes to an origin of the list, without credentials.
    #[test]
    fn whatever_is_let_through_is_on_the_list(
        scheme in "(https?:|HTTP:|ftp:|)",
        slashes in "(//|/|\\\\\\\\|/\\\\|)",
        user in "(|a@|a:b@|api\\.example\\.com@|%40)",
        host in "(api\\.example\\.com|API\\.EXAMPLE\\.COM\\.|x\\.acme\\.example|api%2eexample\\.com|[a-z0-9.%@:\\[\\]\\\\]{0,24})",
        rest in "[ -~]{0,24}",
    ) {
        let spec = spec(&["https://api.example.com", "https://*.acme.example:8443"]);
        let rules = Rules { name: "api", spec: &spec, access: Access::Read };
        if let Ok(target) = rules.target(&format!("{scheme}{slashes}{user}{host}{rest}"), None) {
            let url = &target.url;
            prop_assert_eq!(url.scheme(), "https");
            prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
            let (host, port) = (url.host_str().unwrap(), url.port_or_known_default());
            let open = host.strip_suffix(".acme.example").is_some_and(|label| !label.is_empty() && !label.contains('.'));
            prop_assert!(host == "api.example.com" && port == Some(443) || open && port == Some(8443), "{}", url);
        }
    }
}

#[test]
fn hostile_addresses_are_refused() {
    let strict = spec(&["https://api.example.com", "https://*.acme.example:8443", "http://plain.example"]);
    let rules = Rules { name: "api", spec: &strict, access: Access::Read };
    for (url, host) in [
        ("https://api.example.com", "api.example.com"),
        ("https://api.example.com:443/a?b#c", "api.example.com"),
        ("HTTPS://API.Example.COM./a", "api.example.com"),
        ("https://api%2Eexample.com/", "api.example.com"),
        ("https://api。example。com/", "api.example.com"),
        ("https://ａｐｉ.example.com/", "api.example.com"),
        ("https:api.example.com", "api.example.com"),
        ("https://api.example.com\\@evil.example/", "api.example.com"),
        ("https://X.acme.example:8443/", "x.acme.example"),
        ("http://plain.example:80/", "plain.example"),
    ] {
        let target = rules.target(url, None).unwrap_or_else(|failure| panic!("{url}: {failure:?}"));
        assert_eq!(target.url.host_str(), Some(host), "{url}");
        assert_eq!(target.url.fragment(), None);
    }
    for url in [
        "http://api.example.com",
        "https://api.example.com:444",
        "https://api.example.com.evil.example",
        "https://api.example.com@evil.example/",
        "https://evil.example/https://api.example.com",
        "https://evil.example\\.api.example.com",
        "https://evil.example#@api.example.com",
        "https://evil.example?@api.example.com",
        "https://user@api.example.com",
        "https://user:pw@api.example.com",
        "https://:pw@api.example.com",
        "https://xapi.example.com",
        "https://аpi.example.com",
        "https://api.example.com..",
        "https://acme.example:8443",
        "https://a.b.acme.example:8443",
        "https://x.acme.example",
        "https://plain.example",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "data:text/plain,x",
        "ws://plain.example",
        "unix:/run/docker.sock",
    ] {
        rule(rules.target(url, None).map_err(|failure| {
            assert!(matches!(failure.answer, ResourceError::Denied), "{url}: {failure:?}");
            failure
        }));
    }
    for url in [
        "",
        "api.example.com",
        "//api.example.com",
        "/a",
        "https://",
        "https://[::1",
        "https://a b",
        "https://api.exa\nmple.com",
        "https://api.example.com\t",
        "\u{0}",
    ] {
        let failure = rules.target(url, None).unwrap_err();
        assert!(matches!(failure.answer, ResourceError::Invalid(_)), "{url:?}: {failure:?}");
    }
    limit(rules.target(&format!("https://api.example.com/{}", "a".repeat(9_000)), None));

    // On the list, but where a client may not go: in whatever form.
    let listed =
        spec(&["http://127.0.0.1", "http://169.254.169.254", "http://[::1]", "http://0.0.0.0", "http://8.8.8.8"]);
    let rules = Rules { name: "api", spec: &listed, access: Access::Read };
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://①②⑦.0.0.1/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0/",
    ] {
        assert!(rule(rules.target(url, None)).contains("may not be reached"), "{url}");
    }
    rules.target("http://8.8.8.8/", None).unwrap();
    rule(rules.target("http://[::ffff:127.0.0.1]/", None));
    let private = HttpClientSpec { allow_private: true, ..listed };
    let rules = Rules { name: "api", spec: &private, access: Access::Read };
    rules.target("http://0x7f.1/", None).unwrap();
    rules.target("http://[::1]/", None).unwrap();
    rule(rules.target("http://0.0.0.0/", None));
}

#[test]
fn methods_and_headers_are_held_to_the_rules() {
    let mut spec = spec(&["https://api.example.com"]);
    spec.headers.insert("authorization".into(), AddedHeader::Text("x".into()));
    let writes = Rules { name: "api", spec: &spec, access: Access::ReadWrite };
    let reads = Rules { access: Access::Read, ..writes };
    for method in ["GET", "get", "HEAD", "Head"] {
        reads.method(method).unwrap();
    }
    for method in ["POST", "post", "DELETE", "OPTIONS", "PROPFIND", "GETS"] {
        rule(reads.method(method));
        writes.method(method).unwrap();
    }
    for method in ["CONNECT", "connect", "TRACE", "Trace"] {
        rule(writes.method(method));
    }
    for method in ["", "GET ", "GET /", "G\r\nET", "GÉT", &"A".repeat(40)] {
        assert!(matches!(writes.method(method).unwrap_err().answer, ResourceError::Invalid(_)), "{method:?}");
    }

    let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    writes.headers(&one("X-Custom", "a\tb")).unwrap();
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "proxy-authorization",
        "Proxy-Connection",
        "cookie",
        "cookie2",
        "forwarded",
        "via",
        "x-forwarded-for",
        "X-Forwarded-Host",
        "x-real-ip",
        "http2-settings",
        "Authorization",
    ] {
        assert!(rule(writes.headers(&one(name, "x"))).contains(&name.to_ascii_lowercase()), "{name}");
    }
    for name in ["X-HTTP-Method-Override", "x-http-method", "x-method-override"] {
        rule(reads.headers(&one(name, "DELETE")));
        writes.headers(&one(name, "DELETE")).unwrap();
    }
    for (name, value) in [("", "x"), ("a b", "x"), ("a:", "x"), ("a\r\nb", "x"), ("a", "x\r\nhost: y"), ("a", "x\u{0}")]
    {
        let failure = writes.headers(&one(name, value)).unwrap_err();
        assert!(matches!(failure.answer, ResourceError::Invalid(_)), "{name:?} {value:?}: {failure:?}");
    }
    limit(writes.headers(&one("a", &"x".repeat(70_000))));
    limit(writes.headers(&vec![("a".to_owned(), "x".to_owned()); 101]));
}

#[tokio::test]
async fn a_server_sees_what_the_host_adds_and_an_op_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "canary-1\n").unwrap();
    let server = Server::new(|seen| match seen.method.as_str() {
        "HEAD" => Reply(b"HTTP/1.1 200 x\r\ncontent-length: 99999999999\r\n\r\n".to_vec(), Then::GoOn),
        _ => Reply::new(201, "X-Answer: yes\r\nset-cookie: a=b\r\nkeep-alive: timeout=5\r\n", b"hello"),
    })
    .await;
    let mut spec = local(&[&server.origin()]);
    let from = SecretSpec::File(secret.to_str().unwrap().to_owned());
    let (name, prefix) = (Name::new("key").unwrap(), "Bearer ".to_owned());
    spec.headers.insert("authorization".into(), AddedHeader::Secret { secret: name, from, prefix });
    spec.headers.insert("x-team".into(), AddedHeader::Text("ecology".into()));
    let client = open(&spec).await;
    assert!(!format!("{client:?}").contains("canary"));

    let mut asked = request("post", &format!("{}/a/../b?c=d#e", server.origin().to_uppercase()));
    asked.headers = vec![("X-Own".into(), "1".into()), ("x-own".into(), "2".into())];
    let answer = client.send(&asked, Bytes::from_static(b"body")).await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers(), [("x-answer".into(), "yes".into()), ("content-length".into(), "5".into())]);
    assert_eq!(body(answer, 2).await.unwrap(), b"hello");
    let seen = server.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.path.as_str(), &seen.body[..]), ("POST", "/b?c=d", &b"body"[..]));
    assert_eq!(seen.header("authorization"), Some("Bearer canary-1"));
    assert_eq!(
        (seen.header("x-team"), seen.header("host")),
        (Some("ecology"), Some(server.address.to_string().as_str()))
    );
    let own: Vec<_> =
        seen.headers.iter().filter(|(name, _)| name == "x-own").map(|(_, value)| value.as_str()).collect();
    assert_eq!(own, ["1", "2"]);
    for name in ["cookie", "referer", "accept-encoding", "proxy-authorization"] {
        assert_eq!(seen.header(name), None, "{name}");
    }

    // A body where there is none to be, none where one could be, and an answer without one.
    let failure = client.send(&request("GET", &server.origin()), Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(failure.answer, ResourceError::Invalid(_)), "{failure:?}");
    client.send(&request("POST", &server.origin()), Bytes::new()).await.unwrap();
    assert_eq!(server.seen()[1].header("content-length"), Some("0"));
    let head = client.send(&request("HEAD", &server.origin()), Bytes::new()).await.unwrap();
    assert_eq!(body(head, 9).await.unwrap(), b"");
    limit(client.send(&request("POST", &server.origin()), Bytes::from(vec![0; MAX_BODY + 1])).await);

    // It is read anew for the next step; one that cannot be sent is told without its bytes.
    std::fs::write(&secret, "canary-2").unwrap();
    get(&open(&spec).await, &server.origin()).await.unwrap();
    assert_eq!(server.seen().last().unwrap().header("authorization"), Some("Bearer canary-2"));
    std::fs::write(&secret, "canary\n3").unwrap();
    let failure = Clients::default()
        .open(&TenantId::default(), &Name::new("api").unwrap(), &spec, Access::Read)
        .await
        .unwrap_err();
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    assert!(trouble::<()>(Err(failure), "cannot be made").contains("the secret `key` holds a line end"));
}

#[tokio::test]
async fn connections_are_kept_for_the_same_tenant_and_spec_only() {
    let server = Server::new(|_| Reply::new(200, "", b"x")).await;
    let (clients, spec) = (Clients::default(), local(&[&server.origin()]));
    let name = Name::new("api").unwrap();
    let ask = async |tenant: &str, spec: &HttpClientSpec| {
        let client = clients.open(&tenant.parse().unwrap(), &name, spec, Access::Read).await.unwrap();
        body(get(&client, &server.origin()).await.unwrap(), 9).await.unwrap();
        server.connections()
    };
    let mut other = spec.clone();
    other.headers.insert("x-team".into(), AddedHeader::Text("b".into()));
    assert_eq!(ask("default", &spec).await, 1);
    assert_eq!(ask("default", &spec).await, 1);
    assert_eq!(ask("other", &spec).await, 2);
    assert_eq!(ask("default", &other).await, 3);
    assert_eq!(ask("default", &spec).await, 3);
}

/// Answers of a name server, one after another; the last again and again.
#[derive(Debug, Default)]
struct Answers {
    next: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Answers {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |addresses: &&[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { next: Mutex::new(answers.iter().map(parse).collect()), asked: Mutex::default() })
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Lookup for Answers {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let mut next = self.next.lock().unwrap();
        if next.len() > 1 { Ok(next.pop_front().unwrap()) } else { Ok(next.front().cloned().unwrap_or_default()) }
    }
}

/// A name that means one address when it is looked up and another a moment later: it is looked up once, and that is dialled.
#[tokio::test]
async fn the_address_that_is_checked_is_the_one_that_is_dialled() {
    let inside = Server::new(|_| Reply::new(200, "", b"inside")).await;
    let port = inside.address.port();
    let url = format!("http://rebind.example:{port}/");
    let origins = [&*format!("http://rebind.example:{port}")];

    // Public first (an address that nobody has, and a machine without IPv6 says so at once), then ours.
    let answers = Answers::new(&[&["2a00::1"], &["127.0.0.1"]]);
    let lookup = Arc::clone(&answers) as Arc<dyn Lookup>;
    let short = HttpClientSpec { timeout: Duration::from_millis(300), ..spec(&origins) };
    let client = open_with(&Clients::looking_up(lookup), &short).await;
    trouble(get(&client, &url).await, "the server");
    assert_eq!(answers.asked(), 1, "nobody asks again between the check and the call");
    let told = rule(get(&client, &url).await);
    assert!(told.contains(&format!("http://rebind.example:{port} is at an address that may not be reached")), "{told}");
    assert_eq!(answers.asked(), 2);
    // Among many, only those that may be reached are tried.
    let answers = Answers::new(&[&["127.0.0.1", "2a00::1", "::ffff:127.0.0.1", "10.0.0.1"]]);
    let client = open_with(&Clients::looking_up(answers), &short).await;
    trouble(get(&client, &url).await, "the server");
    assert_eq!(inside.connections(), 0);

    // The same where private addresses may be reached: the first answer is dialled, though the second is another.
    let other = Server::at(&format!("127.0.0.2:{port}"), |_| Reply(Reply::new(200, "", b"other").0, Then::Close)).await;
    let answers = Answers::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let lookup = Arc::clone(&answers) as Arc<dyn Lookup>;
    let client = open_with(&Clients::looking_up(lookup), &local(&origins)).await;
    let answer = get(&client, &format!("http://REBIND.example.:{port}/x")).await.unwrap();
    assert_eq!(body(answer, 99).await.unwrap(), b"other");
    assert_eq!((other.connections(), inside.connections(), answers.asked()), (1, 0, 1));
    assert_eq!(answers.asked.lock().unwrap()[0], "rebind.example");
    assert_eq!(other.seen()[0].header("host"), Some(format!("rebind.example:{port}").as_str()));
    // Nobody is reached at what is no address of one machine, whatever the resource says.
    let answers = Answers::new(&[&["0.0.0.0", "224.0.0.1", "::"]]);
    let client = open_with(&Clients::looking_up(answers), &local(&origins)).await;
    rule(get(&client, &url).await);
    assert_eq!(inside.connections(), 0);
    // And a name that means nothing.
    let client = open_with(&Clients::looking_up(Answers::new(&[])), &local(&origins)).await;
    trouble(get(&client, &url).await, "cannot be reached");
    // As this machine looks names up.
    assert!(System.addresses("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
}

/// Two servers on the list, one that is not; the path of a request says where to go next.
struct Chain {
    servers: [Server; 3],
    log: Arc<Mutex<Vec<(usize, Seen)>>>,
}

impl Chain {
    async fn new() -> Self {
        let log = Arc::<Mutex<Vec<(usize, Seen)>>>::default();
        let places = Arc::new(OnceLock::<Vec<String>>::new());
        let make = async |ix: usize| {
            let (log, places) = (Arc::clone(&log), Arc::clone(&places));
            Server::new(move |seen| {
                log.lock().unwrap().push((ix, seen.clone()));
                let rest = seen.path.trim_start_matches('/');
                let Some((hop, rest)) = rest.split_once('/') else { return Reply::new(200, "", b"end") };
                let (status, to) = hop.split_once('-').unwrap();
                let to = &places.get().unwrap()[to.parse::<usize>().unwrap()];
                Reply::to(status.parse().unwrap(), &format!("{to}/{rest}"))
            })
            .await
        };
        let servers = [make(0).await, make(1).await, make(2).await];
        places.set(servers.iter().map(Server::origin).collect()).unwrap();
        Self { servers, log }
    }
}

/// What should come of a chain of redirects: what each server sees (method, the secret, the op's own header), and the end.
fn expected(chain: &[(u16, usize)], redirects: u32) -> (Vec<(usize, &'static str, bool)>, &'static str) {
    let (mut at, mut method, mut home) = (0, "POST", true);
    let mut seen = vec![(at, method, home)];
    for (followed, (status, to)) in (0..).zip(chain) {
        if redirects == 0 {
            return (seen, "the redirect");
        }
        if followed == redirects {
            return (seen, "limit");
        }
        if *to == 2 {
            return (seen, "denied");
        }
        if matches!(status, 301..=303) {
            method = "GET";
        }
        home &= *to == at;
        at = *to;
        seen.push((at, method, home));
    }
    (seen, "answer")
}

#[test]
fn redirects_go_where_requests_may_go_and_credentials_stay_at_home() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let setup = runtime.block_on(Chain::new());
    let origins = [setup.servers[0].origin(), setup.servers[1].origin()];
    let statuses = prop::sample::select(vec![301_u16, 302, 303, 307, 308]);
    let chains = prop::collection::vec((statuses, prop::sample::select(vec![0_usize, 0, 1, 1, 2])), 0..8);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let ran = runner.run(&(chains, 0_u32..7), |(chain, redirects)| {
        let mut spec = local(&[&origins[0], &origins[1]]);
        spec.redirects = redirects;
        spec.headers.insert("authorization".into(), AddedHeader::Text("canary".into()));
        let path: String = chain.iter().map(|(status, to)| format!("{status}-{to}/")).collect();
        let mut asked = request("POST", &format!("{}/{path}", origins[0]));
        asked.headers = vec![("x-own".into(), "1".into()), ("accept".into(), "text/plain".into())];
        setup.log.lock().unwrap().clear();
        let came = runtime.block_on(async { open(&spec).await.send(&asked, Bytes::from_static(b"body")).await });
        let seen = std::mem::take(&mut *setup.log.lock().unwrap());
        let (hops, end) = expected(&chain, redirects);
        let found: Vec<_> =
            seen.iter().map(|(at, seen)| (*at, seen.method.as_str(), seen.header("x-own").is_some())).collect();
        prop_assert_eq!(&found, &hops);
        for (_, seen) in &seen {
            let home = seen.header("x-own").is_some();
            prop_assert_eq!(seen.header("authorization"), home.then_some("canary"));
            prop_assert_eq!(seen.header("accept"), Some("text/plain"));
            prop_assert_eq!(&seen.body[..], if seen.method == "POST" { &b"body"[..] } else { b"" });
        }
        match (came, end) {
            (Ok(answer), "answer") => prop_assert_eq!(answer.status(), 200),
            (Ok(answer), "the redirect") => prop_assert_eq!(answer.status(), chain[0].0),
            (Err(failure), "limit") => prop_assert!(matches!(failure.answer, ResourceError::Limit(_))),
            (Err(failure), "denied") => prop_assert!(rule::<()>(Err(failure)).contains("is not among its origins")),
            (came, end) => prop_assert!(false, "{end}: {:?}", came.map(|answer| answer.status())),
        }
        Ok(())
    });
    ran.unwrap();
    assert_eq!(setup.servers[2].connections(), 0);
}

#[tokio::test]
async fn redirects_to_what_is_worse_are_refused() {
    let server = Server::new(|seen| Reply::to(302, seen.path.strip_prefix("/?").unwrap_or("/"))).await;
    let origin = server.origin();
    let mut origins = vec![&*origin, "http://169.254.169.254", "http://10.0.0.1", "https://secure.example"];
    origins.push("http://secure.example");
    let strict = HttpClientSpec { redirects: 3, ..local(&origins) };
    let client = open(&strict).await;
    for to in [
        "http://127.0.0.1:1/",
        "https://evil.example/",
        "//evil.example/",
        "file:///etc/passwd",
        "http://a@127.0.0.1:1/",
    ] {
        let told = rule(get(&client, &format!("{origin}/?{to}")).await);
        assert!(told.contains("`api` refused a request"), "{told}");
    }
    trouble(get(&client, &format!("{origin}/?http://[")).await, "redirect is malformed");
    assert!(limit(get(&client, &origin).await).contains("more than 3 times"), "it leads to itself");
    // From what is encrypted to what is not: also where both are on the list.
    let rules = Rules { name: "api", spec: &strict, access: Access::Read };
    let secure = rules.target("https://secure.example/", None).unwrap();
    assert!(rule(rules.target("http://secure.example/", Some(&secure))).contains("which is not encrypted"));
    let plain = rules.target("http://secure.example/", None).unwrap();
    rules.target("https://secure.example/", Some(&plain)).unwrap();
    // Numbers on the way are checked like numbers at the start.
    let public = HttpClientSpec { allow_private: false, ..strict.clone() };
    let rules = Rules { name: "api", spec: &public, access: Access::Read };
    for to in ["http://169.254.169.254/latest", "http://10.0.0.1/", "http://0xa.1/"] {
        assert!(rule(rules.target(to, Some(&plain))).contains("may not be reached"), "{to}");
    }
}

#[tokio::test]
async fn answers_are_bounded_in_bytes() {
    let large = 3 * MAX_CHUNK;
    let server = Server::new(move |seen| match seen.path.as_str() {
        "/exact" => Reply::new(200, "", &vec![b'x'; large]),
        "/promised" => Reply(b"HTTP/1.1 200 x\r\ncontent-length: 9999999999\r\n\r\n".to_vec(), Then::Hang),
        "/chunked" => {
            let mut bytes = b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..200 {
                bytes.extend_from_slice(b"10000\r\n");
                bytes.extend_from_slice(&[b'y'; 0x10000]);
                bytes.extend_from_slice(b"\r\n");
            }
            Reply(bytes, Then::Hang)
        }
        "/bomb" => Reply::new(200, "content-encoding: gzip\r\n", &[0x1f, 0x8b, 8, 0]),
        "/many" => Reply::new(200, &(0..200).map(|n| format!("x-{n}: y\r\n")).collect::<String>(), b""),
        "/wide" => Reply::new(200, &format!("x: {}\r\n", "y".repeat(100_000)), b""),
        "/endless" => Reply(format!("HTTP/1.1 200 x\r\nx: {}", "y".repeat(5 << 20)).into_bytes(), Then::Hang),
        "/short" => Reply(b"HTTP/1.1 200 x\r\ncontent-length: 10\r\n\r\nabc".to_vec(), Then::Close),
        "/garbage" => Reply(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), Then::Close),
        "/two" => Reply(b"HTTP/1.1 200 x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(), Then::Close),
        _ => Reply(Vec::new(), Then::Close),
    })
    .await;
    let spec = HttpClientSpec { max_response: ByteSize(large as u64), ..local(&[&server.origin()]) };
    let client = open(&spec).await;
    let ask = async |path: &str| get(&client, &format!("{}{path}", server.origin())).await;

    let mut exact = ask("/exact").await.unwrap();
    let mut pieces = Vec::new();
    loop {
        let piece = exact.read(1_000_000).await.unwrap();
        if piece.is_empty() {
            break;
        }
        pieces.push(piece.len());
    }
    assert_eq!(pieces, [1_000_000, 1_000_000, 1_000_000, large - 3_000_000], "however the network cut it");
    let mut exact = ask("/exact").await.unwrap();
    assert_eq!(exact.read(u32::MAX).await.unwrap().len(), MAX_CHUNK);
    assert_eq!(exact.read(0).await.unwrap().len(), 0);

    assert!(limit(ask("/promised").await).contains("max_response"));
    let mut chunked = ask("/chunked").await.unwrap();
    let mut read = 0;
    let failure = loop {
        match chunked.read(u32::MAX).await {
            Ok(piece) => read += piece.len(),
            Err(failure) => break failure,
        }
    };
    assert!(read <= large && limit::<()>(Err(failure.clone())).contains("max_response"), "{read}");
    assert_eq!(chunked.read(1).await.unwrap_err(), failure, "the same from then on");
    let bomb = body(ask("/bomb").await.unwrap(), 99).await.unwrap();
    assert_eq!(bomb, [0x1f, 0x8b, 8, 0], "nothing is decompressed");
    trouble(ask("/many").await, "the server");
    limit(ask("/wide").await);
    trouble(ask("/endless").await, "the server");
    trouble(body(ask("/short").await.unwrap(), 99).await, "broke off");
    trouble(ask("/garbage").await, "the server");
    trouble(ask("/two").await, "the server");
    trouble(ask("/nothing").await, "the server");
}

#[tokio::test]
async fn answers_are_bounded_in_time() {
    let server = Server::new(|seen| match seen.path.as_str() {
        "/silent" => Reply(Vec::new(), Then::Hang),
        "/slow" => Reply(b"HTTP/1.1 200 x\r\ncontent-length: 1000000\r\n\r\n".to_vec(), Then::Trickle),
        _ => Reply(b"HTTP/1.1 200 x\r\n".to_vec(), Then::Trickle),
    })
    .await;
    let spec = HttpClientSpec { timeout: Duration::from_millis(200), ..local(&[&server.origin()]) };
    let client = open(&spec).await;
    for path in ["/silent", "/slow", "/header"] {
        let asked = request("GET", &format!("{}{path}", server.origin()));
        // An op cannot ask for more than it is given.
        for (timeout, most) in
            [(None, 200), (Some(Duration::from_secs(3_600)), 200), (Some(Duration::from_millis(50)), 50)]
        {
            let start = tokio::time::Instant::now();
            let came = match client.send(&HttpRequest { timeout, ..asked.clone() }, Bytes::new()).await {
                Ok(answer) => body(answer, 10_000).await.map(drop),
                Err(failure) => Err(failure),
            };
            trouble(came, "took too long");
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(most) && took < Duration::from_secs(20), "{path}: {took:?}");
        }
    }
}

/// A server that does not speak TLS, and a port that nobody listens on.
#[tokio::test]
async fn what_cannot_be_reached_is_told_to_the_operator() {
    let server = Server::new(|_| Reply::new(200, "", b"")).await;
    let secure = server.origin().replace("http:", "https:");
    let client = open(&HttpClientSpec { timeout: Duration::from_secs(10), ..local(&[&secure]) }).await;
    let told = trouble(get(&client, &format!("{secure}/path?key=canary")).await, "cannot be reached");
    assert!(told.starts_with(&secure) && !told.contains("canary"), "{told}");
    assert_eq!(server.seen().len(), 0);
    let gone = server.origin();
    drop(server);
    let client = open(&local(&[&gone])).await;
    trouble(get(&client, &gone).await, "cannot be reached");
}
