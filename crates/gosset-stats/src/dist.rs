//! Tail probabilities and quantiles of the normal, Student and chi-squared laws.
//!
//! Everything is a survival function: `1 − cdf` would lose the small p-values that matter. Relative accuracy is about
//! 1e-14 in the body and 1e-13 in the far tails, for any degrees of freedom from 1 to infinity, integer or not.
//! (statrs 0.19 stops its continued fraction after 140 terms and subtracts logarithms of gamma functions, so it loses
//! digits from a few thousand degrees of freedom on; hence functions of our own.)
//!
//! `exp`, `ln` and `erfc` are those of the `libm` crate, not of the platform: they are made of IEEE additions,
//! multiplications, divisions and square roots alone, so a p-value is the same bits on every machine too.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, PI};

use libm::{erfc, exp, expm1, log, log1p, scalbn};

/// `P(Z > z)` for a standard normal `Z`.
pub fn normal_sf(z: f64) -> f64 {
    // z²/2 as a sum of two doubles: erfc magnifies a rounding of its argument by the square of it.
    let square = z * (z / 2.0);
    if z <= 0.0 || !square.is_normal() {
        return erfc(z * FRAC_1_SQRT_2) / 2.0;
    }
    erfc_sqrt(square, z.mul_add(z / 2.0, -square)) / 2.0
}

/// The `z` with `P(Z > z) = p`. Infinite at 0 and 1, NaN outside of `[0, 1]`.
pub fn normal_isf(p: f64) -> f64 {
    t_isf(p, f64::INFINITY)
}

/// `P(T > t)` for a Student `T` with `df` degrees of freedom, which may be infinite.
///
/// Formula: `½·I_x(df/2, ½)` with `x = df/(df + t²)` for `t ≥ 0`, its complement below; all terms that are added are
/// positive, so that nothing cancels. NaN unless `df > 0`.
///
/// References: DiDonato and Morris (1992), ACM TOMS 18(3), 360–373, doi:10.1145/131766.131776 (the expansion for a
/// large first parameter).
pub fn t_sf(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        f64::NAN
    } else if df == f64::INFINITY {
        normal_sf(t)
    } else if t < 0.0 {
        1.0 - t_tail(-t, df).probability
    } else {
        t_tail(t, df).probability
    }
}

/// `P(|T| > |t|)`: the two-sided p-value.
pub fn t_two_sided(t: f64, df: f64) -> f64 {
    2.0 * t_sf(t.abs(), df)
}

/// The `t` with `P(T > t) = p`. Infinite at 0 and 1, NaN outside of `[0, 1]` and unless `df > 0`.
///
/// Newton's method for `ln P(T > eˢ)`, which is concave and falling in `s`: it converges from every start.
pub fn t_isf(p: f64, df: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if p >= 0.5 {
        return if p > 0.5 { -t_isf(1.0 - p, df) } else { 0.0 };
    }
    if p == 0.0 {
        return f64::INFINITY;
    }
    let mut t = t_isf_guess(p, df);
    for _ in 0..100 {
        let tail = if df == f64::INFINITY { normal_tail(t) } else { t_tail(t, df) };
        let step = log(tail.probability / p) * tail.probability / tail.slope;
        t *= exp(step);
        // Newton doubles the digits: what is left after this step is of the order of its square.
        if step.abs() < 1e-8 {
            break;
        }
    }
    t
}

/// `P(X > x)` for a chi-squared `X` with `df` degrees of freedom.
///
/// Formula: `Q(a, y) = Q(a − 1, y) + y^(a−1) e^(−y) / Γ(a)` with `a = df/2`, `y = x/2`, from `Q(½, y) = erfc(√y)` or
/// `Q(1, y) = e^(−y)` on. NaN without degrees of freedom.
pub fn chi_squared_sf(x: f64, df: u64) -> f64 {
    if df == 0 || x.is_nan() {
        return f64::NAN;
    }
    if x <= 0.0 {
        return 1.0;
    }
    let y = x / 2.0;
    let odd = df % 2 == 1;
    let (half, mut term) = if odd { (0.5, 2.0 * (y / PI).sqrt()) } else { (0.0, 1.0) };
    // The sum is kept in units of e^(−y), so that it does not underflow where y is large and the sum is not.
    let (mut sum, mut doublings) = (0.0, 0.0);
    for j in 0..df / 2 {
        if j > 0 {
            term *= y / (j as f64 + half);
        }
        sum += term;
        if sum > 1e250 {
            let unit = scalbn(1.0, -800);
            (term, sum, doublings) = (term * unit, sum * unit, doublings + 800.0);
        }
    }
    let first = if odd { erfc_sqrt(y, 0.0) } else { 0.0 };
    first + sum * exp(doublings * LN_2 - y)
}

