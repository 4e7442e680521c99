//! One schema for many files.
//!
//! DataFusion takes the schema of a list of files from the first of them, types of text from its first thousand rows, and
//! the columns of CSV files by their position. Each of these reads wrong values without a word: a decimal as a whole
//! number, a column as its neighbour. Here every file is asked, and what does not fit together is an error that names both.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::execution::SessionState;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::{EngineError, Result};

/// The rows of a CSV file that say what is text.
const FIRST_ROWS: usize = 1000;

/// Files that are asked at once.
const AT_ONCE: usize = 32;

/// The schema of files of one format; of small CSV files, by all of their rows.
///
/// # Errors
/// [`EngineError::BadData`] where columns have types that do not go together, or CSV files have other columns or another
/// order of them; what reading them gives.
pub(crate) async fn of_files(
    state: &SessionState,
    store: &Arc<dyn ObjectStore>,
    format: &Arc<dyn FileFormat>,
    files: &[ObjectMeta],
    all_rows: bool,
) -> Result<SchemaRef> {
    let any: &dyn Any = format.as_ref();
    let csv = any.downcast_ref::<CsvFormat>();
    let mut asked = Vec::new();
    // Without a byte there is no row, and no header either.
    for file in files.iter().filter(|file| file.size > 0).cloned() {
        asked.push(async move {
            let name = file.location.filename().unwrap_or_default().to_owned();
            let whole = match csv {
                Some(csv) if all_rows => of_whole(state, store, csv, &file).await,
                _ => format.infer_schema(state, store, &[file]).await,
            };
            match whole {
                Ok(schema) => Ok((name, schema)),
                Err(error) => Err(EngineError::from(error).about(&name)),
            }
        });
    }
    let asked = futures::stream::iter(asked).buffered(AT_ONCE);
    let found: Vec<(String, SchemaRef)> = asked.try_collect().await?;
    if csv.is_some() {
        same_columns(&found)?;
    }
    let schema = match &*found {
        [] => Arc::new(Schema::empty()),
        [(_, schema)] => Arc::clone(schema),
        _ => merged(&found, csv.is_some())?,
    };
    Ok(if csv.is_some() && !all_rows { text_for_nothing(&schema) } else { schema })
}

/// A column without a value among the first rows is text: as one of NULLs it would lose the values that come later.
fn text_for_nothing(schema: &Schema) -> SchemaRef {
    let typed = |field: &FieldRef| match field.data_type() {
        DataType::Null => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(typed).collect::<Vec<_>>()))
}

