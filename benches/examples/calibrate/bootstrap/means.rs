//! Means, ratios and adjusted means: experiments without an effect, so that an interval should hold 0 in 95 of 100, and the test
//! find something in 5.

use gosset_stats::compare::{
    BootstrapOptions, ClusteredStdError, Interval, bootstrap, bootstrap_cuped,
    bootstrap_cuped_replicates, bootstrap_replicates, clustered_cuped, clustered_ttest,
    permutation_test,
};
use gosset_stats::summary::{Buckets, Law, Replicates, ReplicatesTable, Resampling, Table};
use gosset_stats::{Effect, Inference};

use super::units::{Arm, Shape, Statistic};
use super::{BOOTSTRAP, all_hold, each, head, row};
use crate::simulate::{Random, experiments_of, simulate};

pub(super) const SIZES: [(usize, usize); 8] = [
    (20, 20),
    (200, 200),
    (200, 1800),
    (2000, 2000),
    (2000, 18_000),
    (20_000, 20_000),
    (200_000, 200_000),
    (1_000_000, 1_000_000),
];

/// Ways by buckets, and the tests beside them.
const BUCKETS: [&str; 8] =
    ["t", "jackknife t", "percentile", "normal", "studentized", "basic", "bca", "permutation"];
const OF_UNITS: [Interval; 4] =
    [Interval::Percentile, Interval::Normal, Interval::Basic, Interval::Bca];
const WAYS: usize = BUCKETS.len() + Law::ALL.len() * OF_UNITS.len();

/// What is kept of an arm.
pub(super) struct Summaries {
    /// By law; with buckets.
    of_law: [Replicates; 3],
    /// For the permutation test.
    assigned: Option<Replicates>,
}

impl Summaries {
    fn of(arm: &Arm, random: &mut Random, seed: u64, treated: Option<f64>) -> Self {
        let table = |law, buckets| {
            let resampling = Resampling { law, seed, buckets, ..BOOTSTRAP };
            ReplicatesTable::new(arm.statistic.columns(), resampling).expect("valid")
        };
        let mut of_law = Law::ALL.map(|law| table(law, Some(4096)));
        let mut assigned =
            treated.map(|share| table(Law::Assignment((65_536.0 * share).round() as u16), None));
        arm.draw(random, |rows| {
            of_law.iter_mut().chain(&mut assigned).for_each(|table| rows.fill(table));
        });
        let (of_law, assigned) = (of_law.map(|table| table.get(0)), assigned.map(|t| t.get(0)));
        Self { of_law, assigned }
    }

    pub(super) fn buckets(&self) -> &Buckets {
        self.of_law[0].buckets().expect("buckets were asked for")
    }

    pub(super) fn of_law(&self, law: usize) -> &Replicates {
        &self.of_law[law]
    }
}

/// Two arms of the same law but for what treatment multiplies the mean by.
pub(super) fn arms(
    (shape, statistic, lift): (Shape, Statistic, f64),
    (n_t, n_c): (usize, usize),
    seed: u64,
) -> [Summaries; 2] {
    let mut random = Random(seed << 20 | n_t as u64);
    let one_outcome = matches!(statistic, Statistic::Mean | Statistic::MeanOfRows);
    // With an effect there is nothing that a new assignment leaves as it was.
    let permuted = one_outcome && lift <= 1.0;
    let share = permuted.then(|| n_t as f64 / (n_t + n_c) as f64);
    [(n_t, true), (n_c, false)].map(|(units, treated)| {
        let lift = if treated { lift } else { 1.0 };
        let arm = Arm { shape, statistic, units, treated, lift };
        Summaries::of(&arm, &mut random, seed, share)
    })
}

