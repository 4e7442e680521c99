//! Caps of metrics: quantiles of the units of all arms, found in a pass over the units, and the columns of capped values.
//!
//! A cap is a value of all analysed units, the same in every arm and in every segment: what is measured of a unit does not
//! depend on whom it is compared with, and segments add up to the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, ExprFunctionExt, cast, ident, lit, placeholder, when};
use datafusion::prelude::DataFrame;
use gosset_engine::Engine;
use gosset_stats::compare::Caps as Quantiles;
use gosset_stats::summary::{Histogram, Summary};

use crate::expression::is_finite;
use crate::job::{Experiment, Metric, Part};
use crate::kept::Kept;
use crate::units::{self, Units, state};
use crate::{Result, internal};

/// The column of the capped values of a metric.
pub(crate) fn capped(metric: usize) -> String {
    format!("capped{metric}")
}

/// The values at which a metric is capped, where there are units.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cap {
    /// Values below it count as it.
    pub lower: Option<f64>,
    /// Values above it count as it.
    pub upper: Option<f64>,
}

/// Metrics by their position to their caps.
pub(crate) type Caps = BTreeMap<usize, Cap>;

/// The metrics of an experiment whose capped values are taken.
fn with_cap(experiment: &Experiment) -> impl Iterator<Item = (usize, &Metric)> {
    let capped = experiment.parts().into_iter().filter(|part| part.capped);
    let capped: BTreeSet<usize> = capped.map(|part| part.metric).collect();
    capped.into_iter().map(|i| (i, &experiment.metrics[i]))
}

/// Finds the caps of an experiment's metrics.
pub(crate) async fn find(engine: &Engine, experiment: &Experiment, units: &Units) -> Result<Caps> {
    let distribution = |(i, metric)| {
        let part = Part { metric: i, kept: Kept::Histogram(None), capped: false };
        Ok(Kept::aggregate(engine, &part, metric)?.alias(capped(i)))
    };
    let distributions = with_cap(experiment).map(distribution).collect::<Result<Vec<_>>>()?;
    if distributions.is_empty() {
        return Ok(Caps::new());
    }
    let analysed = units.frame.clone().filter(ident(units::STATE).eq(lit(state::ANALYSED)))?;
    // By arm, since groups take less memory than one aggregate of everything.
    let by_arm = analysed.aggregate(vec![ident(units::ARM)], distributions)?.collect().await?;
    with_cap(experiment).map(|(i, metric)| Ok((i, cap(&by_arm, &capped(i), metric)?))).collect()
}

/// The caps of a metric, given the distributions of its arms in a column.
fn cap(by_arm: &[RecordBatch], column: &str, metric: &Metric) -> Result<Cap> {
    let mut all: Option<Histogram> = None;
    for batch in by_arm {
        let column = batch.column_by_name(column);
        let column = column.ok_or_else(|| internal("the distributions of arms are missing"))?;
        for bytes in column.as_binary::<i64>().iter().flatten() {
            let arm = Histogram::decode(bytes).map_err(|error| internal(error.to_string()))?;
            match &mut all {
                Some(all) => all.merge(&arm)?,
                None => all = Some(arm),
            }
        }
    }
    let bins = all.map(|all| all.bins()).unwrap_or_default();
    let (lower, upper) = metric.cap.unwrap_or_default().limits(&bins);
    Ok(Cap { lower, upper })
}

/// The units with the columns of capped values.
pub(crate) fn with_values(units: Units, experiment: &Experiment, caps: &Caps) -> Result<Units> {
    with_columns(units, experiment, |i, _| {
        let Cap { lower, upper } = caps.get(&i).copied().unwrap_or_default();
        [lower, upper].map(|cap| cap.map(lit))
    })
}

