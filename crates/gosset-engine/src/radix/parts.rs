//! The aggregation of a partition's parts, one after the other.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use futures::StreamExt;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};

use super::exchange::{self, Dealing, Order, Reading, Shared, Way};
use super::exec::RadixAggregateExec;
use super::leaf::{Feed, Leaf};
use super::round::Round;

/// Parts of all groups: of ten million groups of a hundred bytes, one has a few megabytes.
const PARTS: usize = 128;
/// Rows that are dealt out at once: a column of them fits into the cache as well.
const ROWS_AT_ONCE: usize = 1 << 17;

/// One partition of the output.
struct Output {
    partition: usize,
    shared: Arc<Shared>,
    rounds: UnboundedReceiver<Result<Arc<Round>>>,
    as_planned: Arc<dyn ExecutionPlan>,
    by_parts: Arc<dyn ExecutionPlan>,
    feeds: Vec<Arc<Feed>>,
    used: Arc<OnceLock<Arc<dyn ExecutionPlan>>>,
    _reading: Arc<Reading>,
}

/// Starts to aggregate: by partition of the output, its groups.
pub(super) fn start(
    of: &RadixAggregateExec,
    context: &Arc<TaskContext>,
) -> Result<Vec<SendableRecordBatchStream>> {
    let (rows, partitions) = (of.rows(), of.properties().partitioning.partition_count());
    let order = Order {
        name: "RadixAggregate",
        rows,
        keys: of.keys(),
        partitions,
        parts: PARTS,
        rows_at_once: ROWS_AT_ONCE,
        are_many: |groups, rows| groups > rows / 2,
        metrics: of.metrics_set(),
    };
    let Dealing { shared, rounds, replayed, reading } = exchange::start(&order, context)?;
    let as_planned = of.as_planned(Arc::new(Leaf::new(replayed, Arc::clone(rows.properties()))))?;
    let feeds: Vec<_> = (0..shared.parts.count()).map(|_| Feed::new(rows.schema())).collect();
    let by_parts = of.by_parts(&feeds)?;
    let outputs = rounds.into_iter().zip(feeds.chunks(shared.parts.of_each)).enumerate();
    Ok(outputs
        .map(|(partition, (rounds, feeds))| {
            let output = Output {
                partition,
                shared: Arc::clone(&shared),
                rounds,
                as_planned: Arc::clone(&as_planned),
                by_parts: Arc::clone(&by_parts),
                feeds: feeds.to_vec(),
                used: of.used(),
                _reading: Arc::clone(&reading),
            };
            let mut groups = RecordBatchReceiverStream::builder(of.schema(), 2);
            groups.spawn(aggregate(output, groups.tx(), Arc::clone(context)));
            groups.build()
        })
        .collect())
}

/// Aggregates what comes of a partition and sends its groups.
async fn aggregate(
    mut output: Output,
    to: Sender<Result<RecordBatch>>,
    context: Arc<TaskContext>,
) -> Result<()> {
    if output.shared.way().await == Way::Few {
        let as_planned = output.used.get_or_init(|| Arc::clone(&output.as_planned));
        let mut groups = as_planned.execute(output.partition, context)?;
        while let Some(groups) = groups.next().await {
            if to.send(groups).await.is_err() {
                break;
            }
        }
        return Ok(());
    }

    let by_parts = output.used.get_or_init(|| Arc::clone(&output.by_parts));
    let context = output.shared.memory().context(&context)?;
    let first = output.partition * output.feeds.len();
    let mut parts = Vec::new();
    for (offset, feed) in output.feeds.iter().enumerate() {
        parts.push(Part {
            feed: Arc::clone(feed),
            groups: Some(by_parts.execute(first + offset, Arc::clone(&context))?),
        });
    }
    while let Some(round) = output.rounds.recv().await {
        let round = round?;
        let mut pieces = round.parts(first..first + parts.len());
        while let Some(piece) = pieces.next().await? {
            let part = &mut parts[piece.part - first];
            part.feed.hand(piece.rows);
            if round.is_last && piece.is_last {
                part.feed.close();
            }
            while let Some(groups) = part.next().await {
                if to.send(groups).await.is_err() {
                    return Ok(());
                }
            }
            // A part takes milliseconds; others are let in after each.
            tokio::task::yield_now().await;
        }
        if round.is_last {
            break;
        }
    }
    Ok(())
}

struct Part {
    feed: Arc<Feed>,
    /// None after the last of them.
    groups: Option<SendableRecordBatchStream>,
}

impl Part {
    /// The next groups; none when all rows are taken that were handed out, or all groups are known.
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        let groups = self.groups.as_mut()?;
        let next = poll_fn(|context| match groups.poll_next_unpin(context) {
            Poll::Ready(groups) => Poll::Ready((groups, false)),
            Poll::Pending if self.feed.is_waiting() => Poll::Ready((None, true)),
            Poll::Pending => Poll::Pending,
        });
        let (next, is_waiting) = next.await;
        if next.is_none() && !is_waiting {
            // Its table goes before the next part's grows.
            self.groups = None;
        }
        next
    }
}
