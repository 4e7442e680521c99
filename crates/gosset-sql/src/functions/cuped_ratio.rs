//! `cuped_ratio` and `cuped_ratio_effect`.

use gosset_stats::compare::cuped_ratio;
use gosset_stats::summary::Moments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, DEN, NUM, TREATMENT, X};
use crate::function::{Argument, ArgumentKind, Example, Function, Section};
use crate::options::{ARMS, INFERENCE, MISSING};
use crate::two_arm::{Inferred, Plain, of_summaries, two_arm};

pub(super) static CUPED_RATIO: Function = Function {
    name: "cuped_ratio",
    section: Section::TwoArms,
    summary: "Difference of ratios of two sums with variance reduced by covariates from before the experiment.",
    description: "\
Estimates `Σnum/Σden` under treatment minus that under control, adjusted for covariates by CUPED. The rows are units of randomisation with their sums. A covariate is a number, or the same ratio before the \
experiment as a struct of two, `{before: {num: clicks_before, den: views_before}}`: both sides are linearised.

```text
L_i       = (num_i − R_a·den_i) / mean(den)_a          values whose mean moves as the ratio of arm a does; of a ratio covariate likewise
θ         = (Σ_a M_a(X,X))⁻¹ Σ_a M_a(X,L)              co-moments of the linearised values, pooled within the two arms
estimate  = (R_t − R_c) − θ'(X_t − X_c)                X the mean, or the ratio, of each covariate
V_a       = s²(L − θ'X) / n_a
std_error = √(V_t + V_c),  df Welch's, from n_a − 1
```

A unit that was not there before has a ratio of 0 over 0, with no part in it: give 0, not NULL, for its numerator and denominator. `variance_reduction` is 1 − SE²/(SE of `ratio_test`)². \
Covariates that are constant, follow from others or are a ratio over 0 are left out and named in the `note`. With no ratio among the covariates and a denominator of 1 it is `cuped`.

| input | result |
| --- | --- |
| `num`, `den` or `arm` NULL | the row is left out and counted in `n_dropped` |
| a covariate NULL | follows `missing` |
| NaN or ±∞ | NaN |
| an arm without rows, or whose `den` sums to 0 | NULL, with a `note` |
| an arm with fewer than two rows | estimate where there is one; no interval and p-value, with a `note` |",
    returns: "an effect",
    arguments: &[NUM, DEN, Argument { kind: ArgumentKind::RatioCovariates, doc: DOC, ..X }, ARM],
    options: &[INFERENCE, ARMS, MISSING],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['variance_reduction'] AS variance_reduction
FROM (
  SELECT cuped_ratio(i % 13 + i % 2, 1 + i % 5, {before: {num: i % 13, den: 1 + i % 5}, age: i % 29}, i % 2 = 1) AS e
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[
        "Deng, A., Xu, Y., Kohavi, R., Walker, T. (2013). Improving the sensitivity of online controlled experiments by utilizing pre-experiment data. WSDM 2013, 123–132. doi:10.1145/2433396.2433413",
        "Deng, A., Knoblich, U., Lu, J. (2018). Applying the delta method in metric analytics. KDD 2018, 233–242. doi:10.1145/3219819.3219919",
    ],
    value_version: 1,
    implementation: two_arm::<Inferred<CupedRatio>>(),
};

const DOC: &str = "one covariate, several as a struct `{age: age, before: {num: clicks_before, den: views_before}}` where a struct of two is a ratio, or an array; measured before the assignment";

pub(super) static CUPED_RATIO_EFFECT: Function = Function {
    name: "cuped_ratio_effect",
    section: Section::Comparisons,
    summary: "`cuped_ratio` of two stored summaries.",
    description: "\
The effect that `cuped_ratio` gives for the same rows, to the bit, from two summaries of `moments({num: num, den: den}, x, ...)`.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, moments({num: i % 13 + i % 2, den: 1 + i % 5}, {before: {num: i % 13, den: 1 + i % 5}}) AS s FROM generate_series(1, 300) AS t (i) GROUP BY i % 2
)
SELECT e['estimate'] AS estimate
FROM (SELECT cuped_ratio_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Inferred<CupedRatio>>(),
};

#[derive(Debug)]
struct CupedRatio;

impl Plain for CupedRatio {
    type Summary = Moments;
    const COMPARE: fn(&Moments, &Moments, &Inference) -> Result<Effect> = cuped_ratio;
}
