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
    /// What is read of it, after what was read before.
    read: Vec<(Dealt, Held)>,
    /// Parts whose pieces of that are still to come.
    next: Range<usize>,
    /// Whether nothing was read before.
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
                Some(spill) => spill.first_of(&self.parts),
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

    #[tokio::test]
    async fn parts_have_all_rows_and_those_of_large_files_come_in_pieces() {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(1 << 20, 1.0).build_arc();
        let context =
            Arc::new(TaskContext::default().with_runtime(runtime.expect("a runtime environment")));
        let parts = Parts { partitions: 2, of_each: 64 };
        let memory = Arc::new(Joint::new("test", parts.count(), &context));
        let schema = rows(0..0).schema();
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let manager = SpillManager::new(context.runtime_env(), metrics, Arc::clone(&schema));
        let spill = Arc::new(Spill::new(&Arc::new(manager), parts, &memory));
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("number", 0));
        let dealt = |numbers: Range<i64>| {
            let mut gathered = Gathered::new(parts, 0);
            gathered.add(rows(numbers), &[Arc::clone(&key)]).expect("rows");
            gathered.dealt(&schema).expect("rows")
        };
        let held = vec![(dealt(0..5_000), memory.hold(0))];
        // Files have some hundred kilobytes each, of which a partition reads back 64.
        for start in (5_000..205_000).step_by(20_000) {
            spill.add(&dealt(start..start + 20_000)).expect("a file");
        }
        let disk = Arc::clone(&context.runtime_env().disk_manager);
        assert!(disk.used_disk_space() > 10 << 20);

        let round = Arc::new(Round::new(held, Some(spill), true, None));
        let mut found = Vec::new();
        for of_partition in [0..64, 64..128] {
            let mut pieces = round.parts(of_partition.clone());
            // By part: how many pieces there were, and whether there are more.
            let mut seen: BTreeMap<usize, (usize, bool)> = BTreeMap::new();
            let mut most = 0;
            while let Some(piece) = pieces.next().await.expect("a file") {
                let (count, is_last) = seen.entry(piece.part).or_default();
                assert!(!*is_last, "a piece of {} after the last", piece.part);
                (*count, *is_last) = (*count + 1, piece.is_last);
                most = most.max(memory.reserved());
                for rows in piece.rows {
                    let labels = rows.column(1).as_any_dictionary();
                    let labels = (labels.values().as_string::<i32>(), labels.normalized_keys());
                    let texts = rows.column(2).as_string_view();
                    for (row, number) in
                        rows.column(0).as_primitive::<Int64Type>().values().iter().enumerate()
                    {
                        assert_eq!(labels.0.value(labels.1[row]), format!("the number {number}"));
                        assert_eq!(texts.value(row), format!("the number {number}"));
                        found.push(*number);
                    }
                }
            }
            assert!(seen.keys().copied().eq(of_partition));
            assert!(seen.values().all(|(pieces, is_last)| *pieces > 1 && *is_last), "{seen:?}");
            assert!(most < 256 << 10, "{most} bytes at once");
        }
        found.sort_unstable();
        assert!(found.into_iter().eq(0..205_000));
        drop(round);
        assert_eq!((memory.reserved(), disk.used_disk_space()), (0, 0));
    }
}
