//! Rows of one unit brought together.

use std::fmt;
use std::iter::Peekable;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, replace_children_if_necessary,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputOrderMode,
    Partitioning, PlanProperties,
};
use futures::StreamExt;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};

use super::dealt::together;
use super::exchange::{self, Dealing, Order, Way};
use super::exec::are_few;
use super::leaf::Leaf;
use super::round::Round;

/// Parts of all units: of ten million, one has fewer than are added up before they are weighted.
const PARTS: usize = 1024;
/// Rows that are dealt out at once: a thousand for each part.
const ROWS_AT_ONCE: usize = 1 << 20;

/// Rows of a part up to which batches go on as one: all of them, unless a few units have most. What takes them would spend
/// more time for each batch than for its few rows.
const ROWS_TOGETHER: usize = 1 << 17;

/// Deals rows out by the hash of their unit, where units have several rows each that are far from each other.
///
/// A function that has replicates of units draws a weight for each of them and adds up the rows of a unit that it has
/// seen lately before. Rows in any order are as many units to it.
#[derive(Debug)]
pub(crate) struct UnitExchangeExec {
    rows: Arc<dyn ExecutionPlan>,
    unit: Arc<dyn PhysicalExpr>,
    properties: Arc<PlanProperties>,
    outputs: Mutex<Option<Leaf>>,
    metrics: ExecutionPlanMetricsSet,
}

impl UnitExchangeExec {
    /// The aggregation with its rows dealt out, if it has replicates of units and rows that may be in any order.
    pub(super) fn below(
        aggregation: &Arc<dyn ExecutionPlan>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(of) = aggregation.downcast_ref::<AggregateExec>() else { return Ok(None) };
        let takes_rows = matches!(of.mode(), AggregateMode::Partial | AggregateMode::Single);
        if !takes_rows || *of.input_order_mode() != InputOrderMode::Linear {
            return Ok(None);
        }
        let rows = of.input();
        let schema = rows.schema();
        let units = of.aggr_expr().iter().filter_map(|aggregate| {
            gosset_sql::weighted_unit(aggregate.fun().name(), &aggregate.expressions(), &schema)
        });
        let units: Vec<_> = units.collect();
        let Some(unit) = units.first() else { return Ok(None) };
        let is_one = units.iter().all(|other| other == unit);
        let together = match rows.output_partitioning() {
            Partitioning::Hash(keys, _) => keys.as_slice() == std::slice::from_ref(unit),
            _ => false,
        };
        if !is_one
            || together
            || is_volatile(unit)
            || of.aggr_expr().iter().any(|aggregate| !aggregate.order_bys().is_empty())
            || rows.boundedness() != Boundedness::Bounded
            || rows.downcast_ref::<Self>().is_some()
            || are_few(rows)?
        {
            return Ok(None);
        }
        let dealt = Arc::new(Self::new(Arc::clone(rows), Arc::clone(unit)));
        replace_children_if_necessary(Arc::clone(aggregation), vec![dealt]).map(Some)
    }

