//! `bootstrap_means`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, StringViewBuilder};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::error::Result;
use gosset_stats::Inference;
use gosset_stats::compare::{Interval, bootstrap_means};
use gosset_stats::summary::Replicates;

use super::arguments::{ARM, CROSSED_UNIT};
use super::bootstrap::{REPLICATES, interval};
use super::histogram::LAW;
use super::moments::OUTCOMES;
use super::quantile::INTERVAL;
use crate::effect::{list_type, lists};
use crate::function::{AggregateParts, Example, Function, Implementation, Section};
use crate::input::failed;
use crate::options::{ARMS, INFERENCE, Options};
use crate::two_arm::{Arms, Results, states};

pub(super) static BOOTSTRAP_MEANS: Function = Function {
    name: "bootstrap_means",
    section: Section::TwoArms,
    summary: "Bootstraps of the means of several metrics, with a simultaneous band over all of them.",
    description: "\
Estimates the difference of means per row of every column of the struct `y`, with units as clusters and joint replicates: `bootstrap_mean` of each (with `method: 'poisson'` or another law of weights), drawn once. \
`ci_*` and `p_value` are those of the metric alone. The band holds for all of them at once:

```text
m          = the (1 − α)-quantile of max_j |Δ_bj − Δ_j| / se_j over the replicates b
band       = Δ_j ± m·se_j
p_adjusted = (1 + #{b: max_j ≥ |Δ_j|/se_j})/(B + 1)
```

Rejecting where `p_adjusted` ≤ α makes any false rejection with probability α (the single-step max-t of Westfall and Young). It rejects more than Bonferroni where metrics are correlated, since the replicates know how. A row in which any of the columns is NULL is left out.

| input | result |
| --- | --- |
| a column of `y`, `arm` or `unit` NULL | the row is left out |
| NaN or ±∞ in a column | NaN for that metric, and no part in the band |
| an arm without rows or with too few units | NULL where not defined, with a `note` |",
    returns: "a LIST of structs `metric` VARCHAR, `mean_control, mean_treatment, estimate, std_error, ci_lower, ci_upper, p_value, band_lower, band_upper, p_adjusted` DOUBLE, `note` VARCHAR",
    arguments: &[OUTCOMES, ARM, CROSSED_UNIT],
    options: &[INFERENCE, ARMS, REPLICATES, INTERVAL, LAW],
    example: Example {
        sql: "\
SELECT count(*) AS metrics
FROM (
  SELECT unnest(bootstrap_means({a: i % 11, b: i % 7}, (i % 50) % 2 = 0, i % 50)) AS e
  FROM generate_series(1, 1000) AS t (i)
)
HAVING count(*) = 2",
    },
    references: &[
        "Westfall, P. H., Young, S. S. (1993). Resampling-Based Multiple Testing. Wiley.",
        "Romano, J. P., Wolf, M. (2005). Exact and approximate stepdown methods for multiple hypothesis testing. Journal of the American Statistical Association 100(469), 94–108. doi:10.1198/016214504000000539",
    ],
    value_version: 1,
    implementation: Implementation::Aggregate(AggregateParts {
        states: states::<Means>,
        returns: || list_type(fields()),
    }),
};

const DOUBLES: [&str; 10] = [
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
    let metric = Field::new("metric", DataType::Utf8View, true);
    let doubles = DOUBLES.iter().map(|name| Field::new(*name, DataType::Float64, true));
    let note = Field::new("note", DataType::Utf8View, true);
    [metric].into_iter().chain(doubles).chain([note]).collect()
}

#[derive(Debug)]
struct Means {
    inference: Inference,
    interval: Interval,
}

impl Results for Means {
    type Summary = Replicates;

    fn new(options: &Options) -> Self {
        Self { inference: options.inference(), interval: interval(options) }
    }

    fn results(
        &self,
        arms: &mut dyn Iterator<Item = Result<Arms<Replicates>>>,
        function: &Function,
    ) -> Result<ArrayRef> {
        let mut doubles: Vec<Float64Builder> =
            DOUBLES.iter().map(|_| Float64Builder::new()).collect();
        let (mut metric, mut note) = (StringViewBuilder::new(), StringViewBuilder::new());
        let mut lengths = Vec::new();
        for arms in arms {
            let Arms { treatment, control, missing, .. } = arms?;
            let metrics = bootstrap_means(&treatment, &control, &self.inference, self.interval);
            let metrics = metrics.map_err(|e| failed(function, e))?;
            lengths.push(metrics.len());
            for m in metrics {
                let (band_lower, band_upper) = m.band.unzip();
                let values = [
                    m.effect.mean_control,
                    m.effect.mean_treatment,
                    m.effect.estimate,
                    m.effect.std_error,
                    m.effect.ci_lower,
                    m.effect.ci_upper,
                    m.effect.p_value,
                    band_lower,
                    band_upper,
                    m.p_adjusted,
                ];
                doubles.iter_mut().zip(values).for_each(|(column, v)| column.append_option(v));
                metric.append_value(m.metric);
                note.append_option(missing.as_ref().or(m.effect.note.as_ref()));
            }
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(metric.finish())];
        columns.extend(doubles.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef));
        columns.push(Arc::new(note.finish()));
        Ok(lists(fields(), columns, lengths))
    }
}