/// A tail probability `P(T > t)` and `t` times the density at `t`: minus the slope of the former in `ln t`.
#[derive(Debug, Clone, Copy)]
struct Tail {
    probability: f64,
    slope: f64,
}

fn normal_tail(z: f64) -> Tail {
    let density = exp(-0.5 * z * z) / (2.0 * PI).sqrt();
    Tail { probability: normal_sf(z), slope: z * density }
}

/// Coefficients of `(sinh(w/2) / (w/2))^(−1/2)` in powers of `w²`.
const COEFFICIENTS: [f64; 13] = [
    1.0,
    -1.0 / 48.0,
    1.0 / 2560.0,
    -61.0 / 7_741_440.0,
    1.696_766_579_172_178_2e-7,
    -3.805_064_191_721_906e-9,
    8.748_377_596_315_407e-11,
    -2.044_523_359_411_974e-12,
    4.833_351_797_967_704e-14,
    -1.152_434_101_767_386e-15,
    2.766_052_043_599_37e-17,
    -6.674_281_950_891_66e-19,
    1.617_455_077_181_58e-20,
];

/// The tail for `t ≥ 0` and finite `df`.
///
/// With `s = e^(−w)` the incomplete beta integral `∫₀ˣ s^(a−1) (1−s)^(−1/2) ds` becomes `∫ e^(−Nw) w^(−1/2)
/// (sinh(w/2) / (w/2))^(−1/2) dw` from `−ln x` to infinity, with `N = a − ¼`: a series of incomplete gamma functions
/// from the coefficients above, which are good to all digits for `a ≥ 16` and `x ≥ 0.4`. A smaller `a` is raised by
/// the recurrence `I_x(a) = I_x(a+1) + x^a √(1−x) / (a B(a, ½))`; a smaller `x` takes the power series in `x`.
fn t_tail(t: f64, df: f64) -> Tail {
    let ratio = (t / df.sqrt()) * (t / df.sqrt());
    let ratio = if df < 1e150 && t < 1e150 { t * t / df } else { ratio };
    // x = 1 / (1 + ratio), and its logarithm without cancellation for small and without overflow for large ratios.
    let minus_ln_x = if ratio.is_finite() { log1p(ratio) } else { 2.0 * log(t) - log(df) };
    let root = (ratio / (1.0 + ratio)).sqrt();
    let root = if ratio.is_finite() { root } else { 1.0 };
    let a = df / 2.0;
    let raised = (16.0 - a).ceil().max(0.0);
    let high = a + raised;
    let n = high - 0.25;
    let whole = gamma_series(n, 0.0);
    // 1 / (A·B(A, ½)) at the raised A, and on the way down the terms of the recurrence.
    let mut inverse_beta = n.sqrt() / (PI.sqrt() * whole * high);
    if 1.0 / (1.0 + ratio) >= 0.4 {
        let mut power = exp(-high * minus_ln_x);
        let mut probability = gamma_series(n, minus_ln_x) / whole;
        let mut slope = high * inverse_beta * power * root;
        let x = 1.0 / (1.0 + ratio);
        for step in (0..raised as u32).rev() {
            let low = a + f64::from(step);
            inverse_beta *= (low + 1.0) / (low + 0.5);
            power /= x;
            probability += inverse_beta * power * root;
            slope = low * inverse_beta * power * root;
        }
        Tail { probability: probability / 2.0, slope }
    } else {
        for step in (0..raised as u32).rev() {
            let low = a + f64::from(step);
            inverse_beta *= (low + 1.0) / (low + 0.5);
        }
        let x = if ratio.is_finite() { 1.0 / (1.0 + ratio) } else { 0.0 };
        let factor = inverse_beta * exp(-a * minus_ln_x);
        let (mut sum, mut power, mut j) = (1.0, 1.0, 0.0);
        loop {
            j += 1.0;
            power *= x * (j - 0.5) / j;
            let term = power * a / (a + j);
            sum += term;
            if term < 1e-18 * sum {
                break;
            }
        }
        Tail { probability: factor * sum / 2.0, slope: a * factor * root }
    }
}

/// `Σ c_j N^(−2j) Γ(2j + ½, N·w) / √π`.
fn gamma_series(n: f64, w: f64) -> f64 {
    let z = n * w;
    let mut gamma = erfc_sqrt(z, 0.0);
    // z^(s) e^(−z) N^(−2j) / √π with s = 2j + ½.
    let mut power = (z / PI).sqrt() * exp(-z);
    let mut sum = gamma;
    for (j, coefficient) in COEFFICIENTS.iter().enumerate().skip(1) {
        let s = 2.0 * j as f64 - 1.5;
        gamma = ((s + 1.0) * s * gamma / n + (s + 1.0 + z) * power / n) / n;
        power *= w * w;
        sum += coefficient * gamma;
    }
    sum
}

