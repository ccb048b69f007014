//! Why an op did not succeed, as values. (A panic is a trap: the host says what happened then.)

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::bindings::opyard::op::types;
use crate::metadata::MetadataValue;

/// Why an op did not succeed: what `?` turns every error into.
///
/// Deliberately not an [`Error`] itself, so that every error converts into it.
///
/// ```
/// use opyard_guest::{Context, Failure};
///
/// fn parse(text: &str) -> Result<f64, Failure> {
///     let value: f64 = text.parse().context("reading the threshold")?;
///     if !value.is_finite() {
///         return Err(Failure::new("the threshold is not finite").with_metadata("text", text).no_retry());
///     }
///     Ok(value)
/// }
///
/// assert!(parse("x").unwrap_err().to_string().starts_with("reading the threshold: "));
/// ```
pub struct Failure(Box<Why>);

enum Why {
    Failed(types::Failure),
    Retry(types::RetryRequest),
}

impl Failure {
    /// A failure that says `description`; the step's retry policy may try again.
    #[must_use]
    pub fn new(description: impl Into<String>) -> Self {
        Self(Box::new(Why::Failed(types::Failure {
            description: description.into(),
            metadata: Vec::new(),
            allow_retries: true,
        })))
    }

    /// Attaches a value that helps whoever reads about the failure.
    ///
    /// Has no effect on a [`Retry`], which carries none.
    #[must_use]
    pub fn with_metadata(mut self, label: impl Into<String>, value: impl Into<MetadataValue>) -> Self {
        if let Why::Failed(failure) = &mut *self.0 {
            failure.metadata.push(types::MetadataEntry { label: label.into(), value: value.into() });
        }
        self
    }

    /// Says that trying again cannot help: no retry policy applies.
    ///
    /// A [`Retry`] becomes a plain failure.
    #[must_use]
    pub fn no_retry(mut self) -> Self {
        match &mut *self.0 {
            Why::Failed(failure) => failure.allow_retries = false,
            Why::Retry(retry) => {
                *self.0 = Why::Failed(types::Failure {
                    description: std::mem::take(&mut retry.description),
                    metadata: Vec::new(),
                    allow_retries: false,
                });
            }
        }
        self
    }

    /// Puts `what` before the description: what was being done when it failed.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        let (Why::Failed(types::Failure { description, .. }) | Why::Retry(types::RetryRequest { description, .. })) =
            &mut *self.0;
        *description = format!("{what}: {description}");
        self
    }

    pub(crate) fn into_op_error(self) -> types::OpError {
        match *self.0 {
            Why::Failed(failure) => types::OpError::Failure(failure),
            Why::Retry(retry) => types::OpError::Retry(retry),
        }
    }

    /// From what the host answered to a call about `port`.
    pub(crate) fn of_port(port: &str, error: types::IoError) -> Self {
        Self::new(format!("port `{port}`: {}", io_error_text(error)))
    }
}

/// The host's answer in words.
pub(crate) fn io_error_text(error: types::IoError) -> String {
    match error {
        types::IoError::UnknownPort(name) => format!("this op has no such port: {name}"),
        types::IoError::AlreadyCommitted(name) => format!("already committed: {name}"),
        types::IoError::Invalid(text) => format!("invalid: {text}"),
        types::IoError::Limit(text) => format!("limit reached: {text}"),
        types::IoError::Unavailable(text) => format!("unavailable: {text}"),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Why::Failed(failure) => f.write_str(&failure.description),
            Why::Retry(retry) => f.write_str(&retry.description),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Why::Failed(failure) => failure.fmt(f),
            Why::Retry(retry) => retry.fmt(f),
        }
    }
}

impl<E: Error> From<E> for Failure {
    /// The error's text and its causes, joined with colons.
    fn from(error: E) -> Self {
        let mut description = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors repeat their cause in their own text.
            if !description.ends_with(&text) {
                description.push_str(": ");
                description.push_str(&text);
            }
            cause = error.source();
        }
        Self::new(description)
    }
}

/// Asks to be run again: `return Err(Retry::new("the service is busy").after(wait).into())`.
///
/// Each counts against the step's `max_retries`; without a retry policy it is a failure.
#[derive(Debug)]
pub struct Retry {
    description: String,
    delay: Option<Duration>,
}

impl Retry {
    /// Asks to be run again after as long as the step's policy says.
    #[must_use]
    pub fn new(description: impl Into<String>) -> Self {
        Self { description: description.into(), delay: None }
    }

    /// Asks for this delay (whole milliseconds, at most 49 days) in place of the policy's.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }
}

impl From<Retry> for Failure {
    fn from(retry: Retry) -> Self {
        Self(Box::new(Why::Retry(types::RetryRequest {
            description: retry.description,
            delay_ms: retry.delay.map(|delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)),
        })))
    }
}

/// Says what was being done when something failed, or that something was missing.
pub trait Context<T> {
    /// Turns an error into a [`Failure`] that starts with `what`; on an `Option`, `None` into one that is `what`.
    ///
    /// # Errors
    /// The failure, when there is one.
    fn context(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().while_doing(what))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::new(what.to_string()))
    }
}

/// Returns from the op with a [`Failure`]: `fail!("no rows of {species}")`.
#[macro_export]
macro_rules! fail {
    ($($text:tt)+) => {
        return ::core::result::Result::Err($crate::Failure::new(::std::format!($($text)+)).into())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bad count")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let failure = Failure::from(Outer("x".parse::<i32>().unwrap_err())).while_doing("line 3");
        assert_eq!(failure.to_string(), "line 3: bad count: invalid digit found in string");
    }

    #[test]
    fn no_retry_wins_over_retry() {
        let retry = Failure::from(Retry::new("busy").after(Duration::from_millis(1500)));
        assert!(matches!(retry.0.as_ref(), Why::Retry(types::RetryRequest { delay_ms: Some(1500), .. })));
        let types::OpError::Failure(failure) = retry.no_retry().into_op_error() else { panic!("still a retry") };
        assert_eq!((failure.description.as_str(), failure.allow_retries), ("busy", false));
    }
}
