//! What binning the values costs a bootstrap of quantiles, as Markdown on standard output: the test of every value against the
//! test of bins, on the same rows and with the same replicates.
//!
//! usage: compression [EXPERIMENTS [ROWS]]      200 experiments of 100000 rows an arm, if nothing is said
#![expect(clippy::print_stdout, reason = "a tool for the command line")]

use std::time::{Duration, Instant};

use gosset_stats::Inference;
use gosset_stats::compare::{QuantileOptions, bootstrap_quantile};
use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{Histogram, HistogramOptions, HistogramTable, Rows, Table};

const QUANTILES: [f64; 6] = [0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// Play delays: lognormal, with a treatment that moves some of them by about as much as can be seen.
fn rows(seed: u64, n: usize, lift: f64) -> Vec<f64> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut normal =
        || (-2.0 * uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * uniform()).cos();
    (0..n).map(|_| 600.0 * (normal() + lift).exp()).collect()
}

fn histogram(y: &[f64], relative_error: f64) -> Histogram {
    let columns = Columns::new(["y".to_owned()], 1).expect("a valid column");
    let options = HistogramOptions { relative_error, resampling: None };
    let mut table = HistogramTable::new(columns, &options).expect("valid options");
    table.resize(1);
    table.update(Rows {
        slots: &vec![0; y.len()],
        columns: &[y],
        missing: &[None],
        units: &[],
        ..Rows::default()
    });
    table.get(0)
}

/// Every value replaced by the mean of its bin, as a look-up without edges sees it.
fn stepped(y: &[f64], buckets: usize) -> Vec<f64> {
    let mut y = y.to_vec();
    y.sort_unstable_by(f64::total_cmp);
    let n = y.len();
    (0..buckets)
        .flat_map(|k| {
            let bucket = &y[k * n / buckets..(k + 1) * n / buckets];
            let mean = bucket.iter().sum::<f64>() / bucket.len() as f64;
            std::iter::repeat_n(mean, bucket.len())
        })
        .collect()
}

#[derive(Default, Clone, Copy)]
struct Agreement {
    tests: usize,
    agree: usize,
    p_value: f64,
    estimate: f64,
    std_error: f64,
    bins: usize,
    time: Duration,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let experiments = arguments.next().unwrap_or(200);
    let n = arguments.next().unwrap_or(100_000);
    let ways: [(&str, Option<f64>, usize); 9] = [
        ("edges, interpolated", Some(0.0001), 0),
        ("edges, interpolated", Some(0.001), 0),
        ("edges, interpolated", Some(0.005), 0),
        ("edges, interpolated", Some(0.02), 0),
        ("edges, interpolated", Some(0.1), 0),
        ("equal counts, step", None, n / 10),
        ("equal counts, step", None, n / 100),
        ("equal counts, step", None, n / 300),
        ("equal counts, step", None, n / 1000),
    ];
    let mut all = [Agreement::default(); 9];
    let mut exact_time = Duration::ZERO;
    for experiment in 0..experiments as u64 {
        // Lifts from none to one that every test sees.
        let lift = 0.012 * (experiment % 5) as f64 / 4.0;
        let (t, c) = (rows(2 * experiment + 1, n, lift), rows(2 * experiment + 2, n, 0.0));
        let test = |t: &Histogram, c: &Histogram| {
            QUANTILES.map(|q| {
                let options = QuantileOptions { q, seed: experiment, ..QuantileOptions::default() };
                let e = bootstrap_quantile(t, c, &Inference::default(), &options).expect("valid");
                [e.p_value, e.estimate, e.std_error].map(|x| x.unwrap_or(f64::NAN))
            })
        };
        let (exact_t, exact_c) = (histogram(&t, 0.0), histogram(&c, 0.0));
        let start = Instant::now();
        let exact = test(&exact_t, &exact_c);
        exact_time += start.elapsed();
        for (all, (_, relative_error, buckets)) in all.iter_mut().zip(ways) {
            let binned = |y: &[f64]| match relative_error {
                Some(error) => histogram(y, error),
                None => histogram(&stepped(y, buckets), 0.0),
            };
            let (t, c) = (binned(&t), binned(&c));
            all.bins += t.bins().len();
            let start = Instant::now();
            let found = test(&t, &c);
            all.time += start.elapsed();
            for (found, exact) in found.iter().zip(&exact) {
                all.tests += 1;
                all.agree += usize::from((found[0] < 0.05) == (exact[0] < 0.05));
                all.p_value += (found[0] - exact[0]).abs();
                all.estimate += (found[1] - exact[1]).abs() / exact[2];
                all.std_error += found[2] / exact[2];
            }
        }
    }
    println!(
        "{experiments} experiments of {n} rows an arm, quantiles {QUANTILES:?}, 1000 replicates; every value takes {:.1} ms.\n",
        exact_time.as_secs_f64() * 1e3 / experiments as f64
    );
    println!(
        "| bins | relative error | rows kept | agreement of significance | mean \\|Δp\\| | mean \\|Δestimate\\|/SE | SE, of every value's | ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (a, (way, error, _)) in all.iter().zip(ways) {
        let tests = a.tests as f64;
        println!(
            "| {way} | {} | 1/{:.0} | {:.2} % | {:.4} | {:.4} | {:.3} | {:.1} |",
            error.map_or_else(|| "–".into(), |e| e.to_string()),
            (experiments * n) as f64 / a.bins as f64,
            100.0 * a.agree as f64 / tests,
            a.p_value / tests,
            a.estimate / tests,
            a.std_error / tests,
            a.time.as_secs_f64() * 1e3 / experiments as f64,
        );
    }
}
