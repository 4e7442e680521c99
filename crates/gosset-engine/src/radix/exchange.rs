//! How rows come from the partitions of the input to the parts of the groups.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_datafusion_err;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, SpillMetrics, Time,
};
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::dealt::{Gathered, Parts, SAMPLE};
use super::memory::{self, Joint};
use super::round::Round;
use super::waiting::Waiting;

/// Bytes of rows that are dealt out at once, at most.
const BYTES_DEALT: usize = 32 << 20;
/// Rows of a round, at least: the more, the fewer times the table of a part is fetched into the cache.
const BYTES_OF_A_ROUND: usize = 64 << 20;
/// What rows and tables may have for each of two or more partitions before rows are spilled or handed out: all of them in
/// one round, if they have less.
const BYTES_AT_FIRST: usize = 320 << 20;

/// How rows go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As they are: there are few groups.
    Few,
    /// By parts: there are many.
    Many,
}

/// What is dealt out, and how.
pub(super) struct Order<'a> {
    /// What takes the memory.
    pub(super) name: &'static str,
    pub(super) rows: &'a Arc<dyn ExecutionPlan>,
    pub(super) keys: &'a [Arc<dyn PhysicalExpr>],
    /// How many partitions there are afterwards.
    pub(super) partitions: usize,
    /// How many parts all of them have, at least.
    pub(super) parts: usize,
    /// Rows that are dealt out at once, at most.
    pub(super) rows_at_once: usize,
    /// Whether there are many groups, of so many in so many rows.
    pub(super) are_many: fn(usize, usize) -> bool,
    pub(super) metrics: &'a ExecutionPlanMetricsSet,
}

/// Rows that are being dealt out.
pub(super) struct Dealing {
    pub(super) shared: Arc<Shared>,
    /// By partition of the output.
    pub(super) rounds: Vec<mpsc::UnboundedReceiver<Result<Arc<Round>>>>,
    /// By partition of the input, its rows where they go on as they are.
    pub(super) replayed: Vec<SendableRecordBatchStream>,
    pub(super) reading: Arc<Reading>,
}

/// The tasks that read the input: they end when this is dropped.
pub(super) struct Reading(#[expect(dead_code, reason = "held")] Vec<SpawnedTask<()>>);

/// What all partitions share.
pub(super) struct Shared {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    are_many: fn(usize, usize) -> bool,
    outputs: Vec<mpsc::UnboundedSender<Result<Arc<Round>>>>,
    pub(super) parts: Parts,
    rows_at_once: usize,
    way: watch::Sender<Option<Way>>,
    undecided: AtomicUsize,
    reading: AtomicUsize,
    waiting: OnceLock<Waiting>,
    turns: Arc<Semaphore>,
    context: Arc<TaskContext>,
    name: &'static str,
    spill_manager: Arc<SpillManager>,
    dealing: Time,
    rounds: Count,
}

/// What is read of one partition of the input, and what is still to be read of it.
struct Replayed {
    sample: Vec<RecordBatch>,
    rest: SendableRecordBatchStream,
}

/// Starts to read. All partitions are read from now on, whoever reads those of the output and when: rows of the next round
/// wait for the last one of this.
pub(super) fn start(order: &Order<'_>, context: &Arc<TaskContext>) -> Result<Dealing> {
    let Order { rows, partitions, metrics, .. } = *order;
    let (schema, inputs) = (rows.schema(), rows.output_partitioning().partition_count());
    let (outputs, rounds): (Vec<_>, Vec<_>) =
        (0..partitions).map(|_| mpsc::unbounded_channel()).unzip();
    let spill_manager = SpillManager::new(
        context.runtime_env(),
        SpillMetrics::new(metrics, 0),
        Arc::clone(&schema),
    )
    .with_compression_type(context.session_config().spill_compression());
    let shared = Arc::new(Shared {
        keys: order.keys.to_vec(),
        schema: Arc::clone(&schema),
        are_many: order.are_many,
        outputs,
        parts: Parts { partitions, of_each: order.parts.div_ceil(partitions).next_power_of_two() },
        rows_at_once: order.rows_at_once,
        way: watch::Sender::new(None),
        undecided: AtomicUsize::new(inputs),
        reading: AtomicUsize::new(inputs),
        waiting: OnceLock::new(),
        turns: Arc::new(Semaphore::new(1)),
        context: Arc::clone(context),
        name: order.name,
        spill_manager: Arc::new(spill_manager),
        dealing: MetricBuilder::new(metrics).subset_time("dealing_time", 0),
        rounds: MetricBuilder::new(metrics).counter("rounds", 0),
    });
    let (mut reading, mut replayed) = (Vec::new(), Vec::new());
    for partition in 0..inputs {
        let (replay, replays) = oneshot::channel();
        let input = rows.execute(partition, Arc::clone(context))?;
        reading.push(SpawnedTask::spawn(read_safely(input, Arc::clone(&shared), replay)));
        replayed.push(replay_stream(Arc::clone(&schema), replays));
    }
    Ok(Dealing { shared, rounds, replayed, reading: Arc::new(Reading(reading)) })
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
        shared.fail(internal_datafusion_err!("a panic while rows were read to be dealt out"));
    }
}

