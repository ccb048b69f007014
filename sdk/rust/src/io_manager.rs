//! IO managers: where outputs are kept, and how inputs are loaded.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::io_manager::exports::opyard::op::io_managers as host;
use crate::bindings::opyard::op::types::OpError;
use crate::bindings::opyard::op::values;
use crate::component::log_panics;
use crate::definition::{ExtensionDefinition, OpDefinition};
use crate::metadata::{MetadataEntry, MetadataValue, entry};
use crate::port::Role;
use crate::stream::{Reader, Writer};

/// A port of a step of a run: whose value it is, or who asks for it.
pub use crate::bindings::io_manager::exports::opyard::op::io_managers::Slot;

/// Keeps outputs, and loads inputs.
///
/// Implemented for a struct with `#[io_manager]`, whose fields are its config and its resources: each call has an instance of
/// its own, whose fields the host has filled.
///
/// ```
/// use opyard_guest::resource::PutMode;
/// use opyard_guest::{Failure, IoManager, ObjectStore, Reader, Slot, Stored, Writer, io_manager};
/// use opyard_guest::{schemars::JsonSchema, serde::Deserialize, serde::Serialize};
///
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(crate = "opyard_guest::serde", deny_unknown_fields)]
/// #[schemars(crate = "opyard_guest::schemars")]
/// struct Config {
///     folder: String,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(crate = "opyard_guest::serde")]
/// struct Place {
///     path: String,
/// }
///
/// /// One object a value.
/// #[io_manager]
/// struct Objects {
///     config: Config,
///     store: ObjectStore,
/// }
///
/// impl IoManager for Objects {
///     type Locator = Place;
///
///     fn handle_output(&self, slot: &Slot, mut value: Reader) -> Result<Stored<Place>, Failure> {
///         let path = format!("{}/{}/{}", self.config.folder, slot.step_key, slot.port);
///         self.store.put(&path, PutMode::Overwrite, &value.read_all()?)?;
///         Ok(Stored::at(Place { path }))
///     }
///
///     fn load_input(&self, _: &Slot, place: Place, mut into: Writer) -> Result<(), Failure> {
///         into.write_bytes(&self.store.read(&place.path)?)?;
///         into.commit()
///     }
///
///     fn forget(&self, place: Place) -> Result<(), Failure> {
///         Ok(self.store.remove(&place.path)?)
///     }
/// }
/// # fn main() {}
/// ```
pub trait IoManager: Managed {
    /// How a value is found again: any shape that JSON can hold. The author of a job may write one too.
    type Locator: Serialize + DeserializeOwned;

    /// Keeps a value. The same slot and value again gives the same state: steps are retried, and results remembered.
    ///
    /// # Errors
    /// Why it cannot be kept. The step fails.
    fn handle_output(&self, slot: &Slot, value: Reader) -> Result<Stored<Self::Locator>, Failure>;

    /// Writes the value that is kept at `locator`, and commits it.
    ///
    /// # Errors
    /// Why it cannot be had. The step fails.
    fn load_input(&self, slot: &Slot, locator: Self::Locator, into: Writer) -> Result<(), Failure>;

    /// What tells that the value at `locator` has not changed, at most 1 KiB. None, which this is unless you say otherwise: it
    /// cannot be told, and no result is remembered that was made of the value.
    ///
    /// # Errors
    /// Why nobody can look.
    fn fingerprint(&self, locator: Self::Locator) -> Result<Option<String>, Failure> {
        drop(locator);
        Ok(None)
    }

    /// The value is no longer referenced. Nothing there is fine.
    ///
    /// # Errors
    /// Why it cannot be forgotten.
    fn forget(&self, locator: Self::Locator) -> Result<(), Failure>;
}

/// What `#[io_manager]` makes of a struct. Implemented by the macro alone.
pub trait Managed: Sized {
    /// The IO manager's name.
    const NAME: &'static str;

    /// Describes the IO manager. Pure.
    fn definition() -> ExtensionDefinition;

    /// Fills the fields: the config, and what was granted.
    ///
    /// # Errors
    /// What was not granted, or does not answer.
    fn open(config: &str) -> Result<Self, Failure>;
}

/// A value that was kept.
#[derive(Debug, Clone)]
pub struct Stored<L> {
    locator: L,
    metadata: Vec<MetadataEntry>,
}

