//! Coverage of the intervals by simulation, as Markdown on standard output: experiments without an effect, so that an interval
//! should hold 0 in 95 of 100, and the test find something in 5.
//!
//! usage: calibrate [EXPERIMENTS [LARGEST_N [FIRST_LAW]]]      600 experiments a cell, 20000 units an arm and all laws, if nothing is said
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the command line")]

use gosset_stats::compare::{
    BootstrapOptions, Interval, QuantileOptions, bootstrap, bootstrap_quantile,
    bootstrap_replicates, clustered_ttest,
};
use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{
    BucketTable, Buckets, Histogram, HistogramOptions, HistogramTable, Law, Replicates,
    ReplicatesTable, Resampling, Rows, Table,
};
use gosset_stats::{Effect, Inference, units};

/// SplitMix64, Box and Muller.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Normal,
    Lognormal,
    ZeroInflated,
    Bernoulli(f64),
}

impl Shape {
    fn name(self) -> String {
        match self {
            Self::Normal => "normal".into(),
            Self::Lognormal => "lognormal σ = 1.5".into(),
            Self::ZeroInflated => "92 % zeros, else lognormal σ = 1.5".into(),
            Self::Bernoulli(p) => format!("Bernoulli {p}"),
        }
    }

    fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::Normal => 10.0 + random.normal(),
            Self::Lognormal => (1.5 * random.normal()).exp(),
            Self::ZeroInflated if random.uniform() < 0.92 => 0.0,
            Self::ZeroInflated => (1.5 * random.normal()).exp(),
            Self::Bernoulli(p) => f64::from(u8::from(random.uniform() < p)),
        }
    }
}

/// The rows of an arm.
struct Arm {
    y: Vec<f64>,
    d: Vec<f64>,
    units: Vec<u128>,
}

/// Units with one row each; or ratios, with a denominator that is 1 or more and goes along with the numerator.
fn arm(random: &mut Random, shape: Shape, n: usize, ratio: bool, first: i128) -> Arm {
    let mut arm = Arm { y: Vec::new(), d: Vec::new(), units: Vec::new() };
    for i in 0..n as i128 {
        let d = if ratio { 1.0 + (-3.0 * random.uniform().ln()).floor() } else { 1.0 };
        let level = shape.draw(random);
        arm.y.push(if ratio { level * d } else { level });
        arm.d.push(d);
        arm.units.push(units::integer(first + i));
    }
    arm
}

fn fill<T: Table>(table: &mut T, arm: &Arm, columns: &[&[f64]]) {
    table.resize(1);
    let missing = vec![None; columns.len()];
    table.update(Rows {
        slots: &vec![0; arm.units.len()],
        columns,
        missing: &missing,
        units: &arm.units,
    });
}

fn columns(ratio: bool) -> Columns {
    let names: Vec<String> = if ratio { vec!["y".into(), "d".into()] } else { vec!["y".into()] };
    let outcomes = names.len();
    Columns::new(names, outcomes).expect("valid columns")
}

fn buckets(arm: &Arm, ratio: bool) -> Buckets {
    let mut table = BucketTable::new(columns(ratio), 4096).expect("valid buckets");
    fill(&mut table, arm, &[&arm.y[..], &arm.d[..]][..1 + usize::from(ratio)]);
    table.get(0)
}

fn replicates(arm: &Arm, ratio: bool, law: Law, seed: u64) -> Replicates {
    let resampling = Resampling { law, seed, ..BOOTSTRAP };
    let mut table = ReplicatesTable::new(columns(ratio), resampling).expect("valid resampling");
    fill(&mut table, arm, &[&arm.y[..], &arm.d[..]][..1 + usize::from(ratio)]);
    table.get(0)
}

const BOOTSTRAP: Resampling =
    Resampling { law: Law::Poisson, replicates: 599, seed: 0, crossed: false, buckets: None };

/// How often an interval held 0, how often the one of the relative effect did, and how often there was none.
#[derive(Default, Clone, Copy)]
struct Coverage {
    covered: usize,
    relative: usize,
    relative_defined: usize,
    defined: usize,
}

