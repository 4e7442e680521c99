//! Units weighted in blocks that have zeros in the same columns: what is zero in a whole block is not multiplied, and metrics
//! that few units have are zero in most.

use std::ops::Range;

use crate::exact::SumTable;
use crate::resample::BLOCK;

/// Units with zeros in the same columns that are worth a block of their own: fewer are weighted with the next.
const LEAST_BLOCK: usize = 128;

/// Units that are looked at to choose columns.
const SAMPLE: usize = 256;

/// The most columns whose zeros are looked at.
const MAX_COLUMNS: usize = 6;

/// Bits of the values of a column from which on its zeros are better not multiplied.
const LEAST_BITS: u32 = 20;

/// Brings slots into an order in which those are together that have zeros in the same columns, and says which are to be
/// weighted together.
pub(super) fn by_zeros(sums: &SumTable, slots: Vec<u32>) -> (Vec<u32>, Vec<Range<usize>>) {
    let columns: Vec<usize> = worth_it(sums, &slots).take(MAX_COLUMNS).collect();
    let mut keys = vec![0u8; slots.len()];
    for &column in &columns {
        for (key, &slot) in keys.iter_mut().zip(&slots) {
            *key = *key << 1 | u8::from(sums.integer(slot, column) == 0);
        }
    }
    let mut places = vec![0; 1 << columns.len()];
    keys.iter().for_each(|&key| places[usize::from(key)] += 1);
    let (mut start, mut end) = (0, 0);
    let mut blocks = Vec::new();
    for place in &mut places {
        end += std::mem::replace(place, end);
        if end - start >= LEAST_BLOCK || end == slots.len() {
            blocks.extend((start..end).step_by(BLOCK).map(|at| at..end.min(at + BLOCK)));
            start = end;
        }
    }
    let mut ordered = vec![0; slots.len()];
    for (slot, key) in slots.into_iter().zip(keys) {
        let place = &mut places[usize::from(key)];
        ordered[*place] = slot;
        *place += 1;
    }
    (ordered, blocks)
}

/// The columns of large values of which many are zero.
fn worth_it<'a>(sums: &'a SumTable, slots: &'a [u32]) -> impl Iterator<Item = usize> + 'a {
    let sample = slots.iter().step_by(slots.len().div_ceil(SAMPLE).max(1));
    (0..sums.columns()).filter(move |&column| {
        let (mut all, mut bits, mut zeros) = (0, 0, 0);
        for &slot in sample.clone() {
            let value = sums.integer(slot, column);
            all |= value;
            bits |= value ^ (value >> 127);
            zeros += usize::from(value == 0);
        }
        let bits = (i128::BITS - bits.leading_zeros()).saturating_sub(all.trailing_zeros());
        16 * zeros >= sample.len() && bits >= LEAST_BITS
    })
}
