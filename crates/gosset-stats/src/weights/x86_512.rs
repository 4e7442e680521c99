//! The weights with the AES instructions of AVX-512: the blocks of two units in one register, and a law whose comparisons
//! are masks.
#![expect(
    unsafe_code,
    reason = "instructions that not every processor has, behind a proof that this one does"
)]

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_aesenc_si128, _mm_loadu_si128, _mm_set_epi64x, _mm_xor_si128,
    _mm256_storeu_si256, _mm512_add_epi8, _mm512_add_epi16, _mm512_aesenc_epi128,
    _mm512_broadcast_i32x4, _mm512_castsi512_si256, _mm512_cmpge_epu8_mask, _mm512_cmpgt_epu8_mask,
    _mm512_cvtepu8_epi16, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_mask_adds_epu8,
    _mm512_mask_permutexvar_epi8, _mm512_permutexvar_epi8, _mm512_set_epi64, _mm512_set1_epi8,
    _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_srli_epi16, _mm512_storeu_si512,
    _mm512_unpackhi_epi8, _mm512_unpacklo_epi8, _mm512_xor_si512,
};

use super::sums::{Binned, SUMMED_REPLICATES, UNITS_OF_A_BYTE};
use super::{BYTES, HIGH, LOW, ROUND_KEYS, Row, Started};

/// The proof that this processor has AES instructions for four blocks at once, and shuffles of 64 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vaes512(());

impl Vaes512 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi");
        found.then_some(Self(()))
    }

    pub(super) fn tile<const OF: u8>(
        self,
        whitening: [u8; 16],
        quads: &[[Started; 4]],
        t: u64,
        rows: &mut [[Row; 2]],
    ) {
        // SAFETY: `self` proves that the features are there.
        unsafe { tile::<OF>(whitening, quads, t, rows) }
    }

    /// The first round of units.
    pub(super) fn start(self, whitening: [u8; 16], keys: &[[u64; 4]], out: &mut [[Started; 4]]) {
        // SAFETY: `self` proves that the features are there.
        unsafe { start(whitening, keys, out) }
    }

    /// Adds the weights of units to the sums of their bins.
    pub(super) fn add(self, whitening: [u8; 16], binned: Binned<'_>) {
        // SAFETY: `self` proves that the features are there.
        unsafe { add(whitening, binned) }
    }
}

/// By column, the high byte of its draws' threshold: that of the threshold, and the column in its upper half.
const THRESHOLDS: [u8; 16] = {
    let mut thresholds = [0; 16];
    let mut c = 0;
    while c < 16 {
        thresholds[c] = ((c as u8) << 4) + BYTES.high[c];
        c += 1;
    }
    // A byte of 255 is above it, since there is none that is one more.
    assert!(thresholds[15] < 255);
    thresholds
};

/// What all draws share, in registers.
#[derive(Clone, Copy)]
struct Shared {
    /// Of the rounds after the first.
    round_keys: [__m512i; 4],
    high: __m512i,
    low: __m512i,
    base: __m512i,
    alias: __m512i,
}

impl Shared {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new() -> Self {
        let [_, _, a, b, c, d] = &ROUND_KEYS;
        let base = four(&BYTES.base);
        Self {
            round_keys: [four(a), four(b), four(c), four(d)],
            high: four(&THRESHOLDS),
            low: four(&BYTES.low),
            base,
            alias: _mm512_add_epi8(base, four(&BYTES.delta)),
        }
    }

    /// The rounds after the first.
    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    fn finish(&self, mut block: __m512i) -> __m512i {
        let [a, b, c, d] = self.round_keys;
        block = _mm512_aesenc_epi128(block, a);
        block = _mm512_aesenc_epi128(block, b);
        block = _mm512_aesenc_epi128(block, c);
        _mm512_aesenc_epi128(block, d)
    }

    /// The weights of 64 draws, whose high and low bytes these are.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn weigh(&self, high: __m512i, low: __m512i) -> __m512i {
        // Of 16 columns four times over: the upper bits, which come from the byte beside, make no difference.
        let column = _mm512_srli_epi16::<4>(high);
        // Both bytes are at the threshold or above where the high one is above it, or would be with one more for a low one
        // that is.
        let low_above = _mm512_cmpge_epu8_mask(low, _mm512_permutexvar_epi8(column, self.low));
        let high = _mm512_mask_adds_epu8(high, low_above, high, _mm512_set1_epi8(1));
        let above = _mm512_cmpgt_epu8_mask(high, _mm512_permutexvar_epi8(column, self.high));
        let weights = _mm512_permutexvar_epi8(column, self.base);
        _mm512_mask_permutexvar_epi8(weights, above, column, self.alias)
    }
}

