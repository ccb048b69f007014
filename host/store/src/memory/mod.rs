//! Event log, artifacts and memo without a disk, for tests of those who use them. Everything is durable at once.

mod artifacts;
mod events;
mod memos;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::event::Recorded;
use opyard_model::id::{RunId, TenantId};
use opyard_model::memo::{MemoEntry, MemoKey};
use opyard_model::time::Clock;
use tokio::sync::watch;

use crate::artifact::ArtifactStore;
use crate::event_log::EventLog;
use crate::memo::MemoStore;
use crate::sqlite::claims::Claims;
use crate::sqlite::lock;

/// A yard in memory. Cheap to clone; every clone is the same yard.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    tenants: Arc<Mutex<HashMap<TenantId, Arc<Tenant>>>>,
}

struct Tenant {
    name: TenantId,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    /// Changes with every append.
    news: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    runs: HashMap<RunId, Vec<Recorded>>,
    artifacts: BTreeMap<Digest, Bytes>,
    memos: HashMap<MemoKey, MemoEntry>,
    claims: Claims,
}

/// One tenant of a yard in memory.
#[derive(Clone)]
pub struct MemoryTenant(Arc<Tenant>);

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl std::fmt::Debug for MemoryTenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryTenant({})", self.0.name)
    }
}

impl MemoryStore {
    /// An empty yard.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tenants: Arc::default() }
    }

    /// The handles of one tenant.
    #[must_use]
    pub fn tenant(&self, tenant: &TenantId) -> MemoryTenant {
        let mut tenants = lock(&self.tenants);
        let known = tenants.entry(tenant.clone()).or_insert_with(|| {
            let clock = Arc::clone(&self.clock);
            Arc::new(Tenant { name: tenant.clone(), clock, kept: Mutex::default(), news: watch::Sender::new(()) })
        });
        MemoryTenant(Arc::clone(known))
    }
}

impl MemoryTenant {
    /// The event log.
    #[must_use]
    pub fn events(&self) -> Arc<dyn EventLog> {
        Arc::new(self.clone())
    }

    /// The artifacts.
    #[must_use]
    pub fn artifacts(&self) -> Arc<dyn ArtifactStore> {
        Arc::new(self.clone())
    }

    /// The memo.
    #[must_use]
    pub fn memos(&self) -> Arc<dyn MemoStore> {
        Arc::new(self.clone())
    }
}
