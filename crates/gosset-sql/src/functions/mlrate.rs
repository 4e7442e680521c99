//! `mlrate` and `mlrate_effect`.

use gosset_stats::compare::mlrate;
use gosset_stats::summary::Moments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, TREATMENT, Y};
use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::options::{ARMS, INFERENCE, MISSING};
use crate::two_arm::{Inferred, Plain, of_summaries, two_arm};

const PREDICTION: Argument = Argument {
    name: "prediction",
    kind: ArgumentKind::Covariates,
    doc: "what a model that has not seen the unit's outcome says it is: a number",
};

const REFERENCES: &[&str] = &[
    "Guo, Y., Coey, D., Konutgan, M., Li, W., Schoener, C., Goldman, M. (2021). Machine learning for variance reduction in online experiments. NeurIPS 34. arXiv:2106.07263",
    "Tang, Y., Huang, C., Kastelman, D., Bauman, J. (2020). Control using predictions as covariates in switchback experiments. DoorDash.",
];

pub(super) static MLRATE: Function = Function {
    name: "mlrate",
    section: Section::TwoArms,
    summary: "Difference of means adjusted by a prediction that a model made of the outcome (MLRATE, CUPAC).",
    description: "\
`lin` with a prediction of `y` as its one covariate, and with the variance over a superpopulation. The prediction comes from any model of what was known before the assignment, as a column. Its coefficient is \
estimated here: a poor model costs precision and not validity.

The model must not have seen the outcome of the unit that it predicts. Fit it to other folds of units, each fold predicted by the model of the others, with `fold(unit, k)`; or to data from before the \
experiment (CUPAC). Otherwise intervals are too short.

```text
1. SELECT *, fold(unit, 2) AS fold FROM units             two folds of units
2. fit a model to fold 0 and predict fold 1, and the other way round
3. SELECT mlrate(y, prediction, arm) FROM predicted
```

`variance_reduction` says what the model bought.

| input | result |
| --- | --- |
| `y` or `arm` NULL | the row is left out and counted in `n_dropped` |
| the prediction NULL | follows `missing` |
| NaN or ±∞ | NaN |
| a constant prediction | the unadjusted difference, with a `note` |
| an arm with too few rows | NULL where not defined, with a `note` |",
    returns: "an effect",
    arguments: &[Y, PREDICTION, ARM],
    options: &[INFERENCE, ARMS, MISSING],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['variance_reduction'] AS variance_reduction
FROM (
  SELECT mlrate(i % 13 + i % 2, i % 13, i % 2 = 1) AS e
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: REFERENCES,
    value_version: 1,
    implementation: two_arm::<Inferred<Mlrate>>(),
};

pub(super) static MLRATE_EFFECT: Function = Function {
    name: "mlrate_effect",
    section: Section::Comparisons,
    summary: "`mlrate` of two stored summaries.",
    description: "\
The effect that `mlrate` gives for the same rows, to the bit, from two summaries of `moments(y, prediction)`.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, moments(i % 13 + i % 2, i % 13) AS s FROM generate_series(1, 300) AS t (i) GROUP BY i % 2
)
SELECT e['variance_reduction'] AS variance_reduction
FROM (SELECT mlrate_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Inferred<Mlrate>>(),
};

#[derive(Debug)]
struct Mlrate;

impl Plain for Mlrate {
    type Summary = Moments;
    const COMPARE: fn(&Moments, &Moments, &Inference) -> Result<Effect> = mlrate;
}
