//! The `gosset` binary: arguments, the shell, progress and exit codes. What it does is in the libraries.

mod cli;
mod commands;
mod exit;
mod logging;
mod output;
mod progress;
mod signals;
mod telemetry;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use gosset_engine::{Engine, EngineOptions};

use crate::cli::{Cli, Command, LogFormat, SharedArgs};
use crate::exit::{Exit, Failure};
use crate::logging::TOLD;
use crate::progress::Progress;

/// Batches are allocated and freed by the thousand, of all sizes: this one keeps what is freed for the next, in huge pages
/// where the system has them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long work that was told to stop may take to give back its files.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Plans are walked recursively, and a build without optimisation uses much stack.
const STACK: usize = 8 << 20;

/// What every command has.
pub(crate) struct App {
    pub(crate) shared: SharedArgs,
    pub(crate) progress: Progress,
}

impl App {
    /// Options of an engine: what the command line says over `defaults`.
    pub(crate) fn engine_options(&self, defaults: EngineOptions) -> EngineOptions {
        let mut options = defaults;
        if let Some(bytes) = self.shared.memory_limit {
            options = options.with_memory_limit(bytes);
        }
        if let Some(partitions) = self.shared.partitions {
            options = options.with_target_partitions(partitions.into());
        }
        options
    }

    /// Tells people on standard error what was done; a collector of logs gets it as a line of its own form.
    pub(crate) fn say(&self, text: &str) {
        tracing::info!(target: TOLD, "{}", text.trim());
        if self.shared.log_format == LogFormat::Text {
            eprintln!("{text}");
        }
    }

    /// Tells what is not as it should be, and did not stop the work.
    pub(crate) fn warn(&self, text: &str) {
        tracing::warn!(target: TOLD, "{text}");
        if self.shared.log_format == LogFormat::Text {
            eprintln!("warning: {text}");
        }
    }

    /// Tells what failed, where other work goes on.
    pub(crate) fn error(&self, text: &str) {
        tracing::error!(target: TOLD, "{text}");
        if self.shared.log_format == LogFormat::Text {
            eprintln!("error: {text}");
        }
    }

    /// An engine with the options of the command line, here or on a cluster.
    pub(crate) async fn engine(&self) -> Result<Engine, Failure> {
        let options = self.placed(self.engine_options(EngineOptions::new()), "sql", None)?;
        let engine = Engine::new(options)?;
        #[cfg(feature = "cluster")]
        engine.connect().await?;
        Ok(engine)
    }

    /// Options of an engine whose queries run where the command line says, or the job file, or the environment. On a cluster
    /// they are known by a name.
    #[cfg(feature = "cluster")]
    pub(crate) fn placed(
        &self,
        options: EngineOptions,
        name: &str,
        of_job: Option<&str>,
    ) -> Result<EngineOptions, Failure> {
        Ok(match commands::cluster::chosen(self, name, of_job)? {
            Some(cluster) => options.with_cluster(cluster),
            None => options,
        })
    }

    /// Options of an engine whose queries run here: this build knows no clusters.
    #[cfg(not(feature = "cluster"))]
    pub(crate) fn placed(
        &self,
        options: EngineOptions,
        _: &str,
        of_job: Option<&str>,
    ) -> Result<EngineOptions, Failure> {
        match of_job {
            None => Ok(options),
            Some(_) => Err(Failure::new(
                Exit::Config,
                "a cluster needs a build with the cargo feature 'cluster'",
            )),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
    quiet_workers();
    let format = cli.shared.log_format;
    let progress = Progress::new();
    let mut tracer = if has_span(&cli.command) { telemetry::start() } else { Ok(None) };
    logging::start(format, &progress, tracer.as_mut().ok().and_then(Option::take));
    let app = App { shared: cli.shared, progress };
    if let Err(unfit) = tracer {
        app.warn(&unfit);
    }

    let span = telemetry::command(arguments.subcommand_name().unwrap_or_default());
    let exit = span.in_scope(|| ended(&app, &cli.command));
    if let Some(lost) = telemetry::stop(exit) {
        app.warn(&lost);
    }
    exit.into()
}

/// What only prints is not worth a span, and waits for no collector; what serves has no end.
fn has_span(command: &Command) -> bool {
    let prints =
        matches!(command, Command::Functions(_) | Command::Schema | Command::Completions(_));
    #[cfg(feature = "cluster")]
    let serves = matches!(command, Command::Scheduler(_) | Command::Executor(_));
    #[cfg(not(feature = "cluster"))]
    let serves = false;
    !prints && !serves
}

/// Runs a command to its end, whatever that is.
fn ended(app: &App, command: &Command) -> Exit {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(app, command)));
    match outcome {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            tell(&failure, app.shared.log_format);
            failure.exit
        }
        // The panic's own message is on standard error already.
        Err(_) => Exit::Bug,
    }
}

/// What panics in a task is told by whoever waits for the task; the panic's own message would come beside it.
fn quiet_workers() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some("tokio-rt-worker") {
            tracing::debug!("{panic}");
        } else {
            told(panic);
        }
    }));
}

fn run(app: &App, command: &Command) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build()
        .map_err(|error| Failure::new(Exit::Bug, format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(async {
        match command {
            // The shell handles ctrl-C itself: there it stops a query.
            Command::Sql(args) => commands::sql::execute(app, args).await,
            // These end in order.
            #[cfg(feature = "cluster")]
            Command::Scheduler(args) => commands::cluster::scheduler(app, args).await,
            #[cfg(feature = "cluster")]
            Command::Executor(args) => commands::cluster::executor(app, args).await,
            other => signals::unless_stopped(execute(app, other)).await?,
        }
    });
    runtime.shutdown_timeout(STOP_WITHIN);
    outcome
}

async fn execute(app: &App, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Sql(args) => commands::sql::execute(app, args).await,
        Command::Validate(args) => commands::job::validate(app, args).await,
        Command::Plan(args) => commands::job::plan(app, args).await,
        Command::Run(args) => commands::job::run(app, args).await,
        Command::Backfill(args) => commands::job::backfill(app, args).await,
        Command::Calibrate(args) => commands::calibrate::execute(app, args).await,
        Command::Status(args) => commands::job::status(app, args).await,
        Command::History(args) => commands::upkeep::history(app, args).await,
        Command::Restore(args) => commands::upkeep::restore(app, args).await,
        Command::Vacuum(args) => commands::upkeep::vacuum(app, args).await,
        Command::Erase(args) => commands::upkeep::erase(app, args).await,
        Command::Schema => commands::job::schema(),
        Command::Demo(args) => commands::demo::execute(app, args).await,
        #[cfg(feature = "cluster")]
        Command::Scheduler(args) => commands::cluster::scheduler(app, args).await,
        #[cfg(feature = "cluster")]
        Command::Executor(args) => commands::cluster::executor(app, args).await,
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => commands::cluster::cluster(app, command).await,
        Command::Functions(args) => commands::functions::execute(args),
        Command::Completions(args) => commands::completions::execute(args),
    }
}

/// Says on standard error why the command ended.
fn tell(failure: &Failure, format: LogFormat) {
    if failure.message.is_empty() {
        return;
    }
    tracing::error!(target: TOLD, exit = failure.exit as u8, "{failure}");
    if format == LogFormat::Text {
        eprintln!("error: {failure}");
    }
}
