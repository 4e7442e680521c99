//! Digits, and the sums of weights times digits, in plain code.

use super::DIGIT_BITS;
use crate::weights::{TILE_ORDER, TILE_REPLICATES, TILE_UNITS};

/// A row of a tile: the weights of two units.
pub(super) type Row = [u8; 2 * TILE_REPLICATES];

/// The digits of units in one plane, as bytes.
pub(super) type Word = [u8; 4];

/// Digits whose bits are taken from one half of a value.
const DIGITS_OF_A_HALF: usize = 9;

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

    /// Adds, for every plane, the digits of at most 64 units times their weights to the sums of 32 replicates. The words
    /// of plane `k` start at `k · stride`.
    pub(super) fn add(
        self,
        rows: &[Row],
        words: &[Word],
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

/// Digits from −64 to 63 are those from 0 to 127 of a value with 64 added at every place.
fn bias(digits: usize) -> u128 {
    (0..digits).fold(0, |bias, _| bias << DIGIT_BITS | 64)
}

/// See [`Multiply::write`]: the digits of two units, twice.
fn write(values: &[i128], shift: i32, out: &mut [Word], stride: usize, digits: usize) {
    let mut bytes = vec![0; digits * 2 * stride];
    write_bytes(values, shift, &mut bytes, 2 * stride, digits);
    let pairs = bytes.as_chunks::<2>().0;
    for (plane, pairs) in out.chunks_mut(stride).zip(pairs.chunks(stride)) {
        plane.iter_mut().zip(pairs).for_each(|(word, &[a, b])| *word = [a, b, a, b]);
    }
}

/// Writes the digits of `value · 2^shift`, those of plane `k` from `k · stride` on.
#[inline(always)]
pub(super) fn write_bytes(
    values: &[i128],
    shift: i32,
    out: &mut [u8],
    stride: usize,
    digits: usize,
) {
    /// Units whose digits vectors take at once.
    const UNITS: usize = 16;
    let bias = bias(digits);
    for (block, values) in values.chunks(UNITS).enumerate() {
        let (mut low, mut high) = ([0u64; UNITS], [0u64; UNITS]);
        for (i, &value) in values.iter().enumerate() {
            let value = if shift >= 0 { value << shift } else { value >> -shift };
            let biased = bias.wrapping_add(value as u128);
            low[i] = biased as u64;
            high[i] = (biased >> (DIGITS_OF_A_HALF as i32 * DIGIT_BITS)) as u64;
        }
        let (units, start) = (values.len(), block * UNITS);
        for k in 0..digits {
            let half = if k < DIGITS_OF_A_HALF { &mut low } else { &mut high };
            let mut bytes = [0u8; UNITS];
            for (byte, half) in bytes.iter_mut().zip(half) {
                *byte = (*half as u8 & 127).wrapping_sub(64);
                *half >>= DIGIT_BITS;
            }
            match out[k * stride + start..].first_chunk_mut::<UNITS>() {
                Some(place) if units == UNITS => *place = bytes,
                _ => out[k * stride + start..][..units].copy_from_slice(&bytes[..units]),
            }
        }
    }
}
