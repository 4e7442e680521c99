//! An executor: asks the scheduler for tasks, runs them, and keeps what they shuffle until it was read.
//!
//! Ballista's own process has two ports, neither of them with TLS. Its parts are put together here instead: the loop that
//! asks for tasks, and behind one port the service of shuffle files and that which stops tasks.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::protobuf::executor_grpc_server::{ExecutorGrpc, ExecutorGrpcServer};
use ballista_core::serde::protobuf::executor_resource::Resource;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelTasksParams, CancelTasksResult, ExecutorOperatingSystemSpecification,
    ExecutorRegistration, ExecutorResource, ExecutorSpecification, ExecutorStoppedParams,
    LaunchMultiTaskParams, LaunchMultiTaskResult, LaunchTaskParams, LaunchTaskResult,
    RemoveJobDataParams, RemoveJobDataResult, StopExecutorParams, StopExecutorResult,
};
use ballista_core::{BALLISTA_PROTOCOL_VERSION, JobId};
use ballista_executor::execution_engine::QueryStageExecutor;
use ballista_executor::execution_loop::poll_loop;
use ballista_executor::executor::Executor as Tasks;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::ExecutorMetricsCollector;
use datafusion::execution::runtime_env::RuntimeEnv;
use tokio::sync::Semaphore;
use tonic::service::{InterceptorLayer, RoutesBuilder};
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::build::Build;
use super::client::ask;
use super::codec::codec;
use super::http::{self, Metrics};
use super::ports::Ports;
use super::security::{Role, Security, causes};
use super::session::{self, MESSAGE_BYTES};
use super::stages::Stages;
use super::work::WorkDir;
use crate::engine::runtime;
use crate::{EngineError, EngineOptions, Result};

/// How often an executor that waits for something looks again.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it is looked for shuffle files that nobody needs.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// How long the scheduler may not answer before the executor asks why.
const SILENCE: Duration = Duration::from_secs(5);

/// What an executor is.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// The scheduler, as `HOST:PORT`.
    pub scheduler: String,
    /// Where others fetch shuffle files.
    pub listen: SocketAddr,
    /// The host that others reach it by; the address that it listens on if not given.
    pub advertise: Option<String>,
    /// For health and metrics; nowhere if not given.
    pub http: Option<SocketAddr>,
    /// How many tasks it runs at once.
    pub slots: usize,
    /// Where shuffle files are kept, and what queries spill.
    pub work_dir: PathBuf,
    /// How long shuffle files are kept for others when it is told to end.
    pub drain: Duration,
    /// How long a scheduler that does not answer is waited for at the start.
    pub patience: Duration,
    /// What it shows and trusts.
    pub security: Security,
    /// Its stores, and the memory of all its tasks together.
    pub engine: EngineOptions,
}

/// An executor that listens.
#[derive(Debug)]
pub struct Executor {
    options: ExecutorOptions,
    ports: Ports,
    work: WorkDir,
    build: Build,
}

impl Executor {
    /// Takes its ports and its folder, and is told by the scheduler that it may come.
    ///
    /// # Errors
    /// If an address may not be listened on or is taken, or if the scheduler refuses it or does not answer.
    pub async fn bind(options: ExecutorOptions) -> Result<Self> {
        Self::of_build(options, Build::this()).await
    }

    pub(crate) async fn of_build(options: ExecutorOptions, build: Build) -> Result<Self> {
        super::use_one_cryptography();
        options.security.may_listen(options.listen)?;
        if options.listen.ip().is_unspecified() && options.advertise.is_none() {
            return Err(EngineError::Setup(format!(
                "listening on {}, it must be said which host others reach it by (--advertise)",
                options.listen
            )));
        }
        introduce(&options, &build).await?;
        let ports = Ports::take(options.listen, options.http).await?;
        let work = WorkDir::new(&options.work_dir)?;
        Ok(Self { options, ports, work, build })
    }

    /// Where shuffle files are fetched.
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

    /// Runs tasks until `stop` is done; then ends those that it has, and keeps their files until they were read or the
    /// time is over.
    ///
    /// # Errors
    /// If a socket fails, or the scheduler is of another build by now.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self { options, ports, work, build } = self;
        let security = &options.security;
        let engine = options.engine.clone().with_spill_directory(work.spill());
        // One for all tasks: they share the memory, the stores and what is known of files.
        let runtime = runtime(engine)?;
        let address = ports.address()?;
        let counts = Arc::new(Counts::default());
        let registration = registration(&options, address);
        let id = registration.id.clone();
        let tasks = tasks(registration, &options, &build, &work, &runtime, &counts)?;

