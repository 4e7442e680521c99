//! `cuped` and `lin`: differences of means, adjusted by covariates.

use gosset_stats::Effect;
use gosset_stats::compare::{self, LinVcov};
use serde_json::{Value, json};

use super::{Estimator, Measured, Sides, of_values};
use crate::Result;
use crate::file::{self, LinSection};
use crate::job::Metric;
use crate::kept::Kept;

#[derive(Debug)]
pub(super) struct Cuped;

#[derive(Debug)]
pub(super) struct Lin {
    vcov: LinVcov,
}

impl Lin {
    pub(super) fn new(section: &LinSection) -> Self {
        let vcov = match section.vcov {
            Some(file::LinVcov::Classical) => LinVcov::Classical,
            Some(file::LinVcov::ByArm) | None => LinVcov::ByArm,
        };
        Self { vcov }
    }
}

fn with_covariates(name: &str, metric: &Metric) -> Result<Kept, String> {
    let kept = of_values(name, metric, Kept::Moments)?;
    match metric.covariates.is_empty() {
        true => Err(format!("{name} needs a covariate, the metric has none")),
        false => Ok(kept),
    }
}

impl Estimator for Cuped {
    fn name(&self) -> &'static str {
        "cuped"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["cuped"]
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        with_covariates(self.name(), metric)
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(String, Effect)>> {
        let (t, c) = sides.moments()?;
        Ok(vec![("cuped".into(), compare::cuped(t, c, &of.metric.inference)?)])
    }
}

impl Estimator for Lin {
    fn name(&self) -> &'static str {
        "lin"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["lin"]
    }

    fn options(&self) -> Value {
        json!(format!("{:?}", self.vcov))
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        with_covariates(self.name(), metric)
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(String, Effect)>> {
        let (t, c) = sides.moments()?;
        Ok(vec![("lin".into(), compare::lin(t, c, &of.metric.inference, self.vcov)?)])
    }
}
