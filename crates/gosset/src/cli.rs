//! The command line.

#[cfg(feature = "cluster")]
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;

/// Experiment statistics in SQL: one query language for a file, a bucket and a nightly job.
#[derive(Debug, Parser)]
#[command(name = "gosset", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 done or nothing to do · 2 usage · 65 bad data · 66 missing input · \
    69 store or cluster unavailable · 70 bug · 71 memory limit · 73 no space · 75 another run won, try again · \
    77 permission denied · 78 job file, SQL or set-up · 124 time-out · 130/143 stopped by a signal"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct SharedArgs {
    /// Memory that queries may hold before they spill, such as 8GB [default: three quarters of the machine]
    #[arg(long, global = true, value_name = "SIZE", value_parser = gosset_engine::parse_bytes)]
    pub(crate) memory_limit: Option<usize>,
    /// Streams that a query is split into [default: one for each core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) partitions: Option<u16>,
    /// How log lines on standard error look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Where queries run, and what the parts of a cluster show to one another.
#[cfg(feature = "cluster")]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// Run queries on this cluster, such as df://host:50050 [environment: GOSSET_CLUSTER]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) cluster: Option<String>,
    /// How long a scheduler that does not answer, and a cluster without executors, are waited for
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value_t = 60,
        hide_default_value = true
    )]
    pub(crate) cluster_wait: u64,
    /// The secret of the cluster is in this file [environment: GOSSET_CLUSTER_TOKEN has it]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Speak TLS with those whose certificates are signed by one in this file [environment: GOSSET_CLUSTER_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// The certificate to show, as a server and as a client
    #[arg(long, global = true, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The name in the certificates of all parts [default: that of each host]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for collectors.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a query, a script, or an interactive shell
    Sql(SqlArgs),
    /// Check a job file: its keys, its SQL, the columns of its sources; nothing is run
    Validate(JobArgs),
    /// Show what a run would compute, and why
    Plan(PlanArgs),
    /// Compute what is missing and publish it
    Run(RunArgs),
    /// Compute what is missing of past days, late rows among it
    Backfill(BackfillArgs),
    /// Show what is published, when, and by which configuration
    Status(JobArgs),
    /// Show what happened to a table: versions, runs, what each of them published
    History(HistoryArgs),
    /// Go back: make all tables of a job what they were
    Restore(RestoreArgs),
    /// Delete the files that no version needs
    Vacuum(VacuumArgs),
    /// Forget units: take them out of what is kept of their days, and delete the files they were in
    Erase(EraseArgs),
    /// Draw the arms of an experiment's units anew, again and again, and tell what its estimators make of nothing
    Calibrate(CalibrateArgs),
    /// Take queries from clients and hand their tasks to executors
    #[cfg(feature = "cluster")]
    Scheduler(SchedulerArgs),
    /// Run tasks of a scheduler
    #[cfg(feature = "cluster")]
    Executor(ExecutorArgs),
    /// Look at a cluster
    #[cfg(feature = "cluster")]
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show the function reference
    Functions(FunctionsArgs),
    /// Print the JSON Schema of the job file, for editors
    Schema,
    /// Make a small lake with known effects, run a job on it, and compare
    Demo(DemoArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// `gosset sql`
#[derive(Debug, Args)]
#[command(
    after_help = "Files are tables: SELECT * FROM 's3://bucket/day.parquet' (also .csv, .json, directories, \
    patterns such as 'days/*.parquet', and Delta tables).\n\
    Without -c or -f, statements come from standard input, or from a shell if that is a terminal.\n\n\
    Examples:\n  \
    gosset sql -c \"SELECT count(*) FROM 'hillstrom.csv'\"\n  \
    gosset sql -f report.sql --format csv > report.csv\n  \
    echo 'SELECT 1' | gosset sql"
)]
pub(crate) struct SqlArgs {
    /// Statements to run; may be given several times
    #[arg(short, long, value_name = "SQL", conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// A file of statements to run, or - for standard input; may be given several times
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// How results look
    #[arg(long, value_enum, default_value_t = ResultFormat::Table)]
    pub(crate) format: ResultFormat,
    /// Tell rows and seconds of each statement on standard error
    #[arg(long)]
    pub(crate) timing: bool,
}

