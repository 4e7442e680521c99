//! The plain big accumulator: any doubles, products and scaled integers, obviously right.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::Zero;

use super::int256::I256;

/// Carries are let run this many additions before they are propagated: each adds at most 2³² to a digit, and
/// 2²⁹ · 2³² stays well inside of an `i64`.
const MAX_PENDING: u32 = 1 << 29;

/// A sum of scaled integers of any size.
///
/// The value is `Σ digit[i] · 2^(32·(base+i))` with signed digits whose carries are propagated lazily; the range is
/// sparse, so that a sum of ordinary values takes a few words. It is what every faster form falls back to and is
/// compared with.
#[derive(Debug, Clone, Default)]
pub(super) struct Plain {
    base: i32,
    digits: Vec<i64>,
    pending: u32,
}

impl Plain {
    /// Adds `value · 2^exponent`.
    pub(super) fn add_scaled(&mut self, value: i128, exponent: i32) {
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

    /// Adds `value · 2^exponent`, negated for a `sign` of −1.
    pub(super) fn add_wide(&mut self, value: I256, exponent: i32, sign: i64) {
        let words = value.words();
        for (i, word) in words.into_iter().enumerate() {
            let word = if i == 3 { i128::from(word as i64) } else { i128::from(word) };
            self.add_scaled(i128::from(sign) * word, exponent + 64 * i as i32);
        }
    }

    /// Adds another sum, negated for a `sign` of −1.
    pub(super) fn combine(&mut self, other: &Self, sign: i64) {
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

    /// Bytes held on the heap.
    pub(super) fn heap_size(&self) -> usize {
        self.digits.capacity() * size_of::<i64>()
    }

    /// The value as `integer · 2^exponent`.
    pub(super) fn to_integer(&self) -> (BigInt, i32) {
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

    /// Two's complement bytes, least significant first, and the exponent of the first in units of 8 bits.
    pub(super) fn to_le_bytes(&self) -> (Vec<u8>, i32) {
        let mut copy = self.clone();
        copy.propagate();
        let mut bytes = Vec::with_capacity(4 * copy.digits.len());
        if let Some((&top, rest)) = copy.digits.split_last() {
            for &digit in rest {
                bytes.extend_from_slice(&(digit as u32).to_le_bytes());
            }
            bytes.extend_from_slice(&(top as i32).to_le_bytes());
        }
        (bytes, copy.base * 4)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOW: i32 = -2300;

    proptest! {
        #[test]
        fn sums_are_those_of_big_integers(
            terms in prop::collection::vec((any::<i128>(), 0u32..127, LOW..2300, any::<bool>()), 0..40),
        ) {
            let (mut sum, mut expected) = (Plain::default(), BigInt::zero());
            for (value, shift, exponent, merged) in terms {
                let value = value >> shift;
                if merged {
                    let mut other = Plain::default();
                    other.add_scaled(value, exponent);
                    sum.combine(&other, -1);
                    expected -= BigInt::from(value) << (exponent - LOW) as usize;
                } else {
                    sum.add_scaled(value, exponent);
                    expected += BigInt::from(value) << (exponent - LOW) as usize;
                }
            }
            let below = LOW - 100;
            let (value, exponent) = sum.to_integer();
            prop_assert_eq!(value << (exponent - below) as usize, &expected << (LOW - below) as usize);
            let (bytes, exponent) = sum.to_le_bytes();
            let value = BigInt::from_signed_bytes_le(&bytes);
            prop_assert_eq!(value << (8 * exponent - below) as usize, &expected << (LOW - below) as usize);
        }
    }
}
