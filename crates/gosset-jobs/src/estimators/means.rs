//! `ttest`: differences of means, of proportions and of ratios.

use gosset_stats::Effect;
use gosset_stats::compare::{ProportionMethod, Variance, proportion_test, ratio_test, ttest};

use super::{Estimator, Measured, Sides, is_ratio};
use crate::Result;
use crate::job::Metric;
use crate::kept::Kept;

#[derive(Debug)]
pub(super) struct Ttest;

impl Estimator for Ttest {
    fn name(&self) -> &'static str {
        "ttest"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["ttest", "proportion_test", "ratio_test"]
    }

    fn takes(&self, _: &Metric) -> Result<Kept, String> {
        Ok(Kept::Moments)
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(String, Effect)>> {
        let (t, c) = sides.moments()?;
        let inference = &of.metric.inference;
        if is_ratio(of.metric) {
            return Ok(vec![("ratio_test".into(), ratio_test(t, c, inference)?)]);
        }
        let mut made = vec![("ttest".into(), ttest(t, c, inference, Variance::Unequal)?)];
        if of.binary {
            let effect = proportion_test(t, c, inference, ProportionMethod::Wald)?;
            made.push(("proportion_test".into(), effect));
        }
        Ok(made)
    }
}
