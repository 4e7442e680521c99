//! The products of the columns of a regression, X'X, X'y and y'y, by distinct rows: what linear models are made of.

mod cells;
mod columns;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(crate) use cells::Cell;
use cells::Cells;
pub use columns::{GramColumns, Regressor, RegressorKind};
pub use table::{GramRows, GramTable};

use super::codec::check_rows;
use super::moments::{Columns, Moments, project};
use super::{Kind, Reader, Summary, Writer};
use crate::exact::{ExactSum, Products, Sums};
use crate::units::bucket_of;
use crate::{Error, Result};

/// How many distinct rows are kept where no number is asked for.
pub const DEFAULT_MAX_ROWS: u32 = 1 << 16;

/// The most that may be asked for.
pub const MAX_ROWS: u32 = 1 << 24;

/// Clusters fall into so many buckets where they are too many to be kept one by one.
pub const BUCKETS: u32 = 4096;

/// The most cells, which are the combinations of factors that occur, by buckets of clusters.
pub const MAX_CELLS: usize = 1 << 20;

/// The rows of a regression, compressed without loss for all designs of main effects and of interactions of factors
/// with each other and with a number.
///
/// As long as there are at most `max_rows` of them, the *distinct rows* are kept: for each the number of rows and the
/// exact sums of the outcomes and of their products. Rows of one cluster are distinct from those of another; where rows
/// are clustered, what is kept of those that differ in their numbers alone is the exact sums of all columns and products.
/// Beyond, the rows of each *cell*, a combination of the factors, are taken together in the same way: estimates and
/// their classical variance need no more. Clusters then fall into buckets of clusters, by their hash. Which form it has
/// depends on the set of the rows alone, never on their order or split.
///
/// A row with a weight `w` stands as `√w` times the row, with a column of `√w` for the ones of the intercept. A row with a
/// value that is NaN or infinite is in no cell, but counted: nothing can be estimated then.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    columns: GramColumns,
    max_rows: u32,
    dropped: u64,
    not_finite: u64,
    /// The labels of each factor, in order; each is that of some row.
    labels: Vec<Vec<String>>,
    merged: bool,
    cells: Box<Cells>,
}

/// Where the parts of a key are: the cluster, then the place of the label of each factor, then values, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    cluster: usize,
    factors: usize,
    values: usize,
}

impl Parts {
    fn new(columns: &GramColumns, merged: bool) -> Self {
        let cluster = match (columns.clusters(), merged) {
            (clusters, false) => 2 * clusters,
            (1, true) => 1,
            _ => 0,
        };
        let values = if merged || columns.clusters() > 0 { 0 } else { columns.values() };
        Self { cluster, factors: columns.factors(), values }
    }

    fn len(self) -> usize {
        self.cluster + self.factors + self.values
    }

    /// How many columns a cell has sums of.
    fn sums_of(columns: &GramColumns, merged: bool) -> usize {
        let of_outcomes = !merged && columns.clusters() == 0;
        if of_outcomes { columns.outcomes().len() } else { columns.width() }
    }
}

/// Checks a number of distinct rows.
///
/// # Errors
/// [`Error::Invalid`] unless it is from 1 to [`MAX_ROWS`].
pub fn check_max_rows(max_rows: u32) -> Result<()> {
    if (1..=MAX_ROWS).contains(&max_rows) {
        return Ok(());
    }
    Err(Error::Invalid(format!("max_rows must be from 1 to {MAX_ROWS}; found {max_rows}")))
}

impl Gram {
    /// The summary of no rows.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`check_max_rows`].
    pub fn new(columns: GramColumns, max_rows: u32) -> Result<Self> {
        check_max_rows(max_rows)?;
        let labels = vec![Vec::new(); columns.factors()];
        let (dropped, not_finite, merged) = (0, 0, false);
        let parts = Parts::new(&columns, merged);
        let cells = Box::new(Cells::new(parts.len(), Parts::sums_of(&columns, merged)));
        Ok(Self { columns, max_rows, dropped, not_finite, labels, merged, cells })
    }

