//! Running again: from a failure, from a step, a part of a job, and whenever a file changes.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::harness::{Project, set};

const ITEMS: [&str; 3] = ["twice[item-0]", "twice[item-1]", "twice[item-2]"];

/// A job with a mapped step, whose step `late` fails unless it is told otherwise. It is never memoised: it knows its attempt.
fn failing() -> Project {
    Project::new(
        "opyard: 1\ncomponents:\n  probe: { path: \"{{probe}}\" }\njobs:\n  work:\n    steps:\n      \
         wide:  { op: probe.fan, config: { items: 3 } }\n      \
         twice: { op: probe.item, inputs: { value: wide } }\n      \
         total: { op: probe.add, inputs: { numbers: { collect: twice } } }\n      \
         aside: { op: probe.retry_then, config: { times: 0 } }\n      \
         late:  { op: probe.retry_then, config: { times: 99 }, after: [total], tags: { kind: last } }\n      \
         end:   { op: probe.echo, inputs: { value: late } }\n",
    )
}

fn with_items(names: &[&str]) -> std::collections::BTreeSet<String> {
    set(&[names, &ITEMS].concat())
}

#[test]
fn a_failed_run_goes_on_from_its_failure() {
    let project = failing();
    let (told, _) = project.expect(&["run", "work"], 100);
    assert!(told.contains("opyard rerun"), "what to do next is not in:\n{told}");
    let failed = project.last_run();
    assert_eq!(failed.steps("step_skipped"), set(&["end"]));

    // Nothing was mended: the same failure, and only that step ran.
    project.expect(&["rerun", "latest"], 100);
    let again = project.last_run();
    assert_eq!(again.steps("step_start"), set(&["late"]));
    assert_eq!(again.steps("step_reused"), set(&["total"]), "what it does not need is not in the run");

    // A run that was made of another one is a parent like any other.
    project.expect(&["rerun", "latest", "--from-failure", "--set", "late.times=0"], 0);
    let mended = project.last_run();
    assert_eq!(mended.steps("step_start"), set(&["late", "end"]));
    assert_eq!(mended.steps("step_reused"), set(&["total"]));
    let (out, _) = project.expect(&["show", "latest", "--json"], 0);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["parent_run_id"], again.run.to_string(), "{shown}");
    assert_eq!(shown["root_run_id"], failed.run.to_string(), "{shown}");
    // Outputs that were reused are outputs of this run.
    assert_eq!(project.expect(&["cat", "latest", "total"], 0).0.trim(), "6.0");

    let (out, _) = project.expect(&["diff", &failed.run.to_string(), "latest", "--json"], 0);
    let compared: Value = serde_json::from_str(&out).unwrap();
    let different = |step: &&Value| !step["changed"].as_array().unwrap().is_empty();
    let steps = compared["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().filter(different).map(|step| step["step"].as_str().unwrap()).collect();
    let only_before = ["aside", "twice[item-0]", "twice[item-1]", "twice[item-2]", "wide"];
    assert_eq!(names, [&["late", "end"], &only_before[..]].concat(), "{compared}");
    assert!(steps.iter().any(|step| step["after"]["time_ms"].is_f64()), "{compared}");
    let (text, _) = project.expect(&["diff", &failed.run.to_string(), "latest"], 0);
    assert!(text.contains("times: 99 -> 0") && text.contains("1 the same"), "{text}");

    let (_, told) = project.expect(&["rerun", "latest"], 2);
    assert!(told.contains("nothing has to run again"), "{told}");
}

#[test]
fn a_part_of_a_job_runs_again() {
    let project = failing();
    project.expect(&["run", "work", "--set", "late.times=0"], 0);
    let first = project.last_run().run.to_string();

    project.expect(&["rerun", &first, "--from", "total", "--no-memo"], 0);
    let run = project.last_run();
    assert_eq!(run.steps("step_start"), set(&["total", "late", "end"]));
    assert_eq!(run.steps("step_reused"), with_items(&["wide"]), "what nothing of it needs is not in the run");

    project.expect(&["rerun", &first, "--select", "twice[item-1]", "--no-memo"], 0);
    let run = project.last_run();
    assert_eq!(run.steps("step_start"), set(&["twice[item-1]"]));
    assert!(!run.steps("step_reused").contains("late"), "what nobody needs is not in the run");

    project.expect(&["rerun", &first, "--all", "--no-memo"], 0);
    assert_eq!(project.last_run().steps("step_start"), with_items(&["wide", "total", "aside", "late", "end"]));

    // A change of config makes a step run that was not asked for, since its old result is none of it.
    project.expect(&["rerun", &first, "--set", "wide.items=2", "--no-memo"], 0);
    let run = project.last_run();
    assert!(run.steps("step_start").contains("wide"), "{:?}", run.steps("step_start"));
    assert_eq!(project.expect(&["cat", "latest", "total"], 0).0.trim(), "2.0");

    project.expect(&["run", "work", "--select", "*total", "--no-memo"], 0);
    assert_eq!(project.last_run().steps("step_success"), with_items(&["wide", "total"]));
    project.expect(&["run", "work", "--select", "tag:kind=last", "--set", "late.times=0"], 0);
    assert_eq!(project.last_run().steps("step_success"), set(&["late"]));

    for (arguments, code, says) in [
        (&["rerun", &first, "--from", "totl"][..], 2, "total"),
        (&["rerun", "01ARZ3", "--all"], 2, "01ARZ3"),
        (&["run", "work", "--select", "+++"], 2, "+++"),
        (&["rerun", &first, "--from", "total", "--all"], 2, "--all"),
    ] {
        let (_, told) = project.expect(arguments, code);
        assert!(told.contains(says), "{arguments:?}: '{says}' is not in:\n{told}");
    }
}

