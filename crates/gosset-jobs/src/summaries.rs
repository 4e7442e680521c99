//! From units to summaries: one aggregation for all metrics, arms and segments of an experiment.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::execution::FunctionRegistry;
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::functions_aggregate::grouping::grouping_udaf;
use datafusion::logical_expr::{Expr, ExprFunctionExt, GroupingSet, cast, ident, lit};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use gosset_engine::{Engine, EngineError};
use gosset_stats::Summary;
use gosset_stats::summary::{Buckets, Moments};

use crate::job::{Estimator, Experiment, Measure};
use crate::units::{self, ASSIGNMENTS, Units, state};
use crate::{JobError, Result};

/// The most arms of an experiment: a column with more values says something else.
const MAX_ARMS: usize = 200;

/// Everybody, or the units of a segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slice {
    /// All units.
    All,
    /// Those with a value of the segment at this position.
    Segment(usize, Option<String>),
}

/// What is known of the units of one arm in one slice.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// Of each metric.
    pub(crate) metrics: Vec<MetricCell>,
}

/// What is known of a metric in a cell.
#[derive(Debug, Clone)]
pub(crate) struct MetricCell {
    pub(crate) moments: Moments,
    pub(crate) buckets: Option<Buckets>,
}

/// What is counted of a metric over all analysed units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MetricCounts {
    /// Units without a value.
    pub(crate) missing: u64,
    /// NaN and infinite values.
    pub(crate) non_finite: u64,
    /// Units whose value is neither 0 nor 1.
    pub(crate) not_binary: u64,
}

/// All that effects and audits of an experiment are made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summaries {
    /// Slice and arm to summaries, of analysed units.
    pub(crate) cells: BTreeMap<Slice, BTreeMap<String, Cell>>,
    /// Analysed units by arm.
    pub(crate) analysed: BTreeMap<String, u64>,
    /// Units by arm, those in several arms in the first and the last of them.
    pub(crate) assigned: BTreeMap<String, u64>,
    /// Units in several arms.
    pub(crate) multiple: u64,
    /// Those of them that are not analysed.
    pub(crate) left_out: u64,
    /// Rows of the assignments without a unit, or units without an arm.
    pub(crate) unassigned: u64,
    /// Of each metric.
    pub(crate) metrics: Vec<MetricCounts>,
    /// By source: analysed units without rows, units with several.
    pub(crate) sources: BTreeMap<String, SourceCounts>,
}

/// What is counted of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SourceCounts {
    pub(crate) without_rows: u64,
    pub(crate) several_rows: u64,
}

/// The aggregation, not computed yet.
pub(crate) fn query(engine: &Engine, experiment: &Experiment, units: &Units) -> Result<DataFrame> {
    let context = engine.context();
    let (moments, buckets) = (context.udaf("moments")?, context.udaf("buckets")?);
    let resample = experiment.estimators.contains(&Estimator::Bootstrap);
    let mut aggregates = vec![
        count(lit(1_i64)).alias("units"),
        sum(ident(units::rows(ASSIGNMENTS))).alias("assignment_rows"),
        count(lit(1_i64)).filter(ident(units::SEVERAL_ARMS)).build()?.alias(units::SEVERAL_ARMS),
    ];
    for (i, source) in units.sources.iter().enumerate() {
        let rows = || ident(units::rows(source));
        let without = count(lit(1_i64)).filter(rows().eq(lit(0_i64))).build()?;
        let several = count(lit(1_i64)).filter(rows().gt(lit(1_i64))).build()?;
        aggregates.push(without.alias(format!("without_rows{i}")));
        aggregates.push(several.alias(format!("several_rows{i}")));
    }
    for (i, metric) in experiment.metrics.iter().enumerate() {
        let value = ident(units::value(i));
        let (outcomes, missing) = match metric.measure {
            Measure::Mean(_) => {
                (named_struct(vec![lit("(value)"), value.clone()]), value.clone().is_null())
            }
            Measure::Ratio(..) => {
                let below = ident(units::denominator(i));
                let missing = value.clone().is_null().or(below.clone().is_null());
                let both = vec![lit("(numerator)"), value.clone(), lit("(denominator)"), below];
                (named_struct(both), missing)
            }
        };
        let mut columns = vec![outcomes.clone()];
        if !metric.covariates.is_empty() {
            let named = metric
                .covariates
                .iter()
                .enumerate()
                .flat_map(|(k, name)| [lit(name.clone()), ident(units::covariate(i, k))]);
            columns.push(named_struct(named.collect()));
        }
        aggregates.push(moments.call(columns).alias(format!("moments{i}")));
        if resample {
            let options = named_struct(vec![lit("buckets"), lit(i64::from(experiment.buckets))]);
            let call = buckets.call(vec![ident(units::UNIT), outcomes, options]);
            aggregates.push(call.alias(format!("buckets{i}")));
        }
        let counted = |what: Expr| count(lit(1_i64)).filter(what).build();
        aggregates.push(counted(missing)?.alias(format!("missing{i}")));
        aggregates.push(sum(ident(units::non_finite(i))).alias(format!("non_finite{i}")));
        let binary = value.clone().eq(lit(0.0_f64)).or(value.eq(lit(1.0_f64)));
        aggregates.push(counted(binary.is_false())?.alias(format!("not_binary{i}")));
    }

    let key = || vec![ident(units::STATE), ident(units::ARM), ident(units::LAST_ARM)];
    let segments = experiment.segments.len();
    if segments == 0 {
        return Ok(units.frame.clone().aggregate(key(), aggregates)?);
    }
    let mut sets = vec![key()];
    for i in 0..segments {
        let mut set = key();
        set.push(ident(units::segment(i)));
        sets.push(set);
        let is_rolled_up = grouping_udaf().call(vec![ident(units::segment(i))]);
        aggregates.push(is_rolled_up.alias(format!("rolled_up{i}")));
    }
    let sets = Expr::GroupingSet(GroupingSet::GroupingSets(sets));
    Ok(units.frame.clone().aggregate(vec![sets], aggregates)?)
}

