//! `gc`, `backup` and `restore`, as an operator uses them.

use serde_json::Value;

use crate::harness::Project;

fn json(project: &Project, args: &[&str]) -> Value {
    let (out, _) = project.expect(args, 0);
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_yard_is_cleaned_up_copied_and_restored() {
    let project = Project::new(
        "opyard: 1\ncomponents:\n  probe: { path: \"{{probe}}\" }\njobs:\n  work:\n    steps:\n      \
         one: { op: probe.const, config: { value: 1 } }\n      \
         sum: { op: probe.add, inputs: { numbers: [one] } }\n",
    );
    for value in ["1", "2", "3"] {
        project.expect(&["run", "work", "--set", &format!("one.value={value}")], 0);
    }
    let (sum, _) = project.expect(&["cat", "latest", "sum"], 0);

    // A dry run says what a real one does; what the newest run and the memo name stays.
    let gc = ["gc", "--keep-runs", "1", "--min-age", "0s", "--json"];
    let mut dry = json(&project, &[&gc[..], &["--dry-run"]].concat());
    let done = json(&project, &gc);
    assert_eq!(dry["dry_run"].take(), Value::Bool(true));
    for field in ["runs", "events", "artifacts", "objects", "rewritten", "freed"] {
        assert_eq!(dry[field], done[field], "{field}: {dry} {done}");
    }
    assert_eq!(done["runs"], 2, "{done}");
    assert!(done["artifacts"]["count"].as_u64().unwrap() > 0, "the plans of those runs: {done}");
    assert_eq!(json(&project, &["runs", "--json"]).as_array().unwrap().len(), 1);
    assert_eq!(project.expect(&["cat", "latest", "sum"], 0).0, sum);
    let run = json(&project, &["run", "work", "--set", "one.value=2", "--json"]);
    assert_eq!(run["counts"]["memoized"], 2, "the memo still has the results: {run}");
    let done = json(&project, &["gc", "--keep-runs", "1", "--keep-memos-for", "0s", "--min-age", "0s", "--json"]);
    assert!(done["memos"].as_u64().unwrap() > 0, "{done}");
    let (sum, _) = project.expect(&["cat", "latest", "sum"], 0);

    // A copy is a yard: also of what was made after clean-up.
    let copy = project.path().join("copy");
    let copy = copy.to_str().unwrap();
    let manifest = json(&project, &["backup", copy, "--json"]);
    assert!(manifest["files"].as_array().unwrap().len() > 1, "the component is in it: {manifest}");
    project.expect(&["backup", copy], 2);
    project.expect(&["restore", copy], 2);
    let yard = project.path().join("restored");
    let yard = yard.to_str().unwrap();
    let restored = json(&project, &["restore", copy, "--yard", yard, "--json"]);
    assert!(restored["artifacts"]["count"].as_u64().unwrap() > 0, "{restored}");
    assert_eq!(project.expect(&["cat", "latest", "sum", "--yard", yard], 0).0, sum);
    project.expect(&["run", "work", "--yard", yard], 0);

    // One that was interrupted is none.
    std::fs::remove_file(project.path().join("copy/backup.json")).unwrap();
    let (_, told) = project.expect(&["restore", copy, "--yard", &format!("{yard}-again")], 75);
    assert!(told.contains("OPY-314"), "{told}");
}
