//! From units to summaries: one aggregation for each wave, of its metrics, all arms and its segments.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::functions_aggregate::grouping::grouping_udaf;
use datafusion::functions_nested::expr_fn::array_length;
use datafusion::logical_expr::{Expr, ExprFunctionExt, GroupingSet, cast, ident, lit, not};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use gosset_engine::Engine;

use crate::caps::{self, Beyond};
use crate::file::Missing;
use crate::job::{Experiment, Measure};
use crate::kept::Kept;
use crate::units::{self, ASSIGNMENTS, Units, state};
use crate::waves::Wave;
use crate::{JobError, Result, internal};

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

impl Slice {
    /// Whether both are values of one segment.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Segment(a, _), Self::Segment(b, _)) if a == b)
    }
}

/// What is known of the analysed units of one arm in one slice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    /// How many there are; of additions, how many unit-days.
    pub(crate) units: u64,
    /// Of totals: what is counted by part of the wave.
    pub(crate) counts: Vec<PartCounts>,
    /// The summaries of the wave's parts, as bytes, which are smaller than what they are read to.
    pub(crate) summaries: Vec<Vec<u8>>,
    /// By metric with capped parts in the wave.
    pub(crate) beyond: BTreeMap<usize, Beyond>,
    /// Units with values, by metric of rows in the wave.
    pub(crate) with_rows: BTreeMap<usize, u64>,
}

/// What is counted of the days behind totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PartCounts {
    /// NaN and infinite values.
    pub(crate) non_finite: u64,
    /// Units with rows on the date.
    pub(crate) active: u64,
}

/// Slice and arm to what is known of their units.
pub(crate) type Cells = BTreeMap<Slice, BTreeMap<String, Cell>>;

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

/// What is counted in the first pass: all that audits are made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
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
    /// Units by the day from which their shares of the arms are expected, in the order of days.
    pub(crate) ramp: Vec<RampCounts>,
    /// By source: analysed units without rows, units with several.
    pub(crate) sources: BTreeMap<String, SourceCounts>,
}

/// Units of a step of a ramp, by arm.
#[derive(Debug, Clone, Default)]
pub(crate) struct RampCounts {
    pub(crate) assigned: BTreeMap<String, u64>,
    pub(crate) analysed: BTreeMap<String, u64>,
}

/// What is counted of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SourceCounts {
    pub(crate) without_rows: u64,
    pub(crate) several_rows: u64,
}

/// An aggregation of units, not computed yet.
pub(crate) struct Query<'a> {
    experiment: &'a Experiment,
    units: &'a Units,
    wave: &'a Wave,
    frame: DataFrame,
}

impl<'a> Query<'a> {
    /// The first aggregation of an experiment: the summaries of a wave of every slice, and all that is counted.
    pub(crate) fn first(
        engine: &Engine,
        experiment: &'a Experiment,
        units: &'a Units,
        wave: &'a Wave,
    ) -> Result<Self> {
        let mut aggregates = counts(experiment, units)?;
        let analysed = ident(units::STATE).eq(lit(state::ANALYSED));
        aggregates.extend(summaries(engine, experiment, wave, Some(&analysed))?);
        let key = vec![ident(units::STATE), ident(units::ARM), ident(units::LAST_ARM)];
        let frame = grouped(units.frame.clone(), key, experiment.segments.len(), aggregates)?;
        Ok(Self { experiment, units, wave, frame })
    }

    /// The groups of an experiment: rows of the assignments by arm and slice, an arm that is not known among them.
    pub(crate) fn groups(
        experiment: &'a Experiment,
        rows: &'a Units,
        wave: &'a Wave,
    ) -> Result<Self> {
        let segments = (0..experiment.segments.len()).map(|i| ident(units::segment(i)));
        let arm = coalesce(vec![ident(units::ARM), lit("")]).alias(units::ARM);
        let frame = rows.frame.clone().select(std::iter::once(arm).chain(segments))?;
        let counted = vec![count(lit(1_i64)).alias(UNITS)];
        let frame = grouped(frame, vec![ident(units::ARM)], experiment.segments.len(), counted)?;
        Ok(Self { experiment, units: rows, wave, frame })
    }

