//! Rows beyond what there is memory for: in files until all rows are read, each file with those of some parts.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow_select::dictionary::garbage_collect_any_dictionary;
use datafusion::common::internal_err;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::spill::spill_pool::{SpillPoolSink, spsc_channel};
use futures::StreamExt;

use super::dealt::{Dealt, Parts};
use super::memory::{Held, Joint};

/// Files of all rows, but one for each partition if there are more of them: each takes two descriptors.
const FILES: usize = 64;
/// What a partition reads back at once, at most: of a larger file, units are met several times.
const BYTES_READ_BACK: usize = 128 << 20;

/// All files.
pub(super) struct Spill {
    /// How many parts a file has: all are of one partition.
    parts_of_file: usize,
    files: Vec<Mutex<File>>,
    memory: Arc<Joint>,
    /// What one partition reads back at once.
    most: usize,
}

struct File {
    /// None if it takes no more rows.
    to: Option<SpillPoolSink>,
    from: Option<SendableRecordBatchStream>,
    /// By batch, where its parts start.
    starts: VecDeque<Vec<usize>>,
}

impl Spill {
    pub(super) fn new(manager: &Arc<SpillManager>, parts: Parts, memory: &Arc<Joint>) -> Self {
        let of_partition = (FILES / parts.partitions).max(1).ilog2();
        let of_partition = (1 << of_partition).min(parts.of_each);
        let file = |_| {
            let (to, from) = spsc_channel(usize::MAX, Arc::clone(manager));
            Mutex::new(File { to: Some(to), from: Some(from), starts: VecDeque::new() })
        };
        Self {
            parts_of_file: parts.of_each / of_partition,
            files: (0..parts.partitions * of_partition).map(file).collect(),
            memory: Arc::clone(memory),
            most: memory.fraction(8 * parts.partitions, BYTES_READ_BACK),
        }
    }

    /// Adds rows; gives back those of the first file that takes none and of those after it, as none takes more from then on.
    pub(super) fn add(&self, dealt: Dealt) -> Option<Dealt> {
        for (number, file) in self.files.iter().enumerate() {
            let first = number * self.parts_of_file;
            let Some((rows, starts)) = dealt.parts(first..first + self.parts_of_file) else {
                continue;
            };
            let added = file.lock().unwrap_or_else(PoisonError::into_inner).add(rows, starts);
            if let Err(error) = added {
                self.close();
                tracing::debug!("rows that cannot be spilled stay in memory: {error}");
                return dealt.starting_at(first);
            }
        }
        None
    }

    /// Takes no more rows.
    fn close(&self) {
        for file in &self.files {
            file.lock().unwrap_or_else(PoisonError::into_inner).to = None;
        }
    }

    /// The first of some parts, as many as are in one file, and what is in it. A file takes no more rows then, and is read once.
    pub(super) fn open_first(&self, parts: &Range<usize>) -> (Range<usize>, Option<ReadBack>) {
        let number = parts.start / self.parts_of_file;
        let first_part = number * self.parts_of_file;
        let first = parts.start..parts.end.min(first_part + self.parts_of_file);
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

impl File {
    fn add(&mut self, rows: RecordBatch, starts: Vec<usize>) -> Result<()> {
        let Some(to) = &self.to else {
            return internal_err!("a file takes no more rows");
        };
        let pushed = without_unused_values(rows).and_then(|rows| to.push_batch(&rows));
        match pushed {
            Ok(()) => self.starts.push_back(starts),
            // Rows after it would never be read: the reader waits for the end of what could not be written.
            Err(_) => self.to = None,
        }
        pushed
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
        let mut read = Vec::new();
        // Several are in what is read of a file at once.
        let mut bytes = RecordBatchMemoryCounter::new();
        while let Some(starts) = self.starts.pop_front() {
            let Some(rows) = self.rows.next().await.transpose()? else {
                return internal_err!("expected more rows in a file, found its end");
            };
            let held = self.memory.hold(bytes.count_batch(&rows));
            read.push((Dealt { rows, first_part: self.first_part, starts }, held));
            if bytes.memory_usage() >= self.most {
                break;
            }
        }
        Ok(read)
    }
}
