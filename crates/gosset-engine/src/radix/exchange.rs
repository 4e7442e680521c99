//! How rows come from the partitions of the input to the parts of the groups.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_datafusion_err;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{Count, MetricBuilder, Time};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::dealt::{Dealt, Gathered};
use super::exec::RadixAggregateExec;
use super::leaf::{Feed, Leaf};
use super::memory::{self, Held, Joint};
use super::parts;

/// Rows of a partition in which it is seen whether there are many groups.
pub(super) const SAMPLE: usize = 1 << 16;
/// Parts of all groups, at least: of ten million groups of a hundred bytes, one has a few megabytes.
const PARTS: usize = 128;
/// Rows that are dealt out at once: a column of them fits into the cache as well.
const ROWS_DEALT: usize = 1 << 17;
const BYTES_DEALT: usize = 16 << 20;
/// Rows of a round, at least: the more, the fewer times the table of a part is fetched into the cache.
const BYTES_OF_A_ROUND: usize = 96 << 20;
/// What rows and tables may have before rows are aggregated: all of them in one round, if they have less.
const BYTES_AT_FIRST: usize = 512 << 20;

/// How groups are aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As planned.
    Few,
    /// By parts.
    Many,
}

/// What all partitions share.
pub(super) struct Shared {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    outputs: Vec<mpsc::UnboundedSender<Result<Arc<Round>>>>,
    parts_of_each: usize,
    way: watch::Sender<Option<Way>>,
    undecided: AtomicUsize,
    reading: AtomicUsize,
    dealt: Mutex<Vec<(Dealt, Held)>>,
    turns: Arc<Semaphore>,
    context: Arc<TaskContext>,
    memory: OnceLock<Arc<Joint>>,
    dealing: Time,
    rounds: Count,
}

/// Rows that are aggregated before others are.
pub(super) struct Round {
    dealt: Vec<(Dealt, Held)>,
    pub(super) is_last: bool,
    /// The next round waits until this one is dropped.
    _turn: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Round {
    pub(super) fn part(&self, part: usize) -> impl Iterator<Item = RecordBatch> + '_ {
        self.dealt.iter().filter_map(move |(dealt, _)| dealt.part(part))
    }
}

/// What is read of one partition of the input, and what is still to be read of it.
struct Replayed {
    sample: Vec<RecordBatch>,
    rest: SendableRecordBatchStream,
}

/// One partition of the output.
pub(super) struct Output {
    pub(super) partition: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) rounds: mpsc::UnboundedReceiver<Result<Arc<Round>>>,
    pub(super) as_planned: Arc<dyn ExecutionPlan>,
    pub(super) by_parts: Arc<dyn ExecutionPlan>,
    pub(super) feeds: Vec<Arc<Feed>>,
    pub(super) used: Arc<OnceLock<Arc<dyn ExecutionPlan>>>,
    /// They end when nobody reads an output any more.
    _reading: Arc<Vec<SpawnedTask<()>>>,
}

/// Starts to aggregate. All partitions of the output are worked on from now on, whoever reads them and when: rows of the
/// next round wait for the last one of this.
pub(super) fn start(
    of: &RadixAggregateExec,
    context: &Arc<TaskContext>,
) -> Result<Vec<SendableRecordBatchStream>> {
    let rows = of.rows();
    let (schema, inputs) = (rows.schema(), rows.output_partitioning().partition_count());
    let partitions = of.properties().partitioning.partition_count();
    let parts_of_each = PARTS.div_ceil(partitions).next_power_of_two();
    let (outputs, rounds): (Vec<_>, Vec<_>) =
        (0..partitions).map(|_| mpsc::unbounded_channel()).unzip();
    let shared = Arc::new(Shared {
        keys: of.keys().to_vec(),
        schema: Arc::clone(&schema),
        outputs,
        parts_of_each,
        way: watch::Sender::new(None),
        undecided: AtomicUsize::new(inputs),
        reading: AtomicUsize::new(inputs),
        dealt: Mutex::default(),
        turns: Arc::new(Semaphore::new(1)),
        context: Arc::clone(context),
        memory: OnceLock::new(),
        dealing: MetricBuilder::new(of.metrics_set()).subset_time("dealing_time", 0),
        rounds: MetricBuilder::new(of.metrics_set()).counter("rounds", 0),
    });

    let (mut reading, mut replayed) = (Vec::new(), Vec::new());
    for partition in 0..inputs {
        let (replay, replays) = oneshot::channel();
        let input = rows.execute(partition, Arc::clone(context))?;
        reading.push(SpawnedTask::spawn(read_safely(input, Arc::clone(&shared), replay)));
        replayed.push(replay_stream(Arc::clone(&schema), replays));
    }
    let as_planned = of.as_planned(Arc::new(Leaf::new(replayed, Arc::clone(rows.properties()))))?;
    let feeds: Vec<_> =
        (0..partitions * parts_of_each).map(|_| Feed::new(Arc::clone(&schema))).collect();
    let by_parts = of.by_parts(&feeds)?;
    let reading = Arc::new(reading);
    let outputs = rounds.into_iter().zip(feeds.chunks(parts_of_each)).enumerate();
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
            groups.spawn(parts::aggregate(output, groups.tx(), Arc::clone(context)));
            groups.build()
        })
        .collect())
}

