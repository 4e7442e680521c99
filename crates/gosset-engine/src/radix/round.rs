//! Rows that are handed out before others are.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use datafusion::error::Result;
use tokio::sync::OwnedSemaphorePermit;

use super::dealt::Dealt;
use super::memory::Held;
use super::spill::{ReadBack, Spill};

pub(super) struct Round {
    dealt: Vec<(Dealt, Held)>,
    /// Of the last round alone.
    spill: Option<Arc<Spill>>,
    pub(super) is_last: bool,
    /// The next round waits until this one is passed or dropped.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Round {
    pub(super) fn new(
        dealt: Vec<(Dealt, Held)>,
        spill: Option<Arc<Spill>>,
        is_last: bool,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { dealt, spill, is_last, turn: Mutex::new(turn) }
    }

    /// Lets the next round come before this one is dropped.
    pub(super) fn pass(&self) {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The rows of some parts, one part after the other.
    pub(super) fn parts(self: &Arc<Self>, parts: Range<usize>) -> Pieces {
        Pieces {
            round: Arc::clone(self),
            parts,
            of_file: 0..0,
            file: None,
            read: Vec::new(),
            next: 0..0,
            is_first: true,
        }
    }
}

/// The rows of a part, or some of them if there are too many in a file.
pub(super) struct Piece {
    pub(super) part: usize,
    pub(super) rows: Vec<RecordBatch>,
    /// Whether there are no more rows of the part.
    pub(super) is_last: bool,
}

/// The pieces of some parts.
pub(super) struct Pieces {
    round: Arc<Round>,
    /// Parts of files that are not read yet.
    parts: Range<usize>,
    /// Parts of the file that is read.
    of_file: Range<usize>,
    file: Option<ReadBack>,
    /// What was read of it last.
    read: Vec<(Dealt, Held)>,
    /// Parts whose pieces of that are still to come.
    next: Range<usize>,
    /// Whether that is the first of it, to which the rows in memory belong.
    is_first: bool,
}

impl Pieces {
    pub(super) async fn next(&mut self) -> Result<Option<Piece>> {
        let part = loop {
            if let Some(part) = self.next.next() {
                break part;
            }
            if !self.read_on().await? {
                return Ok(None);
            }
        };
        let held = self.round.dealt.iter().filter(|_| self.is_first);
        let rows = held.chain(&self.read).filter_map(|(dealt, _)| dealt.part(part)).collect();
        Ok(Some(Piece { part, rows, is_last: self.file.is_none() }))
    }

    /// Reads more of the file, or of the next one; false if there is nothing more.
    async fn read_on(&mut self) -> Result<bool> {
        self.read.clear();
        self.is_first = self.file.is_none();
        if self.is_first {
            if self.parts.is_empty() {
                return Ok(false);
            }
            (self.of_file, self.file) = match &self.round.spill {
                Some(spill) => spill.open_first(&self.parts),
                None => (self.parts.clone(), None),
            };
            self.parts.start = self.of_file.end;
        }
        if let Some(file) = &mut self.file {
            self.read = file.next().await?;
        }
        self.file.take_if(|file| file.is_at_end());
        self.next = self.of_file.clone();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, StringViewArray};
    use arrow::datatypes::{Int32Type, Int64Type};
    use datafusion::execution::TaskContext;
    use datafusion::execution::memory_pool::MemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
    use datafusion::physical_plan::spill::SpillManager;

    use super::super::dealt::{Gathered, Parts};
    use super::super::memory::Joint;
    use super::*;

    /// Numbered rows of which each says its number three times.
    fn rows(numbers: Range<i64>) -> RecordBatch {
        let texts: Vec<String> = numbers.clone().map(|i| format!("the number {i}")).collect();
        let texts = || texts.iter().map(String::as_str);
        let columns: [(&str, ArrayRef); 3] = [
            ("number", Arc::new(Int64Array::from_iter_values(numbers))),
            ("label", Arc::new(texts().collect::<DictionaryArray<Int32Type>>())),
            ("text", Arc::new(StringViewArray::from_iter_values(texts()))),
        ];
        RecordBatch::try_from_iter(columns).expect("columns")
    }

    /// All rows by parts, of which those that fit into so much disk are in files; what that took.
    async fn found(disk: u64) -> (Vec<i64>, u64) {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_limit(1 << 20, 1.0)
            .with_max_temp_directory_size(disk)
            .build_arc()
            .expect("a runtime environment");
        let context = TaskContext::default().with_runtime(Arc::clone(&runtime));
        let parts = Parts { partitions: 2, of_each: 64 };
        let memory = Arc::new(Joint::new("test", parts.count(), &context));
        let schema = rows(0..0).schema();
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let manager = SpillManager::new(Arc::clone(&runtime), metrics, Arc::clone(&schema));
        let spill = Arc::new(Spill::new(&Arc::new(manager), parts, &memory));
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("number", 0));
        let dealt = |numbers: Range<i64>| {
            let mut gathered = Gathered::new(parts, 0);
            gathered.add(rows(numbers), &[Arc::clone(&key)]).expect("rows");
            gathered.dealt(&schema).expect("rows")
        };
        let mut held = vec![(dealt(0..5_000), memory.hold(0))];
        // Files have some hundred kilobytes each, of which a partition reads back 64.
        for start in (5_000..205_000).step_by(20_000) {
            let left = spill.add(dealt(start..start + 20_000));
            held.extend(left.map(|left| (left, memory.hold(0))));
        }
        let on_disk = runtime.disk_manager.used_disk_space();

        let round = Arc::new(Round::new(held, Some(spill), true, None));
        let (mut found, mut most_pieces) = (Vec::new(), 0);
        for of_partition in [0..64, 64..128] {
            let mut pieces = round.parts(of_partition.clone());
            // By part: how many pieces there were, and whether there are more.
            let mut seen: BTreeMap<usize, (usize, bool)> = BTreeMap::new();
            while let Some(piece) = pieces.next().await.expect("a file") {
                let (count, is_last) = seen.entry(piece.part).or_default();
                assert!(!*is_last, "a piece of {} after the last", piece.part);
                (*count, *is_last) = (*count + 1, piece.is_last);
                most_pieces = most_pieces.max(*count);
                assert!(memory.reserved() < 512 << 10, "{} bytes at once", memory.reserved());
                for rows in piece.rows {
                    let labels = rows.column(1).as_any_dictionary();
                    let keys = labels.normalized_keys();
                    let labels = labels.values().as_string::<i32>();
                    let texts = rows.column(2).as_string_view();
                    let numbers = rows.column(0).as_primitive::<Int64Type>().values();
                    for (row, number) in numbers.iter().enumerate() {
                        let text = format!("the number {number}");
                        assert_eq!((labels.value(keys[row]), texts.value(row)), (&*text, &*text));
                    }
                    found.extend_from_slice(numbers);
                }
            }
            assert!(seen.keys().copied().eq(of_partition));
            assert!(seen.values().all(|(_, is_last)| *is_last), "{seen:?}");
        }
        assert!(most_pieces > 1);
        drop(round);
        assert_eq!((memory.reserved(), runtime.disk_manager.used_disk_space()), (0, 0));
        found.sort_unstable();
        (found, on_disk)
    }

    #[tokio::test]
    async fn parts_have_all_rows_whether_or_not_these_fit_on_the_disk() {
        for disk in [1 << 30, 5 << 20] {
            let (found, on_disk) = found(disk).await;
            assert!(found.into_iter().eq(0..205_000), "{disk}");
            assert!(on_disk > 4 << 20 && on_disk <= disk, "{on_disk} of {disk}");
        }
    }
}