fn ways([t, c]: &[Summaries; 2], statistic: Statistic, seed: u64) -> [Option<Effect>; WAYS] {
    let inference = Inference::default();
    let adjusted = statistic == Statistic::Cuped;
    let (of_t, of_c) = (t.buckets(), c.buckets());
    let by_clusters = |std_error| match (adjusted, std_error) {
        (false, _) => clustered_ttest(of_t, of_c, &inference, std_error).ok(),
        (true, ClusteredStdError::Delta) => clustered_cuped(of_t, of_c, &inference).ok(),
        (true, ClusteredStdError::Jackknife) => None,
    };
    let by_buckets = |interval| {
        let options = BootstrapOptions { replicates: BOOTSTRAP.replicates, seed, interval };
        let way = if adjusted { bootstrap_cuped } else { bootstrap };
        way(of_t, of_c, &inference, &options).ok()
    };
    let by_units = |law, interval| {
        let way = if adjusted { bootstrap_cuped_replicates } else { bootstrap_replicates };
        way(t.of_law(law), c.of_law(law), &inference, interval).ok()
    };
    let permuted = t.assigned.as_ref().zip(c.assigned.as_ref()).and_then(|(t, c)| {
        let effect = permutation_test(t, c, &inference).ok()?;
        // A test without an interval holds the truth where it does not reject.
        all_hold([effect.p_value.map(|p| if p <= 0.05 { (1.0, 1.0) } else { (0.0, 0.0) })])
    });
    let buckets = [
        by_clusters(ClusteredStdError::Delta),
        by_clusters(ClusteredStdError::Jackknife),
        by_buckets(Interval::Percentile),
        by_buckets(Interval::Normal),
        by_buckets(Interval::Studentized),
        by_buckets(Interval::Basic),
        by_buckets(Interval::Bca),
        permuted,
    ];
    let units = (0..Law::ALL.len()).flat_map(|law| OF_UNITS.map(|interval| (law, interval)));
    let units = units.map(|(law, interval)| by_units(law, interval));
    let all: Vec<Option<Effect>> = buckets.into_iter().chain(units).collect();
    all.try_into().expect("as many effects as ways")
}

pub(super) fn tables(experiments: usize, largest: usize) {
    println!(
        "\nExperiments without an effect, so that what is missing from 100 are false positives: p is at most 0.05 where the interval excludes 0. \"mean\" is one row per unit; \"ratio\" a ratio of two sums whose denominator varies by unit; \"cuped\" the mean adjusted for what was before, which is the same \
         of 7 units in 10 and else drawn anew (the t interval is that of `clustered_cuped`). Intervals of 4096 buckets, and beside them the two t intervals and how often the permutation test finds nothing:\n"
    );
    head(&[&["law", "units", "statistic"][..], &BUCKETS].concat());
    let (mut by_units, mut deviations) = (Vec::new(), Vec::new());
    for shape in Shape::ALL {
        for statistic in Statistic::ALL {
            for (n_t, n_c) in SIZES.into_iter().filter(|(t, c)| *t.max(c) <= largest) {
                let experiments = experiments_of(experiments, statistic.cost() * (n_t + n_c));
                let coverage = simulate(experiments, |experiment| {
                    let seed = 1 + experiment as u64;
                    let arms = arms((shape, statistic, 1.0), (n_t, n_c), seed);
                    ways(&arms, statistic, seed)
                });
                let what = format!("{} | {n_t} / {n_c} | {}", shape.name(), statistic.name());
                let (buckets, units) = coverage.split_at(BUCKETS.len());
                let (Some(buckets), Some(units)) =
                    (row(&what, buckets, experiments), row(&what, units, experiments))
                else {
                    continue;
                };
                println!("{buckets}");
                // One of every way to a standard error: jackknife, buckets, and the laws of units.
                let found = [1, 3, 9, 13, 17].map(|way| coverage[way].deviation());
                let deviation = format!("| {what} | {} |", found.join(" | "));
                eprintln!("{buckets}\n{units}\n{deviation}");
                by_units.push(units);
                deviations.push(deviation);
            }
        }
    }
    println!(
        "\nThe same experiments, by replicates of units (studentized intervals take buckets):\n"
    );
    let names = each(&Law::ALL.map(Law::name), &OF_UNITS.map(Interval::name));
    head(&[&["law", "units", "statistic"].map(String::from)[..], &names].concat());
    by_units.iter().for_each(|row| println!("{row}"));
    println!(
        "\nThe standard error against the closed form of the t interval: the root mean square of the relative deviations, in %. The noise of {} replicates is 1/√(2B) = {:.1}.\n",
        BOOTSTRAP.replicates,
        100.0 / (2.0 * f64::from(BOOTSTRAP.replicates)).sqrt()
    );
    let laws = Law::ALL.map(Law::name);
    head(&[&["law", "units", "statistic", "jackknife", "buckets"][..], &laws].concat());
    deviations.iter().for_each(|row| println!("{row}"));
}
