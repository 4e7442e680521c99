//! The distribution of a column: how many rows have which value, with the weights of bootstrap replicates where units
//! are given.

pub(super) mod grid;
mod sums;
#[cfg(test)]
mod tests;
mod weighted;

use std::collections::BTreeMap;

use super::moments::Columns;
use super::replicates::Resampling;
use super::{Kind, Reader, Rows, Summary, Table, Writer};
use crate::{Error, Result};
pub use grid::Bin;
use grid::Grid;
use weighted::Weighted;

/// The most pairs of a unit and a value that are kept one by one.
const MAX_PAIRS: usize = 64;

/// Rows that are collected before they are weighted.
const MAX_WAITING: usize = 1 << 17;

/// The most rows of one bin whose weights are counted.
const MAX_BIN_ROWS: u64 = 1 << 31;

/// Bits of the mantissa of a double: no two values share a bin.
const EXACT: u32 = 52;

/// What a histogram keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistogramOptions {
    /// How far a value may be from the middle of its bin, relatively, once there are many distinct values; 0 keeps every
    /// value as it is, however many there are.
    pub relative_error: f64,
    /// How units are resampled; `None` where rows are units and no weights are kept.
    pub resampling: Option<Resampling>,
}

impl Default for HistogramOptions {
    fn default() -> Self {
        Self { relative_error: 0.001, resampling: None }
    }
}

impl HistogramOptions {
    /// Bits of the mantissa that tell bins apart: a bin is at most `2^-bits` of its values wide.
    pub(super) fn precision(&self) -> Result<u32> {
        if self.relative_error == 0.0 {
            return Ok(EXACT);
        }
        if !(1e-4..=0.1).contains(&self.relative_error) {
            return Err(Error::Invalid(format!(
                "relative_error must be 0, or from 0.0001 to 0.1; found {}",
                self.relative_error
            )));
        }
        Ok((2..=14).find(|&bits| 0.5f64.powi(bits as i32 + 1) <= self.relative_error).unwrap_or(14))
    }

    /// Reads a precision that was written as one byte.
    pub(super) fn read_precision(bytes: &mut Reader<'_>) -> Result<u32> {
        match u32::from(bytes.u8()?) {
            precision if (2..=14).contains(&precision) || precision == EXACT => Ok(precision),
            _ => Err(Error::Damaged("the bins have no known precision".into())),
        }
    }
}

/// How many rows have which value, of one column.
///
/// Up to 2048 distinct values are kept as they are. Beyond, values share a bin with those within the relative error, and a
/// bin has the number of its rows and its smallest and largest value: quantiles are interpolated between these, and
/// integers below `1/relative_error` stay exact.
///
/// With units, every bin also has the weights of its rows in every bootstrap replicate: `Σ w_b(unit)`, a pure function of
/// seed, unit and replicate, so that rows in any order, partition, file or day merge to the weighted bins of all of them.
/// Up to 64 pairs of a unit and a value are kept one by one.
///
/// A value that is not finite is counted, and has no bin.
#[derive(Debug, Clone)]
pub struct Histogram {
    columns: Columns,
    precision: u32,
    resampling: Option<Resampling>,
    dropped: u64,
    not_finite: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Rows(Grid),
    Pairs(BTreeMap<(u128, u64), u64>),
    Weighted(Box<Weighted>),
}

impl Content {
    fn new(precision: u32, resampling: Option<&Resampling>) -> Self {
        match resampling {
            None => Self::Rows(Grid::new(precision)),
            Some(_) => Self::Pairs(BTreeMap::new()),
        }
    }

    fn heap_size(&self) -> usize {
        match self {
            Self::Rows(grid) => grid.heap_size(),
            Self::Pairs(pairs) => pairs.len() * 2 * size_of::<((u128, u64), u64)>(),
            Self::Weighted(weighted) => weighted.heap_size(),
        }
    }

