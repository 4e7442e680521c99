//! Rows to publish.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// A table of values by job and date, both partition columns.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("job", DataType::Utf8, true),
        Field::new("date", DataType::Utf8, true),
        Field::new("value", DataType::Int64, true),
    ]))
}

/// Rows of one partition.
pub(crate) fn rows(job: &str, date: Option<&str>, values: &[i64]) -> Vec<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![job; values.len()])),
        Arc::new(StringArray::from(vec![date; values.len()])),
        Arc::new(Int64Array::from(values.to_vec())),
    ];
    vec![RecordBatch::try_new(schema(), columns).unwrap()]
}
