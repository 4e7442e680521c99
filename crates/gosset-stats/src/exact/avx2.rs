//! The chunks of [`kernel`] with the vector units of x86-64.
#![expect(
    unsafe_code,
    reason = "instructions that not every processor has, behind a proof that this one does"
)]

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi64, _mm256_and_si256,
    _mm256_castsi128_si256, _mm256_cmpeq_epi64, _mm256_extract_epi64, _mm256_inserti128_si256,
    _mm256_loadu_si256, _mm256_or_si256, _mm256_set1_epi64x, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
};

use super::format::{Format, ROWS_PER_FLUSH};
use super::kernel::{self, Rows, Sink};

/// The proof that this processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    pub(super) fn chunk<S: Sink>(
        self,
        format: &Format,
        columns: &[&[f64]],
        start: usize,
        out: &mut [S::Lane],
    ) -> bool {
        // SAFETY: `self` proves that the features are there.
        unsafe { chunk::<S>(format, columns, start, out) }
    }

    pub(super) fn misfits(
        self,
        format: &Format,
        columns: &[&[f64]],
        start: usize,
        out: &mut [u64],
    ) {
        // SAFETY: `self` proves that the features are there.
        unsafe { misfits(format, columns, start, out) }
    }

    /// Asks for the slots of rows to come, which a large table does not have at hand.
    pub(super) fn prefetch(self, slots: &[u32], stride: usize, table: &[i64]) {
        for &slot in slots {
            let start = table.as_ptr().wrapping_add(slot as usize * stride);
            // SAFETY: a prefetch reads nothing, whatever the address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.cast());
                _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(stride - 1).cast());
            }
        }
    }

    pub(super) fn scatter(
        self,
        lanes: &[Rows<i64>],
        slots: &[u32],
        stride: usize,
        table: &mut [i64],
    ) -> bool {
        if stride.is_multiple_of(4) && slots.len() == kernel::ROWS {
            // SAFETY: `self` proves that the features are there.
            unsafe { scatter(lanes, slots, stride, table) }
        } else {
            kernel::scatter(lanes, slots, stride, table)
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn chunk<S: Sink>(format: &Format, columns: &[&[f64]], start: usize, out: &mut [S::Lane]) -> bool {
    kernel::chunk::<S, true>(format, columns, start, out)
}

#[target_feature(enable = "avx2,fma")]
fn misfits(format: &Format, columns: &[&[f64]], start: usize, out: &mut [u64]) {
    kernel::misfits::<true>(format, columns, start, out);
}

/// Four lanes of four rows are transposed at a time, so that a row is added to its slot as vectors.
#[target_feature(enable = "avx2,fma")]
fn scatter(lanes: &[Rows<i64>], slots: &[u32], stride: usize, table: &mut [i64]) -> bool {
    // Here and below loops, not closures: those are functions without these instructions, and may be called as such.
    let mut largest = 0;
    for &slot in slots {
        largest = slot.max(largest);
    }
    let largest = largest as usize;
    assert!(stride == lanes.len() && (largest + 1) * stride <= table.len(), "a slot is missing");
    let (zero, mask) = (_mm256_setzero_si256(), _mm256_set1_epi64x(ROWS_PER_FLUSH as i64 - 1));
    let mut full = zero;
    for (q, slots) in slots.as_chunks::<4>().0.iter().enumerate() {
        for (b, [first, second, third, fourth]) in lanes.as_chunks::<4>().0.iter().enumerate() {
            let rows = transposed([
                &first.as_chunks::<4>().0[q],
                &second.as_chunks::<4>().0[q],
                &third.as_chunks::<4>().0[q],
                &fourth.as_chunks::<4>().0[q],
            ]);
            for (&slot, row) in slots.iter().zip(rows) {
                let at = slot as usize * stride + 4 * b;
                // SAFETY: `4 * b + 4 <= stride` as there are `stride` lanes, and the slot is no larger than the
                // largest, all of whose lanes are in the table by the assertion above.
                let sum = unsafe {
                    let place = table.as_mut_ptr().add(at).cast::<__m256i>();
                    let sum = _mm256_add_epi64(_mm256_loadu_si256(place), row);
                    _mm256_storeu_si256(place, sum);
                    sum
                };
                if b == 0 {
                    full = _mm256_or_si256(
                        full,
                        _mm256_cmpeq_epi64(_mm256_and_si256(sum, mask), zero),
                    );
                }
            }
        }
    }
    // The count is the first lane; the others say nothing.
    _mm256_extract_epi64::<0>(full) != 0
}

/// Four rows of four lanes, from four lanes of four rows. Halves are put together as they are loaded, since shuffles
/// across them are what a processor can do fewest of.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(lanes: [&[i64; 4]; 4]) -> [__m256i; 4] {
    let [a, b, c, d] = lanes;
    let (ac, bd) = (pair(a, c, 0), pair(b, d, 0));
    let (ac_next, bd_next) = (pair(a, c, 2), pair(b, d, 2));
    [
        _mm256_unpacklo_epi64(ac, bd),
        _mm256_unpackhi_epi64(ac, bd),
        _mm256_unpacklo_epi64(ac_next, bd_next),
        _mm256_unpackhi_epi64(ac_next, bd_next),
    ]
}

/// Two rows of two lanes, from row 0 or 2.
#[inline]
#[target_feature(enable = "avx2")]
fn pair(low: &[i64; 4], high: &[i64; 4], row: usize) -> __m256i {
    let (low, high) = (&low[row..row + 2], &high[row..row + 2]);
    // SAFETY: both are slices of the 16 bytes that are read.
    let (low, high) =
        unsafe { (_mm_loadu_si128(low.as_ptr().cast()), _mm_loadu_si128(high.as_ptr().cast())) };
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
}
