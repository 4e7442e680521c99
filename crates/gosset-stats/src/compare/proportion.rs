//! Tests of two proportions.

use super::dyadic::mean_difference;
use super::effect::Effect;
use super::infer::Difference;
use crate::inference::{Inference, Reach, p_value};
use crate::summary::Moments;
use crate::{Error, Result};

/// How the interval of a difference of proportions, and the p-value dual to it, is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProportionMethod {
    /// The unpooled normal approximation.
    #[default]
    Wald,
    /// Miettinen and Nurminen's score test, with their variance factor `N/(N − 1)`.
    Score,
    /// Agresti and Caffo: the unpooled approximation after one success and one failure more in each arm.
    AgrestiCaffo,
    /// Newcombe's hybrid of the Wilson intervals of the two arms (his method 10).
    Newcombe,
}

impl ProportionMethod {
    fn name(self) -> &'static str {
        match self {
            Self::Wald => "wald",
            Self::Score => "score",
            Self::AgrestiCaffo => "agresti-caffo",
            Self::Newcombe => "newcombe",
        }
    }
}

/// The difference of the proportions of two arms; every row is a unit and its outcome is 0 or 1.
///
/// Formula, with `p = x/n`, `d = p_t − p_c` and normal quantiles `z`:
/// * wald: `d ± z·√(Σ_a p_a(1−p_a)/n_a)`;
/// * score: the `δ` with `|d − δ| ≤ z·√(Σ_a p̃_a(1−p̃_a)/n_a · N/(N−1))`, where `p̃_t − p̃_c = δ` are most likely;
/// * agresti-caffo: wald with `x + 1` and `n + 2`;
/// * newcombe: `d − √((p_t−l_t)² + (u_c−p_c)²)` to `d + √((u_t−p_t)² + (p_c−l_c)²)` with Wilson's `l` and `u`.
///
/// `estimate` is `d` and `relative` is `d/p_c` whatever the method. `std_error` is unpooled (after the additions of
/// agresti-caffo). `statistic` is the `z` at which the interval ends at 0, and the p-value is that of `statistic`: each
/// method's test is dual to its interval. The relative interval rests on the unpooled variances and normal quantiles
/// (those of agresti-caffo after its additions).
///
/// Assumptions: rows are independent units of randomisation. Wald's interval wants some ten successes and failures in
/// each arm; the others hold for fewer.
///
/// Small samples: without rows in an arm there is no estimate. Without any or only with successes in both arms wald has
/// no variance and so no interval; the other methods have one. NaN or infinite values give NaN.
///
/// # Errors
/// [`Error::Invalid`] where a value is neither 0 nor 1, for more than one outcome and for a confidence outside of (0,
/// 1); [`Error::Mismatch`] for summaries of different columns.
///
/// # References
/// Miettinen and Nurminen (1985), Comparative analysis of two rates, Statistics in Medicine 4(2), 213–226,
/// doi:10.1002/sim.4780040211. Newcombe (1998), Interval estimation for the difference between independent
/// proportions, Statistics in Medicine 17(8), 873–890,
/// doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I. Agresti and Caffo (2000), Simple and effective
/// confidence intervals for proportions and differences of proportions, The American Statistician 54(4), 280–288,
/// doi:10.1080/00031305.2000.10474560.
pub fn proportion_test(
    t: &Moments,
    c: &Moments,
    inference: &Inference,
    method: ProportionMethod,
) -> Result<Effect> {
    let mut effect = Effect::of_moments((t, c), 1, inference, method.name())?;
    if !effect.set_means(t, c) {
        return Ok(effect);
    }
    let (Some(t_count), Some(c_count)) = (Count::of(t)?, Count::of(c)?) else {
        effect.set_not_finite();
        return Ok(effect);
    };
    let estimate = mean_difference(t, c, &[(0, 1.0)]);
    let pair = Pair { t: t_count, c: c_count, difference: estimate };
    match method {
        ProportionMethod::Wald => effect.infer(inference, &unpooled(estimate, t_count, c_count)),
        ProportionMethod::AgrestiCaffo => {
            let (t, c) = (t_count.plus_four(), c_count.plus_four());
            effect.infer(inference, &unpooled(t.p() - c.p(), t, c));
            effect.set_estimate(estimate, c_count.p());
            if effect.relative.is_none() {
                effect.relative_std_error = None;
                (effect.relative_ci_lower, effect.relative_ci_upper) = (None, None);
            }
        }
        ProportionMethod::Score => {
            effect.infer_bounds(inference, &pair, pair.score_statistic(), |z| pair.score_bound(z));
        }
        ProportionMethod::Newcombe => {
            let statistic = pair.newcombe_statistic();
            effect.infer_bounds(inference, &pair, statistic, |z| pair.newcombe_bound(z));
        }
    }
    Ok(effect)
}

