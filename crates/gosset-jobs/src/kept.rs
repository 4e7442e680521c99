//! What is kept of a metric's units for the estimators: a summary for each arm and slice, shared by all that take it.

use arrow::datatypes::DataType;
use datafusion::execution::FunctionRegistry;
use datafusion::functions::core::expr_fn::{coalesce, named_struct};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use gosset_engine::Engine;
use gosset_sql::size;
use gosset_stats::summary::moments::INDICATOR;
use gosset_stats::summary::{
    AnySummary, Buckets, Histogram, HistogramOptions, Kind, Moments, Replicates, Resampling,
    StratifiedMoments,
};

use crate::file::Missing;
use crate::job::{Measure, Metric, Part};
use crate::{Result, caps, units};

/// A kind of summary with its options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kept {
    /// Sums and products of outcomes and covariates, and what becomes of units without one of these.
    Moments(Missing),
    /// The same for each stratum.
    StratifiedMoments(Missing),
    /// Totals of the outcomes by so many buckets of units.
    Buckets(u32),
    /// The same with covariates, to which the totals of further days are added.
    Totals(u32),
    /// Weighted sums of the outcomes for every replicate.
    Replicates(Resampling),
    /// The distribution of the value over units, or over their rows, with weights of units for every replicate where asked
    /// for.
    Histogram(Option<Resampling>),
}

impl Part {
    /// The column of its values, or of its numerators.
    pub(crate) fn value(&self) -> String {
        match self.capped {
            true => caps::capped(self.metric),
            false => units::value(self.metric),
        }
    }
}

impl Kept {
    /// Whether it takes the units themselves, not only their values.
    pub(crate) fn needs_units(&self) -> bool {
        !matches!(self, Self::Moments(_) | Self::StratifiedMoments(_) | Self::Histogram(None))
    }

    /// Whether it is what means are made of, which are of capped values; distributions are of values as they are.
    pub(crate) fn is_of_means(&self) -> bool {
        !matches!(self, Self::Histogram(_))
    }

    /// Whether it leaves out units without a covariate.
    pub(crate) fn leaves_out(&self) -> bool {
        matches!(self, Self::Moments(Missing::Drop) | Self::StratifiedMoments(Missing::Drop))
    }

