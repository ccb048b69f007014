//! The loop of a run, with everything real but the disk, the clock and the guests.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opyard_engine::EngineError;
use opyard_engine::retry::wait;
use opyard_model::error::Code;
use opyard_model::event::{Recorded, RunEvent, RunStatus};
use opyard_model::hook::{HookIx, Outcome};
use opyard_model::id::{RunId, StepKey};
use opyard_model::json::CanonicalJson;
use opyard_model::plan::{BaseType, IoManagerSpec, Memo, OutsideValue, Plan, Source, Step};
use opyard_model::state::{RunState, StepState};
use proptest::test_runner::{Config, TestRunner};

use crate::plans::{self, Script, Scripts, input, name, plan, retries, slot, step};
use crate::reference;
use crate::yard::{Manner, Player, Yard};

fn run(id: u128) -> RunId {
    RunId::from_parts(1, id)
}

fn from(at: usize) -> Source {
    Source::Output { slot: slot(at, 0) }
}

fn fold(plan: &Plan, events: &[Recorded]) -> RunState {
    let mut state = RunState::new(Arc::new(plan.clone()));
    for recorded in events {
        state.apply(recorded).unwrap();
        state.audit().unwrap();
    }
    state
}

pub(crate) fn successes_are_single(events: &[Recorded]) {
    let mut seen = HashSet::new();
    for recorded in events {
        if let RunEvent::StepSuccess { of, .. } = &recorded.event {
            assert!(seen.insert((of.step.clone(), of.generation)), "{of:?} succeeded twice");
        }
    }
}

pub(crate) fn manners(of: &[(&str, Manner)]) -> std::sync::Mutex<BTreeMap<String, Manner>> {
    std::sync::Mutex::new(of.iter().map(|(op, manner)| ((*op).to_owned(), *manner)).collect())
}

fn not_hermetic(step: Step) -> Step {
    Step { hermetic: false, memo: Memo::Off, ..step }
}

/// Waits until a condition holds that other tasks make true, without time passing.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to be");
}

