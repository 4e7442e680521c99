//! Signed integers of 256 bits: what the sums of ordinary columns fit in.

/// A two's complement integer of 256 bits, least significant word first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct I256([u64; 4]);

impl I256 {
    pub(super) const ZERO: Self = Self([0; 4]);

    pub(super) const fn new(value: i128) -> Self {
        let sign = (value >> 127) as u64;
        Self([value as u64, (value >> 64) as u64, sign, sign])
    }

    /// `value · 2^shift`, for less than 64 places.
    pub(super) const fn shifted(value: i128, shift: u32) -> Self {
        let low = (value as u64 as u128) << shift;
        let high = ((value >> 64) << shift) + (low >> 64) as i128;
        Self([low as u64, high as u64, (high >> 64) as u64, (high >> 127) as u64])
    }

    /// From two's complement bytes, at most 32 of them.
    pub(super) fn from_le_bytes(bytes: &[u8]) -> Self {
        let negative = bytes.last().is_some_and(|&b| b >= 128);
        let mut all = [if negative { 255 } else { 0 }; 32];
        all[..bytes.len()].copy_from_slice(bytes);
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(all.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }

    pub(super) fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    pub(super) const fn words(self) -> [u64; 4] {
        self.0
    }

    pub(super) const fn is_zero(self) -> bool {
        let [a, b, c, d] = self.0;
        a | b | c | d == 0
    }

    pub(super) const fn is_negative(self) -> bool {
        self.0[3] >> 63 == 1
    }

    /// The value, if it has at most 128 bits.
    pub(super) fn to_i128(self) -> Option<i128> {
        let [_, b, c, d] = self.0;
        let sign = ((b as i64) >> 63) as u64;
        (c == sign && d == sign).then_some(self.low())
    }

    /// The low 128 bits.
    pub(super) const fn low(self) -> i128 {
        (self.0[0] as u128 | (self.0[1] as u128) << 64) as i128
    }

    /// Bits that are needed without the sign: 0 for 0 and −1.
    pub(super) fn bits(self) -> u32 {
        let sign = ((self.0[3] as i64) >> 63) as u64;
        for (i, word) in self.0.iter().enumerate().rev() {
            let magnitude = word ^ sign;
            if magnitude != 0 {
                return 64 * i as u32 + 64 - magnitude.leading_zeros();
            }
        }
        0
    }

    /// Zero bits below the lowest set one; 256 for zero.
    pub(super) fn trailing_zeros(self) -> u32 {
        for (i, word) in self.0.iter().enumerate() {
            if *word != 0 {
                return 64 * i as u32 + word.trailing_zeros();
            }
        }
        256
    }

    pub(super) fn bit(self, i: u32) -> bool {
        i < 256 && self.0[i as usize / 64] >> (i % 64) & 1 == 1
    }

    /// The sum modulo 2²⁵⁶.
    fn wrapping_add(self, other: Self) -> Self {
        let mut words = [0; 4];
        let mut carry = false;
        for (word, (a, b)) in words.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            let (sum, first) = a.overflowing_add(b);
            let (sum, second) = sum.overflowing_add(carry.into());
            (*word, carry) = (sum, first | second);
        }
        Self(words)
    }

    /// The sum, unless it overflows.
    pub(super) fn add(self, other: Self) -> Option<Self> {
        let sum = self.wrapping_add(other);
        let overflows =
            self.is_negative() == other.is_negative() && sum.is_negative() != self.is_negative();
        (!overflows).then_some(sum)
    }

    /// The product, unless it overflows.
    pub(super) fn mul(self, other: Self) -> Option<Self> {
        let (a, b) = (self.magnitude().0, other.magnitude().0);
        let mut words = [0u64; 8];
        for (i, &a) in a.iter().enumerate().filter(|(_, a)| **a != 0) {
            let mut carry = 0;
            for (word, &b) in words[i..].iter_mut().zip(&b) {
                let sum = u128::from(a) * u128::from(b) + u128::from(*word) + carry;
                (*word, carry) = (sum as u64, sum >> 64);
            }
            words[i + 4] = carry as u64;
        }
        let (low, high) = words.split_at(4);
        let product = Self(*low.first_chunk()?);
        if high.iter().any(|&word| word != 0) || product.is_negative() {
            return None;
        }
        if self.is_negative() == other.is_negative() { Some(product) } else { product.negate() }
    }