        let endpoint = security.endpoint(Role::Executor, &build, &options.scheduler)?;
        let scheduler = SchedulerGrpcClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MESSAGE_BYTES as usize)
            .max_encoding_message_size(MESSAGE_BYTES as usize);
        let slots = Arc::new(Semaphore::new(options.slots));
        let health = ExecutorHealth::new();
        let (of, free, alive) = (Arc::clone(&tasks), Arc::clone(&slots), health.clone());
        let polling = poll_loop(scheduler.clone(), of, codec(), None, Some(free), alive);

        let mut routes = RoutesBuilder::default();
        let files = work.shuffle().display().to_string();
        routes.add_service(
            FlightServiceServer::new(BallistaFlightService::new(files))
                .max_decoding_message_size(MESSAGE_BYTES as usize)
                .max_encoding_message_size(MESSAGE_BYTES as usize),
        );
        routes.add_service(ExecutorGrpcServer::new(Control(Arc::clone(&tasks))));
        let serving = security
            .server()?
            .layer(InterceptorLayer::new(security.guard(Role::Executor, build.clone())))
            .add_routes(routes.routes())
            .serve_with_incoming(TcpIncoming::from(ports.cluster).with_nodelay(Some(true)));

        let draining = Arc::new(AtomicBool::new(false));
        let answering = {
            let (health, draining) = (health.clone(), Arc::clone(&draining));
            let (tasks, build, slots) = (Arc::clone(&tasks), build.clone(), options.slots);
            async move {
                let Some(listener) = ports.http else { return std::future::pending().await };
                let leaving = Arc::clone(&draining);
                let not_ready = move || match leaving.load(Ordering::Relaxed) {
                    true => Some("draining".to_owned()),
                    false => (!health.is_ready()).then(|| "the scheduler does not answer".into()),
                };
                let metrics = move || {
                    let leaving = draining.load(Ordering::Relaxed);
                    let told = counts.metrics(&tasks, slots, leaving, &runtime, &build);
                    std::future::ready(told)
                };
                http::serve(listener, not_ready, metrics).await
            }
        };

        let ending = async {
            stop.await;
            draining.store(true, Ordering::Relaxed);
            drain(&options, &work, &tasks, &slots).await;
            leave(scheduler.clone(), id).await;
        };
        tokio::select! {
            () = ending => Ok(()),
            ended = polling => Err(EngineError::Internal(format!("it asks for no task any more: {ended:?}"))),
            ended = serving => ended.map_err(|error| EngineError::Setup(causes(&error))),
            ended = answering => ended.map_err(|error| EngineError::of(&error)),
            refused = refused(&options, &build, &health) => Err(refused),
            () = sweep(&options, &build, &work) => Ok(()),
        }
    }
}

