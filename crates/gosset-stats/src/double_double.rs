//! Numbers of 106 bits, each the unevaluated sum of two doubles.
//!
//! Normal equations lose twice the digits that the regression itself does. Here they are formed exactly and solved with
//! twice the digits of a double. Only additions, multiplications, divisions and fused products of IEEE are used, in one
//! fixed order, so that the result is the same bits on every machine.
//!
//! Reference: Dekker, T. J. (1971). A floating-point technique for extending the available precision. Numerische
//! Mathematik 18, 224–242, doi:10.1007/BF01397083.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

use crate::exact::ExactSum;
use crate::linalg::Number;

/// `high + low`, where `high` is the double nearest to the sum.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub(crate) struct Dd {
    high: f64,
    low: f64,
}

/// The rounded sum and its error.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// The same where `a` is not the smaller one.
fn quick_two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    (sum, b - (sum - a))
}

impl Dd {
    pub(crate) const ZERO: Self = Self { high: 0.0, low: 0.0 };
    pub(crate) const ONE: Self = Self { high: 1.0, low: 0.0 };

    fn normal(high: f64, low: f64) -> Self {
        let (high, low) = quick_two_sum(high, low);
        Self { high, low }
    }

    /// The nearest double.
    pub(crate) fn to_f64(self) -> f64 {
        self.high
    }

    pub(crate) fn is_finite(self) -> bool {
        self.high.is_finite()
    }

    pub(crate) fn is_zero(self) -> bool {
        self.high == 0.0
    }

    /// Exact, but for underflow: `scale` is a power of two.
    pub(crate) fn scaled(self, scale: f64) -> Self {
        Self { high: self.high * scale, low: self.low * scale }
    }
}

impl Number for Dd {}

impl From<f64> for Dd {
    fn from(value: f64) -> Self {
        Self { high: value, low: 0.0 }
    }
}

impl From<u64> for Dd {
    fn from(value: u64) -> Self {
        let high = value as f64;
        Self::normal(high, (i128::from(value) - high as i128) as f64)
    }
}

impl From<&ExactSum> for Dd {
    fn from(sum: &ExactSum) -> Self {
        let high = sum.to_f64();
        if !high.is_finite() || sum.as_f64().is_some() {
            return Self { high, low: 0.0 };
        }
        let mut rest = sum.clone();
        rest.add(-high);
        Self::normal(high, rest.to_f64())
    }
}

impl Neg for Dd {
    type Output = Self;
    fn neg(self) -> Self {
        Self { high: -self.high, low: -self.low }
    }
}

impl Add for Dd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let (high, error) = two_sum(self.high, other.high);
        let (low, rest) = two_sum(self.low, other.low);
        let (high, error) = quick_two_sum(high, error + low);
        Self::normal(high, error + rest)
    }
}

impl Sub for Dd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl AddAssign for Dd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Dd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Mul for Dd {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let high = self.high * other.high;
        let error = self.high.mul_add(other.high, -high);
        Self::normal(high, error + (self.high * other.low + self.low * other.high))
    }
}

impl Div for Dd {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let first = self.high / other.high;
        let rest = self - other * Self::from(first);
        let second = rest.high / other.high;
        let rest = rest - other * Self::from(second);
        let (high, low) = quick_two_sum(first, second);
        Self::normal(high, low) + Self::from(rest.high / other.high)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that are equal to the bit")]
mod tests {
    use num_bigint::BigInt;
    use proptest::prelude::*;

    use super::*;

    /// `x · 2^300` as an integer.
    fn big(x: Dd) -> BigInt {
        let mut sum = ExactSum::new();
        sum.add(x.high);
        sum.add(x.low);
        let (integer, exponent) = sum.to_integer();
        integer << (exponent + 300) as usize
    }

    /// Whether `found` is within 2^-100 of `expected`, both times 2^300.
    fn near(found: &BigInt, expected: &BigInt) -> bool {
        let off = (found - expected).magnitude() << 100;
        off <= *expected.magnitude()
    }

    fn numbers() -> impl Strategy<Value = Dd> {
        (-1e9..1e9, -1.0..1.0f64).prop_map(|(high, low): (f64, f64)| {
            Dd::from(high) + Dd::from(low * high * f64::EPSILON)
        })
    }

    proptest! {
        #[test]
        fn arithmetic_has_a_hundred_bits(a in numbers(), b in numbers()) {
            prop_assert!(near(&(big(a * b) << 300usize), &(big(a) * big(b))));
            if a.high.signum() == b.high.signum() {
                prop_assert!(near(&big(a + b), &(big(a) + big(b))));
            }
            if !b.is_zero() {
                prop_assert!(near(&big(a / b * b), &big(a)));
            }
        }
    }

    #[test]
    fn an_exact_sum_keeps_its_digits() {
        let mut sum = ExactSum::new();
        [1e16, 0.75, 1e-30].iter().for_each(|&x| sum.add(x));
        let value = Dd::from(&sum);
        assert_eq!((value.high, value.low), (1e16, 0.75));
        assert_eq!((value - Dd::from(1e16)).to_f64(), 0.75);
        assert_eq!((Dd::from(u64::MAX) - Dd::from(18_446_744_073_709_551_616.0)).to_f64(), -1.0);
        sum.add(f64::INFINITY);
        assert_eq!(Dd::from(&sum).to_f64(), f64::INFINITY);
    }
}