    fn make_weighted(&mut self, precision: u32, resampling: &Resampling) -> &mut Weighted {
        if !matches!(self, Self::Weighted(_)) {
            let mut weighted = Box::new(Weighted::new(precision, resampling));
            if let Self::Pairs(pairs) = self {
                weighted.add(&rows_of(pairs), resampling);
            }
            *self = Self::Weighted(weighted);
        }
        match self {
            Self::Weighted(weighted) => weighted,
            _ => unreachable!("it was just made so"),
        }
    }

    /// Adds finite values of units.
    fn add(&mut self, rows: &[(u128, f64)], precision: u32, resampling: Option<&Resampling>) {
        match (&mut *self, resampling) {
            (Self::Rows(grid), _) => {
                for &(_, x) in rows {
                    grid.add(x, 1, |_, _| {});
                }
            }
            (Self::Weighted(weighted), Some(resampling)) => weighted.add(rows, resampling),
            (Self::Pairs(pairs), Some(resampling)) => {
                for (i, &(unit, x)) in rows.iter().enumerate() {
                    *pairs.entry((unit, (x + 0.0).to_bits())).or_default() += 1;
                    if pairs.len() > MAX_PAIRS {
                        let weighted = self.make_weighted(precision, resampling);
                        return weighted.add(&rows[i + 1..], resampling);
                    }
                }
            }
            (_, None) => unreachable!("weights belong to units"),
        }
    }

    fn merge(&mut self, other: &Self, precision: u32, resampling: Option<&Resampling>) {
        match (&mut *self, other) {
            (Self::Rows(mine), Self::Rows(theirs)) => {
                mine.merge(theirs, |_, _| {});
            }
            (_, Self::Pairs(theirs)) => self.add(&rows_of(theirs), precision, resampling),
            (Self::Weighted(mine), Self::Weighted(theirs)) => mine.merge(theirs),
            (_, Self::Weighted(theirs)) => {
                if let Some(resampling) = resampling {
                    self.make_weighted(precision, resampling).merge(theirs);
                }
            }
            _ => unreachable!("weights belong to units"),
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Rows(grid) => grid.rows(),
            Self::Pairs(pairs) => pairs.values().sum(),
            Self::Weighted(weighted) => weighted.grid.rows(),
        }
    }
}

/// The rows of pairs; a pair of many rows is as many of them.
fn rows_of(pairs: &BTreeMap<(u128, u64), u64>) -> Vec<(u128, f64)> {
    pairs
        .iter()
        .flat_map(|(&(unit, bits), &rows)| {
            std::iter::repeat_n((unit, f64::from_bits(bits)), rows as usize)
        })
        .collect()
}

impl Histogram {
    /// The summary of no rows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a relative error that is neither 0 nor from 0.0001 to 0.1, for replicates as [`Resampling::check`],
    /// and for more than one column.
    pub fn new(columns: Columns, options: &HistogramOptions) -> Result<Self> {
        if columns.len() != 1 {
            return Err(Error::Invalid(format!("expected one column, found {}", columns.len())));
        }
        let precision = options.precision()?;
        let resampling = options.resampling;
        if let Some(resampling) = resampling {
            resampling.check()?;
            if resampling.crossed || resampling.buckets.is_some() {
                return Err(Error::Invalid(
                    "expected units of one factor and no buckets for a histogram".into(),
                ));
            }
        }
        let content = Content::new(precision, resampling.as_ref());
        Ok(Self { columns, precision, resampling, dropped: 0, not_finite: 0, content })
    }

    /// Its column.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// How units are resampled; `None` where rows are units.
    pub fn resampling(&self) -> Option<Resampling> {
        self.resampling
    }

    /// How far a value may be from the middle of its bin, relatively; 0 while every value has its own.
    pub fn relative_error(&self) -> f64 {
        let coarse = match &self.content {
            Content::Rows(grid) => grid.is_coarse(),
            Content::Pairs(_) => false,
            Content::Weighted(weighted) => weighted.grid.is_coarse(),
        };
        if coarse { error_of(self.precision) } else { 0.0 }
    }

