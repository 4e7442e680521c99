//! Whose task is next: clients share the slots of a cluster evenly, however much each of them asks for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::{AvailableVcores, task_status};
use ballista_core::serde::scheduler::{
    ExecutorData, ExecutorMetadata, ExecutorOperatingSystemSpecification, ExecutorSpecification,
};
use ballista_scheduler::cluster::memory::InMemoryClusterState;
use ballista_scheduler::cluster::{BoundTask, ClusterState, DistributionPolicy};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::ExecutionStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::error::{DataFusionError, Result};

use super::status::client_of;

/// Gives a free slot to the client with the fewest tasks that run, and of its queries to the oldest.
#[derive(Debug)]
pub(crate) struct FairShares;

/// A query with tasks that wait for a slot.
struct Waiting {
    client: String,
    since: u64,
    id: JobId,
    job: JobInfoCache,
}

#[async_trait]
impl DistributionPolicy for FairShares {
    async fn bind_tasks(
        &self,
        budgets: Vec<&mut AvailableVcores>,
        running: Arc<HashMap<JobId, JobInfoCache>>,
    ) -> Result<Vec<BoundTask>> {
        let mut waiting = Vec::new();
        let mut busy: BTreeMap<String, u32> = BTreeMap::new();
        // Adding up needs no order, and what waits is put into one.
        #[expect(clippy::iter_over_hash_type)]
        for (id, job) in running.iter() {
            if !matches!(job.status, Some(Status::Running(_))) {
                continue;
            }
            let graph = job.execution_graph.read().await;
            let client = client_of(graph.job_name()).to_owned();
            *busy.entry(client.clone()).or_default() += slots_of(&graph);
            if graph.available_tasks() > 0 {
                let since = graph.start_time();
                waiting.push(Waiting { client, since, id: id.clone(), job: job.clone() });
            }
        }
        waiting.sort_by(|a, b| (a.since, a.id.as_str()).cmp(&(b.since, b.id.as_str())));
        let mut bound = Vec::new();
        for budget in budgets {
            while budget.vcores > 0 {
                let running_of = |waiting: &Waiting| busy.get(&waiting.client).copied();
                // Of several the first, which is the oldest.
                let next = waiting.iter().enumerate().min_by_key(|(_, w)| running_of(w));
                let Some((at, next)) = next else { return Ok(bound) };
                let alone = waiting.iter().all(|other| other.client == next.client);
                let offered = if alone { budget.vcores } else { 1 };
                let tasks = of_one(next, &budget.executor_id, offered).await?;
                let taken: u32 = tasks.iter().map(|(_, task)| task.vcores_consumed).sum();
                if taken == 0 {
                    waiting.remove(at);
                    continue;
                }
                *busy.entry(next.client.clone()).or_default() += taken;
                budget.vcores = budget.vcores.saturating_sub(taken);
                bound.extend(tasks);
            }
        }
        Ok(bound)
    }

    fn name(&self) -> &str {
        "fair shares"
    }
}

/// The slots in which tasks of a query run.
fn slots_of(graph: &ExecutionGraphBox) -> u32 {
    let running = graph.stages().values().filter_map(|stage| match stage {
        ExecutionStage::Running(stage) => Some(&stage.task_infos),
        _ => None,
    });
    let running = running
        .flatten()
        .filter(|task| matches!(task.task_status, task_status::Status::Running(_)));
    running.map(|task| task.vcores_consumed).sum()
}

/// Tasks of one query for some slots of an executor. How many partitions a task takes is for Ballista to say, and it says
/// it of all queries of a state of a cluster: here is one of each.
async fn of_one(waiting: &Waiting, executor: &str, slots: u32) -> Result<Vec<BoundTask>> {
    let state = InMemoryClusterState::default();
    let metadata = ExecutorMetadata {
        id: executor.to_owned(),
        host: String::new(),
        port: 0,
        grpc_port: 0,
        specification: ExecutorSpecification::default(),
        os_info: ExecutorOperatingSystemSpecification::default(),
    };
    let spec = ExecutorData {
        executor_id: executor.to_owned(),
        total_vcores: slots,
        available_vcores: slots,
    };
    let told = |error: ballista_core::error::BallistaError| DataFusionError::External(error.into());
    state.register_executor(metadata, spec).await.map_err(told)?;
    let job = HashMap::from([(waiting.id.clone(), waiting.job.clone())]);
    let policy = TaskDistributionPolicy::Bias;
    state.bind_schedulable_tasks(policy, Arc::new(job), None).await.map_err(told)
}
