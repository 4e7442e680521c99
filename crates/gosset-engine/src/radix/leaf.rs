//! What aggregations read in place of the rows of their plan.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream,
};
use futures::Stream;

/// A leaf whose partitions are streams that are there already, each read once.
pub(super) struct Leaf {
    streams: Mutex<Vec<Option<SendableRecordBatchStream>>>,
    properties: Arc<PlanProperties>,
}

impl Leaf {
    pub(super) fn new(
        streams: impl IntoIterator<Item = SendableRecordBatchStream>,
        properties: Arc<PlanProperties>,
    ) -> Self {
        Self { streams: Mutex::new(streams.into_iter().map(Some).collect()), properties }
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf")
    }
}

impl DisplayAs for Leaf {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf")
    }
}

impl ExecutionPlan for Leaf {
    fn name(&self) -> &str {
        "Leaf"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        match streams.get_mut(partition).and_then(Option::take) {
            Some(stream) => Ok(stream),
            None => internal_err!("partition {partition} of rows was read before"),
        }
    }
}

/// Rows that are handed to an aggregation, and how it is told that there are no more.
///
/// An aggregation that has taken all of them waits without being woken: who hands out more rows polls it.
#[derive(Debug)]
pub(super) struct Feed {
    schema: SchemaRef,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    rows: VecDeque<RecordBatch>,
    is_closed: bool,
}

impl Feed {
    pub(super) fn new(schema: SchemaRef) -> Arc<Self> {
        Arc::new(Self { schema, queue: Mutex::default() })
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hand(&self, rows: impl IntoIterator<Item = RecordBatch>) {
        self.queue().rows.extend(rows);
    }

    pub(super) fn close(&self) {
        self.queue().is_closed = true;
    }

    /// Whether all rows that were handed out are taken, and there may be more.
    pub(super) fn is_waiting(&self) -> bool {
        let queue = self.queue();
        queue.rows.is_empty() && !queue.is_closed
    }

    pub(super) fn stream(self: &Arc<Self>) -> SendableRecordBatchStream {
        // Lets others in now and then: it is never at its end for long.
        Box::pin(cooperative(Fed(Arc::clone(self))))
    }
}

struct Fed(Arc<Feed>);

impl Stream for Fed {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.0.queue();
        match queue.rows.pop_front() {
            Some(rows) => Poll::Ready(Some(Ok(rows))),
            None if queue.is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl RecordBatchStream for Fed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }
}
