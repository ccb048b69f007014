//! What holds for a run as a whole, in virtual time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use opyard_model::error::Code;
use opyard_model::event::{Recorded, RunEvent, RunStatus};
use opyard_model::id::RunId;
use opyard_model::plan::{Memo, Plan, RunPolicy, Source, Step};
use tokio::time::Instant;

use crate::drive::manners;
use crate::plans::{input, plan, slot, step};
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

#[tokio::test(start_paused = true)]
async fn a_run_that_costs_too_much_is_stopped() {
    let yard = Yard::new(Player { cpu: Duration::from_secs(40), ..Player::default() }, 2);
    let policy = |cpu| RunPolicy { cpu: Some(cpu), ..RunPolicy::default() };
    let end = yard.run(run(1), &chain(policy(MINUTE))).await;
    assert_eq!((end.status, end.tally.success, end.tally.skipped), (RunStatus::Failure, 2, 1));
    assert_eq!(failed_with(&yard.log.events(run(1))), Some(Code::RunCpuExceeded));
    assert_eq!(yard.run(run(2), &chain(policy(MINUTE * 2))).await.status, RunStatus::Success);
}
