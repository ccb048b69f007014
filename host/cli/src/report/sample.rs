//! Events for tests: one of every kind, and a small run.

use std::collections::BTreeMap;
use std::time::Duration;

use opyard_server::model::component::Interface;
use opyard_server::model::digest::Digest;
use opyard_server::model::error::{Code, Failure};
use opyard_server::model::event::{
    AssetEvent, Attempt, Direction, Expectation, HookName, Level, LoadedValue, LogLine, MetricPoint, OpenedResource,
    Progress, Recorded, RunEvent, SkipReason, Stream, TypeChecked,
};
use opyard_server::model::hook::{HookIx, Outcome};
use opyard_server::model::id::{MediaType, Name, RunId};
use opyard_server::model::json::CanonicalJson;
use opyard_server::model::limits::Usage;
use opyard_server::model::metadata::{Column, MetadataEntry, MetadataValue};
use opyard_server::model::time::Timestamp;
use opyard_server::model::value::{ArtifactRef, ValueRef, Yielded};

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn of(step: &str) -> Attempt {
    Attempt { step: step.parse().unwrap(), generation: 0, attempt: 0 }
}

fn opened() -> OpenedResource {
    OpenedResource { key: name("raw"), name: name("lake"), through: Interface::ObjectStore }
}

/// A table that was checked, and what is wrong with it.
fn checked(wrong: Option<&str>) -> TypeChecked {
    TypeChecked {
        direction: Direction::Output,
        port: name("rows"),
        mapping_key: Default::default(),
        type_name: name("penguin_rows"),
        by: "tables.table".into(),
        description: wrong.map(Into::into),
        metadata: vec![entry("rows", MetadataValue::Int(333))],
    }
}

fn hook(on: Outcome) -> HookName {
    HookName { index: HookIx(0), on, name: "notify.post".into() }
}

pub(crate) fn usage(millis: u64) -> Usage {
    Usage {
        fuel: millis * 100_000,
        cpu: Duration::from_millis(millis),
        wall: Duration::from_millis(millis),
        peak_memory: millis << 16,
        read_bytes: 1,
        written_bytes: 2,
        host_calls: 3,
    }
}

pub(crate) fn yielded(port: &str, metadata: Vec<MetadataEntry>) -> Yielded {
    let artifact = ArtifactRef::of(port.as_bytes());
    let value = ValueRef::plain(artifact, name("table"), MediaType::new("text/csv").unwrap());
    Yielded { port: name(port), value: ValueRef { metadata, ..value } }
}

fn entry(label: &str, value: MetadataValue) -> MetadataEntry {
    MetadataEntry { label: label.into(), value }
}

fn asset() -> AssetEvent {
    AssetEvent {
        asset_key: vec!["models".into(), "species".into()],
        partition: Some("2026-11".into()),
        description: Some("a classifier".into()),
        metadata: vec![entry("trees", MetadataValue::Int(30))],
        tags: vec![("stage".into(), "test".into())],
    }
}

pub(crate) fn enqueued(steps: u32) -> RunEvent {
    RunEvent::RunEnqueued {
        parent: None,
        root: None,
        job: name("train"),
        environment: Some(name("prod")),
        plan: ArtifactRef::of(b"plan"),
        steps,
        tags: BTreeMap::from([("team".to_owned(), "ecology".to_owned())]),
        use_memo: true,
    }
}

