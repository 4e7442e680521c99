//! Simultaneous bands, which should hold everything at once in 95 of 100 experiments.

use gosset_stats::compare::{
    Banded, BootstrapOptions, Interval, QuantileInterval, QuantileOptions, bootstrap_effects,
    bootstrap_replicates_effects, quantile_effects,
};
use gosset_stats::summary::{Law, Replicates, ReplicatesTable, Resampling, Table};
use gosset_stats::{Effect, Inference};

use super::units::{Drawn, Shape, outcomes, unit};
use super::{BOOTSTRAP, UNITS, all_hold, head, print, quantiles};
use crate::simulate::{Random, experiments_of, simulate};

const COLUMNS: [&str; 6] = [
    "5 metrics: pointwise",
    "band, buckets",
    "band, poisson",
    "9 quantiles: pointwise",
    "band",
    "band, 10 rows per unit",
];
const METRICS: [&str; 5] = ["a", "b", "c", "d", "e"];
const GRID: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Five metrics of units with one row each, any two of which are the same of a quarter of the units.
fn metrics(
    random: &mut Random,
    shape: Shape,
    units: usize,
    treated: bool,
    seed: u64,
) -> Replicates {
    let resampling = Resampling { seed, buckets: Some(4096), ..BOOTSTRAP };
    let columns = outcomes(METRICS, METRICS.len());
    let mut table = ReplicatesTable::new(columns, resampling).expect("valid");
    let mut drawn = Drawn::of(METRICS.len());
    for i in 0..units {
        let level = shape.draw(random);
        let values = METRICS.map(|_| {
            let own = random.uniform() < 0.5;
            if own { shape.draw(random) } else { level }
        });
        drawn.push(unit(treated, i), &values);
        drawn.hand_on(i + 1 == units, &mut |rows| rows.fill(&mut table));
    }
    table.get(0)
}

type Found<K> = gosset_stats::Result<Vec<(K, Banded)>>;

fn pointwise<K>(found: &Found<K>) -> Option<Effect> {
    let ends = |effect: &Effect| effect.ci_lower.zip(effect.ci_upper);
    all_hold(found.as_ref().ok()?.iter().map(|(_, banded)| ends(&banded.effect)))
}

fn band<K>(found: &Found<K>) -> Option<Effect> {
    all_hold(found.as_ref().ok()?.iter().map(|(_, banded)| banded.band))
}

pub(super) fn table(experiments: usize, largest: usize) {
    println!(
        "\nSimultaneous bands: how often all of five correlated metrics (`bootstrap_effects`), or all of nine quantiles (`quantile_effects`), are held at once, and how often by their pointwise percentile intervals.\n"
    );
    head(&[&["law", "units"][..], &COLUMNS].concat());
    for shape in [Shape::Normal, Shape::Lognormal, Shape::ZeroInflated] {
        for n in UNITS.into_iter().filter(|n| *n <= largest) {
            let experiments = experiments_of(experiments, 8 * n);
            let coverage = simulate(experiments, |experiment| {
                let seed = 1 + experiment as u64;
                let inference = Inference::default();
                let mut random = Random(seed << 20 | n as u64);
                let [t, c] = [true, false].map(|arm| metrics(&mut random, shape, n, arm, seed));
                let interval = Interval::Percentile;
                let options = BootstrapOptions { replicates: BOOTSTRAP.replicates, seed, interval };
                let by_buckets = t.buckets().zip(c.buckets());
                let by_buckets = by_buckets.expect("buckets were asked for");
                let by_buckets =
                    bootstrap_effects(by_buckets.0, by_buckets.1, &inference, &options);
                let by_units = bootstrap_replicates_effects(&t, &c, &inference, interval);
                let quantiles = |rows, laws: &[Law]| {
                    let [t, c] = quantiles::arms((shape, n, rows), seed, laws);
                    let options = QuantileOptions {
                        q: 0.5,
                        interval: QuantileInterval::Percentile,
                        replicates: BOOTSTRAP.replicates,
                        seed,
                    };
                    let (t, c) = (&t[t.len() - 1], &c[c.len() - 1]);
                    quantile_effects(t, c, &inference, &GRID, &options)
                };
                let of_rows = quantiles(1, &[]);
                let of_units = quantiles(10, &[Law::Poisson]);
                [
                    pointwise(&by_buckets),
                    band(&by_buckets),
                    band(&by_units),
                    pointwise(&of_rows),
                    band(&of_rows),
                    band(&of_units),
                ]
            });
            print(&format!("{} | {n} / {n}", shape.name()), &coverage, experiments);
        }
    }
}
