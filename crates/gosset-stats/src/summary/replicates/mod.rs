//! Bootstrap replicates of hashed units: additive over rows, files, shards and days.

mod blocks;
mod pending;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::buckets::check_buckets;
use super::codec::check_rows;
use super::moments::Columns;
use super::{Buckets, Kind, Reader, Summary, Writer};
use crate::exact::{ExactSum, Products, Sums};
use crate::resample::{Accumulator, BlockColumn, Draw, ReplicateSums, VALUE_BITS};
pub use crate::weights::Law;
use crate::{Error, Result};

pub use table::ReplicatesTable;

/// The most replicates.
pub const MAX_REPLICATES: u32 = 100_000;

/// The most distinct units that are kept one by one: beyond, their totals take more room than the replicates of few.
const MAX_UNITS: usize = 64;

/// How units are resampled, and what is kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// The law of the weights.
    pub law: Law,
    /// How many replicates, from 2 to [`MAX_REPLICATES`].
    pub replicates: u32,
    /// The seed of the weights.
    pub seed: u64,
    /// Whether a unit is a pair of two crossed factors (see [`units::pair`](crate::units::pair)), whose weight is the
    /// product of theirs.
    pub crossed: bool,
    /// How many buckets of hashed units are kept beside the replicates, for what needs units and not replicates: the
    /// acceleration of BCa intervals and the adjustment for covariates. Not for crossed factors.
    pub buckets: Option<u32>,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { law: Law::Poisson, replicates: 1000, seed: 0, crossed: false, buckets: None }
    }
}

impl std::fmt::Display for Resampling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} replicates ({}, seed {}", self.replicates, self.law.name(), self.seed)?;
        if self.crossed {
            write!(f, ", crossed")?;
        }
        if let Some(buckets) = self.buckets {
            write!(f, ", {buckets} buckets")?;
        }
        write!(f, ")")
    }
}

impl Resampling {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `replicates` is not from 2 to [`MAX_REPLICATES`], for a number of buckets as
    /// [`check_buckets`], and for buckets of crossed factors.
    pub fn check(&self) -> Result<()> {
        if !(2..=MAX_REPLICATES).contains(&self.replicates) {
            return Err(Error::Invalid(format!(
                "replicates must be from 2 to {MAX_REPLICATES}; found {}",
                self.replicates
            )));
        }
        if self.crossed && self.buckets.is_some() {
            return Err(Error::Invalid(
                "expected units of one factor where there are buckets, found two crossed factors"
                    .into(),
            ));
        }
        self.buckets.map_or(Ok(()), check_buckets)
    }

    fn accumulator(&self) -> Accumulator {
        Accumulator::new(Draw::new(self.law, self.seed, self.crossed))
    }
}

/// The sums of every bootstrap replicate, with units as what is resampled.
///
/// Replicate `b` holds for each column `Σ w_b(unit)·x` over the rows, and `Σ w_b(unit)`, their weighted number. The
/// weights are a pure function of law, seed, unit and replicate, so that the rows of a unit have the same weight wherever
/// and whenever they are met: rows in any order, partition, file or day merge to the replicates of all of them. The sums
/// are exact, and so are the unweighted ones beside them: every bit of a replicate is the same under any split.
///
/// Up to 64 distinct units the summary is the list of their totals; beyond, it is the sums of the replicates, and units
/// are not counted any more. Which form it has depends on the set of units alone. A value that is not finite makes the
/// sums of its column so, and adds nothing to its replicates.
#[derive(Debug, Clone)]
pub struct Replicates {
    columns: Columns,
    resampling: Resampling,
    dropped: u64,
    content: Content,
    buckets: Option<Buckets>,
}

/// The sums of all replicates.
#[derive(Debug, Clone)]
pub struct ReplicateTotals {
    /// By column, the weighted sum of every replicate; the finite values alone.
    pub columns: Vec<Vec<ExactSum>>,
    /// The weighted number of rows of every replicate.
    pub rows: Vec<ExactSum>,
}

#[derive(Debug, Clone)]
enum Content {
    Units(BTreeMap<u128, Sums>),
    Dense(Box<Dense>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Units(BTreeMap::new())
    }
}

#[derive(Debug, Clone)]
struct Dense {
    totals: Sums,
    /// Of the columns, then of the rows.
    sums: Vec<ReplicateSums>,
}

