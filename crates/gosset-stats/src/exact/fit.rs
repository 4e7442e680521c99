//! When to choose another format, and from what.

use super::format::Extent;
use super::sum::ExactSum;

/// The extents of how many values or sums are looked at to choose a format.
const SAMPLE: usize = 256;
const MERGED_SAMPLE: usize = 32;
const MERGED_EVERY: usize = 16;

/// How well the format suits the rows.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    /// Whether a format was chosen at all.
    pub(super) chosen: bool,
    /// Rows (and merged sums) since then, and those of them that did not fit.
    pub(super) seen: u64,
    pub(super) missed: u64,
    /// Misfits that are put up with before another choice. It grows with every choice: some data have no good format.
    patience: u64,
    /// The extents of the sums merged last, by column.
    pub(super) merged: Vec<Vec<Extent>>,
    merges: usize,
}

impl Fit {
    pub(super) fn new() -> Self {
        Self { chosen: false, seen: 0, missed: 0, patience: 64, merged: Vec::new(), merges: 0 }
    }

    /// Whether it is time for another choice: one row in 64 that takes the slow way doubles the cost of all.
    pub(super) fn is_bad(&self) -> bool {
        self.missed >= self.patience && self.missed >= self.seen / 64
    }

    pub(super) fn chose(&mut self) {
        self.patience = self.patience.saturating_mul(if self.chosen { 4 } else { 1 });
        (self.chosen, self.seen, self.missed) = (true, 0, 0);
    }

    /// Looks at sums that are about to be merged: at the first ones, then at some.
    pub(super) fn merging(&mut self, n: u64, sums: &[ExactSum], columns: usize) {
        self.seen += 1;
        self.merges = self.merges.wrapping_add(1);
        if self.merges > MERGED_SAMPLE && !self.merges.is_multiple_of(MERGED_EVERY) {
            return;
        }
        self.merged.resize_with(columns, Vec::new);
        let at = self.merges / MERGED_EVERY % MERGED_SAMPLE;
        for (extents, sum) in self.merged.iter_mut().zip(sums) {
            match Extent::of_sum(sum, n) {
                Some(extent) if extents.len() < MERGED_SAMPLE => extents.push(extent),
                Some(extent) => extents[at] = extent,
                None => (),
            }
        }
    }

    pub(super) fn heap_size(&self) -> usize {
        let inner: usize = self.merged.iter().map(Vec::capacity).sum();
        self.merged.capacity() * size_of::<Vec<Extent>>() + inner * size_of::<Extent>()
    }
}

/// The extents of a sample of every column.
pub(super) fn sample(columns: &[&[f64]]) -> Vec<Vec<Extent>> {
    let of = |column: &&[f64]| {
        let step = column.len().div_ceil(SAMPLE).max(1);
        column.iter().step_by(step).filter_map(|&x| Extent::of(x)).collect()
    };
    columns.iter().map(of).collect()
}
