//! Hooks as their authors write them.

use opyard_guest::hook::Outcome;
use opyard_guest::schemars::JsonSchema;
use opyard_guest::serde::Deserialize;
use opyard_guest::{Failure, Hook, HttpClient, KeyValue, Occasion, component, hook};

/// How loud.
#[derive(Deserialize, JsonSchema)]
#[serde(crate = "opyard_guest::serde", deny_unknown_fields)]
#[schemars(crate = "opyard_guest::schemars")]
struct Volume {
    /// Say nothing of the first tries.
    #[serde(default)]
    from_attempt: u32,
}

/// Fails for what is loud enough.
#[hook(name = "shout")]
fn loud(occasion: Occasion, config: Volume) -> Result<(), Failure> {
    if occasion.outcome == Outcome::Failure && occasion.attempt >= config.from_attempt {
        return Err(Failure::new(format!("{} of {} failed", occasion.step, occasion.job)));
    }
    Ok(())
}

/// Reaches out.
#[hook]
fn reach(occasion: Occasion, hub: HttpClient, tally: Option<KeyValue>) {
    drop((occasion, hub, tally));
}

component! { hooks: [loud, reach] }

#[test]
fn the_definition_follows_from_the_signature() {
    let definition = <loud as Hook>::definition();
    assert_eq!((definition.name.as_str(), <loud as Hook>::NAME), ("shout", "shout"));
    assert_eq!(definition.description.as_deref(), Some("Fails for what is loud enough."));
    assert!(definition.config_schema.expect("it takes a config").contains("Say nothing of the first tries."));
    assert!(definition.resources.is_empty());
    let definition = <reach as Hook>::definition();
    assert!(definition.config_schema.is_none());
    let asked: Vec<_> =
        definition.resources.iter().map(|one| (one.key.as_str(), one.through.as_str(), one.optional)).collect();
    assert_eq!(
        asked,
        [("hub", "opyard:resources/http-client@0.1.0", false), ("tally", "opyard:resources/key-value@0.1.0", true)]
    );
}

#[test]
fn a_hook_hears_its_occasion_and_config() {
    let hear = |outcome, config: &str| <loud as Hook>::handle(Occasion::new(outcome, "train", "fit"), config);
    assert_eq!(hear(Outcome::Failure, "{}").unwrap_err().to_string(), "fit of train failed");
    assert!(hear(Outcome::Failure, r#"{"from_attempt":1}"#).is_ok() && hear(Outcome::Retry, "{}").is_ok());
    let failure = hear(Outcome::Success, r#"{"volume":1}"#).unwrap_err();
    assert!(failure.to_string().starts_with("config: unknown field `volume`"), "{failure}");
}
