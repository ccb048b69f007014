//! `hooks` of jobs and steps.

use super::reading::{Keys, Reading, short};
use super::tree::{Node, Value};
use super::{HookBody, HookDefinition};
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::hook::{
    BodyTemplate, MAX_HOOKS, MAX_WEBHOOK_TIME, OWN_HEADERS, Outcome, Template, TemplateError, Variable, Webhook,
    WebhookBody, WebhookUrl,
};
use crate::http::origin_of;
use crate::location::UsedSecret;
use crate::plan::config::to_json;

const HOOKS: Keys =
    Keys { what: "`hooks`", known: &["on_success", "on_failure", "on_retry"], later: &["on_skip", "on_cancel"] };
const HOOK: Keys = Keys { what: "a hook", known: &["webhook", "with", "config", "description"], later: &[] };
const WEBHOOK: Keys = Keys {
    what: "a webhook",
    known: &["url", "text", "json", "headers", "allow_private", "timeout"],
    later: &["method", "retry"],
};
const URL: Keys = Keys { what: "an address", known: &["secret"], later: &[] };

impl Reading<'_> {
    /// `hooks: { on_failure: [ … ] }`, in the order of the outcomes.
    pub(super) fn hooks(&mut self, node: Option<&Node>) -> Vec<HookDefinition> {
        let mut hooks = Vec::new();
        let Some(fields) = node.and_then(|node| self.fields(node, &HOOKS)) else { return hooks };
        for (key, on) in Outcome::ALL {
            let Some(node) = fields.get(key) else { continue };
            let Some(items) = self.list(node, &format!("`{key}`")) else { continue };
            if items.len() > MAX_HOOKS {
                let text = format!("`{key}` has {MAX_HOOKS} hooks at most");
                self.push(Diagnostic::error(Code::TooLarge, text).at(&node.place, format!("has {}", items.len())));
                continue;
            }
            for item in items {
                hooks.extend(self.hook(item).map(|body| HookDefinition { on, body }));
            }
        }
        hooks
    }

    fn hook(&mut self, node: &Node) -> Option<HookBody> {
        let fields = self.fields(node, &HOOK)?;
        match (fields.get("webhook"), fields.get("with")) {
            (Some(webhook), None) => {
                if let Some((key, _)) = fields.entry("config") {
                    self.push(
                        Diagnostic::error(Code::UnknownKey, "`config` means nothing for a webhook")
                            .at(&key.place, "belongs to hooks of components"),
                    );
                }
                self.webhook(webhook).map(|webhook| HookBody::Webhook(Box::new(webhook)))
            }
            (None, Some(with)) => {
                let config = fields.get("config").filter(|node| self.config(node)).cloned();
                let (component, hook) = self.extension(with, "a hook", "component.hook")?;
                Some(HookBody::Component { component, hook, place: with.place.clone(), config })
            }
            (Some(_), Some(with)) => {
                self.push(
                    Diagnostic::error(Code::WrongShape, "a hook is a webhook or of a component, not both")
                        .at(&with.place, "remove one of the two"),
                );
                None
            }
            (None, None) => {
                self.push(
                    Diagnostic::error(Code::MissingKey, "it is not said what this hook does")
                        .at(&node.place, "here")
                        .help("write `{ webhook: { url: … } }` or `{ with: component.hook }`"),
                );
                None
            }
        }
    }

    fn webhook(&mut self, node: &Node) -> Option<Webhook> {
        let fields = self.fields(node, &WEBHOOK)?;
        let url = fields.require(self, "url", "where to: `url: https://…`, or `url: { secret: name }`");
        let url = url.and_then(|node| self.webhook_url(node));
        let body = match (fields.get("text"), fields.get("json")) {
            (None, None) => Some(WebhookBody::Occasion),
            (Some(node), None) => self.template(node).map(WebhookBody::Text),
            (None, Some(node)) => self.body_template(node).map(WebhookBody::Json),
            (Some(_), Some(json)) => {
                self.push(
                    Diagnostic::error(Code::WrongShape, "a webhook sends `text` or `json`, not both")
                        .at(&json.place, "remove one of the two"),
                );
                None
            }
        };
        let headers = self.headers(fields.get("headers"));
        if let Some(node) = fields.get("headers") {
            for (key, _) in self.entries(node, "`headers`").unwrap_or_default() {
                if OWN_HEADERS.contains(&key.text.as_str()) {
                    let text = format!("the header `{}` is made by the webhook itself", key.text);
                    self.push(Diagnostic::error(Code::BadName, text).at(&key.place, "remove this"));
                }
            }
        }
        let allow_private =
            fields.get("allow_private").map_or(Some(false), |node| self.boolean(node, "`allow_private`"));
        let timeout = match fields.get("timeout") {
            None => Some(Webhook::TIMEOUT),
            Some(node) => {
                let timeout = self.duration(node)?;
                let fits = !timeout.is_zero() && timeout <= MAX_WEBHOOK_TIME;
                if !fits {
                    self.push(
                        Diagnostic::error(Code::BadQuantity, "`timeout` is out of range")
                            .at(&node.place, "expected 1ms to 5m")
                            .help("the end of a run waits for its hooks"),
                    );
                }
                fits.then_some(timeout)
            }
        };
        Some(Webhook { url: url?, body: body?, headers: headers?, allow_private: allow_private?, timeout: timeout? })
    }

    /// An address, or `{ secret: name }`.
    fn webhook_url(&mut self, node: &Node) -> Option<WebhookUrl> {
        if matches!(node.value, Value::Map(_)) {
            let fields = self.fields(node, &URL)?;
            let UsedSecret { secret, from } = self.secret_of(&fields)?;
            return Some(WebhookUrl::Secret { secret, from });
        }
        let url = self.text(node, "`url`")?;
        if let Err(problem) = origin_of(url) {
            self.push(
                Diagnostic::error(Code::BadUrl, "this address cannot be used")
                    .at(&node.place, problem.to_string())
                    .help("an address that nobody may see is a secret: `url: { secret: name }`"),
            );
            return None;
        }
        Some(WebhookUrl::Text(url.to_owned()))
    }

    fn template(&mut self, node: &Node) -> Option<Template> {
        let text = self.text(node, "`text`")?;
        match Template::new(text) {
            Ok(template) => Some(template),
            Err(problem) => self.bad_template(node, &problem),
        }
    }

    fn body_template(&mut self, node: &Node) -> Option<crate::hook::BodyTemplate> {
        self.unique_keys(node);
        let json = match to_json(node) {
            Ok(json) => json,
            Err(problem) => {
                self.push(problem.diagnostic("this body"));
                return None;
            }
        };
        // The place of the text that is wrong, where there is one.
        if let Some((at, problem)) = wrong_text(node) {
            return self.bad_template(at, &problem);
        }
        match BodyTemplate::new(json) {
            Ok(template) => Some(template),
            Err(problem) => self.bad_template(node, &problem),
        }
    }

    fn bad_template<T>(&mut self, node: &Node, problem: &TemplateError) -> Option<T> {
        let known = Variable::ALL.map(|(name, _)| name);
        let told = match problem {
            TemplateError::Unknown(name) => TemplateError::Unknown(short(name)).to_string(),
            other => other.to_string(),
        };
        let mut diagnostic = Diagnostic::error(Code::BadTemplate, told).at(&node.place, "in this text");
        if let TemplateError::Unknown(name) = problem {
            diagnostic = diagnostic.nearest(name, known);
            if diagnostic.help.is_empty() {
                diagnostic = diagnostic.help(format!("there are {}", known.join(", ")));
            }
        }
        self.push(diagnostic);
        None
    }
}

/// The first text of a body that is no template.
fn wrong_text(node: &Node) -> Option<(&Node, TemplateError)> {
    match &node.value {
        Value::Text(text) => Template::new(text).err().map(|problem| (node, problem)),
        Value::List(items) => items.iter().find_map(wrong_text),
        Value::Map(entries) => entries.iter().find_map(|(_, item)| wrong_text(item)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => None,
    }
}