    /// The negative, unless it overflows.
    pub(super) fn negate(self) -> Option<Self> {
        let negative = Self(self.0.map(|w| !w)).wrapping_add(Self::new(1));
        (self.is_zero() || negative.is_negative() != self.is_negative()).then_some(negative)
    }

    /// The absolute value as an unsigned integer, which always fits.
    pub(super) fn magnitude(self) -> Self {
        if self.is_negative() { Self(self.0.map(|w| !w)).wrapping_add(Self::new(1)) } else { self }
    }

    /// `self · 2^shift`, unless it overflows.
    pub(super) fn shl(self, shift: u32) -> Option<Self> {
        if shift == 0 || self.is_zero() {
            return Some(self);
        }
        if self.bits() + shift > 255 {
            return None;
        }
        let (skip, shift) = (shift as usize / 64, shift % 64);
        let mut words = [0; 4];
        let mut below = 0;
        for (out, word) in words[skip..].iter_mut().zip(self.0) {
            *out = word << shift | (below >> 1) >> (63 - shift);
            below = word;
        }
        Some(Self(words))
    }

    /// `self / 2^shift`, rounded down.
    pub(super) fn shr(self, shift: u32) -> Self {
        self.shift_down(shift, ((self.0[3] as i64) >> 63) as u64)
    }

    /// The same of an unsigned integer.
    pub(super) fn logical_shr(self, shift: u32) -> Self {
        self.shift_down(shift, 0)
    }

    fn shift_down(self, shift: u32, sign: u64) -> Self {
        let (skip, shift) = (shift as usize / 64, shift % 64);
        let word = |i: usize| self.0.get(i).copied().unwrap_or(sign);
        let mut words = [0; 4];
        for (i, out) in words.iter_mut().enumerate() {
            *out = word(i + skip) >> shift | (word(i + skip + 1) << 1) << (63 - shift);
        }
        Self(words)
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use num_traits::{One, Signed, Zero};
    use proptest::prelude::*;

    use super::*;

    fn big(x: I256) -> BigInt {
        BigInt::from_signed_bytes_le(&x.to_le_bytes())
    }

    fn fits(x: &BigInt) -> bool {
        let limit = BigInt::one() << 255u32;
        *x < limit && *x >= -limit
    }

    prop_compose! {
        /// Any number of bytes, so that small ones come up too.
        fn integers()(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(255)], 0..=32)) -> I256 {
            I256::from_le_bytes(&bytes)
        }
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_big_integers(a in integers(), b in integers(), shift in 0u32..256) {
            let sum = big(a) + big(b);
            prop_assert_eq!(a.add(b).map(big), fits(&sum).then_some(sum));
            prop_assert_eq!(a.negate().map(big), fits(&-big(a)).then(|| -big(a)));
            let product = big(a) * big(b);
            match a.mul(b) {
                Some(found) => prop_assert_eq!(big(found), product),
                // The least integer counts as an overflow.
                None => prop_assert!(product.bits() > 255),
            }
            let shifted = big(a) << shift;
            prop_assert_eq!(a.shl(shift).map(big), fits(&shifted).then_some(shifted));
            prop_assert_eq!(big(a.shr(shift)), big(a) >> shift);
            prop_assert_eq!(big(I256::shifted(a.low(), shift % 64)), BigInt::from(a.low()) << (shift % 64));
            let magnitude = BigInt::from_bytes_le(num_bigint::Sign::Plus, &a.magnitude().to_le_bytes());
            prop_assert_eq!(magnitude, big(a).abs());
            prop_assert_eq!(u64::from(a.trailing_zeros()), big(a).trailing_zeros().unwrap_or(256));
            let ones = if a.is_negative() { -big(a) - 1 } else { big(a) };
            prop_assert_eq!(u64::from(a.bits()), ones.bits());
            prop_assert_eq!(a.is_negative(), big(a).is_negative());
            prop_assert_eq!(a.is_zero(), big(a).is_zero());
            prop_assert_eq!(a.to_i128().map(BigInt::from), i128::try_from(big(a)).ok().map(BigInt::from));
            prop_assert_eq!(a.bit(shift), !(big(a) >> shift & BigInt::one()).is_zero());
        }
    }
}
