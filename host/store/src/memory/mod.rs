//! Event log, artifacts and memo without a disk, for tests of those who use them. Everything is durable at once; or, when
//! asked to, only what was synced since, so that a power cut loses the rest.

mod artifacts;
mod events;
mod image;
mod memos;
mod pools;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use opyard_model::id::TenantId;
use opyard_model::time::Clock;
use tokio::sync::watch;

use self::image::Kept;
use crate::artifact::ArtifactStore;
use crate::event_log::{Durable, EventLog};
use crate::memo::MemoStore;
use crate::pool::{Book, Pools};
use crate::sqlite::lock;

/// A yard in memory. Cheap to clone; every clone is the same yard.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    write_behind: bool,
    tenants: Arc<Mutex<HashMap<TenantId, Arc<Tenant>>>>,
}

struct Tenant {
    name: TenantId,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    /// Changes with every append, sync and power cut.
    news: watch::Sender<()>,
    book: Mutex<Book>,
    /// Changes when slots are given back.
    freed: watch::Sender<()>,
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
        Self { clock, write_behind: false, tenants: Arc::default() }
    }

    /// The same, but what it is given is durable only once it was synced: 20 ms later, or when somebody waits for it.
    /// [`cut_power`](Self::cut_power) loses the rest. Needs tokio's time.
    #[must_use]
    pub fn write_behind(clock: Arc<dyn Clock>) -> Self {
        Self { write_behind: true, ..Self::new(clock) }
    }

    /// Power goes, and comes back: of the changes that were not synced, the first `luck` of each tenant are on the disk all
    /// the same, and what is not is forgotten. Nothing is lost of a store without write-behind, but the claims of its memo.
    pub fn cut_power(&self, luck: usize) {
        for tenant in lock(&self.tenants).values() {
            lock(&tenant.kept).cut(luck);
            tenant.news.send_replace(());
        }
    }

    /// The handles of one tenant.
    #[must_use]
    pub fn tenant(&self, tenant: &TenantId) -> MemoryTenant {
        let mut tenants = lock(&self.tenants);
        let known = tenants.entry(tenant.clone()).or_insert_with(|| {
            let clock = Arc::clone(&self.clock);
            let kept = Mutex::new(Kept::new(self.write_behind));
            let (news, freed) = (watch::Sender::new(()), watch::Sender::new(()));
            Arc::new(Tenant { name: tenant.clone(), clock, kept, news, book: Mutex::default(), freed })
        });
        MemoryTenant(Arc::clone(known))
    }
}

impl Tenant {
    /// What is held now: what nobody waited for was synced in time all the same.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        let mut kept = lock(&self.kept);
        kept.sync_overdue(self.clock.now());
        kept
    }

    /// When what was accepted by now is durable.
    fn durable(self: &Arc<Self>, kept: &Kept) -> Durable {
        let Some(mark) = kept.mark() else { return Durable::now() };
        let (tenant, hurried) = (Arc::clone(self), Arc::clone(self));
        let settled = async move {
            let mut news = tenant.news.subscribe();
            loop {
                if let Some(answer) = lock(&tenant.kept).answer(mark) {
                    return answer;
                }
                if tokio::time::timeout(image::GATHER, news.changed()).await.is_err() {
                    tenant.sync();
                }
            }
        };
        Durable::new(settled).hurried_by(move || hurried.sync())
    }

    fn sync(&self) {
        lock(&self.kept).sync();
        self.news.send_replace(());
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

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> Arc<dyn Pools> {
        Arc::new(self.clone())
    }
}
