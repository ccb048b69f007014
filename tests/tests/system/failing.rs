//! Ops that fail, loop, take too much, or are stopped.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{Project, binaries, set};

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
fn an_interrupt_cancels_cleanly() {
    let project = job(
        "      a: { op: probe.spin, limits: { fuel: 1000000000000 } }\n      b: { op: probe.noop, inputs: { after: a } }\n",
    );
    let mut child = project.start();
    let pid = child.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.exit_code(), Some(130));
    let run = project.last_run();
    assert_eq!(run.events.last().unwrap().event.kind(), "run_canceled");
    assert_eq!(run.steps("step_skipped"), set(&["b"]));
}

#[test]
fn another_process_can_cancel() {
    let project = job("      a: { op: probe.spin, limits: { fuel: 1000000000000 } }\n");
    let mut child = project.start();
    project.expect(&["cancel", "latest"], 0);
    assert_eq!(child.exit_code(), Some(130));
    assert_eq!(project.last_run().events.last().unwrap().event.kind(), "run_canceled");
}

/// A run in the background; it dies with its test.
struct Running(Child);

impl Running {
    fn exit_code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Project {
    /// Runs the job in the background, and waits until its first step runs.
    fn start(&self) -> Running {
        let child = Command::new(binaries().join("opyard"))
            .args(["run", "work"])
            .current_dir(self.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Running(child);
        wait_until(|| self.path().join(".opyard/opyard.db").is_file() && self.last_step_started());
        running
    }

    fn last_step_started(&self) -> bool {
        let output =
            self.opyard(&["query", "select count(*) as n from events where kind = 'step_start'", "--format", "csv"]);
        String::from_utf8_lossy(&output.stdout).lines().nth(1) == Some("1")
    }
}

/// Waits for a condition, looking again now and then; a minute is for ever.
fn wait_until(condition: impl Fn() -> bool) {
    let (sender, looks) = std::sync::mpsc::channel::<()>();
    for _ in 0..600 {
        if condition() {
            return;
        }
        let _ = looks.recv_timeout(Duration::from_millis(100));
    }
    drop(sender);
    panic!("the condition did not come true");
}
