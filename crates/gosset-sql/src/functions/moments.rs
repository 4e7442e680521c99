//! `moments`.

use gosset_stats::summary::Moments;

use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::options::MISSING;
use crate::summarize::summary_of_columns;

pub(super) const OUTCOMES: Argument = Argument {
    name: "y",
    kind: ArgumentKind::Outcomes,
    doc: "the outcome, or several as a struct `{num: revenue, den: sessions}` whose names are kept; rows where one is NULL are left out and counted",
};

pub(super) const COVARIATES: Argument = Argument {
    name: "x",
    kind: ArgumentKind::Columns,
    doc: "covariates: numbers, structs whose names are kept, or arrays",
};

pub(super) static MOMENTS: Function = Function {
    name: "moments",
    section: Section::Summaries,
    summary: "Count, means and co-moments of the columns of one arm, as a summary that merges.",
    description: "\
Keeps the number of rows and the exact sums of all columns and of their products. The rows are units. Feed it to `ttest_effect`, `proportion_effect`, `ratio_effect`, `cuped_effect` \
and `lin_effect`, or store it and merge it later with `merge_summaries`.

The summaries of different rows add up to that of all of them, to the bit, in any order. They do not add up over days for the same unit: the square of a sum is not the sum of \
squares; use `buckets` for that.

| input | result |
| --- | --- |
| an outcome NULL | the row is left out and counted |
| a covariate NULL | follows `missing` |
| an array NULL | an error, since its length is the number of columns; its items may be NULL |
| NaN or ±∞ | kept, and NaN in what is made of it |
| no rows | the empty summary; NULL where there is an array, whose length no row tells |",
    returns: "a summary, LARGEBINARY",
    arguments: &[OUTCOMES, COVARIATES],
    options: &[MISSING],
    example: Example {
        sql: "\
SELECT describe_summary(moments(i % 13, {age: i % 29, income: i % 7})) AS summary
FROM generate_series(1, 300) AS t (i)",
    },
    references: &[],
    value_version: 1,
    implementation: summary_of_columns::<Moments>(),
};
