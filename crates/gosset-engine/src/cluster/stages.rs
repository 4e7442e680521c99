//! How a task runs: Ballista's way, with connections that are used again and errors that keep their condition.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::error::ArrowError;
use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::BallistaError;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::serde::protobuf::{
    RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
};
use ballista_core::utils::GrpcClientConfig;
use ballista_executor::execution_engine::{
    DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Count, Metric, MetricValue, MetricsSet};
use datafusion::prelude::SessionConfig;

use super::report;
use crate::EngineError;

/// Connections that are kept for each executor while nobody uses them.
const KEPT: usize = 4;

/// Makes the tasks of stages.
pub(crate) struct Stages {
    inner: DefaultExecutionEngine,
    failed: Arc<AtomicU64>,
}

impl Stages {
    /// `failed` counts tasks that fail.
    pub(crate) fn new(failed: Arc<AtomicU64>) -> Self {
        let connections = Arc::new(Connections::default());
        Self { inner: DefaultExecutionEngine::with_client_pool(connections), failed }
    }
}

impl ExecutionEngine for Stages {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let inner = self.inner.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        Ok(Arc::new(Stage { inner, failed: Arc::clone(&self.failed) }))
    }
}

#[derive(Debug)]
struct Stage {
    inner: Arc<dyn QueryStageExecutor>,
    failed: Arc<AtomicU64>,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Stage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        self.inner.execute_query_stage(task_id, context).await.map_err(|error| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            told(error)
        })
    }

    /// The rows of the widest operator, as the one metric: the operators of two tasks of a stage may differ in number,
    /// and the scheduler then loses what the second says, and waits for it without end.
    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        let operators = self.inner.collect_plan_metrics();
        let rows = Count::new();
        rows.add(operators.iter().filter_map(MetricsSet::output_rows).max().unwrap_or(0));
        let mut metrics = MetricsSet::new();
        metrics.push(Arc::new(Metric::new(MetricValue::OutputRows(rows), None)));
        vec![metrics]
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}

/// The error as the scheduler acts on it. Shuffle files that cannot be fetched, and files of this machine that cannot be
/// read or written, are tried again, elsewhere if need be; anything else would fail again, and is marked for the client.
fn told(error: DataFusionError) -> DataFusionError {
    if is_of_the_cluster(&error) {
        return error;
    }
    let condition = match EngineError::from(error) {
        // The writers of shuffle files hand on the text alone.
        EngineError::BadData(text) if text.contains("No space left on device") => {
            EngineError::NoSpace("no space is left for shuffle files".into())
        }
        condition => condition,
    };
    match condition {
        // Another executor may have more room.
        error @ EngineError::NoSpace(_) => {
            DataFusionError::IoError(std::io::Error::other(report::marked(&error).to_string()))
        }
        error => report::marked(&error),
    }
}

fn is_of_the_cluster(error: &DataFusionError) -> bool {
    matches!(
        of_ballista(error),
        Some(
            BallistaError::FetchFailed(..)
                | BallistaError::GrpcConnectionError(_)
                | BallistaError::GrpcActionError(_)
                | BallistaError::GrpcError(_)
                | BallistaError::TonicError(_)
                | BallistaError::Cancelled
        )
    )
}

/// Ballista's error within one of DataFusion.
fn of_ballista(error: &DataFusionError) -> Option<&BallistaError> {
    let inner = match error.find_root() {
        DataFusionError::External(inner) => inner,
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::ExternalError(inner) => inner,
            _ => return None,
        },
        _ => return None,
    };
    match inner.downcast_ref::<BallistaError>()? {
        BallistaError::DataFusionError(inner) => of_ballista(inner),
        error => Some(error),
    }
}

/// Connections that nobody uses, by host and port.
type Idle = HashMap<(String, u16), Vec<BallistaClient>>;

/// Connections to other executors.
#[derive(Default)]
struct Connections {
    idle: Arc<Mutex<Idle>>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

#[async_trait]
impl BallistaClientPool for Connections {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> ballista_core::error::Result<PooledClient> {
        let key = (host.to_owned(), port);
        let kept = lock(&self.idle).get_mut(&key).and_then(Vec::pop);
        let client = match kept {
            Some(client) => client,
            None => {
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    endpoint,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        let idle = Arc::clone(&self.idle);
        let give_back = move |client| {
            let mut idle = lock(&idle);
            let kept = idle.entry(key).or_default();
            if kept.len() < KEPT {
                kept.push(client);
            }
        };
        Ok(PooledClient::new(client, Box::new(give_back)))
    }

    async fn evict_idle(&self) {
        lock(&self.idle).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The map is whole after every statement that changes it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