/// `erfc(√(square + rest))` for a rest that is a rounding error of the square.
fn erfc_sqrt(square: f64, rest: f64) -> f64 {
    let root = square.sqrt();
    if root == 0.0 {
        return 1.0;
    }
    let correction = ((-root).mul_add(root, square) + rest) / (2.0 * root);
    erfc(root) - 2.0 / PI.sqrt() * exp(-square) * correction
}

/// A start for the quantile: the normal quantile after Abramowitz and Stegun (26.2.23), carried over by Wallace's
/// approximation `z ≈ (8ν + 1)/(8ν + 3) · √(ν ln(1 + t²/ν))`.
fn t_isf_guess(p: f64, df: f64) -> f64 {
    let y = (-2.0 * log(p)).sqrt();
    let z = y
        - (2.515517 + y * (0.802853 + y * 0.010328))
            / (1.0 + y * (1.432788 + y * (0.189269 + y * 0.001308)));
    let z = z.max(1e-3);
    if df > 1e10 {
        return z;
    }
    let z = z * (8.0 * df + 3.0) / (8.0 * df + 1.0);
    (df * expm1((z * z / df).min(600.0))).sqrt()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "closed forms that are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-13 * expected, "{found:e} is not {expected:e}");
    }

    #[test]
    fn student_with_one_and_two_degrees_of_freedom_has_a_closed_form() {
        for t in [1e-9, 0.1, 0.5, 1.0, 1.3, 2.0, 5.0, 31.0, 1e3, 1e6, 1e12, 1e100] {
            assert_near(t_sf(t, 1.0), libm::atan(1.0 / t) / PI);
            let root = (2.0 + t * t).sqrt();
            assert_near(t_sf(t, 2.0), 1.0 / root / (root + t));
        }
    }

    /// Computed with mpmath at 90 digits.
    #[test]
    fn tails_keep_their_digits_for_all_degrees_of_freedom() {
        for (t, df, expected) in [
            (12.0, 2.7, 1.013433009698063e-3),
            (30.0, 31.0, 9.036807444822268e-25),
            (38.0, 444.5, 5.0957125305172834e-142),
            (30.0, 10000.5, 1.0212396577754009e-189),
            (30.0, 1e10, 4.90681350979029e-198),
        ] {
            assert_near(t_sf(t, df), expected);
        }
        assert_near(normal_sf(8.0), 6.220960574271785e-16);
        assert_near(normal_sf(37.0), 5.725571222524577e-300);
    }

    #[test]
    fn chi_squared_agrees_with_the_normal_and_the_exponential() {
        for x in [1e-6, 0.3, 1.0, 3.84, 30.0, 900.0] {
            let y = x / 2.0;
            assert_near(chi_squared_sf(x, 1), 2.0 * normal_sf(x.sqrt()));
            assert_near(chi_squared_sf(x, 2), exp(-y));
            assert_near(chi_squared_sf(x, 4), exp(-y) * (1.0 + y));
        }
        // mpmath; the sum is large where its unit e^(−750) underflows.
        assert_near(chi_squared_sf(1500.0, 999), 8.513135655491612e-23);
    }

    #[test]
    fn ends_of_the_range_are_infinite_and_nonsense_is_not_a_number() {
        assert_eq!(t_isf(0.0, 5.0), f64::INFINITY);
        assert_eq!(t_isf(1.0, 5.0), f64::NEG_INFINITY);
        assert_eq!(t_isf(0.5, 5.0), 0.0);
        assert_eq!(t_sf(f64::INFINITY, 5.0), 0.0);
        assert_eq!(t_sf(f64::NEG_INFINITY, 5.0), 1.0);
        assert_eq!(normal_sf(0.0), 0.5);
        assert_eq!(chi_squared_sf(0.0, 3), 1.0);
        for value in [t_sf(1.0, 0.0), t_sf(f64::NAN, 3.0), t_isf(1.5, 3.0), chi_squared_sf(1.0, 0)]
        {
            assert!(value.is_nan());
        }
    }

    proptest! {
        #[test]
        fn quantiles_invert_the_tail(ln_p in -600.0..-0.7, ln_df in 0.0..24.0) {
            let (p, df) = (exp(ln_p), exp(ln_df));
            let t = t_isf(p, df);
            prop_assert!((t_sf(t, df) / p - 1.0).abs() < 1e-12, "{} {} {}", p, df, t);
            prop_assert_eq!(t_isf(1.0 - 0.25, df), -t_isf(0.25, df));
        }
    }
}
