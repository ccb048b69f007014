//! IO managers that components ship: each call in an instance of its own.

use std::sync::Arc;

use async_trait::async_trait;
use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::id::Name;
use opyard_model::json::CanonicalJson;
use opyard_model::plan::{ComponentManager, IoManagerSpec};
use opyard_model::step::{BoundManager, ResourceRight, Said};
use opyard_model::value::ValueRef;
use opyard_store::artifact::{ArtifactReader, ArtifactWriter, MAX_PACKED};
use opyard_store::io_manager::{IoManager, Loaded, Slot, Stored};

use crate::bindings::managing::exports::opyard::op::io_managers as theirs;
use crate::bindings::opyard::op::types::OpError;
use crate::checking::Lines;
use crate::components;
use crate::gate::Doors;
use crate::host::values::{Incoming, Reader, Source, Writer};
use crate::host::wasi::World;
use crate::metadata;
use crate::output::Keeper;
use crate::redact::Redactor;
use crate::state::Work;
use crate::visit::{Allowed, Came, Errand, Visit, no_world};

/// Longest locator, in bytes: it stands in an event.
const MAX_LOCATOR: usize = 64 << 10;
/// Longest fingerprint, in bytes.
const MAX_FINGERPRINT: usize = 1 << 10;

/// What the host knows of one call of an IO manager while it runs.
pub(crate) struct Management {
    pub(crate) keeper: Keeper,
    pub(crate) manager: Name,
    pub(crate) rights: Vec<ResourceRight>,
    /// What is to be kept, behind the reader that the manager was lent.
    value: Option<ValueRef>,
    /// What it has loaded.
    loaded: Option<Loaded>,
}

impl Management {
    pub(crate) fn value(&self) -> Option<&ValueRef> {
        self.value.as_ref()
    }

    pub(crate) fn loaded(&mut self, loaded: Loaded) {
        self.loaded = Some(loaded);
    }
}

/// What an IO manager is asked.
pub(crate) struct Ask {
    manager: String,
    config: String,
    what: What,
}

enum What {
    Keep { slot: theirs::Slot, reader: Reader },
    Load { slot: theirs::Slot, locator: String, writer: Writer },
    Fingerprint { locator: String },
    Forget { locator: String },
}

/// What came of it.
pub(crate) enum Answer {
    Kept(Stored),
    Loaded(Loaded),
    Fingerprint(Option<String>),
    Forgotten,
}

/// The words of the contract for a slot.
fn told(slot: &Slot) -> theirs::Slot {
    theirs::Slot {
        job: slot.job.to_string(),
        run_id: slot.run.to_string(),
        step_key: slot.step.to_string(),
        port: slot.port.to_string(),
        mapping_key: slot.item.as_ref().map(ToString::to_string),
        partition_key: None,
        type_name: slot.type_name.to_string(),
        attributes: Vec::new(),
    }
}

