//! What stands in for the world in tests: the bytes of secrets, and the answers of servers. All else that ops are given in a
//! test is the real thing, on memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method};
use opyard_model::error::Code;
use opyard_model::id::Name;
use url::Url;

use crate::error::ResourceFailure;
use crate::secret::SecretBytes;

/// Most requests that are remembered of one client.
const REMEMBERED: usize = 1_000;

/// An answer that is given in place of a server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAnswer {
    /// The method that it answers, in upper case.
    pub method: String,
    /// The address that it answers, query and all.
    pub url: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// A request that reached the answers of a test: all rules of the resource let it through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// The method.
    pub method: String,
    /// The address.
    pub url: String,
    /// The headers in the order of their names, those of the host included; what came of a secret is `(secret)`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// The answers of one client: those to the same request are given in their order, the last of them from then on.
#[derive(Debug, Default)]
pub struct GivenAnswers {
    answers: Vec<GivenAnswer>,
    seen: Mutex<Vec<SeenRequest>>,
}

impl GivenAnswers {
    /// These answers.
    #[must_use]
    pub fn new(answers: Vec<GivenAnswer>) -> Self {
        Self { answers, seen: Mutex::default() }
    }

    /// The requests so far, the first thousand.
    #[must_use]
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a request.
    pub(crate) fn answer(
        &self,
        (method, url): (&Method, &Url),
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<reqwest::Response, ResourceFailure> {
        let is_asked = |method_of: &str, url_of: &str| method_of == method.as_str() && url_of == url.as_str();
        let nth = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let nth = seen.iter().filter(|seen| is_asked(&seen.method, &seen.url)).count();
            if seen.len() < REMEMBERED {
                seen.push(told(method, url, headers, body));
            }
            nth
        };
        let fitting: Vec<_> = self.answers.iter().filter(|answer| is_asked(&answer.method, &answer.url)).collect();
        let unusable = |what: String| {
            let detail = format!("{method} {url}: {what}");
            ResourceFailure::unavailable("the server cannot be reached", Code::ResourceUnavailable, detail)
        };
        let Some(answer) = fitting.get(nth).or(fitting.last()) else {
            return Err(unusable("the test gives no answer to this".to_owned()));
        };
        let mut response = http::Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        let response = response.body(answer.body.clone());
        Ok(response.map_err(|error| unusable(format!("the answer that the test gives is none: {error}")))?.into())
    }
}

fn told(method: &Method, url: &Url, headers: &HeaderMap, body: &Bytes) -> SeenRequest {
    let mut headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), if value.is_sensitive() { "(secret)".to_owned() } else { text })
        })
        .collect();
    headers.sort();
    SeenRequest { method: method.to_string(), url: url.to_string(), headers, body: body.clone() }
}

/// What resources use in place of the machine's secrets and of the network, by the names of the definitions. What is not
/// among it cannot be reached.
#[derive(Default)]
pub struct Given {
    secrets: Mutex<BTreeMap<Name, SecretBytes>>,
    answers: Mutex<BTreeMap<Name, Arc<GivenAnswers>>>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl Given {
    /// Gives a secret its bytes, in place of those that it had.
    pub fn give_secret(&self, name: &Name, bytes: SecretBytes) {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), bytes);
    }

    /// Gives the HTTP client `name` its answers, in place of those that it had.
    pub fn give_answers(&self, name: &Name, answers: Arc<GivenAnswers>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), answers);
    }

    pub(crate) fn secret(&self, name: &Name) -> Option<SecretBytes> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The answers for `name`; none are given to a client that the test does not know.
    pub(crate) fn answers(&self, name: &Name) -> Arc<GivenAnswers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }
}