/// The form of a result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResultFormat {
    /// For people, with a field of a struct on each line
    Table,
    /// With a header; structs and lists as JSON
    Csv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
    /// A table for documents
    Markdown,
}

/// A job file.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The job file
    pub(crate) job: PathBuf,
}

/// `gosset run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// The last day that results are asked for [default: yesterday, in the job's time zone]
    #[arg(long, value_name = "DAY")]
    pub(crate) date: Option<Date>,
    /// Compute everything that is published again, from all raw rows, and compare; nothing is published
    #[arg(long)]
    pub(crate) verify: bool,
    /// Write what the run did as metrics of Prometheus, for the textfile collector of its node exporter
    #[arg(long, value_name = "FILE", conflicts_with = "verify")]
    pub(crate) metrics_file: Option<PathBuf>,
}

/// `gosset backfill`
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// The first day that results are asked for [default: the start of each experiment]
    #[arg(long, value_name = "DAY")]
    pub(crate) from: Option<Date>,
    /// The last day that results are asked for [default: yesterday, in the job's time zone]
    #[arg(long, value_name = "DAY")]
    pub(crate) to: Option<Date>,
    /// One experiment alone
    #[arg(long, value_name = "NAME")]
    pub(crate) experiment: Option<String>,
    /// How many experiments are computed at once, within one memory limit, and days of a source read [default: 1; on a cluster
    /// its slots, 8 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Write what the run did as metrics of Prometheus, for the textfile collector of its node exporter
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
}

/// `gosset history`
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// Which table: effects, audits, summaries, or unit_days_ with the name of a source
    #[arg(long, value_name = "TABLE", default_value = gosset_jobs::EFFECTS)]
    pub(crate) table: String,
}

/// `gosset restore`
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("moment").required(true).args(["version", "to"])),
    after_help = "Other jobs of the same store stay as they are. The next run computes what differs from the job file and the inputs \
    as they are then: see it with 'gosset plan', and correct them first.\n\n\
    Examples:\n  \
    gosset history nightly.toml\n  \
    gosset restore nightly.toml --version 41\n  \
    gosset restore nightly.toml --to '2026-03-29 06:00'"
)]
pub(crate) struct RestoreArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// The version of effects to go back to
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<u64>,
    /// The time to go back to, in the job's time zone or with an offset
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
}

/// `gosset vacuum`
#[derive(Debug, Args)]
#[command(
    after_help = "Older versions cannot be read or restored afterwards. Runs that go on need files that are of no version yet: \
    fewer days than the job's time-out, or than 1 without one, are refused unless --force says that no run goes on."
)]
pub(crate) struct VacuumArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// Days that a file stays after it was replaced
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(crate) retain: u16,
    /// Tell the files and delete none
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// No run goes on: delete files however young they are
    #[arg(long)]
    pub(crate) force: bool,
}

/// `gosset erase`
#[derive(Debug, Args)]
#[command(
    after_help = "Delete the units' rows from the sources first: a part that is read again brings back who is in it. Published \
    effects, audits and summaries are of many units together; they stay."
)]
pub(crate) struct EraseArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// The units: a CSV file of one column, whose header is the name of a source's unit column, or a Parquet file of one column
    #[arg(long, value_name = "FILE")]
    pub(crate) units: PathBuf,
}

