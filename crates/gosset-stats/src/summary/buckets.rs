//! Totals of hashed units: additive over rows, files, shards and days, with inference by unit afterwards.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::codec::check_rows;
use super::moments::Columns;
use super::{Kind, Reader, Rows, Summary, Table, Writer};
use crate::exact::{ExactSum, Products, SumTable, Sums};
use crate::units::{bucket, bucket_of};
use crate::{Error, Result};

/// The number of buckets where none is asked for.
pub const DEFAULT_BUCKETS: u32 = 4096;

/// Totals per unit while there are few units, then totals of buckets of hashed units.
///
/// Up to `buckets / 4` distinct units the summary is the list of their totals, and inference is over the units,
/// exactly; beyond, each unit falls into one of `buckets` buckets by its hash. Which form it has depends on the set of
/// units alone, never on the order or the split of their rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    columns: Columns,
    buckets: u32,
    dropped: u64,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Units(BTreeMap<u128, Sums>),
    Buckets(BTreeMap<u32, Sums>),
}

/// Checks a number of buckets.
///
/// # Errors
/// [`Error::Invalid`] unless it is a power of two from 64 to 65536.
pub fn check_buckets(buckets: u32) -> Result<()> {
    if buckets.is_power_of_two() && (64..=65536).contains(&buckets) {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "buckets must be a power of two from 64 to 65536; found {buckets}"
        )))
    }
}

/// The most distinct units that are kept one by one.
fn max_units(buckets: u32) -> usize {
    buckets as usize / 4
}

impl Buckets {
    /// The summary of no rows.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`check_buckets`].
    pub fn new(columns: Columns, buckets: u32) -> Result<Self> {
        check_buckets(buckets)?;
        Ok(Self { columns, buckets, dropped: 0, content: Content::Units(BTreeMap::new()) })
    }

    /// Its columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The number of buckets that units are hashed into once there are many.
    pub fn buckets(&self) -> u32 {
        self.buckets
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.totals().map(|(_, sums)| sums.n).sum()
    }

    /// Rows left out because the unit or a value was NULL.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The number of distinct units, where it is known: in the form of few units.
    pub fn units(&self) -> Option<u64> {
        match &self.content {
            Content::Units(units) => Some(units.len() as u64),
            Content::Buckets(_) => None,
        }
    }

