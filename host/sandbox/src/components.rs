//! Components that are ready to be called: admitted, compiled once, linked once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use opyard_model::digest::ComponentDigest;
use opyard_model::error::{Code, Failure, sanitize};
use opyard_model::id::TenantId;
use tokio::sync::OnceCell;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Precompiled};

use crate::admission::{self, Admitted, HOOKS, IO_MANAGERS, OPS, TYPE_CHECKS};
use crate::bindings::StepPre;
use crate::bindings::checking::CheckingPre;
use crate::bindings::hooking::HookingPre;
use crate::bindings::managing::ManagingPre;
use crate::bounds::ComponentBounds;
use crate::cache::{CacheIntegrity, CodeCache, Entry};
use crate::compiler::{Compiler, refused};
use crate::host::closed;
use crate::state::HostState;
use crate::surroundings::ComponentSource;

/// Most components that are kept in memory. The one that was not called for the longest time goes first.
const MAX_LOADED: usize = 256;
/// Most components of which it is kept that they cannot be compiled.
const MAX_REFUSED: usize = 1_000;
/// Most reports of altered cache files that wait to be taken.
const MAX_REPORTS: usize = 100;

/// What a component's binary proves, before anything of it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedComponent {
    /// SHA-256 of the bytes.
    pub digest: ComponentDigest,
    /// How many bytes.
    pub size: u64,
    /// Every interface that it imports, with version, sorted: the bound of what it could ever reach.
    pub imports: Vec<String>,
    /// Every interface that it exports, sorted.
    pub exports: Vec<String>,
}

/// A component that is ready to be instantiated, as each of the worlds that it exports.
pub(crate) struct Loaded {
    pub(crate) component: LoadedComponent,
    pub(crate) ops: Option<StepPre<HostState>>,
    pub(crate) checks: Option<CheckingPre<HostState>>,
    pub(crate) managers: Option<ManagingPre<HostState>>,
    pub(crate) hooks: Option<HookingPre<HostState>>,
}

/// All components of the process.
pub(crate) struct Components {
    engine: Engine,
    linker: Linker<HostState>,
    compiler: Arc<dyn Compiler>,
    cache: Option<Arc<CodeCache>>,
    bounds: ComponentBounds,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    slots: HashMap<ComponentDigest, Slot>,
    /// Whose each component is: a digest alone does not let a tenant run it.
    known: HashSet<(TenantId, ComponentDigest)>,
    /// Counts look-ups.
    now: u64,
    reports: Vec<CacheIntegrity>,
    /// Components that cannot be compiled, and never will be: whoever asks again, or waits beside the first, does not start
    /// it all over.
    refused: HashMap<ComponentDigest, Failure>,
}

struct Slot {
    /// Filled by one caller while the others wait.
    cell: Arc<OnceCell<Arc<Loaded>>>,
    used: u64,
}

