//! The result tables: their columns, and rows for them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use gosset_engine::delta::partition;
use gosset_sql::{effect_fields, effects_to_struct};
use jiff::civil::Date;

use crate::Result;
use crate::audit::Audit;
use crate::caps::Capped;
use crate::effects::EffectRow;
use crate::job::{Experiment, Job};
use crate::stored::SummaryRow;

/// The table of effects.
pub const EFFECTS: &str = "effects";
/// The table of audits.
pub const AUDITS: &str = "audits";
/// The table of stored summaries.
pub const SUMMARIES: &str = "summaries";
/// What the tables are partitioned by.
pub const PARTITION: [&str; 3] = ["job", "experiment", "analysis_date"];

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn keys() -> impl Iterator<Item = Field> {
    [
        field("job", DataType::Utf8),
        field("experiment", DataType::Utf8),
        field("analysis_date", DataType::Date32),
    ]
    .into_iter()
}

/// Strings and numbers as every reader of Delta tables knows them.
fn stored(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        other => other.clone(),
    }
}

/// The columns of `effects`.
pub fn effects_schema() -> SchemaRef {
    let text = [
        "metric",
        "segment",
        "segment_value",
        "analysis_base",
        "period",
        "arm",
        "control",
        "estimator",
    ];
    let effect = effect_fields();
    let columns = keys()
        .chain(text.map(|name| field(name, DataType::Utf8)))
        .chain(effect.iter().map(|f| field(f.name(), stored(f.data_type()))))
        .chain([field("seed", DataType::Int64)])
        .chain(CAPPED.map(|(name, _)| field(name, DataType::Float64)))
        .chain([field("quantile", DataType::Float64)]);
    Arc::new(Schema::new(columns.collect::<Vec<_>>()))
}

type OfCapped = fn(&Capped) -> Option<f64>;

/// The columns of what became of an effect by a cap.
const CAPPED: [(&str, OfCapped); 4] = [
    ("cap", |c| c.cap.upper),
    ("cap_lower", |c| c.cap.lower),
    ("capped_share", |c| c.share),
    ("estimate_uncapped", |c| c.estimate_uncapped),
];

/// The columns of `audits`.
pub fn audits_schema() -> SchemaRef {
    let columns = keys().chain([
        field("audit", DataType::Utf8),
        field("metric", DataType::Utf8),
        field("source", DataType::Utf8),
        field("value", DataType::Float64),
        field("threshold", DataType::Float64),
        field("verdict", DataType::Utf8),
        field("blocking", DataType::Boolean),
        field("note", DataType::Utf8),
        field("analysis_base", DataType::Utf8),
    ]);
    Arc::new(Schema::new(columns.collect::<Vec<_>>()))
}

/// The columns of `summaries`.
pub(crate) fn summaries_schema() -> SchemaRef {
    let text = ["period", "metric", "segment", "segment_value", "arm", "kind"];
    let columns = keys()
        .chain(text.map(|name| field(name, DataType::Utf8)))
        .chain(["units", "non_finite", "active"].map(|name| field(name, DataType::Int64)))
        .chain([field("summary", DataType::Binary)]);
    Arc::new(Schema::new(columns.collect::<Vec<_>>()))
}

/// The rows of an experiment's results.
pub(crate) fn rows_of(job: &str, experiment: &str, date: Option<Date>) -> Expr {
    partition(&[
        ("job", job.into()),
        ("experiment", experiment.into()),
        ("analysis_date", ScalarValue::Date32(date.map(days))),
    ])
}

/// Days since 1970-01-01.
pub(crate) fn days(date: Date) -> i32 {
    let epoch = jiff::civil::date(1970, 1, 1);
    date.since((jiff::Unit::Day, epoch)).map_or(0, |span| span.get_days())
}

/// An experiment and a date.
type Place<'a> = (&'a Experiment, Option<Date>);

fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn key_columns(job: &Job, (experiment, date): Place<'_>, n: usize) -> Vec<ArrayRef> {
    let date = date.map(days);
    vec![
        text(std::iter::repeat_n(Some(job.name.as_str()), n)),
        text(std::iter::repeat_n(Some(experiment.name.as_str()), n)),
        Arc::new(std::iter::repeat_n(date, n).collect::<Date32Array>()),
    ]
}

