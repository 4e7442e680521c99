//! Exact weighted sums of every replicate.
//!
//! A value is an integer on a binary grid and is written in signed digits of base 128 at *absolute* places: digit `k`
//! counts `2^(7k)`. A weight of at most 8 times a digit is a small integer, so that a vector unit multiplies and adds 32 of
//! them an instruction (`planes`, `avx2`), and what comes out is added at its place. Where products are added in 32 bits
//! (`avx512`) digits have a bit more. Every block of units takes the digits that its own values need; since nothing is ever
//! rounded, blocks, digits, orders and machines change no bit.
//! Larger weights are taken apart into their four-bit parts (`draw`).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod draw;
mod planes;

use crate::exact::ExactSum;
use crate::summary::{Reader, Writer};
use crate::weights::{TILE_REPLICATES, TILE_UNITS};
use crate::{Error, Result};
pub(crate) use draw::Draw;
use planes::{Multiply, Word};

/// Bits between the units of two lanes.
const LANE_BITS: i32 = 28;

/// Bits that a value may have: with less than 8 more to come to the place of its first digit it has 126 or 128 bits in digits.
pub(crate) const VALUE_BITS: u32 = 117;

/// Units of a block, at most. Its digits stay in a near cache, and the lanes are gone through once for all of its units.
pub(crate) const BLOCK: usize = 4096;

/// Values that may be added to a lane before carries are taken: each adds less than `2^37.1` to it, whose digits are at most
/// 128, times 8, at places up to `2^27`.
const MAX_TERMS: u64 = 1 << 25;

/// The ends of the range of exponents and the width of the byte form, in bytes; wider than any sum.
const EXPONENT_OFFSET: i32 = 300;
const MAX_WIDTH: usize = 600;

/// The exact sums `Σ w_b·x` for the replicates `b` of one column.
#[derive(Debug, Clone)]
pub(crate) struct ReplicateSums {
    replicates: usize,
    /// The place of the first lane: it counts `2^(28·first)`.
    first: i32,
    /// A row of replicates (rounded up to whole tiles) for every lane.
    lanes: Vec<i64>,
    /// Bounds the lanes: none is beyond `terms · 2^37.1`.
    terms: u64,
}

impl ReplicateSums {
    pub(crate) fn new(replicates: usize) -> Self {
        Self { replicates, first: 0, lanes: Vec::new(), terms: 0 }
    }

    /// Replicates in whole tiles.
    fn width(&self) -> usize {
        self.replicates.next_multiple_of(TILE_REPLICATES)
    }

    fn lane_count(&self) -> usize {
        self.lanes.len() / self.width()
    }

    pub(crate) fn heap_size(&self) -> usize {
        self.lanes.capacity() * size_of::<i64>()
    }

    /// Gives the lanes from `low` to `high` a place.
    fn make_room(&mut self, low: i32, high: i32) {
        let width = self.width();
        if self.lanes.is_empty() {
            self.first = low;
        }
        if low < self.first {
            let missing = (self.first - low) as usize * width;
            self.lanes.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = low;
        }
        let needed = (high - self.first + 1) as usize * width;
        if needed > self.lanes.len() {
            self.lanes.resize(needed, 0);
        }
    }

    /// Makes sure that so many values may be added.
    fn reserve(&mut self, terms: u64) {
        if self.terms.saturating_add(terms) > MAX_TERMS {
            self.carry();
        }
        self.terms = self.terms.saturating_add(terms);
    }

    /// Carries from lane to lane: all of them in `[−2^27, 2^27)` afterwards.
    fn carry(&mut self) {
        let width = self.width();
        let mut carries = vec![0i64; width];
        for lane in self.lanes.chunks_exact_mut(width) {
            for (digit, carry) in lane.iter_mut().zip(&mut carries) {
                (*digit, *carry) = split(*digit + *carry);
            }
        }
        while carries.iter().any(|&carry| carry != 0) {
            self.lanes.extend(carries.iter_mut().map(|carry| {
                let (digit, above) = split(*carry);
                *carry = above;
                digit
            }));
        }
        self.terms = 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.lanes.is_empty() {
            return;
        }
        if other.terms > MAX_TERMS / 2 {
            let mut other = other.clone();
            other.carry();
            return self.merge(&other);
        }
        self.reserve(other.terms);
        self.make_room(other.first, other.first + other.lane_count() as i32 - 1);
        let start = (other.first - self.first) as usize * self.width();
        for (mine, theirs) in self.lanes[start..].iter_mut().zip(&other.lanes) {
            *mine += theirs;
        }
    }

