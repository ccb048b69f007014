//! Who may call what: the one place that decides whether a guest's call of an interface is let through.
//!
//! Every known interface is linked for every component, with its real types, so that linking happens once. What differs
//! from step to step is which doors are open. The host's side of an interface is implemented on [`Doorway`], whose only
//! way to the state is [`Doorway::enter`]: a host function cannot forget to ask.

use std::marker::PhantomData;

use opyard_model::component::Interface;
use opyard_model::error::{Code, Failure};
use wasmtime::component::HasData;

use crate::state::{HostState, Work};
use crate::trap::Stop;

/// A set of interfaces that may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Doors(u32);

/// An interface, as a type, so that an implementation is bound to its own door.
pub(crate) trait Door: 'static {
    /// The door.
    const BIT: u32;
    /// The interface, as a component imports it.
    const IMPORT: &'static str;
}

macro_rules! doors {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $import:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;
        impl Door for $name {
            const BIT: u32 = 1 << $bit;
            const IMPORT: &'static str = $import;
        }
    )*};
}

doors! {
    /// What the step was asked to do.
    Context = 0, "opyard:op/context@0.1.0";
    /// Which execution it is.
    Execution = 1, "opyard:op/execution@0.1.0";
    /// Readers and writers.
    Values = 2, "opyard:op/values@0.1.0";
    /// Ports.
    Io = 3, "opyard:op/io@0.1.0";
    /// What it says.
    Events = 4, "opyard:op/events@0.1.0";
    /// Objects on their way, of object stores and model registries.
    Blobs = 5, "opyard:resources/blobs@0.1.0";
    /// Object stores.
    ObjectStore = 6, "opyard:resources/object-store@0.1.0";
    /// HTTP clients.
    HttpClient = 7, "opyard:resources/http-client@0.1.0";
    /// Secrets that may be seen.
    Secrets = 8, "opyard:resources/secrets@0.1.0";
    /// Small values by name.
    KeyValue = 10, "opyard:resources/key-value@0.1.0";
    /// Models by name and version.
    ModelRegistry = 11, "opyard:resources/model-registry@0.1.0";
}

impl Doors {
    /// Nothing is open: for `describe`.
    pub(crate) const NONE: Self = Self(0);
    /// What every op may call.
    pub(crate) const PLAIN: Self = Self(Context::BIT | Values::BIT | Io::BIT | Events::BIT);

    /// These, and the door of `D`.
    pub(crate) const fn and<D: Door>(self) -> Self {
        Self(self.0 | D::BIT)
    }

    /// These, and what `interface` needs.
    pub(crate) const fn and_resource(self, interface: Interface) -> Self {
        match interface {
            Interface::ObjectStore => self.and::<ObjectStore>().and::<Blobs>(),
            Interface::KeyValue => self.and::<KeyValue>(),
            Interface::ModelRegistry => self.and::<ModelRegistry>().and::<Blobs>(),
            Interface::HttpClient => self.and::<HttpClient>(),
            Interface::Secrets => self.and::<Secrets>(),
        }
    }

    const fn open<D: Door>(self) -> bool {
        self.0 & D::BIT != 0
    }
}

/// A call that stands before the door of `D`.
pub(crate) struct Doorway<'a, D> {
    state: &'a mut HostState,
    door: PhantomData<D>,
}

/// A call arrives; for linking.
pub(crate) fn arrive<D: Door>(state: &mut HostState) -> Doorway<'_, D> {
    Doorway { state, door: PhantomData }
}

impl<D: Door> Doorway<'_, D> {
    /// Counts the call and lets it through.
    ///
    /// # Errors
    /// A trap, when the op does not list the interface, or has called too often.
    pub(crate) fn enter(&mut self) -> Result<&mut HostState, Stop> {
        if !self.state.doors.open::<D>() {
            return Err(forbidden(D::IMPORT, &self.state.work));
        }
        self.state.guard.count_call()?;
        Ok(self.state)
    }
}

/// The trap of a call that is not let through.
pub(crate) fn forbidden(import: &str, work: &Work) -> Stop {
    Stop::new(Failure::new(
        Code::ForbiddenImport,
        match work {
            Work::Describe => {
                format!("the component called '{import}' while it described itself, which must need nothing")
            }
            Work::Op(_) => format!("the op called '{import}', which it does not list"),
            Work::Hook(_) => format!("the hook called '{import}', which it does not list"),
            Work::Check(_) => format!("the type checker called '{import}', which it does not have"),
        },
    ))
}

/// What wasmtime's bindings ask for: the type of the data behind an interface.
pub(crate) struct Through<D>(PhantomData<D>);

impl<D: Door> HasData for Through<D> {
    type Data<'a> = Doorway<'a, D>;
}