/// Reads a partition of the input.
async fn read(
    mut input: SendableRecordBatchStream,
    shared: Arc<Shared>,
    replay: oneshot::Sender<Replayed>,
) {
    let mut gathered = Gathered::new(shared.parts, SAMPLE);
    let vote = loop {
        if gathered.len() >= SAMPLE {
            let are_many = memory::is_enough(&shared.context)
                && (shared.are_many)(gathered.groups(), gathered.len());
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
    /// Waits until it is known how rows go on: the first partition that has a sample decides; there are few groups if
    /// none has.
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

    /// How rows go on, once that is known.
    pub(super) async fn way(&self) -> Way {
        let mut way = self.way.subscribe();
        let decided = way.wait_for(Option::is_some).await;
        // The sender is in here: it cannot have gone.
        decided.ok().and_then(|way| *way).unwrap_or(Way::Few)
    }

    fn waiting(&self) -> &Waiting {
        self.waiting.get_or_init(|| {
            Waiting::new(self.name, &self.keys, self.parts, &self.spill_manager, &self.context)
        })
    }

    pub(super) fn memory(&self) -> &Arc<Joint> {
        &self.waiting().memory
    }

    async fn deal_all(
        &self,
        mut gathered: Gathered,
        mut input: SendableRecordBatchStream,
    ) -> Result<()> {
        let most = self.memory().fraction(64, BYTES_DEALT);
        loop {
            if gathered.len() >= self.rows_at_once || gathered.bytes >= most {
                let next = Gathered::new(self.parts, self.rows_at_once);
                self.deal(std::mem::replace(&mut gathered, next)).await?;
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

    /// Brings rows into the order of the parts and has them wait.
    async fn deal(&self, gathered: Gathered) -> Result<()> {
        if gathered.len() == 0 {
            return Ok(());
        }
        let timer = self.dealing.timer();
        let dealt = gathered.dealt(&self.schema)?;
        timer.done();
        let (waiting, memory) = (self.waiting(), self.memory());
        if let Some(dealt) = waiting.add(dealt)? {
            self.next_round(false).await;
            waiting.hold(dealt);
        }
        let round = memory.fraction(16, BYTES_OF_A_ROUND);
        let at_first = memory.fraction(4, BYTES_AT_FIRST * self.parts.partitions.max(2));
        let bytes = waiting.bytes();
        if bytes >= round && memory.reserved() >= at_first {
            if waiting.are_in_rounds()? {
                self.next_round(false).await;
            }
        } else if bytes >= round / 4 {
            // Not many more than those of a round that is aggregated.
            drop(self.turns.acquire().await);
        }
        Ok(())
    }

    /// Hands all rows that are held to the parts, when those of the last round are aggregated.
    async fn next_round(&self, is_last: bool) {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        let dealt = self.waiting().take();
        if dealt.is_empty() && !is_last {
            return;
        }
        self.rounds.add(1);
        let spill = self.waiting().in_files().filter(|_| is_last);
        let round = Arc::new(Round::new(dealt, spill, is_last, turn));
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