    /// A further aggregation: the summaries of a wave, of units that are analysed.
    pub(crate) fn further(
        engine: &Engine,
        experiment: &'a Experiment,
        units: &'a Units,
        wave: &'a Wave,
    ) -> Result<Self> {
        let mut aggregates = vec![count(lit(1_i64)).alias(UNITS)];
        aggregates.extend(summaries(engine, experiment, wave, None)?);
        for (i, part) in wave.parts.iter().enumerate() {
            let bad = sum(ident(units::non_finite(part.metric)));
            aggregates.push(bad.alias(units::non_finite(i)));
        }
        let frame = units.frame.clone().filter(ident(units::STATE).eq(lit(state::ANALYSED)))?;
        let mut key = vec![ident(units::ARM)];
        let frame = match &wave.slices {
            None => grouped(frame, key, experiment.segments.len(), aggregates)?,
            Some(slices) => {
                let frame = match slices.first() {
                    Some(Slice::Segment(i, _)) => {
                        key.push(ident(units::segment(*i)));
                        frame.filter(is_one_of(*i, slices))?
                    }
                    _ => frame,
                };
                frame.aggregate(key, aggregates)?
            }
        };
        Ok(Self { experiment, units, wave, frame })
    }

    /// The units of each step of a ramp by arm: those that are analysed, and all of them.
    pub(crate) async fn ramp(experiment: &Experiment, units: &Units) -> Result<Vec<RampCounts>> {
        let keys = [units::RAMP, units::STATE, units::ARM, units::LAST_ARM];
        let counted = vec![count(lit(1_i64)).alias(UNITS)];
        let grouped = units.frame.clone().aggregate(keys.map(ident).into(), counted)?;
        let text = |name: &str| cast(ident(name), DataType::Utf8).alias(name);
        let columns = vec![
            text(units::RAMP),
            cast(ident(units::STATE), DataType::Int64).alias(units::STATE),
            text(units::ARM),
            text(units::LAST_ARM),
            cast(ident(UNITS), DataType::Int64).alias(UNITS),
        ];
        let steps = experiment.expected.iter();
        let steps: Vec<String> =
            steps.map(|(from, _)| from.map(|from| from.to_string()).unwrap_or_default()).collect();
        let mut counts = vec![RampCounts::default(); steps.len()];
        for batch in grouped.select(columns)?.collect().await? {
            for row in 0..batch.num_rows() {
                let row = Row { batch: &batch, row };
                let state = row.integer(units::STATE)?;
                let step = row.text(units::RAMP)?;
                let step = steps.iter().position(|from| Some(from) == step.as_ref());
                let (Some(step), false) = (step, [state::NO_UNIT, state::NO_ARM].contains(&state))
                else {
                    continue;
                };
                let n = row.count_of(UNITS)?;
                let arms: BTreeSet<String> = [units::ARM, units::LAST_ARM]
                    .into_iter()
                    .filter_map(|name| row.text(name).transpose())
                    .collect::<Result<_>>()?;
                for arm in arms {
                    *counts[step].assigned.entry(arm.clone()).or_default() += n;
                    if state == state::ANALYSED {
                        *counts[step].analysed.entry(arm).or_default() += n;
                    }
                }
            }
        }
        Ok(counts)
    }

    /// The query itself.
    pub(crate) fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// Runs the first aggregation.
    pub(crate) async fn collect_first(self) -> Result<(Counted, Cells)> {
        let mut counted = Counted {
            metrics: vec![MetricCounts::default(); self.experiment.metrics.len()],
            ..Counted::default()
        };
        let cells =
            self.rows(|row, experiment, units| row.count(&mut counted, experiment, units), false);
        let cells = cells.await?;
        Ok((counted, cells))
    }

    /// Runs the aggregation of groups.
    pub(crate) async fn collect_groups(self) -> Result<Cells> {
        self.rows(|_, _, _| Ok(true), false).await
    }

    /// Runs a further aggregation.
    pub(crate) async fn collect(self) -> Result<Cells> {
        self.rows(|_, _, _| Ok(true), true).await
    }

    /// Reads the groups; `count` says whether the units of one are analysed.
    async fn rows(
        self,
        mut count: impl FnMut(&Row<'_>, &Experiment, &Units) -> Result<bool>,
        further: bool,
    ) -> Result<Cells> {
        let schema = self.frame.schema().clone();
        let columns: Vec<Expr> = schema
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
        let mut cells = Cells::new();
        let mut rows = self.frame.select(columns)?.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            for row in 0..batch.num_rows() {
                let row = Row { batch: &batch, row };
                if count(&row, self.experiment, self.units)? {
                    let slice = row.slice(self.experiment.segments.len(), self.wave)?;
                    let arm = row.text(units::ARM)?;
                    let arm = arm.ok_or_else(|| internal("an analysed unit has no arm"))?;
                    let parts = 0..self.wave.parts.len();
                    let units = row.count_of(UNITS)?;
                    let counted = if further { parts.clone() } else { 0..0 };
                    let counted = counted.map(|i| {
                        let non_finite = row.count_of(&units::non_finite(i))?;
                        Ok(PartCounts { non_finite, active: units })
                    });
                    let cell = Cell {
                        units,
                        counts: counted.collect::<Result<_>>()?,
                        summaries: parts.map(|i| row.bytes(&summary(i))).collect::<Result<_>>()?,
                        beyond: row.beyond(self.wave)?,
                        with_rows: row.with_rows(self.experiment, self.wave)?,
                    };
                    let arms = cells.entry(slice).or_default();
                    arms.insert(arm, cell);
                    check_arms(arms.len())?;
                }
            }
        }
        Ok(cells)
    }
}

