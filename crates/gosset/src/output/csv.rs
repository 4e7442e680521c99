//! A result as CSV.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::csv::{Writer, WriterBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::json::writer::{EncoderOptions, make_encoder};

use super::{ResultWriter, failed};
use crate::exit::Failure;
use gosset_engine::EngineError;

/// Writes the header with the first rows, or at the end of a result without any. What has no CSV (structs, lists, maps)
/// is written as JSON.
pub(super) struct CsvResult<W: Write> {
    schema: SchemaRef,
    started: bool,
    writer: Writer<W>,
}

impl<W: Write> CsvResult<W> {
    pub(super) fn new(schema: &SchemaRef, out: W) -> Self {
        let writer = WriterBuilder::new().with_header(true).build(out);
        Self { schema: SchemaRef::clone(schema), started: false, writer }
    }
}

impl<W: Write> ResultWriter for CsvResult<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.started = true;
        self.writer.write(&flat(batch)?).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if self.started {
            return Ok(());
        }
        let none = RecordBatch::new_empty(SchemaRef::clone(&self.schema));
        self.write(&none)
    }
}

/// The batch with nested columns as JSON text.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, Failure> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(json(field, column)?);
        } else {
            fields.push(FieldRef::clone(field));
            columns.push(ArrayRef::clone(column));
        }
    }
    let flat = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    Ok(flat.map_err(EngineError::from)?)
}

fn json(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, Failure> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column.as_ref(), &options).map_err(EngineError::from)?;
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(texts.finish()))
}
