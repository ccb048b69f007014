//! Going on from runs that failed: what is taken from them, what runs, and what comes of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use opyard_model::event::RunEvent;
use opyard_model::id::StepKey;
use opyard_model::plan::{Earlier, EarlierRun, FailurePolicy, Plan, Scope, StepIx};
use opyard_model::selection::Items;
use opyard_model::state::{InstanceId, RunState, StepState};
use opyard_model::value::Yielded;
use proptest::prelude::*;

use crate::plans::{self, Script, Scripts};
use crate::simulate::{Simulation, chances, run};

/// What became of each step, and what it yielded. Items that were not there in the end are left out.
fn results(state: &RunState) -> BTreeMap<StepKey, Option<Vec<Yielded>>> {
    let there = |id: &InstanceId| {
        state.plan().levels(id.step).enumerate().all(|(at, over)| {
            let depth = id.key.len() - 1 - at;
            let producer = state.instance(&InstanceId { step: over.step, key: id.key.outer(depth) }).unwrap();
            matches!(producer.state, StepState::Success { .. })
                && producer.items(over.port).any(|(key, _)| *key == id.key[depth])
        })
    };
    let results = state.instances().filter(|(id, _)| there(id)).map(|(id, instance)| {
        let yielded = instance.yielded(&state.plan().step(id.step).outputs);
        let success = matches!(instance.state, StepState::Success { .. });
        (id.step_key(state.plan()), success.then_some(yielded))
    });
    results.collect()
}

/// The same steps, none of which fails any more.
fn healed(scripts: &Scripts) -> Scripts {
    scripts.iter().map(|(op, script)| (op.clone(), Script { fails: 0, ..*script })).collect()
}

fn executed(simulation: &Simulation<'_>) -> HashSet<StepKey> {
    let started = simulation.log.iter().filter_map(|recorded| match &recorded.event {
        RunEvent::StepStart { of } => Some(of.step.clone()),
        RunEvent::StepMemoized { step, .. } => Some(step.clone()),
        _ => None,
    });
    started.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// A run that failed, and goes on once nothing fails any more, ends where a run from the start would; nothing that had
    /// succeeded runs again, but for what needs something that had not.
    #[test]
    fn a_rerun_from_failure_ends_where_a_whole_run_would(
        (plan, scripts) in plans::plans(25), chance in chances(), again in chances(),
    ) {
        let plan = Arc::new(Plan { on_failure: FailurePolicy::GoOn, ..plan });
        let mut first = Simulation::new(&plan, &scripts, chance.clone());
        first.play();
        let scripts = healed(&scripts);
        let mut whole = Simulation::new(&plan, &scripts, chance);
        whole.play();
        let expected = results(&whole.state);
        let before = results(&first.state);

        let runs = [EarlierRun { run: run(), state: first.state.clone() }];
        let earlier = Earlier { runs: &runs, gone: &|_| false };
        let narrowed = Plan::clone(&plan).after(earlier, Scope::Unsuccessful);
        let Ok(narrowed) = narrowed else {
            prop_assert_eq!(before, expected, "nothing to run, and something is missing");
            return Ok(());
        };
        let mut second = Simulation::new(&Arc::new(narrowed), &scripts, again);
        second.play();
        let after = results(&second.state);
        for (step, result) in &expected {
            let result_now = after.get(step).or_else(|| before.get(step));
            prop_assert_eq!(result_now, Some(result), "{}", step);
        }
        // What ran had failed, or something that it needs ran.
        let executed = executed(&second);
        let plan = second.state.plan();
        // Steps behind something that ran: in between may be some that were skipped.
        let mut moved = BTreeSet::new();
        for ix in plan.indices() {
            let ran = |ix: StepIx| executed.iter().any(|step| step.path == plan.step(ix).path);
            if plan.step(ix).dependencies().any(|before| ran(before) || moved.contains(&before)) {
                moved.insert(ix);
            }
        }
        for step in &executed {
            let succeeded = before.get(step).is_some_and(Option::is_some);
            let id = second.state.locate(step).unwrap();
            let moved = moved.contains(&id.step);
            prop_assert!(!succeeded || moved, "{} ran again for nothing", step);
        }
    }

    /// From any step on: that step and what needs it run, nothing else does.
    #[test]
    fn a_rerun_from_a_step_runs_what_needs_it(
        (plan, scripts) in plans::plans(25), chance in chances(), pick: prop::sample::Index,
    ) {
        let plan = Arc::new(Plan { on_failure: FailurePolicy::GoOn, ..plan });
        let scripts = healed(&scripts);
        let mut first = Simulation::new(&plan, &scripts, chance.clone());
        first.play();
        let from = plan.indices().nth(pick.index(plan.steps.len())).unwrap();
        // A mapped step without items, whose producer stays as it was, has nothing that could run.
        let (mut below, mut running) = (BTreeSet::from([from]), BTreeSet::new());
        for ix in plan.indices() {
            if plan.step(ix).dependencies().any(|before| running.contains(&before)) {
                below.insert(ix);
            }
            let over = plan.step(ix).mapped_over;
            let has_items = || first.state.instances().any(|(id, _)| id.step == ix);
            if below.contains(&ix) && (over.is_none_or(|over| running.contains(&over.step)) || has_items()) {
                running.insert(ix);
            }
        }
        let runs = [EarlierRun { run: run(), state: first.state.clone() }];
        let scope = Scope::From(BTreeMap::from([(from, Items::All)]));
        let narrowed = Plan::clone(&plan).after(Earlier { runs: &runs, gone: &|_| false }, scope);
        let narrowed = match narrowed {
            Ok(narrowed) => narrowed,
            Err(why) => {
                let has_items = first.state.instances().any(|(id, _)| id.step == from);
                prop_assert!(!has_items, "there is something to run from {:?}: {}", plan.step(from).path, why);
                return Ok(());
            }
        };
        let mut second = Simulation::new(&Arc::new(narrowed), &scripts, chance);
        second.play();
        let paths: BTreeSet<_> = below.iter().map(|ix| &plan.step(*ix).path).collect();
        for step in executed(&second) {
            prop_assert!(paths.contains(&step.path), "{} does not need it", step);
        }
        let (before, after) = (results(&first.state), results(&second.state));
        for (step, result) in &before {
            prop_assert!(after.contains_key(step) || !paths.contains(&step.path), "{} did not run", step);
            prop_assert!(after.get(step).is_none_or(|now| now == result), "{}", step);
        }
    }
}
