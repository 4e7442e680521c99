//! What can go wrong in the mathematics.

/// An error of this crate. The texts are lower-case fragments that say what was expected and what was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Stored bytes are not what they claim to be.
    #[error("summary bytes are damaged: {0}")]
    Damaged(String),
    /// Two summaries, or a summary and a comparison, do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// A value is outside of what the method can take.
    #[error("{0}")]
    Invalid(String),
}

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;
