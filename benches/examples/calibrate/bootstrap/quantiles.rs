//! Quantiles of experiments without an effect, of rows as units and clustered by unit.

use gosset_stats::Inference;
use gosset_stats::compare::{QuantileInterval, QuantileOptions, bootstrap_quantile};
use gosset_stats::summary::{Histogram, HistogramOptions, HistogramTable, Law, Resampling, Table};

use super::units::{Drawn, Shape, outcomes, unit};
use super::{BOOTSTRAP, UNITS, each, head, print};
use crate::simulate::{Random, experiments_of, simulate};

const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];
const INTERVALS: [QuantileInterval; 4] = [
    QuantileInterval::Percentile,
    QuantileInterval::Normal,
    QuantileInterval::Basic,
    QuantileInterval::Delta,
];
/// Of rows, and of units by every law.
const WAYS: usize = (1 + Law::ALL.len()) * INTERVALS.len();
const ALL: usize = QUANTILES.len() * WAYS;

/// The rows of an arm, which share what a unit is.
#[derive(Clone, Copy)]
pub(super) struct Arm {
    pub(super) shape: Shape,
    pub(super) units: usize,
    pub(super) rows: usize,
    pub(super) treated: bool,
}

impl Arm {
    /// The value of a normal score.
    fn value(self, z: f64, random: &mut Random) -> f64 {
        match self.shape {
            Shape::Normal => 10.0 + z,
            Shape::Lognormal => (1.5 * z).exp(),
            Shape::ZeroInflated if z < 1.405_072 => 0.0,
            Shape::ZeroInflated => (1.5 * random.normal()).exp(),
            Shape::Bernoulli(p) => f64::from(u8::from(random.uniform() < p)),
        }
    }

    /// A histogram of rows, and one of units by each of the laws.
    pub(super) fn histograms(self, random: &mut Random, seed: u64, laws: &[Law]) -> Vec<Histogram> {
        let of_rows = HistogramOptions::default();
        let of_units = laws.iter().map(|&law| {
            let resampling = Some(Resampling { law, seed, ..BOOTSTRAP });
            HistogramOptions { resampling, ..HistogramOptions::default() }
        });
        let table =
            |options| HistogramTable::new(outcomes(["y"], 1), &options).expect("valid options");
        let mut tables: Vec<_> = [of_rows].into_iter().chain(of_units).map(table).collect();
        let mut drawn = Drawn::of(1);
        for i in 0..self.units {
            let (level, unit) = (random.normal(), unit(self.treated, i));
            for _ in 0..self.rows {
                let own = self.rows > 1;
                let z = if own { (level + random.normal()) / 2f64.sqrt() } else { level };
                drawn.push(unit, &[self.value(z, random)]);
            }
            drawn.hand_on(i + 1 == self.units, &mut |rows| {
                tables.iter_mut().for_each(|table| rows.fill(table));
            });
        }
        tables.iter().map(|table| table.get(0)).collect()
    }
}

/// The histograms of both arms.
pub(super) fn arms(
    (shape, units, rows): (Shape, usize, usize),
    seed: u64,
    laws: &[Law],
) -> [Vec<Histogram>; 2] {
    let mut random = Random(seed << 20 | units as u64);
    [true, false]
        .map(|treated| Arm { shape, units, rows, treated }.histograms(&mut random, seed, laws))
}

pub(super) fn table(experiments: usize, largest: usize) {
    println!(
        "\nQuantiles, without an effect, of half as many experiments. With ten rows per unit half of the variance of a row (of its normal score) is that of the unit. A quantile at a single value that many rows have, as the lower ones where 92 % are zeros, has no interval.\n"
    );
    let names = ["rows", "poisson", "double_or_nothing", "bayesian"];
    let names = each(&names, &INTERVALS.map(QuantileInterval::name));
    head(&[&["law", "units", "rows per unit", "q"].map(String::from)[..], &names].concat());
    for shape in [Shape::Normal, Shape::Lognormal, Shape::ZeroInflated] {
        for rows in [1, 10] {
            for n in UNITS.into_iter().filter(|n| *n <= largest) {
                let experiments = experiments_of(experiments / 2, 2 * n * rows * 4);
                let coverage = simulate(experiments, |experiment| {
                    let seed = 1 + experiment as u64;
                    let [t, c] = arms((shape, n, rows), seed, &Law::ALL);
                    let all = QUANTILES.iter().flat_map(|&q| {
                        let replicates = BOOTSTRAP.replicates;
                        let options =
                            move |interval| QuantileOptions { q, interval, replicates, seed };
                        t.iter().zip(&c).flat_map(move |(t, c)| {
                            INTERVALS.map(|interval| {
                                let (inference, options) =
                                    (Inference::default(), options(interval));
                                bootstrap_quantile(t, c, &inference, &options).ok()
                            })
                        })
                    });
                    let all: [_; ALL] =
                        all.collect::<Vec<_>>().try_into().expect("as many effects as ways");
                    all
                });
                for (q, coverage) in QUANTILES.iter().zip(coverage.chunks(WAYS)) {
                    let what = format!("{} | {n} / {n} | {rows} | {q}", shape.name());
                    print(&what, coverage, experiments);
                }
            }
        }
    }
}