/// The schema of a CSV file in one piece: where DataFusion cuts it may be within a quoted value with line breaks.
async fn of_whole(
    state: &SessionState,
    store: &Arc<dyn ObjectStore>,
    csv: &CsvFormat,
    file: &ObjectMeta,
) -> datafusion::common::Result<SchemaRef> {
    let bytes = store.get(&file.location).await?.into_stream().map_err(DataFusionError::from);
    let compression = FileCompressionType::from(csv.options().compression);
    let parts: Vec<Bytes> = compression.convert_stream(bytes.boxed())?.try_collect().await?;
    let whole = Bytes::from(parts.concat());
    let by = async |rows: usize| {
        let whole = futures::stream::once(std::future::ready(Ok(whole.clone())));
        csv.infer_schema_from_stream(state, rows, whole).await.map(|(schema, _)| schema)
    };
    let (first, all) = (by(FIRST_ROWS).await?, by(usize::MAX).await?);
    // Among many numbers or times a text is a mistake: reading it is an error that tells the row.
    let typed = |(first, all): (&FieldRef, &FieldRef)| match (first.data_type(), all.data_type()) {
        (DataType::Null, _) => Arc::clone(all),
        (_, DataType::Utf8) => Arc::clone(first),
        _ => Arc::clone(all),
    };
    let fields: Vec<FieldRef> = first.fields().iter().zip(all.fields()).map(typed).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Columns of CSV files are read by their position.
fn same_columns(found: &[(String, SchemaRef)]) -> Result<()> {
    let names = |schema: &Schema| {
        schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
    };
    let Some((first, schema)) = found.first() else { return Ok(()) };
    let expected = names(schema);
    match found.iter().find(|(_, schema)| names(schema) != expected) {
        None => Ok(()),
        Some((other, schema)) => Err(EngineError::BadData(format!(
            "expected the same columns in every file: '{first}' has {}, '{other}' has {}",
            expected.join(", "),
            names(schema).join(", ")
        ))),
    }
}

/// Columns in the order in which they first come, each as wide as its widest; those that a file does not have may be NULL.
fn merged(found: &[(String, SchemaRef)], is_csv: bool) -> Result<SchemaRef> {
    let mut fields: Vec<(Field, &str, usize)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (file, schema) in found {
        for field in schema.fields() {
            let Some(&at) = places.get(field.name()) else {
                places.insert(field.name().clone(), fields.len());
                fields.push((field.as_ref().clone(), file, 1));
                continue;
            };
            let (known, first, files) = &mut fields[at];
            *files += 1;
            *known = joined(known, field, is_csv).ok_or_else(|| {
                EngineError::BadData(format!(
                    "expected one type of '{}' in every file: {} in '{first}', {} in '{file}'",
                    field.name(),
                    known.data_type(),
                    field.data_type()
                ))
            })?;
        }
    }
    let everywhere = |(field, _, files): (Field, &str, usize)| -> FieldRef {
        let nullable = field.is_nullable() || files < found.len();
        Arc::new(field.with_nullable(nullable))
    };
    let metadata = found[0].1.metadata().clone();
    let fields: Vec<FieldRef> = fields.into_iter().map(everywhere).collect();
    Ok(Arc::new(Schema::new_with_metadata(fields, metadata)))
}

/// A field that the values of both fit in.
fn joined(a: &Field, b: &Field, is_csv: bool) -> Option<Field> {
    let mut both = a.clone();
    if both.try_merge(b).is_ok() {
        return Some(both);
    }
    let data_type = match wider(a.data_type(), b.data_type()) {
        // What is text in the file can be read as text.
        None if is_csv => DataType::Utf8,
        found => found?,
    };
    Some(a.clone().with_data_type(data_type).with_nullable(a.is_nullable() || b.is_nullable()))
}

fn wider(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{
        Binary, BinaryView, Float64, Int64, LargeBinary, LargeUtf8, Null, Timestamp, UInt64, Utf8,
        Utf8View,
    };
    Some(match (a, b) {
        (Null, other) | (other, Null) => other.clone(),
        (a, b) if a.is_unsigned_integer() && b.is_unsigned_integer() => UInt64,
        (a, b) if a.is_integer() && b.is_integer() && ![a, b].contains(&&UInt64) => Int64,
        (a, b) if a.is_floating() && b.is_numeric() || a.is_numeric() && b.is_floating() => Float64,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => Utf8View,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => BinaryView,
        (Timestamp(a, zone), Timestamp(b, other)) if zone == other => {
            Timestamp(finer(*a, *b), zone.clone())
        }
        _ => return None,
    })
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let units = [TimeUnit::Nanosecond, TimeUnit::Microsecond, TimeUnit::Millisecond];
    units.into_iter().find(|unit| [a, b].contains(unit)).unwrap_or(TimeUnit::Second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, fields: &[(&str, DataType)]) -> (String, SchemaRef) {
        let fields = fields.iter().map(|(name, t)| Field::new(*name, t.clone(), false));
        (name.to_owned(), Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    #[test]
    fn types_are_as_wide_as_the_widest() {
        for (a, b, expected) in [
            (DataType::Int64, DataType::Float64, Some(DataType::Float64)),
            (DataType::Null, DataType::Date32, Some(DataType::Date32)),
            (DataType::Int32, DataType::Int64, Some(DataType::Int64)),
            (DataType::UInt8, DataType::Int32, Some(DataType::Int64)),
            (DataType::UInt64, DataType::Int64, None),
            (DataType::Utf8, DataType::Utf8View, Some(DataType::Utf8View)),
            (
                DataType::Timestamp(TimeUnit::Millisecond, None),
                DataType::Timestamp(TimeUnit::Microsecond, None),
                Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
            ),
            (DataType::Int64, DataType::Utf8, None),
        ] {
            assert_eq!(wider(&a, &b), expected, "{a} and {b}");
            assert_eq!(wider(&b, &a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn columns_are_those_of_all_files() {
        let found = [
            file("1", &[("x", DataType::Int64)]),
            file("2", &[("y", DataType::Utf8), ("x", DataType::Float64)]),
        ];
        let schema = merged(&found, false).expect("they go together");
        let expected = Schema::new(vec![
            Field::new("x", DataType::Float64, false),
            Field::new("y", DataType::Utf8, true),
        ]);
        assert_eq!(*schema, expected);
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let found =
            [file("a.csv", &[("u", DataType::Int64)]), file("b.csv", &[("v", DataType::Int64)])];
        let error = same_columns(&found).expect_err("other columns").to_string();
        assert_eq!(error, "expected the same columns in every file: 'a.csv' has u, 'b.csv' has v");
        let found =
            [file("a.json", &[("u", DataType::Int64)]), file("b.json", &[("u", DataType::Utf8)])];
        let error = merged(&found, false).expect_err("other types").to_string();
        assert_eq!(
            error,
            "expected one type of 'u' in every file: Int64 in 'a.json', Utf8 in 'b.json'"
        );
        let text = merged(&found, true).expect("of CSV it is text");
        assert_eq!(text.field(0).data_type(), &DataType::Utf8);
    }
}
