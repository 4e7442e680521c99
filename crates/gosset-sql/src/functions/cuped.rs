//! `cuped` and `cuped_effect`.

use gosset_stats::compare::cuped;
use gosset_stats::summary::Moments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, TREATMENT, X, Y};
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, INFERENCE, MISSING};
use crate::two_arm::{Inferred, Plain, of_summaries, two_arm};

pub(super) static CUPED: Function = Function {
    name: "cuped",
    section: Section::TwoArms,
    summary: "Difference of means with variance reduced by covariates from before the experiment.",
    description: "\
Estimates the mean of `y` under treatment minus that under control, adjusted for covariates by CUPED. The rows are units of randomisation, and the covariates are measured \
before the assignment.

```text
θ         = (Σ_a M_a(x,x))⁻¹ Σ_a M_a(x,y)            co-moments pooled within the two arms
estimate  = (ȳ_t − ȳ_c) − θ'(x̄_t − x̄_c)
V_a       = (s²_y − 2θ's_xy + θ'S_xx θ) / n_a        divisor n_a − 1
std_error = √(V_t + V_c)
df        = Welch's, from n_a − 1
```

`variance_reduction` is 1 − SE²/(unadjusted SE)². Covariates that are constant or follow from others are left out and named in the `note`.

A covariate that is missing in some rows (`missing: 'indicator'`) counts as 0 there and an indicator joins the covariates: nobody is left out, and the estimate does not depend \
on the value put in place. Assumes that covariates are not affected by the treatment.

| input | result |
| --- | --- |
| `y` or `arm` NULL | the row is left out and counted in `n_dropped` |
| a covariate NULL | follows `missing` |
| an array of covariates NULL | an error, since its length is the number of covariates; its items may be NULL |
| NaN or ±∞ | NaN |
| an arm with fewer than two rows | estimate where there is one; no interval and p-value, with a `note` |",
    returns: "an effect",
    arguments: &[Y, X, ARM],
    options: &[INFERENCE, ARMS, MISSING],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['variance_reduction'] AS variance_reduction
FROM (
  SELECT cuped(i % 13 + i % 2, i % 13 + i % 3, i % 2 = 1) AS e
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[
        "Deng, A., Xu, Y., Kohavi, R., Walker, T. (2013). Improving the sensitivity of online controlled experiments by utilizing pre-experiment data. WSDM 2013, 123–132. doi:10.1145/2433396.2433413",
    ],
    value_version: 1,
    implementation: two_arm::<Inferred<Cuped>>(),
};

pub(super) static CUPED_EFFECT: Function = Function {
    name: "cuped_effect",
    section: Section::Comparisons,
    summary: "`cuped` of two stored summaries.",
    description: "\
The effect that `cuped` gives for the same rows, to the bit, from two summaries of `moments(y, x, ...)`.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, moments(i % 13 + i % 2, i % 13 + i % 3) AS s FROM generate_series(1, 300) AS t (i) GROUP BY i % 2
)
SELECT e['estimate'] AS estimate
FROM (SELECT cuped_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Inferred<Cuped>>(),
};

#[derive(Debug)]
struct Cuped;

impl Plain for Cuped {
    type Summary = Moments;
    const COMPARE: fn(&Moments, &Moments, &Inference) -> Result<Effect> = cuped;
}