/// `opyard run JOB --watch`, and what it says.
struct Watched {
    child: Child,
    says: Lines<BufReader<ChildStderr>>,
}

impl Watched {
    fn start(project: &Project, job: &str) -> Self {
        let mut child =
            project.command(&["run", job, "--watch"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut this = Self { child, says };
        this.until_idle();
        this
    }

    /// Reads until it waits for a change. Returns what it said before that.
    fn until_idle(&mut self) -> String {
        let mut said = String::new();
        for line in self.says.by_ref() {
            let line = line.unwrap();
            if line.contains("watching the definitions") {
                return said;
            }
            said += &line;
            said.push('\n');
        }
        panic!("it ended:\n{said}");
    }
}

#[test]
fn a_watched_job_runs_again_when_a_file_changes() {
    let project = Project::example("penguins");
    // A component of its own, so that it can be replaced.
    let wasm = project.path().join("penguins.wasm");
    std::fs::copy(crate::harness::component("penguins"), &wasm).unwrap();
    let definitions = std::fs::read_to_string(project.path().join("opyard.yaml")).unwrap();
    let built = crate::harness::component("penguins").display().to_string();
    let definitions = definitions.replace(&built, "penguins.wasm");
    assert!(definitions.contains("path: penguins.wasm"));
    project.define(&definitions);
    let mut watched = Watched::start(&project, "train");

    project.define(&definitions.replace("seed: 7", "seed: 8"));
    watched.until_idle();
    let reseeded = project.last_run();
    assert_eq!(reseeded.steps("step_memoized"), set(&["clean"]));

    // A mistake is told, and waited for to be mended.
    project.define(&definitions.replace("clean:", "\tclean:"));
    assert!(watched.until_idle().contains("OPY-201"), "a tab is no indentation");
    assert_eq!(project.last_run().run, reseeded.run, "nothing ran");

    // Another component: all that it has runs, since it may do anything.
    std::fs::copy(crate::harness::component("textkit"), &wasm).unwrap();
    project.define(&definitions);
    assert!(watched.until_idle().contains("OPY-2"), "it has no such ops");
    std::fs::copy(crate::harness::component("penguins"), &wasm).unwrap();
    watched.until_idle();
    let last = project.last_run();
    assert_eq!(last.steps("step_start"), set(&["load"]), "the first run's results are there");

    assert!(Command::new("kill").args(["-INT", &watched.child.id().to_string()]).status().unwrap().success());
    assert_eq!(watched.child.wait().unwrap().code(), Some(0), "as the last run ended");
}

#[test]
fn the_latest_of_another_job_is_found_at_launch_and_recorded() {
    let definitions = |value: u32| {
        format!(
            "opyard: 1\ncomponents:\n  probe: {{ path: \"{{{{probe}}}}\" }}\ngraphs:\n  inner:\n    inputs: {{ x: }}\n    \
             steps: {{ half: {{ op: probe.item, inputs: {{ value: $x }} }} }}\n    outputs: {{ out: half }}\njobs:\n  make:\n    \
             steps:\n      fit:  {{ op: probe.const, config: {{ value: {value} }} }}\n      \
             nest: {{ graph: inner, inputs: {{ x: fit }} }}\n  \
             use:\n    steps:\n      twice: {{ op: probe.item, inputs: {{ value: {{ latest: {{ job: make, step: nest, output: out }} }} }} }}\n      \
             wide:  {{ op: probe.fan, config: {{ items: 2 }} }}\n  \
             wide:\n    steps:\n      each: {{ op: probe.item, inputs: {{ value: {{ latest: {{ job: use, step: wide }} }} }} }}\n"
        )
    };
    let project = Project::new(&definitions(3));
    let (out, err) = project.expect(&["check"], 2);
    assert!(format!("{out}{err}").contains("is dynamic"), "{out}{err}");
    project.define(&definitions(3).replace("job: use, step: wide", "job: use, step: twice"));
    project.expect(&["check"], 0);
    let (out, err) = project.expect(&["run", "use"], 2);
    assert!(format!("{out}{err}").contains("OPY-250"), "{out}{err}");
    project.expect(&["run", "make"], 0);
    project.expect(&["run", "use"], 0);
    assert_eq!(project.expect(&["cat", "latest", "twice"], 0).0.trim(), "12.0");
    let first = project.last_run().run.to_string();
    // A run that fails is not the latest of its kind, and one that succeeds is, also when all of it was remembered.
    project.define(&definitions(5).replace("job: use, step: wide", "job: use, step: twice"));
    project.expect(&["run", "use"], 0);
    assert_eq!(project.expect(&["cat", "latest", "twice"], 0).0.trim(), "12.0", "nothing was made anew");
    project.expect(&["run", "make"], 0);
    project.expect(&["run", "use"], 0);
    assert_eq!(project.expect(&["cat", "latest", "twice"], 0).0.trim(), "20.0");
    assert_eq!(project.expect(&["cat", &first, "twice"], 0).0.trim(), "12.0");
    project.expect(&["run", "wide"], 0);
}
