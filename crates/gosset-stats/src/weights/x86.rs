//! The weights with the AES instructions of x86-64: blocks of four units, or of four stretches of one unit's
//! replicates, go through their rounds side by side, since a round takes several cycles and one can start every cycle.
#![expect(
    unsafe_code,
    reason = "instructions that not every processor has, behind a proof that this one does"
)]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi8, _mm_aesenc_si128, _mm_and_si128, _mm_cmpeq_epi8,
    _mm_cmpgt_epi8, _mm_cvtsi64_si128, _mm_loadu_si128, _mm_max_epu8, _mm_set_epi64x,
    _mm_set1_epi8, _mm_shuffle_epi8, _mm_srli_epi16, _mm_storeu_si128, _mm_sub_epi8,
    _mm_unpackhi_epi8, _mm_unpacklo_epi8, _mm_xor_si128, _mm256_add_epi8, _mm256_add_epi16,
    _mm256_aesenc_epi128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castsi256_si128,
    _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_cvtepu8_epi16, _mm256_extracti128_si256,
    _mm256_loadu_si256, _mm256_max_epu8, _mm256_set_epi64x, _mm256_set1_epi8, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_storeu_si256,
    _mm256_sub_epi8, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8, _mm256_xor_si256,
};

use super::sums::{Binned, SUMMED_REPLICATES, UNITS_OF_A_BYTE};
use super::{BYTES, HIGH, LOW, ROUND_KEYS, Row, WEIGHTS};

/// The proof that this processor has AES instructions (and AVX, for their form with three operands).
#[derive(Debug, Clone, Copy)]
pub(super) struct AesNi(());

/// The proof that this processor has AES instructions for two blocks at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vaes(());

impl AesNi {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("aes") && is_x86_feature_detected!("avx");
        found.then_some(Self(()))
    }

    pub(super) fn fill(self, whitening: [u8; 16], key: u64, out: &mut [u8]) {
        // SAFETY: `self` proves that the features are there.
        unsafe { aes_fill(whitening, key, out) }
    }

    pub(super) fn tile<const OF: u8>(
        self,
        whitening: [u8; 16],
        quads: &[[u64; 4]],
        t: u64,
        rows: &mut [[Row; 2]],
    ) {
        // SAFETY: `self` proves that the features are there.
        unsafe { aes_tile::<OF>(whitening, quads, t, rows) }
    }
}

impl Vaes {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("vaes") && is_x86_feature_detected!("avx2");
        found.then_some(Self(()))
    }

    pub(super) fn fill(self, whitening: [u8; 16], key: u64, out: &mut [u8]) {
        // SAFETY: `self` proves that the features are there.
        unsafe { vaes_fill(whitening, key, out) }
    }

    pub(super) fn tile<const OF: u8>(
        self,
        whitening: [u8; 16],
        quads: &[[u64; 4]],
        t: u64,
        rows: &mut [[Row; 2]],
    ) {
        // SAFETY: `self` proves that the features are there.
        unsafe { vaes_tile::<OF>(whitening, quads, t, rows) }
    }

    /// Adds the weights of units to the sums of their bins.
    pub(super) fn add(self, whitening: [u8; 16], binned: Binned<'_>) {
        // SAFETY: `self` proves that the features are there.
        unsafe { vaes_add(whitening, binned) }
    }
}

