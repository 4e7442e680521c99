//! Inference with units as clusters of rows, from totals of units or of buckets of hashed units.

use super::dyadic::Dyadic;
use super::effect::Effect;
use super::infer::{Difference, Variance};
use super::metric::Metric;
use super::ratio::Ratio;
use crate::exact::{ExactSum, Sums};
use crate::inference::Inference;
use crate::summary::Buckets;
use crate::{Error, Result};

/// The difference of means per row, or of ratios of two sums, with units as clusters of rows.
///
/// With one outcome the mean is `Σy/N` over the `N` rows; with two it is their ratio `Σy/Σd`.
///
/// Formula: with the totals `y_k`, `d_k` of unit or bucket `k` (`d_k` its rows for a mean), `D = Σd_k` and the exact
/// `e_k = y_k − (Y/D)·d_k`, the variance of an arm is `Σe_k²/D²` times a factor. While the summary holds its `U` units
/// one by one the factor is `U/(U − 1)`; once it holds buckets it is `N²/(N² − Σn_k²)` with the rows `n_k` of the
/// buckets, under which the expectation of the variance is that over units for rows that are units. Welch and
/// Satterthwaite's degrees of freedom from `G_a − 1`, `G_a` the units or non-empty buckets. `n_*` are units where they
/// are known and NULL once there are buckets.
///
/// By the jackknife the variance of an arm is `(G − 1)/G·Σ(R_(−k) − R_(·))²` with the means or ratios `R_(−k)` without
/// unit or bucket `k` and their mean `R_(·)`. On few or unequal clusters it is larger, and rather too large than too small.
///
/// Assumptions: units are independent and were randomised; a hash of units that is independent of that of the
/// assignment. The standard error from `K` buckets has a noise of about `1/(2√K)` of itself.
///
/// Small samples: without rows, or with a denominator that sums to 0, in an arm there is no estimate; with fewer than
/// two units in an arm, or no variance in both, there is no test and no interval, and `note` says why. NaN or infinite
/// values give NaN.
///
/// # Errors
/// [`Error::Mismatch`] for summaries of different columns or bucket counts, [`Error::Invalid`] for more than two
/// outcomes or a confidence outside of (0, 1).
///
/// # References
/// Deng, Knoblich and Lu (2018), Applying the delta method in metric analytics, KDD '18, 233–242,
/// doi:10.1145/3219819.3219919. Liang and Zeger (1986), Longitudinal data analysis using generalized linear models,
/// Biometrika 73(1), 13–22, doi:10.1093/biomet/73.1.13. Efron and Stein (1981), The jackknife estimate of variance, Annals
/// of Statistics 9(3), 586–596, doi:10.1214/aos/1176345462.
pub fn clustered_ttest(
    t: &Buckets,
    c: &Buckets,
    inference: &Inference,
    std_error: ClusteredStdError,
) -> Result<Effect> {
    let method = match std_error {
        ClusteredStdError::Delta => "clustered",
        ClusteredStdError::Jackknife => "clustered jackknife",
    };
    let mut effect = Effect::of_buckets((t, c), inference, method)?;
    let metric = Metric::only(t.columns())?;
    if let Some(clustered) = effect.cluster((t, c), metric, 2) {
        let difference = match std_error {
            ClusteredStdError::Delta => clustered.difference(),
            ClusteredStdError::Jackknife => clustered.jackknifed(),
        };
        effect.infer(inference, &difference);
    }
    Ok(effect)
}

/// Compares the means of two arms adjusted by covariates, from bucket totals: [`clustered_ttest`] of `y − θ'x`.
///
/// θ is the regression of the residuals of clusters within both arms; covariates that are constant or follow from others
/// are left out and named. `variance_reduction` is against the same test without covariates.
///
/// # Errors
/// As [`clustered_ttest`]; [`Error::Invalid`](crate::Error::Invalid) for a ratio and without covariates.
///
/// # References
/// Deng, Xu, Kohavi and Walker (2013), Improving the sensitivity of online controlled experiments by utilizing
/// pre-experiment data, WSDM '13, 123–132, doi:10.1145/2433396.2433413.
pub fn clustered_cuped(t: &Buckets, c: &Buckets, inference: &Inference) -> Result<Effect> {
    let mut effect = Effect::of_buckets((t, c), inference, "clustered cuped")?;
    if let Some(adjusted) = effect.cluster_adjusted(t, c, 2)? {
        effect.infer(inference, &adjusted.clustered.difference());
        effect.remark_adjustment(&adjusted);
    }
    Ok(effect)
}

/// The standard error of a mean or ratio of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClusteredStdError {
    /// From the residuals of the clusters, to first order.
    #[default]
    Delta,
    /// From the means or ratios without each cluster.
    Jackknife,
}

/// Two arms as clusters.
#[derive(Debug)]
pub(super) struct Clustered {
    /// The difference of the means or ratios.
    pub(super) estimate: f64,
    pub(super) t: Arm,
    pub(super) c: Arm,
}

/// An arm as clusters: units, or buckets of units.
#[derive(Debug, Clone)]
pub(super) struct Arm {
    /// The mean or ratio `Y/D`.
    pub(super) mean: f64,
    /// `y_k − (Y/D)·d_k` of every cluster.
    pub(super) residuals: Vec<f64>,
    /// `d_k` of every cluster.
    pub(super) sizes: Vec<f64>,
    /// `D`.
    total: f64,
    /// What makes the sum of squares of few clusters unbiased.
    pub(super) factor: f64,
}