impl Replicates {
    /// The summary of no rows.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`Resampling::check`].
    pub fn new(columns: Columns, resampling: Resampling) -> Result<Self> {
        resampling.check()?;
        let buckets = resampling.buckets.map(|k| Buckets::new(columns.clone(), k)).transpose()?;
        Ok(Self { columns, resampling, dropped: 0, content: Content::default(), buckets })
    }

    /// Its columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// How units are resampled.
    pub fn resampling(&self) -> Resampling {
        self.resampling
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        match &self.content {
            Content::Units(units) => units.values().map(|sums| sums.n).sum(),
            Content::Dense(dense) => dense.totals.n,
        }
    }

    /// Rows left out because the unit or a value was NULL.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The totals of hashed units beside the replicates, if they are kept.
    pub fn buckets(&self) -> Option<&Buckets> {
        self.buckets.as_ref()
    }

    /// The number of distinct units, where it is known: while there are at most 64, or as many as buckets beside the
    /// replicates keep one by one.
    pub fn units(&self) -> Option<u64> {
        match &self.content {
            Content::Units(units) => Some(units.len() as u64),
            Content::Dense(_) => self.buckets.as_ref().and_then(Buckets::units),
        }
    }

    /// The unweighted sums of all rows.
    pub fn sum(&self) -> Sums {
        match &self.content {
            Content::Units(units) => {
                let mut total = Sums::new(self.columns.len(), Products::None);
                units.values().for_each(|sums| total.merge(sums));
                total
            }
            Content::Dense(dense) => dense.totals.clone(),
        }
    }

    /// The sums of every replicate.
    pub fn totals(&self) -> ReplicateTotals {
        let mut whole = self.content.clone();
        whole.make_dense(self.columns.len(), &self.resampling);
        let Content::Dense(dense) = whole else { unreachable!("it was just made dense") };
        let of = |sums: &ReplicateSums| {
            (0..self.resampling.replicates as usize).map(|b| sums.get(b)).collect()
        };
        let mut columns: Vec<Vec<ExactSum>> = dense.sums.iter().map(of).collect();
        let rows = columns.pop().expect("the rows are the last");
        ReplicateTotals { columns, rows }
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        self.content.heap_size() + self.buckets.as_ref().map_or(0, Buckets::heap_size)
    }
}

fn check_same(mine: (&Columns, &Resampling), theirs: (&Columns, &Resampling)) -> Result<()> {
    mine.0.check_same(theirs.0)?;
    if mine.1 == theirs.1 {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "summaries of different resampling do not merge: expected {}, found {}",
        mine.1, theirs.1
    )))
}

impl Content {
    fn heap_size(&self) -> usize {
        match self {
            Self::Units(units) => {
                let key = size_of::<u128>() + size_of::<Sums>();
                units.values().map(|sums| key + sums.heap_size()).sum()
            }
            Self::Dense(dense) => dense.heap_size(),
        }
    }

    /// The totals of a unit, if it is in the list or still has a place there.
    fn unit(&mut self, unit: u128, columns: usize) -> Option<&mut Sums> {
        let Self::Units(units) = self else { return None };
        if units.len() >= MAX_UNITS && !units.contains_key(&unit) {
            return None;
        }
        Some(units.entry(unit).or_insert_with(|| Sums::new(columns, Products::None)))
    }

    fn make_dense(&mut self, columns: usize, resampling: &Resampling) -> &mut Dense {
        if let Self::Units(units) = self {
            let mut dense = Box::new(Dense::new(columns, resampling));
            dense.add_units(units, &mut resampling.accumulator());
            *self = Self::Dense(dense);
        }
        match self {
            Self::Dense(dense) => dense,
            Self::Units(_) => unreachable!("it was just made dense"),
        }
    }

    fn merge(&mut self, other: &Self, columns: usize, resampling: &Resampling) {
        match (&mut *self, other) {
            (Self::Dense(mine), Self::Dense(theirs)) => mine.merge(theirs),
            (Self::Dense(mine), Self::Units(theirs)) => {
                mine.add_units(theirs, &mut resampling.accumulator());
            }
            (Self::Units(_), Self::Dense(theirs)) => {
                self.make_dense(columns, resampling).merge(theirs);
            }
            (Self::Units(mine), Self::Units(theirs)) => {
                for (&unit, sums) in theirs {
                    match mine.entry(unit) {
                        std::collections::btree_map::Entry::Occupied(mut e) => {
                            e.get_mut().merge(sums);
                        }
                        std::collections::btree_map::Entry::Vacant(e) => {
                            e.insert(sums.clone());
                        }
                    }
                }
                if mine.len() > MAX_UNITS {
                    self.make_dense(columns, resampling);
                }
            }
        }
    }
}

