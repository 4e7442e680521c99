//! `gram` and `gram_clustered`.

use super::moments::OUTCOMES;
use super::ols::{CLUSTER, MAX_ROWS, MISSING, REGRESSORS, WEIGHT};
use crate::function::{Example, Function, Section};
use crate::gram::SUMMARY;

pub(super) static GRAM: Function = Function {
    name: "gram",
    section: Section::Summaries,
    summary: "The rows of a regression, compressed without loss, as a summary that merges.",
    description: "\
Keeps what every linear model of the outcomes on the regressors needs, so that one pass over the rows serves many outcomes, designs, contrasts and segments: feed it to `ols_fit`, `ols_contrast` and `conditional_effects`, \
or store it and merge it later with `merge_summaries`. Regressors that are numbers stand for themselves; strings and booleans are factors, whose labels become columns when a model is fitted.

Up to `max_rows` distinct rows of regressors it keeps for each the number of rows and the exact sums of the outcomes and their products: that is enough for all standard errors of `ols`. Beyond, as with numbers that hardly \
ever come twice, the rows of each combination of factors are taken together with the exact sums of all columns and products: estimates and classical standard errors are the same, HC0 to HC3 are NULL. \
Which form it has depends on the rows alone, not on their order or split. It takes about 100 bytes for each distinct row or combination, and 20 more for each further product of columns.

| input | result |
| --- | --- |
| an outcome or a weight NULL, or a weight of 0 | the row is left out and counted |
| a regressor NULL | follows `missing` |
| NaN or ±∞ | the row is counted apart, and everything made of the summary is NaN |
| a weight that is negative or NaN | an error |
| factors with more than 1,048,576 combinations | an error |
| no rows | the empty summary |",
    returns: "a summary, LARGEBINARY",
    arguments: &[OUTCOMES, REGRESSORS, WEIGHT],
    options: &[MISSING, MAX_ROWS],
    example: Example {
        sql: "\
SELECT describe_summary(gram({spend: i % 13, visits: i % 5}, {arm: CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, age: i % 29})) AS summary
FROM generate_series(1, 300) AS t (i)",
    },
    references: &[YOCO],
    value_version: 1,
    implementation: SUMMARY,
};

pub(super) static GRAM_CLUSTERED: Function = Function {
    name: "gram_clustered",
    section: Section::Summaries,
    summary: "The rows of a regression with clusters, compressed, as a summary that merges.",
    description: "\
As `gram`, for cluster-robust standard errors: keeps the exact sums of all columns and products for each combination of the factors within each cluster. The rows of a cluster may be anywhere, in other files, days or \
shards. Beyond `max_rows` such combinations, clusters fall into 4096 buckets by their hash: the standard errors are then robust to dependence within buckets, which is right, and a little more variable. \
Clusters of two factors have no buckets: beyond, their standard errors are NULL.

| input | result |
| --- | --- |
| an outcome, the cluster or a weight NULL, or a weight of 0 | the row is left out and counted |
| a regressor NULL | follows `missing` |
| NaN or ±∞ | the row is counted apart, and everything made of the summary is NaN |
| a weight that is negative or NaN | an error |
| factors with more than 1,048,576 combinations, by buckets | an error |
| no rows | the empty summary |",
    returns: "a summary, LARGEBINARY",
    arguments: &[OUTCOMES, REGRESSORS, CLUSTER, WEIGHT],
    options: &[MISSING, MAX_ROWS],
    example: Example {
        sql: "\
SELECT describe_summary(gram_clustered(i % 13, {treated: i % 2 = 1, age: i % 29}, i % 50)) AS summary
FROM generate_series(1, 300) AS t (i)",
    },
    references: &[YOCO],
    value_version: 1,
    implementation: SUMMARY,
};

pub(super) const YOCO: &str = "Wong, J., Forsell, E., Lewis, R., Mao, T., Wardrop, M. (2021). You only compress once: optimal data compression for estimating linear models. arXiv:2102.11297";
