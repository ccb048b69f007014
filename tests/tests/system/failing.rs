//! Ops that fail, loop, take too much, or are stopped.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use opyard_tests::comes_true;

use crate::harness::{Project, set};

fn job(steps: &str) -> Project {
    Project::new(&format!(
        "opyard: 1\ncomponents:\n  probe: {{ path: \"{{{{probe}}}}\" }}\njobs:\n  work:\n    steps:\n{steps}"
    ))
}

#[test]
fn a_failing_op_is_told_with_all_there_is_to_know() {
    let project = job(
        "      a: { op: probe.fail, inputs: { after: [] }, config: { description: the rows make no sense } }\n      \
         b: { op: probe.noop, inputs: { after: a } }\n      \
         c: { op: probe.const, config: { value: 1 } }\n",
    );
    let (out, err) = project.expect(&["run", "work"], 100);
    let told = out + &err;
    for part in ["OPY-101", "the rows make no sense", "species", "Gentoo", "docs/errors/OPY-101.md", "opyard show"] {
        assert!(told.contains(part), "`{part}` is not in:\n{told}");
    }
    let run = project.last_run();
    assert_eq!(run.steps("step_failure"), set(&["a"]));
    assert_eq!(run.steps("step_skipped"), set(&["b"]));
    assert_eq!(run.steps("step_success"), set(&["c"]), "an independent branch goes on");
    assert_eq!(run.events.last().unwrap().event.kind(), "run_failure");
}

#[test]
fn each_way_to_go_too_far_has_its_code() {
    for (step, code) in [
        ("{ op: probe.panics }", "OPY-102"),
        ("{ op: probe.spin, limits: { fuel: 10000000 } }", "OPY-104"),
        ("{ op: probe.spin, limits: { cpu: 200ms } }", "OPY-105"),
        ("{ op: probe.spin, timeout: 300ms }", "OPY-106"),
        ("{ op: probe.hog, limits: { memory: 32MiB } }", "OPY-107"),
        ("{ op: probe.unlisted }", "OPY-115"),
    ] {
        let project = job(&format!("      a: {step}\n"));
        let (_, err) = project.expect(&["run", "work"], 100);
        assert!(err.contains(code), "{step}: {code} is not in:\n{err}");
    }
}

#[test]
fn a_run_ends_when_its_policy_says_so() {
    let with = |policy: &str, steps: &str| {
        let definitions = "opyard: 1\ncomponents:\n  probe: { path: \"{{probe}}\" }\njobs:\n  work:\n";
        Project::new(&format!("{definitions}    policy: {{ {policy} }}\n    steps:\n{steps}"))
    };
    let spins = "      spins: { op: probe.spin, limits: { fuel: 1000000000000 } }\n";
    let fails =
        format!("{spins}      fails: {{ op: probe.fail, inputs: {{ after: [] }}, config: {{ description: no }} }}\n");
    let project = with("cancel_run_when: [ { when: \"failed('fails')\", message: there is no book } ]", &fails);
    let (out, err) = project.expect(&["run", "work"], 130);
    assert!((out + &err).contains("there is no book"));
    let run = project.last_run();
    assert_eq!(run.events.last().unwrap().event.kind(), "run_canceled");
    let project = with("timeout: 500ms", spins);
    let (out, _) = project.expect(&["run", "work"], 100);
    assert!(out.contains("OPY-121"), "{out}");
}

#[test]
fn an_interrupt_cancels_cleanly() {
    let project = job(
        "      a: { op: probe.spin, limits: { fuel: 1000000000000 } }\n      b: { op: probe.noop, inputs: { after: a } }\n",
    );
    let mut child = project.command(&["run", "work"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| project.path().join(".opyard/opyard.db").is_file() && project.last_step_started());
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let run = project.last_run();
    assert_eq!(run.events.last().unwrap().event.kind(), "run_canceled");
    assert_eq!(run.steps("step_skipped"), set(&["b"]));
}

/// A run of a step that never ends, once the step has started, with whatever it says.
struct Spinning {
    project: Project,
    child: Child,
    says: Lines<BufReader<ChildStderr>>,
}

impl Spinning {
    fn start() -> Self {
        let project = job("      a: { op: probe.spin, limits: { fuel: 1000000000000 } }\n");
        let mut child = project.command(&["run", "work"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut this = Self { project, child, says };
        this.wait_for("started");
        this
    }

    fn wait_for(&mut self, words: &str) {
        assert!(self.says.by_ref().any(|line| line.unwrap().contains(words)), "it never says '{words}'");
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn hold_database(&self) -> rusqlite::Connection {
        let other = rusqlite::Connection::open(self.project.path().join(".opyard/opyard.db")).unwrap();
        other.busy_timeout(Duration::from_secs(60)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other
    }
}

#[test]
fn being_told_to_end_cancels_cleanly() {
    let mut run = Spinning::start();
    run.signal("-TERM");
    assert_eq!(run.child.wait().unwrap().code(), Some(130));
    assert_eq!(run.project.last_run().events.last().unwrap().event.kind(), "run_canceled");
}

/// Somebody holds the database for some time: the run waits for it.
#[test]
fn a_run_waits_for_a_lock_that_passes() {
    let mut run = Spinning::start();
    let other = run.hold_database();
    run.signal("-INT");
    run.wait_for("canceling: waiting");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(run.child.wait().unwrap().code(), Some(130));
    assert_eq!(run.project.last_run().events.last().unwrap().event.kind(), "run_canceled");
}

/// The second interrupt waits for nothing: not even for a database that is held for ever.
#[test]
fn a_second_interrupt_stops_at_once() {
    let mut run = Spinning::start();
    let other = run.hold_database();
    run.signal("-INT");
    run.wait_for("once more stops at once");
    run.signal("-INT");
    assert_eq!(run.child.wait().unwrap().code(), Some(130));
    other.execute_batch("ROLLBACK").unwrap();
    assert_ne!(run.project.last_run().events.last().unwrap().event.kind(), "run_canceled");
}

#[test]
fn another_process_can_cancel() {
    let project = job("      a: { op: probe.spin, limits: { fuel: 1000000000000 } }\n");
    let mut child = project.command(&["run", "work"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| project.path().join(".opyard/opyard.db").is_file() && project.last_step_started());
    project.expect(&["cancel", "latest"], 0);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(project.last_run().events.last().unwrap().event.kind(), "run_canceled");
}

impl Project {
    fn last_step_started(&self) -> bool {
        let output =
            self.opyard(&["query", "select count(*) as n from events where kind = 'step_start'", "--format", "csv"]);
        String::from_utf8_lossy(&output.stdout).lines().nth(1) == Some("1")
    }
}

/// Waits for a condition.
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    assert!(comes_true(condition), "the condition did not come true");
}
