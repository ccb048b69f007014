//! What the host shows where a resource is.

use std::fmt;

use opyard_model::digest::{Digest, FieldHasher};
use opyard_model::error::Code;
use opyard_model::location::{Credential, Location};
use zeroize::Zeroizing;

use crate::error::ResourceFailure;
use crate::secret::Secrets;

/// The credentials for a location, as they are now.
#[derive(Default)]
pub(crate) struct Shown(Vec<(Credential, Zeroizing<String>)>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(part, _)| part.name())).finish()
    }
}

impl Shown {
    /// Reads what a location needs.
    ///
    /// # Errors
    /// `Unavailable` when a secret is not where it should be, or is no text; the operator is told which.
    pub(crate) async fn read(secrets: &Secrets, location: &Location) -> Result<Self, ResourceFailure> {
        let mut shown = Vec::with_capacity(location.credentials.len());
        for (part, used) in &location.credentials {
            let bytes = secrets.read(&used.secret, &used.from).await?;
            let Ok(text) = std::str::from_utf8(bytes.expose()) else {
                let told = "a secret that the resource needs cannot be used";
                let text = format!("the secret `{}`, the {} of a resource, is no text", used.secret, part.name());
                return Err(ResourceFailure::unavailable(told, Code::SecretMissing, text));
            };
            shown.push((*part, Zeroizing::new(text.to_owned())));
        }
        Ok(Self(shown))
    }

    pub(crate) fn get(&self, part: Credential) -> Option<&str> {
        self.0.iter().find(|(one, _)| *one == part).map(|(_, text)| text.as_str())
    }

    /// Tells whether two are the same, and nothing else of them; none where there is nothing to show.
    pub(crate) fn mark(&self) -> Option<Digest> {
        let mut hasher = FieldHasher::new("opyard credentials 1");
        for (part, text) in &self.0 {
            hasher.field(part.name().as_bytes()).field(text.as_bytes());
        }
        (!self.0.is_empty()).then(|| hasher.finish())
    }

    /// The settings of object stores that they are.
    pub(crate) fn settings(&self) -> Vec<(&'static str, &str)> {
        let setting = |part: &Credential| match part {
            Credential::AccessKeyId => Some("aws_access_key_id"),
            Credential::SecretAccessKey => Some("aws_secret_access_key"),
            Credential::SessionToken => Some("aws_session_token"),
            Credential::ServiceAccountKey => Some("google_service_account_key"),
            Credential::AccountName => Some("azure_storage_account_name"),
            Credential::AccountKey => Some("azure_storage_account_key"),
            Credential::SasToken => Some("azure_storage_sas_key"),
            Credential::Username | Credential::Password | Credential::Token => None,
        };
        self.0.iter().filter_map(|(part, text)| Some((setting(part)?, text.as_str()))).collect()
    }
}
