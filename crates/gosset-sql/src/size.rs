//! How many bytes the state of a group takes, about: for EXPLAIN, and for whoever divides work by memory.

use std::fmt;

use gosset_stats::exact::Products;
use gosset_stats::summary::Resampling;

/// The most distinct values or bins of a histogram that are reckoned with.
const BINS: usize = 4096;

/// A number of bytes, as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..0x10_0000 => write!(f, "{} KiB", self.0.div_ceil(1 << 10)),
            0x10_0000..0x4000_0000 => write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20)),
            _ => write!(f, "{:.1} GiB", self.0 as f64 / f64::from(1 << 30)),
        }
    }
}

/// Of `moments` of so many columns.
pub fn moments(columns: usize) -> usize {
    // Four words of a sum of doubles or of their products, and a count.
    8 * (4 * Products::All.sums(columns) + 1)
}

/// Of `buckets` of so many columns, with no more of them than units.
pub fn buckets(buckets: u32, columns: usize, units: usize) -> usize {
    (buckets as usize).min(units) * 24 * columns.max(1)
}

/// Of `replicates` of so many columns.
pub fn replicates(resampling: &Resampling, columns: usize, units: usize) -> usize {
    // Four words of a sum of doubles, one of a number of rows; a summary may have any number of columns.
    let sums = 8 * resampling.replicates as usize * (4 * columns.max(1) + 1);
    sums + resampling.buckets.map_or(0, |k| buckets(k, columns, units))
}

/// Of a bin of `histogram` with the weights of units.
pub fn weighted_bin(replicates: u32) -> usize {
    6 * replicates as usize
}

/// Of `histogram` of so many rows.
pub fn histogram(resampling: Option<&Resampling>, rows: usize) -> usize {
    // A bin with its place in the index of bins.
    let bin = 72 + resampling.map_or(0, |r| weighted_bin(r.replicates));
    BINS.min(rows) * bin
}
