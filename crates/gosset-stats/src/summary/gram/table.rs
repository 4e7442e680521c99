//! Many grams, fed a batch at a time.

use std::borrow::Cow;

use hashbrown::HashTable;

use super::{BUCKETS, Cells, Gram, GramColumns, Parts, check_cells, check_max_rows, check_same};
use crate::Result;
use crate::exact::{Products, SumTable};
use crate::summary::labels::Labels;
use crate::summary::{Rows, Table};
use crate::units::bucket_of;

/// Rows on their way into a table of grams, without NULL.
#[derive(Debug, Clone, Copy)]
pub struct GramRows<'a> {
    /// The slot of each row.
    pub slots: &'a [u32],
    /// The outcomes.
    pub outcomes: &'a [&'a [f64]],
    /// The regressors that are numbers.
    pub numbers: &'a [&'a [f64]],
    /// The regressors that are factors, by the numbers that [`GramTable::label`] gives to their labels.
    pub factors: &'a [&'a [u32]],
    /// The weights, if there are any, of which none is negative or NaN.
    pub weights: Option<&'a [f64]>,
    /// The hashes of the clusters, by each of their factors.
    pub clusters: &'a [&'a [u128]],
}

/// The grams of many slots.
#[derive(Debug)]
pub struct GramTable {
    columns: GramColumns,
    max_rows: u32,
    labels: Vec<Labels<String>>,
    combinations: Combinations,
    /// The distinct rows of all slots.
    distinct: Pool,
    /// The cells of slots that have too many of those.
    cells: Pool,
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    dropped: u64,
    not_finite: u64,
    merged: bool,
    /// Rows of the pool of distinct rows.
    rows: HashTable<u32>,
    /// Where those are merged, the rows of the pool of cells.
    cells: CellRows,
}

impl GramTable {
    /// A table without slots.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) as [`check_max_rows`].
    pub fn new(columns: GramColumns, max_rows: u32) -> Result<Self> {
        check_max_rows(max_rows)?;
        let factors = columns.factors();
        // The factors are one word, the place of their combination; a cell is that and the bucket.
        let Parts { cluster, values, .. } = Parts::new(&columns, false);
        let distinct = Pool::new(cluster + 1 + values, Parts::sums_of(&columns, false));
        let cells = Pool::new(0, columns.width());
        Ok(Self {
            max_rows,
            labels: (0..factors).map(|_| Labels::default()).collect(),
            combinations: Combinations::new(factors),
            distinct,
            cells,
            slots: Vec::new(),
            columns,
        })
    }

    /// Its columns.
    pub fn columns(&self) -> &GramColumns {
        &self.columns
    }

    /// Makes it `slots` slots; new ones are empty.
    pub fn resize(&mut self, slots: usize) {
        self.slots.resize_with(slots, Slot::default);
    }

