//! Why a call could not be answered.

use std::io;

use opyard_server::YardError;
use opyard_server::model::diagnostic::Diagnostics;
use opyard_server::model::error::{Code, Failure};
use opyard_server::store::error::StoreError;

use crate::exit::Exit;
use crate::render::failure;
use crate::screen::Screen;

/// What a verb gives back.
pub(crate) type Outcome = Result<Exit, CliError>;

/// A call could not be answered.
#[derive(Debug)]
pub(crate) enum CliError {
    /// What was asked for could not be done.
    Yard(YardError),
    /// The answer could not be written.
    Output(io::Error),
}

impl CliError {
    /// A failure of that code.
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self::Yard(YardError::Failed(Failure::new(code, text)))
    }

    /// Says what is wrong, and what that means for whoever called.
    pub(crate) fn report(self, screen: &Screen) -> Exit {
        let error = match self {
            Self::Yard(error) => error,
            // The reader has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Success,
            Self::Output(error) => {
                let text = format!("the result cannot be written: {error}");
                YardError::Failed(Failure::new(Code::FileUnreadable, text))
            }
        };
        if screen.json() {
            screen.note_json(&failure::yard_error_json(&error));
        } else {
            screen.note(&failure::yard_error(&error));
        }
        Exit::of_blame(error.blame())
    }
}

/// A command line that is none of ours. It is quoted in the text, which is made fit to be shown where it is shown.
pub(crate) fn wrong_call(answer: &clap::Error) -> CliError {
    let text = answer.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    CliError::new(Code::BadCall, lines.collect::<Vec<_>>().join("\n"))
}

/// The system refuses threads or a poller.
pub(crate) fn no_runtime(error: io::Error) -> CliError {
    CliError::new(Code::FileUnreadable, format!("the system gives no threads: {error}"))
}

impl From<YardError> for CliError {
    fn from(error: YardError) -> Self {
        Self::Yard(error)
    }
}

impl From<Diagnostics> for CliError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Yard(diagnostics.into())
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Yard(error.into())
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