    /// The number of units or non-empty buckets: what is resampled.
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Units(units) => units.len(),
            Content::Buckets(buckets) => buckets.len(),
        }
    }

    /// Whether no row was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The totals of every unit or bucket with the key of its resampling weights, in the order of units or buckets.
    pub fn totals(&self) -> Box<dyn Iterator<Item = (u128, &Sums)> + '_> {
        match &self.content {
            Content::Units(units) => Box::new(units.iter().map(|(&hash, sums)| (hash, sums))),
            Content::Buckets(buckets) => {
                Box::new(buckets.iter().map(|(&k, sums)| (bucket(k), sums)))
            }
        }
    }

    /// The indices of the non-empty buckets, or `None` in the form of few units.
    pub fn bucket_indices(&self) -> Option<Vec<u32>> {
        match &self.content {
            Content::Units(_) => None,
            Content::Buckets(buckets) => Some(buckets.keys().copied().collect()),
        }
    }

    /// The totals over all units.
    pub fn sum(&self) -> Sums {
        let mut total = Sums::new(self.columns.len(), Products::None);
        self.totals().for_each(|(_, sums)| total.merge(sums));
        total
    }

    /// Leaves the outcomes alone, as additions to units that another summary counts already: without rows and covariates.
    ///
    /// What a unit did on a further day is added in this way to what it did before. It is for merging alone: units without
    /// rows have no byte form.
    pub fn clear_units(&mut self) {
        let outcomes = self.columns.outcomes();
        self.each(|sums| {
            sums.n = 0;
            sums.sums[outcomes..].fill(ExactSum::new());
        });
        self.dropped = 0;
    }

    /// Makes the outcomes of all units 0, and leaves them and their covariates: what a further day begins with.
    pub fn clear_outcomes(&mut self) {
        let outcomes = self.columns.outcomes();
        self.each(|sums| sums.sums[..outcomes].fill(ExactSum::new()));
    }

    /// Takes units out again that were counted, exactly: what is left is the summary without them.
    ///
    /// Gives `false` where that cannot be told from the totals, which are then of no use: few units are left of many,
    /// whose list is gone, or a value was not finite.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for summaries of different columns or bucket counts.
    pub fn subtract(&mut self, other: &Self) -> Result<bool> {
        self.check_same(other)?;
        let finite = other.totals().all(|(_, sums)| sums.sums.iter().all(ExactSum::is_finite));
        let buckets = self.buckets;
        let known = match (&mut self.content, &other.content) {
            (Content::Units(mine), Content::Units(theirs)) => {
                theirs.iter().all(|(hash, sums)| take(mine, hash, sums))
            }
            (Content::Units(_), Content::Buckets(_)) => false,
            (Content::Buckets(mine), _) => {
                let mut at = BTreeMap::new();
                match &other.content {
                    Content::Buckets(theirs) => at.clone_from(theirs),
                    Content::Units(theirs) => {
                        for (&hash, sums) in theirs {
                            add(&mut at, bucket_of(hash, buckets), sums.clone());
                        }
                    }
                }
                at.iter().all(|(k, sums)| take(mine, k, sums))
            }
        };
        let many = matches!(self.content, Content::Units(_))
            || self.rows() > max_units(self.buckets) as u64;
        self.dropped = self.dropped.saturating_sub(other.dropped);
        Ok(finite && known && many)
    }

    fn each(&mut self, mut change: impl FnMut(&mut Sums)) {
        match &mut self.content {
            Content::Units(units) => units.values_mut().for_each(&mut change),
            Content::Buckets(buckets) => buckets.values_mut().for_each(&mut change),
        }
    }

    /// Bytes held on the heap, about.
    pub fn heap_size(&self) -> usize {
        let key = size_of::<u128>() + size_of::<Sums>();
        self.totals().map(|(_, sums)| key + sums.heap_size()).sum()
    }

    fn check_same(&self, other: &Self) -> Result<()> {
        check_same((&self.columns, self.buckets), (&other.columns, other.buckets))
    }

    /// Takes the form that belongs to the number of units.
    fn settle(&mut self) {
        let Content::Units(units) = &mut self.content else { return };
        if units.len() <= max_units(self.buckets) {
            return;
        }
        let mut buckets = BTreeMap::new();
        for (hash, sums) in std::mem::take(units) {
            add(&mut buckets, bucket_of(hash, self.buckets), sums);
        }
        self.content = Content::Buckets(buckets);
    }
}

fn check_same(mine: (&Columns, u32), theirs: (&Columns, u32)) -> Result<()> {
    mine.0.check_same(theirs.0)?;
    if mine.1 == theirs.1 {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "summaries of different bucket counts do not merge: expected {}, found {}",
        mine.1, theirs.1
    )))
}

fn add<K: Ord>(totals: &mut BTreeMap<K, Sums>, key: K, sums: Sums) {
    match totals.entry(key) {
        std::collections::btree_map::Entry::Occupied(mut e) => e.get_mut().merge(&sums),
        std::collections::btree_map::Entry::Vacant(e) => {
            e.insert(sums);
        }
    }
}

/// Takes sums away again; gives `false` where they were not there.
fn take<K: Ord>(totals: &mut BTreeMap<K, Sums>, key: &K, sums: &Sums) -> bool {
    let Some(mine) = totals.get_mut(key).filter(|mine| mine.n >= sums.n) else { return false };
    mine.n -= sums.n;
    mine.sums.iter_mut().zip(&sums.sums).for_each(|(mine, theirs)| mine.subtract(theirs));
    if mine.n == 0 {
        let nothing = mine.sums.iter().all(ExactSum::is_zero);
        totals.remove(key);
        return nothing;
    }
    true
}

