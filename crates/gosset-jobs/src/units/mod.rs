//! From rows to units: one row for each unit of an experiment, in one pass over each source.

mod columns;
mod of_days;

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, JoinType};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions::string::expr_fn::concat_ws;
use datafusion::functions_aggregate::expr_fn::{count, first_value, max, min};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, cast, ident, lit, when};
use datafusion::prelude::DataFrame;
use gosset_engine::{Engine, Kept};
use jiff::civil::Date;

use crate::days::{Days, Late, UnitDays};
use crate::expression::{Aggregates, Over, UnitValue, no_values, row_values, unit_value};
use crate::file::{Grain, MultipleArms};
use crate::job::{Assignments, Experiment, Job, Measure, Metric, Source};
use crate::period::Period;
use crate::time::{civil_day, clock, within};
use crate::{JobError, Result, internal};
pub(crate) use columns::{check_wall_clock, day, same_family, timed, type_of, unit_column};
use columns::{column, covariate_column, known_columns, rows_with_time};

/// Whether a unit is analysed, in the column [`STATE`].
pub(crate) mod state {
    /// It is.
    pub(crate) const ANALYSED: i64 = 0;
    /// Its rows have no unit.
    pub(crate) const NO_UNIT: i64 = 1;
    /// It has no arm.
    pub(crate) const NO_ARM: i64 = 2;
    /// It has more than one arm.
    pub(crate) const MULTIPLE_ARMS: i64 = 3;
}

/// The column of the stratum.
pub(crate) const STRATUM: &str = "stratum";
pub(crate) const UNIT: &str = "unit";
pub(crate) const STATE: &str = "state";
pub(crate) const ARM: &str = "arm";
/// The last of a unit's arms by name; another than [`ARM`] where it has several and is not analysed.
pub(crate) const LAST_ARM: &str = "last_arm";
/// Whether a unit has more than one arm, whatever becomes of it.
pub(crate) const SEVERAL_ARMS: &str = "several_arms";
/// Rows of the assignments.
pub(crate) const ASSIGNMENTS: &str = "[assignments]";
const ALLOCATED: &str = "allocated";
/// The day from which a unit's share of the arms is expected.
pub(crate) const RAMP: &str = "ramp";
/// The day from which the outcomes of a unit count, where they are of days.
pub(crate) const SINCE: &str = "since";

/// The column of a segment.
pub(crate) fn segment(i: usize) -> String {
    format!("segment{i}")
}
/// The column of a metric's value, or of its numerator.
pub(crate) fn value(metric: usize) -> String {
    format!("value{metric}")
}
/// The column of a ratio's denominator.
pub(crate) fn denominator(metric: usize) -> String {
    format!("denominator{metric}")
}
/// The column of the number of NaN and infinite values behind a metric.
pub(crate) fn non_finite(metric: usize) -> String {
    format!("non_finite{metric}")
}
/// The column of a covariate of a metric.
pub(crate) fn covariate(metric: usize, i: usize) -> String {
    format!("covariate{metric}_{i}")
}
/// The column of the number of rows of a source, 0 for a unit without.
pub(crate) fn rows(source: &str) -> String {
    format!("rows of {source}")
}

/// The units of an experiment, not computed yet.
#[derive(Clone)]
pub(crate) struct Units {
    /// One row for each unit.
    pub(crate) frame: DataFrame,
    /// The sources that are joined, or that say the arm.
    pub(crate) sources: Vec<String>,
    /// The files that they are read from, if they are: they are there as long as this is.
    #[expect(dead_code, reason = "it is dropped")]
    pub(crate) kept: Option<Kept>,
}

impl Units {
    /// Units that are made already.
    pub(crate) fn of(frame: DataFrame) -> Self {
        Self { frame, sources: Vec::new(), kept: None }
    }

    /// The same units, computed once and kept in files, for more than one aggregation.
    pub(crate) async fn stored(self, engine: &Engine) -> Result<Self> {
        let kept = engine.kept(self.frame, None).await?;
        Ok(Self { frame: kept.rows().clone(), kept: Some(kept), ..self })
    }
}

