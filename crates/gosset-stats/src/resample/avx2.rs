//! The sums of weights times digits with the vector units of x86-64.
#![expect(
    unsafe_code,
    reason = "instructions that not every processor has, behind a proof that this one does"
)]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi16, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi16_epi32,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_maddubs_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_storeu_si256,
};

use super::planes::{Row, Word};
use crate::weights::TILE_REPLICATES;

/// The proof that this processor has AVX2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// See [`Multiply::add`](super::planes::Multiply::add).
    pub(super) fn add(
        self,
        rows: &[Row],
        pairs: &[Word],
        stride: usize,
        sums: &mut [[i32; TILE_REPLICATES]],
    ) {
        // SAFETY: `self` proves that the feature is there.
        unsafe { add(rows, pairs, stride, sums) }
    }
}

/// Planes share the loads of weights, as many as the registers hold sums of.
#[target_feature(enable = "avx2")]
fn add(rows: &[Row], pairs: &[Word], stride: usize, sums: &mut [[i32; TILE_REPLICATES]]) {
    for (i, sums) in sums.chunks_mut(5).enumerate() {
        let pairs = &pairs[5 * i * stride..];
        match sums.len() {
            1 => planes::<1>(rows, pairs, stride, sums),
            2 => planes::<2>(rows, pairs, stride, sums),
            3 => planes::<3>(rows, pairs, stride, sums),
            4 => planes::<4>(rows, pairs, stride, sums),
            _ => planes::<5>(rows, pairs, stride, sums),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn planes<const N: usize>(
    rows: &[Row],
    pairs: &[Word],
    stride: usize,
    sums: &mut [[i32; TILE_REPLICATES]],
) {
    let mut planes = [&[][..]; N];
    for (k, plane) in planes.iter_mut().enumerate() {
        *plane = &pairs[k * stride..][..rows.len()];
    }
    let mut narrow = [[_mm256_setzero_si256(); 2]; N];
    for (p, row) in rows.iter().enumerate() {
        let [left, right] = row.as_chunks::<32>().0 else { unreachable!("a row has 64 bytes") };
        let (left, right) = (load(left), load(right));
        for k in 0..N {
            let digits = _mm256_set1_epi32(i32::from_le_bytes(planes[k][p]));
            let [a, b] = &mut narrow[k];
            *a = _mm256_add_epi16(*a, _mm256_maddubs_epi16(left, digits));
            *b = _mm256_add_epi16(*b, _mm256_maddubs_epi16(right, digits));
        }
    }
    for (sums, [left, right]) in sums.iter_mut().zip(narrow) {
        let [first, second, third, fourth] = sums.as_chunks_mut::<8>().0 else {
            unreachable!("a tile has four times eight replicates")
        };
        // The order of a tile: the eights 0 and 2, then 1 and 3.
        widen(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(left)), first);
        widen(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(right)), second);
        widen(_mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(left)), third);
        widen(_mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(right)), fourth);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: these are the 32 bytes that are read.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Adds eight sums.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(values: __m256i, sums: &mut [i32; 8]) {
    let place = sums.as_mut_ptr().cast::<__m256i>();
    // SAFETY: these are the 32 bytes that are read and written.
    unsafe { _mm256_storeu_si256(place, _mm256_add_epi32(_mm256_loadu_si256(place), values)) }
}
