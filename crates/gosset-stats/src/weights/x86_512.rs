//! The weights with the AES instructions of AVX-512: the blocks of two units in one register, and a law whose comparisons
//! are masks.
#![expect(
    unsafe_code,
    reason = "instructions that not every processor has, behind a proof that this one does"
)]

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm256_storeu_si256,
    _mm512_add_epi8, _mm512_aesenc_epi128, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_castsi256_si512, _mm512_castsi512_si256, _mm512_cmpge_epu8_mask, _mm512_cmpgt_epu8_mask,
    _mm512_extracti64x4_epi64, _mm512_mask_add_epi8, _mm512_mask_shuffle_epi8,
    _mm512_maskz_permutexvar_epi64, _mm512_set_epi64, _mm512_set1_epi8, _mm512_shuffle_epi8,
    _mm512_srli_epi16, _mm512_unpackhi_epi8, _mm512_unpacklo_epi8, _mm512_xor_si512,
};

use super::{BYTES, HIGH, LOW, ROUND_KEYS, TILE_REPLICATES};

/// The proof that this processor has AES instructions for four blocks at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vaes512(());

/// Two rows of a tile: of four units.
type TileRows = [[u8; 2 * TILE_REPLICATES]; 2];

impl Vaes512 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw");
        found.then_some(Self(()))
    }

    pub(super) fn tile<const OF: u8>(
        self,
        whitening: [u8; 16],
        quads: &[[u64; 4]],
        t: u64,
        rows: &mut [TileRows],
    ) {
        // SAFETY: `self` proves that the features are there.
        unsafe { tile::<OF>(whitening, quads, t, rows) }
    }
}

/// The same block four times.
#[inline]
#[target_feature(enable = "avx512f")]
fn four(bytes: &[u8; 16]) -> __m512i {
    // SAFETY: these are the 16 bytes that are read.
    let block: __m128i = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm512_broadcast_i32x4(block)
}

/// The whitened counters of two blocks, of 16 replicates each, for two units.
#[inline]
#[target_feature(enable = "avx512f")]
fn counters(whitening: [u8; 16], counter: u64) -> __m512i {
    let (first, second) = (counter as i64, counter as i64 + 2);
    _mm512_xor_si512(four(&whitening), _mm512_set_epi64(second, 0, first, 0, second, 0, first, 0))
}

/// The weights of 64 draws, whose high and low bytes these are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn alias(high: __m512i, low: __m512i) -> __m512i {
    let nibble = _mm512_set1_epi8(15);
    let column = _mm512_and_si512(_mm512_srli_epi16::<4>(high), nibble);
    let high = _mm512_and_si512(high, nibble);
    let (base, delta) = (four(&BYTES.base), four(&BYTES.delta));
    // Both bytes are at the threshold or above where the high one is above it, or would be with one more for a low one
    // that is.
    let low_above = _mm512_cmpge_epu8_mask(low, _mm512_shuffle_epi8(four(&BYTES.low), column));
    let high = _mm512_mask_add_epi8(high, low_above, high, _mm512_set1_epi8(1));
    let above = _mm512_cmpgt_epu8_mask(high, _mm512_shuffle_epi8(four(&BYTES.high), column));
    let weights = _mm512_shuffle_epi8(base, column);
    _mm512_mask_shuffle_epi8(weights, above, _mm512_add_epi8(base, delta), column)
}

#[target_feature(enable = "avx512f,avx512bw,vaes")]
fn tile<const OF: u8>(whitening: [u8; 16], quads: &[[u64; 4]], t: u64, rows: &mut [TileRows]) {
    let starts = [counters(whitening, 4 * t), counters(whitening, 4 * t + 1)];
    let keys_of_rounds = [1, 2, 3, 4, 5].map(|round| four(&ROUND_KEYS[round]));
    // The first and the third unit of four, in the lower halves of blocks; and the second and the fourth.
    let places =
        [_mm512_set_epi64(0, 2, 0, 2, 0, 0, 0, 0), _mm512_set_epi64(0, 3, 0, 3, 0, 1, 0, 1)];
    for (keys, rows) in quads.iter().zip(rows) {
        // SAFETY: these are the 32 bytes that are read.
        let keys: __m256i = unsafe { _mm256_loadu_si256(keys.as_ptr().cast()) };
        let keys = _mm512_castsi256_si512(keys);
        let mut blocks = [[starts[0]; 2], [starts[1]; 2]];
        for (pair, places) in places.into_iter().enumerate() {
            let units = _mm512_maskz_permutexvar_epi64(0b0101_0101, places, keys);
            for blocks in &mut blocks {
                blocks[pair] = _mm512_xor_si512(blocks[pair], units);
            }
        }
        for key in keys_of_rounds {
            for blocks in &mut blocks {
                for block in blocks {
                    *block = _mm512_aesenc_epi128(*block, key);
                }
            }
        }
        let [high, low] = blocks;
        let mut drawn = high;
        for (pair, drawn) in drawn.iter_mut().enumerate() {
            *drawn = match OF {
                HIGH => high[pair],
                LOW => low[pair],
                _ => alias(high[pair], low[pair]),
            };
        }
        let [odd, even] = drawn;
        let (left, right) = (_mm512_unpacklo_epi8(odd, even), _mm512_unpackhi_epi8(odd, even));
        let [first, second] = rows;
        let halves = [
            (first, _mm512_castsi512_si256(left), _mm512_castsi512_si256(right)),
            (second, _mm512_extracti64x4_epi64::<1>(left), _mm512_extracti64x4_epi64::<1>(right)),
        ];
        for (row, left, right) in halves {
            let [l, r] = row.as_chunks_mut::<32>().0 else { unreachable!("two halves") };
            store(left, l);
            store(right, r);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(value: __m256i, bytes: &mut [u8; 32]) {
    // SAFETY: these are the 32 bytes that are written.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}
