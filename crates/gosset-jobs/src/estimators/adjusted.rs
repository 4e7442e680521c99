//! `cuped`, `lin` and `mlrate`: differences of means, adjusted by covariates; `cuped` of ratios too.

use gosset_stats::Effect;
use gosset_stats::compare::{
    self, Influence, LinOptions, LinVcov, lin_among, lin_influences, lin_of_passes,
};
use gosset_stats::linear::Vcov;
use gosset_stats::summary::buckets::DEFAULT_BUCKETS;
use serde_json::{Value, json};

use super::{Estimator, Measured, Named, Sides, is_ratio, of_totals, of_values, with_missing};
use crate::Result;
use crate::file::{self, Centre, CupedSection, LinSection, Missing, MlrateSection};
use crate::job::Metric;
use crate::kept::Kept;

#[derive(Debug)]
pub(super) struct Cuped {
    missing: Missing,
}

#[derive(Debug)]
pub(super) struct Lin {
    options: LinOptions,
    /// The covariance that takes a second pass over the units, if it is asked for.
    robust: Option<Vcov>,
    missing: Missing,
    centre: Centre,
}

#[derive(Debug)]
pub(super) struct Mlrate {
    missing: Missing,
}

impl Cuped {
    pub(super) fn new(section: &CupedSection) -> Self {
        Self { missing: section.missing }
    }

    /// Whether it takes totals of buckets. Ratios are linearised by units. Totals are of all units: where some may be left out
    /// or refused, units are made of all their days; sums over the days before an assignment are never missing.
    fn by_totals(&self, metric: &Metric) -> bool {
        let may_lack = metric.covariates.iter().any(|covariate| covariate.column.is_some());
        let of_all = self.missing == Missing::Indicator || !may_lack;
        metric.totals && !is_ratio(metric) && of_all
    }
}

impl Mlrate {
    pub(super) fn new(section: &MlrateSection) -> Self {
        Self { missing: section.missing }
    }
}

impl Lin {
    pub(super) fn new(section: &LinSection) -> Self {
        let vcov = match section.vcov {
            Some(file::LinVcov::Classical) => LinVcov::Classical,
            _ => LinVcov::ByArm,
        };
        let robust = match section.vcov {
            Some(file::LinVcov::Hc0) => Some(Vcov::Hc0),
            Some(file::LinVcov::Hc1) => Some(Vcov::Hc1),
            Some(file::LinVcov::Hc2) => Some(Vcov::Hc2),
            Some(file::LinVcov::Hc3) => Some(Vcov::Hc3),
            Some(file::LinVcov::ByArm | file::LinVcov::Classical) | None => None,
        };
        let options = LinOptions { vcov, superpopulation: section.superpopulation };
        Self { options, robust, missing: section.missing, centre: section.centre }
    }
}

/// What takes covariates.
fn with_covariates(name: &str, metric: &Metric, kept: Kept) -> Result<Kept, String> {
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
        &["cuped", "cuped_ratio"]
    }

    fn options(&self) -> Value {
        with_missing(Value::Null, self.missing)
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        let kept = match self.by_totals(metric) {
            true => Kept::Totals(DEFAULT_BUCKETS),
            false => Kept::Moments(self.missing),
        };
        with_covariates(self.name(), metric, kept)
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>> {
        if self.by_totals(of.metric) {
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
        let options = match self.robust {
            Some(vcov) => json!([vcov.name(), self.options.superpopulation]),
            None => json!(format!("{:?}", self.options)),
        };
        let options = match self.centre {
            Centre::Pair => options,
            Centre::AllArms => json!([options, "all arms"]),
        };
        with_missing(options, self.missing)
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        let kept = of_values(self.name(), metric, Kept::Moments(self.missing))?;
        with_covariates(self.name(), metric, kept)
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>> {
        let (t, c) = sides.moments()?;
        let (others, inference) = (sides.others()?, &of.metric.inference);
        let effect = match self.robust {
            Some(vcov) => {
                let superpopulation = self.options.superpopulation;
                let arms = (t, c, others);
                lin_of_passes(arms, sides.squares.as_ref(), inference, vcov, superpopulation)?
            }
            None => lin_among(t, c, others, inference, &self.options)?,
        };
        Ok(vec![("lin".into(), effect)])
    }

    fn passes_twice(&self) -> bool {
        self.robust.is_some()
    }

    fn influences(&self, sides: &Sides) -> Result<Option<[Influence; 2]>> {
        let Some(vcov) = self.robust else { return Ok(None) };
        let (t, c) = sides.moments()?;
        Ok(lin_influences((t, c, sides.others()?), vcov)?)
    }

    fn is_among_all_arms(&self) -> bool {
        self.centre == Centre::AllArms
    }
}

impl Estimator for Mlrate {
    fn name(&self) -> &'static str {
        "mlrate"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["mlrate"]
    }

    fn options(&self) -> Value {
        with_missing(Value::Null, self.missing)
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        let kept = of_values(self.name(), metric, Kept::Moments(self.missing))?;
        let kept = with_covariates(self.name(), metric, kept)?;
        match metric.covariates.len() {
            1 => Ok(kept),
            n => Err(format!(
                "mlrate takes one covariate, a prediction of the metric; this one has {n}"
            )),
        }
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>> {
        let (t, c) = sides.moments()?;
        Ok(vec![("mlrate".into(), compare::mlrate(t, c, &of.metric.inference)?)])
    }
}
