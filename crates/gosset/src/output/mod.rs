//! Results on standard output.
//!
//! Every form but the table is written batch by batch, so that a result may be larger than memory. NaN and infinities
//! have no JSON and are null there.

mod csv;
mod markdown;
mod table;
mod text;

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonArray, JsonFormat, LineDelimited, Writer};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use gosset_engine::EngineError;

pub(crate) use table::grid;

use crate::cli::ResultFormat;
use crate::exit::Failure;

/// Writes one result in one form.
trait ResultWriter {
    /// Rows, as they come.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure>;
    /// The end of the result.
    fn finish(&mut self) -> Result<(), Failure>;
}

/// Writes a result to `out` as its rows come, and tells how many they were.
///
/// `arrived` is called before the first byte is written. A statement without columns (DDL, SET) writes nothing.
pub(crate) async fn write(
    mut rows: SendableRecordBatchStream,
    format: ResultFormat,
    out: impl Write,
    arrived: impl FnOnce(),
) -> Result<Option<u64>, Failure> {
    let schema = rows.schema();
    let mut arrived = Some(arrived);
    let mut out = io::BufWriter::new(out);
    let mut count = 0;
    if schema.fields().is_empty() {
        while let Some(batch) = rows.next().await {
            batch.map_err(EngineError::from)?;
        }
        return Ok(None);
    }
    let mut writer = writer(format, &schema, &mut out);
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(EngineError::from)?;
        if let Some(arrived) = arrived.take() {
            arrived();
        }
        count += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    if let Some(arrived) = arrived.take() {
        arrived();
    }
    writer.finish()?;
    drop(writer);
    out.flush()?;
    Ok(Some(count))
}

fn writer<'a>(
    format: ResultFormat,
    schema: &SchemaRef,
    out: &'a mut (impl Write + 'a),
) -> Box<dyn ResultWriter + 'a> {
    match format {
        ResultFormat::Table => Box::new(table::TableWriter::new(schema, out)),
        ResultFormat::Csv => Box::new(csv::CsvResult::new(schema, out)),
        ResultFormat::Json => Box::new(JsonResult::<_, JsonArray>::new(out)),
        ResultFormat::Ndjson => Box::new(JsonResult::<_, LineDelimited>::new(out)),
        ResultFormat::Markdown => Box::new(markdown::MarkdownWriter::new(schema, out)),
    }
}

struct JsonResult<W: Write, F: JsonFormat>(Writer<W, F>);

impl<W: Write, F: JsonFormat> JsonResult<W, F> {
    fn new(out: W) -> Self {
        Self(WriterBuilder::new().with_explicit_nulls(true).build(out))
    }
}

impl<W: Write, F: JsonFormat + 'static> ResultWriter for JsonResult<W, F> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.0.write(batch).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.0.finish().map_err(failed)?;
        // An array is not ended by a line end, lines are.
        if std::any::TypeId::of::<F>() == std::any::TypeId::of::<JsonArray>() {
            writeln!(self.0.get_mut())?;
        }
        Ok(())
    }
}

/// An error of a writer: of the pipe behind it, or of a value that cannot be written.
fn failed(error: ArrowError) -> Failure {
    match error {
        ArrowError::IoError(_, error) => error.into(),
        // arrow-csv wraps what its writer reports in a text of its own.
        ArrowError::CsvError(text) if text.contains("Broken pipe") => Failure::reader_gone(),
        error => EngineError::from(error).into(),
    }
}

#[cfg(test)]
mod tests;