    /// The function of SQL that makes it.
    pub(crate) fn function(&self) -> &'static str {
        match self {
            Self::Moments(_) => Kind::Moments,
            Self::StratifiedMoments(_) => Kind::StratifiedMoments,
            Self::Buckets(_) | Self::Totals(_) => Kind::Buckets,
            Self::Replicates(_) => Kind::Replicates,
            Self::Histogram(_) => Kind::Histogram,
        }
        .name()
    }

    /// The aggregate over units that makes a part, which is of this metric.
    pub(crate) fn aggregate(engine: &Engine, part: &Part, metric: &Metric) -> Result<Expr> {
        let (position, value) = (part.metric, part.value());
        let value = || ident(&value);
        let outcomes = match metric.measure {
            Measure::Mean(_) | Measure::Quantiles { .. } => vec![lit("(value)"), value()],
            Measure::Ratio(..) => {
                let below = ident(units::denominator(position));
                vec![lit("(numerator)"), value(), lit("(denominator)"), below]
            }
        };
        let outcomes = named_struct(outcomes);
        let unit = || ident(units::UNIT);
        let named = metric.covariates.iter().enumerate();
        let named = named.flat_map(|(k, covariate)| {
            [lit(covariate.label.clone()), ident(units::covariate(position, k))]
        });
        let covariates = (!metric.covariates.is_empty()).then(|| named_struct(named.collect()));
        let args = match &part.kept {
            Self::Moments(missing) => {
                let policy = policy(*missing).filter(|_| covariates.is_some());
                std::iter::once(outcomes).chain(covariates).chain(policy).collect()
            }
            Self::StratifiedMoments(missing) => {
                let policy = policy(*missing).filter(|_| covariates.is_some());
                let known = covariates.into_iter().chain(policy);
                [ident(units::STRATUM), outcomes].into_iter().chain(known).collect()
            }
            Self::Buckets(buckets) => {
                vec![unit(), outcomes, named_struct(vec![lit("buckets"), lit(i64::from(*buckets))])]
            }
            Self::Totals(buckets) => {
                let known = metric.covariates.iter().enumerate();
                let known: Vec<Expr> =
                    known.flat_map(|(k, known)| in_totals(&known.label, position, k)).collect();
                let known = (!known.is_empty()).then(|| named_struct(known));
                let options = named_struct(vec![lit("buckets"), lit(i64::from(*buckets))]);
                [unit(), outcomes].into_iter().chain(known).chain([options]).collect()
            }
            Self::Replicates(resampling) => vec![unit(), outcomes, options(resampling)],
            Self::Histogram(None) => vec![value()],
            Self::Histogram(Some(resampling)) => vec![value(), unit(), options(resampling)],
        };
        Ok(engine.context().udaf(part.kept.function())?.call(args))
    }

    /// The summary of no units, with the columns and options of another.
    pub(crate) fn empty(like: &AnySummary) -> Result<AnySummary> {
        Ok(match like {
            AnySummary::Moments(s) => AnySummary::Moments(Moments::new(s.columns().clone())),
            AnySummary::StratifiedMoments(s) => {
                AnySummary::StratifiedMoments(StratifiedMoments::new(s.columns().clone()))
            }
            AnySummary::Buckets(s) => {
                AnySummary::Buckets(Buckets::new(s.columns().clone(), s.buckets())?)
            }
            AnySummary::Replicates(s) => {
                AnySummary::Replicates(Replicates::new(s.columns().clone(), s.resampling())?)
            }
            AnySummary::Histogram(s) => {
                let options =
                    HistogramOptions { resampling: s.resampling(), ..HistogramOptions::default() };
                AnySummary::Histogram(Histogram::new(s.columns().clone(), &options)?)
            }
            other => return Err(crate::internal(format!("found a summary of {:?}", other.kind()))),
        })
    }

    /// Bytes of the state of some units of a metric, about.
    pub(crate) fn bytes(&self, metric: &Metric, units: u64) -> usize {
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        let outcomes = match metric.measure {
            Measure::Mean(_) | Measure::Quantiles { .. } => 1,
            Measure::Ratio(..) => 2,
        };
        match self {
            Self::Moments(_) => size::moments(outcomes + metric.covariates.len()),
            Self::StratifiedMoments(_) => {
                size::stratified_moments(outcomes + metric.covariates.len(), units)
            }
            Self::Buckets(buckets) => size::buckets(*buckets, outcomes, units),
            Self::Totals(buckets) => {
                size::buckets(*buckets, outcomes + 2 * metric.covariates.len(), units)
            }
            Self::Replicates(resampling) => size::replicates(resampling, outcomes, units),
            Self::Histogram(resampling) => size::histogram(resampling.as_ref(), units),
        }
    }

    /// What to lower in the job file where it takes too much memory, if anything.
    pub(crate) fn what_to_lower(&self) -> Option<&'static str> {
        match self {
            Self::Moments(_) | Self::StratifiedMoments(_) | Self::Histogram(None) => None,
            Self::Buckets(_) | Self::Totals(_) => Some("'buckets' of [estimators.bootstrap]"),
            Self::Replicates(_) => {
                Some("'replicates' of [estimators.bootstrap] or take its method = \"buckets\"")
            }
            Self::Histogram(Some(_)) => {
                Some("'replicates' of [estimators.quantile] or take its method = \"binomial\"")
            }
        }
    }
}

/// A covariate and whether it is missing: a unit without one counts all the same.
fn in_totals(label: &str, metric: usize, covariate: usize) -> [Expr; 4] {
    let column = || ident(units::covariate(metric, covariate));
    let missing = cast(column().is_null(), DataType::Float64);
    [
        lit(label),
        coalesce(vec![column(), lit(0.0_f64)]),
        lit(format!("{label}{INDICATOR}")),
        missing,
    ]
}

/// The option of what becomes of units without a covariate, where it is not the default.
fn policy(missing: Missing) -> Option<Expr> {
    let word = match missing {
        Missing::Indicator => return None,
        Missing::Drop => "drop",
        Missing::Error => "error",
    };
    Some(named_struct(vec![lit("missing"), lit(word)]))
}

/// The options of a function that weights units.
fn options(resampling: &Resampling) -> Expr {
    let Resampling { law, replicates, seed, buckets, .. } = resampling;
    let mut named = vec![
        lit("method"),
        lit(law.name()),
        lit("replicates"),
        lit(i64::from(*replicates)),
        lit("seed"),
        lit(*seed),
    ];
    if let Some(buckets) = buckets {
        named.extend([lit("buckets"), lit(i64::from(*buckets))]);
    }
    named_struct(named)
}
