//! Forgetting units: what they did is taken out of unit-days, and out of every file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{cast, concat};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::{JoinType, ScalarValue};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{ident, lit};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use gosset_engine::delta::{DeltaTableHandle, Metadata, Unneeded, any_of, partition};
use gosset_engine::{Engine, EngineError};

use crate::days::{BYTES_AT_ONCE, DAY, PART, UNIT, UNIT_DAYS};
use crate::history::ERASED;
use crate::run::Runner;
use crate::vacuum::JOB;
use crate::{JobError, Result, internal};

/// The column of the units to forget beside those of unit-days.
const FORGOTTEN: &str = "forgotten";

/// What was taken out of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// The table.
    pub table: String,
    /// Rows that were taken out: days of units.
    pub unit_days: u64,
    /// The version without them; none where there were none.
    pub version: Option<u64>,
    /// Files that were deleted.
    pub files: usize,
}

/// The units to forget, as texts: the one column of a CSV file with a header, or of a Parquet file.
///
/// # Errors
/// [`JobError::Data`] if it is not one column, or its header is no name of a unit's column; an engine error if the file
/// cannot be read.
pub async fn units_of(runner: &Runner, path: &Path) -> Result<ArrayRef> {
    let shown = path.display().to_string();
    let units = if path.extension().is_some_and(|end| end == "parquet") {
        let batches = runner.engine().read(&shown).await?.collect().await?;
        let batches: Vec<ArrayRef> =
            batches.iter().map(|batch| one_column(batch)).collect::<Result<_>>()?;
        let texts =
            batches.iter().map(|of| cast(of, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
        concatenated(&texts)
    } else {
        // As texts: whoever reads 007 as a number forgets another unit.
        texts_of(runner, path)
    };
    units.map_err(|error| error.about(&shown))
}

fn texts_of(runner: &Runner, path: &Path) -> Result<ArrayRef> {
    let io = |error: std::io::Error| JobError::Engine(EngineError::of(&error));
    let open = || std::fs::File::open(path).map_err(io);
    let (schema, _) = Format::default().with_header(true).infer_schema(open()?, Some(0))?;
    let known = runner.job().sources.values().filter_map(|source| source.section.unit.as_deref());
    let known: Vec<&str> = known.chain([UNIT]).collect();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    match names[..] {
        // A file without a header would lose its first unit.
        [name] if known.contains(&name) => {}
        _ => {
            return Err(JobError::Data(format!(
                "expected one column with the header '{}', found '{}'",
                known[0],
                names.join(",")
            )));
        }
    }
    let schema = Schema::new(vec![Field::new(names[0], DataType::Utf8, true)]);
    let reader = ReaderBuilder::new(Arc::new(schema)).with_header(true).build(open()?)?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    concatenated(&batches.iter().map(|batch| Arc::clone(batch.column(0))).collect::<Vec<_>>())
}

fn one_column(batch: &RecordBatch) -> Result<ArrayRef> {
    match batch.columns() {
        [column] => Ok(Arc::clone(column)),
        columns => {
            Err(JobError::Data(format!("expected one column of units, found {}", columns.len())))
        }
    }
}

fn concatenated(texts: &[ArrayRef]) -> Result<ArrayRef> {
    if texts.is_empty() {
        return Ok(Arc::new(StringArray::from(Vec::<&str>::new())));
    }
    let texts: Vec<&dyn Array> = texts.iter().map(AsRef::as_ref).collect();
    Ok(concat(&texts)?)
}

impl Runner {
    /// Takes units out of the unit-days of the job, and deletes the files in which they were. What was published of them
    /// together with others stays.
    ///
    /// # Errors
    /// [`JobError::Data`] if a unit is not of the type of a table's units; [`JobError::Changed`] if a run publishes
    /// meanwhile; if the store fails.
    pub async fn erase(&self, units: &ArrayRef) -> Result<Vec<Erased>> {
        let mut tables = Vec::new();
        for name in self.names().await?.into_iter().filter(|name| name.starts_with(UNIT_DAYS)) {
            let table = self.listed(&name).await?;
            let schema = table.schema()?;
            let units = typed(units, schema.field_with_name(UNIT)?.data_type());
            tables.push((units.map_err(|error| error.about(&name))?, name, table));
        }
        let run_id = uuid::Uuid::new_v4().to_string();
        let mut erased = Vec::new();
        // A run that goes on deletes its own.
        self.engine().clean_scratch(self.longest_run().unsigned_abs(), false).await?;
        for (units, name, mut table) in tables {
            let before = table.version();
            let unit_days = self.take_out(&mut table, &units, &run_id).await?;
            let version = Some(table.version()).filter(|version| *version > before);
            // A tombstone of this very millisecond is not old enough yet.
            tokio::time::sleep(Duration::from_millis(5)).await;
            // Files of no version may be of a run that goes on, unless they are older than one.
            let mut files = table.vacuum(Unneeded::Replaced, Duration::ZERO, false).await?;
            files.extend(
                table
                    .vacuum(Unneeded::OfNoVersion, self.longest_run().unsigned_abs(), false)
                    .await?,
            );
            tracing::info!(table = name, unit_days, files = files.len(), run_id, "erased");
            erased.push(Erased { table: name, unit_days, version, files: files.len() });
        }
        Ok(erased)
    }

    /// Replaces the days in which units are by the rows of the others.
    async fn take_out(
        &self,
        table: &mut DeltaTableHandle,
        forgotten: &ArrayRef,
        run_id: &str,
    ) -> Result<u64> {
        let schema = table.schema()?;
        let engine = self.engine();
        let rows = engine.context().read_table(table.provider()?)?;
        let rows = rows.filter(ident(JOB).eq(lit(self.job().name.clone())))?;
        let mut total = 0;
        let (mut held, mut bytes, mut replaced) = (Vec::new(), 0, Vec::new());
        let metadata: Metadata = [
            (ERASED.to_owned(), forgotten.len().to_string()),
            ("gosset_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]
        .into();
        let found = found(engine, &rows, forgotten).await?;
        let mut found = found.into_iter().peekable();
        while let Some((part, days)) = found.next() {
            total += days.values().sum::<u64>();
            let of_days = any_of(days.keys().map(|day| {
                partition(&[
                    (JOB, self.job().name.as_str().into()),
                    (PART, part.as_str().into()),
                    (DAY, ScalarValue::Date32(Some(*day))),
                ])
            }));
            let kept = joined(
                engine,
                &rows.clone().filter(of_days.clone())?,
                forgotten,
                JoinType::LeftAnti,
            )?;
            let mut kept = kept.execute_stream().await?;
            while let Some(batch) = kept.try_next().await? {
                let batch = as_stored(&batch, &schema)?;
                bytes += batch.get_array_memory_size();
                held.push(batch);
            }
            replaced.push(of_days);
            if bytes > BYTES_AT_ONCE || found.peek().is_none() {
                let these = any_of(std::mem::take(&mut replaced));
                table.replace(std::mem::take(&mut held), these, &metadata, run_id).await?;
                bytes = 0;
            }
        }
        Ok(total)
    }
}

/// The units as a table has them.
fn typed(units: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let typed = cast(units, to)?;
    let texts = units.as_string::<i32>();
    match (0..units.len()).find(|at| typed.is_null(*at)) {
        None => Ok(typed),
        Some(at) if texts.is_null(at) => Err(JobError::Data("a unit is missing".into())),
        Some(at) => Err(JobError::Data(format!(
            "the unit '{}' is no {to}, as its units are",
            texts.value(at)
        ))),
    }
}

/// Rows with their unit among some, or without.
fn joined(
    engine: &Engine,
    rows: &DataFrame,
    units: &ArrayRef,
    kind: JoinType,
) -> Result<DataFrame> {
    let units = RecordBatch::try_from_iter([(FORGOTTEN, Arc::clone(units))])?;
    let units = engine.context().read_batch(units)?;
    Ok(rows.clone().join(units, kind, &[UNIT], &[FORGOTTEN], None)?)
}

/// The parts and days in which units are, with the number of their rows.
async fn found(
    engine: &Engine,
    rows: &DataFrame,
    units: &ArrayRef,
) -> Result<BTreeMap<String, BTreeMap<i32, u64>>> {
    let of_them = joined(engine, rows, units, JoinType::LeftSemi)?;
    let counted = of_them
        .aggregate(vec![ident(PART), ident(DAY)], vec![count(lit(1_i64)).alias("rows_of_day")])?;
    let mut found: BTreeMap<String, BTreeMap<i32, u64>> = BTreeMap::new();
    for batch in counted.collect().await? {
        let part = cast(batch.column(0), &DataType::Utf8)?;
        let (part, day) = (part.as_string::<i32>(), batch.column(1).as_primitive::<Date32Type>());
        let rows = batch.column(2).as_primitive::<Int64Type>();
        for at in 0..batch.num_rows() {
            let days = found.entry(part.value(at).to_owned()).or_default();
            days.insert(day.value(at), rows.value(at).cast_unsigned());
        }
    }
    Ok(found)
}

/// A batch with the columns of a table, of its types.
fn as_stored(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name());
        let column =
            column.ok_or_else(|| internal(format!("the column {} is missing", field.name())))?;
        Ok(cast(column, field.data_type())?)
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}
