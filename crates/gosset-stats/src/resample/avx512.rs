//! The sums of weights times digits with the dot products of AVX-512: four units an instruction, added in 32 bits.
#![expect(
    unsafe_code,
    reason = "instructions that not every processor has, behind a proof that this one does"
)]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_permutex2var_epi32,
    _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
    _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
};

use super::planes::{Row, Word, write_bytes};
use crate::weights::TILE_REPLICATES;

/// The proof that this processor has AVX-512 with dot products of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }

    /// See [`write_bytes`].
    pub(super) fn write(
        self,
        values: &[i128],
        shift: i32,
        out: &mut [u8],
        stride: usize,
        digits: usize,
    ) {
        // SAFETY: `self` proves that the features are there.
        unsafe { write(values, shift, out, stride, digits) }
    }

    /// See [`Multiply::add`](super::planes::Multiply::add); words have the digits of four units.
    pub(super) fn add(
        self,
        rows: &[Row],
        words: &[Word],
        stride: usize,
        sums: &mut [[i32; TILE_REPLICATES]],
    ) {
        // SAFETY: `self` proves that the features are there.
        unsafe { add(rows, words, stride, sums) }
    }

    /// See [`Multiply::add_at`](super::planes::Multiply::add_at).
    pub(super) fn add_at(self, shift: i32, plane: &[i32; TILE_REPLICATES], lane: &mut [i64]) {
        // SAFETY: `self` proves that the feature is there.
        unsafe { add_at(shift, plane, lane) }
    }
}

/// The plain code, in vectors.
#[target_feature(enable = "avx512f")]
fn add_at(shift: i32, plane: &[i32; TILE_REPLICATES], lane: &mut [i64]) {
    super::planes::add_at(shift, plane, lane);
}

/// The plain code, in vectors.
#[target_feature(enable = "avx512f,avx512bw")]
fn write(values: &[i128], shift: i32, out: &mut [u8], stride: usize, digits: usize) {
    write_bytes::<{ u8::BITS }>(values, shift, out, stride, digits);
}

/// Planes share the loads of weights, as many as the registers hold sums of.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add(rows: &[Row], words: &[Word], stride: usize, sums: &mut [[i32; TILE_REPLICATES]]) {
    for (i, sums) in sums.chunks_mut(10).enumerate() {
        let words = &words[10 * i * stride..];
        match sums.len() {
            1 => planes::<1>(rows, words, stride, sums),
            2 => planes::<2>(rows, words, stride, sums),
            3 => planes::<3>(rows, words, stride, sums),
            4 => planes::<4>(rows, words, stride, sums),
            5 => planes::<5>(rows, words, stride, sums),
            6 => planes::<6>(rows, words, stride, sums),
            7 => planes::<7>(rows, words, stride, sums),
            8 => planes::<8>(rows, words, stride, sums),
            9 => planes::<9>(rows, words, stride, sums),
            _ => planes::<10>(rows, words, stride, sums),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn planes<const N: usize>(
    rows: &[Row],
    words: &[Word],
    stride: usize,
    sums: &mut [[i32; TILE_REPLICATES]],
) {
    let quads = rows.as_chunks::<2>().0;
    let mut planes = [&[][..]; N];
    for (k, plane) in planes.iter_mut().enumerate() {
        *plane = &words[k * stride..][..quads.len()];
    }
    let mut wide = [[_mm512_setzero_si512(); 2]; N];
    for (q, [first, second]) in quads.iter().enumerate() {
        let (first, second) = (load(first), load(second));
        // The weights of four units side by side, of four replicates in each 16 bytes.
        let low = _mm512_unpacklo_epi16(first, second);
        let high = _mm512_unpackhi_epi16(first, second);
        for k in 0..N {
            let digits = _mm512_set1_epi32(i32::from_le_bytes(planes[k][q]));
            let [a, b] = &mut wide[k];
            *a = _mm512_dpbusd_epi32(*a, low, digits);
            *b = _mm512_dpbusd_epi32(*b, high, digits);
        }
    }
    // The order of a tile: the eights 0, 2, 1, 3, of which each has its first four in the low sums.
    let even = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    let odd = _mm512_setr_epi32(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    for (sums, [low, high]) in sums.iter_mut().zip(wide) {
        let [first, second] = sums.as_chunks_mut::<16>().0 else {
            unreachable!("a tile has twice sixteen replicates")
        };
        widen(_mm512_permutex2var_epi32(low, even, high), first);
        widen(_mm512_permutex2var_epi32(low, odd, high), second);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(row: &Row) -> __m512i {
    // SAFETY: a row has the 64 bytes that are read.
    unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
}

/// Adds sixteen sums.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen(values: __m512i, sums: &mut [i32; 16]) {
    let place = sums.as_mut_ptr().cast::<__m512i>();
    // SAFETY: these are the 64 bytes that are read and written.
    unsafe { _mm512_storeu_si512(place, _mm512_add_epi32(_mm512_loadu_si512(place), values)) }
}
