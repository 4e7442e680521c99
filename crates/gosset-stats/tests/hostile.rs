//! Bytes that are no summary are an error, never a panic, and take no more memory than they have bytes for; bytes that
//! happen to be another summary can be used as one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use gosset_stats::compare::{
    BootstrapOptions, Caps, ClusteredStdError, EmptyCells, Interval, LinOptions, LinVcov,
    PostStratifyOptions, ProportionMethod, Variance, bootstrap, bootstrap_replicates,
    clustered_ttest, cuped, lin, post_stratify, proportion_test, ratio_test, srm, ttest,
    winsorized,
};
use gosset_stats::exact::ExactSum;
use gosset_stats::linear::{LinearOptions, Vcov, conditional_effects, contrast, ols};
use gosset_stats::summary::{
    AnySummary, BinnedTable, BucketTable, Buckets, Columns, Counts, Gram, GramColumns, GramRows,
    GramTable, Moments, MomentsTable, Regressor, RegressorKind, Replicates, ReplicatesTable,
    Resampling, Rows, Strata, StratifiedTable, Table, Totals,
};
use gosset_stats::{Inference, Summary, units};

/// A fixed stream of 64-bit numbers (SplitMix64).
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn table<T: Table>(mut table: T, columns: usize, rows: usize) -> T::Summary {
    table.resize(1);
    let values: Vec<Vec<f64>> = (0..columns)
        .map(|c| (0..rows).map(|r| ((r * (7 + c) + c) % 11) as f64 - 3.25 * c as f64).collect())
        .collect();
    let masks: Vec<Vec<bool>> =
        (0..columns).map(|c| (0..rows).map(|r| c == 2 && r % 5 == 0).collect()).collect();
    let columns: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
    let missing: Vec<Option<&[bool]>> =
        masks.iter().map(|m| m.contains(&true).then_some(m.as_slice())).collect();
    let units: Vec<u128> =
        (0..rows).map(|r| units::integer(r as i128 % (rows as i128 * 2 / 3))).collect();
    let labels = [Some("b".into()), None, Some("a".into())];
    let of: Vec<u32> = (0..rows).map(|r| r as u32 % 3).collect();
    table.update(Rows {
        slots: &vec![0; rows],
        columns: &columns,
        missing: &missing,
        units: &units,
        strata: Strata { labels: &labels, of: &of },
    });
    table.get(0)
}

fn columns(names: &[&str], outcomes: usize) -> Columns {
    Columns::new(names.iter().map(ToString::to_string), outcomes).unwrap()
}

fn moments(names: &[&str], outcomes: usize) -> Moments {
    table(MomentsTable::new(columns(names, outcomes)), names.len(), 30)
}

fn buckets(names: &[&str], outcomes: usize, buckets: u32) -> Buckets {
    table(BucketTable::new(columns(names, outcomes), buckets).unwrap(), names.len(), 60)
}

fn replicates(names: &[&str], outcomes: usize, rows: usize) -> Replicates {
    let resampling = Resampling { replicates: 3, seed: 300, ..Resampling::default() };
    let table = ReplicatesTable::new(columns(names, outcomes), resampling).unwrap();
    self::table(table, names.len(), rows)
}

fn gram(weighted: bool, clusters: u8, max_rows: u32) -> Gram {
    let regressors = [("x", RegressorKind::Number), ("f", RegressorKind::Factor)]
        .map(|(name, kind)| Regressor { name: name.to_owned(), kind });
    let columns = GramColumns::new(["y".to_owned()], regressors, weighted, clusters).unwrap();
    let mut table = GramTable::new(columns, max_rows).unwrap();
    table.resize(1);
    table.add_dropped(0, 2);
    let of = |f: fn(usize) -> f64| (0..12).map(f).collect::<Vec<f64>>();
    let (x, y) = (of(|r| (r % 5) as f64 / 3.0), of(|r| (r * r % 7) as f64));
    let weights = of(|r| 1.0 + (r % 2) as f64);
    let f: Vec<u32> = (0..12).map(|r| table.label(0, ["a", "b", "long label"][r % 3])).collect();
    let hashes: Vec<u128> = (0..12).map(|r| units::integer(r % 4)).collect();
    let hashes = [&hashes[..], &hashes[..]];
    let added = table.update(GramRows {
        slots: &[0; 12],
        outcomes: &[&y],
        numbers: &[&x],
        factors: &[&f],
        weights: weighted.then_some(&weights[..]),
        clusters: &hashes[..clusters.into()],
    });
    added.unwrap();
    table.get(0)
}

/// Summaries of every kind and form.
fn summaries() -> Vec<Vec<u8>> {
    let mut counts = Counts::default();
    counts.add("a", 3).unwrap();
    counts.add("another arm", 300).unwrap();
    counts.add_dropped(7);
    let mut totals = Totals { n: 3, sum: ExactSum::new() };
    [1e300, 0.1, -1e-300].iter().for_each(|&x| totals.sum.add(x));
    vec![
        moments(&["y"], 1).encode(),
        moments(&["num", "den"], 2).encode(),
        moments(&["y", "x1", "x2"], 1).encode(),
        table(StratifiedTable::new(columns(&["y"], 1)), 1, 30).encode(),
        table(StratifiedTable::new(columns(&["y", "x1", "x2"], 1)), 3, 30).encode(),
        table(BinnedTable::new(columns(&["y"], 1), 0.1).unwrap(), 1, 30).encode(),
        buckets(&["y"], 1, 64).encode(),
        buckets(&["num", "den"], 2, 64).encode(),
        buckets(&["y"], 1, 4096).encode(),
        counts.encode(),
        replicates(&["y"], 1, 9).encode(),
        replicates(&["num", "den"], 2, 100).encode(),
        totals.encode(),
        gram(false, 0, 100).encode(),
        gram(true, 0, 3).encode(),
        gram(true, 1, 100).encode(),
        gram(false, 1, 3).encode(),
        gram(false, 2, 100).encode(),
        Moments::new(columns(&["y"], 1)).encode(),
        Totals::default().encode(),
    ]
}

