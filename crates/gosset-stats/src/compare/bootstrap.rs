//! The Poisson bootstrap of units or of buckets of units.

use super::clustered::{Arm, Clustered};
use super::draws::{Deviations, Draws, Ends};
use super::effect::Effect;
use super::metric::Metric;
use super::resample::weighted_sums;
use crate::Result;
use crate::inference::Inference;
pub use crate::summary::replicates::MAX_REPLICATES;
use crate::summary::{Buckets, Resampling};

/// The fewest units or non-empty buckets in an arm that are resampled. With fewer, a replicate too often repeats a unit
/// or two, and no interval of replicates means anything.
pub(super) const LEAST_UNITS: u64 = 5;

/// How the replicates make an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interval {
    /// Order statistics of the replicates.
    #[default]
    Percentile,
    /// The estimate and normal quantiles of the standard error.
    Normal,
    /// Order statistics of `(θ* − θ)/se*`, with a standard error for every replicate.
    Studentized,
    /// Order statistics, mirrored at the estimate.
    Basic,
    /// Bias-corrected and accelerated: order statistics that are moved for bias and skewness.
    Bca,
}

impl Interval {
    /// Its name in SQL and in `method`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Percentile => "percentile",
            Self::Normal => "normal",
            Self::Studentized => "studentized",
            Self::Basic => "basic",
            Self::Bca => "bca",
        }
    }
}

/// What is asked of a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootstrapOptions {
    /// How many replicates, from 2 to [`MAX_REPLICATES`].
    pub replicates: u32,
    /// The seed of the weights.
    pub seed: u64,
    /// How the interval is made.
    pub interval: Interval,
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        Self { replicates: 1000, seed: 0, interval: Interval::Percentile }
    }
}

impl BootstrapOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if `replicates` is not from 2 to [`MAX_REPLICATES`].
    pub fn check(&self) -> Result<()> {
        let Self { replicates, seed, .. } = *self;
        Resampling { replicates, seed, ..Resampling::default() }.check()
    }
}

