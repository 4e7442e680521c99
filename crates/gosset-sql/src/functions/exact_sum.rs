//! `exact_sum` and `exact_avg`.

use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::summarize::{AVG, SUM};

const X: Argument = Argument {
    name: "x",
    kind: ArgumentKind::Outcome,
    doc: "a number or a boolean; NULL is left out",
};

pub(super) static EXACT_SUM: Function = Function {
    name: "exact_sum",
    section: Section::Units,
    summary: "The true sum, rounded once: the same bits in any order and on any machine.",
    description: "\
The built-in `sum` of doubles depends on the order of the rows, so that results made of it differ from run to run. This one is the sum as if computed with unlimited precision, \
rounded once to the nearest double. Numbers count as doubles: integers beyond ±2⁵³ and decimals are rounded to the nearest one before they are added.

| input | result |
| --- | --- |
| NULL | left out |
| no values | NULL |
| NaN, or both infinities | NaN |
| an infinity of one sign | that infinity |
| only `-0.0` | 0 |",
    returns: "DOUBLE",
    arguments: &[X],
    options: &[],
    example: Example {
        sql: "\
SELECT exact_sum(x) AS exact
FROM (VALUES (1e16), (1.0), (-1e16)) AS t (x)",
    },
    references: &[
        "Demmel, J., Nguyen, H. D. (2015). Parallel reproducible summation. IEEE Transactions on Computers 64, 2060–2070. doi:10.1109/TC.2014.2345391",
    ],
    value_version: 1,
    implementation: SUM,
};

pub(super) static EXACT_AVG: Function = Function {
    name: "exact_avg",
    section: Section::Units,
    summary: "The mean from the true sum: the same bits in any order and on any machine.",
    description: "\
`exact_sum` over the number of values.

| input | result |
| --- | --- |
| NULL | left out |
| no values | NULL |
| NaN or ±∞ | as `exact_sum` |",
    returns: "DOUBLE",
    arguments: &[X],
    options: &[],
    example: Example {
        sql: "\
SELECT exact_avg(x) AS mean
FROM (VALUES (1e16), (1.0), (-1e16)) AS t (x)",
    },
    references: &[],
    value_version: 1,
    implementation: AVG,
};
