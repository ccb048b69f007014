//! One seed, one history: deciding and driving for real, in virtual time, over stores whose calls go wrong, with ops that
//! play a script. The same seed gives the same log.
//!
//! `OPYARD_HISTORIES=FIRST..LAST` plays others than the suite does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opyard_engine::{Engine, EngineError, EngineSettings, Launch, Parts};
use opyard_model::event::{Recorded, RunStatus};
use opyard_model::id::{RunId, TenantId};
use opyard_model::plan::{FailurePolicy, Plan};
use opyard_model::state::RunState;
use opyard_model::step::{Said, StepExecutor, StepOutcome, StepRequest};
use opyard_model::time::Clock;
use opyard_store::artifact::ArtifactStore;
use opyard_store::error::StoreError;
use opyard_store::fault::{Fault, Faults, Operation};
use opyard_store::memory::{MemoryStore, MemoryTenant};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::time::Instant;

use crate::plans::{self, Scripts};
use crate::reference;
use crate::yard::{Player, Time};

/// Calls of the engine that may go wrong. (What the executor does with its own stores is not the engine's.)
const OPERATIONS: [Operation; 7] = [
    Operation::Append,
    Operation::Commit,
    Operation::ReadEvents,
    Operation::Get,
    Operation::LookUp,
    Operation::Record,
    Operation::Release,
];

/// Puts what its scripts yield into the store before it is said, as every executor does.
struct Keeping {
    player: Player,
    artifacts: Arc<dyn ArtifactStore>,
}

#[async_trait]
impl StepExecutor for Keeping {
    async fn execute(&self, request: StepRequest, said: &dyn Said) -> StepOutcome {
        self.player.keep(&request, &*self.artifacts).await;
        self.player.execute(request, said).await
    }
}

/// What a seed leads to.
struct History {
    plan: Plan,
    scripts: Scripts,
    slots: usize,
    cancel_at: Option<Duration>,
    faults: Vec<(Operation, u64, Fault)>,
}

impl History {
    fn of(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let fault = proptest::prop_oneof![
            proptest::strategy::Just(Fault::Fail),
            proptest::strategy::Just(Fault::LoseAcknowledgement),
            (1u64..5_000).prop_map(|ms| Fault::Delay(Duration::from_millis(ms))),
        ];
        let fault = (0..OPERATIONS.len(), 1u64..40, fault);
        let strategy = (
            plans::plans(15),
            1usize..5,
            proptest::option::weighted(0.2, 0u64..20_000),
            proptest::collection::vec(fault, 0..6),
        );
        let ((plan, scripts), slots, cancel, faults) = strategy.new_tree(&mut runner).unwrap().current();
        Self {
            plan,
            scripts,
            slots,
            cancel_at: cancel.map(Duration::from_millis),
            faults: faults.into_iter().map(|(operation, nth, fault)| (OPERATIONS[operation], nth, fault)).collect(),
        }
    }

    /// Plays it from an empty yard to the end of the run; whoever drives gives up now and then, and drives again.
    fn play(&self) -> Vec<Recorded> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(Time(Instant::now()));
            let tenant = MemoryStore::new(Arc::clone(&clock)).tenant(&TenantId::default());
            let faults = Faults::none();
            let executor = Keeping {
                player: Player { scripts: self.scripts.clone(), ..Player::default() },
                artifacts: tenant.artifacts(),
            };
            let parts = Parts {
                executor: Arc::new(executor),
                events: faults.events(tenant.events()),
                artifacts: faults.artifacts(tenant.artifacts()),
                memos: faults.memos(tenant.memos()),
                clock,
            };
            let settings = EngineSettings { max_concurrent_steps: self.slots, wasmtime: "none".into() };
            let engine = Engine::new(TenantId::default(), parts, settings);
            let (run, plan) = (RunId::from_parts(1, 1), Arc::new(self.plan.clone()));
            let launch = Launch { run, plan, tags: std::collections::BTreeMap::new(), use_memo: true, lineage: None };
            engine.enqueue(launch).await.unwrap();
            for (operation, nth, fault) in &self.faults {
                faults.at(*operation, *nth, *fault);
            }
            self.drive(&engine, run).await;
            events(&tenant, run).await.unwrap()
        })
    }

    async fn drive(&self, engine: &Engine, run: RunId) {
        let begun = Instant::now();
        for _ in 0..100 {
            let left = self.cancel_at.map(|at| at.saturating_sub(begun.elapsed()));
            let cancel = Box::pin(async move {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
                "the history says so".to_owned()
            });
            match engine.drive(run, cancel).await {
                Ok(_) => return,
                Err(EngineError::Store(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the run does not end");
    }

    fn check(&self, log: &[Recorded]) {
        let mut state = RunState::new(Arc::new(self.plan.clone()));
        for recorded in log {
            state.apply(recorded).unwrap();
            state.audit().unwrap();
        }
        let status = state.status().unwrap();
        assert!(status.is_final(), "{status:?}");
        crate::drive::successes_are_single(log);
        assert!(state.instances().all(|(_, instance)| instance.state.is_final()));
        if status != RunStatus::Canceled && self.plan.on_failure == FailurePolicy::GoOn {
            assert_eq!(reference::ends_of(&state), reference::ends(&self.plan, &self.scripts));
        }
    }
}

async fn events(tenant: &MemoryTenant, run: RunId) -> Result<Vec<Recorded>, StoreError> {
    let mut log: Vec<Recorded> = Vec::new();
    loop {
        let page = tenant.events().read(run, log.len() as u64, 1_000).await?;
        if page.is_empty() {
            return Ok(log);
        }
        log.extend(page);
    }
}

/// Whatever goes wrong, a run ends as its plan says, and the same seed leads there by the same way.
#[test]
fn one_seed_is_one_history() {
    let seeds = match std::env::var("OPYARD_HISTORIES") {
        Ok(text) => {
            let (first, last) = text.split_once("..").unwrap();
            first.parse().unwrap()..last.parse().unwrap()
        }
        Err(_) => 0..500u64,
    };
    for seed in seeds {
        let history = History::of(seed);
        let log = history.play();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.check(&log)));
        assert!(checked.is_ok(), "seed {seed}: play it again with OPYARD_HISTORIES={seed}..{}", seed + 1);
        assert_eq!(history.play(), log, "seed {seed} has two histories");
    }
}
