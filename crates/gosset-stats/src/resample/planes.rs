//! Digits, and the sums of weights times digits, in plain code.

use super::DIGIT_BITS;
use crate::weights::{TILE_ORDER, TILE_REPLICATES, TILE_UNITS};

/// A row of a tile: the weights of two units.
pub(super) type Row = [u8; 2 * TILE_REPLICATES];

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

    /// Writes the digits of `value · 2^shift`, plane by plane, as the bytes of words: those of two units twice, or those of
    /// four.
    pub(super) fn write(
        self,
        values: &[i128],
        shift: i32,
        out: &mut [u32],
        stride: usize,
        digits: usize,
    ) {
        match self.units_per_word() {
            2 => write::<2>(values, shift, out, stride, digits),
            _ => write::<4>(values, shift, out, stride, digits),
        }
    }

    /// Adds, for every plane, the digits of at most 64 units times their weights to the sums of 32 replicates. The words
    /// of plane `k` start at `k · stride`.
    pub(super) fn add(
        self,
        rows: &[Row],
        words: &[u32],
        stride: usize,
        sums: &mut [[i32; TILE_REPLICATES]],
    ) {
        assert!(2 * rows.len() <= TILE_UNITS, "a tile has {} rows", rows.len());
        match self {
            Self::Portable => add(rows, words, stride, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.add(rows, words, stride, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.add(rows, words, stride, sums),
        }
    }
}

fn add(rows: &[Row], pairs: &[u32], stride: usize, sums: &mut [[i32; TILE_REPLICATES]]) {
    for (k, sums) in sums.iter_mut().enumerate() {
        let pairs = &pairs[k * stride..][..rows.len()];
        // 32 pairs times 2 · 8 · 64 are just as many as 16 bits hold with a sign, as digits are never above 63; sums modulo
        // 2^16 are what vectors of any processor have.
        let mut narrow = [0u16; TILE_REPLICATES];
        for (row, pair) in rows.iter().zip(pairs) {
            let [first, second, ..] = pair.to_le_bytes().map(|digit| digit as i8 as u16);
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

/// See [`Multiply::write`].
fn write<const UNITS: usize>(
    values: &[i128],
    shift: i32,
    out: &mut [u32],
    stride: usize,
    digits: usize,
) {
    // Digits from −64 to 63 are those from 0 to 127 of a value with 64 added at every place.
    let bias = (0..digits).fold(0u128, |bias, _| bias << DIGIT_BITS | 64);
    let biased = |value: i128| {
        let value = if shift >= 0 { value << shift } else { value >> -shift };
        bias.wrapping_add(value as u128)
    };
    /// Digits whose bits are taken from one word.
    const WORD: usize = 9;
    for (p, values) in values.chunks(UNITS).enumerate() {
        let mut left = [bias; UNITS];
        left.iter_mut().zip(values).for_each(|(left, &value)| *left = biased(value));
        for start in (0..digits).step_by(WORD) {
            let mut low = left.map(|left| left as u64);
            for k in start..digits.min(start + WORD) {
                let mut bytes = 0;
                for (i, low) in low.iter_mut().enumerate() {
                    bytes |= (*low as u32 & 127) << (8 * i);
                    *low >>= DIGIT_BITS;
                }
                if UNITS == 2 {
                    bytes |= bytes << 16;
                }
                // 64 below as a byte: the bit is turned, and copied to the one above it.
                let bytes = bytes ^ 0x4040_4040;
                out[k * stride + p] = bytes | (bytes & 0x4040_4040) << 1;
            }
            left.iter_mut().for_each(|left| *left >>= WORD as i32 * DIGIT_BITS);
        }
    }
}
