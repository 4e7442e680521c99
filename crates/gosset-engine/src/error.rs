//! What can go wrong where queries run, by condition.
//!
//! A caller acts on the condition (an exit code, a retry), a person reads the text. DataFusion, Delta and the object
//! stores wrap one another's errors several times over; the conversions here dig out the innermost cause, so that the
//! text says what happened once and without the names of the layers it came through.

use std::error::Error;
use std::io;

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::TransactionError;

/// The result of what the engine does.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// An error of the engine; each variant is a condition that a caller handles differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// An option of the engine itself is wrong (a size, a location).
    #[error("{0}")]
    Option(String),
    /// SQL that cannot be parsed or planned.
    #[error("{0}")]
    Query(String),
    /// What runs where does not fit together: another build, a certificate that is not usable, an address that may not be
    /// listened on.
    #[error("{0}")]
    Setup(String),
    /// A file, directory or table that does not exist.
    #[error("{0}")]
    MissingInput(String),
    /// Input that cannot be read as what it claims to be, or values that a function refuses.
    #[error("{0}")]
    BadData(String),
    /// Reading or writing was refused.
    #[error("{0}")]
    PermissionDenied(String),
    /// The store did not answer, also after retries.
    #[error("{0}")]
    StoreUnavailable(String),
    /// The memory limit is too small for the query, and spilling did not help.
    #[error("{0}")]
    MemoryLimit(String),
    /// No room to spill or to write.
    #[error("{0}")]
    NoSpace(String),
    /// Another writer won; nothing of ours is visible.
    #[error("{0}")]
    Conflict(String),
    /// A bug, of ours or of a library.
    #[error("{0}")]
    Internal(String),
}

impl EngineError {
    /// Puts `what` before the text, for an error that does not say which file or table it is about.
    #[must_use]
    pub fn about(self, what: &str) -> Self {
        let told = |text: String| {
            if text.contains(what) { text } else { format!("{what}: {text}") }
        };
        match self {
            Self::Option(text) => Self::Option(told(text)),
            Self::Query(text) => Self::Query(told(text)),
            Self::Setup(text) => Self::Setup(told(text)),
            Self::MissingInput(text) => Self::MissingInput(told(text)),
            Self::BadData(text) => Self::BadData(told(text)),
            Self::PermissionDenied(text) => Self::PermissionDenied(told(text)),
            Self::StoreUnavailable(text) => Self::StoreUnavailable(told(text)),
            Self::MemoryLimit(text) => Self::MemoryLimit(told(text)),
            Self::NoSpace(text) => Self::NoSpace(told(text)),
            Self::Conflict(text) => Self::Conflict(told(text)),
            Self::Internal(text) => Self::Internal(told(text)),
        }
    }

    /// The condition and text of any error that an engine call may have wrapped.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        known(error).unwrap_or_else(|| Self::BadData(error.to_string()))
    }
}

impl From<DataFusionError> for EngineError {
    fn from(error: DataFusionError) -> Self {
        of_datafusion(&error)
    }
}

impl From<ArrowError> for EngineError {
    fn from(error: ArrowError) -> Self {
        of_arrow(&error)
    }
}

impl From<object_store::Error> for EngineError {
    fn from(error: object_store::Error) -> Self {
        of_store(&error)
    }
}

impl From<DeltaTableError> for EngineError {
    fn from(error: DeltaTableError) -> Self {
        of_delta(&error)
    }
}

