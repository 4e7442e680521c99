//! CUPED of a ratio of sums: outcome and covariates linearised.

use super::covariates::Kept;
use super::dyadic::{form_comoment, mean_difference, variance};
use super::effect::Effect;
use super::infer::{Difference, Variance};
use super::metric::Metric;
use super::ratio::Ratio;
use crate::Result;
use crate::inference::Inference;
use crate::linalg::Factor;
use crate::summary::Moments;

/// The difference of the ratios of two sums, `Σy/Σd`, adjusted for covariates from before the experiment, which may be
/// ratios themselves; every row is a unit with its sums.
///
/// Formula: `ΔR − θ'ΔX` where `X` is the mean of a covariate, or the ratio of one that has a numerator and a denominator
/// (a pair of columns, see [`NUMERATOR`](crate::summary::moments::NUMERATOR)). By the delta method a ratio moves as the mean of
/// its linearised values `L_i = (y_i − R·d_i)/d̄`, with the ratio of the arm, so that `θ = (Σ_a M_a(X, X))⁻¹ Σ_a M_a(X, L)` from
/// the sums of squares and products within the arms of the covariates and linearised covariates. The variance is `Σ_a s²_a(L −
/// θ'X)/n_a`, exact for the given coefficients, with Welch and Satterthwaite's degrees of freedom from `n_a − 1`. `relative`
/// is over the adjusted ratio of control, `R_c − θ'(X_c − X̄)` with the mean `X̄` over the units of both arms.
/// `variance_reduction` compares with [`ratio_test`](super::ratio_test). `mean_*` are the ratios, not adjusted.
///
/// A unit without rows before the experiment has a numerator and a denominator of 0 there and no part in that ratio, and
/// needs no indicator. Covariates that are constant within both arms, depend on those before them, or are a ratio over 0,
/// are left out, and `note` names them.
///
/// Assumptions: those of [`ratio_test`](super::ratio_test) and [`cuped`](super::cuped).
///
/// Small samples: as [`ratio_test`](super::ratio_test).
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) for summaries of different columns, [`Error::Invalid`](crate::Error::Invalid)
/// unless there are two outcomes and at least one covariate, or for a confidence outside of (0, 1).
///
/// # References
/// Deng, Xu, Kohavi and Walker (2013), Improving the sensitivity of online controlled experiments by utilizing
/// pre-experiment data, WSDM '13, 123–132, section 3.4, doi:10.1145/2433396.2433413. Deng, Knoblich and Lu (2018), Applying
/// the delta method in metric analytics, KDD '18, 233–242, doi:10.1145/3219819.3219919.
pub fn cuped_ratio(t: &Moments, c: &Moments, inference: &Inference) -> Result<Effect> {
    let (mut effect, t, c) = Effect::adjusted((t, c), 2, inference, "cuped ratio")?;
    let outcome = Metric { numerator: 0, denominator: Some(1) };
    let [ratio_t, ratio_c] = [&t, &c].map(|arm| ratio(arm, outcome));
    if !effect.set_ratios(&ratio_t, &ratio_c) {
        return Ok(effect);
    }
    let (unadjusted, r_c) = (ratio_t.minus(&ratio_c), effect.mean_control.unwrap_or(f64::NAN));
    if effect.lacks_units((t.n(), c.n()), 2) {
        effect.set_estimate(unadjusted, r_c);
        return Ok(effect);
    }
    let outcome = Linear::new((&t, &c), outcome);
    let covariates: Vec<Linear> =
        Metric::covariates(&t).into_iter().map(|metric| Linear::new((&t, &c), metric)).collect();
    let pooled =
        |a: &Linear, b: &Linear| form_comoment(&t, &a.t, &b.t) + form_comoment(&c, &a.c, &b.c);
    let mut factor = Factor::default();
    let mut used: Vec<&Linear> = Vec::new();
    let kept = Kept::choose(covariates.iter().map(|x| x.column), |column, _| {
        let Some(x) = covariates.iter().find(|x| x.column == column && x.defined) else {
            return false;
        };
        let row: Vec<f64> = used.iter().chain([&x]).map(|other| pooled(x, other)).collect();
        let row = factor.next_row(&row).map(|row| factor.push(row));
        row.map(|()| used.push(x)).is_some()
    });
    effect.remark_covariates(&t, &c, &kept);
    let with_outcome: Vec<f64> = used.iter().map(|x| pooled(x, &outcome)).collect();
    let theta = factor.solve(&with_outcome);
    let shift: f64 = used.iter().zip(&theta).map(|(x, theta)| theta * x.difference).sum();
    let share = t.n() as f64 / (t.n() as f64 + c.n() as f64);
    let (estimate, control) = (unadjusted - shift, r_c + share * shift);

    // Exact for the coefficients of the sum of all forms.
    let left = |arm: &Moments, form: fn(&Linear) -> &Form| {
        let mut sum = form(&outcome).clone();
        for (x, theta) in used.iter().zip(&theta) {
            sum.extend(form(x).iter().map(|&(column, weight)| (column, -theta * weight)));
        }
        let (left, all) = (variance(arm, &sum), variance(arm, form(&outcome)));
        let value =
            |variance: f64| Variance { value: variance / arm.n() as f64, df: (arm.n() - 1) as f64 };
        // What rounding leaves of a perfect fit.
        (value(if left <= 1e-24 * all { 0.0 } else { left }), value(all))
    };
    let ((v_t, plain_t), (v_c, plain_c)) = (left(&t, |x| &x.t), left(&c, |x| &x.c));
    let difference = Difference::welch(estimate, control, v_t, v_c);
    effect.infer(inference, &difference);
    effect
        .set_variance_reduction(&difference, &Difference::welch(unadjusted, r_c, plain_t, plain_c));
    Ok(effect)
}

/// A sum of columns with weights.
type Form = Vec<(usize, f64)>;

/// A mean or ratio as the mean of its linearised values.
#[derive(Debug)]
struct Linear {
    column: usize,
    t: Form,
    c: Form,
    /// Of the means or ratios, treatment − control.
    difference: f64,
    /// Whether both arms have it.
    defined: bool,
}

impl Linear {
    fn new((t, c): (&Moments, &Moments), metric: Metric) -> Self {
        let column = metric.numerator;
        let Some(d) = metric.denominator else {
            let form = vec![(column, 1.0)];
            let difference = mean_difference(t, c, &form);
            return Self { column, t: form.clone(), c: form, difference, defined: true };
        };
        let [ratio_t, ratio_c] = [t, c].map(|arm| ratio(arm, metric));
        let form = |arm: &Moments, ratio: &Ratio| {
            let (mean, ratio) = (arm.mean(d), ratio.value.unwrap_or(f64::NAN));
            vec![(column, 1.0 / mean), (d, -ratio / mean)]
        };
        Self {
            column,
            t: form(t, &ratio_t),
            c: form(c, &ratio_c),
            difference: ratio_t.minus(&ratio_c),
            defined: ratio_t.value.is_some() && ratio_c.value.is_some(),
        }
    }
}

fn ratio(arm: &Moments, metric: Metric) -> Ratio {
    let d = metric.denominator.unwrap_or(metric.numerator);
    Ratio::of(arm.sum(metric.numerator), arm.sum(d))
}
