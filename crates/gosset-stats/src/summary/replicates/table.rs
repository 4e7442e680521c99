//! Replicates of many slots, fed a batch at a time.

use super::pending::{Pending, ROWS_AT_ONCE};
use super::{Content, Replicates, Resampling, check_same};
use crate::Result;
use crate::summary::{BucketTable, Columns, Rows, Table};

/// The replicates of many slots.
#[derive(Debug)]
pub struct ReplicatesTable {
    columns: Columns,
    resampling: Resampling,
    pub(super) contents: Vec<Content>,
    dropped: Vec<u64>,
    pub(super) pending: Pending,
    buckets: Option<BucketTable>,
    /// Bytes on the heap of all contents.
    pub(super) held: usize,
}

impl ReplicatesTable {
    /// A table without slots.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) as [`Resampling::check`].
    pub fn new(columns: Columns, resampling: Resampling) -> Result<Self> {
        resampling.check()?;
        let pending = Pending::new(columns.len());
        let buckets =
            resampling.buckets.map(|k| BucketTable::new(columns.clone(), k)).transpose()?;
        Ok(Self {
            columns,
            resampling,
            contents: Vec::new(),
            dropped: Vec::new(),
            pending,
            buckets,
            held: 0,
        })
    }

    /// Counts a row that was left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.dropped[slot] += rows;
    }

    fn merge_content(&mut self, slot: usize, other: &Content) {
        let content = &mut self.contents[slot];
        let before = content.heap_size();
        content.merge(other, self.columns.len(), &self.resampling);
        self.held = self.held - before + content.heap_size();
    }

    /// Weights all that waits.
    fn flush(&mut self) {
        for (slot, content) in self.contents.iter_mut().enumerate() {
            if self.pending.waits_for(slot) {
                let before = content.heap_size();
                self.pending.add_to(slot, content, &self.resampling);
                self.held = self.held - before + content.heap_size();
            }
        }
        self.pending.clear();
    }
}

impl Table for ReplicatesTable {
    type Summary = Replicates;

    fn resize(&mut self, slots: usize) {
        self.contents.resize_with(slots, Content::default);
        self.dropped.resize(slots, 0);
        self.pending.resize(slots);
        if let Some(buckets) = &mut self.buckets {
            buckets.resize(slots);
        }
    }

    fn update(&mut self, rows: Rows<'_>) {
        if let Some(buckets) = &mut self.buckets {
            buckets.update(rows);
        }
        if self.pending.start_batch() {
            self.flush();
        }
        for start in (0..rows.slots.len()).step_by(ROWS_AT_ONCE) {
            let range = start..rows.slots.len().min(start + ROWS_AT_ONCE);
            let columns: Vec<&[f64]> = rows.columns.iter().map(|c| &c[range.clone()]).collect();
            self.pending.add(&rows.slots[range.clone()], &rows.units[range], &columns);
            if self.pending.is_full() {
                self.flush();
            }
        }
    }

    fn merge(&mut self, slot: usize, summary: &Replicates) -> Result<()> {
        check_same((&self.columns, &self.resampling), (&summary.columns, &summary.resampling))?;
        self.dropped[slot] += summary.dropped;
        if let (Some(mine), Some(theirs)) = (&mut self.buckets, &summary.buckets) {
            mine.merge(slot, theirs)?;
        }
        let Content::Units(units) = &summary.content else {
            self.merge_content(slot, &summary.content);
            return Ok(());
        };
        // Many summaries of a unit or a few are weighted together.
        for (&unit, sums) in units {
            self.pending.add_sums(slot as u32, unit, sums);
            if self.pending.is_full() {
                self.flush();
            }
        }
        Ok(())
    }

    fn get(&self, slot: usize) -> Replicates {
        let mut content = self.contents[slot].clone();
        self.pending.add_to(slot, &mut content, &self.resampling);
        Replicates {
            columns: self.columns.clone(),
            resampling: self.resampling,
            dropped: self.dropped[slot],
            content,
            buckets: self.buckets.as_ref().map(|buckets| buckets.get(slot)),
        }
    }

    fn drop_first(&mut self, n: usize) {
        self.flush();
        let dropped: usize = self.contents.drain(..n).map(|content| content.heap_size()).sum();
        self.held -= dropped;
        self.dropped.drain(..n);
        self.pending.resize(self.contents.len());
        if let Some(buckets) = &mut self.buckets {
            buckets.drop_first(n);
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.contents.capacity() * size_of::<Content>()
            + self.dropped.capacity() * size_of::<u64>()
            + self.held
            + self.pending.size()
            + self.buckets.as_ref().map_or(0, BucketTable::size)
    }
}
