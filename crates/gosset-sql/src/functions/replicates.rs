//! `replicates`.

use gosset_stats::summary::Replicates;

use super::arguments::CROSSED_UNIT;
use super::bootstrap;
use super::bootstrap_effects::METRICS;
use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::options::{OptionSpec, OptionValues};
use crate::summarize::summary_of_columns;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "method",
        values: OptionValues::OneOf(&["poisson", "double_or_nothing", "bayesian"]),
        default: "'poisson'",
        doc: "the law of the weights",
    },
    OptionSpec {
        name: "buckets",
        values: OptionValues::PowerOfTwo(64, 65536),
        default: "",
        doc: "also keep the totals of so many buckets of hashed units, which bca intervals and `bootstrap_cuped_effect` need",
    },
];

pub(super) static REPLICATES: Function = Function {
    name: "replicates",
    section: Section::Summaries,
    summary: "Weighted sums of every bootstrap replicate, as a summary that merges over rows, files and days.",
    description: "\
Keeps for every replicate the weighted sums of the columns and the weighted number of rows, all exact. The weights are a pure function of seed, unit and replicate (see `bootstrap_mean`), so that rows need not be units, \
and a unit may come back on later days: its rows have the same weights, and day summaries add up to any window with right standard errors. Up to 64 units are kept one by one. \
Feed it to `bootstrap_effect`. It takes about 9 bytes for every replicate and column, whatever the number of rows: 27 KiB for 1000 replicates of numerator and denominator.

| input | result |
| --- | --- |
| `unit` or a column NULL | the row is left out and counted |
| NaN or ±∞ | kept, and NaN in what is made of it |
| an array NULL | an error, since its length is the number of columns; its items may be NULL |
| no rows | the empty summary; NULL where there is an array, whose length no row tells |",
    returns: "a summary, LARGEBINARY",
    arguments: &[
        CROSSED_UNIT,
        Argument { name: "y", ..METRICS },
        Argument {
            name: "x",
            kind: ArgumentKind::Columns,
            doc: "further columns: numbers, structs whose names are kept, or arrays",
        },
    ],
    options: &[bootstrap::REPLICATES, OPTIONS],
    example: Example {
        sql: "\
SELECT describe_summary(merge_summaries(s)) AS summary
FROM (
  SELECT i % 7 AS day, replicates(i % 500, {num: i % 7, den: 1 + i % 3}, {replicates: 200}) AS s
  FROM generate_series(1, 3000) AS t (i)
  GROUP BY i % 7
)",
    },
    references: bootstrap::REFERENCES,
    value_version: 1,
    implementation: summary_of_columns::<Replicates>(),
};
