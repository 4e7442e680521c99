//! Units of days: since when their outcomes count, and what their unit-days say of them.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, JoinType};
use datafusion::functions::core::expr_fn::greatest;
use datafusion::functions_aggregate::expr_fn::{min, sum};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use jiff::civil::Date;

use super::columns::{day, same_family, type_of};
use super::{ALLOCATED, Attributes, Base, Builder, MetricColumns, OfDays, SINCE, UNIT, rows};
use crate::days::{DAY, Days, Late, Of, ROWS, UnitDays};
use crate::expression::Aggregates;
use crate::job::{Metric, Source};
use crate::period::{Period, days_before};
use crate::time::civil_day;
use crate::{JobError, Result, internal};

/// The unit of a day beside that of the assignments.
const DAY_UNIT: &str = "unit of the day";

impl Builder<'_> {
    /// The units with the day from which their outcomes count.
    pub(super) fn since(&self, assigned: DataFrame, of: &OfDays<'_>) -> Result<DataFrame> {
        let start = self.experiment.start.map(day);
        let since = if self.job.assignments.time.is_some() {
            let allocated = type_of(assigned.schema(), ALLOCATED)?;
            let day = civil_day(ident(ALLOCATED), &allocated, &self.job.timezone)?;
            match start {
                Some(start) => greatest(vec![day, start]),
                None => day,
            }
        } else {
            start.ok_or_else(|| internal("nobody knows since when units are assigned"))?
        };
        let mut columns: Vec<Expr> =
            assigned.schema().fields().iter().map(|f| ident(f.name())).collect();
        columns.push(since.alias(SINCE));
        // One name each, so that sides of a join with themselves can be told apart.
        let assigned = assigned.select(columns)?;
        let assigned = match &self.view.only {
            None => assigned,
            Some(only) => {
                let only = only.units.clone().select(vec![ident(UNIT).alias("only unit")])?;
                let same = [ident(UNIT).eq(ident("only unit"))];
                assigned.join_on(only, JoinType::LeftSemi, same)?
            }
        };
        let assigned = match (of.base, &self.experiment.exposure) {
            (Base::Exposure, Some(exposure)) => self.exposed(assigned, of, exposure)?,
            _ => assigned,
        };
        match (of.period, self.view.date) {
            (Period::Days(days), Some(date)) => {
                let last = days_before(date, days.saturating_sub(1));
                Ok(assigned.filter(ident(SINCE).lt_eq(day(last)))?)
            }
            _ => Ok(assigned),
        }
    }

    /// The units that met something since their assignment, from the day on which they first did.
    fn exposed(
        &self,
        assigned: DataFrame,
        of: &OfDays<'_>,
        exposure: &Metric,
    ) -> Result<DataFrame> {
        let days = of.source(&exposure.source)?;
        let met = self.rows(days, self.range(Period::Cumulative)?, of.late)?;
        let met = met.filter(ident(days.count_of(exposure)?).gt(lit(0_i64)))?;
        let met = self.with_since(met, &assigned)?.filter(ident(DAY).gt_eq(ident(SINCE)))?;
        let first = vec![min(ident(DAY)).alias("exposed since")];
        let met = met.aggregate(vec![ident(DAY_UNIT).alias("exposed unit")], first)?;
        let columns = assigned.schema().fields().iter().map(|field| match field.name().as_str() {
            SINCE => ident("exposed since").alias(SINCE),
            name => ident(name),
        });
        let columns: Vec<Expr> = columns.collect();
        let same = [ident(UNIT).eq(ident("exposed unit"))];
        Ok(assigned.join_on(met, JoinType::Inner, same)?.select(columns)?)
    }

    /// The days of units that their outcomes are of: of a frame with [`SINCE`].
    fn counts(&self, period: Period) -> Expr {
        let since = ident(DAY).gt_eq(ident(SINCE));
        match (period, self.view.date) {
            (Period::Day, Some(date)) => since.and(ident(DAY).eq(day(date))),
            (Period::Days(days), _) => {
                let over = ident(DAY) - ident(SINCE);
                // The difference of two dates is a duration or a number of days, whatever the engine makes of it.
                since.and(cast(over, DataType::Int64).lt(lit(i64::from(days))))
            }
            _ => since,
        }
    }

    /// The assigned units with what their days say of them.
    pub(super) fn joined_days(
        &mut self,
        assigned: DataFrame,
        of: &OfDays<'_>,
        days: &UnitDays<'_>,
    ) -> Result<DataFrame> {
        let source = days.source();
        let mut sums = Aggregates::of_days(&format!("sum of {} ", source.name));
        self.measured_on(source, days.schema(), &mut sums, |i| of.values[i])?;
        let range = self.range(of.period)?;
        let frame = self.with_since(self.rows(days, range, of.late)?, &assigned)?;
        let mut aggregates = vec![sum(ident(ROWS)).alias(rows(&source.name))];
        aggregates.extend(sums.exprs(self.engine)?);
        let counted = frame.filter(self.counts(of.period))?;
        by_unit(assigned, counted, &format!("unit of {}", source.name), aggregates)
    }

    /// The assigned units with what the days before their assignment say of them.
    pub(super) fn joined_before(
        &mut self,
        assigned: DataFrame,
        of: &OfDays<'_>,
        days: &UnitDays<'_>,
    ) -> Result<DataFrame> {
        let source = days.source();
        let looked: Vec<(usize, Metric, u16)> = self
            .metrics_on(&source.name)
            .filter_map(|(i, metric)| Some((i, metric.clone(), metric.lookback?)))
            .collect();
        if !of.before {
            for (i, metric, _) in &looked {
                let known =
                    self.values.get_mut(i).ok_or_else(|| internal("a metric is not known"))?;
                known.covariates.resize(metric.covariates.len(), lit(0.0_f64));
            }
            return Ok(assigned);
        }
        let mut assigned = assigned;
        let lookbacks: BTreeSet<u16> = looked.iter().map(|(_, _, lookback)| *lookback).collect();
        for lookback in lookbacks {
            let mut sums =
                Aggregates::of_days(&format!("{lookback} days before in {} ", source.name));
            for (i, metric, _) in looked.iter().filter(|(_, _, l)| *l == lookback) {
                let told = |e: JobError| e.about(&format!("metric '{}'", metric.name));
                let made = self.measured(
                    *i,
                    metric,
                    source,
                    days.schema(),
                    &mut sums,
                    &mut Attributes::new(None),
                );
                let made = made.map_err(told)?;
                let known =
                    self.values.get_mut(i).ok_or_else(|| internal("a metric is not known"))?;
                known.covariates.push(made.value);
                known.covariates.extend(made.denominator);
            }
            let first = self.experiment.start.or(self.view.date).unwrap_or(Date::MIN);
            let (_, last) = self.span()?;
            // Units that were assigned before the experiment began look back from its start on.
            let range = Days { from: days_before(first, lookback), to: last };
            let frame = self.with_since(self.rows(days, range, of.late)?, &assigned)?;
            let before = ident(DAY).lt(ident(SINCE));
            let long = cast(ident(SINCE) - ident(DAY), DataType::Int64);
            let frame = frame.filter(before.and(long.lt_eq(lit(i64::from(lookback)))))?;
            let key = format!("unit {lookback} days before in {}", source.name);
            assigned = by_unit(assigned, frame, &key, sums.exprs(self.engine)?)?;
        }
        Ok(assigned)
    }

    /// A row for each day of assigned units, as additions: covariates are 0, which other rows count.
    pub(super) fn each_day(
        &mut self,
        assigned: DataFrame,
        of: &OfDays<'_>,
        days: &UnitDays<'_>,
        range: Days,
    ) -> Result<DataFrame> {
        let source = days.source();
        let mut sums = Aggregates::of_days(&format!("sum of {} ", source.name));
        self.measured_on(source, days.schema(), &mut sums, |_| true)?;
        for metric in self.values.values_mut() {
            metric.covariates.iter_mut().for_each(|covariate| *covariate = lit(0.0_f64));
        }
        for (i, metric) in self.experiment.metrics.iter().enumerate() {
            let known = self.values.get_mut(&i).ok_or_else(|| internal("a metric is not known"))?;
            known.covariates.resize(metric.covariates.len(), lit(0.0_f64));
        }
        let mut of_days = self.rows(days, range, of.late)?;
        if days.is_whole(range) {
            let columns = [ident(UNIT), ident(DAY)].into_iter().chain(sums.stored());
            of_days = of_days.select(columns.collect::<Vec<_>>())?;
        } else {
            of_days = of_days.aggregate(vec![ident(UNIT), ident(DAY)], sums.exprs(self.engine)?)?;
        }
        let columns: Vec<Expr> = of_days
            .schema()
            .fields()
            .iter()
            .filter(|f| f.name() != UNIT)
            .map(|f| ident(f.name()))
            .chain([ident(UNIT).alias(DAY_UNIT)])
            .collect();
        let of_days = of_days.select(columns)?;
        let frame =
            assigned.join_on(of_days, JoinType::Inner, [ident(UNIT).eq(ident(DAY_UNIT))])?;
        Ok(frame.filter(self.counts(of.period))?)
    }

    /// What is measured on a source, for the metrics that get values.
    fn measured_on(
        &mut self,
        source: &Source,
        schema: &DFSchema,
        sums: &mut Aggregates,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let metrics: Vec<(usize, Metric)> =
            self.metrics_on(&source.name).map(|(i, metric)| (i, metric.clone())).collect();
        for (i, metric) in metrics.iter().filter(|(i, _)| wanted(*i)) {
            let told = |e: JobError| e.about(&format!("metric '{}'", metric.name));
            let made = self.measured(*i, metric, source, schema, sums, &mut Attributes::new(None));
            let made = made.map_err(told)?;
            let covariates = self.values.remove(i).map(|m| m.covariates).unwrap_or_default();
            self.values.insert(*i, MetricColumns { covariates, ..made });
        }
        Ok(())
    }

    /// The unit-days of some days, those of the view's units among them.
    fn rows(&self, days: &UnitDays<'_>, range: Days, late: Late) -> Result<DataFrame> {
        let new_since = self.view.only.as_ref().map(|only| only.since);
        days.rows(Of { experiment: &self.experiment.name, new_since }, range, late)
    }

    /// Days of units with the day since which their unit is assigned.
    fn with_since(&self, days: DataFrame, assigned: &DataFrame) -> Result<DataFrame> {
        let (mine, theirs) = (type_of(days.schema(), UNIT)?, type_of(assigned.schema(), UNIT)?);
        if !same_family(&mine, &theirs) {
            return Err(JobError::Data(format!(
                "its units are {mine}, those of the assignments are {theirs}: they are not joined"
            )));
        }
        let columns: Vec<Expr> = days
            .schema()
            .fields()
            .iter()
            .map(|f| match f.name().as_str() {
                UNIT => ident(UNIT).alias(DAY_UNIT),
                name => ident(name),
            })
            .collect();
        let since =
            assigned.clone().select(vec![ident(UNIT).alias("assigned unit"), ident(SINCE)])?;
        let same = [ident(DAY_UNIT).eq(ident("assigned unit"))];
        Ok(days.select(columns)?.join_on(since, JoinType::Inner, same)?)
    }

    /// The days from the experiment's start to the date.
    fn span(&self) -> Result<(Date, Date)> {
        let date = self.view.date.or(self.experiment.end);
        let last = date.ok_or_else(|| internal("days of an experiment without an end"))?;
        Ok((self.experiment.start.unwrap_or(Date::MIN), last))
    }

    /// The days that outcomes of a period are of.
    fn range(&self, period: Period) -> Result<Days> {
        let (from, to) = self.span()?;
        Ok(if period == Period::Day { Days { from: to, to } } else { Days { from, to } })
    }
}

/// Units with what aggregates say of their days; `key` is what the unit of these is called.
fn by_unit(
    assigned: DataFrame,
    days: DataFrame,
    key: &str,
    aggregates: Vec<Expr>,
) -> Result<DataFrame> {
    let of_units = days.aggregate(vec![ident(DAY_UNIT).alias(key)], aggregates)?;
    Ok(assigned.join_on(of_units, JoinType::Left, [ident(UNIT).eq(ident(key))])?)
}
