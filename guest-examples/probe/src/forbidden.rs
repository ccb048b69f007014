//! Failing, asking to be retried, trapping, and using more than was granted.

use std::hint::black_box;
use std::time::Duration;

use opyard_guest::{Execution, Failure, Json, Nothing, Retry, op};
use schemars::JsonSchema;
use serde::Deserialize;

/// How `fail` fails.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fails {
    /// What it says.
    #[serde(default = "asked")]
    description: String,
    /// Whether it may be retried.
    #[serde(default)]
    allow_retries: bool,
}

fn asked() -> String {
    "failed, as asked".to_owned()
}

/// Fails with metadata.
#[op]
pub(crate) fn fail(after: Vec<Nothing>, config: Fails) -> Result<Nothing, Failure> {
    drop(after);
    let failure = Failure::new(config.description).with_metadata("rows", 3).with_metadata("species", "Gentoo");
    Err(if config.allow_retries { failure } else { failure.no_retry() })
}

/// How often `retry_then` asks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retries {
    /// The number of attempts that ask to be retried.
    times: u32,
    /// Milliseconds to wait; as the policy says when absent.
    #[serde(default)]
    delay_ms: Option<u32>,
}

/// Asks to be retried so many times, then gives the number of the attempt. Not hermetic: it knows its attempt.
#[op(retry(max = 5, delay = "1ms", backoff = exponential, jitter = full), tags(kind = "flaky"))]
pub(crate) fn retry_then(execution: Execution, config: Retries) -> Result<Json<u32>, Failure> {
    let attempt = execution.attempt();
    if attempt >= config.times {
        return Ok(Json::new(attempt));
    }
    let retry = Retry::new(format!("attempt {attempt} asks for another"));
    Err(match config.delay_ms {
        Some(delay) => retry.after(Duration::from_millis(delay.into())).into(),
        None => retry.into(),
    })
}

/// Panics.
#[op]
pub(crate) fn panics() -> Nothing {
    let rows: Vec<u32> = black_box(Vec::new());
    assert!(!rows.is_empty(), "no rows to average");
    Nothing
}

/// Never ends.
#[op]
pub(crate) fn spin() -> Nothing {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

/// Takes memory until there is none.
#[op]
pub(crate) fn hog() -> Nothing {
    let mut taken = Vec::new();
    loop {
        taken.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// How much `busy` computes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Busy {
    /// Rounds of a hash.
    rounds: u64,
}

/// Computes for as long as it is told, after any number of others.
#[op]
pub(crate) fn busy(after: Vec<Nothing>, config: Busy) -> Json<String> {
    drop(after);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for round in 0..config.rounds {
        hash = black_box((hash ^ round).wrapping_mul(0x0100_0000_01b3));
    }
    Json::new(format!("{hash:016x}"))
}

/// Opens an object store that it never listed: a trap, whatever the component imports for its other ops.
#[op]
pub(crate) fn unlisted() -> Json<bool> {
    use opyard_guest::bindings::opyard::resources::object_store;
    Json::new(object_store::open("store").is_ok())
}
