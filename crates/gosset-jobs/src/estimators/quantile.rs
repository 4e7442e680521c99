//! `quantile`: quantiles of the values of units.

use gosset_stats::Effect;
use gosset_stats::compare::{
    BootstrapOptions, QuantileInterval, QuantileOptions, bootstrap_quantile,
};
use gosset_stats::summary::{Law, Resampling};
use serde_json::{Value, json};

use super::bootstrap::wrong;
use super::{Estimator, Measured, Sides, of_values};
use crate::file::{self, QuantileSection};
use crate::job::Metric;
use crate::kept::Kept;
use crate::{JobError, Result};

#[derive(Debug)]
pub(super) struct Quantile {
    kept: Kept,
    quantiles: Vec<f64>,
    /// For each of them, but for the quantile itself.
    options: QuantileOptions,
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
        if quantiles.is_empty() {
            return Err(JobError::File("expected at least one of 'quantiles'".into()));
        }
        for (i, q) in quantiles.iter().enumerate() {
            if !(*q > 0.0 && *q < 1.0) {
                return Err(JobError::File(format!(
                    "quantiles must be between 0 and 1, exclusive; found {q}"
                )));
            }
            if quantiles[..i].contains(q) {
                return Err(JobError::File(format!("the quantile {q} is named twice")));
            }
        }
        let law = match section.method.unwrap_or_default() {
            file::QuantileMethod::Binomial => None,
            file::QuantileMethod::Poisson => Some(Law::Poisson),
            file::QuantileMethod::DoubleOrNothing => Some(Law::DoubleOrNothing),
            file::QuantileMethod::Bayesian => Some(Law::Bayesian),
        };
        let resampling =
            law.map(|law| Resampling { law, replicates, seed, ..Resampling::default() });
        Ok(Self { kept: Kept::Histogram(resampling), quantiles, options })
    }
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

    fn rows(&self) -> Vec<String> {
        self.quantiles.iter().map(|q| format!("quantile {q}")).collect()
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(String, Effect)>> {
        let (t, c) = sides.histograms()?;
        let made = self.rows().into_iter().zip(&self.quantiles).map(|(name, &q)| {
            let options = QuantileOptions { q, ..self.options };
            Ok((name, bootstrap_quantile(t, c, &of.metric.inference, &options)?))
        });
        made.collect()
    }
}
