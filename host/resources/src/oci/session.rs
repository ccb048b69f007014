//! HTTP with one registry: who is spoken to, as whom, and how much is read.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use opyard_model::definitions::registries::{Credentials, RegistrySpec};
use opyard_model::error::{Code, Failure};
use opyard_model::supply::OciReference;
use opyard_store::object::CALL_TIMEOUT;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::challenge::Challenge;
use super::{invalid, refusal};
use crate::model_registry::client;
use crate::secret::Secrets;

/// Most redirects of one answer.
const MAX_REDIRECTS: usize = 5;
/// Longest address of a redirect: signed addresses of object stores have some KiB.
const MAX_LOCATION: usize = 16 << 10;
/// Largest answer of a token server, and longest token.
const MAX_TOKEN_ANSWER: u64 = 64 << 10;
const MAX_TOKEN: usize = 16 << 10;
/// Largest answer that is read only to be thrown away.
const MAX_IGNORED: u64 = 64 << 10;
/// Longest time for all bytes of one component.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(600);
/// What registries call the header that says that they list what refers to what.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// What a registry is spoken to for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read.
    Pull,
    /// To read and write.
    Push,
}

/// One repository, and how to ask for it.
pub(super) struct Session {
    client: Client,
    /// The registry's own origin, with the path `/`.
    origin: Url,
    /// The repository there: segments of the operator's address, then the name.
    repository: String,
    /// Sent to `origin` alone.
    authorization: Option<HeaderValue>,
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// No answer. The text of the library is not said: it holds addresses, which may be signed.
fn silent(shown: &str, error: &reqwest::Error) -> Failure {
    let why = if error.is_connect() { "cannot be reached" } else { "breaks off" };
    Failure::new(Code::RegistryUnavailable, format!("{shown} {why}"))
}

async fn in_time<T>(
    limit: Duration,
    shown: &str,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = || {
        let text = format!("{shown} does not answer within {} s", limit.as_secs());
        Failure::new(Code::RegistryUnavailable, text)
    };
    tokio::time::timeout(limit, call).await.map_err(|_| late())?
}

impl Session {
    pub(super) async fn open(spec: &RegistrySpec, reference: &OciReference, purpose: Purpose) -> Result<Self, Failure> {
        let unusable = || Failure::new(Code::BadUrl, format!("the registry {} cannot be used", spec.url));
        let mut origin = Url::parse(&spec.url).map_err(|_| unusable())?;
        let prefix = origin.path().trim_matches('/').to_owned();
        let name = reference.name();
        let repository = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        origin.set_path("/");
        if spec.credentials.is_some() && origin.scheme() != "https" && !is_here(&origin) {
            let text = format!("{}: credentials are sent over https only, or to this machine", spec.url);
            return Err(Failure::new(Code::BadUrl, text));
        }
        let client = client().map_err(|error| Failure::new(Code::RegistryUnavailable, error.to_string()))?;
        let mut session = Self { client, origin, repository, authorization: None };
        let basic = match &spec.credentials {
            Some(credentials) => Some(basic(reference, credentials).await?),
            None => None,
        };
        session.authorization = session.authorize(spec, basic, purpose).await?;
        Ok(session)
    }

    /// The registry, as messages name it.
    pub(super) fn shown(&self) -> String {
        self.origin.origin().ascii_serialization()
    }

    /// Asks the registry what it wants, and gets it.
    async fn authorize(
        &self,
        spec: &RegistrySpec,
        basic: Option<HeaderValue>,
        purpose: Purpose,
    ) -> Result<Option<HeaderValue>, Failure> {
        let url = self.below("v2/", &[])?;
        let response = self.send(self.client.get(url)).await?;
        let status = response.status();
        let header = response.headers().get(reqwest::header::WWW_AUTHENTICATE);
        let challenge = header.and_then(|header| header.to_str().ok()).and_then(Challenge::parse);
        match (status, challenge) {
            (status, _) if status.is_success() => Ok(basic),
            (StatusCode::UNAUTHORIZED, Some(Challenge::Basic)) if basic.is_some() => Ok(basic),
            (StatusCode::UNAUTHORIZED, Some(Challenge::Basic)) => {
                let text = format!("{} wants a name and a password, and `registries.yaml` has none", self.shown());
                Err(Failure::new(Code::RegistryUnavailable, text))
            }
            (StatusCode::UNAUTHORIZED, Some(Challenge::Bearer { realm, service })) => {
                self.token(spec, (&realm, service.as_deref()), basic, purpose).await.map(Some)
            }
            (StatusCode::UNAUTHORIZED, None) => Err(invalid("it wants credentials of a kind that nobody here knows")),
            (status, _) => Err(refusal(status, &self.shown())),
        }
    }

