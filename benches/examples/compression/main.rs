//! What binning the values costs a bootstrap of quantiles, as Markdown on standard output: the test of every value against the
//! test of bins, on the same rows and with the same replicates.
//!
//! usage: compression [EXPERIMENTS [ROWS]]      200 experiments of 100000 rows an arm, if nothing is said
//!
//! Of more than a million rows an arm, those are drawn that the quantiles of replicates fall on; the others are only counted.
//! Bins are counted and times are taken with all rows, once.
#![expect(clippy::print_stdout, reason = "a tool for the command line")]

mod sample;

use std::time::{Duration, Instant};

use gosset_stats::compare::{QuantileOptions, bootstrap_quantile};
use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{Histogram, HistogramOptions, HistogramTable, Rows, Table};
use gosset_stats::{Inference, Summary};
use sample::Sample;

const QUANTILES: [f64; 6] = [0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// The most rows of an arm that are all drawn in every experiment.
const MAX_WHOLE: u64 = 1_000_000;

/// The most rows of an arm of which every value is kept to take the time.
const MAX_TIMED: u64 = 50_000_000;

/// How values are kept.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Bins with edges, of a relative error.
    Edges(f64),
    /// Buckets of so many rows without edges.
    Step(u64),
}

impl Way {
    /// Rows that the widest bin or bucket has, twice.
    fn widest(self, n: u64) -> u64 {
        match self {
            // The density of a standard normal is at most 0.4.
            Self::Edges(error) => (2.0 * 0.4 * 2.0 * error * n as f64).ceil() as u64,
            Self::Step(rows) => 2 * rows,
        }
    }

    fn of(self, sample: &Sample) -> Histogram {
        match self {
            Self::Edges(error) => histogram(sample, error),
            Self::Step(rows) => histogram(&sample.stepped(rows), 0.0),
        }
    }
}

fn columns() -> Columns {
    Columns::new(["y".to_owned()], 1).expect("a valid column")
}

fn histogram(sample: &Sample, relative_error: f64) -> Histogram {
    let options = HistogramOptions { relative_error, resampling: None };
    let of = |values: &[f64]| {
        let mut table = HistogramTable::new(columns(), &options).expect("valid options");
        table.resize(1);
        table.update(Rows {
            slots: &vec![0; values.len()],
            columns: &[values],
            missing: &[None],
            units: &[],
            ..Rows::default()
        });
        table.get(0)
    };
    // So many rows of one value, by doubling.
    let many = |value: f64, rows: u64| {
        let (mut all, mut power) = (of(&[]), of(&[value]));
        for bit in 0..u64::BITS - rows.leading_zeros() {
            if rows >> bit & 1 == 1 {
                all.merge(&power).expect("the same columns");
            }
            let same = power.clone();
            power.merge(&same).expect("the same columns");
        }
        all
    };
    let values: Vec<f64> = sample.stretches.iter().flat_map(|(_, v)| v).copied().collect();
    let mut whole = of(&values);
    let mut last = 0.0;
    for (before, values) in &sample.stretches {
        let first = values.first().copied().unwrap_or(last);
        whole.merge(&many(last.midpoint(first), *before)).expect("the same columns");
        last = values.last().copied().unwrap_or(first);
    }
    whole.merge(&many(2.0 * last, sample.above)).expect("the same columns");
    whole
}

/// P-value, estimate and standard error of every quantile.
fn test(t: &Histogram, c: &Histogram, seed: u64) -> [[f64; 3]; 6] {
    QUANTILES.map(|q| {
        let options = QuantileOptions { q, seed, ..QuantileOptions::default() };
        let e = bootstrap_quantile(t, c, &Inference::default(), &options).expect("valid");
        [e.p_value, e.estimate, e.std_error].map(|x| x.unwrap_or(f64::NAN))
    })
}

fn timed(t: &Histogram, c: &Histogram) -> Duration {
    let start = Instant::now();
    test(t, c, 0);
    start.elapsed()
}

