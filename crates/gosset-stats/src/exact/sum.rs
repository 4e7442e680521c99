//! One exact sum.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use crate::{Error, Result};

const NAN: u8 = 1;
const POS_INF: u8 = 2;
const NEG_INF: u8 = 4;

/// Carries are let run this many additions before they are propagated: each adds at most 2³² to a digit, and
/// 2²⁹ · 2³² stays well inside of an `i64`.
const MAX_PENDING: u32 = 1 << 29;

/// The true sum of any doubles, products of two doubles and scaled integers.
///
/// The value is `Σ digit[i] · 2^(32·(base+i))` with signed digits whose carries are propagated lazily; the range is
/// sparse, so that a sum of ordinary values takes a few words. NaN and infinities are remembered as flags beside the
/// finite part, so that they too are independent of the order. Adding `±0.0` is nothing: a sum of `-0.0`s is `+0.0`.
#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    base: i32,
    digits: Vec<i64>,
    pending: u32,
    flags: u8,
}

impl ExactSum {
    /// The empty sum, zero.
    pub const fn new() -> Self {
        Self { base: 0, digits: Vec::new(), pending: 0, flags: 0 }
    }

    /// An integer as an exact sum.
    pub fn from_integer(value: i128) -> Self {
        let mut sum = Self::new();
        sum.add_scaled(value, 0);
        sum
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
        if value == 0 {
            return;
        }
        let (first, shift) = (exponent.div_euclid(32), exponent.rem_euclid(32) as u32);
        self.make_room(first, first + 5);
        let mut i = (first - self.base) as usize;
        let low_bits = 32 - shift;
        self.digits[i] += ((value as u128 & ((1u128 << low_bits) - 1)) as i64) << shift;
        let mut rest = value >> low_bits;
        i += 1;
        while rest != i128::from(rest as i32) {
            self.digits[i] += (rest & 0xffff_ffff) as i64;
            rest >>= 32;
            i += 1;
        }
        self.digits[i] += rest as i64;
        self.pending += 1;
        if self.pending >= MAX_PENDING {
            self.propagate();
        }
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
        if other.digits.is_empty() {
            return;
        }
        if self.pending.saturating_add(other.pending).saturating_add(1) >= MAX_PENDING {
            self.propagate();
        }
        self.make_room(other.base, other.base + other.digits.len() as i32 - 1);
        let offset = (other.base - self.base) as usize;
        for (mine, theirs) in self.digits[offset..].iter_mut().zip(&other.digits) {
            *mine += sign * theirs;
        }
        self.pending = self.pending.saturating_add(other.pending).saturating_add(1);
        if self.pending >= MAX_PENDING {
            self.propagate();
        }
    }

    /// The sum, rounded once to the nearest double, ties to even.
    ///
    /// NaN if a NaN was added or both infinities were; an infinity if one was; an infinity too if the finite sum is
    /// beyond the largest double.
    pub fn to_f64(&self) -> f64 {
        match self.non_finite() {
            Some(value) => value,
            None => {
                let (mantissa, exponent) = self.to_integer();
                round(&mantissa, exponent)
            }
        }
    }

    /// Whether neither NaN nor an infinity was added.
    pub fn is_finite(&self) -> bool {
        self.flags == 0
    }

    /// Whether the sum is exactly zero.
    pub fn is_zero(&self) -> bool {
        self.flags == 0 && self.to_integer().0.is_zero()
    }

    /// Bytes held on the heap.
    pub fn heap_size(&self) -> usize {
        self.digits.capacity() * size_of::<i64>()
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
        let mut copy = self.clone();
        copy.propagate();
        let Some((&top, rest)) = copy.digits.split_last() else {
            return (BigInt::zero(), 0);
        };
        let mut value = BigInt::from(top) << (32 * rest.len());
        let low: Vec<u32> = rest.iter().map(|&d| d as u32).collect();
        value += BigInt::from_biguint(Sign::Plus, BigUint::new(low));
        (value, 32 * copy.base)
    }

    /// The finite part as `integer · 2^exponent` with a small integer, if there is a short way to one.
    pub(crate) fn to_small(&self) -> Option<(i128, i32)> {
        let zeros = self.digits.iter().take_while(|&&d| d == 0).count();
        let digits = self.digits[zeros..].iter().enumerate();
        let value = digits.filter(|(_, d)| **d != 0).try_fold(0i128, |value, (i, &digit)| {
            let unit = (i < 4).then(|| 1i128 << (32 * i))?;
            value.checked_add(i128::from(digit).checked_mul(unit)?)
        })?;
        Some((value, 32 * (self.base + zeros as i32)))
    }

