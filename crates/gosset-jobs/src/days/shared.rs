//! The unit-days of many experiments, read from their table in one pass.
//!
//! An experiment is about some of the units, and each of its queries would read the days of all of them. Here a day is
//! joined once with the units of all experiments that are due; what each of them needs stands together in the files.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Date32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{JoinType, ScalarValue};
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::{cast, ident, lit};
use datafusion::prelude::DataFrame;
use gosset_engine::{Engine, Kept};
use jiff::civil::Date;

use super::{DAY, Days, UNIT};
use crate::job::Job;
use crate::tables;
use crate::time::civil_day;
use crate::units::{day, same_family, type_of};
use crate::{Result, internal};

/// What an experiment that is due needs of unit-days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needed {
    /// The days of all its units.
    pub(crate) all: Days,
    /// The first day of units that are assigned since the first of those.
    pub(crate) of_new: Date,
}

/// Which units of an experiment a query is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) experiment: &'a str,
    /// If only of units that are assigned since a day.
    pub(crate) new_since: Option<Date>,
}

/// Unit-days of several experiments.
#[derive(Debug)]
pub(super) struct Shared {
    rows: Kept,
    of: BTreeMap<String, Needed>,
}

const EXPERIMENT: &str = "of experiment";
const ASSIGNED: &str = "assigned unit";
const LAST: &str = "last assigned";
const FROM: &str = "from day";
const ALL_FROM: &str = "all from day";
const TO: &str = "to day";
const OF: &str = "needed by";

impl Shared {
    /// Reads what experiments need; none where assignments do not say whose they are, or units are of another kind.
    pub(super) async fn read(
        engine: &Engine,
        job: &Job,
        assignments: &DataFrame,
        of: BTreeMap<String, Needed>,
        all: DataFrame,
    ) -> Result<Option<Self>> {
        let (Some(experiment), Some(unit)) =
            (&job.assignments.section.experiment, &job.assignments.unit)
        else {
            return Ok(None);
        };
        let schema = assignments.schema().clone();
        if !same_family(&type_of(&schema, unit)?, &type_of(all.schema(), UNIT)?) {
            return Ok(None);
        }
        let days = of.values().map(|needed| Days { from: needed.of_new, to: needed.all.to });
        let days = Days::around(days).ok_or_else(|| internal("nobody needs unit-days"))?;

        let type_of_experiment = type_of(&schema, experiment)?;
        let keys = vec![
            cast(ident(experiment), DataType::Utf8).alias(EXPERIMENT),
            ident(unit).alias(ASSIGNED),
        ];
        let last = match &job.assignments.time {
            Some(time) => {
                let data_type = type_of(&schema, time)?;
                max(civil_day(ident(time), &data_type, &job.timezone)?)
            }
            None => max(lit(ScalarValue::Date32(None))),
        };
        let names = of.keys().map(|name| cast(lit(name.clone()), type_of_experiment.clone()));
        let whose = ident(experiment).in_list(names.collect(), false);
        let units = assignments.clone().filter(whose.and(ident(unit).is_not_null()))?;
        let units = units.aggregate(keys, vec![last.alias(LAST)])?;
        let needed = engine.context().read_batch(as_rows(&of)?)?;
        let units = units.join_on(needed, JoinType::Inner, [ident(EXPERIMENT).eq(ident(OF))])?;

        let mut columns = vec![ident(EXPERIMENT)];
        columns.extend(all.schema().fields().iter().map(|field| ident(field.name())));
        let rows = all.filter(ident(DAY).between(day(days.from), day(days.to)))?;
        let rows = rows.join_on(units, JoinType::Inner, [ident(UNIT).eq(ident(ASSIGNED))])?;
        let is_new = ident(LAST).gt_eq(ident(ALL_FROM));
        let of_all = ident(DAY).gt_eq(ident(ALL_FROM));
        let wanted = ident(DAY).between(ident(FROM), ident(TO)).and(of_all.or(is_new));
        let rows = rows.filter(wanted)?.select(columns)?;
        tracing::info!(experiments = of.len(), "unit-days are read once for all of them");
        let rows = engine.kept(rows, Some(EXPERIMENT)).await?;
        Ok(Some(Self { rows, of }))
    }

    /// The rows that a query needs; none where they were not read.
    pub(super) fn rows(&self, of: Of<'_>, days: Days) -> Result<Option<DataFrame>> {
        let Some(needed) = self.of.get(of.experiment) else { return Ok(None) };
        let is_new = of.new_since.is_some_and(|since| since >= needed.all.from);
        let from = if is_new { needed.of_new.min(needed.all.from) } else { needed.all.from };
        if days.from < from || days.to > needed.all.to {
            return Ok(None);
        }
        let rows = self.rows.rows().clone();
        Ok(Some(rows.filter(ident(EXPERIMENT).eq(lit(of.experiment.to_owned())))?))
    }
}

/// What each experiment needs, to be joined with its units.
fn as_rows(of: &BTreeMap<String, Needed>) -> Result<RecordBatch> {
    let date = |name: &str| Field::new(name, DataType::Date32, false);
    let schema = Schema::new(vec![
        Field::new(OF, DataType::Utf8, false),
        date(FROM),
        date(ALL_FROM),
        date(TO),
    ]);
    let dates = |of_one: fn(&Needed) -> Date, all: &BTreeMap<String, Needed>| {
        Arc::new(all.values().map(|one| Some(tables::days(of_one(one)))).collect::<Date32Array>())
    };
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(of.keys().map(Some).collect::<StringArray>()),
            dates(|needed| needed.of_new, of),
            dates(|needed| needed.all.from, of),
            dates(|needed| needed.all.to, of),
        ],
    )?)
}
