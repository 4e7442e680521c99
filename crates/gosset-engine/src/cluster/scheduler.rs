//! The scheduler: takes plans from clients, hands tasks to the executors that ask for them.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::http::Uri;
use axum::routing::get;
use ballista_core::JobId;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_core::serde::protobuf::{job_status, task_status};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::metrics::SchedulerMetricsCollector;
use ballista_scheduler::scheduler_server::SchedulerServer;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::{ExecutionStage, TaskInfo};
use ballista_scheduler::state::task_manager::JobOverview;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tonic::service::{InterceptorLayer, RoutesBuilder};
use tonic::transport::server::TcpIncoming;

use super::build::Build;
use super::codec::codec;
use super::http::{self, Metrics};
use super::ports::Ports;
use super::security::{Role, Security, causes};
use super::session::{self, MESSAGE_BYTES};
use super::shares::FairShares;
use super::status::{ExecutorStatus, JobStatus, PATH, Status, client_of};
use crate::engine::runtime;
use crate::{EngineError, EngineOptions, Result};

/// A busy executor tells of itself every 5 seconds.
const LEAST_TIMEOUT: Duration = Duration::from_secs(6);
/// How often it is looked for executors that say nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A client asks for a query every second, or as soon as it can.
const LEAST_CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long running queries wait for an executor to come back when all are lost.
const NO_EXECUTORS: Duration = Duration::from_secs(60);
/// How long the result of a query can be fetched at most; clients say when they have read it.
const KEEP_RESULTS: Duration = Duration::from_secs(3600);
/// How long a query that ended is told about. Its plan, with rows that were sent along, is in memory as long.
const KEEP_JOBS: Duration = Duration::from_secs(120);

type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// Where a scheduler listens.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// For clients and executors.
    pub listen: SocketAddr,
    /// For health and metrics; nowhere if not given.
    pub http: Option<SocketAddr>,
    /// An executor that says nothing for this long is given up, and what it did is done again by others. A busy one tells
    /// of itself every 5 seconds.
    pub executor_timeout: Duration,
    /// A query whose client says nothing for this long is stopped.
    pub client_timeout: Duration,
    /// Who may come.
    pub security: Security,
}

/// A scheduler that listens.
#[derive(Debug)]
pub struct Scheduler {
    options: SchedulerOptions,
    ports: Ports,
}

impl Scheduler {
    /// Takes its ports.
    ///
    /// # Errors
    /// If an address may not be listened on, or is taken.
    pub async fn bind(options: SchedulerOptions) -> Result<Self> {
        super::use_one_cryptography();
        options.security.may_listen(options.listen)?;
        for (who, least, given) in [
            ("executors", LEAST_TIMEOUT, options.executor_timeout),
            ("clients", LEAST_CLIENT_TIMEOUT, options.client_timeout),
        ] {
            if given < least {
                return Err(EngineError::Option(format!(
                    "expected {who} to be given up after {} seconds or more, found {}",
                    least.as_secs(),
                    given.as_secs()
                )));
            }
        }
        let ports = Ports::take(options.listen, options.http).await?;
        Ok(Self { options, ports })
    }

    /// Where clients and executors find it.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        self.ports.address()
    }

    /// Where health and metrics are.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn http_address(&self) -> Result<Option<SocketAddr>> {
        self.ports.http_address()
    }

    /// Serves until `stop` is done.
    ///
    /// # Errors
    /// If a certificate is not usable or a socket fails.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let build = Build::this();
        let address = self.address()?;
        let counts = Arc::new(Counts::default());
        let server = server(&self.options, address, &build, Arc::clone(&counts)).await?;

        let scheduler = SchedulerGrpcServer::new(server.clone())
            .max_decoding_message_size(MESSAGE_BYTES as usize)
            .max_encoding_message_size(MESSAGE_BYTES as usize);
        let mut routes = RoutesBuilder::default();
        routes.add_service(scheduler);
        let (asked, of) = (server.clone(), build.clone());
        let clients = Arc::new(Clients::default());
        let heard = Arc::clone(&clients);
        let told = move |uri: Uri| {
            let (server, build) = (asked.clone(), of.clone());
            uri.query().into_iter().for_each(|query| heard.hear(query));
            async move { Json(status(&server, &build, uri.query()).await) }
        };
        let routes = routes.routes().into_axum_router().route(PATH, get(told));
        let guard = self.options.security.guard(Role::Scheduler, build.clone());
        let serving = self
            .options
            .security
            .server()?
            .layer(InterceptorLayer::new(guard))
            .add_routes(routes.into())
            .serve_with_incoming(TcpIncoming::from(self.ports.cluster).with_nodelay(Some(true)));

        let health = async {
            let Some(listener) = self.ports.http else { return std::future::pending().await };
            let (ready, told) = (server.clone(), server.clone());
            let not_ready = move || (!ready.is_ready()).then(|| "no executor".to_owned());
            let metrics = move || {
                let (counts, told, build) = (Arc::clone(&counts), told.clone(), build.clone());
                async move { counts.metrics(&status(&told, &build, None).await, &build) }
            };
            http::serve(listener, not_ready, metrics).await
        };
        tokio::select! {
            () = stop => Ok(()),
            () = clients.stop_what_nobody_waits_for(&server, self.options.client_timeout) => Ok(()),
            ended = serving => ended.map_err(|error| EngineError::Setup(causes(&error))),
            ended = health => ended.map_err(|error| EngineError::of(&error)),
        }
    }
}

