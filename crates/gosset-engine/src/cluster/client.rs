//! The client's side: where the scheduler is, and a plan that runs there.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use axum::body::{Body, to_bytes};
use ballista_core::execution_plans::execute_physical_plan;
use ballista_core::extension::SessionConfigExt;
use ballista_core::optimizer::ballista_default_optimizer_rules;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{CancelJobParams, CleanJobDataParams};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, displayable,
};
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::{StreamExt, TryStreamExt};
use tower::{Service, ServiceExt};
use url::Url;
use uuid::Uuid;

use super::build::Build;
use super::codec::Codec;
use super::planner::Planner;
use super::report;
use super::security::{Role, Security, causes};
use super::status::{self, JobStatus, PATH, Status};
use crate::{EngineError, Result};

/// The port of a scheduler where none is said.
pub(crate) const PORT: u16 = 50050;
/// How often a query is sent again when the scheduler, or an executor that held its result, was lost.
const RESUBMISSIONS: usize = 3;
/// Results up to this size are held back until they are whole: of what was not handed on, nothing is lost by sending the
/// query again.
const HELD_BYTES: usize = 64 << 20;
/// How often a running query is asked about.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A cluster's status is a page, not a table.
const STATUS_BYTES: usize = 64 << 20;
/// How long telling the scheduler to stop may take.
const CANCEL_WITHIN: Duration = Duration::from_secs(3);

type Watch = dyn Fn(&JobStatus) + Send + Sync;

/// A cluster as a client sees it: where its scheduler is, and what the client shows and trusts.
#[derive(Clone)]
pub struct Cluster {
    at: String,
    security: Security,
    patience: Duration,
    build: Build,
    /// What the scheduler knows it by: its queries have one share of the slots together.
    client: String,
    watch: Option<Arc<Watch>>,
}

impl Cluster {
    /// The cluster whose scheduler is at `df://HOST:PORT`.
    ///
    /// # Errors
    /// If that is no such address.
    pub fn new(url: &str, security: Security) -> Result<Self> {
        let wrong = || {
            EngineError::Option(format!(
                "expected a cluster such as df://host:{PORT}, found '{url}'"
            ))
        };
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let bare = matches!(parsed.path(), "" | "/") && parsed.username().is_empty();
        if parsed.scheme() != "df" || !bare {
            return Err(wrong());
        }
        super::use_one_cryptography();
        Ok(Self {
            at: format!("{host}:{}", parsed.port().unwrap_or(PORT)),
            security,
            patience: Duration::from_secs(60),
            build: Build::this(),
            client: status::client("client"),
            watch: None,
        })
    }

