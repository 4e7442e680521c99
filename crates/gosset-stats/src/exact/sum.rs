//! One exact sum.

use num_bigint::{BigInt, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use super::int256::I256;
use super::plain::Plain;
use crate::{Error, Result};

const NAN: u8 = 1;
const POS_INF: u8 = 2;
const NEG_INF: u8 = 4;

/// The true sum of any doubles, products of two doubles and scaled integers.
///
/// Sums of ordinary values fit in 256 bits and are held in place; others move to a sparse big accumulator on the heap.
/// NaN and infinities are remembered as flags beside the finite part, so that they too are independent of the order.
/// Adding `±0.0` is nothing: a sum of `-0.0`s is `+0.0`.
#[derive(Debug, Clone)]
pub struct ExactSum {
    value: Value,
    flags: u8,
}

/// The finite part of a sum.
#[derive(Debug, Clone)]
enum Value {
    /// `integer · 2^(8·exponent)`; zero has any exponent.
    Small { integer: I256, exponent: i16 },
    /// What does not fit, and stays here.
    Big(Box<Plain>),
}

impl Default for ExactSum {
    fn default() -> Self {
        Self::new()
    }
}

impl ExactSum {
    /// The empty sum, zero.
    pub const fn new() -> Self {
        Self { value: Value::Small { integer: I256::ZERO, exponent: 0 }, flags: 0 }
    }

    /// A sum that is a big accumulator from the start.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { value: Value::Big(Box::default()), flags: 0 }
    }

    /// An integer as an exact sum.
    pub fn from_integer(value: i128) -> Self {
        let mut sum = Self::new();
        sum.add_scaled(value, 0);
        sum
    }

    /// `value · 2^exponent` as an exact sum.
    pub(super) fn scaled(value: i128, exponent: i32) -> Self {
        match i16::try_from(exponent.div_euclid(8)) {
            Ok(unit) => {
                let integer = I256::shifted(value, exponent.rem_euclid(8) as u32);
                Self { value: Value::Small { integer, exponent: unit }, flags: 0 }
            }
            Err(_) => {
                let mut sum = Self::new();
                sum.add_scaled(value, exponent);
                sum
            }
        }
    }

    /// Adds one double.
    pub fn add(&mut self, x: f64) {
        if x.is_finite() {
            let (mantissa, exponent) = split(x);
            self.add_scaled(i128::from(mantissa), exponent);
        } else {
            self.flags |= flag(x);
        }
    }

    /// Adds the exact product of two doubles (not the rounded one).
    ///
    /// A product with NaN or an infinity follows IEEE: `0 · ∞` is NaN.
    pub fn add_product(&mut self, x: f64, y: f64) {
        if x.is_finite() && y.is_finite() {
            let ((a, ea), (b, eb)) = (split(x), split(y));
            self.add_scaled(i128::from(a) * i128::from(b), ea + eb);
        } else {
            self.flags |= flag(x * y);
        }
    }

    /// Adds `value · 2^exponent`.
    pub fn add_scaled(&mut self, value: i128, exponent: i32) {
        if let Value::Big(big) = &mut self.value {
            big.add_scaled(value, exponent);
            return;
        }
        match i16::try_from(exponent.div_euclid(8)) {
            Ok(unit) => {
                self.add_small(I256::shifted(value, exponent.rem_euclid(8) as u32), unit, 1)
            }
            Err(_) => self.big().add_scaled(value, exponent),
        }
    }

    /// The exact product with a finite double. Flags of values that are not finite stay.
    pub(crate) fn times(&self, x: f64) -> Self {
        let (factor, shift) = split(x);
        let small = self.to_i256().and_then(|(integer, exponent)| {
            let exponent = exponent + shift;
            let product = integer.mul(I256::new(factor.into()))?;
            let integer = product.shl(exponent.rem_euclid(8) as u32)?;
            Some(Value::Small { integer, exponent: exponent.div_euclid(8).try_into().ok()? })
        });
        if let Some(value) = small {
            return Self { value, flags: self.flags };
        }
        let (integer, exponent) = self.to_integer();
        let (sign, digits) = (integer * factor).into_parts();
        let sign = if sign == Sign::Minus { -1 } else { 1 };
        let mut product = Self { flags: self.flags, ..Self::new() };
        for (i, digit) in digits.iter_u64_digits().enumerate() {
            product.add_scaled(sign * i128::from(digit), exponent + shift + 64 * i as i32);
        }
        product
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.combine(other, 1);
    }

    /// Takes another sum away again, exactly. Flags of non-finite values cannot be taken back and stay.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, -1);
    }

    fn combine(&mut self, other: &Self, sign: i64) {
        self.flags |= other.flags;
        match &other.value {
            Value::Small { integer, exponent } => self.add_small(*integer, *exponent, sign),
            Value::Big(other) => self.big().combine(other, sign),
        }
    }

    fn add_small(&mut self, other: I256, unit: i16, sign: i64) {
        if other.is_zero() {
            return;
        }
        if let Value::Small { integer, exponent } = &mut self.value {
            let signed = if sign < 0 { other.negate() } else { Some(other) };
            let sum = signed.and_then(|other| small_sum((*integer, *exponent), (other, unit)));
            if let Some(sum) = sum {
                (*integer, *exponent) = sum;
                return;
            }
        }
        self.big().add_wide(other, 8 * i32::from(unit), sign);
    }

    /// The finite part as a big accumulator from now on.
    fn big(&mut self) -> &mut Plain {
        if let Value::Small { integer, exponent } = self.value {
            let mut big = Box::<Plain>::default();
            big.add_wide(integer, 8 * i32::from(exponent), 1);
            self.value = Value::Big(big);
        }
        match &mut self.value {
            Value::Big(big) => big,
            Value::Small { .. } => unreachable!("it was just made big"),
        }
    }

    /// The sum, rounded once to the nearest double, ties to even.
    ///
    /// NaN if a NaN was added or both infinities were; an infinity if one was; an infinity too if the finite sum is
    /// beyond the largest double.
    pub fn to_f64(&self) -> f64 {
        match (self.non_finite(), &self.value) {
            (Some(value), _) => value,
            (None, Value::Small { integer, exponent }) => {
                round_small(*integer, 8 * i64::from(*exponent))
            }
            (None, Value::Big(big)) => {
                let (mantissa, exponent) = big.to_integer();
                round(&mantissa, exponent)
            }
        }
    }

    /// The double that the sum is exactly, if there is one. `-0.0` never is: sums have one zero.
    pub fn as_f64(&self) -> Option<f64> {
        let rounded = self.to_f64();
        let exact = match self.value {
            Value::Small { integer, exponent } => {
                let magnitude = integer.magnitude();
                let (low, bits) = (magnitude.trailing_zeros(), magnitude.bits());
                integer.is_zero()
                    || (bits - low <= 53 && 8 * i32::from(exponent) + low as i32 >= -1074)
            }
            Value::Big(_) => {
                let mut rest = self.clone();
                rest.add(-rounded);
                rest.is_zero()
            }
        };
        (exact && rounded.is_finite()).then_some(rounded)
    }

    /// Whether neither NaN nor an infinity was added.
    pub fn is_finite(&self) -> bool {
        self.flags == 0
    }

    /// Whether the sum is exactly zero.
    pub fn is_zero(&self) -> bool {
        let zero = match &self.value {
            Value::Small { integer, .. } => integer.is_zero(),
            Value::Big(big) => big.to_integer().0.is_zero(),
        };
        zero && self.flags == 0
    }

    /// Bytes held on the heap.
    pub fn heap_size(&self) -> usize {
        match &self.value {
            Value::Small { .. } => 0,
            Value::Big(big) => size_of::<Plain>() + big.heap_size(),
        }
    }

    fn non_finite(&self) -> Option<f64> {
        match self.flags {
            0 => None,
            POS_INF => Some(f64::INFINITY),
            NEG_INF => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    /// The finite part as `integer · 2^exponent`.
    pub(crate) fn to_integer(&self) -> (BigInt, i32) {
        match &self.value {
            Value::Small { integer, exponent } => {
                (BigInt::from_signed_bytes_le(&integer.to_le_bytes()), 8 * i32::from(*exponent))
            }
            Value::Big(big) => big.to_integer(),
        }
    }

    /// The finite part as `integer · 2^exponent` with a small integer, if there is a short way to one.
    pub(crate) fn to_small(&self) -> Option<(i128, i32)> {
        let (integer, exponent) = self.to_i256()?;
        if integer.is_zero() {
            return Some((0, 0));
        }
        let zeros = integer.trailing_zeros();
        Some((integer.shr(zeros).to_i128()?, exponent + zeros as i32))
    }

    /// The finite part as `integer · 2^exponent`, unless it is a big one.
    pub(super) fn to_i256(&self) -> Option<(I256, i32)> {
        match &self.value {
            Value::Small { integer, exponent } => Some((*integer, 8 * i32::from(*exponent))),
            Value::Big(_) => None,
        }
    }

    /// Appends the canonical bytes: equal sums have equal bytes, whatever way they were made.
    ///
    /// Layout: exponent in units of 8 bits (i16), length (u16), two's complement little-endian integer trimmed at both
    /// ends, flags (u8).
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.value {
            Value::Small { integer, exponent } => {
                // The same as below, without a look at every byte.
                let zeros = (integer.trailing_zeros() / 8) as usize;
                let end = integer.bits() as usize / 8 + 1;
                let bytes = integer.to_le_bytes();
                let (exponent, body) = match bytes.get(zeros..end) {
                    Some(body) => (exponent + zeros as i16, body),
                    None => (0, &[][..]),
                };
                out.extend_from_slice(&exponent.to_le_bytes());
                out.extend_from_slice(&(body.len() as u16).to_le_bytes());
                out.extend_from_slice(body);
            }
            Value::Big(big) => {
                let (bytes, exponent) = big.to_le_bytes();
                write_trimmed(&bytes, exponent, out);
            }
        }
        out.push(self.flags);
    }

    /// Reads the bytes of [`encode`](Self::encode) and moves `bytes` past them.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes end early or are not canonical.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(format!("an exact sum {what}"));
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged("ends early"))?;
        let exponent = i16::from_le_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if rest.len() < length + 1 {
            return Err(damaged("ends early"));
        }
        let (body, rest) = rest.split_at(length);
        let flags = rest[0];
        if flags > 7 || !(-300..=300).contains(&exponent) || length > 600 {
            return Err(damaged("is out of range"));
        }
        let value = if length <= 32 {
            Value::Small { integer: I256::from_le_bytes(body), exponent }
        } else {
            let mut big = Box::<Plain>::default();
            let (top, low) = (body.chunks(8).count() - 1, 8 * i32::from(exponent));
            for (i, chunk) in body.chunks(8).enumerate() {
                let negative = i == top && chunk.last().is_some_and(|&b| b >= 128);
                let mut word = [if negative { 255 } else { 0 }; 16];
                word[..chunk.len()].copy_from_slice(chunk);
                big.add_scaled(i128::from_le_bytes(word), low + 64 * i as i32);
            }
            Value::Big(big)
        };
        *bytes = &rest[1..];
        Ok(Self { value, flags })
    }
}

