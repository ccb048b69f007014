//! `guest-examples/jobs`: for each capability a small job that runs, and its bad twin, whose error stands beside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use opyard_server::model::definitions::Definitions;
use opyard_server::model::diagnostic::Source;

use crate::harness::{Project, root};
use crate::server::Server;

/// What the definitions of these jobs name, and the tests have: a variable with a secret, and a server.
const KEY: (&str, &str) = ("OPYARD_EXAMPLE_KEY", "an-example-of-a-key");
const SERVER: &str = "http://127.0.0.1:8080";

/// The folders, in order.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir(root().join("guest-examples/jobs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// A folder of its own with these definitions, whose components and data are those of the checkout.
fn project(folder: &Path, file: &str, server: &Server) -> Project {
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let examples = root().join("guest-examples");
    let text = text
        .replace("../../../target/guests", &root().join("target/guests").display().to_string())
        .replace(SERVER, &server.origin())
        .replace("file:../../", &format!("file://{}/", examples.display()));
    Project::new(&text)
}

/// Runs the binary with the secret in its environment, and expects this exit code.
fn expect(project: &Project, arguments: &[&str], code: i32) -> (String, String) {
    let output = project.command(arguments).env(KEY.0, KEY.1).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "opyard {}\n--- out\n{out}\n--- err\n{err}", arguments.join(" "));
    (out.into_owned(), err.into_owned())
}

#[test]
fn every_capability_has_a_job_that_runs() {
    let folders = folders();
    assert!(!folders.is_empty());
    let server = Server::new();
    for folder in folders {
        let project = project(&folder, "opyard.yaml", &server);
        expect(&project, &["check"], 0);
        let text = std::fs::read(project.path().join("opyard.yaml")).unwrap();
        let source = Source::from_bytes("opyard.yaml", &text).unwrap();
        let definitions = Definitions::parse(&source, project.path()).unwrap();
        for (job, _) in definitions.jobs() {
            expect(&project, &["run", job.as_str()], 0);
            // Again, on what is remembered.
            expect(&project, &["run", job.as_str()], 0);
        }
    }
}

/// A step for each paragraph of each chapter, collected by chapter and as a whole; again on what is remembered, and one alone.
#[test]
fn items_of_items_are_mapped_and_collected_level_by_level() {
    let project = project(&root().join("guest-examples/jobs/dynamic_outputs"), "opyard.yaml", &Server::new());
    project.expect(&["run", "book"], 0);
    let run = project.last_run();
    let done = run.steps("step_success");
    let of = |step: &str| done.iter().filter(|key| key.starts_with(&format!("{step}["))).count();
    assert_eq!((of("paragraphs"), of("chapter"), of("summaries")), (12, 12, 12));
    assert!(of("words") > 500 && done.contains("words[chapter-01][p-001]") && done.contains("book"), "{done:?}");
    let read =
        |name: &str| serde_json::from_str::<serde_json::Value>(&project.expect(&["cat", "latest", name], 0).0).unwrap();
    let (book, last) = (read("book.result"), read("chapter[chapter-12].result"));
    assert_eq!(book["parts"].as_object().unwrap().len(), of("words"));
    let parts = last["parts"].as_object().unwrap();
    assert!(parts.keys().all(|key| key.starts_with("chapter-12/p-")), "{parts:?}");
    assert_eq!(parts["chapter-12/p-001"], book["parts"]["chapter-12/p-001"]);
    let by_chapter: u64 =
        (1..=12).map(|n| read(&format!("chapter[chapter-{n:02}].result"))["total"]["words"].as_u64().unwrap()).sum();
    assert_eq!(by_chapter, book["total"]["words"].as_u64().unwrap());

    project.expect(&["run", "book"], 0);
    assert_eq!(project.last_run().steps("step_memoized").len(), done.len() - 1);
    project.expect(&["rerun", "latest", "--select", "words[chapter-03],chapter[chapter-03]"], 0);
    let again = project.last_run();
    let ran: BTreeSet<_> = again.steps("step_memoized").union(&again.steps("step_success")).cloned().collect();
    assert!(ran.contains("chapter[chapter-03]") && !ran.contains("chapter[chapter-04]"), "{ran:?}");
    project.expect(&["rerun", "latest", "--select", "words[chapter-03][p-001][more]"], 2);
}

#[test]
fn the_bad_twin_of_each_is_told_what_is_wrong() {
    let server = Server::new();
    for folder in folders() {
        let project = project(&folder, "bad.yaml", &server);
        let text = std::fs::read_to_string(folder.join("bad.yaml")).unwrap();
        let call = text.lines().next().and_then(|line| line.strip_prefix("# exits "));
        let (code, call) =
            call.and_then(|call| call.split_once(": ")).expect("the first line says `# exits CODE: CALL`");
        let call: Vec<_> = call.split(' ').collect();
        let (out, err) = expect(&project, &call, code.parse().unwrap());
        // What differs from run to run stands elsewhere.
        let told: Vec<_> = [out, err]
            .iter()
            .flat_map(|text| text.split("\n\n"))
            .filter(|paragraph| paragraph.contains("error[OPY-"))
            .map(|paragraph| paragraph.trim_end().to_owned())
            .collect();
        insta::with_settings!({
            snapshot_path => &folder, prepend_module_to_snapshot => false, omit_expression => true,
        }, {
            insta::assert_snapshot!("bad", told.join("\n\n"));
        });
    }
}