#[inline]
#[target_feature(enable = "avx")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: these are the 16 bytes that are read.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx")]
fn store(value: __m128i, bytes: &mut [u8; 16]) {
    // SAFETY: these are the 16 bytes that are written.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}

/// The whitened counter of a block.
#[inline]
#[target_feature(enable = "avx")]
fn counter(whitening: [u8; 16], counter: u64) -> __m128i {
    _mm_xor_si128(load(&whitening), _mm_set_epi64x(counter as i64, 0))
}

/// The weights of four pairs of blocks, or their bytes: what is not asked for is not computed.
#[inline]
#[target_feature(enable = "aes,avx")]
fn aes_draw<const OF: u8>(mut high: [__m128i; 4], mut low: [__m128i; 4]) -> [__m128i; 4] {
    for key in &ROUND_KEYS[1..] {
        let key = load(key);
        for j in 0..4 {
            high[j] = _mm_aesenc_si128(high[j], key);
            low[j] = _mm_aesenc_si128(low[j], key);
        }
    }
    let mut weights = high;
    for j in 0..4 {
        weights[j] = match OF {
            HIGH => high[j],
            LOW => low[j],
            _ => aes_alias(high[j], low[j]),
        };
    }
    weights
}

/// The weights of 16 draws, whose high and low bytes these are.
#[inline]
#[target_feature(enable = "avx")]
fn aes_alias(high: __m128i, low: __m128i) -> __m128i {
    let nibble = _mm_set1_epi8(15);
    let column = _mm_and_si128(_mm_srli_epi16::<4>(high), nibble);
    let high = _mm_and_si128(high, nibble);
    let high_threshold = _mm_shuffle_epi8(load(&BYTES.high), column);
    let low_threshold = _mm_shuffle_epi8(load(&BYTES.low), column);
    // Both bytes are at the threshold or above where the high one is above it, or would be with one more for a low one
    // that is.
    let low_above = _mm_cmpeq_epi8(_mm_max_epu8(low, low_threshold), low);
    let alias = _mm_cmpgt_epi8(_mm_sub_epi8(high, low_above), high_threshold);
    let delta = _mm_shuffle_epi8(load(&BYTES.delta), column);
    _mm_add_epi8(_mm_shuffle_epi8(load(&BYTES.base), column), _mm_and_si128(alias, delta))
}

#[target_feature(enable = "aes,avx")]
fn aes_fill(whitening: [u8; 16], key: u64, out: &mut [u8]) {
    let unit = _mm_cvtsi64_si128(key as i64);
    let start = _mm_xor_si128(load(&whitening), unit);
    for (i, out) in out.chunks_mut(64).enumerate() {
        let (mut high, mut low) = ([unit; 4], [unit; 4]);
        for j in 0..4 {
            let block = 8 * i as i64 + 2 * j as i64;
            high[j] = _mm_xor_si128(start, _mm_set_epi64x(block, 0));
            low[j] = _mm_xor_si128(start, _mm_set_epi64x(block + 1, 0));
        }
        let weights = aes_draw::<WEIGHTS>(high, low);
        let mut drawn = [0; 64];
        for (bytes, weights) in drawn.as_chunks_mut::<16>().0.iter_mut().zip(weights) {
            store(weights, bytes);
        }
        out.copy_from_slice(&drawn[..out.len()]);
    }
}

#[target_feature(enable = "aes,avx")]
fn aes_tile<const OF: u8>(whitening: [u8; 16], quads: &[[u64; 4]], t: u64, rows: &mut [[Row; 2]]) {
    for half in 0..2 {
        let block = 4 * t + 2 * half;
        let (start_high, start_low) = (counter(whitening, block), counter(whitening, block + 1));
        for (keys, rows) in quads.iter().zip(&mut *rows) {
            let (mut high, mut low) = ([start_high; 4], [start_low; 4]);
            for j in 0..4 {
                let unit = _mm_cvtsi64_si128(keys[j] as i64);
                high[j] = _mm_xor_si128(high[j], unit);
                low[j] = _mm_xor_si128(low[j], unit);
            }
            let [a, b, c, d] = aes_draw::<OF>(high, low);
            for (row, (first, second)) in rows.iter_mut().zip([(a, b), (c, d)]) {
                let places = row.as_chunks_mut::<16>().0;
                store(_mm_unpacklo_epi8(first, second), &mut places[half as usize]);
                store(_mm_unpackhi_epi8(first, second), &mut places[2 + half as usize]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn both(bytes: &[u8; 16]) -> __m256i {
    _mm256_broadcastsi128_si256(load(bytes))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_both(value: __m256i, bytes: &mut [u8; 32]) {
    // SAFETY: these are the 32 bytes that are written.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}

/// The whitened counters of two blocks, of 16 replicates each.
#[inline]
#[target_feature(enable = "avx2")]
fn counters(whitening: [u8; 16], counter: u64) -> __m256i {
    let (first, second) = (counter as i64, counter as i64 + 2);
    _mm256_xor_si256(both(&whitening), _mm256_set_epi64x(second, 0, first, 0))
}

/// As [`aes_draw`], of four pairs of two blocks.
#[inline]
#[target_feature(enable = "avx2,vaes")]
fn vaes_draw<const OF: u8>(mut high: [__m256i; 4], mut low: [__m256i; 4]) -> [__m256i; 4] {
    for key in &ROUND_KEYS[1..] {
        let key = both(key);
        for j in 0..4 {
            high[j] = _mm256_aesenc_epi128(high[j], key);
            low[j] = _mm256_aesenc_epi128(low[j], key);
        }
    }
    let mut weights = high;
    for j in 0..4 {
        weights[j] = match OF {
            HIGH => high[j],
            LOW => low[j],
            _ => vaes_alias(high[j], low[j]),
        };
    }
    weights
}

/// The weights of 32 draws, whose high and low bytes these are.
#[inline]
#[target_feature(enable = "avx2")]
fn vaes_alias(high: __m256i, low: __m256i) -> __m256i {
    let nibble = _mm256_set1_epi8(15);
    let column = _mm256_and_si256(_mm256_srli_epi16::<4>(high), nibble);
    let high = _mm256_and_si256(high, nibble);
    let high_threshold = _mm256_shuffle_epi8(both(&BYTES.high), column);
    let low_threshold = _mm256_shuffle_epi8(both(&BYTES.low), column);
    let low_above = _mm256_cmpeq_epi8(_mm256_max_epu8(low, low_threshold), low);
    let alias = _mm256_cmpgt_epi8(_mm256_sub_epi8(high, low_above), high_threshold);
    let delta = _mm256_shuffle_epi8(both(&BYTES.delta), column);
    let base = _mm256_shuffle_epi8(both(&BYTES.base), column);
    _mm256_add_epi8(base, _mm256_and_si256(alias, delta))
}

#[target_feature(enable = "avx2,vaes")]
fn vaes_fill(whitening: [u8; 16], key: u64, out: &mut [u8]) {
    let unit = _mm256_set_epi64x(0, key as i64, 0, key as i64);
    for (i, out) in out.chunks_mut(128).enumerate() {
        let (mut high, mut low) = ([unit; 4], [unit; 4]);
        for j in 0..4 {
            let block = 16 * i as u64 + 4 * j as u64;
            high[j] = _mm256_xor_si256(unit, counters(whitening, block));
            low[j] = _mm256_xor_si256(unit, counters(whitening, block + 1));
        }
        let weights = vaes_draw::<WEIGHTS>(high, low);
        let mut drawn = [0; 128];
        for (bytes, weights) in drawn.as_chunks_mut::<32>().0.iter_mut().zip(weights) {
            store_both(weights, bytes);
        }
        out.copy_from_slice(&drawn[..out.len()]);
    }
}

#[target_feature(enable = "avx2,vaes")]
fn vaes_tile<const OF: u8>(whitening: [u8; 16], quads: &[[u64; 4]], t: u64, rows: &mut [[Row; 2]]) {
    let (start_high, start_low) = (counters(whitening, 4 * t), counters(whitening, 4 * t + 1));
    let low_halves = _mm256_set_epi64x(0, -1, 0, -1);
    for (keys, rows) in quads.iter().zip(rows) {
        let (mut high, mut low) = ([start_high; 4], [start_low; 4]);
        for j in 0..4 {
            // A broadcast from memory and a mask: shuffles are what the law needs.
            let unit = _mm256_and_si256(_mm256_set1_epi64x(keys[j] as i64), low_halves);
            high[j] = _mm256_xor_si256(high[j], unit);
            low[j] = _mm256_xor_si256(low[j], unit);
        }
        let [a, b, c, d] = vaes_draw::<OF>(high, low);
        for (row, (first, second)) in rows.iter_mut().zip([(a, b), (c, d)]) {
            let [left, right] = row.as_chunks_mut::<32>().0 else { unreachable!("two halves") };
            store_both(_mm256_unpacklo_epi8(first, second), left);
            store_both(_mm256_unpackhi_epi8(first, second), right);
        }
    }
}

/// The weights of units are added in bytes, and these to the sums.
#[target_feature(enable = "avx2,vaes")]
fn vaes_add(whitening: [u8; 16], mut binned: Binned<'_>) {
    for (keys, sums) in binned.bins() {
        for keys in keys.chunks(UNITS_OF_A_BYTE) {
            for (block, sums) in (0..).zip(&mut *sums) {
                let first = 8 * block;
                let starts = [
                    counters(whitening, first),
                    counters(whitening, first + 4),
                    counters(whitening, first + 1),
                    counters(whitening, first + 5),
                ];
                vaes_add_block(starts, keys, sums);
            }
        }
    }
}

/// Adds the weights of units to the sums of 64 replicates, whose high and low bytes start so.
#[inline]
#[target_feature(enable = "avx2,vaes")]
fn vaes_add_block(starts: [__m256i; 4], keys: &[u64], sums: &mut [u16; SUMMED_REPLICATES]) {
    let low_halves = _mm256_set_epi64x(0, -1, 0, -1);
    let mut bytes = [_mm256_setzero_si256(); 2];
    for &key in keys {
        let unit = _mm256_and_si256(_mm256_set1_epi64x(key as i64), low_halves);
        let mut blocks = starts;
        for block in &mut blocks {
            *block = _mm256_xor_si256(*block, unit);
        }
        for key in &ROUND_KEYS[1..] {
            let key = both(key);
            for block in &mut blocks {
                *block = _mm256_aesenc_epi128(*block, key);
            }
        }
        for i in 0..2 {
            bytes[i] = _mm256_add_epi8(bytes[i], vaes_alias(blocks[i], blocks[2 + i]));
        }
    }
    for (i, sums) in sums.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let [left, right] = sums.as_chunks_mut::<16>().0 else { unreachable!("two halves") };
        add_words(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(bytes[i])), left);
        add_words(_mm256_cvtepu8_epi16(_mm256_extracti128_si256::<1>(bytes[i])), right);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_words(words: __m256i, sums: &mut [u16; 16]) {
    let place = sums.as_mut_ptr().cast::<__m256i>();
    // SAFETY: sixteen sums of two bytes are the 32 bytes that are read and written.
    unsafe { _mm256_storeu_si256(place, _mm256_add_epi16(_mm256_loadu_si256(place), words)) }
}