/// The bootstrap of a difference of means per row, or of ratios of two sums, with units as clusters of rows: the
/// estimate of [`clustered_ttest`](super::clustered_ttest).
///
/// Formula: replicate `b` weighs unit `k` (or bucket `k`, once the summary holds buckets) with a Poisson(1) weight
/// `w_kb`, a pure function of seed, unit and replicate, and is `θ*_b = R*_t − R*_c` with `R* = Σ w_kb y_k / Σ w_kb d_k`,
/// computed as `R + Σ w_kb e_k / Σ w_kb d_k` with the exact `e_k = y_k − R·d_k`. A replicate whose denominator is 0 is
/// left out, and `note` counts them. A bucket has the same weights in both arms, so that swapped arms give the mirrored
/// interval; its residuals in the two arms are those of different units. `std_error` is the standard deviation of the `B` replicates with divisor `B − 1`.
///
/// With `α = 1 − confidence` and `k = ⌊(B + 1)α/2⌋` (`⌊(B + 1)α⌋` one-sided):
/// * percentile: the `k`-th smallest to the `k`-th largest replicate;
///   `p = min(1, 2·min(1 + #{θ* ≤ 0}, 1 + #{θ* ≥ 0})/(B + 1))`, one-sided `(1 + #{θ* ≤ 0})/(B + 1)` or its mirror;
/// * basic: these ends mirrored at the estimate, and `p` likewise from the counts at twice the estimate;
/// * normal: `estimate ± z·std_error` and its p-value;
/// * studentized: `estimate − t*·se` for the `k`-th largest and smallest `t*_b = (θ*_b − estimate)/se*_b`, where `se` is
///   the standard error of [`clustered_ttest`](super::clustered_ttest) and `se*_b` the same of the resampled clusters:
///   `V* = Σ w_k (y_k − R*·d_k)²/D*²` times `f·(G − 1)/G · G*/(G* − 1)`, with the factor `f` of the arm and the numbers
///   `G` and `G* = Σ w_k` of clusters; `statistic` is `estimate/se`. Replicates whose `se*` is 0 are left out and counted;
/// * bca: the replicates at `Φ(z₀ + (z₀ + z)/(1 − a(z₀ + z)))` for the normal quantiles `z`, with the bias
///   `z₀ = Φ⁻¹((#{θ* < estimate} + #{θ* ≤ estimate})/2B)` and the acceleration
///   `a = Σ_a Σ_k u³/G_a³ / (6·(Σ_a Σ_k u²/G_a²)^{3/2})` from the jackknife `u_k = (G − 1)(θ_(·) − θ_(−k))` over units or
///   non-empty buckets; between two replicates by interpolation of normal scores, and `p` by that backwards, never below
///   `1/(B + 1)`.
///
/// But for bca, order statistics are not interpolated, so that `p ≤ α` exactly where the interval excludes 0. Where `k`
/// is 0 there are too few replicates for the level, and no interval. The relative interval is the percentile one of
/// `θ*/|R*_c|` (others of a ratio cover badly), and for normal as the options say.
///
/// Assumptions: units are independent and were randomised; sums of many units, no extremes. A percentile interval does
/// not repair the skewness of the data: see the coverage of few units with heavy tails before trusting one. On a
/// difference of two arms bca covers worst of all.
///
/// Small samples: without rows, or with a denominator that sums to 0, in an arm there is no estimate; with fewer than 5
/// units (or non-empty buckets) in an arm, an arm without any in more than a tenth of the replicates, or no variance in
/// both, there is no test and no interval, and `note` says why. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) for summaries of different columns or bucket counts,
/// [`Error::Invalid`](crate::Error::Invalid) for options out of range and for more than two outcomes.
///
/// # References
/// Chamandy, Muralidharan, Najmi and Naidu (2012), Estimating uncertainty for massive data streams, Google technical
/// report 43157. Davison and Hinkley (1997), Bootstrap methods and their application, chapter 5,
/// doi:10.1017/CBO9780511802843. Efron (1987), Better bootstrap confidence intervals, Journal of the American
/// Statistical Association 82(397), 171–185, doi:10.1080/01621459.1987.10478410.
pub fn bootstrap(
    t: &Buckets,
    c: &Buckets,
    inference: &Inference,
    options: &BootstrapOptions,
) -> Result<Effect> {
    options.check()?;
    let method = format!("bootstrap {}", options.interval.name());
    let mut effect = Effect::of_buckets((t, c), inference, &method)?;
    let metric = Metric::only(t.columns())?;
    if let Some(clustered) = effect.cluster((t, c), metric, LEAST_UNITS) {
        effect.infer_clusters((t, c), &clustered, inference, options);
    }
    Ok(effect)
}

/// The bootstrap of the difference of means per row, adjusted for covariates from before the experiment (CUPED), with
/// units as clusters of rows.
///
/// Formula: as [`bootstrap`] of `y − θ'x`, with `θ = (Σ_a Σ_k e_x e_x')⁻¹ Σ_a Σ_k e_x e_y` from the residuals of the
/// totals of units (or buckets) within the arms, which is that of [`cuped`](super::cuped) where rows are units and are
/// kept one by one. θ is estimated once and is the same in every replicate: its own noise is of order `1/n`, and from `K`
/// buckets it costs `p/2K` of the variance. `relative` is over the adjusted mean of control. `variance_reduction`
/// compares the standard errors of [`clustered_ttest`](super::clustered_ttest) with and without the covariates. `mean_*`
/// are not adjusted.
///
/// Columns that are constant within both arms, or depend on those before them, are left out, and `note` names them.
///
/// Assumptions: those of [`bootstrap`]; covariates are not affected by the treatment; many more units than covariates.
///
/// Small samples: as [`bootstrap`].
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) for summaries of different columns or bucket counts,
/// [`Error::Invalid`](crate::Error::Invalid) for options out of range, for more than one outcome and without covariates.
///
/// # References
/// Deng, Xu, Kohavi and Walker (2013), Improving the sensitivity of online controlled experiments by utilizing
/// pre-experiment data, WSDM '13, 123–132, doi:10.1145/2433396.2433413.
pub fn bootstrap_cuped(
    t: &Buckets,
    c: &Buckets,
    inference: &Inference,
    options: &BootstrapOptions,
) -> Result<Effect> {
    options.check()?;
    let method = format!("bootstrap {} cuped", options.interval.name());
    let mut effect = Effect::of_buckets((t, c), inference, &method)?;
    if let Some(adjusted) = effect.cluster_adjusted(t, c, LEAST_UNITS)? {
        effect.infer_clusters((t, c), &adjusted.clustered, inference, options);
        effect.remark_adjustment(&adjusted);
    }
    Ok(effect)
}

