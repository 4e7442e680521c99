//! Count, means and co-moments of the columns of one arm, whose rows are units.

use std::sync::Arc;

use super::{Kind, Reader, Rows, Summary, Table, Writer};
use crate::exact::ExactSum;
use crate::exact::{Products, SumTable, Sums, cross};
use crate::{Error, Result};

/// What the name of the indicator of a missing covariate ends with.
pub const INDICATOR: &str = " is missing";

/// What the names of the two columns of a ratio end with.
pub const NUMERATOR: &str = " numerator";
/// See [`NUMERATOR`].
pub const DENOMINATOR: &str = " denominator";

/// The columns of a summary: outcomes first, then covariates, each with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    names: Arc<[String]>,
    outcomes: usize,
}

impl Columns {
    /// Columns by name; the first `outcomes` of them are outcomes.
    ///
    /// # Errors
    /// [`Error::Invalid`] without an outcome, with a name twice or with more than 255 columns.
    pub fn new(names: impl IntoIterator<Item = String>, outcomes: usize) -> Result<Self> {
        let names: Arc<[String]> = names.into_iter().collect();
        if outcomes == 0 || outcomes > names.len() {
            return Err(Error::Invalid("expected at least one outcome column".into()));
        }
        if names.len() > 255 {
            return Err(Error::Invalid(format!(
                "expected at most 255 columns, found {}",
                names.len()
            )));
        }
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                return Err(Error::Invalid(format!(
                    "the column name '{name}' is given twice; outcomes and covariates have names of their own"
                )));
            }
        }
        Ok(Self { names, outcomes })
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no columns; never, by construction.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Number of outcomes.
    pub fn outcomes(&self) -> usize {
        self.outcomes
    }

    /// Number of covariates.
    pub fn covariates(&self) -> usize {
        self.names.len() - self.outcomes
    }

    /// The names, outcomes first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn check_same(&self, other: &Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "summaries of different columns do not merge: expected {self}, found {other}"
        )))
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(self.names.len() as u8);
        out.u8(self.outcomes as u8);
        self.names.iter().for_each(|name| out.text(name));
    }

    pub(super) fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let (len, outcomes) = (bytes.u8()?, bytes.u8()?);
        let names = (0..len).map(|_| bytes.text()).collect::<Result<Vec<_>>>()?;
        Self::new(names, outcomes.into()).map_err(|e| Error::Damaged(e.to_string()))
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (y, x) = self.names.split_at(self.outcomes);
        write!(f, "({}", y.join(", "))?;
        if !x.is_empty() {
            write!(f, "; {}", x.join(", "))?;
        }
        f.write_str(")")
    }
}

/// Count, means and co-moments of one arm, held as exact sums.
///
/// The sums of `x` and `x·y` are exact, and variances and covariances come from the integers `nΣxy − ΣxΣy`, rounded
/// once: a constant column has variance exactly 0, whatever its offset.
///
/// A covariate that is missing in some rows is 0 there and has an indicator column of its own, after the covariates, in
/// their order; a covariate that is nowhere missing has none. Columns are counted: outcomes, covariates, indicators.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    columns: Columns,
    /// For each covariate whether it has an indicator column.
    indicated: Vec<bool>,
    dropped: u64,
    sums: Sums,
}

impl Moments {
    /// The summary of no rows.
    pub fn new(columns: Columns) -> Self {
        let sums = Sums::new(columns.len(), Products::All);
        Self { indicated: vec![false; columns.covariates()], columns, dropped: 0, sums }
    }

    /// The summary of given columns of equal length: handy in tests and for small data.
    ///
    /// # Errors
    /// As [`Columns::new`].
    pub fn of(names: &[&str], outcomes: usize, values: &[&[f64]]) -> Result<Self> {
        let columns = Columns::new(names.iter().map(ToString::to_string), outcomes)?;
        let mut table = MomentsTable::new(columns);
        table.resize(1);
        let slots = vec![0; values.first().map_or(0, |v| v.len())];
        let missing = vec![None; values.len()];
        table.update(Rows {
            slots: &slots,
            columns: values,
            missing: &missing,
            units: &[],
            ..Rows::default()
        });
        Ok(table.get(0))
    }

    /// The summary with these sums, whose covariates are nowhere missing.
    pub(super) fn of_sums(columns: Columns, dropped: u64, sums: Sums) -> Self {
        Self { indicated: vec![false; columns.covariates()], columns, dropped, sums }
    }

    /// Its outcomes and covariates.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Rows counted.
    pub fn n(&self) -> u64 {
        self.sums.n
    }