    fn new(rows: Arc<dyn ExecutionPlan>, unit: Arc<dyn PhysicalExpr>) -> Self {
        let partitions = rows.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(rows.schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            rows,
            unit,
            properties: Arc::new(properties),
            outputs: Mutex::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Starts to deal rows out: by partition, its rows.
    fn start(&self, context: &Arc<TaskContext>) -> Result<Vec<SendableRecordBatchStream>> {
        let order = Order {
            name: "UnitExchange",
            rows: &self.rows,
            keys: std::slice::from_ref(&self.unit),
            partitions: self.rows.output_partitioning().partition_count(),
            parts: PARTS,
            rows_at_once: ROWS_AT_ONCE,
            are_many: come_again,
            metrics: &self.metrics,
        };
        let Dealing { shared, rounds, replayed, reading } = exchange::start(&order, context)?;
        let outputs = rounds.into_iter().zip(replayed).enumerate();
        Ok(outputs
            .map(|(partition, (rounds, replayed))| {
                let (shared, reading) = (Arc::clone(&shared), Arc::clone(&reading));
                let schema = self.rows.schema();
                let of_way = {
                    let schema = Arc::clone(&schema);
                    async move {
                        let first = partition * shared.parts.of_each;
                        match shared.way().await {
                            Way::Few => replayed,
                            Way::Many => dealt(schema, rounds, first..first + shared.parts.of_each),
                        }
                    }
                };
                let rows = futures::stream::once(of_way).flatten().map(move |rows| {
                    // Reading goes on as long as somebody reads this.
                    let _ = &reading;
                    rows
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, rows)) as SendableRecordBatchStream
            })
            .collect())
    }
}

/// Whether units come again, far from each other: of those in a sample most have one row in it, and some have more.
fn come_again(units: usize, rows: usize) -> bool {
    units > rows / 2 && units + 16 <= rows
}

/// The rows of some parts, round by round.
fn dealt(
    schema: SchemaRef,
    rounds: UnboundedReceiver<Result<Arc<Round>>>,
    parts: std::ops::Range<usize>,
) -> SendableRecordBatchStream {
    let mut rows = RecordBatchReceiverStream::builder(Arc::clone(&schema), 2);
    rows.spawn(send(schema, rounds, parts, rows.tx()));
    rows.build()
}

async fn send(
    schema: SchemaRef,
    mut rounds: UnboundedReceiver<Result<Arc<Round>>>,
    parts: std::ops::Range<usize>,
    to: Sender<Result<RecordBatch>>,
) -> Result<()> {
    while let Some(round) = rounds.recv().await {
        let round = round?;
        let mut pieces = round.parts(parts.clone());
        while let Some(piece) = pieces.next().await? {
            let mut rows = piece.rows.into_iter().peekable();
            while rows.peek().is_some() {
                let rows = together(&schema, &first_of(&mut rows, ROWS_TOGETHER))?;
                if to.send(Ok(rows)).await.is_err() {
                    return Ok(());
                }
            }
        }
        // Other partitions may be read after this one.
        round.pass();
        if round.is_last {
            break;
        }
    }
    Ok(())
}

/// The first batches, of no more rows than are to be together if there are several.
fn first_of(
    batches: &mut Peekable<impl Iterator<Item = RecordBatch>>,
    rows: usize,
) -> Vec<RecordBatch> {
    let mut first: Vec<RecordBatch> = batches.next().into_iter().collect();
    let mut left = rows.saturating_sub(first.iter().map(RecordBatch::num_rows).sum());
    while let Some(next) = batches.next_if(|next| next.num_rows() <= left) {
        left -= next.num_rows();
        first.push(next);
    }
    first
}

impl DisplayAs for UnitExchangeExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match kind {
            DisplayFormatType::TreeRender => write!(f, "unit={}", self.unit),
            _ => write!(f, "UnitExchangeExec: unit={}", self.unit),
        }
    }
}

impl ExecutionPlan for UnitExchangeExec {
    fn name(&self) -> &str {
        "UnitExchangeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(&self.unit)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(rows) = children.into_iter().next() else {
            return internal_err!("expected rows to deal out, found none");
        };
        Ok(Arc::new(Self::new(rows, Arc::clone(&self.unit))))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = match &mut *outputs {
            Some(outputs) => outputs,
            none => none.insert(Leaf::new(self.start(&context)?, Arc::clone(&self.properties))),
        };
        outputs.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int8Array};

    use super::*;

    #[test]
    fn batches_are_together_up_to_a_number_of_rows() {
        let batch = |rows: usize| {
            let column: ArrayRef = Arc::new(Int8Array::from(vec![0; rows]));
            RecordBatch::try_from_iter([("n", column)]).expect("one column")
        };
        let mut batches = [4, 5, 1, 20, 3, 8].map(batch).into_iter().peekable();
        let mut together = Vec::new();
        while batches.peek().is_some() {
            let first = first_of(&mut batches, 10);
            together.push(first.iter().map(RecordBatch::num_rows).collect::<Vec<_>>());
        }
        assert_eq!(together, [vec![4, 5, 1], vec![20], vec![3], vec![8]]);
        assert!(first_of(&mut batches, 10).is_empty());
    }
}
