//! Asking an MLflow server: bounded in bytes and in time, errors in our words.

use std::sync::Arc;
use std::time::Duration;

use opyard_model::location::Credential;
use opyard_store::object::CALL_TIMEOUT;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ResourceError;
use crate::location::Shown;
use crate::path::ObjectPath;

/// Longest answer that is read: 4 MiB.
const MAX_ANSWER: usize = 4 << 20;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest code of an error that is said again.
const MAX_CODE: usize = 64;

/// An MLflow server. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Mlflow {
    client: Client,
    base: Url,
    shown: Arc<Shown>,
}

/// A question to the REST API, by its path below `/api/2.0/mlflow/`.
pub(super) enum Request<'a> {
    Get(&'a str, &'a [(&'a str, &'a str)]),
    Post(&'a str, serde_json::Value),
}

/// What a server says of an error.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error_code: String,
}

/// No answer, whatever the reason: addresses are none of the op's business.
fn silent(_: reqwest::Error) -> ResourceError {
    ResourceError::Unavailable("the MLflow server does not answer".into())
}

/// Waits, [`CALL_TIMEOUT`] at most.
pub(super) async fn in_time<T>(call: impl Future<Output = Result<T, ResourceError>>) -> Result<T, ResourceError> {
    let late =
        || ResourceError::Unavailable(format!("no answer of the MLflow server within {} s", CALL_TIMEOUT.as_secs()));
    tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| late())?
}

/// What a client needs that speaks to servers: it follows no redirects, and takes nothing from the environment.
pub(crate) fn client() -> Result<Client, ResourceError> {
    // Whoever has chosen one before has the last word.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .build()
        .map_err(|_| ResourceError::Unavailable("no client for HTTP can be made here".into()))
}

impl Mlflow {
    /// The server at `address`. Does not touch the network.
    ///
    /// # Errors
    /// `Invalid` when it is no address.
    pub(crate) fn new(client: Client, address: &str, shown: Shown) -> Result<Self, ResourceError> {
        let base = Url::parse(address).ok().filter(|base| matches!(base.scheme(), "http" | "https"));
        let base = base.ok_or_else(|| ResourceError::Invalid("the address of the server cannot be used".into()))?;
        Ok(Self { client, base, shown: Arc::new(shown) })
    }

    /// A request with the credentials of the server. Redirects are not followed, so that they go nowhere else.
    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        let get = |part| self.shown.get(part);
        match (get(Credential::Token), get(Credential::Username)) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(name)) => request.basic_auth(name, get(Credential::Password)),
            (None, None) => request,
        }
    }

    /// An address below the server's, each segment encoded.
    fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Result<Url, ResourceError> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut path) => drop(path.pop_if_empty().extend(segments)),
            Err(()) => return Err(ResourceError::Invalid("the address of the server cannot be used".into())),
        }
        Ok(url)
    }

    /// A request for an artifact behind the server's proxy.
    pub(super) fn artifact(&self, method: Method, path: &ObjectPath) -> Result<RequestBuilder, ResourceError> {
        let proxy = ["api", "2.0", "mlflow-artifacts", "artifacts"];
        let url = self.url(proxy.into_iter().chain(path.as_str().split('/')))?;
        Ok(self.request(method, url))
    }

    /// The list of artifacts in a folder.
    pub(super) async fn artifacts<T: DeserializeOwned>(&self, folder: &str) -> Result<T, ResourceError> {
        let mut url = self.url(["api", "2.0", "mlflow-artifacts", "artifacts"])?;
        url.query_pairs_mut().append_pair("path", folder);
        self.answer(self.request(Method::GET, url)).await
    }

    /// Asks, and reads the answer. Fields that nobody here knows are ignored.
    pub(super) async fn ask<T: DeserializeOwned>(&self, _: &str, request: Request<'_>) -> Result<T, ResourceError> {
        self.answer(self.builder(request)?).await
    }

    /// Asks where the answer says nothing.
    pub(super) async fn tell(&self, context: &str, request: Request<'_>) -> Result<(), ResourceError> {
        self.ask::<serde::de::IgnoredAny>(context, request).await.map(drop)
    }

    fn builder(&self, request: Request<'_>) -> Result<RequestBuilder, ResourceError> {
        let api = |path: &str| self.url(["api", "2.0", "mlflow"].into_iter().chain(path.split('/')));
        Ok(match request {
            Request::Get(path, asked) => {
                let mut url = api(path)?;
                url.query_pairs_mut().extend_pairs(asked);
                self.request(Method::GET, url)
            }
            Request::Post(path, body) => {
                let kind = (reqwest::header::CONTENT_TYPE, "application/json");
                self.request(Method::POST, api(path)?).header(kind.0, kind.1).body(body.to_string())
            }
        })
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ResourceError> {
        in_time(async {
            let response = checked(request.send().await.map_err(silent)?).await?;
            let body = read(response, MAX_ANSWER).await?;
            serde_json::from_slice(&body)
                .map_err(|_| ResourceError::Unavailable("the MLflow server answers with something else".into()))
        })
        .await
    }
}

/// Reads at most `max` bytes of an answer.
pub(super) async fn read(mut response: Response, max: usize) -> Result<Vec<u8>, ResourceError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(silent)? {
        if body.len() + chunk.len() > max {
            return Err(ResourceError::Unavailable(format!("the MLflow server answers with over {max} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The answer, if it is one; else what it means.
pub(super) async fn checked(response: Response) -> Result<Response, ResourceError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let said = read(response, MAX_ANSWER).await?;
    let refusal: Refusal = serde_json::from_slice(&said).unwrap_or_default();
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let code = refusal.error_code;
    let code = if code.len() <= MAX_CODE && code.chars().all(plain) { code } else { String::new() };
    Err(match (status, code.as_str()) {
        (_, "RESOURCE_ALREADY_EXISTS") => ResourceError::Conflict,
        (_, "RESOURCE_DOES_NOT_EXIST") | (StatusCode::NOT_FOUND, _) => ResourceError::NotFound,
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            ResourceError::Unavailable("the MLflow server wants credentials, which this resource has none of".into())
        }
        (status, code) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            let code = if code.is_empty() { status.as_u16().to_string() } else { code.to_owned() };
            ResourceError::Invalid(format!("the MLflow server refuses this: {code}"))
        }
        (status, _) => ResourceError::Unavailable(format!("the MLflow server answers with status {}", status.as_u16())),
    })
}

/// No answer, for whoever sends what is large.
pub(super) fn no_answer(error: reqwest::Error) -> ResourceError {
    silent(error)
}
