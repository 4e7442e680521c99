//! What is sent: a physical plan. Files are resolved in the client, to those of one moment and of one version of a Delta
//! table, and the few rows that only this session can read go along.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::plan_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::JsonSource;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode, execute_stream};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::StreamExt;

use super::client::{Cluster, OnCluster};
use super::codec::Codec;
use super::written::{AsWritten, file_scan};
use crate::files::is_json_array;

/// The rows of the session that go along with a plan, and the plan itself: more should be in a file.
const MOST_BYTES: usize = 64 << 20;

/// Plans what the cluster runs, and what only the client can.
#[derive(Debug)]
pub(crate) struct Planner(Cluster);

impl Planner {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self(cluster)
    }
}

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if matches!(logical, LogicalPlan::Analyze(_)) {
            return plan_err!(
                "EXPLAIN ANALYZE measures this process, and the cluster would run the query"
            );
        }
        let plan = DefaultPhysicalPlanner::default().create_physical_plan(logical, session).await?;
        let about_the_session = matches!(
            logical,
            LogicalPlan::Explain(_) | LogicalPlan::EmptyRelation(_) | LogicalPlan::DescribeTable(_)
        );
        if about_the_session || is_all_of_the_session(&plan)? {
            return Ok(plan);
        }
        let is_recursive = plan.exists(|node| Ok(node.is::<RecursiveQueryExec>()))?;
        let plan = if is_recursive { plan } else { gathered(plan, session).await? };
        let plan = sorted_for_windows(plan)?;
        match encoded(&plan) {
            Ok(bytes) if bytes > MOST_BYTES => plan_err!(
                "the plan and the rows of this session that it needs have {} MB: a cluster is sent {} MB at most; \
                 write tables to files, or read fewer files at once",
                bytes >> 20,
                MOST_BYTES >> 20
            ),
            Ok(_) => {
                // What writes files may have written some of them.
                let repeatable = !matches!(logical, LogicalPlan::Dml(_) | LogicalPlan::Copy(_));
                Ok(Arc::new(OnCluster::new(self.0.clone(), plan, repeatable)))
            }
            // It would run here as well, if it took nothing but rows of here.
            Err(_) if !reads_files(&plan)? && !matches!(logical, LogicalPlan::Dml(_)) => Ok(plan),
            Err(_) => plan_err!(
                "{}",
                match logical {
                    LogicalPlan::Dml(write) => format!(
                        "table '{}' is of this session: a cluster cannot write it",
                        write.table_name
                    ),
                    _ if is_recursive =>
                        "a cluster cannot run recursive queries of files".to_owned(),
                    _ => format!("a cluster cannot run {}", unsendable(&plan)?),
                }
            ),
        }
    }
}

/// The size of a plan as it is sent.
fn encoded(plan: &Arc<dyn ExecutionPlan>) -> Result<usize> {
    let codec = Codec::default();
    let node = PhysicalPlanNode::try_from_physical_plan(Arc::clone(plan), &codec)?;
    let mut bytes = Vec::new();
    node.try_encode(&mut bytes)?;
    Ok(bytes.len())
}

