//! IO managers: a component that keeps outputs, and inputs that are loaded from outside.

use opyard_server::model::event::{LoadedValue, RunEvent};

use crate::harness::{Project, Run, component, root, set};

fn loaded(run: &Run) -> Vec<&LoadedValue> {
    let loaded = run.events.iter().filter_map(|recorded| match &recorded.event {
        RunEvent::LoadedInput { input, .. } => Some(input),
        _ => None,
    });
    loaded.collect()
}

/// The job of `guest-examples/jobs/io_managers`, in a folder of its own.
fn example() -> Project {
    let examples = root().join("guest-examples");
    let text = std::fs::read_to_string(examples.join("jobs/io_managers/opyard.yaml")).unwrap();
    let text = text
        .replace("../../../target/guests", &root().join("target/guests").display().to_string())
        .replace("file:../../", &format!("file://{}/", examples.display()));
    Project::new(&text)
}

#[test]
fn a_lake_is_kept_by_a_component_and_read_by_another_job() {
    let project = example();
    project.expect(&["run", "fill"], 0);
    let fill = project.last_run();
    assert_eq!(fill.steps("handled_output"), set(&["load", "clean", "split"]));
    let lake = project.path().join("lake/penguins");
    let folders = |step: &str| {
        std::fs::read_dir(&lake)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(step))
            .count()
    };
    assert_eq!((folders("split"), folders("load")), (1, 1), "the other output of `split` is the artifact store's");
    let manifest = std::fs::read_to_string(lake.join("split.train/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert!(manifest["parts"].as_array().unwrap().len() > 1);

    // Loaded elsewhere, it is the value that was yielded.
    project.expect(&["run", "train"], 0);
    let train = project.last_run();
    let rows = fill.events.iter().find_map(|recorded| match &recorded.event {
        RunEvent::StepOutput { output, .. } if output.port.as_str() == "train" => Some(output.value.artifact),
        _ => None,
    });
    let from_lake = loaded(&train).into_iter().find(|input| input.manager.as_str() == "lake").unwrap();
    assert_eq!(Some(from_lake.artifact), rows);
    assert!(train.metric("accuracy").is_some_and(|accuracy| accuracy > 0.9));
    assert!(project.path().join("reports/train/score.metrics.json").is_file());

    // A hit hands its value over too, so that the lake is whole again.
    std::fs::remove_dir_all(project.path().join("lake")).unwrap();
    project.expect(&["run", "fill"], 0);
    assert_eq!(project.last_run().steps("step_memoized"), set(&["clean", "split"]));
    assert!(lake.join("split.train/manifest.json").is_file());
}

#[test]
fn what_is_outside_is_loaded_again_when_it_has_changed() {
    let text = "opyard: 1
components: { textkit: { path: \"{{textkit}}\" } }
jobs:
  count:
    steps:
      stats: { op: textkit.stats, inputs: { text: { load: { manager: files, locator: { path: book.txt } } } } }
      again: { op: textkit.merge, inputs: { parts: [stats] } }
io_managers:
  files: { kind: object_store, url: \"file:./texts\" }
";
    let project = Project::new(&text.replace("{{textkit}}", &component("textkit").display().to_string()));
    let book = project.path().join("texts/book.txt");
    std::fs::create_dir_all(book.parent().unwrap()).unwrap();
    // Nothing is there: the step says so, and the plan too.
    let (out, _) = project.expect(&["plan", "count"], 0);
    assert!(out.contains("`files` cannot tell whether text has changed"), "{out}");
    let (_, err) = project.expect(&["run", "count"], 100);
    assert!(err.contains("OPY-131") && err.contains("there is no 'book.txt'"), "{err}");

    std::fs::write(&book, "one two three").unwrap();
    project.expect(&["run", "count"], 0);
    let first = project.last_run();
    assert!(first.steps("step_memoized").is_empty());
    assert!(loaded(&first)[0].fingerprint.is_some());
    let (out, _) = project.expect(&["plan", "count"], 0);
    assert!(out.contains("2 in the memo"), "{out}");
    project.expect(&["run", "count"], 0);
    let second = project.last_run();
    assert_eq!(second.steps("step_memoized"), set(&["stats", "again"]));
    assert!(loaded(&second).is_empty(), "nothing is read that is not needed");

    std::fs::write(&book, "one two three four").unwrap();
    project.expect(&["run", "count"], 0);
    let third = project.last_run();
    assert!(third.steps("step_start").contains("stats"));
    assert_ne!(loaded(&third)[0].artifact, loaded(&first)[0].artifact);
    // What was loaded stays with its run.
    project.expect(&["gc"], 0);
    project.expect(&["rerun", "latest", "--from", "again"], 0);
}
