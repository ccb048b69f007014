//! Ten recorded workflows, run end to end: a task without parents gives its run time, any other the sum of what its
//! parents gave. What comes out is compared with the same sums computed here.

use std::fmt::Write as _;

use opyard_server::model::event::RunStatus;
use opyard_server::model::plan::Launch;
use opyard_server::{LaunchOptions, Project as Definitions};
use serde_json::Value;

use crate::harness::{Project, root, runtime};

struct Task {
    runtime: f64,
    parents: Vec<usize>,
}

fn tasks(text: &str) -> Vec<Task> {
    let value: Value = serde_json::from_str(text).unwrap();
    let tasks = value["tasks"].as_array().unwrap().iter();
    tasks
        .map(|task| Task {
            runtime: task["runtime_s"].as_f64().unwrap(),
            parents: task["parents"]
                .as_array()
                .unwrap()
                .iter()
                .map(|parent| usize::try_from(parent.as_u64().unwrap()).unwrap())
                .collect(),
        })
        .collect()
}

fn definitions(tasks: &[Task]) -> String {
    let mut text = "opyard: 1\ncomponents:\n  probe: { path: \"{{probe}}\" }\njobs:\n  work:\n    steps:\n".to_owned();
    for (number, task) in tasks.iter().enumerate() {
        if task.parents.is_empty() {
            let runtime = task.runtime;
            writeln!(text, "      t{number}: {{ op: probe.const, config: {{ value: {runtime:?} }} }}").unwrap();
        } else {
            let parents: Vec<_> = task.parents.iter().map(|parent| format!("t{parent}")).collect();
            let parents = parents.join(", ");
            writeln!(text, "      t{number}: {{ op: probe.add, inputs: {{ numbers: [{parents}] }} }}").unwrap();
        }
    }
    text
}

/// The sums, whatever order the tasks stand in.
fn expected(tasks: &[Task]) -> Vec<f64> {
    fn value(tasks: &[Task], number: usize, known: &mut Vec<Option<f64>>) -> f64 {
        if let Some(known) = known[number] {
            return known;
        }
        let task = &tasks[number];
        let sum = if task.parents.is_empty() {
            task.runtime
        } else {
            task.parents.iter().map(|parent| value(tasks, *parent, known)).sum()
        };
        known[number] = Some(sum);
        sum
    }
    let mut known = vec![None; tasks.len()];
    (0..tasks.len()).map(|number| value(tasks, number, &mut known)).collect()
}

#[test]
fn recorded_workflows_run_end_to_end() {
    let mut files: Vec<_> = std::fs::read_dir(root().join("tests/workflows"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 10);
    let project = Project::new("opyard: 1\n");
    runtime().block_on(async {
        let yard = project.yard();
        for file in files {
            let tasks = tasks(&std::fs::read_to_string(&file).unwrap());
            project.define(&definitions(&tasks));
            let path = project.path().join("opyard.yaml");
            let loaded = Definitions::load_for(&yard, &path, "work").await.unwrap();
            let launch = Launch { job: "work", environment: None, settings: &[] };
            let planned = loaded.plan(&yard, &launch).await.unwrap();
            let started = yard.launch(planned.plan.into(), LaunchOptions::default()).await.unwrap();
            let end = yard.drive(started.run, Box::pin(std::future::pending())).await.unwrap();
            assert_eq!(end.status, RunStatus::Success, "{}", file.display());
            let tally = end.tally;
            let done = usize::try_from(tally.success + tally.memoized).unwrap();
            assert_eq!(done, tasks.len(), "{}: {tally:?}", file.display());
            let expected = expected(&tasks);
            for found in yard.outputs(started.run).await.unwrap() {
                let number: usize = found.step.path.as_str()[1..].parse().unwrap();
                let mut reader = yard.open_value(&found.output.value).await.unwrap();
                let bytes = reader.read_at(0, 64).await.unwrap();
                let value: f64 = serde_json::from_slice(&bytes).unwrap();
                assert!(
                    (value - expected[number]).abs() <= expected[number].abs() * 1e-12,
                    "{}: t{number}",
                    file.display()
                );
            }
        }
        yard.close().await;
    });
}
