//! Columns of rows: that they are there, and of which type.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::DataFrame;
use gosset_engine::Engine;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use object_store::ObjectMeta;

use crate::expression::{is_number, with_policy};
use crate::job::Metric;
use crate::tables::days;
use crate::{JobError, Result};

/// A day as a value.
pub(crate) fn day(day: Date) -> Expr {
    lit(ScalarValue::Date32(Some(days(day))))
}

/// The rows at a location, with a column of times.
pub(crate) async fn rows_with_time(
    engine: &Engine,
    url: &str,
    time: Option<&str>,
    zone: &TimeZone,
) -> Result<DataFrame> {
    let rows = engine.read(url).await?;
    match time.filter(|time| is_text(&rows, time)) {
        Some(time) => timed(rows, engine.list(url).await?.files(), time, zone),
        None => Ok(rows),
    }
}

/// Rows of files with a column of times. JSON has none: there they are text as ISO 8601 writes it, and of the job's zone where
/// they do not say theirs. Text of other files is no time.
pub(crate) fn timed(
    rows: DataFrame,
    files: &[ObjectMeta],
    time: &str,
    zone: &TimeZone,
) -> Result<DataFrame> {
    let is_json = |file: &ObjectMeta| is_one_of(file, &[".json", ".ndjson", ".jsonl"]);
    if !is_text(&rows, time) || !files.iter().all(is_json) {
        return Ok(rows);
    }
    let zone = zone.iana_name();
    let zone = zone.ok_or_else(|| JobError::File("the time zone has no IANA name".into()))?;
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
    Ok(rows.with_column(time, cast(ident(time), instant))?)
}

/// Whether a file is of a format, by the endings of its name; that of a compression may follow.
fn is_one_of(file: &ObjectMeta, endings: &[&str]) -> bool {
    let name = file.location.filename().unwrap_or_default();
    endings.iter().any(|end| name.contains(end))
}

fn is_text(rows: &DataFrame, column: &str) -> bool {
    let found = rows.schema().field_with_unqualified_name(column);
    found.is_ok_and(|field| family(field.data_type()) == Family::Text)
}

/// The columns of a metric's covariates, with their positions.
pub(super) fn known_columns(metric: &Metric) -> impl Iterator<Item = (usize, &str)> {
    let all = metric.covariates.iter().enumerate();
    all.filter_map(|(k, known)| Some((k, known.column.as_deref()?)))
}

/// Refuses times of CSV files in a zone: they are read without theirs.
pub(crate) async fn check_wall_clock(
    engine: &Engine,
    url: &str,
    column: &str,
    data_type: &DataType,
    zone: &TimeZone,
) -> Result<()> {
    if !matches!(data_type, DataType::Timestamp(_, None)) || zone.iana_name() == Some("UTC") {
        return Ok(());
    }
    let is_csv = |file: &ObjectMeta| is_one_of(file, &[".csv", ".tsv"]);
    match engine.list(url).await?.files().iter().any(is_csv) {
        true => Err(JobError::File(format!(
            "column '{column}': the times of CSV files are read without their zone; use dates, Parquet, or timezone = \"UTC\""
        ))),
        false => Ok(()),
    }
}

/// The column of a unit as unit-days have it.
pub(crate) fn unit_column(schema: &DFSchema, name: &str) -> Result<Expr> {
    let found = type_of(schema, name)?;
    let kept = match family(&found) {
        Family::Integer => DataType::Int64,
        Family::Text => DataType::Utf8,
        Family::Binary => DataType::Binary,
        Family::Other => {
            return Err(JobError::Data(format!(
                "expected the unit '{name}' to be an integer, a string or binary, found {found}"
            )));
        }
    };
    Ok(cast(ident(name), kept))
}

/// A covariate: a number of the columns given, missing where it is NULL or, by the metric's policy, not finite.
pub(super) fn covariate_column(schema: &DFSchema, name: &str, metric: &Metric) -> Result<Expr> {
    let told = |error: JobError| error.about("covariate");
    let found = type_of(schema, name).map_err(told)?;
    if !is_number(&found) {
        return Err(JobError::File(format!(
            "covariate: the column '{name}' is {found}; expected a number"
        )));
    }
    Ok(with_policy(cast(ident(name), DataType::Float64), metric.non_finite)?)
}

pub(super) fn column(schema: &DFSchema, name: &str) -> Result<Expr> {
    type_of(schema, name).map(|_| ident(name))
}

/// The type of a column that must be there.
pub(crate) fn type_of(schema: &DFSchema, name: &str) -> Result<DataType> {
    match schema.field_with_unqualified_name(name) {
        Ok(field) => Ok(field.data_type().clone()),
        Err(_) => {
            let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
            let near = crate::file::explain::nearest(name, names.iter().map(String::as_str));
            let hint = near.map_or_else(
                || format!("the columns are {}", crate::job::list(&names)),
                |near| format!("did you mean '{near}'?"),
            );
            Err(JobError::Data(format!("the column '{name}' is missing; {hint}")))
        }
    }
}

/// Whether units of these types are joined.
pub(crate) fn same_family(one: &DataType, other: &DataType) -> bool {
    family(one) == family(other)
}

/// Units are joined with units of their kind.
#[derive(PartialEq, Eq)]
enum Family {
    Integer,
    Text,
    Binary,
    Other,
}

fn family(data_type: &DataType) -> Family {
    match data_type {
        DataType::Dictionary(_, values) => family(values),
        t if t.is_integer() => Family::Integer,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Family::Text,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Family::Binary,
        _ => Family::Other,
    }
}
