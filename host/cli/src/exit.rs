//! What a call tells the script that made it.

use std::process::ExitCode;

use opyard_server::model::error::Blame;
use opyard_server::model::event::RunStatus;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Success,
    /// 2: the definitions, or the call, are wrong.
    Wrong,
    /// 70: a bug of Opyard's.
    Bug,
    /// 75: the surroundings failed; the same call may succeed later.
    Surroundings,
    /// 100: the run failed.
    RunFailed,
    /// 130: canceled.
    Canceled,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Wrong => 2,
            Self::Bug => 70,
            Self::Surroundings => 75,
            Self::RunFailed => 100,
            Self::Canceled => 130,
        }
    }

    /// The one place where blame becomes an exit code.
    pub(crate) const fn of_blame(blame: Blame) -> Self {
        match blame {
            Blame::Op => Self::RunFailed,
            Blame::Author => Self::Wrong,
            Blame::Operator => Self::Surroundings,
            Blame::Opyard => Self::Bug,
        }
    }

    /// What the end of a run says; one that has not ended was not waited for.
    pub(crate) const fn of_status(status: RunStatus) -> Self {
        match status {
            RunStatus::Failure => Self::RunFailed,
            RunStatus::Canceled => Self::Canceled,
            RunStatus::Success
            | RunStatus::Queued
            | RunStatus::Starting
            | RunStatus::Started
            | RunStatus::Canceling => Self::Success,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_and_ends_have_the_documented_codes() {
        let of = |blame| Exit::of_blame(blame).code();
        assert_eq!([Blame::Op, Blame::Author, Blame::Operator, Blame::Opyard].map(of), [100, 2, 75, 70]);
        let of = |status| Exit::of_status(status).code();
        assert_eq!([RunStatus::Success, RunStatus::Failure, RunStatus::Canceled].map(of), [0, 100, 130]);
    }
}
