//! `merge_summaries`.

use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::summarize::MERGE;

pub(super) static MERGE_SUMMARIES: Function = Function {
    name: "merge_summaries",
    section: Section::Summaries,
    summary: "The merge of stored summaries, of any kind.",
    description: "\
Gives the summary of all the rows behind the summaries, to the bit the one that a single scan would give.

| input | result |
| --- | --- |
| NULL | left out |
| no summaries | NULL |
| summaries of different kinds, columns or bucket counts | an error that names both |
| bytes that are no summary | an error |",
    returns: "a summary, LARGEBINARY",
    arguments: &[Argument {
        name: "summary",
        kind: ArgumentKind::Summary,
        doc: "stored summaries",
    }],
    options: &[],
    example: Example {
        sql: "\
WITH days AS (
  SELECT i % 7 AS day, buckets(i % 100, i % 11) AS s FROM generate_series(1, 1000) AS t (i) GROUP BY i % 7
)
SELECT describe_summary(merge_summaries(s)) AS summary FROM days",
    },
    references: &[],
    value_version: 1,
    implementation: MERGE,
};
