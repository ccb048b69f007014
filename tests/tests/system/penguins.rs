//! The README's job: what runs again, and what does not, told by the events.

use crate::harness::{Project, set};

const STEPS: [&str; 7] = ["load", "clean", "split", "fit", "eval.predict", "eval.score", "card"];
const BELOW_LOAD: [&str; 6] = ["clean", "split", "fit", "eval.predict", "eval.score", "card"];

#[test]
fn only_what_changed_runs_again() {
    let project = Project::example("penguins");
    project.expect(&["run", "train"], 0);
    let first = project.last_run();
    assert_eq!(first.steps("step_success"), set(&STEPS));
    assert!(first.metric("accuracy").unwrap() >= 0.95, "accuracy {:?}", first.metric("accuracy"));
    let card = project.path().join("reports/train").join(first.run.to_string()).join("card.card.md");
    let card = std::fs::read_to_string(card).unwrap();
    assert!(card.contains("98.8 %") || card.contains("0.988"), "the model card tells the accuracy:\n{card}");

    project.expect(&["run", "train"], 0);
    let second = project.last_run();
    assert_eq!(second.steps("step_start"), set(&["load"]));
    assert_eq!(second.steps("step_memoized"), set(&BELOW_LOAD));
    assert_eq!(second.metric("accuracy"), first.metric("accuracy"), "a memo says again what the op said");
    let card = project.path().join("reports/train").join(second.run.to_string()).join("card.card.md");
    assert!(card.is_file(), "an IO manager is handed what the memo has");

    project.expect(&["run", "train", "--set", "split.seed=8"], 0);
    let reseeded = project.last_run();
    assert_eq!(reseeded.steps("step_memoized"), set(&["clean"]));
    assert_eq!(reseeded.steps("step_start"), set(&["load", "split", "fit", "eval.predict", "eval.score", "card"]));

    // One byte of a row that `clean` drops: `clean` runs, gives the same bytes, and nothing below it runs.
    let csv = project.path().join("data/penguins.csv");
    let text = std::fs::read_to_string(&csv).unwrap();
    let dropped = text.lines().find(|line| line.contains(",NA,NA,NA,NA,")).unwrap();
    let last = dropped.chars().last().unwrap();
    let altered = format!("{}{}", &dropped[..dropped.len() - 1], if last == '7' { '8' } else { '7' });
    std::fs::write(&csv, text.replacen(dropped, &altered, 1)).unwrap();
    project.expect(&["run", "train"], 0);
    let altered = project.last_run();
    assert_eq!(altered.steps("step_start"), set(&["load", "clean"]));
    assert_eq!(altered.steps("step_memoized"), set(&["split", "fit", "eval.predict", "eval.score", "card"]));

    project.expect(&["run", "train", "--no-memo"], 0);
    assert_eq!(project.last_run().steps("step_success"), set(&STEPS));
}

#[test]
fn a_plan_foretells_the_memo() {
    let project = Project::example("penguins");
    let (before, _) = project.expect(&["plan", "train", "--json"], 0);
    assert!(!before.contains("memo_if_unchanged") && !before.contains("\"memo\""), "{before}");
    project.expect(&["run", "train"], 0);
    let (after, _) = project.expect(&["plan", "train", "--json"], 0);
    assert_eq!(after.matches("memo_if_unchanged").count(), BELOW_LOAD.len(), "{after}");
    let (text, _) = project.expect(&["plan", "train"], 0);
    assert!(text.contains("memo if the output of load is unchanged"), "{text}");
}

#[test]
fn dynamic_and_optional_outputs_of_another_author() {
    let project = Project::example("textkit");
    project.expect(&["run", "book"], 0);
    let run = project.last_run();
    let mapped: Vec<_> = run.steps("step_success").into_iter().filter(|step| step.starts_with("words[")).collect();
    assert_eq!(mapped.len(), 12, "one step per chapter: {mapped:?}");
    assert_eq!(run.steps("step_skipped"), set(&["back"]));
    assert!(run.steps("step_success").contains("summary"), "an optional input whose source was skipped skips nothing");

    project.expect(&["run", "book"], 0);
    let again = project.last_run();
    assert_eq!(again.steps("step_start"), set(&["read"]));
    assert_eq!(again.steps("step_memoized").len(), run.steps("step_success").len() - 1);
}

#[test]
fn components_of_two_authors_in_one_job() {
    let project = Project::example("mixed");
    let data = crate::harness::root().join("guest-examples/penguins/data");
    let definitions = std::fs::read_to_string(project.path().join("opyard.yaml")).unwrap();
    project.define(&definitions.replace("file:../penguins/data", &format!("file://{}", data.display())));
    project.expect(&["run", "words_of_the_card"], 0);
    assert!(project.last_run().steps("step_success").contains("top"));
}

/// What is printed is taken again, and says what holds already.
#[test]
fn a_scaffold_is_a_config_that_changes_nothing() {
    let project = Project::example("penguins");
    project.expect(&["run", "train"], 0);
    let (scaffold, _) = project.expect(&["scaffold", "train"], 0);
    assert!(scaffold.contains("\nload:\n") && scaffold.contains("  object: \"penguins.csv\"\n"), "{scaffold}");
    std::fs::write(project.path().join("config.yaml"), &scaffold).unwrap();
    project.expect(&["run", "train", "--config", "config.yaml"], 0);
    assert_eq!(project.last_run().steps("step_memoized"), set(&BELOW_LOAD));
    // Also a job that cannot run for want of a config.
    let definitions = std::fs::read_to_string(project.path().join("opyard.yaml")).unwrap();
    project.define(&definitions.replace(", config: { object: penguins.csv }", ""));
    project.expect(&["check"], 2);
    let (bare, _) = project.expect(&["scaffold", "train"], 0);
    assert!(bare.contains("\nload:\n") && bare.contains("  object: \n"), "{bare}");
    let (schema, _) = project.expect(&["schema", "train"], 0);
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["properties"]["split"]["properties"]["seed"]["default"], 0, "{schema}");
    project.expect(&["scaffold", "trian"], 2);
}