impl Visit<'_> {
    pub(crate) async fn manage(&mut self, loaded: &components::Loaded, ask: Ask) -> Result<Answer, Failure> {
        let answered = self.ask_manager(loaded, ask).await;
        match answered {
            // What it was told is out of reach, it could neither keep nor load.
            Ok(Ok(_)) if let Some(reason) = &self.store.data().guard.unavailable => Err(reason.clone()),
            Ok(Ok(answer)) => answer,
            Ok(Err(OpError::Failure(failure))) => {
                let mut failure = self.failed(failure);
                if failure.code == Code::OpFailed {
                    failure.code = Code::IoManagerFailed;
                }
                Err(failure)
            }
            Ok(Err(OpError::Retry(retry))) => {
                Err(Failure::new(Code::IoManagerFailed, sanitize(&retry.description, MAX_DESCRIPTION)))
            }
            Err(error) => Err(self.trapped(&error)),
        }
    }

    async fn ask_manager(
        &mut self,
        loaded: &components::Loaded,
        Ask { manager, config, what }: Ask,
    ) -> wasmtime::Result<Result<Result<Answer, Failure>, OpError>> {
        let Some(pre) = &loaded.managers else { return Err(no_world("IO managers").into()) };
        self.fuel()?;
        let instance = pre.instantiate_async(&mut self.store).await?;
        let guest = instance.opyard_op_io_managers();
        let store = &mut self.store;
        Ok(match what {
            What::Keep { slot, reader } => {
                let reader = store.data_mut().table.push(reader)?;
                let stored = guest.call_handle_output(&mut *store, &manager, &config, &slot, reader).await?;
                let redactor = &store.data().redactor;
                stored.map(|stored| kept(stored, redactor).map(Answer::Kept))
            }
            What::Load { slot, locator, writer } => {
                let writer = store.data_mut().table.push(writer)?;
                let done = guest.call_load_input(&mut *store, &manager, &config, &slot, &locator, writer).await?;
                let Work::Manage(management) = &mut store.data_mut().work else { return Ok(Ok(Err(another()))) };
                let loaded = management.loaded.take();
                done.map(|()| match loaded {
                    Some(loaded) => Ok(Answer::Loaded(loaded)),
                    None => Err(Failure::new(Code::IoManagerFailed, "it succeeded without committing a value")),
                })
            }
            What::Fingerprint { locator } => {
                let told = guest.call_fingerprint(&mut *store, &manager, &config, &locator).await?;
                let redactor = &store.data().redactor;
                told.map(|told| fingerprint(told, redactor).map(Answer::Fingerprint))
            }
            What::Forget { locator } => {
                let done = guest.call_forget(store, &manager, &config, &locator).await?;
                done.map(|()| Ok(Answer::Forgotten))
            }
        })
    }
}

/// Guest-controlled: where a value is kept, and what is told of it.
fn kept(stored: theirs::Stored, redactor: &Redactor) -> Result<Stored, Failure> {
    let wrong = |why: String| Failure::new(Code::IoManagerFailed, why);
    if stored.locator.len() > MAX_LOCATOR {
        return Err(wrong(format!("its locator has {} bytes; at most {MAX_LOCATOR} are taken", stored.locator.len())));
    }
    let locator = CanonicalJson::parse(&stored.locator).map_err(|error| wrong(format!("its locator is {error}")))?;
    // It stands in an event as it is.
    if redactor.clean(locator.clone()).as_ref() != Some(&locator) {
        return Err(wrong("its locator holds a secret".to_owned()));
    }
    let metadata = metadata::take(stored.metadata).map_err(|error| wrong(error.to_string()))?.entries;
    let metadata = redactor.clean(metadata).unwrap_or_default();
    Ok(Stored { locator, metadata })
}

/// Guest-controlled: it stands in events and memo keys.
fn fingerprint(told: Option<String>, redactor: &Redactor) -> Result<Option<String>, Failure> {
    match told {
        Some(text) if text.len() > MAX_FINGERPRINT => {
            let text = format!("its fingerprint has {} bytes; at most {MAX_FINGERPRINT} are taken", text.len());
            Err(Failure::new(Code::IoManagerFailed, text))
        }
        // What is escaped stays as different as it was.
        told => Ok(redactor.clean(told.map(|text| sanitize(&text, MAX_FINGERPRINT * 8))).flatten()),
    }
}

fn another() -> Failure {
    Failure::new(Code::Invariant, "an IO manager answered another question than it was asked")
}

/// An IO manager, however it is made.
pub(crate) enum Opened<'a> {
    BuiltIn(Arc<dyn IoManager>),
    Guest(Guest<'a>),
}

impl Opened<'_> {
    pub(crate) fn get(&self) -> &dyn IoManager {
        match self {
            Self::BuiltIn(manager) => &**manager,
            Self::Guest(guest) => guest,
        }
    }
}

/// An IO manager of a component. What it logs goes to `said`.
pub(crate) struct Guest<'a> {
    keeper: &'a Keeper,
    name: &'a Name,
    manager: &'a ComponentManager,
    rights: &'a [ResourceRight],
    said: &'a dyn Said,
}

