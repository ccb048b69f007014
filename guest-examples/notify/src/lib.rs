//! Tells a chat server what became of steps.

use opyard_guest::events::{self, Level};
use opyard_guest::hook::Outcome;
use opyard_guest::http::Request;
use opyard_guest::{Failure, HttpClient, Occasion, hook};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// Where a message goes, and whom it calls.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Post {
    /// The address that takes messages.
    url: String,
    /// Who is called by name when a step has failed.
    #[serde(default)]
    on_call: Option<String>,
}

/// Posts a message to a chat server: what became of the step, why, and which labels stand beside it.
#[hook]
fn post(occasion: Occasion, hub: HttpClient, config: Post) -> Result<(), Failure> {
    let message = message(&occasion, config.on_call.as_deref());
    let request = Request::post(config.url, message.to_string())
        .header("content-type", "application/json")
        .header("idempotency-key", &occasion.idempotency_key);
    let answer = hub.send(&request)?;
    if !answer.is_success() {
        return Err(Failure::new(format!("the server answered with status {}", answer.status())));
    }
    events::log(Level::Info, "posted", &[]);
    Ok(())
}

fn message(occasion: &Occasion, on_call: Option<&str>) -> Value {
    let Occasion { job, step, description, metadata, .. } = occasion;
    let why = description.as_deref().unwrap_or("no reason was given");
    let text = match (occasion.outcome, on_call) {
        (Outcome::Success, _) => format!("{job}: {step} is done"),
        (Outcome::Retry, _) => format!("{job}: {step} is tried again: {why}"),
        (Outcome::Failure, Some(who)) => format!("@{who} {job}: {step} failed: {why}"),
        (Outcome::Failure, None) => format!("{job}: {step} failed: {why}"),
    };
    let labels: Vec<_> = metadata.iter().map(|entry| entry.label.as_str()).collect();
    json!({ "text": text, "run": occasion.run, "labels": labels })
}

opyard_guest::component! { hooks: [post] }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_calls_somebody() {
        let mut occasion = Occasion::new(Outcome::Failure, "train", "fit");
        occasion.description = Some("no class left".into());
        assert_eq!(message(&occasion, Some("ada"))["text"], "@ada train: fit failed: no class left");
        occasion.outcome = Outcome::Retry;
        assert_eq!(message(&occasion, Some("ada"))["text"], "train: fit is tried again: no class left");
    }
}