    /// Its columns.
    pub fn columns(&self) -> &GramColumns {
        &self.columns
    }

    /// Up to how many distinct rows are kept.
    pub fn max_rows(&self) -> u32 {
        self.max_rows
    }

    /// Rows counted.
    pub fn n(&self) -> u64 {
        self.not_finite + self.cells.iter().map(Cell::n).sum::<u64>()
    }

    /// Rows left out because a value was NULL, or their weight 0.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Rows with a value that is NaN or infinite.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// The labels of each factor, in order.
    pub fn labels(&self) -> &[Vec<String>] {
        &self.labels
    }

    /// Number of distinct rows (by cluster), where they are kept.
    pub fn distinct_rows(&self) -> Option<usize> {
        (!self.merged).then_some(self.cells.len())
    }

    /// Number of cells that are kept.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cells.len() == 0
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        let labels = self.labels.iter().flatten().map(|l| l.capacity() + size_of::<String>());
        labels.sum::<usize>() + size_of::<Cells>() + self.cells.heap_size()
    }

    /// What is kept, in the order of keys: by cluster, then by levels, then by values.
    pub(crate) fn cells(&self) -> impl ExactSizeIterator<Item = Cell<'_>> {
        self.cells.iter()
    }

    /// One of the cells.
    pub(crate) fn cell(&self, i: usize) -> Cell<'_> {
        self.cells.get(i)
    }

    /// The places of the labels of a cell.
    pub(crate) fn levels<'a>(&self, cell: Cell<'a>) -> &'a [u64] {
        let Parts { cluster, factors, .. } = self.parts();
        &cell.key[cluster..][..factors]
    }

    /// The values of a distinct row: the root of the weight, then numbers.
    pub(crate) fn values<'a>(&self, cell: Cell<'a>) -> impl Iterator<Item = f64> + use<'a> {
        let Parts { cluster, factors, .. } = self.parts();
        cell.key[cluster + factors..].iter().map(|&bits| f64::from_bits(bits))
    }

    /// The cluster, or bucket of clusters, that a cell is of by one of the factors.
    pub(crate) fn cluster<'a>(&self, cell: Cell<'a>, factor: usize) -> &'a [u64] {
        let words = if self.merged { 1 } else { 2 };
        &cell.key[words * factor..][..words]
    }

    /// The moments of each combination of factors: of `√w` (where rows are weighted), numbers and outcomes.
    pub(crate) fn by_factors(&self) -> BTreeMap<Vec<u64>, Sums> {
        let levels = |cell: Cell<'_>, key: &mut Vec<u64>| key.extend_from_slice(self.levels(cell));
        let cells = self.regrouped(self.columns.factors(), levels);
        cells.iter().map(|cell| (cell.key.to_vec(), cell.sums())).collect()
    }

    /// The moments of a summary without factors and weights: outcomes first, then the numbers, without rows that are not
    /// finite.
    pub(crate) fn moments_of_numbers(&self) -> Moments {
        let outcomes = self.columns.outcomes();
        let numbers = self.columns.width() - outcomes.len();
        let names = outcomes.iter().chain(self.columns.regressors().iter().map(|r| &r.name));
        let columns = Columns::new(names.cloned(), outcomes.len()).expect("names of their own");
        let places: Vec<Option<usize>> =
            (numbers..self.columns.width()).chain(0..numbers).map(Some).collect();
        let sums = self.by_factors().into_values().next();
        let sums = sums.unwrap_or_else(|| Sums::new(self.columns.width(), Products::All));
        let sums = project(&sums, self.columns.width(), &places);
        Moments::of_sums(columns, self.dropped, sums)
    }

    fn parts(&self) -> Parts {
        Parts::new(&self.columns, self.merged)
    }

    /// Cells of other keys, with the sums of all columns and products.
    fn regrouped(&self, words: usize, key: impl Fn(Cell<'_>, &mut Vec<u64>)) -> Cells {
        let width = self.columns.width();
        if Parts::sums_of(&self.columns, self.merged) == width {
            return self.cells.by(words, key);
        }
        self.cells.by_with((words, width), key, |cell| self.moments(cell))
    }

    /// The sums of all columns and products over the rows of a cell that has those of the outcomes.
    fn moments(&self, cell: Cell<'_>) -> Sums {
        let values: Vec<f64> = self.values(cell).collect();
        moments_of(&values, &cell.sums(), self.columns.outcomes().len())
    }

    /// Takes together the distinct rows of a cell.
    fn merge_rows(&mut self) {
        if self.merged {
            return;
        }
        let clustered = self.columns.clusters() == 1;
        let words = Parts::new(&self.columns, true).len();
        *self.cells = self.regrouped(words, |cell, key| {
            key.extend(clustered.then(|| bucket_word(cell.key)));
            key.extend_from_slice(self.levels(cell));
        });
        self.merged = true;
    }

    /// Takes the form that belongs to the number of distinct rows.
    fn settle(&mut self) -> Result<()> {
        if self.cells.len() > self.max_rows as usize {
            self.merge_rows();
        }
        check_cells(self.cells.len(), self.merged)
    }

    /// The same with more labels, of which those of this summary are some.
    fn relabel(&mut self, labels: &[Vec<String>]) {
        let first = self.parts().cluster;
        for (f, (mine, all)) in self.labels.iter_mut().zip(labels).enumerate() {
            if mine == all {
                continue;
            }
            let places: Vec<u64> = mine
                .iter()
                .map(|label| all.binary_search(label).expect("the labels of both") as u64)
                .collect();
            // Order is kept, and so is that of the keys.
            for key in self.cells.keys_mut() {
                key[first + f] = places[key[first + f] as usize];
            }
            mine.clone_from(all);
        }
    }
}

