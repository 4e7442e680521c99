//! Digits, and the sums of weights times digits, in plain code.

pub(super) use crate::weights::Row;
use crate::weights::{TILE_ORDER, TILE_REPLICATES};

/// The digits of units in one plane, as bytes.
pub(super) type Word = [u8; 4];

/// Bits of a digit where products are added in 16 bits.
const NARROW_DIGIT: u32 = 7;

/// What multiplies and adds. All of it gives the same sums.
#[derive(Debug, Clone, Copy)]
pub(super) enum Multiply {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(super::avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(super::avx512::Avx512),
}

impl Multiply {
    /// What this processor has, the best last.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        [
            Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            super::avx2::Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            super::avx512::Avx512::detect().map(Self::Avx512),
        ]
        .into_iter()
        .flatten()
    }

    pub(super) fn detect() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// Bits of a digit: in 32 bits there is room for the products of all that a byte holds.
    pub(super) fn digit_bits(self) -> i32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => u8::BITS as i32,
            _ => NARROW_DIGIT as i32,
        }
    }

    /// Units whose digits are in one word.
    pub(super) fn units_per_word(self) -> usize {
        match self {
            Self::Portable => 2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 4,
        }
    }

    /// Rows that may be added at once, of weights of so many parts: as many as sums of 16 bits hold, or all of a tile where
    /// they have 32.
    pub(super) fn rows_at_once(self, parts: usize) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => crate::weights::TILE_UNITS / 2,
            _ if parts == 1 => 32,
            _ => 16,
        }
    }

    /// Writes the digits of `value · 2^shift`, plane by plane, as the bytes of words: those of two units twice, or those of
    /// four.
    pub(super) fn write(
        self,
        values: &[i128],
        shift: i32,
        out: &mut [Word],
        stride: usize,
        digits: usize,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => {
                avx512.write(values, shift, out.as_flattened_mut(), 4 * stride, digits);
            }
            _ => write(values, shift, out, stride, digits),
        }
    }

    /// Adds, for every plane, the digits of units times their weights to the sums of 32 replicates, of no more rows
    /// than [`rows_at_once`](Self::rows_at_once) says for the parts of the weights. The words of plane `k` start at `k · stride`.
    pub(super) fn add(
        self,
        rows: &[Row],
        words: &[Word],
        stride: usize,
        sums: &mut [[i32; TILE_REPLICATES]],
    ) {
        assert!(rows.len() <= self.rows_at_once(1), "{} rows at once", rows.len());
        match self {
            Self::Portable => add(rows, words, stride, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.add(rows, words, stride, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.add(rows, words, stride, sums),
        }
    }

    /// Adds the sums of a plane to a lane, where it has its place.
    pub(super) fn add_at(self, shift: i32, plane: &[i32; TILE_REPLICATES], lane: &mut [i64]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.add_at(shift, plane, lane),
            _ => add_at(shift, plane, lane),
        }
    }
}

/// See [`Multiply::add_at`].
#[inline(always)]
pub(super) fn add_at(shift: i32, plane: &[i32; TILE_REPLICATES], lane: &mut [i64]) {
    for (sum, &digit) in lane[..TILE_REPLICATES].iter_mut().zip(plane) {
        *sum += i64::from(digit) << shift;
    }
}

fn add(rows: &[Row], pairs: &[Word], stride: usize, sums: &mut [[i32; TILE_REPLICATES]]) {
    for (k, sums) in sums.iter_mut().enumerate() {
        let pairs = &pairs[k * stride..][..rows.len()];
        // 32 pairs times 2 · 8 · 64 are just as many as 16 bits hold with a sign, as digits are never above 63; sums modulo
        // 2^16 are what vectors of any processor have.
        let mut narrow = [0u16; TILE_REPLICATES];
        for (row, pair) in rows.iter().zip(pairs) {
            let [first, second, ..] = pair.map(|digit| digit as i8 as u16);
            for (sum, weights) in narrow.iter_mut().zip(row.as_chunks::<2>().0) {
                let weights = u16::from_le_bytes(*weights);
                let (a, b) = (weights & 255, weights >> 8);
                *sum = sum.wrapping_add(a.wrapping_mul(first)).wrapping_add(b.wrapping_mul(second));
            }
        }
        for (narrow, &replicate) in narrow.into_iter().zip(&TILE_ORDER) {
            sums[usize::from(replicate)] += i32::from(narrow as i16);
        }
    }
}

/// Digits from −64 to 63 are those from 0 to 127 of a value with 64 added at every place; and so on.
fn bias<const BITS: u32>(digits: usize) -> u128 {
    (0..digits).fold(0, |bias, _| bias << BITS | 1 << (BITS - 1))
}

/// See [`Multiply::write`]: the digits of two units, twice.
fn write(values: &[i128], shift: i32, out: &mut [Word], stride: usize, digits: usize) {
    let mut bytes = vec![0; digits * 2 * stride];
    write_bytes::<NARROW_DIGIT>(values, shift, &mut bytes, 2 * stride, digits);
    let pairs = bytes.as_chunks::<2>().0;
    for (plane, pairs) in out.chunks_mut(stride).zip(pairs.chunks(stride)) {
        plane.iter_mut().zip(pairs).for_each(|(word, &[a, b])| *word = [a, b, a, b]);
    }
}

