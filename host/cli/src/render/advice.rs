//! What to do about a code. The page of the code says more.

use opyard_server::model::error::{Blame, Code};

/// Whose move it is, as a phrase.
pub(crate) const fn whose(blame: Blame) -> &'static str {
    match blame {
        Blame::Op => "the op's: its author, or the limits it was given",
        Blame::Author => "yours: mend the definitions or the call",
        Blame::Operator => "the operator's: the surroundings failed, not the definitions",
        Blame::Opyard => "opyard's: this is a bug, please report it",
    }
}

/// What to do next, in one line.
pub(crate) const fn next(code: Code) -> &'static str {
    match code {
        Code::FuelExhausted => "raise the op's limit `fuel` under `grants`, or give it less to do",
        Code::CpuExceeded => "raise the op's limit `cpu` under `grants`, or give it less to do",
        Code::WallExceeded => "raise the step's `timeout`; a slow resource is retried with a `retry` policy",
        Code::MemoryExceeded => "raise the op's limit `memory` under `grants`, or give it less at a time",
        Code::HostCallLimit | Code::HandleLimit => "raise the op's limit under `grants`, or tell its author",
        Code::OutputMissing | Code::OutputInvalid => {
            "look at what the op was given; what it yields does not fit its description"
        }
        Code::ForbiddenImport => "do not trust this op before you know why it reaches for what it does not list",
        Code::OpFailed | Code::Trapped | Code::StackOverflow => {
            "look at its events and inputs; with the same inputs a hermetic op fails again"
        }
        Code::RetriesExhausted => "give the step a `retry` policy with more tries",
        Code::NoDefinitions | Code::BadCall => "change the call; `--help` of the verb shows an example",
        Code::ComponentUnreadable | Code::ComponentInvalid | Code::ContractVersion | Code::UnknownImport => {
            "name a component that was built for this contract; `opyard op inspect FILE` looks at one"
        }
        Code::CompileLimit => "do not trust it before you know why; a compiler's output takes seconds",
        Code::CompilerFailed => "`opyard doctor` tries the compiler; then do it again",
        Code::BadSetting => "write `--set STEP.KEY=VALUE`; `opyard plan JOB` shows the steps",
        Code::NotGranted => "grant the resource under `grants`, if you trust the op with it",
        Code::UnknownRun => "`opyard runs` lists the runs of this yard",
        Code::RunEnded => "`opyard show RUN` shows what came of it",
        Code::UnknownOutput => "`opyard artifacts` lists the outputs of a run",
        Code::BadQuery => {
            "`opyard query --help` names the views; `select * from runs limit 1` shows the columns of one"
        }
        Code::StoreFull => "make room on the disk, then run again: what succeeded is in the memo",
        Code::YardLocked => "wait for the other process, or name another yard with --yard",
        Code::YardVersion => "use the newer opyard that made this yard",
        Code::ArtifactMissing | Code::ArtifactCorrupt => {
            "run again: what is missing or altered is made again; if it comes back, look at the disk"
        }
        Code::YardDamaged => "move the yard's folder aside and restore a backup, or begin a new yard with --yard",
        Code::ResourceUnavailable => {
            "look whether the resource answers, then run again; a `retry` policy does so by itself"
        }
        Code::ResourceDenied => {
            "look at the `access` of resource and grant, and at the rights of the account behind it"
        }
        Code::FileUnreadable => "look at the path and its rights",
        Code::BackupUnusable => "make a new one with `opyard backup`, or restore from another",
        Code::Canceled => "run again: what had succeeded is in the memo",
        _ => match code.blame() {
            Blame::Op => "look at its events and inputs, and tell its author",
            Blame::Author => "mend it, then `opyard check`",
            Blame::Operator => {
                "`opyard doctor` looks at the surroundings; then run again: what succeeded is in the memo"
            }
            Blame::Opyard => "report it with these lines and the output of `opyard doctor`",
        },
    }
}
