//! Tests of two distributions by ranks.

use crate::inference::{Alternative, Inference};
use libm::exp;

use super::effect::Effect;
use crate::dist::normal_sf;
use crate::summary::{Bin, Histogram};
use crate::{Error, Result};

/// The Mann-Whitney (Wilcoxon rank-sum) test; every row is a unit.
///
/// `estimate` is `P(T > C) − P(T < C)` for a unit of each arm, from −1 to 1 (Cliff's delta, the rank-biserial
/// correlation), so that 0 is no effect and ½ + ½·estimate the probability of superiority.
///
/// Formula: with `U = #{t > c} + ½#{t = c}` over the `nm` pairs, `statistic` is `z = (U − nm/2)/σ` with
/// `σ² = nm/12·(N + 1 − Σ(g³ − g)/(N(N − 1)))` over the groups of `g` tied values among all `N`, and the p-value is that of
/// the normal law with a continuity correction of ½. There is no interval: the test is of equal distributions, and its
/// variance holds for no other.
///
/// Values of one bin of a histogram count as tied; see [`Histogram::relative_error`].
///
/// Small samples: without rows in an arm, or where all values are tied, there is no test, and `note` says why. With fewer
/// than about 10 rows in each arm the normal law is rough.
///
/// # Errors
/// [`Error::Mismatch`] for histograms of different columns, [`Error::Invalid`] for histograms of units with many rows each
/// and for a confidence outside of (0, 1).
///
/// # References
/// Mann and Whitney (1947), On a test of whether one of two random variables is stochastically larger than the other,
/// Annals of Mathematical Statistics 18(1), 50–60, doi:10.1214/aoms/1177730491. Cliff (1993), Dominance statistics,
/// Psychological Bulletin 114(3), 494–509, doi:10.1037/0033-2909.114.3.494.
pub fn mann_whitney(t: &Histogram, c: &Histogram, inference: &Inference) -> Result<Effect> {
    let (mut effect, merged) = Effect::of_ranks((t, c), inference, "mann-whitney")?;
    let Some(merged) = merged else { return Ok(effect) };
    let (n, m) = (u128::from(t.rows()), u128::from(c.rows()));
    let total = (n + m) as f64;
    // Twice U, and the sum over ties, as integers.
    let (mut below, mut twice_u, mut ties) = (0u128, 0u128, 0.0f64);
    for (rows_t, rows_c) in merged {
        let (rows_t, rows_c) = (u128::from(rows_t), u128::from(rows_c));
        twice_u += rows_t * (2 * below + rows_c);
        below += rows_c;
        let group = (rows_t + rows_c) as f64;
        ties += group * (group - 1.0) * (group + 1.0);
    }
    let pairs = (n * m) as f64;
    // U − nm/2, exact before it is rounded.
    let excess = (twice_u as i128 - (n * m) as i128) as f64 / 2.0;
    effect.estimate = Some(2.0 * excess / pairs);
    let variance = pairs / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        effect.remark("all values are tied: no test");
        return Ok(effect);
    }
    let deviation = variance.sqrt();
    effect.statistic = Some(excess / deviation);
    effect.df = Some(f64::INFINITY);
    effect.p_value = Some(match inference.alternative {
        Alternative::TwoSided => (2.0 * normal_sf((excess.abs() - 0.5) / deviation)).min(1.0),
        Alternative::Greater => normal_sf((excess - 0.5) / deviation),
        Alternative::Less => normal_sf((-excess - 0.5) / deviation),
    });
    Ok(effect)
}

/// The two-sample Kolmogorov-Smirnov test; every row is a unit.
///
/// `statistic` is `D = max_x |F_t(x) − F_c(x)|`; for `greater` (treatment above control) it is `max_x (F_c − F_t)`, for
/// `less` `max_x (F_t − F_c)`. The p-value is that of the limit law at `λ = D·√(nm/(n + m))`: two-sided
/// `2 Σ_k (−1)^{k−1} exp(−2k²λ²)`, one-sided `exp(−2λ²)`. There is no estimate of an effect and no interval.
///
/// Assumptions: continuous distributions; with ties the test is conservative. Values of one bin of a histogram count as
/// tied; see [`Histogram::relative_error`].
///
/// Small samples: without rows in an arm there is no test, and `note` says so. With fewer than about 50 rows in each arm
/// the limit law is rough, and conservative.
///
/// # Errors
/// As [`mann_whitney`].
///
/// # References
/// Smirnov (1948), Table for estimating the goodness of fit of empirical distributions, Annals of Mathematical Statistics
/// 19(2), 279–281, doi:10.1214/aoms/1177730256.
pub fn ks_test(t: &Histogram, c: &Histogram, inference: &Inference) -> Result<Effect> {
    let (mut effect, merged) = Effect::of_ranks((t, c), inference, "kolmogorov-smirnov")?;
    let Some(merged) = merged else { return Ok(effect) };
    let (n, m) = (i128::from(t.rows()), i128::from(c.rows()));
    // (F_c − F_t)·nm, exact.
    let (mut passed_t, mut passed_c) = (0i128, 0i128);
    let (mut above, mut below) = (0i128, 0i128);
    for (rows_t, rows_c) in merged {
        passed_t += i128::from(rows_t);
        passed_c += i128::from(rows_c);
        let difference = passed_c * n - passed_t * m;
        (above, below) = (above.max(difference), below.max(-difference));
    }
    let largest = match inference.alternative {
        Alternative::TwoSided => above.max(below),
        Alternative::Greater => above,
        Alternative::Less => below,
    };
    let d = largest as f64 / (n * m) as f64;
    let lambda = d * ((n * m) as f64 / (n + m) as f64).sqrt();
    effect.statistic = Some(d);
    effect.p_value = Some(match inference.alternative {
        Alternative::TwoSided => kolmogorov_sf(lambda),
        _ => exp(-2.0 * lambda * lambda),
    });
    Ok(effect)
}

