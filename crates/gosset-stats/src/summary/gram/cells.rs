//! Keys with sums, in the order of the keys.

use std::collections::BTreeMap;

use crate::exact::{ExactSum, Products, SumTable, Sums};

/// Rows by their keys, which all have so many words. All keys are in one place, and so are all sums.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    words: usize,
    keys: Vec<u64>,
    sums: SumTable,
}

/// The rows of one key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell<'a> {
    pub(super) key: &'a [u64],
    sums: &'a SumTable,
    place: u32,
}

impl Cell<'_> {
    /// Rows.
    pub(crate) fn n(self) -> u64 {
        self.sums.count(self.place)
    }

    /// One of its sums, in the order of [`Sums`]: of the outcomes where the key has the values of the numbers, else of all
    /// columns.
    pub(crate) fn sum(self, index: usize) -> ExactSum {
        self.sums.sum(self.place, index)
    }

    /// All of them.
    pub(super) fn sums(self) -> Sums {
        self.sums.get(self.place)
    }

    /// Adds them to a slot of a table.
    pub(super) fn add_to(self, table: &mut SumTable, slot: u32) {
        table.merge_slot(slot, self.sums, self.place);
    }
}

impl Cells {
    /// No cells, of keys of so many words and sums of so many columns.
    pub(super) fn new(words: usize, columns: usize) -> Self {
        Self { words, keys: Vec::new(), sums: SumTable::new(columns, Products::All) }
    }

    /// The cells of keys in any order, one after the other, whose sums are at these places of a table.
    pub(super) fn sorted(words: usize, keys: &[u64], table: &SumTable, places: &[u32]) -> Self {
        let key = |i: u32| &keys[i as usize * words..][..words];
        // With the first word at hand, most comparisons look at nothing else.
        let first = |i: u32| key(i).first().copied().unwrap_or_default();
        let mut order: Vec<(u64, u32)> = (0..places.len() as u32).map(|i| (first(i), i)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))));
        let mut sorted = Vec::with_capacity(keys.len());
        order.iter().for_each(|&(_, i)| sorted.extend_from_slice(key(i)));
        let places: Vec<u32> = order.iter().map(|&(_, i)| places[i as usize]).collect();
        Self { words, keys: sorted, sums: table.select(&places) }
    }

    pub(super) fn len(&self) -> usize {
        self.sums.slots()
    }

    pub(super) fn get(&self, i: usize) -> Cell<'_> {
        let key = &self.keys[i * self.words..][..self.words];
        Cell { key, sums: &self.sums, place: i as u32 }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = Cell<'_>> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The keys, one after the other, to change them in a way that keeps their order.
    pub(super) fn keys_mut(&mut self) -> impl Iterator<Item = &mut [u64]> {
        self.keys.chunks_exact_mut(self.words.max(1))
    }

    /// Adds a cell after all others.
    pub(super) fn push(&mut self, key: &[u64], sums: &Sums) {
        let place = self.push_key(key);
        self.sums.merge(place, sums);
    }

    fn push_cell(&mut self, cell: Cell<'_>) {
        let place = self.push_key(cell.key);
        cell.add_to(&mut self.sums, place);
    }

    fn push_key(&mut self, key: &[u64]) -> u32 {
        let place = self.len();
        self.keys.extend_from_slice(key);
        self.sums.resize(place + 1);
        place as u32
    }

    /// The cells of both.
    pub(super) fn merged(&self, other: &Self) -> Self {
        let most = self.len() + other.len();
        let mut all = Self { keys: Vec::with_capacity(most * self.words), ..self.none() };
        all.sums.reserve(most);
        let (mut i, mut j) = (0, 0);
        while i < self.len() || j < other.len() {
            let (mine, theirs) = (self.at(i), other.at(j));
            let next = match (mine, theirs) {
                (Some(a), Some(b)) if b.key < a.key => theirs,
                (None, _) => theirs,
                _ => mine,
            };
            let both = mine.zip(theirs).filter(|(a, b)| a.key == b.key);
            next.into_iter().for_each(|cell| all.push_cell(cell));
            match both {
                Some((_, b)) => {
                    let last = all.len() as u32 - 1;
                    b.add_to(&mut all.sums, last);
                    (i, j) = (i + 1, j + 1);
                }
                None if mine.is_some_and(|a| theirs.is_none_or(|b| a.key < b.key)) => i += 1,
                None => j += 1,
            }
        }
        all
    }

    fn at(&self, i: usize) -> Option<Cell<'_>> {
        (i < self.len()).then(|| self.get(i))
    }

    /// No cells, of the same shape.
    fn none(&self) -> Self {
        Self { words: self.words, keys: Vec::new(), sums: self.sums.select(&[]) }
    }

    /// Cells of other keys, of so many words, that `key` writes for each cell; rows of cells whose key is the same are taken
    /// together.
    pub(super) fn by(&self, words: usize, key: impl Fn(Cell<'_>, &mut Vec<u64>)) -> Self {
        self.grouped(words, self.sums.select(&[]), key, |sums, place, cell| {
            cell.add_to(sums, place);
        })
    }

    /// The same with other sums: those that `sums` makes of a cell, of so many columns.
    pub(super) fn by_with(
        &self,
        (words, columns): (usize, usize),
        key: impl Fn(Cell<'_>, &mut Vec<u64>),
        sums: impl Fn(Cell<'_>) -> Sums,
    ) -> Self {
        self.grouped(words, SumTable::new(columns, Products::All), key, |table, place, cell| {
            table.merge(place, &sums(cell));
        })
    }

    fn grouped(
        &self,
        words: usize,
        mut table: SumTable,
        key: impl Fn(Cell<'_>, &mut Vec<u64>),
        add: impl Fn(&mut SumTable, u32, Cell<'_>),
    ) -> Self {
        let mut places: BTreeMap<Vec<u64>, u32> = BTreeMap::new();
        let mut of_cell = Vec::with_capacity(words);
        for cell in self.iter() {
            of_cell.clear();
            key(cell, &mut of_cell);
            let place = places.get(&of_cell[..]).copied().unwrap_or_else(|| {
                let place = places.len() as u32;
                places.insert(of_cell.clone(), place);
                table.resize(places.len());
                place
            });
            add(&mut table, place, cell);
        }
        let keys = places.keys().flatten().copied().collect();
        let places: Vec<u32> = places.into_values().collect();
        Self { words, keys, sums: table.select(&places) }
    }

    /// Bytes held on the heap.
    pub(super) fn heap_size(&self) -> usize {
        self.keys.capacity() * size_of::<u64>() + self.sums.size() - size_of::<SumTable>()
    }
}

/// Equality of values: sums have their layouts from the way they were made.
impl PartialEq for Cells {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
            && self.len() == other.len()
            && self.iter().zip(other.iter()).all(|(a, b)| a.sums() == b.sums())
    }
}