    /// Rows counted, with those that are not finite.
    pub fn rows(&self) -> u64 {
        self.content.rows() + self.not_finite
    }

    /// Rows left out because the unit or the value was NULL.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Rows whose value is NaN or infinite.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// The number of distinct units, where it is known: while pairs of unit and value are kept one by one.
    pub fn units(&self) -> Option<u64> {
        match &self.content {
            Content::Pairs(pairs) => {
                let mut units: Vec<u128> = pairs.keys().map(|&(unit, _)| unit).collect();
                units.dedup();
                Some(units.len() as u64)
            }
            Content::Rows(_) => Some(self.rows()),
            Content::Weighted(_) => None,
        }
    }

    /// The bins in ascending order of their values.
    pub fn bins(&self) -> Vec<Bin> {
        let of = |grid: &Grid| -> Vec<Bin> {
            grid.sorted().into_iter().map(|place| grid.bins()[place as usize]).collect()
        };
        match &self.content {
            Content::Rows(grid) => of(grid),
            Content::Weighted(weighted) => of(&weighted.grid),
            Content::Pairs(pairs) => {
                let mut grid = Grid::new(self.precision);
                for (&(_, bits), &rows) in pairs {
                    grid.add(f64::from_bits(bits), rows, |_, _| {});
                }
                of(&grid)
            }
        }
    }

    /// The bins of two histograms of rows, both coarse where one of them is.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for different columns or relative errors.
    pub(crate) fn aligned(t: &mut Self, c: &mut Self) -> Result<(Vec<Bin>, Vec<Bin>)> {
        t.check_same(c)?;
        if let (Content::Rows(t), Content::Rows(c)) = (&mut t.content, &mut c.content)
            && t.is_coarse() != c.is_coarse()
        {
            let fine = if t.is_coarse() { c } else { t };
            fine.coarsen(|_, _| {});
        }
        Ok((t.bins(), c.bins()))
    }

    /// Calls `f` with every bin in ascending order and its weights in every replicate.
    ///
    /// # Errors
    /// [`Error::Invalid`] without units, or where a bin has more rows than 32 bits of weights count.
    pub fn for_each_weighted(&self, mut f: impl FnMut(&Bin, &[u32])) -> Result<()> {
        let Some(resampling) = &self.resampling else {
            return Err(Error::Invalid("expected a histogram of units, found one of rows".into()));
        };
        let mut whole;
        let weighted = match &self.content {
            Content::Weighted(weighted) => weighted,
            content => {
                whole = content.clone();
                &*whole.make_weighted(self.precision, resampling)
            }
        };
        let bins = weighted.grid.bins();
        if let Some(bin) = bins.iter().find(|bin| bin.rows > MAX_BIN_ROWS) {
            return Err(Error::Invalid(format!(
                "expected at most {MAX_BIN_ROWS} rows of about one value, found {} at {}",
                bin.rows, bin.min
            )));
        }
        weighted.for_each(resampling.replicates as usize, |place, weights| {
            f(&bins[place as usize], weights);
        });
        Ok(())
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        self.content.heap_size()
    }

    fn check_same(&self, other: &Self) -> Result<()> {
        check_same(
            (&self.columns, self.precision, self.resampling),
            (&other.columns, other.precision, other.resampling),
        )
    }
}

/// The relative error of bins that are told apart by so many bits.
pub(super) fn error_of(precision: u32) -> f64 {
    if precision == EXACT { 0.0 } else { 0.5f64.powi(precision as i32 + 1) }
}

pub(super) fn check_precision(mine: u32, theirs: u32) -> Result<()> {
    if mine == theirs {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "bins of different relative errors do not merge: expected {}, found {}",
        error_of(mine),
        error_of(theirs)
    )))
}