/// The rows of `effects` of an experiment.
pub(crate) fn effects_batch(
    job: &Job,
    place: Place<'_>,
    rows: &[EffectRow],
) -> Result<RecordBatch> {
    let n = rows.len();
    let periods: Vec<String> = rows.iter().map(|row| row.period.to_string()).collect();
    let each = |of: fn(&EffectRow) -> Option<&str>| text(rows.iter().map(of));
    let constant = |value: &str| text(std::iter::repeat_n(Some(value), n));
    let mut columns = key_columns(job, place, n);
    columns.extend([
        each(|r| Some(&r.metric)),
        each(|r| r.segment.as_deref()),
        each(|r| r.segment_value.as_deref()),
        each(|r| Some(r.base.name())),
        text(periods.iter().map(|period| Some(period.as_str()))),
        each(|r| Some(&r.arm)),
        constant(&place.0.control),
        each(|r| Some(r.estimator)),
    ]);
    let effects: Vec<_> = rows.iter().map(|row| Some(row.effect.clone())).collect();
    let (_, fields, _): (_, Vec<ArrayRef>, _) = effects_to_struct(&effects).into_parts();
    for column in fields {
        columns.push(cast(&column, &stored(column.data_type()))?);
    }
    let seeds = rows.iter().map(|row| row.seed.map(u64::cast_signed));
    columns.push(Arc::new(seeds.collect::<Int64Array>()));
    for (_, of) in CAPPED {
        let values = rows.iter().map(|row| of(row.capped.as_ref()?));
        columns.push(Arc::new(values.collect::<Float64Array>()));
    }
    columns.push(Arc::new(rows.iter().map(|row| row.quantile).collect::<Float64Array>()));
    Ok(RecordBatch::try_new(effects_schema(), columns)?)
}

/// The rows of `audits` of an experiment.
pub(crate) fn audits_batch(job: &Job, place: Place<'_>, audits: &[Audit]) -> Result<RecordBatch> {
    let mut columns = key_columns(job, place, audits.len());
    let columns_of_audits: [ArrayRef; 9] = [
        text(audits.iter().map(|a| Some(a.kind.name()))),
        text(audits.iter().map(|a| a.metric.as_deref())),
        text(audits.iter().map(|a| a.source.as_deref())),
        Arc::new(audits.iter().map(|a| a.value).collect::<Float64Array>()),
        Arc::new(audits.iter().map(|a| a.threshold).collect::<Float64Array>()),
        text(audits.iter().map(|a| Some(a.verdict()))),
        Arc::new(audits.iter().map(|a| Some(a.blocking)).collect::<BooleanArray>()),
        text(audits.iter().map(|a| a.note.as_deref())),
        text(audits.iter().map(|a| Some(a.base.name()))),
    ];
    columns.extend(columns_of_audits);
    Ok(RecordBatch::try_new(audits_schema(), columns)?)
}

/// The rows of `summaries` of an experiment.
pub(crate) fn summaries_batch(
    job: &Job,
    place: Place<'_>,
    rows: &[SummaryRow],
) -> Result<RecordBatch> {
    let mut columns = key_columns(job, place, rows.len());
    let periods: Vec<String> = rows.iter().map(|row| row.period.to_string()).collect();
    let each = |of: fn(&SummaryRow) -> Option<&str>| text(rows.iter().map(of));
    let number = |of: fn(&SummaryRow) -> u64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row).cast_signed())).collect::<Int64Array>())
    };
    columns.extend([
        text(periods.iter().map(|period| Some(period.as_str()))),
        each(|row| Some(&row.metric)),
        each(|row| row.segment.as_deref()),
        each(|row| row.segment_value.as_deref()),
        each(|row| Some(&row.arm)),
        each(|row| Some(row.kind)),
        number(|row| row.units),
        number(|row| row.counts.non_finite),
        number(|row| row.counts.active),
        Arc::new(rows.iter().map(|row| Some(row.summary.as_slice())).collect::<BinaryArray>()),
    ]);
    Ok(RecordBatch::try_new(summaries_schema(), columns)?)
}
