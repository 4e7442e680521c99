//! The estimators of a job. Each is a file here and a line in [`ESTIMATORS`]: what it takes of a metric, and the
//! effects it makes of that.

mod adjusted;
mod bootstrap;
mod means;
mod post_stratify;
mod quantile;
mod rank;

use std::fmt::Debug;
use std::sync::Arc;

use gosset_stats::Effect;
use gosset_stats::compare::{Influence, Squares};
use gosset_stats::summary::{
    AnySummary, Buckets, Histogram, Moments, Replicates, StratifiedMoments,
};
use serde_json::{Value, json};

use crate::file::explain::nearest;
use crate::file::{EstimatorsSection, Missing};
use crate::job::{Measure, Metric};
use crate::kept::Kept;
use crate::{JobError, Result, internal};
use adjusted::{Cuped, Lin, Mlrate};
use bootstrap::Bootstrap;
use means::Ttest;
use post_stratify::PostStratify;
use quantile::Quantile;
use rank::Rank;

/// How the effects of an experiment are estimated, with its options.
pub(crate) trait Estimator: Debug + Send + Sync {
    /// What job files call it.
    fn name(&self) -> &'static str;

    /// The functions of SQL that give the same effects, for their value versions.
    fn functions(&self) -> &'static [&'static str];

    /// The options that its effects depend on; null where it has none.
    fn options(&self) -> Value {
        Value::Null
    }

    /// The seed of its replicates, if it has any.
    fn seed(&self) -> Option<u64> {
        None
    }

    /// Whether it has all that an experiment needs which names it; a ramp has strata of its own.
    fn check(&self, _ramp: bool) -> Result<()> {
        Ok(())
    }

    /// The column of the assignments that units are stratified by, where it takes strata.
    fn strata(&self) -> Option<&str> {
        None
    }

    /// Whether it compares units of a stratum with those of the same alone.
    fn is_stratified(&self) -> bool {
        false
    }

    /// What it compares of a metric, or why it cannot.
    fn takes(&self, metric: &Metric) -> Result<Kept, String>;

    /// What it compares of a metric that is quantiles of rows, or why it cannot.
    fn takes_rows(&self) -> Result<Kept, String> {
        Err(format!(
            "{} takes a value of each unit, this metric is quantiles of rows: bootstrap and quantile take it",
            self.name()
        ))
    }

    /// Another estimator that gives the same estimates and takes less for them.
    fn for_estimates(&self) -> Option<&'static dyn Estimator> {
        None
    }

    /// Whether it takes the summaries of other arms as well.
    fn is_among_all_arms(&self) -> bool {
        false
    }

    /// Whether its standard errors take a second pass over the units.
    fn passes_twice(&self) -> bool {
        false
    }

    /// What the second pass adds up over the units of treatment and of control, if it is worth one.
    fn influences(&self, _: &Sides) -> Result<Option<[Influence; 2]>> {
        Ok(None)
    }

    /// What the rows of a metric that it cannot take are called.
    fn rows(&self, _: &Metric) -> Vec<Named> {
        vec![self.name().into()]
    }

    /// Its rows for a metric: what they are called, and the effects.
    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>>;
}

/// Makes an estimator of the options of a job file, and of the experiment's own seed for one that they may say.
type Make = fn(&EstimatorsSection, &dyn Fn(Option<u32>) -> u64) -> Result<Arc<dyn Estimator>>;

/// The names that job files know.
const ESTIMATORS: [(&str, Make); 9] = [
    ("ttest", |_, _| Ok(Arc::new(Ttest))),
    ("cuped", |all, _| Ok(Arc::new(Cuped::new(&all.cuped)))),
    ("lin", |all, _| Ok(Arc::new(Lin::new(&all.lin)))),
    ("mlrate", |all, _| Ok(Arc::new(Mlrate::new(&all.mlrate)))),
    ("post_stratify", |all, _| Ok(Arc::new(PostStratify::new(&all.post_stratify)))),
    ("bootstrap", |all, seed| {
        let made = Bootstrap::new(&all.bootstrap, seed(all.bootstrap.seed));
        Ok(Arc::new(made.map_err(|error| error.about("[estimators.bootstrap]"))?))
    }),
    ("quantile", |all, seed| {
        let made = Quantile::new(&all.quantile, seed(all.quantile.seed));
        Ok(Arc::new(made.map_err(|error| error.about("[estimators.quantile]"))?))
    }),
    ("mann_whitney", |_, _| Ok(Arc::new(Rank::MANN_WHITNEY))),
    ("ks_test", |_, _| Ok(Arc::new(Rank::KS_TEST))),
];

