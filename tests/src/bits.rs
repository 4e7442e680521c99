//! Results bit for bit.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::row::{RowConverter, SortField};

/// The type without the ways to store it that mean the same: a cluster does not use views of strings.
fn plain(data_type: &DataType) -> DataType {
    let field = |field: &FieldRef| -> FieldRef {
        Arc::new(Field::new(field.name(), plain(field.data_type()), true))
    };
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::List(of) => DataType::List(field(of)),
        DataType::LargeList(of) => DataType::LargeList(field(of)),
        other => other.clone(),
    }
}

/// The bytes of each row, sorted: every bit of every number counts, the order of rows does not.
///
/// # Panics
/// If there is no batch, or a column of a type without an order.
pub fn bits(batches: &[RecordBatch]) -> (Schema, Vec<Vec<u8>>) {
    let fields = batches[0].schema();
    let fields = fields.fields().iter().map(|f| Field::new(f.name(), plain(f.data_type()), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let sort = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    let converter = RowConverter::new(sort.collect()).expect("columns with an order");
    let mut all = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayRef> = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| cast(column, field.data_type()).expect("columns with an order"))
            .collect();
        if columns.is_empty() {
            continue;
        }
        let rows = converter.convert_columns(&columns).expect("columns with an order");
        all.extend(rows.iter().map(|row| row.as_ref().to_vec()));
    }
    all.sort();
    (schema, all)
}