impl Components {
    pub(crate) fn new(
        linker: Linker<HostState>,
        compiler: Arc<dyn Compiler>,
        cache: Option<CodeCache>,
        bounds: ComponentBounds,
    ) -> Self {
        let engine = linker.engine().clone();
        Self { engine, linker, compiler, cache: cache.map(Arc::new), bounds, shelf: Mutex::default() }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // What is under it is whole at every moment.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports of altered cache files since the last call.
    pub(crate) fn take_reports(&self) -> Vec<CacheIntegrity> {
        std::mem::take(&mut self.shelf().reports)
    }

    /// The component of that digest, from memory, or from where `tenant` has it.
    pub(crate) async fn get(
        &self,
        tenant: &TenantId,
        digest: ComponentDigest,
        source: &dyn ComponentSource,
    ) -> Result<Arc<Loaded>, Failure> {
        let cell = {
            let mut shelf = self.shelf();
            let known = shelf.known.contains(&(tenant.clone(), digest));
            let cell = shelf.slot(digest);
            if known && let Some(loaded) = cell.get() {
                return Ok(Arc::clone(loaded));
            }
            cell
        };
        let bytes = source.bytes(tenant, digest).await?;
        if admission::digest(&bytes) != digest {
            let text = format!("what is there for component {digest} is another file");
            return Err(Failure::new(Code::ComponentUnreadable, text));
        }
        self.fill(tenant, digest, &cell, bytes).await
    }

    /// Makes a component ready.
    pub(crate) async fn load(&self, tenant: &TenantId, bytes: Bytes) -> Result<Arc<Loaded>, Failure> {
        if bytes.len() as u64 > self.bounds.size.0 {
            // Not even hashed.
            return admission::admit(&bytes, &self.bounds).map(|_| unreachable!("it is too large"));
        }
        let digest = admission::digest(&bytes);
        let cell = self.shelf().slot(digest);
        self.fill(tenant, digest, &cell, bytes).await
    }

    async fn fill(
        &self,
        tenant: &TenantId,
        digest: ComponentDigest,
        cell: &OnceCell<Arc<Loaded>>,
        bytes: Bytes,
    ) -> Result<Arc<Loaded>, Failure> {
        let loaded = cell.get_or_try_init(|| self.make(bytes)).await;
        let mut shelf = self.shelf();
        match loaded {
            Ok(loaded) => {
                shelf.known.insert((tenant.clone(), digest));
                Ok(Arc::clone(loaded))
            }
            Err(failure) => {
                shelf.forget_empty(digest);
                Err(failure)
            }
        }
    }

    async fn make(&self, bytes: Bytes) -> Result<Arc<Loaded>, Failure> {
        let (bounds, looked_at) = (self.bounds, bytes.clone());
        let admitted = blocking(move || admission::admit(&looked_at, &bounds)).await??;
        let digest = admitted.digest;
        let (code, keep) = self.code(digest, bytes).await?;
        let engine = self.engine.clone();
        let component = blocking(move || {
            let is_code = matches!(Engine::detect_precompiled(&code), Some(Precompiled::Component));
            // SAFETY: `code` is what this host's compiler gave, just now or before: then its keyed hash was checked over
            // these very bytes in memory, and nobody else has the key. Code of other settings or versions is refused.
            #[expect(unsafe_code, reason = "compiled code can only be loaded on trust; see the module `cache`")]
            let component = unsafe { Component::deserialize(&engine, &code) };
            let component = component.map_err(|error| unusable(&error, is_code))?;
            if let Some(cache) = keep {
                // A cache that cannot be written costs time, and nothing else.
                drop(cache.put(digest, &code));
            }
            Ok::<_, Failure>(component)
        })
        .await??;
        let mut linker = self.linker.clone();
        closed::add_to_linker(&mut linker, &self.engine, &component).map_err(|error| refused(&error))?;
        let pre = linker.instantiate_pre(&component).map_err(|error| refused(&error))?;
        let ships = |world: &str| admitted.exports.iter().any(|export| export == world);
        let ops = ships(OPS).then(|| StepPre::new(pre.clone())).transpose().map_err(|error| refused(&error))?;
        let checks =
            ships(TYPE_CHECKS).then(|| CheckingPre::new(pre.clone())).transpose().map_err(|error| refused(&error))?;
        let managers =
            ships(IO_MANAGERS).then(|| ManagingPre::new(pre.clone())).transpose().map_err(|error| refused(&error))?;
        let hooks = ships(HOOKS).then(|| HookingPre::new(pre.clone())).transpose().map_err(|error| refused(&error))?;
        let Admitted { digest, size, imports, exports } = admitted;
        let component = LoadedComponent { digest, size, imports, exports };
        Ok(Arc::new(Loaded { component, ops, checks, managers, hooks }))
    }

    /// The component's machine code: from the cache, or compiled now; then with the cache that is to keep it, once it has
    /// shown to be code.
    async fn code(&self, digest: ComponentDigest, bytes: Bytes) -> Result<(Vec<u8>, Option<Arc<CodeCache>>), Failure> {
        let Some(cache) = &self.cache else { return Ok((self.compile(digest, bytes).await?, None)) };
        let reader = Arc::clone(cache);
        match blocking(move || reader.get(digest)).await? {
            Entry::Code(code) => return Ok((code, None)),
            Entry::Absent => {}
            Entry::Altered(report) => {
                let mut shelf = self.shelf();
                if shelf.reports.len() < MAX_REPORTS {
                    shelf.reports.push(report);
                }
            }
        }
        Ok((self.compile(digest, bytes).await?, Some(Arc::clone(cache))))
    }
}

impl Components {
    async fn compile(&self, digest: ComponentDigest, bytes: Bytes) -> Result<Vec<u8>, Failure> {
        if let Some(failure) = self.shelf().refused.get(&digest) {
            return Err(failure.clone());
        }
        let compiled = self.compiler.compile(bytes).await;
        if let Err(failure) = &compiled
            && matches!(failure.code, Code::ComponentInvalid | Code::TooLarge | Code::CompileLimit)
        {
            let mut shelf = self.shelf();
            if shelf.refused.len() >= MAX_REFUSED {
                shelf.refused.clear();
            }
            shelf.refused.insert(digest, failure.clone());
        }
        compiled
    }

    /// Whether components can be compiled here: compiles the smallest there is.
    pub(crate) async fn probe_compiler(&self) -> Result<(), Failure> {
        self.compiler.compile(Bytes::from_static(b"\0asm\x0d\0\x01\0")).await.map(drop)
    }
}

/// Code that this host's compiler gave, and that its engine does not take: the component begins with more than there is for
/// it, or, if it `is_code` of none, that is nothing that it could do.
fn unusable(error: &wasmtime::Error, is_code: bool) -> Failure {
    let why = sanitize(&format!("{error:#}"), 2 << 10);
    if is_code {
        return Failure::new(Code::TooLarge, format!("the component needs more than any step may have: {why}"));
    }
    Failure::new(Code::CompilerFailed, format!("the compiler gave code that cannot be loaded: {why}"))
}

impl Shelf {
    fn slot(&mut self, digest: ComponentDigest) -> Arc<OnceCell<Arc<Loaded>>> {
        self.now += 1;
        if self.slots.len() >= MAX_LOADED && !self.slots.contains_key(&digest) {
            let oldest = self.slots.iter().min_by_key(|(_, slot)| slot.used).map(|(digest, _)| *digest);
            if let Some(oldest) = oldest {
                self.slots.remove(&oldest);
                self.known.retain(|(_, digest)| *digest != oldest);
            }
        }
        let slot = self.slots.entry(digest).or_insert_with(|| Slot { cell: Arc::default(), used: 0 });
        slot.used = self.now;
        Arc::clone(&slot.cell)
    }

    /// Components that cannot be used do not push out others.
    fn forget_empty(&mut self, digest: ComponentDigest) {
        if self.slots.get(&digest).is_some_and(|slot| slot.cell.get().is_none()) {
            self.slots.remove(&digest);
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(Code::HostPanic, format!("work on a component stopped: {error}")))
}
