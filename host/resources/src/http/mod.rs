//! HTTP clients, as ops see them: the interface `http-client` of the contract in plain Rust.
//!
//! Hostile guests: methods, addresses, headers and bodies are guest-controlled; where a redirect leads and what an answer
//! holds is a server's. An op reaches the origins of its resource and nothing else, at addresses that are checked when they
//! are dialled ([`resolve`]); each redirect is checked like a request. Nothing of the environment is used: no proxy, no
//! cookies, no credentials but those of the definitions, which go to the origin that the op names and not on from there.
//! Every request is bounded in bytes and in time.

pub(crate) mod address;
pub(crate) mod resolve;
mod response;
pub(crate) mod rules;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use opyard_model::error::Code;
use opyard_model::http::{AddedHeader, HttpClientSpec};
use opyard_model::id::{Name, TenantId};
use opyard_model::plan::Access;
use opyard_store::object::chain;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, StatusCode};
use tokio::time::Instant;
use zeroize::Zeroizing;

use self::address::reach;
use self::resolve::{Guarded, Lookup, Refused, System};
use self::rules::{MAX_HEADERS, Rules, Target, keep_for_everybody, told};
use crate::error::{ResourceError, ResourceFailure};
use crate::given::GivenAnswers;
use crate::secret::{SecretBytes, Secrets};

pub use self::response::HttpResponse;

/// Largest body of a request: 16 MiB.
pub const MAX_BODY: usize = 16 << 20;
/// Most clients kept.
const KEPT: usize = 64;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that nobody uses is kept, and how many to one host.
const IDLE: (Duration, usize) = (Duration::from_secs(30), 4);

/// What an op asks. Guest-controlled.
#[derive(Debug, Clone, Default)]
pub struct HttpRequest {
    /// The method; upper or lower case.
    pub method: String,
    /// The address: absolute.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Longest time that it may take, if that is less than what the resource gives.
    pub timeout: Option<Duration>,
}

/// Clients by tenant and spec, with their connections. Cheap to clone; clones share.
#[derive(Clone)]
pub(crate) struct Clients {
    open: Arc<Mutex<HashMap<String, Client>>>,
    lookup: Arc<dyn Lookup>,
    /// Where those of headers are read; those that a test gives come with the answers.
    pub(crate) secrets: Secrets,
}

impl Default for Clients {
    fn default() -> Self {
        Self { open: Arc::default(), lookup: Arc::new(System), secrets: Secrets::default() }
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    /// The client of `spec`, with its secrets read anew: a secret that was changed is used from the next step on.
    pub(crate) async fn open(
        &self,
        tenant: &TenantId,
        name: &Name,
        spec: &HttpClientSpec,
        access: Access,
    ) -> Result<HttpClientResource, ResourceFailure> {
        let (added, secrets) = added(&self.secrets, name, spec).await?;
        let made = match &self.secrets {
            Secrets::Machine => self.client(tenant, spec).map(Wire::Network),
            Secrets::Given(given) => Ok(Wire::Given(given.answers(name))),
        };
        let wire = made.map_err(|error| {
            let detail = format!("the HTTP client `{name}` cannot be made: {}", describe(error));
            ResourceFailure::unavailable("the client cannot be made", Code::ResourceUnavailable, detail)
        })?;
        let (name, spec, access) = (name.clone(), spec.clone(), access.min(spec.access));
        Ok(HttpClientResource { wire, name, spec, access, added, secrets })
    }

    fn client(&self, tenant: &TenantId, spec: &HttpClientSpec) -> reqwest::Result<Client> {
        // A connection may come to stand for who opened it, so it is shared with nobody that differs in anything.
        let key = format!("{tenant} {}", serde_json::to_string(spec).unwrap_or_default());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = open.get(&key) {
            return Ok(client.clone());
        }
        // Whoever has chosen one before has the last word.
        drop(rustls::crypto::ring::default_provider().install_default());
        let guarded = Guarded { lookup: Arc::clone(&self.lookup), allow_private: spec.allow_private };
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .http1_only()
            .http1_max_headers(MAX_HEADERS)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE.0)
            .pool_max_idle_per_host(IDLE.1)
            .dns_resolver(Arc::new(guarded))
            .user_agent(concat!("opyard/", env!("CARGO_PKG_VERSION")))
            .build()?;
        if open.len() >= KEPT {
            open.clear();
        }
        open.insert(key, client.clone());
        Ok(client)
    }