/// Runs the aggregation and reads the summaries.
pub(crate) async fn collect(
    experiment: &Experiment,
    units: &Units,
    query: DataFrame,
) -> Result<Summaries> {
    let columns: Vec<Expr> = query
        .schema()
        .fields()
        .iter()
        .map(|field| {
            // Counts and keys in one type each, whatever the plan makes of them.
            let column = ident(field.name());
            match field.data_type() {
                t if t.is_integer() => cast(column, DataType::Int64).alias(field.name()),
                DataType::Utf8View | DataType::LargeUtf8 | DataType::Utf8 => {
                    cast(column, DataType::Utf8).alias(field.name())
                }
                _ => column,
            }
        })
        .collect();
    let mut summaries = Summaries {
        metrics: vec![MetricCounts::default(); experiment.metrics.len()],
        ..Summaries::default()
    };
    let mut rows = query.select(columns)?.execute_stream().await?;
    while let Some(batch) = rows.try_next().await? {
        for row in 0..batch.num_rows() {
            Row { batch: &batch, row }.add_to(&mut summaries, experiment, units)?;
        }
    }
    Ok(summaries)
}

/// One group of the aggregation.
struct Row<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

impl Row<'_> {
    fn column(&self, name: &str) -> Result<&dyn Array> {
        let column = self.batch.column_by_name(name);
        let column = column.ok_or_else(|| internal(format!("the column {name} is missing")))?;
        Ok(column.as_ref())
    }

    fn integer(&self, name: &str) -> Result<i64> {
        let column = self.column(name)?;
        Ok(if column.is_null(self.row) {
            0
        } else {
            column.as_primitive::<Int64Type>().value(self.row)
        })
    }

    fn count(&self, name: &str) -> Result<u64> {
        let count = self.integer(name)?;
        u64::try_from(count).map_err(|_| internal(format!("{name} is {count}")))
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let column = self.column(name)?;
        Ok(column.is_valid(self.row).then(|| column.as_string::<i32>().value(self.row).to_owned()))
    }

    fn summary<S: Summary>(&self, name: &str) -> Result<S> {
        let bytes = self.column(name)?.as_binary::<i64>().value(self.row);
        S::decode(bytes).map_err(|error| internal(error.to_string()))
    }

    fn slice(&self, segments: usize) -> Result<Slice> {
        for i in 0..segments {
            if self.integer(&format!("rolled_up{i}"))? == 0 {
                return Ok(Slice::Segment(i, self.text(&units::segment(i))?));
            }
        }
        Ok(Slice::All)
    }

    fn add_to(&self, to: &mut Summaries, experiment: &Experiment, units: &Units) -> Result<()> {
        let slice = self.slice(experiment.segments.len())?;
        let state = self.integer(units::STATE)?;
        let n = self.count("units")?;
        if slice == Slice::All {
            self.count_units(to, state, n, units)?;
        }
        if state != state::ANALYSED {
            return Ok(());
        }
        let arm = self.text(units::ARM)?.ok_or_else(|| internal("an analysed unit has no arm"))?;
        let resample = experiment.estimators.contains(&Estimator::Bootstrap);
        let metrics = (0..experiment.metrics.len())
            .map(|i| {
                Ok(MetricCell {
                    moments: self.summary(&format!("moments{i}"))?,
                    buckets: resample.then(|| self.summary(&format!("buckets{i}"))).transpose()?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        if slice == Slice::All {
            for (i, counts) in to.metrics.iter_mut().enumerate() {
                counts.missing += self.count(&format!("missing{i}"))?;
                counts.non_finite += self.count(&format!("non_finite{i}"))?;
                counts.not_binary += self.count(&format!("not_binary{i}"))?;
            }
        }
        to.cells.entry(slice).or_default().insert(arm, Cell { metrics });
        Ok(())
    }

    fn count_units(&self, to: &mut Summaries, state: i64, n: u64, units: &Units) -> Result<()> {
        let arms: BTreeSet<String> = [units::ARM, units::LAST_ARM]
            .into_iter()
            .filter_map(|name| self.text(name).transpose())
            .collect::<Result<_>>()?;
        match state {
            state::NO_UNIT => {
                to.unassigned += self.count("assignment_rows")?;
                return Ok(());
            }
            state::NO_ARM => {
                to.unassigned += n;
                return Ok(());
            }
            state::MULTIPLE_ARMS => to.left_out += n,
            _ => arms.iter().for_each(|arm| *to.analysed.entry(arm.clone()).or_default() += n),
        }
        to.multiple += self.count(units::SEVERAL_ARMS)?;
        arms.into_iter().for_each(|arm| *to.assigned.entry(arm).or_default() += n);
        if to.assigned.len() > MAX_ARMS {
            return Err(JobError::Data(format!(
                "the arm has more than {MAX_ARMS} values: is its column the right one?"
            )));
        }
        for (i, source) in units.sources.iter().enumerate() {
            let counts = to.sources.entry(source.clone()).or_default();
            counts.several_rows += self.count(&format!("several_rows{i}"))?;
            if state == state::ANALYSED {
                counts.without_rows += self.count(&format!("without_rows{i}"))?;
            }
        }
        Ok(())
    }
}

fn internal(text: impl Into<String>) -> JobError {
    JobError::Engine(EngineError::Internal(text.into()))
}
