//! `fold`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use gosset_stats::units::fold_of;

use super::arguments::UNIT;
use crate::call::Call;
use crate::function::{
    Argument, ArgumentKind, Example, Function, Implementation, ScalarParts, Section,
};
use crate::input::hash_units;
use crate::scalar::by_row;

pub(super) static FOLD: Function = Function {
    name: "fold",
    section: Section::Units,
    summary: "The fold of a unit for cross-fitting: the same on every machine, day and query.",
    description: "\
A number from 0 to `k` − 1 that is a pure function of `unit`, `k` and `seed`, about as often each, and independent of the arms, of the buckets and of the weights of the bootstrap. Fit a model to all folds \
but one and predict that one, for each of them; then adjust with `mlrate`. All rows of a unit are in one fold.

| input | result |
| --- | --- |
| `unit`, `k` or `seed` NULL | NULL |
| `k` below 1 or above 1,000,000 | an error |",
    returns: "BIGINT",
    arguments: &[
        UNIT,
        Argument { name: "k", kind: ArgumentKind::Integer, doc: "how many folds, from 1 to 1,000,000" },
        Argument {
            name: "seed",
            kind: ArgumentKind::OptionalInteger,
            doc: "another seed gives other folds; 0 where it is left out",
        },
    ],
    options: &[],
    example: Example {
        sql: "SELECT fold('user-17', 5) AS fold, fold('user-17', 5, 1) AS with_another_seed",
    },
    references: &[
        "Chernozhukov, V., Chetverikov, D., Demirer, M., Duflo, E., Hansen, C., Newey, W., Robins, J. (2018). Double/debiased machine learning for treatment and structural parameters. Econometrics Journal 21(1), C1–C68. doi:10.1111/ectj.12097",
    ],
    value_version: 1,
    implementation: Implementation::Scalar(ScalarParts { invoke, returns: || DataType::Int64 }),
};

/// The most folds.
const MAX_FOLDS: i64 = 1_000_000;

fn invoke(_: &Call, values: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
    by_row(values, rows, folds)
}

fn folds(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let (unit, k) = (&arguments[0], &arguments[1]);
    let rows = unit.len();
    let seed = match arguments.get(2) {
        Some(seed) => Arc::clone(seed),
        None => Arc::new(Int64Array::from_value(0, rows)),
    };
    let (k, seed) = (k.as_primitive::<Int64Type>(), seed.as_primitive::<Int64Type>());
    let hashes = hash_units(unit, &vec![0; rows])?;
    let nulls = unit.logical_nulls();
    let fold = |r: usize| {
        let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(r));
        if null || k.is_null(r) || seed.is_null(r) {
            return Ok(None);
        }
        let folds = k.value(r);
        if !(1..=MAX_FOLDS).contains(&folds) {
            return exec_err!("fold: k must be from 1 to {MAX_FOLDS}; found {folds}");
        }
        Ok(Some(i64::from(fold_of(hashes[r], folds as u32, seed.value(r) as u64))))
    };
    let folds: Int64Array = (0..rows).map(fold).collect::<Result<Vec<_>>>()?.into();
    Ok(Arc::new(folds))
}