    #[cfg(test)]
    pub(crate) fn looking_up(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, ..Self::default() }
    }
}

/// Secrets by their names.
type Named = Vec<(Name, SecretBytes)>;

/// The headers that the host adds to requests, secrets in place; and those secrets.
async fn added(reader: &Secrets, name: &Name, spec: &HttpClientSpec) -> Result<(HeaderMap, Named), ResourceFailure> {
    let (mut added, mut secrets) = (HeaderMap::with_capacity(spec.headers.len()), Named::new());
    for (header, value) in &spec.headers {
        let unusable = |what: &str| {
            let detail = format!("the header `{header}` of `{name}` cannot be sent: {what}");
            ResourceFailure::unavailable("the client cannot be made", Code::ResourceUnavailable, detail)
        };
        let field: HeaderName = header.parse().map_err(|_| unusable("this is not the name of a header"))?;
        let value = match value {
            AddedHeader::Text(text) => HeaderValue::from_str(text).map_err(|_| unusable("its text"))?,
            AddedHeader::Secret { secret, from, prefix } => {
                let bytes = reader.read(secret, from).await?;
                let mut whole = Zeroizing::new(Vec::with_capacity(prefix.len() + bytes.expose().len()));
                whole.extend_from_slice(prefix.as_bytes());
                whole.extend_from_slice(bytes.expose());
                let told = format!("the secret `{secret}` holds a line end or another control character");
                let mut value = HeaderValue::from_bytes(&whole).map_err(|_| unusable(&told))?;
                value.set_sensitive(true);
                secrets.push((secret.clone(), bytes));
                value
            }
        };
        added.insert(field, value);
    }
    Ok((added, secrets))
}

/// What carries requests that the rules have let through.
#[derive(Debug, Clone)]
enum Wire {
    /// A client with its connections.
    Network(Client),
    /// What a test gives.
    Given(Arc<GivenAnswers>),
}

/// An HTTP client that was granted. Holds the headers that the host adds, so it is dropped with the step.
#[derive(Clone)]
pub struct HttpClientResource {
    wire: Wire,
    name: Name,
    spec: HttpClientSpec,
    access: Access,
    added: HeaderMap,
    secrets: Named,
}

impl fmt::Debug for HttpClientResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpClientResource({})", self.name)
    }
}

/// One request on its way: what the op asked, or a redirect of it.
struct Hop {
    method: Method,
    target: Target,
    /// The op's.
    headers: HeaderMap,
    /// It goes to the origin that the op named, and has been nowhere else.
    at_home: bool,
    body: Bytes,
}

impl HttpClientResource {
    /// Sends a request, follows redirects as far as the resource says, and answers when the headers of the last answer are
    /// here. The body of the request has at most [`MAX_BODY`] bytes; the time counts until the last byte of the answer is
    /// read.
    ///
    /// # Errors
    /// `Denied` for what the rules of the resource refuse, `Invalid` for what is no request, `Limit` over a bound,
    /// `Unavailable` when there is no answer; then the request may have arrived.
    pub async fn send(&self, request: &HttpRequest, body: Bytes) -> Result<HttpResponse, ResourceFailure> {
        let time = request.timeout.map_or(self.spec.timeout, |asked| asked.min(self.spec.timeout));
        let deadline = Instant::now() + time;
        let mut hop = self.first(request, body)?;
        let mut followed = 0;
        loop {
            let response = self.exchange(&hop, deadline).await?;
            let to = match response.headers().get(LOCATION) {
                Some(to) if self.spec.redirects > 0 && is_redirect(response.status()) => to,
                _ => return self.answered(&hop, response, deadline),
            };
            if followed == self.spec.redirects {
                let text = format!("the server redirected more than {followed} times");
                return Err(ResourceError::Limit(text).into());
            }
            followed += 1;
            let (to, status) = (to.clone(), response.status());
            drop(response);
            hop = self.next(hop, status, &to)?;
        }
    }

    /// The secrets that are in its headers: nobody is to say them.
    pub fn secrets(&self) -> impl Iterator<Item = (&Name, &SecretBytes)> {
        self.secrets.iter().map(|(name, secret)| (name, secret))
    }