impl Summary for Buckets {
    const KIND: Kind = Kind::Buckets;
    const LAYOUT: u8 = 1;

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_same(other)?;
        self.dropped += other.dropped;
        match (&mut self.content, &other.content) {
            (Content::Units(mine), Content::Units(theirs)) => {
                theirs.iter().for_each(|(&hash, sums)| add(mine, hash, sums.clone()));
            }
            (Content::Buckets(mine), Content::Buckets(theirs)) => {
                theirs.iter().for_each(|(&k, sums)| add(mine, k, sums.clone()));
            }
            (Content::Buckets(mine), Content::Units(theirs)) => {
                for (&hash, sums) in theirs {
                    add(mine, bucket_of(hash, self.buckets), sums.clone());
                }
            }
            (Content::Units(mine), Content::Buckets(theirs)) => {
                let mut buckets = theirs.clone();
                for (hash, sums) in std::mem::take(mine) {
                    add(&mut buckets, bucket_of(hash, self.buckets), sums);
                }
                self.content = Content::Buckets(buckets);
            }
        }
        self.settle();
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        self.columns.write(out);
        out.varint(self.buckets.into());
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
            Content::Buckets(buckets) => {
                out.u8(1);
                out.varint(buckets.len() as u64);
                for (&k, sums) in buckets {
                    out.varint(k.into());
                    out.sums(sums);
                }
            }
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self> {
        let damaged = |what: &str| Error::Damaged(what.into());
        let columns = Columns::read(bytes)?;
        let buckets = u32::try_from(bytes.varint()?).map_err(|_| damaged("too many buckets"))?;
        let mut summary = Self::new(columns, buckets).map_err(|e| Error::Damaged(e.to_string()))?;
        summary.dropped = bytes.rows()?;
        let width = summary.columns.len();
        let form = bytes.u8()?;
        let len = bytes.count(2)?;
        let mut rows = 0;
        // A unit or a bucket without rows is not kept, or one set of rows would have several forms.
        let mut sums = |bytes: &mut Reader<'_>| -> Result<Sums> {
            let sums = bytes.sums(width, Products::None)?;
            rows = check_rows(rows + sums.n)?;
            if sums.n > 0 { Ok(sums) } else { Err(damaged("a unit or bucket has no rows")) }
        };
        match form {
            0 if len <= max_units(buckets) => {
                let mut units = BTreeMap::new();
                for _ in 0..len {
                    let hash = bytes.u128()?;
                    if units.last_key_value().is_some_and(|(&last, _)| last >= hash) {
                        return Err(damaged("the units are not in order"));
                    }
                    units.insert(hash, sums(bytes)?);
                }
                summary.content = Content::Units(units);
            }
            1 => {
                let mut totals = BTreeMap::new();
                for _ in 0..len {
                    let k = u32::try_from(bytes.varint()?).unwrap_or(u32::MAX);
                    if k >= buckets || totals.last_key_value().is_some_and(|(&last, _)| last >= k) {
                        return Err(damaged("the buckets are not in order"));
                    }
                    totals.insert(k, sums(bytes)?);
                }
                summary.content = Content::Buckets(totals);
            }
            _ => return Err(damaged("the form of the buckets is not known")),
        }
        Ok(summary)
    }
}

/// The hash of a unit is its own hash.
#[derive(Debug, Default)]
struct UnitHasher(u64);

impl Hasher for UnitHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = (hash >> 64) as u64;
    }
}

type UnitMap = HashMap<u128, u32, BuildHasherDefault<UnitHasher>>;

/// Where the totals of a slot are in the pool of sums.
#[derive(Debug)]
enum Slot {
    /// One row of the pool per unit.
    Units(UnitMap),
    /// `buckets` rows of the pool from here on.
    Buckets(u32),
}

/// The buckets of many slots.
#[derive(Debug)]
pub struct BucketTable {
    columns: Columns,
    buckets: u32,
    slots: Vec<Slot>,
    dropped: Vec<u64>,
    pool: SumTable,
    free: Vec<u32>,
    free_blocks: Vec<u32>,
    /// Units in all lists.
    listed: usize,
}

impl BucketTable {
    /// A table without slots.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`check_buckets`].
    pub fn new(columns: Columns, buckets: u32) -> Result<Self> {
        check_buckets(buckets)?;
        let pool = SumTable::new(columns.len(), Products::None);
        Ok(Self {
            columns,
            buckets,
            slots: Vec::new(),
            dropped: Vec::new(),
            pool,
            free: Vec::new(),
            free_blocks: Vec::new(),
            listed: 0,
        })
    }

