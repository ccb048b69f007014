//! What the host knows of one call while a guest runs: the data of its `wasmtime::Store`.

use std::sync::Arc;

use opyard_model::component::Interface;
use opyard_model::error::{Code, Failure};
use opyard_model::event::OpenedResource;
use opyard_model::step::{ResourceRight, Saying};
use opyard_model::value::ValueRef;
use opyard_resources::Resources;
use opyard_store::error::{StoreError, StoreErrorKind};
use wasmtime::component::ResourceTable;

use crate::bindings::opyard::op::types::IoError;
use crate::gate::Doors;
use crate::guard::{Guard, Limit};
use crate::host::values::Reader;
use crate::host::wasi::World;
use crate::outbox::Outbox;
use crate::output::{Keeper, OpState};
use crate::redact::Redactor;
use crate::trap::Stop;

/// The host's side of one call. Made for it, dropped with it.
pub(crate) struct HostState {
    /// What the guest holds handles to.
    pub(crate) table: ResourceTable,
    /// What it may call.
    pub(crate) doors: Doors,
    /// The resource interfaces that the op lists, for those behind which there is nothing yet.
    pub(crate) listed: Vec<Interface>,
    /// Opens the resources that it was granted.
    pub(crate) resources: Resources,
    /// Those that it opened, each once.
    pub(crate) opened: Vec<OpenedResource>,
    /// Its limits.
    pub(crate) guard: Guard,
    /// What it says.
    pub(crate) outbox: Arc<Outbox>,
    /// The secrets that it was shown, or that were used for it.
    pub(crate) redactor: Arc<Redactor>,
    /// Clock and randomness.
    pub(crate) world: World,
    /// What it is asked to do.
    pub(crate) work: Work,
}

/// What a guest is asked to do.
pub(crate) enum Work {
    /// To describe itself.
    Describe,
    /// To be an op of a step, with these ports.
    Op(Box<OpState>),
    /// To check this value.
    Check(Box<ValueRef>),
    /// To be this hook.
    Hook(Box<HookState>),
}

/// One hook that is told something, and what it may use.
pub(crate) struct HookState {
    /// `component.hook`.
    pub(crate) name: String,
    pub(crate) rights: Vec<ResourceRight>,
    pub(crate) keeper: Keeper,
}

impl HostState {
    /// The op, for interfaces that are open to ops only.
    pub(crate) fn op(&mut self) -> Result<&mut OpState, Stop> {
        match &mut self.work {
            Work::Op(op) => Ok(op),
            Work::Describe | Work::Check(_) | Work::Hook(_) => Err(no_op()),
        }
    }

    /// What it may use, for interfaces that are open to ops and hooks.
    pub(crate) fn rights(&self) -> Result<&[ResourceRight], Stop> {
        match &self.work {
            Work::Op(op) => Ok(&op.call.rights),
            Work::Hook(hook) => Ok(&hook.rights),
            Work::Describe | Work::Check(_) => Err(no_op()),
        }
    }

    /// What its tenant keeps, likewise.
    pub(crate) fn keeper(&self) -> Result<&Keeper, Stop> {
        match &self.work {
            Work::Op(op) => Ok(&op.keeper),
            Work::Hook(hook) => Ok(&hook.keeper),
            Work::Describe | Work::Check(_) => Err(no_op()),
        }
    }

    /// What it is, in a message for the operator.
    pub(crate) fn who(&self) -> String {
        match &self.work {
            Work::Op(op) => format!("the op `{}`", op.call.op),
            Work::Hook(hook) => format!("the hook `{}`", hook.name),
            Work::Describe | Work::Check(_) => "the component".to_owned(),
        }
    }

    /// The value that a reader reads.
    pub(crate) fn value(&self, reader: &Reader) -> Result<&ValueRef, Stop> {
        let gone = || Stop::because(Code::Invariant, "a reader of a value that is not there");
        match &self.work {
            Work::Op(op) => op.call.inputs[reader.input].bound.values().get(reader.nth).ok_or_else(gone),
            Work::Check(value) => Ok(value),
            Work::Describe | Work::Hook(_) => Err(no_op()),
        }
    }

    /// The answer to a call that met a limit.
    pub(crate) fn limited(&self, Limit(limit): Limit) -> IoError {
        let detail = "the op was told".to_owned();
        self.outbox.notice_once(limit, Saying::LimitReached { limit: limit.to_owned(), detail });
        IoError::Limit(limit.to_owned())
    }

    /// The answer to a call that the store could not do; a trap when it is the value itself that is gone or damaged,
    /// since no op can do anything about that, and the step must not be taken for failed by itself.
    pub(crate) fn unavailable(&mut self, error: &StoreError) -> Result<IoError, Stop> {
        let failure = error.to_failure();
        match error.kind {
            StoreErrorKind::Missing(_) | StoreErrorKind::Corrupt(_) => Err(Stop::new(failure)),
            _ => Ok(self.out_of_reach(failure)),
        }
    }

    /// Remembers what failed in the surroundings; the guest is told no more than that something did.
    pub(crate) fn out_of_reach(&mut self, failure: Failure) -> IoError {
        self.guard.unavailable.get_or_insert(failure);
        IoError::Unavailable("the store does not answer".to_owned())
    }
}

fn no_op() -> Stop {
    Stop::because(Code::Invariant, "an interface of ops is open without an op")
}
