//! `bootstrap_mean`, `bootstrap_ratio` and `bootstrap_effect`.

use gosset_stats::compare::{
    BootstrapOptions, Interval, bootstrap, bootstrap_cuped, bootstrap_cuped_replicates,
    bootstrap_replicates,
};
use gosset_stats::summary::{Buckets, Kind, Replicates, Resampling, Summary, kind_of};
use gosset_stats::{Effect, Error, Inference, Result};

use super::arguments::{ARM, CONTROL, CROSSED_UNIT, DEN, NUM, TREATMENT, Y};
use crate::aggregate::States;
use crate::call::Call;
use crate::effect::effect_type;
use crate::function::{AggregateParts, Example, Function, Implementation, Section};
use crate::options::{ARMS, BUCKETS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Comparison, StoredComparison, of_summaries, states};

pub(super) const REPLICATES: &[OptionSpec] = &[
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
];

pub(super) const METHOD: &[OptionSpec] = &[OptionSpec {
    name: "method",
    values: OptionValues::OneOf(&["buckets", "poisson", "double_or_nothing", "bayesian"]),
    default: "'buckets'",
    doc: "what is resampled: units while there are few, then buckets of hashed units; or every unit, with weights of this law",
}];

pub(super) const INTERVAL: &[OptionSpec] = &[OptionSpec {
    name: "interval",
    values: OptionValues::OneOf(&["percentile", "normal", "studentized", "basic", "bca"]),
    default: "'percentile'",
    doc: "how the interval is made of the replicates",
}];

pub(super) const DESCRIPTION: &str = "\
`method: 'buckets'` hashes units into buckets and resamples the totals of the buckets with Poisson(1) weights, so that the cost of the replicates does not depend on the number of rows; \
up to a quarter as many units as buckets are kept and resampled one by one. The other methods weight every unit for every replicate:

| method | weights, all of mean 1 and variance 1 | |
| --- | --- | --- |
| `poisson` | 0 to 8, Poisson(1) to 16 bits | skewed as the estimate is: for all intervals |
| `double_or_nothing` | 0 or 2 | for standard errors; percentile intervals do not follow the skewness of the data |
| `bayesian` | exponential, in sixteenths | no unit is left out of a replicate but 3 % |

The weights are a pure function of seed, unit (or bucket) and replicate, and the weighted sums are exact: every machine, thread, file and day gives the same replicates, to the bit. \
Calls with one seed have joint replicates. With `unit` as a struct of two crossed factors, `{user: user, title: title}`, the weight of a row is the product of those of its two factors, which is right where \
both are random samples, and somewhat conservative. That takes `method: 'poisson'`, or another one that weights units, and more than a handful of each factor, whose levels are not counted: it shows in empty replicates alone, which `bayesian` weights do not leave.

```text
θ_b         = R*_t − R*_c,  R* = Σ_k w_kb·y_k / Σ_k w_kb·d_k   replicate b, always normalised by its own weights
std_error   = standard deviation of the replicates
percentile:   from the k-th smallest to the k-th largest replicate, k = ⌊(B + 1)·α/2⌋;
              p = min(1, 2·min((1 + #≤0), (1 + #≥0))/(B + 1))
basic:        the same ends mirrored at the estimate
normal:       θ̂ ± z·std_error
studentized:  θ̂ − t·se for the k-th largest and smallest t_b = (θ_b − θ̂)/se_b, with the standard errors of clustered_ttest
bca:          percentiles moved for bias and skewness, the acceleration from the jackknife over units or buckets
```

The standard error has a Monte-Carlo error of 1/√(2·replicates) (2.2 % at 1000), and by buckets one of 1/(2√buckets). For the difference of two arms on skewed data \
the t interval of `clustered_ttest` covers better than any bootstrap interval, and bca covers worst. The relative interval is the percentile one; of `normal`, the one that `relative` says.

| input | result |
| --- | --- |
| a value, `arm` or `unit` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ | NaN |
| an arm without rows, or with fewer than five units | NULL where not defined, with a `note` |
| a replicate in which an arm has no weight | left out of the replicates and counted in the `note`; where more than a tenth of them are (one or two levels of a crossed factor, or units with a denominator), estimate alone |
| too few replicates for the confidence | no interval, with a `note` |
| `interval: 'studentized'` with weights of units | an error: the standard error of a replicate takes the totals of its units, which buckets have |";

