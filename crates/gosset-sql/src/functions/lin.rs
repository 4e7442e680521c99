//! `lin` and `lin_effect`.

use gosset_stats::compare::{LinOptions, LinVcov, lin};
use gosset_stats::summary::Moments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, TREATMENT, X, Y};
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, INFERENCE, MISSING, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, of_summaries, two_arm};

const VCOV: &[OptionSpec] = &[OptionSpec {
    name: "vcov",
    values: OptionValues::OneOf(&["by_arm", "classical"]),
    default: "'by_arm'",
    doc: "variance from each arm's own regression, or from the residual variance of both in common",
}];

pub(super) const SUPERPOPULATION: &[OptionSpec] = &[OptionSpec {
    name: "superpopulation",
    values: OptionValues::Flag,
    default: "false",
    doc: "whether the units are a sample of those that the effect is of, so that the mean of the covariates, or the shares of the strata, vary as well",
}];

pub(super) static LIN: Function = Function {
    name: "lin",
    section: Section::TwoArms,
    summary: "Difference of means by Lin's fully interacted regression adjustment.",
    description: "\
Estimates the average effect of treatment by the regression of `y` on the arm, the covariates centred at their mean over both arms, and their products. \
It is the same as a regression in each arm, both evaluated at the common mean X̄. The rows are units of randomisation, and the covariates are measured before the assignment.

```text
estimate  = (ȳ_t − (x̄_t − X̄)'β_t) − (ȳ_c − (x̄_c − X̄)'β_c)
by_arm:     V = Σ_a s²_a [(Z_a'Z_a)⁻¹]₀₀,   Z_a = (1, x − X̄),  s²_a the residual variance with divisor n_a − k − 1
            df by Welch, from n_a − k − 1
classical:  the same with one residual variance, divisor and df n − 2k − 2
superpopulation: V + (β_t − β_c)'S(β_t − β_c)/N,  S the covariance of the covariates over all N units
```

The covariates count as fixed, unless `superpopulation` says otherwise: the effect is then that in the population which the units were drawn from. `variance_reduction` is 1 − SE²/(unadjusted SE)². Covariates that are constant or follow from others are left out and named in the `note`. \
Missing covariates are treated as in `cuped`.

| input | result |
| --- | --- |
| `y` or `arm` NULL | the row is left out and counted in `n_dropped` |
| a covariate NULL | follows `missing` |
| an array of covariates NULL | an error, since its length is the number of covariates; its items may be NULL |
| NaN or ±∞ | NaN |
| an arm with too few rows for its covariates | NULL where not defined, with a `note` |",
    returns: "an effect",
    arguments: &[Y, X, ARM],
    options: &[INFERENCE, ARMS, MISSING, VCOV, SUPERPOPULATION],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['df'] AS df
FROM (
  SELECT lin(i % 13 + i % 2, {before: i % 13 + i % 3, age: i % 29}, i % 2 = 1) AS e
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[
        "Lin, W. (2013). Agnostic notes on regression adjustments to experimental data: reexamining Freedman's critique. Annals of Applied Statistics 7, 295–318. doi:10.1214/12-AOAS583",
    ],
    value_version: 1,
    implementation: two_arm::<Lin>(),
};

pub(super) static LIN_EFFECT: Function = Function {
    name: "lin_effect",
    section: Section::Comparisons,
    summary: "`lin` of two stored summaries.",
    description: "\
The effect that `lin` gives for the same rows, to the bit, from two summaries of `moments(y, x, ...)`.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, VCOV, SUPERPOPULATION],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, moments(i % 13 + i % 2, {before: i % 13 + i % 3}) AS s FROM generate_series(1, 300) AS t (i) GROUP BY i % 2
)
SELECT e['estimate'] AS estimate
FROM (SELECT lin_effect(t.s, c.s, {vcov: 'classical'}) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<Lin>(),
};

#[derive(Debug)]
struct Lin {
    inference: Inference,
    options: LinOptions,
}

impl Comparison for Lin {
    type Summary = Moments;

    fn new(options: &Options) -> Self {
        let vcov = match options.word("vcov") {
            Some("classical") => LinVcov::Classical,
            _ => LinVcov::ByArm,
        };
        let superpopulation = options.flag("superpopulation").unwrap_or(false);
        Self { inference: options.inference(), options: LinOptions { vcov, superpopulation } }
    }

    fn compare(&self, treatment: &Moments, control: &Moments) -> Result<Effect> {
        lin(treatment, control, &self.inference, &self.options)
    }
}