impl From<EngineError> for DataFusionError {
    fn from(error: EngineError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Follows the chain of causes to the first error whose type says what happened.
fn known(error: &(dyn Error + 'static)) -> Option<EngineError> {
    if let Some(error) = error.downcast_ref::<EngineError>() {
        return Some(error.clone());
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return Some(of_datafusion(error));
    }
    if let Some(error) = error.downcast_ref::<object_store::Error>() {
        return Some(of_store(error));
    }
    if let Some(error) = error.downcast_ref::<DeltaTableError>() {
        return Some(of_delta(error));
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return Some(of_arrow(error));
    }
    if let Some(error) = error.downcast_ref::<ParquetError>() {
        return Some(of_parquet(error));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Some(of_io(error, error.to_string()));
    }
    #[cfg(feature = "cluster")]
    if let Some(known) = error.downcast_ref().and_then(of_ballista) {
        return Some(known);
    }
    error.source().and_then(known)
}

/// Ballista's errors do not tell their sources.
#[cfg(feature = "cluster")]
fn of_ballista(error: &ballista_core::error::BallistaError) -> Option<EngineError> {
    use ballista_core::error::BallistaError;
    match error {
        BallistaError::DataFusionError(inner) => Some(of_datafusion(inner)),
        BallistaError::ArrowError(inner) => Some(of_arrow(inner)),
        BallistaError::IoError(inner) => Some(of_io(inner, inner.to_string())),
        _ => None,
    }
}

fn of_datafusion(error: &DataFusionError) -> EngineError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            of_datafusion(inner)
        }
        DataFusionError::Shared(inner) => of_datafusion(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => of_datafusion(first),
            None => EngineError::Internal("an empty list of errors".into()),
        },
        DataFusionError::External(inner) => EngineError::of(inner.as_ref()),
        DataFusionError::ObjectStore(inner) => of_store(inner),
        DataFusionError::IoError(inner) => of_io(inner, inner.to_string()),
        DataFusionError::ArrowError(inner, _) => of_arrow(inner),
        DataFusionError::ParquetError(inner) => of_parquet(inner),
        DataFusionError::SQL(inner, _) => EngineError::Query(match inner.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                format!("syntax error: {text}")
            }
            ParserError::RecursionLimitExceeded => "the query is nested too deeply".into(),
        }),
        DataFusionError::Plan(text) => {
            EngineError::Query(of_signature(text).unwrap_or_else(|| plain_names(text)))
        }
        DataFusionError::SchemaError(inner, _) => {
            EngineError::Query(plain_names(&inner.to_string()))
        }
        DataFusionError::Configuration(text) => EngineError::Query(text.clone()),
        DataFusionError::NotImplemented(text) => {
            EngineError::Query(format!("not supported: {text}"))
        }
        DataFusionError::Execution(text) => EngineError::BadData(text.clone()),
        DataFusionError::ResourcesExhausted(text) => of_exhausted(text),
        DataFusionError::ExecutionJoin(inner) => {
            EngineError::Internal(format!("a worker failed: {inner}"))
        }
        DataFusionError::Internal(text)
        | DataFusionError::Substrait(text)
        | DataFusionError::Ffi(text) => EngineError::Internal(text.clone()),
    }
}

/// A function that takes none of the types that it is given: DataFusion lists what it tried, and asks for a bug report.
fn of_signature(text: &str) -> Option<String> {
    let (before, tried) = text.split_once("' failed to match any signature")?;
    let function = before.rsplit('\'').next()?;
    let (_, found) = tried.split_once("but received ")?;
    let found = found.split(" (DataType").next()?;
    Some(format!("'{function}' does not take a {found}"))
}

/// What every message about a full spill directory names.
const SPILL_LIMIT: &str = "max_temp_directory_size";

/// DataFusion has one variant for a full memory pool and a full spill directory.
fn of_exhausted(text: &str) -> EngineError {
    // The amount that was asked for stands behind the list of who holds the rest.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.contains(SPILL_LIMIT) {
        return EngineError::NoSpace(text);
    }
    let after = |start: &str, end: &str| {
        let (_, rest) = text.split_once(start)?;
        Some(rest.split(end).next().unwrap_or(rest).trim().to_owned())
    };
    // Who holds the rest is told in names of the engine's operators, which nobody can lower.
    let wanted = after("Failed to allocate additional ", " for ");
    EngineError::MemoryLimit(match (wanted, after("pool_size: ", ")")) {
        (Some(wanted), Some(limit)) => format!(
            "the memory limit of {limit} is too small: {wanted} more were needed. Raise it or group by less at once; calls that resample \
             take less with fewer replicates, buckets or columns, means and ratios by method 'buckets', quantiles with a larger relative_error"
        ),
        _ => text,
    })
}

