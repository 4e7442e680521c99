//! `stratified_moments`.

use gosset_stats::summary::StratifiedMoments;

use super::arguments::STRATUM;
use super::moments::{COVARIATES, OUTCOMES};
use crate::function::{Example, Function, Section};
use crate::options::MISSING;
use crate::summarize::summary_of_columns;

pub(super) static STRATIFIED_MOMENTS: Function = Function {
    name: "stratified_moments",
    section: Section::Summaries,
    summary: "The moments of each stratum of one arm, as a summary that merges.",
    description: "\
Keeps `moments` for each stratum. The rows are units. Feed it to `post_stratify_effect`, or store it and merge it later with `merge_summaries`. It takes about 100 bytes for each stratum, more with covariates.

| input | result |
| --- | --- |
| an outcome NULL | the row is left out and counted |
| `stratum` NULL | a stratum of its own |
| a covariate NULL | follows `missing` |
| an array NULL | an error, since its length is the number of columns; its items may be NULL |
| NaN or ±∞ | kept, and NaN in what is made of it |
| no rows | the empty summary; NULL where there is an array, whose length no row tells |",
    returns: "a summary, LARGEBINARY",
    arguments: &[STRATUM, OUTCOMES, COVARIATES],
    options: &[MISSING],
    example: Example {
        sql: "\
SELECT describe_summary(stratified_moments(i % 3, i % 13, {age: i % 29})) AS summary
FROM generate_series(1, 300) AS t (i)",
    },
    references: &[],
    value_version: 1,
    implementation: summary_of_columns::<StratifiedMoments>(),
};
