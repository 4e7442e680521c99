//! `mann_whitney` and `ks_test`: tests of the distributions of the values of units.

use gosset_stats::compare;
use gosset_stats::summary::Histogram;
use gosset_stats::{Effect, Inference};

use super::{Estimator, Measured, Named, Sides, of_values};
use crate::Result;
use crate::job::Metric;
use crate::kept::Kept;

type Test = fn(&Histogram, &Histogram, &Inference) -> gosset_stats::Result<Effect>;

#[derive(Debug)]
pub(super) struct Rank {
    /// Of the estimator and of the function.
    name: &'static [&'static str; 1],
    test: Test,
}

impl Rank {
    pub(super) const MANN_WHITNEY: Self =
        Self { name: &["mann_whitney"], test: compare::mann_whitney };
    pub(super) const KS_TEST: Self = Self { name: &["ks_test"], test: compare::ks_test };
}

impl Estimator for Rank {
    fn name(&self) -> &'static str {
        self.name[0]
    }

    fn functions(&self) -> &'static [&'static str] {
        self.name
    }

    fn takes(&self, metric: &Metric) -> Result<Kept, String> {
        of_values(self.name(), metric, Kept::Histogram(None))
    }

    fn effects(&self, of: &Measured<'_>, sides: &Sides) -> Result<Vec<(Named, Effect)>> {
        let (t, c) = sides.histograms()?;
        Ok(vec![(self.name().into(), (self.test)(t, c, &of.metric.inference)?)])
    }
}
