//! Runs, events and memo entries to test with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use opyard_model::error::{Code, Failure};
use opyard_model::event::{Attempt, Level, LogLine, RunEvent};
use opyard_model::id::{MediaType, Name, RunId, StepKey};
use opyard_model::limits::Usage;
use opyard_model::memo::{MemoEntry, MemoKey};
use opyard_model::time::{Clock, Timestamp};
use opyard_model::value::{ArtifactRef, ValueRef, Yielded};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct StillClock(AtomicI64);

impl Default for StillClock {
    /// Starts on 23 November 2026.
    fn default() -> Self {
        Self(AtomicI64::new(1_795_409_220_000_000))
    }
}

impl StillClock {
    /// Moves the clock.
    pub fn advance(&self, by: std::time::Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// The run with that number.
#[must_use]
pub fn run(number: u64) -> RunId {
    RunId::from_parts(1_795_409_220_000 + number, u128::from(number))
}

/// A moment.
#[must_use]
pub fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_795_409_220_000_000 + micros)
}

/// The step of that name.
#[must_use]
pub fn step(name: &str) -> StepKey {
    name.parse().unwrap()
}

/// A first try of that step.
#[must_use]
pub fn attempt(name: &str) -> Attempt {
    Attempt { step: step(name), generation: 0, attempt: 0 }
}

/// The first event of a run whose plan is that artifact.
#[must_use]
pub fn enqueued(plan: ArtifactRef, steps: u32) -> RunEvent {
    RunEvent::RunEnqueued {
        parent: None,
        root: None,
        job: Name::new("train").unwrap(),
        environment: None,
        plan,
        steps,
        tags: BTreeMap::from([("team".to_owned(), "ecology".to_owned())]),
        use_memo: true,
    }
}

/// A step begins.
#[must_use]
pub fn started(name: &str) -> RunEvent {
    RunEvent::StepStart { of: attempt(name) }
}

/// A step ends well.
#[must_use]
pub fn succeeded(name: &str) -> RunEvent {
    RunEvent::StepSuccess { of: attempt(name), usage: Usage::default() }
}

/// A step ends badly.
#[must_use]
pub fn failed(name: &str, code: Code) -> RunEvent {
    RunEvent::StepFailure { of: attempt(name), failure: Failure::new(code, "it broke"), usage: Usage::default() }
}

/// A value on the port `out`.
#[must_use]
pub fn yielded(artifact: ArtifactRef) -> Yielded {
    let value =
        ValueRef::plain(artifact, Name::new("bytes").unwrap(), MediaType::new("application/octet-stream").unwrap());
    Yielded { port: Name::new("out").unwrap(), value }
}

/// A step yields a value.
#[must_use]
pub fn output(name: &str, artifact: ArtifactRef) -> RunEvent {
    RunEvent::StepOutput { of: attempt(name), output: yielded(artifact) }
}

/// A step logs a line.
#[must_use]
pub fn logged(name: &str, message: &str) -> RunEvent {
    let line = LogLine { level: Level::Info, stream: None, message: message.to_owned(), fields: Vec::new() };
    RunEvent::Log { of: attempt(name), line }
}

/// The memo of a step that gave that artifact.
#[must_use]
pub fn entry(key: MemoKey, run: RunId, artifact: ArtifactRef, made: Timestamp) -> MemoEntry {
    MemoEntry {
        key,
        run,
        step: step("fit"),
        op: Name::new("fit").unwrap(),
        at: made,
        wasmtime: "48.0.8".to_owned(),
        outputs: vec![yielded(artifact)],
        checked: Vec::new(),
        said: Vec::new(),
    }
}
