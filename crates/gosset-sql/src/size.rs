//! How many bytes the state of a group takes, about: for EXPLAIN, and for whoever divides work by memory.

use std::fmt;

use gosset_stats::exact::Products;
use gosset_stats::summary::Resampling;

/// The most distinct values or bins of a histogram that are reckoned with.
const BINS: usize = 4096;

/// The most strata that are reckoned with.
const STRATA: usize = 256;

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

/// Of `stratified_moments` of so many columns and rows.
pub fn stratified_moments(columns: usize, rows: usize) -> usize {
    STRATA.min(rows) * moments(columns)
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

#[cfg(test)]
mod tests {
    use gosset_stats::summary::{
        BucketTable, Columns, HistogramOptions, HistogramTable, MomentsTable, ReplicatesTable,
        Rows, Strata, StratifiedTable, Table,
    };
    use gosset_stats::units;

    use super::*;

    /// Enough that rows of all slots do not wait to be weighted.
    const UNITS: usize = 10_000;

    /// The bytes of a further slot of a table, of many units with values of all sizes.
    fn held<T: Table>(table: impl Fn() -> T, columns: usize) -> usize {
        let [few, many] = [8, 24].map(|slots| size_of_slots(table(), slots, columns));
        (many - few) / 16
    }

    fn size_of_slots(mut table: impl Table, slots: usize, columns: usize) -> usize {
        table.resize(slots);
        let rows = slots * UNITS;
        let slots: Vec<u32> = (0..rows).map(|i| (i % slots) as u32).collect();
        let units: Vec<u128> = (0..rows as i128).map(units::integer).collect();
        let values: Vec<f64> =
            (0..rows).map(|i| (i as f64 * 0.37).sin().exp() * (1 + i % 97) as f64).collect();
        let missing = vec![None; columns];
        let labels: Vec<Option<String>> = (0..STRATA).map(|i| Some(i.to_string())).collect();
        for start in (0..rows).step_by(8192) {
            let range = start..rows.min(start + 8192);
            let columns = vec![&values[range.clone()]; columns];
            let of: Vec<u32> = range.clone().map(|i| (i / 24 % STRATA) as u32).collect();
            table.update(Rows {
                slots: &slots[range.clone()],
                columns: &columns,
                missing: &missing,
                units: &units[range],
                strata: Strata { labels: &labels, of: &of },
            });
        }
        table.size()
    }

    fn columns(n: usize) -> Columns {
        Columns::new((0..n).map(|i| format!("c{i}")), 1).expect("columns")
    }

    /// Room grows by doubling, and what is kept of a sum depends on its values.
    #[track_caller]
    fn close(reckoned: usize, held: usize) {
        let ratio = reckoned as f64 / held as f64;
        assert!((0.33..3.0).contains(&ratio), "reckoned {reckoned}, held {held}");
    }

    #[test]
    fn states_are_about_as_large_as_they_are_reckoned() {
        let resampling = Resampling { replicates: 1000, ..Resampling::default() };
        let with_buckets = Resampling { buckets: Some(4096), ..resampling };
        for n in [1, 2, 3] {
            close(moments(n), held(|| MomentsTable::new(columns(n)), n));
            let table = || StratifiedTable::new(columns(n));
            close(stratified_moments(n, UNITS), held(table, n));
            let table = || BucketTable::new(columns(n), 4096).expect("buckets");
            close(buckets(4096, n, UNITS), held(table, n));
            for resampling in [resampling, with_buckets] {
                let table = || ReplicatesTable::new(columns(n), resampling).expect("replicates");
                close(replicates(&resampling, n, UNITS), held(table, n));
            }
        }
        for resampling in [None, Some(resampling)] {
            let options = HistogramOptions { resampling, ..HistogramOptions::default() };
            let table = || HistogramTable::new(columns(1), &options).expect("a histogram");
            close(histogram(resampling.as_ref(), UNITS), held(table, 1));
        }
    }

    #[test]
    fn bytes_are_shown_in_units_of_people() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(1), "1 KiB");
        assert_eq!(shown(3 << 19), "1.5 MiB");
        assert_eq!(shown(5 << 29), "2.5 GiB");
    }
}
