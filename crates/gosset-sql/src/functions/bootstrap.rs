//! `bootstrap_mean`, `bootstrap_ratio` and `bootstrap_effect`.

use gosset_stats::compare::{BootstrapOptions, Interval, bootstrap};
use gosset_stats::summary::Buckets;
use gosset_stats::{Effect, Inference, Result};

use super::arguments::{ARM, CONTROL, DEN, NUM, TREATMENT, UNIT, Y};
use crate::function::{Example, Function, Section};
use crate::options::{ARMS, BUCKETS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, of_summaries, two_arm};

const REPLICATES: &[OptionSpec] = &[
    OptionSpec {
        name: "replicates",
        values: OptionValues::Integer(2, 100_000),
        default: "1000",
        doc: "number of bootstrap replicates",
    },
    OptionSpec {
        name: "seed",
        values: OptionValues::Integer(0, u64::MAX as i128),
        default: "0",
        doc: "seed of the weights: the same seed gives the same replicates for ever",
    },
    OptionSpec {
        name: "interval",
        values: OptionValues::OneOf(&["percentile", "basic", "normal"]),
        default: "'percentile'",
        doc: "how the interval is made of the replicates",
    },
    OptionSpec {
        name: "method",
        values: OptionValues::OneOf(&["buckets"]),
        default: "'buckets'",
        doc: "what is resampled: units while there are few, then buckets of hashed units",
    },
];

const DESCRIPTION: &str = "\
Units are hashed into buckets and the totals of the buckets are resampled with Poisson(1) weights, so that the cost of the replicates does not depend on the number of rows. \
The weights are a pure function of seed, bucket (or unit) and replicate: every machine, thread and day gives the same replicates. Up to a quarter as many units as buckets are kept and resampled one by one.

```text
θ_b       = θ(Σ_k w_bk·total_k),  w_bk ~ Poisson(1)       replicate b, always normalised by its own weights
std_error = standard deviation of the replicates
percentile: from the k-th smallest to the k-th largest replicate, k = ⌊(B + 1)·α/2⌋;
            p = min(1, 2·min((1 + #≤0), (1 + #≥0))/(B + 1))
basic:      the same ends mirrored at the estimate
normal:     θ̂ ± z·std_error
```

The standard error has a Monte-Carlo error of 1/√(2·replicates) (2.2 % at 1000), and by buckets one of 1/(2√buckets). For the difference of two arms on skewed data \
the t interval of `clustered_ttest` from the same summary covers better than any bootstrap interval.

| input | result |
| --- | --- |
| a value, `arm` or `unit` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ | NaN |
| an arm without rows, or with too few units to resample | NULL where not defined, with a `note` |
| a replicate in which an arm has no weight | left out of the replicates and counted in the `note` |";

const REFERENCES: &[&str] = &[
    "Chamandy, N., Muralidharan, O., Najmi, A., Naidu, S. (2012). Estimating uncertainty for massive data streams. Google technical report.",
    "Efron, B., Tibshirani, R. J. (1993). An Introduction to the Bootstrap. Chapman & Hall.",
];

pub(super) static BOOTSTRAP_MEAN: Function = Function {
    name: "bootstrap_mean",
    section: Section::TwoArms,
    summary: "Bootstrap of a difference of means per row, with units as clusters.",
    description: DESCRIPTION,
    returns: "an effect",
    arguments: &[Y, ARM, UNIT],
    options: &[INFERENCE, ARMS, REPLICATES, BUCKETS],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['ci_lower'] AS ci_lower, e['ci_upper'] AS ci_upper
FROM (
  SELECT bootstrap_mean(i % 11, (i % 50) % 2 = 0, i % 50, {replicates: 2000, seed: 7}) AS e
  FROM generate_series(1, 1000) AS t (i)
)",
    },
    references: REFERENCES,
    value_version: 1,
    implementation: two_arm::<Bootstrap>(),
};

pub(super) static BOOTSTRAP_RATIO: Function = Function {
    name: "bootstrap_ratio",
    section: Section::TwoArms,
    summary: "Bootstrap of a difference of ratios, with units as clusters.",
    description: DESCRIPTION,
    returns: "an effect",
    arguments: &[NUM, DEN, ARM, UNIT],
    options: &[INFERENCE, ARMS, REPLICATES, BUCKETS],
    example: Example {
        sql: "\
SELECT e['mean_control'] AS mean_control, e['mean_treatment'] AS mean_treatment, e['p_value'] AS p_value
FROM (
  SELECT bootstrap_ratio(i % 7, 1 + i % 3, (i % 50) % 2 = 0, i % 50, {interval: 'normal'}) AS e
  FROM generate_series(1, 1000) AS t (i)
)",
    },
    references: REFERENCES,
    value_version: 1,
    implementation: two_arm::<Bootstrap>(),
};

pub(super) static BOOTSTRAP_EFFECT: Function = Function {
    name: "bootstrap_effect",
    section: Section::Comparisons,
    summary: "`bootstrap_mean` or `bootstrap_ratio` of two stored summaries.",
    description: "\
The effect that `bootstrap_mean` (summaries of `buckets(unit, y)`) or `bootstrap_ratio` (of `buckets(unit, {num: num, den: den})`) gives for the same rows, to the bit.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, REPLICATES],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT (i % 50) % 2 AS arm, buckets(i % 50, i % 11) AS s FROM generate_series(1, 1000) AS t (i) GROUP BY (i % 50) % 2
)
SELECT e['std_error'] AS std_error
FROM (SELECT bootstrap_effect(t.s, c.s, {seed: 7}) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 0 AND c.arm = 1)",
    },
    references: REFERENCES,
    value_version: 1,
    implementation: of_summaries::<Bootstrap>(),
};

#[derive(Debug)]
struct Bootstrap {
    inference: Inference,
    options: BootstrapOptions,
}

impl Comparison for Bootstrap {
    type Summary = Buckets;

    fn new(options: &Options) -> Self {
        let default = BootstrapOptions::default();
        let interval = match options.word("interval") {
            Some("basic") => Interval::Basic,
            Some("normal") => Interval::Normal,
            _ => Interval::Percentile,
        };
        let options_of = BootstrapOptions {
            replicates: options.integer("replicates").map_or(default.replicates, |b| b as u32),
            seed: options.integer("seed").map_or(default.seed, |s| s as u64),
            interval,
        };
        Self { inference: options.inference(), options: options_of }
    }

    fn compare(&self, treatment: &Buckets, control: &Buckets) -> Result<Effect> {
        bootstrap(treatment, control, &self.inference, &self.options)
    }
}