/// The word of the bucket of the cluster that a key starts with.
fn bucket_word(key: &[u64]) -> u64 {
    bucket_of(u128::from(key[0]) << 64 | u128::from(key[1]), BUCKETS).into()
}

fn check_cells(cells: usize, merged: bool) -> Result<()> {
    if merged && cells > MAX_CELLS {
        return Err(Error::Invalid(format!(
            "expected factors with at most {MAX_CELLS} combinations (by buckets of clusters), found more: \
             give factors with fewer levels"
        )));
    }
    Ok(())
}

fn check_same(mine: (&GramColumns, u32), theirs: (&GramColumns, u32)) -> Result<()> {
    mine.0.check_same(theirs.0)?;
    if mine.1 == theirs.1 {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "summaries of different max_rows do not merge: expected {}, found {}",
        mine.1, theirs.1
    )))
}

/// The sums of values that all rows have in common and of the outcomes, whose sums are given.
fn moments_of(values: &[f64], of_outcomes: &Sums, outcomes: usize) -> Sums {
    let n = of_outcomes.n as f64;
    let (totals, products) = of_outcomes.sums.split_at(outcomes);
    let times = |a: f64, b: f64| {
        let mut product = ExactSum::new();
        product.add_product(a, b);
        product
    };
    let mut sums: Vec<ExactSum> = values.iter().map(|&x| times(n, x)).collect();
    sums.extend_from_slice(totals);
    for (i, &x) in values.iter().enumerate() {
        sums.extend(values[i..].iter().map(|&z| times(x, z).times(n)));
        sums.extend(totals.iter().map(|total| total.times(x)));
    }
    sums.extend_from_slice(products);
    Sums { n: of_outcomes.n, sums }
}