/// The sum of two small values, unless it needs more bits.
fn small_sum(a: (I256, i16), b: (I256, i16)) -> Option<(I256, i16)> {
    if a.0.is_zero() {
        return Some(b);
    }
    let ((low, exponent), (high, higher)) = if a.1 <= b.1 { (a, b) } else { (b, a) };
    if exponent == higher {
        return low.add(high).map(|sum| (sum, exponent));
    }
    let apart = 8 * (i32::from(higher) - i32::from(exponent)) as u32;
    if let Some(sum) = high.shl(apart).and_then(|high| low.add(high)) {
        return Some((sum, exponent));
    }
    // The lower one may only look low, for zeros at its end.
    let zeros = low.trailing_zeros();
    (zeros >= apart).then(|| low.shr(apart).add(high))?.map(|sum| (sum, higher))
}

/// Writes exponent, length and the bytes without those at the ends that say nothing.
fn write_trimmed(bytes: &[u8], exponent: i32, out: &mut Vec<u8>) {
    let zeros = bytes.iter().take_while(|&&b| b == 0).count();
    let mut body = &bytes[zeros..];
    while let [.., before, last] = body {
        let redundant = (*last == 0 && *before < 128) || (*last == 255 && *before >= 128);
        if !redundant {
            break;
        }
        body = &body[..body.len() - 1];
    }
    let exponent = if body.is_empty() { 0 } else { exponent + zeros as i32 };
    out.extend_from_slice(&(exponent as i16).to_le_bytes());
    out.extend_from_slice(&(body.len() as u16).to_le_bytes());
    out.extend_from_slice(body);
}