    /// Counts a row that was left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.dropped[slot] += rows;
    }

    /// The row of the pool of a unit, and whether the slot must become buckets before the row is used.
    fn row_of(&mut self, slot: usize, unit: u128) -> Option<u32> {
        match &mut self.slots[slot] {
            Slot::Buckets(first) => Some(*first + bucket_of(unit, self.buckets)),
            Slot::Units(units) => {
                if let Some(&row) = units.get(&unit) {
                    return Some(row);
                }
                if units.len() == max_units(self.buckets) {
                    return None;
                }
                let row = self.free.pop().unwrap_or_else(|| {
                    let row = self.pool.slots();
                    self.pool.resize(row + 1);
                    row as u32
                });
                units.insert(unit, row);
                self.listed += 1;
                Some(row)
            }
        }
    }

    /// Turns the list of units of a slot into buckets; every row of theirs must be in the pool by now.
    fn make_buckets(&mut self, slot: usize) {
        let first = self.free_blocks.pop().unwrap_or_else(|| {
            let first = self.pool.slots();
            self.pool.resize(first + self.buckets as usize);
            first as u32
        });
        let old = std::mem::replace(&mut self.slots[slot], Slot::Buckets(first));
        if let Slot::Units(units) = old {
            self.listed -= units.len();
            #[expect(clippy::iter_over_hash_type, reason = "exact sums do not depend on the order")]
            for (unit, row) in units {
                let sums = self.pool.get(row);
                self.pool.merge(first + bucket_of(unit, self.buckets), &sums);
                self.pool.clear(row);
                self.free.push(row);
            }
        }
    }

    fn merge_one(&mut self, slot: usize, unit: u128, sums: &Sums) {
        let row = match self.row_of(slot, unit) {
            Some(row) => row,
            None => {
                self.make_buckets(slot);
                self.row_of(slot, unit).expect("buckets take every unit")
            }
        };
        self.pool.merge(row, sums);
    }
}

impl Table for BucketTable {
    type Summary = Buckets;

    fn resize(&mut self, slots: usize) {
        self.slots.resize_with(slots, || Slot::Units(UnitMap::default()));
        self.dropped.resize(slots, 0);
    }

    fn update(&mut self, rows: Rows<'_>) {
        let mut targets = Vec::with_capacity(rows.slots.len());
        let mut done = 0;
        for (r, (&slot, &unit)) in rows.slots.iter().zip(rows.units).enumerate() {
            let row = match self.row_of(slot as usize, unit) {
                Some(row) => row,
                None => {
                    // The rows so far may be of this slot's list: they go into the pool before it is dissolved.
                    let columns: Vec<&[f64]> = rows.columns.iter().map(|c| &c[done..r]).collect();
                    self.pool.add(&targets, &columns);
                    targets.clear();
                    done = r;
                    self.make_buckets(slot as usize);
                    self.row_of(slot as usize, unit).expect("buckets take every unit")
                }
            };
            targets.push(row);
        }
        let columns: Vec<&[f64]> = rows.columns.iter().map(|c| &c[done..]).collect();
        self.pool.add(&targets, &columns);
    }

    fn merge(&mut self, slot: usize, summary: &Buckets) -> Result<()> {
        check_same((&self.columns, self.buckets), (&summary.columns, summary.buckets))?;
        self.dropped[slot] += summary.dropped;
        match &summary.content {
            Content::Units(units) => {
                units.iter().for_each(|(&unit, sums)| self.merge_one(slot, unit, sums));
            }
            Content::Buckets(buckets) => {
                if matches!(self.slots[slot], Slot::Units(_)) {
                    self.make_buckets(slot);
                }
                if let Slot::Buckets(first) = self.slots[slot] {
                    buckets.iter().for_each(|(&k, sums)| self.pool.merge(first + k, sums));
                }
            }
        }
        Ok(())
    }

    fn get(&self, slot: usize) -> Buckets {
        let content = match &self.slots[slot] {
            Slot::Units(units) => Content::Units(
                units.iter().map(|(&unit, &row)| (unit, self.pool.get(row))).collect(),
            ),
            Slot::Buckets(first) => Content::Buckets(
                (0..self.buckets)
                    .filter(|k| self.pool.count(first + k) > 0)
                    .map(|k| (k, self.pool.get(first + k)))
                    .collect(),
            ),
        };
        Buckets {
            columns: self.columns.clone(),
            buckets: self.buckets,
            dropped: self.dropped[slot],
            content,
        }
    }