    /// Appends the canonical bytes: equal sums have equal bytes, whatever way they were made.
    ///
    /// Layout: exponent in units of 8 bits (i16), length (u16), two's complement little-endian integer trimmed at both
    /// ends, flags (u8).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut copy = self.clone();
        copy.propagate();
        let mut bytes = Vec::with_capacity(4 * copy.digits.len());
        if let Some((&top, rest)) = copy.digits.split_last() {
            for &digit in rest {
                bytes.extend_from_slice(&(digit as u32).to_le_bytes());
            }
            bytes.extend_from_slice(&(top as i32).to_le_bytes());
        }
        let zeros = bytes.iter().take_while(|&&b| b == 0).count();
        let mut body = &bytes[zeros..];
        while let [.., before, last] = body {
            let redundant = (*last == 0 && *before < 128) || (*last == 255 && *before >= 128);
            if !redundant {
                break;
            }
            body = &body[..body.len() - 1];
        }
        let exponent = if body.is_empty() { 0 } else { copy.base * 4 + zeros as i32 };
        out.extend_from_slice(&(exponent as i16).to_le_bytes());
        out.extend_from_slice(&(body.len() as u16).to_le_bytes());
        out.extend_from_slice(body);
        out.push(self.flags);
    }

    /// Reads the bytes of [`encode`](Self::encode) and moves `bytes` past them.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes end early or are not canonical.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(format!("an exact sum {what}"));
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged("ends early"))?;
        let exponent = i32::from(i16::from_le_bytes([head[0], head[1]]));
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if rest.len() < length + 1 {
            return Err(damaged("ends early"));
        }
        let (body, rest) = rest.split_at(length);
        let mut sum = Self { flags: rest[0], ..Self::default() };
        if sum.flags > 7 || !(-300..=300).contains(&exponent) || length > 600 {
            return Err(damaged("is out of range"));
        }
        let negative = body.last().is_some_and(|&b| b >= 128);
        for (i, chunk) in body.chunks(8).enumerate() {
            let last = 8 * i + chunk.len() == length;
            let mut word = [if last && negative { 255 } else { 0 }; 16];
            word[..chunk.len()].copy_from_slice(chunk);
            sum.add_scaled(i128::from_le_bytes(word), (exponent + 8 * i as i32) * 8);
        }
        sum.propagate();
        *bytes = &rest[1..];
        Ok(sum)
    }

    fn make_room(&mut self, low: i32, high: i32) {
        if self.digits.is_empty() {
            self.base = low;
            self.digits.resize((high - low + 1) as usize, 0);
            return;
        }
        if low < self.base {
            let missing = (self.base - low) as usize;
            self.digits.splice(0..0, std::iter::repeat_n(0, missing));
            self.base = low;
        }
        let needed = (high - self.base + 1) as usize;
        if needed > self.digits.len() {
            self.digits.resize(needed, 0);
        }
    }

    /// Propagates the carries: digits in `[0, 2³²)` but for a signed top that fits an `i32`.
    fn propagate(&mut self) {
        let mut carry = 0i64;
        let last = self.digits.len().saturating_sub(1);
        for (i, digit) in self.digits.iter_mut().enumerate() {
            let total = *digit + carry;
            if i < last {
                *digit = total & 0xffff_ffff;
                carry = total >> 32;
            } else {
                *digit = total;
            }
        }
        while let Some(&top) = self.digits.last() {
            if top == i64::from(top as i32) {
                break;
            }
            let last = self.digits.len() - 1;
            self.digits[last] = top & 0xffff_ffff;
            self.digits.push(top >> 32);
        }
        self.pending = 0;
    }
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
    let [(a, ea), (b, eb), (c, ec), (d, ed)] = [a, b, c, d].map(ExactSum::to_integer);
    let (mut left, mut right) = (a * b, c * d);
    let (el, er) = (ea + eb, ec + ed);
    let exponent = el.min(er);
    left <<= (el - exponent) as usize;
    right <<= (er - exponent) as usize;
    round(&(left - right), exponent)
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
    if top > 1024 {
        return if mantissa.is_negative() { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let unit = (top - 53).max(-1074);
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
    let kept = kept.to_u64().expect("at most 54 bits are kept") as f64;
    // Two exact steps: `unit` alone may be below the smallest or, with the kept bits, above the largest power.
    let half = (unit / 2) as i32;
    let value = kept * power_of_two(half) * power_of_two(unit as i32 - half);
    if mantissa.is_negative() { -value } else { value }
}

#[cfg(test)]
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
