//! Exact numbers `integer · 2^exponent`, and what comparisons form of exact sums before they round once.

use num_bigint::{BigInt, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use crate::exact::ExactSum;
use crate::summary::Moments;

/// An exact number.
#[derive(Debug, Clone)]
pub(super) struct Dyadic {
    integer: Integer,
    exponent: i64,
}

/// Most integers are small, and nothing is allocated for them. Neither form is canonical.
#[derive(Debug, Clone)]
enum Integer {
    Small(i128),
    Big(BigInt),
}

impl Integer {
    /// With trailing zeros moved to the exponent, so that products stay small.
    fn small(value: i128, exponent: i64) -> Dyadic {
        let zeros = if value == 0 { 0 } else { value.trailing_zeros() };
        Dyadic { integer: Self::Small(value >> zeros), exponent: exponent + i64::from(zeros) }
    }

    fn to_big(&self) -> BigInt {
        match self {
            Self::Small(value) => (*value).into(),
            Self::Big(value) => value.clone(),
        }
    }

    fn shifted(&self, bits: i64) -> Self {
        match self {
            Self::Small(value) if i64::from(value.unsigned_abs().leading_zeros()) > bits + 1 => {
                Self::Small(value << bits)
            }
            other => Self::Big(other.to_big() << bits),
        }
    }
}

impl Dyadic {
    /// The value of a sum, if it is finite.
    pub(super) fn of(sum: &ExactSum) -> Option<Self> {
        if !sum.is_finite() {
            return None;
        }
        Some(match sum.to_small() {
            Some((value, exponent)) => Integer::small(value, exponent.into()),
            None => {
                let (value, exponent) = sum.to_integer();
                Self { integer: Integer::Big(value), exponent: exponent.into() }
            }
        })
    }

    /// A double, if it is finite.
    pub(super) fn double(value: f64) -> Option<Self> {
        let mut sum = ExactSum::new();
        sum.add(value);
        Self::of(&sum)
    }

    /// A count.
    pub(super) fn count(value: u64) -> Self {
        Self { integer: Integer::Small(value.into()), exponent: 0 }
    }

    /// Whether it is zero.
    pub(super) fn is_zero(&self) -> bool {
        match &self.integer {
            Integer::Small(value) => *value == 0,
            Integer::Big(value) => value.is_zero(),
        }
    }

    /// The product.
    pub(super) fn times(&self, other: &Self) -> Self {
        let exponent = self.exponent + other.exponent;
        let small = match (&self.integer, &other.integer) {
            (Integer::Small(a), Integer::Small(b)) => a.checked_mul(*b),
            _ => None,
        };
        match small {
            Some(product) => Integer::small(product, exponent),
            None => {
                let product = self.integer.to_big() * other.integer.to_big();
                Self { integer: Integer::Big(product), exponent }
            }
        }
    }

    /// The sum.
    pub(super) fn plus(&self, other: &Self) -> Self {
        self.combine(other, i128::checked_add, |a, b| a + b)
    }

    /// The difference.
    pub(super) fn minus(&self, other: &Self) -> Self {
        self.combine(other, i128::checked_sub, |a, b| a - b)
    }

    fn combine(
        &self,
        other: &Self,
        small: fn(i128, i128) -> Option<i128>,
        big: fn(BigInt, BigInt) -> BigInt,
    ) -> Self {
        let exponent = self.exponent.min(other.exponent);
        let a = self.integer.shifted(self.exponent - exponent);
        let b = other.integer.shifted(other.exponent - exponent);
        let sum = match (&a, &b) {
            (Integer::Small(a), Integer::Small(b)) => small(*a, *b),
            _ => None,
        };
        match sum {
            Some(sum) => Integer::small(sum, exponent),
            None => Self { integer: Integer::Big(big(a.to_big(), b.to_big())), exponent },
        }
    }

    /// The nearest double.
    pub(super) fn to_f64(&self) -> f64 {
        match &self.integer {
            Integer::Small(value) => scale(*value as f64, self.exponent),
            Integer::Big(value) => {
                let magnitude = value.magnitude();
                // 64 bits and a sticky one decide the rounding of 53.
                let dropped = value.bits().saturating_sub(64);
                let sticky = magnitude.trailing_zeros().is_some_and(|zeros| zeros < dropped);
                let kept = (magnitude >> dropped).to_u64().expect("64 bits are kept");
                let value_of =
                    scale((kept | u64::from(sticky)) as f64, self.exponent + dropped as i64);
                if value.is_negative() { -value_of } else { value_of }
            }
        }
    }

    /// The double nearest to the quotient; NaN over zero.
    pub(super) fn over(&self, divisor: &Self) -> f64 {
        if divisor.is_zero() {
            return f64::NAN;
        }
        let exponent = self.exponent - divisor.exponent;
        if let (Integer::Small(dividend), Integer::Small(by)) = (&self.integer, &divisor.integer)
            && by.unsigned_abs() < 1 << 62
        {
            return small_quotient(*dividend, *by, exponent);
        }
        let (dividend, by) = (self.integer.to_big(), divisor.integer.to_big());
        // At least 64 bits of quotient, and a last one that is sticky.
        let shift = 65 + by.bits() as i64 - dividend.bits() as i64;
        let negative = dividend.is_negative() != by.is_negative();
        let dividend = dividend.magnitude() << shift.max(0);
        let by = by.magnitude() << (-shift).max(0);
        let quotient = ((&dividend / &by) << 1u32) + u32::from(!(dividend % by).is_zero());
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        let integer = Integer::Big(BigInt::from_biguint(sign, quotient));
        Self { integer, exponent: exponent - shift - 1 }.to_f64()
    }
}

/// As [`Dyadic::over`]: a dividend of 127 bits over a divisor of at most 62 leaves at least 64 bits of quotient.
fn small_quotient(dividend: i128, divisor: i128, exponent: i64) -> f64 {
    if dividend == 0 {
        return 0.0;
    }
    let shift = dividend.unsigned_abs().leading_zeros() - 1;
    let (scaled, by) = (dividend.unsigned_abs() << shift, divisor.unsigned_abs());
    let quotient = ((scaled / by) << 1) | u128::from(scaled % by != 0);
    let value = scale(quotient as f64, exponent - i64::from(shift) - 1);
    if (dividend < 0) != (divisor < 0) { -value } else { value }
}

/// `value · 2^exponent` for a value of at most 64 bits, in steps that neither overflow nor underflow on the way.
fn scale(value: f64, exponent: i64) -> f64 {
    libm::scalbn(value, exponent.clamp(-4000, 4000) as i32)
}

/// `Σ w_i Σx_i` over columns with weights, exactly; `None` where a value is not finite.
pub(super) fn weighted_sum(moments: &Moments, weights: &[(usize, f64)]) -> Option<Dyadic> {
    weights.iter().try_fold(Dyadic::count(0), |total, &(i, weight)| {
        Some(total.plus(&Dyadic::double(weight)?.times(&Dyadic::of(moments.sum(i))?)))
    })
}

/// The sample variance of `Σ w_i x_i`, exact for the given weights and rounded once: never negative, and 0 only where
/// it is 0. NaN where a value is not finite and for fewer than two rows.
pub(super) fn variance(moments: &Moments, weights: &[(usize, f64)]) -> f64 {
    let exact = || {
        let mut squares = Dyadic::count(0);
        for (k, &(i, a)) in weights.iter().enumerate() {
            for (l, &(j, b)) in weights.iter().enumerate().skip(k) {
                let twice = Dyadic::count(if l == k { 1 } else { 2 });
                let weight = Dyadic::double(a)?.times(&Dyadic::double(b)?).times(&twice);
                squares = squares.plus(&weight.times(&Dyadic::of(moments.product(i, j))?));
            }
        }
        let sum = weighted_sum(moments, weights)?;
        let n = Dyadic::count(moments.n());
        let pairs = n.times(&n.minus(&Dyadic::count(1)));
        Some(n.times(&squares).minus(&sum.times(&sum)).over(&pairs))
    };
    if moments.n() < 2 { f64::NAN } else { exact().unwrap_or(f64::NAN) }
}

/// The sum of products of two columns around their means, rounded once. NaN where a value is not finite, 0 without rows.
pub(super) fn comoment(moments: &Moments, i: usize, j: usize) -> f64 {
    let exact = || {
        let n = Dyadic::count(moments.n());
        let [a, b, ab] = [moments.sum(i), moments.sum(j), moments.product(i, j)].map(Dyadic::of);
        Some(n.times(&ab?).minus(&a?.times(&b?)).over(&n))
    };
    if moments.n() == 0 { 0.0 } else { exact().unwrap_or(f64::NAN) }
}

/// As [`comoment`], of two sums of columns with weights; exact for the given weights.
pub(super) fn form_comoment(moments: &Moments, a: &[(usize, f64)], b: &[(usize, f64)]) -> f64 {
    let exact = || {
        let mut products = Dyadic::count(0);
        for &(i, x) in a {
            for &(j, y) in b {
                let weight = Dyadic::double(x)?.times(&Dyadic::double(y)?);
                products = products.plus(&weight.times(&Dyadic::of(moments.product(i, j))?));
            }
        }
        let n = Dyadic::count(moments.n());
        let sums = weighted_sum(moments, a)?.times(&weighted_sum(moments, b)?);
        Some(n.times(&products).minus(&sums).over(&n))
    };
    if moments.n() == 0 { 0.0 } else { exact().unwrap_or(f64::NAN) }
}

/// The difference of the means of `Σ w_i x_i`, treatment − control, rounded once. NaN where a value is not finite or an
/// arm has no rows.
pub(super) fn mean_difference(t: &Moments, c: &Moments, weights: &[(usize, f64)]) -> f64 {
    let (Some(sum_t), Some(sum_c)) = (weighted_sum(t, weights), weighted_sum(c, weights)) else {
        return f64::NAN;
    };
    ratio_difference((&sum_t, &Dyadic::count(t.n())), (&sum_c, &Dyadic::count(c.n())))
}

/// `a/b − c/d`, rounded once; NaN where a denominator is zero.
pub(super) fn ratio_difference((a, b): (&Dyadic, &Dyadic), (c, d): (&Dyadic, &Dyadic)) -> f64 {
    a.times(d).minus(&c.times(b)).over(&b.times(d))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that are equal to the bit")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn double(x: f64) -> Dyadic {
        Dyadic::double(x).expect("a finite double")
    }

    proptest! {
        #[test]
        fn doubles_and_their_quotients_are_rounded_as_ieee_does(
            a in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO,
            b in proptest::num::f64::NORMAL,
        ) {
            prop_assert_eq!(double(a).to_f64(), a);
            let quotient = a / b;
            prop_assume!(quotient == 0.0 || quotient.is_normal());
            prop_assume!(quotient != 0.0 || a == 0.0);
            prop_assert_eq!(double(a).over(&double(b)), quotient);
        }

        #[test]
        fn sums_and_products_are_rounded_as_ieee_does(a in -1e100..1e100, b in -1e100..1e100) {
            prop_assert_eq!(double(a).plus(&double(b)).to_f64(), a + b);
            prop_assert_eq!(double(a).minus(&double(b)).to_f64(), a - b);
            prop_assert_eq!(double(a).times(&double(b)).to_f64(), a * b);
        }
    }

    #[test]
    fn overflow_is_infinite_and_zero_over_zero_is_not_a_number() {
        assert_eq!(double(1e300).times(&double(1e300)).to_f64(), f64::INFINITY);
        assert_eq!(double(-1e300).over(&double(1e-300)), f64::NEG_INFINITY);
        assert!(double(1.0).over(&double(0.0)).is_nan());
        assert_eq!(double(0.0).over(&double(3.0)), 0.0);
    }

    #[test]
    fn the_variance_of_a_perfect_fit_is_zero_and_of_a_near_one_is_not_negative() {
        let x: Vec<f64> = (0..100).map(f64::from).collect();
        let y: Vec<f64> = x.iter().map(|x| 1e9 + 3.0 * x).collect();
        let m = Moments::of(&["y", "x"], 1, &[&y, &x]).expect("valid columns");
        assert_eq!(variance(&m, &[(0, 1.0), (1, -3.0)]), 0.0);
        let near = variance(&m, &[(0, 1.0), (1, -3.0 - 1e-12)]);
        // (1e-12)² · Var(x), up to the rounding of 3 + 1e-12.
        assert!((near / (1e-24 * m.covariance(1, 1)) - 1.0).abs() < 1e-3, "{near}");
    }
}