    /// Counts rows that were left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.slots[slot].dropped += rows;
    }

    /// The number of a label of a factor, in this table.
    pub fn label(&mut self, factor: usize, label: &str) -> u32 {
        self.labels[factor].number(label)
    }

    /// Adds rows to their slots.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for more cells than are kept.
    pub fn update(&mut self, rows: GramRows<'_>) -> Result<()> {
        let values = self.scaled(rows);
        // Not `all`, which stops at the first and is not made of vectors.
        let finite = |column: &[f64]| column.iter().fold(true, |all, x| all & x.is_finite());
        if values.iter().all(|column| finite(column)) {
            return self.add(rows, &values);
        }
        let finite = |r: usize| values.iter().all(|column| column[r].is_finite());
        let kept: Vec<usize> = (0..rows.slots.len()).filter(|&r| finite(r)).collect();
        for r in (0..rows.slots.len()).filter(|&r| !finite(r)) {
            self.slots[rows.slots[r] as usize].not_finite += 1;
        }
        let values: Vec<Cow<'_, [f64]>> =
            values.iter().map(|column| Cow::Owned(gather(column, &kept))).collect();
        let factors: Vec<Vec<u32>> = rows.factors.iter().map(|f| gather(f, &kept)).collect();
        let clusters: Vec<Vec<u128>> = rows.clusters.iter().map(|c| gather(c, &kept)).collect();
        let rows = GramRows {
            slots: &gather(rows.slots, &kept),
            factors: &factors.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            clusters: &clusters.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            ..rows
        };
        self.add(rows, &values)
    }

    /// The columns whose moments are kept: the root of the weight, and numbers and outcomes times that.
    fn scaled<'a>(&self, rows: GramRows<'a>) -> Vec<Cow<'a, [f64]>> {
        let columns = rows.numbers.iter().chain(rows.outcomes);
        let Some(weights) = rows.weights else {
            return columns.map(|&column| Cow::Borrowed(column)).collect();
        };
        let roots: Vec<f64> = weights.iter().map(|w| w.sqrt()).collect();
        let times = |column: &&[f64]| column.iter().zip(&roots).map(|(x, root)| x * root).collect();
        let scaled: Vec<Vec<f64>> = columns.map(times).collect();
        [roots].into_iter().chain(scaled).map(Cow::Owned).collect()
    }

    /// Adds rows with finite values.
    fn add(&mut self, rows: GramRows<'_>, values: &[Cow<'_, [f64]>]) -> Result<()> {
        let combinations = self.combinations.of_rows(rows.factors, &self.labels, rows.slots.len());
        let outcomes = &values[self.columns.values()..];
        let clustered = self.columns.clusters() > 0;
        let of_distinct = if clustered { values } else { outcomes };
        let mut distinct = Pending::default();
        let mut cells = Pending::default();
        // All keys before all rows are looked up, so that many of these, which are far apart, are under way at a time.
        let keys = self.keys(rows, &combinations, values);
        let hashes: Vec<u64> = keys.chunks_exact(self.distinct.words).map(hash).collect();
        for (r, &slot) in rows.slots.iter().enumerate() {
            let slot = slot as usize;
            if !self.slots[slot].merged {
                let key = &keys[r * self.distinct.words..][..self.distinct.words];
                if let Some(row) = self.distinct_row(slot, key, hashes[r]) {
                    distinct.push(r, row);
                    continue;
                }
                // The rows so far may be of this slot: they go into the pool before it is dissolved.
                distinct.add_to(&mut self.distinct, of_distinct);
                self.merge_rows(slot)?;
            }
            let bucket = match rows.clusters {
                [hashes] => bucket_of(hashes[r], BUCKETS),
                _ => 0,
            };
            cells.push(r, self.cell(slot, bucket, combinations[r])?);
        }
        distinct.add_to(&mut self.distinct, of_distinct);
        cells.add_to(&mut self.cells, values);
        Ok(())
    }

    /// The keys of the distinct rows that rows are, one after the other; zeros where a slot keeps none.
    fn keys(
        &self,
        rows: GramRows<'_>,
        combinations: &[u32],
        values: &[Cow<'_, [f64]>],
    ) -> Vec<u64> {
        let words = self.distinct.words;
        let of_key = if self.columns.clusters() > 0 { 0 } else { self.columns.values() };
        let mut keys = Vec::with_capacity(rows.slots.len() * words);
        for (r, &slot) in rows.slots.iter().enumerate() {
            if !self.slots[slot as usize].merged {
                for hashes in rows.clusters {
                    keys.extend([(hashes[r] >> 64) as u64, hashes[r] as u64]);
                }
                keys.push(combinations[r].into());
                // There is one zero.
                keys.extend(values[..of_key].iter().map(|column| (column[r] + 0.0).to_bits()));
            }
            keys.resize((r + 1) * words, 0);
        }
        keys
    }

    /// The row of a distinct row of a slot; `None` where the slot has too many for one more.
    fn distinct_row(&mut self, slot: usize, key: &[u64], hash: u64) -> Option<u32> {
        let rows = &mut self.slots[slot].rows;
        let full = rows.len() >= self.max_rows as usize;
        self.distinct.row(rows, key, hash, !full)
    }

    /// The row of a cell of a slot whose distinct rows are merged.
    fn cell(&mut self, slot: usize, bucket: u32, combination: u32) -> Result<u32> {
        let cells = &mut self.slots[slot].cells;
        if let Some(row) = cells.get(bucket, combination) {
            return Ok(row);
        }
        check_cells(cells.len() + 1, true)?;
        let row = self.cells.new_row();
        cells.insert(bucket, combination, row);
        Ok(row)
    }

    /// Takes together the distinct rows of the cells of a slot.
    fn merge_rows(&mut self, slot: usize) -> Result<()> {
        if self.slots[slot].merged {
            return Ok(());
        }
        self.slots[slot].merged = true;
        let Parts { cluster, .. } = Parts::new(&self.columns, false);
        for row in std::mem::take(&mut self.slots[slot].rows) {
            let key = self.distinct.key(row);
            let (before, combination) = (&key[..cluster], key[cluster] as u32);
            let bucket = if self.columns.clusters() == 1 { super::bucket_word(before) } else { 0 };
            let cell = self.cell(slot, bucket as u32, combination)?;
            if self.columns.clusters() > 0 {
                self.cells.sums.merge_slot(cell, &self.distinct.sums, row);
            } else {
                let values = self.distinct.key(row)[cluster + 1..].iter();
                let values: Vec<f64> = values.map(|&bits| f64::from_bits(bits)).collect();
                let of_outcomes = self.distinct.sums.get(row);
                let outcomes = self.columns.outcomes().len();
                self.cells.sums.merge(cell, &super::moments_of(&values, &of_outcomes, outcomes));
            }
            self.distinct.free(row);
        }
        Ok(())
    }

    /// Adds the cells of a gram, whose rows are not merged unless those of the slot are.
    fn add_cells(&mut self, slot: usize, gram: &Gram) -> Result<()> {
        let places = self.places(gram);
        let Parts { cluster, factors, .. } = gram.parts();
        let (mut levels, mut key) = (Vec::new(), Vec::new());
        for cell in gram.cells() {
            levels.clear();
            levels.extend(places.iter().zip(gram.levels(cell)).map(|(p, &l)| p[l as usize]));
            let combination = self.combinations.place(&levels);
            let (before, after) = (&cell.key[..cluster], &cell.key[cluster + factors..]);
            if !self.slots[slot].merged {
                key.clear();
                key.extend_from_slice(before);
                key.push(combination.into());
                key.extend_from_slice(after);
                if let Some(row) = self.distinct_row(slot, &key, hash(&key)) {
                    cell.add_to(&mut self.distinct.sums, row);
                    continue;
                }
                self.merge_rows(slot)?;
            }
            let bucket = match (before, self.columns.clusters()) {
                (&[bucket], _) => bucket,
                (hash, 1) => super::bucket_word(hash),
                _ => 0,
            };
            let row = self.cell(slot, bucket as u32, combination)?;
            if gram.merged || self.columns.clusters() > 0 {
                cell.add_to(&mut self.cells.sums, row);
            } else {
                self.cells.sums.merge(row, &gram.moments(cell));
            }
        }
        Ok(())
    }

    /// Adds a summary to a slot.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) for other columns or parameters, [`Error::Invalid`](crate::Error::Invalid) for more cells than are kept.
    pub fn merge(&mut self, slot: usize, gram: &Gram) -> Result<()> {
        check_same((&self.columns, self.max_rows), (&gram.columns, gram.max_rows))?;
        self.slots[slot].dropped += gram.dropped;
        self.slots[slot].not_finite += gram.not_finite;
        if gram.merged {
            self.merge_rows(slot)?;
        } else if !self.slots[slot].merged {
            self.distinct.reserve(&mut self.slots[slot].rows, gram.len());
        }
        self.add_cells(slot, gram)
    }

    /// For each label of a gram its number in this table.
    fn places(&mut self, gram: &Gram) -> Vec<Vec<u32>> {
        let labels = self.labels.iter_mut().zip(&gram.labels);
        labels
            .map(|(mine, theirs)| theirs.iter().map(|l| mine.number(l.as_str())).collect())
            .collect()
    }

    /// The summary of a slot.
    pub fn get(&self, slot: usize) -> Gram {
        let Slot { dropped, not_finite, merged, rows, cells } = &self.slots[slot];
        let parts = Parts::new(&self.columns, *merged);
        let cells: Vec<(u32, u32, u32)> = cells.iter().collect();
        let (table, rows): (_, Vec<u32>) = if *merged {
            (&self.cells.sums, cells.iter().map(|&(.., row)| row).collect())
        } else {
            (&self.distinct.sums, rows.iter().copied().collect())
        };
        let combinations: Vec<usize> = if *merged {
            cells.iter().map(|&(_, combination, _)| combination as usize).collect()
        } else {
            rows.iter().map(|&row| self.distinct.key(row)[parts.cluster] as usize).collect()
        };
        let (labels, places) = self.labels_of(&combinations);
        let mut keys = Vec::with_capacity(rows.len() * parts.len());
        let mut buckets = cells.iter().map(|&(bucket, ..)| u64::from(bucket));
        for (&row, &combination) in rows.iter().zip(&combinations) {
            let levels = places.iter().zip(self.combinations.levels(combination));
            let levels = levels.map(|(p, &l)| p[l as usize]);
            if *merged {
                let bucket = buckets.next().filter(|_| parts.cluster > 0);
                keys.extend(bucket.into_iter().chain(levels));
            } else {
                let key = self.distinct.key(row);
                keys.extend_from_slice(&key[..parts.cluster]);
                keys.extend(levels);
                keys.extend_from_slice(&key[parts.cluster + 1..]);
            }
        }
        let cells = Cells::sorted(parts.len(), &keys, table, &rows);
        Gram {
            columns: self.columns.clone(),
            max_rows: self.max_rows,
            dropped: *dropped,
            not_finite: *not_finite,
            labels,
            merged: *merged,
            cells: Box::new(cells),
        }
    }

    /// The labels of some combinations by factor, in order, and for each label of this table its place among them.
    fn labels_of(&self, combinations: &[usize]) -> (Vec<Vec<String>>, Vec<Vec<u64>>) {
        let mut used: Vec<Vec<bool>> =
            self.labels.iter().map(|labels| vec![false; labels.names().len()]).collect();
        for &combination in combinations {
            for (used, &level) in used.iter_mut().zip(self.combinations.levels(combination)) {
                used[level as usize] = true;
            }
        }
        let of_factor = |(all, used): (&Labels<String>, &Vec<bool>)| {
            let mut numbers: Vec<usize> = (0..used.len()).filter(|&l| used[l]).collect();
            numbers.sort_unstable_by_key(|&l| &all.names()[l]);
            let mut places = vec![0; used.len()];
            numbers.iter().enumerate().for_each(|(at, &l)| places[l] = at as u64);
            (numbers.iter().map(|&l| all.names()[l].clone()).collect(), places)
        };
        self.labels.iter().zip(&used).map(of_factor).unzip()
    }

    /// Removes the first `n` slots; the others move down.
    pub fn drop_first(&mut self, n: usize) {
        for slot in self.slots.drain(..n) {
            slot.rows.into_iter().for_each(|row| self.distinct.free(row));
            slot.cells.iter().for_each(|(.., row)| self.cells.free(row));
        }
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let rows: usize = self
            .slots
            .iter()
            .map(|slot| slot.rows.allocation_size() + slot.cells.heap_size())
            .sum();
        size_of::<Self>()
            + self.slots.capacity() * size_of::<Slot>()
            + rows
            + self.labels.iter().map(Labels::heap_size).sum::<usize>()
            + self.combinations.size()
            + self.distinct.size()
            + self.cells.size()
    }
}

