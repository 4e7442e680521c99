//! `bootstrap_cuped` and `bootstrap_cuped_effect`.

use super::arguments::{ARM, CONTROL, TREATMENT, UNIT, X, Y};
use super::bootstrap::{INTERVAL, METHOD, OfAny, REPLICATES, by_method};
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, BUCKETS, INFERENCE, MISSING};
use crate::two_arm::of_summaries;

pub(super) static BOOTSTRAP_CUPED: Function = Function {
    name: "bootstrap_cuped",
    section: Section::TwoArms,
    summary: "Bootstrap of a difference of means per row, adjusted for covariates (CUPED), with units as clusters.",
    description: "\
Methods, intervals and their formulas are those of `bootstrap_mean`, for `y − θ'x` in place of `y`:

```text
e_k, x_k  = residuals of the totals of unit (or bucket) k within its arm
θ         = (Σ_a Σ_k x_k x_k')⁻¹ Σ_a Σ_k x_k e_k         pooled within the two arms, the same in every replicate
estimate  = (ȳ_t − ȳ_c) − θ'(x̄_t − x̄_c)
```

Where rows are units and are kept one by one, θ and the estimate are those of `cuped`; with many rows per unit θ is the best one for means of units as clusters. From K buckets θ costs p/(2K) of the \
variance for p covariates. `variance_reduction` compares the standard errors of `clustered_ttest` with and without the covariates. Covariates that are constant or follow from others are left out and named in the `note`. \
A covariate that is missing in some rows (`missing: 'indicator'`) counts as 0 there and an indicator joins the covariates.

| input | result |
| --- | --- |
| `y`, `arm` or `unit` NULL | the row is left out and counted in `n_dropped` |
| a covariate NULL | follows `missing` |
| NaN or ±∞ | NaN |
| an arm with too few units to resample | estimate where there is one, with a `note` |",
    returns: "an effect",
    arguments: &[Y, X, ARM, UNIT],
    options: &[INFERENCE, ARMS, MISSING, REPLICATES, INTERVAL, METHOD, BUCKETS],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['variance_reduction'] AS variance_reduction
FROM (
  SELECT bootstrap_cuped(i % 13 + i % 2, i % 13 + i % 3, i % 2 = 1, i, {seed: 7}) AS e
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[
        "Deng, A., Xu, Y., Kohavi, R., Walker, T. (2013). Improving the sensitivity of online controlled experiments by utilizing pre-experiment data. WSDM 2013, 123–132. doi:10.1145/2433396.2433413",
    ],
    value_version: 2,
    implementation: by_method::<true>(),
};

pub(super) static BOOTSTRAP_CUPED_EFFECT: Function = Function {
    name: "bootstrap_cuped_effect",
    section: Section::Comparisons,
    summary: "`bootstrap_cuped` of two stored summaries.",
    description: "\
The effect that `bootstrap_cuped` gives for the same rows, to the bit (where no covariate is missing), from two summaries of `buckets(unit, y, x)`, or of `replicates(unit, y, x, {buckets: 4096})`, whose buckets give θ.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, REPLICATES, INTERVAL, METHOD],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, buckets(i, i % 13 + i % 2, {before: i % 13 + i % 3}) AS s FROM generate_series(1, 300) AS t (i) GROUP BY i % 2
)
SELECT e['estimate'] AS estimate
FROM (SELECT bootstrap_cuped_effect(t.s, c.s, {seed: 7}) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: &[],
    value_version: 2,
    implementation: of_summaries::<OfAny<true>>(),
};
