//! `gosset scheduler`, `executor` and `cluster`: the parts of a cluster, and what it is doing.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gosset_engine::cluster::{
    Cluster, Executor, ExecutorOptions, JobStatus, Scheduler, SchedulerOptions, Security, Status,
};
use gosset_engine::{EngineError, EngineOptions};

use crate::App;
use crate::cli::{ClusterArgs, ClusterCommand, ExecutorArgs, ListenArgs, SchedulerArgs};
use crate::exit::{Exit, Failure};
use crate::{output, signals};

const CLUSTER: &str = "GOSSET_CLUSTER";
const TOKEN: &str = "GOSSET_CLUSTER_TOKEN";
const AUTHORITIES: &str = "GOSSET_CLUSTER_CA";

/// The cluster that a command is told to use, by the command line, by the job file, or by the environment. `name` is what
/// its queries are known by there.
pub(crate) fn chosen(
    app: &App,
    name: &str,
    of_job: Option<&str>,
) -> Result<Option<Cluster>, Failure> {
    let args = &app.shared.cluster;
    let environment = variable(CLUSTER);
    let Some(url) = args.cluster.as_deref().or(of_job).or(environment.as_deref()) else {
        return Ok(None);
    };
    let progress = app.progress.clone();
    let cluster = Cluster::new(url, security(args)?)?
        .with_name(name)
        .with_patience(Duration::from_secs(args.cluster_wait))
        .with_watch(move |job| progress.note(in_words(job)));
    Ok(Some(cluster))
}

/// A variable of the environment; one that is empty is as good as none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What this process shows to the parts of a cluster, and trusts of them.
fn security(args: &ClusterArgs) -> Result<Security, Failure> {
    let mut security = Security::new();
    let token = match &args.token_file {
        Some(file) => Some(read(file)?),
        None => variable(TOKEN),
    };
    if let Some(token) = token {
        security = security.with_token(&token)?;
    }
    let authorities = args.tls_ca.clone().or_else(|| variable(AUTHORITIES).map(Into::into));
    if let Some(file) = authorities {
        security = security.with_authorities(&file)?;
    }
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        security = security.with_identity(certificate, key)?;
    }
    if let Some(name) = &args.tls_name {
        security = security.with_server_name(name);
    }
    Ok(security)
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::new(Exit::Config, format!("{}: {error}", file.display()));
    std::fs::read_to_string(file).map_err(failed)
}

fn of_server(app: &App, listen: &ListenArgs) -> Result<Security, Failure> {
    let mut security = security(&app.shared.cluster)?;
    if let Some(file) = &listen.tls_client_ca {
        security = security.with_client_authorities(file)?;
    }
    Ok(if listen.plaintext { security.with_plaintext() } else { security })
}

/// Runs the scheduler until it is told to stop.
pub(crate) async fn scheduler(app: &App, args: &SchedulerArgs) -> Result<Exit, Failure> {
    let scheduler = Scheduler::bind(SchedulerOptions {
        listen: args.listen,
        http: args.at.http,
        executor_timeout: Duration::from_secs(args.executor_timeout),
        client_timeout: Duration::from_secs(args.client_timeout),
        security: of_server(app, &args.at)?,
    })
    .await?;
    say_where(app, "scheduler", scheduler.address()?, scheduler.http_address()?);
    scheduler.run(stopped(app, "scheduler")).await?;
    Ok(Exit::Done)
}

/// Runs an executor until it is told to stop, and then until it is drained.
pub(crate) async fn executor(app: &App, args: &ExecutorArgs) -> Result<Exit, Failure> {
    let slots = args.slots.map_or_else(cores, usize::from);
    let executor = Executor::bind(ExecutorOptions {
        scheduler: args.scheduler.clone(),
        listen: args.listen,
        advertise: args.advertise.clone(),
        http: args.at.http,
        slots,
        work_dir: args.work_dir.clone().unwrap_or_else(std::env::temp_dir),
        drain: Duration::from_secs(args.drain),
        patience: Duration::from_secs(app.shared.cluster.cluster_wait),
        security: of_server(app, &args.at)?,
        engine: app.engine_options(EngineOptions::new()),
    })
    .await?;
    say_where(app, "executor", executor.address()?, executor.http_address()?);
    executor.run(stopped(app, "executor")).await?;
    Ok(Exit::Done)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn say_where(app: &App, what: &str, address: SocketAddr, http: Option<SocketAddr>) {
    let health = http.map(|http| format!(", health and metrics on {http}")).unwrap_or_default();
    app.say(&format!("{what}: listening on {address}{health}"));
}

async fn stopped(app: &App, what: &str) {
    signals::stop().await;
    app.say(&format!("{what}: ending"));
}

/// Tells what a cluster is doing.
pub(crate) async fn cluster(app: &App, command: &ClusterCommand) -> Result<Exit, Failure> {
    let ClusterCommand::Status { json } = command;
    let Some(cluster) = chosen(app, "status", None)? else {
        return Err(Failure::new(Exit::Usage, format!("which cluster? (--cluster or {CLUSTER})")));
    };
    let status = cluster.status().await?;
    let text = if *json {
        let told = serde_json::to_string_pretty(&status);
        told.map_err(|error| EngineError::Internal(error.to_string()))? + "\n"
    } else {
        page(&status)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

fn page(status: &Status) -> String {
    let executors = status.executors.iter().map(|executor| {
        [
            executor.id.clone(),
            executor.address.clone(),
            executor.slots.to_string(),
            format!("{} s ago", executor.heard_seconds_ago),
        ]
    });
    let jobs = status.jobs.iter().map(|job| {
        [
            job.id.clone(),
            job.client.clone(),
            job.state.clone(),
            format!("{:.1}", job.seconds),
            format!("{} of {}", job.stages_done, job.stages),
            if job.tasks == 0 {
                String::new()
            } else {
                format!("{} of {}", job.tasks_done, job.tasks)
            },
            if job.tasks == 0 { String::new() } else { job.rows.to_string() },
        ]
    });
    let (executors, jobs): (Vec<_>, Vec<_>) = (executors.collect(), jobs.collect());
    let mut text = format!(
        "gosset {} (functions {}): {} executors, {} slots\n",
        status.version,
        status.functions,
        status.executors.len(),
        status.slots()
    );
    if !executors.is_empty() {
        text += &output::grid(&["executor", "address", "slots", "heard"], &executors);
    }
    if !jobs.is_empty() {
        text += &output::grid(
            &["query", "client", "state", "seconds", "stages", "tasks", "rows read"],
            &jobs,
        );
    }
    text
}

/// How far a query is.
fn in_words(job: &JobStatus) -> String {
    match job.state.as_str() {
        "queued" => "the query waits".into(),
        _ => format!(
            "stage {} of {}, {} of {} tasks, {} rows",
            (job.stages_done + 1).min(job.stages.max(1)),
            job.stages.max(1),
            job.tasks_done,
            job.tasks,
            job.rows
        ),
    }
}
