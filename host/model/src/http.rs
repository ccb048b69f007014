//! What an HTTP client of the definitions may reach, and what the host adds to its requests. Nothing is looked up here.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::id::Name;
use crate::limits::ByteSize;
use crate::plan::Access;
use crate::secret::SecretSpec;

/// Most origins of one client.
pub const MAX_ORIGINS: usize = 64;
/// Most headers that the host adds to a request.
pub const MAX_ADDED_HEADERS: usize = 32;
/// Longest value of a header that the host adds, and longest prefix of a secret, in bytes.
pub const MAX_HEADER_VALUE: usize = 8 << 10;
/// Longest address, in bytes.
pub const MAX_URL: usize = 8 << 10;
/// Most redirects that a client may be told to follow.
pub const MAX_REDIRECTS: u32 = 20;
/// Longest time that a request may be given.
pub const MAX_REQUEST_TIME: Duration = Duration::from_secs(3_600);

/// An HTTP client of the definitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpClientSpec {
    /// Where requests may go, redirects included. 1 to [`MAX_ORIGINS`].
    pub origins: Vec<Origin>,
    /// `read`: GET and HEAD. `read_write`: every method but CONNECT and TRACE. The most that any grant of it can give.
    pub access: Access,
    /// Headers that the host adds, by their names in lower case. The guest neither sees nor sets them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, AddedHeader>,
    /// Loopback, private and link-local addresses may be reached.
    pub allow_private: bool,
    /// Longest time from sending a request to the last byte of its answer, redirects included.
    pub timeout: Duration,
    /// Most bytes of the body of one answer.
    pub max_response: ByteSize,
    /// Most redirects that are followed; 0 = the guest is given the redirect itself.
    pub redirects: u32,
    /// What the operator says of its content: the same version, the same content. Makes steps that use it memoisable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl HttpClientSpec {
    /// A client for `origins`, with what definitions leave out: reading, 30 s, 16 MiB, 5 redirects, no private addresses.
    #[must_use]
    pub fn new(origins: Vec<Origin>) -> Self {
        Self {
            origins,
            access: Access::Read,
            headers: BTreeMap::new(),
            allow_private: false,
            timeout: Duration::from_secs(30),
            max_response: ByteSize(16 << 20),
            redirects: 5,
            version: None,
        }
    }

    /// The secrets that its headers need, with where each is read.
    pub fn secrets(&self) -> impl Iterator<Item = (&Name, &SecretSpec)> {
        self.headers.values().filter_map(AddedHeader::secret)
    }
}

/// The value of a header that the host adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddedHeader {
    /// This text.
    Text(String),
    /// The bytes of a secret, after a prefix.
    Secret {
        /// Its name in the definitions.
        secret: Name,
        /// Where it is read.
        from: SecretSpec,
        /// What comes before it: `Bearer `.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
    },
}

impl AddedHeader {
    /// The secret that it holds, if it is one, with where that is read.
    #[must_use]
    pub fn secret(&self) -> Option<(&Name, &SecretSpec)> {
        match self {
            Self::Text(_) => None,
            Self::Secret { secret, from, .. } => Some((secret, from)),
        }
    }
}

/// Scheme, host and port that requests may go to; of the host, the first label may be left open.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    https: bool,
    /// The first label may be anything.
    any_label: bool,
    /// In lower case, without a trailing dot; addresses in their one written form, IPv6 without brackets.
    host: String,
    port: u16,
}

/// Why a text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct OriginError(&'static str);

impl Origin {
    /// Whether a request to this scheme, host and port goes there. `host` as the parser of URLs writes it, but without
    /// brackets and without a trailing dot.
    #[must_use]
    pub fn allows(&self, https: bool, host: &str, port: u16) -> bool {
        if https != self.https || port != self.port {
            return false;
        }
        if !self.any_label {
            return host == self.host;
        }
        host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == self.host)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    /// Parses `https://api.example.com`, `https://*.acme.example:8443`, `http://127.0.0.1:8080`, `http://[::1]`.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        let wrong = |why| Err(OriginError(why));
        let (https, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return wrong("it starts with `https://` or `http://`"),
        };
        if rest.contains(['/', '?', '#', '\\']) {
            return wrong("an origin ends with its host or port: no path, no query, no fragment");
        }
        if rest.contains('@') {
            return wrong("credentials do not belong into an origin; use `headers`");
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            None if https => 443,
            None => 80,
            Some(port) => {
                let plain = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                match port.parse::<u16>() {
                    Ok(port) if plain && port > 0 => port,
                    _ => return wrong("its port is not a number from 1 to 65535"),
                }
            }
        };
        if let Some(address) = host.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
            let Some(address) = address else { return wrong("what is in brackets is not an IPv6 address") };
            return Ok(Self { https, any_label: false, host: address.to_string(), port });
        }
        let (any_label, host) = match host.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, host),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        check_host(&host, any_label)?;
        Ok(Self { https, any_label, host, port })
    }
}

