//! `binned_moments`.

use gosset_stats::summary::BinnedMoments;

use super::arguments::Y;
use super::histogram::RELATIVE_ERROR;
use crate::function::{Example, Function, Section};
use crate::summarize::summary_of_columns;

pub(super) static BINNED_MOMENTS: Function = Function {
    name: "binned_moments",
    section: Section::Summaries,
    summary: "Count, sum and sum of squares by bins of the value, as a summary that merges.",
    description: "\
Keeps the bins of `histogram`, each with the exact sum and sum of squares of its rows. The rows are units. Feed it to `winsorized_effect`, with any caps, or store it and merge it later with `merge_summaries`.

| input | result |
| --- | --- |
| `y` NULL | the row is left out and counted |
| NaN or ±∞ | counted, and NaN in what is made of it |
| no rows | the empty summary |",
    returns: "a summary, LARGEBINARY",
    arguments: &[Y],
    options: &[RELATIVE_ERROR],
    example: Example {
        sql: "\
SELECT describe_summary(binned_moments(i * i % 1009)) AS summary
FROM generate_series(1, 3000) AS t (i)",
    },
    references: &[],
    value_version: 1,
    implementation: summary_of_columns::<BinnedMoments>(),
};
