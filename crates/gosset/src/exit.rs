//! How the program ends: the numbers of `sysexits.h`, and what a scheduler can act on beside them.

use std::fmt;
use std::process::ExitCode;

use gosset_engine::EngineError;
use gosset_jobs::JobError;

/// The status of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// The command line is wrong.
    Usage = 2,
    /// `plan --detailed-exitcode` found work.
    WorkFound = 20,
    /// Bad data, or a blocking audit failed.
    BadData = 65,
    /// An input is missing or not fresh yet.
    MissingInput = 66,
    /// The store is unavailable after retries.
    Unavailable = 69,
    /// A bug of ours.
    Bug = 70,
    /// The memory limit is too small.
    Memory = 71,
    /// No room to spill or write.
    NoSpace = 73,
    /// Another run won: try again.
    TryAgain = 75,
    /// Permission denied.
    Permission = 77,
    /// The job file or its SQL, or the SQL of a query.
    Config = 78,
    /// It took longer than its time-out.
    TimedOut = 124,
    /// Stopped by ctrl-C.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&EngineError> for Exit {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Option(_) => Self::Usage,
            EngineError::Query(_) | EngineError::Setup(_) => Self::Config,
            EngineError::MissingInput(_) => Self::MissingInput,
            EngineError::BadData(_) => Self::BadData,
            EngineError::PermissionDenied(_) => Self::Permission,
            EngineError::StoreUnavailable(_) => Self::Unavailable,
            EngineError::MemoryLimit(_) => Self::Memory,
            EngineError::NoSpace(_) => Self::NoSpace,
            EngineError::Conflict(_) => Self::TryAgain,
            EngineError::Internal(_) => Self::Bug,
        }
    }
}

impl From<&JobError> for Exit {
    fn from(error: &JobError) -> Self {
        match error {
            JobError::File(_) => Self::Config,
            JobError::Data(_) => Self::BadData,
            JobError::Changed(_) => Self::TryAgain,
            JobError::TimedOut(_) => Self::TimedOut,
            JobError::Engine(error) => error.into(),
            // A condition that a later version of the library knows.
            _ => Self::Bug,
        }
    }
}

/// Why a command ended before it was done.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The status to end with.
    pub(crate) exit: Exit,
    /// What to tell; empty where there is nothing to say and nobody to say it to.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The reader of our output has gone (`| head`): that is its right, not an error.
    pub(crate) fn reader_gone() -> Self {
        Self::new(Exit::Done, "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(Exit::from(&error), error.to_string())
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        Self::new(Exit::from(&error), error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// An error of reading or writing files and standard streams by the command itself.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::reader_gone();
        }
        EngineError::of(&error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_has_its_code() {
        let code = |error: EngineError| Failure::from(error).exit as u8;
        assert_eq!(code(EngineError::Option(String::new())), 2);
        assert_eq!(code(EngineError::BadData(String::new())), 65);
        assert_eq!(code(EngineError::MissingInput(String::new())), 66);
        assert_eq!(code(EngineError::StoreUnavailable(String::new())), 69);
        assert_eq!(code(EngineError::Internal(String::new())), 70);
        assert_eq!(code(EngineError::MemoryLimit(String::new())), 71);
        assert_eq!(code(EngineError::NoSpace(String::new())), 73);
        assert_eq!(code(EngineError::Conflict(String::new())), 75);
        assert_eq!(code(EngineError::PermissionDenied(String::new())), 77);
        assert_eq!(code(EngineError::Query(String::new())), 78);
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Done, ""));
    }
}
