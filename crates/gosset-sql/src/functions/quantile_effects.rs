//! `quantile_effects`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use gosset_stats::Inference;
use gosset_stats::compare::{QuantileOptions, quantile_effects};
use gosset_stats::summary::Histogram;

use super::arguments::{ARM, CONTROL, OPTIONAL_UNIT, TREATMENT, Y};
use super::bootstrap::REPLICATES;
use super::histogram::{LAW, RELATIVE_ERROR};
use super::quantile::{INTERVAL, REFERENCES, quantile_options};
use crate::effect::{banded_lists, banded_type};
use crate::function::{AggregateParts, Example, Function, Implementation, Section};
use crate::options::{ARMS, INFERENCE, OptionSpec, OptionValues, Options, evenly_spaced};
use crate::two_arm::{Arms, Results, results_of_summaries, states};

const GRID: &[OptionSpec] = &[OptionSpec {
    name: "grid",
    values: OptionValues::Grid(999),
    default: "9",
    doc: "number of evenly spaced quantiles: 9 are the deciles, 99 the percentiles; or a list of quantiles, such as `[0.5, 0.9, 0.99]`",
}];

pub(super) static QUANTILE_EFFECTS: Function = Function {
    name: "quantile_effects",
    section: Section::TwoArms,
    summary: "Differences of several quantiles, with pointwise intervals and a simultaneous band.",
    description: "\
Estimates `Q_t(q) − Q_c(q)` for the quantiles `q` of the grid, `k/(grid + 1)` or those of the list, with the replicates of `bootstrap_quantile`, joint over the grid. `ci_*` and `p_value` are those of a single quantile. The band holds for all of them at once:

```text
m          = the (1 − α)-quantile of max_q |Δ_b(q) − Δ(q)| / se(q) over the replicates b
band       = Δ(q) ± m·se(q)
p_adjusted = (1 + #{b: max_q ≥ |Δ(q)|/se(q)})/(B + 1)
```

A smallest `p_adjusted` below α is a test, at level α, that the two distributions differ anywhere on the grid. Points without an interval and those whose replicates all agree (few distinct values) have no band and take no part in the maximum.

| input | result |
| --- | --- |
| `y`, `arm` or `unit` NULL | the row is left out |
| NaN or ±∞ | NaN |
| an arm without rows, or with fewer than five rows or units | NULL in the fields that are not defined, with a `note` |
| `q` of 0 or 1, or too near to them for the rows of an arm | NULL but for the estimate at this `q`, with a `note` |",
    returns: RETURNS,
    arguments: &[Y, ARM, OPTIONAL_UNIT],
    options: &[INFERENCE, ARMS, GRID, REPLICATES, INTERVAL, LAW, RELATIVE_ERROR],
    example: Example {
        sql: "\
SELECT e['q'] AS q, e['estimate'] AS estimate, e['band_lower'] AS band_lower, e['band_upper'] AS band_upper
FROM (
  SELECT unnest(quantile_effects(i * i % 1009 + i % 2, i % 2 = 1, {grid: 3})) AS e
  FROM generate_series(1, 5000) AS t (i)
)
ORDER BY q",
    },
    references: &[
        REFERENCES[0],
        REFERENCES[1],
        REFERENCES[2],
        "Chernozhukov, V., Fernández-Val, I., Melly, B. (2013). Inference on counterfactual distributions. Econometrica 81(6), 2205–2268. doi:10.3982/ECTA10582",
    ],
    value_version: 3,
    implementation: Implementation::Aggregate(AggregateParts {
        states: states::<Quantiles>,
        returns: returned,
    }),
};

pub(super) static QUANTILE_EFFECTS_OF: Function = Function {
    name: "quantile_effects_of",
    section: Section::Comparisons,
    summary: "`quantile_effects` of two stored summaries.",
    description: "\
The list that `quantile_effects` gives for the same rows, to the bit, from two summaries of `histogram`, with or without units. Replicates and seed of histograms of units are theirs; the options are for those of rows.",
    returns: RETURNS,
    arguments: &[TREATMENT, CONTROL],
    options: &[INFERENCE, GRID, REPLICATES, INTERVAL],
    example: Example {
        sql: "\
WITH arms AS (
  SELECT i % 2 AS arm, histogram(i * i % 1009) AS s FROM generate_series(1, 5000) AS t (i) GROUP BY i % 2
)
SELECT e['q'] AS q, e['estimate'] AS estimate
FROM (SELECT unnest(quantile_effects_of(t.s, c.s, {grid: 3})) AS e FROM arms t CROSS JOIN arms c WHERE t.arm = 1 AND c.arm = 0)
ORDER BY q",
    },
    references: REFERENCES,
    value_version: 3,
    implementation: results_of_summaries::<Quantiles>(returned),
};

const RETURNS: &str = "a LIST of structs: `q` DOUBLE, the fields of an effect, and `band_lower, band_upper, p_adjusted` DOUBLE";

fn label() -> Field {
    Field::new("q", DataType::Float64, true)
}

fn returned() -> DataType {
    banded_type(label())
}

#[derive(Debug)]
struct Quantiles {
    inference: Inference,
    grid: Vec<f64>,
    options: QuantileOptions,
}

impl Results for Quantiles {
    type Summary = Histogram;

    fn new(options: &Options) -> Self {
        let grid = options.numbers("grid").map_or_else(|| evenly_spaced(9), <[f64]>::to_vec);
        Self { inference: options.inference(), grid, options: quantile_options(options) }
    }

    fn results(
        &self,
        arms: &mut dyn Iterator<Item = Result<Arms<Histogram>>>,
        function: &Function,
    ) -> Result<ArrayRef> {
        let (mut quantiles, mut effects, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for arms in arms {
            let points = arms?.several(function, |t, c| {
                quantile_effects(t, c, &self.inference, &self.grid, &self.options)
            })?;
            lengths.push(points.len());
            for (q, point) in points {
                quantiles.push(q);
                effects.push(point);
            }
        }
        let quantiles = Arc::new(Float64Array::from(quantiles));
        Ok(banded_lists(label(), quantiles, effects, lengths))
    }
}