impl Effect {
    /// Sets the inference of a method that has a statistic and, for every normal quantile, a lower bound of its own.
    /// An upper bound is the lower one at minus the quantile.
    fn infer_bounds(
        &mut self,
        inference: &Inference,
        pair: &Pair,
        statistic: f64,
        bound: impl Fn(f64) -> f64,
    ) {
        let wald = unpooled(pair.difference, pair.t, pair.c);
        self.set_estimate(pair.difference, wald.control);
        self.std_error = Some(wald.std_error());
        self.statistic = Some(statistic);
        self.df = Some(f64::INFINITY);
        self.p_value = Some(p_value(inference.alternative, statistic, f64::INFINITY));
        let reach = Reach::new(inference, f64::INFINITY);
        self.ci_lower = Some(reach.down.map_or(f64::NEG_INFINITY, &bound));
        self.ci_upper = Some(reach.up.map_or(f64::INFINITY, |z| bound(-z)));
        if wald.variance == 0.0 {
            self.remark("no relative interval: zero variance");
        } else {
            self.infer_relative(inference, &wald);
        }
    }
}

/// The unpooled normal approximation.
fn unpooled(estimate: f64, t: Count, c: Count) -> Difference {
    Difference::independent(estimate, c.p(), t.variance(), c.variance(), f64::INFINITY)
}

/// Successes among units.
#[derive(Debug, Clone, Copy)]
struct Count {
    x: f64,
    n: f64,
}

impl Count {
    /// The successes of an arm; `None` where a value is not finite.
    fn of(arm: &Moments) -> Result<Option<Self>> {
        if !arm.sum(0).is_finite() {
            return Ok(None);
        }
        let (x, n) = (arm.sum(0).to_f64(), arm.n() as f64);
        // y² = y for 0 and 1 alone.
        let is_count =
            arm.sum(0) == arm.product(0, 0) && (0.0..=n).contains(&x) && x.fract() == 0.0;
        if !is_count {
            return Err(Error::Invalid(format!(
                "expected the values of '{}' to be 0 or 1, found others",
                arm.name(0)
            )));
        }
        Ok(Some(Self { x, n }))
    }

    /// With two successes and two failures more over both arms.
    fn plus_four(self) -> Self {
        Self { x: self.x + 1.0, n: self.n + 2.0 }
    }

    fn p(self) -> f64 {
        self.x / self.n
    }

    /// `p(1 − p)/n`.
    fn variance(self) -> f64 {
        self.p() * ((self.n - self.x) / self.n) / self.n
    }

    /// How far Wilson's interval reaches from `p` down and up.
    fn wilson(self, z: f64) -> (f64, f64) {
        let (p, q) = (self.p(), (self.n - self.x) / self.n);
        let share = z * z / self.n;
        let half = z * (p * q / self.n + share / (4.0 * self.n)).sqrt();
        let shift = share * (0.5 - p);
        ((half - shift).max(0.0) / (1.0 + share), (half + shift).max(0.0) / (1.0 + share))
    }
}

/// Two arms and the difference of their proportions.
#[derive(Debug, Clone, Copy)]
struct Pair {
    t: Count,
    c: Count,
    difference: f64,
}

impl Pair {
    /// The lower bound of Newcombe's interval; the upper one for a negative `z`.
    fn newcombe_bound(&self, z: f64) -> f64 {
        let (down_t, up_t) = self.t.wilson(z.abs());
        let (down_c, up_c) = self.c.wilson(z.abs());
        if z >= 0.0 {
            self.difference - length(down_t, up_c)
        } else {
            self.difference + length(up_t, down_c)
        }
    }

    /// The `z` at which Newcombe's interval ends at 0.
    fn newcombe_statistic(&self) -> f64 {
        let sign = self.difference.signum();
        if self.difference == 0.0 {
            return 0.0;
        }
        let beyond = |z: f64| sign * self.newcombe_bound(sign * z) <= 0.0;
        let mut high = 1.0;
        while !beyond(high) {
            high *= 2.0;
        }
        sign * bisect(0.0, high, beyond)
    }

    /// The score statistic of no difference; 0 where there is none and no variance either.
    fn score_statistic(&self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { self.difference / self.null_variance(0.0).sqrt() }
    }

    /// The `δ` whose score statistic is `z`: the lower bound, and the upper one for a negative `z`.
    fn score_bound(&self, z: f64) -> f64 {
        let d = self.difference;
        let below = |delta: f64| d - delta <= z * self.null_variance(delta).sqrt();
        if z >= 0.0 { bisect(-1.0, d, below) } else { bisect(d, 1.0, below) }
    }

    /// The variance of the difference where the proportions differ by `delta`, with the factor `N/(N − 1)`.
    fn null_variance(&self, delta: f64) -> f64 {
        let p_c = self.most_likely(delta);
        let p_t = p_c + delta;
        let total = self.t.n + self.c.n;
        let sum = p_t * (1.0 - p_t) / self.t.n + p_c * (1.0 - p_c) / self.c.n;
        sum.max(0.0) * total / (total - 1.0)
    }

