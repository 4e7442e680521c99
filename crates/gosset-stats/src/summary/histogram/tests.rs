use proptest::prelude::*;

use super::*;
use crate::summary::Law;
use crate::units;
use crate::weights::Weights;

fn columns() -> Columns {
    Columns::new(["y".to_owned()], 1).expect("a valid column")
}

fn of_units(law: Law) -> HistogramOptions {
    let resampling = Resampling { law, replicates: 50, seed: 9, ..Resampling::default() };
    HistogramOptions { resampling: Some(resampling), ..HistogramOptions::default() }
}

fn summary(ids: &[i128], y: &[f64], options: &HistogramOptions, batch: usize) -> Histogram {
    let mut table = HistogramTable::new(columns(), options).expect("valid options");
    table.resize(1);
    for start in (0..y.len()).step_by(batch) {
        let range = start..y.len().min(start + batch);
        let hashes: Vec<u128> = ids[range.clone()].iter().map(|&u| units::integer(u)).collect();
        table.update(Rows {
            slots: &vec![0; hashes.len()],
            columns: &[&y[range]],
            missing: &[None],
            units: &hashes,
            ..Rows::default()
        });
    }
    table.get(0)
}

#[test]
fn weights_of_bins_are_those_of_their_rows() {
    for (n, distinct) in [(40, 7), (64, 64), (65, 65), (3000, 10), (9000, 1), (9000, 5000)] {
        let ids: Vec<i128> = (0..n as i128).map(|i| i * 7 % 900).collect();
        let y: Vec<f64> =
            (0..n).map(|i| ((i * 31 % distinct) as f64 * 1.37).exp2() - 9.0).collect();
        let y: Vec<f64> = if distinct > 100 {
            (0..n).map(|i| (i * 31 % distinct) as f64 + 0.5).collect()
        } else {
            y
        };
        for law in Law::ALL {
            let options = of_units(law);
            let found = summary(&ids, &y, &options, 997);
            assert_eq!(found.rows(), n as u64);
            let weights = Weights::new(law, 9);
            let mut rows = 0;
            found
                .for_each_weighted(|bin, sums| {
                    let mut expected = [0u32; 50];
                    let mut row = [0; 50];
                    for (&unit, &x) in ids.iter().zip(&y) {
                        if (bin.min..=bin.max).contains(&x) {
                            weights.fill(units::integer(unit), &mut row);
                            expected.iter_mut().zip(row).for_each(|(e, w)| *e += u32::from(w));
                            rows += 1;
                        }
                    }
                    assert_eq!(sums, expected, "{law:?}, {n} rows, bin {bin:?}");
                })
                .expect("units");
            assert_eq!(rows, n);
            assert_eq!(Histogram::decode(&found.encode()).expect("own bytes"), found);
            assert_eq!(found.encode(), summary(&ids, &y, &options, n).encode());
            if law != Law::Poisson && n > 5000 {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any split of the rows, merged in any order, gives the same bytes; and no bin is wider than it should.
    #[test]
    fn splits_merge_to_the_whole(
        seed in any::<u64>(),
        n in 1usize..6000,
        spread in 0usize..4,
        parts in 1usize..6,
        weighted in any::<bool>(),
    ) {
        let hash = |i: usize| (units::integer(i as i128 + i128::from(seed)) >> 64) as u64;
        let y: Vec<f64> = (0..n)
            .map(|i| match spread {
                0 => (hash(i) % 300) as f64,
                1 => (hash(i) % 100_000) as f64 / 100.0 - 300.0,
                2 => f64::from_bits(hash(i)),
                _ => (hash(i) % 5000) as f64,
            })
            .collect();
        let ids: Vec<i128> = (0..n).map(|i| (hash(i + n) % 500) as i128).collect();
        let options = if weighted { of_units(Law::Poisson) } else { HistogramOptions::default() };
        let whole = summary(&ids, &y, &options, 1000);
        let part = |p: usize| {
            let rows: Vec<usize> = (0..n).filter(|i| hash(*i) as usize % parts == p).collect();
            let ids: Vec<i128> = rows.iter().map(|&r| ids[r]).collect();
            let y: Vec<f64> = rows.iter().map(|&r| y[r]).collect();
            summary(&ids, &y, &options, 77)
        };
        let mut merged = part(parts - 1);
        for p in 0..parts - 1 {
            merged.merge(&part(p)).expect("the same options");
        }
        prop_assert_eq!(merged.encode(), whole.encode());
        let read = Histogram::decode(&whole.encode()).expect("own bytes");
        prop_assert_eq!(read.encode(), whole.encode());
        for bin in whole.bins() {
            let width = bin.max - bin.min;
            // In half of the range of a double at the very least: subnormals share one bin.
            let allowed = 2.0 * whole.relative_error() * bin.min.abs().max(bin.max.abs());
            prop_assert!(width <= allowed.max(f64::MIN_POSITIVE), "{:?}", bin);
        }
    }
}

#[test]
fn integers_below_a_thousand_stay_exact() {
    let y: Vec<f64> = (0..5000).map(f64::from).collect();
    let ids: Vec<i128> = (0..5000).collect();
    let found = summary(&ids, &y, &HistogramOptions::default(), 5000);
    assert!(found.relative_error() > 0.0);
    let bins = found.bins();
    for (i, bin) in bins.iter().take(1000).enumerate() {
        assert_eq!((bin.min, bin.max, bin.rows), (i as f64, i as f64, 1));
    }
    assert_eq!(bins.iter().map(|bin| bin.rows).sum::<u64>(), 5000);
}
