//! The resampling kernel: weighted sums of clusters for every replicate.
//!
//! A sum adds its clusters in their order, with one multiplication and one addition each: replicates side by side fill
//! the vector registers, and their number changes no bit of any of them.

use super::kept::{Kept, Shared};
use crate::summary::Buckets;
use crate::units;
use crate::weights::PoissonWeights;
use crate::wide::wide;

/// Clusters whose weights are added in one pass over the replicates.
const LANES: usize = 4;

/// The most bytes of a matrix of weights that is kept.
const MAX_MATRIX: usize = 16 << 20;

/// `Σ w_kb e_k` and `Σ w_kb d_k` for the replicates `b`.
#[derive(Debug)]
pub(super) struct WeightedSums {
    residuals: Vec<f64>,
    sizes: Vec<f64>,
}

/// The weighted sums of the clusters of an arm, whose residuals and sizes are in the order of its totals.
pub(super) fn weighted_sums(
    arm: &Buckets,
    (residuals, sizes): (&[f64], &[f64]),
    replicates: usize,
    seed: u64,
) -> WeightedSums {
    let mut sums = WeightedSums { residuals: vec![0.0; replicates], sizes: vec![0.0; replicates] };
    let weights = PoissonWeights::new(seed);
    let matrix = arm.bucket_indices().and_then(|indices| {
        let matrix = bucket_weights(seed, arm.buckets(), replicates)?;
        Some((indices, matrix))
    });
    match matrix {
        Some((indices, matrix)) => {
            let row = |k: usize| {
                let start = indices[k] as usize * replicates;
                &matrix[start..start + replicates]
            };
            for first in (0..residuals.len()).step_by(LANES) {
                let last = (first + LANES).min(residuals.len());
                let rows: Vec<&[u8]> = (first..last).map(row).collect();
                sums.add(&rows, &residuals[first..last], &sizes[first..last]);
            }
        }
        None => {
            let keys: Vec<u128> = arm.totals().map(|(key, _)| key).collect();
            let mut drawn = vec![0u8; LANES * replicates];
            for (i, keys) in keys.chunks(LANES).enumerate() {
                let rows = drawn.chunks_exact_mut(replicates);
                rows.zip(keys).for_each(|(row, &key)| weights.fill(key, row));
                let rows: Vec<&[u8]> = drawn.chunks_exact(replicates).take(keys.len()).collect();
                let range = i * LANES..i * LANES + keys.len();
                sums.add(&rows, &residuals[range.clone()], &sizes[range]);
            }
        }
    }
    sums
}

impl WeightedSums {
    /// `Σ w_kb e_k / Σ w_kb d_k` of every replicate; `None` over 0.
    pub(super) fn ratios(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        self.residuals.iter().zip(&self.sizes).map(|(e, &d)| (d != 0.0).then(|| e / d))
    }

    /// Both sums of every replicate.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.residuals.iter().copied().zip(self.sizes.iter().copied())
    }

    /// Adds clusters with their rows of weights, in their order.
    fn add(&mut self, rows: &[&[u8]], residuals: &[f64], sizes: &[f64]) {
        if let (Ok(rows), Ok(residuals), Ok(sizes)) =
            (rows.try_into(), residuals.try_into(), sizes.try_into())
        {
            add_four(&mut self.residuals, rows, residuals);
            return add_four(&mut self.sizes, rows, sizes);
        }
        for ((row, e_k), d_k) in rows.iter().zip(residuals).zip(sizes) {
            for ((e, d), &w) in self.residuals.iter_mut().zip(&mut self.sizes).zip(*row) {
                *e += f64::from(w) * e_k;
                *d += f64::from(w) * d_k;
            }
        }
    }
}

wide! {
    /// Adds four clusters to the sums of the replicates, one after the other.
    fn add_four(sums: &mut [f64], rows: [&[u8]; LANES], values: [f64; LANES]) {
        let ([w0, w1, w2, w3], [x0, x1, x2, x3]) = (rows, values);
        let weights = w0.iter().zip(w1).zip(w2).zip(w3);
        for (sum, (((&w0, &w1), &w2), &w3)) in sums.iter_mut().zip(weights) {
            *sum = *sum
                + f64::from(w0) * x0
                + f64::from(w1) * x1
                + f64::from(w2) * x2
                + f64::from(w3) * x3;
        }
    }
}

/// The weights of all buckets, a row of replicates for each, by seed, buckets and replicates.
static KEPT: Kept<(u64, u32, usize), Vec<u8>> = Kept::new(4);

/// The weights of all buckets; `None` where that is too much to keep.
fn bucket_weights(seed: u64, buckets: u32, replicates: usize) -> Option<Shared<Vec<u8>>> {
    if buckets as usize * replicates > MAX_MATRIX {
        return None;
    }
    Some(KEPT.get((seed, buckets, replicates), || {
        let weights = PoissonWeights::new(seed);
        let mut bytes = vec![0; buckets as usize * replicates];
        for (row, k) in bytes.chunks_exact_mut(replicates).zip(0..buckets) {
            weights.fill(units::bucket(k), row);
        }
        bytes
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::moments::Columns;
    use crate::summary::{BucketTable, Rows, Table};

    fn arm(units: i128, buckets: u32) -> Buckets {
        let columns = Columns::new(["y".to_owned()], 1).expect("a valid column");
        let mut table = BucketTable::new(columns, buckets).expect("a valid number of buckets");
        table.resize(1);
        let hashes: Vec<u128> = (0..units).map(units::integer).collect();
        let values: Vec<f64> = (0..units).map(|i| i as f64).collect();
        let slots = vec![0; hashes.len()];
        let rows = Rows {
            slots: &slots,
            columns: &[&values],
            missing: &[None],
            units: &hashes,
            ..Rows::default()
        };
        table.update(rows);
        table.get(0)
    }

    #[test]
    fn sums_are_those_of_the_weights_in_the_order_of_the_clusters() {
        // Units, buckets whose weights are kept, and buckets with too many weights to keep.
        for (units, buckets, replicates) in [(13, 64, 40), (500, 64, 37), (2000, 4096, 5000)] {
            let arm = arm(units, buckets);
            let residuals: Vec<f64> = (0..arm.len()).map(|k| 0.1 * k as f64 - 1.0).collect();
            let sizes: Vec<f64> = (0..arm.len()).map(|k| 1.0 + (k % 3) as f64).collect();
            let found = weighted_sums(&arm, (&residuals, &sizes), replicates, 5);
            let mut expected = (vec![0.0; replicates], vec![0.0; replicates]);
            let mut row = vec![0; replicates];
            for ((key, _), (e, d)) in arm.totals().zip(residuals.iter().zip(&sizes)) {
                PoissonWeights::new(5).fill(key, &mut row);
                for (b, &w) in row.iter().enumerate() {
                    expected.0[b] += f64::from(w) * e;
                    expected.1[b] += f64::from(w) * d;
                }
            }
            assert_eq!((found.residuals, found.sizes), expected);
        }
    }

    #[test]
    fn matrices_that_are_kept_are_those_of_their_seed() {
        for seed in 100..120 {
            let matrix = bucket_weights(seed, 64, 10).expect("a small matrix");
            let mut row = [0; 10];
            PoissonWeights::new(seed).fill(units::bucket(3), &mut row);
            assert_eq!(matrix[30..40], row);
        }
        assert!(bucket_weights(1, 65536, 1000).is_none());
    }
}
