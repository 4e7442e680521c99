//! Bins of values: one for every distinct value while there are few, then of a relative width.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::summary::{Reader, Writer};
use crate::{Error, Result};

/// The most distinct values that have a bin each.
pub(in crate::summary) const MAX_EXACT: usize = 2048;

/// Bits of a double below its sign and exponent.
const MANTISSA_BITS: u32 = 52;

/// A bin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    key: i64,
    /// Rows in the bin.
    pub rows: u64,
    /// The smallest value in it.
    pub min: f64,
    /// The largest value in it.
    pub max: f64,
}

/// Multiplies and folds: keys of neighbouring values differ in few bits.
#[derive(Debug, Default, Clone)]
pub(in crate::summary) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_i64(byte.into());
        }
    }
    fn write_i64(&mut self, key: i64) {
        let product = u128::from(key as u64 ^ self.0) * u128::from(0x9e37_79b9_7f4a_7c15u64);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

/// Bins in the order in which they came.
///
/// Up to [`MAX_EXACT`] distinct values every value has its own; beyond, a bin holds the doubles that agree in sign,
/// exponent and the first `precision` bits of the mantissa. Which of the two it is depends on the set of values alone,
/// never on their order or split.
#[derive(Debug, Clone, Default)]
pub(in crate::summary) struct Grid {
    precision: u32,
    coarse: bool,
    index: HashMap<i64, u32, BuildHasherDefault<KeyHasher>>,
    bins: Vec<Bin>,
}

impl Grid {
    pub(in crate::summary) fn new(precision: u32) -> Self {
        Self { precision, ..Self::default() }
    }

    pub(in crate::summary) fn is_coarse(&self) -> bool {
        self.coarse
    }

    pub(in crate::summary) fn bins(&self) -> &[Bin] {
        &self.bins
    }

    pub(in crate::summary) fn rows(&self) -> u64 {
        self.bins.iter().map(|bin| bin.rows).sum()
    }

    /// The places of the bins in ascending order of their values.
    pub(in crate::summary) fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.bins.len() as u32).collect();
        order.sort_unstable_by_key(|&i| self.bins[i as usize].key);
        order
    }

    pub(in crate::summary) fn heap_size(&self) -> usize {
        self.bins.capacity() * size_of::<Bin>()
            + self.index.capacity() * (size_of::<(i64, u32)>() + 1)
    }

    fn shift(&self) -> u32 {
        if self.coarse { MANTISSA_BITS - self.precision } else { 0 }
    }

    /// Counts rows of a finite value; their bin. Where that makes too many bins they are coarse afterwards, and `moved`
    /// is told the new place of each.
    pub(in crate::summary) fn add(
        &mut self,
        x: f64,
        rows: u64,
        moved: impl FnMut(&[u32], usize),
    ) -> u32 {
        // Negative zero is zero.
        let x = x + 0.0;
        self.add_bin(Bin { key: key_of(x) >> self.shift(), rows, min: x, max: x }, moved)
    }

    /// Adds a bin of a grid that is as coarse as this one.
    fn add_bin(&mut self, bin: Bin, moved: impl FnMut(&[u32], usize)) -> u32 {
        let place = self.place(bin);
        if self.coarse || self.bins.len() <= MAX_EXACT {
            return place;
        }
        self.coarsen(moved)[place as usize]
    }

    /// The place of a bin, with its rows added.
    fn place(&mut self, bin: Bin) -> u32 {
        let next = self.bins.len() as u32;
        let place = *self.index.entry(bin.key).or_insert(next);
        match self.bins.get_mut(place as usize) {
            Some(known) => known.join(&bin),
            None => self.bins.push(bin),
        }
        place
    }

    /// Makes the bins coarse; the new place of each.
    pub(in crate::summary) fn coarsen(&mut self, mut moved: impl FnMut(&[u32], usize)) -> Vec<u32> {
        self.coarse = true;
        self.index.clear();
        let bins = std::mem::take(&mut self.bins);
        let shift = self.shift();
        let places: Vec<u32> =
            bins.into_iter().map(|bin| self.place(Bin { key: bin.key >> shift, ..bin })).collect();
        moved(&places, self.bins.len());
        places
    }

    /// Adds the bins of another grid: the place of each of them. `moved` as in [`add`](Self::add).
    pub(in crate::summary) fn merge(
        &mut self,
        other: &Self,
        mut moved: impl FnMut(&[u32], usize),
    ) -> Vec<u32> {
        if other.coarse && !self.coarse {
            self.coarsen(&mut moved);
        }
        let mut places: Vec<u32> = Vec::with_capacity(other.bins.len());
        for bin in &other.bins {
            let key = if other.coarse { bin.key } else { bin.key >> self.shift() };
            let mut became = Vec::new();
            let place = self.add_bin(Bin { key, ..*bin }, |places, bins| {
                became.extend_from_slice(places);
                moved(places, bins);
            });
            if !became.is_empty() {
                places.iter_mut().for_each(|place| *place = became[*place as usize]);
            }
            places.push(place);
        }
        places
    }

    pub(in crate::summary) fn write(&self, out: &mut Writer) {
        out.u8(self.coarse.into());
        out.varint(self.bins.len() as u64);
        for place in self.sorted() {
            let bin = &self.bins[place as usize];
            out.varint(bin.rows);
            out.f64(bin.min);
            if self.coarse {
                out.f64(bin.max);
            }
        }
    }

    pub(in crate::summary) fn read(bytes: &mut Reader<'_>, precision: u32) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(format!("the bins {what}"));
        let coarse = match bytes.u8()? {
            0 => false,
            1 => true,
            _ => return Err(damaged("are of no known form")),
        };
        let mut grid = Self { precision, coarse, ..Self::default() };
        let count = bytes.count(9)?;
        if !coarse && count > MAX_EXACT {
            return Err(damaged("are too many to be exact"));
        }
        let mut rows = 0;
        for i in 0..count {
            let bin_rows = bytes.rows()?;
            rows = crate::summary::codec::check_rows(rows + bin_rows)?;
            let min = bytes.f64()?;
            let max = if coarse { bytes.f64()? } else { min };
            let whole = min.is_finite() && max.is_finite() && min <= max && bin_rows > 0;
            let zero = min.to_bits() != 0 && min == 0.0 || max.to_bits() != 0 && max == 0.0;
            let key = key_of(min) >> grid.shift();
            let before = grid.bins.last().is_none_or(|bin| bin.key < key);
            let single = bin_rows == 1 && min.to_bits() != max.to_bits();
            if !whole || zero || !before || single || key != key_of(max) >> grid.shift() {
                return Err(damaged("are not in order"));
            }
            grid.index.insert(key, i as u32);
            grid.bins.push(Bin { key, rows: bin_rows, min, max });
        }
        Ok(grid)
    }
}

impl Bin {
    /// The order of two bins of grids that are as coarse as each other.
    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.rows += other.rows;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The value below which a share of the bin's weight is, as if its values were evenly spread.
    pub(crate) fn at(&self, share: f64) -> f64 {
        // Where both ends are huge, their difference is not a number.
        let value = self.min * (1.0 - share) + self.max * share;
        value.clamp(self.min, self.max)
    }
}

/// Doubles as integers in the same order.
fn key_of(x: f64) -> i64 {
    let magnitude = (x.to_bits() & !(1 << 63)) as i64;
    if x.is_sign_negative() { !magnitude } else { magnitude }
}