pub(super) const REFERENCES: &[&str] = &[
    "Chamandy, N., Muralidharan, O., Najmi, A., Naidu, S. (2012). Estimating uncertainty for massive data streams. Google technical report.",
    "Davison, A. C., Hinkley, D. V. (1997). Bootstrap Methods and their Application. Cambridge University Press. doi:10.1017/CBO9780511802843",
    "Owen, A. B., Eckles, D. (2012). Bootstrapping data arrays of arbitrary order. Annals of Applied Statistics 6(3), 895–927. doi:10.1214/12-AOAS547",
    "Rubin, D. B. (1981). The Bayesian bootstrap. Annals of Statistics 9(1), 130–134. doi:10.1214/aos/1176345338",
];

pub(super) static BOOTSTRAP_MEAN: Function = Function {
    name: "bootstrap_mean",
    section: Section::TwoArms,
    summary: "Bootstrap of a difference of means per row, with units as clusters.",
    description: DESCRIPTION,
    returns: "an effect",
    arguments: &[Y, ARM, CROSSED_UNIT],
    options: &[INFERENCE, ARMS, REPLICATES, INTERVAL, METHOD, BUCKETS],
    example: Example {
        sql: "\
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['ci_lower'] AS ci_lower, e['ci_upper'] AS ci_upper
FROM (
  SELECT bootstrap_mean(i % 11, (i % 50) % 2 = 0, i % 50, {replicates: 2000, seed: 7, method: 'poisson'}) AS e
  FROM generate_series(1, 1000) AS t (i)
)",
    },
    references: REFERENCES,
    value_version: 2,
    implementation: by_method::<false>(),
};

pub(super) static BOOTSTRAP_RATIO: Function = Function {
    name: "bootstrap_ratio",
    section: Section::TwoArms,
    summary: "Bootstrap of a difference of ratios, with units as clusters.",
    description: DESCRIPTION,
    returns: "an effect",
    arguments: &[NUM, DEN, ARM, CROSSED_UNIT],
    options: &[INFERENCE, ARMS, REPLICATES, INTERVAL, METHOD, BUCKETS],
    example: Example {
        sql: "\
SELECT e['mean_control'] AS mean_control, e['mean_treatment'] AS mean_treatment, e['p_value'] AS p_value
FROM (
  SELECT bootstrap_ratio(i % 7, 1 + i % 3, (i % 50) % 2 = 0, i % 50, {interval: 'normal'}) AS e
  FROM generate_series(1, 1000) AS t (i)
)",
    },
    references: REFERENCES,
    value_version: 2,
    implementation: by_method::<false>(),
};

pub(super) static BOOTSTRAP_EFFECT: Function = Function {
    name: "bootstrap_effect",
    section: Section::Comparisons,
    summary: "`bootstrap_mean` or `bootstrap_ratio` of two stored summaries.",
    description: "\
The effect that `bootstrap_mean` (summaries of one column) or `bootstrap_ratio` (of two, `{num: num, den: den}`) gives for the same rows, to the bit: by `method: 'buckets'` from two summaries of `buckets`, \
by the other methods from two of `replicates`. Method, replicates and seed of stored `replicates` are theirs; options that say otherwise are an error. `interval: 'bca'` of `replicates` needs those with the option `buckets`.",
    returns: "an effect",
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, REPLICATES, INTERVAL, METHOD],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT (i % 50) % 2 AS arm, buckets(i % 50, i % 11) AS s FROM generate_series(1, 1000) AS t (i) GROUP BY (i % 50) % 2
)
SELECT e['std_error'] AS std_error
FROM (SELECT bootstrap_effect(t.s, c.s, {seed: 7}) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 0 AND c.arm = 1)",
    },
    references: REFERENCES,
    value_version: 2,
    implementation: of_summaries::<OfAny<false>>(),
};

/// The one-call form: of buckets, or of replicates where the option `method` is a law of weights.
pub(super) const fn by_method<const ADJUSTED: bool>() -> Implementation {
    Implementation::Aggregate(AggregateParts {
        states: states_of::<ADJUSTED>,
        returns: effect_type,
    })
}

fn states_of<const ADJUSTED: bool>(call: &Call) -> datafusion::error::Result<Box<dyn States>> {
    match call.options.law() {
        None => states::<OfBuckets<ADJUSTED>>(call),
        Some(_) => states::<OfReplicates<ADJUSTED>>(call),
    }
}

