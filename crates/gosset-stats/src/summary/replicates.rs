//! Bootstrap replicates of hashed units: additive over rows, files, shards and days.

use std::collections::BTreeMap;

use super::codec::check_rows;
use super::moments::Columns;
use super::{Kind, Reader, Rows, Summary, Table, Writer};
use crate::exact::{ExactSum, Products, Sums};
use crate::resample::{Accumulator, BlockColumn, ReplicateSums, VALUE_BITS};
use crate::weights::{PoissonWeights, key_of};
use crate::{Error, Result};

/// The most replicates.
pub const MAX_REPLICATES: u32 = 100_000;

/// The most distinct units that are kept one by one: beyond, their totals take more room than the replicates of few.
const MAX_UNITS: usize = 64;

/// The law of the weights. The numbers are part of the stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Law {
    /// Poisson with mean 1, to 16 bits: see [`weights`](crate::weights).
    #[default]
    Poisson = 1,
}

impl Law {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
        }
    }
}

/// How units are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// The law of the weights.
    pub law: Law,
    /// How many replicates, from 2 to [`MAX_REPLICATES`].
    pub replicates: u32,
    /// The seed of the weights.
    pub seed: u64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { law: Law::Poisson, replicates: 1000, seed: 0 }
    }
}

impl std::fmt::Display for Resampling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} replicates ({}, seed {})", self.replicates, self.law.name(), self.seed)
    }
}

impl Resampling {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `replicates` is not from 2 to [`MAX_REPLICATES`].
    pub fn check(&self) -> Result<()> {
        if (2..=MAX_REPLICATES).contains(&self.replicates) {
            Ok(())
        } else {
            Err(Error::Invalid(format!(
                "replicates must be from 2 to {MAX_REPLICATES}; found {}",
                self.replicates
            )))
        }
    }

    fn accumulator(&self) -> Accumulator {
        Accumulator::new(PoissonWeights::new(self.seed))
    }
}

