//! What it costs to enter a guest: the sandbox beside wasmtime alone.

use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use opyard_sandbox::{ComponentSource, Sandbox, SandboxSettings, Surroundings, TenantArtifacts};
use opyard_server::SystemClock;
use opyard_server::model::digest::ComponentDigest;
use opyard_server::model::error::Failure;
use opyard_server::model::id::{Name, RunId, StepKey, TenantId};
use opyard_server::model::limits::Limits;
use opyard_server::model::plan::IoManagerSpec;
use opyard_server::model::step::{
    Call, OpCall, Said, Saying, StepExecutor as _, StepIdentity, StepRequest, StepResult,
};
use opyard_server::store::TenantStore;
use opyard_server::store::artifact::ArtifactStore;
use opyard_server::store::error::StoreError;
use opyard_server::store::io_manager::IoManager;
use opyard_server::store::key_value::KeyValues;

use crate::bare::Bare;
use crate::house::{self, House};
use crate::meter::Meter;
use crate::table::{Better, Row};

pub(crate) const ROWS: &[&str] =
    &["instance of a Rust guest, one call of the sandbox", "instance of a Python guest, one call of the sandbox"];
/// Calls of a guest in Rust, and of one in Python, which takes a hundred times as long.
const CALLS: [usize; 2] = [20_000, 2_000];

/// One component, and the artifacts of a yard.
struct Around {
    component: Bytes,
    store: TenantStore,
}

#[async_trait]
impl ComponentSource for Around {
    async fn bytes(&self, _: &TenantId, _: ComponentDigest) -> Result<Bytes, Failure> {
        Ok(self.component.clone())
    }
}

#[async_trait]
impl TenantArtifacts for Around {
    fn artifacts(&self, _: &TenantId) -> Result<Arc<dyn ArtifactStore>, StoreError> {
        Ok(self.store.artifacts())
    }

    async fn io_manager(&self, _: &TenantId, _: &IoManagerSpec) -> Result<Option<Arc<dyn IoManager>>, Failure> {
        Ok(None)
    }

    fn key_values(&self, _: &TenantId, bucket: &Name) -> Result<KeyValues, StoreError> {
        Ok(self.store.key_values(bucket))
    }
}

/// Nobody listens.
struct Silence;

impl Said for Silence {
    fn say(&self, _: Saying) {}
}

/// Rows of calls that do nothing.
pub(crate) async fn measure() -> Result<Vec<Row>> {
    let guests = [Some(house::probe()?), house::python_probe()];
    let mut rows = Vec::new();
    for ((name, calls), guest) in ROWS.iter().zip(CALLS).zip(guests) {
        let Some(guest) = guest else { continue };
        rows.push(calls_of(name, calls, Bytes::from(std::fs::read(guest)?)).await?);
    }
    Ok(rows)
}

async fn calls_of(name: &str, calls: usize, component: Bytes) -> Result<Row> {
    let bare = Bare::compile(&component)?;
    let house = House::new(None)?;
    let around = Arc::new(Around { component: component.clone(), store: house.yard.tenant_store().clone() });
    let components = Arc::clone(&around) as Arc<dyn ComponentSource>;
    let surroundings = Surroundings { components, artifacts: around, clock: Arc::new(SystemClock) };
    let sandbox = Sandbox::new(&SandboxSettings::default(), surroundings)?;
    let tenant = TenantId::default();
    let loaded = sandbox.load(&tenant, component).await.map_err(|failure| anyhow!("{failure}"))?;
    let request = request(tenant, loaded.digest)?;

    for _ in 0..calls / 20 {
        bare.call("noop", b"").await?;
        sandbox.execute(request.clone(), &Silence).await;
    }
    let meter = Meter::start();
    for _ in 0..calls {
        bare.call("noop", b"").await?;
    }
    let alone = meter.stop();
    let meter = Meter::start();
    for _ in 0..calls {
        let outcome = sandbox.execute(request.clone(), &Silence).await;
        ensure!(matches!(outcome.result, StepResult::Success { .. }), "a step ended with {outcome:?}");
    }
    let inside = meter.stop();
    house.yard.close().await;
    let (cpu, wall) = inside.micros(calls);
    Ok(Row::new(name, "µs", cpu).wall(wall).beside("bare loop", alone.micros(calls).0, Better::Lower))
}

fn request(tenant: TenantId, component: ComponentDigest) -> Result<StepRequest> {
    let step = StepIdentity {
        job: Name::new("work")?,
        run: RunId::from_parts(1, 1),
        key: "noop".parse::<StepKey>()?,
        attempt: 0,
    };
    let call = OpCall::new(component, Name::new("noop")?);
    Ok(StepRequest { tenant, step: Some(step), call: Call::Op(Box::new(call)), limits: Limits::default() })
}