    /// The most likely proportion of control where that of treatment is `delta` more.
    ///
    /// The derivative of the log-likelihood falls strictly: Newton's method, kept inside of a shrinking bracket.
    fn most_likely(&self, delta: f64) -> f64 {
        let (t, c) = (self.t, self.c);
        if delta == 0.0 {
            return (t.x + c.x) / (t.n + c.n);
        }
        // Where the proportions of treatment and control are 0 and 1: the likelihood lives in between.
        let (zero_t, one_t) = (-delta, 1.0 - delta);
        let (mut low, mut high) = (zero_t.max(0.0), one_t.min(1.0));
        let mut p = (t.x + c.x - t.n * delta) / (t.n + c.n);
        if p <= low || p >= high {
            p = f64::midpoint(low, high);
        }
        for _ in 0..200 {
            let terms = [(t.x, p - zero_t), (t.n - t.x, p - one_t), (c.x, p), (c.n - c.x, p - 1.0)];
            let present = terms.iter().filter(|(count, _)| *count > 0.0);
            let (slope, curvature) = present.fold((0.0, 0.0), |(slope, curvature), (count, at)| {
                (slope + count / at, curvature + count / (at * at))
            });
            if slope > 0.0 {
                low = p;
            } else {
                high = p;
            }
            let newton = p + slope / curvature;
            let next =
                if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
            if (next - p).abs() <= 1e-16 * p || next <= low || next >= high {
                return next;
            }
            p = next;
        }
        p
    }
}

/// Where a condition that is false at `low` and true at `high` begins to hold.
fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high || high - low <= 1e-17 {
            return middle;
        }
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
}

/// The length of a vector. (`f64::hypot` is the platform's, and differs in the last digit from one to another.)
fn length(a: f64, b: f64) -> f64 {
    (a * a + b * b).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(successes: usize, n: usize) -> Moments {
        let values: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i < successes))).collect();
        Moments::of(&["success"], 1, &[&values]).expect("valid columns")
    }

    /// Table II of Newcombe (1998): his methods 1, 6 and 10, to four decimals.
    #[test]
    fn intervals_are_those_of_newcombe() {
        use ProportionMethod::{Newcombe, Score, Wald};
        for (t, c, method, lower, upper) in [
            ((56, 70), (48, 80), Wald, 0.0575, 0.3425),
            ((56, 70), (48, 80), Score, 0.0528, 0.3382),
            ((56, 70), (48, 80), Newcombe, 0.0524, 0.3339),
            ((9, 10), (3, 10), Wald, 0.2605, 0.9395),
            ((9, 10), (3, 10), Score, 0.1700, 0.8406),
            ((9, 10), (3, 10), Newcombe, 0.1705, 0.8090),
            ((10, 10), (0, 20), Score, 0.7156, 1.0),
            ((10, 10), (0, 20), Newcombe, 0.6791, 1.0),
        ] {
            let (t, c) = (arm(t.0, t.1), arm(c.0, c.1));
            let e = proportion_test(&t, &c, &Inference::default(), method).expect("zeros and ones");
            let (low, high) = (e.ci_lower.expect("defined"), e.ci_upper.expect("defined"));
            assert!((low - lower).abs() <= 5e-5 && (high - upper).abs() <= 5e-5, "{low} to {high}");
        }
    }

    #[test]
    fn without_any_success_only_wald_has_nothing_to_say() {
        for (x, n) in [(0, 10), (10, 10)] {
            let (t, c) = (arm(x, n), arm(2 * x, 2 * n));
            for method in [
                ProportionMethod::Score,
                ProportionMethod::AgrestiCaffo,
                ProportionMethod::Newcombe,
            ] {
                let e = proportion_test(&t, &c, &Inference::default(), method).expect("counts");
                assert!(e.ci_lower < Some(0.0) && e.ci_upper > Some(0.0), "{method:?}");
                assert!(e.p_value > Some(0.5), "{method:?}");
            }
            let e = proportion_test(&t, &c, &Inference::default(), ProportionMethod::Wald);
            let e = e.expect("counts");
            assert_eq!((e.std_error, e.p_value, e.ci_lower), (Some(0.0), None, None));
        }
    }

    #[test]
    fn values_other_than_0_and_1_are_refused() {
        let good = arm(3, 10);
        for values in [&[0.0, 1.0, 2.0][..], &[0.5, 0.5], &[-1.0, 1.0], &[2.0, -1.0]] {
            let bad = Moments::of(&["success"], 1, &[values]).expect("valid columns");
            for (t, c) in [(&good, &bad), (&bad, &good)] {
                let error = proportion_test(t, c, &Inference::default(), ProportionMethod::Wald);
                let error = error.expect_err("not counts").to_string();
                assert_eq!(error, "expected the values of 'success' to be 0 or 1, found others");
            }
        }
    }
}