    fn rules(&self) -> Rules<'_> {
        Rules { name: self.name.as_str(), spec: &self.spec, access: self.access }
    }

    fn first(&self, request: &HttpRequest, body: Bytes) -> Result<Hop, ResourceFailure> {
        let rules = self.rules();
        let method = rules.method(&request.method)?;
        let target = rules.target(&request.url, None)?;
        let headers = rules.headers(&request.headers)?;
        if body.len() > MAX_BODY {
            return Err(ResourceError::Limit(format!("the body of a request has at most {MAX_BODY} bytes")).into());
        }
        if !body.is_empty() && (method == Method::GET || method == Method::HEAD) {
            return Err(ResourceError::Invalid(format!("{method} has no body")).into());
        }
        Ok(Hop { method, target, headers, at_home: true, body })
    }

    /// Where a redirect leads, if it may be followed.
    fn next(&self, hop: Hop, status: StatusCode, to: &HeaderValue) -> Result<Hop, ResourceFailure> {
        let wrong = |from: &Target| {
            let detail = format!("{}: it redirects to what is no address", from.origin());
            ResourceFailure::unavailable("the redirect is malformed", Code::ResourceUnavailable, detail)
        };
        let Ok(to) = to.to_str() else { return Err(wrong(&hop.target)) };
        let target = self.rules().target(to, Some(&hop.target)).map_err(|failure| match failure.answer {
            // It is the server that is wrong.
            ResourceError::Invalid(_) => wrong(&hop.target),
            _ => failure,
        })?;
        let Hop { mut method, target: from, mut headers, mut at_home, mut body } = hop;
        let becomes_get = match status {
            StatusCode::SEE_OTHER => method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => method == Method::POST,
            _ => false,
        };
        if becomes_get {
            (method, body) = (Method::GET, Bytes::new());
            headers.remove(CONTENT_TYPE);
        }
        if from.url.origin() != target.url.origin() {
            at_home = false;
            keep_for_everybody(&mut headers);
        }
        Ok(Hop { method, target, headers, at_home, body })
    }

    /// Sends one request and waits for the headers of its answer.
    async fn exchange(&self, hop: &Hop, deadline: Instant) -> Result<reqwest::Response, ResourceFailure> {
        let mut headers = hop.headers.clone();
        if hop.at_home {
            headers.extend(self.added.clone());
        }
        let client = match &self.wire {
            Wire::Network(client) => client,
            Wire::Given(given) => return given.answer((&hop.method, &hop.target.url), &headers, &hop.body),
        };
        let mut request = client.request(hop.method.clone(), hop.target.url.clone()).headers(headers);
        if !hop.body.is_empty() {
            request = request.body(hop.body.clone());
        } else if hop.method != Method::GET && hop.method != Method::HEAD {
            request = request.header(CONTENT_LENGTH, 0);
        }
        let from = hop.target.origin();
        match tokio::time::timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if is_refused(&error) => Err(self.rules().refused_address(&hop.target)),
            Ok(Err(error)) => {
                let told = if error.is_timeout() {
                    "the server took too long"
                } else if error.is_connect() {
                    "the server cannot be reached"
                } else {
                    "the server does not answer"
                };
                let detail = format!("{from}: {told}: {}", describe(error));
                Err(ResourceFailure::unavailable(told, Code::ResourceUnavailable, detail))
            }
            Err(_) => {
                let told = "the server took too long";
                Err(ResourceFailure::unavailable(told, Code::ResourceUnavailable, format!("{from}: {told}")))
            }
        }
    }

    fn answered(
        &self,
        hop: &Hop,
        response: reqwest::Response,
        deadline: Instant,
    ) -> Result<HttpResponse, ResourceFailure> {
        // The one that was dialled was checked; it is compared once more, in case the client ever looks elsewhere.
        let dialled = response.remote_addr();
        if dialled.is_some_and(|address| !reach(address.ip()).permits(self.spec.allow_private)) {
            return Err(self.rules().refused_address(&hop.target));
        }
        let left = self.spec.max_response.0;
        let has_body = hop.method != Method::HEAD;
        if has_body && response.content_length().is_some_and(|length| length > left) {
            return Err(response::too_large().into());
        }
        Ok(HttpResponse {
            status: response.status().as_u16(),
            headers: told(response.headers())?,
            held: Bytes::new(),
            left,
            deadline,
            from: hop.target.origin(),
            failed: None,
            body: response,
        })
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

/// Whether it is our own resolver that refused.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<Refused>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error of the client and its causes, in one line, without the address: that may hold what is the op's business alone.
fn describe(error: reqwest::Error) -> String {
    chain(&error.without_url())
}
