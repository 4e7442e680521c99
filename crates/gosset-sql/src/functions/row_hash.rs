//! `row_hash`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use gosset_stats::units;

use crate::call::Call;
use crate::function::{
    Argument, ArgumentKind, Example, Function, Implementation, ScalarParts, Section,
};
use crate::scalar::by_row;

pub(super) static ROW_HASH: Function = Function {
    name: "row_hash",
    section: Section::Units,
    summary: "A hash of a row's values, to see whether rows have changed wherever they are.",
    description: "\
A number that is a pure function of the values and of their order. Its `sum`, which wraps around, is a hash of a table that does not depend on the order of its rows, on files or on partitions; beside `count(*)` it \
tells whether two tables have the same rows: with 64 bits, two that differ agree once in 10¹⁹. It is not for secrets: who wants to finds other values with the same hash.

Integers of any width count as equal, and so do texts of any encoding. Dates, times and decimals count as their texts, NaN as itself, `-0.0` as 0; an integer, a double and a text differ even where they read the same.

| input | result |
| --- | --- |
| NULL | a value of its own: the result is never NULL |
| arrays, structs | an error |",
    returns: "BIGINT",
    arguments: &[
        Argument { name: "value", kind: ArgumentKind::Key, doc: "a value of the row" },
        Argument { name: "value", kind: ArgumentKind::Keys, doc: "more of them" },
    ],
    options: &[],
    example: Example {
        sql: "\
SELECT count(*) AS rows, sum(row_hash(unit, arm)) AS hash
FROM (VALUES (1, 'a'), (2, 'b'), (3, NULL)) AS t (unit, arm)",
    },
    references: &[],
    value_version: 1,
    implementation: Implementation::Scalar(ScalarParts { invoke, returns: || DataType::Int64 }),
};

/// What stands for NULL, before it is mixed.
const NULL: u64 = 1;

fn invoke(_: &Call, values: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
    by_row(values, rows, |arrays| {
        let mut hashes = vec![0; arrays.first().map_or(rows, |array| array.len())];
        arrays.iter().try_for_each(|array| add(array, &mut hashes))?;
        let hashes: Int64Array =
            hashes.into_iter().map(u64::cast_signed).collect::<Vec<_>>().into();
        Ok(Arc::new(hashes))
    })
}

/// Mixes the values of a column into the hashes of their rows.
fn add(array: &ArrayRef, hashes: &mut [u64]) -> Result<()> {
    let nulls = array.logical_nulls();
    let mut each = |hash: &dyn Fn(usize) -> u128| {
        for (r, all) in hashes.iter_mut().enumerate() {
            let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(r));
            *all = units::mix(*all, if null { NULL } else { hash(r) as u64 });
        }
    };
    match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            each(&|r| units::integer(values.value(r).into()));
        }
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            each(&|r| units::integer(values.value(r).into()));
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            // One NaN for all, one zero for both.
            let bits = |x: f64| if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() };
            each(&|r| units::binary(&bits(values.value(r)).to_le_bytes()));
        }
        DataType::Utf8View => {
            let values = array.as_string_view();
            each(&|r| units::string(values.value(r)));
        }
        DataType::BinaryView => {
            let values = array.as_binary_view();
            each(&|r| units::binary(values.value(r)));
        }
        other => return internal_err!("row_hash: values were not coerced: found {other}"),
    }
    Ok(())
}