    /// How long a scheduler that does not answer, and a cluster without executors, are waited for; a minute unless given.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What this client is called in the cluster's status. All queries of one client have one share of the slots.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.client = status::client(name);
        self
    }

    /// Is told about each query while it runs.
    #[must_use]
    pub fn with_watch(mut self, watch: impl Fn(&JobStatus) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    /// The cluster as a client of another build sees it.
    #[cfg(test)]
    pub(crate) fn of_build(mut self, build: Build) -> Self {
        self.build = build;
        self
    }

    /// What the cluster is doing.
    ///
    /// # Errors
    /// If the scheduler does not answer, or refuses this client.
    pub async fn status(&self) -> Result<Status> {
        ask(&self.security, Role::Client, &self.build, &self.at, None).await
    }

    /// The same, of the queries the one with a name alone.
    async fn status_of(&self, name: &str) -> Result<Status> {
        ask(&self.security, Role::Client, &self.build, &self.at, Some(name)).await
    }

    /// Waits until the scheduler answers and an executor is there.
    ///
    /// # Errors
    /// If the time is over, or the scheduler refuses this client: that at once.
    pub async fn connect(&self) -> Result<Status> {
        let started = Instant::now();
        loop {
            let missing = match self.status().await {
                Ok(status) if !status.executors.is_empty() => return Ok(status),
                Ok(_) => EngineError::StoreUnavailable(format!(
                    "the cluster at df://{} has no executor",
                    self.at
                )),
                Err(error @ EngineError::StoreUnavailable(_)) => error,
                Err(error) => return Err(error),
            };
            if started.elapsed() >= self.patience {
                return Err(missing);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// The settings of a session whose queries run here.
    pub(crate) fn config(&self) -> SessionConfig {
        super::session::config(self.security.override_endpoint(Role::Client, &self.build))
    }

    /// Makes the queries of a session run here.
    pub(crate) fn session(&self, state: SessionStateBuilder) -> SessionStateBuilder {
        state
            .with_optimizer_rules(ballista_default_optimizer_rules())
            .with_query_planner(Arc::new(Planner::new(self.clone())))
    }

    /// As Ballista names it; what connections are made of is decided by [`Security`].
    fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Stops a query that is not over, and else lets executors delete what is left of it.
    async fn forget(&self, name: &str) -> Result<()> {
        let Some(job) = self.status_of(name).await?.jobs.pop() else { return Ok(()) };
        let endpoint = self.security.endpoint(Role::Client, &self.build, &self.at)?;
        let mut scheduler = SchedulerGrpcClient::new(endpoint.connect_lazy());
        let refused = |status: tonic::Status| of_status(&status);
        if job.is_over() {
            let told = CleanJobDataParams { job_id: job.id, remove_stage_ids: vec![] };
            scheduler.clean_job_data(told).await.map_err(refused)?;
        } else {
            scheduler.cancel_job(CancelJobParams { job_id: job.id }).await.map_err(refused)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("at", &self.at).field("security", &self.security).finish()
    }
}

/// Asks a scheduler for its status, with one query or with all: the first thing that every part of a cluster does.
pub(crate) async fn ask(
    security: &Security,
    role: Role,
    build: &Build,
    at: &str,
    query: Option<&str>,
) -> Result<Status> {
    let endpoint = security.endpoint(role, build, at)?;
    let mut channel = endpoint.connect().await.map_err(|error| of_transport(at, &error))?;
    // A server that wants another certificate closes the connection without a word.
    let failed = |error: &(dyn std::error::Error + 'static)| match of_transport(at, error) {
        EngineError::StoreUnavailable(why) if security.speaks_tls() => {
            EngineError::StoreUnavailable(format!(
                "{why} (does it want a certificate, or another one? --tls-cert, --tls-key)"
            ))
        }
        error => error,
    };
    let path = query.map_or_else(|| PATH.to_owned(), |name| format!("{PATH}?{name}"));
    let request = http::Request::get(path)
        .body(tonic::body::Body::empty())
        .map_err(|error| EngineError::Internal(error.to_string()))?;
    let channel = channel.ready().await.map_err(|error| failed(&error))?;
    let response = channel.call(request).await.map_err(|error| failed(&error))?;
    if let Some(status) = tonic::Status::from_header_map(response.headers()) {
        return Err(of_status(&status));
    }
    if response.status() != http::StatusCode::OK {
        return Err(EngineError::Setup(format!("what answers at {at} is no scheduler of Gosset")));
    }
    let body = to_bytes(Body::new(response.into_body()), STATUS_BYTES).await;
    let body = body.map_err(|error| failed(&error))?;
    serde_json::from_slice(&body)
        .map_err(|error| EngineError::Internal(format!("the status of the scheduler: {error}")))
}

/// A connection that could not be made or broke.
fn of_transport(at: &str, error: &(dyn std::error::Error + 'static)) -> EngineError {
    let text = causes(error);
    if text.contains("received fatal alert") && text.to_lowercase().contains("certificate") {
        return EngineError::PermissionDenied(format!("{at} refuses this certificate: {text}"));
    }
    if text.contains("certificate") || text.contains("corrupt message") {
        return EngineError::Setup(format!("{at} is not trusted: {text}"));
    }
    EngineError::StoreUnavailable(format!("no answer from {at}: {text}"))
}

/// A request that was answered with a refusal.
fn of_status(status: &tonic::Status) -> EngineError {
    let text = status.message().to_owned();
    match status.code() {
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
            EngineError::PermissionDenied(text)
        }
        tonic::Code::FailedPrecondition => EngineError::Setup(text),
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Unknown => {
            EngineError::StoreUnavailable(text)
        }
        _ => EngineError::Internal(text),
    }
}

/// A plan that runs on the cluster.
#[derive(Debug)]
pub(crate) struct OnCluster {
    cluster: Cluster,
    plan: Arc<dyn ExecutionPlan>,
    /// Whether running it twice does no harm.
    repeatable: bool,
    properties: Arc<PlanProperties>,
}

impl OnCluster {
    pub(crate) fn new(cluster: Cluster, plan: Arc<dyn ExecutionPlan>, repeatable: bool) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(plan.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { cluster, plan, repeatable, properties }
    }

    /// The same with another plan for the cluster, which it is made of.
    pub(crate) fn mapped(
        &self,
        map: impl FnOnce(Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>,
    ) -> Result<Self> {
        Ok(Self::new(self.cluster.clone(), map(Arc::clone(&self.plan))?, self.repeatable))
    }
}

impl DisplayAs for OnCluster {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = displayable(self.plan.as_ref()).indent(false);
        write!(f, "OnCluster: df://{}\n{plan}", self.cluster.at)
    }
}

impl ExecutionPlan for OnCluster {
    fn name(&self) -> &str {
        "OnCluster"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> PlanResult<TreeNodeRecursion>,
    ) -> PlanResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        _: usize,
        context: Arc<TaskContext>,
    ) -> PlanResult<SendableRecordBatchStream> {
        let sent = Sent {
            cluster: self.cluster.clone(),
            plan: Arc::clone(&self.plan),
            left: if self.repeatable { RESUBMISSIONS } else { 0 },
            context,
        };
        let schema = self.schema();
        let expected = Arc::clone(&schema);
        let rows = futures::stream::once(sent.run())
            .try_flatten()
            .map(move |batch| as_planned(&expected, batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Rows with the metadata that the client planned: those of a shuffle file may lack them.
fn as_planned(schema: &SchemaRef, batch: RecordBatch) -> PlanResult<RecordBatch> {
    let same = schema
        .fields()
        .iter()
        .zip(batch.schema().fields())
        .all(|(planned, found)| planned.data_type() == found.data_type());
    if !same || batch.schema().fields().len() != schema.fields().len() {
        return Ok(batch);
    }
    Ok(batch.with_schema(Arc::clone(schema))?)
}

/// A query and what it takes to send it, again if need be.
struct Sent {
    cluster: Cluster,
    plan: Arc<dyn ExecutionPlan>,
    /// How often it may be sent again.
    left: usize,
    context: Arc<TaskContext>,
}

impl Sent {
    async fn run(mut self) -> PlanResult<SendableRecordBatchStream> {
        loop {
            let error = match self.attempt().await {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            match final_error(&error) {
                Some(error) => return Err(error.into()),
                None if self.left == 0 => return Err(lost(&error).into()),
                None => {
                    tracing::warn!("sending the query again: {error}");
                    self.left -= 1;
                    // Says why at once if that is what cannot be helped.
                    self.cluster.connect().await?;
                }
            }
        }
    }

    /// Runs the query once; rows are handed on when they are whole, or too many to be held.
    async fn attempt(&self) -> PlanResult<SendableRecordBatchStream> {
        let (name, schema) = (status::name_of(&self.cluster.client), self.plan.schema());
        let rows = submitted(
            self.cluster.url(),
            Arc::clone(&self.plan),
            self.context.session_config().clone().with_ballista_job_name(&name),
        );
        let mut running = Running { cluster: self.cluster.clone(), name, rows: Some(rows) };
        let mut held = Vec::new();
        let mut bytes = 0;
        let mut alone = None;
        loop {
            let next = tokio::select! {
                biased;
                next = running.next() => next,
                () = tokio::time::sleep(ASK_EVERY) => {
                    running.look(&mut alone).await?;
                    continue;
                }
            };
            match next.transpose()? {
                None => {
                    running.is_read().await;
                    let held = futures::stream::iter(held.into_iter().map(Ok));
                    return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, held)));
                }
                Some(batch) => {
                    bytes += batch.get_array_memory_size();
                    held.push(batch);
                }
            }
            if bytes > HELD_BYTES {
                let held = futures::stream::iter(held.into_iter().map(Ok));
                let rest = futures::stream::unfold(running, |mut running| async {
                    let next = running.next().await;
                    if next.is_none() {
                        running.is_read().await;
                    }
                    let told = |error| {
                        DataFusionError::from(final_error(&error).unwrap_or_else(|| lost(&error)))
                    };
                    next.map(|batch| (batch.map_err(told), running))
                });
                return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, held.chain(rest))));
            }
        }
    }
}

/// The rows of a plan that is sent when the first is asked for.
fn submitted(
    url: String,
    plan: Arc<dyn ExecutionPlan>,
    config: SessionConfig,
) -> SendableRecordBatchStream {
    let schema = plan.schema();
    let sent = async move {
        let ballista = config.ballista_config();
        let codec = Codec::default();
        // The scheduler makes a session for every query.
        let session = Uuid::new_v4().to_string();
        execute_physical_plan::<PhysicalPlanNode>(url, &ballista, plan, &codec, session, config)
            .await
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(sent).try_flatten()))
}

/// A query that the scheduler may know of. It is told to stop where nobody waits for the rows any more.
struct Running {
    cluster: Cluster,
    name: String,
    rows: Option<SendableRecordBatchStream>,
}

impl Running {
    async fn next(&mut self) -> Option<PlanResult<RecordBatch>> {
        self.rows.as_mut()?.next().await
    }

    /// Lets executors delete the result. It is waited for, as a process may end with its last row, but not for long: what
    /// is not said is done after a time anyway.
    async fn is_read(&mut self) {
        self.rows = None;
        let _ = tokio::time::timeout(CANCEL_WITHIN, self.cluster.forget(&self.name)).await;
    }

    /// Tells who watches how far the query is, and fails where no executor comes for long.
    async fn look(&mut self, alone: &mut Option<Instant>) -> Result<()> {
        // A scheduler that does not answer ends the stream of rows by itself.
        let Ok(status) = self.cluster.status_of(&self.name).await else { return Ok(()) };
        if status.executors.is_empty() {
            let since = *alone.get_or_insert_with(Instant::now);
            if since.elapsed() > self.cluster.patience {
                return Err(EngineError::StoreUnavailable(format!(
                    "the cluster at df://{} has no executor any more",
                    self.cluster.at
                )));
            }
        } else {
            *alone = None;
        }
        if let (Some(watch), Some(job)) = (&self.cluster.watch, status.jobs.first()) {
            watch(job);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.rows.take().is_none() {
            return;
        }
        let (cluster, name) = (self.cluster.clone(), std::mem::take(&mut self.name));
        crate::blocking("cancel", async move {
            let _ = cluster.forget(&name).await;
        });
    }
}

/// The error that sending a query again would not change; `None` where it would.
fn final_error(error: &DataFusionError) -> Option<EngineError> {
    if let DataFusionError::External(inner) = error
        && let Some(known) = inner.downcast_ref::<EngineError>()
    {
        return Some(known.clone());
    }
    let text = error.to_string();
    if let Some(known) = report::find(&text) {
        return Some(known);
    }
    if let Some((_, status)) = text.split_once("Status { code: ") {
        let code = status.split(',').next().unwrap_or_default().trim_matches('\'');
        // Of these, the next question is answered in words, or the scheduler is gone.
        let passing = [
            "FailedPrecondition",
            "Unauthenticated",
            "Unavailable",
            "Unknown",
            "Cancelled",
            "DeadlineExceeded",
        ];
        return (!passing.contains(&code)).then(|| EngineError::Internal(status.to_owned()));
    }
    let (_, why) = text.split_once(" failed: ").filter(|_| text.contains("Job "))?;
    let why = why.trim().to_owned();
    Some(if why.contains("No space left on device") || why.contains("StorageFull") {
        EngineError::NoSpace(format!("an executor has no space left for shuffle files: {why}"))
    } else if why.contains("all executors were lost")
        || why.contains("FetchFailed")
        || why.contains("fetch")
    {
        EngineError::StoreUnavailable(why)
    } else {
        EngineError::Internal(why)
    })
}

/// Why a query was given up that may work later.
fn lost(error: &DataFusionError) -> EngineError {
    EngineError::StoreUnavailable(format!("the cluster was lost while the query ran: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let at = |url: &str| Cluster::new(url, Security::new()).map(|cluster| cluster.at);
        assert_eq!(at("df://host:1234"), Ok("host:1234".into()));
        assert_eq!(at("df://10.0.0.1/"), Ok("10.0.0.1:50050".into()));
        assert_eq!(at("df://[::1]:9"), Ok("[::1]:9".into()));
        for wrong in ["host:1234", "http://host", "df://", "df://host/path", "df://me@host", ""] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_sent_again() {
        let execution = |text: &str| final_error(&DataFusionError::Execution(text.into()));
        assert_eq!(execution("Stream closed without job completing"), None);
        assert_eq!(execution("tonic::transport::Error(Transport, ConnectError(..))"), None);
        let marked = report::marked(&EngineError::BadData("line 3".into())).to_string();
        let failed = format!("Job 7 failed: Job failed due to stage 1 failed: {marked:?}");
        assert_eq!(execution(&failed), Some(EngineError::BadData("line 3".into())));
        assert!(matches!(
            execution("Job 7 failed: all executors were lost and no executor re-registered"),
            Some(EngineError::StoreUnavailable(_))
        ));
    }
}
