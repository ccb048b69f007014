//! How values came to be, and that they come to be again.

use std::process::Command;

use serde_json::Value;

use crate::harness::Project;

fn json(project: &Project, arguments: &[&str]) -> Value {
    serde_json::from_str(&project.expect(arguments, 0).0).unwrap()
}

fn verdicts(verified: &Value) -> Vec<(String, String)> {
    let steps = verified["steps"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    steps.map(|step| (text(&step["step"]), text(&step["verdict"]))).collect()
}

#[test]
fn a_value_says_what_it_was_made_of() {
    let project = Project::example("penguins");
    project.expect(&["run", "train"], 0);
    let statement = json(&project, &["provenance", "latest", "fit"]);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    project.expect(&["cat", "latest", "fit", "-o", "model"], 0);
    let told = Command::new("sha256sum").arg("model").current_dir(project.path()).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert_eq!(statement["subject"][0]["digest"]["sha256"].as_str(), told.split(' ').next());

    let built = &statement["predicate"]["buildDefinition"];
    assert_eq!(built["externalParameters"]["op"], "fit");
    assert_eq!(built["internalParameters"]["result"], "executed");
    let materials = built["resolvedDependencies"].as_array().unwrap();
    assert_eq!(materials[0]["name"], "component");
    // The input is the very value that the step before yielded.
    let input = materials.iter().find(|material| material["name"] == "input:rows").unwrap();
    assert_eq!(input["annotations"]["from"][0], "split.train");
    let before = json(&project, &["provenance", "latest", "split.train"]);
    assert_eq!(before["subject"][0]["digest"]["blake3"], input["digest"]["blake3"]);
    assert_eq!(before["subject"][0]["annotations"]["identity"], input["annotations"]["identity"]);

    // From the memo: it says so, and where it was computed.
    let first = project.last_run().run.to_string();
    project.expect(&["run", "train"], 0);
    let again = json(&project, &["provenance", "latest", "fit"]);
    assert_eq!(again["predicate"]["buildDefinition"]["internalParameters"]["result"], "memoized");
    assert_eq!(again["predicate"]["buildDefinition"]["internalParameters"]["origin"], first.as_str());
    assert_eq!(again["subject"][0]["digest"], statement["subject"][0]["digest"]);
}

#[test]
fn a_run_comes_out_the_same_here_and_elsewhere() {
    let project = Project::example("textkit");
    project.expect(&["run", "book"], 0);
    let (runs, _) = project.expect(&["runs", "--json"], 0);
    let here = json(&project, &["verify", "latest", "--json"]);
    let elsewhere = json(&project, &["verify", "latest", "--at", "elsewhere/yard", "--json"]);
    assert_eq!(verdicts(&here), verdicts(&elsewhere));
    let verdicts = verdicts(&here);
    let of = |step: &str| verdicts.iter().find(|(name, _)| name == step).map(|(_, verdict)| verdict.as_str());
    assert_eq!((of("read"), of("back")), (Some("unverified"), Some("unverified")), "{verdicts:?}");
    assert_eq!((of("chapters"), of("summary")), (Some("same"), Some("same")), "{verdicts:?}");
    let items = verdicts.iter().filter(|(step, verdict)| step.starts_with("words[") && verdict == "same").count();
    assert!(items > 5, "{verdicts:?}");
    assert_eq!(runs, project.expect(&["runs", "--json"], 0).0, "nothing is recorded");
}