/// Whether nothing but this session can read what a plan reads: its settings, its tables' names.
fn is_all_of_the_session(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut all = true;
    plan.apply(|node| {
        all &= !node.children().is_empty() || encoded(node).is_err();
        Ok(if all { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(all)
}

fn reads_files(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| Ok(file_scan(node).is_some()))
}

/// The first operator that cannot be sent.
fn unsendable(plan: &Arc<dyn ExecutionPlan>) -> Result<String> {
    let mut name = plan.name().to_owned();
    plan.apply(|node| {
        if encoded(node).is_err() {
            name = node.name().to_owned();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(name)
}

/// The plan with every window's rows sorted in so many words. A column that a filter makes constant need not be sorted by,
/// but behind a shuffle nobody knows that it is constant, and the window would be refused.
fn sorted_for_windows(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let sorted = plan.transform_up(|node| {
        let window = match (
            node.downcast_ref::<WindowAggExec>(),
            node.downcast_ref::<BoundedWindowAggExec>(),
        ) {
            (Some(window), _) => window.window_expr().first(),
            (_, Some(window)) if window.input_order_mode == InputOrderMode::Sorted => {
                window.window_expr().first()
            }
            _ => None,
        };
        let Some(window) = window else { return Ok(Transformed::no(node)) };
        let by = window.partition_by().iter();
        let by = by.map(|column| PhysicalSortExpr::new_default(Arc::clone(column)));
        let keys: Vec<_> = by.chain(window.order_by().iter().cloned()).collect();
        let input = Arc::clone(node.children()[0]);
        let is_sorted = |sort: &SortExec| sort.expr().iter().take(keys.len()).eq(keys.iter());
        if input.downcast_ref::<SortExec>().is_some_and(is_sorted) {
            return Ok(Transformed::no(node));
        }
        let Some(keys) = LexOrdering::new(keys) else { return Ok(Transformed::no(node)) };
        let sort: Arc<dyn ExecutionPlan> =
            Arc::new(SortExec::new(keys, input).with_preserve_partitioning(true));
        Ok(Transformed::yes(replace_children_if_necessary(node, vec![sort])?))
    })?;
    Ok(sorted.data)
}

/// The plan with rows in the place of what only this process can read.
async fn gathered(
    plan: Arc<dyn ExecutionPlan>,
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut leaves = Vec::new();
    plan.apply(|node| {
        if node.children().is_empty() {
            leaves.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut others = Vec::new();
    for leaf in leaves {
        let array = is_array_of_json(&leaf, session).await?;
        if let Some(written) = AsWritten::of(&leaf, array)? {
            others.push((leaf, written));
        } else if !is_sent_whole(&leaf) {
            let rows = read(&leaf, session).await?;
            others.push((leaf, rows));
        }
    }
    if others.is_empty() {
        return Ok(plan);
    }
    let sent = plan.transform_up(|node| {
        let found = others.iter().find(|(leaf, _)| Arc::ptr_eq(leaf, &node));
        Ok(found.map_or_else(
            || Transformed::no(node),
            |(_, other)| Transformed::yes(Arc::clone(other)),
        ))
    })?;
    Ok(sent.data)
}

/// Whether a leaf means the same where it arrives. Of a series without columns only the columns do.
fn is_sent_whole(leaf: &Arc<dyn ExecutionPlan>) -> bool {
    let only_counts = leaf.schema().fields().is_empty() && leaf.is::<LazyMemoryExec>();
    !only_counts && encoded(leaf).is_ok()
}

/// Whether JSON files are arrays: a scan does not tell.
async fn is_array_of_json(node: &Arc<dyn ExecutionPlan>, session: &dyn Session) -> Result<bool> {
    let Some(scan) = file_scan(node).filter(|scan| scan.file_source().is::<JsonSource>()) else {
        return Ok(false);
    };
    let Some(file) = scan.file_groups.iter().flat_map(|group| group.files()).next() else {
        return Ok(false);
    };
    let store = session.runtime_env().object_store(&scan.object_store_url)?;
    Ok(is_json_array(&store, &file.object_meta).await?)
}

/// The rows of a leaf, in its partitions.
async fn read(
    leaf: &Arc<dyn ExecutionPlan>,
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut stream = execute_stream(Arc::clone(leaf), session.task_ctx())?;
    let (mut batches, mut bytes) = (vec![], 0);
    while let Some(batch) = stream.next().await.transpose()? {
        bytes += batch.get_array_memory_size();
        if bytes > MOST_BYTES {
            return plan_err!(
                "a cluster is sent {} MB of rows at most that only this process can read; write them to a file",
                MOST_BYTES >> 20
            );
        }
        batches.push(batch);
    }
    let rows: Arc<dyn ExecutionPlan> =
        MemorySourceConfig::try_new_exec(&[batches], stream.schema(), None)?;
    Ok(rows)
}