impl<L> Stored<L> {
    /// Kept here.
    #[must_use]
    pub fn at(locator: L) -> Self {
        Self { locator, metadata: Vec::new() }
    }

    /// Attaches something that is shown beside the event.
    #[must_use]
    pub fn with_metadata(mut self, label: impl Into<String>, value: impl Into<MetadataValue>) -> Self {
        self.metadata.push(entry(label, value));
        self
    }

    /// How to find the value again.
    #[must_use]
    pub fn locator(&self) -> &L {
        &self.locator
    }
}

/// Moves what the fields of an IO manager declared into its definition.
pub fn take_resources(declared: OpDefinition, manager: &mut ExtensionDefinition) {
    manager.resources = declared.resources;
}

/// Refuses, at compile time, a field that is neither config nor resource.
pub const fn assert_resource(role: Role) {
    assert!(matches!(role, Role::Resource), "a field of an IO manager is its `config`, or a resource");
}

fn read<L: DeserializeOwned>(locator: &str) -> Result<L, Failure> {
    let parsed = serde_json::from_str(locator);
    parsed.map_err(|error| Failure::new(format!("not a locator of this IO manager: {error}")).no_retry())
}

/// One IO manager of a component, as `component!` calls it.
pub struct Calls {
    /// Its name.
    pub name: &'static str,
    /// As the contract has them.
    pub handle_output: fn(&str, &Slot, Reader) -> Result<host::Stored, Failure>,
    /// As the contract has them.
    pub load_input: fn(&str, &Slot, &str, Writer) -> Result<(), Failure>,
    /// As the contract has them.
    pub fingerprint: fn(&str, &str) -> Result<Option<String>, Failure>,
    /// As the contract has them.
    pub forget: fn(&str, &str) -> Result<(), Failure>,
}

impl Calls {
    /// Those of `M`.
    #[must_use]
    pub const fn of<M: IoManager>() -> Self {
        Self {
            name: M::NAME,
            handle_output: |config, slot, value| {
                let Stored { locator, metadata } = M::open(config)?.handle_output(slot, value)?;
                let locator = serde_json::to_string(&locator).map_err(Failure::from)?;
                Ok(host::Stored { locator, metadata })
            },
            load_input: |config, slot, locator, into| M::open(config)?.load_input(slot, read(locator)?, into),
            fingerprint: |config, locator| M::open(config)?.fingerprint(read(locator)?),
            forget: |config, locator| M::open(config)?.forget(read(locator)?),
        }
    }
}

fn find<'a>(all: &'a [Calls], name: &str) -> Result<&'a Calls, Failure> {
    let unknown = || Failure::new(format!("this component has no IO manager `{name}`")).no_retry();
    log_panics();
    all.iter().find(|calls| calls.name == name).ok_or_else(unknown)
}

/// # Errors
/// The IO manager's.
pub fn handle_output(
    all: &[Calls],
    (manager, config): (&str, &str),
    slot: &Slot,
    value: &values::Reader,
) -> Result<host::Stored, OpError> {
    let kept = find(all, manager).and_then(|calls| (calls.handle_output)(config, slot, Reader::lent("value", value)));
    kept.map_err(Failure::into_op_error)
}

/// # Errors
/// The IO manager's.
pub fn load_input(
    all: &[Calls],
    (manager, config): (&str, &str),
    (slot, locator): (&Slot, &str),
    into: values::Writer,
) -> Result<(), OpError> {
    let into = Writer::new("value", into);
    let loaded = find(all, manager).and_then(|calls| (calls.load_input)(config, slot, locator, into));
    loaded.map_err(Failure::into_op_error)
}

/// # Errors
/// The IO manager's.
pub fn fingerprint(all: &[Calls], (manager, config): (&str, &str), locator: &str) -> Result<Option<String>, OpError> {
    find(all, manager).and_then(|calls| (calls.fingerprint)(config, locator)).map_err(Failure::into_op_error)
}

/// # Errors
/// The IO manager's.
pub fn forget(all: &[Calls], (manager, config): (&str, &str), locator: &str) -> Result<(), OpError> {
    find(all, manager).and_then(|calls| (calls.forget)(config, locator)).map_err(Failure::into_op_error)
}