    fn drop_first(&mut self, n: usize) {
        for slot in self.slots.drain(..n) {
            match slot {
                Slot::Units(units) => {
                    self.listed -= units.len();
                    #[expect(clippy::iter_over_hash_type, reason = "rows of the pool are alike")]
                    for (_, row) in units {
                        self.pool.clear(row);
                        self.free.push(row);
                    }
                }
                Slot::Buckets(first) => {
                    (first..first + self.buckets).for_each(|row| self.pool.clear(row));
                    self.free_blocks.push(first);
                }
            }
        }
        self.dropped.drain(..n);
    }

    fn size(&self) -> usize {
        // A hash map is between half and fully loaded: about two places a unit.
        let lists = 2 * self.listed * (size_of::<(u128, u32)>() + 1);
        size_of::<Self>()
            + self.slots.capacity() * size_of::<Slot>()
            + lists
            + self.pool.size()
            + (self.free.capacity() + self.free_blocks.capacity()) * size_of::<u32>()
            + self.dropped.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units;

    fn columns() -> Columns {
        Columns::new(["y".to_owned()], 1).expect("valid columns")
    }

    fn summary(unit_ids: &[i128], y: &[f64], batch: usize) -> Buckets {
        let mut table = BucketTable::new(columns(), 64).expect("valid count");
        table.resize(2);
        for (ids, y) in unit_ids.chunks(batch).zip(y.chunks(batch)) {
            let hashes: Vec<u128> = ids.iter().map(|&u| units::integer(u)).collect();
            let slots = vec![1; ids.len()];
            table.update(Rows {
                slots: &slots,
                columns: &[y],
                missing: &[None],
                units: &hashes,
                ..Rows::default()
            });
        }
        table.get(1)
    }

    #[test]
    fn few_units_are_a_list_and_many_are_buckets_whatever_the_batches() {
        for n in [1, 16, 17, 500] {
            let ids: Vec<i128> = (0..n).map(|i| i * 7 % n).chain(0..n).collect();
            let y: Vec<f64> = (0..2 * n).map(|i| 0.1 * i as f64).collect();
            let whole = summary(&ids, &y, 10_000);
            assert_eq!(whole.units(), (n <= 16).then_some(n as u64));
            assert_eq!(whole.rows(), 2 * n as u64);
            for batch in [1, 3, 100] {
                assert_eq!(summary(&ids, &y, batch).encode(), whole.encode(), "n = {n}");
            }
            let half = ids.len() / 2;
            let mut merged = summary(&ids[..half], &y[..half], 7);
            merged.merge(&summary(&ids[half..], &y[half..], 5)).expect("same parameters");
            assert_eq!(merged.encode(), whole.encode(), "n = {n}");
            assert_eq!(Buckets::decode(&whole.encode()).expect("own bytes"), whole);
        }
    }

    #[test]
    fn dropped_slots_leave_room_that_is_clean() {
        let mut table = BucketTable::new(columns(), 64).expect("valid count");
        table.resize(2);
        let hashes: Vec<u128> = (0..100).map(units::integer).collect();
        let y = vec![1.0; 100];
        let feed = |table: &mut BucketTable, slot: u32| {
            table.update(Rows {
                slots: &[slot; 100],
                columns: &[&y],
                missing: &[None],
                units: &hashes,
                ..Rows::default()
            });
        };
        feed(&mut table, 0);
        feed(&mut table, 1);
        let expected = table.get(1).encode();
        let size = table.pool.slots();
        table.drop_first(1);
        assert_eq!(table.get(0).encode(), expected);
        table.resize(2);
        feed(&mut table, 1);
        assert_eq!(table.get(1).encode(), expected);
        assert_eq!(table.pool.slots(), size);
    }

    #[test]
    fn different_bucket_counts_do_not_merge() {
        let mut a = Buckets::new(columns(), 64).expect("valid count");
        let b = Buckets::new(columns(), 128).expect("valid count");
        assert!(
            a.merge(&b).expect_err("counts differ").to_string().contains("expected 64, found 128")
        );
    }
}
