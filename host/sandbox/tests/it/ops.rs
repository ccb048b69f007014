//! What the host gives an op, and takes from it.

use std::sync::Arc;

use opyard_model::error::Code;
use opyard_model::event::Level;
use opyard_model::id::Name;
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::metadata::MetadataValue;
use opyard_model::step::{Bound, Call, HandleCall, Saying, StepResult};
use serde_json::json;

use crate::harness::{Probe, in_memory, name};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describes_what_it_ships() {
    let probe = Probe::new().await;
    let echo = probe.description.op("echo").unwrap();
    assert!(echo.is_hermetic() && echo.input("value").is_some());
    assert!(!probe.description.op("who").unwrap().is_hermetic());
    assert!(!probe.description.op("touch").unwrap().is_hermetic());
    assert!(probe.description.imports.contains(&"opyard:op/io@0.1.0".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_through_unchanged_whatever_their_size() {
    let probe = Probe::new().await;
    for size in [0, 1, 65_536, 65_537, (3 << 20) + 7] {
        let bytes: Vec<u8> = (0..size).map(|i: u32| u8::try_from(i * 7 % 251).unwrap()).collect();
        let value = probe.bench.value(bytes, "bytes", "application/octet-stream").await;
        for op in ["echo", "relay"] {
            let came = probe.run(op, json!({}), vec![("value", Bound::One(value.clone()))]).await;
            assert_eq!(came.outputs()[0].1.artifact, value.artifact, "{op} {size}");
            assert!(came.memoisable());
            let usage = came.outcome.usage;
            assert_eq!((usage.read_bytes, usage.written_bytes), (u64::from(size), u64::from(size)));
            assert!(usage.fuel > 0 && usage.host_calls > 0 && usage.peak_memory >= 1 << 16);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_agree_and_the_short_way_stores() {
    let probe = Probe::new().await;
    let value = probe.bench.value("some text", "bytes", "application/octet-stream").await;
    let came = probe.run("reads_twice", json!({}), vec![("value", Bound::One(value.clone()))]).await;
    assert_eq!(probe.bench.json(&came.outputs()[0].1).await, json!(true));
    let came = probe.run("stored", json!({}), vec![("value", Bound::One(value.clone()))]).await;
    assert_eq!(came.outputs()[0].1.artifact, value.artifact);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn optional_outputs_are_left_out() {
    let probe = Probe::new().await;
    let came = probe.run("branch", json!({ "way": "right" }), Vec::new()).await;
    let ports: Vec<_> = came.outputs().into_iter().map(|(port, _)| port).collect();
    assert_eq!(ports, ["right"]);
    assert!(probe.run("maybe", json!({}), Vec::new()).await.outputs().is_empty());
    assert!(probe.run("noop", json!({}), Vec::new()).await.outputs().is_empty(), "nothing is yielded on `nothing`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_are_announced_as_they_are_committed_and_an_io_manager_takes_each() {
    let probe = Probe::new().await;
    let mut call = probe.call("fan", json!({ "items": 3 }), Vec::new());
    call.managers.insert(name("files"), in_memory());
    Arc::make_mut(&mut call.outputs)[0].io_manager = name("files");
    let came = probe.bench.request(Call::Op(Box::new(call)), Limits::default()).await;
    let announced: Vec<_> = came
        .said
        .iter()
        .filter_map(|saying| match saying {
            Saying::ItemCommitted(yielded) => Some(yielded.value.clone()),
            _ => None,
        })
        .collect();
    let yielded: Vec<_> = came.outputs().into_iter().map(|(_, value)| value).collect();
    assert_eq!(announced, yielded);
    assert_eq!(yielded[2].mapping_key.to_string(), "k/item-2");
    assert_eq!(yielded[2].kept.as_ref().unwrap().manager, name("files"));
    let kept = probe.bench.kept.0.lock().unwrap();
    assert_eq!(kept.get("outer.step.item[k][item-2]").unwrap(), "2", "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_of_a_failed_op_were_announced_but_are_not_yielded() {
    let probe = Probe::new().await;
    let came = probe.run("fan", json!({ "items": 5, "fail_after": 2 }), Vec::new()).await;
    assert_eq!(came.code(), Code::OpFailed);
    assert_eq!(came.said.iter().filter(|saying| matches!(saying, Saying::ItemCommitted(_))).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_is_handed_to_its_io_manager_and_loaded_from_there_when_its_artifact_is_gone() {
    let probe = Probe::new().await;
    let mut call = probe.call("text", json!({ "text": "kept" }), Vec::new());
    call.managers.insert(name("files"), in_memory());
    Arc::make_mut(&mut call.outputs)[0].io_manager = name("files");
    let output = call.outputs[0].clone();
    let came = probe.bench.request(Call::Op(Box::new(call)), Limits::default()).await;
    let value = came.outputs().remove(0).1;
    assert!(
        came.said.iter().any(|saying| matches!(saying, Saying::Handled { manager, .. } if *manager == name("files")))
    );

    // Another yard: the value's artifact was never in its store, the manager has a copy.
    let other = Probe::new().await;
    *other.bench.kept.0.lock().unwrap() = probe.bench.kept.0.lock().unwrap().clone();
    let mut call = other.call("echo", json!({}), vec![("value", Bound::One(value.clone()))]);
    call.managers.insert(name("files"), in_memory());
    let came = other.bench.request(Call::Op(Box::new(call.clone())), Limits::default()).await;
    assert_eq!(came.outputs()[0].1.artifact, value.artifact);

    // A third: the manager has something else by now.
    let third = Probe::new().await;
    third.bench.kept.0.lock().unwrap().insert("outer.step.result[k]".to_owned(), "changed".into());
    let came = third.bench.request(Call::Op(Box::new(call)), Limits::default()).await;
    assert_eq!(came.code(), Code::ArtifactMissing);

    // On a memo hit nothing runs, and the manager is handed the value all the same.
    let mut plain = value.clone();
    plain.kept = None;
    probe.bench.kept.0.lock().unwrap().clear();
    let call = Call::HandleOutput(Box::new(HandleCall { output, manager: in_memory(), value: plain }));
    match probe.bench.request(call, Limits::default()).await.outcome.result {
        StepResult::Handled { value: handled, .. } => assert_eq!(*handled, value),
        other => panic!("{other:?}"),
    }
    assert_eq!(probe.bench.kept.0.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_everything_that_can_be_said() {
    let probe = Probe::new().await;
    let came = probe.run("log_all", json!({}), Vec::new()).await;
    let kind = |saying: &Saying| match saying {
        Saying::Log(line) => format!("log {:?}", line.level),
        Saying::Progress(progress) => format!("progress {} {:?}", progress.done, progress.total),
        Saying::Metric(point) => format!("metric {} {:?}", point.name, point.step),
        Saying::Materialized(event) => format!("materialized {:?}", event.asset_key),
        Saying::Observed(event) => format!("observed {:?}", event.partition),
        Saying::Expected(expectation) => format!("expected {} {}", expectation.label, expectation.success),
        other => format!("{other:?}"),
    };
    let said: Vec<_> = came.said.iter().map(kind).collect();
    assert_eq!(
        said,
        [
            "log Debug",
            "log Info",
            "log Warning",
            "log Error",
            "log Critical",
            "progress 1 Some(2)",
            "progress 2 None",
            "metric plain None",
            "metric series Some(7)",
            "materialized [\"lake\", \"penguins\"]",
            "observed Some(\"2007\")",
            "expected rows true",
            "expected nulls false",
        ]
    );
    let outputs = came.outputs();
    let labels: Vec<_> = outputs[0].1.metadata.iter().map(|entry| entry.label.as_str()).collect();
    assert_eq!(labels.len(), 12, "{labels:?}");
    assert_eq!(outputs[0].1.metadata[2].value, MetadataValue::Int(-7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_which_execution_it_is_to_those_who_ask_and_are_not_hermetic() {
    let probe = Probe::new().await;
    let came = probe.run("who", json!({}), Vec::new()).await;
    let who = probe.bench.json(&came.outputs()[0].1).await;
    assert_eq!((&who["job"], &who["step_key"], &who["attempt"]), (&json!("job"), &json!("outer.step[k]"), &json!(0)));

    let mut call = probe.call("who", json!({}), Vec::new());
    call.uses_execution = false;
    let came = probe.bench.request(Call::Op(Box::new(call)), Limits::default()).await;
    assert_eq!(came.code(), Code::ForbiddenImport);
    assert!(came.failure().description.contains("opyard:op/execution@0.1.0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_asking_for_another_try_and_panicking_are_told_apart() {
    let probe = Probe::new().await;
    let came =
        probe.run("fail", json!({ "description": "no \u{1b}[31mdata", "allow_retries": true }), Vec::new()).await;
    let failure = came.failure();
    assert_eq!((failure.code, failure.allow_retries), (Code::OpFailed, true));
    assert_eq!(failure.description, "no \\u{1b}[31mdata");
    assert_eq!(failure.metadata[0].value, MetadataValue::Int(3));

    let came = probe.run("retry_then", json!({ "times": 1, "delay_ms": 20 }), Vec::new()).await;
    match came.outcome.result {
        StepResult::Retry { delay, description } => {
            assert_eq!(delay, Some(std::time::Duration::from_millis(20)));
            assert_eq!(description, "attempt 0 asks for another");
        }
        other => panic!("{other:?}"),
    }

    let came = probe.run("panics", json!({}), Vec::new()).await;
    let failure = came.failure();
    assert_eq!(failure.code, Code::Trapped);
    assert!(failure.description.contains("panicked at ") && failure.description.contains("no rows to average"));
    let backtrace = failure.metadata.iter().find(|entry| entry.label == "backtrace").unwrap();
    match &backtrace.value {
        MetadataValue::Text(text) => assert!(text.contains("panic"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(came.said.iter().any(|saying| matches!(saying, Saying::Log(line) if line.level == Level::Critical)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_are_answered_keep_a_result_from_being_used_again() {
    let probe = Probe::new().await;
    let limits = Limits { items: 2, ..Limits::default() };
    let came = probe.with_limits("fan", json!({ "items": 3 }), Vec::new(), limits).await;
    assert_eq!(came.code(), Code::OpFailed);
    let limit = |saying: &Saying| matches!(saying, Saying::LimitReached { limit, .. } if limit == "items");
    assert_eq!(came.said.iter().filter(|saying| limit(saying)).count(), 1);

    let limits = Limits { output_bytes: ByteSize(1 << 20), ..Limits::default() };
    let came = probe.with_limits("big", json!({ "mib": 2 }), Vec::new(), limits).await;
    assert!(came.failure().description.contains("output_bytes"), "{}", came.failure());

    let limits = Limits { events: 3, ..Limits::default() };
    let came = probe.with_limits("log_all", json!({}), Vec::new(), limits).await;
    assert!(!came.memoisable());
    let detail = |saying: &Saying| match saying {
        Saying::LimitReached { limit, detail } if limit == "events" => Some(detail.clone()),
        _ => None,
    };
    assert_eq!(came.said.iter().find_map(detail).unwrap(), "5 events were dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_beyond_the_limit_are_dropped_and_counted() {
    let probe = Probe::new().await;
    let limits = Limits { log_lines: 10, ..Limits::default() };
    let came = probe.with_limits("chatty", json!({ "lines": 5_000 }), Vec::new(), limits).await;
    assert!(came.memoisable(), "what is logged is no result");
    assert_eq!(came.said.iter().filter(|saying| matches!(saying, Saying::Log(_))).count(), 10);
    let dropped =
        Saying::LimitReached { limit: "log_lines".to_owned(), detail: "4990 log lines were dropped".to_owned() };
    assert_eq!(came.said.last(), Some(&dropped));

    // The bytes of the lines are bounded too, however few there are.
    let limits = Limits { log_bytes: ByteSize(100), ..Limits::default() };
    let came = probe.with_limits("chatty", json!({ "lines": 500 }), Vec::new(), limits).await;
    let bytes = |saying: &Saying| if let Saying::Log(line) = saying { line.message.len() } else { 0 };
    let kept: usize = came.said.iter().map(bytes).sum();
    assert!((1..=100).contains(&kept), "{kept} bytes of {:?}", came.said);
    assert!(matches!(came.said.last(), Some(Saying::LimitReached { limit, .. }) if limit == "log_lines"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_beyond_the_limit_is_not_kept() {
    let probe = Probe::new().await;
    let limits = Limits { metadata_bytes: ByteSize(10), ..Limits::default() };
    let came = probe.with_limits("log_all", json!({}), Vec::new(), limits).await;
    // What the op was answered, it fails by; the events that did not fit were dropped, and counted.
    assert!(came.failure().description.contains("metadata_bytes"), "{}", came.failure());
    assert!(came.said.iter().all(|saying| !matches!(saying, Saying::Materialized(_))), "{:?}", came.said);
    assert!(came.said.iter().any(|saying| matches!(saying, Saying::LimitReached { .. })), "{:?}", came.said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_tell_what_the_value_is() {
    let probe = Probe::new().await;
    let mut value = probe.bench.value("[1]", "json", "application/json").await;
    value.mapping_key = "k1".parse().unwrap();
    let other = probe.bench.value("x", "text", "text/plain").await;
    let call = probe.run("probe_many", json!({}), vec![("values", Bound::Many(vec![value, other]))]).await;
    let told = probe.bench.json(&call.outputs()[0].1).await;
    assert_eq!(told["values"][0]["mapping_key"], json!("k1"));
    assert_eq!(told["values"][0]["media_type"], json!("application/json"));
    assert_eq!(told["values"][1]["type_name"], json!("text"));
    assert_eq!(told["values"][1]["size"], json!(1));
    let _: Name = name("values");
}
