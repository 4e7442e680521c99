//! `histogram` and `histogram_quantile`.

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use gosset_stats::Summary;
use gosset_stats::compare::histogram_quantile;
use gosset_stats::summary::Histogram;

use super::arguments::{OPTIONAL_UNIT, Q, VALUES};
use super::bootstrap::REPLICATES;
use crate::call::Call;
use crate::function::{
    Argument, ArgumentKind, Example, Function, Implementation, ScalarParts, Section,
};
use crate::input::failed;
use crate::options::{OptionSpec, OptionValues};
use crate::scalar::{by_row, summaries};
use crate::summarize::summary_of_columns;

pub(super) const RELATIVE_ERROR: &[OptionSpec] = &[OptionSpec {
    name: "relative_error",
    values: OptionValues::ZeroOrBetween(1e-4, 0.1),
    default: "0.001",
    doc: "how far a value may be from the middle of its bin, relatively, once there are more than 2048 distinct values; 0 keeps every value",
}];

pub(super) const LAW: &[OptionSpec] = &[OptionSpec {
    name: "method",
    values: OptionValues::OneOf(&["poisson", "double_or_nothing", "bayesian"]),
    default: "'poisson'",
    doc: "the law of the weights of units, see `bootstrap_mean`; without units nothing is weighted",
}];

pub(super) static HISTOGRAM: Function = Function {
    name: "histogram",
    section: Section::Summaries,
    summary: "How many rows have which value, as a summary that merges over rows, files and days.",
    description: "\
Keeps up to 2048 distinct values as they are. With more, values share a bin with those within the relative error, and every bin keeps its smallest and its largest value, so that quantiles are interpolated between \
values that occurred, tails are as fine as the middle, and integers below 1/`relative_error` stay exact. Which bins there are depends on the set of values alone.

With `unit` every bin also keeps the weights of its rows in every bootstrap replicate, which makes day summaries of units with many rows add up to quantiles with right standard errors: 4 bytes for every bin and replicate, \
12 MiB for 3000 bins and 1000 replicates. An array of numbers is as many rows, of the same unit: units whose rows were collected before are counted as if they had not been. Feed it to `histogram_quantile`, `quantile_effect`, and without units to `mann_whitney_effect` and `ks_effect`.

| input | result |
| --- | --- |
| `y` or `unit` NULL, an array that is NULL, a number of it | the row is left out and counted |
| NaN or ±∞ | counted, and NaN in what is made of it |
| no rows | the empty summary |",
    returns: "a summary, LARGEBINARY",
    arguments: &[VALUES, OPTIONAL_UNIT],
    options: &[RELATIVE_ERROR, REPLICATES, LAW],
    example: Example {
        sql: "\
SELECT histogram_quantile(histogram(i * i % 1009), 0.5) AS median
FROM generate_series(1, 3000) AS t (i)",
    },
    references: &[],
    value_version: 1,
    implementation: summary_of_columns::<Histogram>(),
};

pub(super) static HISTOGRAM_QUANTILE: Function = Function {
    name: "histogram_quantile",
    section: Section::Summaries,
    summary: "A quantile of a stored histogram.",
    description: "\
The value at which the rows in ascending order reach the share `q`; where they reach it between two values, the mean of both (definition 2 of Hyndman and Fan, so that 0.5 gives the usual median). \
Exact while every value has a bin of its own, otherwise interpolated within a bin.

| input | result |
| --- | --- |
| NULL, or a histogram without rows | NULL |
| NaN or ±∞ among the values | NaN |",
    returns: "DOUBLE",
    arguments: &[
        Argument {
            name: "summary",
            kind: ArgumentKind::Summary,
            doc: "a stored summary of `histogram`",
        },
        Q,
    ],
    options: &[],
    example: Example {
        sql: "\
SELECT histogram_quantile(histogram(x), 0.5) AS median
FROM (VALUES (1.0), (2.0), (3.0), (10.0)) AS t (x)",
    },
    references: &[
        "Hyndman, R. J., Fan, Y. (1996). Sample quantiles in statistical packages. American Statistician 50(4), 361–365. doi:10.1080/00031305.1996.10473566",
    ],
    value_version: 1,
    implementation: Implementation::Scalar(ScalarParts { invoke, returns: || DataType::Float64 }),
};

fn invoke(call: &Call, values: &[ColumnarValue], rows: usize) -> Result<ColumnarValue> {
    let q = call.options.number("q").unwrap_or(f64::NAN);
    let quantile = |bytes: Option<&[u8]>| match bytes {
        None => Ok(None),
        Some(bytes) => Histogram::decode(bytes)
            .and_then(|histogram| histogram_quantile(&histogram, q))
            .map_err(|e| failed(call.function, e)),
    };
    by_row(&values[..1], rows, |arrays| {
        let quantiles = summaries(&arrays[0])?.into_iter().map(quantile);
        let quantiles: Float64Array = quantiles.collect::<Result<Vec<Option<f64>>>>()?.into();
        Ok(Arc::new(quantiles))
    })
}