    /// Rows left out because an outcome was NULL (or a covariate, where those are dropped).
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts rows that were left out.
    pub fn add_dropped(&mut self, rows: u64) {
        self.dropped += rows;
    }

    /// Number of columns with the indicators of missing covariates.
    pub fn width(&self) -> usize {
        self.columns.len() + self.indicated.iter().filter(|&&b| b).count()
    }

    /// The name of column `i`; an indicator is named after its covariate.
    pub fn name(&self, i: usize) -> String {
        if i < self.columns.len() {
            return self.columns.names[i].clone();
        }
        let nth = i - self.columns.len();
        let covariate = self.indicated()[nth];
        format!("{}{INDICATOR}", self.columns.names[self.columns.outcomes + covariate])
    }

    /// The covariates that have an indicator column, by their place among the covariates, in the order of these columns.
    pub fn indicated(&self) -> Vec<usize> {
        (0..self.indicated.len()).filter(|&covariate| self.indicated[covariate]).collect()
    }

    /// `Σ x_i`.
    pub fn sum(&self, i: usize) -> &ExactSum {
        &self.sums.sums[i]
    }

    /// `Σ x_i·x_j`.
    pub fn product(&self, i: usize, j: usize) -> &ExactSum {
        &self.sums.sums[product_index(self.width(), i, j)]
    }

    /// The mean of column `i`: the correctly rounded sum over the count. NaN without rows.
    pub fn mean(&self, i: usize) -> f64 {
        self.sum(i).to_f64() / self.n() as f64
    }

    /// The sample covariance of columns `i` and `j` (the variance where they are the same), with divisor `n − 1`.
    ///
    /// NaN for fewer than two rows and where a value is not finite.
    pub fn covariance(&self, i: usize, j: usize) -> f64 {
        let n = self.n();
        if n < 2 {
            return f64::NAN;
        }
        let count = ExactSum::from_integer(n.into());
        let scaled = cross(&count, self.product(i, j), self.sum(i), self.sum(j));
        scaled / (n as f64 * (n - 1) as f64)
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        self.sums.heap_size() + self.indicated.capacity()
    }

    /// The same two summaries with the indicator columns of both.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for different columns.
    pub fn aligned(a: &Self, b: &Self) -> Result<(Self, Self)> {
        a.columns.check_same(&b.columns)?;
        let union: Vec<bool> =
            a.indicated.iter().zip(&b.indicated).map(|(&x, &y)| x || y).collect();
        Ok((a.with_indicators(&union), b.with_indicators(&union)))
    }

    fn with_indicators(&self, indicated: &[bool]) -> Self {
        if self.indicated == indicated {
            return self.clone();
        }
        let map = indicator_map(self.columns.len(), &self.indicated, indicated);
        let sums = project(&self.sums, self.width(), &map);
        Self {
            columns: self.columns.clone(),
            indicated: indicated.to_vec(),
            dropped: self.dropped,
            sums,
        }
    }

    /// Without the indicators of covariates that are nowhere missing: one form for one set of rows.
    fn canonical(self) -> Self {
        let base = self.columns.len();
        let mut next = base;
        let needed: Vec<bool> = self
            .indicated
            .iter()
            .map(|&has| {
                let needed = has && !self.sums.sums[next].is_zero();
                next += usize::from(has);
                needed
            })
            .collect();
        self.with_indicators(&needed)
    }
}

impl Summary for Moments {
    const KIND: Kind = Kind::Moments;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        let (mut mine, theirs) = Self::aligned(self, other)?;
        mine.sums.merge(&theirs.sums);
        mine.dropped += theirs.dropped;
        *self = mine;
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        self.columns.write(out);
        self.write_content(out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let columns = Columns::read(bytes)?;
        Self::read_content(columns, bytes)
    }
}

impl Moments {
    /// The byte form without the columns.
    pub(super) fn write_content(&self, out: &mut Writer) {
        self.indicated.iter().for_each(|&b| out.u8(b.into()));
        out.varint(self.dropped);
        out.sums(&self.sums);
    }

    /// Reads what [`write_content`](Self::write_content) wrote.
    pub(super) fn read_content(columns: Columns, bytes: &mut Reader<'_>) -> Result<Self> {
        let indicated =
            (0..columns.covariates()).map(|_| bytes.flag()).collect::<Result<Vec<_>>>()?;
        let dropped = bytes.rows()?;
        let width = columns.len() + indicated.iter().filter(|&&b| b).count();
        let sums = bytes.sums(width, Products::All)?;
        Ok(Self { columns, indicated, dropped, sums })
    }
}

