//! Log lines on standard error, and spans for a collector.

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracer;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

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

/// The target of what people are told in words on standard error. Among lines for people it would come twice.
pub(crate) const TOLD: &str = "gosset";

/// Starts logging, and spans where there is a tracer for them. Called once.
pub(crate) fn start(format: LogFormat, progress: &Progress, tracer: Option<SdkTracer>) {
    let default = match format {
        LogFormat::Text => FOR_PEOPLE,
        LogFormat::Json => FOR_COLLECTORS,
    };
    let filter =
        EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let writer = progress.log_writer();
    let lines =
        fmt::layer().with_writer(move || writer.clone()).with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => {
            let untold = filter.and(filter_fn(|metadata| metadata.target() != TOLD));
            lines.with_target(false).with_filter(untold).boxed()
        }
        // The span says of which run, experiment and date a line is.
        LogFormat::Json => {
            lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
        }
    };
    let spans = tracer.map(|tracer| {
        let spans = tracing_opentelemetry::layer().with_tracer(tracer);
        spans.with_location(false).with_threads(false).with_filter(EnvFilter::new(FOR_COLLECTORS))
    });
    tracing_subscriber::registry().with(lines).with(spans).init();
}
