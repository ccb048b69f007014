//! Secrets and HTTP clients.

use std::collections::BTreeMap;

use super::location::resolve_path;
use super::reading::{Fields, Keys, Reading};
use super::tree::{Key, Node, Value};
use super::{GrantedKey, Located};
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::http::{
    AddedHeader, HttpClientSpec, MAX_ADDED_HEADERS, MAX_HEADER_VALUE, MAX_ORIGINS, MAX_REDIRECTS, MAX_REQUEST_TIME,
    Origin, is_header_name, is_header_text, is_of_the_connection,
};
use crate::location::UsedSecret;
use crate::plan::Access;
use crate::secret::{SecretSpec, is_variable};

const SECRET: Keys =
    Keys { what: "a secret", known: &["env", "file", "description"], later: &["vault", "keyring", "command"] };
const HTTP_CLIENT: Keys = Keys {
    what: "an HTTP client",
    known: &[
        "kind",
        "origins",
        "access",
        "headers",
        "allow_private",
        "timeout",
        "max_response",
        "redirects",
        "version",
        "description",
    ],
    later: &["proxy", "client_certificate", "roots"],
};
const HEADER: Keys = Keys { what: "a header", known: &["secret", "prefix"], later: &[] };

impl Reading<'_> {
    /// `{ env: NAME }` or `{ file: path }`.
    pub(super) fn secret(&mut self, node: &Node) -> Option<SecretSpec> {
        let fields = self.fields(node, &SECRET)?;
        match (fields.get("env"), fields.get("file")) {
            (Some(env), None) => {
                let name = self.text(env, "`env`")?;
                if !is_variable(name) {
                    self.push(
                        Diagnostic::error(Code::BadName, "this cannot be a variable of the environment")
                            .at(&env.place, "expected letters, digits and `_`")
                            .help("name the variable; what it holds does not belong into this file"),
                    );
                    return None;
                }
                Some(SecretSpec::Env(name.to_owned()))
            }
            (None, Some(file)) => {
                let path = self.text(file, "`file`")?;
                let resolved = resolve_path(self.folder, path);
                match resolved.to_str() {
                    Some(resolved) if !path.is_empty() && !path.chars().any(char::is_control) => {
                        Some(SecretSpec::File(resolved.to_owned()))
                    }
                    _ => {
                        self.push(Diagnostic::error(Code::BadUrl, "this is not a path").at(&file.place, ""));
                        None
                    }
                }
            }
            (Some(_), Some(file)) => {
                self.push(
                    Diagnostic::error(Code::WrongShape, "a secret is read in one place")
                        .at(&file.place, "and `env` names another"),
                );
                None
            }
            (None, None) => {
                self.push(
                    Diagnostic::error(Code::MissingKey, "it is not said where this secret is")
                        .at(&node.place, "here")
                        .help("write `{ env: NAME_OF_A_VARIABLE }` or `{ file: path }`"),
                );
                None
            }
        }
    }

    /// `key: secret`, in `reveal`.
    pub(super) fn revealed_key(&mut self, key: &Key, node: &Node) -> Option<GrantedKey> {
        self.name(&key.text, &key.place)?;
        let secret = self.name_at(node, "a secret")?;
        Some(GrantedKey {
            key: Located { value: key.text.clone(), place: key.place.clone() },
            resource: Located { value: secret, place: node.place.clone() },
            access: None,
        })
    }

    pub(super) fn http_client(&mut self, node: &Node) -> Option<HttpClientSpec> {
        let fields = self.fields(node, &HTTP_CLIENT)?;
        let origins = self.origins(&fields);
        let access = fields.get("access").map_or(Some(Access::Read), |node| self.access(node));
        let headers = self.headers(fields.get("headers"));
        let plain = HttpClientSpec::new(Vec::new());
        let allow_private = match fields.get("allow_private") {
            Some(node) => self.boolean(node, "`allow_private`")?,
            None => plain.allow_private,
        };
        let timeout = match fields.get("timeout") {
            Some(node) => {
                let timeout = self.duration(node)?;
                if timeout.is_zero() || timeout > MAX_REQUEST_TIME {
                    self.push(
                        Diagnostic::error(Code::BadQuantity, "`timeout` is out of range")
                            .at(&node.place, "expected 1ms to 1h"),
                    );
                    return None;
                }
                timeout
            }
            None => plain.timeout,
        };
        let max_response = match fields.get("max_response") {
            Some(node) => self.size(node)?,
            None => plain.max_response,
        };
        let redirects = match fields.get("redirects") {
            Some(node) => self.whole_number(node, "`redirects`", MAX_REDIRECTS.into())?,
            None => plain.redirects.into(),
        };
        let version = match fields.get("version") {
            Some(node) => Some(self.text(node, "`version`")?.to_owned()),
            None => None,
        };
        Some(HttpClientSpec {
            origins: origins?,
            access: access?,
            headers: headers?,
            allow_private,
            timeout,
            max_response,
            redirects: u32::try_from(redirects).ok()?,
            version,
        })
    }

    fn origins(&mut self, fields: &Fields<'_>) -> Option<Vec<Origin>> {
        let help = "where requests may go: `origins: [\"https://api.example.com\"]`";
        let node = fields.require(self, "origins", help)?;
        let items = self.list(node, "`origins`")?;
        if items.is_empty() || items.len() > MAX_ORIGINS {
            self.push(
                Diagnostic::error(Code::BadQuantity, format!("`origins` has 1 to {MAX_ORIGINS} entries"))
                    .at(&node.place, format!("has {}", items.len()))
                    .help(help),
            );
            return None;
        }
        let mut origins = Vec::with_capacity(items.len());
        let mut right = true;
        for item in items {
            match self.text(item, "an origin").map(str::parse::<Origin>) {
                Some(Ok(origin)) => origins.push(origin),
                Some(Err(problem)) => {
                    right = false;
                    self.push(
                        Diagnostic::error(Code::BadUrl, "this is not an origin")
                            .at(&item.place, problem.to_string())
                            .help("scheme, host and, if it is another, port: `https://api.example.com:8443`"),
                    );
                }
                None => right = false,
            }
        }
        right.then_some(origins)
    }

    pub(super) fn headers(&mut self, node: Option<&Node>) -> Option<BTreeMap<String, AddedHeader>> {
        let Some(node) = node else { return Some(BTreeMap::new()) };
        let entries = self.entries(node, "`headers`")?;
        if entries.len() > MAX_ADDED_HEADERS {
            let text = format!("a client adds {MAX_ADDED_HEADERS} headers at most");
            self.push(Diagnostic::error(Code::TooLarge, text).at(&node.place, format!("has {}", entries.len())));
            return None;
        }
        let mut headers = BTreeMap::new();
        let mut right = true;
        for (key, item) in entries {
            let name = key.text.as_str();
            if !is_header_name(name) {
                // In one spelling, so that an environment overrides what it names.
                self.push(
                    Diagnostic::error(Code::BadName, "this cannot be the name of a header")
                        .at(&key.place, "expected lower case, without spaces"),
                );
                right = false;
            } else if is_of_the_connection(name) {
                self.push(
                    Diagnostic::error(Code::BadName, format!("the header `{name}` is made by the client itself"))
                        .at(&key.place, "remove this"),
                );
                right = false;
            }
            match self.header(item) {
                Some(value) => drop(headers.insert(name.to_owned(), value)),
                None => right = false,
            }
        }
        right.then_some(headers)
    }

    /// A text, or `{ secret: name, prefix: … }`.
    fn header(&mut self, node: &Node) -> Option<AddedHeader> {
        if !matches!(node.value, Value::Map(_)) {
            return self.header_text(node, "the value of a header").map(AddedHeader::Text);
        }
        let fields = self.fields(node, &HEADER)?;
        let prefix = match fields.get("prefix") {
            Some(node) => self.header_text(node, "`prefix`")?,
            None => String::new(),
        };
        let UsedSecret { secret, from } = self.secret_of(&fields)?;
        Some(AddedHeader::Secret { secret, from, prefix })
    }

    fn header_text(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node, what)?;
        if !is_header_text(text) {
            self.push(
                Diagnostic::error(Code::WrongShape, format!("{what} cannot be sent"))
                    .at(&node.place, format!("expected at most {MAX_HEADER_VALUE} printable ASCII characters")),
            );
            return None;
        }
        Some(text.to_owned())
    }
}