/// Bits between the grids of values that do not fit one.
const WINDOW: i32 = 32;

impl Dense {
    fn new(columns: usize, resampling: &Resampling) -> Self {
        let replicates = resampling.replicates as usize;
        Self {
            totals: Sums::new(columns, Products::None),
            sums: vec![ReplicateSums::new(replicates); columns + 1],
        }
    }

    fn heap_size(&self) -> usize {
        size_of::<Self>()
            + self.totals.heap_size()
            + self.sums.capacity() * size_of::<ReplicateSums>()
            + self.sums.iter().map(ReplicateSums::heap_size).sum::<usize>()
    }

    fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
        self.sums.iter_mut().zip(&other.sums).for_each(|(mine, theirs)| mine.merge(theirs));
    }

    /// Adds the totals of units.
    fn add_units(&mut self, units: &BTreeMap<u128, Sums>, accumulator: &mut Accumulator) {
        let ids: Vec<u128> = units.keys().copied().collect();
        let rows: Vec<i128> = units.values().map(|sums| sums.n.into()).collect();
        units.values().for_each(|sums| self.totals.merge(sums));
        let target = self.sums.len() - 1;
        let mut grids: Vec<(Vec<i128>, i32, usize)> = vec![(rows, 0, target)];
        for column in 0..target {
            let small: Option<Vec<(i128, i32)>> =
                units.values().map(|sums| sums.sums[column].to_small()).collect();
            match small.and_then(|values| on_one_grid(&values)) {
                Some((values, exponent)) => grids.push((values, exponent, column)),
                None => {
                    let mut terms = Terms::default();
                    for (&unit, sums) in units {
                        terms.push_sum(unit, column, &sums.sums[column]);
                    }
                    self.add_terms(terms, accumulator);
                }
            }
        }
        let columns: Vec<BlockColumn<'_>> = grids
            .iter()
            .map(|(values, exponent, target)| BlockColumn {
                values,
                exponent: *exponent,
                target: *target,
            })
            .collect();
        accumulator.add(&ids, &columns, &mut self.sums);
    }

    /// Adds units, with their values in units of powers of two by column, then their numbers of rows. All of them add up
    /// within the bits of an integer.
    fn add_block(
        &mut self,
        units: &[u128],
        values: &[Vec<i128>],
        exponents: &[i32],
        accumulator: &mut Accumulator,
    ) {
        let columns = values.iter().zip(exponents).enumerate();
        let columns: Vec<BlockColumn<'_>> = columns
            .map(|(target, (values, &exponent))| BlockColumn { values, exponent, target })
            .collect();
        for column in &columns {
            let total: i128 = column.values.iter().sum();
            match self.totals.sums.get_mut(column.target) {
                Some(sum) => sum.add_scaled(total, column.exponent),
                None => self.totals.n += total as u64,
            }
        }
        accumulator.add(units, &columns, &mut self.sums);
    }

    fn add_terms(&mut self, terms: Terms, accumulator: &mut Accumulator) {
        for ((window, target), (units, values)) in terms.0 {
            let column = BlockColumn { values: &values, exponent: WINDOW * window, target };
            accumulator.add(&units, &[column], &mut self.sums);
        }
    }
}

/// Integers with exponents as integers with one exponent, if they fit.
fn on_one_grid(values: &[(i128, i32)]) -> Option<(Vec<i128>, i32)> {
    let used = || values.iter().filter(|(value, _)| *value != 0);
    let Some(low) = used().map(|(_, exponent)| *exponent).min() else {
        return Some((vec![0; values.len()], 0));
    };
    let fits = |&(value, exponent): &(i128, i32)| {
        let bits = 128 - value.unsigned_abs().leading_zeros() as i32;
        bits + exponent - low <= VALUE_BITS as i32
    };
    let shifted = |&(value, exponent): &(i128, i32)| {
        if value == 0 { 0 } else { value << (exponent - low) }
    };
    used().all(fits).then(|| (values.iter().map(shifted).collect(), low))
}

/// Values of any exponent, by window and column: units and the values on the grid of the window.
#[derive(Debug, Default)]
struct Terms(BTreeMap<(i32, usize), (Vec<u128>, Vec<i128>)>);

impl Terms {
    /// A value of at most 64 bits.
    fn push(&mut self, unit: u128, column: usize, value: i128, exponent: i32) {
        let (units, values) = self.0.entry((exponent.div_euclid(WINDOW), column)).or_default();
        units.push(unit);
        values.push(value << exponent.rem_euclid(WINDOW));
    }

