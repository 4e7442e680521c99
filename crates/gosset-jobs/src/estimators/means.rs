//! `ttest`: differences of means, of proportions and of ratios.

use gosset_stats::Effect;
use gosset_stats::compare::{
    ClusteredStdError, ProportionMethod, Variance, clustered_ttest, proportion_test, ratio_test,
    ttest,
};
use gosset_stats::summary::buckets::DEFAULT_BUCKETS;

use super::{Estimator, Measured, Named, Sides, is_ratio, of_totals};
use crate::Result;
use crate::file::Missing;
use crate::job::Metric;
use crate::kept::Kept;

#[derive(Debug)]
pub(super) struct Ttest;

impl Estimator for Ttest {
    fn name(&self) -> &'static str {
        "ttest"
    }

    fn functions(&self) -> &'static [&'static str] {
        &["ttest", "proportion_test", "ratio_test", "clustered_ttest"]
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        Ok(match metric.totals {
            true => Kept::Totals(DEFAULT_BUCKETS),
            false => Kept::Moments(Missing::default()),
        })
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>> {
        let inference = &of.metric.inference;
        if of.metric.totals {
            let (t, c) = sides.buckets()?;
            let effect =
                of_totals(clustered_ttest(t, c, inference, ClusteredStdError::Delta)?, (t, c));
            let name = if is_ratio(of.metric) { "ratio_test" } else { "ttest" };
            return Ok(vec![(name.into(), effect)]);
        }
        let (t, c) = sides.moments()?;
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
