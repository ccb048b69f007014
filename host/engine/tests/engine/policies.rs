//! What holds for a run as a whole, in virtual time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opyard_model::error::Code;
use opyard_model::event::{Recorded, RunEvent, RunStatus};
use opyard_model::id::RunId;
use opyard_model::plan::{BaseType, FailurePolicy, Memo, Plan, RunPolicy, RunQueue, Source, Step, StepOutput};
use tokio::time::Instant;

use crate::drive::manners;
use crate::plans::{Script, Scripts, input, name, output, plan, slot, step};
use crate::yard::{Manner, Player, Yard};

fn run(id: u128) -> RunId {
    RunId::from_parts(1, id)
}

/// A chain of `a`, `b`, `c`.
fn chain(policy: RunPolicy) -> Plan {
    let after = |at: usize| vec![input("i", Source::Output { slot: slot(at, 0) })];
    let steps = vec![step("a", Vec::new()), step("b", after(0)), step("c", after(1))];
    Plan { policy, ..plan(steps.into_iter().map(|step| Step { memo: Memo::Off, ..step }).collect()) }
}

fn failed_with(events: &[Recorded]) -> Option<Code> {
    match &events.last()?.event {
        RunEvent::RunFailure { failure } => Some(failure.code),
        _ => None,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_stopped() {
    let slow = manners(&[("a", Manner::Takes(MINUTE)), ("b", Manner::Takes(MINUTE * 5))]);
    let yard = Yard::new(Player { manners: slow, ..Player::default() }, 2);
    let policy = RunPolicy { timeout: Some(MINUTE * 3), ..RunPolicy::default() };
    yard.enqueue(run(1), &chain(policy.clone())).await;
    let begun = Instant::now();
    // Whoever drives it is gone after two minutes, and the run is taken up again a little later: its time goes on.
    tokio::select! {
        _ = yard.drive(run(1)) => panic!("it takes longer"),
        () = tokio::time::sleep(MINUTE * 2) => {}
    }
    tokio::time::sleep(MINUTE / 2).await;
    let end = yard.drive(run(1)).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 180);
    let tally = end.tally;
    assert_eq!((end.status, tally.success, tally.canceled, tally.skipped), (RunStatus::Failure, 1, 1, 1));
    assert_eq!(failed_with(&yard.log.events(run(1))), Some(Code::RunWallExceeded));
    assert_eq!(yard.player.inside.load(Ordering::SeqCst), 0, "the guest still runs");
    // One that was over in time is not failed by being told late.
    let whole = chain(RunPolicy { timeout: Some(MINUTE * 10), ..policy });
    assert_eq!(yard.run(run(2), &whole).await.status, RunStatus::Success);
    let events = yard.log.events(run(2));
    let late = Yard::new(Player::default(), 2);
    late.enqueue(run(2), &whole).await;
    late.log.set(run(2), &events[..events.len() - 1]);
    tokio::time::sleep(MINUTE * 60).await;
    assert_eq!(late.drive(run(2)).await.unwrap().status, RunStatus::Success);
}

/// What fails for an item stops the op that goes on yielding, which takes the item back. The run failed all the same.
#[tokio::test(start_paused = true)]
async fn a_failure_that_stops_its_own_producer_is_a_failure() {
    let fails = Script { fails: u8::MAX, yields: 0, items: 0, salt: 0 };
    let scripts = Scripts::from([(name("a"), Script { fails: 0, items: 1, ..fails }), (name("b"), fails)]);
    let yard = Yard::new(Player { scripts, manners: manners(&[("a", Manner::Lingers)]), ..Player::default() }, 2);
    let items = vec![StepOutput { dynamic: true, ..output("d", BaseType::Json) }];
    let over = slot(0, 0);
    let mapped = Step { mapped_over: Some(over), ..step("b", vec![input("i", Source::Item { slot: over })]) };
    let steps = vec![Step { outputs: items.into(), ..step("a", Vec::new()) }, mapped];
    let end = yard.run(run(1), &Plan { on_failure: FailurePolicy::FailFast, ..plan(steps) }).await;
    assert_eq!((end.status, end.tally.failure, end.tally.canceled), (RunStatus::Failure, 1, 1));
    let events = yard.log.events(run(1));
    let RunEvent::RunFailure { failure } = &events.last().unwrap().event else { panic!("{events:?}") };
    assert_eq!((failure.code, failure.description.as_str()), (Code::ResourceUnavailable, "1 step failed: b[k0]"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_costs_too_much_is_stopped() {
    let yard = Yard::new(Player { cpu: Duration::from_secs(40), ..Player::default() }, 2);
    let policy = |cpu| RunPolicy { cpu: Some(cpu), ..RunPolicy::default() };
    let end = yard.run(run(1), &chain(policy(MINUTE))).await;
    assert_eq!((end.status, end.tally.success, end.tally.skipped), (RunStatus::Failure, 2, 1));
    assert_eq!(failed_with(&yard.log.events(run(1))), Some(Code::RunCpuExceeded));
    assert_eq!(yard.run(run(2), &chain(policy(MINUTE * 2))).await.status, RunStatus::Success);
}

/// When the calls of each step began, in minutes since `begun`.
fn minutes(yard: &Yard, begun: Instant) -> Vec<(String, u64)> {
    let calls = yard.player.calls.lock().unwrap();
    calls.iter().map(|(step, _, at)| (step.clone(), (at.unwrap() - begun).as_secs() / 60)).collect()
}

#[tokio::test(start_paused = true)]
async fn slots_of_a_pool_are_shared_by_runs() {
    let slow = ["a", "b", "c"].map(|op| (op, Manner::Takes(MINUTE)));
    let yard = Yard::new(Player { manners: manners(&slow), ..Player::default() }, 4);
    let in_pool =
        |path: &str, priority| Step { pool: Some(name("db")), priority, memo: Memo::Off, ..step(path, Vec::new()) };
    let pools = BTreeMap::from([(name("db"), 1)]);
    let one = Plan { pools: pools.clone(), ..plan(vec![in_pool("a", 0), in_pool("b", 0)]) };
    let two = Plan { pools, ..plan(vec![in_pool("c", 9)]) };
    yard.enqueue(run(1), &one).await;
    yard.enqueue(run(2), &two).await;
    let begun = Instant::now();
    let (first, second) = tokio::join!(yard.drive(run(1)), async {
        tokio::time::sleep(MINUTE / 2).await;
        yard.drive(run(2)).await
    });
    assert_eq!((first.unwrap().status, second.unwrap().status), (RunStatus::Success, RunStatus::Success));
    // One at a time; whoever has the higher priority goes before one that does not hold a slot yet.
    let told: Vec<_> = ["a", "c", "b"].iter().map(|step| (*step).to_owned()).zip(0..).collect();
    assert_eq!(minutes(&yard, begun), told);
    let waits = |one: &Recorded| matches!(&one.event, RunEvent::StepWaiting { pool, .. } if pool.as_str() == "db");
    assert!([1, 2].map(run).iter().all(|run| yard.log.events(*run).iter().any(waits)));
    let left = yard.pools.list().await.unwrap();
    assert!(left.iter().all(|pool| pool.held.is_empty() && pool.waiting.is_empty()), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn runs_wait_for_their_turn() {
    let yard = Yard::new(Player { manners: manners(&[("a", Manner::Takes(MINUTE))]), ..Player::default() }, 4);
    let queue = RunQueue { limit: Some(1), tag_limits: Vec::new() };
    let job = |priority| {
        let policy = RunPolicy { priority, ..RunPolicy::default() };
        let steps = vec![Step { memo: Memo::Off, ..step("a", Vec::new()) }];
        Plan { run_queue: queue.clone(), policy, ..plan(steps) }
    };
    for (id, priority) in [(1, 0), (2, 0), (3, 5)] {
        yard.enqueue(run(id), &job(priority)).await;
    }
    let begun = Instant::now();
    let after = |delay: u32, id| {
        let yard = &yard;
        async move {
            tokio::time::sleep(Duration::from_secs(delay.into())).await;
            let end = yard.drive(run(id)).await.unwrap();
            (end.status, (begun.elapsed().as_secs() + 1) / 60)
        }
    };
    let ends = tokio::join!(after(0, 1), after(1, 2), after(2, 3));
    let success = |minute| (RunStatus::Success, minute);
    assert_eq!(ends, (success(1), success(3), success(2)), "the third has the higher priority");
    let kinds: Vec<_> = yard.log.events(run(2)).iter().take(3).map(|one| one.event.kind()).collect();
    assert_eq!(kinds, ["run_enqueued", "engine_event", "run_dequeued"]);
}
