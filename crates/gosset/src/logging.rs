//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use crate::progress::Progress;

/// Only what is wrong: people are told the rest in words. Delta logs a conflict as an error although it is the normal way
/// to lose a race, and Ballista a query that fails; what it means is told by whoever handles it.
const FOR_PEOPLE: &str = "warn,deltalake_core=off,delta_kernel=off,delta_kernel_default_engine=off,\
    ballista_core::execution_plans::distributed_query=off";
/// Ours from `info` on.
const FOR_COLLECTORS: &str = "warn,gosset=info,gosset_jobs=info,gosset_engine=info,\
    deltalake_core=off,delta_kernel=off,delta_kernel_default_engine=off,\
    ballista_core::execution_plans::distributed_query=off";

/// The environment variable that replaces the filter, in the syntax of `RUST_LOG`.
const FILTER_VARIABLE: &str = "GOSSET_LOG";

/// Starts logging. Called once.
pub(crate) fn start(format: LogFormat, progress: &Progress) {
    let default = match format {
        LogFormat::Text => FOR_PEOPLE,
        LogFormat::Json => FOR_COLLECTORS,
    };
    let filter =
        EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let writer = progress.log_writer();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer.clone())
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => {
            // The span says of which run, experiment and date a line is.
            lines.json().flatten_event(true).with_span_list(false).init();
        }
    }
}
