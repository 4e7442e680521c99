//! `winsorized`: differences of means of values that are capped at quantiles of the two arms compared.

use gosset_stats::Effect;
use gosset_stats::compare;

use super::{Estimator, Measured, Sides, of_values};
use crate::job::Metric;
use crate::kept::Kept;
use crate::{Result, internal};

#[derive(Debug)]
pub(super) struct Winsorized;

impl Estimator for Winsorized {
    fn name(&self) -> &'static str {
        "winsorized"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["winsorized"]
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        let kept = of_values(self.name(), metric, Kept::BinnedMoments)?;
        match metric.cap {
            Some(_) => Ok(kept),
            None => Err("winsorized needs a 'cap', the metric has none".into()),
        }
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(String, Effect)>> {
        let (t, c) = sides.binned()?;
        let cap = of.metric.cap.ok_or_else(|| internal("a metric without a cap was taken"))?;
        Ok(vec![("winsorized".into(), compare::winsorized(t, c, &of.metric.inference, &cap)?)])
    }
}