fn of_arrow(error: &ArrowError) -> EngineError {
    match error {
        ArrowError::ExternalError(inner) => EngineError::of(inner.as_ref()),
        ArrowError::IoError(text, inner) => of_io(inner, text.clone()),
        ArrowError::MemoryError(text) => EngineError::MemoryLimit(text.clone()),
        ArrowError::NotYetImplemented(text) => EngineError::Query(format!("not supported: {text}")),
        ArrowError::SchemaError(text)
        | ArrowError::ParseError(text)
        | ArrowError::CastError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::CsvError(text)
        | ArrowError::JsonError(text)
        | ArrowError::InvalidArgumentError(text) => EngineError::BadData(text.clone()),
        other => EngineError::BadData(other.to_string()),
    }
}

fn of_parquet(error: &ParquetError) -> EngineError {
    let text = match error {
        ParquetError::External(inner) => return EngineError::of(inner.as_ref()),
        ParquetError::General(text)
        | ParquetError::NYI(text)
        | ParquetError::EOF(text)
        | ParquetError::ArrowError(text) => text.clone(),
        other => other.to_string(),
    };
    EngineError::BadData(format!("not readable as Parquet: {text}"))
}

fn of_store(error: &object_store::Error) -> EngineError {
    use object_store::Error as Store;
    match error {
        Store::NotFound { path, source } => {
            EngineError::MissingInput(format!("not found: {path}{}", request(source.as_ref())))
        }
        Store::PermissionDenied { path, source } | Store::Unauthenticated { path, source } => {
            EngineError::PermissionDenied(format!(
                "access denied: {path}{}",
                request(source.as_ref())
            ))
        }
        Store::AlreadyExists { path, .. } => {
            EngineError::Conflict(format!("already exists: {path}"))
        }
        Store::Precondition { path, .. } | Store::NotModified { path, .. } => {
            EngineError::Conflict(format!("changed while it was read or written: {path}"))
        }
        Store::Generic { store, source } => {
            let text = format!("{store}: {}", one_line(&source.to_string()));
            // The local file system reports refused and full disks as generic errors.
            match io_cause(source.as_ref()) {
                Some(cause) => of_io(cause, text),
                None => EngineError::StoreUnavailable(text),
            }
        }
        Store::InvalidPath { source } => EngineError::Option(source.to_string()),
        Store::UnknownConfigurationKey { store, key } => {
            EngineError::Option(format!("{store}: unknown configuration key {key}"))
        }
        Store::NotSupported { source } => {
            EngineError::Internal(format!("not supported by the store: {source}"))
        }
        other => EngineError::StoreUnavailable(one_line(&other.to_string())),
    }
}

fn of_io(error: &io::Error, text: String) -> EngineError {
    if let Some(inner) = error.get_ref().and_then(|inner| known(inner)) {
        return inner;
    }
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            EngineError::MissingInput(text)
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            EngineError::PermissionDenied(text)
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            EngineError::NoSpace(text)
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => EngineError::BadData(text),
        // DataFusion's own limit has no kind.
        _ if text.contains(SPILL_LIMIT) => EngineError::NoSpace(text),
        _ => EngineError::StoreUnavailable(text),
    }
}