/// Asks the scheduler for its status: it says if this executor is not welcome.
async fn introduce(options: &ExecutorOptions, build: &Build) -> Result<()> {
    let started = Instant::now();
    loop {
        match ask(&options.security, Role::Executor, build, &options.scheduler, None).await {
            Ok(_) => return Ok(()),
            Err(EngineError::StoreUnavailable(_)) if started.elapsed() < options.patience => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until a scheduler that came back refuses this executor. One that is gone is waited for without end.
async fn refused(options: &ExecutorOptions, build: &Build, health: &ExecutorHealth) -> EngineError {
    loop {
        tokio::time::sleep(SILENCE).await;
        if health.is_ready() {
            continue;
        }
        match ask(&options.security, Role::Executor, build, &options.scheduler, None).await {
            Ok(_) | Err(EngineError::StoreUnavailable(_)) => {}
            Err(error) => return error,
        }
    }
}

/// Deletes, again and again, shuffle files of queries that the scheduler does not know: it says itself which it does not
/// need any more, but one that was lost does not.
async fn sweep(options: &ExecutorOptions, build: &Build, work: &WorkDir) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let status = ask(&options.security, Role::Executor, build, &options.scheduler, None).await;
        if let Ok(status) = status {
            work.keep(|query| status.jobs.iter().any(|job| job.id == query));
        }
    }
}

/// Takes no new task, lets those that run end, and keeps files until the scheduler says that nobody needs them.
async fn drain(options: &ExecutorOptions, work: &WorkDir, tasks: &Tasks, slots: &Semaphore) {
    let deadline = Instant::now() + options.drain;
    let all = u32::try_from(options.slots).unwrap_or(u32::MAX);
    // Whoever waits for all slots gets each that becomes free, before the loop that asks for tasks.
    let ended = tokio::time::timeout(options.drain, slots.acquire_many(all)).await;
    if ended.is_err() {
        tracing::warn!("{} tasks did not end in time", tasks.active_task_count());
    }
    while Instant::now() < deadline && !work.is_read() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tells the scheduler, which need not wait until it is sure by itself.
async fn leave(mut scheduler: SchedulerGrpcClient<Channel>, id: String) {
    let told = ExecutorStoppedParams { executor_id: id, reason: "it was told to end".into() };
    let told = tokio::time::timeout(SILENCE, scheduler.executor_stopped(told)).await;
    if !matches!(told, Ok(Ok(_))) {
        tracing::warn!("the scheduler was not told that this executor ends: {told:?}");
    }
}

fn registration(options: &ExecutorOptions, address: SocketAddr) -> ExecutorRegistration {
    let vcores = Resource::Vcores(u32::try_from(options.slots).unwrap_or(u32::MAX));
    let host = options.advertise.clone().unwrap_or_else(|| match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    });
    ExecutorRegistration {
        id: Uuid::new_v4().to_string(),
        host: Some(host),
        port: address.port().into(),
        // Both services are behind one port.
        grpc_port: address.port().into(),
        specification: Some(ExecutorSpecification {
            resources: vec![ExecutorResource { resource: Some(vcores) }],
        }),
        os_info: Some(ExecutorOperatingSystemSpecification::default()),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    }
}

fn tasks(
    registration: ExecutorRegistration,
    options: &ExecutorOptions,
    build: &Build,
    work: &WorkDir,
    runtime: &Arc<RuntimeEnv>,
    counts: &Arc<Counts>,
) -> Result<Arc<Tasks>> {
    let endpoints = options.security.override_endpoint(Role::Executor, build);
    let config = move || session::config(Arc::clone(&endpoints));
    let state = session::state(config(), Arc::clone(runtime))?;
    let runtime = Arc::clone(runtime);
    Ok(Arc::new(Tasks::new(
        registration,
        &work.shuffle().display().to_string(),
        Arc::new(move |_| Ok(Arc::clone(&runtime))),
        Arc::new(config),
        Arc::new(BallistaFunctionRegistry::from(&state)),
        Arc::clone(counts) as Arc<dyn ExecutorMetricsCollector>,
        options.slots,
        Arc::new(Stages::new(Arc::clone(&counts.failed))),
    )))
}

/// What the scheduler may ask of an executor that asks for its tasks itself: to stop them.
struct Control(Arc<Tasks>);

#[tonic::async_trait]
impl ExecutorGrpc for Control {
    async fn launch_task(
        &self,
        _: Request<LaunchTaskParams>,
    ) -> Result<Response<LaunchTaskResult>, Status> {
        Err(Status::unimplemented("this executor asks for its tasks"))
    }

    async fn launch_multi_task(
        &self,
        _: Request<LaunchMultiTaskParams>,
    ) -> Result<Response<LaunchMultiTaskResult>, Status> {
        Err(Status::unimplemented("this executor asks for its tasks"))
    }

    async fn stop_executor(
        &self,
        _: Request<StopExecutorParams>,
    ) -> Result<Response<StopExecutorResult>, Status> {
        Err(Status::unimplemented("this executor ends by a signal"))
    }

    async fn cancel_tasks(
        &self,
        request: Request<CancelTasksParams>,
    ) -> Result<Response<CancelTasksResult>, Status> {
        let mut cancelled = true;
        for task in request.into_inner().task_infos {
            let job = JobId::from(task.job_id);
            let stopped =
                self.0.cancel_task(job, task.stage_id as usize, task.task_id as usize).await;
            cancelled &= stopped.unwrap_or(false);
        }
        Ok(Response::new(CancelTasksResult { cancelled }))
    }

    async fn remove_job_data(
        &self,
        _: Request<RemoveJobDataParams>,
    ) -> Result<Response<RemoveJobDataResult>, Status> {
        Err(Status::unimplemented("this executor is told with its tasks"))
    }
}

/// What happened since the executor started.
#[derive(Debug, Default)]
struct Counts {
    ended: AtomicU64,
    failed: Arc<AtomicU64>,
}

impl Counts {
    fn metrics(
        &self,
        tasks: &Tasks,
        slots: usize,
        draining: bool,
        runtime: &RuntimeEnv,
        build: &Build,
    ) -> Metrics {
        let spilled = runtime.disk_manager.used_disk_space();
        Metrics::default()
            .build(build)
            .gauge("gosset_executor_slots", "Tasks that can run at once.", slots)
            .gauge("gosset_executor_tasks_running", "Tasks that run.", tasks.active_task_count())
            .gauge("gosset_executor_draining", "1 while it takes no new task.", u8::from(draining))
            .gauge(
                "gosset_executor_memory_bytes",
                "What tasks hold of the memory limit.",
                runtime.memory_pool.reserved(),
            )
            .gauge("gosset_executor_spilled_bytes", "What tasks have spilled.", spilled)
            .counter(
                "gosset_executor_tasks_total",
                "Tasks that ended, failed ones too.",
                self.ended.load(Ordering::Relaxed),
            )
            .counter(
                "gosset_executor_tasks_failed_total",
                "Tasks that failed.",
                self.failed.load(Ordering::Relaxed),
            )
    }
}

impl ExecutorMetricsCollector for Counts {
    fn record_stage(&self, _: &JobId, _: usize, _: usize, _: Arc<dyn QueryStageExecutor>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}
