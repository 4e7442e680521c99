//! Relative effects: `estimate / |mean of control|` and its interval.

use crate::inference::{Reach, Relative};
use libm::{expm1, log1p};

use super::infer::Difference;

/// The standard error of `estimate / |control|` by the delta method.
pub(super) fn std_error(d: &Difference) -> f64 {
    Scaled::new(d).variance().sqrt()
}

/// The interval of `estimate / |control|`, as far as the difference itself reaches.
///
/// With `λ` the relative effect, `d` the difference and `m` the mean of control:
/// * fieller: the `λ` with `(d − λm)² ≤ q² Var(d − λm)`, which is an interval where `m² > q² Var(m)`, and holds 0
///   where the interval of `d` does;
/// * log: `exp(ln(1 + λ̂) ± q·se/(1 + λ̂)) − 1`;
/// * delta: `λ̂ ± q·se`.
///
/// # Errors
/// Why there is none.
pub(super) fn interval(
    method: Relative,
    d: &Difference,
    reach: Reach,
) -> Result<(f64, f64), &'static str> {
    let scaled = Scaled::new(d);
    // Over a negative mean the relative effect is −λ: its sides are mirrored there and back.
    let mirrored = d.control < 0.0;
    let reach = if mirrored { Reach { down: reach.up, up: reach.down } } else { reach };
    let (lower, upper) = match method {
        Relative::Fieller => scaled.fieller(reach)?,
        Relative::Log => scaled.log(reach)?,
        Relative::Delta => reach.around(scaled.ratio, scaled.variance().sqrt()),
    };
    if lower.is_nan() || upper.is_nan() {
        return Err("no relative interval: it is beyond the range of numbers");
    }
    Ok(if mirrored { (-upper, -lower) } else { (lower, upper) })
}

/// A difference in units of the mean of control.
#[derive(Debug, Clone, Copy)]
struct Scaled {
    ratio: f64,
    variance: f64,
    control_variance: f64,
    covariance: f64,
}

impl Scaled {
    fn new(d: &Difference) -> Self {
        Self {
            ratio: d.estimate / d.control,
            variance: d.variance / d.control / d.control,
            control_variance: d.control_variance / d.control / d.control,
            covariance: d.covariance / d.control / d.control,
        }
    }

    /// The variance of the ratio by the delta method.
    fn variance(&self) -> f64 {
        let r = self.ratio;
        (self.variance - 2.0 * r * self.covariance + r * r * self.control_variance).max(0.0)
    }

    fn log(&self, reach: Reach) -> Result<(f64, f64), &'static str> {
        if self.ratio <= -1.0 {
            return Err("no relative interval: the logarithm needs means of one sign");
        }
        let std_error = self.variance().sqrt() / (1.0 + self.ratio);
        let (lower, upper) = reach.around(log1p(self.ratio), std_error);
        // An open side stays open: −100 % is where the scale ends, not what the data say.
        Ok((reach.down.map_or(lower, |_| expm1(lower)), expm1(upper)))
    }

    /// The roots of `(1 − q²c)λ² − 2(r − q²k)λ + r² − q²v`, with the variances `v` and `c` and the covariance `k`.
    fn fieller(&self, reach: Reach) -> Result<(f64, f64), &'static str> {
        let root = |q: f64, sign: f64| {
            let square = q * q;
            let leading = 1.0 - square * self.control_variance;
            if leading <= 0.0 {
                return Err(
                    "no relative interval: the mean of control does not differ from 0 (fieller)",
                );
            }
            let half = self.ratio - square * self.covariance;
            let constant = self.ratio * self.ratio - square * self.variance;
            // A quarter of the discriminant, expanded so that the large squares have cancelled.
            let determinant =
                self.variance * self.control_variance - self.covariance * self.covariance;
            let spread = (square * (self.variance() - square * determinant)).max(0.0).sqrt();
            let spread = sign * q.signum() * spread;
            // The quadratic formula, in the form that does not cancel.
            Ok(if (half >= 0.0) == (spread >= 0.0) {
                (half + spread) / leading
            } else {
                constant / (half - spread)
            })
        };
        let lower = reach.down.map_or(Ok(f64::NEG_INFINITY), |q| root(q, -1.0))?;
        let upper = reach.up.map_or(Ok(f64::INFINITY), |q| root(q, 1.0))?;
        Ok((lower, upper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFFERENCE: Difference = Difference {
        estimate: 3.0,
        variance: 2.5,
        df: f64::INFINITY,
        control: 10.0,
        control_variance: 1.5,
        covariance: -1.25,
    };

    #[test]
    fn the_ends_of_fieller_are_as_many_standard_errors_away_as_they_should() {
        for (estimate, control) in
            [(3.0, 10.0), (-3.0, 10.0), (3.0, -10.0), (0.0, 10.0), (-30.0, 10.0)]
        {
            let d = Difference { estimate, control, ..DIFFERENCE };
            for q in [0.1, 1.0, 1.96, 5.0] {
                let reach = Reach { down: Some(q), up: Some(q) };
                let (lower, upper) = interval(Relative::Fieller, &d, reach).expect("bounded");
                assert!(lower < upper);
                for end in [lower, upper] {
                    let ratio = end * control.signum();
                    let variance = d.variance - 2.0 * ratio * d.covariance
                        + ratio * ratio * d.control_variance;
                    let distance = (estimate - ratio * control) / variance.sqrt();
                    assert!((distance.abs() / q - 1.0).abs() < 1e-12, "{distance} for {q}");
                }
            }
            let beyond = Reach { down: Some(9.0), up: Some(9.0) };
            assert!(interval(Relative::Fieller, &d, beyond).is_err());
        }
    }

    #[test]
    fn delta_and_log_have_closed_forms() {
        // Var(d/m) = (2.5 + 2·0.3·1.25 + 0.09·1.5)/100.
        let se = 0.03385f64.sqrt();
        assert!((std_error(&DIFFERENCE) - se).abs() < 1e-16);
        let reach = Reach { down: Some(2.0), up: None };
        let (lower, upper) = interval(Relative::Delta, &DIFFERENCE, reach).expect("defined");
        assert!((lower - (0.3 - 2.0 * se)).abs() < 1e-15 && upper == f64::INFINITY);
        let (lower, upper) = interval(Relative::Log, &DIFFERENCE, reach).expect("defined");
        assert!((lower - (1.3 * (-2.0 * se / 1.3).exp() - 1.0)).abs() < 1e-15);
        assert!(upper == f64::INFINITY);
        let below = Difference { estimate: -11.0, ..DIFFERENCE };
        assert!(interval(Relative::Log, &below, reach).is_err());
    }
}
