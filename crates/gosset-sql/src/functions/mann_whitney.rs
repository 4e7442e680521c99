//! `mann_whitney`, `ks_test` and their comparisons of stored histograms.

use gosset_stats::compare::{ks_test, mann_whitney};
use gosset_stats::summary::Histogram;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, TREATMENT, Y};
use super::histogram::RELATIVE_ERROR;
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, INFERENCE};
use crate::two_arm::{Inferred, Plain, of_summaries, two_arm};

const MANN_WHITNEY_REFERENCES: &[&str] = &[
    "Mann, H. B., Whitney, D. R. (1947). On a test of whether one of two random variables is stochastically larger than the other. Annals of Mathematical Statistics 18(1), 50–60. doi:10.1214/aoms/1177730491",
    "Cliff, N. (1993). Dominance statistics. Psychological Bulletin 114(3), 494–509. doi:10.1037/0033-2909.114.3.494",
];

const KS_REFERENCES: &[&str] = &[
    "Smirnov, N. (1948). Table for estimating the goodness of fit of empirical distributions. Annals of Mathematical Statistics 19(2), 279–281. doi:10.1214/aoms/1177730256",
];

pub(super) static MANN_WHITNEY: Function = Function {
    name: "mann_whitney",
    section: Section::TwoArms,
    summary: "The Mann-Whitney (Wilcoxon rank-sum) test of two distributions.",
    description: "\
Tests that the two arms have one distribution, against one being larger than the other. The rows are units.

```text
U         = #{t > c} + ½·#{t = c}              over the n·m pairs of units
estimate  = P(T > C) − P(T < C) = 2U/(nm) − 1  Cliff's delta, from −1 to 1
statistic = z = (U − nm/2)/σ,  σ² = nm/12·(N + 1 − Σ(g³ − g)/(N(N − 1)))   over the groups of g tied values
p_value   = of the normal law, with a continuity correction of ½
```

There is no interval: σ holds where the distributions are equal. Values of one bin count as tied where there are more than 2048 distinct ones, and the `note` says so.

| input | result |
| --- | --- |
| `y` or `arm` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ | NaN |
| an arm without rows, or all values tied | no test, with a `note` |",
    returns: "an effect",
    arguments: &[Y, ARM],
    options: &[INFERENCE, ARMS, RELATIVE_ERROR],
    example: Example {
        sql: "\
SELECT e['estimate'] AS delta, e['p_value'] AS p_value
FROM (
  SELECT mann_whitney(i * i % 101 + 5 * (i % 2), i % 2 = 1) AS e
  FROM generate_series(1, 500) AS t (i)
)",
    },
    references: MANN_WHITNEY_REFERENCES,
    value_version: 1,
    implementation: two_arm::<Inferred<MannWhitney>>(),
};

pub(super) static MANN_WHITNEY_EFFECT: Function = Function {
    name: "mann_whitney_effect",
    section: Section::Comparisons,
    summary: "`mann_whitney` of two stored summaries.",
    description: "\
The effect that `mann_whitney` gives for the same rows, to the bit, from two summaries of `histogram` without units.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, histogram(i * i % 101 + 5 * (i % 2)) AS s FROM generate_series(1, 500) AS t (i) GROUP BY i % 2
)
SELECT e['p_value'] AS p_value
FROM (SELECT mann_whitney_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: MANN_WHITNEY_REFERENCES,
    value_version: 1,
    implementation: of_summaries::<Inferred<MannWhitney>>(),
};

pub(super) static KS_TEST: Function = Function {
    name: "ks_test",
    section: Section::TwoArms,
    summary: "The two-sample Kolmogorov-Smirnov test.",
    description: "\
Tests that the two arms have one distribution, against any difference. The rows are units.

```text
statistic = D = max_x |F_t(x) − F_c(x)|         greater: max_x (F_c − F_t), treatment has larger values; less: its mirror
p_value   = 2 Σ_k (−1)^(k−1) exp(−2k²λ²),  λ = D·√(nm/(n + m));  one-sided exp(−2λ²)
```

Conservative with ties and small samples. There is no estimate of an effect and no interval. Values of one bin count as tied where there are more than 2048 distinct ones, and the `note` says so.

| input | result |
| --- | --- |
| `y` or `arm` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ | NaN |
| an arm without rows | no test, with a `note` |",
    returns: "an effect",
    arguments: &[Y, ARM],
    options: &[INFERENCE, ARMS, RELATIVE_ERROR],
    example: Example {
        sql: "\
SELECT e['statistic'] AS d, e['p_value'] AS p_value
FROM (
  SELECT ks_test(i * i % 101 + 5 * (i % 2), i % 2 = 1) AS e
  FROM generate_series(1, 500) AS t (i)
)",
    },
    references: KS_REFERENCES,
    value_version: 1,
    implementation: two_arm::<Inferred<KolmogorovSmirnov>>(),
};

pub(super) static KS_EFFECT: Function = Function {
    name: "ks_effect",
    section: Section::Comparisons,
    summary: "`ks_test` of two stored summaries.",
    description: "\
The effect that `ks_test` gives for the same rows, to the bit, from two summaries of `histogram` without units.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, histogram(i * i % 101 + 5 * (i % 2)) AS s FROM generate_series(1, 500) AS t (i) GROUP BY i % 2
)
SELECT e['statistic'] AS d
FROM (SELECT ks_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: KS_REFERENCES,
    value_version: 1,
    implementation: of_summaries::<Inferred<KolmogorovSmirnov>>(),
};

#[derive(Debug)]
struct MannWhitney;

impl Plain for MannWhitney {
    type Summary = Histogram;
    const COMPARE: fn(&Histogram, &Histogram, &Inference) -> Result<Effect> = mann_whitney;
}

#[derive(Debug)]
struct KolmogorovSmirnov;

impl Plain for KolmogorovSmirnov {
    type Summary = Histogram;
    const COMPARE: fn(&Histogram, &Histogram, &Inference) -> Result<Effect> = ks_test;
}
