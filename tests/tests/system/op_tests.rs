//! `opyard op test`: ops on the inputs of a file, in the real sandbox, without a yard.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Project, component, root};

/// The test files of the examples.
const FILES: [&str; 2] = ["penguins/penguins.test.yaml", "probe/resources.test.yaml"];

/// A copy of the test files of an example, whose component is the one of the checkout.
fn copied(file: &str, project: &Project) -> String {
    let example = root().join("guest-examples").join(file);
    let text = std::fs::read_to_string(&example).unwrap();
    let guests = root().join("target/guests");
    let name = Path::new(file).file_name().unwrap().to_str().unwrap();
    let text = text.replace("../../target/guests", &guests.display().to_string());
    let data = example.parent().unwrap().join("data").display().to_string();
    std::fs::write(project.path().join(name), text.replace("file: data", &format!("file: {data}"))).unwrap();
    let snapshot = example.with_file_name(name.replace(".test.yaml", ".test.snap"));
    std::fs::copy(snapshot, project.path().join(name.replace(".test.yaml", ".test.snap"))).unwrap();
    name.to_owned()
}

#[test]
fn the_examples_do_what_their_snapshots_say() {
    for file in FILES {
        let path = root().join("guest-examples").join(file);
        assert!(component(file.split('/').next().unwrap()).is_file());
        let project = Project::new("");
        let (out, _) = project.expect(&["op", "test", path.to_str().unwrap()], 0);
        assert!(out.contains("  ok      "), "{out}");
        assert!(!project.path().join(".opyard").exists(), "a test of an op makes no yard");
    }
}

#[test]
fn a_difference_is_shown_and_written_down_when_asked() {
    let project = Project::new("");
    let name = copied(FILES[1], &project);
    let snapshot = project.path().join(name.replace(".test.yaml", ".test.snap"));
    let recorded = std::fs::read_to_string(&snapshot).unwrap();

    // Another count than before; a case that is new; one that is gone.
    let file = project.path().join(&name);
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("times: 3 }", "times: 5 }").replace("  may_only_read:", "  may_only_look:");
    std::fs::write(&file, text).unwrap();
    let (out, err) = project.expect(&["op", "test"], 100);
    for told in ["differs counts_on", "new     may_only_look", "gone    may_only_read", "ok      sees_a_secret"] {
        assert!(out.contains(told), "{told}: {out}");
    }
    assert!(out.contains("      -       value: 7\n") && out.contains("      +       value: 9\n"), "{out}");
    assert!(err.contains("--update"), "{err}");
    assert_eq!(std::fs::read_to_string(&snapshot).unwrap(), recorded, "nothing is written unless asked for");

    let (json, _) = project.expect(&["op", "test", ".", "--case", "counts_on", "--json"], 100);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["cases"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json[0]["cases"][0]["verdict"], "differs");

    project.expect(&["op", "test", "--update"], 0);
    let (out, _) = project.expect(&["op", "test"], 0);
    assert!(!out.contains("gone") && out.contains("ok      may_only_look"), "{out}");
    assert_ne!(std::fs::read_to_string(&snapshot).unwrap(), recorded);
}

#[test]
fn a_case_that_ends_in_another_way_is_never_written() {
    let project = Project::new("");
    let test = |body: &str| {
        let text = format!("opyard_test: 1\ncomponent: {}\ncases:\n{body}", component("probe").display());
        std::fs::write(project.path().join("a.test.yaml"), text).unwrap();
    };
    test("  fails: { op: hog, limits: { memory: 8MiB }, expect: OPY-102 }\n");
    let (out, _) = project.expect(&["op", "test", "--update"], 100);
    assert!(out.contains("FAILED  fails") && out.contains("expected OPY-102, but it failed with OPY-107"), "{out}");
    assert!(!project.path().join("a.test.snap").exists());

    // Mistakes stand where they are, in the file and against the op.
    test(
        "  one: { op: touch, config: { pat: x }, resources: { stor: { kind: object_store } } }\n  two: { op: touhc }\n",
    );
    let (_, err) = project.expect(&["op", "test", "a.test.yaml"], 2);
    for told in ["OPY-210", "did you mean `store`", "OPY-219", "OPY-205", "did you mean `touch`", "a.test.yaml:4:"] {
        assert!(err.contains(told), "{told}: {err}");
    }
    project.expect(&["op", "test", "--case", "three"], 2);
    project.expect(&["op", "test", "nowhere"], 75);
    let (schema, _) = project.expect(&["schema", "--op-test"], 0);
    assert!(serde_json::from_str::<Value>(&schema).unwrap()["$defs"]["case"].is_object());
}
