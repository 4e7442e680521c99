//! Who was assigned on which day, as hashes: rows that are added to the assignments on a later day leave the results of
//! earlier ones as they are, however the files are written.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast as cast_array;
use arrow::datatypes::{DataType, Date32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::execution::FunctionRegistry;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use gosset_engine::Engine;
use gosset_stats::units::mix;
use jiff::civil::Date;

use crate::days::date;
use crate::job::{Experiment, Job};
use crate::time::civil_day;
use crate::units::{type_of, unit_column};
use crate::{Result, internal};

/// A hash of the rows of each day, by experiment; those without a time are of every day.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    hashes: BTreeMap<String, BTreeMap<Option<Date>, u64>>,
    /// How many they are, by experiment.
    rows: BTreeMap<String, u64>,
}

const EXPERIMENT: &str = "experiment";
const DAY: &str = "day";
const ROWS: &str = "rows";

/// The sums of the hashes of rows: without attributes, and with one of them.
const PLAIN: &str = "plain";

fn with_attribute(name: &str) -> String {
    format!("with {name}")
}

impl Assigned {
    /// Hashes the assignments of some experiments, where the queries run.
    pub(crate) async fn read(
        job: &Job,
        engine: &Engine,
        rows: &DataFrame,
        experiments: &[&Experiment],
    ) -> Result<Self> {
        let told = |error: crate::JobError| error.about("[assignments]");
        Self::hashed(job, engine, rows.clone(), experiments).await.map_err(told)
    }

    async fn hashed(
        job: &Job,
        engine: &Engine,
        frame: DataFrame,
        experiments: &[&Experiment],
    ) -> Result<Self> {
        let assignments = &job.assignments;
        let schema = frame.schema().clone();
        let text = |name: &str| -> Result<Expr> {
            type_of(&schema, name)?;
            Ok(cast(ident(name), DataType::Utf8))
        };
        let Some(unit) = &assignments.unit else { return Err(internal("units have no column")) };
        let (time, day) = match &assignments.time {
            Some(time) => {
                let of = type_of(&schema, time)?;
                (cast(ident(time), DataType::Utf8), civil_day(ident(time), &of, &job.timezone)?)
            }
            None => (lit(""), lit(ScalarValue::Date32(None))),
        };
        let named = assignments.section.experiment.as_ref();
        let experiment = named.map_or(Ok(lit("")), |name| text(name))?;
        let plain = [unit_column(&schema, unit)?, text(&assignments.section.arm)?, time];

        // An attribute that several experiments take is hashed once.
        let attributes: BTreeSet<String> =
            experiments.iter().flat_map(|experiment| attributes_of(experiment)).collect();
        let hash = engine.context().udf("row_hash")?;
        let mut columns = vec![experiment.alias(EXPERIMENT), day.alias(DAY)];
        columns.push(hash.call(plain.to_vec()).alias(PLAIN));
        for name in &attributes {
            let with = [&plain[..], &[text(name)?]].concat();
            columns.push(hash.call(with).alias(with_attribute(name)));
        }
        let mut frame = frame.select(columns)?;
        if named.is_some() {
            let names = experiments.iter().map(|e| lit(e.name.clone())).collect();
            frame = frame.filter(ident(EXPERIMENT).in_list(names, false))?;
        }
        // Sums of integers wrap around, and so do not depend on the order either.
        let mut sums = vec![count(lit(1)).alias(ROWS), sum(ident(PLAIN)).alias(PLAIN)];
        let with = attributes.iter().map(|name| with_attribute(name));
        sums.extend(with.map(|name| sum(ident(name.as_str())).alias(name)));
        let days = frame.aggregate(vec![ident(EXPERIMENT), ident(DAY)], sums)?;

        let mut found = Self::default();
        for batch in days.collect().await? {
            found.add(&batch, experiments, named.is_some())?;
        }
        Ok(found)
    }

    /// Adds the hashes of days; `named` says whether each is of one experiment, or of all of them.
    fn add(&mut self, batch: &RecordBatch, experiments: &[&Experiment], named: bool) -> Result<()> {
        let column = |name: &str, as_type: &DataType| {
            let found = batch.column_by_name(name);
            let found = found.ok_or_else(|| internal(format!("no column {name}")))?;
            Ok::<_, crate::JobError>(cast_array(found, as_type)?)
        };
        let integers = |name: &str| -> Result<Vec<u64>> {
            let values = column(name, &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>().iter().flatten();
            Ok(values.map(i64::cast_unsigned).collect())
        };
        let (of, days) = (column(EXPERIMENT, &DataType::Utf8)?, column(DAY, &DataType::Date32)?);
        let (of, days) = (of.as_string::<i32>(), days.as_primitive::<Date32Type>());
        let (rows, plain) = (integers(ROWS)?, integers(PLAIN)?);
        for experiment in experiments {
            let own = attributes_of(experiment).into_iter();
            let own = own.map(|name| integers(&with_attribute(&name)));
            let own = own.collect::<Result<Vec<_>>>()?;
            let counted = self.rows.entry(experiment.name.clone()).or_default();
            let hashes = self.hashes.entry(experiment.name.clone()).or_default();
            for row in (0..rows.len()).filter(|&row| !named || of.value(row) == experiment.name) {
                let day = if days.is_valid(row) { Some(date(days.value(row))?) } else { None };
                *counted += rows[row];
                hashes.insert(day, own.iter().fold(plain[row], |hash, with| mix(hash, with[row])));
            }
        }
        Ok(())
    }

    /// How many rows they are, of one experiment.
    pub(crate) fn rows_of(&self, experiment: &str) -> u64 {
        self.rows.get(experiment).copied().unwrap_or_default()
    }

    /// A hash of the rows of an experiment up to the end of a day.
    pub(crate) fn until(&self, experiment: &str, until: Date) -> u64 {
        let days = self.hashes.get(experiment).into_iter().flatten();
        let known = days.filter(|(day, _)| day.is_none_or(|day| day <= until));
        known.fold(0, |all, (_, hash)| all.wrapping_add(*hash))
    }
}

/// The columns of the assignments that an experiment takes beside units, arms and times.
fn attributes_of(experiment: &Experiment) -> Vec<String> {
    let segments = experiment.segments.iter().map(|(_, column)| column.as_str());
    let covariates = experiment.metrics.iter().flat_map(|metric| &metric.covariates);
    let covariates = covariates.filter_map(|known| known.column.as_deref());
    segments.chain(experiment.strata()).chain(covariates).map(ToOwned::to_owned).collect()
}
