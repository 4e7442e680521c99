//! The moments of a column by bins of its value: what means of capped values are made of.

use std::collections::BTreeMap;

use super::histogram::grid::Grid;
use super::histogram::{Bin, HistogramOptions, check_precision, error_of};
use super::moments::{Columns, Moments};
use super::{Kind, Reader, Rows, Summary, Table, Writer};
use crate::exact::{ExactSum, Products, SumTable, Sums};
use crate::{Error, Result};

/// How many rows of one column are in each bin of its value, with their exact sum and sum of squares.
///
/// Bins are those of a [`Histogram`](super::Histogram): every value has its own up to 2048 of them, and beyond they are of
/// a relative width. Where values are capped at the end of a bin, their sums are exact. A value that is not finite is
/// counted, and has no bin.
#[derive(Debug, Clone)]
pub struct BinnedMoments {
    columns: Columns,
    precision: u32,
    dropped: u64,
    not_finite: u64,
    bins: Box<Bins>,
}

/// Bins with their sums.
#[derive(Debug, Clone)]
struct Bins {
    grid: Grid,
    /// By the place of the bin.
    sums: SumTable,
}

impl Bins {
    fn new(precision: u32) -> Self {
        Self { grid: Grid::new(precision), sums: SumTable::new(1, Products::All) }
    }

    /// Adds finite values.
    fn add(&mut self, values: &[f64]) {
        let Self { grid, sums } = self;
        let mut places = Vec::with_capacity(values.len());
        let mut first = 0;
        for (r, &x) in values.iter().enumerate() {
            let place = grid.add(x, 1, |moved, bins| {
                sums.resize(moved.len());
                sums.add(&places, &[&values[first..r]]);
                move_sums(sums, moved, bins);
                places.clear();
                first = r;
            });
            places.push(place);
        }
        sums.resize(grid.bins().len());
        sums.add(&places, &[&values[first..]]);
    }

    fn merge(&mut self, other: &Self) {
        let Self { grid, sums } = self;
        let places = grid.merge(&other.grid, |moved, bins| {
            sums.resize(moved.len());
            move_sums(sums, moved, bins);
        });
        sums.resize(grid.bins().len());
        for (theirs, &mine) in places.iter().enumerate() {
            sums.merge(mine, &other.sums.get(theirs as u32));
        }
    }

    /// Bins in ascending order of their values, each with its sums.
    fn sorted(&self) -> impl Iterator<Item = (Bin, Sums)> {
        let bins = self.grid.sorted().into_iter();
        bins.map(|place| (self.grid.bins()[place as usize], self.sums.get(place)))
    }

    fn size(&self) -> usize {
        self.grid.heap_size() + self.sums.size()
    }
}

/// Takes the sums of bins to their new places.
fn move_sums(sums: &mut SumTable, places: &[u32], bins: usize) {
    let mut moved = SumTable::new(1, Products::All);
    moved.resize(bins);
    for (from, &to) in places.iter().enumerate() {
        moved.merge(to, &sums.get(from as u32));
    }
    *sums = moved;
}

impl BinnedMoments {
    /// The summary of no rows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than one column, and for a relative error that is neither 0 nor from 0.0001 to 0.1.
    pub fn new(columns: Columns, relative_error: f64) -> Result<Self> {
        if columns.len() != 1 {
            return Err(Error::Invalid(format!("expected one column, found {}", columns.len())));
        }
        let options = HistogramOptions { relative_error, resampling: None };
        Ok(Self::of_precision(columns, options.precision()?))
    }

    fn of_precision(columns: Columns, precision: u32) -> Self {
        Self { columns, precision, dropped: 0, not_finite: 0, bins: Box::new(Bins::new(precision)) }
    }

    /// Its column.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Rows counted, with those that are not finite.
    pub fn rows(&self) -> u64 {
        self.bins.grid.rows() + self.not_finite
    }

    /// Rows left out because the value was NULL.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Rows whose value is NaN or infinite.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// The bins in ascending order of their values.
    pub fn bins(&self) -> Vec<Bin> {
        self.bins.sorted().map(|(bin, _)| bin).collect()
    }

    /// How wide bins are, relatively; 0 while every value has its own.
    pub fn relative_error(&self) -> f64 {
        if self.bins.grid.is_coarse() { error_of(self.precision) } else { 0.0 }
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        size_of::<Bins>() + self.bins.size()
    }

    /// The same two summaries with bins of one width.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for different columns or relative errors.
    pub(crate) fn aligned(t: &Self, c: &Self) -> Result<(Self, Self)> {
        t.check_same(c)?;
        let (mut t, mut c) = (t.clone(), c.clone());
        if t.bins.grid.is_coarse() != c.bins.grid.is_coarse() {
            let fine = if t.bins.grid.is_coarse() { &mut c.bins } else { &mut t.bins };
            let Bins { grid, sums } = fine.as_mut();
            grid.coarsen(|moved, bins| move_sums(sums, moved, bins));
        }
        Ok((t, c))
    }

