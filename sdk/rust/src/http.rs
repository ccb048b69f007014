//! HTTP, to the origins that an op was granted.

use std::io;
use std::time::Duration;

use crate::bindings::opyard::resources::{errors, http_client as host};
use crate::resource::{ResourceError, ResourceErrorKind, argument};

/// The most that crosses in one call.
const MAX_CHUNK: u32 = 1 << 20;

/// What is asked of a server.
///
/// ```
/// use opyard_guest::http::Request;
///
/// let request = Request::post("https://api.example.com/rows", "[1, 2]").header("content-type", "application/json");
/// assert_eq!((request.method.as_str(), request.body.len()), ("POST", 6));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, `POST` and so on.
    pub method: String,
    /// An absolute `https:` or `http:` address.
    pub url: String,
    /// Names and values. Those that the definitions set are added by the host, and may not be set here.
    pub headers: Vec<(String, String)>,
    /// The body: at most 16 MiB, and at most what the limit `host_call_bytes` of the step lets across at a time.
    pub body: Vec<u8>,
    /// Longest time that the request may take, if that is less than what the resource gives.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    /// Asks for what is at `url`.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Sends `body` to `url`.
    #[must_use]
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", url) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the longest time that it may take, to the last byte of the answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// A client for the origins that were granted. Credentials are added by the host and never seen here.
#[derive(Debug)]
pub struct HttpClient {
    key: &'static str,
    handle: host::Client,
}

impl HttpClient {
    fn open(key: &'static str) -> Result<Self, ResourceError> {
        let handle = host::open(key).map_err(|error| ResourceError::new(format!("HTTP client `{key}`"), error))?;
        Ok(Self { key, handle })
    }

    /// Asks for what is at `url`.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn get(&self, url: &str) -> Result<Response, ResourceError> {
        self.send(&Request::get(url))
    }

    /// Sends a request, and answers when the headers of the answer are here. Any status is an answer.
    ///
    /// # Errors
    /// What the host answered: [`Denied`](ResourceErrorKind::Denied) for an origin, method or header that the resource does
    /// not allow.
    pub fn send(&self, request: &Request) -> Result<Response, ResourceError> {
        let of = format!("HTTP client `{}`, {} `{}`", self.key, request.method, request.url);
        let asked = host::Request {
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.clone(),
            timeout_ms: request.timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)),
        };
        match self.handle.send(&asked, &request.body) {
            Ok(handle) => Ok(Response { of, handle }),
            Err(error) => Err(ResourceError::new(of, error)),
        }
    }
}

argument!(HttpClient, "opyard:resources/http-client@0.1.0");

/// What a server answered. Its body is read piece by piece: as [`io::Read`], or whole.
#[derive(Debug)]
pub struct Response {
    of: String,
    handle: host::Response,
}

impl Response {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.handle.status()
    }

    /// The status is one of success: 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status())
    }

    /// The headers, their names in lower case.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        self.handle.headers()
    }

    /// The first header of that name, in whatever case it is asked for.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The rest of the body. Holds it in memory.
    ///
    /// # Errors
    /// What the host answered; [`Limit`](ResourceErrorKind::Limit) when it has more than `max` bytes.
    pub fn read_to_end(&mut self, max: usize) -> Result<Vec<u8>, ResourceError> {
        let mut all = Vec::new();
        loop {
            let chunk = self.chunk(MAX_CHUNK)?;
            if chunk.is_empty() {
                return Ok(all);
            }
            if all.len() + chunk.len() > max {
                let kind = ResourceErrorKind::Limit(format!("the body has more than {max} bytes"));
                return Err(ResourceError { of: self.of.clone(), kind });
            }
            all.extend_from_slice(&chunk);
        }
    }

    fn chunk(&self, max: u32) -> Result<Vec<u8>, ResourceError> {
        let error = |error: errors::Error| ResourceError::new(format!("{}, body", self.of), error);
        self.handle.read(max).map_err(error)
    }
}

impl io::Read for Response {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(into.len()).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
        let chunk = self.chunk(max).map_err(io::Error::other)?;
        into[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}