/// Equality of values: the bytes are canonical.
impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        self.encode(&mut a);
        other.encode(&mut b);
        a == b
    }
}

/// `a·b − c·d`, formed exactly and rounded once to the nearest double.
///
/// With `a = n`, `b = Σxy`, `c = Σx`, `d = Σy` this is `n(n−1)` times the sample covariance, and exactly 0 where that
/// is 0. NaN if any of the four is not finite.
pub fn cross(a: &ExactSum, b: &ExactSum, c: &ExactSum, d: &ExactSum) -> f64 {
    if ![a, b, c, d].iter().all(|s| s.is_finite()) {
        return f64::NAN;
    }
    if let Some((integer, exponent)) = small_cross(a, b, c, d) {
        return round_small(integer, 8 * i64::from(exponent));
    }
    let [(a, ea), (b, eb), (c, ec), (d, ed)] = [a, b, c, d].map(ExactSum::to_integer);
    let (mut left, mut right) = (a * b, c * d);
    let (el, er) = (ea + eb, ec + ed);
    let exponent = el.min(er);
    left <<= (el - exponent) as usize;
    right <<= (er - exponent) as usize;
    round(&(left - right), exponent)
}

/// The same in 256 bits, if it fits them.
fn small_cross(a: &ExactSum, b: &ExactSum, c: &ExactSum, d: &ExactSum) -> Option<(I256, i16)> {
    let product = |a: &ExactSum, b: &ExactSum| match (&a.value, &b.value) {
        (Value::Small { integer: a, exponent: ea }, Value::Small { integer: b, exponent: eb }) => {
            Some((a.mul(*b)?, ea.checked_add(*eb)?))
        }
        _ => None,
    };
    let (left, (right, exponent)) = (product(a, b)?, product(c, d)?);
    small_sum(left, (right.negate()?, exponent))
}

