//! `ratio_test` and `ratio_effect`.

use gosset_stats::compare::ratio_test;
use gosset_stats::summary::Moments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, DEN, NUM, TREATMENT};
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, INFERENCE};
use crate::two_arm::{Inferred, Plain, of_summaries, two_arm};

pub(super) static RATIO_TEST: Function = Function {
    name: "ratio_test",
    section: Section::TwoArms,
    summary: "Difference of the ratios of two arms, by the delta method over units.",
    description: "\
Estimates Σnum/Σden under treatment minus that under control, for metrics such as revenue per session where the unit is the user. \
The rows are units of randomisation.

```text
R_a       = Σnum / Σden
L_i       = (num_i − R_a·den_i) / mean(den)          linearised value of unit i
std_error = √(s²(L)_t/n_t + s²(L)_c/n_c),            s² with divisor n_a − 1
df        = Welch's, from n_a − 1
```

`mean_control` and `mean_treatment` are the ratios. Assumes many units: with fewer than about 100, or a denominator that varies strongly, the interval is too short.

| input | result |
| --- | --- |
| `num`, `den` or `arm` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ | NaN |
| Σden is 0 in an arm, or an arm has no rows | all NULL, with a `note` |
| an arm with one row | estimate; no interval and p-value, with a `note` |",
    returns: "an effect",
    arguments: &[NUM, DEN, ARM],
    options: &[INFERENCE, ARMS],
    example: Example {
        sql: "\
SELECT e['mean_control'] AS mean_control, e['mean_treatment'] AS mean_treatment, e['std_error'] AS std_error
FROM (
  SELECT ratio_test(i % 7 + i % 2, 1 + i % 3, i % 2 = 1) AS e
  FROM generate_series(1, 200) AS t (i)
)",
    },
    references: &[
        "Deng, A., Knoblich, U., Lu, J. (2018). Applying the delta method in metric analytics. KDD 2018, 233–242. doi:10.1145/3219819.3219919",
    ],
    value_version: 1,
    implementation: two_arm::<Inferred<Ratio>>(),
};

pub(super) static RATIO_EFFECT: Function = Function {
    name: "ratio_effect",
    section: Section::Comparisons,
    summary: "`ratio_test` of two stored summaries.",
    description: "\
The effect that `ratio_test` gives for the same rows, to the bit, from two summaries of `moments` with two outcomes, numerator first: `moments({num: num, den: den})`.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, moments({num: i % 7 + i % 2, den: 1 + i % 3}) AS s FROM generate_series(1, 200) AS t (i) GROUP BY i % 2
)
SELECT e['estimate'] AS estimate
FROM (SELECT ratio_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Inferred<Ratio>>(),
};

#[derive(Debug)]
struct Ratio;

impl Plain for Ratio {
    type Summary = Moments;
    const COMPARE: fn(&Moments, &Moments, &Inference) -> Result<Effect> = ratio_test;
}