/// The moments of many slots.
#[derive(Debug)]
pub struct MomentsTable {
    columns: Columns,
    /// For each covariate whether it has an indicator column yet.
    indicated: Vec<bool>,
    table: SumTable,
    dropped: Vec<u64>,
}

impl MomentsTable {
    /// A table without slots.
    pub fn new(columns: Columns) -> Self {
        let table = SumTable::new(columns.len(), Products::All);
        Self { indicated: vec![false; columns.covariates()], columns, table, dropped: Vec::new() }
    }

    /// Counts a row that was left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.dropped[slot] += rows;
    }

    /// Empties a slot.
    pub(super) fn clear(&mut self, slot: u32) {
        self.table.clear(slot);
        self.dropped[slot as usize] = 0;
    }

    /// Gives covariates that turn out to be missing somewhere an indicator column.
    fn widen(&mut self, indicated: Vec<bool>) {
        let old_width = self.table.columns();
        let map = indicator_map(self.columns.len(), &self.indicated, &indicated);
        let mut table = SumTable::new(map.len(), Products::All);
        table.resize(self.table.slots());
        for slot in 0..self.table.slots() as u32 {
            table.merge(slot, &project(&self.table.get(slot), old_width, &map));
        }
        self.table = table;
        self.indicated = indicated;
    }
}

impl Table for MomentsTable {
    type Summary = Moments;

    fn resize(&mut self, slots: usize) {
        self.table.resize(slots);
        self.dropped.resize(slots, 0);
    }

    fn update(&mut self, rows: Rows<'_>) {
        let missing = rows.missing.get(self.columns.outcomes..).unwrap_or(&[]);
        let indicated: Vec<bool> = self
            .indicated
            .iter()
            .enumerate()
            .map(|(c, &has)| has || missing[c].is_some())
            .collect();
        if indicated != self.indicated {
            self.widen(indicated);
        }
        let flags: Vec<Vec<f64>> = (0..self.indicated.len())
            .filter(|&c| self.indicated[c])
            .map(|c| match missing[c] {
                Some(mask) => mask.iter().map(|&m| f64::from(u8::from(m))).collect(),
                None => vec![0.0; rows.slots.len()],
            })
            .collect();
        let columns: Vec<&[f64]> =
            rows.columns.iter().copied().chain(flags.iter().map(Vec::as_slice)).collect();
        if self.table.slots() == 1 {
            self.table.add_all(0, &columns);
        } else {
            self.table.add(rows.slots, &columns);
        }
    }

    fn merge(&mut self, slot: usize, summary: &Moments) -> Result<()> {
        self.columns.check_same(&summary.columns)?;
        let union: Vec<bool> =
            self.indicated.iter().zip(&summary.indicated).map(|(&a, &b)| a || b).collect();
        if union != self.indicated {
            self.widen(union.clone());
        }
        if union == summary.indicated {
            self.table.merge(slot as u32, &summary.sums);
        } else {
            self.table.merge(slot as u32, &summary.with_indicators(&union).sums);
        }
        self.dropped[slot] += summary.dropped;
        Ok(())
    }

    fn get(&self, slot: usize) -> Moments {
        let moments = Moments {
            columns: self.columns.clone(),
            indicated: self.indicated.clone(),
            dropped: self.dropped[slot],
            sums: self.table.get(slot as u32),
        };
        if self.indicated.contains(&true) { moments.canonical() } else { moments }
    }

    fn drop_first(&mut self, n: usize) {
        self.table.drop_first(n);
        self.dropped.drain(..n);
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.table.size() + self.dropped.capacity() * size_of::<u64>()
    }
}

/// Where each column of the new form is in the old one.
fn indicator_map(columns: usize, old: &[bool], new: &[bool]) -> Vec<Option<usize>> {
    let mut map: Vec<Option<usize>> = (0..columns).map(Some).collect();
    let mut next = columns;
    for (&had, &has) in old.iter().zip(new) {
        if has {
            map.push(had.then_some(next));
        }
        next += usize::from(had);
    }
    map
}

/// The sums of columns rearranged: a column that was not there is zero everywhere, and so are its products, but for those
/// with values that are not finite: 0 times them is NaN, whether the column was there with these rows or joins them now.
pub(super) fn project(sums: &Sums, width: usize, map: &[Option<usize>]) -> Sums {
    let zeros_times = |column: usize| {
        let mut product = ExactSum::new();
        if !sums.sums[column].is_finite() {
            product.add(f64::NAN);
        }
        product
    };
    let mut out = Sums::new(0, Products::None);
    out.n = sums.n;
    out.sums.extend(map.iter().map(|&c| c.map_or_else(ExactSum::new, |c| sums.sums[c].clone())));
    for (k, &i) in map.iter().enumerate() {
        for &j in &map[k..] {
            out.sums.push(match (i, j) {
                (Some(i), Some(j)) => sums.sums[product_index(width, i, j)].clone(),
                (Some(column), None) | (None, Some(column)) => zeros_times(column),
                (None, None) => ExactSum::new(),
            });
        }
    }
    out
}

