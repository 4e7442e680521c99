//! Replicates of many slots, fed a batch at a time.

use std::ops::Range;

use super::{Content, Replicates, Resampling, Terms, check_same};
use crate::Result;
use crate::exact::{ExactSum, Sums};
use crate::resample::{BLOCK, BlockColumn};
use crate::summary::{BucketTable, Columns, Rows, Table};

/// The most units of slots whose rows wait for the others.
const MAX_PENDING: usize = 1 << 15;

/// Rows that are added at a time, beyond which limits are not looked at.
const ROWS_AT_ONCE: usize = 4096;
const _: () = assert!(MAX_PENDING + ROWS_AT_ONCE < 1 << ENTRY_BITS);

/// The most rows that are added up before they are weighted: with [`WAITING_BITS`] each they stay within the bits of a
/// value.
const MAX_WAITING_ROWS: u64 = 1 << 20;

/// Bits of a row's value on the grid of its column.
const WAITING_BITS: i32 = 96;

/// Rows of totals that may wait with the others, so that no count of rows overflows.
const MAX_MERGED_ROWS: u64 = 1 << 40;

/// Units with zeros in the same columns that are worth a block of their own: fewer are weighted with the next.
const LEAST_BLOCK: usize = 512;

const NONE: u32 = u32::MAX;

/// Bits of a place of the index that are the number of an entry; those above are of its hash.
const ENTRY_BITS: u32 = 16;

/// How many times in a row rows are not added up, after a time when hardly any were of one unit.
const TIMES_APART: u32 = 15;

/// A unit of a slot.
#[derive(Debug)]
struct Entry {
    unit: u128,
    rows: u64,
    slot: u32,
    /// The last of its values that do not fit the grid.
    misfit: u32,
}

/// Rows added up by slot and unit, before they are weighted.
#[derive(Debug)]
pub(super) struct Pending {
    /// A hash table of entries, open and linear.
    index: Vec<u32>,
    /// For how many times yet every row has an entry of its own, which the index does not know: where units come once,
    /// looking them up is in vain.
    times_apart: u32,
    entries: Vec<Entry>,
    /// By entry and column, the sum on the grid of the column; as many as there are entries between calls.
    sums: Vec<i128>,
    /// By column, once there is one.
    grids: Vec<Option<i32>>,
    /// By slot its last entry, by entry the one before it in its slot.
    last: Vec<u32>,
    before: Vec<u32>,
    /// Values that do not fit the grid, by entry a list of its own: column, value, the one before.
    misfits: Vec<(u32, f64, u32)>,
    pub(super) waiting_rows: u64,
    /// The entries of the rows that are being added.
    found: Vec<u32>,
}

