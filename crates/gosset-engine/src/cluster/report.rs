//! Errors across processes: Ballista hands on the text of an error alone, in `Debug` form and under several names of
//! layers. Where a task fails, the condition of the error and its text are put into a mark that no quoting changes; the
//! client finds the mark and has the error that a local session would have had.

use datafusion::common::DataFusionError;

use crate::EngineError;

const START: &str = "gosset-error:";
const END: char = ';';

/// The conditions by name. Both directions read this one table.
type Make = fn(String) -> EngineError;
const CONDITIONS: &[(&str, Make)] = &[
    ("option", EngineError::Option),
    ("query", EngineError::Query),
    ("setup", EngineError::Setup),
    ("missing", EngineError::MissingInput),
    ("data", EngineError::BadData),
    ("permission", EngineError::PermissionDenied),
    ("unavailable", EngineError::StoreUnavailable),
    ("memory", EngineError::MemoryLimit),
    ("space", EngineError::NoSpace),
    ("conflict", EngineError::Conflict),
    ("internal", EngineError::Internal),
];

fn name(error: &EngineError) -> &'static str {
    match error {
        EngineError::Option(_) => "option",
        EngineError::Query(_) => "query",
        EngineError::Setup(_) => "setup",
        EngineError::MissingInput(_) => "missing",
        EngineError::BadData(_) => "data",
        EngineError::PermissionDenied(_) => "permission",
        EngineError::StoreUnavailable(_) => "unavailable",
        EngineError::MemoryLimit(_) => "memory",
        EngineError::NoSpace(_) => "space",
        EngineError::Conflict(_) => "conflict",
        EngineError::Internal(_) => "internal",
    }
}

/// An error with its mark, as the text of an error that crosses processes.
pub(crate) fn marked(error: &EngineError) -> DataFusionError {
    let text: String = error.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
    DataFusionError::Execution(format!("{START}{}:{text}{END}", name(error)))
}

/// The error whose mark is in a text.
pub(crate) fn find(text: &str) -> Option<EngineError> {
    let (_, rest) = text.split_once(START)?;
    let (mark, _) = rest.split_once(END)?;
    let (condition, hex) = mark.split_once(':')?;
    let bytes: Option<Vec<u8>> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect();
    let text = String::from_utf8(bytes?).ok()?;
    let (_, make) = CONDITIONS.iter().find(|(name, _)| *name == condition)?;
    Some(make(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_survives_quoting() {
        for (condition, make) in CONDITIONS {
            let error = make("bad \"data\" in 'ä.csv': line 3\n\\".into());
            assert_eq!(name(&error), *condition);
            let quoted = format!("Task failed: {:?}", format!("{:?}", marked(&error)));
            assert_eq!(find(&quoted), Some(error));
        }
        for text in ["", "no mark", "gosset-error:data:zz;", "gosset-error:other:61;"] {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
