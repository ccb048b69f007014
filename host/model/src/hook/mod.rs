//! Hooks: who is told what became of steps, and what they are told.

mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::{ComponentDigest, Digest, FieldHasher};
use crate::error::Failure;
use crate::event::Attempt;
use crate::http::AddedHeader;
use crate::id::{Name, RunId, StepKey};
use crate::json::CanonicalJson;
use crate::limits::Limits;
use crate::plan::Grant;
use crate::secret::SecretSpec;

pub use template::{BodyTemplate, MAX_TEMPLATE, MAX_VARIABLES, Template, TemplateError, Variable};

/// Most hooks of one step, or of a job, for one outcome.
pub const MAX_HOOKS: usize = 16;
/// Longest time that a webhook may be given.
pub const MAX_WEBHOOK_TIME: Duration = Duration::from_secs(300);
/// Headers of a webhook that are made by the host: nobody sets them.
pub const OWN_HEADERS: [&str; 2] = ["content-type", "idempotency-key"];

/// What became of a try of a step, as far as a hook can be told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The step ran and ended well.
    Success,
    /// The step ended badly, for good.
    Failure,
    /// The try failed; another follows.
    Retry,
}

impl Outcome {
    /// Every outcome, and the key of definitions under which its hooks stand.
    pub const ALL: [(&'static str, Self); 3] =
        [("on_success", Self::Success), ("on_failure", Self::Failure), ("on_retry", Self::Retry)];

    /// Its name in events and templates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Retry => "retry",
        }
    }
}

/// The index of a hook in [`Plan::hooks`](crate::plan::Plan::hooks).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HookIx(pub u32);

/// A hook of a plan: checked and bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// What it is told of.
    pub on: Outcome,
    /// What it does.
    pub action: HookAction,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookAction {
    /// It sends a request.
    Webhook(Box<Webhook>),
    /// It asks a component.
    Component(Box<ComponentHook>),
}

impl fmt::Display for Hook {
    /// `webhook`, or `component.hook`. Never an address: that may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            HookAction::Webhook(_) => f.write_str("webhook"),
            HookAction::Component(hook) => write!(f, "{}.{}", hook.component_name, hook.hook),
        }
    }
}

impl Hook {
    /// The secrets that it needs by itself, with where each is read; not those that its grants name.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<&Name, &SecretSpec> {
        match &self.action {
            HookAction::Webhook(webhook) => webhook.secrets(),
            HookAction::Component(_) => BTreeMap::new(),
        }
    }
}

/// A hook that a component ships.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentHook {
    /// The component, by the name in the definitions.
    pub component_name: Name,
    /// The component, by its bytes.
    pub component: ComponentDigest,
    /// The hook.
    pub hook: Name,
    /// Its config: checked, defaults filled in; the very text that the guest is given.
    pub config: CanonicalJson,
    /// What it may use.
    pub grants: Vec<Grant>,
    /// The limits of one call.
    pub limits: Limits,
}

/// A request that tells a server what became of a step: always a POST, whose body is JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where to.
    pub url: WebhookUrl,
    /// What is sent.
    pub body: WebhookBody,
    /// Headers that are added, by their names in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, AddedHeader>,
    /// Loopback, private and link-local addresses may be reached.
    pub allow_private: bool,
    /// Longest time that the request may take.
    pub timeout: Duration,
}

impl Webhook {
    /// The time that a webhook is given unless the definitions say otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// The secrets that it needs, with where each is read.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<&Name, &SecretSpec> {
        let url = match &self.url {
            WebhookUrl::Text(_) => None,
            WebhookUrl::Secret { secret, from } => Some((secret, from)),
        };
        let headers = self.headers.values().filter_map(AddedHeader::secret);
        url.into_iter().chain(headers).collect()
    }
}

/// Where a webhook goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookUrl {
    /// To this address.
    Text(String),
    /// To the address that a secret holds: whoever knows it may send.
    Secret {
        /// Its name in the definitions.
        secret: Name,
        /// Where it is read.
        from: SecretSpec,
    },
}

/// What a webhook sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookBody {
    /// The whole occasion ([`Occasion::to_json`]).
    Occasion,
    /// `{"text": …}`, as chat servers take it.
    Text(Template),
    /// Any JSON, whose texts are templates.
    Json(BodyTemplate),
}

/// What a hook is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Occasion {
    /// The job.
    pub job: Name,
    /// The run.
    pub run: RunId,
    /// The environment, if one was chosen.
    pub environment: Option<Name>,
    /// The step, its generation and the try.
    pub of: Attempt,
    /// The op, as `component.op`.
    pub op: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
    /// The same each time that this hook is told this.
    pub idempotency_key: Digest,
}

impl Occasion {
    /// What names the one time that a hook is told something. A hook may be told it more than once (the host stopped before
    /// its outcome was recorded): then the key is the same.
    #[must_use]
    pub fn key(run: RunId, of: &Attempt, hook: HookIx) -> Digest {
        let mut hasher = FieldHasher::new("opyard hook 1");
        hasher
            .field(run.to_string().as_bytes())
            .field(of.step.to_string().as_bytes())
            .field(&of.generation.to_le_bytes())
            .field(&of.attempt.to_le_bytes())
            .field(&hook.0.to_le_bytes());
        hasher.finish()
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> &StepKey {
        &self.of.step
    }

    /// The key as a header or a guest has it: 64 hexadecimal digits.
    #[must_use]
    pub fn idempotency_text(&self) -> String {
        self.idempotency_key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// All of it, as a server is sent it. `docs/definitions.md` lists the fields.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut told = json!({
            "opyard": 1,
            "job": self.job,
            "run": self.run,
            "environment": self.environment,
            "step": self.of.step,
            "op": self.op,
            "outcome": self.outcome,
            "attempt": self.of.attempt,
            "idempotency_key": self.idempotency_text(),
        });
        if let (Some(failure), Some(object)) = (&self.failure, told.as_object_mut()) {
            object.insert("code".to_owned(), json!(failure.code));
            object.insert("description".to_owned(), json!(failure.description));
            object.insert("metadata".to_owned(), json!(failure.metadata));
        }
        told
    }

    /// The body that a webhook sends of it, as JSON.
    #[must_use]
    pub fn body(&self, body: &WebhookBody) -> Value {
        match body {
            WebhookBody::Occasion => self.to_json(),
            WebhookBody::Text(template) => json!({ "text": template.render(self) }),
            WebhookBody::Json(template) => template.render(self),
        }
    }
}
