//! The sessions of the scheduler and of executors: the functions, stores and settings of a local one.

use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::extension::{EndpointOverrideFn, SessionConfigExt};
use ballista_core::optimizer::ballista_default_optimizer_rules;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;

use super::report;

/// Messages between the parts of a cluster: a row of summaries with many replicates is one message.
pub(crate) const MESSAGE_BYTES: u32 = 128 << 20;

/// The settings that clients, the scheduler and executors have in common. A client's go along with each of its queries.
pub(crate) fn config(endpoints: EndpointOverrideFn) -> SessionConfig {
    SessionConfig::new_with_ballista()
        .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES as usize)
        // A file that is written anew within the clock tick of its store would be counted as it was.
        .set_bool("ballista.scheduler.share_file_statistics_cache", false)
        .with_ballista_override_create_grpc_client_endpoint(endpoints)
}

/// A session that plans or runs what clients send.
pub(crate) fn state(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> Result<SessionState> {
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(ballista_default_optimizer_rules())
        .with_query_planner(Arc::new(Planner))
        .build();
    gosset_sql::register(&mut state)?;
    Ok(state)
}

/// The planner of DataFusion, whose errors keep their condition on the way to the client.
#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        report::mark(DefaultPhysicalPlanner::default().create_physical_plan(plan, session).await)
    }
}