/// Writes the digits of `value · 2^shift`, of so many bits, those of plane `k` from `k · stride` on.
#[inline(always)]
pub(super) fn write_bytes<const BITS: u32>(
    values: &[i128],
    shift: i32,
    out: &mut [u8],
    stride: usize,
    digits: usize,
) {
    let bias = bias::<BITS>(digits);
    let (blocks, rest) = values.as_chunks::<UNITS>();
    for (i, values) in blocks.iter().enumerate() {
        let mut halves = Halves::<BITS>::new(values, shift, bias);
        for k in 0..digits {
            let places = &mut out[k * stride + i * UNITS..];
            halves.take(k, places.first_chunk_mut().expect("a plane has its units"));
        }
    }
    let mut padded = [0; UNITS];
    padded[..rest.len()].copy_from_slice(rest);
    let mut halves = Halves::<BITS>::new(&padded, shift, bias);
    for k in 0..digits {
        let mut places = [0; UNITS];
        halves.take(k, &mut places);
        let start = k * stride + blocks.len() * UNITS;
        out[start..start + rest.len()].copy_from_slice(&places[..rest.len()]);
    }
}

/// Units whose digits vectors take at once.
const UNITS: usize = 16;

/// The digits of values that are not taken yet, from the lowest: in the low bits of two halves.
struct Halves<const BITS: u32> {
    low: [u64; UNITS],
    high: [i64; UNITS],
}

impl<const BITS: u32> Halves<BITS> {
    /// Digits whose bits are in the low half, whole ones.
    const LOW_DIGITS: u32 = u64::BITS / BITS;
    const LOW_BITS: u32 = Self::LOW_DIGITS * BITS;

    /// In words, since vectors have no integers of 128 bits.
    #[inline(always)]
    fn new(values: &[i128; UNITS], shift: i32, bias: u128) -> Self {
        let (mut low, mut high) = ([0u64; UNITS], [0i64; UNITS]);
        for (i, &value) in values.iter().enumerate() {
            (low[i], high[i]) = (value as u64, (value >> 64) as i64);
        }
        for i in 0..UNITS {
            let (l, h) = (low[i], high[i]);
            (low[i], high[i]) = match shift {
                0.. => (l << shift, h << shift | (l >> 1 >> (63 - shift)) as i64),
                -63.. => (l >> -shift | (h << 1 << (63 + shift)) as u64, h >> -shift),
                _ => ((h >> (-64 - shift)) as u64, h >> 63),
            };
        }
        let (bias_low, bias_high) = (bias as u64, (bias >> 64) as i64);
        for i in 0..UNITS {
            let (sum, carry) = low[i].overflowing_add(bias_low);
            let above = high[i].wrapping_add(bias_high).wrapping_add(carry.into());
            let left = u64::BITS - Self::LOW_BITS;
            (low[i], high[i]) = (sum, above << left | (sum >> 1 >> (Self::LOW_BITS - 1)) as i64);
        }
        Self { low, high }
    }

    /// Takes the digits of plane `k`: planes follow each other.
    #[inline(always)]
    fn take(&mut self, k: usize, places: &mut [u8; UNITS]) {
        let is_low = k < Self::LOW_DIGITS as usize;
        for (i, place) in places.iter_mut().enumerate() {
            let half = if is_low { self.low[i] as u8 } else { self.high[i] as u8 };
            *place = (half & u8::MAX >> (u8::BITS - BITS)).wrapping_sub(1 << (BITS - 1));
        }
        if is_low {
            self.low.iter_mut().for_each(|half| *half >>= BITS);
        } else {
            self.high.iter_mut().for_each(|half| *half >>= BITS);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resample::VALUE_BITS;

    fn check_digits<const BITS: u32>(values: &[i128], shift: i32, digits: usize) {
        let stride = values.len() + 3;
        let mut found = vec![1; digits * stride];
        write_bytes::<BITS>(values, shift, &mut found, stride, digits);
        for (u, &value) in values.iter().enumerate() {
            let shifted = if shift >= 0 { value << shift } else { value >> -shift };
            let biased = bias::<BITS>(digits).wrapping_add(shifted as u128);
            for (k, plane) in found.chunks(stride).enumerate() {
                let digit = (biased >> (BITS as usize * k)) as i32 & ((1 << BITS) - 1);
                assert_eq!(i32::from(plane[u] as i8), digit - (1 << (BITS - 1)), "{value} at {k}");
            }
        }
    }

    proptest! {
        /// In words as in integers of 128 bits, whatever the shift, and in blocks as in what is left of them.
        #[test]
        fn digits_are_those_of_shifted_values(
            values in prop::collection::vec((any::<i128>(), 128 - VALUE_BITS..128), 0..50),
            shift in -(VALUE_BITS as i32)..7,
            digits in 1usize..=16,
        ) {
            let values: Vec<i128> = values.into_iter().map(|(v, bits)| v >> bits).collect();
            check_digits::<NARROW_DIGIT>(&values, shift, digits + 2);
            check_digits::<8>(&values, shift, digits);
        }
    }
}
