//! What every kind of resource has in common: it is opened by the op's key, with the rights that were granted, and answers
//! in the words of one error.

use opyard_model::component::Interface;
use opyard_model::error::{Code, Failure};
use opyard_model::event::OpenedResource;
use opyard_model::step::{GrantedResource, InitStage, Saying};
use opyard_resources::{ResourceError, ResourceFailure};
use wasmtime::component::Resource;

use crate::bindings::opyard::resources::errors::Error;
use crate::guard::Limit;
use crate::metadata::short;
use crate::state::HostState;
use crate::trap::Stop;

/// What a call answers, inside of what may trap.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// A granted resource on its way to the op. The log is told of the first opening of each key of a call and of no other:
/// how many that can be is the plan's to say, and not the guest's.
#[must_use = "the log is to be told how it went"]
pub(crate) struct Opening(Option<OpenedResource>);

impl Opening {
    fn begin(state: &mut HostState, resource: OpenedResource) -> Self {
        if state.opened.contains(&resource) {
            return Self(None);
        }
        state.opened.push(resource.clone());
        state.outbox.notice(Saying::ResourceInit { resource: resource.clone(), stage: InitStage::Started });
        Self(Some(resource))
    }

    fn ended(self, state: &HostState, stage: InitStage) {
        if let Self(Some(resource)) = self {
            state.outbox.notice(Saying::ResourceInit { resource, stage });
        }
    }

    /// The op can use it.
    pub(crate) fn succeeded(self, state: &HostState) {
        self.ended(state, InitStage::Success);
    }

    /// It cannot: of what the op is not told, the operator is.
    pub(crate) fn failed(self, state: &HostState, failure: &ResourceFailure) {
        let told = || Failure::new(Code::ResourceUnavailable, failure.answer.to_string());
        let failure = failure.detail.as_deref().cloned().unwrap_or_else(told);
        self.ended(state, InitStage::Failure(failure));
    }

    /// What an op is given of a resource that is opened at once: a handle.
    pub(crate) fn handle<T: Send + 'static>(
        self,
        state: &mut HostState,
        opened: Result<T, ResourceFailure>,
    ) -> Answer<Resource<T>> {
        match opened {
            Ok(resource) => {
                self.succeeded(state);
                Ok(Ok(state.table.push(resource)?))
            }
            Err(failure) => {
                self.failed(state, &failure);
                Ok(Err(answer(state, failure.answer)))
            }
        }
    }
}

/// What was granted under the op's `key` for use through one interface, to be opened now; none is said in the log, and
/// answered with `denied`. `key` is guest-controlled.
///
/// # Errors
/// A trap when there is no op.
pub(crate) fn granted(
    state: &mut HostState,
    key: &str,
    through: Interface,
) -> Result<Option<(GrantedResource, Opening)>, Stop> {
    let rights = state.rights()?;
    let right = rights.iter().find(|right| right.key.as_str() == key && right.through == through);
    let Some((key, granted)) = right.and_then(|right| Some((right.key.clone(), right.granted.clone()?))) else {
        state.outbox.event(Saying::GrantDenied { key: short(key) });
        return Ok(None);
    };
    let opening = Opening::begin(state, OpenedResource { key, name: granted.name.clone(), through });
    Ok(Some((granted, opening)))
}

/// The resource's error, in the contract's words; what the guest is told of limits and surroundings is remembered.
pub(crate) fn answer(state: &mut HostState, error: ResourceError) -> Error {
    match error {
        ResourceError::Denied => Error::Denied,
        ResourceError::NotFound => Error::NotFound,
        ResourceError::Conflict => Error::Conflict,
        ResourceError::Limit(text) => {
            state.guard.tell_of_limit();
            Error::Limit(text)
        }
        ResourceError::Unavailable(text) => {
            let failure = Failure::new(Code::ResourceUnavailable, text.clone());
            state.guard.unavailable.get_or_insert(failure);
            Error::Unavailable(text)
        }
        ResourceError::Invalid(text) => Error::Invalid(text),
    }
}

/// The answer to a call that met a limit of the step.
pub(crate) fn limited(state: &mut HostState, Limit(limit): Limit) -> Error {
    let _ = state.limited(Limit(limit));
    Error::Limit(limit.to_owned())
}