    /// Gets a token for this repository. The registry chooses the address (hostile): it is asked only when it is the
    /// registry's own, or the one that the operator names.
    async fn token(
        &self,
        spec: &RegistrySpec,
        (realm, service): (&str, Option<&str>),
        basic: Option<HeaderValue>,
        purpose: Purpose,
    ) -> Result<HeaderValue, Failure> {
        let mut url = Url::parse(realm).map_err(|_| invalid("the address of its token server cannot be used"))?;
        let named = spec.token_server.as_deref().and_then(|server| Url::parse(server).ok());
        let is_named = named.is_some_and(|named| named.origin() == url.origin());
        if !is_named && url.origin() != self.origin.origin() {
            let server = url.origin().ascii_serialization();
            let text = format!("{} wants a token of {server}, which `registries.yaml` does not name", self.shown());
            let hint = format!("if that is right, write `token_server: {server}` there");
            return Err(Failure::new(Code::RegistryInvalid, format!("{text}; {hint}")));
        }
        let actions = match purpose {
            Purpose::Pull => "pull",
            Purpose::Push => "pull,push",
        };
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("scope", &format!("repository:{}:{actions}", self.repository));
            if let Some(service) = service {
                query.append_pair("service", service);
            }
        }
        let mut request = self.client.get(url);
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, basic);
        }
        let shown = self.shown();
        let response = in_time(CALL_TIMEOUT, &shown, async { request.send().await.map_err(|e| silent(&shown, &e)) });
        let response = response.await?;
        if !response.status().is_success() {
            return Err(refusal(response.status(), &format!("the token server of {shown}")));
        }
        let body = Zeroizing::new(self.read(response, MAX_TOKEN_ANSWER).await?.to_vec());
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_| invalid("its token server answers with something else"))?;
        let token = answer.token.or(answer.access_token).map(Zeroizing::new);
        let token = token.filter(|token| token.len() <= MAX_TOKEN && token.bytes().all(|b| b.is_ascii_graphic()));
        let token = token.ok_or_else(|| invalid("its token server gives no token"))?;
        secret_header(&format!("Bearer {}", *token))
    }

    /// An address of this repository: `/v2/<repository>/<segments>`.
    fn url(&self, segments: &[&str]) -> Result<Url, Failure> {
        self.below("v2", &[&[self.repository.as_str()], segments].concat())
    }

    fn below(&self, start: &str, segments: &[&str]) -> Result<Url, Failure> {
        // Plain text, by the invariants of references and digests.
        let path = std::iter::once(start).chain(segments.iter().copied()).collect::<Vec<_>>().join("/");
        self.origin.join(&path).map_err(|_| invalid("an address of it cannot be made"))
    }

    /// Sends a request to the registry itself.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        self.send_within(CALL_TIMEOUT, request).await
    }

    async fn send_within(&self, limit: Duration, mut request: RequestBuilder) -> Result<Response, Failure> {
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let shown = self.shown();
        in_time(limit, &shown, async { request.send().await.map_err(|error| silent(&shown, &error)) }).await
    }

    /// Gets something. A redirect to another origin gets no credentials, and none leads from https to http.
    async fn get(&self, segments: &[&str], accept: &'static str) -> Result<Response, Failure> {
        let mut url = self.url(segments)?;
        for _ in 0..=MAX_REDIRECTS {
            let request = self.client.get(url.clone()).header(ACCEPT, accept);
            let response = if url.origin() == self.origin.origin() {
                self.send(request).await?
            } else {
                let shown = url.origin().ascii_serialization();
                let sent = async { request.send().await.map_err(|error| silent(&shown, &error)) };
                in_time(CALL_TIMEOUT, &shown, sent).await?
            };
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let next = location(&url, &response)?;
            if next.scheme() != "https" && (url.scheme() == "https" || next.scheme() != "http") {
                return Err(invalid("it redirects to an address that is not https"));
            }
            url = next;
        }
        Err(invalid("it redirects again and again"))
    }

    /// Reads a whole answer, at most `max` bytes.
    async fn read(&self, mut response: Response, max: u64) -> Result<Bytes, Failure> {
        let shown = self.shown();
        in_time(CALL_TIMEOUT, &shown, async {
            let mut body = BytesMut::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| silent(&shown, &error))? {
                if (body.len() + chunk.len()) as u64 > max {
                    return Err(invalid(&format!("an answer of more than {max} bytes")));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body.freeze())
        })
        .await
    }

    /// A document of the repository; none when there is none.
    pub(super) async fn document(
        &self,
        segments: &[&str],
        accept: &'static str,
        max: u64,
    ) -> Result<Option<Bytes>, Failure> {
        let response = self.get(segments, accept).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => self.read(response, max).await.map(Some),
            status => Err(refusal(status, &self.shown())),
        }
    }

    /// A blob of exactly this digest and size.
    pub(super) async fn blob(&self, digest: &[u8; 32], size: u64) -> Result<Bytes, Failure> {
        let name = named(digest);
        let mut response = self.get(&["blobs", &name], "*/*").await?;
        if !response.status().is_success() {
            return Err(match response.status() {
                StatusCode::NOT_FOUND => invalid("it has not what its own manifest names"),
                status => refusal(status, &self.shown()),
            });
        }
        let shown = self.shown();
        in_time(TRANSFER_TIMEOUT, &shown, async {
            let (mut hasher, mut bytes) = (Sha256::new(), BytesMut::new());
            let next = async |response: &mut Response| response.chunk().await.map_err(|error| silent(&shown, &error));
            while let Some(chunk) = in_time(CALL_TIMEOUT, &shown, next(&mut response)).await? {
                if (bytes.len() + chunk.len()) as u64 > size {
                    return Err(invalid("more bytes than its manifest says"));
                }
                hasher.update(&chunk);
                bytes.extend_from_slice(&chunk);
            }
            let found: [u8; 32] = hasher.finalize().into();
            if found != *digest {
                return Err(invalid(&format!("asked for {name} it answers with {}", named(&found))));
            }
            Ok(bytes.freeze())
        })
        .await
    }

    /// Puts a blob, unless it is there.
    pub(super) async fn put_blob(&self, bytes: Bytes) -> Result<(), Failure> {
        let name = named(&sha256(&bytes));
        let there = self.send(self.client.head(self.url(&["blobs", &name])?)).await?;
        if there.status().is_success() {
            return Ok(());
        }
        let started = self.client.post(self.url(&["blobs", "uploads", ""])?).header(CONTENT_LENGTH, 0);
        let started = self.send(started).await?;
        if started.status() != StatusCode::ACCEPTED {
            return Err(refusal(started.status(), &self.shown()));
        }
        let mut to = location(&self.origin, &started)?;
        if to.origin() != self.origin.origin() {
            // What is uploaded goes with credentials.
            return Err(invalid("it wants uploads to go to another host"));
        }
        to.query_pairs_mut().append_pair("digest", &name);
        let put = self.client.put(to).header(CONTENT_TYPE, "application/octet-stream").body(bytes);
        let put = self.send_within(TRANSFER_TIMEOUT, put).await?;
        self.created(put).await.map(drop)
    }

    /// Puts a manifest. Answers whether the registry lists by itself what refers to what.
    pub(super) async fn put_manifest(&self, name: &str, kind: &'static str, bytes: Bytes) -> Result<bool, Failure> {
        let put = self.client.put(self.url(&["manifests", name])?).header(CONTENT_TYPE, kind).body(bytes);
        let response = self.send(put).await?;
        let lists = response.headers().contains_key(SUBJECT);
        self.created(response).await?;
        Ok(lists)
    }

    async fn created(&self, response: Response) -> Result<Bytes, Failure> {
        match response.status() {
            StatusCode::CREATED => self.read(response, MAX_IGNORED).await,
            status => Err(refusal(status, &self.shown())),
        }
    }
}

