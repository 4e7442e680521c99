//! `gosset functions`

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::{FunctionsArgs, ReferenceFormat};
use crate::exit::{Exit, Failure};

/// Prints the reference of all functions, or the page of one.
pub(crate) fn execute(args: &FunctionsArgs) -> Result<Exit, Failure> {
    let text = match (&args.name, args.format) {
        (None, ReferenceFormat::Text) => list(),
        (None, ReferenceFormat::Json) => gosset_sql::functions_json(),
        (None, ReferenceFormat::Markdown) => gosset_sql::functions_markdown(),
        (Some(name), ReferenceFormat::Text | ReferenceFormat::Markdown) => page(name)?,
        (Some(name), ReferenceFormat::Json) => entry(name)?,
    };
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(Exit::Done)
}

/// A line for each function.
pub(crate) fn list() -> String {
    let functions = gosset_sql::FUNCTIONS;
    let width = functions.iter().map(|function| function.name.len()).max().unwrap_or(0);
    let lines =
        functions.iter().map(|function| format!("{:width$}  {}", function.name, function.summary));
    lines.collect::<Vec<_>>().join("\n")
}

/// The page of one function.
pub(crate) fn page(name: &str) -> Result<String, Failure> {
    gosset_sql::function_help(name).ok_or_else(|| unknown(name))
}

fn entry(name: &str) -> Result<String, Failure> {
    let all: Value = serde_json::from_str(&gosset_sql::functions_json())
        .map_err(|error| Failure::new(Exit::Bug, format!("the reference is not JSON: {error}")))?;
    let of_name = |entry: &&Value| {
        entry["name"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(name))
    };
    let entry = all.as_array().into_iter().flatten().find(of_name);
    Ok(format!("{:#}", entry.ok_or_else(|| unknown(name))?))
}

fn unknown(name: &str) -> Failure {
    let names: Vec<_> = gosset_sql::FUNCTIONS.iter().map(|function| function.name).collect();
    let message = format!("no function is called '{name}' (expected one of {})", names.join(", "));
    Failure::new(Exit::Usage, message)
}
