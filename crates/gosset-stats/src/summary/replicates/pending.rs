//! Rows that wait for others of their units.

use std::collections::BTreeMap;

use super::blocks::by_zeros;
use super::{Content, Resampling};
use crate::exact::{Products, SumTable, Sums};

/// The most units of slots whose rows wait for the others.
const MAX_PENDING: usize = 1 << 15;

/// As many of them as are weighted well together, while their sums stay in a near cache: more wait for the sake of their
/// other rows alone. Of each slot there are to be some.
const ENOUGH: usize = 1 << 13;
const ENOUGH_OF_A_SLOT: usize = 1 << 9;

/// Rows that are added at a time, beyond which limits are not looked at.
pub(super) const ROWS_AT_ONCE: usize = 4096;
const _: () = assert!(MAX_PENDING + ROWS_AT_ONCE < 1 << u16::BITS);

/// Batches in a row with units of their own, after which one is taken for a whole part of all units: with one, the second
/// batch of a part would find what waited of the first gone.
const BATCHES_APART: u32 = 2;

/// How many rows are taken for the single ones of their units, after a time when hardly any unit had several.
const SINGLE_UNITS: usize = 15 * MAX_PENDING;

/// Rows whose places are read before the first of them is looked at.
const READ_AHEAD: usize = 128;

/// Places of the index for an entry, at least: in most of them there is nobody else's.
const PLACES: usize = 4;

/// The entry of nobody.
const NONE: u16 = 0;

/// Rows added up by slot and unit, before they are weighted.
#[derive(Debug)]
pub(super) struct Pending {
    /// A hash table of entries, open and linear.
    index: Vec<u16>,
    /// For how many rows yet each is taken for the single one of its unit and has an entry that the index does not know:
    /// where units come once, looking them up is in vain.
    single: usize,
    /// How many entries there are, of which the first is that of nobody.
    end: usize,
    /// By entry its unit and its slot, with room for others; and the entry before it in its slot.
    units: Vec<u128>,
    slots: Vec<u32>,
    before: Vec<u16>,
    /// By slot its last entry.
    last: Vec<u16>,
    /// By entry the sums of its rows.
    sums: SumTable,
    pub(super) waiting_rows: u64,
    batch: Batch,
    /// How many batches in a row had units of their own.
    batches_apart: u32,
    /// The entries of the rows that are being added.
    found: Vec<u32>,
}

/// Rows that come together, as those of a part of all units do, until what waits is weighted.
#[derive(Debug, Clone, Copy, Default)]
struct Batch {
    rows: usize,
    /// Where the entries of its new units start; none is looked at where nothing waited before.
    start: Option<usize>,
    /// How many units are new.
    new: usize,
    /// How many rows are of units that waited before.
    came_again: usize,
}