fn of_delta(error: &DeltaTableError) -> EngineError {
    match error {
        DeltaTableError::ObjectStore { source } => of_store(source),
        DeltaTableError::Io { source } => of_io(source, source.to_string()),
        DeltaTableError::Arrow { source } => of_arrow(source),
        DeltaTableError::Parquet { source } => of_parquet(source),
        DeltaTableError::NotATable(text) => EngineError::MissingInput(text.clone()),
        DeltaTableError::VersionAlreadyExists(version) => {
            EngineError::Conflict(format!("version {version} was written by another run"))
        }
        DeltaTableError::Transaction { source } => match source {
            TransactionError::ObjectStore { source } => of_store(source),
            TransactionError::CommitConflict(_)
            | TransactionError::VersionAlreadyExists(_)
            | TransactionError::MaxCommitAttempts(_) => {
                EngineError::Conflict("another run published the same partition meanwhile".into())
            }
            other => EngineError::Internal(other.to_string()),
        },
        // What DataFusion reports inside a write arrives as text only.
        DeltaTableError::Generic(text) if text.contains("Resources exhausted") => {
            of_exhausted(text)
        }
        other => other
            .source()
            .and_then(known)
            .unwrap_or_else(|| EngineError::BadData(one_line(&other.to_string()))),
    }
}

fn io_cause<'a>(mut error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    loop {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        error = error.source()?;
    }
}

/// The request behind a refusal (verb, bucket and key), without the server's page of XML.
fn request(source: &dyn Error) -> String {
    let text = source.to_string();
    match text.split(" - ").next() {
        Some(request) if request.contains("://") => format!(" ({})", one_line(request)),
        _ => String::new(),
    }
}

/// Servers answer with pages of XML; the first of it is enough for a line of text.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// On one line. A table without a schema is in `datafusion.public`, which nobody typed.
fn plain_names(text: &str) -> String {
    text.replace("datafusion.public.", "").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_cause_decides() {
        let inner = DataFusionError::ObjectStore(Box::new(object_store::Error::NotFound {
            path: "a/b.parquet".into(),
            source: "404".into(),
        }));
        let wrapped = DataFusionError::External(Box::new(ArrowError::ExternalError(Box::new(
            DataFusionError::Context("reading".into(), Box::new(inner)),
        ))));
        assert_eq!(
            EngineError::from(wrapped),
            EngineError::MissingInput("not found: a/b.parquet".into())
        );
    }

    #[test]
    fn a_refused_local_file_is_no_unavailable_store() {
        let refused = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::PermissionDenied)),
        };
        assert!(matches!(EngineError::from(refused), EngineError::PermissionDenied(_)));
        let full = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        };
        assert!(matches!(EngineError::from(full), EngineError::NoSpace(_)));
    }

    #[test]
    fn a_full_spill_directory_is_not_a_memory_limit() {
        let disk = DataFusionError::ResourcesExhausted("… see max_temp_directory_size".into());
        assert!(matches!(EngineError::from(disk), EngineError::NoSpace(_)));
        let memory = DataFusionError::ResourcesExhausted("Failed to allocate 1.0 GB".into());
        assert!(matches!(EngineError::from(memory), EngineError::MemoryLimit(_)));
        let full = "Additional allocation failed for A with top memory consumers … Error: Failed to allocate additional 1383.0 MB for A \
            with 0.0 B already allocated for this reservation - 10.0 MB remain available for the total memory pool: fair(pool_size: 20.0 MB)";
        let told = EngineError::from(DataFusionError::ResourcesExhausted(full.into())).to_string();
        assert!(
            told.starts_with(
                "the memory limit of 20.0 MB is too small: 1383.0 MB more were needed"
            ),
            "{told}"
        );
    }

    #[test]
    fn text_has_no_names_of_layers_and_no_page_of_xml() {
        let error = DataFusionError::Plan("table 'datafusion.public.t' not found".into());
        assert_eq!(EngineError::from(error).to_string(), "table 't' not found");
        assert_eq!(one_line("a\n  b\tc"), "a b c");
        assert_eq!(one_line(&"x".repeat(1000)).chars().count(), 401);
    }
}
