//! Relative effects: the mean of treatment is a fifth larger.

use gosset_stats::compare::{
    BootstrapOptions, ClusteredStdError, Interval, bootstrap, bootstrap_replicates, clustered_ttest,
};
use gosset_stats::{Effect, Inference, Relative};

use super::means::{SIZES, arms};
use super::units::{Shape, Statistic};
use super::{BOOTSTRAP, head, print};
use crate::simulate::{experiments_of, simulate};
use crate::table::relative_about;

const COLUMNS: [&str; 10] = [
    "t fieller",
    "t log",
    "t delta",
    "normal fieller",
    "normal log",
    "normal delta",
    "percentile",
    "poisson percentile",
    "double_or_nothing percentile",
    "bayesian percentile",
];
const LIFT: f64 = 1.2;

pub(super) fn table(experiments: usize, largest: usize) {
    println!(
        "\nRelative effects of experiments in which treatment makes the mean a fifth larger. Percentile is the relative interval of every bootstrap but the normal one; the first columns are of the t interval and of buckets.\n"
    );
    head(&[&["law", "units", "statistic"][..], &COLUMNS].concat());
    let sizes = || SIZES.into_iter().filter(|(t, c)| *t.max(c) <= largest);
    for shape in Shape::ALL {
        for statistic in [Statistic::Mean, Statistic::Ratio] {
            for (n_t, n_c) in sizes() {
                let experiments = experiments_of(experiments, n_t + n_c);
                let coverage = simulate(experiments, |experiment| {
                    let seed = 1 + experiment as u64;
                    let [t, c] = &arms((shape, statistic, LIFT), (n_t, n_c), seed);
                    let (of_t, of_c) = (t.buckets(), c.buckets());
                    let relative = |relative| Inference { relative, ..Inference::default() };
                    let about_truth = |effect: gosset_stats::Result<Effect>| {
                        effect.ok().map(|effect| relative_about(effect, LIFT - 1.0))
                    };
                    let by_t = |by| {
                        let std_error = ClusteredStdError::Delta;
                        about_truth(clustered_ttest(of_t, of_c, &relative(by), std_error))
                    };
                    let by_buckets = |interval, by| {
                        let options =
                            BootstrapOptions { replicates: BOOTSTRAP.replicates, seed, interval };
                        about_truth(bootstrap(of_t, of_c, &relative(by), &options))
                    };
                    let by_units = |law: usize| {
                        let (t, c) = (t.of_law(law), c.of_law(law));
                        about_truth(bootstrap_replicates(
                            t,
                            c,
                            &Inference::default(),
                            Interval::Percentile,
                        ))
                    };
                    [
                        by_t(Relative::Fieller),
                        by_t(Relative::Log),
                        by_t(Relative::Delta),
                        by_buckets(Interval::Normal, Relative::Fieller),
                        by_buckets(Interval::Normal, Relative::Log),
                        by_buckets(Interval::Normal, Relative::Delta),
                        by_buckets(Interval::Percentile, Relative::Fieller),
                        by_units(0),
                        by_units(1),
                        by_units(2),
                    ]
                });
                let what = format!("{} | {n_t} / {n_c} | {}", shape.name(), statistic.name());
                print(&what, &coverage, experiments);
            }
        }
    }
}