impl Pending {
    fn new(columns: usize) -> Self {
        Self {
            index: Vec::new(),
            times_apart: 0,
            entries: Vec::new(),
            sums: Vec::new(),
            grids: vec![None; columns],
            last: Vec::new(),
            before: Vec::new(),
            misfits: Vec::new(),
            waiting_rows: 0,
            found: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_PENDING
            || self.misfits.len() >= MAX_PENDING
            || self.waiting_rows >= MAX_WAITING_ROWS
    }

    fn clear(&mut self) {
        let are_many = 2 * self.entries.len() > MAX_PENDING;
        let hardly_any = 10 * self.entries.len() as u64 > 9 * self.waiting_rows;
        self.times_apart = match self.times_apart {
            0 if hardly_any && are_many => TIMES_APART,
            0 => 0,
            times => times - 1,
        };
        self.index.fill(NONE);
        self.entries.clear();
        self.sums.clear();
        self.grids.fill(None);
        self.last.fill(NONE);
        self.before.clear();
        self.misfits.clear();
        self.waiting_rows = 0;
    }

    fn size(&self) -> usize {
        let words = self.index.capacity()
            + self.last.capacity()
            + self.before.capacity()
            + self.found.capacity();
        words * size_of::<u32>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.sums.capacity() * size_of::<i128>()
            + self.misfits.capacity() * size_of::<(u32, f64, u32)>()
    }

    /// The entry of a unit in a slot, which may be new.
    #[inline]
    fn entry(&mut self, slot: u32, unit: u128) -> usize {
        if self.times_apart > 0 {
            return self.new_entry(slot, unit);
        }
        if 2 * self.entries.len() >= self.index.len() {
            self.grow();
        }
        let hash = hash(slot, unit);
        let mut at = self.start(hash);
        while self.index[at] != NONE {
            // Entries are far away: those of another hash are not looked at.
            if self.index[at] >> ENTRY_BITS == tag(hash) {
                let entry = (self.index[at] & ((1 << ENTRY_BITS) - 1)) as usize;
                let known = &self.entries[entry];
                if known.unit == unit && known.slot == slot {
                    return entry;
                }
            }
            at = (at + 1) & (self.index.len() - 1);
        }
        let entry = self.new_entry(slot, unit);
        self.index[at] = tag(hash) << ENTRY_BITS | entry as u32;
        entry
    }

    fn new_entry(&mut self, slot: u32, unit: u128) -> usize {
        let entry = self.entries.len();
        self.entries.push(Entry { unit, rows: 0, slot, misfit: NONE });
        let last = std::mem::replace(&mut self.last[slot as usize], entry as u32);
        self.before.push(last);
        entry
    }

    /// The sums of an entry.
    fn sums(&mut self, entry: usize) -> &mut [i128] {
        let columns = self.grids.len();
        &mut self.sums[entry * columns..][..columns]
    }

    /// Where the search for a hash starts.
    fn start(&self, hash: u64) -> usize {
        hash as usize & (self.index.len() - 1)
    }

    fn grow(&mut self) {
        self.index = vec![NONE; (2 * self.index.len()).max(64)];
        for (entry, known) in (0..).zip(&self.entries) {
            let hash = hash(known.slot, known.unit);
            let mut at = self.start(hash);
            while self.index[at] != NONE {
                at = (at + 1) & (self.index.len() - 1);
            }
            self.index[at] = tag(hash) << ENTRY_BITS | entry;
        }
    }

    /// Adds at most [`ROWS_AT_ONCE`] rows.
    fn add(&mut self, slots: &[u32], units: &[u128], columns: &[&[f64]]) {
        self.waiting_rows += slots.len() as u64;
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        for (&slot, &unit) in slots.iter().zip(units) {
            let entry = self.entry(slot, unit);
            self.entries[entry].rows += 1;
            found.push(entry as u32);
        }
        let width = columns.len();
        self.sums.resize(self.entries.len() * width, 0);
        for (grid, values) in self.grids.iter_mut().zip(columns) {
            *grid = grid.or_else(|| grid_of(values));
        }
        let mut misfits = Vec::new();
        // Without a grid all are zero or not finite.
        let grids: Vec<i32> = self.grids.iter().map(|grid| grid.unwrap_or(0)).collect();
        for (r, &entry) in found.iter().enumerate() {
            let sums = &mut self.sums[entry as usize * width..][..width];
            for (c, sum) in sums.iter_mut().enumerate() {
                let x = columns[c][r];
                // Most values of many metrics are.
                if x == 0.0 {
                    continue;
                }
                match on_grid(x, grids[c]) {
                    Some(value) => *sum += value,
                    None => misfits.push((entry, c, x)),
                }
            }
        }
        for (entry, column, x) in misfits {
            self.add_misfit(entry as usize, column, x);
        }
        self.found = found;
    }

    #[cold]
    fn add_misfit(&mut self, entry: usize, column: usize, x: f64) {
        let last = self.misfits.len() as u32;
        let before = std::mem::replace(&mut self.entries[entry].misfit, last);
        self.misfits.push((column as u32, x, before));
    }

    /// Adds the totals of a unit as if they were one row, if they are like those of one; `false` if not, and nothing is
    /// done.
    fn add_sums(&mut self, slot: u32, unit: u128, sums: &Sums) -> bool {
        if sums.n > MAX_MERGED_ROWS {
            return false;
        }
        let mut values = Vec::with_capacity(self.grids.len());
        for (grid, sum) in self.grids.iter_mut().zip(&sums.sums) {
            let small = sum.to_small().filter(|_| sum.is_finite());
            let Some((value, exponent)) = small else { return false };
            if value == 0 {
                values.push(0);
                continue;
            }
            let top = exponent + 128 - value.unsigned_abs().leading_zeros() as i32;
            let grid = *grid.get_or_insert(top + headroom(1) - WAITING_BITS);
            if exponent < grid || top - grid > WAITING_BITS {
                return false;
            }
            values.push(value << (exponent - grid));
        }
        let entry = self.entry(slot, unit);
        self.sums.resize(self.entries.len() * self.grids.len(), 0);
        self.entries[entry].rows += sums.n;
        self.waiting_rows += 1;
        self.sums(entry).iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        true
    }

    /// Adds what waits for a slot to its content.
    fn add_to(&self, slot: usize, content: &mut Content, resampling: &Resampling) {
        let columns = self.grids.len();
        let mut entries = self.list(self.last[slot], |entry| self.before[entry]).peekable();
        let grid = |c: usize| self.grids[c].unwrap_or(0);
        while let Some(&entry) = entries.peek() {
            let Some(sums) = content.unit(self.entries[entry].unit, columns) else { break };
            sums.n += self.entries[entry].rows;
            let values = &self.sums[entry * columns..][..columns];
            for (c, (sum, &value)) in sums.sums.iter_mut().zip(values).enumerate() {
                sum.add_scaled(value, grid(c));
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
        let (entries, blocks) = self.by_zeros(entries.collect());
        let most = blocks.iter().map(Range::len).max().unwrap_or(0);
        let mut units = Vec::with_capacity(most);
        let mut values: Vec<Vec<i128>> = (0..=columns).map(|_| Vec::with_capacity(most)).collect();
        for block in blocks {
            let block = &entries[block];
            units.clear();
            units.extend(block.iter().map(|&entry| self.entries[entry].unit));
            for (c, values) in values.iter_mut().enumerate() {
                values.clear();
                match c < columns {
                    true => values.extend(block.iter().map(|&e| self.sums[e * columns + c])),
                    false => values.extend(block.iter().map(|&e| i128::from(self.entries[e].rows))),
                }
            }
            dense.totals.n += block.iter().map(|&entry| self.entries[entry].rows).sum::<u64>();
            for &entry in block {
                for at in self.misfits_of(entry) {
                    let (column, x, _) = self.misfits[at];
                    dense.totals.sums[column as usize].add(x);
                    if x.is_finite() {
                        let mut one = ExactSum::new();
                        one.add(x);
                        terms.push_sum(self.entries[entry].unit, column as usize, &one);
                    }
                }
            }
            let of_columns: Vec<BlockColumn<'_>> = values
                .iter()
                .enumerate()
                .map(|(target, values)| BlockColumn {
                    values,
                    exponent: if target < columns { grid(target) } else { 0 },
                    target,
                })
                .collect();
            for column in &of_columns[..columns] {
                // All that wait add up within the bits of an integer.
                let total = column.values.iter().sum();
                dense.totals.sums[column.target].add_scaled(total, column.exponent);
            }
            accumulator.add(&units, &of_columns, &mut dense.sums);
        }
        dense.add_terms(terms, &mut accumulator);
    }

    /// Entries in the order of which of their sums are zero, and the blocks that they are weighted in: what is zero in a
    /// whole block is not multiplied, and metrics that few units have are zero in most.
    fn by_zeros(&self, entries: Vec<usize>) -> (Vec<usize>, Vec<Range<usize>>) {
        /// Columns that are looked at.
        const COLUMNS: usize = u8::BITS as usize;
        let columns = self.grids.len();
        let zeros = |entry: usize| {
            let sums = self.sums[entry * columns..].iter().take(columns.min(COLUMNS));
            sums.fold(0, |zeros, &sum| zeros << 1 | usize::from(sum == 0))
        };
        let zeros: Vec<usize> = entries.iter().map(|&entry| zeros(entry)).collect();
        let mut ends = [0; 1 << COLUMNS];
        zeros.iter().for_each(|&zeros| ends[zeros] += 1);
        let mut end = 0;
        for of_zeros in &mut ends {
            end += *of_zeros;
            *of_zeros = end;
        }
        let mut blocks = Vec::new();
        let mut start = 0;
        for &end in &ends {
            if end - start >= LEAST_BLOCK || end == entries.len() {
                blocks.extend((start..end).step_by(BLOCK).map(|at| at..end.min(at + BLOCK)));
                start = end;
            }
        }
        let mut ordered = vec![0; entries.len()];
        for (&entry, &zeros) in entries.iter().zip(&zeros).rev() {
            ends[zeros] -= 1;
            ordered[ends[zeros]] = entry;
        }
        (ordered, blocks)
    }

    fn misfits_of(&self, entry: usize) -> impl Iterator<Item = usize> + '_ {
        self.list(self.entries[entry].misfit, |at| self.misfits[at].2)
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

/// That of a unit is one already.
#[inline]
fn hash(slot: u32, unit: u128) -> u64 {
    // Of a pair of factors either half may be that of many units.
    let unit = (unit as u64).wrapping_add((unit >> 64) as u64);
    unit ^ u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

/// Bits of a hash that say nothing of where the search for it starts.
#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> (u64::BITS - ENTRY_BITS)) as u32
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
    Some(top + headroom(tops.len()) - WAITING_BITS)
}

/// Bits of the grid above the largest of the first values: a few of them say little about those to come.
fn headroom(values: usize) -> i32 {
    if values < 16 { 20 } else { 6 }
}

/// `|x| = mantissa · 2^exponent`, for finite `x`.
fn mantissa(x: f64) -> (u64, i32) {
    let biased = (x.to_bits() >> 52 & 0x7ff) as i32;
    let fraction = x.to_bits() & ((1 << 52) - 1);
    if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) }
}

/// A value other than zero in units of a grid, if it is finite, a multiple of them and has no more than [`WAITING_BITS`]
/// bits.
#[inline]
fn on_grid(x: f64, grid: i32) -> Option<i128> {
    let (magnitude, exponent) = mantissa(x);
    // An exponent of all ones is that of what is not finite.
    if !x.is_finite() {
        return None;
    }
    let shift = exponent - grid;
    let value = if (0..=WAITING_BITS - 53).contains(&shift) {
        i128::from(magnitude) << shift
    } else {
        let low = magnitude.trailing_zeros() as i32 + shift;
        let high = 64 - magnitude.leading_zeros() as i32 + shift;
        if low < 0 || high > WAITING_BITS {
            return None;
        }
        i128::from(magnitude >> magnitude.trailing_zeros()) << low
    };
    // All bits where it is negative.
    let sign = i128::from(x.to_bits() as i64 >> 63);
    Some((value ^ sign) - sign)
}

/// The replicates of many slots.
#[derive(Debug)]
pub struct ReplicatesTable {
    columns: Columns,
    resampling: Resampling,
    pub(super) contents: Vec<Content>,
    dropped: Vec<u64>,
    pub(super) pending: Pending,
    /// Units that the last rows had and that did not wait.
    new_units: usize,
    buckets: Option<BucketTable>,
    /// Bytes on the heap of all contents.
    pub(super) held: usize,
}

impl ReplicatesTable {
    /// A table without slots.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) as [`Resampling::check`].
    pub fn new(columns: Columns, resampling: Resampling) -> Result<Self> {
        resampling.check()?;
        let pending = Pending::new(columns.len());
        let buckets =
            resampling.buckets.map(|k| BucketTable::new(columns.clone(), k)).transpose()?;
        Ok(Self {
            columns,
            resampling,
            contents: Vec::new(),
            dropped: Vec::new(),
            pending,
            new_units: 0,
            buckets,
            held: 0,
        })
    }

    /// Counts a row that was left out of a slot.
    pub fn add_dropped(&mut self, slot: usize, rows: u64) {
        self.dropped[slot] += rows;
    }

    fn merge_content(&mut self, slot: usize, other: &Content) {
        let content = &mut self.contents[slot];
        let before = content.heap_size();
        content.merge(other, self.columns.len(), &self.resampling);
        self.held = self.held - before + content.heap_size();
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
        if let Some(buckets) = &mut self.buckets {
            buckets.resize(slots);
        }
    }

    fn update(&mut self, rows: Rows<'_>) {
        if let Some(buckets) = &mut self.buckets {
            buckets.update(rows);
        }
        // They may be all rows of their units: these are not to be weighted twice. There will be as many new ones as in
        // the rows before.
        let waiting = self.pending.entries.len();
        if self.new_units <= MAX_PENDING && waiting + self.new_units > MAX_PENDING {
            self.flush();
        }
        self.new_units = 0;
        for start in (0..rows.slots.len()).step_by(ROWS_AT_ONCE) {
            let range = start..rows.slots.len().min(start + ROWS_AT_ONCE);
            let columns: Vec<&[f64]> = rows.columns.iter().map(|c| &c[range.clone()]).collect();
            let before = self.pending.entries.len();
            self.pending.add(&rows.slots[range.clone()], &rows.units[range], &columns);
            self.new_units += self.pending.entries.len() - before;
            if self.pending.is_full() {
                self.flush();
            }
        }
    }

    fn merge(&mut self, slot: usize, summary: &Replicates) -> Result<()> {
        check_same((&self.columns, &self.resampling), (&summary.columns, &summary.resampling))?;
        self.dropped[slot] += summary.dropped;
        if let (Some(mine), Some(theirs)) = (&mut self.buckets, &summary.buckets) {
            mine.merge(slot, theirs)?;
        }
        let Content::Units(units) = &summary.content else {
            self.merge_content(slot, &summary.content);
            return Ok(());
        };
        // Many summaries of a unit or a few are weighted together.
        for (&unit, sums) in units {
            if !self.pending.add_sums(slot as u32, unit, sums) {
                self.merge_content(slot, &Content::Units([(unit, sums.clone())].into()));
            }
            if self.pending.is_full() {
                self.flush();
            }
        }
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
            buckets: self.buckets.as_ref().map(|buckets| buckets.get(slot)),
        }
    }

    fn drop_first(&mut self, n: usize) {
        self.flush();
        let dropped: usize = self.contents.drain(..n).map(|content| content.heap_size()).sum();
        self.held -= dropped;
        self.dropped.drain(..n);
        self.pending.last.truncate(self.contents.len());
        if let Some(buckets) = &mut self.buckets {
            buckets.drop_first(n);
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.contents.capacity() * size_of::<Content>()
            + self.dropped.capacity() * size_of::<u64>()
            + self.held
            + self.pending.size()
            + self.buckets.as_ref().map_or(0, BucketTable::size)
    }
}