fn check_arms(arms: usize) -> Result<()> {
    match arms > MAX_ARMS {
        true => Err(JobError::Data(format!(
            "the arm has more than {MAX_ARMS} values: is its column the right one?"
        ))),
        false => Ok(()),
    }
}

/// The number of units of a group.
const UNITS: &str = "units";

/// The column of the summary of a part.
fn summary(part: usize) -> String {
    format!("summary{part}")
}

/// The summaries of a wave. Where there are groups of units that are not analysed, `analysed` keeps theirs empty, but for
/// moments, which are small as they are, unless what these units lack is an error.
fn summaries(
    engine: &Engine,
    experiment: &Experiment,
    wave: &Wave,
    analysed: Option<&Expr>,
) -> Result<Vec<Expr>> {
    let parts = wave.parts.iter().enumerate();
    let calls = parts.map(|(i, part)| {
        let metric = &experiment.metrics[part.metric];
        let call = Kept::aggregate(engine, part, metric)?;
        let as_they_are = matches!(part.kept, Kept::Moments(Missing::Indicator | Missing::Drop));
        let call = match analysed.filter(|_| !as_they_are) {
            Some(analysed) => call.filter(analysed.clone()).build()?,
            None => call,
        };
        Ok(call.alias(summary(i)))
    });
    let mut calls = calls.collect::<Result<Vec<_>>>()?;
    for metric in capped_metrics(wave) {
        calls.extend(caps::counts(metric)?);
    }
    for metric in metrics_of_rows(experiment, wave) {
        let counted = count(lit(1_i64)).filter(has_rows(metric)).build()?;
        calls.push(counted.alias(with_rows(metric)));
    }
    Ok(calls)
}

/// The metrics with capped parts in a wave.
fn capped_metrics(wave: &Wave) -> BTreeSet<usize> {
    wave.parts.iter().filter(|part| part.capped).map(|part| part.metric).collect()
}

/// Whether a unit has values of a metric of its rows.
fn has_rows(metric: usize) -> Expr {
    let values = array_length(ident(units::value(metric)));
    coalesce(vec![cast(values, DataType::Int64), lit(0_i64)]).gt(lit(0_i64))
}

/// The metrics in a wave that are of rows.
fn metrics_of_rows(experiment: &Experiment, wave: &Wave) -> BTreeSet<usize> {
    let of_rows =
        |metric: &usize| matches!(experiment.metrics[*metric].measure, Measure::Quantiles { .. });
    wave.parts.iter().map(|part| part.metric).filter(of_rows).collect()
}

/// The column of the number of units with values of a metric of rows.
fn with_rows(metric: usize) -> String {
    format!("with_rows{metric}")
}

/// What is counted in each group.
fn counts(experiment: &Experiment, units: &Units) -> Result<Vec<Expr>> {
    let mut aggregates = vec![
        count(lit(1_i64)).alias(UNITS),
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
        let value = || ident(units::value(i));
        let missing = match metric.measure {
            Measure::Mean(_) => value().is_null(),
            Measure::Ratio(..) => value().is_null().or(ident(units::denominator(i)).is_null()),
            Measure::Quantiles { .. } => not(has_rows(i)),
        };
        let not_binary = match metric.measure {
            Measure::Quantiles { .. } => has_rows(i),
            _ => value().eq(lit(0.0_f64)).or(value().eq(lit(1.0_f64))).is_false(),
        };
        let counted = |what: Expr| count(lit(1_i64)).filter(what).build();
        aggregates.push(counted(missing)?.alias(format!("missing{i}")));
        aggregates.push(sum(ident(units::non_finite(i))).alias(format!("non_finite{i}")));
        aggregates.push(counted(not_binary)?.alias(format!("not_binary{i}")));
    }
    Ok(aggregates)
}

/// Groups by the key, and by the key and each segment.
fn grouped(
    frame: DataFrame,
    key: Vec<Expr>,
    segments: usize,
    mut aggregates: Vec<Expr>,
) -> Result<DataFrame> {
    if segments == 0 {
        return Ok(frame.aggregate(key, aggregates)?);
    }
    let mut sets = vec![key.clone()];
    for i in 0..segments {
        let mut set = key.clone();
        set.push(ident(units::segment(i)));
        sets.push(set);
        let is_rolled_up = grouping_udaf().call(vec![ident(units::segment(i))]);
        aggregates.push(is_rolled_up.alias(format!("rolled_up{i}")));
    }
    let sets = Expr::GroupingSet(GroupingSet::GroupingSets(sets));
    Ok(frame.aggregate(vec![sets], aggregates)?)
}