    /// The finite part of a sum.
    fn push_sum(&mut self, unit: u128, column: usize, sum: &ExactSum) {
        let (integer, exponent) = sum.to_integer();
        let sign = if integer.sign() == num_bigint::Sign::Minus { -1 } else { 1 };
        for (i, digit) in integer.iter_u64_digits().enumerate() {
            if digit != 0 {
                self.push(unit, column, sign * i128::from(digit), exponent + 64 * i as i32);
            }
        }
    }
}

impl PartialEq for Replicates {
    /// Equality of what is summed: the bytes are canonical.
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl Summary for Replicates {
    const KIND: Kind = Kind::Replicates;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        check_same((&self.columns, &self.resampling), (&other.columns, &other.resampling))?;
        self.dropped += other.dropped;
        self.content.merge(&other.content, self.columns.len(), &self.resampling);
        match (&mut self.buckets, &other.buckets) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            _ => Ok(()),
        }
    }

    fn write(&self, out: &mut Writer) {
        self.columns.write(out);
        self.resampling.law.write(out);
        out.varint(self.resampling.replicates.into());
        out.varint(self.resampling.seed);
        out.u8(self.resampling.crossed.into());
        out.varint(self.resampling.buckets.unwrap_or(0).into());
        out.varint(self.dropped);
        if let Some(buckets) = &self.buckets {
            out.blob(&buckets.encode());
        }
        match &self.content {
            Content::Units(units) => {
                out.u8(0);
                out.varint(units.len() as u64);
                for (&hash, sums) in units {
                    out.u128(hash);
                    out.sums(sums);
                }
            }
            Content::Dense(dense) => {
                out.u8(1);
                out.sums(&dense.totals);
                dense.sums.iter().for_each(|sums| sums.write(out));
            }
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(what.into());
        let columns = Columns::read(bytes)?;
        let number = bytes.u8()?;
        let law = Law::read(number, bytes)?;
        let replicates = u32::try_from(bytes.varint()?).unwrap_or(u32::MAX);
        let seed = bytes.varint()?;
        let crossed = match bytes.u8()? {
            0 => false,
            1 => true,
            _ => return Err(damaged("the factors of units are not known")),
        };
        let buckets = match u32::try_from(bytes.varint()?).unwrap_or(u32::MAX) {
            0 => None,
            buckets => Some(buckets),
        };
        let resampling = Resampling { law, replicates, seed, crossed, buckets };
        let mut summary =
            Self::new(columns, resampling).map_err(|e| Error::Damaged(e.to_string()))?;
        summary.dropped = bytes.rows()?;
        if let Some(empty) = &mut summary.buckets {
            let buckets = Buckets::decode(bytes.blob()?)?;
            let same = buckets.columns() == empty.columns() && buckets.buckets() == empty.buckets();
            if !same || buckets.dropped() != 0 {
                return Err(damaged("the buckets are not those of the replicates"));
            }
            *empty = buckets;
        }
        let width = summary.columns.len();
        summary.content = match bytes.u8()? {
            0 => {
                let len = bytes.count(2)?;
                if len > MAX_UNITS {
                    return Err(damaged("there are too many units for a list"));
                }
                let mut units = BTreeMap::new();
                let mut rows = 0;
                for _ in 0..len {
                    let hash = bytes.u128()?;
                    if units.last_key_value().is_some_and(|(&last, _)| last >= hash) {
                        return Err(damaged("the units are not in order"));
                    }
                    let sums = bytes.sums(width, Products::None)?;
                    rows = check_rows(rows + sums.n)?;
                    if sums.n == 0 {
                        return Err(damaged("a unit has no rows"));
                    }
                    units.insert(hash, sums);
                }
                Content::Units(units)
            }
            1 => {
                let totals = bytes.sums(width, Products::None)?;
                if totals.n <= MAX_UNITS as u64 {
                    return Err(damaged("there are too few rows for more units than a list has"));
                }
                let sums = (0..=width)
                    .map(|_| ReplicateSums::read(bytes, replicates as usize))
                    .collect::<Result<_>>()?;
                Content::Dense(Box::new(Dense { totals, sums }))
            }
            _ => return Err(damaged("the form of the replicates is not known")),
        };
        if summary.buckets.as_ref().is_some_and(|buckets| buckets.rows() != summary.rows()) {
            return Err(damaged("the buckets have other rows than the replicates"));
        }
        Ok(summary)
    }
}
