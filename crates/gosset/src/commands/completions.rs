//! `gosset completions`

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::{Exit, Failure};

/// Prints a completion script, to be sourced by the shell.
pub(crate) fn execute(args: &CompletionsArgs) -> Result<Exit, Failure> {
    // The generator panics when writing fails, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gosset", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}
