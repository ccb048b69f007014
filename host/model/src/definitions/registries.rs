//! `registries.yaml`: which registries the operator of a yard speaks to, as whom, and whose signatures each tenant believes.
//!
//! It is the operator's file, and lies in the yard: no definitions file can say any of this.

use std::collections::BTreeMap;
use std::path::Path;

use super::location::resolve_server;
use super::reading::{Keys, Reading, short};
use super::tree::{Key, Node, Value, read};
use super::{Named, Table};
use crate::diagnostic::{Diagnostic, Diagnostics, Source};
use crate::error::Code;
use crate::id::{Name, TenantId};
use crate::secret::SecretSpec;
use crate::supply::TrustedKey;

/// The version of the file's form.
const VERSION: i128 = 1;
/// Longest name of a user.
const MAX_USERNAME: usize = 255;

const FILE: Keys =
    Keys { what: "`registries.yaml`", known: &["opyard_registries", "namespaces", "tenants"], later: &[] };
const NAMESPACE: Keys = Keys {
    what: "a namespace",
    known: &["url", "username", "password", "token_server", "description"],
    later: &["roots", "proxy"],
};
const TENANT: Keys = Keys { what: "a tenant", known: &["unsigned", "trust", "description"], later: &["namespaces"] };

/// What the operator says of registries. Without a file: nothing, so that no component comes from one.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    namespaces: Table<RegistrySpec>,
    tenants: BTreeMap<TenantId, TrustPolicy>,
}

/// Where the components of a namespace are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySpec {
    /// `https://host` and, if any, the path before names of components: `https://registry.example.com/team`. `http:` is for
    /// this machine, and where no credentials are sent.
    pub url: String,
    /// As whom it is spoken to.
    pub credentials: Option<Credentials>,
    /// Where tokens are given, when that is another host than the registry.
    pub token_server: Option<String>,
}

/// As whom a registry is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// Where the password is read, when it is needed.
    pub password: SecretSpec,
}

/// What a tenant runs of registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustPolicy {
    /// Of a namespace for which no key is trusted.
    pub unsigned: Unsigned,
    /// The keys of each namespace, by name. Where there is one, a signature by one of them is needed.
    pub keys: BTreeMap<Name, Vec<(Name, TrustedKey)>>,
}

/// Whether a component is run that nobody who is trusted has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unsigned {
    /// It is not.
    #[default]
    Refuse,
    /// It is, of namespaces without keys.
    Allow,
}

impl Registries {
    /// Reads the file. Paths in it are taken from `folder`, which has to be absolute.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place.
    ///
    /// # Limits
    /// Those of definitions.
    pub fn parse(source: &Source, folder: &Path) -> Result<Self, Diagnostics> {
        let root = read(source)?;
        let mut reading = Reading::new(folder);
        let registries = reading.registries(&root);
        reading.found.or(registries).map(|(registries, _)| registries)
    }

    /// Where the components of a namespace are; none of one that the operator does not name.
    #[must_use]
    pub fn namespace(&self, name: &Name) -> Option<&RegistrySpec> {
        self.namespaces.get(name.as_str()).map(|entry| &entry.value)
    }

    /// The namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.names()
    }

    /// What a tenant runs. Of one that the operator does not name: nothing that is unsigned, and no key is trusted.
    #[must_use]
    pub fn policy(&self, tenant: &TenantId) -> TrustPolicy {
        self.tenants.get(tenant).cloned().unwrap_or_default()
    }
}

