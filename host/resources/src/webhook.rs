//! Webhooks: one POST that tells a server what became of a step, by the rules of HTTP clients.

use std::str::FromStr as _;

use bytes::Bytes;
use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::hook::{Occasion, Webhook, WebhookUrl};
use opyard_model::http::{HttpClientSpec, origin_of};
use opyard_model::id::{Name, TenantId};
use opyard_model::limits::ByteSize;
use opyard_model::plan::Access;
use zeroize::Zeroizing;

use crate::error::{ResourceError, ResourceFailure};
use crate::http::HttpRequest;
use crate::pool::Resources;
use crate::secret::Secrets;

/// What a webhook is called where HTTP clients have names.
const NAME: &str = "webhook";

/// Where it goes, and whether that may be told.
struct Address {
    url: Zeroizing<String>,
    is_secret: bool,
}

impl Resources {
    /// Sends a webhook, and waits for the status of the answer: 2xx says that it was delivered. Redirects are not followed:
    /// most would drop the body. The body of the answer is not read.
    ///
    /// # Errors
    /// `OPY-319` when a secret is not where it should be, `OPY-306` when the server does not answer, or with a status that may
    /// pass, `OPY-307` when it refuses, or the rules do. Never holds a byte of a secret, nor of an address that is one.
    pub async fn webhook(&self, tenant: &TenantId, webhook: &Webhook, occasion: &Occasion) -> Result<(), Failure> {
        let address = address(&self.clients.secrets, webhook).await?;
        let refused = |text: &str| Failure::new(Code::ResourceDenied, format!("the webhook was not sent: {text}"));
        let origin = origin_of(&address.url).map_err(|problem| refused(&format!("its address: {problem}")))?;
        let spec = HttpClientSpec {
            access: Access::ReadWrite,
            headers: webhook.headers.clone(),
            allow_private: webhook.allow_private,
            timeout: webhook.timeout,
            max_response: ByteSize(u64::MAX),
            redirects: 0,
            ..HttpClientSpec::new(vec![origin])
        };
        let name = Name::from_str(NAME).map_err(|error| refused(&error.to_string()))?;
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: address.url.to_string(),
            headers: vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("idempotency-key".to_owned(), occasion.idempotency_text()),
            ],
            timeout: None,
        };
        let body = Bytes::from(occasion.body(&webhook.body).to_string());
        let sent =
            async { self.clients.open(tenant, &name, &spec, Access::ReadWrite).await?.send(&request, body).await };
        match sent.await {
            Ok(response) => judge(response.status()),
            Err(failure) => Err(told(failure, address.is_secret)),
        }
    }
}

async fn address(secrets: &Secrets, webhook: &Webhook) -> Result<Address, Failure> {
    match &webhook.url {
        WebhookUrl::Text(url) => Ok(Address { url: Zeroizing::new(url.clone()), is_secret: false }),
        WebhookUrl::Secret { secret, from } => {
            let bytes = secrets.read(secret, from).await.map_err(|failure| told(failure, false))?;
            let Ok(url) = std::str::from_utf8(bytes.expose()) else {
                let text = format!("the webhook was not sent: the secret `{secret}` is no address");
                return Err(Failure::new(Code::ResourceDenied, text));
            };
            Ok(Address { url: Zeroizing::new(url.trim().to_owned()), is_secret: true })
        }
    }
}

/// What the answer says of the delivery.
fn judge(status: u16) -> Result<(), Failure> {
    let (code, what) = match status {
        200..=299 => return Ok(()),
        300..=399 => (Code::ResourceDenied, "redirects elsewhere, where a webhook does not follow"),
        408 | 425 | 429 | 500..=599 => (Code::ResourceUnavailable, "could not take it now"),
        _ => (Code::ResourceDenied, "refused it"),
    };
    Err(Failure::new(code, format!("the webhook was not delivered: its server {what} (status {status})")))
}

/// What the operator is told. Of an address that is a secret, what went wrong and never where.
fn told(failure: ResourceFailure, is_secret: bool) -> Failure {
    let ResourceFailure { answer, detail } = failure;
    let code = match (&answer, &detail) {
        (_, Some(detail)) => detail.code,
        (ResourceError::Unavailable(_), None) => Code::ResourceUnavailable,
        (_, None) => Code::ResourceDenied,
    };
    let why = match (detail, is_secret, answer) {
        (Some(detail), false, _) => detail.description,
        (Some(detail), true, _) if detail.code == Code::SecretMissing => detail.description,
        (_, true, ResourceError::Denied) => {
            "its address, which is a secret, may not be reached (private ones need `allow_private: true`)".to_owned()
        }
        (_, _, answer) => answer.to_string(),
    };
    Failure::new(code, sanitize(&format!("the webhook was not delivered: {why}"), MAX_DESCRIPTION))
}
