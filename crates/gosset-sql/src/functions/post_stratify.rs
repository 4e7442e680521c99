//! `post_stratify` and `post_stratify_effect`.

use gosset_stats::compare::{EmptyCells, PostStratifyOptions, post_stratify};
use gosset_stats::summary::StratifiedMoments;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, STRATUM, TREATMENT, Y};
use super::lin::SUPERPOPULATION;
use super::moments::COVARIATES;
use crate::function::{Argument, Example, Function, Section};
use crate::options::{ARMS, INFERENCE, MISSING, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, of_summaries, two_arm};

const EMPTY: &[OptionSpec] = &[OptionSpec {
    name: "empty",
    values: OptionValues::OneOf(&["collapse", "drop", "error"]),
    default: "'collapse'",
    doc: "strata with fewer than 2 units in an arm: they are taken together as one, they are left out, or the query fails",
}];

pub(super) static POST_STRATIFY: Function = Function {
    name: "post_stratify",
    section: Section::TwoArms,
    summary: "Difference of means by stratum, weighted by the sizes of the strata.",
    description: "\
Estimates the mean of `y` under treatment minus that under control, adjusted for a categorical attribute from before the assignment such as the country or the platform. The rows are units of randomisation. \
With a struct of several attributes, `{country: country, device: device}`, each of their combinations is a stratum, which messages call `country=DE, device=tv`.

```text
estimate  = Σ_h W_h (ȳ_th − ȳ_ch)                    W_h = N_h / N, the share of stratum h over both arms
V         = Σ_h W_h² (s²_th/n_th + s²_ch/n_ch)       divisors n_ah − 1
df        = V² / Σ_ah (W_h² s²_ah/n_ah)² / (n_ah − 1)
superpopulation: V + Σ_h W_h (τ_h − estimate)²/(N − 1),   τ_h the difference in stratum h
```

It is the regression on strata, arm and all their products with HC2: the same numbers as `ols_contrast` with the weights W_h. `lin` with dummies of the strata has the same estimate, with one residual variance in all strata of an arm. \
The variance is that given how many units of each stratum are in each arm; the term (1 − W_h) s²/n², which averages over other assignments, is not added. `variance_reduction` is 1 − SE²/(unadjusted SE)². \
The relative effect is over the post-stratified mean of control.

With covariates `x` it is combined with CUPED: y − θ'x is in the place of y, with θ from the co-moments pooled within each arm of each stratum. Missing covariates are treated as in `cuped`. `cuped` with the dummy of one of two strata \
is the same to first order: its one θ is right where the difference of the strata is the same in both arms.

A stratum with fewer than 2 units in an arm has no variance or no difference. Under `empty: 'collapse'` all such strata are taken together as one, with the smallest of the others while that is still too small; under `'drop'` they are left out, \
so that the effect is that in the other strata, and `n_control` and `n_treatment` count these. The `note` says which strata it was and how many units they have. The rule looks at numbers of units alone, so it does not bias the estimate of `'collapse'`.

| input | result |
| --- | --- |
| `y` or `arm` NULL | the row is left out and counted in `n_dropped` |
| `stratum` NULL, or an attribute of several NULL | a stratum of its own |
| a covariate NULL | follows `missing` |
| NaN or ±∞ | NaN |
| one stratum | the unadjusted difference (`cuped` with covariates), with a `note` |
| a stratum with fewer than 2 units in an arm | follows `empty`, with a `note` |
| an arm with fewer than two rows | estimate where there is one; no interval and p-value, with a `note` |",
    returns: "an effect",
    arguments: &[Y, STRATUM, ARM, Argument { doc: "covariates for CUPED: numbers, structs whose names are kept, or arrays; measured before the assignment", ..COVARIATES }],
    options: &[INFERENCE, ARMS, MISSING, EMPTY, SUPERPOPULATION],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['variance_reduction'] AS variance_reduction
FROM (
  SELECT post_stratify(i % 13 + i % 2 + 10 * (i % 3), i % 3, i % 2 = 1) AS e
  FROM generate_series(1, 300) AS t (i)
)",
    },
    references: &[
        "Holt, D., Smith, T. M. F. (1979). Post stratification. JRSS A 142(1), 33–46. doi:10.2307/2344652",
        "Miratrix, L. W., Sekhon, J. S., Yu, B. (2013). Adjusting treatment effect estimates by post-stratification in randomized experiments. JRSS B 75(2), 369–396. doi:10.1111/j.1467-9868.2012.01048.x",
        "Xie, H., Aurisset, J. (2016). Improving the sensitivity of online controlled experiments: case studies at Netflix. KDD 2016, 645–654. doi:10.1145/2939672.2939733",
    ],
    value_version: 1,
    implementation: two_arm::<PostStratify>(),
};

pub(super) static POST_STRATIFY_EFFECT: Function = Function {
    name: "post_stratify_effect",
    section: Section::Comparisons,
    summary: "`post_stratify` of two stored summaries.",
    description: "\
The effect that `post_stratify` gives for the same rows, to the bit, from two summaries of `stratified_moments(stratum, y, x, ...)`.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, EMPTY, SUPERPOPULATION],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, stratified_moments(i % 3, i % 13 + i % 2 + 10 * (i % 3)) AS s FROM generate_series(1, 300) AS t (i) GROUP BY i % 2
)
SELECT e['estimate'] AS estimate
FROM (SELECT post_stratify_effect(t.s, c.s) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)",
    },
    references: &[],
    value_version: 1,
    implementation: of_summaries::<PostStratify>(),
};

#[derive(Debug)]
struct PostStratify {
    inference: Inference,
    options: PostStratifyOptions,
}

impl Comparison for PostStratify {
    type Summary = StratifiedMoments;

    fn new(options: &Options) -> Self {
        let empty = match options.word("empty") {
            Some("drop") => EmptyCells::Drop,
            Some("error") => EmptyCells::Error,
            _ => EmptyCells::Collapse,
        };
        let superpopulation = options.flag("superpopulation").unwrap_or(false);
        Self {
            inference: options.inference(),
            options: PostStratifyOptions { empty, superpopulation },
        }
    }

    fn compare(
        &self,
        treatment: &StratifiedMoments,
        control: &StratifiedMoments,
    ) -> Result<Effect> {
        post_stratify(treatment, control, &self.inference, &self.options)
    }
}