/// The same before the caps are known, with parameters in their place.
pub(crate) fn with_parameters(units: Units, experiment: &Experiment) -> Result<Units> {
    with_columns(units, experiment, |i, metric| {
        let Quantiles { lower, upper } = metric.cap.unwrap_or_default();
        let [below, above] = parameters(i).map(|name| cast(placeholder(name), DataType::Float64));
        [(lower > 0.0).then_some(below), (upper < 1.0).then_some(above)]
    })
}

/// A query whose parameters have values, whatever these are.
pub(crate) fn with_any_values(frame: DataFrame, experiment: &Experiment) -> Result<DataFrame> {
    let any = ScalarAndMetadata::from(ScalarValue::from(0.0));
    let named = with_cap(experiment).flat_map(|(i, _)| parameters(i));
    let named = named.map(|name| (name[1..].to_owned(), any.clone())).collect();
    Ok(frame.with_param_values(ParamValues::Map(named))?)
}

/// The parameters for the caps of a metric.
fn parameters(metric: usize) -> [String; 2] {
    [format!("$lower{metric}"), format!("$upper{metric}")]
}

/// Adds the columns of capped values, given the caps of a metric. What is not finite is no value beyond a cap.
fn with_columns(
    units: Units,
    experiment: &Experiment,
    caps: impl Fn(usize, &Metric) -> [Option<Expr>; 2],
) -> Result<Units> {
    let mut frame = units.frame.clone();
    for (i, metric) in with_cap(experiment) {
        let value = || cast(ident(units::value(i)), DataType::Float64);
        let [lower, upper] = caps(i, metric);
        let below = lower.map(|cap| (value().lt(cap.clone()), cap));
        let above = upper.map(|cap| (value().gt(cap.clone()), cap));
        let mut column = value();
        for (beyond, cap) in below.into_iter().chain(above) {
            column = when(is_finite(value()).and(beyond), cap).otherwise(column)?;
        }
        frame = frame.with_column(&capped(i), column)?;
    }
    Ok(Units { frame, ..units })
}

/// How many units of an arm have a value, and how many of these are beyond the caps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Beyond {
    pub(crate) units: u64,
    pub(crate) beyond: u64,
}

/// The columns of [`Beyond`].
pub(crate) fn counted(metric: usize) -> [String; 2] {
    [format!("with_value{metric}"), format!("beyond{metric}")]
}

/// Counts the units of a metric that are beyond its caps.
pub(crate) fn counts(metric: usize) -> Result<[Expr; 2]> {
    let value = || cast(ident(units::value(metric)), DataType::Float64);
    let beyond = count(lit(1_i64)).filter(ident(capped(metric)).not_eq(value())).build()?;
    let [all, those] = counted(metric);
    Ok([count(value()).alias(all), beyond.alias(those)])
}

/// Where the values behind an effect were capped, and what that changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capped {
    /// The caps.
    pub cap: Cap,
    /// The share of the units of both arms that are beyond them; none without units.
    pub share: Option<f64>,
    /// The estimate from the values as they are.
    pub estimate_uncapped: Option<f64>,
    treatment: Beyond,
    control: Beyond,
}

impl Capped {
    pub(crate) fn new(cap: Cap, treatment: Beyond, control: Beyond) -> Self {
        let units = treatment.units + control.units;
        let beyond = treatment.beyond + control.beyond;
        let share = (units > 0).then(|| beyond as f64 / units as f64);
        Self { cap, share, estimate_uncapped: None, treatment, control }
    }
}

impl fmt::Display for Capped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cap, treatment, control, estimate_uncapped, .. } = self;
        for (side, cap) in [("lower", cap.lower), ("upper", cap.upper)] {
            cap.map_or(Ok(()), |cap| write!(f, "{side} cap {cap}; "))?;
        }
        write!(
            f,
            "{} of {} units of treatment and {} of {} of control are beyond; uncapped: estimate ",
            treatment.beyond, treatment.units, control.beyond, control.units
        )?;
        match estimate_uncapped {
            Some(estimate) => write!(f, "{estimate}"),
            None => f.write_str("none"),
        }
    }
}
