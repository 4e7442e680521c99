//! `clustered_ttest` and `clustered_ttest_effect`.

use gosset_stats::compare::{ClusteredStdError, clustered_ttest};
use gosset_stats::summary::Buckets;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, TREATMENT, UNIT, Y};
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, BUCKETS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, of_summaries, two_arm};

const STD_ERROR: &[OptionSpec] = &[OptionSpec {
    name: "std_error",
    values: OptionValues::OneOf(&["delta", "jackknife"]),
    default: "'delta'",
    doc: "from the residuals of units, or from the means without each unit, which is larger where units are few or unequal",
}];

pub(super) static CLUSTERED_TTEST: Function = Function {
    name: "clustered_ttest",
    section: Section::TwoArms,
    summary: "Difference of the means per row of two arms, with units as clusters.",
    description: "\
Estimates the mean of `y` per row under treatment minus that under control, where a unit of randomisation may have many rows. \
Rows need not be aggregated by unit first: units are hashed into buckets, whose totals are all that is kept.

```text
e_k   = y_k − ȳ·n_k                       total residual of unit or bucket k with n_k rows
V_a   = Σ e_k² / N_a² · N_a² / (N_a² − Σ n_k²)
std_error = √(V_t + V_c)
jackknife: V_a = (G_a − 1)/G_a·Σ (ȳ_(−k) − ȳ_(·))²  with the means ȳ_(−k) without unit or bucket k, and their mean
df    = Welch's, from G_a − 1, with G_a units or non-empty buckets
```

Up to a quarter as many units as buckets are kept one by one, and the factor is G/(G − 1). With more, the standard error varies by 1/(2√buckets) around that of the \
units themselves (0.8 % at 4096), the same in every run; and `n_control` and `n_treatment` are NULL, since buckets do not count units.

| input | result |
| --- | --- |
| `y`, `arm` or `unit` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ in `y` | NaN |
| an arm without rows | all NULL, with a `note` |
| an arm with one unit | estimate; no interval and p-value, with a `note` |",
    returns: "an effect",
    arguments: &[Y, ARM, UNIT],
    options: &[INFERENCE, ARMS, STD_ERROR, BUCKETS],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['rows_treatment'] AS rows_treatment, e['n_treatment'] AS n_treatment
FROM (
  SELECT clustered_ttest(i % 11, (i % 50) % 2 = 0, i % 50) AS e
  FROM generate_series(1, 1000) AS t (i)
)",
    },
    references: &[
        "Efron, B., Stein, C. (1981). The jackknife estimate of variance. Annals of Statistics 9(3), 586–596. doi:10.1214/aos/1176345462",
        "Petersen, M. A. (2009). Estimating standard errors in finance panel data sets. Review of Financial Studies 22, 435–480. doi:10.1093/rfs/hhn053",
    ],
    value_version: 1,
    implementation: two_arm::<Clustered>(),
};

pub(super) static CLUSTERED_TTEST_EFFECT: Function = Function {
    name: "clustered_ttest_effect",
    section: Section::Comparisons,
    summary: "`clustered_ttest` of two stored summaries.",
    description: "\
The effect that `clustered_ttest` gives for the same rows, to the bit, from two summaries of `buckets`. With two columns, `buckets(unit, {num: num, den: den})`, it is the \
difference of the ratios.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, STD_ERROR],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT (i % 50) % 2 AS arm, buckets(i % 50, i % 11) AS s FROM generate_series(1, 1000) AS t (i) GROUP BY (i % 50) % 2
)
SELECT e['std_error'] AS std_error
FROM (SELECT clustered_ttest_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 0 AND c.arm = 1)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Clustered>(),
};

#[derive(Debug)]
struct Clustered {
    inference: Inference,
    std_error: ClusteredStdError,
}

impl Comparison for Clustered {
    type Summary = Buckets;

    fn new(options: &Options) -> Self {
        let std_error = match options.word("std_error") {
            Some("jackknife") => ClusteredStdError::Jackknife,
            _ => ClusteredStdError::Delta,
        };
        Self { inference: options.inference(), std_error }
    }

    fn compare(&self, treatment: &Buckets, control: &Buckets) -> Result<Effect> {
        clustered_ttest(treatment, control, &self.inference, self.std_error)
    }
}
