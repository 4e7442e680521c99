//! Values as text for people.

use std::fmt::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::exit::Failure;
use gosset_engine::EngineError;

/// How many bytes of a binary value are shown.
const BYTES_SHOWN: usize = 16;

/// NULL is written out: an empty cell is an empty string.
const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_null("NULL");

/// A value on one line.
pub(super) fn line(array: &dyn Array, row: usize) -> Result<String, Failure> {
    if let Some(bytes) = bytes(array, row) {
        return Ok(shortened(bytes));
    }
    let formatter = ArrayFormatter::try_new(array, &OPTIONS).map_err(EngineError::from)?;
    Ok(formatter.value(row).try_to_string().map_err(EngineError::from)?)
}

/// A value as a cell of a table: a struct has a line for each field.
pub(super) fn cell(array: &dyn Array, row: usize) -> Result<String, Failure> {
    let Some(fields) = array.as_struct_opt().filter(|_| array.is_valid(row)) else {
        return line(array, row);
    };
    let width = fields.column_names().iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, column) in fields.column_names().iter().zip(fields.columns()) {
        if !text.is_empty() {
            text.push('\n');
        }
        let value = line(column.as_ref(), row)?;
        write!(text, "{name:width$}  {value}").expect("writing to a string does not fail");
    }
    Ok(text)
}

/// Whether a column is read by comparing digits, which stand on the right.
pub(super) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

fn bytes(array: &dyn Array, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Some(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Some(array.as_binary_view().value(row)),
        _ => None,
    }
}

/// A summary may be long, and nobody reads it as digits.
fn shortened(bytes: &[u8]) -> String {
    let mut text: String =
        bytes.iter().take(BYTES_SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > BYTES_SHOWN {
        write!(text, "… ({} bytes)", bytes.len()).expect("writing to a string does not fail");
    }
    text
}