/// Which units of an experiment, and what they did when.
#[derive(Clone)]
pub(crate) struct View<'a> {
    /// The day at whose end it is seen.
    pub(crate) date: Option<Date>,
    pub(crate) outcomes: Outcomes<'a>,
    /// The units that it is of; all of them unless given.
    pub(crate) only: Option<Only>,
}

/// Some units.
#[derive(Clone)]
pub(crate) struct Only {
    pub(crate) units: DataFrame,
    /// All of them are assigned, perhaps once more, since this day.
    pub(crate) since: Date,
}

/// Where the outcomes of units come from.
#[derive(Clone, Copy)]
pub(crate) enum Outcomes<'a> {
    /// Their rows.
    Rows,
    /// Their days.
    Days(&'a OfDays<'a>),
}

/// Which of the assigned units an analysis is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// All of them, from their assignment on.
    Assignment,
    /// Those that met what the experiment's exposure says, from the day on which they first did.
    Exposure,
}

impl Base {
    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Assignment => "assignment",
            Self::Exposure => "exposure",
        }
    }
}

/// Outcomes that are made of unit-days.
pub(crate) struct OfDays<'a> {
    /// The rows of the assignments, as they were looked at.
    pub(crate) assignments: &'a DataFrame,
    /// By source.
    pub(crate) days: &'a BTreeMap<String, UnitDays<'a>>,
    pub(crate) late: Late,
    pub(crate) base: Base,
    pub(crate) period: Period,
    /// Which metrics get values; the others are 0 for every unit.
    pub(crate) values: Vec<bool>,
    /// Whether covariates that are the metric itself get values.
    pub(crate) before: bool,
}

impl OfDays<'_> {
    /// The unit-days of a source.
    fn source(&self, name: &str) -> Result<&UnitDays<'_>> {
        self.days.get(name).ok_or_else(|| internal("a source has no unit-days"))
    }
}

impl View<'_> {
    /// All units with their rows, at the end of the experiment.
    pub(crate) fn of_rows(experiment: &Experiment) -> Self {
        Self { date: experiment.end, outcomes: Outcomes::Rows, only: None }
    }
}

/// What the columns of the units are made of.
struct Builder<'a> {
    job: &'a Job,
    engine: &'a Engine,
    experiment: &'a Experiment,
    view: &'a View<'a>,
    /// The values of each metric, over the columns of the aggregations.
    values: BTreeMap<usize, MetricColumns>,
}

struct MetricColumns {
    value: Expr,
    denominator: Option<Expr>,
    non_finite: Expr,
    covariates: Vec<Expr>,
}

/// The rows of the assignments.
pub(crate) async fn assignments(job: &Job, engine: &Engine) -> Result<DataFrame> {
    let Assignments { url, time, .. } = &job.assignments;
    rows_with_time(engine, url, time.as_deref(), &job.timezone).await
}

/// Plans the rows of the assignments as if each were a unit, without what is measured: their arms and segments are those
/// of the units, at less than it takes to make these.
pub(crate) async fn rows_of_assignments(
    job: &Job,
    engine: &Engine,
    experiment: &Experiment,
    date: Option<Date>,
    rows: Option<&DataFrame>,
) -> Result<Units> {
    let without_unit = Assignments { unit: None, ..job.assignments.clone() };
    let job = Job { assignments: without_unit, experiments: Vec::new(), ..job.clone() };
    let experiment = Experiment {
        metrics: Vec::new(),
        estimators: Vec::new(),
        expected: Vec::new(),
        ..experiment.clone()
    };
    let view = View { date, ..View::of_rows(&experiment) };
    let mut builder = Builder {
        job: &job,
        engine,
        experiment: &experiment,
        view: &view,
        values: BTreeMap::new(),
    };
    let rows = match rows {
        Some(rows) => rows.clone(),
        None => assignments(&job, engine).await?,
    };
    let frame = builder.assigned_of(rows).await?;
    builder.finish(frame, Vec::new())
}