/// A run in the paused time of its own runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Driven for real, with commits that fail now and then and a log cut after every event, runs end as their plan says.
#[test]
fn driven_runs_end_as_their_plan_says() {
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let strategy = (plans::plans(12), 1usize..5, proptest::collection::btree_set(0usize..40, 0..4));
    TestRunner::new(config)
        .run(&strategy, |((plan, scripts), slots, fails)| {
            let plan = Plan { on_failure: opyard_model::plan::FailurePolicy::GoOn, ..plan };
            let expected = reference::ends(&plan, &scripts);
            block_on(async {
                let yard = Yard::new(Player { scripts: scripts.clone(), ..Player::default() }, slots);
                yard.enqueue(run(1), &plan).await;
                yard.log.fail(run(1), fails);
                yard.drive(run(1)).await.unwrap();
                let events = yard.log.events(run(1));
                successes_are_single(&events);
                assert_eq!(reference::ends_of(&fold(&plan, &events)), expected);
                for cut in 1..events.len() {
                    let again = Yard::new(Player { scripts: scripts.clone(), ..Player::default() }, slots);
                    again.enqueue(run(1), &plan).await;
                    again.log.set(run(1), &events[..cut]);
                    again.drive(run(1)).await.unwrap();
                    let events = again.log.events(run(1));
                    successes_are_single(&events);
                    assert_eq!(reference::ends_of(&fold(&plan, &events)), expected, "cut after {cut}");
                    assert!(again.memos.claims.lock().unwrap().is_empty(), "a key is still held");
                }
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_result_that_the_memo_does_not_take() {
    let yard = Yard::new(Player::default(), 2);
    let one = plan(vec![step("s0", Vec::new())]);
    yard.memos.full.store(true, Ordering::SeqCst);
    for id in [1, 2] {
        assert_eq!(yard.run(run(id), &one).await.status, RunStatus::Success);
        assert!(yard.memos.claims.lock().unwrap().is_empty(), "a key is still held");
    }
    assert_eq!((yard.player.calls_of("s0"), yard.memos.count()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_takes_nothing_with_it() {
    let yard = Yard::new(Player::default(), 2);
    let chain = plan(
        (0..6)
            .map(|at| step(&format!("s{at}"), if at == 0 { Vec::new() } else { vec![input("i", from(at - 1))] }))
            .collect(),
    );
    yard.enqueue(run(1), &chain).await;
    yard.log.fail(run(1), [3, 9]);
    assert_eq!(yard.drive(run(1)).await.unwrap().status, RunStatus::Success);
    assert_eq!(yard.log.dropped(run(1)), 2);
    successes_are_single(&yard.log.events(run(1)));
    // A disk that takes nothing at all is not asked for ever.
    yard.enqueue(run(2), &chain).await;
    yard.log.fail(run(2), 0..100);
    assert!(matches!(yard.drive(run(2)).await, Err(EngineError::Store(_))));
}

#[tokio::test(start_paused = true)]
async fn retries_wait_as_the_policy_says() {
    let script = Script { fails: 3, yields: 0, items: 0, salt: 1 };
    let scripts = Scripts::from([(name("a"), script)]);
    let yard = Yard::new(Player { scripts, ..Player::default() }, 1);
    let retry = retries(3);
    let end = yard.run(run(1), &plan(vec![not_hermetic(Step { retry: retry.clone(), ..step("a", Vec::new()) })])).await;
    assert_eq!((end.status, end.tally.success), (RunStatus::Success, 1));
    let calls = yard.player.calls.lock().unwrap();
    assert_eq!(calls.len(), 4);
    for (attempt, pair) in calls.windows(2).enumerate() {
        let step = StepKey::plain(name("a").into());
        let of = opyard_model::event::Attempt { step, generation: 0, attempt: attempt as u32 };
        let waited = pair[1].2.unwrap() - pair[0].2.unwrap();
        let asked = wait(retry.as_ref().unwrap(), run(1), &of);
        assert!(waited >= asked && waited <= asked + Duration::from_millis(2), "{waited:?} for {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_step_is_computed_once() {
    let slow = || manners(&[("a", Manner::Takes(Duration::from_secs(100)))]);
    let yard = Yard::new(Player { manners: slow(), ..Player::default() }, 8);
    let twins = (0..5).map(|at| Step { path: name(&format!("t{at}")).into(), ..step("a", Vec::new()) });
    let twins = plan(twins.collect());
    // Within one run, and between two at a time (the later waits for the one that holds the key, beyond its lease).
    yard.enqueue(run(1), &twins).await;
    yard.enqueue(run(2), &twins).await;
    let (one, two) = tokio::join!(yard.drive(run(1)), yard.drive(run(2)));
    assert_eq!(one.unwrap().tally.success + two.unwrap().tally.success, 1);
    assert_eq!(yard.player.calls.lock().unwrap().len(), 1);
    let after = yard.run(run(3), &twins).await;
    assert_eq!((after.tally.memoized, after.tally.success), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_twin_lets_the_next_one_try() {
    let scripts = Scripts::from([(name("a"), Script { fails: u8::MAX, yields: 0, items: 0, salt: 0 })]);
    let yard = Yard::new(Player { scripts, ..Player::default() }, 8);
    let twins = (0..3).map(|at| Step { path: name(&format!("t{at}")).into(), ..step("a", Vec::new()) });
    let end = yard.run(run(1), &plan(twins.collect())).await;
    assert_eq!((end.status, end.tally.failure, yard.memos.count()), (RunStatus::Failure, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn canceling_stops_guests() {
    let yard = Yard::new(Player { manners: manners(&[("a", Manner::Hangs)]), ..Player::default() }, 2);
    let steps = vec![step("a", Vec::new()), step("b", vec![input("i", from(0))])];
    yard.enqueue(run(1), &plan(steps)).await;
    let (ask, asked) = tokio::sync::oneshot::channel();
    let cancel = Box::pin(async { asked.await.unwrap_or_default() });
    let (end, ()) = tokio::join!(yard.engine.drive(run(1), cancel), async {
        until(|| yard.player.inside.load(Ordering::SeqCst) == 1).await;
        ask.send("the test".to_owned()).unwrap();
    });
    let end = end.unwrap();
    assert_eq!((end.status, end.tally.canceled, end.tally.skipped), (RunStatus::Canceled, 1, 1));
    assert_eq!(yard.player.inside.load(Ordering::SeqCst), 0, "the guest still runs");
    assert!(yard.memos.claims.lock().unwrap().is_empty(), "a key is still held");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_drive_stops_guests() {
    let yard = Yard::new(Player { manners: manners(&[("a", Manner::Hangs)]), ..Player::default() }, 2);
    yard.enqueue(run(1), &plan(vec![step("a", Vec::new())])).await;
    tokio::select! {
        _ = yard.drive(run(1)) => panic!("it hangs"),
        () = until(|| yard.player.inside.load(Ordering::SeqCst) == 1) => {}
    }
    until(|| yard.player.inside.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn effects_wait_for_the_disk() {
    let yard = Yard::new(Player::default(), 4);
    let chain = vec![
        step("a", Vec::new()),
        step("b", vec![input("i", from(0))]),
        not_hermetic(step("c", vec![input("i", from(1))])),
    ];
    yard.enqueue(run(1), &plan(chain)).await;
    yard.log.hold(true);
    let (end, ()) = tokio::join!(yard.drive(run(1)), async {
        until(|| yard.player.calls_of("b") == 1).await;
        let started =
            |recorded: &Recorded| matches!(&recorded.event, RunEvent::StepStart { of } if of.step.path.as_str() == "c");
        until(|| yard.log.events(run(1)).iter().any(started)).await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(yard.player.calls_of("c"), 0, "it ran before what it builds on was durable");
        yard.log.hold(false);
    });
    assert_eq!((end.unwrap().status, yard.player.calls_of("c")), (RunStatus::Success, 1));
}

/// Of a step that fails once and then succeeds, hooks hear what is on disk; killed before their outcome is, they hear it
/// again, under the same key.
#[tokio::test(start_paused = true)]
async fn hooks_are_told_what_is_on_disk() {
    let scripts = Scripts::from([(name("a"), Script { fails: 1, yields: 0, items: 0, salt: 1 })]);
    let yard = Yard::new(Player { scripts: scripts.clone(), ..Player::default() }, 4);
    let step = Step { retry: retries(1), ..not_hermetic(step("a", Vec::new())) };
    let told_all = Plan { hooks: plans::hooks(), job_hooks: vec![HookIx(0), HookIx(2)], ..plan(vec![step]) };
    yard.enqueue(run(1), &told_all).await;
    let heard = |yard: &Yard| {
        let told = yard.player.told.lock().unwrap();
        told.iter().map(|one| (one.outcome, one.of.attempt, one.idempotency_key)).collect::<Vec<_>>()
    };
    let retried = |recorded: &Recorded| matches!(recorded.event, RunEvent::StepUpForRetry { .. });
    let (end, ()) = tokio::join!(yard.drive(run(1)), async {
        until(|| yard.player.calls_of("a") == 1).await;
        yard.log.hold(true);
        until(|| yard.log.events(run(1)).iter().any(retried)).await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert!(heard(&yard).is_empty(), "a hook was told what is not durable");
        yard.log.hold(false);
    });
    assert_eq!(end.unwrap().status, RunStatus::Success);
    let heard_first = heard(&yard);
    let outcomes: Vec<_> = heard_first.iter().map(|(outcome, attempt, _)| (*outcome, *attempt)).collect();
    assert_eq!(outcomes, [(Outcome::Retry, 0), (Outcome::Success, 1)]);
    let events = yard.log.events(run(1));
    let is_outcome = |recorded: &Recorded| recorded.event.kind().starts_with("hook_");
    assert_eq!(events.iter().filter(|one| is_outcome(one)).count(), 2);
    assert!(matches!(events.last().unwrap().event, RunEvent::RunSuccess), "the end comes after the hooks");

    let first = events.iter().position(is_outcome).unwrap();
    let again = Yard::new(Player { scripts, ..Player::default() }, 4);
    again.enqueue(run(1), &told_all).await;
    again.log.set(run(1), &events[..first]);
    again.drive(run(1)).await.unwrap();
    assert_eq!(heard(&again), heard_first);
}

/// The end of a run does not wait for hooks that nobody began, when somebody asked for it.
#[tokio::test(start_paused = true)]
async fn canceling_skips_hooks() {
    let yard = Yard::new(Player { manners: manners(&[("b", Manner::Hangs)]), ..Player::default() }, 2);
    let steps = vec![step("a", Vec::new()), step("b", Vec::new())];
    let told = Plan { hooks: plans::hooks(), job_hooks: vec![HookIx(0)], ..plan(steps) };
    yard.enqueue(run(1), &told).await;
    let (ask, asked) = tokio::sync::oneshot::channel();
    let cancel = Box::pin(async { asked.await.unwrap_or_default() });
    yard.log.hold(true);
    let (end, ()) = tokio::join!(yard.engine.drive(run(1), cancel), async {
        let done = |recorded: &Recorded| matches!(recorded.event, RunEvent::StepSuccess { .. });
        until(|| yard.log.events(run(1)).iter().any(done)).await;
        ask.send("the test".to_owned()).unwrap();
        let asked = |recorded: &Recorded| matches!(recorded.event, RunEvent::RunCanceling { .. });
        until(|| yard.log.events(run(1)).iter().any(asked)).await;
        yard.log.hold(false);
    });
    assert_eq!(end.unwrap().status, RunStatus::Canceled);
    let events = yard.log.events(run(1));
    let outcome = events.iter().filter(|one| one.event.kind().starts_with("hook_")).count();
    // It was being told when the end was asked for, or had not begun: either way it has one outcome.
    assert_eq!((outcome, events.last().unwrap().event.kind()), (1, "run_canceled"));
}

#[tokio::test(start_paused = true)]
async fn panics_of_the_executor_are_failures() {
    let yard = Yard::new(Player { manners: manners(&[("a", Manner::Panics)]), ..Player::default() }, 4);
    let steps = vec![step("a", Vec::new()), step("b", vec![input("i", from(0))]), step("c", Vec::new())];
    let end = yard.run(run(1), &plan(steps.clone())).await;
    assert_eq!((end.status, end.tally.failure, end.tally.skipped, end.tally.success), (RunStatus::Failure, 1, 1, 1));
    let state = fold(&plan(steps.clone()), &yard.log.events(run(1)));
    let failed = state.instances().next().unwrap().1.state.clone();
    assert!(matches!(failed, StepState::Failure(failure) if failure.code == Code::HostPanic));
    yard.player.manners.lock().unwrap().clear();
    assert_eq!(yard.run(run(2), &plan(steps)).await.status, RunStatus::Success);
}

/// The memo of a step that is given something from outside stands on what its IO manager says of it, and on nothing else.
#[tokio::test(start_paused = true)]
async fn a_value_outside_is_memoised_on_as_far_as_it_is_known_to_be_unchanged() {
    let yard = Yard::new(Player::default(), 4);
    let lake = IoManagerSpec::ObjectStore { url: "memory:///".into(), path: "{run}".into() };
    let value = OutsideValue {
        manager: name("lake"),
        locator: CanonicalJson::parse(r#"{"table":"penguins"}"#).unwrap(),
        type_name: name("json"),
        base: BaseType::Json,
        media_type: "application/json".parse().unwrap(),
    };
    let given = input("rows", Source::Outside { value: Box::new(value) });
    let made = Plan {
        io_managers: BTreeMap::from([(name("lake"), lake)]),
        ..plan(vec![step("a", vec![given]), step("b", vec![input("x", Source::Output { slot: slot(0, 0) })])])
    };
    let said = |fingerprint: Option<&str>| *yard.player.fingerprint.lock().unwrap() = fingerprint.map(str::to_owned);
    let memoised = async |nth: u128| yard.run(run(nth), &made).await.tally.memoized;
    said(Some("v1"));
    assert_eq!(memoised(1).await, 0);
    assert_eq!(memoised(2).await, 2, "nothing has changed");
    // What yields the same as before lets what follows be.
    said(Some("v2"));
    assert_eq!(memoised(3).await, 1);
    said(None);
    for nth in 4..6 {
        let before = yard.memos.count();
        assert_eq!(memoised(nth).await, 1, "nobody can tell");
        assert_eq!(yard.memos.count(), before, "there is no such result");
    }
    // It changes while it is loaded: the result is of neither.
    said(Some("v3"));
    yard.player.changes.store(true, Ordering::SeqCst);
    assert_eq!(memoised(6).await, 1);
    yard.player.changes.store(false, Ordering::SeqCst);
    assert_eq!(memoised(7).await, 1);
    assert_eq!(memoised(8).await, 2);
    assert!(yard.memos.claims.lock().unwrap().is_empty(), "nothing is held when runs have ended");
}

#[tokio::test(start_paused = true)]
async fn other_managers_take_memo_hits_too() {
    let yard = Yard::new(Player::default(), 4);
    let mut made = step("a", Vec::new());
    Arc::make_mut(&mut made.outputs)[0].io_manager = name("files");
    let files = IoManagerSpec::ObjectStore { url: "memory:///".into(), path: "{run}".into() };
    let managers = BTreeMap::from([(name("files"), files)]);
    let made = Plan { io_managers: managers, ..plan(vec![made]) };
    assert_eq!(yard.run(run(1), &made).await.tally.success, 1);
    assert_eq!(yard.player.handled.load(Ordering::SeqCst), 0);
    assert_eq!(yard.run(run(2), &made).await.tally.memoized, 1);
    assert_eq!(yard.player.handled.load(Ordering::SeqCst), 1);
    let events = yard.log.events(run(2));
    assert!(events.iter().any(|one| matches!(one.event, RunEvent::HandledOutput { .. })));
    let hit = events.iter().find_map(|one| match &one.event {
        RunEvent::StepMemoized { outputs, .. } => Some(outputs[0].value.kept.clone().unwrap().manager),
        _ => None,
    });
    assert_eq!(hit, Some(name("files")));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_brings_the_host_down_is_given_up() {
    let yard = Yard::new(Player { manners: manners(&[("a", Manner::Hangs)]), ..Player::default() }, 1);
    let poison = plan(vec![step("a", Vec::new())]);
    yard.enqueue(run(1), &poison).await;
    let mut crashes = 0;
    let end = loop {
        let inside = || yard.player.calls_of("a") > crashes && yard.player.inside.load(Ordering::SeqCst) == 1;
        tokio::select! {
            end = yard.drive(run(1)) => break end.unwrap(),
            () = async { until(inside).await; tokio::time::sleep(Duration::from_millis(5)).await } => crashes += 1,
        }
        until(|| yard.player.inside.load(Ordering::SeqCst) == 0).await;
        assert!(crashes < 50);
    };
    assert_eq!((end.status, crashes), (RunStatus::Failure, 1 + opyard_engine::retry::MAX_LOST as usize));
}

/// Runs of many steps: what was started and recorded is linear, and nothing is lost on the way.
#[tokio::test]
async fn long_runs_end() {
    let count = 20_000;
    let chain = (0..count).map(|at| {
        let inputs = if at == 0 { Vec::new() } else { vec![input("i", from(at - 1))] };
        step(&format!("s{at}"), inputs)
    });
    let mut fan: Vec<_> = (0..count).map(|at| step(&format!("s{at}"), Vec::new())).collect();
    let slots = (0..count).map(|at| slot(at, 0)).collect();
    fan.push(step("all", vec![input("i", Source::FanIn { slots })]));
    for steps in [chain.collect(), fan] {
        let (yard, plan) = (Yard::new(Player::default(), 16), plan(steps));
        let id = run(1);
        yard.enqueue(id, &plan).await;
        let end = yard.drive(id).await.unwrap();
        assert_eq!((end.status, end.tally.open), (RunStatus::Success, 0));
        let again = yard.run(run(2), &plan).await;
        assert_eq!((again.status, again.tally.success), (RunStatus::Success, 0));
        let events = yard.log.events(id);
        assert!(events.len() < 8 * (plan.steps.len() + 8));
    }
}