/// `gosset calibrate`
#[derive(Debug, Args)]
#[command(
    after_help = "A/A: nothing differs between arms that are drawn by chance. The share of p-values at most 1 - confidence must be that, \
    intervals must cover 0 as often as their confidence says, p-values must be uniform, and the mean standard error must be the \
    standard deviation of the estimates. Bands are those of chance, 99 of 100 times."
)]
pub(crate) struct CalibrateArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// One experiment alone
    #[arg(long, value_name = "NAME")]
    pub(crate) experiment: Option<String>,
    /// The day at whose end units are taken [default: yesterday, or the end of the experiment if that is earlier]
    #[arg(long, value_name = "DAY")]
    pub(crate) date: Option<Date>,
    /// How often arms are drawn
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) replicates: u32,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u32,
}

/// `gosset plan`
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The job file
    pub(crate) job: PathBuf,
    /// The last day that results are asked for [default: yesterday, in the job's time zone]
    #[arg(long, value_name = "DAY")]
    pub(crate) date: Option<Date>,
    /// Print the SQL that would run
    #[arg(long)]
    pub(crate) sql: bool,
    /// End with status 20 if there is work to do
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

/// What `gosset scheduler` and `gosset executor` have in common.
#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Where to tell of health and metrics: GET /healthz, /readyz, /metrics
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,
    /// Let only those in whose certificates are signed by one in this file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Listen beyond this machine without TLS: something else encrypts what comes and goes
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) plaintext: bool,
}

/// `gosset scheduler`
#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
pub(crate) struct SchedulerArgs {
    /// Where clients and executors come; beyond this machine only with TLS and a secret or client certificates
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50050")]
    pub(crate) listen: SocketAddr,
    /// An executor that says nothing for this long is given up, and what it did is done again by others
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub(crate) executor_timeout: u64,
    /// A query whose client says nothing for this long is stopped: it was killed, or cut off
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) client_timeout: u64,
    #[command(flatten)]
    pub(crate) at: ListenArgs,
}

/// `gosset executor`
#[cfg(feature = "cluster")]
#[derive(Debug, Args)]
pub(crate) struct ExecutorArgs {
    /// The scheduler
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50050")]
    pub(crate) scheduler: String,
    /// Where others fetch shuffle files; beyond this machine only with TLS and a secret or client certificates
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    pub(crate) listen: SocketAddr,
    /// The host that others reach it by [default: that of --listen]
    #[arg(long, value_name = "HOST")]
    pub(crate) advertise: Option<String>,
    /// Tasks at once [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) slots: Option<u16>,
    /// Where a folder for shuffle and spill files is made, and deleted at the end [default: the system's for such files]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// After SIGTERM: how long tasks may take to end, and shuffle files are kept for others
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) drain: u64,
    #[command(flatten)]
    pub(crate) at: ListenArgs,
}

/// `gosset cluster`
#[cfg(feature = "cluster")]
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show executors, and queries with their stages, tasks and rows
    Status {
        /// For tools
        #[arg(long)]
        json: bool,
    },
}

/// `gosset functions`
#[derive(Debug, Args)]
pub(crate) struct FunctionsArgs {
    /// One function, such as ttest
    pub(crate) name: Option<String>,
    /// The form of the reference
    #[arg(long, value_enum, default_value_t = ReferenceFormat::Text)]
    pub(crate) format: ReferenceFormat,
}

/// The form of the function reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReferenceFormat {
    /// A line for each function, or the page of one
    Text,
    /// For tools
    Json,
    /// A document
    Markdown,
}

/// `gosset demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the lake is written
    #[arg(default_value = "gosset-demo")]
    pub(crate) directory: PathBuf,
}

/// `gosset completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shared_options_go_after_the_command_too() {
        let cli = Cli::try_parse_from(["gosset", "sql", "-c", "SELECT 1", "--memory-limit", "1GB"])
            .expect("a command line");
        assert_eq!(cli.shared.memory_limit, Some(1 << 30));
        assert!(Cli::try_parse_from(["gosset", "sql", "--memory-limit", "much"]).is_err());
        assert!(Cli::try_parse_from(["gosset", "sql", "-c", "SELECT 1", "-f", "x.sql"]).is_err());
    }
}