/// The comparison of stored summaries of either kind.
#[derive(Debug)]
pub(super) struct OfAny<const ADJUSTED: bool> {
    asked: Asked,
    of_buckets: OfBuckets<ADJUSTED>,
    of_replicates: OfReplicates<ADJUSTED>,
}

impl<const ADJUSTED: bool> StoredComparison for OfAny<ADJUSTED> {
    fn new(options: &Options) -> Self {
        Self {
            asked: Asked::new(options),
            of_buckets: Comparison::new(options),
            of_replicates: Comparison::new(options),
        }
    }

    fn compare(&self, treatment: &[u8], control: &[u8]) -> Result<Effect> {
        match self.asked.is_of_replicates(treatment)? {
            false => StoredComparison::compare(&self.of_buckets, treatment, control),
            true => StoredComparison::compare(&self.of_replicates, treatment, control),
        }
    }
}

/// What the options say of stored summaries that say it themselves.
#[derive(Debug)]
pub(super) struct Asked {
    replicates: Option<u32>,
    seed: Option<u64>,
    method: Option<&'static str>,
}

impl Asked {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            replicates: options.integer("replicates").map(|b| b as u32),
            seed: options.integer("seed").map(|s| s as u64),
            method: options.word("method"),
        }
    }

    /// Whether a stored summary is of replicates, not of buckets.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the options ask for another method, other replicates or another seed than it has.
    pub(super) fn is_of_replicates(&self, summary: &[u8]) -> Result<bool> {
        let other = |found: &str| match self.method {
            Some(method) if method != found => Err(Error::Mismatch(format!(
                "expected summaries for method: '{method}', as the options say, found those for '{found}'"
            ))),
            _ => Ok(()),
        };
        if kind_of(summary)? != Kind::Replicates {
            other("buckets")?;
            return Ok(false);
        }
        let resampling = Replicates::decode(summary)?.resampling();
        let Resampling { law, replicates, seed, .. } = resampling;
        other(law.name())?;
        let asked = (self.replicates.unwrap_or(replicates), self.seed.unwrap_or(seed));
        if asked != (replicates, seed) {
            return Err(Error::Mismatch(format!(
                "expected summaries of {} replicates with seed {}, as the options say, found {}",
                asked.0, asked.1, resampling
            )));
        }
        Ok(true)
    }
}

/// The interval that the options ask for.
pub(super) fn interval(options: &Options) -> Interval {
    match options.word("interval") {
        Some("normal") => Interval::Normal,
        Some("studentized") => Interval::Studentized,
        Some("basic") => Interval::Basic,
        Some("bca") => Interval::Bca,
        _ => Interval::Percentile,
    }
}

/// The bootstrap that the options ask for.
pub(super) fn bootstrap_options(options: &Options) -> BootstrapOptions {
    BootstrapOptions {
        replicates: options.replicates(),
        seed: options.seed(),
        interval: interval(options),
    }
}

/// The bootstrap of buckets, adjusted for covariates or not.
#[derive(Debug)]
pub(super) struct OfBuckets<const ADJUSTED: bool> {
    inference: Inference,
    options: BootstrapOptions,
}

impl<const ADJUSTED: bool> Comparison for OfBuckets<ADJUSTED> {
    type Summary = Buckets;

    fn new(options: &Options) -> Self {
        Self { inference: options.inference(), options: bootstrap_options(options) }
    }

    fn compare(&self, treatment: &Buckets, control: &Buckets) -> Result<Effect> {
        let compare = if ADJUSTED { bootstrap_cuped } else { bootstrap };
        compare(treatment, control, &self.inference, &self.options)
    }
}

/// The bootstrap of weighted units, adjusted for covariates or not.
#[derive(Debug)]
pub(super) struct OfReplicates<const ADJUSTED: bool> {
    inference: Inference,
    interval: Interval,
}

impl<const ADJUSTED: bool> Comparison for OfReplicates<ADJUSTED> {
    type Summary = Replicates;

    fn new(options: &Options) -> Self {
        Self { inference: options.inference(), interval: interval(options) }
    }

    fn compare(&self, treatment: &Replicates, control: &Replicates) -> Result<Effect> {
        let compare = if ADJUSTED { bootstrap_cuped_replicates } else { bootstrap_replicates };
        compare(treatment, control, &self.inference, self.interval)
    }
}