/// The estimator of a name. Seeds are made of what the options say, if they do.
pub(crate) fn estimator(
    name: &str,
    options: &EstimatorsSection,
    seed: &dyn Fn(Option<u32>) -> u64,
) -> Result<Arc<dyn Estimator>> {
    let Some((_, make)) = ESTIMATORS.iter().find(|(known, _)| *known == name) else {
        let known = ESTIMATORS.map(|(known, _)| known);
        let hint = nearest(name, known).map(|near| format!("; did you mean '{near}'?"));
        return Err(JobError::File(format!(
            "expected the estimators {}; found '{name}'{}",
            known.join(", "),
            hint.unwrap_or_default()
        )));
    };
    make(options, seed)
}

/// Checks the options of all estimators, also of those that no experiment names.
pub(crate) fn check(options: &EstimatorsSection) -> Result<()> {
    ESTIMATORS.iter().try_for_each(|(_, make)| make(options, &|_| 0).map(|_| ()))
}

/// The estimator that takes the least for the estimates of another, in their order.
pub(crate) fn for_estimates(estimator: &dyn Estimator) -> &dyn Estimator {
    estimator.for_estimates().unwrap_or(estimator)
}

/// A metric, and what is known of all of its units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) metric: &'a Metric,
    /// Whether every value is 0 or 1.
    pub(crate) binary: bool,
}

/// What an effect is called in results.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Named {
    /// The function that gives the same effect in SQL, or `quantile`.
    pub(crate) estimator: &'static str,
    /// Which quantile it is of, if it is of one.
    pub(crate) quantile: Option<f64>,
}

impl Named {
    /// The effects of some quantiles.
    fn of_quantiles(estimator: &'static str, at: &[f64]) -> Vec<Self> {
        at.iter().map(|&q| Self { estimator, quantile: Some(q) }).collect()
    }
}

impl From<&'static str> for Named {
    fn from(estimator: &'static str) -> Self {
        Self { estimator, quantile: None }
    }
}

/// What an estimator compares: the summaries that it takes of treatment and control.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) treatment: AnySummary,
    pub(crate) control: AnySummary,
    /// That of all other arms together, for an estimator that is among all arms.
    pub(crate) others: Option<AnySummary>,
    /// Of a metric of rows: how many units of treatment and control have any.
    pub(crate) with_rows: Option<(u64, u64)>,
    /// What a second pass found.
    pub(crate) squares: Option<[Squares; 2]>,
}

impl Sides {
    /// The moments of other arms, for an estimator that takes them.
    fn others(&self) -> Result<Option<&Moments>> {
        match &self.others {
            None => Ok(None),
            Some(AnySummary::Moments(others)) => Ok(Some(others)),
            Some(_) => Err(internal("an estimator was not given the moments of other arms")),
        }
    }
}

macro_rules! sides {
    ($($method:ident: $kind:ident),*) => {
        impl Sides {
            $(fn $method(&self) -> Result<(&$kind, &$kind)> {
                match (&self.treatment, &self.control) {
                    (AnySummary::$kind(t), AnySummary::$kind(c)) => Ok((t, c)),
                    _ => Err(internal(concat!("an estimator was not given the ", stringify!($method), " it takes"))),
                }
            })*
        }
    };
}
sides!(
    moments: Moments,
    stratified: StratifiedMoments,
    buckets: Buckets,
    replicates: Replicates,
    histograms: Histogram
);

/// Whether a metric is the ratio of two sums.
fn is_ratio(metric: &Metric) -> bool {
    matches!(metric.measure, Measure::Ratio(..))
}

/// What takes a value of each unit, and no ratio.
fn of_values(name: &str, metric: &Metric, kept: Kept) -> Result<Kept, String> {
    match is_ratio(metric) {
        true => Err(format!("{name} takes a metric with a value, this one is a ratio")),
        false => Ok(kept),
    }
}

/// The options of an estimator with what becomes of units without a covariate, unless it is what it always was.
fn with_missing(options: Value, missing: Missing) -> Value {
    match missing {
        Missing::Indicator => options,
        Missing::Drop | Missing::Error => json!({"options": options, "missing": missing}),
    }
}

/// An effect from totals, whose rows are units: they are counted, also where they are in buckets.
fn of_totals(mut effect: Effect, (t, c): (&Buckets, &Buckets)) -> Effect {
    effect.count_units(t.rows(), c.rows());
    effect
}

/// Checks quantiles of a job file.
pub(crate) fn check_quantiles(quantiles: &[f64]) -> Result<()> {
    if quantiles.is_empty() {
        return Err(JobError::File("expected at least one quantile".into()));
    }
    for (i, q) in quantiles.iter().enumerate() {
        if !(0.0..=1.0).contains(q) {
            return Err(JobError::File(format!("quantiles must be from 0 to 1, found {q}")));
        }
        if quantiles[..i].contains(q) {
            return Err(JobError::File(format!("the quantile {q} is named twice")));
        }
    }
    Ok(())
}

/// The effect of an estimator that a metric cannot take.
pub(crate) fn not_taken(metric: &Metric, estimator: &str, why: String) -> Effect {
    Effect {
        confidence: metric.inference.confidence,
        method: estimator.to_owned(),
        note: Some(why),
        ..Effect::default()
    }
}