impl Coverage {
    fn count(&mut self, effect: &Effect) {
        if let (Some(low), Some(high)) = (effect.ci_lower, effect.ci_upper) {
            self.defined += 1;
            self.covered += usize::from(low <= 0.0 && 0.0 <= high);
        }
        if let (Some(low), Some(high)) = (effect.relative_ci_lower, effect.relative_ci_upper) {
            self.relative_defined += 1;
            self.relative += usize::from(low <= 0.0 && 0.0 <= high);
        }
    }

    fn add(&mut self, other: Self) {
        self.covered += other.covered;
        self.relative += other.relative;
        self.relative_defined += other.relative_defined;
        self.defined += other.defined;
    }

    fn shown(self, experiments: usize) -> String {
        // Without events there is no interval in most experiments, and the others are no sample.
        if 2 * self.defined < experiments {
            return "–".into();
        }
        format!("{:.1}", 100.0 * self.covered as f64 / self.defined as f64)
    }
}

/// Runs experiments on both processors.
fn simulate<const N: usize>(
    experiments: usize,
    run: impl Fn(usize) -> [Option<Effect>; N] + Sync,
) -> [Coverage; N] {
    let halves: Vec<[Coverage; N]> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|half| {
                let run = &run;
                scope.spawn(move || {
                    let mut coverage = [Coverage::default(); N];
                    for experiment in (half..experiments).step_by(2) {
                        for (coverage, effect) in coverage.iter_mut().zip(run(experiment)) {
                            if let Some(effect) = effect {
                                coverage.count(&effect);
                            }
                        }
                    }
                    coverage
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("a worker ends")).collect()
    });
    let mut all = [Coverage::default(); N];
    for half in halves {
        all.iter_mut().zip(half).for_each(|(all, half)| all.add(half));
    }
    all
}

fn sizes(largest: usize) -> Vec<(usize, usize)> {
    [
        (20, 20),
        (200, 200),
        (200, 1800),
        (2000, 2000),
        (2000, 18_000),
        (20_000, 20_000),
        (200_000, 200_000),
        (1_000_000, 1_000_000),
    ]
    .into_iter()
    .filter(|(t, c)| (*t).max(*c) <= largest)
    .collect()
}

fn experiments_of(experiments: usize, n: usize) -> usize {
    // As many units in all, so that a cell takes no more than minutes.
    experiments.min(12_000_000 / n).max(100)
}

fn means(experiments: usize, largest: usize, first: usize) {
    println!(
        "| law | units | statistic | t | percentile | normal | studentized | basic | bca | poisson percentile | poisson normal | double_or_nothing normal | bayesian percentile |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let laws = [
        Shape::Normal,
        Shape::Lognormal,
        Shape::ZeroInflated,
        Shape::Bernoulli(0.01),
        Shape::Bernoulli(0.001),
    ];
    for shape in laws.into_iter().skip(first) {
        for ratio in [false, true] {
            for (n_t, n_c) in sizes(largest) {
                let experiments = experiments_of(experiments, n_t + n_c);
                let coverage = simulate(experiments, |experiment| {
                    let seed = 1 + experiment as u64;
                    let mut random = Random(seed << 20 | n_t as u64);
                    let (t, c) = (
                        arm(&mut random, shape, n_t, ratio, 0),
                        arm(&mut random, shape, n_c, ratio, 1 << 40),
                    );
                    let inference = Inference::default();
                    let of = [&t, &c].map(|arm| buckets(arm, ratio));
                    let by_buckets = |interval| {
                        let options =
                            BootstrapOptions { replicates: BOOTSTRAP.replicates, seed, interval };
                        bootstrap(&of[0], &of[1], &inference, &options).ok()
                    };
                    let by_units = |law, interval| {
                        let [t, c] = [&t, &c].map(|arm| replicates(arm, ratio, law, seed));
                        bootstrap_replicates(&t, &c, &inference, interval).ok()
                    };
                    [
                        clustered_ttest(&of[0], &of[1], &inference).ok(),
                        by_buckets(Interval::Percentile),
                        by_buckets(Interval::Normal),
                        by_buckets(Interval::Studentized),
                        by_buckets(Interval::Basic),
                        by_buckets(Interval::Bca),
                        by_units(Law::Poisson, Interval::Percentile),
                        by_units(Law::Poisson, Interval::Normal),
                        by_units(Law::DoubleOrNothing, Interval::Normal),
                        by_units(Law::Bayesian, Interval::Percentile),
                    ]
                });
                let cells: Vec<String> = coverage.iter().map(|c| c.shown(experiments)).collect();
                if cells.iter().all(|cell| cell == "–") {
                    continue;
                }
                let statistic = if ratio { "ratio" } else { "mean" };
                println!(
                    "| {} | {n_t} / {n_c} | {statistic} | {} |",
                    shape.name(),
                    cells.join(" | ")
                );
                eprintln!("{} {n_t}/{n_c} {statistic}", shape.name());
            }
        }
    }
}