/// The rows of a partition from the first.
fn replay_stream(
    schema: SchemaRef,
    replays: oneshot::Receiver<Replayed>,
) -> SendableRecordBatchStream {
    let from_the_first = async move {
        let Replayed { sample, rest } =
            replays.await.map_err(|_| internal_datafusion_err!("rows of a sample were lost"))?;
        Ok::<_, DataFusionError>(futures::stream::iter(sample.into_iter().map(Ok)).chain(rest))
    };
    let rows = futures::stream::once(from_the_first).try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Reads a partition of the input; the outputs are told if that panics, as they would wait for ever.
async fn read_safely(
    input: SendableRecordBatchStream,
    shared: Arc<Shared>,
    replay: oneshot::Sender<Replayed>,
) {
    let reading = AssertUnwindSafe(read(input, Arc::clone(&shared), replay));
    if reading.catch_unwind().await.is_err() {
        shared.decide(Way::Many);
        shared.fail(internal_datafusion_err!("a panic while rows were read to be aggregated"));
    }
}

/// Reads a partition of the input.
async fn read(
    mut input: SendableRecordBatchStream,
    shared: Arc<Shared>,
    replay: oneshot::Sender<Replayed>,
) {
    let mut gathered = Gathered::default();
    let vote = loop {
        if gathered.len() >= SAMPLE {
            let are_many =
                memory::is_enough(&shared.context) && gathered.groups() > gathered.len() / 2;
            break Some(if are_many { Way::Many } else { Way::Few });
        }
        match input.next().await.map(|rows| rows.and_then(|rows| gathered.add(rows, &shared.keys)))
        {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                // Whoever reads on meets it.
                let failed = futures::stream::once(async { Err(error) });
                input = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&shared.schema), failed));
                break None;
            }
            None => break None,
        }
    };
    match shared.decided(vote).await {
        Way::Few => {
            // Nobody reads it where the output is not read any more.
            let _ = replay.send(Replayed { sample: gathered.rows, rest: input });
        }
        Way::Many => {
            if let Err(error) = shared.deal_all(gathered, input).await {
                shared.fail(error);
            }
        }
    }
}

impl Shared {
    /// Waits until it is known how groups are aggregated: the first partition that has a sample decides; there are few
    /// if none has.
    async fn decided(&self, vote: Option<Way>) -> Way {
        let was_last = self.undecided.fetch_sub(1, Ordering::AcqRel) == 1;
        if let Some(way) = vote.or(was_last.then_some(Way::Few)) {
            self.decide(way);
        }
        self.way().await
    }

    /// Decides, if nobody did before.
    fn decide(&self, way: Way) {
        self.way.send_if_modified(|decided| {
            let is_first = decided.is_none();
            decided.get_or_insert(way);
            is_first
        });
    }

    /// How groups are aggregated, once that is known.
    pub(super) async fn way(&self) -> Way {
        let mut way = self.way.subscribe();
        let decided = way.wait_for(Option::is_some).await;
        // The sender is in here: it cannot have gone.
        decided.ok().and_then(|way| *way).unwrap_or(Way::Few)
    }

    pub(super) fn memory(&self) -> &Arc<Joint> {
        let parts = self.outputs.len() * self.parts_of_each;
        self.memory.get_or_init(|| Arc::new(Joint::new("RadixAggregate", parts, &self.context)))
    }

    async fn deal_all(
        &self,
        mut gathered: Gathered,
        mut input: SendableRecordBatchStream,
    ) -> Result<()> {
        let most = self.memory().fraction(64, BYTES_DEALT);
        loop {
            if gathered.len() >= ROWS_DEALT || gathered.bytes >= most {
                self.deal(std::mem::take(&mut gathered)).await?;
            }
            match input.try_next().await? {
                Some(rows) => gathered.add(rows, &self.keys)?,
                None => break,
            }
        }
        self.deal(gathered).await?;
        if self.reading.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.next_round(true).await;
        }
        Ok(())
    }

    /// Brings rows into the order of the parts and holds them for the next round.
    async fn deal(&self, gathered: Gathered) -> Result<()> {
        if gathered.len() == 0 {
            return Ok(());
        }
        let timer = self.dealing.timer();
        let dealt = gathered.dealt(&self.schema, self.outputs.len(), self.parts_of_each)?;
        timer.done();
        let bytes = dealt.bytes();
        let held = match self.memory().try_hold(bytes) {
            Some(held) => held,
            None => {
                self.next_round(false).await;
                self.memory().hold(bytes)
            }
        };
        let waiting: usize = {
            let mut waiting = self.dealt.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((dealt, held));
            waiting.iter().map(|(_, held)| held.bytes()).sum()
        };
        let memory = self.memory();
        let round = memory.fraction(16, BYTES_OF_A_ROUND);
        if waiting >= round && memory.reserved() >= memory.fraction(4, BYTES_AT_FIRST) {
            self.next_round(false).await;
        } else if waiting >= round / 4 {
            // Not many more than those of a round that is aggregated.
            drop(self.turns.acquire().await);
        }
        Ok(())
    }

    /// Hands all rows that are held to the parts, when those of the last round are aggregated.
    async fn next_round(&self, is_last: bool) {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        let dealt = std::mem::take(&mut *self.dealt.lock().unwrap_or_else(PoisonError::into_inner));
        if dealt.is_empty() && !is_last {
            return;
        }
        self.rounds.add(1);
        let round = Arc::new(Round { dealt, is_last, _turn: turn });
        for output in &self.outputs {
            // An output that is not read any more takes none.
            let _ = output.send(Ok(Arc::clone(&round)));
        }
    }

    fn fail(&self, error: DataFusionError) {
        let error = Arc::new(error);
        for output in &self.outputs {
            let _ = output.send(Err(DataFusionError::Shared(Arc::clone(&error))));
        }
    }
}
