//! `bootstrap`: means and ratios, by buckets of units or by weights of units.

use gosset_stats::Effect;
use gosset_stats::compare::{
    BootstrapOptions, Interval, QuantileInterval, QuantileOptions, bootstrap as of_buckets,
    bootstrap_replicates,
};
use gosset_stats::summary::buckets::{DEFAULT_BUCKETS, check_buckets};
use gosset_stats::summary::{Law, Resampling};
use serde_json::{Value, json};

use super::means::Ttest;
use super::quantile::OfRows;
use super::{Estimator, Measured, Named, Sides, is_ratio, of_totals};
use crate::file::{self, BootstrapSection};
use crate::job::Metric;
use crate::kept::Kept;
use crate::{JobError, Result};

/// What the effects of a metric that is quantiles of rows are called.
const OF_QUANTILES: &str = "bootstrap_quantile";

#[derive(Debug)]
pub(super) struct Bootstrap {
    kept: Kept,
    options: BootstrapOptions,
    /// How it takes a metric that is quantiles of rows, or why it does not.
    of_rows: Result<OfRows, String>,
}

/// The intervals that weights of units allow: the standard error of a replicate takes the totals of its units.
const OF_WEIGHTS: [Interval; 4] =
    [Interval::Percentile, Interval::Normal, Interval::Basic, Interval::Bca];

impl Bootstrap {
    pub(super) fn new(section: &BootstrapSection, seed: u64) -> Result<Self> {
        let method = section.method.unwrap_or_default();
        let default = BootstrapOptions::default();
        let options = BootstrapOptions {
            replicates: section.replicates.unwrap_or(default.replicates),
            seed,
            interval: section.interval.map_or(default.interval, Into::into),
        };
        options.check().map_err(wrong)?;
        let buckets = section.buckets.unwrap_or(DEFAULT_BUCKETS);
        check_buckets(buckets).map_err(wrong)?;
        let of_rows = of_rows(method.law().unwrap_or_default(), options);
        let Some(law) = method.law() else {
            return Ok(Self { kept: Kept::Buckets(buckets), options, of_rows });
        };
        check_interval(options.interval, &OF_WEIGHTS, &format!("method = \"{}\"", law.name()))?;
        let with_buckets = options.interval == Interval::Bca;
        if section.buckets.is_some() && !with_buckets {
            return Err(JobError::File(format!(
                "'buckets' are of method = \"buckets\" and of interval = \"bca\"; found method = \"{}\" and interval = \"{}\"",
                law.name(),
                options.interval.name()
            )));
        }
        let resampling = Resampling {
            law,
            replicates: options.replicates,
            seed,
            buckets: with_buckets.then_some(buckets),
            ..Resampling::default()
        };
        Ok(Self { kept: Kept::Replicates(resampling), options, of_rows })
    }
}

/// Quantiles of rows by the same replicates, if the interval is one of quantiles.
fn of_rows(law: Law, options: BootstrapOptions) -> Result<OfRows, String> {
    let BootstrapOptions { replicates, seed, interval } = options;
    let interval = match interval {
        Interval::Percentile => QuantileInterval::Percentile,
        Interval::Basic => QuantileInterval::Basic,
        Interval::Normal => QuantileInterval::Normal,
        Interval::Studentized | Interval::Bca => {
            return Err(format!(
                "interval = \"{}\" is not one of quantiles, which this metric is: take percentile, basic or normal",
                interval.name()
            ));
        }
    };
    let default = QuantileOptions::default();
    Ok(OfRows::new(law, QuantileOptions { interval, replicates, seed, ..default }))
}

/// What the ranges of options are is known to those who take them.
pub(super) fn wrong(error: gosset_stats::Error) -> JobError {
    JobError::File(error.to_string())
}

/// Refuses an interval that what is resampled does not allow, and names the one that is most like it.
fn check_interval(found: Interval, allowed: &[Interval], by: &str) -> Result<()> {
    if allowed.contains(&found) {
        return Ok(());
    }
    // One is the estimate and quantiles of a standard error, the other moves the ends of percentiles.
    let near = if found == Interval::Studentized { Interval::Normal } else { Interval::Percentile };
    let names: Vec<String> = allowed.iter().map(|i| format!("'{}'", i.name())).collect();
    Err(JobError::File(format!(
        "with {by} expected the interval {}; found '{}'; the nearest is '{}'",
        names.join(" | "),
        found.name(),
        near.name()
    )))
}

impl file::Method {
    /// The law of the weights of units; none where buckets are resampled.
    fn law(self) -> Option<Law> {
        match self {
            Self::Buckets => None,
            Self::Poisson => Some(Law::Poisson),
            Self::DoubleOrNothing => Some(Law::DoubleOrNothing),
            Self::Bayesian => Some(Law::Bayesian),
        }
    }
}

impl Estimator for Bootstrap {
    fn name(&self) -> &'static str {
        "bootstrap"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["bootstrap_mean", "bootstrap_ratio", OF_QUANTILES]
    }

    fn options(&self) -> Value {
        let BootstrapOptions { replicates, seed, interval } = self.options;
        let (method, buckets) = match self.kept {
            Kept::Replicates(Resampling { law, buckets, .. }) => (law.name(), buckets),
            Kept::Buckets(buckets) => ("buckets", Some(buckets)),
            Kept::Moments(_)
            | Kept::StratifiedMoments(_)
            | Kept::Totals(_)
            | Kept::Histogram(_) => ("", None),
        };
        json!([method, buckets, replicates, seed, interval.name()])
    }

    fn seed(&self) -> Option<u64> {
        Some(self.options.seed)
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        Ok(match self.kept {
            Kept::Buckets(buckets) if metric.totals => Kept::Totals(buckets),
            kept => kept,
        })
    }

    fn takes_rows(&self) -> Result<Kept, String> {
        self.of_rows.as_ref().map(OfRows::kept).map_err(Clone::clone)
    }

    fn rows(&self, metric: &Metric) -> Vec<Named> {
        match metric.measure.quantiles() {
            Some(at) => Named::of_quantiles(OF_QUANTILES, at),
            None => vec![self.name().into()],
        }
    }

    fn for_estimates(&self) -> Option<&'static dyn Estimator> {
        Some(&Ttest)
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>> {
        if let (Some(at), Ok(of_rows)) = (of.metric.measure.quantiles(), &self.of_rows) {
            return of_rows.effects(OF_QUANTILES, at, (of, sides));
        }
        let inference = &of.metric.inference;
        let effect = match self.kept {
            Kept::Replicates(_) => {
                let (t, c) = sides.replicates()?;
                bootstrap_replicates(t, c, inference, self.options.interval)?
            }
            _ => {
                let (t, c) = sides.buckets()?;
                let effect = of_buckets(t, c, inference, &self.options)?;
                if of.metric.totals { of_totals(effect, (t, c)) } else { effect }
            }
        };
        let name = if is_ratio(of.metric) { "bootstrap_ratio" } else { "bootstrap_mean" };
        Ok(vec![(name.into(), effect)])
    }
}
