//! The Poisson bootstrap of units or of buckets of units.

use super::dyadic::Dyadic;
use super::effect::{Alternative, Effect, Inference};
use super::infer::{Difference, check_mean_or_ratio};
use super::ratio::Ratio;
use super::relative;
use super::resample::weighted_sums;
use crate::exact::ExactSum;
pub use crate::summary::replicates::MAX_REPLICATES;
use crate::summary::{Buckets, Law, Replicates, Resampling};
use crate::{Error, Result};

/// The fewest units or non-empty buckets in an arm that are resampled. With fewer, a replicate too often repeats a unit
/// or two, and no interval of replicates means anything.
const LEAST_UNITS: u64 = 5;

/// How the replicates make an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interval {
    /// Order statistics of the replicates.
    #[default]
    Percentile,
    /// Order statistics, mirrored at the estimate.
    Basic,
    /// The estimate and normal quantiles of the standard error.
    Normal,
}

impl Interval {
    fn method(self) -> &'static str {
        match self {
            Self::Percentile => "bootstrap percentile",
            Self::Basic => "bootstrap basic",
            Self::Normal => "bootstrap normal",
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
    /// [`Error::Invalid`] if `replicates` is not from 2 to [`MAX_REPLICATES`].
    pub fn check(&self) -> Result<()> {
        Resampling { law: Law::Poisson, replicates: self.replicates, seed: self.seed }.check()
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
/// * normal: `estimate ± z·std_error` and its p-value.
///
/// Order statistics are not interpolated, so that `p ≤ α` exactly where the interval excludes 0. Where `k` is 0 there
/// are too few replicates for the level, and no interval. The relative interval is the percentile one of `θ*/|R*_c|`
/// for percentile and basic (a basic interval of a ratio covers badly), and for normal as the options say.
///
/// Assumptions: units are independent and were randomised; sums of many units, no extremes. A percentile interval does
/// not repair the skewness of the data: see the coverage of few units with heavy tails before trusting one.
///
/// Small samples: without rows, or with a denominator that sums to 0, in an arm there is no estimate; with fewer than 5
/// units (or non-empty buckets) in an arm, or no variance in both, there is no test and no interval, and `note` says
/// why. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Mismatch`] for summaries of different columns or bucket counts, [`Error::Invalid`] for options out of range
/// and for more than two outcomes.
///
/// # References
/// Chamandy, Muralidharan, Najmi and Naidu (2012), Estimating uncertainty for massive data streams, Google technical
/// report 43157. Davison and Hinkley (1997), Bootstrap methods and their application, chapter 5,
/// doi:10.1017/CBO9780511802843. Efron (1979), Bootstrap methods: another look at the jackknife, Annals of Statistics
/// 7(1), 1–26, doi:10.1214/aos/1176344552.
pub fn bootstrap(
    t: &Buckets,
    c: &Buckets,
    inference: &Inference,
    options: &BootstrapOptions,
) -> Result<Effect> {
    options.check()?;
    let mut effect = Effect::of_buckets((t, c), inference, options.interval.method())?;
    let Some(clustered) = effect.cluster(t, c, LEAST_UNITS) else { return Ok(effect) };
    let count = options.replicates as usize;
    let sums_t = weighted_sums(t, clustered.t.totals(), count, options.seed);
    let sums_c = weighted_sums(c, clustered.c.totals(), count, options.seed);
    let shifts = sums_t.ratios().zip(sums_c.ratios());
    effect.infer_draws(
        inference,
        options.interval,
        Draws::new(clustered.estimate, clustered.c.mean, shifts),
    );
    Ok(effect)
}

/// The bootstrap of a difference of means per row, or of ratios of two sums, from stored replicates of units.
///
/// Formula: with one outcome an arm's mean is `R = Σy/N` over the `N` rows, with two it is `R = Σy/Σd`. Replicate `b`
/// is `θ*_b = R*_t − R*_c` with the weighted sums `R* = Y*_b/D*_b` of the summaries, computed as
/// `R + (D·Y*_b − Y·D*_b)/(D·D*_b)`, whose second part is formed exactly and rounded once. Everything else (the replicates
/// that are left out, standard error, intervals, p-values and relative intervals) is as in [`bootstrap`], which gives the
/// same numbers up to rounding while its buckets hold single units. `n_*` are units where they are known and NULL once the
/// summary has more than 64.
///
/// Assumptions: units are independent and were randomised, and the unit of the summary is that unit; sums of many
/// units, no extremes. A percentile interval does not repair the skewness of the data.
///
/// Small samples: as [`bootstrap`]: no estimate without rows or with a denominator that sums to 0; no test and no
/// interval with fewer than 5 units in an arm or without variance in both; `note` says why. NaN or infinite values give
/// NaN.
///
/// # Errors
/// [`Error::Mismatch`] for summaries of different columns or of different resampling, [`Error::Invalid`] for more than
/// two outcomes and for a confidence outside of (0, 1).
///
/// # References
/// Chamandy, Muralidharan, Najmi and Naidu (2012), Estimating uncertainty for massive data streams, Google technical
/// report 43157. Davison and Hinkley (1997), Bootstrap methods and their application, chapter 5,
/// doi:10.1017/CBO9780511802843.
pub fn bootstrap_replicates(
    t: &Replicates,
    c: &Replicates,
    inference: &Inference,
    interval: Interval,
) -> Result<Effect> {
    let mut effect = Effect::of_replicates((t, c), inference, interval.method())?;
    let [arm_t, arm_c] = [t, c].map(Arm::of);
    if !effect.set_ratios(&arm_t.ratio, &arm_c.ratio) {
        return Ok(effect);
    }
    let estimate = arm_t.ratio.minus(&arm_c.ratio);
    if effect.lacks_known_units((t.units(), c.units()), LEAST_UNITS) {
        effect.set_estimate(estimate, effect.mean_control.unwrap_or(f64::NAN));
        return Ok(effect);
    }
    let (Some(shifts_t), Some(shifts_c)) = (arm_t.shifts(t), arm_c.shifts(c)) else {
        effect.set_not_finite();
        return Ok(effect);
    };
    let control = arm_c.ratio.value.unwrap_or(f64::NAN);
    let shifts = shifts_t.into_iter().zip(shifts_c);
    effect.infer_draws(inference, interval, Draws::new(estimate, control, shifts));
    Ok(effect)
}

/// The totals of an arm.
#[derive(Debug)]
struct Arm {
    y: ExactSum,
    d: ExactSum,
    ratio: Ratio,
}

impl Arm {
    fn of(arm: &Replicates) -> Self {
        let sum = arm.sum();
        let (y, d) = match &sum.sums[..arm.columns().outcomes()] {
            [y, d] => (y.clone(), d.clone()),
            sums => (sums[0].clone(), ExactSum::from_integer(sum.n.into())),
        };
        let ratio = Ratio::of(&y, &d);
        Self { y, d, ratio }
    }

    /// `R* − R` of every replicate, `None` over 0; `None` altogether where a value is not finite.
    fn shifts(&self, arm: &Replicates) -> Option<Vec<Option<f64>>> {
        let (y, d) = (Dyadic::of(&self.y)?, Dyadic::of(&self.d)?);
        let totals = arm.totals();
        let ratio = arm.columns().outcomes() == 2;
        let sizes = if ratio { &totals.columns[1] } else { &totals.rows };
        let pairs = totals.columns[0].iter().zip(sizes);
        pairs
            .map(|(y_b, d_b)| {
                let (y_b, d_b) = (Dyadic::of(y_b)?, Dyadic::of(d_b)?);
                let shift = || d.times(&y_b).minus(&y.times(&d_b)).over(&d.times(&d_b));
                Some((!d_b.is_zero()).then(shift))
            })
            .collect()
    }
}

/// The replicates that have both means.
#[derive(Debug)]
struct Draws {
    /// The difference of the means or ratios, and that of control.
    estimate: f64,
    control: f64,
    /// `θ*`.
    effects: Vec<f64>,
    /// `R*_c`.
    controls: Vec<f64>,
    /// Replicates that are empty in an arm.
    empty: usize,
}

impl Draws {
    /// From `R* − R` of treatment and control in every replicate.
    fn new(
        estimate: f64,
        control: f64,
        shifts: impl Iterator<Item = (Option<f64>, Option<f64>)>,
    ) -> Self {
        let mut draws =
            Self { estimate, control, effects: Vec::new(), controls: Vec::new(), empty: 0 };
        for shifts in shifts {
            let (Some(shift_t), Some(shift_c)) = shifts else {
                draws.empty += 1;
                continue;
            };
            draws.effects.push(estimate + (shift_t - shift_c));
            draws.controls.push(control + shift_c);
        }
        draws
    }

    /// The estimate with the variances of the replicates, under the normal law.
    fn difference(&self) -> Difference {
        Difference {
            estimate: self.estimate,
            variance: covariance(&self.effects, &self.effects),
            df: f64::INFINITY,
            control: self.control,
            control_variance: covariance(&self.controls, &self.controls),
            covariance: covariance(&self.effects, &self.controls),
        }
    }

    /// The replicates of the relative effect; `None` where some mean of control has the other sign, or is 0.
    fn relative(&self) -> Option<Vec<f64>> {
        let pairs = self.effects.iter().zip(&self.controls);
        pairs.map(|(e, c)| (c * self.control.signum() > 0.0).then(|| e / c.abs())).collect()
    }
}

impl Effect {
    /// An effect between replicates, with the counts of their units and rows.
    fn of_replicates(
        (t, c): (&Replicates, &Replicates),
        inference: &Inference,
        method: &str,
    ) -> Result<Self> {
        check_mean_or_ratio(t.columns(), c.columns())?;
        if t.resampling() != c.resampling() {
            return Err(Error::Mismatch(format!(
                "expected two summaries of the same resampling, found {} for treatment and {} for control",
                t.resampling(),
                c.resampling()
            )));
        }
        let mut effect = Self {
            n_control: c.units(),
            n_treatment: t.units(),
            rows_control: c.rows(),
            rows_treatment: t.rows(),
            n_dropped: t.dropped() + c.dropped(),
            ..Self::new(inference, method)?
        };
        if t.units().is_none() || c.units().is_none() {
            effect.remark("units are in replicates and not counted");
        }
        Ok(effect)
    }

    /// Sets the inference from replicates.
    fn infer_draws(&mut self, inference: &Inference, interval: Interval, draws: Draws) {
        if draws.empty > 0 {
            let replicates = draws.empty + draws.effects.len();
            self.remark(format!(
                "left out, empty in an arm: {} of {replicates} replicates",
                draws.empty
            ));
        }
        if interval == Interval::Normal {
            self.infer(inference, &draws.difference());
        } else {
            self.infer_order_statistics(inference, interval, draws);
        }
    }

    /// Sets the inference of intervals that are made of order statistics.
    fn infer_order_statistics(&mut self, inference: &Inference, interval: Interval, draws: Draws) {
        let difference = draws.difference();
        let estimate = draws.estimate;
        self.set_estimate(estimate, draws.control);
        let std_error = difference.std_error();
        self.std_error = Some(std_error);
        if self.lacks_finiteness(&difference) || self.lacks_variance(std_error) {
            return;
        }
        self.statistic = Some(estimate / std_error);
        let relative = draws.relative();
        let effects = Sorted::new(draws.effects);
        let basic = interval == Interval::Basic;
        // The basic interval excludes 0 where the percentile one excludes twice the estimate, on the other side.
        self.p_value = Some(if basic {
            effects.p_value(inference.alternative.mirrored(), 2.0 * estimate)
        } else {
            effects.p_value(inference.alternative, 0.0)
        });
        let mirrored =
            |(lower, upper): (f64, f64)| (2.0 * estimate - upper, 2.0 * estimate - lower);
        let ends = if basic {
            let alternative = inference.alternative.mirrored();
            effects.interval(&Inference { alternative, ..*inference }).map(mirrored)
        } else {
            effects.interval(inference)
        };
        let Some((lower, upper)) = ends else {
            return self.remark("no interval: too few replicates for this confidence");
        };
        (self.ci_lower, self.ci_upper) = (Some(lower), Some(upper));
        if self.relative.is_none() {
            return;
        }
        self.relative_std_error = Some(relative::std_error(&difference));
        match relative.and_then(|relative| Sorted::new(relative).interval(inference)) {
            Some((lower, upper)) => {
                (self.relative_ci_lower, self.relative_ci_upper) = (Some(lower), Some(upper));
            }
            None => self.remark("no relative interval: replicates of control change their sign"),
        }
    }
}

impl Alternative {
    fn mirrored(self) -> Self {
        match self {
            Self::TwoSided => Self::TwoSided,
            Self::Greater => Self::Less,
            Self::Less => Self::Greater,
        }
    }
}

/// Replicates in ascending order.
#[derive(Debug)]
struct Sorted(Vec<f64>);

impl Sorted {
    fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    /// From the `k`-th smallest to the `k`-th largest; `None` where `k` is 0.
    fn interval(&self, inference: &Inference) -> Option<(f64, f64)> {
        let alpha = 1.0 - inference.confidence;
        let two_sided = inference.alternative == Alternative::TwoSided;
        let share = if two_sided { alpha / 2.0 } else { alpha };
        // 1 − 0.9 is a little less than 0.1, and 1000 times it a little less than 100.
        let k = (share * (self.0.len() as f64 + 1.0) + 1e-9) as usize;
        if k == 0 {
            return None;
        }
        let (smallest, largest) = (self.0[k - 1], self.0[self.0.len() - k]);
        Some(match inference.alternative {
            Alternative::TwoSided => (smallest, largest),
            Alternative::Greater => (smallest, f64::INFINITY),
            Alternative::Less => (f64::NEG_INFINITY, largest),
        })
    }

    /// The p-value of a null that is `at`; never 0.
    fn p_value(&self, alternative: Alternative, at: f64) -> f64 {
        let total = self.0.len() as f64 + 1.0;
        let below = 1.0 + self.0.partition_point(|&x| x <= at) as f64;
        let above = total - self.0.partition_point(|&x| x < at) as f64;
        match alternative {
            Alternative::TwoSided => (2.0 * below.min(above) / total).min(1.0),
            Alternative::Greater => below / total,
            Alternative::Less => above / total,
        }
    }
}

/// The sample covariance with divisor `n − 1`, in two passes; NaN for fewer than two values.
fn covariance(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let products = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y));
    if x.len() < 2 { f64::NAN } else { products.sum::<f64>() / (n - 1.0) }
}