    /// The sum of a replicate.
    pub(crate) fn get(&self, replicate: usize) -> ExactSum {
        let mut sum = ExactSum::new();
        let digits = self.lanes.iter().skip(replicate).step_by(self.width());
        for (place, &digit) in (self.first..).zip(digits) {
            sum.add_scaled(digit.into(), LANE_BITS * place);
        }
        sum
    }

    /// Appends the byte form: the common exponent in units of 8 bits, and two's complement integers of the width that
    /// the widest needs.
    pub(crate) fn write(&self, out: &mut Writer) {
        let mut encoded = Vec::new();
        let mut places = Vec::with_capacity(self.replicates);
        for b in 0..self.replicates {
            let start = encoded.len();
            self.get(b).encode(&mut encoded);
            // The exponent, the length and the flags around the integer.
            let exponent = i32::from(i16::from_le_bytes([encoded[start], encoded[start + 1]]));
            places.push((exponent, start + 4..encoded.len() - 1));
        }
        let used = || places.iter().filter(|(_, range)| !range.is_empty());
        let exponent = used().map(|(e, _)| *e).min().unwrap_or(0);
        let end = used().map(|(e, range)| e + range.len() as i32).max().unwrap_or(0);
        let width = (end - exponent) as usize;
        let mut body = Vec::with_capacity(width * self.replicates);
        for (e, range) in places {
            let integer = &encoded[range];
            let start = body.len();
            let sign = if integer.last().is_some_and(|&byte| byte >= 128) { 255 } else { 0 };
            if !integer.is_empty() {
                body.resize(start + (e - exponent) as usize, 0);
                body.extend_from_slice(integer);
            }
            body.resize(start + width, sign);
        }
        out.varint((exponent + EXPONENT_OFFSET) as u64);
        out.blob(&body);
    }

    /// Reads what [`write`](Self::write) wrote.
    pub(crate) fn read(bytes: &mut Reader<'_>, replicates: usize) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(format!("the sums of replicates {what}"));
        let exponent = i32::try_from(bytes.varint()?).unwrap_or(i32::MAX);
        if exponent > 2 * EXPONENT_OFFSET {
            return Err(damaged("are out of range"));
        }
        let exponent = exponent - EXPONENT_OFFSET;
        let body = bytes.blob()?;
        let width = body.len() / replicates;
        if width * replicates != body.len() || width > MAX_WIDTH {
            return Err(damaged("have no common width"));
        }
        let mut sums = Self::new(replicates);
        if width == 0 {
            return if exponent == 0 { Ok(sums) } else { Err(damaged("have an exponent of zero")) };
        }
        let needs_first = |integer: &[u8]| integer[0] != 0;
        let needs_last = |integer: &[u8]| match integer {
            [.., before, last] => *last != if *before >= 128 { 255 } else { 0 },
            other => other != [0],
        };
        let integers = || body.chunks_exact(width);
        if !integers().any(needs_first) || !integers().any(needs_last) {
            return Err(damaged("are not in their shortest form"));
        }
        let place = |i: usize| 8 * (exponent + i as i32);
        sums.make_room(place(0).div_euclid(LANE_BITS), place(width - 1).div_euclid(LANE_BITS));
        let row = sums.width();
        for (b, integer) in integers().enumerate() {
            for (i, &byte) in integer.iter().enumerate() {
                let value = if i + 1 == width { i64::from(byte as i8) } else { i64::from(byte) };
                let lane = (place(i).div_euclid(LANE_BITS) - sums.first) as usize;
                sums.lanes[lane * row + b] += value << place(i).rem_euclid(LANE_BITS);
            }
        }
        sums.carry();
        Ok(sums)
    }
}

/// The low 28 bits with a sign, and what is above.
fn split(value: i64) -> (i64, i64) {
    let low = value << (64 - LANE_BITS) >> (64 - LANE_BITS);
    (low, (value - low) >> LANE_BITS)
}

/// The values of the units of a block in one column: `values[u] · 2^exponent`, each of at most [`VALUE_BITS`] bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockColumn<'a> {
    pub(crate) values: &'a [i128],
    pub(crate) exponent: i32,
    /// Which of the sums it is added to.
    pub(crate) target: usize,
}

/// The digits that the values of a block need.
#[derive(Debug, Clone, Copy)]
struct Range {
    target: usize,
    /// The place of the first digit.
    first: i32,
    digits: usize,
}

/// Draws weights and adds weighted values.
#[derive(Debug)]
pub(crate) struct Accumulator {
    draw: Draw,
    multiply: Multiply,
    /// By plane (a digit of a column) and word of units, see [`Multiply::write`].
    words: Vec<Word>,
    /// By part of the weights and plane, the sums of 32 replicates.
    sums: Vec<[i32; TILE_REPLICATES]>,
}