/// When clients last asked for each of their queries, which they do every second while they wait.
#[derive(Default)]
struct Clients(Mutex<HashMap<String, Instant>>);

impl Clients {
    fn hear(&self, query: &str) {
        self.heard().insert(query.to_owned(), Instant::now());
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // An entry is whole or not there: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops queries whose client is gone without a word: killed, or cut off.
    async fn stop_what_nobody_waits_for(&self, server: &Server, timeout: Duration) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let jobs = server.state.task_manager.get_all_jobs().await.unwrap_or_default();
            let silent = {
                let mut heard = self.heard();
                heard.retain(|name, _| jobs.iter().any(|job| job.job_name == *name));
                let running = jobs.into_iter().filter(|job| job.end_time == 0);
                let silent = |job: &JobOverview| {
                    // One that nobody asked for yet is heard of now.
                    let last = heard.entry(job.job_name.clone()).or_insert_with(Instant::now);
                    last.elapsed() > timeout
                };
                running.filter(silent).collect::<Vec<_>>()
            };
            for JobOverview { job_id, job_name, .. } in silent {
                tracing::warn!("query {job_name} is stopped: its client asks for it no more");
                if let Err(error) = server.cancel_job(job_id).await {
                    tracing::warn!("query {job_name} could not be stopped: {error}");
                }
            }
        }
    }
}

/// Ballista's scheduler with our sessions and settings.
async fn server(
    options: &SchedulerOptions,
    address: SocketAddr,
    build: &Build,
    counts: Arc<Counts>,
) -> Result<Server> {
    let endpoints = options.security.override_endpoint(Role::Scheduler, build);
    let config = SchedulerConfig {
        namespace: "gosset".into(),
        external_host: address.ip().to_string(),
        bind_host: address.ip().to_string(),
        bind_port: address.port(),
        // Executors ask for tasks: only they open connections, but for telling them to stop a task.
        scheduling_policy: TaskSchedulingPolicy::PullStaged,
        task_distribution: TaskDistributionPolicy::Custom(Arc::new(FairShares)),
        executor_timeout_seconds: options.executor_timeout.as_secs(),
        expire_dead_executor_interval_seconds: LOOK_EVERY.as_secs(),
        no_executors_grace_period_seconds: NO_EXECUTORS.as_secs(),
        finished_job_data_clean_up_interval_seconds: KEEP_RESULTS.as_secs(),
        finished_job_state_clean_up_interval_seconds: KEEP_JOBS.as_secs(),
        grpc_server_max_decoding_message_size: MESSAGE_BYTES,
        grpc_server_max_encoding_message_size: MESSAGE_BYTES,
        grpc_client_max_message_size: MESSAGE_BYTES,
        override_create_grpc_client_endpoint: Some(Arc::clone(&endpoints)),
        ..SchedulerConfig::default()
    };
    config.validate().map_err(|error| EngineError::Internal(error.to_string()))?;
    // Nothing runs here: it is for reading plans.
    let runtime = runtime(EngineOptions::new())?;
    let cluster = BallistaCluster::new_memory(
        config.scheduler_id.clone(),
        Arc::new(move |config| session::state(config, Arc::clone(&runtime))),
        Arc::new(move || session::config(Arc::clone(&endpoints))),
    );
    let endpoint = config.scheduler_endpoint();
    let mut server = Server::new(endpoint, cluster, codec(), Arc::new(config), counts);
    server.init().await.map_err(|error| EngineError::Internal(error.to_string()))?;
    Ok(server)
}

