//! What every kind of resource has in common: it is opened by the op's key, with the rights that were granted, and answers
//! in the words of one error.

use opyard_model::component::Interface;
use opyard_model::error::{Code, Failure};
use opyard_model::step::{GrantedResource, Saying};
use opyard_resources::ResourceError;

use crate::bindings::opyard::resources::errors::Error;
use crate::guard::Limit;
use crate::metadata::short;
use crate::state::HostState;
use crate::trap::Stop;

/// What a call answers, inside of what may trap.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// What was granted under the op's `key` for use through one interface; none is said in the log, and answered with
/// `denied`. `key` is guest-controlled.
///
/// # Errors
/// A trap when there is no op.
pub(crate) fn granted(state: &mut HostState, key: &str, through: Interface) -> Result<Option<GrantedResource>, Stop> {
    let rights = state.rights()?;
    let right = rights.iter().find(|right| right.key.as_str() == key && right.through == through);
    let granted = right.and_then(|right| right.granted.clone());
    if granted.is_none() {
        state.outbox.event(Saying::GrantDenied { key: short(key) });
    }
    Ok(granted)
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