fn check_same(
    mine: (&Columns, u32, Option<Resampling>),
    theirs: (&Columns, u32, Option<Resampling>),
) -> Result<()> {
    mine.0.check_same(theirs.0)?;
    check_precision(mine.1, theirs.1)?;
    if mine.2 == theirs.2 {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "histograms of different resampling do not merge: expected {}, found {}",
        named(mine.2),
        named(theirs.2)
    )))
}

/// The resampling of a histogram, for messages.
pub(crate) fn named(resampling: Option<Resampling>) -> String {
    resampling.map_or_else(|| "none".to_owned(), |r| r.to_string())
}

impl PartialEq for Histogram {
    /// Equality of what is counted: the bytes are canonical.
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Summary for Histogram {
    const KIND: Kind = Kind::Histogram;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_same(other)?;
        self.dropped += other.dropped;
        self.not_finite += other.not_finite;
        self.content.merge(&other.content, self.precision, self.resampling.as_ref());
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        self.columns.write(out);
        out.u8(self.precision as u8);
        match &self.resampling {
            None => out.u8(0),
            Some(resampling) => {
                resampling.law.write(out);
                out.varint(resampling.replicates.into());
                out.varint(resampling.seed);
            }
        }
        out.varint(self.dropped);
        out.varint(self.not_finite);
        match &self.content {
            Content::Rows(grid) => grid.write(out),
            Content::Pairs(pairs) => {
                out.u8(0);
                out.varint(pairs.len() as u64);
                for (&(unit, bits), &rows) in pairs {
                    out.u128(unit);
                    out.f64(f64::from_bits(bits));
                    out.varint(rows);
                }
            }
            Content::Weighted(weighted) => {
                out.u8(1);
                let replicates = self.resampling.map_or(0, |r| r.replicates as usize);
                weighted.write(replicates, out);
            }
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(format!("the histogram {what}"));
        let columns = Columns::read(bytes)?;
        let precision = HistogramOptions::read_precision(bytes)?;
        let resampling = match bytes.u8()? {
            0 => None,
            number => {
                let law = super::Law::read(number, bytes)?;
                let replicates = u32::try_from(bytes.varint()?).unwrap_or(u32::MAX);
                let seed = bytes.varint()?;
                Some(Resampling { law, replicates, seed, ..Resampling::default() })
            }
        };
        // Half of the width of a bin may be a little below the least error that can be asked for.
        let relative_error = if precision == EXACT { 0.0 } else { error_of(precision).max(1e-4) };
        let options = HistogramOptions { relative_error, resampling };
        let mut summary =
            Self::new(columns, &options).map_err(|e| Error::Damaged(e.to_string()))?;
        summary.precision = precision;
        summary.dropped = bytes.rows()?;
        summary.not_finite = bytes.rows()?;
        summary.content = match &resampling {
            None => Content::Rows(Grid::read(bytes, precision)?),
            Some(resampling) => match bytes.u8()? {
                0 => Content::Pairs(read_pairs(bytes)?),
                1 => Content::Weighted(Box::new(Weighted::read(bytes, precision, resampling)?)),
                _ => return Err(damaged("is of no known form")),
            },
        };
        Ok(summary)
    }
}

fn read_pairs(bytes: &mut Reader<'_>) -> Result<BTreeMap<(u128, u64), u64>> {
    let damaged = |what: &str| Error::Damaged(format!("the pairs of units and values {what}"));
    let count = bytes.count(25)?;
    if count > MAX_PAIRS {
        return Err(damaged("are too many"));
    }
    let mut pairs = BTreeMap::new();
    let mut total = 0;
    for _ in 0..count {
        let (unit, x) = (bytes.u128()?, bytes.f64()?);
        let rows = bytes.rows()?;
        total = super::codec::check_rows(total + rows)?;
        let key = (unit, x.to_bits());
        let negative_zero = x == 0.0 && key.1 != 0;
        let before = pairs.last_key_value().is_none_or(|(&last, _)| last < key);
        // As many rows as are written out one by one.
        if !before || rows == 0 || total > 1 << 24 || negative_zero || !x.is_finite() {
            return Err(damaged("are not in order"));
        }
        pairs.insert(key, rows);
    }
    Ok(pairs)
}

/// The histograms of many slots.
#[derive(Debug)]
pub struct HistogramTable {
    columns: Columns,
    precision: u32,
    resampling: Option<Resampling>,
    slots: Vec<Slot>,
    /// Rows that wait in all slots.
    waiting: usize,
    /// Bytes on the heap of all contents.
    held: usize,
}

#[derive(Debug)]
struct Slot {
    content: Content,
    dropped: u64,
    not_finite: u64,
    waiting: Vec<(u128, f64)>,
}

impl HistogramTable {
    /// A table without slots.
    ///
    /// # Errors
    /// As [`Histogram::new`].
    pub fn new(columns: Columns, options: &HistogramOptions) -> Result<Self> {
        let empty = Histogram::new(columns, options)?;
        Ok(Self {
            columns: empty.columns,
            precision: empty.precision,
            resampling: empty.resampling,
            slots: Vec::new(),
            waiting: 0,
            held: 0,
        })
    }

