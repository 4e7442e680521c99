//! `quantile_effects`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::error::Result;
use gosset_stats::Inference;
use gosset_stats::compare::{QuantileEffect, QuantileOptions, quantile_effects};
use gosset_stats::summary::Histogram;

use super::arguments::{ARM, OPTIONAL_UNIT, Y};
use super::bootstrap::REPLICATES;
use super::histogram::{LAW, RELATIVE_ERROR};
use super::quantile::{REFERENCES, quantile_options};
use crate::effect::{list_type, lists};
use crate::function::{AggregateParts, Example, Function, Implementation, Section};
use crate::input::failed;
use crate::options::{ARMS, INFERENCE, OptionSpec, OptionValues, Options};
use crate::two_arm::{Arms, Results, states};

const GRID: &[OptionSpec] = &[OptionSpec {
    name: "grid",
    values: OptionValues::Integer(1, 999),
    default: "9",
    doc: "number of evenly spaced quantiles: 9 are the deciles, 99 the percentiles",
}];

pub(super) static QUANTILE_EFFECTS: Function = Function {
    name: "quantile_effects",
    section: Section::TwoArms,
    summary: "Differences of all quantiles of a grid, with pointwise intervals and a simultaneous band.",
    description: "\
Estimates `Q_t(q) − Q_c(q)` for the quantiles `q = k/(grid + 1)`, with the replicates of `bootstrap_quantile`, joint over the grid. `ci_*` and `p_value` are those of a single quantile (percentile). The band holds for all of them at once:

```text
m          = the (1 − α)-quantile of max_q |Δ_b(q) − Δ(q)| / se(q) over the replicates b
band       = Δ(q) ± m·se(q)
p_adjusted = (1 + #{b: max_q ≥ |Δ(q)|/se(q)})/(B + 1)
```

A smallest `p_adjusted` below α is a test, at level α, that the two distributions differ anywhere on the grid. Points whose replicates all agree (few distinct values) have no band and take no part in the maximum.

| input | result |
| --- | --- |
| `y`, `arm` or `unit` NULL | the row is left out |
| NaN or ±∞ | NaN |
| an arm without rows, or with too few beyond a quantile of the grid | NULL in the fields that are not defined |",
    returns: "a LIST of structs `q, mean_control, mean_treatment, estimate, std_error, ci_lower, ci_upper, p_value, band_lower, band_upper, p_adjusted`, all DOUBLE",
    arguments: &[Y, ARM, OPTIONAL_UNIT],
    options: &[INFERENCE, ARMS, GRID, REPLICATES, LAW, RELATIVE_ERROR],
    example: Example {
        sql: "\
SELECT count(*) AS quantiles
FROM (
  SELECT unnest(quantile_effects(i * i % 1009 + i % 2, i % 2 = 1, {grid: 19})) AS e
  FROM generate_series(1, 5000) AS t (i)
)
HAVING count(*) = 19",
    },
    references: &[
        REFERENCES[0],
        "Chernozhukov, V., Fernández-Val, I., Melly, B. (2013). Inference on counterfactual distributions. Econometrica 81(6), 2205–2268. doi:10.3982/ECTA10582",
    ],
    value_version: 1,
    implementation: Implementation::Aggregate(AggregateParts {
        states: states::<Quantiles>,
        returns: || list_type(fields()),
    }),
};

const FIELDS: [&str; 11] = [
    "q",
    "mean_control",
    "mean_treatment",
    "estimate",
    "std_error",
    "ci_lower",
    "ci_upper",
    "p_value",
    "band_lower",
    "band_upper",
    "p_adjusted",
];

fn fields() -> Fields {
    FIELDS.iter().map(|name| Field::new(*name, DataType::Float64, true)).collect()
}

#[derive(Debug)]
struct Quantiles {
    inference: Inference,
    grid: Vec<f64>,
    options: QuantileOptions,
}

impl Quantiles {
    fn points(&self, t: &Histogram, c: &Histogram) -> gosset_stats::Result<Vec<QuantileEffect>> {
        quantile_effects(t, c, &self.inference, &self.grid, &self.options)
    }
}

impl Results for Quantiles {
    type Summary = Histogram;

    fn new(options: &Options) -> Self {
        let points = options.integer("grid").unwrap_or(9);
        let grid = (1..=points).map(|k| k as f64 / (points + 1) as f64).collect();
        Self { inference: options.inference(), grid, options: quantile_options(options) }
    }

    fn results(
        &self,
        arms: &mut dyn Iterator<Item = Result<Arms<Histogram>>>,
        function: &Function,
    ) -> Result<ArrayRef> {
        let mut columns: Vec<Float64Builder> =
            FIELDS.iter().map(|_| Float64Builder::new()).collect();
        let mut lengths = Vec::new();
        for arms in arms {
            let Arms { treatment, control, .. } = arms?;
            let points = self.points(&treatment, &control).map_err(|e| failed(function, e))?;
            lengths.push(points.len());
            for p in points {
                let values = [
                    Some(p.q),
                    p.control,
                    p.treatment,
                    p.estimate,
                    p.std_error,
                    p.ci_lower,
                    p.ci_upper,
                    p.p_value,
                    p.band_lower,
                    p.band_upper,
                    p.p_adjusted,
                ];
                columns.iter_mut().zip(values).for_each(|(column, v)| column.append_option(v));
            }
        }
        let columns: Vec<ArrayRef> =
            columns.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef).collect();
        Ok(lists(fields(), columns, lengths))
    }
}