async fn status(server: &Server, build: &Build, query: Option<&str>) -> Status {
    let timeout = Duration::from_secs(server.state.config.executor_timeout_seconds);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // The state is in memory: looking at it does not fail.
    let executors = server.state.executor_manager.get_executors_state().await.unwrap_or_default();
    let executors = executors.into_iter().filter_map(|(executor, heard, _)| {
        let ago = now.saturating_sub(heard.unwrap_or_default());
        (ago < timeout).then(|| ExecutorStatus {
            address: format!("{}:{}", executor.host, executor.port),
            slots: executor.specification.vcores as usize,
            heard_seconds_ago: ago.as_secs(),
            id: executor.id,
        })
    });
    let tasks = &server.state.task_manager;
    let running = tasks.get_running_job_cache();
    let mut jobs = Vec::new();
    let wanted = |job: &JobOverview| query.is_none_or(|name| name == job.job_name);
    for job in tasks.get_all_jobs().await.unwrap_or_default().into_iter().filter(wanted) {
        let ended = if job.end_time == 0 { now.as_millis() as u64 } else { job.end_time };
        let mut told = JobStatus {
            id: job.job_id.as_str().to_owned(),
            client: client_of(&job.job_name).to_owned(),
            name: job.job_name.clone(),
            state: state(job.status.status.as_ref()).to_owned(),
            seconds: ended.saturating_sub(job.start_time) as f64 / 1e3,
            stages: job.num_stages,
            stages_done: job.completed_stages,
            tasks: 0,
            tasks_done: 0,
            rows: 0,
        };
        if job.start_time == 0 {
            told.seconds = 0.0;
        }
        if let Some(job) = running.get(&job.job_id) {
            count(&*job.execution_graph.read().await, &mut told);
        }
        jobs.push((job.start_time, told));
    }
    jobs.sort_by(|(a, first), (b, second)| (a, &first.id).cmp(&(b, &second.id)));
    Status {
        version: build.version().to_owned(),
        functions: build.functions().to_owned(),
        executors: executors.collect(),
        jobs: jobs.into_iter().map(|(_, job)| job).collect(),
    }
}

fn state(status: Option<&job_status::Status>) -> &'static str {
    match status {
        Some(job_status::Status::Running(_)) => "running",
        Some(job_status::Status::Successful(_)) => "done",
        Some(job_status::Status::Failed(_)) => "failed",
        Some(job_status::Status::Queued(_)) | None => "queued",
    }
}

/// Counts tasks and rows of a running query.
fn count(graph: &ExecutionGraphBox, told: &mut JobStatus) {
    let rows = |metrics: &[MetricsSet]| {
        metrics.iter().filter_map(MetricsSet::output_rows).max().unwrap_or(0) as u64
    };
    // Adding up needs no order.
    #[expect(clippy::iter_over_hash_type)]
    for stage in graph.stages().values() {
        match stage {
            ExecutionStage::UnResolved(_) => {}
            ExecutionStage::Resolved(stage) => told.tasks += stage.partitions,
            ExecutionStage::Running(stage) => {
                told.tasks += stage.partitions;
                let finished = |task: &&TaskInfo| {
                    matches!(task.task_status, task_status::Status::Successful(_))
                };
                let finished = stage.task_infos.iter().filter(finished);
                let partitions = finished.map(|task| task.global_input_partition_ids.len());
                told.tasks_done += partitions.sum::<usize>().min(stage.partitions);
                if stage.inputs.is_empty() {
                    told.rows += stage.stage_metrics.as_deref().map_or(0, rows);
                }
            }
            ExecutionStage::Successful(stage) => {
                told.tasks += stage.partitions;
                told.tasks_done += stage.partitions;
                if stage.inputs.is_empty() {
                    told.rows += rows(&stage.stage_metrics);
                }
            }
            ExecutionStage::Failed(stage) => told.tasks += stage.partitions,
        }
    }
}

/// What happened since the scheduler started.
#[derive(Debug, Default)]
struct Counts {
    submitted: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

impl Counts {
    fn metrics(&self, status: &Status, build: &Build) -> Metrics {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let queries = "Queries since the start that were";
        let in_state = |state: &str| status.jobs.iter().filter(|job| job.state == state).count();
        let running = status.jobs.iter().filter(|job| job.state == "running");
        let waiting: usize = running.map(|job| job.tasks - job.tasks_done).sum();
        Metrics::default()
            .build(build)
            .gauge(
                "gosset_executors",
                "Executors that were heard of lately.",
                status.executors.len(),
            )
            .gauge("gosset_slots", "Tasks that can run at once.", status.slots())
            .gauge("gosset_tasks_open", "Tasks that run or wait.", waiting)
            .gauge("gosset_queries_waiting", "Queries that wait.", in_state("queued"))
            .gauge("gosset_queries_running", "Queries that run.", in_state("running"))
            .counter(
                "gosset_queries_planned_total",
                &format!("{queries} planned."),
                of(&self.submitted),
            )
            .counter("gosset_queries_done_total", &format!("{queries} done."), of(&self.completed))
            .counter("gosset_queries_failed_total", &format!("{queries} failed."), of(&self.failed))
            .counter(
                "gosset_queries_stopped_total",
                &format!("{queries} stopped."),
                of(&self.cancelled),
            )
    }
}

impl SchedulerMetricsCollector for Counts {
    fn record_submitted(&self, _: &JobId, _: u64, _: u64) {
        self.submitted.fetch_add(1, Ordering::Relaxed);
    }

    fn record_completed(&self, _: &JobId, _: u64, _: u64) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    fn record_failed(&self, _: &JobId, _: u64, _: u64) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn record_cancelled(&self, _: &JobId) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    fn set_pending_tasks_queue_size(&self, _: u64) {}

    fn gather_metrics(&self) -> ballista_core::error::Result<Option<(Vec<u8>, String)>> {
        Ok(None)
    }
}
