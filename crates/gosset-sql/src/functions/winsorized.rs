//! `winsorized` and `winsorized_effect`.

use gosset_stats::compare::{Caps, winsorized};
use gosset_stats::summary::BinnedMoments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, TREATMENT, Y};
use super::histogram::RELATIVE_ERROR;
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, of_summaries, two_arm};

const CAPS: &[OptionSpec] = &[
    OptionSpec {
        name: "upper",
        values: OptionValues::Within(0.5, 1.0),
        default: "0.99",
        doc: "values above this quantile of both arms count as it; 1 for no upper cap",
    },
    OptionSpec {
        name: "lower",
        values: OptionValues::Within(0.0, 0.5),
        default: "0",
        doc: "values below this quantile of both arms count as it; 0 for no lower cap",
    },
];

pub(super) static WINSORIZED: Function = Function {
    name: "winsorized",
    section: Section::TwoArms,
    summary: "Difference of means of values that are capped at quantiles of both arms.",
    description: "\
Estimates the mean of the capped `y` under treatment minus that under control, for outcomes whose largest values carry most of the variance. The rows are units of randomisation.

```text
a, b      = y_(⌊lower·N⌋ + 1), y_(⌈upper·N⌉)          order statistics of both arms together
estimate  = mean_t(min(max(y, a), b)) − mean_c(min(max(y, a), b))
std_error, df: Welch's, of the capped values
```

The effect on the capped value is another than that on the value: it leaves out what happens beyond the caps. So both are told: `mean_treatment` and `mean_control` are uncapped, `note` says the caps, how many units are beyond them in each arm, \
and the uncapped estimate with its standard error; `variance_reduction` is 1 − SE²/(uncapped SE)². The relative effect is over the capped mean of control.

One pass over the rows is enough: up to 2048 distinct values are kept as they are, and beyond, values share a bin with those within the relative error, with the exact sums of each bin. A cap is then the largest (the lower one the smallest) value of the bin that the quantile is in, \
so that the sums of capped values are exact, and at most the rest of a bin is capped less than was asked for. The caps count as fixed: how they vary from sample to sample matters only as far as the arms have different shares of units beyond them.

| input | result |
| --- | --- |
| `y` or `arm` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ | NaN |
| no variance left by the caps | estimate, no interval and p-value, with a `note` |
| an arm with fewer than two rows | estimate where there is one; no interval and p-value, with a `note` |",
    returns: "an effect",
    arguments: &[Y, ARM],
    options: &[INFERENCE, ARMS, CAPS, RELATIVE_ERROR],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['variance_reduction'] AS variance_reduction
FROM (
  SELECT winsorized(i % 13 + i % 2 + CASE WHEN i % 100 = 7 THEN 1000 ELSE 0 END, i % 2 = 1, {upper: 0.95}) AS e
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[
        "Tukey, J. W., McLaughlin, D. H. (1963). Less vulnerable confidence and significance procedures for location based on a single sample: trimming/Winsorization 1. Sankhya A 25(3), 331–352",
        "Kohavi, R., Tang, D., Xu, Y. (2020). Trustworthy online controlled experiments. Cambridge University Press, chapter 22. doi:10.1017/9781108653985",
    ],
    value_version: 1,
    implementation: two_arm::<Winsorized>(),
};

pub(super) static WINSORIZED_EFFECT: Function = Function {
    name: "winsorized_effect",
    section: Section::Comparisons,
    summary: "`winsorized` of two stored summaries.",
    description: "\
The effect that `winsorized` gives for the same rows, to the bit, from two summaries of `binned_moments(y)`: at any caps, without another look at the rows.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, CAPS],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, binned_moments(i % 13 + i % 2 + CASE WHEN i % 100 = 7 THEN 1000 ELSE 0 END) AS s FROM generate_series(1, 300) AS t (i) GROUP BY i % 2
)
SELECT e['estimate'] AS estimate
FROM (SELECT winsorized_effect(t.s, c.s, {upper: 0.95}) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Winsorized>(),
};

#[derive(Debug)]
struct Winsorized {
    inference: Inference,
    caps: Caps,
}

impl Comparison for Winsorized {
    type Summary = BinnedMoments;

    fn new(options: &Options) -> Self {
        let default = Caps::default();
        let caps = Caps {
            lower: options.number("lower").unwrap_or(default.lower),
            upper: options.number("upper").unwrap_or(default.upper),
        };
        Self { inference: options.inference(), caps }
    }

    fn compare(&self, treatment: &BinnedMoments, control: &BinnedMoments) -> Result<Effect> {
        winsorized(treatment, control, &self.inference, &self.caps)
    }
}
