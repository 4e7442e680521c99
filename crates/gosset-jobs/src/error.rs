//! What can go wrong with a job.

use gosset_engine::EngineError;

/// The result of what a job does.
pub type Result<T, E = JobError> = std::result::Result<T, E>;

/// An error of a job; each variant is a condition that a caller handles differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job file, or the SQL in it, is wrong.
    #[error("{0}")]
    File(String),
    /// The data are not what the job says they are.
    #[error("{0}")]
    Data(String),
    /// An input changed while it was read, or another run published meanwhile.
    #[error("{0}")]
    Changed(String),
    /// It took longer than the job file allows.
    #[error("{0}")]
    TimedOut(String),
    /// Everything that the engine reports.
    #[error(transparent)]
    Engine(EngineError),
}

impl JobError {
    /// Puts what the error is about before its text.
    #[must_use]
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::File(text) => Self::File(format!("{what}: {text}")),
            Self::Data(text) => Self::Data(format!("{what}: {text}")),
            Self::Changed(text) => Self::Changed(format!("{what}: {text}")),
            Self::TimedOut(text) => Self::TimedOut(format!("{what}: {text}")),
            Self::Engine(error) => Self::Engine(error.about(what)),
        }
    }
}

impl From<EngineError> for JobError {
    fn from(error: EngineError) -> Self {
        match error {
            // The only SQL and the only options of a job are those of its file.
            EngineError::Query(text) | EngineError::Option(text) => Self::File(text),
            EngineError::BadData(text) => Self::Data(text),
            EngineError::Conflict(text) => Self::Changed(text),
            other => Self::Engine(other),
        }
    }
}

impl From<datafusion::error::DataFusionError> for JobError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<arrow::error::ArrowError> for JobError {
    fn from(error: arrow::error::ArrowError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<gosset_stats::Error> for JobError {
    fn from(error: gosset_stats::Error) -> Self {
        Self::Data(error.to_string())
    }
}

/// A bug of ours.
pub(crate) fn internal(text: impl Into<String>) -> JobError {
    JobError::Engine(EngineError::Internal(text.into()))
}
