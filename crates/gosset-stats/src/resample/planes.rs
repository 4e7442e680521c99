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
}

impl Multiply {
    /// What this processor has, the best last.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        [
            Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            super::avx2::Avx2::detect().map(Self::Avx2),
        ]
        .into_iter()
        .flatten()
    }

    pub(super) fn detect() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// Adds, for every plane, the digits of at most 64 units times their weights to the sums of 32 replicates. The pairs
    /// of plane `k` start at `k · stride`.
    pub(super) fn add(
        self,
        rows: &[Row],
        pairs: &[u32],
        stride: usize,
        sums: &mut [[i32; TILE_REPLICATES]],
    ) {
        assert!(2 * rows.len() <= TILE_UNITS, "a tile has {} rows", rows.len());
        match self {
            Self::Portable => add(rows, pairs, stride, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.add(rows, pairs, stride, sums),
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

/// Writes the digits of `value · 2^shift`, plane by plane: those of a pair of units are the bytes of a word, twice.
pub(super) fn write(values: &[i128], shift: i32, out: &mut [u32], stride: usize, digits: usize) {
    // Digits from −64 to 63 are those from 0 to 127 of a value with 64 added at every place.
    let bias = (0..digits).fold(0u128, |bias, _| bias << DIGIT_BITS | 64);
    let biased = |value: i128| {
        let value = if shift >= 0 { value << shift } else { value >> -shift };
        bias.wrapping_add(value as u128)
    };
    /// Digits whose bits are taken from one word.
    const WORD: usize = 9;
    for (p, pair) in values.chunks(2).enumerate() {
        let (mut first, mut second) = (biased(pair[0]), biased(pair.get(1).copied().unwrap_or(0)));
        for start in (0..digits).step_by(WORD) {
            let (mut low, mut high) = (first as u64, second as u64);
            for k in start..digits.min(start + WORD) {
                let bytes = ((low & 127) | (high & 127) << 8) as u32 ^ 0x4040;
                // 64 below as a byte: the bit is turned, and copied to the one above it.
                let bytes = bytes | (bytes & 0x4040) << 1;
                out[k * stride + p] = bytes | bytes << 16;
                (low, high) = (low >> DIGIT_BITS, high >> DIGIT_BITS);
            }
            first >>= WORD as i32 * DIGIT_BITS;
            second >>= WORD as i32 * DIGIT_BITS;
        }
    }
}
