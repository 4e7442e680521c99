//! `bootstrap_effects` and `bootstrap_effects_of`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray};
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use gosset_stats::Inference;
use gosset_stats::compare::{
    Banded, BootstrapOptions, Interval, bootstrap_effects, bootstrap_replicates_effects,
};
use gosset_stats::summary::{Buckets, Replicates};

use super::arguments::{ARM, CONTROL, CROSSED_UNIT, TREATMENT};
use super::bootstrap::{Asked, INTERVAL, METHOD, REPLICATES, bootstrap_options, interval};
use crate::aggregate::States;
use crate::call::Call;
use crate::effect::{banded_lists, banded_type};
use crate::function::{
    AggregateParts, Argument, ArgumentKind, Example, Function, Implementation, Section,
};
use crate::input::failed;
use crate::options::{ARMS, BUCKETS, INFERENCE, Options};
use crate::two_arm::{Arms, Results, StoredResults, results_of_summaries, states};

pub(super) const METRICS: Argument = Argument {
    name: "metrics",
    kind: ArgumentKind::Metrics,
    doc: "one metric, or several as a struct `{watch: minutes, rebuffer_rate: {num: rebuffers, den: hours}}`: means per row, and ratios, whose `num` and `den` are known by name (other names by their order); rows where one is NULL are left out and counted",
};

const RETURNS: &str = "a LIST of structs: `metric` VARCHAR, the fields of an effect, and `band_lower, band_upper, p_adjusted` DOUBLE";

const REFERENCES: &[&str] = &[
    "Westfall, P. H., Young, S. S. (1993). Resampling-Based Multiple Testing. Wiley.",
    "Romano, J. P., Wolf, M. (2005). Exact and approximate stepdown methods for multiple hypothesis testing. Journal of the American Statistical Association 100(469), 94–108. doi:10.1198/016214504000000539",
];

pub(super) static BOOTSTRAP_EFFECTS: Function = Function {
    name: "bootstrap_effects",
    section: Section::TwoArms,
    summary: "Bootstraps of several metrics, means and ratios, with a simultaneous band over all of them.",
    description: "\
Estimates the difference of means per row of every number in `metrics`, and that of ratios of every struct of two, with units as clusters and joint replicates: the effects of `bootstrap_mean` and `bootstrap_ratio` with the same options, \
but rows are read, units hashed and weights drawn once for all of them. The effect and its interval are those of the metric alone. The band holds for all metrics at once:

```text
m          = the (1 − α)-quantile of max_j |Δ_bj − Δ_j| / se_j over the replicates b
band       = Δ_j ± m·se_j
p_adjusted = (1 + #{b: max_j ≥ |Δ_j|/se_j})/(B + 1)
```

Rejecting where `p_adjusted` ≤ α makes any false rejection with probability α (the single-step max-t of Westfall and Young). It rejects more than Bonferroni where metrics are correlated, since the replicates know how. \
The band is two-sided whatever the alternative. A row in which any of the columns is NULL is left out.

| input | result |
| --- | --- |
| a column of `metrics`, `arm` or `unit` NULL | the row is left out and counted in `n_dropped` |
| NaN or ±∞ in a column | NaN for that metric, and no part in the band |
| an arm without rows or with too few units | NULL where not defined, with a `note` |
| a metric without variance | no part in the band |",
    returns: RETURNS,
    arguments: &[METRICS, ARM, CROSSED_UNIT],
    options: &[INFERENCE, ARMS, REPLICATES, INTERVAL, METHOD, BUCKETS],
    example: Example {
        sql: "\
SELECT e['metric'] AS metric, e['estimate'] AS estimate, e['band_lower'] AS band_lower, e['band_upper'] AS band_upper
FROM (
  SELECT unnest(bootstrap_effects({a: i % 11, b: {num: i % 7, den: 1 + i % 3}}, (i % 50) % 2 = 0, i % 50)) AS e
  FROM generate_series(1, 1000) AS t (i)
)
ORDER BY metric",
    },
    references: REFERENCES,
    value_version: 2,
    implementation: Implementation::Aggregate(AggregateParts { states: states_of, returns: returned }),
};

