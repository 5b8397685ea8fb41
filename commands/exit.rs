//! How a command ends.

use std::process::ExitCode;

/// Exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: done.
    Success,
    /// 1: the check failed, or the work did.
    Failure,
    /// 2: wrong usage, or an environment that does not allow the work.
    Usage,
    /// 3: lint findings, where they were asked to be fatal.
    Lint,
    /// 4: done in part; what was skipped or lost has been named.
    Partial,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Success => 0,
            ExitStatus::Failure => 1,
            ExitStatus::Usage => 2,
            ExitStatus::Lint => 3,
            ExitStatus::Partial => 4,
        })
    }
}
