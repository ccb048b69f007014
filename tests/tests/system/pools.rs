//! Pools across processes: a slot is waited for, and freed when its holder is killed.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::failing::wait_until;
use crate::harness::Project;

fn spawn(project: &Project, job: &str) -> Child {
    project.command(&["run", job]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// How many hold a slot of a pool, and wait for one.
fn count(project: &Project, pool: &str) -> (usize, usize) {
    let output = project.command(&["pools", "--json"]).output().unwrap();
    let pools: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = pools.as_array().unwrap().iter().find(|found| found["pool"] == pool);
    let count = |of: &str| found.map_or(0, |found| found[of].as_array().unwrap().len());
    (count("held"), count("waiting"))
}

#[test]
fn a_slot_is_waited_for_and_freed_when_its_holder_is_killed() {
    let project = Project::new(
        "opyard: 1\ncomponents:\n  probe: { path: \"{{probe}}\" }\n\
         pools: { db: { limit: 1 } }\nrun_queue: { tag_limits: [ { key: alone, limit: 1 } ] }\njobs:\n  \
         holds:\n    steps:\n      a: { op: probe.spin, pool: db, limits: { fuel: 1000000000000 } }\n  \
         wants:\n    steps:\n      b: { op: probe.const, config: { value: 1 }, pool: db }\n  \
         alone:\n    tags: { alone: please }\n    steps:\n      c: { op: probe.const, config: { value: 2 }, pool: db }\n",
    );
    project.expect(&["check"], 0);
    let mut holds = spawn(&project, "holds");
    wait_until(|| count(&project, "db") == (1, 0));
    // A run that goes alone waits for the slot; the next of its kind waits for that run.
    let mut alone = [spawn(&project, "alone"), spawn(&project, "alone")];
    wait_until(|| count(&project, "db") == (1, 1) && count(&project, "runs: alone") == (1, 1));
    let mut wants = spawn(&project, "wants");
    wait_until(|| count(&project, "db") == (1, 2));
    let waiting = "select count(*) from events where kind = 'step_waiting'";
    wait_until(|| project.expect(&["query", waiting, "--format", "csv"], 0).0.lines().last() == Some("2"));
    // SIGKILL.
    holds.kill().unwrap();
    holds.wait().unwrap();
    assert!(wants.wait().unwrap().success());
    assert!(alone.iter_mut().all(|run| run.wait().unwrap().success()));
    assert_eq!(count(&project, "db"), (0, 0));
}