/// One event of every kind.
pub(crate) fn one_of_each() -> Vec<RunEvent> {
    let failure = || Failure::new(Code::OpFailed, "no rows\nof class Gentoo");
    let step = || "score".parse().unwrap();
    let key = Digest::of(b"key");
    let from_memo = true;
    vec![
        enqueued(7),
        RunEvent::RunDequeued,
        RunEvent::RunStarting,
        RunEvent::RunStart,
        RunEvent::RunSuccess,
        RunEvent::RunFailure { failure: Failure::new(Code::OpFailed, "1 step failed: fit") },
        RunEvent::RunCanceling { reason: "interrupted".into() },
        RunEvent::RunCanceled,
        RunEvent::StepWaiting { step: step(), generation: 0, pool: name("db") },
        RunEvent::StepStart { of: of("fit") },
        RunEvent::StepInput { of: of("fit"), port: name("rows"), values: 1, identity: Digest::of(b"identity") },
        RunEvent::StepOutput { of: of("fit"), output: yielded("model", vec![entry("rows", MetadataValue::Int(250))]) },
        RunEvent::StepSuccess { of: of("fit"), usage: usage(120) },
        RunEvent::StepFailure { of: of("fit"), failure: failure(), usage: usage(120) },
        RunEvent::StepSkipped { step: step(), generation: 0, reason: SkipReason::UpstreamFailed },
        RunEvent::StepUpForRetry {
            of: of("fit"),
            failure: failure(),
            not_before: Timestamp::from_micros(1_795_409_225_000_000),
            usage: usage(3),
        },
        RunEvent::StepRestarted { of: of("fit") },
        RunEvent::StepSuperseded { step: step(), generation: 1 },
        RunEvent::StepMemoized {
            step: step(),
            generation: 0,
            key,
            origin: RunId::from_parts(5, 6),
            outputs: vec![yielded("metrics", vec![])],
        },
        RunEvent::StepReused { step: step(), generation: 0, origin: RunId::from_parts(5, 6), outputs: Vec::new() },
        RunEvent::StepMemoMissed { step: step(), generation: 0, key },
        RunEvent::HandledOutput {
            of: of("card"),
            port: name("card"),
            manager: name("reports"),
            locator: CanonicalJson::parse(r#"{"path":"train/card.md","size":3}"#).unwrap(),
            metadata: Vec::new(),
        },
        RunEvent::LoadedInput {
            of: of("fit"),
            input: LoadedValue {
                port: name("rows"),
                manager: name("lake"),
                locator: CanonicalJson::parse(r#"{"table":"penguins"}"#).unwrap(),
                artifact: ArtifactRef::of(b"rows"),
                fingerprint: Some("v1".into()),
                metadata: vec![entry("rows", MetadataValue::Int(344))],
            },
        },
        RunEvent::ResourceInitStarted { of: of("load"), resource: opened() },
        RunEvent::ResourceInitSuccess { of: of("load"), resource: opened() },
        RunEvent::ResourceInitFailure { of: of("load"), resource: opened(), failure: failure() },
        RunEvent::TypeCheckSuccess { of: of("fit"), check: checked(None) },
        RunEvent::TypeCheckFailure { of: of("fit"), check: checked(Some("2 rows are wrong")) },
        RunEvent::HookCompleted {
            of: of("fit"),
            hook: hook(Outcome::Success),
            lines: vec![LogLine { level: Level::Info, stream: None, message: "posted".into(), fields: vec![] }],
            usage: usage(3),
        },
        RunEvent::HookErrored {
            of: of("fit"),
            hook: hook(Outcome::Failure),
            failure: Failure::new(Code::ResourceUnavailable, "the server does not answer"),
            lines: vec![LogLine { level: Level::Info, stream: None, message: "posting".into(), fields: vec![] }],
            usage: usage(3),
        },
        RunEvent::HookSkipped { of: of("fit"), hook: hook(Outcome::Retry), reason: SkipReason::Canceled },
        RunEvent::AssetMaterialization { of: of("fit"), asset: asset(), from_memo: false },
        RunEvent::AssetObservation { of: of("fit"), asset: asset(), from_memo },
        RunEvent::StepExpectationResult {
            of: of("clean"),
            expectation: Expectation {
                label: "enough rows".into(),
                success: false,
                description: Some("12 of 300".into()),
                metadata: vec![],
            },
            from_memo,
        },
        RunEvent::Metric {
            of: of("score"),
            point: MetricPoint { name: "accuracy".into(), value: Some(0.976_744), step: Some(3) },
            from_memo,
        },
        RunEvent::Log {
            of: of("fit"),
            line: LogLine {
                level: Level::Warning,
                stream: Some(Stream::Stderr),
                message: "few rows\u{1b}[31m".into(),
                fields: vec![("rows".into(), CanonicalJson::parse("12").unwrap())],
            },
        },
        RunEvent::Progress {
            of: of("fit"),
            progress: Progress { done: 3, total: Some(10), message: Some("tree 3".into()) },
        },
        RunEvent::LimitReached { of: of("fit"), limit: "log_lines".into(), detail: "12 lines dropped".into() },
        RunEvent::GrantDenied { of: of("fit"), key: "secrets".into() },
        RunEvent::EngineEvent {
            message: "taken up again".into(),
            metadata: vec![entry("steps", MetadataValue::Int(2))],
        },
    ]
}

/// `events` as a log recorded them, a tenth of a second apart.
pub(crate) fn recorded(events: Vec<RunEvent>) -> Vec<Recorded> {
    let run = RunId::from_parts(1_795_409_220_000, 0xfeed);
    events
        .into_iter()
        .zip(1u64..)
        .map(|(event, seq)| {
            let at = Timestamp::from_micros(1_795_409_220_000_000 + i64::try_from(seq).unwrap() * 100_000);
            Recorded { run, seq, at, event }
        })
        .collect()
}

/// A run with a memoised, a retried, a failed, a skipped and a mapped step.
pub(crate) fn small_run() -> Vec<Recorded> {
    let mut failure = Failure::new(Code::Trapped, "panicked at src/fit.rs:12: no class left");
    failure.metadata.push(entry("rows", MetadataValue::Int(12)));
    let table = MetadataValue::Table {
        columns: ["true", "Adelie"]
            .map(|name| Column { name: name.into(), data_type: "int".into(), nullable: false, description: None })
            .into(),
        rows: vec![CanonicalJson::parse(r#"["Adelie",36]"#).unwrap()],
    };
    let line = |level, message: &str| LogLine { level, stream: None, message: message.into(), fields: vec![] };
    let mut events = vec![
        enqueued(6),
        RunEvent::RunStart,
        RunEvent::StepStart { of: of("load") },
        RunEvent::StepUpForRetry {
            of: of("load"),
            failure: Failure::new(Code::ResourceUnavailable, "no answer"),
            not_before: Timestamp::from_micros(0),
            usage: usage(20),
        },
        RunEvent::StepStart { of: Attempt { attempt: 1, ..of("load") } },
        RunEvent::StepOutput { of: of("load"), output: yielded("rows", vec![entry("rows", MetadataValue::Int(344))]) },
        RunEvent::StepSuccess { of: of("load"), usage: usage(30) },
        RunEvent::StepMemoized {
            step: "clean".parse().unwrap(),
            generation: 0,
            key: Digest::of(b"key"),
            origin: RunId::from_parts(5, 6),
            outputs: vec![yielded("rows", vec![entry("confusion", table)])],
        },
        RunEvent::StepReused {
            step: "split".parse().unwrap(),
            generation: 0,
            origin: RunId::from_parts(7, 8),
            outputs: vec![yielded("train", Vec::new())],
        },
        RunEvent::Metric {
            of: of("clean"),
            point: MetricPoint { name: "kept".into(), value: Some(0.5), step: Some(1) },
            from_memo: true,
        },
        RunEvent::Metric {
            of: of("clean"),
            point: MetricPoint { name: "kept".into(), value: Some(0.75), step: Some(2) },
            from_memo: true,
        },
        RunEvent::AssetMaterialization { of: of("clean"), asset: asset(), from_memo: true },
        RunEvent::StepStart { of: of("fit") },
        RunEvent::Log { of: of("fit"), line: line(Level::Info, "beginning") },
        RunEvent::Log { of: of("fit"), line: line(Level::Error, "only 12 rows") },
        RunEvent::StepFailure { of: of("fit"), failure, usage: usage(900) },
        RunEvent::StepSkipped { step: "score".parse().unwrap(), generation: 0, reason: SkipReason::UpstreamFailed },
        RunEvent::HandledOutput {
            of: of("card"),
            port: name("card"),
            manager: name("reports"),
            locator: CanonicalJson::parse(r#""train/card.md""#).unwrap(),
            metadata: Vec::new(),
        },
    ];
    for item in 0..30u64 {
        events.push(RunEvent::StepStart { of: of(&format!("count[i{item}]")) });
        events.push(RunEvent::StepSuccess { of: of(&format!("count[i{item}]")), usage: usage(item) });
    }
    events.push(RunEvent::RunFailure { failure: Failure::new(Code::Trapped, "1 step failed: fit") });
    recorded(events)
}
