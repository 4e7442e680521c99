//! The bootstrap from stored replicates of units.

use super::bootstrap::{Interval, LEAST_UNITS};
use super::draws::{Deviations, Draws, Ends};
use super::dyadic::Dyadic;
use super::effect::Effect;
use super::metric::Metric;
use super::ratio::Ratio;
use crate::exact::ExactSum;
use crate::inference::Inference;
use crate::summary::{Law, ReplicateTotals, Replicates};
use crate::{Error, Result};

/// The bootstrap of a difference of means per row, or of ratios of two sums, from stored replicates of units.
///
/// Formula: with one outcome an arm's mean is `R = Σy/N` over the `N` rows, with two it is `R = Σy/Σd`. Replicate `b`
/// is `θ*_b = R*_t − R*_c` with the weighted sums `R* = Y*_b/D*_b` of the summaries, computed as
/// `R + (D·Y*_b − Y·D*_b)/(D·D*_b)`, whose second part is formed exactly and rounded once. Everything else (the replicates
/// that are left out, standard error, intervals, p-values and relative intervals) is as in
/// [`bootstrap`](super::bootstrap), which gives the same numbers up to rounding while its buckets hold single units and
/// the law is Poisson. The acceleration of bca intervals comes from the buckets beside the replicates. There are no
/// studentized intervals: the standard error of a replicate takes the totals of its units. `n_*` are units where they are
/// known, and NULL for crossed factors.
///
/// Assumptions: units are independent and were randomised, and the unit of the summary is that unit; sums of many
/// units, no extremes. Of crossed factors the variance is somewhat too large rather than too small (Owen and Eckles).
/// A percentile interval does not repair the skewness of the data.
///
/// Small samples: as [`bootstrap`](super::bootstrap): no estimate without rows or with a denominator that sums to 0; no
/// test and no interval with fewer than 5 units in an arm or without variance in both; `note` says why. NaN or infinite
/// values give NaN.
///
/// # Errors
/// [`Error::Mismatch`] for summaries of different columns or of different resampling, [`Error::Invalid`] for more than
/// two outcomes, for a confidence outside of (0, 1), for studentized intervals, and for bca without buckets.
///
/// # References
/// Chamandy, Muralidharan, Najmi and Naidu (2012), Estimating uncertainty for massive data streams, Google technical
/// report 43157. Owen and Eckles (2012), Bootstrapping data arrays of arbitrary order, Annals of Applied Statistics 6(3),
/// 895–927, doi:10.1214/12-AOAS547. Rubin (1981), The Bayesian bootstrap, Annals of Statistics 9(1), 130–134,
/// doi:10.1214/aos/1176345338.
pub fn bootstrap_replicates(
    t: &Replicates,
    c: &Replicates,
    inference: &Inference,
    interval: Interval,
) -> Result<Effect> {
    let mut effect = Effect::of_replicates((t, c), inference, interval, "")?;
    let metric = Metric::only(t.columns())?;
    let ends = Ends::of_replicates((t, c), metric, interval, &effect)?;
    effect.infer_replicates((t, c), (&t.totals(), &c.totals()), metric, (inference, &ends));
    Ok(effect)
}

/// The bootstrap of the difference of means per row, adjusted for covariates (CUPED), from stored replicates of units
/// with buckets beside them.
///
/// Formula: θ is that of [`bootstrap_cuped`](super::bootstrap_cuped), from the buckets; a replicate is
/// `θ*_b = Σ_a ±(R*_y − θ'R*_x)` with the replicates of the columns. Otherwise as [`bootstrap_replicates`].
///
/// # Errors
/// As [`bootstrap_replicates`], and [`Error::Invalid`] without buckets or covariates.
pub fn bootstrap_cuped_replicates(
    t: &Replicates,
    c: &Replicates,
    inference: &Inference,
    interval: Interval,
) -> Result<Effect> {
    let mut effect = Effect::of_replicates((t, c), inference, interval, " cuped")?;
    let (Some(buckets_t), Some(buckets_c)) = (t.buckets(), c.buckets()) else {
        return Err(Error::Invalid(
            "expected replicates with buckets beside them, which the adjustment takes".into(),
        ));
    };
    let Some(adjusted) = effect.cluster_adjusted(buckets_t, buckets_c, LEAST_UNITS)? else {
        return Ok(effect);
    };
    let shifts = |summary: &Replicates| -> Option<Vec<Option<f64>>> {
        let totals = summary.totals();
        let mut shifts = Arm::new(summary, Metric::mean(0)).shifts(&totals)?;
        for (column, theta) in adjusted.theta() {
            let of_column = Arm::new(summary, Metric::mean(column)).shifts(&totals)?;
            for (shift, x) in shifts.iter_mut().zip(of_column) {
                *shift = shift.zip(x).map(|(shift, x)| shift - theta * x);
            }
        }
        Some(shifts)
    };
    let (Some(shifts_t), Some(shifts_c)) = (shifts(t), shifts(c)) else {
        effect.set_not_finite();
        return Ok(effect);
    };
    let clustered = &adjusted.clustered;
    let shifts = shifts_t.into_iter().zip(shifts_c);
    let draws = Draws::new(clustered.estimate, clustered.c.mean, shifts);
    let ends = match interval {
        Interval::Bca => Ends::Bca(clustered.acceleration()),
        other => Ends::of(other)?,
    };
    effect.infer_draws(inference, &ends, draws);
    effect.remark_adjustment(&adjusted);
    Ok(effect)
}