fn gather<T: Copy>(column: &[T], kept: &[usize]) -> Vec<T> {
    kept.iter().map(|&r| column[r]).collect()
}

/// The rows of the pool of cells that are those of one slot, by bucket of clusters and combination of factors.
#[derive(Debug, Default)]
struct CellRows {
    /// Of the first combinations, once most of their buckets occur: the row of each bucket of each, or [`UNKNOWN`].
    dense: Vec<u32>,
    /// How many of those there are.
    found: usize,
    /// Of the others, with their keys, which are at hand when they are looked up.
    sparse: HashTable<(u64, u32)>,
    /// One more than the last combination of those.
    combinations: usize,
}

impl CellRows {
    fn key(bucket: u32, combination: u32) -> u64 {
        u64::from(bucket) << 32 | u64::from(combination)
    }

    fn place(bucket: u32, combination: u32) -> usize {
        combination as usize * BUCKETS as usize + bucket as usize
    }

    fn len(&self) -> usize {
        self.found + self.sparse.len()
    }

    fn get(&self, bucket: u32, combination: u32) -> Option<u32> {
        if let Some(&row) = self.dense.get(Self::place(bucket, combination)) {
            return (row != UNKNOWN).then_some(row);
        }
        let key = Self::key(bucket, combination);
        self.sparse.find(hash(&[key]), |entry| entry.0 == key).map(|entry| entry.1)
    }

