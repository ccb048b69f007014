//! Where a resource or an IO manager has its things, and with whose rights the host reaches them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::Name;
use crate::secret::SecretSpec;

/// An address, and the secrets with which the host is let in there. No op sees either.
///
/// Serialised as its address alone where there are no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub struct Location {
    /// `file:///…`, `s3://…`, `gs://…`, `az://…`, `memory:///` for an object store; `http://…`, `https://…` for a server.
    /// Absolute, without credentials.
    pub url: String,
    /// What the host shows there; empty = what the environment of the process has for that kind of address.
    pub credentials: Credentials,
}

/// Credentials: one of [`Credential::sets`] of the address.
pub type Credentials = BTreeMap<Credential, UsedSecret>;

/// A secret that the host uses for a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedSecret {
    /// Its name in the definitions.
    pub secret: Name,
    /// Where it is read.
    pub from: SecretSpec,
}

impl Location {
    /// The secrets that it needs, with where each is read.
    pub fn secrets(&self) -> impl Iterator<Item = (&Name, &SecretSpec)> {
        self.credentials.values().map(|used| (&used.secret, &used.from))
    }
}

impl<T: Into<String>> From<T> for Location {
    fn from(url: T) -> Self {
        Self { url: url.into(), credentials: Credentials::new() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Url(String),
    With { url: String, credentials: Credentials },
}

impl From<Form> for Location {
    fn from(form: Form) -> Self {
        match form {
            Form::Url(url) => Self::from(url),
            Form::With { url, credentials } => Self { url, credentials },
        }
    }
}

impl From<Location> for Form {
    fn from(Location { url, credentials }: Location) -> Self {
        if credentials.is_empty() { Self::Url(url) } else { Self::With { url, credentials } }
    }
}

macro_rules! credentials {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// One part of the credentials for an address.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Credential { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl Credential {
            /// The name that definitions use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

credentials! {
    /// Of S3: whose key it is.
    AccessKeyId = "access_key_id";
    /// Of S3: the key.
    SecretAccessKey = "secret_access_key";
    /// Of S3: of keys that last for a while.
    SessionToken = "session_token";
    /// Of Google Cloud Storage: the file of a service account's key, JSON.
    ServiceAccountKey = "service_account_key";
    /// Of Azure: the storage account.
    AccountName = "account_name";
    /// Of Azure: its key.
    AccountKey = "account_key";
    /// Of Azure: a shared access signature.
    SasToken = "sas_token";
    /// Of a server: who.
    Username = "username";
    /// Of a server: their password.
    Password = "password";
    /// Of a server: a bearer token.
    Token = "token";
}

impl Credential {
    /// What is to be given together for an address; none for one that takes no credentials.
    #[must_use]
    pub fn sets(url: &str) -> &'static [&'static [Self]] {
        use Credential as C;
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("s3") => {
                &[&[C::AccessKeyId, C::SecretAccessKey], &[C::AccessKeyId, C::SecretAccessKey, C::SessionToken]]
            }
            Some("gs") => &[&[C::ServiceAccountKey]],
            Some("az") => &[&[C::AccountName, C::AccountKey], &[C::AccountName, C::SasToken]],
            Some("http" | "https") => &[&[C::Username, C::Password], &[C::Token]],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_round_trip_and_an_address_alone_is_a_text() {
        let plain = Location::from("s3://bucket/x");
        assert_eq!(serde_json::to_string(&plain).unwrap(), "\"s3://bucket/x\"");
        let used = UsedSecret { secret: Name::new("key").unwrap(), from: SecretSpec::Env("KEY".into()) };
        let mut with = plain.clone();
        with.credentials.insert(Credential::AccessKeyId, used);
        let text = serde_json::to_string(&with).unwrap();
        assert!(text.contains(r#""access_key_id":{"secret":"key","from":{"env":"KEY"}}"#), "{text}");
        for location in [plain, with] {
            let again: Location = serde_json::from_str(&serde_json::to_string(&location).unwrap()).unwrap();
            assert_eq!(again, location);
        }
    }

    #[test]
    fn every_part_of_credentials_is_of_some_address() {
        let of = |url| Credential::sets(url).iter().copied().flatten().map(|part| part.name()).collect::<Vec<_>>();
        assert!(of("file:///x").is_empty() && of("memory:///").is_empty() && of("s3").is_empty());
        assert_eq!(of("https://models"), ["username", "password", "token"]);
    }
}