impl Pending {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            index: Vec::new(),
            single: 0,
            end: 1,
            units: vec![0],
            slots: vec![u32::MAX],
            before: vec![NONE],
            last: Vec::new(),
            sums: SumTable::new(columns, Products::None),
            waiting_rows: 0,
            batch: Batch::default(),
            batches_apart: 0,
            found: Vec::new(),
        }
    }

    /// The number of units that wait.
    pub(super) fn len(&self) -> usize {
        self.end - 1
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= if self.single > 0 { self.enough() } else { MAX_PENDING }
    }

    /// Starts a batch. Whether what waits is better weighted before, since its units do not come again soon: as with
    /// the last batches that found some waiting, which had hardly a row of those and most rows of units of their own.
    pub(super) fn start_batch(&mut self) -> bool {
        let Batch { rows, new, came_again, .. } = self.batch;
        if rows > 0 {
            let is_apart = 16 * came_again < rows && 2 * new < rows;
            self.batches_apart = if is_apart { self.batches_apart + 1 } else { 0 };
        }
        let start = (self.len() > 0).then_some(self.end);
        self.batch = Batch { start, ..Batch::default() };
        self.len() >= self.enough() && self.batches_apart >= BATCHES_APART
    }

    fn enough(&self) -> usize {
        (ENOUGH_OF_A_SLOT * self.last.len()).clamp(ENOUGH, MAX_PENDING)
    }

    /// Whether something waits for a slot.
    pub(super) fn waits_for(&self, slot: usize) -> bool {
        self.last[slot] != NONE
    }

    /// Makes it slots; nothing waits for those beyond.
    pub(super) fn resize(&mut self, slots: usize) {
        self.last.resize(slots, NONE);
    }

    pub(super) fn clear(&mut self) {
        let are_many = 2 * self.len() > MAX_PENDING;
        let hardly_any = 10 * self.len() as u64 > 9 * self.waiting_rows;
        self.single = match self.single {
            0 if hardly_any && are_many => SINGLE_UNITS,
            left => left.saturating_sub(self.len()),
        };
        self.index.fill(NONE);
        self.end = 1;
        self.batch.start = None;
        self.before.truncate(1);
        self.last.fill(NONE);
        self.sums.resize(0);
        self.waiting_rows = 0;
    }

    pub(super) fn size(&self) -> usize {
        let places = [&self.index, &self.before, &self.last].map(Vec::capacity);
        let slots = [&self.slots, &self.found].map(Vec::capacity);
        places.iter().sum::<usize>() * size_of::<u16>()
            + slots.iter().sum::<usize>() * size_of::<u32>()
            + self.units.capacity() * size_of::<u128>()
            + self.sums.size()
    }

    /// The entries of rows in [`found`](Self::found), which may be new.
    fn find(&mut self, slots: &[u32], units: &[u128]) {
        let room = self.end + units.len();
        if self.units.len() < room {
            self.units.resize(room, 0);
            self.slots.resize(room, 0);
        }
        if self.single > 0 {
            self.units[self.end..room].copy_from_slice(units);
            self.slots[self.end..room].copy_from_slice(slots);
            self.found.clear();
            self.found.extend(self.end as u32..room as u32);
            self.end = room;
        } else {
            self.make_places(room);
            let mut found = std::mem::take(&mut self.found);
            found.resize(units.len(), 0);
            let rows = slots.chunks(READ_AHEAD).zip(units.chunks(READ_AHEAD));
            for ((slots, units), found) in rows.zip(found.chunks_mut(READ_AHEAD)) {
                self.look_up(slots, units, found);
            }
            self.found = found;
        }
        for (entry, &slot) in (self.before.len()..self.end).zip(&self.slots[self.before.len()..]) {
            let last = &mut self.last[slot as usize];
            self.before.push(std::mem::replace(last, entry as u16));
        }
        self.sums.resize(self.end);
    }

    /// The entries of at most [`READ_AHEAD`] rows: all places are read before the first is looked at, so that none waits for
    /// another, and without a branch on what they have, which is not to be foreseen. Rows that do not find their unit there
    /// are looked up one by one.
    fn look_up(&mut self, slots: &[u32], units: &[u128], found: &mut [u32]) {
        let mut first = [NONE; READ_AHEAD];
        for (first, (&slot, &unit)) in first.iter_mut().zip(slots.iter().zip(units)) {
            *first = self.index[self.place(slot, unit)];
        }
        let (mut left, mut count) = ([0; READ_AHEAD], 0);
        for (r, (&slot, &unit)) in slots.iter().zip(units).enumerate() {
            found[r] = first[r].into();
            left[count] = r;
            count += usize::from(!self.is_of(first[r], slot, unit));
        }
        for &r in &left[..count] {
            found[r] = self.entry(slots[r], units[r]).into();
        }
    }

    /// The entry of a unit in a slot, which may be new; again without a branch on that.
    #[inline]
    fn entry(&mut self, slot: u32, unit: u128) -> u16 {
        let mut at = self.place(slot, unit);
        let (entry, is_known) = loop {
            let entry = self.index[at];
            let is_known = self.is_of(entry, slot, unit);
            if is_known | (entry == NONE) {
                break (entry, is_known);
            }
            at = (at + 1) & (self.index.len() - 1);
        };
        let end = self.end;
        let entry = if is_known { entry } else { end as u16 };
        self.index[at] = entry;
        (self.units[end], self.slots[end]) = (unit, slot);
        self.end += usize::from(!is_known);
        entry
    }

    #[inline]
    fn is_of(&self, entry: u16, slot: u32, unit: u128) -> bool {
        let entry = usize::from(entry);
        (self.units[entry] == unit) & (self.slots[entry] == slot)
    }

    /// Where the search for a unit in a slot starts.
    #[inline]
    fn place(&self, slot: u32, unit: u128) -> usize {
        // A unit is a hash already. Of a pair of factors either half may be that of many units.
        let unit = (unit as u64).wrapping_add((unit >> 64) as u64);
        let hash = unit ^ u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        hash as usize & (self.index.len() - 1)
    }

    /// Gives so many entries their places in the index.
    fn make_places(&mut self, entries: usize) {
        if self.index.len() >= PLACES * entries {
            return;
        }
        self.index = vec![NONE; (PLACES * entries).next_power_of_two()];
        for entry in 1..self.end {
            let mut at = self.place(self.slots[entry], self.units[entry]);
            while self.index[at] != NONE {
                at = (at + 1) & (self.index.len() - 1);
            }
            self.index[at] = entry as u16;
        }
    }

    /// Adds at most [`ROWS_AT_ONCE`] rows.
    pub(super) fn add(&mut self, slots: &[u32], units: &[u128], columns: &[&[f64]]) {
        self.find(slots, units);
        self.sums.add(&self.found, columns);
        self.waiting_rows += slots.len() as u64;
        if let Some(start) = self.batch.start {
            let came_again = self.found.iter().filter(|&&entry| (entry as usize) < start);
            self.batch.came_again += came_again.count();
            self.batch.rows += slots.len();
            self.batch.new = self.end - start;
        }
    }

    /// Adds the totals of a unit.
    pub(super) fn add_sums(&mut self, slot: u32, unit: u128, sums: &Sums) {
        self.find(&[slot], &[unit]);
        self.sums.merge_parts(self.found[0], sums.n, &sums.sums);
        self.waiting_rows += 1;
    }

    /// Adds what waits for a slot to its content.
    pub(super) fn add_to(&self, slot: usize, content: &mut Content, resampling: &Resampling) {
        let columns = self.sums.columns();
        let mut entries = self.entries_of(slot).peekable();
        while let Some(&entry) = entries.peek() {
            let Some(sums) = content.unit(self.units[entry as usize], columns) else { break };
            sums.merge(&self.sums.get(entry));
            entries.next();
        }
        if entries.peek().is_none() {
            return;
        }
        let dense = content.make_dense(columns, resampling);
        let mut accumulator = resampling.accumulator();
        let (beside, entries): (Vec<u32>, Vec<u32>) =
            entries.partition(|&entry| self.sums.is_beside(entry));
        let (entries, blocks) = by_zeros(&self.sums, entries);
        let mut exponents: Vec<i32> = (0..columns).map(|c| self.sums.exponent(c)).collect();
        exponents.push(0);
        let (mut units, mut values) = (Vec::new(), vec![Vec::new(); columns + 1]);
        for block in blocks {
            let entries = &entries[block];
            units.clear();
            units.extend(entries.iter().map(|&entry| self.units[entry as usize]));
            let [of_columns @ .., rows] = &mut values[..] else { unreachable!("rows are one") };
            self.sums.integers(entries, of_columns);
            rows.clear();
            rows.extend(entries.iter().map(|&entry| i128::from(self.sums.count(entry))));
            dense.add_block(&units, &values, &exponents, &mut accumulator);
        }
        let mut units = BTreeMap::new();
        for entry in beside {
            let sums = units.entry(self.units[entry as usize]);
            sums.or_insert_with(|| Sums::new(columns, Products::None)).merge(&self.sums.get(entry));
        }
        dense.add_units(&units, &mut accumulator);
    }

    /// The entries of a slot, the last first.
    fn entries_of(&self, slot: usize) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.last[slot];
        std::iter::from_fn(move || {
            let entry = (next != NONE).then_some(next)?;
            next = self.before[usize::from(entry)];
            Some(entry.into())
        })
    }
}
