//! Every kind of event is told by something that runs.

use std::collections::BTreeSet;

use opyard_server::model::event::RunEvent;
use serde_json::Value;

use crate::harness::{Project, root, runtime};

/// Kinds that no job of this test can be made to tell, and the test that sees each.
const ELSEWHERE: [(&str, &str, &str); 5] = [
    // Needs a producer that yields something else when it is tried again.
    ("step_superseded", "host/engine/tests/engine/simulate.rs", "runs_end_as_their_plan_says"),
    // One run never stands in its own way: it asks for no more slots than there are.
    ("step_waiting", "tests/tests/system/pools.rs", "a_slot_is_waited_for_and_freed_when_its_holder_is_killed"),
    ("hook_completed", "tests/tests/system/hooks.rs", "hooks_tell_a_server_what_became_of_steps"),
    ("hook_errored", "tests/tests/system/hooks.rs", "hooks_tell_a_server_what_became_of_steps"),
    ("hook_skipped", "host/engine/tests/engine/simulate.rs", "stopped_runs_end"),
];

const DEFINITIONS: &str = r#"opyard: 1
components: { probe: { path: "{{probe}}" }, penguins: { path: "{{penguins}}" }, textkit: { path: "{{textkit}}" } }
types:
  penguin_rows: { base: table }
  small: { base: json, schema: { type: integer, maximum: 5 } }
secrets: { token: { env: PATH }, gone: { file: no/such/file } }
resources:
  texts: { kind: object_store, url: "file:./texts", access: read_write }
  api: { kind: http_client, origins: ["https://api.example.com"], headers: { authorization: { secret: gone } } }
io_managers: { kept: { kind: object_store, url: "file:./kept" }, files: { kind: object_store, url: "file:./texts" } }
grants:
  probe.touch: { resources: { store: texts } }
  probe.fetch: { resources: { api: api } }
  probe.reveal_secret: { reveal: { token: token } }
  textkit.read_text: { resources: { texts: texts } }
jobs:
  tells:
    steps:
      all:     { op: probe.log_all, io_manager: kept }
      stored:  { op: probe.touch, config: { path: book.txt, text: "CHAPTER 1\nin\n" } }
      loud:    { op: probe.chatty, config: { lines: 20 }, limits: { log_lines: 10 } }
      refused: { op: probe.listed }
      shown:   { op: probe.reveal_secret }
      loaded:  { op: textkit.stats, after: [stored], inputs: { text: { load: { manager: files, locator: { path: book.txt } } } } }
      typed:   { op: probe.add, inputs: { numbers: { value: 3 } }, types: { result: small } }
  branches:
    steps:
      read:  { op: textkit.read_text, config: { object: book.txt } }
      parts: { op: textkit.chapters, inputs: { book: read } }
      back:  { op: textkit.stats, inputs: { text: parts.back } }
  fails:
    steps:
      out:   { op: probe.fetch, config: { url: "https://api.example.com/", must: true }, retry: { max_retries: 1, delay: 1ms } }
      large: { op: probe.add, inputs: { numbers: { value: 7 } }, types: { result: small } }
"#;

/// The kinds that there are, as the log itself tells them to who asks for another.
fn kinds() -> BTreeSet<String> {
    let refusal = RunEvent::decode("none of them", "{}").unwrap_err().to_string();
    refusal.split('`').skip(1).step_by(2).filter(|kind| *kind != "none of them").map(ToOwned::to_owned).collect()
}

#[test]
fn every_kind_of_event_is_told_by_something_that_runs() {
    let project = Project::new(DEFINITIONS);
    // Twice, so that something is found in the memo.
    for _ in 0..2 {
        project.expect(&["run", "tells"], 0);
    }
    project.expect(&["run", "branches"], 0);
    project.expect(&["rerun", "latest", "--select", "parts"], 0);
    project.expect(&["run", "fails"], 100);
    canceled(&project);

    let (told, _) = project.expect(&["query", "SELECT DISTINCT kind FROM events", "--json"], 0);
    let told: Value = serde_json::from_str(&told).unwrap();
    let told: BTreeSet<_> =
        told.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect();
    for (kind, file, test) in ELSEWHERE {
        assert!(!told.contains(kind), "{kind} is told here: it need not be told elsewhere");
        let source = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(source.contains(&format!("fn {test}")), "{file} has no test `{test}`, which is to see {kind}");
    }
    let elsewhere: BTreeSet<_> = ELSEWHERE.iter().map(|(kind, ..)| (*kind).to_owned()).collect();
    let untold: Vec<_> = kinds().into_iter().filter(|kind| !told.contains(kind) && !elsewhere.contains(kind)).collect();
    assert!(untold.is_empty(), "nothing that runs tells of {untold:?}: add a job here, or name the test that sees it");
}

/// A run that somebody wants to end before it begins.
fn canceled(project: &Project) {
    runtime().block_on(async {
        let yard = project.yard();
        let loaded = opyard_server::Project::load(&yard, &project.path().join("opyard.yaml")).await.unwrap();
        let launch = opyard_server::model::plan::Launch { job: "branches", environment: None, settings: &[] };
        let plan = loaded.plan(&yard, &launch).await.unwrap().plan;
        let run = yard.launch(plan.into(), opyard_server::LaunchOptions::default()).await.unwrap().run;
        yard.drive(run, Box::pin(std::future::ready("the test wants it".to_owned()))).await.unwrap();
        yard.close().await;
    });
}