    /// The moments of the values, those beyond the caps taken to them, and how many these are. No bin may have values on
    /// both sides of a cap.
    pub(crate) fn capped(&self, lower: Option<f64>, upper: Option<f64>) -> (Moments, u64) {
        let mut total = Sums::new(1, Products::All);
        let mut capped = 0;
        for (bin, sums) in self.bins.sorted() {
            let cap = match (lower, upper) {
                (Some(lower), _) if bin.max < lower => lower,
                (_, Some(upper)) if bin.min > upper => upper,
                _ => {
                    total.merge(&sums);
                    continue;
                }
            };
            capped += bin.rows;
            let mut sum = ExactSum::new();
            sum.add_product(cap, bin.rows as f64);
            let square = sum.times(cap);
            total.merge(&Sums { n: bin.rows, sums: vec![sum, square] });
        }
        total.n += self.not_finite;
        if self.not_finite > 0 {
            total.sums.iter_mut().for_each(|sum| sum.add(f64::NAN));
        }
        (Moments::of_sums(self.columns.clone(), self.dropped, total), capped)
    }

    fn check_same(&self, other: &Self) -> Result<()> {
        self.columns.check_same(&other.columns)?;
        check_precision(self.precision, other.precision)
    }
}

impl PartialEq for BinnedMoments {
    /// Equality of what is summed: the bytes are canonical.
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Summary for BinnedMoments {
    const KIND: Kind = Kind::BinnedMoments;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_same(other)?;
        self.dropped += other.dropped;
        self.not_finite += other.not_finite;
        self.bins.merge(&other.bins);
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        self.columns.write(out);
        out.u8(self.precision as u8);
        out.varint(self.dropped);
        out.varint(self.not_finite);
        self.bins.grid.write(out);
        for (_, sums) in self.bins.sorted() {
            sums.sums.iter().for_each(|sum| out.sum(sum));
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(format!("the binned moments {what}"));
        let columns = Columns::read(bytes)?;
        if columns.len() != 1 {
            return Err(damaged("have more than one column"));
        }
        let precision = HistogramOptions::read_precision(bytes)?;
        let mut summary = Self::of_precision(columns, precision);
        summary.dropped = bytes.rows()?;
        summary.not_finite = bytes.rows()?;
        let Bins { grid, sums } = summary.bins.as_mut();
        *grid = Grid::read(bytes, precision)?;
        sums.resize(grid.bins().len());
        for (place, bin) in grid.bins().iter().enumerate() {
            let read = [bytes.sum()?, bytes.sum()?];
            if !read.iter().all(ExactSum::is_finite) {
                return Err(damaged("have sums that are not finite"));
            }
            sums.merge_parts(place as u32, bin.rows, &read);
        }
        Ok(summary)
    }
}

/// The binned moments of many slots.
#[derive(Debug)]
pub struct BinnedTable {
    columns: Columns,
    precision: u32,
    slots: Vec<BinnedMoments>,
    /// Bytes on the heap of all slots.
    held: usize,
}

impl BinnedTable {
    /// A table without slots.
    ///
    /// # Errors
    /// As [`BinnedMoments::new`].
    pub fn new(columns: Columns, relative_error: f64) -> Result<Self> {
        let BinnedMoments { columns, precision, .. } = BinnedMoments::new(columns, relative_error)?;
        Ok(Self { columns, precision, slots: Vec::new(), held: 0 })
    }

    /// Counts rows that were left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.slots[slot].dropped += rows;
    }

    /// Changes the bins of a slot.
    fn change(&mut self, slot: usize, change: impl FnOnce(&mut Bins)) {
        let bins = self.slots[slot].bins.as_mut();
        let before = bins.size();
        change(bins);
        self.held = self.held + bins.size() - before;
    }
}

impl Table for BinnedTable {
    type Summary = BinnedMoments;

    fn resize(&mut self, slots: usize) {
        let empty = || BinnedMoments::of_precision(self.columns.clone(), self.precision);
        let before = self.slots.len();
        self.slots.resize_with(slots, empty);
        self.held += self.slots[before..].iter().map(BinnedMoments::heap_size).sum::<usize>();
    }

    fn update(&mut self, rows: Rows<'_>) {
        let mut of_slots: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for (&slot, &x) in rows.slots.iter().zip(rows.columns[0]) {
            if x.is_finite() {
                of_slots.entry(slot).or_default().push(x);
            } else {
                self.slots[slot as usize].not_finite += 1;
            }
        }
        for (slot, values) in of_slots {
            self.change(slot as usize, |bins| bins.add(&values));
        }
    }

    fn merge(&mut self, slot: usize, summary: &BinnedMoments) -> Result<()> {
        let mine = &mut self.slots[slot];
        mine.check_same(summary)?;
        mine.dropped += summary.dropped;
        mine.not_finite += summary.not_finite;
        self.change(slot, |bins| bins.merge(&summary.bins));
        Ok(())
    }

    fn get(&self, slot: usize) -> BinnedMoments {
        self.slots[slot].clone()
    }

    fn drop_first(&mut self, n: usize) {
        let gone: usize = self.slots.drain(..n).map(|slot| slot.heap_size()).sum();
        self.held -= gone;
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.slots.capacity() * size_of::<BinnedMoments>() + self.held
    }
}