/// A histogram of `rows` rows per unit that share what a unit is.
fn histogram(
    random: &mut Random,
    shape: Shape,
    n: usize,
    rows: usize,
    first: i128,
    weighted: Option<u64>,
) -> Histogram {
    let mut arm = Arm { y: Vec::new(), d: Vec::new(), units: Vec::new() };
    for i in 0..n as i128 {
        let level = random.normal();
        for _ in 0..rows {
            let z = if rows == 1 { level } else { (level + random.normal()) / 2f64.sqrt() };
            arm.y.push(if let Shape::Normal = shape { 10.0 + z } else { (1.5 * z).exp() });
            arm.units.push(units::integer(first + i));
        }
    }
    let resampling = weighted.map(|seed| Resampling { seed, ..BOOTSTRAP });
    let options = HistogramOptions { resampling, ..HistogramOptions::default() };
    let mut table = HistogramTable::new(columns(false), &options).expect("valid options");
    fill(&mut table, &arm, &[&arm.y]);
    table.get(0)
}

fn quantiles(experiments: usize, largest: usize) {
    println!(
        "| law | units | rows per unit | q | rows are units: percentile | normal | clustered by unit: percentile | normal |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for shape in [Shape::Normal, Shape::Lognormal] {
        for rows in [1, 10] {
            for n in [200, 2000, 20_000].into_iter().filter(|n| *n <= largest / 10) {
                for q in [0.5, 0.9, 0.99] {
                    let experiments = experiments_of(experiments, 2 * n * rows * 4);
                    let coverage = simulate(experiments, |experiment| {
                        let seed = 1 + experiment as u64;
                        let both = |weighted: Option<u64>| {
                            let mut random = Random(seed << 20 | n as u64);
                            [0, 1 << 40].map(|first| {
                                histogram(&mut random, shape, n, rows, first, weighted)
                            })
                        };
                        let (of_rows, of_units) = (both(None), both(Some(seed)));
                        let by = |[t, c]: &[Histogram; 2], interval| {
                            let options = QuantileOptions {
                                q,
                                interval,
                                replicates: BOOTSTRAP.replicates,
                                seed,
                            };
                            bootstrap_quantile(t, c, &Inference::default(), &options).ok()
                        };
                        [
                            by(&of_rows, Interval::Percentile),
                            by(&of_rows, Interval::Normal),
                            by(&of_units, Interval::Percentile),
                            by(&of_units, Interval::Normal),
                        ]
                    });
                    let cells: Vec<String> =
                        coverage.iter().map(|c| c.shown(experiments)).collect();
                    println!(
                        "| {} | {n} / {n} | {rows} | {q} | {} |",
                        shape.name(),
                        cells.join(" | ")
                    );
                    eprintln!("{} {n} {rows} {q}", shape.name());
                }
            }
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let experiments = arguments.next().unwrap_or(600);
    let largest = arguments.next().unwrap_or(20_000);
    println!(
        "Coverage of 95 % intervals in %, of {experiments} experiments without an effect (fewer of the largest): one standard error is {:.1}.\n",
        100.0 * (0.95f64 * 0.05 / experiments as f64).sqrt()
    );
    let first = arguments.next().unwrap_or(0);
    means(experiments, largest, first);
    println!();
    // Of some laws alone the means, beyond the last the quantiles.
    if first == 0 || first > 4 {
        quantiles(experiments, largest);
    }
}
