//! Random interleavings of appends against a model, and what is left after the process ended without closing.

use std::collections::HashMap;

use opyard_model::id::TenantId;
use proptest::prelude::*;

use super::conform::Yard;
use crate::Store;
use crate::conformance::samples::{at, enqueued, logged, run};
use crate::event_log::Durable;

#[derive(Debug, Clone)]
enum Act {
    /// Append so many events to that run, `stale` events behind its end.
    Append { run: u64, count: u8, stale: u8 },
    /// Wait for all that was accepted.
    Wait,
    /// The process ends between two commits, and another one starts.
    Reopen,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        12 => (0..3u64, 0..5u8, prop_oneof![9 => Just(0u8), 1 => 1..3u8])
            .prop_map(|(run, count, stale)| Act::Append { run, count, stale }),
        2 => Just(Act::Wait),
        1 => Just(Act::Reopen),
    ];
    proptest::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_was_appended(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let yard = Yard::new("memory:///");
            let settings = || Yard::settings(yard.folder.path(), "file:", &yard.clock);
            let tenant = TenantId::default();
            let mut store = Store::open(settings()).unwrap();
            let mut model: HashMap<u64, Vec<String>> = HashMap::new();
            let mut waiting: Vec<(u64, usize, Durable)> = Vec::new();
            let mut durable: HashMap<u64, usize> = HashMap::new();
            for (turn, act) in acts.into_iter().enumerate() {
                let (log, artifacts) = (store.tenant(&tenant).events(), store.tenant(&tenant).artifacts());
                match act {
                    Act::Append { run: number, count, stale } => {
                        let lines = model.entry(number).or_default();
                        let expected = (lines.len() as u64).saturating_sub(u64::from(stale));
                        let mut events = Vec::new();
                        let mut said = Vec::new();
                        for index in 0..count {
                            if expected == 0 && index == 0 {
                                let plan = artifacts.put(b"{}".as_slice().into()).await.unwrap().artifact;
                                events.push((at(0), enqueued(plan, 1)));
                                said.push(String::new());
                            } else {
                                let line = format!("{turn} {index}");
                                events.push((at(1), logged("a", &line)));
                                said.push(line);
                            }
                        }
                        let appended = log.append(run(number), expected, events).await;
                        if expected == lines.len() as u64 {
                            let accepted = appended.unwrap();
                            lines.extend(said);
                            prop_assert_eq!(accepted.last_seq, lines.len() as u64);
                            waiting.push((number, lines.len(), accepted.durable));
                        } else {
                            prop_assert!(appended.is_err());
                        }
                    }
                    Act::Wait => {
                        for (number, length, accepted) in waiting.drain(..) {
                            accepted.wait().await.unwrap();
                            durable.insert(number, length);
                        }
                    }
                    Act::Reopen => {
                        drop((log, artifacts));
                        store.kill().await;
                        waiting.clear();
                        yard.clock.advance(crate::control::LEASE);
                        store = Store::open(settings()).unwrap();
                        let tenant = store.tenant(&tenant);
                        for (number, lines) in &mut model {
                            let kept = durable.get(number).copied().unwrap_or(0);
                            if tenant.control().claim_run(run(*number)).await.is_err() {
                                prop_assert_eq!(kept, 0, "a durable run is gone");
                            }
                            let found = tenant.events().read(run(*number), 0, 10_000).await.unwrap();
                            prop_assert!(found.len() >= kept && found.len() <= lines.len());
                            lines.truncate(found.len());
                        }
                    }
                }
            }
            store.close().await;
            let store = Store::open(settings()).unwrap();
            for (number, lines) in model {
                let found = store.tenant(&tenant).events().read(run(number), 0, 10_000).await.unwrap();
                prop_assert_eq!(found.len(), lines.len());
                for (index, (recorded, line)) in found.iter().zip(&lines).enumerate() {
                    prop_assert_eq!(recorded.seq, index as u64 + 1);
                    if index > 0 {
                        prop_assert_eq!(&recorded.event, &logged("a", line));
                    }
                }
            }
            Ok(())
        })?;
    }
}