pub(super) static BOOTSTRAP_EFFECTS_OF: Function = Function {
    name: "bootstrap_effects_of",
    section: Section::Comparisons,
    summary: "`bootstrap_effects` of two stored summaries.",
    description: "\
The list that `bootstrap_effects` gives for the same rows, to the bit: by `method: 'buckets'` from two summaries of `buckets`, by the other methods from two of `replicates`. \
A ratio is stored as one: `buckets(unit, {watch: minutes, rebuffer_rate: {num: rebuffers, den: hours}})`. Options are as in `bootstrap_effect`.",
    returns: RETURNS,
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, REPLICATES, INTERVAL, METHOD],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT (i % 50) % 2 AS arm, buckets(i % 50, {a: i % 11, b: {num: i % 7, den: 1 + i % 3}}) AS s FROM generate_series(1, 1000) AS t (i) GROUP BY (i % 50) % 2
)
SELECT e['metric'] AS metric, e['p_adjusted'] AS p_adjusted
FROM (SELECT unnest(bootstrap_effects_of(t.s, c.s)) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 0 AND c.arm = 1)
ORDER BY metric",
    },
    references: REFERENCES,
    value_version: 2,
    implementation: results_of_summaries::<OfAny>(returned),
};

fn states_of(call: &Call) -> Result<Box<dyn States>> {
    match call.options.law() {
        None => states::<OfBuckets>(call),
        Some(_) => states::<OfReplicates>(call),
    }
}

fn label() -> Field {
    Field::new("metric", DataType::Utf8View, true)
}

fn returned() -> DataType {
    banded_type(label())
}

/// Summaries of either kind.
#[derive(Debug)]
struct OfAny {
    asked: Asked,
    of_buckets: OfBuckets,
    of_replicates: OfReplicates,
}

impl StoredResults for OfAny {
    fn new(options: &Options) -> Self {
        Self {
            asked: Asked::new(options),
            of_buckets: Results::new(options),
            of_replicates: Results::new(options),
        }
    }

    fn result(&self, treatment: &[u8], control: &[u8], function: &Function) -> Result<ArrayRef> {
        match self.asked.is_of_replicates(treatment).map_err(|e| failed(function, e))? {
            false => self.of_buckets.result(treatment, control, function),
            true => self.of_replicates.result(treatment, control, function),
        }
    }
}

#[derive(Debug)]
struct OfBuckets {
    inference: Inference,
    options: BootstrapOptions,
}

impl Results for OfBuckets {
    type Summary = Buckets;

    fn new(options: &Options) -> Self {
        Self { inference: options.inference(), options: bootstrap_options(options) }
    }

    fn results(
        &self,
        arms: &mut dyn Iterator<Item = Result<Arms<Buckets>>>,
        function: &Function,
    ) -> Result<ArrayRef> {
        lists(arms, function, |t, c| bootstrap_effects(t, c, &self.inference, &self.options))
    }
}

#[derive(Debug)]
struct OfReplicates {
    inference: Inference,
    interval: Interval,
}

impl Results for OfReplicates {
    type Summary = Replicates;

    fn new(options: &Options) -> Self {
        Self { inference: options.inference(), interval: interval(options) }
    }

    fn results(
        &self,
        arms: &mut dyn Iterator<Item = Result<Arms<Replicates>>>,
        function: &Function,
    ) -> Result<ArrayRef> {
        lists(arms, function, |t, c| {
            bootstrap_replicates_effects(t, c, &self.inference, self.interval)
        })
    }
}

/// The effects of groups, each a list by metric.
fn lists<S>(
    arms: &mut dyn Iterator<Item = Result<Arms<S>>>,
    function: &Function,
    compare: impl Fn(&S, &S) -> gosset_stats::Result<Vec<(String, Banded)>>,
) -> Result<ArrayRef> {
    let (mut metrics, mut effects, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for arms in arms {
        let all = arms?.several(function, &compare)?;
        lengths.push(all.len());
        for (metric, effect) in all {
            metrics.push(metric);
            effects.push(effect);
        }
    }
    let metrics = Arc::new(StringViewArray::from_iter_values(metrics));
    Ok(banded_lists(label(), metrics, effects, lengths))
}
