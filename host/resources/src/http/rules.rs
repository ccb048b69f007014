//! What an op may ask for: methods, addresses, headers. Everything here is guest-controlled, or a server's.

use std::str::FromStr as _;

use opyard_model::http::{HttpClientSpec, MAX_URL, Origin, is_of_the_connection};
use opyard_model::plan::Access;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::{Host, Url};

use super::address::reach;
use crate::error::{ResourceError, ResourceFailure};

/// Most headers of a request or an answer.
pub(crate) const MAX_HEADERS: usize = 100;
/// Most bytes of the headers of a request or an answer, names and values.
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 10;

/// Headers of the op that go along to another origin; all others are for the origin that the op named.
const FOR_EVERYBODY: [HeaderName; 6] = [
    reqwest::header::ACCEPT,
    reqwest::header::ACCEPT_ENCODING,
    reqwest::header::ACCEPT_LANGUAGE,
    reqwest::header::CONTENT_TYPE,
    reqwest::header::RANGE,
    reqwest::header::USER_AGENT,
];

/// Headers of an answer that are about the connection, or about sessions that nobody here keeps.
const NOT_TOLD: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Headers by which some servers take another method than the one that was sent.
const OTHER_METHOD: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// An address that passed the rules.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Without credentials, fragment, or a dot at the end of its host.
    pub(crate) url: Url,
}

impl Target {
    /// Scheme, host and port, as people read them. Paths and queries may hold what is nobody else's business.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    pub(crate) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// The rules of one client, under the name that denials tell the operator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) name: &'a str,
    pub(crate) spec: &'a HttpClientSpec,
    pub(crate) access: Access,
}

fn invalid(text: &str) -> ResourceFailure {
    ResourceError::Invalid(text.to_owned()).into()
}

impl Rules<'_> {
    fn denied(&self, rule: &str) -> ResourceFailure {
        ResourceFailure::denied(format!("`{}` refused a request: {rule}", self.name))
    }

    /// The method, in upper case: some servers do not care, so neither may the rule.
    pub(crate) fn method(&self, method: &str) -> Result<Method, ResourceFailure> {
        if method.len() > 32 {
            return Err(invalid("this is not a method"));
        }
        let method =
            Method::from_bytes(method.to_ascii_uppercase().as_bytes()).map_err(|_| invalid("this is not a method"))?;
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(self.denied(&format!("{method} is never sent")));
        }
        let reads = method == Method::GET || method == Method::HEAD;
        if self.access == Access::Read && !reads {
            return Err(self.denied(&format!("its access is `read`, and {method} is neither GET nor HEAD")));
        }
        Ok(method)
    }

    /// The address that an op, or a redirect from `base`, names.
    pub(crate) fn target(&self, text: &str, base: Option<&Target>) -> Result<Target, ResourceFailure> {
        if text.len() > MAX_URL {
            return Err(ResourceError::Limit(format!("an address has at most {MAX_URL} bytes")).into());
        }
        // The parser leaves these out, so that two readers of the text would see two addresses.
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(invalid("an address holds no spaces and no control characters"));
        }
        let parsed = match base {
            Some(base) => base.url.join(text),
            None => Url::parse(text),
        };
        let mut url = parsed.map_err(|_| invalid("this is not an address"))?;
        if url.as_str().len() > MAX_URL {
            return Err(ResourceError::Limit(format!("an address has at most {MAX_URL} bytes")).into());
        }
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(self.denied("its address is neither `https:` nor `http:`")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.denied("its address holds credentials"));
        }
        url.set_fragment(None);
        let host = match url.host() {
            Some(Host::Domain(host)) => host.strip_suffix('.').unwrap_or(host).to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(invalid("an address names a host")),
        };
        if matches!(url.host(), Some(Host::Domain(with_dot)) if with_dot.len() != host.len()) {
            url.set_host(Some(&host)).map_err(|_| invalid("this is not a host"))?;
        }
        let target = Target { url };
        let port = target.url.port_or_known_default().unwrap_or(0);
        if !self.spec.origins.iter().any(|origin: &Origin| origin.allows(https, &host, port)) {
            let rule = match base {
                Some(base) => {
                    format!("{} redirects to {}, which is not among its origins", base.origin(), target.origin())
                }
                None => format!("{} is not among its origins", target.origin()),
            };
            return Err(self.denied(&rule));
        }
        if let Some(base) = base.filter(|base| base.is_https() && !https) {
            let rule = format!("{} redirects to {}, which is not encrypted", base.origin(), target.origin());
            return Err(self.denied(&rule));
        }
        self.literal(&target)?;
        Ok(target)
    }

    /// An address in numbers is looked up by nobody, so it is checked here.
    fn literal(&self, target: &Target) -> Result<(), ResourceFailure> {
        let address = match target.url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if reach(address).permits(self.spec.allow_private) { Ok(()) } else { Err(self.refused_address(target)) }
    }

    /// The address that a name or number stands for is in a range that this client may not reach.
    pub(crate) fn refused_address(&self, target: &Target) -> ResourceFailure {
        let more = if self.spec.allow_private { "" } else { " (private ones need `allow_private: true`)" };
        self.denied(&format!("{} is at an address that may not be reached{more}", target.origin()))
    }

    /// The headers that an op asks to be sent.
    pub(crate) fn headers(&self, given: &[(String, String)]) -> Result<HeaderMap, ResourceFailure> {
        let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
        if given.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
            let text = format!("a request has at most {MAX_HEADERS} headers of {MAX_HEADER_BYTES} bytes in all");
            return Err(ResourceError::Limit(text).into());
        }
        let mut headers = HeaderMap::with_capacity(given.len());
        for (name, value) in given {
            let name = HeaderName::from_str(name).map_err(|_| invalid("this is not the name of a header"))?;
            let value = HeaderValue::from_str(value).map_err(|_| invalid("this is not the value of a header"))?;
            let text = name.as_str();
            if is_of_the_connection(text) || matches!(text, "cookie" | "cookie2") {
                return Err(self.denied(&format!("an op may not set the header `{text}`")));
            }
            if self.access == Access::Read && OTHER_METHOD.contains(&text) {
                return Err(self.denied(&format!("its access is `read`, and `{text}` asks for another method")));
            }
            if self.spec.headers.contains_key(text) {
                return Err(self.denied(&format!("the definitions set the header `{text}`, so an op may not")));
            }
            headers.append(name, value);
        }
        Ok(headers)
    }
}

/// Leaves of an op's headers what is for everybody.
pub(crate) fn keep_for_everybody(headers: &mut HeaderMap) {
    let kept: Vec<_> = headers
        .iter()
        .filter(|(name, _)| FOR_EVERYBODY.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    headers.clear();
    for (name, value) in kept {
        headers.append(name, value);
    }
}

/// What an op is told of the headers of an answer.
pub(crate) fn told(headers: &HeaderMap) -> Result<Vec<(String, String)>, ResourceFailure> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let text = format!("an answer has at most {MAX_HEADERS} headers of {MAX_HEADER_BYTES} bytes in all");
        return Err(ResourceError::Limit(text).into());
    }
    Ok(headers
        .iter()
        .filter(|(name, _)| !NOT_TOLD.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect())
}