impl Accumulator {
    pub(crate) fn new(draw: Draw) -> Self {
        Self::with(draw, Multiply::detect())
    }

    fn with(draw: Draw, multiply: Multiply) -> Self {
        Self { draw, multiply, words: Vec::new(), sums: Vec::new() }
    }

    /// Adds the values of units to the sums of their columns.
    pub(crate) fn add(
        &mut self,
        units: &[u128],
        columns: &[BlockColumn<'_>],
        out: &mut [ReplicateSums],
    ) {
        for (i, units) in units.chunks(BLOCK).enumerate() {
            let start = i * BLOCK;
            let columns = columns.iter().map(|column| BlockColumn {
                values: &column.values[start..start + units.len()],
                exponent: column.exponent - self.draw.scale(),
                ..*column
            });
            self.add_block(units, columns.collect(), out);
        }
    }

    fn add_block(
        &mut self,
        units: &[u128],
        columns: Vec<BlockColumn<'_>>,
        out: &mut [ReplicateSums],
    ) {
        let padded = units.len().next_multiple_of(4);
        let stride = padded / self.multiply.units_per_word();
        let parts = self.draw.parts();
        let digit_bits = self.multiply.digit_bits();
        self.words.clear();
        let mut ranges = Vec::new();
        for column in columns {
            let Some(range) = range_of(&column, digit_bits) else { continue };
            let start = self.words.len();
            self.words.resize(start + range.digits * stride, [0; 4]);
            let shift = column.exponent - digit_bits * range.first;
            let words = &mut self.words[start..];
            self.multiply.write(column.values, shift, words, stride, range.digits);
            let sums = &mut out[range.target];
            sums.reserve((units.len() as u64) << self.draw.headroom());
            let last = range.first + range.digits as i32 - 1;
            let lane = |place: i32| (digit_bits * place).div_euclid(LANE_BITS);
            sums.make_room(lane(range.first), lane(last));
            ranges.push(range);
        }
        if ranges.is_empty() {
            return;
        }
        self.draw.set_units(units);
        let tiles = out[ranges[0].target].width() / TILE_REPLICATES;
        let planes: usize = ranges.iter().map(|range| range.digits).sum();
        self.sums.resize(parts * planes, [0; TILE_REPLICATES]);
        for t in 0..tiles {
            self.sums.fill([0; TILE_REPLICATES]);
            for start in (0..padded).step_by(TILE_UNITS) {
                let end = padded.min(start + TILE_UNITS);
                let drawn = self.draw.tiles(start..end, t as u64);
                for (tile, sums) in drawn.iter().zip(self.sums.chunks_mut(planes)) {
                    let rows =
                        tile.0[..(end - start) / 2].chunks(self.multiply.rows_at_once(parts));
                    let mut at = start;
                    for rows in rows {
                        let words = &self.words[at / self.multiply.units_per_word()..];
                        self.multiply.add(rows, words, stride, sums);
                        at += 2 * rows.len();
                    }
                }
            }
            for (part, sums) in self.sums.chunks(planes).enumerate() {
                let mut planes = sums.iter();
                for range in &ranges {
                    let sums = &mut out[range.target];
                    let (first, row) = (sums.first, sums.width());
                    for (place, plane) in (range.first..).zip(planes.by_ref().take(range.digits)) {
                        let bit = digit_bits * place;
                        let lane = (bit.div_euclid(LANE_BITS) - first) as usize;
                        let shift = bit.rem_euclid(LANE_BITS) + 4 * part as i32;
                        let lane = &mut sums.lanes[lane * row + t * TILE_REPLICATES..];
                        self.multiply.add_at(shift, plane, lane);
                    }
                }
            }
        }
    }
}

/// The digits of a column's values; `None` where all are zero.
fn range_of(column: &BlockColumn<'_>, digit_bits: i32) -> Option<Range> {
    let (mut all, mut bits) = (0, 0);
    for &value in column.values {
        all |= value;
        // A negative power of two has one bit less so: digits reach as far below as that.
        bits |= (value ^ (value >> 127)) as u128;
    }
    let low = all.trailing_zeros();
    if all == 0 {
        return None;
    }
    let high = 128 - bits.leading_zeros();
    assert!(high <= VALUE_BITS, "a value has {high} bits");
    let first = (column.exponent + low as i32).div_euclid(digit_bits);
    // Digits from −64 to 63, say: what is below 2^(7n − 2) has n of them.
    let above = column.exponent + high as i32 - digit_bits * first;
    let digits = (above + digit_bits + 1) / digit_bits;
    Some(Range { target: column.target, first, digits: digits as usize })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units;
    use crate::weights::{Law, Weights};

    /// The sum of one replicate, a unit at a time.
    fn direct(
        draw: (Law, u64, bool),
        units: &[u128],
        values: &[i128],
        e: i32,
        b: usize,
    ) -> ExactSum {
        let (law, seed, crossed) = draw;
        let mut row = vec![0; b + 1];
        let mut weight = |factor: u8, unit: u128| {
            Weights::of_factor(law, seed, factor).fill(unit, &mut row);
            u32::from(row[b])
        };
        let mut sum = ExactSum::new();
        for (&unit, &value) in units.iter().zip(values) {
            let mut product = weight(0, unit);
            if crossed {
                product *= weight(1, unit << 64);
            }
            let scale = law.scale() as i32 * if crossed { 2 } else { 1 };
            for _ in 0..product {
                sum.add_scaled(value, e - scale);
            }
        }
        sum
    }

    proptest! {
        #[test]
        fn sums_are_those_of_weights_times_values(
            values in prop::collection::vec((any::<i128>(), 11u32..128), 1..600),
            exponent in -1200i32..1000,
            seed in any::<u64>(),
            replicates in 2usize..70,
            law in prop::sample::select(Law::ALL.as_slice()),
            crossed in any::<bool>(),
        ) {
            let values: Vec<i128> = values.into_iter().map(|(v, shift)| v >> shift).collect();
            let units: Vec<u128> = (0..values.len() as i128).map(units::integer).collect();
            let ones = vec![1; units.len()];
            let drawn = (law, seed, crossed);
            let mut encoded = Vec::new();
            for multiply in Multiply::available() {
                let mut accumulator = Accumulator::with(Draw::new(law, seed, crossed), multiply);
                let mut sums = vec![ReplicateSums::new(replicates); 2];
                let columns = [
                    BlockColumn { values: &values, exponent, target: 0 },
                    BlockColumn { values: &ones, exponent: 0, target: 1 },
                ];
                accumulator.add(&units, &columns, &mut sums);
                for b in [0, replicates / 2, replicates - 1] {
                    prop_assert_eq!(sums[0].get(b), direct(drawn, &units, &values, exponent, b));
                    prop_assert_eq!(sums[1].get(b), direct(drawn, &units, &ones, 0, b));
                }
                let mut writer = Writer::default();
                sums[0].write(&mut writer);
                let bytes = writer.into_bytes();
                let read = ReplicateSums::read(&mut Reader::new(&bytes), replicates).expect("own bytes");
                for b in 0..replicates {
                    prop_assert_eq!(read.get(b), sums[0].get(b));
                }
                sums[0].carry();
                prop_assert_eq!(read.get(0), sums[0].get(0));
                encoded.push(bytes);
            }
            encoded.dedup();
            prop_assert_eq!(encoded.len(), 1);
        }
    }

    /// Of as many units as are added at once: sums of 16 bits hold no more.
    #[test]
    fn the_largest_weights_and_digits_fit() {
        for (parts, largest) in [(1, 8), (2, 15)] {
            for multiply in Multiply::available() {
                let rows = vec![[largest; 2 * TILE_REPLICATES]; multiply.rows_at_once(parts)];
                let half = 1 << (multiply.digit_bits() - 1);
                for digit in [-half, half - 1] {
                    let words = vec![[digit as u8; 4]; 7 * rows.len()];
                    let mut sums = [[1; TILE_REPLICATES]; 7];
                    multiply.add(&rows, &words, rows.len(), &mut sums);
                    let sum = 1 + 2 * rows.len() as i32 * i32::from(largest) * digit;
                    assert_eq!(sums, [[sum; TILE_REPLICATES]; 7]);
                }
            }
        }
    }

    #[test]
    fn the_largest_values_fit() {
        let units: Vec<u128> = (0..BLOCK as u128).map(|k| k << 64).collect();
        for value in [
            -64i128,
            63,
            -128,
            127,
            -(64 + 64 * 128),
            -(128 + 128 * 256),
            (1 << VALUE_BITS) - 1,
            1 - (1 << VALUE_BITS),
        ] {
            let values = vec![value; BLOCK];
            for multiply in Multiply::available() {
                let draw = Draw::new(Law::Poisson, 1, false);
                let mut accumulator = Accumulator::with(draw, multiply);
                let mut sums = vec![ReplicateSums::new(32)];
                let column = BlockColumn { values: &values, exponent: 0, target: 0 };
                accumulator.add(&units, &[column], &mut sums);
                let expected = direct((Law::Poisson, 1, false), &units, &values, 0, 31);
                assert_eq!(sums[0].get(31), expected);
            }
        }
    }
}