impl Reading<'_> {
    fn registries(&mut self, root: &Node) -> Option<Registries> {
        let fields = self.fields(root, &FILE)?;
        let help = "start the file with `opyard_registries: 1`, the version of its form";
        if let Some(node) = fields.require(self, "opyard_registries", help)
            && node.value != Value::Int(VERSION)
        {
            self.push(
                Diagnostic::error(Code::NotSupported, "this version reads only registries of version 1")
                    .at(&node.place, "expected 1"),
            );
        }
        let namespaces = self.table(fields.get("namespaces"), "`namespaces`", Self::namespace);
        let mut tenants = BTreeMap::new();
        for (key, node) in fields.get("tenants").and_then(|node| self.entries(node, "`tenants`")).unwrap_or_default() {
            match TenantId::new(&key.text) {
                Ok(tenant) => {
                    tenants.insert(tenant, self.trust_policy(node, &namespaces)?);
                }
                Err(error) => self.push(
                    Diagnostic::error(Code::BadName, format!("`{}` is not the id of a tenant", short(&key.text)))
                        .at(&key.place, "")
                        .help(format!("one is {}", error.rule())),
                ),
            }
        }
        Some(Registries { namespaces, tenants })
    }

    fn namespace(&mut self, key: &Key, node: &Node) -> Option<RegistrySpec> {
        if key.text.bytes().any(|b| b.is_ascii_uppercase()) {
            self.push(
                Diagnostic::error(Code::BadName, "a namespace has no capital letters")
                    .at(&key.place, "registries have none"),
            );
        }
        let fields = self.fields(node, &NAMESPACE)?;
        let help = "say where it is: `url: https://registry.example.com/team`";
        let url = fields.require(self, "url", help).and_then(|node| self.address(node))?;
        let token_server = match fields.get("token_server") {
            Some(node) => Some(self.address(node)?),
            None => None,
        };
        let credentials = match (fields.get("username"), fields.get("password")) {
            (None, None) => None,
            (Some(username), Some(password)) => {
                let text = self.text(username, "`username`")?;
                let fits = !text.is_empty() && text.len() <= MAX_USERNAME;
                if !fits || text.contains(':') || text.chars().any(char::is_control) {
                    return self.shape(username, "`username`", "1 to 255 characters without a colon");
                }
                let password = self.secret(password)?;
                Some(Credentials { username: text.to_owned(), password })
            }
            (Some(node), None) | (None, Some(node)) => {
                self.push(
                    Diagnostic::error(Code::MissingKey, "`username` and `password` go together")
                        .at(&node.place, "one is missing")
                        .help("`username: robot` and `password: { env: NAME_OF_A_VARIABLE }`"),
                );
                return None;
            }
        };
        Some(RegistrySpec { url, credentials, token_server })
    }

    fn address(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "an address")?;
        match resolve_server(text) {
            Ok(url) => Some(url),
            Err(problem) => {
                self.push(
                    Diagnostic::error(Code::BadUrl, format!("`{}` cannot be used", short(text)))
                        .at(&node.place, problem),
                );
                None
            }
        }
    }

    fn trust_policy(&mut self, node: &Node, namespaces: &Table<RegistrySpec>) -> Option<TrustPolicy> {
        let fields = self.fields(node, &TENANT)?;
        let unsigned = match fields.get("unsigned") {
            None => Unsigned::default(),
            Some(node) => match self.text(node, "`unsigned`")? {
                "refuse" => Unsigned::Refuse,
                "allow" => Unsigned::Allow,
                _ => return self.shape(node, "`unsigned`", "`refuse` or `allow`"),
            },
        };
        let mut keys = BTreeMap::new();
        for (key, node) in fields.get("trust").and_then(|node| self.entries(node, "`trust`")).unwrap_or_default() {
            if !namespaces.knows(&key.text) {
                self.push(
                    Diagnostic::error(Code::BadReference, format!("there is no namespace `{}`", short(&key.text)))
                        .at(&key.place, "unknown namespace")
                        .nearest(&key.text, namespaces.names()),
                );
            }
            let name = self.name(&key.text, &key.place)?;
            let table = self.table(Some(node), "the keys of a namespace", |r, _, node| r.trusted_key(node));
            let trusted: Vec<_> = table.iter().map(|Named { name, value, .. }| (name.clone(), *value)).collect();
            if trusted.is_empty() {
                // An empty list would read as "no key is needed".
                return self.shape(node, "the keys of a namespace", "at least one key by name");
            }
            keys.insert(name, trusted);
        }
        Some(TrustPolicy { unsigned, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MCowBQYDK2VwAyEABwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

    fn parse(text: &str) -> Result<Registries, Diagnostics> {
        let source = Source::from_bytes("registries.yaml", text.as_bytes()).unwrap();
        Registries::parse(&source, Path::new("/yard"))
    }

    #[test]
    fn what_is_not_said_is_refused() {
        let text = format!(
            "opyard_registries: 1\nnamespaces:\n  acme: {{ url: https://r.example.com/team/, username: robot, password: {{ \
             file: token }} }}\n  open: {{ url: http://127.0.0.1:5000 }}\ntenants:\n  default:\n    unsigned: allow\n    \
             trust: {{ acme: {{ release: {{ ed25519: {KEY} }} }} }}\n"
        );
        let registries = parse(&text).unwrap();
        let (acme, open, other) = (Name::new("acme").unwrap(), Name::new("open").unwrap(), Name::new("other").unwrap());
        let spec = registries.namespace(&acme).unwrap();
        assert_eq!(spec.url, "https://r.example.com/team");
        let password = SecretSpec::File("/yard/token".to_owned());
        assert_eq!(spec.credentials, Some(Credentials { username: "robot".to_owned(), password }));
        assert_eq!(registries.namespace(&open).unwrap().credentials, None);
        assert_eq!(registries.namespace(&other), None);
        let policy = registries.policy(&TenantId::default());
        assert_eq!((policy.unsigned, policy.keys[&acme].len(), policy.keys.get(&open)), (Unsigned::Allow, 1, None));
        let stranger = registries.policy(&"stranger".parse().unwrap());
        assert_eq!(stranger, TrustPolicy { unsigned: Unsigned::Refuse, keys: BTreeMap::new() });
        assert_eq!(Registries::default().policy(&TenantId::default()).unsigned, Unsigned::Refuse);
    }

    #[test]
    fn what_is_half_said_is_wrong() {
        let namespace = |text: &str| format!("opyard_registries: 1\nnamespaces: {{ acme: {{ {text} }} }}\n");
        for (text, code) in [
            ("namespaces: {}\n".to_owned(), Code::MissingKey),
            (namespace("url: ftp://x"), Code::BadUrl),
            (namespace("url: 'https://u:p@x'"), Code::BadUrl),
            (namespace("url: https://x, username: a"), Code::MissingKey),
            (namespace("url: https://x, username: a, password: secret"), Code::WrongShape),
            ("opyard_registries: 1\nnamespaces: { Acme: { url: https://x } }\n".to_owned(), Code::BadName),
            ("opyard_registries: 1\ntenants: { default: { unsigned: perhaps } }\n".to_owned(), Code::WrongShape),
            (
                "opyard_registries: 1\ntenants: { default: { trust: { acme: { a: { ed25519: x } } } } }\n".to_owned(),
                Code::BadReference,
            ),
            (
                format!("{}tenants: {{ default: {{ trust: {{ acme: {{}} }} }} }}\n", namespace("url: https://x")),
                Code::WrongShape,
            ),
        ] {
            let found = parse(&text).unwrap_err();
            assert!(found.iter().any(|problem| problem.code == code), "{text}\n{found:?}");
        }
    }
}
