//! `cuped`, `lin` and `mlrate`: differences of means, adjusted by covariates; `cuped` of ratios too.

use gosset_stats::Effect;
use gosset_stats::compare::{self, LinOptions, LinVcov};
use gosset_stats::summary::buckets::DEFAULT_BUCKETS;
use serde_json::{Value, json};

use super::{Estimator, Measured, Sides, is_ratio, of_totals, of_values};
use crate::Result;
use crate::file::{self, LinSection};
use crate::job::Metric;
use crate::kept::Kept;

#[derive(Debug)]
pub(super) struct Cuped;

#[derive(Debug)]
pub(super) struct Lin(LinOptions);

#[derive(Debug)]
pub(super) struct Mlrate;

impl Lin {
    pub(super) fn new(section: &LinSection) -> Self {
        let vcov = match section.vcov {
            Some(file::LinVcov::Classical) => LinVcov::Classical,
            Some(file::LinVcov::ByArm) | None => LinVcov::ByArm,
        };
        Self(LinOptions { vcov, superpopulation: section.superpopulation })
    }
}

fn with_covariates(name: &str, metric: &Metric) -> Result<Kept, String> {
    match metric.covariates.is_empty() {
        true => Err(format!("{name} needs a covariate, the metric has none")),
        false => Ok(Kept::Moments),
    }
}

/// Whether `cuped` takes totals of buckets: ratios are linearised by units.
fn by_totals(metric: &Metric) -> bool {
    metric.totals && !is_ratio(metric)
}

impl Estimator for Cuped {
    fn name(&self) -> &'static str {
        "cuped"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["cuped", "cuped_ratio"]
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        let kept = with_covariates(self.name(), metric)?;
        Ok(if by_totals(metric) { Kept::Totals(DEFAULT_BUCKETS) } else { kept })
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(String, Effect)>> {
        if by_totals(of.metric) {
            let (t, c) = sides.buckets()?;
            let effect = of_totals(compare::clustered_cuped(t, c, &of.metric.inference)?, (t, c));
            return Ok(vec![("cuped".into(), effect)]);
        }
        let (t, c) = sides.moments()?;
        let compare = if is_ratio(of.metric) { compare::cuped_ratio } else { compare::cuped };
        Ok(vec![("cuped".into(), compare(t, c, &of.metric.inference)?)])
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
        json!(format!("{:?}", self.0))
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        of_values(self.name(), metric, Kept::Moments)?;
        with_covariates(self.name(), metric)
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(String, Effect)>> {
        let (t, c) = sides.moments()?;
        Ok(vec![("lin".into(), compare::lin(t, c, &of.metric.inference, &self.0)?)])
    }
}

impl Estimator for Mlrate {
    fn name(&self) -> &'static str {
        "mlrate"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["mlrate"]
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        of_values(self.name(), metric, Kept::Moments)?;
        let kept = with_covariates(self.name(), metric)?;
        match metric.covariates.len() {
            1 => Ok(kept),
            n => Err(format!(
                "mlrate takes one covariate, a prediction of the metric; this one has {n}"
            )),
        }
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(String, Effect)>> {
        let (t, c) = sides.moments()?;
        Ok(vec![("mlrate".into(), compare::mlrate(t, c, &of.metric.inference)?)])
    }
}
