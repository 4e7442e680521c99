//! The weights with the AES instructions of 64-bit ARM, four chains of blocks side by side.
#![expect(
    unsafe_code,
    reason = "instructions that not every processor has, behind a proof that this one does"
)]

use std::arch::aarch64::{
    uint8x16_t, vaddq_u8, vaeseq_u8, vaesmcq_u8, vandq_u8, vcgeq_u8, vcgtq_u8, vdupq_n_u8,
    veorq_u8, vld1q_u8, vqtbl1q_u8, vshrq_n_u8, vst1q_u8, vsubq_u8, vzip1q_u8, vzip2q_u8,
};
use std::arch::is_aarch64_feature_detected;

use super::{BYTES, HIGH, LOW, ROUND_KEYS, Row, WEIGHTS};

/// The proof that this processor has AES instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arm(());

impl Arm {
    pub(super) fn detect() -> Option<Self> {
        let found = is_aarch64_feature_detected!("aes") && is_aarch64_feature_detected!("neon");
        found.then_some(Self(()))
    }

    pub(super) fn fill(self, whitening: [u8; 16], key: u64, out: &mut [u8]) {
        // SAFETY: `self` proves that the features are there.
        unsafe { fill(whitening, key, out) }
    }

    pub(super) fn tile<const OF: u8>(
        self,
        whitening: [u8; 16],
        quads: &[[u64; 4]],
        t: u64,
        rows: &mut [[Row; 2]],
    ) {
        // SAFETY: `self` proves that the features are there.
        unsafe { tile::<OF>(whitening, quads, t, rows) }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: these are the 16 bytes that are read.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(value: uint8x16_t, bytes: &mut [u8; 16]) {
    // SAFETY: these are the 16 bytes that are written.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), value) }
}

#[inline]
#[target_feature(enable = "neon")]
fn block(low: u64, high: u64) -> uint8x16_t {
    load(&(u128::from(high) << 64 | u128::from(low)).to_le_bytes())
}

/// The weights of four pairs of blocks, or their bytes: what is not asked for is not computed.
///
/// An instruction here adds its key before the substitution, where a round of the cipher adds it at the end: the
/// whitening goes into the first one, and the last key is added by itself.
#[inline]
#[target_feature(enable = "neon,aes")]
fn draw<const OF: u8>(
    whitening: [u8; 16],
    mut high: [uint8x16_t; 4],
    mut low: [uint8x16_t; 4],
) -> [uint8x16_t; 4] {
    let [_, first, second, third, fourth, last] = &ROUND_KEYS;
    for key in [&whitening, first, second, third, fourth] {
        let key = load(key);
        for j in 0..4 {
            high[j] = vaesmcq_u8(vaeseq_u8(high[j], key));
            low[j] = vaesmcq_u8(vaeseq_u8(low[j], key));
        }
    }
    let last = load(last);
    let mut weights = high;
    for j in 0..4 {
        let (high, low) = (veorq_u8(high[j], last), veorq_u8(low[j], last));
        weights[j] = match OF {
            HIGH => high,
            LOW => low,
            _ => alias(high, low),
        };
    }
    weights
}

/// The weights of 16 draws, whose high and low bytes these are.
#[inline]
#[target_feature(enable = "neon")]
fn alias(high: uint8x16_t, low: uint8x16_t) -> uint8x16_t {
    let column = vshrq_n_u8::<4>(high);
    let high = vandq_u8(high, vdupq_n_u8(15));
    let high_threshold = vqtbl1q_u8(load(&BYTES.high), column);
    let low_threshold = vqtbl1q_u8(load(&BYTES.low), column);
    // One more for a low byte that is at its threshold or above.
    let above = vcgtq_u8(vsubq_u8(high, vcgeq_u8(low, low_threshold)), high_threshold);
    let delta = vqtbl1q_u8(load(&BYTES.delta), column);
    let base = vqtbl1q_u8(load(&BYTES.base), column);
    vaddq_u8(base, vandq_u8(above, delta))
}

#[target_feature(enable = "neon,aes")]
fn fill(whitening: [u8; 16], key: u64, out: &mut [u8]) {
    for (i, out) in out.chunks_mut(64).enumerate() {
        let (mut high, mut low) = ([vdupq_n_u8(0); 4], [vdupq_n_u8(0); 4]);
        for j in 0..4 {
            let counter = 8 * i as u64 + 2 * j as u64;
            high[j] = block(key, counter);
            low[j] = block(key, counter + 1);
        }
        let weights = draw::<WEIGHTS>(whitening, high, low);
        let mut drawn = [0; 64];
        for (bytes, weights) in drawn.as_chunks_mut::<16>().0.iter_mut().zip(weights) {
            store(weights, bytes);
        }
        out.copy_from_slice(&drawn[..out.len()]);
    }
}

#[target_feature(enable = "neon,aes")]
fn tile<const OF: u8>(whitening: [u8; 16], quads: &[[u64; 4]], t: u64, rows: &mut [[Row; 2]]) {
    for half in 0..2 {
        let counter = 4 * t + 2 * half;
        for (keys, rows) in quads.iter().zip(&mut *rows) {
            let (mut high, mut low) = ([vdupq_n_u8(0); 4], [vdupq_n_u8(0); 4]);
            for j in 0..4 {
                high[j] = block(keys[j], counter);
                low[j] = block(keys[j], counter + 1);
            }
            let [a, b, c, d] = draw::<OF>(whitening, high, low);
            for (row, (first, second)) in rows.iter_mut().zip([(a, b), (c, d)]) {
                let places = row.as_chunks_mut::<16>().0;
                store(vzip1q_u8(first, second), &mut places[half as usize]);
                store(vzip2q_u8(first, second), &mut places[2 + half as usize]);
            }
        }
    }
}
