//! CUPED: adjustment for covariates with one coefficient for both arms.

use super::covariates::{Kept, residual_variance};
use super::dyadic::{comoment, mean_difference};
use super::effect::Effect;
use super::infer::{Difference, Variance};
use super::ttest::welch;
use crate::Result;
use crate::inference::Inference;
use crate::linalg::Factor;
use crate::summary::Moments;

/// The difference of means, adjusted for covariates from before the experiment; every row is a unit.
///
/// Formula: `Δȳ − θ'Δx̄` with `θ = (Σ_a M_xx,a)⁻¹ Σ_a M_xy,a` from the sums of squares and products within the arms, so
/// that θ holds no trace of the effect. The variance is `Σ_a s²_a(y − θ'x)/n_a`, exact for the given θ, with Welch and
/// Satterthwaite's degrees of freedom from `n_a − 1`: θ costs none. `relative` is over the adjusted mean of control,
/// `ȳ_c − θ'(x̄_c − x̄)` with the mean `x̄` over both arms, which is taken as fixed. `variance_reduction` compares with
/// Welch's test of the same rows. `mean_*` are not adjusted.
///
/// A covariate that is missing in some rows comes with an indicator column of its own (see [`Moments`]), which is one
/// more covariate here. Columns that are constant within both arms, or depend on those before them, are left out, and
/// `note` names them.
///
/// Assumptions: rows are independent units of randomisation; covariates are not affected by the treatment; many more
/// units than covariates.
///
/// Small samples: without rows in an arm there is no estimate; with one unit in an arm, or no variance left in both,
/// there is no test and no interval, and `note` says why. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) for summaries of different columns, [`Error::Invalid`](crate::Error::Invalid)
/// for more than one outcome, no covariate, or a confidence outside of (0, 1).
///
/// # References
/// Deng, Xu, Kohavi and Walker (2013), Improving the sensitivity of online controlled experiments by utilizing
/// pre-experiment data, WSDM '13, 123–132, doi:10.1145/2433396.2433413.
pub fn cuped(t: &Moments, c: &Moments, inference: &Inference) -> Result<Effect> {
    let (mut effect, t, c) = Effect::adjusted((t, c), 1, inference, "cuped")?;
    if !effect.set_means(&t, &c) {
        return Ok(effect);
    }
    let pooled = |i: usize, j: usize| comoment(&t, i, j) + comoment(&c, i, j);
    let mut factor = Factor::default();
    let kept = Kept::choose(1..t.width(), |column, kept| {
        let row: Vec<f64> = kept.iter().chain([&column]).map(|&k| pooled(column, k)).collect();
        factor.next_row(&row).map(|row| factor.push(row)).is_some()
    });
    effect.remark_covariates(&t, &c, &kept);
    let with_outcome: Vec<f64> = kept.columns.iter().map(|&column| pooled(column, 0)).collect();
    let weights = kept.weights(&factor.solve(&with_outcome));
    let estimate = mean_difference(&t, &c, &weights);
    // The mean of control at the covariates' mean over both arms: x̄_c − x̄ is −n_t/N of x̄_t − x̄_c.
    let share = t.n() as f64 / (t.n() as f64 + c.n() as f64);
    let control = c.mean(0) - share * (estimate - mean_difference(&t, &c, &[(0, 1.0)]));
    if effect.lacks_units((t.n(), c.n()), 2) {
        effect.set_estimate(estimate, control);
        return Ok(effect);
    }
    let [v_t, v_c] = [&t, &c].map(|arm| Variance {
        value: residual_variance(arm, &weights) / arm.n() as f64,
        df: (arm.n() - 1) as f64,
    });
    let difference = Difference::welch(estimate, control, v_t, v_c);
    effect.infer(inference, &difference);
    effect.set_variance_reduction(&difference, &welch(&t, &c, estimate));
    Ok(effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(names: &[&str], columns: &[&[f64]]) -> Moments {
        Moments::of(names, 1, columns).expect("valid columns")
    }

    #[test]
    fn theta_is_pooled_within_the_arms() {
        // Within treatment Σxx = 2, Σxy = 4; within control Σxx = 8, Σxy = 6: θ = 10/10, not cov/var of all rows.
        let t = arm(&["y", "x"], &[&[10.0, 12.0, 14.0], &[1.0, 2.0, 3.0]]);
        let c = arm(&["y", "x"], &[&[2.0, 5.0, 5.0], &[2.0, 4.0, 6.0]]);
        let e = cuped(&t, &c, &Inference::default()).expect("valid summaries");
        // Δȳ − θΔx̄ = (12 − 4) − (2 − 4).
        assert_eq!(e.estimate, Some(10.0));
        // y − x is 9, 10, 11 and 0, 1, −1: variances 1 and 1 over 3 units each.
        assert!((e.std_error.expect("defined") - (2.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(e.df, Some(4.0));
        // The mean of control at x̄ = 3: 4 − (4 − 3).
        assert_eq!(e.relative, Some(10.0 / 3.0));
        assert_eq!((e.mean_treatment, e.mean_control), (Some(12.0), Some(4.0)));
        // Unadjusted: variances 4 and 3 over 3.
        assert!((e.variance_reduction.expect("defined") - (1.0 - 2.0 / 7.0)).abs() < 1e-15);
    }

    #[test]
    fn a_perfect_covariate_leaves_the_effect_and_no_variance() {
        let x_t: Vec<f64> = (0..50).map(f64::from).collect();
        let x_c: Vec<f64> = (10..80).map(f64::from).collect();
        let y_t: Vec<f64> = x_t.iter().map(|x| 3.0 * x + 105.0).collect();
        let mut y_c: Vec<f64> = x_c.iter().map(|x| 3.0 * x + 100.0).collect();
        let t = arm(&["y", "x"], &[&y_t, &x_t]);
        let e = cuped(&t, &arm(&["y", "x"], &[&y_c, &x_c]), &Inference::default());
        let e = e.expect("valid summaries");
        assert_eq!((e.estimate, e.std_error, e.p_value), (Some(5.0), Some(0.0), None));
        assert_eq!(e.variance_reduction, Some(1.0));
        // Next to perfect: the variance is what is left, not the noise of a difference.
        y_c[0] += 1e-6;
        let e = cuped(&t, &arm(&["y", "x"], &[&y_c, &x_c]), &Inference::default());
        let se = e.expect("valid summaries").std_error.expect("defined");
        assert!(se > 0.0 && se < 1e-7, "{se}");
    }

    #[test]
    fn covariates_that_tell_nothing_are_left_out_and_named() {
        let y: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        let x: Vec<f64> = (0..40).map(|i| f64::from(i % 7)).collect();
        let twice: Vec<f64> = x.iter().map(|x| 2.0 * x - 1.0).collect();
        let constant = vec![0.1; 40];
        let all = |y: &[f64]| arm(&["y", "c", "x", "twice"], &[y, &constant, &x, &twice]);
        let only = |y: &[f64]| arm(&["y", "x"], &[y, &x]);
        let shifted: Vec<f64> = y.iter().rev().map(|y| y + 0.5).collect();
        let inference = Inference::default();
        let found = cuped(&all(&shifted), &all(&y), &inference).expect("valid summaries");
        let expected = cuped(&only(&shifted), &only(&y), &inference).expect("valid summaries");
        let note = found.note.clone().expect("a note");
        assert!(note.contains("left out") && note.contains("'c', 'twice'"), "{note}");
        assert_eq!(Effect { note: None, ..found }, expected);
        let useless = |y: &[f64]| arm(&["y", "c"], &[y, &constant]);
        let e = cuped(&useless(&shifted), &useless(&y), &inference).expect("valid summaries");
        assert!(e.note.expect("a note").contains("not adjusted"));
        assert_eq!(e.variance_reduction, Some(0.0));
    }
}
