//! Hooks: told of what became of a step, after it is certain.

use crate::Failure;
use crate::bindings::hook::exports::opyard::op::hooks;
use crate::bindings::opyard::op::types::OpError;
use crate::component::log_panics;
use crate::definition::ExtensionDefinition;
use crate::metadata::MetadataEntry;

/// What became of a try of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The step ended well.
    Success,
    /// The step ended badly, for good.
    Failure,
    /// The try failed; another follows.
    Retry,
}

/// What a hook is told.
///
/// ```
/// use opyard_guest::Occasion;
/// use opyard_guest::hook::Outcome;
///
/// let mut occasion = Occasion::new(Outcome::Failure, "train", "fit");
/// occasion.description = Some("no class left".into());
/// assert_eq!((occasion.step.as_str(), occasion.attempt), ("fit", 0));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Occasion {
    /// The job.
    pub job: String,
    /// The run.
    pub run: String,
    /// The environment of the run, if one was chosen.
    pub environment: Option<String>,
    /// The step key.
    pub step: String,
    /// The op, as `component.op`.
    pub op: String,
    /// What became of it.
    pub outcome: Outcome,
    /// 0 on the first try.
    pub attempt: u32,
    /// The code of the failure.
    pub code: Option<String>,
    /// Why it did not succeed.
    pub description: Option<String>,
    /// What the op, or the host, attached to the failure.
    pub metadata: Vec<MetadataEntry>,
    /// The same each time that this hook is told this, which after a crash may be more than once.
    pub idempotency_key: String,
}

impl Occasion {
    /// An occasion for a unit test; the rest is empty.
    #[must_use]
    pub fn new(outcome: Outcome, job: impl Into<String>, step: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            run: String::new(),
            environment: None,
            step: step.into(),
            op: String::new(),
            outcome,
            attempt: 0,
            code: None,
            description: None,
            metadata: Vec::new(),
            idempotency_key: String::new(),
        }
    }

    fn told(told: hooks::Occasion) -> Self {
        Self {
            job: told.job,
            run: told.run_id,
            environment: told.environment,
            step: told.step_key,
            op: told.op,
            outcome: match told.outcome {
                hooks::Outcome::Success => Outcome::Success,
                hooks::Outcome::Failure => Outcome::Failure,
                hooks::Outcome::Retry => Outcome::Retry,
            },
            attempt: told.attempt,
            code: told.code,
            description: told.description,
            metadata: told.metadata,
            idempotency_key: told.idempotency_key,
        }
    }
}

/// What `#[hook]` makes of a function, under the function's name. Implemented by the macro alone.
///
/// ```
/// use opyard_guest::{Hook, Occasion, events, hook};
///
/// /// Says it in the log.
/// #[hook]
/// fn note(occasion: Occasion) {
///     events::log(events::Level::Info, &format!("{} of {}", occasion.step, occasion.job), &[]);
/// }
///
/// assert_eq!(<note as Hook>::definition().description.as_deref(), Some("Says it in the log."));
/// ```
pub trait Hook {
    /// The hook's name.
    const NAME: &'static str;

    /// Describes the hook. Pure.
    fn definition() -> ExtensionDefinition;

    /// Does what the hook does. `config` is JSON.
    ///
    /// # Errors
    /// Why it could not be done; the run goes on as it would.
    fn handle(occasion: Occasion, config: &str) -> Result<(), Failure>;
}

/// The type of a hook's first parameter: [`Occasion`] alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a hook is told",
    label = "not `Occasion`",
    note = "the first parameter of a hook is `opyard_guest::Occasion`"
)]
pub trait Heard {
    /// The occasion, as the function takes it.
    fn heard(occasion: Occasion) -> Self;
}

impl Heard for Occasion {
    fn heard(occasion: Occasion) -> Self {
        occasion
    }
}

/// What a hook returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a hook returns",
    label = "not `()`, nor a `Result` of it with an error that converts into `Failure`",
    note = "a hook returns nothing, or `Result<(), Failure>`"
)]
pub trait Handled {
    /// Whether it was done.
    ///
    /// # Errors
    /// The hook's failure.
    fn handled(self) -> Result<(), Failure>;
}

impl Handled for () {
    fn handled(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<E: Into<Failure>> Handled for Result<(), E> {
    fn handled(self) -> Result<(), Failure> {
        self.map_err(Into::into)
    }
}

/// Runs one hook of a component, and turns its failure into what the host understands.
///
/// # Errors
/// Why it could not be done.
pub fn handle(
    run: fn(Occasion, &str) -> Result<(), Failure>,
    occasion: hooks::Occasion,
    config: &str,
) -> Result<(), OpError> {
    log_panics();
    run(Occasion::told(occasion), config).map_err(Failure::into_op_error)
}

/// The host asked for a hook that `describe` never told it of.
///
/// # Errors
/// Always.
pub fn unknown_hook(hook: &str) -> Result<(), OpError> {
    Err(Failure::new(format!("this component has no hook `{hook}`")).no_retry().into_op_error())
}