/// `x = mantissa · 2^exponent`, for finite `x`.
pub(super) fn split(x: f64) -> (i64, i32) {
    let bits = x.to_bits();
    let biased = ((bits >> 52) & 0x7ff) as i32;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let (mantissa, exponent) =
        if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
    (if bits >> 63 == 1 { -mantissa } else { mantissa }, exponent)
}

/// The flag of a value that is not finite.
pub(super) fn flag(x: f64) -> u8 {
    if x.is_nan() {
        NAN
    } else if x == f64::INFINITY {
        POS_INF
    } else if x == f64::NEG_INFINITY {
        NEG_INF
    } else {
        0
    }
}

/// `2^exponent` for exponents of normal and subnormal doubles.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    if exponent >= -1022 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    } else {
        f64::from_bits(1u64 << (exponent + 1074))
    }
}

/// `mantissa · 2^exponent` rounded to the nearest double, ties to even.
fn round(mantissa: &BigInt, exponent: i32) -> f64 {
    if mantissa.is_zero() {
        return 0.0;
    }
    let magnitude = mantissa.abs().into_parts().1;
    let top = magnitude.bits() as i64 + i64::from(exponent);
    let unit = unit_of(top);
    let shift = unit - i64::from(exponent);
    let mut kept =
        if shift <= 0 { &magnitude << (-shift) as usize } else { &magnitude >> shift as usize };
    if shift > 0 {
        let half = magnitude.bit(shift as u64 - 1);
        let sticky = magnitude.trailing_zeros().is_some_and(|z| z < shift as u64 - 1);
        if half && (sticky || kept.bit(0)) {
            kept += 1u32;
        }
    }
    let kept = kept.to_u64().expect("at most 54 bits are kept");
    assemble(kept, unit, top, mantissa.is_negative())
}

/// The same of 128 bits, for exponents that keep it away from the ends of the range.
pub(super) fn round_scaled(value: i128, exponent: i64) -> Option<f64> {
    // The conversion rounds to even, and the product is exact as it is neither subnormal nor too large.
    let ordinary = (-1000..=890).contains(&exponent);
    ordinary.then(|| value as f64 * power_of_two(exponent as i32))
}

/// The same of 256 bits.
fn round_small(mantissa: I256, exponent: i64) -> f64 {
    if mantissa.is_zero() {
        return 0.0;
    }
    if let Some(rounded) = mantissa.to_i128().and_then(|value| round_scaled(value, exponent)) {
        return rounded;
    }
    let magnitude = mantissa.magnitude();
    // The magnitude of the least integer is 2²⁵⁵, whose bits are those of a negative number.
    let bits = if magnitude.is_negative() { 256 } else { magnitude.bits() };
    let top = i64::from(bits) + exponent;
    let unit = unit_of(top);
    let shift = unit - exponent;
    let kept = if shift <= 0 {
        magnitude.words()[0] << -shift
    } else if shift > 256 {
        0
    } else {
        let shift = shift as u32;
        let (low, rest) = (magnitude.logical_shr(shift).words()[0], magnitude.trailing_zeros());
        let half = magnitude.bit(shift - 1);
        low + u64::from(half && (rest < shift - 1 || low & 1 == 1))
    };
    assemble(kept, unit, top, mantissa.is_negative())
}

/// The exponent of the last place of the double nearest to a value below `2^top`.
fn unit_of(top: i64) -> i64 {
    (top - 53).max(-1074)
}

