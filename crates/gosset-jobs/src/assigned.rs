//! Who was assigned on which day, as hashes: rows that are added to the assignments on a later day leave the results of
//! earlier ones as they are, however the files are written.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use gosset_stats::units;
use jiff::civil::Date;

use crate::days::{date, mix, unit_hashes};
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

// The columns that are hashed, before those of attributes.
const EXPERIMENT: &str = "experiment";
const UNIT: &str = "unit";
const ARM: &str = "arm";
const TIME: &str = "time";
const DAY: &str = "day";

impl Assigned {
    /// Reads the assignments of some experiments.
    pub(crate) async fn read(
        job: &Job,
        rows: &DataFrame,
        experiments: &[&Experiment],
    ) -> Result<Self> {
        let told = |error: crate::JobError| error.about("[assignments]");
        Self::hashed(job, rows.clone(), experiments).await.map_err(told)
    }

    async fn hashed(job: &Job, frame: DataFrame, experiments: &[&Experiment]) -> Result<Self> {
        let assignments = &job.assignments;
        let schema = frame.schema().clone();
        let text = |name: &str| -> Result<Expr> {
            type_of(&schema, name)?;
            Ok(cast(ident(name), DataType::Utf8))
        };
        let Some(unit) = &assignments.unit else { return Err(internal("units have no column")) };
        let mut columns = vec![
            unit_column(&schema, unit)?.alias(UNIT),
            text(&assignments.section.arm)?.alias(ARM),
        ];
        let (time, day) = match &assignments.time {
            Some(time) => {
                let of = type_of(&schema, time)?;
                (cast(ident(time), DataType::Utf8), civil_day(ident(time), &of, &job.timezone)?)
            }
            None => (lit(""), lit(ScalarValue::Date32(None))),
        };
        columns.extend([time.alias(TIME), day.alias(DAY)]);
        let experiment = assignments.section.experiment.as_ref();
        columns.push(match experiment {
            Some(name) => text(name)?.alias(EXPERIMENT),
            None => lit("").alias(EXPERIMENT),
        });
        let mut attributes: Vec<String> = Vec::new();
        for name in experiments.iter().flat_map(|experiment| attributes_of(experiment)) {
            if !attributes.contains(&name) {
                columns.push(text(&name)?.alias(format!("attribute{}", attributes.len())));
                attributes.push(name);
            }
        }
        let mut of: Vec<(&str, Vec<usize>)> = Vec::new();
        for experiment in experiments {
            let position = |name: &String| attributes.iter().position(|known| known == name);
            let own = attributes_of(experiment);
            of.push((&experiment.name, own.iter().filter_map(position).collect()));
        }
        let mut frame = frame.select(columns)?;
        if experiment.is_some() {
            let names = experiments.iter().map(|e| lit(e.name.clone())).collect();
            frame = frame.filter(ident(EXPERIMENT).in_list(names, false))?;
        }
        let mut found = Self::default();
        let mut batches = frame.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            found.add(&batch, &of, experiment.is_some(), attributes.len())?;
        }
        Ok(found)
    }

    fn add(
        &mut self,
        batch: &RecordBatch,
        experiments: &[(&str, Vec<usize>)],
        named: bool,
        attributes: usize,
    ) -> Result<()> {
        let column = |name: &str, data_type: &DataType| {
            let found = batch.column_by_name(name);
            let found = found.ok_or_else(|| internal(format!("the column {name} is missing")))?;
            Ok::<_, crate::JobError>(arrow::compute::cast(found, data_type)?)
        };
        let plain = column(UNIT, batch.schema().field_with_name(UNIT)?.data_type())?;
        let plain = match plain.data_type() {
            DataType::Utf8View | DataType::LargeUtf8 => column(UNIT, &DataType::Utf8)?,
            DataType::BinaryView | DataType::LargeBinary => column(UNIT, &DataType::Binary)?,
            _ => plain,
        };
        let units = unit_hashes(&plain)?;
        let of = column(EXPERIMENT, &DataType::Utf8)?;
        let of = of.as_string::<i32>();
        let days = column(DAY, &DataType::Date32)?;
        let days = days.as_primitive::<Date32Type>();
        let hashes = |name: &str| -> Result<Vec<u64>> {
            let values = column(name, &DataType::Utf8)?;
            let values = values.as_string::<i32>().iter();
            Ok(values.map(|value| value.map_or(1, |value| units::string(value) as u64)).collect())
        };
        let (arms, times) = (hashes(ARM)?, hashes(TIME)?);
        let known = (0..attributes).map(|i| hashes(&format!("attribute{i}")));
        let known = known.collect::<Result<Vec<_>>>()?;
        let mut counted = vec![0; experiments.len()];
        for (row, unit) in units.iter().enumerate() {
            let day = if days.is_valid(row) { Some(date(days.value(row))?) } else { None };
            let common = mix(mix(*unit, arms[row]), times[row]);
            for (i, (name, own)) in experiments.iter().enumerate() {
                if named && of.value(row) != *name {
                    continue;
                }
                counted[i] += 1;
                let hash = own.iter().fold(common, |hash, &i| mix(hash, known[i][row]));
                let all =
                    self.hashes.entry((*name).to_owned()).or_default().entry(day).or_default();
                *all = all.wrapping_add(hash);
            }
        }
        for ((name, _), counted) in experiments.iter().zip(counted) {
            *self.rows.entry((*name).to_owned()).or_default() += counted;
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
