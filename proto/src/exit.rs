//! What a script learns from the exit code of any of our programs.

use crate::status::Code;

/// The exit codes. Anything that has no class of its own counts as [`Exit::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A job failed, or something here did.
    Failed = 1,
    /// The command line, a tasks file or an input is wrong. clap uses the same number.
    Usage = 2,
    /// There is no such job, worker, model or backbone.
    NotFound = 3,
    /// The job, or this command, was cancelled.
    Cancelled = 4,
    /// The wait was longer than `--timeout`.
    TimedOut = 5,
    /// No coordinator answers, or it cannot work now.
    Unavailable = 6,
    /// The coordinator refuses this caller. Kept free until there are roles.
    Denied = 7,
    /// What is there stands against it: the job has already ended; a port, a name or a state directory is in use.
    Conflict = 8,
}

impl From<Code> for Exit {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::InvalidTasksFile | Code::TooLarge | Code::AmbiguousJob => {
                Self::Usage
            }
            Code::JobNotFound | Code::WorkerNotFound | Code::ModelNotFound | Code::BackboneUnknown => {
                Self::NotFound
            }
            Code::Unavailable | Code::StorageFull | Code::Incompatible => Self::Unavailable,
            Code::BlobMissing
            | Code::DigestMismatch
            | Code::SessionReplaced
            | Code::JobOver
            | Code::JobLive => Self::Conflict,
            Code::Internal => Self::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_published_list() {
        use Exit::*;
        let numbers = [
            Ok,
            Failed,
            Usage,
            NotFound,
            Cancelled,
            TimedOut,
            Unavailable,
            Denied,
            Conflict,
        ];
        assert_eq!(numbers.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn every_error_code_has_a_class_and_none_reads_as_success() {
        for &code in Code::ALL {
            assert_ne!(Exit::from(code), Exit::Ok, "{code:?}");
        }
        assert_eq!(Exit::from(Code::JobNotFound), Exit::NotFound);
        assert_eq!(Exit::from(Code::InvalidTasksFile), Exit::Usage);
        assert_eq!(Exit::from(Code::Unavailable), Exit::Unavailable);
    }
}