impl Effect {
    /// Sets the inference from resampled clusters; returns the replicates.
    pub(super) fn infer_clusters(
        &mut self,
        (t, c): (&Buckets, &Buckets),
        clustered: &Clustered,
        inference: &Inference,
        options: &BootstrapOptions,
    ) -> Deviations {
        let arms = [(t, &clustered.t), (c, &clustered.c)];
        let count = options.replicates as usize;
        let [sums_t, sums_c] = arms.map(|(buckets, arm)| {
            weighted_sums(buckets, (&arm.residuals, &arm.sizes), count, options.seed)
        });
        let shifts = sums_t.ratios().zip(sums_c.ratios());
        let draws = Draws::new(clustered.estimate, clustered.c.mean, shifts);
        let ends = match options.interval {
            Interval::Studentized => {
                let [v_t, v_c] = arms
                    .map(|(buckets, arm)| arm.resampled_variances(buckets, count, options.seed));
                draws.studentized(clustered.difference().variance, |b| v_t[b] + v_c[b])
            }
            Interval::Bca => Ends::Bca(clustered.acceleration()),
            Interval::Percentile => Ends::Percentile,
            Interval::Basic => Ends::Basic,
            Interval::Normal => Ends::Normal,
        };
        self.infer_draws(inference, &ends, draws)
    }
}

impl Clustered {
    /// The acceleration of a difference: the skewness of the influence of the clusters on it.
    pub(super) fn acceleration(&self) -> f64 {
        let (mut squares, mut cubes) = (0.0, 0.0);
        for (arm, sign) in [(&self.t, 1.0), (&self.c, -1.0)] {
            let influence = arm.jackknife();
            let n = influence.len() as f64;
            squares += influence.iter().map(|u| (u / n).powi(2)).sum::<f64>();
            cubes += sign * influence.iter().map(|u| (u / n).powi(3)).sum::<f64>();
        }
        if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
    }
}

impl Arm {
    /// The variance of the mean of every replicate, from its own clusters.
    fn resampled_variances(&self, buckets: &Buckets, count: usize, seed: u64) -> Vec<f64> {
        let pairs = || self.residuals.iter().zip(&self.sizes);
        let (e2, ed): (Vec<f64>, Vec<f64>) = pairs().map(|(e, d)| (e * e, e * d)).unzip();
        let d2: Vec<f64> = self.sizes.iter().map(|d| d * d).collect();
        let ones = vec![1.0; d2.len()];
        let of = |a: &[f64], b: &[f64]| weighted_sums(buckets, (a, b), count, seed);
        let (e_d, e2_ed, d2_g) = (of(&self.residuals, &self.sizes), of(&e2, &ed), of(&d2, &ones));
        let clusters = ones.len() as f64;
        let factor = self.factor * (clusters - 1.0) / clusters;
        let replicates = e_d.pairs().zip(e2_ed.pairs()).zip(d2_g.pairs());
        replicates
            .map(|(((e, d), (e2, ed)), (d2, g))| {
                let shift = e / d;
                // Σ w (e − shift·d)².
                let squares = e2 - shift * (2.0 * ed - shift * d2);
                squares.max(0.0) / (d * d) * factor * g / (g - 1.0)
            })
            .collect()
    }
}
