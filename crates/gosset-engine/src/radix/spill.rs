//! Rows beyond what there is memory for: in files until all rows are read, each file with those of some parts.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow_select::dictionary::garbage_collect_any_dictionary;
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::spill::spill_pool::{SpillPoolSink, spsc_channel};
use futures::StreamExt;

use super::dealt::{Dealt, Parts};
use super::memory::{Held, Joint};

/// Files of all rows: the more, the less is read back at once.
const FILES: usize = 64;
/// What all partitions read back at once, at most: of a larger file, units are met several times.
const BYTES_READ_BACK: usize = 256 << 20;

/// All files.
pub(super) struct Spill {
    /// Parts of a file: all are of one partition.
    parts_of_each: usize,
    files: Vec<Mutex<File>>,
    memory: Arc<Joint>,
    /// What one partition reads back at once.
    most: usize,
}

struct File {
    /// None if no rows are added any more.
    to: Option<SpillPoolSink>,
    from: Option<SendableRecordBatchStream>,
    /// By batch, where its parts start.
    starts: VecDeque<Vec<usize>>,
}

impl Spill {
    pub(super) fn new(manager: &Arc<SpillManager>, parts: Parts, memory: &Arc<Joint>) -> Self {
        let of_partition = FILES.div_ceil(parts.partitions).next_power_of_two().min(parts.of_each);
        let file = |_| {
            let (to, from) = spsc_channel(usize::MAX, Arc::clone(manager));
            Mutex::new(File { to: Some(to), from: Some(from), starts: VecDeque::new() })
        };
        Self {
            parts_of_each: parts.of_each / of_partition,
            files: (0..parts.partitions * of_partition).map(file).collect(),
            memory: Arc::clone(memory),
            most: memory.fraction(8, BYTES_READ_BACK) / parts.partitions,
        }
    }

    pub(super) fn add(&self, dealt: &Dealt) -> Result<()> {
        for (number, file) in self.files.iter().enumerate() {
            let first = number * self.parts_of_each;
            let Some((rows, starts)) = dealt.parts(first..first + self.parts_of_each) else {
                continue;
            };
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            match &file.to {
                Some(to) => to.push_batch(&without_unused_values(rows)?)?,
                None => return internal_err!("rows came after those of a file were read back"),
            }
            file.starts.push_back(starts);
        }
        Ok(())
    }

    /// The first of some parts, as many as are in one file, and what is in it. Each file is read once.
    pub(super) fn first_of(&self, parts: &Range<usize>) -> (Range<usize>, Option<ReadBack>) {
        let number = parts.start / self.parts_of_each;
        let first_part = number * self.parts_of_each;
        let first = parts.start..parts.end.min(first_part + self.parts_of_each);
        let Some(file) = self.files.get(number) else { return (first, None) };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.to.take();
        let starts = std::mem::take(&mut file.starts);
        let reading = file.from.take().map(|rows| ReadBack {
            rows,
            first_part,
            starts,
            memory: Arc::clone(&self.memory),
            most: self.most,
        });
        (first, reading)
    }
}

/// Rows with dictionaries of no more than they have: a file has one for each of its batches.
fn without_unused_values(rows: RecordBatch) -> Result<RecordBatch> {
    let column = |column: &ArrayRef| match column.as_any_dictionary_opt() {
        Some(dictionary) if dictionary.values().len() > column.len() => {
            garbage_collect_any_dictionary(dictionary)
        }
        _ => Ok(Arc::clone(column)),
    };
    let columns = rows.columns().iter().map(column).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

/// A file that is read back.
pub(super) struct ReadBack {
    rows: SendableRecordBatchStream,
    first_part: usize,
    /// By batch that is not read yet.
    starts: VecDeque<Vec<usize>>,
    memory: Arc<Joint>,
    most: usize,
}

impl ReadBack {
    pub(super) fn is_at_end(&self) -> bool {
        self.starts.is_empty()
    }

    /// The next rows, as many as may be read back at once.
    pub(super) async fn next(&mut self) -> Result<Vec<(Dealt, Held)>> {
        let (mut read, mut bytes) = (Vec::new(), 0);
        while bytes < self.most
            && let Some(starts) = self.starts.pop_front()
        {
            let Some(rows) = self.rows.next().await.transpose()? else {
                return internal_err!("expected more rows in a file, found its end");
            };
            let dealt = Dealt { rows, first_part: self.first_part, starts };
            let held = self.memory.hold(dealt.bytes());
            bytes += held.bytes();
            read.push((dealt, held));
        }
        Ok(read)
    }
}
