//! Coverage of the intervals of bootstraps: experiments without an effect, so that an interval should hold 0 in 95 of 100, and
//! the test find something in 5.

use gosset_stats::compare::{
    BootstrapOptions, ClusteredStdError, Interval, QuantileInterval, QuantileOptions, bootstrap,
    bootstrap_quantile, bootstrap_replicates, clustered_ttest,
};
use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{
    BucketTable, Buckets, Histogram, HistogramOptions, HistogramTable, Law, Replicates,
    ReplicatesTable, Resampling, Rows, Table,
};
use gosset_stats::{Inference, units};

use crate::simulate::{Random, experiments_of, simulate};

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

/// What is estimated.
#[derive(Clone, Copy, PartialEq)]
enum Statistic {
    /// Of units with one row each.
    Mean,
    /// The mean per row of units with 1 to 50 rows, half of whose variation is that of the unit.
    MeanOfRows,
    /// With a denominator that is 1 or more and goes along with the numerator.
    Ratio,
}

impl Statistic {
    fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MeanOfRows => "mean, 1 to 50 rows",
            Self::Ratio => "ratio",
        }
    }

    fn columns(self) -> Columns {
        let names = ["y", "d"].map(String::from).into_iter();
        let outcomes = if self == Self::Ratio { 2 } else { 1 };
        Columns::new(names.take(outcomes), outcomes).expect("valid columns")
    }

    fn fill<T: Table>(self, table: &mut T, arm: &Arm) {
        let columns = [&arm.y[..], &arm.d[..]];
        fill(table, arm, if self == Self::Ratio { &columns } else { &columns[..1] });
    }
}

fn arm(random: &mut Random, shape: Shape, n: usize, statistic: Statistic, first: i128) -> Arm {
    let mut arm = Arm { y: Vec::new(), d: Vec::new(), units: Vec::new() };
    for i in 0..n as i128 {
        let level = shape.draw(random);
        let rows = match statistic {
            Statistic::MeanOfRows => 1 + (50.0 * random.uniform()) as usize,
            _ => 1,
        };
        for _ in 0..rows {
            let d = match statistic {
                Statistic::Ratio => 1.0 + (-3.0 * random.uniform().ln()).floor(),
                _ => 1.0,
            };
            let own = rows > 1 && random.uniform() < 0.5;
            arm.y.push(d * if own { shape.draw(random) } else { level });
            arm.d.push(d);
            arm.units.push(units::integer(first + i));
        }
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
        ..Rows::default()
    });
}

fn buckets(arm: &Arm, statistic: Statistic) -> Buckets {
    let mut table = BucketTable::new(statistic.columns(), 4096).expect("valid buckets");
    statistic.fill(&mut table, arm);
    table.get(0)
}

fn replicates(arm: &Arm, statistic: Statistic, law: Law, seed: u64) -> Replicates {
    let resampling = Resampling { law, seed, ..BOOTSTRAP };
    let mut table = ReplicatesTable::new(statistic.columns(), resampling).expect("valid");
    statistic.fill(&mut table, arm);
    table.get(0)
}

const BOOTSTRAP: Resampling =
    Resampling { law: Law::Poisson, replicates: 599, seed: 0, crossed: false, buckets: None };

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

