//! `buckets`.

use gosset_stats::summary::Buckets;

use super::arguments::UNIT;
use super::bootstrap_effects::METRICS;
use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::options;
use crate::summarize::summary_of_columns;

pub(super) static BUCKETS: Function = Function {
    name: "buckets",
    section: Section::Summaries,
    summary: "Totals of hashed units, as a summary that merges over rows, files and days.",
    description: "\
Hashes units into buckets and keeps the number of rows and the exact sums of the columns of each bucket. Rows need not be units, and a unit may come back on later days: its rows always \
meet in the same bucket, so that day summaries add up to any window with right standard errors. Up to a quarter as many units as buckets are kept one by one. \
Feed it to `clustered_ttest_effect` and `bootstrap_effect`.

| input | result |
| --- | --- |
| `unit` or a column NULL | the row is left out and counted |
| NaN or ±∞ | kept, and NaN in what is made of it |
| an array NULL | an error, since its length is the number of columns; its items may be NULL |
| no rows | the empty summary; NULL where there is an array, whose length no row tells |",
    returns: "a summary, LARGEBINARY",
    arguments: &[
        UNIT,
        Argument { name: "y", ..METRICS },
        Argument {
            name: "x",
            kind: ArgumentKind::Columns,
            doc: "further columns: numbers, structs whose names are kept, or arrays",
        },
    ],
    options: &[options::BUCKETS],
    example: Example {
        sql: "\
SELECT describe_summary(buckets(i % 500, {num: i % 7, den: 1 + i % 3}, {buckets: 256})) AS summary
FROM generate_series(1, 3000) AS t (i)",
    },
    references: &[],
    value_version: 1,
    implementation: summary_of_columns::<Buckets>(),
};
