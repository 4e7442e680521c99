//! `ttest` and `ttest_effect`.

use gosset_stats::compare::{Variance, ttest};
use gosset_stats::summary::Moments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, TREATMENT, Y};
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, of_summaries, two_arm};

const VARIANCE: &[OptionSpec] = &[OptionSpec {
    name: "variance",
    values: OptionValues::OneOf(&["unequal", "equal"]),
    default: "'unequal'",
    doc: "whether the arms have variances of their own (Welch) or one in common (Student)",
}];

pub(super) static TTEST: Function = Function {
    name: "ttest",
    section: Section::TwoArms,
    summary: "Difference of the means of two arms, by Welch's t-test.",
    description: "\
Estimates the mean of `y` under treatment minus its mean under control. The rows are units of randomisation: where a unit has several rows, \
sum or average them by unit first, or use `clustered_ttest`.

```text
estimate  = ȳ_t − ȳ_c
std_error = √(s²_t/n_t + s²_c/n_c),   s²_a with divisor n_a − 1
df        = (s²_t/n_t + s²_c/n_c)² / ((s²_t/n_t)²/(n_t − 1) + (s²_c/n_c)²/(n_c − 1))
```

With `variance: 'equal'` the variance is pooled and df = n_t + n_c − 2. The interval and the p-value are those of Student's t with `df` degrees of freedom.

Assumes independent units and means that are near normal: hundreds of units for ordinary metrics, many more for heavy tails and unequal arms.

| input | result |
| --- | --- |
| `y` or `arm` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ in `y` | NaN |
| an arm without rows | all NULL, with a `note` |
| an arm with one row, or no variance in both arms | estimate; no interval and p-value, with a `note` |",
    returns: "an effect",
    arguments: &[Y, ARM],
    options: &[INFERENCE, ARMS, VARIANCE],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['p_value'] AS p_value
FROM (
  SELECT ttest(minutes, cell, {treatment: 'new', control: 'old'}) AS e
  FROM (VALUES (12.0, 'new'), (15.5, 'new'), (11.0, 'new'), (9.0, 'old'), (10.5, 'old'), (8.0, 'old')) AS t (minutes, cell)
)",
    },
    references: &[
        "Welch, B. L. (1947). The generalization of Student's problem when several different population variances are involved. Biometrika 34, 28–35. doi:10.1093/biomet/34.1-2.28",
    ],
    value_version: 1,
    implementation: two_arm::<Ttest>(),
};

pub(super) static TTEST_EFFECT: Function = Function {
    name: "ttest_effect",
    section: Section::Comparisons,
    summary: "`ttest` of two stored summaries.",
    description: "\
The effect that `ttest` gives for the same rows, to the bit, from two summaries of `moments`. The outcome is the first column; further columns are not used.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, VARIANCE],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT cell, moments(minutes) AS s
  FROM (VALUES (12.0, 'new'), (15.5, 'new'), (11.0, 'new'), (9.0, 'old'), (10.5, 'old'), (8.0, 'old')) AS t (minutes, cell)
  GROUP BY cell
)
SELECT e['estimate'] AS estimate, e['df'] AS df
FROM (SELECT ttest_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.cell = 'new' AND c.cell = 'old')",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Ttest>(),
};

#[derive(Debug)]
struct Ttest {
    inference: Inference,
    variance: Variance,
}

impl Comparison for Ttest {
    type Summary = Moments;

    fn new(options: &Options) -> Self {
        let variance = match options.word("variance") {
            Some("equal") => Variance::Equal,
            _ => Variance::Unequal,
        };
        Self { inference: options.inference(), variance }
    }

    fn compare(&self, treatment: &Moments, control: &Moments) -> Result<Effect> {
        ttest(treatment, control, &self.inference, self.variance)
    }
}