    /// Counts rows that were left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.slots[slot].dropped += rows;
    }

    fn flush(&mut self) {
        // Of a few slots the room for waiting rows is used again.
        let are_few = self.slots.len() <= 16;
        for slot in self.slots.iter_mut().filter(|slot| !slot.waiting.is_empty()) {
            let before = slot.content.heap_size();
            slot.content.add(&slot.waiting, self.precision, self.resampling.as_ref());
            self.held = self.held + slot.content.heap_size() - before;
            if are_few {
                slot.waiting.clear();
            } else {
                slot.waiting = Vec::new();
            }
        }
        self.waiting = 0;
    }
}

impl Table for HistogramTable {
    type Summary = Histogram;

    fn resize(&mut self, slots: usize) {
        let (precision, resampling) = (self.precision, self.resampling.as_ref());
        self.slots.resize_with(slots, || Slot {
            content: Content::new(precision, resampling),
            dropped: 0,
            not_finite: 0,
            waiting: Vec::new(),
        });
    }

    fn update(&mut self, rows: Rows<'_>) {
        for (r, (&slot, &x)) in rows.slots.iter().zip(rows.columns[0]).enumerate() {
            let slot = &mut self.slots[slot as usize];
            if !x.is_finite() {
                slot.not_finite += 1;
                continue;
            }
            slot.waiting.push((rows.units.get(r).copied().unwrap_or_default(), x));
            self.waiting += 1;
            if self.waiting >= MAX_WAITING {
                self.flush();
            }
        }
    }

    fn merge(&mut self, slot: usize, summary: &Histogram) -> Result<()> {
        check_same(
            (&self.columns, self.precision, self.resampling),
            (&summary.columns, summary.precision, summary.resampling),
        )?;
        let slot = &mut self.slots[slot];
        slot.dropped += summary.dropped;
        slot.not_finite += summary.not_finite;
        let before = slot.content.heap_size();
        slot.content.merge(&summary.content, self.precision, self.resampling.as_ref());
        self.held = self.held + slot.content.heap_size() - before;
        Ok(())
    }

    fn get(&self, slot: usize) -> Histogram {
        let Slot { content, dropped, not_finite, waiting } = &self.slots[slot];
        let mut content = content.clone();
        content.add(waiting, self.precision, self.resampling.as_ref());
        Histogram {
            columns: self.columns.clone(),
            precision: self.precision,
            resampling: self.resampling,
            dropped: *dropped,
            not_finite: *not_finite,
            content,
        }
    }

    fn drop_first(&mut self, n: usize) {
        self.flush();
        let gone: usize = self.slots.drain(..n).map(|slot| slot.content.heap_size()).sum();
        self.held -= gone;
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.slots.capacity() * size_of::<Slot>()
            + self.held
            + 2 * self.waiting * size_of::<(u128, f64)>()
    }
}
