//! `quantile`: quantiles of the values of units, or of the values of their rows.

use gosset_stats::Effect;
use gosset_stats::compare::{
    BootstrapOptions, QuantileInterval, QuantileOptions, bootstrap_quantile,
};
use gosset_stats::summary::{Law, Resampling};
use serde_json::{Value, json};

use super::bootstrap::wrong;
use super::{Estimator, Measured, Named, Sides, check_quantiles, of_values};
use crate::Result;
use crate::file::{self, QuantileSection};
use crate::job::Metric;
use crate::kept::Kept;

#[derive(Debug)]
pub(super) struct Quantile {
    kept: Kept,
    quantiles: Vec<f64>,
    /// For each of them, but for the quantile itself.
    options: QuantileOptions,
    /// How it takes a metric that is quantiles of rows, or why it does not.
    of_rows: Result<OfRows, String>,
}

impl Quantile {
    pub(super) fn new(section: &QuantileSection, seed: u64) -> Result<Self> {
        let default = QuantileOptions::default();
        let replicates = section.replicates.unwrap_or(default.replicates);
        BootstrapOptions { replicates, ..BootstrapOptions::default() }.check().map_err(wrong)?;
        let interval = section.interval.map_or(default.interval, |interval| match interval {
            file::QuantileInterval::Percentile => QuantileInterval::Percentile,
            file::QuantileInterval::Basic => QuantileInterval::Basic,
            file::QuantileInterval::Normal => QuantileInterval::Normal,
            file::QuantileInterval::Delta => QuantileInterval::Delta,
        });
        let options = QuantileOptions { interval, replicates, seed, ..default };
        let quantiles = section.quantiles.clone().unwrap_or_else(|| vec![0.5]);
        check_quantiles(&quantiles)?;
        let law = section.method.and_then(file::QuantileMethod::law);
        let of_units = law.map(|law| Resampling { law, replicates, seed, ..Resampling::default() });
        let of_rows = match section.method {
            Some(file::QuantileMethod::Binomial) => {
                Err("method = \"binomial\" takes rows that are units, this metric \
                is quantiles of their rows: take one that weights units"
                    .to_owned())
            }
            _ => Ok(OfRows::new(law.unwrap_or_default(), options)),
        };
        Ok(Self { kept: Kept::Histogram(of_units), quantiles, options, of_rows })
    }
}

impl file::QuantileMethod {
    /// The law of the weights of units; none where nothing is weighted.
    fn law(self) -> Option<Law> {
        match self {
            Self::Binomial => None,
            Self::Poisson => Some(Law::Poisson),
            Self::DoubleOrNothing => Some(Law::DoubleOrNothing),
            Self::Bayesian => Some(Law::Bayesian),
        }
    }
}

/// Quantiles of the rows of units, which are weighted.
#[derive(Debug)]
pub(super) struct OfRows {
    law: Law,
    options: QuantileOptions,
}

impl OfRows {
    pub(super) fn new(law: Law, options: QuantileOptions) -> Self {
        Self { law, options }
    }

    pub(super) fn kept(&self) -> Kept {
        let QuantileOptions { replicates, seed, .. } = self.options;
        let law = self.law;
        Kept::Histogram(Some(Resampling { law, replicates, seed, ..Resampling::default() }))
    }

    pub(super) fn effects(
        &self,
        estimator: &'static str,
        at: &[f64],
        (of, sides): (&Measured<'_>, &Sides),
    ) -> Result<Vec<(Named, Effect)>> {
        let mut made = effects(estimator, at, &self.options, (of, sides))?;
        if let Some((t, c)) = sides.with_rows {
            made.iter_mut().for_each(|(_, effect)| effect.count_units(t, c));
        }
        Ok(made)
    }
}

/// Differences of quantiles.
fn effects(
    estimator: &'static str,
    at: &[f64],
    options: &QuantileOptions,
    (of, sides): (&Measured<'_>, &Sides),
) -> Result<Vec<(Named, Effect)>> {
    let (t, c) = sides.histograms()?;
    let made = at.iter().map(|&q| {
        let effect =
            bootstrap_quantile(t, c, &of.metric.inference, &QuantileOptions { q, ..*options })?;
        Ok((Named { estimator, quantile: Some(q) }, effect))
    });
    made.collect()
}

impl Estimator for Quantile {
    fn name(&self) -> &'static str {
        "quantile"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["bootstrap_quantile"]
    }

    fn options(&self) -> Value {
        let QuantileOptions { replicates, seed, interval, .. } = self.options;
        let law = match self.kept {
            Kept::Histogram(Some(Resampling { law, .. })) => law.name(),
            _ => "binomial",
        };
        json!([self.quantiles, law, replicates, seed, interval.name()])
    }

    fn seed(&self) -> Option<u64> {
        Some(self.options.seed)
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        of_values(self.name(), metric, self.kept)
    }

    fn takes_rows(&self) -> Result<Kept, String> {
        self.of_rows.as_ref().map(OfRows::kept).map_err(Clone::clone)
    }

    fn rows(&self, metric: &Metric) -> Vec<Named> {
        let at = metric.measure.quantiles().unwrap_or(&self.quantiles);
        Named::of_quantiles(self.name(), at)
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>> {
        match (of.metric.measure.quantiles(), &self.of_rows) {
            (Some(at), Ok(of_rows)) => of_rows.effects(self.name(), at, (of, sides)),
            _ => effects(self.name(), &self.quantiles, &self.options, (of, sides)),
        }
    }
}