/// The same block four times.
#[inline]
#[target_feature(enable = "avx512f")]
fn four(bytes: &[u8; 16]) -> __m512i {
    _mm512_broadcast_i32x4(load_block(bytes))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_block(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: these are the 16 bytes that are read.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// What the counters of four blocks add to the first round of a unit. A round takes byte by byte to columns, which it adds
/// up: what it makes of a unit and a counter, which have bytes of their own, is the sum of what it makes of each.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
fn counters(whitening: [u8; 16], [a, b, c, d]: [u64; 4]) -> __m512i {
    let (whitening, key) = (four(&whitening), four(&ROUND_KEYS[1]));
    let counters = _mm512_set_epi64(d as i64, 0, c as i64, 0, b as i64, 0, a as i64, 0);
    let of_all = _mm512_aesenc_epi128(_mm512_xor_si512(whitening, counters), key);
    _mm512_xor_si512(of_all, _mm512_aesenc_epi128(whitening, key))
}

#[target_feature(enable = "avx512f,vaes")]
fn start(whitening: [u8; 16], keys: &[[u64; 4]], out: &mut [[Started; 4]]) {
    let (whitening, key) = (four(&whitening), four(&ROUND_KEYS[1]));
    for (&[a, b, c, d], out) in keys.iter().zip(out) {
        let units = _mm512_set_epi64(0, d as i64, 0, c as i64, 0, b as i64, 0, a as i64);
        let started = _mm512_aesenc_epi128(_mm512_xor_si512(units, whitening), key);
        // SAFETY: four blocks are the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), started) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
fn tile<const OF: u8>(whitening: [u8; 16], quads: &[[Started; 4]], t: u64, rows: &mut [[Row; 2]]) {
    let shared = Shared::new();
    let high_counters = counters(whitening, [4 * t, 4 * t + 2, 4 * t, 4 * t + 2]);
    let low_counters = counters(whitening, [4 * t + 1, 4 * t + 3, 4 * t + 1, 4 * t + 3]);
    for (units, rows) in quads.iter().zip(rows) {
        // SAFETY: four blocks are the 64 bytes that are read.
        let units = unsafe { _mm512_loadu_si512(units.as_ptr().cast()) };
        // The first and the third unit of four, twice each; and the second and the fourth.
        let mut drawn = [
            _mm512_shuffle_i64x2::<0b10_10_00_00>(units, units),
            _mm512_shuffle_i64x2::<0b11_11_01_01>(units, units),
        ];
        for drawn in &mut drawn {
            let units = *drawn;
            let high = _mm512_xor_si512(units, high_counters);
            let low = _mm512_xor_si512(units, low_counters);
            *drawn = match OF {
                HIGH => shared.finish(high),
                LOW => shared.finish(low),
                _ => shared.weigh(shared.finish(high), shared.finish(low)),
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

/// The counters of 64 replicates: of the high and of the low bytes of their draws.
type Counters = [__m512i; 2];

#[target_feature(enable = "aes,avx512f,avx512bw,avx512vbmi,vaes")]
fn add(whitening: [u8; 16], mut binned: Binned<'_>) {
    let shared = Shared::new();
    let mut all = Vec::with_capacity(binned.blocks());
    for block in 0..binned.blocks() as u64 {
        let first = 8 * block;
        all.push([
            counters(whitening, [first, first + 2, first + 4, first + 6]),
            counters(whitening, [first + 1, first + 3, first + 5, first + 7]),
        ]);
    }
    let (whitening, first_key) = (load_block(&whitening), load_block(&ROUND_KEYS[1]));
    let mut units = [whitening; UNITS_OF_A_BYTE];
    for (keys, sums) in binned.bins() {
        for keys in keys.chunks(UNITS_OF_A_BYTE) {
            for (unit, &key) in units.iter_mut().zip(keys) {
                let block = _mm_xor_si128(whitening, _mm_set_epi64x(0, key as i64));
                *unit = _mm_aesenc_si128(block, first_key);
            }
            let units = &units[..keys.len()];
            let (counters, few_counters) = all.as_chunks::<4>();
            let (sums, few_sums) = sums.as_chunks_mut::<4>();
            for (counters, sums) in counters.iter().zip(sums) {
                add_blocks(&shared, units, counters, sums);
            }
            for (counters, sums) in few_counters.iter().zip(few_sums) {
                add_blocks(&shared, units, &[*counters], std::array::from_mut(sums));
            }
        }
    }
}

/// Adds the weights of units, after their first round, in bytes and these to the sums of `64·N` replicates.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
fn add_blocks<const N: usize>(
    shared: &Shared,
    units: &[__m128i],
    counters: &[Counters; N],
    sums: &mut [[u16; SUMMED_REPLICATES]; N],
) {
    let mut bytes = [_mm512_setzero_si512(); N];
    for unit in units {
        let unit = _mm512_broadcast_i32x4(*unit);
        for i in 0..N {
            let [high, low] = counters[i];
            let high = shared.finish(_mm512_xor_si512(unit, high));
            let low = shared.finish(_mm512_xor_si512(unit, low));
            bytes[i] = _mm512_add_epi8(bytes[i], shared.weigh(high, low));
        }
    }
    for i in 0..N {
        let halves = [_mm512_castsi512_si256(bytes[i]), _mm512_extracti64x4_epi64::<1>(bytes[i])];
        for (half, sums) in halves.into_iter().zip(sums[i].as_chunks_mut::<32>().0) {
            add_words(_mm512_cvtepu8_epi16(half), sums);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_words(words: __m512i, sums: &mut [u16; 32]) {
    let place = sums.as_mut_ptr().cast::<__m512i>();
    // SAFETY: 32 sums of two bytes are the 64 bytes that are read and written.
    unsafe { _mm512_storeu_si512(place, _mm512_add_epi16(_mm512_loadu_si512(place), words)) }
}
