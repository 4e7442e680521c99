//! The aggregation of a partition's parts, one after the other.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::StreamExt;
use tokio::sync::mpsc::Sender;

use super::exchange::{Output, Way};
use super::leaf::Feed;

/// Aggregates what comes of a partition and sends its groups.
pub(super) async fn aggregate(
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
        for (offset, part) in parts.iter_mut().enumerate() {
            part.feed.hand(round.part(first + offset));
            if round.is_last {
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
