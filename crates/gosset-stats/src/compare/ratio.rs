//! The difference of two ratios of sums.

use super::dyadic::{Dyadic, ratio_difference, variance};
use super::effect::Effect;
use super::infer::{Difference, Variance};
use crate::Result;
use crate::exact::ExactSum;
use crate::inference::Inference;
use crate::summary::Moments;

/// The difference of the ratios of two sums, `Σy/Σd`, by the delta method over units; every row is a unit with its
/// numerator and its denominator (the two outcomes of the summary, in this order).
///
/// Formula: `R_t − R_c` with `R = Σy/Σd` and variance `Σ_a s²(L_a)/n_a`, where `L_i = (y_i − R·d_i)/d̄` are the
/// linearised values of an arm; Welch and Satterthwaite's degrees of freedom from `n_a − 1`. `mean_*` are the ratios.
///
/// Assumptions: rows are independent units of randomisation (a ratio per row of such a unit is not a unit); the mean of
/// the denominator is well away from 0, or the interval of a ratio is not about symmetric.
///
/// Small samples: without rows or with a denominator that sums to 0 in an arm there is no estimate; with one unit in an
/// arm, or no variance in both, there is no test and no interval, and `note` says why. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) for summaries of different columns, [`Error::Invalid`](crate::Error::Invalid)
/// unless there are two outcomes, and for a confidence outside of (0, 1).
///
/// # References
/// Deng, Knoblich and Lu (2018), Applying the delta method in metric analytics, KDD '18, 233–242,
/// doi:10.1145/3219819.3219919.
pub fn ratio_test(t: &Moments, c: &Moments, inference: &Inference) -> Result<Effect> {
    let mut effect = Effect::of_moments((t, c), 2, inference, "delta")?;
    let [sums_t, sums_c] = [t, c].map(|arm| Ratio::of(arm.sum(0), arm.sum(1)));
    if effect.set_ratios(&sums_t, &sums_c) {
        effect.infer_ratios((t, &sums_t), (c, &sums_c), inference);
    }
    Ok(effect)
}

/// A ratio of two sums.
#[derive(Debug, Clone)]
pub(super) struct Ratio {
    /// Numerator and denominator, if both are finite.
    sums: Option<(Dyadic, Dyadic)>,
    /// The ratio; `None` over 0.
    pub(super) value: Option<f64>,
}

impl Ratio {
    /// The ratio of two exact sums.
    pub(super) fn of(y: &ExactSum, d: &ExactSum) -> Self {
        let sums = Dyadic::of(y).zip(Dyadic::of(d));
        let value = match &sums {
            Some((_, d)) if d.is_zero() => None,
            Some((y, d)) => Some(y.over(d)),
            None => Some(y.to_f64() / d.to_f64()),
        };
        Self { sums, value }
    }

    /// `self − other`, rounded once; NaN where one of them is not finite or not defined.
    pub(super) fn minus(&self, other: &Self) -> f64 {
        match (&self.sums, &other.sums) {
            (Some((a, b)), Some((c, d))) => ratio_difference((a, b), (c, d)),
            _ => f64::NAN,
        }
    }
}

impl Effect {
    /// Sets the ratios of two arms, as far as there are any; `true` if both arms have one.
    pub(super) fn set_ratios(&mut self, t: &Ratio, c: &Ratio) -> bool {
        (self.mean_treatment, self.mean_control) = (t.value, c.value);
        if self.lacks_rows() {
            return false;
        }
        let defined = t.value.is_some() && c.value.is_some();
        if !defined {
            self.remark("no ratio: a denominator sums to 0");
        }
        defined
    }

    fn infer_ratios(
        &mut self,
        (t, ratio_t): (&Moments, &Ratio),
        (c, ratio_c): (&Moments, &Ratio),
        inference: &Inference,
    ) {
        let estimate = ratio_t.minus(ratio_c);
        let (r_t, r_c) = (ratio_t.value.unwrap_or(f64::NAN), ratio_c.value.unwrap_or(f64::NAN));
        if self.lacks_units((t.n(), c.n()), 2) {
            return self.set_estimate(estimate, r_c);
        }
        let linearised = |arm: &Moments, ratio: f64| {
            let std_deviation = variance(arm, &[(0, 1.0), (1, -ratio)]).sqrt() / arm.mean(1);
            Variance {
                value: std_deviation * std_deviation / arm.n() as f64,
                df: (arm.n() - 1) as f64,
            }
        };
        let (v_t, v_c) = (linearised(t, r_t), linearised(c, r_c));
        self.infer(inference, &Difference::welch(estimate, r_c, v_t, v_c));
    }
}
