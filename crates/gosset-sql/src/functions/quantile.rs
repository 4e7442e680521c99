//! `bootstrap_quantile` and `quantile_effect`.

use gosset_stats::compare::{QuantileInterval, QuantileOptions, bootstrap_quantile};
use gosset_stats::summary::Histogram;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, OPTIONAL_UNIT, Q, TREATMENT, Y};
use super::bootstrap::REPLICATES;
use super::histogram::{LAW, RELATIVE_ERROR};
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, of_summaries, two_arm};

pub(super) const INTERVAL: &[OptionSpec] = &[OptionSpec {
    name: "interval",
    values: OptionValues::OneOf(&["percentile", "normal", "basic", "delta"]),
    default: "'percentile'",
    doc: "how the interval is made: of the replicates of the quantile; or by the delta method, from the share of rows below it",
}];

pub(super) const REFERENCES: &[&str] = &[
    "Schultzberg, M., Ankargren, S. (2022). Resampling-free bootstrap inference for quantiles. arXiv:2202.10992",
    "Woodruff, R. S. (1952). Confidence intervals for medians and other position measures. Journal of the American Statistical Association 47(260), 635–646. doi:10.1080/01621459.1952.10483443",
    "Deng, A., Knoblich, U., Lu, J. (2018). Applying the delta method in metric analytics. KDD 2018, 233–242. doi:10.1145/3219819.3219919",
];

pub(super) static BOOTSTRAP_QUANTILE: Function = Function {
    name: "bootstrap_quantile",
    section: Section::TwoArms,
    summary: "Bootstrap of a difference of quantiles, over units or clustered by unit.",
    description: "\
Estimates the `q`-quantile of the rows under treatment minus that under control, from the two histograms of `histogram`: exact for few distinct values and small integers, otherwise interpolated within the relative error.

* Without `unit` every row is a unit, and nothing is resampled: the index of the quantile in a Poisson resample of n rows is about binomial, so a replicate is `y_(I)` with `I ~ Binomial(n + 1, q)` in each arm. At several quantiles the indices are correlated as those of one resample are.
* With `unit`, which may have many rows, a replicate is the quantile of the rows weighted by the weights of their units, as in `bootstrap_mean`. Rows of a unit are alike, and the interval without it would be too short.

`std_error`, intervals and p-values are made of the replicates as in `bootstrap_mean`. `mean_control` and `mean_treatment` are the two quantiles, and `relative` is over that of control. Calls with one seed and different `q` have joint replicates.

`interval: 'delta'` takes no order statistics. The share of rows at or below the quantile has a standard deviation s over its replicates (√(q(1 − q)/n) where rows are units), and

```text
se        = (Q(q + z·s) − Q(q − z·s))/2z        Woodruff's interval in place of the density
std_error = √(se_t² + se_c²),  estimate ± z·std_error
```

Assumes a continuous distribution around the quantile: on few distinct values replicates jump between two of them. Extremes have no interval: `q` of 0 and 1, the smallest and the largest value, and `q` so near to them that `q·n` or `(1 − q)·n` is below 2.5 in one of the arms.

| input | result |
| --- | --- |
| `y`, `arm` or `unit` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ | NaN |
| an arm without rows | NULL, with a `note` |
| an arm with fewer than five rows or units | estimate; no interval and p-value, with a `note` |
| `q` of 0 or 1, or too near to them for the rows | estimate; no interval and p-value, with a `note` |
| all replicates agree | estimate and a standard error of 0; no interval and p-value, with a `note` |",
    returns: "an effect",
    arguments: &[Y, Q, ARM, OPTIONAL_UNIT],
    options: &[INFERENCE, ARMS, REPLICATES, INTERVAL, LAW, RELATIVE_ERROR],
    example: Example {
        sql: "\
SELECT e['mean_control'] AS p90_control, e['mean_treatment'] AS p90_treatment, e['ci_lower'] AS ci_lower, e['ci_upper'] AS ci_upper
FROM (
  SELECT bootstrap_quantile(i * i % 1009, 0.9, (i % 500) % 2 = 0, i % 500) AS e
  FROM generate_series(1, 5000) AS t (i)
)",
    },
    references: REFERENCES,
    value_version: 3,
    implementation: two_arm::<Quantile>(),
};

pub(super) static QUANTILE_EFFECT: Function = Function {
    name: "quantile_effect",
    section: Section::Comparisons,
    summary: "`bootstrap_quantile` of two stored summaries.",
    description: "\
The effect that `bootstrap_quantile` gives for the same rows, to the bit, from two summaries of `histogram`, with or without units. Replicates and seed of histograms of units are theirs; the options are for those of rows.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL, Q],
    options: &[INFERENCE, REPLICATES, INTERVAL],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, histogram(i * i % 1009) AS s FROM generate_series(1, 5000) AS t (i) GROUP BY i % 2
)
SELECT e['estimate'] AS estimate
FROM (SELECT quantile_effect(t.s, c.s, 0.9) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: REFERENCES,
    value_version: 3,
    implementation: of_summaries::<Quantile>(),
};

/// What the options ask of quantiles.
pub(super) fn quantile_options(options: &Options) -> QuantileOptions {
    QuantileOptions {
        q: options.number("q").unwrap_or(f64::NAN),
        interval: match options.word("interval") {
            Some("normal") => QuantileInterval::Normal,
            Some("basic") => QuantileInterval::Basic,
            Some("delta") => QuantileInterval::Delta,
            _ => QuantileInterval::Percentile,
        },
        replicates: options.replicates(),
        seed: options.seed(),
    }
}

#[derive(Debug)]
struct Quantile {
    inference: Inference,
    options: QuantileOptions,
}

impl Comparison for Quantile {
    type Summary = Histogram;

    fn new(options: &Options) -> Self {
        Self { inference: options.inference(), options: quantile_options(options) }
    }

    fn compare(&self, treatment: &Histogram, control: &Histogram) -> Result<Effect> {
        bootstrap_quantile(treatment, control, &self.inference, &self.options)
    }
}