/// What a token server answers.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// `sha256:…`
fn named(digest: &[u8; 32]) -> String {
    opyard_model::digest::ManifestDigest::from_bytes(*digest).to_string()
}

/// Where an answer says to go, from `base`. Registry-controlled.
fn location(base: &Url, response: &Response) -> Result<Url, Failure> {
    let header = response.headers().get(LOCATION).and_then(|header| header.to_str().ok());
    let header = header.filter(|header| header.len() <= MAX_LOCATION);
    let url = header.and_then(|header| base.join(header).ok());
    url.filter(|url| url.username().is_empty() && url.password().is_none() && url.host().is_some())
        .ok_or_else(|| invalid("it does not say where to go"))
}

/// The address is of this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn basic(reference: &OciReference, credentials: &Credentials) -> Result<HeaderValue, Failure> {
    let password = Secrets::default().read(reference.namespace(), &credentials.password).await;
    let password = password.map_err(|failure| match failure.detail {
        Some(detail) => *detail,
        None => Failure::new(Code::SecretMissing, failure.answer.to_string()),
    })?;
    let mut pair = Zeroizing::new(credentials.username.clone().into_bytes());
    pair.push(b':');
    pair.extend_from_slice(password.expose());
    let encoded = Zeroizing::new(STANDARD.encode(&*pair));
    secret_header(&format!("Basic {}", *encoded))
}

/// A header that is never shown.
fn secret_header(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| invalid("credentials that no header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}
