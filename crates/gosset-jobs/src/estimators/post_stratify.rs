//! `post_stratify`: differences of means by stratum, adjusted by the covariates of the metric if it has any.

use gosset_stats::Effect;
use gosset_stats::compare::{self, EmptyCells, PostStratifyOptions};
use serde_json::{Value, json};

use super::{Estimator, Measured, Named, Sides, of_values, with_missing};
use crate::file::{self, Missing, PostStratifySection};
use crate::job::Metric;
use crate::kept::Kept;
use crate::{JobError, Result};

#[derive(Debug)]
pub(super) struct PostStratify {
    strata: Option<String>,
    options: PostStratifyOptions,
    missing: Missing,
}

impl PostStratify {
    pub(super) fn new(section: &PostStratifySection) -> Self {
        let empty = match section.empty {
            Some(file::EmptyCells::Drop) => EmptyCells::Drop,
            Some(file::EmptyCells::Error) => EmptyCells::Error,
            Some(file::EmptyCells::Collapse) | None => EmptyCells::Collapse,
        };
        let options = PostStratifyOptions { empty, superpopulation: section.superpopulation };
        Self { strata: section.strata.clone(), options, missing: section.missing }
    }
}

impl Estimator for PostStratify {
    fn name(&self) -> &'static str {
        "post_stratify"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["post_stratify"]
    }

    fn options(&self) -> Value {
        with_missing(json!([self.strata, format!("{:?}", self.options)]), self.missing)
    }

    fn check(&self, ramp: bool) -> Result<()> {
        match &self.strata {
            Some(_) => Ok(()),
            // Units are stratified by the day from which their shares of the arms are expected.
            None if ramp => Ok(()),
            None => Err(JobError::File(
                "the estimator 'post_stratify' needs [estimators.post_stratify] with 'strata', a column of the assignments".into(),
            )),
        }
    }

    fn strata(&self) -> Option<&str> {
        self.strata.as_deref()
    }

    fn is_stratified(&self) -> bool {
        true
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        of_values(self.name(), metric, Kept::StratifiedMoments(self.missing))
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>> {
        let (t, c) = sides.stratified()?;
        let effect = compare::post_stratify(t, c, &of.metric.inference, &self.options)?;
        Ok(vec![("post_stratify".into(), effect)])
    }
}