fn check_host(host: &str, any_label: bool) -> Result<(), OriginError> {
    if host.is_empty() {
        return Err(OriginError("it names no host"));
    }
    if !host.is_ascii() {
        return Err(OriginError("its host is not ASCII; write the form that starts with `xn--`"));
    }
    if host.contains('*') {
        return Err(OriginError("`*` stands for the whole first label, and for nothing else: `https://*.example.com`"));
    }
    let label = |label: &str| {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(known) && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(OriginError("its host is not a name of letters, digits, `-` and dots"));
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    if last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit()) {
        // As the parser of URLs would take it: an address, whatever its form.
        let address = host.parse::<Ipv4Addr>().is_ok_and(|address| address.to_string() == host);
        if !address {
            return Err(OriginError("its host is not an address in plain form: four numbers from 0 to 255"));
        }
        if any_label {
            return Err(OriginError("an address has no labels that could be left open"));
        }
    } else if any_label && !host.contains('.') {
        return Err(OriginError("after `*.` come two labels at least: `https://*.example.com`"));
    }
    Ok(())
}

/// The origin of an absolute address, which is not looked at beyond it.
///
/// # Errors
/// When there is none, or the address holds what no address does.
pub fn origin_of(url: &str) -> Result<Origin, OriginError> {
    if url.len() > MAX_URL {
        return Err(OriginError("it has more than 8 KiB"));
    }
    if url.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(OriginError("it holds a space, a backslash or a control character"));
    }
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    url[..end].parse()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.https { "https://" } else { "http://" })?;
        if self.any_label {
            f.write_str("*.")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        if self.port == if self.https { 443 } else { 80 } { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Headers that belong to the connection, to how a message is laid out, or to whoever is in between: neither a guest nor
/// the definitions set them. In lower case.
const OF_THE_CONNECTION: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "forwarded",
    "x-real-ip",
];

/// Whether a header of that name (in lower case) is nobody's but the host's.
#[must_use]
pub fn is_of_the_connection(name: &str) -> bool {
    OF_THE_CONNECTION.contains(&name) || name.starts_with("proxy-") || name.starts_with("x-forwarded-")
}

/// Whether `name` can be the name of a header: 1 to 128 of the characters that HTTP allows, none of them upper-case.
#[must_use]
pub fn is_header_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(known)
}

/// Whether `text` can be (part of) the value of a header: printable ASCII, at most [`MAX_HEADER_VALUE`] bytes.
#[must_use]
pub fn is_header_text(text: &str) -> bool {
    text.len() <= MAX_HEADER_VALUE && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn origins_have_one_form() {
        for (text, shown) in [
            ("https://API.Example.com", "https://api.example.com"),
            ("https://api.example.com.:443", "https://api.example.com"),
            ("http://api.example.com:443", "http://api.example.com:443"),
            ("https://*.acme.example:8443", "https://*.acme.example:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("http://[::1]", "http://[::1]"),
            ("http://localhost:1", "http://localhost:1"),
        ] {
            assert_eq!(origin(text).to_string(), shown);
            assert_eq!(serde_json::from_str::<Origin>(&format!("\"{shown}\"")).unwrap(), origin(text));
        }
        for wrong in [
            "",
            "api.example.com",
            "ftp://api.example.com",
            "HTTPS://api.example.com",
            "https://",
            "https://:443",
            "https://a.example/",
            "https://a.example/path",
            "https://a.example?q",
            "https://a.example#f",
            "https://a.example\\b",
            "https://user@a.example",
            "https://user:pw@a.example",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:+80",
            "https://*",
            "https://*.com",
            "https://a*.example.com",
            "https://*.*.example.com",
            "https://a.*.example.com",
            "https://*.127.0.0.1",
            "https://127.1",
            "https://0x7f.0.0.1",
            "https://127.0.0.0x1",
            "https://0177.0.0.1",
            "https://2130706433",
            "https://[::1",
            "https://[1.2.3.4]",
            "https://::1",
            "https://münchen.example",
            "https://a..example",
            "https://-a.example",
            "https://a b.example",
            "https://a.example\u{0}",
            "https://%61.example",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_open_label_is_one_label() {
        let open = origin("https://*.acme.example:8443");
        assert!(open.allows(true, "a.acme.example", 8443));
        for (https, host, port) in [
            (false, "a.acme.example", 8443),
            (true, "a.acme.example", 443),
            (true, "acme.example", 8443),
            (true, ".acme.example", 8443),
            (true, "a.b.acme.example", 8443),
            (true, "aacme.example", 8443),
            (true, "a.acme.example.evil.example", 8443),
        ] {
            assert!(!open.allows(https, host, port), "{https} {host} {port}");
        }
        assert!(origin("http://[::1]:8080").allows(false, "::1", 8080));
        assert!(!origin("https://api.example.com").allows(true, "x.api.example.com", 443));
    }

    #[test]
    fn specs_read_back() {
        let mut spec = HttpClientSpec::new(vec![origin("https://api.example.com")]);
        let from = SecretSpec::Env("KEY".into());
        let added = AddedHeader::Secret { secret: Name::new("key").unwrap(), from, prefix: "Bearer ".into() };
        spec.headers.insert("authorization".into(), added);
        spec.headers.insert("x-team".into(), AddedHeader::Text("ecology".into()));
        let resource = crate::plan::ResourceSpec::HttpClient(Box::new(spec));
        let text = serde_json::to_string(&resource).unwrap();
        assert_eq!(serde_json::from_str::<crate::plan::ResourceSpec>(&text).unwrap(), resource);
        assert!(serde_json::from_str::<crate::plan::ResourceSpec>(&text.replace("timeout", "time_out")).is_err());
        let secret = crate::plan::ResourceSpec::Secret { from: SecretSpec::File("/t".into()) };
        let text = serde_json::to_string(&secret).unwrap();
        assert_eq!(serde_json::from_str::<crate::plan::ResourceSpec>(&text).unwrap(), secret);
    }
}