/// Where `Σ x_i·x_j` stands among the sums of `width` columns.
pub(crate) fn product_index(width: usize, i: usize, j: usize) -> usize {
    let (i, j) = (i.min(j), i.max(j));
    width + i * width - i * i.saturating_sub(1) / 2 + (j - i)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "numbers that are equal to the bit")]
mod tests {
    use super::*;

    #[test]
    fn products_are_found_in_the_upper_triangle() {
        let mut next = 4;
        for i in 0..4 {
            for j in i..4 {
                assert_eq!(product_index(4, i, j), next);
                assert_eq!(product_index(4, j, i), next);
                next += 1;
            }
        }
    }

    #[test]
    fn covariances_survive_a_large_offset() {
        let y: Vec<f64> = (0..100).map(|i| 1e9 + f64::from(i)).collect();
        let x: Vec<f64> = (0..100).map(|i| -1e9 + f64::from(2 * i)).collect();
        let m = Moments::of(&["y", "x"], 1, &[&y, &x]).expect("valid columns");
        // Var(0..99) = (100² − 1)/12 · 100/99.
        let variance = 9999.0 / 12.0 * 100.0 / 99.0;
        assert!((m.covariance(0, 0) / variance - 1.0).abs() < 1e-15);
        assert!((m.covariance(0, 1) / (2.0 * variance) - 1.0).abs() < 1e-15);
        assert_eq!(m.mean(0), 1e9 + 49.5);
    }

    #[test]
    fn one_set_of_rows_has_one_form_with_or_without_a_merge() {
        let columns = Columns::new(["y", "x"].map(String::from), 1).expect("valid columns");
        let (y, x) = ([1.0, 2.0, 3.0], [5.0, 0.0, 7.0]);
        let missing = [false, true, false];
        let mut whole = MomentsTable::new(columns.clone());
        whole.resize(1);
        whole.update(Rows {
            slots: &[0, 0, 0],
            columns: &[&y, &x],
            missing: &[None, Some(&missing)],
            units: &[],
            ..Rows::default()
        });
        let mut merged = Moments::new(columns.clone());
        for r in 0..3 {
            let mut part = MomentsTable::new(columns.clone());
            part.resize(1);
            let mask = missing[r].then_some(&missing[r..=r]);
            part.update(Rows {
                slots: &[0],
                columns: &[&y[r..=r], &x[r..=r]],
                missing: &[None, mask],
                units: &[],
                ..Rows::default()
            });
            let bytes = part.get(0).encode();
            merged.merge(&Moments::decode(&bytes).expect("own bytes")).expect("same columns");
        }
        assert_eq!(whole.get(0).encode(), merged.encode());
        assert_eq!(merged.width(), 3);
        assert_eq!(merged.name(2), "x is missing");
    }

    #[test]
    fn an_indicator_that_joins_infinite_values_is_as_one_that_was_there() {
        let columns = Columns::new(["y", "x"].map(String::from), 1).expect("valid columns");
        let of = |y: &[f64], missing: &[bool]| {
            let mut table = MomentsTable::new(columns.clone());
            table.resize(1);
            let x = vec![0.0; y.len()];
            let missing = missing.contains(&true).then_some(missing);
            table.update(Rows {
                slots: &vec![0; y.len()],
                columns: &[y, &x],
                missing: &[None, missing],
                units: &[],
                ..Rows::default()
            });
            table.get(0)
        };
        for infinite in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let whole = of(&[infinite, 1.0], &[false, true]);
            let mut merged = of(&[infinite], &[false]);
            merged.merge(&of(&[1.0], &[true])).expect("same columns");
            assert_eq!(merged, whole);
        }
    }

    #[test]
    fn different_columns_do_not_merge() {
        let mut a = Moments::of(&["y", "age"], 1, &[&[1.0], &[2.0]]).expect("valid columns");
        let b = Moments::of(&["y", "income"], 1, &[&[1.0], &[2.0]]).expect("valid columns");
        let error = a.merge(&b).expect_err("columns differ").to_string();
        assert!(error.contains("(y; age)") && error.contains("(y; income)"), "{error}");
    }
}