    /// Adds a row that there is not.
    fn insert(&mut self, bucket: u32, combination: u32, row: u32) {
        if let Some(place) = self.dense.get_mut(Self::place(bucket, combination)) {
            *place = row;
            self.found += 1;
            return;
        }
        let key = Self::key(bucket, combination);
        self.sparse.insert_unique(hash(&[key]), (key, row), |entry| hash(&[entry.0]));
        self.combinations = self.combinations.max(combination as usize + 1);
        let places = self.combinations * BUCKETS as usize;
        if 4 * self.len() >= places {
            self.dense.resize(places, UNKNOWN);
            self.found += self.sparse.len();
            for (key, row) in self.sparse.drain() {
                self.dense[Self::place((key >> 32) as u32, key as u32)] = row;
            }
        }
    }

    /// Bucket, combination and row of all.
    fn iter(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let split = |place: usize| (place as u32 % BUCKETS, place as u32 / BUCKETS);
        let dense = self.dense.iter().enumerate().filter(|(_, row)| **row != UNKNOWN);
        let dense = dense.map(move |(place, &row)| (split(place).0, split(place).1, row));
        let sparse = self.sparse.iter().map(|&(key, row)| ((key >> 32) as u32, key as u32, row));
        dense.chain(sparse)
    }

    fn heap_size(&self) -> usize {
        self.dense.capacity() * size_of::<u32>() + self.sparse.allocation_size()
    }
}