impl Arm {
    /// The variance of the mean.
    pub(super) fn variance(&self) -> Variance {
        let squares: f64 = self.residuals.iter().map(|e| (e / self.total) * (e / self.total)).sum();
        Variance { value: squares * self.factor, df: self.residuals.len() as f64 - 1.0 }
    }

    /// `(G − 1)·(R_(·) − R_(−k))` of every cluster: the influence of a cluster on the mean by the jackknife, where
    /// `R_(−k)` is the mean without the cluster and `R_(·)` the mean of those.
    pub(super) fn jackknife(&self) -> Vec<f64> {
        let clusters = self.residuals.len() as f64;
        let without: Vec<f64> =
            self.residuals.iter().zip(&self.sizes).map(|(e, d)| -e / (self.total - d)).collect();
        let mean = without.iter().sum::<f64>() / clusters;
        without.iter().map(|shift| (clusters - 1.0) * (mean - shift)).collect()
    }
}

impl Clustered {
    /// The difference with its jackknife standard error.
    fn jackknifed(&self) -> Difference {
        let variance = |arm: &Arm| {
            let influence = arm.jackknife();
            let clusters = influence.len() as f64;
            let squares: f64 = influence.iter().map(|u| u * u).sum();
            Variance { value: squares / (clusters * (clusters - 1.0)), df: clusters - 1.0 }
        };
        Difference::welch(self.estimate, self.c.mean, variance(&self.t), variance(&self.c))
    }

    /// The difference with its analytic standard error.
    pub(super) fn difference(&self) -> Difference {
        Difference::welch(self.estimate, self.c.mean, self.t.variance(), self.c.variance())
    }
}

impl Effect {
    /// An effect between buckets, with the counts of their units and rows.
    pub(super) fn of_buckets(
        (t, c): (&Buckets, &Buckets),
        inference: &Inference,
        method: &str,
    ) -> Result<Self> {
        let mut effect = Self::of_arms(t, c, inference, method)?;
        if t.buckets() != c.buckets() {
            return Err(Error::Mismatch(format!(
                "expected two summaries of the same bucket count, found {} for treatment and {} for control",
                t.buckets(),
                c.buckets()
            )));
        }
        effect.remark_uncounted("buckets");
        Ok(effect)
    }

    /// The two arms as clusters, after setting the means. Where there is no more than an estimate to give, because of
    /// fewer than `least` clusters or of values that are not finite, sets it and gives `None`.
    pub(super) fn cluster(
        &mut self,
        (t, c): (&Buckets, &Buckets),
        metric: Metric,
        least: u64,
    ) -> Option<Clustered> {
        let [totals_t, totals_c] = [t, c].map(|arm| Totals::of(arm, metric));
        if !self.set_ratios(&totals_t.ratio, &totals_c.ratio) {
            return None;
        }
        let estimate = totals_t.ratio.minus(&totals_c.ratio);
        if self.lacks_units((t.len() as u64, c.len() as u64), least) {
            self.set_estimate(estimate, self.mean_control.unwrap_or(f64::NAN));
            return None;
        }
        let clustered = totals_t.arm(t).zip(totals_c.arm(c));
        if clustered.is_none() {
            self.set_not_finite();
        }
        clustered.map(|(t, c)| Clustered { estimate, t, c })
    }
}

/// The totals `Y` and `D` of a metric in an arm.
#[derive(Debug)]
pub(super) struct Totals {
    metric: Metric,
    y: Option<Dyadic>,
    d: Option<Dyadic>,
    ratio: Ratio,
}

impl Totals {
    pub(super) fn of(arm: &Buckets, metric: Metric) -> Self {
        let sum = arm.sum();
        let y = &sum.sums[metric.numerator];
        let ratio = match metric.denominator {
            Some(d) => Ratio::of(y, &sum.sums[d]),
            None => Ratio::of(y, &ExactSum::from_integer(sum.n.into())),
        };
        Self { metric, y: Dyadic::of(y), d: metric.size(&sum), ratio }
    }

    /// The difference of the two means or ratios.
    pub(super) fn minus(&self, other: &Self) -> f64 {
        self.ratio.minus(&other.ratio)
    }

    /// The arm's clusters; `None` where a value is not finite.
    pub(super) fn arm(&self, arm: &Buckets) -> Option<Arm> {
        let (y, d) = (self.y.as_ref()?, self.d.as_ref()?);
        let total = d.to_f64();
        let (mut residuals, mut sizes) = (Vec::new(), Vec::new());
        let (mut rows, mut squared_rows) = (0u128, 0u128);
        for (_, sums) in arm.totals() {
            let (y_k, d_k) =
                (Dyadic::of(&sums.sums[self.metric.numerator])?, self.metric.size(sums)?);
            // Formed exactly: an offset of all values leaves no trace in what is squared.
            residuals.push(d.times(&y_k).minus(&y.times(&d_k)).to_f64() / total);
            sizes.push(d_k.to_f64());
            rows += u128::from(sums.n);
            squared_rows += u128::from(sums.n) * u128::from(sums.n);
        }
        let factor = match arm.units() {
            Some(units) => units as f64 / (units as f64 - 1.0),
            None => (rows * rows) as f64 / (rows * rows - squared_rows) as f64,
        };
        Some(Arm { mean: y.over(d), residuals, sizes, total, factor })
    }
}

impl Metric {
    /// The sum of the denominator, or the number of rows.
    fn size(self, sums: &Sums) -> Option<Dyadic> {
        match self.denominator {
            Some(d) => Dyadic::of(&sums.sums[d]),
            None => Some(Dyadic::count(sums.n)),
        }
    }
}