impl Effect {
    /// Sets the inference of a metric from the replicates of both arms, and hands them on.
    pub(super) fn infer_replicates(
        &mut self,
        (t, c): (&Replicates, &Replicates),
        (totals_t, totals_c): (&ReplicateTotals, &ReplicateTotals),
        metric: Metric,
        (inference, ends): (&Inference, &Ends),
    ) -> Deviations {
        let [arm_t, arm_c] = [t, c].map(|arm| Arm::new(arm, metric));
        if !self.set_ratios(&arm_t.ratio, &arm_c.ratio) {
            return Deviations::default();
        }
        let estimate = arm_t.ratio.minus(&arm_c.ratio);
        let control = arm_c.ratio.value.unwrap_or(f64::NAN);
        if self.lacks_known_units((t.units(), c.units()), LEAST_UNITS) {
            self.set_estimate(estimate, control);
            return Deviations::default();
        }
        let (Some(shifts_t), Some(shifts_c)) = (arm_t.shifts(totals_t), arm_c.shifts(totals_c))
        else {
            self.set_not_finite();
            return Deviations::default();
        };
        let draws = Draws::new(estimate, control, shifts_t.into_iter().zip(shifts_c));
        self.infer_draws(inference, ends, draws)
    }
}

impl Ends {
    /// Of a metric of replicates, which may have buckets beside them.
    pub(super) fn of_replicates(
        (t, c): (&Replicates, &Replicates),
        metric: Metric,
        interval: Interval,
        effect: &Effect,
    ) -> Result<Self> {
        match (interval, t.buckets(), c.buckets()) {
            (Interval::Bca, Some(t), Some(c)) => {
                // No more is asked of the clusters than their skewness: what else they say is said elsewhere.
                let clustered = effect.clone().cluster((t, c), metric, LEAST_UNITS);
                Ok(Self::Bca(clustered.map_or(0.0, |clustered| clustered.acceleration())))
            }
            _ => Self::of(interval),
        }
    }

    /// Of an interval that takes no more than the replicates.
    fn of(interval: Interval) -> Result<Self> {
        match interval {
            Interval::Percentile => Ok(Self::Percentile),
            Interval::Normal => Ok(Self::Normal),
            Interval::Basic => Ok(Self::Basic),
            Interval::Studentized => Err(Error::Invalid(
                "expected buckets for a studentized interval, since the standard error of a replicate takes the totals of its units; found replicates"
                    .into(),
            )),
            Interval::Bca => Err(Error::Invalid(
                "expected replicates with buckets beside them for a bca interval, since its acceleration takes the totals of units"
                    .into(),
            )),
        }
    }
}

/// The totals of a metric in an arm.
#[derive(Debug)]
struct Arm {
    metric: Metric,
    y: ExactSum,
    d: ExactSum,
    ratio: Ratio,
}

impl Arm {
    fn new(arm: &Replicates, metric: Metric) -> Self {
        let sum = arm.sum();
        let y = sum.sums[metric.numerator].clone();
        let d = match metric.denominator {
            Some(d) => sum.sums[d].clone(),
            None => ExactSum::from_integer(sum.n.into()),
        };
        let ratio = Ratio::of(&y, &d);
        Self { metric, y, d, ratio }
    }

    /// `R* − R` of every replicate, `None` over 0; `None` altogether where a value is not finite.
    fn shifts(&self, totals: &ReplicateTotals) -> Option<Vec<Option<f64>>> {
        let (y, d) = (Dyadic::of(&self.y)?, Dyadic::of(&self.d)?);
        let sizes = self.metric.denominator.map_or(&totals.rows, |d| &totals.columns[d]);
        let pairs = totals.columns[self.metric.numerator].iter().zip(sizes);
        pairs
            .map(|(y_b, d_b)| {
                let (y_b, d_b) = (Dyadic::of(y_b)?, Dyadic::of(d_b)?);
                let shift = || d.times(&y_b).minus(&y.times(&d_b)).over(&d.times(&d_b));
                Some((!d_b.is_zero()).then(shift))
            })
            .collect()
    }
}

impl Effect {
    /// An effect between replicates, with the counts of their units and rows.
    pub(super) fn of_replicates(
        (t, c): (&Replicates, &Replicates),
        inference: &Inference,
        interval: Interval,
        suffix: &str,
    ) -> Result<Self> {
        if t.resampling() != c.resampling() {
            return Err(Error::Mismatch(format!(
                "expected two summaries of the same resampling, found {} for treatment and {} for control",
                t.resampling(),
                c.resampling()
            )));
        }
        let resampling = t.resampling();
        if let Law::Assignment(_) = resampling.law {
            return Err(Error::Invalid(
                "expected replicates of bootstrap weights, found those of a new assignment".into(),
            ));
        }
        let crossed = if resampling.crossed { " crossed" } else { "" };
        let law = resampling.law.name();
        let method = format!("bootstrap{crossed} {law} {}{suffix}", interval.name());
        let mut effect = Self::of_arms(t, c, inference, &method)?;
        if resampling.crossed {
            effect.remark("units are pairs of two factors");
        } else {
            effect.remark_uncounted("replicates");
        }
        Ok(effect)
    }
}