/// Rows that wait to be added to a pool.
#[derive(Debug, Default)]
struct Pending {
    /// Their places in the batch.
    rows: Vec<usize>,
    /// Their rows of the pool.
    targets: Vec<u32>,
}

impl Pending {
    fn push(&mut self, r: usize, target: u32) {
        self.rows.push(r);
        self.targets.push(target);
    }

    fn add_to(&mut self, pool: &mut Pool, columns: &[Cow<'_, [f64]>]) {
        if self.targets.is_empty() {
            return;
        }
        let whole = columns.first().is_some_and(|column| column.len() == self.rows.len());
        if whole {
            let columns: Vec<&[f64]> = columns.iter().map(|column| &column[..]).collect();
            pool.sums.add(&self.targets, &columns);
        } else {
            let gathered: Vec<Vec<f64>> =
                columns.iter().map(|column| gather(column, &self.rows)).collect();
            let columns: Vec<&[f64]> = gathered.iter().map(Vec::as_slice).collect();
            pool.sums.add(&self.targets, &columns);
        }
        self.rows.clear();
        self.targets.clear();
    }
}

/// Sums of many slots, with keys of so many words.
#[derive(Debug)]
struct Pool {
    /// Words of a key.
    words: usize,
    keys: Vec<u64>,
    sums: SumTable,
    free: Vec<u32>,
}

impl Pool {
    fn new(words: usize, columns: usize) -> Self {
        let sums = SumTable::new(columns, Products::All);
        Self { words, keys: Vec::new(), sums, free: Vec::new() }
    }

    fn key(&self, row: u32) -> &[u64] {
        &self.keys[row as usize * self.words..][..self.words]
    }

    /// The row of a key among those of a slot; a new one where there is none, if that is asked for.
    fn row(
        &mut self,
        rows: &mut HashTable<u32>,
        key: &[u64],
        hash: u64,
        make: bool,
    ) -> Option<u32> {
        // Not `==`, which is a call for a few words.
        let same = |&row: &u32| self.key(row).iter().zip(key).all(|(a, b)| a == b);
        if let Some(&row) = rows.find(hash, same) {
            return Some(row);
        }
        if !make {
            return None;
        }
        let row = self.new_row();
        self.keys[row as usize * self.words..][..self.words].copy_from_slice(key);
        rows.insert_unique(hash, row, |&row| self::hash(self.key(row)));
        Some(row)
    }

    /// Makes room for so many rows more of a slot.
    fn reserve(&mut self, rows: &mut HashTable<u32>, more: usize) {
        rows.reserve(more, |&row| hash(self.key(row)));
    }

    /// A row that is none's.
    fn new_row(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let row = self.sums.slots();
            self.sums.resize(row + 1);
            self.keys.resize((row + 1) * self.words, 0);
            row as u32
        })
    }

    fn free(&mut self, row: u32) {
        self.sums.clear(row);
        self.free.push(row);
    }

    fn size(&self) -> usize {
        self.sums.size()
            + self.keys.capacity() * size_of::<u64>()
            + self.free.capacity() * size_of::<u32>()
    }
}