/// `±kept · 2^unit`, where that is a double; infinite if the value had its top bit beyond the largest.
fn assemble(kept: u64, unit: i64, top: i64, negative: bool) -> f64 {
    let value = if top > 1024 {
        f64::INFINITY
    } else {
        // Two exact steps: `unit` alone may be below the smallest or, with the kept bits, above the largest power.
        let half = (unit / 2) as i32;
        kept as f64 * power_of_two(half) * power_of_two(unit as i32 - half)
    };
    if negative { -value } else { value }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> ExactSum {
        let mut s = ExactSum::new();
        values.iter().for_each(|&v| s.add(v));
        s
    }

    fn bytes(s: &ExactSum) -> Vec<u8> {
        let mut out = Vec::new();
        s.encode(&mut out);
        out
    }

    #[test]
    fn cancellation_leaves_the_small_terms() {
        assert_eq!(sum(&[1e300, 1e-300, -1e300]).to_f64(), 1e-300);
        assert_eq!(sum(&[1e16, 1.0, -1e16]).to_f64(), 1.0);
        assert_eq!(sum(&[5e-324, 5e-324]).to_f64(), 1e-323);
        assert!(sum(&[0.1, -0.1]).is_zero());
    }

    #[test]
    fn rounding_is_to_nearest_ties_to_even() {
        let ulp = f64::EPSILON;
        assert_eq!(sum(&[1.0, ulp / 2.0]).to_f64(), 1.0);
        assert_eq!(sum(&[1.0 + ulp, ulp / 2.0]).to_f64(), 1.0 + 2.0 * ulp);
        assert_eq!(sum(&[1.0, ulp / 2.0, 5e-324]).to_f64(), 1.0 + ulp);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).to_f64(), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]).to_f64(), f64::MAX);
    }

    #[test]
    fn bytes_are_canonical_and_read_back() {
        for values in
            [&[][..], &[1.5, -2.25], &[1e300, 1e-300, 5e-324], &[-1.0], &[-256.0], &[128.0]]
        {
            let forward = sum(values);
            let mut backward = ExactSum::new();
            backward.add(1e100);
            values.iter().rev().for_each(|&v| backward.add(v));
            backward.add(-1e100);
            assert_eq!(bytes(&forward), bytes(&backward), "{values:?}");
            let encoded = bytes(&forward);
            let mut rest = &encoded[..];
            let decoded = ExactSum::decode(&mut rest).expect("own bytes are read");
            assert!(rest.is_empty());
            assert_eq!(bytes(&decoded), encoded, "{values:?}");
        }
    }

    #[test]
    fn non_finite_values_are_order_independent() {
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).to_f64().is_nan());
        assert_eq!(sum(&[1.0, f64::INFINITY]).to_f64(), f64::INFINITY);
        assert!(sum(&[f64::NAN, f64::INFINITY]).to_f64().is_nan());
    }

    #[test]
    fn products_are_exact() {
        let mut s = ExactSum::new();
        let (x, y) = (1.0 + f64::EPSILON, 1.0 - f64::EPSILON);
        s.add_product(x, y);
        s.add(-1.0);
        assert_eq!(s.to_f64(), -f64::EPSILON * f64::EPSILON);
        let mut tiny = ExactSum::new();
        tiny.add_product(5e-324, 5e-324);
        assert!(!tiny.is_zero());
    }

    #[test]
    fn the_product_with_a_double_is_that_of_the_terms() {
        let values = [0.1, -1e300, 1e-300, 3.0, 5e-324, 1e16];
        for x in [0.0, -0.1, 1e-308, 1.7e308, 3.0] {
            for terms in [&values[..], &values[3..4], &values[..1], &[]] {
                let mut expected = ExactSum::new();
                terms.iter().for_each(|&v| expected.add_product(v, x));
                assert_eq!(sum(terms).times(x), expected, "{terms:?} {x}");
            }
        }
    }

    #[test]
    fn covariance_of_a_constant_is_exactly_zero() {
        let (mut s, mut q) = (ExactSum::new(), ExactSum::new());
        for _ in 0..1000 {
            s.add(0.1);
            q.add_product(0.1, 0.1);
        }
        assert_eq!(cross(&ExactSum::from_integer(1000), &q, &s, &s), 0.0);
    }

    #[test]
    fn hostile_bytes_are_errors() {
        let good = bytes(&sum(&[1.0, 1e-9]));
        for end in 0..good.len() {
            assert!(ExactSum::decode(&mut &good[..end]).is_err());
        }
        assert!(ExactSum::decode(&mut &[0xff, 0x7f, 0xff, 0xff, 1, 2, 3][..]).is_err());
    }
}