/// Whether a unit is in one of these slices of a segment.
fn is_one_of(segment: usize, slices: &[Slice]) -> Expr {
    let column = || ident(units::segment(segment));
    let (mut values, mut none) = (Vec::new(), false);
    for slice in slices {
        match slice {
            Slice::Segment(_, Some(value)) => values.push(lit(value.clone())),
            _ => none = true,
        }
    }
    match none {
        true => column().is_null().or(column().in_list(values, false)),
        false => column().in_list(values, false),
    }
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

    fn count_of(&self, name: &str) -> Result<u64> {
        let count = self.integer(name)?;
        u64::try_from(count).map_err(|_| internal(format!("{name} is {count}")))
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let column = self.column(name)?;
        Ok(column.is_valid(self.row).then(|| column.as_string::<i32>().value(self.row).to_owned()))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.column(name)?.as_binary::<i64>().value(self.row).to_vec())
    }

    fn beyond(&self, wave: &Wave) -> Result<BTreeMap<usize, Beyond>> {
        let of = |metric| {
            let [units, beyond] = caps::counted(metric);
            Ok((metric, Beyond { units: self.count_of(&units)?, beyond: self.count_of(&beyond)? }))
        };
        capped_metrics(wave).into_iter().map(of).collect()
    }

    fn with_rows(&self, experiment: &Experiment, wave: &Wave) -> Result<BTreeMap<usize, u64>> {
        let of = |metric| Ok((metric, self.count_of(&with_rows(metric))?));
        metrics_of_rows(experiment, wave).into_iter().map(of).collect()
    }

    fn slice(&self, segments: usize, wave: &Wave) -> Result<Slice> {
        match wave.slices.as_ref().map(|slices| slices.first()) {
            Some(Some(Slice::Segment(i, _))) => {
                Ok(Slice::Segment(*i, self.text(&units::segment(*i))?))
            }
            Some(_) => Ok(Slice::All),
            None => self.grouping(segments),
        }
    }

    fn grouping(&self, segments: usize) -> Result<Slice> {
        for i in 0..segments {
            if self.integer(&format!("rolled_up{i}"))? == 0 {
                return Ok(Slice::Segment(i, self.text(&units::segment(i))?));
            }
        }
        Ok(Slice::All)
    }

    /// Counts what audits are made of; tells whether the units of the group are analysed.
    fn count(&self, to: &mut Counted, experiment: &Experiment, units: &Units) -> Result<bool> {
        let all = self.grouping(experiment.segments.len())? == Slice::All;
        let state = self.integer(units::STATE)?;
        if all {
            self.count_units(to, state, units)?;
        }
        if state != state::ANALYSED {
            return Ok(false);
        }
        if all {
            for (i, counts) in to.metrics.iter_mut().enumerate() {
                counts.missing += self.count_of(&format!("missing{i}"))?;
                counts.non_finite += self.count_of(&format!("non_finite{i}"))?;
                counts.not_binary += self.count_of(&format!("not_binary{i}"))?;
            }
        }
        Ok(true)
    }

    fn count_units(&self, to: &mut Counted, state: i64, units: &Units) -> Result<()> {
        let n = self.count_of(UNITS)?;
        let arms: BTreeSet<String> = [units::ARM, units::LAST_ARM]
            .into_iter()
            .filter_map(|name| self.text(name).transpose())
            .collect::<Result<_>>()?;
        match state {
            state::NO_UNIT => {
                to.unassigned += self.count_of("assignment_rows")?;
                return Ok(());
            }
            state::NO_ARM => {
                to.unassigned += n;
                return Ok(());
            }
            state::MULTIPLE_ARMS => to.left_out += n,
            _ => arms.iter().for_each(|arm| *to.analysed.entry(arm.clone()).or_default() += n),
        }
        to.multiple += self.count_of(units::SEVERAL_ARMS)?;
        arms.into_iter().for_each(|arm| *to.assigned.entry(arm).or_default() += n);
        check_arms(to.assigned.len())?;
        for (i, source) in units.sources.iter().enumerate() {
            let counts = to.sources.entry(source.clone()).or_default();
            counts.several_rows += self.count_of(&format!("several_rows{i}"))?;
            if state == state::ANALYSED {
                counts.without_rows += self.count_of(&format!("without_rows{i}"))?;
            }
        }
        Ok(())
    }
}