#[derive(Default, Clone, Copy)]
struct Agreement {
    tests: usize,
    agree: usize,
    p_value: f64,
    estimate: f64,
    std_error: f64,
}

impl Agreement {
    fn add(&mut self, found: &[[f64; 3]; 6], exact: &[[f64; 3]; 6]) {
        for (found, exact) in found.iter().zip(exact) {
            self.tests += 1;
            self.agree += usize::from((found[0] < 0.05) == (exact[0] < 0.05));
            self.p_value += (found[0] - exact[0]).abs();
            self.estimate += (found[1] - exact[1]).abs() / exact[2];
            self.std_error += found[2] / exact[2];
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let experiments = arguments.next().unwrap_or(200);
    let n = arguments.next().unwrap_or(100_000);
    let ways = if n > MAX_TIMED {
        vec![Way::Edges(0.0001), Way::Step(1000), Way::Step(10_000)]
    } else if n > MAX_WHOLE {
        vec![
            Way::Edges(0.0001),
            Way::Edges(0.00025),
            Way::Edges(0.0005),
            Way::Edges(0.001),
            Way::Step(100),
            Way::Step(1000),
            Way::Step(10_000),
        ]
    } else {
        vec![
            Way::Edges(0.0001),
            Way::Edges(0.001),
            Way::Edges(0.005),
            Way::Edges(0.02),
            Way::Edges(0.1),
            Way::Step(10),
            Way::Step(100),
            Way::Step(250),
            Way::Step(1000),
        ]
    };
    let margin = ways.iter().map(|way| way.widest(n)).max().unwrap_or_default();
    let mut all = vec![Agreement::default(); ways.len()];
    for experiment in 0..experiments {
        // Lifts from none to one that every test sees.
        let lift = 0.012 * (experiment % 5) as f64 / 4.0 * (200_000.0 / n as f64).sqrt();
        let arm = |seed: u64, lift: f64| {
            if n > MAX_WHOLE {
                Sample::around(&QUANTILES, margin, seed, n, lift)
            } else {
                Sample::whole(seed, n, lift)
            }
        };
        let (t, c) = (arm(2 * experiment + 1, lift), arm(2 * experiment + 2, 0.0));
        let exact = test(&histogram(&t, 0.0), &histogram(&c, 0.0), experiment);
        for (all, way) in all.iter_mut().zip(&ways) {
            all.add(&test(&way.of(&t), &way.of(&c), experiment), &exact);
        }
    }
    let (t, c) = (Sample::whole(1, n, 0.0), Sample::whole(2, n, 0.0));
    let every_value = if n > MAX_TIMED {
        "is not held".to_owned()
    } else {
        let time = timed(&histogram(&t, 0.0), &histogram(&c, 0.0));
        format!("takes {:.1} ms", time.as_secs_f64() * 1e3)
    };
    println!(
        "{experiments} experiments of {n} rows an arm, quantiles {QUANTILES:?}, 1000 replicates; every value {every_value}.\n"
    );
    println!(
        "| bins | relative error | rows kept | agreement of significance | mean \\|Δp\\| | mean \\|Δestimate\\|/SE | SE, of every value's | ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (a, way) in all.iter().zip(&ways) {
        let tests = a.tests as f64;
        let (binned, other) = (way.of(&t), way.of(&c));
        let (name, error) = match way {
            Way::Edges(error) => ("edges, interpolated", error.to_string()),
            Way::Step(_) => ("equal counts, step", "–".into()),
        };
        println!(
            "| {name} | {error} | 1/{:.0} | {:.2} % | {:.4} | {:.4} | {:.3} | {:.1} |",
            n as f64 / binned.bins().len() as f64,
            100.0 * a.agree as f64 / tests,
            a.p_value / tests,
            a.estimate / tests,
            a.std_error / tests,
            timed(&binned, &other).as_secs_f64() * 1e3,
        );
    }
}
