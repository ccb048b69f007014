//! Slots of pools against a model, of two processes at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use opyard_model::id::{Name, StepKey, TenantId};
use opyard_model::time::{Clock, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::conform::Yard;
use crate::Store;
use crate::conformance::samples::{StillClock, at, enqueued, run};
use crate::memory::MemoryStore;
use crate::pool::{Claimant, LEASE, PoolKey, PoolStatus, Pools, SlotRequest};

/// Limits of the two pools.
const LIMITS: [u32; 2] = [1, 2];
const CLAIMANTS: u8 = 6;

fn pool(ix: usize) -> PoolKey {
    PoolKey::named(&Name::new(["a", "b"][ix]).unwrap())
}

/// The first two are runs as wholes.
fn claimant(ix: u8) -> Claimant {
    let step = (ix > 1).then(|| StepKey::plain(Name::new(&format!("s{ix}")).unwrap().into()));
    Claimant { run: run(u64::from(ix % 2) + 1), step }
}

/// What a claimant always asks for: some want both pools.
fn request(ix: u8) -> SlotRequest {
    let wanted = [&[0][..], &[1], &[0, 1]][usize::from(ix % 3)];
    let pools = wanted.iter().map(|ix| (pool(*ix), LIMITS[*ix])).collect();
    SlotRequest { by: claimant(ix), pools, priority: i32::from(ix % 4) - 1 }
}

#[derive(Debug, Clone)]
enum Op {
    Ask(u8),
    Release(u8),
    Renew(u8),
    ReleaseSteps(u8),
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Op> {
    let who = 0..CLAIMANTS;
    prop_oneof![
        6 => who.clone().prop_map(Op::Ask),
        3 => who.clone().prop_map(Op::Release),
        1 => who.clone().prop_map(Op::Renew),
        1 => (0u8..2).prop_map(Op::ReleaseSteps),
        2 => (1u64..20).prop_map(Op::Wait),
    ]
}

/// A line of people, in the simplest words.
#[derive(Default)]
struct Model {
    there: BTreeMap<u8, Person>,
}

#[derive(Clone, Copy)]
struct Person {
    /// Seconds; the more it is worth the earlier.
    place: (i64, u8),
    holds: bool,
    until: i64,
}

impl Model {
    fn live(&mut self, now: i64) {
        self.there.retain(|_, person| person.until > now);
    }

    fn ask(&mut self, who: u8, now: i64) -> bool {
        let asked = self.there.get(&who).copied();
        let mine = request(who);
        let place = asked.map_or((now - 60 * i64::from(mine.priority), who), |person| person.place);
        let order = |(second, who): (i64, u8)| (second, claimant(who));
        let has_room = |(pool, limit): &(PoolKey, u32)| {
            let before = self.there.iter().filter(|(other, person)| {
                **other != who
                    && request(**other).pools.iter().any(|(one, _)| one == pool)
                    && (person.holds || order(person.place) < order(place))
            });
            before.count() < *limit as usize
        };
        let holds = asked.is_some_and(|person| person.holds) || mine.pools.iter().all(has_room);
        let lasts = |person: &Person| person.holds == holds && person.until - now > 15;
        let until = asked.filter(lasts).map_or(now + 30, |person| person.until);
        self.there.insert(who, Person { place, holds, until });
        holds
    }

    fn check(&self, pools: &[PoolStatus]) {
        for (ix, limit) in LIMITS.iter().enumerate() {
            let Some(status) = pools.iter().find(|status| status.pool == pool(ix)) else { continue };
            assert!(status.held.len() <= *limit as usize, "more than the limit: {status:?}");
            for (found, holds) in [(&status.held, true), (&status.waiting, false)] {
                let found: BTreeSet<_> = found.iter().map(|slot| slot.by.clone()).collect();
                let those = self.there.iter().filter(|(who, person)| {
                    person.holds == holds && request(**who).pools.iter().any(|(one, _)| *one == pool(ix))
                });
                assert_eq!(found, those.map(|(who, _)| claimant(*who)).collect());
            }
        }
    }
}

fn seconds(clock: &StillClock, from: Timestamp) -> i64 {
    i64::try_from(clock.now().since(from).as_secs()).unwrap()
}

async fn play(pools: [&dyn Pools; 2], clock: &StillClock, ops: Vec<Op>) {
    // Who belongs to a run is of one process.
    let of = |who: u8| pools[usize::from(who % 2)];
    let (mut model, begun) = (Model::default(), clock.now());
    for op in ops {
        let now = seconds(clock, begun);
        model.live(now);
        match op {
            Op::Ask(who) => {
                assert_eq!(of(who).ask(&request(who)).await.unwrap(), model.ask(who, now), "{op:?}");
            }
            Op::Release(who) => {
                of(who).release(&[claimant(who)]).await.unwrap();
                model.there.remove(&who);
            }
            Op::Renew(who) => {
                of(who).renew(&[claimant(who)]).await.unwrap();
                model.there.entry(who).and_modify(|person| person.until = now + 30);
            }
            Op::ReleaseSteps(ix) => {
                of(ix).release_run(claimant(ix).run, false).await.unwrap();
                model.there.retain(|who, _| who % 2 != ix || claimant(*who).step.is_none());
            }
            Op::Wait(seconds) => clock.advance(Duration::from_secs(seconds)),
        }
        model.live(seconds(clock, begun));
        for pools in pools {
            model.check(&pools.list().await.unwrap());
        }
    }
    // Whoever goes on asking gets there, if those who hold let go.
    let mut open: BTreeSet<u8> = (0..CLAIMANTS).collect();
    for round in 0.. {
        if open.is_empty() {
            break;
        }
        assert!(round <= CLAIMANTS, "{open:?} starve");
        for who in open.clone() {
            if of(who).ask(&request(who)).await.unwrap() {
                of(who).release(&[claimant(who)]).await.unwrap();
                open.remove(&who);
            }
        }
    }
    let left = pools[0].list().await.unwrap();
    assert!(left.iter().all(|status| status.held.is_empty() && status.waiting.is_empty()), "{left:?}");
}

#[test]
fn slots_are_handed_out_as_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let strategy = proptest::collection::vec(ops(), 1..40);
    let config = |cases| Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let in_memory = |ops| {
        let clock = Arc::new(StillClock::default());
        let memory = MemoryStore::new(Arc::<StillClock>::clone(&clock)).tenant(&TenantId::default());
        runtime.block_on(play([&*memory.pools(), &*memory.pools()], &clock, ops));
        Ok(())
    };
    TestRunner::new(config(500)).run(&strategy, in_memory).unwrap();
    let on_disk = |ops| -> Result<(), TestCaseError> {
        runtime.block_on(async {
            let yard = Yard::new("memory:///");
            let other = Store::open(Yard::settings(yard.folder.path(), "memory:///", &yard.clock)).unwrap();
            let here = yard.tenant("default").pools();
            let there = other.tenant(&TenantId::default()).pools();
            play([&*here, &*there], &yard.clock, ops).await;
            other.close().await;
            yard.store.close().await;
        });
        Ok(())
    };
    // Found by chance: renewed when it was over.
    on_disk(vec![Op::Ask(3), Op::Wait(30), Op::Renew(3)]).unwrap();
    TestRunner::new(config(12)).run(&strategy, on_disk).unwrap();
}

#[tokio::test]
async fn slots_end_with_their_process_their_run_and_their_lease() {
    let yard = Yard::new("file:");
    let other = Store::open(Yard::settings(yard.folder.path(), "file:", &yard.clock)).unwrap();
    let (here, there) = (yard.tenant("default").pools(), other.tenant(&TenantId::default()).pools());
    let ask = |of: u64, limit| {
        let step = Some(StepKey::plain(Name::new("s").unwrap().into()));
        SlotRequest { by: Claimant { run: run(of), step }, pools: vec![(pool(0), limit)], priority: 0 }
    };
    assert!(there.ask(&ask(1, 1)).await.unwrap());
    assert!(!here.ask(&ask(2, 1)).await.unwrap());
    assert!(yard.tenant("stranger").pools().ask(&ask(2, 1)).await.unwrap(), "another tenant's pools are its own");
    // The process is gone.
    drop(there);
    other.kill().await;
    assert!(here.ask(&ask(2, 1)).await.unwrap());
    // The run has ended.
    let tenant = yard.tenant("default");
    let plan = tenant.artifacts().put(b"{}".as_slice().into()).await.unwrap().artifact;
    let end = opyard_model::event::RunEvent::RunSuccess;
    let events = vec![(at(1), enqueued(plan, 1)), (at(2), end)];
    tenant.events().append(run(2), 0, events).await.unwrap().durable.wait().await.unwrap();
    assert!(here.ask(&ask(3, 1)).await.unwrap());
    // What the newest run says of the limit holds.
    assert!(here.ask(&ask(4, 2)).await.unwrap());
    assert_eq!(here.list().await.unwrap()[0].limit, 2);
    assert!(!here.ask(&ask(1, 9)).await.unwrap());
    // The lease is over, but for one that was renewed.
    yard.clock.advance(LEASE / 2);
    here.renew(&[ask(4, 2).by]).await.unwrap();
    yard.clock.advance(LEASE / 2);
    let left = here.list().await.unwrap();
    assert_eq!(left[0].held.iter().map(|slot| slot.by.run).collect::<Vec<_>>(), [run(4)]);
    yard.store.close().await;
}