/// `P(K > λ)` for the limit law of Kolmogorov.
fn kolmogorov_sf(lambda: f64) -> f64 {
    if lambda <= 0.0 {
        return 1.0;
    }
    if lambda < 1.0 {
        // 1 − √(2π)/λ Σ exp(−(2k − 1)²π²/(8λ²)): the series that converges for small λ.
        let z = std::f64::consts::PI.powi(2) / (8.0 * lambda * lambda);
        let sum: f64 = (1..=10).map(|k| exp(-f64::from(2 * k - 1).powi(2) * z)).sum();
        return 1.0 - (2.0 * std::f64::consts::PI).sqrt() / lambda * sum;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * exp(-2.0 * f64::from(k * k) * lambda * lambda)
    };
    (1..=10).map(term).sum()
}

impl Effect {
    /// An effect between histograms of rows with its counts; the rows of treatment and control by value unless there is
    /// nothing to compare.
    fn of_ranks(
        (t, c): (&Histogram, &Histogram),
        inference: &Inference,
        method: &str,
    ) -> Result<(Self, Option<RowsByValue>)> {
        let mut effect = Self::of_arms(t, c, inference, method)?;
        if t.resampling().is_some() || c.resampling().is_some() {
            return Err(Error::Invalid(
                "expected histograms of rows that are units, found histograms of units with weights".into(),
            ));
        }
        // Arms are compared value by value: a coarse one makes the other coarse.
        let (mut all_t, mut all_c) = (t.clone(), c.clone());
        let (t_bins, c_bins) = Histogram::aligned(&mut all_t, &mut all_c)?;
        let error = t.relative_error().max(c.relative_error());
        if error > 0.0 {
            effect.remark(format!("values are binned to a relative error of {error}"));
        }
        if effect.lacks_rows() {
            return Ok((effect, None));
        }
        if t.not_finite() + c.not_finite() > 0 {
            (effect.estimate, effect.statistic, effect.p_value) =
                (Some(f64::NAN), Some(f64::NAN), Some(f64::NAN));
            effect.remark("values are NaN or infinite");
            return Ok((effect, None));
        }
        Ok((effect, Some(merged(&t_bins, &c_bins))))
    }
}

/// Rows of treatment and of control, in ascending order of their values.
type RowsByValue = Vec<(u64, u64)>;

/// The rows of both in every bin of either, in ascending order.
fn merged(t: &[Bin], c: &[Bin]) -> RowsByValue {
    let (mut i, mut j) = (0, 0);
    let mut rows = Vec::with_capacity(t.len() + c.len());
    while i < t.len() || j < c.len() {
        let order = match (t.get(i), c.get(j)) {
            (Some(a), Some(b)) => a.order(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        let of_t = if order.is_le() { t[i].rows } else { 0 };
        let of_c = if order.is_ge() { c[j].rows } else { 0 };
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
        rows.push((of_t, of_c));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy.stats.kstwobign.sf.
    #[test]
    fn the_limit_law_is_that_of_kolmogorov() {
        for (lambda, expected) in [
            (0.3, 0.999_990_694_198_665_5),
            (0.8, 0.544_142_411_574_198_1),
            (1.0, 0.269_999_671_677_354_56),
            (1.358_098_617_5, 0.050_000_005_927_157_67),
            (2.5, 7.453_306_344_157_342e-6),
        ] {
            let found = kolmogorov_sf(lambda);
            assert!((found / expected - 1.0).abs() < 1e-13, "{lambda}: {found}");
        }
        // Both series where they meet.
        assert!((kolmogorov_sf(1.0 - 1e-12) - kolmogorov_sf(1.0)).abs() < 1e-11);
    }
}