impl Keeper {
    /// Opens the IO manager `name`; none for `artifacts`.
    pub(crate) async fn manager<'a>(
        &'a self,
        name: &'a Name,
        bound: &'a BoundManager,
        said: &'a dyn Said,
    ) -> Result<Option<Opened<'a>>, Failure> {
        match &bound.spec {
            IoManagerSpec::Component(manager) => {
                Ok(Some(Opened::Guest(Guest { keeper: self, name, manager, rights: &bound.rights, said })))
            }
            spec => {
                let manager = self.inside.surroundings.artifacts.io_manager(&self.tenant, spec).await?;
                Ok(manager.map(Opened::BuiltIn))
            }
        }
    }
}

impl Guest<'_> {
    async fn ask(&self, what: What, value: Option<ValueRef>) -> Result<Answer, Failure> {
        let inside = &*self.keeper.inside;
        let ComponentManager { component, manager, config, limits, .. } = self.manager;
        let asked = async {
            let loaded =
                inside.components.get(&self.keeper.tenant, *component, &*inside.surroundings.components).await?;
            let allowed = Allowed::new(Doors::EXTENSION, self.rights);
            let work = Work::Manage(Box::new(Management {
                keeper: self.keeper.clone(),
                manager: manager.clone(),
                rights: self.rights.to_vec(),
                value,
                loaded: None,
            }));
            let world = World::real(Arc::clone(&inside.surroundings.clock));
            let visit = Visit::new((inside, &inside.checks), work, allowed, world, limits.clone());
            let ask = Ask { manager: manager.to_string(), config: config.as_str().to_owned(), what };
            // Inside of an op's call, as a type checker is: boxed, so that the one future does not hold the other's type.
            match Box::pin(visit.run(&loaded, Errand::Manage(Box::new(ask)), &Lines(self.said))).await.0? {
                Came::Managed(answer) => Ok(answer),
                Came::Op(_) | Came::Described(_) | Came::Checked(_) | Came::Hooked => Err(another()),
            }
        };
        asked.await.map_err(|mut failure: Failure| {
            let Self { name, manager, .. } = self;
            let who = format!("the IO manager `{name}` ({}.{})", manager.component_name, manager.manager);
            failure.description = sanitize(&format!("{who}: {}", failure.description), MAX_DESCRIPTION);
            failure
        })
    }
}

#[async_trait]
impl IoManager for Guest<'_> {
    async fn handle_output(
        &self,
        slot: &Slot,
        value: &ValueRef,
        mut bytes: Box<dyn ArtifactReader>,
    ) -> Result<Stored, Failure> {
        let size = value.artifact.size;
        let source = if size <= MAX_PACKED as u64 {
            Source::Small(bytes.read_at(0, MAX_PACKED).await.map_err(|error| error.to_failure())?)
        } else {
            Source::Open(bytes)
        };
        let reader = Reader { input: 0, nth: 0, size, source, position: 0 };
        match self.ask(What::Keep { slot: told(slot), reader }, Some(value.clone())).await? {
            Answer::Kept(stored) => Ok(stored),
            _ => Err(another()),
        }
    }

    async fn load_input(
        &self,
        slot: &Slot,
        locator: &CanonicalJson,
        into: Box<dyn ArtifactWriter>,
    ) -> Result<Loaded, Failure> {
        let writer = Writer::Loaded(Incoming { into, metadata: Vec::new() });
        let what = What::Load { slot: told(slot), locator: locator.as_str().to_owned(), writer };
        match self.ask(what, None).await? {
            Answer::Loaded(loaded) => Ok(loaded),
            _ => Err(another()),
        }
    }

    async fn fingerprint(&self, locator: &CanonicalJson) -> Result<Option<String>, Failure> {
        match self.ask(What::Fingerprint { locator: locator.as_str().to_owned() }, None).await? {
            Answer::Fingerprint(told) => Ok(told),
            _ => Err(another()),
        }
    }

    async fn forget(&self, locator: &CanonicalJson) -> Result<(), Failure> {
        match self.ask(What::Forget { locator: locator.as_str().to_owned() }, None).await? {
            Answer::Forgotten => Ok(()),
            _ => Err(another()),
        }
    }
}