/// Plans the units of an experiment.
pub(crate) async fn units(
    job: &Job,
    engine: &Engine,
    experiment: &Experiment,
    view: &View<'_>,
) -> Result<Units> {
    let mut builder = Builder { job, engine, experiment, view, values: BTreeMap::new() };
    let mut frame = builder.assigned().await?;
    let mut sources = Vec::new();
    let own = job.assignments.source.as_deref();
    sources.extend(own.map(ToOwned::to_owned));
    for source in job.sources.values() {
        let used = experiment.metrics.iter().any(|m| m.source == source.name);
        if !used || Some(source.name.as_str()) == own {
            continue;
        }
        let about = |error: JobError| error.about(&format!("source '{}'", source.name));
        match view.outcomes {
            Outcomes::Rows => {
                frame = builder.joined(frame, source).await.map_err(about)?;
                sources.push(source.name.clone());
            }
            Outcomes::Days(of) => {
                let days = of.source(&source.name)?;
                frame = builder.joined_before(frame, of, days).map_err(about)?;
                if builder.metrics_on(&source.name).any(|(i, _)| of.values[i]) {
                    frame = builder.joined_days(frame, of, days).map_err(about)?;
                    sources.push(source.name.clone());
                }
            }
        }
    }
    builder.finish(frame, sources)
}

/// Plans the unit-days of some days of one source, as additions to what its units did before: a row for each unit-day of
/// a unit that is assigned by then.
pub(crate) async fn increments(
    job: &Job,
    engine: &Engine,
    experiment: &Experiment,
    view: &View<'_>,
    (source, range): (&str, Days),
) -> Result<Units> {
    let Outcomes::Days(of) = view.outcomes else { return Err(internal("rows have no increments")) };
    let mut builder = Builder { job, engine, experiment, view, values: BTreeMap::new() };
    let assigned = builder.assigned().await?;
    let days = of.source(source)?;
    let about = |error: JobError| error.about(&format!("source '{source}'"));
    let frame = builder.each_day(assigned, of, days, range).map_err(about)?;
    builder.finish(frame, Vec::new())
}

/// Units with a row of the assignments after one day and up to another: none where assignments have no time.
pub(crate) async fn assigned_since(
    job: &Job,
    engine: &Engine,
    experiment: &Experiment,
    rows: &DataFrame,
    (after, until): (Date, Date),
) -> Result<Option<DataFrame>> {
    let assignments = &job.assignments;
    let (Some(time), Some(unit)) = (&assignments.time, &assignments.unit) else { return Ok(None) };
    let view = View::of_rows(experiment);
    let builder = Builder { job, engine, experiment, view: &view, values: BTreeMap::new() };
    let schema = rows.schema().clone();
    let frame = builder.of_experiment(rows.clone(), &schema)?;
    let first = after.tomorrow().map_err(|error| internal(error.to_string()))?;
    let time_type = type_of(&schema, time)?;
    let within = within(time, &time_type, &job.timezone, Some(first), Some(until))?;
    let within = within.ok_or_else(|| internal("days without bounds"))?;
    let units = frame.filter(within.and(ident(unit).is_not_null()))?;
    Ok(Some(units.aggregate(vec![ident(unit).alias(UNIT)], vec![])?))
}