/// A hash of a key: it does not leave this table.
fn hash(key: &[u64]) -> u64 {
    key.iter().fold(0, |hash, &word| {
        let product = u128::from(hash ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        (product >> 64) as u64 ^ product as u64
    })
}

/// Bits of the numbers of labels.
fn bits(labels: &Labels<String>) -> u32 {
    labels.names().len().next_power_of_two().ilog2()
}

/// The combinations of the labels of all factors, by number.
#[derive(Debug)]
struct Combinations {
    factors: usize,
    /// The labels of each combination.
    levels: Vec<u32>,
    rows: HashTable<u32>,
    /// The number of each combination by the bits of its labels, as long as they are few.
    direct: Vec<u32>,
    /// The bits of each factor in `direct`.
    bits: Vec<u32>,
}

/// The number of a combination, or the row of a cell, that has none yet.
const UNKNOWN: u32 = u32::MAX;

/// The most bits of the labels of a combination that is looked up directly.
const DIRECT_BITS: u32 = 16;

impl Combinations {
    fn new(factors: usize) -> Self {
        // The combination of no factors.
        let direct = if factors == 0 { vec![0] } else { Vec::new() };
        let (levels, rows, bits) = (Vec::new(), HashTable::new(), Vec::new());
        Self { factors, levels, rows, direct, bits }
    }

    fn levels(&self, number: usize) -> &[u32] {
        &self.levels[number * self.factors..][..self.factors]
    }

    /// The number of each row's combination.
    fn of_rows(&mut self, factors: &[&[u32]], labels: &[Labels<String>], rows: usize) -> Vec<u32> {
        if factors.is_empty() {
            return vec![0; rows];
        }
        let bits: Vec<u32> = labels.iter().map(bits).collect();
        if bits.iter().sum::<u32>() > DIRECT_BITS {
            let mut levels = vec![0; factors.len()];
            let place = |r: usize| {
                levels.iter_mut().zip(factors).for_each(|(level, factor)| *level = factor[r]);
                self.place(&levels)
            };
            return (0..rows).map(place).collect();
        }
        if bits != self.bits {
            self.direct.clear();
            self.direct.resize(1 << bits.iter().sum::<u32>(), UNKNOWN);
            self.bits = bits;
        }
        let mut places = vec![0u32; rows];
        for (factor, &bits) in factors.iter().zip(&self.bits) {
            let shifted = places.iter_mut().zip(*factor);
            shifted.for_each(|(place, &level)| *place = *place << bits | level);
        }
        for (r, place) in places.iter_mut().enumerate() {
            let at = *place as usize;
            if self.direct[at] == UNKNOWN {
                let levels: Vec<u32> = factors.iter().map(|factor| factor[r]).collect();
                self.direct[at] = self.place(&levels);
            }
            *place = self.direct[at];
        }
        places
    }

    /// The number of a combination.
    fn place(&mut self, levels: &[u32]) -> u32 {
        if self.factors == 0 {
            return 0;
        }
        let hash = hash_levels(levels);
        let all = &self.levels;
        let of = |&number: &u32| &all[number as usize * levels.len()..][..levels.len()];
        if let Some(&number) = self.rows.find(hash, |number| of(number) == levels) {
            return number;
        }
        let number = (self.levels.len() / self.factors) as u32;
        self.rows.insert_unique(hash, number, |number| hash_levels(of(number)));
        self.levels.extend_from_slice(levels);
        number
    }

    fn size(&self) -> usize {
        (self.levels.capacity() + self.direct.capacity()) * size_of::<u32>()
            + self.rows.allocation_size()
    }
}

fn hash_levels(levels: &[u32]) -> u64 {
    levels.iter().fold(0, |all, &level| hash(&[all ^ u64::from(level)]))
}

/// Of rows whose regressors are all numbers.
impl Table for GramTable {
    type Summary = Gram;

    fn resize(&mut self, slots: usize) {
        Self::resize(self, slots);
    }

    fn update(&mut self, rows: Rows<'_>) {
        let (outcomes, numbers) = rows.columns.split_at(self.columns.outcomes().len());
        let rows = GramRows {
            slots: rows.slots,
            outcomes,
            numbers,
            factors: &[],
            weights: None,
            clusters: &[],
        };
        Self::update(self, rows).expect("rows without factors are one cell at the most");
    }

    fn merge(&mut self, slot: usize, summary: &Gram) -> Result<()> {
        Self::merge(self, slot, summary)
    }

    fn get(&self, slot: usize) -> Gram {
        Self::get(self, slot)
    }

    fn drop_first(&mut self, n: usize) {
        Self::drop_first(self, n);
    }

    fn size(&self) -> usize {
        Self::size(self)
    }
}