/// All that is done with summaries. What it gives does not matter: values of others are as good as ours.
fn use_all(summary: &AnySummary) {
    assert_eq!(AnySummary::decode(&summary.encode()).as_ref(), Ok(summary));
    let mut doubled = summary.clone();
    doubled.merge(summary).unwrap();
    let _ = doubled.heap_size();
    let inference = Inference::default();
    match (&doubled, summary) {
        (AnySummary::Moments(t), AnySummary::Moments(c)) => {
            let _ = ttest(t, c, &inference, Variance::Equal);
            let _ = ratio_test(t, c, &inference);
            let _ = cuped(t, c, &inference);
            let _ = lin(
                t,
                c,
                &inference,
                &LinOptions { vcov: LinVcov::Classical, superpopulation: true },
            );
            for method in [ProportionMethod::Score, ProportionMethod::Newcombe] {
                let _ = proportion_test(t, c, &inference, method);
            }
            for i in 0..c.width() {
                let _ = (c.name(i), c.mean(i), c.covariance(0, i));
            }
        }
        (AnySummary::StratifiedMoments(t), AnySummary::StratifiedMoments(c)) => {
            for empty in [EmptyCells::Collapse, EmptyCells::Drop, EmptyCells::Error] {
                let options = PostStratifyOptions { empty, superpopulation: true };
                let _ = post_stratify(t, c, &inference, &options);
            }
            let _ = (t.n(), t.dropped());
        }
        (AnySummary::BinnedMoments(t), AnySummary::BinnedMoments(c)) => {
            let _ = winsorized(t, c, &inference, &Caps { lower: 0.1, upper: 0.9 });
            let _ = (t.rows(), t.dropped(), t.relative_error());
        }
        (AnySummary::Buckets(t), AnySummary::Buckets(c)) => {
            let _ = clustered_ttest(t, c, &inference, ClusteredStdError::Jackknife);
            let options = BootstrapOptions { replicates: 10, ..BootstrapOptions::default() };
            let _ = bootstrap(t, c, &inference, &options);
            let _ = (c.sum(), c.rows(), c.dropped(), c.units());
        }
        (AnySummary::Replicates(t), AnySummary::Replicates(c)) => {
            let _ = bootstrap_replicates(t, c, &inference, Interval::Basic);
            let _ = (t.sum(), t.rows(), t.dropped(), t.units(), t.totals());
        }
        (AnySummary::Gram(t), _) => {
            for vcov in Vcov::ALL {
                let interactions = vec!["f:x".to_owned()];
                let vcov = Some(vcov);
                let options = LinearOptions { vcov, interactions, ..LinearOptions::default() };
                let _ = ols(t, &options);
                let _ = contrast(t, &options, &[("intercept".to_owned(), 1.0)].into());
                let _ = conditional_effects(t, &options, "x", Some("f"));
            }
            let _ = (t.n(), t.dropped(), t.not_finite(), t.len(), t.distinct_rows());
        }
        (AnySummary::Counts(t), _) => drop(srm(t, None)),
        (AnySummary::Totals(t), _) => drop(t.sum()),
        _ => {}
    }
}

fn survives(bytes: &[u8]) -> bool {
    let read = catch_unwind(AssertUnwindSafe(|| {
        let read = AnySummary::decode(bytes);
        read.iter().for_each(use_all);
        read.is_ok()
    }));
    read.unwrap_or_else(|_| panic!("bytes that are no summary panic: {bytes:?}"))
}

#[test]
fn the_beginning_of_a_summary_is_an_error() {
    for bytes in summaries() {
        assert!(survives(&bytes));
        for end in 0..bytes.len() {
            assert!(!survives(&bytes[..end]), "the first {end} of {bytes:?} are read");
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert!(!survives(&longer), "a byte too many is read");
    }
}

#[test]
fn every_single_byte_may_be_wrong() {
    for bytes in summaries() {
        for at in 0..bytes.len() {
            let mut mutated = bytes.clone();
            for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
                mutated[at] = value;
                survives(&mutated);
            }
        }
    }
}

#[test]
fn many_bytes_may_be_wrong() {
    let mut stream = Stream(1);
    for bytes in summaries() {
        for _ in 0..2000 {
            let mut mutated = bytes.clone();
            for _ in 0..=stream.below(6) {
                let at = stream.below(mutated.len());
                match stream.below(5) {
                    0 => mutated[at] = stream.next() as u8,
                    1 => mutated[at] = 0xff,
                    2 => drop(mutated.splice(at..at, [0xff; 8])),
                    // The largest number.
                    3 => drop(mutated.splice(at..=at, [&[0xff; 9][..], &[1]].concat())),
                    _ => drop(mutated.drain(at..(at + 1 + stream.below(8)).min(mutated.len()))),
                }
                if mutated.is_empty() {
                    break;
                }
            }
            survives(&mutated);
        }
    }
}

/// Counts near the end of their range are no counts of rows: sums of them would overflow.
#[test]
fn counts_that_no_table_has_are_damage() {
    let mut counts = Counts::default();
    counts.add("a", u64::MAX).unwrap();
    let error = Counts::decode(&counts.encode()).unwrap_err().to_string();
    assert!(error.contains("18446744073709551615 rows"), "{error}");
    let totals = Totals { n: u64::MAX, sum: ExactSum::new() };
    assert!(Totals::decode(&totals.encode()).is_err());
}