fn means(experiments: usize, largest: usize, first: usize) {
    println!(
        "| law | units | statistic | t | jackknife t | percentile | normal | studentized | basic | bca | poisson percentile | poisson normal | double_or_nothing normal | bayesian percentile |"
    );
    println!("|{}", " --- |".repeat(14));
    let mut deviations = Vec::new();
    let laws = [
        Shape::Normal,
        Shape::Lognormal,
        Shape::ZeroInflated,
        Shape::Bernoulli(0.01),
        Shape::Bernoulli(0.001),
    ];
    for shape in laws.into_iter().skip(first) {
        for statistic in [Statistic::Mean, Statistic::MeanOfRows, Statistic::Ratio] {
            for (n_t, n_c) in sizes(largest) {
                let rows = if statistic == Statistic::MeanOfRows { 25 } else { 1 };
                // The largest of means alone, since a cell takes minutes.
                let too_long = n_t > 200_000 && statistic != Statistic::Mean;
                if too_long || rows * n_t.max(n_c) > largest {
                    continue;
                }
                let experiments = experiments_of(experiments, rows * (n_t + n_c));
                let coverage = simulate(experiments, |experiment| {
                    let seed = 1 + experiment as u64;
                    let mut random = Random(seed << 20 | n_t as u64);
                    let (t, c) = (
                        arm(&mut random, shape, n_t, statistic, 0),
                        arm(&mut random, shape, n_c, statistic, 1 << 40),
                    );
                    let inference = Inference::default();
                    let of = [&t, &c].map(|arm| buckets(arm, statistic));
                    let by_clusters =
                        |std_error| clustered_ttest(&of[0], &of[1], &inference, std_error).ok();
                    let by_buckets = |interval| {
                        let options =
                            BootstrapOptions { replicates: BOOTSTRAP.replicates, seed, interval };
                        bootstrap(&of[0], &of[1], &inference, &options).ok()
                    };
                    let by_units = |law, interval| {
                        let [t, c] = [&t, &c].map(|arm| replicates(arm, statistic, law, seed));
                        bootstrap_replicates(&t, &c, &inference, interval).ok()
                    };
                    [
                        by_clusters(ClusteredStdError::Delta),
                        by_clusters(ClusteredStdError::Jackknife),
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
                let row = format!("| {} | {n_t} / {n_c} | {} |", shape.name(), statistic.name());
                println!("{row} {} |", cells.join(" | "));
                eprintln!("{row}");
                // One of every way to a standard error: jackknife, buckets, and the three laws.
                let found = [1, 3, 8, 9, 10].map(|way| coverage[way].deviation());
                deviations.push(format!("{row} {} |", found.join(" | ")));
            }
        }
    }
    println!(
        "\nThe standard error against the closed form of `clustered_ttest`: the root mean square of the relative deviations, in %. The noise of {} replicates is 1/√(2B) = {:.1}.\n",
        BOOTSTRAP.replicates,
        100.0 / (2.0 * f64::from(BOOTSTRAP.replicates)).sqrt()
    );
    println!(
        "| law | units | statistic | jackknife | buckets | poisson | double_or_nothing | bayesian |"
    );
    println!("|{}", " --- |".repeat(8));
    deviations.iter().for_each(|row| println!("{row}"));
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
    let mut table =
        HistogramTable::new(Statistic::Mean.columns(), &options).expect("valid options");
    fill(&mut table, &arm, &[&arm.y]);
    table.get(0)
}

fn quantiles(experiments: usize, largest: usize) {
    println!(
        "| law | units | rows per unit | q | rows are units: percentile | normal | delta | clustered by unit: percentile | normal | delta |"
    );
    println!("|{}", " --- |".repeat(10));
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
                            by(&of_rows, QuantileInterval::Percentile),
                            by(&of_rows, QuantileInterval::Normal),
                            by(&of_rows, QuantileInterval::Delta),
                            by(&of_units, QuantileInterval::Percentile),
                            by(&of_units, QuantileInterval::Normal),
                            by(&of_units, QuantileInterval::Delta),
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

/// Prints the tables; `first` laws are skipped.
pub(crate) fn tables(experiments: usize, largest: usize, first: usize) {
    println!(
        "Coverage of 95 % intervals in %, of {experiments} experiments without an effect (fewer of the largest): one standard error is {:.1}.\n",
        100.0 * (0.95f64 * 0.05 / experiments as f64).sqrt()
    );
    means(experiments, largest, first);
    println!();
    // Of some laws alone the means, beyond the last the quantiles.
    if first == 0 || first > 4 {
        quantiles(experiments, largest);
    }
}