impl Summary for Gram {
    const KIND: Kind = Kind::Gram;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        check_same((&self.columns, self.max_rows), (&other.columns, other.max_rows))?;
        let mut other = other.clone();
        let labels: Vec<Vec<String>> = self
            .labels
            .iter()
            .zip(&other.labels)
            .map(|(mine, theirs)| {
                let mut all: Vec<String> = mine.iter().chain(theirs).cloned().collect();
                all.sort_unstable();
                all.dedup();
                all
            })
            .collect();
        self.relabel(&labels);
        other.relabel(&labels);
        self.dropped += other.dropped;
        self.not_finite += other.not_finite;
        if self.merged != other.merged {
            self.merge_rows();
            other.merge_rows();
        }
        *self.cells = self.cells.merged(&other.cells);
        self.settle()
    }

    fn write(&self, out: &mut Writer) {
        self.columns.write(out);
        out.varint(self.max_rows.into());
        out.varint(self.dropped);
        out.varint(self.not_finite);
        for labels in &self.labels {
            out.varint(labels.len() as u64);
            labels.iter().for_each(|label| out.text(label));
        }
        out.u8(self.merged.into());
        out.varint(self.cells.len() as u64);
        let Parts { cluster, factors, .. } = self.parts();
        let sums = Products::All.sums(Parts::sums_of(&self.columns, self.merged));
        for cell in self.cells() {
            let (cluster, rest) = cell.key.split_at(cluster);
            let (levels, values) = rest.split_at(factors);
            match cluster {
                [bucket] => out.varint(*bucket),
                hashes => hashes.iter().for_each(|&word| out.u64(word)),
            }
            levels.iter().for_each(|&level| out.varint(level));
            values.iter().for_each(|&bits| out.u64(bits));
            out.varint(cell.n());
            (0..sums).for_each(|k| out.sum(&cell.sum(k)));
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(what.into());
        let columns = GramColumns::read(bytes)?;
        let max_rows = u32::try_from(bytes.varint()?).unwrap_or(u32::MAX);
        let mut gram = Self::new(columns, max_rows).map_err(|e| Error::Damaged(e.to_string()))?;
        gram.dropped = bytes.rows()?;
        gram.not_finite = bytes.rows()?;
        for labels in &mut gram.labels {
            for _ in 0..bytes.count(1)? {
                let label = bytes.text()?;
                if labels.last().is_some_and(|last| *last >= label) {
                    return Err(damaged("the labels of a factor are not in order"));
                }
                labels.push(label);
            }
        }
        gram.merged = bytes.flag()?;
        let parts = gram.parts();
        let width = Parts::sums_of(&gram.columns, gram.merged);
        let len = bytes.count(3)?;
        if len > if gram.merged { MAX_CELLS } else { max_rows as usize } {
            return Err(damaged("there are more cells than are kept"));
        }
        let mut used: Vec<Vec<bool>> =
            gram.labels.iter().map(|labels| vec![false; labels.len()]).collect();
        let mut rows = gram.not_finite;
        *gram.cells = Cells::new(parts.len(), width);
        let mut key = Vec::with_capacity(parts.len());
        for i in 0..len {
            key.clear();
            if gram.merged && parts.cluster > 0 {
                key.push(bytes.varint()?);
                if key[0] >= BUCKETS.into() {
                    return Err(damaged("a bucket of clusters is out of range"));
                }
            } else {
                for _ in 0..parts.cluster {
                    key.push(bytes.u64()?);
                }
            }
            for used in &mut used {
                let level = bytes.varint()?;
                match used.get_mut(usize::try_from(level).unwrap_or(usize::MAX)) {
                    Some(used) => *used = true,
                    None => return Err(damaged("a label is not in the list")),
                }
                key.push(level);
            }
            for _ in 0..parts.values {
                let value = f64::from_bits(bytes.u64()?);
                // There is one zero, and what is not finite is in no cell.
                if !value.is_finite() || (value == 0.0 && value.is_sign_negative()) {
                    return Err(damaged("a value is in no distinct row"));
                }
                key.push(value.to_bits());
            }
            if i > 0 && gram.cells.get(i - 1).key >= &key[..] {
                return Err(damaged("the cells are not in order"));
            }
            let sums = bytes.sums(width, Products::All)?;
            rows = check_rows(rows + sums.n)?;
            if sums.n == 0 {
                return Err(damaged("a cell has no rows"));
            }
            gram.cells.push(&key, &sums);
        }
        if used.iter().flatten().any(|&used| !used) {
            return Err(damaged("a label is that of no row"));
        }
        Ok(gram)
    }
}
