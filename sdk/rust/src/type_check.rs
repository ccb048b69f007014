//! Type checkers: whether a value is what its type says.

use crate::Failure;
use crate::bindings::opyard::op::types::OpError;
use crate::bindings::opyard::op::values;
use crate::bindings::type_checker::exports::opyard::op::type_checks;
use crate::component::log_panics;
use crate::definition::ExtensionDefinition;
use crate::metadata::{MetadataEntry, MetadataValue, entry};
use crate::stream::Reader;

/// What `#[type_checker]` makes of a function, under the function's name. Implemented by the macro alone.
///
/// ```
/// use opyard_guest::{Failure, Reader, TypeChecker, Verdict, type_checker};
///
/// /// Accepts what is not empty.
/// #[type_checker]
/// fn filled(value: Reader) -> Verdict {
///     if value.size() == 0 { Verdict::fail("no bytes") } else { Verdict::pass() }
/// }
///
/// let definition = <filled as TypeChecker>::definition();
/// assert_eq!((definition.name.as_str(), definition.description.as_deref()), ("filled", Some("Accepts what is not empty.")));
/// assert!(filled(Reader::from_bytes("text/plain", "some")).is_pass());
/// ```
pub trait TypeChecker {
    /// The type checker's name.
    const NAME: &'static str;

    /// Describes the type checker. Pure.
    fn definition() -> ExtensionDefinition;

    /// Looks at a value. `params` is the `check` block of the type as JSON, without its `with`.
    ///
    /// # Errors
    /// Why nothing can be said of the value.
    fn check(value: Reader, params: &str) -> Result<Verdict, Failure>;
}

/// What came of a check.
///
/// A value that is not what its type says is a verdict; a [`Failure`] says that nothing is known of the value, because
/// it could not be read, or because the params contradict themselves.
#[must_use]
#[derive(Debug, Clone)]
pub struct Verdict {
    description: Option<String>,
    metadata: Vec<MetadataEntry>,
}

impl Verdict {
    /// The value is what its type says.
    pub fn pass() -> Self {
        Self { description: None, metadata: Vec::new() }
    }

    /// The value is not what its type says, because of `description`: one line for people.
    pub fn fail(description: impl Into<String>) -> Self {
        Self { description: Some(description.into()), metadata: Vec::new() }
    }

    /// Attaches a value that is shown beside the verdict.
    pub fn with_metadata(mut self, label: impl Into<String>, value: impl Into<MetadataValue>) -> Self {
        self.metadata.push(entry(label, value));
        self
    }

    /// Whether the value is what its type says.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.description.is_none()
    }

    /// Why the value is not what its type says; none when it is.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// What is shown beside the verdict, in the order in which it was attached.
    #[must_use]
    pub fn metadata(&self) -> &[MetadataEntry] {
        &self.metadata
    }
}

/// The type of a type checker's first parameter. [`Reader`] alone: a value that is read whole has no bound.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of a type checker",
    label = "not `Reader`",
    note = "the first parameter of a type checker is `opyard_guest::Reader`, which reads the value piece by piece"
)]
pub trait Checked {
    /// The value, as the function takes it.
    fn checked(value: Reader) -> Self;
}

impl Checked for Reader {
    fn checked(value: Reader) -> Self {
        value
    }
}

/// What a type checker returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a type checker returns",
    label = "not a `Verdict`, nor a `Result` of one with an error that converts into `Failure`",
    note = "a type checker returns `Verdict` or `Result<Verdict, Failure>`"
)]
pub trait Judgement {
    /// The verdict, or why there is none.
    ///
    /// # Errors
    /// The type checker's failure.
    fn verdict(self) -> Result<Verdict, Failure>;
}

impl Judgement for Verdict {
    fn verdict(self) -> Result<Verdict, Failure> {
        Ok(self)
    }
}

impl<E: Into<Failure>> Judgement for Result<Verdict, E> {
    fn verdict(self) -> Result<Verdict, Failure> {
        self.map_err(Into::into)
    }
}

/// Runs one type checker of a component, and turns what came of it into what the host understands.
///
/// # Errors
/// Why nothing can be said of the value.
pub fn check(
    run: fn(Reader, &str) -> Result<Verdict, Failure>,
    value: &values::Reader,
    params: &str,
) -> Result<type_checks::Verdict, OpError> {
    log_panics();
    let Verdict { description, metadata } =
        run(Reader::lent("value", value), params).map_err(Failure::into_op_error)?;
    Ok(type_checks::Verdict { success: description.is_none(), description, metadata })
}

/// The host asked for a type checker that `describe` never told it of.
///
/// # Errors
/// Always.
pub fn unknown_checker(checker: &str) -> Result<type_checks::Verdict, OpError> {
    Err(Failure::new(format!("this component has no type checker `{checker}`")).no_retry().into_op_error())
}