/// The sums of every bootstrap replicate, with units as what is resampled.
///
/// Replicate `b` holds for each column `Σ w_b(unit)·x` over the rows, and `Σ w_b(unit)`, their weighted number. The
/// weights are a pure function of seed, unit and replicate, so that the rows of a unit have the same weight wherever and
/// whenever they are met: rows in any order, partition, file or day merge to the replicates of all of them. The sums
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
        Ok(Self { columns, resampling, dropped: 0, content: Content::default() })
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

    /// The number of distinct units, where it is known: while there are at most 64.
    pub fn units(&self) -> Option<u64> {
        match &self.content {
            Content::Units(units) => Some(units.len() as u64),
            Content::Dense(_) => None,
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
        self.content.heap_size()
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
        let keys: Vec<u64> = units.keys().map(|&unit| key_of(unit)).collect();
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
                    for (&key, sums) in keys.iter().zip(units.values()) {
                        terms.push_sum(key, column, &sums.sums[column]);
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
        accumulator.add(&keys, &columns, &mut self.sums);
    }

    fn add_terms(&mut self, terms: Terms, accumulator: &mut Accumulator) {
        for ((window, target), (keys, values)) in terms.0 {
            let column = BlockColumn { values: &values, exponent: WINDOW * window, target };
            accumulator.add(&keys, &[column], &mut self.sums);
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

/// Values of any exponent, by window and column: keys of units and the values on the grid of the window.
#[derive(Debug, Default)]
struct Terms(BTreeMap<(i32, usize), (Vec<u64>, Vec<i128>)>);

impl Terms {
    /// A value of at most 64 bits.
    fn push(&mut self, key: u64, column: usize, value: i128, exponent: i32) {
        let (keys, values) = self.0.entry((exponent.div_euclid(WINDOW), column)).or_default();
        keys.push(key);
        values.push(value << exponent.rem_euclid(WINDOW));
    }

    /// The finite part of a sum.
    fn push_sum(&mut self, key: u64, column: usize, sum: &ExactSum) {
        let (integer, exponent) = sum.to_integer();
        let sign = if integer.sign() == num_bigint::Sign::Minus { -1 } else { 1 };
        for (i, digit) in integer.iter_u64_digits().enumerate() {
            if digit != 0 {
                self.push(key, column, sign * i128::from(digit), exponent + 64 * i as i32);
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
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        self.columns.write(out);
        out.u8(self.resampling.law as u8);
        out.varint(self.resampling.replicates.into());
        out.varint(self.resampling.seed);
        out.varint(self.dropped);
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
        let law = match bytes.u8()? {
            1 => Law::Poisson,
            other => {
                return Err(Error::Mismatch(format!(
                    "law {other} of weights is not known to this version"
                )));
            }
        };
        let replicates = u32::try_from(bytes.varint()?).unwrap_or(u32::MAX);
        let resampling = Resampling { law, replicates, seed: bytes.varint()? };
        let mut summary =
            Self::new(columns, resampling).map_err(|e| Error::Damaged(e.to_string()))?;
        summary.dropped = bytes.rows()?;
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
        Ok(summary)
    }
}

/// The most units of slots whose rows wait for the others.
const MAX_PENDING: usize = 1 << 15;

/// The most rows that are added up before they are weighted: with [`WAITING_BITS`] each they stay within the bits of a
/// value.
const MAX_WAITING_ROWS: u64 = 1 << 20;

/// Bits of a row's value on the grid of its column.
const WAITING_BITS: i32 = 96;

/// Bits of those above the largest of the first rows.
const HEADROOM: i32 = 6;

const NONE: u32 = u32::MAX;

/// Rows added up by slot and unit, before they are weighted.
#[derive(Debug)]
struct Pending {
    /// A hash table of entries, open and linear.
    index: Vec<u32>,
    slots: Vec<u32>,
    units: Vec<u128>,
    rows: Vec<u64>,
    /// By column: its grid, once there is one, and the sum of each entry on it.
    sums: Vec<(Option<i32>, Vec<i128>)>,
    /// By slot its last entry, by entry the one before it in its slot.
    last: Vec<u32>,
    before: Vec<u32>,
    /// Values that do not fit the grid, by entry a list of its own: column, value, the one before.
    misfits: Vec<(u32, f64, u32)>,
    last_misfit: Vec<u32>,
    waiting_rows: u64,
}

impl Pending {
    fn new(columns: usize) -> Self {
        Self {
            index: Vec::new(),
            slots: Vec::new(),
            units: Vec::new(),
            rows: Vec::new(),
            sums: vec![(None, Vec::new()); columns],
            last: Vec::new(),
            before: Vec::new(),
            misfits: Vec::new(),
            last_misfit: Vec::new(),
            waiting_rows: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.units.len() >= MAX_PENDING
            || self.misfits.len() >= MAX_PENDING
            || self.waiting_rows >= MAX_WAITING_ROWS
    }

    fn clear(&mut self) {
        self.index.fill(NONE);
        self.slots.clear();
        self.units.clear();
        self.rows.clear();
        for (grid, sums) in &mut self.sums {
            *grid = None;
            sums.clear();
        }
        self.last.fill(NONE);
        self.before.clear();
        self.misfits.clear();
        self.last_misfit.clear();
        self.waiting_rows = 0;
    }

    fn size(&self) -> usize {
        let words = self.index.capacity()
            + self.slots.capacity()
            + self.last.capacity()
            + self.before.capacity()
            + self.last_misfit.capacity();
        words * size_of::<u32>()
            + self.units.capacity() * size_of::<u128>()
            + self.rows.capacity() * size_of::<u64>()
            + self.sums.iter().map(|(_, s)| s.capacity() * size_of::<i128>()).sum::<usize>()
            + self.misfits.capacity() * size_of::<(u32, f64, u32)>()
    }

    /// The entry of a unit in a slot, which may be new.
    fn entry(&mut self, slot: u32, unit: u128) -> usize {
        if 2 * self.units.len() >= self.index.len() {
            self.grow();
        }
        let mut at = self.start(slot, unit);
        loop {
            match self.index[at] {
                NONE => break,
                entry => {
                    let entry = entry as usize;
                    if self.units[entry] == unit && self.slots[entry] == slot {
                        return entry;
                    }
                }
            }
            at = (at + 1) & (self.index.len() - 1);
        }
        let entry = self.units.len();
        self.index[at] = entry as u32;
        self.units.push(unit);
        self.slots.push(slot);
        self.rows.push(0);
        self.sums.iter_mut().for_each(|(_, sums)| sums.push(0));
        let last = std::mem::replace(&mut self.last[slot as usize], entry as u32);
        self.before.push(last);
        self.last_misfit.push(NONE);
        entry
    }

    /// Where the search for a unit starts: its hash is one already.
    fn start(&self, slot: u32, unit: u128) -> usize {
        let hash =
            (unit as u64) ^ u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        hash as usize & (self.index.len() - 1)
    }

    fn grow(&mut self) {
        self.index = vec![NONE; (2 * self.index.len()).max(64)];
        for entry in 0..self.units.len() {
            let mut at = self.start(self.slots[entry], self.units[entry]);
            while self.index[at] != NONE {
                at = (at + 1) & (self.index.len() - 1);
            }
            self.index[at] = entry as u32;
        }
    }

    fn add(&mut self, slots: &[u32], units: &[u128], columns: &[&[f64]]) {
        let entries: Vec<u32> =
            slots.iter().zip(units).map(|(&slot, &unit)| self.entry(slot, unit) as u32).collect();
        for &entry in &entries {
            self.rows[entry as usize] += 1;
        }
        self.waiting_rows += slots.len() as u64;
        for (c, values) in columns.iter().enumerate() {
            let (grid, sums) = &mut self.sums[c];
            *grid = grid.or_else(|| grid_of(values));
            // Without a grid all are zero or not finite.
            let grid = grid.unwrap_or(0);
            for (&entry, &x) in entries.iter().zip(*values) {
                match on_grid(x, grid) {
                    Some(value) => sums[entry as usize] += value,
                    None => {
                        let last = self.misfits.len() as u32;
                        let before = std::mem::replace(&mut self.last_misfit[entry as usize], last);
                        self.misfits.push((c as u32, x, before));
                    }
                }
            }
        }
    }

    /// Adds what waits for a slot to its content.
    fn add_to(&self, slot: usize, content: &mut Content, resampling: &Resampling) {
        let columns = self.sums.len();
        let mut entries = self.list(self.last[slot], |entry| self.before[entry]).peekable();
        let grid = |c: usize| self.sums[c].0.unwrap_or(0);
        while let Some(&entry) = entries.peek() {
            let Some(sums) = content.unit(self.units[entry], columns) else { break };
            sums.n += self.rows[entry];
            for (c, (_, values)) in self.sums.iter().enumerate() {
                sums.sums[c].add_scaled(values[entry], grid(c));
            }
            for at in self.misfits_of(entry) {
                let (column, x, _) = self.misfits[at];
                sums.sums[column as usize].add(x);
            }
            entries.next();
        }
        if entries.peek().is_none() {
            return;
        }
        let dense = content.make_dense(columns, resampling);
        let mut accumulator = resampling.accumulator();
        let mut terms = Terms::default();
        // A thousand values add up within the bits of an integer, and more than that are weighted in several blocks.
        let mut keys = Vec::new();
        let mut values: Vec<Vec<i128>> = vec![Vec::new(); columns + 1];
        while entries.peek().is_some() {
            keys.clear();
            values.iter_mut().for_each(Vec::clear);
            for entry in entries.by_ref().take(1024) {
                let key = key_of(self.units[entry]);
                keys.push(key);
                for (c, (_, sums)) in self.sums.iter().enumerate() {
                    values[c].push(sums[entry]);
                }
                values[columns].push(self.rows[entry].into());
                dense.totals.n += self.rows[entry];
                for at in self.misfits_of(entry) {
                    let (column, x, _) = self.misfits[at];
                    dense.totals.sums[column as usize].add(x);
                    if x.is_finite() {
                        let mut one = ExactSum::new();
                        one.add(x);
                        terms.push_sum(key, column as usize, &one);
                    }
                }
            }
            let blocks: Vec<BlockColumn<'_>> = values
                .iter()
                .enumerate()
                .map(|(target, values)| BlockColumn {
                    values,
                    exponent: if target < columns { grid(target) } else { 0 },
                    target,
                })
                .collect();
            for block in &blocks[..columns] {
                let total = block.values.iter().sum();
                dense.totals.sums[block.target].add_scaled(total, block.exponent);
            }
            accumulator.add(&keys, &blocks, &mut dense.sums);
        }
        dense.add_terms(terms, &mut accumulator);
    }

    fn misfits_of(&self, entry: usize) -> impl Iterator<Item = usize> + '_ {
        self.list(self.last_misfit[entry], |at| self.misfits[at].2)
    }

    /// The places of a linked list.
    fn list<'a>(
        &self,
        last: u32,
        before: impl Fn(usize) -> u32 + 'a,
    ) -> impl Iterator<Item = usize> + 'a {
        let mut next = last;
        std::iter::from_fn(move || {
            let at = (next != NONE).then_some(next as usize)?;
            next = before(at);
            Some(at)
        })
    }
}

/// A grid for values like these; `None` where all are zero or not finite.
fn grid_of(values: &[f64]) -> Option<i32> {
    let step = values.len().div_ceil(256).max(1);
    let top = |x: f64| 64 - mantissa(x).0.leading_zeros() as i32 + mantissa(x).1;
    let sample = values.iter().step_by(step).copied();
    let mut tops: Vec<i32> = sample
        .chain(values.iter().copied().find(|&x| x.is_finite() && x != 0.0))
        .filter(|&x| x.is_finite() && x != 0.0)
        .map(top)
        .collect();
    tops.sort_unstable();
    // Unless the largest is far from the others.
    let top = (*tops.last()?).min(tops[tops.len() / 2] + 24);
    Some(top + HEADROOM - WAITING_BITS)
}

/// `|x| = mantissa · 2^exponent`, for finite `x`.
fn mantissa(x: f64) -> (u64, i32) {
    let biased = (x.to_bits() >> 52 & 0x7ff) as i32;
    let fraction = x.to_bits() & ((1 << 52) - 1);
    if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) }
}

/// The value in units of a grid, if it is finite, a multiple of them and has no more than [`WAITING_BITS`] bits.
#[inline]
fn on_grid(x: f64, grid: i32) -> Option<i128> {
    let (magnitude, exponent) = mantissa(x);
    let shift = exponent - grid;
    let value = if (0..=WAITING_BITS - 53).contains(&shift) {
        i128::from(magnitude) << shift
    } else if magnitude == 0 {
        0
    } else {
        let low = magnitude.trailing_zeros() as i32 + shift;
        let high = 64 - magnitude.leading_zeros() as i32 + shift;
        if low < 0 || high > WAITING_BITS {
            return None;
        }
        i128::from(magnitude >> magnitude.trailing_zeros()) << low
    };
    // An exponent of all ones is that of what is not finite.
    x.is_finite().then_some(if x < 0.0 { -value } else { value })
}

/// The replicates of many slots.
#[derive(Debug)]
pub struct ReplicatesTable {
    columns: Columns,
    resampling: Resampling,
    contents: Vec<Content>,
    dropped: Vec<u64>,
    pending: Pending,
    /// Bytes on the heap of all contents.
    held: usize,
}

impl ReplicatesTable {
    /// A table without slots.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`Resampling::check`].
    pub fn new(columns: Columns, resampling: Resampling) -> Result<Self> {
        resampling.check()?;
        let pending = Pending::new(columns.len());
        Ok(Self {
            columns,
            resampling,
            contents: Vec::new(),
            dropped: Vec::new(),
            pending,
            held: 0,
        })
    }

    /// Counts a row that was left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.dropped[slot] += rows;
    }

    /// Weights all that waits.
    fn flush(&mut self) {
        for (slot, content) in self.contents.iter_mut().enumerate() {
            if self.pending.last[slot] != NONE {
                let before = content.heap_size();
                self.pending.add_to(slot, content, &self.resampling);
                self.held = self.held - before + content.heap_size();
            }
        }
        self.pending.clear();
    }
}

impl Table for ReplicatesTable {
    type Summary = Replicates;

    fn resize(&mut self, slots: usize) {
        self.contents.resize_with(slots, Content::default);
        self.dropped.resize(slots, 0);
        self.pending.last.resize(slots, NONE);
    }

    fn update(&mut self, rows: Rows<'_>) {
        // Rows at a time that leave the limits where they are.
        const ROWS: usize = 4096;
        for start in (0..rows.slots.len()).step_by(ROWS) {
            let range = start..rows.slots.len().min(start + ROWS);
            let columns: Vec<&[f64]> = rows.columns.iter().map(|c| &c[range.clone()]).collect();
            self.pending.add(&rows.slots[range.clone()], &rows.units[range], &columns);
            if self.pending.is_full() {
                self.flush();
            }
        }
    }

    fn merge(&mut self, slot: usize, summary: &Replicates) -> Result<()> {
        check_same((&self.columns, &self.resampling), (&summary.columns, &summary.resampling))?;
        self.dropped[slot] += summary.dropped;
        let content = &mut self.contents[slot];
        let before = content.heap_size();
        content.merge(&summary.content, self.columns.len(), &self.resampling);
        self.held = self.held - before + content.heap_size();
        Ok(())
    }

    fn get(&self, slot: usize) -> Replicates {
        let mut content = self.contents[slot].clone();
        self.pending.add_to(slot, &mut content, &self.resampling);
        Replicates {
            columns: self.columns.clone(),
            resampling: self.resampling,
            dropped: self.dropped[slot],
            content,
        }
    }

    fn drop_first(&mut self, n: usize) {
        self.flush();
        let dropped: usize = self.contents.drain(..n).map(|content| content.heap_size()).sum();
        self.held -= dropped;
        self.dropped.drain(..n);
        self.pending.last.truncate(self.contents.len());
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.contents.capacity() * size_of::<Content>()
            + self.dropped.capacity() * size_of::<u64>()
            + self.held
            + self.pending.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units;

    fn columns() -> Columns {
        Columns::new(["y", "d"].map(String::from), 2).expect("valid columns")
    }

    fn resampling() -> Resampling {
        Resampling { replicates: 50, seed: 9, ..Resampling::default() }
    }

    fn summary(unit_ids: &[i128], y: &[f64], d: &[f64], batch: usize) -> Replicates {
        let mut table = ReplicatesTable::new(columns(), resampling()).expect("valid options");
        table.resize(2);
        for start in (0..y.len()).step_by(batch) {
            let range = start..y.len().min(start + batch);
            let hashes: Vec<u128> =
                unit_ids[range.clone()].iter().map(|&u| units::integer(u)).collect();
            let slots = vec![1; hashes.len()];
            let columns = [&y[range.clone()], &d[range]];
            let missing = [None, None];
            table.update(Rows {
                slots: &slots,
                columns: &columns,
                missing: &missing,
                units: &hashes,
            });
        }
        table.get(1)
    }

    /// Sums over rows, row by row.
    fn direct(unit_ids: &[i128], x: &[f64], b: usize) -> ExactSum {
        let weights = PoissonWeights::new(resampling().seed);
        let mut row = vec![0; b + 1];
        let mut sum = ExactSum::new();
        for (&unit, &x) in unit_ids.iter().zip(x) {
            weights.fill(units::integer(unit), &mut row);
            (0..row[b]).for_each(|_| sum.add(x));
        }
        sum
    }

    /// Doubles of a kind: counts, amounts, any exponent.
    fn values(kind: usize, n: usize) -> Vec<f64> {
        let hash = |i: usize| (units::integer(i as i128) >> 64) as u64;
        (0..n)
            .map(|i| match kind {
                0 => (hash(i) % 50) as f64,
                1 => (hash(i) % 10_000) as f64 / 100.0 - 3.0,
                2 if i % 97 == 5 => 1e300,
                _ => {
                    let x = f64::from_bits(hash(i));
                    if x.is_finite() { x } else { 5e-324 }
                }
            })
            .collect()
    }

    #[test]
    fn replicates_are_the_sums_of_rows_one_by_one() {
        for (n, units) in [(10, 7), (200, 64), (200, 65), (5000, 1500)] {
            for kind in 0..3 {
                let ids: Vec<i128> = (0..n as i128).map(|i| i * 11 % units).collect();
                let (y, d) = (values(kind, n), values(0, n));
                let found = summary(&ids, &y, &d, 999);
                assert_eq!(found.units(), (units <= 64).then_some(units as u64));
                assert_eq!(found.rows(), n as u64);
                let totals = found.totals();
                for b in [0, 17, 31, 32, 49] {
                    assert_eq!(totals.columns[0][b], direct(&ids, &y, b), "kind {kind}");
                    assert_eq!(totals.columns[1][b], direct(&ids, &d, b));
                    assert_eq!(totals.rows[b], direct(&ids, &vec![1.0; n], b));
                }
                assert_eq!(Replicates::decode(&found.encode()).expect("own bytes"), found);
                assert_eq!(summary(&ids, &y, &d, 10_000).encode(), found.encode());
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_are_flagged_and_add_nothing() {
        let ids: Vec<i128> = (0..300).collect();
        let (mut y, d) = (values(1, 300), values(0, 300));
        y[7] = f64::INFINITY;
        let found = summary(&ids, &y, &d, 100);
        let total = found.sum().sums[0].to_f64();
        assert!(total.is_infinite() && total > 0.0);
        y[7] = 0.0;
        let finite = summary(&ids, &y, &d, 100);
        assert_eq!(found.totals().columns, finite.totals().columns);
        assert_eq!(found.sum().sums[1], finite.sum().sums[1]);
    }

    #[test]
    fn slots_have_rows_of_their_own_and_sizes_follow_them() {
        let mut table = ReplicatesTable::new(columns(), resampling()).expect("valid options");
        table.resize(300);
        let n = 40_000;
        let ids: Vec<i128> = (0..n as i128).map(|i| i % 20_000).collect();
        let (y, d) = (values(1, n), values(0, n));
        // The first slot has half of the rows, the others a few each.
        let slots: Vec<u32> =
            (0..n as u32).map(|i| if i % 2 == 0 { 0 } else { i % 299 + 1 }).collect();
        let hashes: Vec<u128> = ids.iter().map(|&u| units::integer(u)).collect();
        let empty = table.size();
        table.update(Rows {
            slots: &slots,
            columns: &[&y, &d],
            missing: &[None, None],
            units: &hashes,
        });
        assert!(table.size() > empty + 64 * 1024);
        let only = |slot: u32| {
            let rows: Vec<usize> = (0..n).filter(|&r| slots[r] == slot).collect();
            let ids: Vec<i128> = rows.iter().map(|&r| ids[r]).collect();
            let y: Vec<f64> = rows.iter().map(|&r| y[r]).collect();
            let d: Vec<f64> = rows.iter().map(|&r| d[r]).collect();
            summary(&ids, &y, &d, n)
        };
        let last = only(299);
        for slot in [0, 1, 299] {
            assert_eq!(table.get(slot as usize).encode(), only(slot).encode());
        }
        table.drop_first(299);
        assert_eq!(table.get(0).encode(), last.encode());
        let held: usize = table.contents.iter().map(Content::heap_size).sum();
        assert_eq!(table.held, held);
    }

    #[test]
    fn different_resampling_does_not_merge() {
        let new = |resampling| Replicates::new(columns(), resampling).expect("valid options");
        let mut mine = new(resampling());
        for (other, text) in [
            (
                Resampling { replicates: 51, ..resampling() },
                "found 51 replicates (poisson, seed 9)",
            ),
            (Resampling { seed: 10, ..resampling() }, "found 50 replicates (poisson, seed 10)"),
        ] {
            let error = mine.merge(&new(other)).expect_err("different").to_string();
            assert!(error.contains("expected 50 replicates (poisson, seed 9)"), "{error}");
            assert!(error.contains(text), "{error}");
        }
        let columns = Columns::new(["y", "e"].map(String::from), 2).expect("valid columns");
        let other = Replicates::new(columns, resampling()).expect("valid options");
        let error = mine.merge(&other).expect_err("different").to_string();
        assert!(error.contains("(y, d)") && error.contains("(y, e)"), "{error}");
    }
}