impl Builder<'_> {
    /// The metrics on a source, with their positions.
    fn metrics_on(&self, source: &str) -> impl Iterator<Item = (usize, &Metric)> {
        let metrics = self.experiment.metrics.iter().enumerate();
        metrics.filter(move |(_, metric)| metric.source == source)
    }

    /// One row for each unit of the assignments, with what its own rows say.
    async fn assigned(&mut self) -> Result<DataFrame> {
        let rows = match self.view.outcomes {
            Outcomes::Rows => assignments(self.job, self.engine).await?,
            Outcomes::Days(of) => of.assignments.clone(),
        };
        self.assigned_of(rows).await
    }

    async fn assigned_of(&mut self, frame: DataFrame) -> Result<DataFrame> {
        let assignments = &self.job.assignments;
        let about = |error: JobError| error.about("[assignments]");
        let schema = frame.schema().clone();
        let frame = self.of_experiment(frame, &schema).map_err(about)?;
        let time = assignments.time.as_deref();
        let own = assignments.source.as_deref().map(|name| &self.job.sources[name]);
        // Rows of a source that also says the arms are outcomes as well: they count from the start on.
        let start = own.and(self.experiment.start);
        let until = self.view.date;
        let bounds =
            self.bounds(&assignments.url, &schema, time, (start, until)).await.map_err(about)?;
        let arm = column(&schema, &assignments.section.arm).map_err(about)?;
        let mut arm = cast(arm, DataType::Utf8);
        let frame = match (bounds, time.filter(|_| own.is_none())) {
            // Nobody knows whether an assignment without a time was made in time: it is counted as no assignment.
            (Some(bounds), Some(time)) => {
                arm = when(ident(time).is_not_null(), arm).end()?;
                frame.filter(bounds.or(ident(time).is_null()))?
            }
            (Some(bounds), None) => frame.filter(bounds)?,
            (None, _) => frame,
        };

        let mut once = Attributes::new(time.map(ident));
        for (i, (name, of)) in self.experiment.segments.iter().enumerate() {
            let value = column(&schema, of).map_err(|e| e.about(&format!("segment '{name}'")))?;
            once.add(cast(value, DataType::Utf8), segment(i));
        }
        if let Some(of) = self.experiment.strata() {
            let value = column(&schema, of).map_err(|e| e.about("strata"))?;
            once.add(cast(value, DataType::Utf8), STRATUM.to_owned());
        }
        let mut sums = Aggregates::new("own");
        for (i, metric) in self.experiment.metrics.iter().enumerate() {
            let told = |e: JobError| e.about(&format!("metric '{}'", metric.name));
            let on_own = own.filter(|source| source.name == metric.source);
            let attributes =
                on_own.is_some() || self.job.sources[&metric.source].section.grain == Grain::Row;
            let mut covariates = Vec::new();
            if attributes {
                for (k, column) in known_columns(metric) {
                    let value = covariate_column(&schema, column, metric).map_err(told)?;
                    once.add(value, covariate(i, k));
                    covariates.push(ident(covariate(i, k)));
                }
            }
            if let Some(source) = on_own {
                let columns = self.measured(i, metric, source, &schema, &mut sums, &mut once);
                let columns = columns.map_err(told)?;
                self.values.insert(i, MetricColumns { covariates, ..columns });
            } else {
                let ratio = matches!(metric.measure, Measure::Ratio(..));
                let none = MetricColumns {
                    value: match metric.measure {
                        Measure::Quantiles { .. } => no_values(),
                        Measure::Mean(_) | Measure::Ratio(..) => lit(0.0_f64),
                    },
                    denominator: ratio.then(|| lit(0.0_f64)),
                    non_finite: lit(0_i64),
                    covariates,
                };
                self.values.insert(i, none);
            }
        }

        let Some(unit) = &assignments.unit else {
            return self.each_row(frame, arm, once);
        };
        let unit = column(&schema, unit).map_err(about)?;
        let mut aggregates = vec![
            count(lit(1_i64)).alias(rows(ASSIGNMENTS)),
            min(arm.clone()).alias(ARM),
            max(arm.clone()).alias(LAST_ARM),
        ];
        if let Some(time) = time {
            aggregates.push(min(ident(time)).alias(ALLOCATED));
        }
        if self.experiment.multiple_arms == MultipleArms::First {
            let Some(time) = time else {
                return Err(JobError::File(
                    "multiple_arms = \"first\" needs the 'time' of the assignments".into(),
                ));
            };
            let order = vec![ident(time).sort(true, false), arm.clone().sort(true, false)];
            // An order that is given to `first_value` itself is lost to the filter's builder.
            let first = first_value(arm.clone(), vec![]).order_by(order);
            let first = first.filter(arm.is_not_null()).build()?;
            aggregates.push(first.alias("first_arm"));
        }
        aggregates.extend(once.aggregates());
        aggregates.extend(sums.exprs(self.engine)?);
        let assigned = frame.aggregate(vec![unit.alias(UNIT)], aggregates)?;
        match self.view.outcomes {
            Outcomes::Rows => Ok(assigned),
            Outcomes::Days(of) => self.since(assigned, of),
        }
    }

    /// Where no column says the unit, each row is one; its position is its key where one is needed.
    fn each_row(&self, frame: DataFrame, arm: Expr, once: Attributes) -> Result<DataFrame> {
        let mut columns =
            vec![lit(1_i64).alias(rows(ASSIGNMENTS)), arm.clone().alias(ARM), arm.alias(LAST_ARM)];
        columns.extend(once.columns());
        if self.job.needs_order() {
            let frame = frame.window(vec![row_number().alias("row of the source")])?;
            columns.push(cast(ident("row of the source"), DataType::Int64).alias(UNIT));
            return Ok(frame.select(columns)?);
        }
        Ok(frame.select(columns)?)
    }

    /// The rows of the experiment, where a column tells.
    fn of_experiment(&self, frame: DataFrame, schema: &DFSchema) -> Result<DataFrame> {
        let Some(name) = &self.job.assignments.section.experiment else { return Ok(frame) };
        let named = cast(column(schema, name)?, DataType::Utf8);
        Ok(frame.filter(named.eq(lit(self.experiment.name.clone())))?)
    }

    /// What holds for rows from `start` to the experiment's end.
    async fn bounds(
        &self,
        url: &str,
        schema: &DFSchema,
        time: Option<&str>,
        (start, end): (Option<Date>, Option<Date>),
    ) -> Result<Option<Expr>> {
        let Some(time) = time else { return Ok(None) };
        let data_type = type_of(schema, time)?;
        clock(&data_type).map_err(|error| error.about(&format!("column '{time}'")))?;
        let zone = &self.job.timezone;
        let bounds = within(time, &data_type, zone, start, end)?;
        if bounds.is_some() {
            check_wall_clock(self.engine, url, time, &data_type, zone).await?;
        }
        Ok(bounds)
    }

    /// What a metric measures on a source: aggregates of rows, or attributes of the one row of a unit.
    fn measured(
        &self,
        i: usize,
        metric: &Metric,
        source: &Source,
        schema: &DFSchema,
        sums: &mut Aggregates,
        once: &mut Attributes,
    ) -> Result<MetricColumns> {
        let over = if source.is_units() { Over::Unit } else { Over::Rows };
        let policy = metric.non_finite;
        let mut part = |sql: &str, name: String| -> Result<UnitValue> {
            let made = unit_value(self.engine, sql, schema, over, policy, sums)?;
            if over == Over::Rows {
                return Ok(made);
            }
            let bad = format!("{name} is not finite");
            once.add(made.value, name.clone());
            once.add(made.non_finite, bad.clone());
            Ok(UnitValue { value: ident(name), non_finite: ident(bad) })
        };
        let (numerator, below) = match &metric.measure {
            Measure::Mean(sql) => (part(sql, value(i))?, None),
            Measure::Quantiles { of, .. } => {
                (row_values(self.engine, of, schema, policy, sums)?, None)
            }
            Measure::Ratio(above, below) => {
                (part(above, value(i))?, Some(part(below, denominator(i))?))
            }
        };
        let non_finite = match &below {
            Some(below) => numerator.non_finite + below.non_finite.clone(),
            None => numerator.non_finite,
        };
        Ok(MetricColumns {
            value: numerator.value,
            denominator: below.map(|below| below.value),
            non_finite,
            covariates: Vec::new(),
        })
    }

    /// The assigned units with what the rows of another source say of them.
    async fn joined(&mut self, assigned: DataFrame, source: &Source) -> Result<DataFrame> {
        let time = source.section.time.as_deref();
        let zone = &self.job.timezone;
        let frame = rows_with_time(self.engine, &source.section.url, time, zone).await?;
        let schema = frame.schema().clone();
        let start = self.experiment.start;
        let within = (start, self.view.date);
        let frame = match self.bounds(&source.section.url, &schema, time, within).await? {
            Some(bounds) => frame.filter(bounds)?,
            None => frame,
        };
        let Some(unit) = &source.section.unit else {
            return Err(JobError::File("the key 'unit' is missing".into()));
        };
        let unit_type = type_of(&schema, unit)?;
        let assigned_type = type_of(assigned.schema(), UNIT)?;
        if !same_family(&unit_type, &assigned_type) {
            return Err(JobError::Data(format!(
                "its unit '{unit}' is {unit_type}, that of the assignments is {assigned_type}: they are not joined"
            )));
        }
        let mut sums = Aggregates::new(&format!("sum of {} ", source.name));
        let mut once = Attributes::new(time.map(ident));
        let metrics: Vec<(usize, Metric)> =
            self.metrics_on(&source.name).map(|(i, metric)| (i, metric.clone())).collect();
        for (i, metric) in &metrics {
            let told = |e: JobError| e.about(&format!("metric '{}'", metric.name));
            let made =
                self.measured(*i, metric, source, &schema, &mut sums, &mut once).map_err(told)?;
            let mut covariates = self.values.remove(i).map(|m| m.covariates).unwrap_or_default();
            if source.is_units() {
                for (k, column) in known_columns(metric) {
                    let column = covariate_column(&schema, column, metric).map_err(told)?;
                    once.add(column, covariate(*i, k));
                    covariates.push(ident(covariate(*i, k)));
                }
            }
            self.values.insert(*i, MetricColumns { covariates, ..made });
        }
        let key = format!("unit of {}", source.name);
        let frame = self.since_assignment(frame, &assigned, source, &schema)?;
        let mut aggregates = vec![count(lit(1_i64)).alias(rows(&source.name))];
        aggregates.extend(once.aggregates());
        aggregates.extend(sums.exprs(self.engine)?);
        let of_units = frame.aggregate(vec![ident(unit).alias(&key)], aggregates)?;
        Ok(assigned.join_on(of_units, JoinType::Left, [ident(UNIT).eq(ident(key))])?)
    }

    /// The rows that come after their unit's assignment, where both have a time.
    fn since_assignment(
        &self,
        frame: DataFrame,
        assigned: &DataFrame,
        source: &Source,
        schema: &DFSchema,
    ) -> Result<DataFrame> {
        let (Some(time), Some(unit)) = (&source.section.time, &source.section.unit) else {
            return Ok(frame);
        };
        if source.is_units() || self.job.assignments.time.is_none() {
            return Ok(frame);
        }
        let (mine, theirs) = (type_of(schema, time)?, type_of(assigned.schema(), ALLOCATED)?);
        if clock(&mine)? != clock(&theirs)? {
            return Err(JobError::Data(format!(
                "its time '{time}' is {mine}, that of the assignments is {theirs}: both or none must have a time zone"
            )));
        }
        let columns: Vec<Expr> = schema.fields().iter().map(|f| ident(f.name())).collect();
        let (key, since) = ("assigned unit", "assigned since");
        let allocated =
            assigned.clone().select(vec![ident(UNIT).alias(key), ident(ALLOCATED).alias(since)])?;
        let joined = frame.join_on(allocated, JoinType::Inner, [ident(unit).eq(ident(key))])?;
        // Rows that are dated by day belong to the allocation's day as a whole.
        let since = if matches!(mine, DataType::Date32 | DataType::Date64) {
            cast(cast(ident(since), DataType::Date32), mine)
        } else {
            ident(since)
        };
        Ok(joined.filter(ident(time).gt_eq(since))?.select(columns)?)
    }

    /// The day from which a unit's share of the arms is expected, as text, where there is more than one.
    fn ramp(&self, schema: &DFSchema) -> Result<Option<Expr>> {
        let expected = &self.experiment.expected;
        if !self.experiment.is_ramp() {
            return Ok(None);
        }
        let allocated = type_of(schema, ALLOCATED)?;
        let on = civil_day(ident(ALLOCATED), &allocated, &self.job.timezone)?;
        let first = expected[0].0.map(|from| from.to_string());
        let mut label = lit(first.unwrap_or_default());
        for (from, _) in &expected[1..] {
            let from = from.ok_or_else(|| internal("a ramp has no day"))?;
            label = when(on.clone().gt_eq(day(from)), lit(from.to_string())).otherwise(label)?;
        }
        Ok(Some(label))
    }

    /// The columns that summaries are made of.
    fn finish(self, frame: DataFrame, sources: Vec<String>) -> Result<Units> {
        let has = |name: &str| frame.schema().has_column_with_unqualified_name(name);
        let by_column = self.job.assignments.unit.is_some();
        let multiple = self.experiment.multiple_arms;
        let mut state = when(ident(ARM).is_null(), lit(state::NO_ARM));
        if by_column {
            state = when(ident(UNIT).is_null(), lit(state::NO_UNIT))
                .when(ident(ARM).is_null(), lit(state::NO_ARM));
            if multiple != MultipleArms::First {
                state = state.when(ident(ARM).not_eq(ident(LAST_ARM)), lit(state::MULTIPLE_ARMS));
            }
        }
        let state = state.otherwise(lit(state::ANALYSED))?;
        let (arm, last) = if multiple == MultipleArms::First && by_column {
            (ident("first_arm"), ident("first_arm"))
        } else {
            (ident(ARM), ident(LAST_ARM))
        };
        let mut columns = vec![
            ident(ARM).not_eq(ident(LAST_ARM)).alias(SEVERAL_ARMS),
            state.alias(STATE),
            arm.alias(ARM),
            last.alias(LAST_ARM),
            ident(rows(ASSIGNMENTS)),
        ];
        if has(UNIT) {
            columns.push(ident(UNIT));
        }
        for i in 0..self.experiment.segments.len() {
            columns.push(ident(segment(i)));
        }
        let ramp = self.ramp(frame.schema())?;
        if self.experiment.is_stratified() {
            let column = self.experiment.strata().map(|_| ident(STRATUM));
            let stratum = match (&ramp, column) {
                (Some(ramp), Some(column)) => concat_ws(lit(" "), vec![ramp.clone(), column]),
                (Some(ramp), None) => ramp.clone(),
                (None, Some(column)) => column,
                (None, None) => return Err(internal("units have no strata")),
            };
            columns.push(stratum.alias(STRATUM));
        }
        columns.extend(ramp.map(|ramp| ramp.alias(RAMP)));
        if has(SINCE) {
            columns.push(ident(SINCE));
        }
        for source in &sources {
            let name = rows(source);
            let counted = if has(&name) { ident(&name) } else { ident(rows(ASSIGNMENTS)) };
            columns.push(coalesce(vec![counted, lit(0_i64)]).alias(name));
        }
        for (i, metric) in self.values {
            columns.push(metric.value.alias(value(i)));
            if let Some(below) = metric.denominator {
                columns.push(below.alias(denominator(i)));
            }
            let bad = coalesce(vec![metric.non_finite, lit(0_i64)]);
            columns.push(bad.alias(non_finite(i)));
            for (k, column) in metric.covariates.into_iter().enumerate() {
                columns.push(column.alias(covariate(i, k)));
            }
        }
        Ok(Units { frame: frame.select(columns)?, sources, kept: None })
    }
}

/// Values that a unit has once: of its first row, and where rows have no time, the least.
struct Attributes {
    time: Option<Expr>,
    values: Vec<(Expr, String)>,
}

impl Attributes {
    fn new(time: Option<Expr>) -> Self {
        Self { time, values: Vec::new() }
    }

    fn add(&mut self, value: Expr, name: String) {
        self.values.push((value, name));
    }

    fn columns(self) -> impl Iterator<Item = Expr> {
        self.values.into_iter().map(|(value, name)| value.alias(name))
    }

    fn aggregates(self) -> Vec<Expr> {
        let Self { time, values } = self;
        let one = |value: Expr| match &time {
            Some(time) => {
                let order = vec![time.clone().sort(true, false), value.clone().sort(true, false)];
                first_value(value, order)
            }
            None => min(value),
        };
        values.into_iter().map(|(value, name)| one(value).alias(name)).collect()
    }
}
