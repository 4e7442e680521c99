//! Exact sums of the columns of many groups.

use super::ExactSum;

/// Which products of columns a table sums beside the columns themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// None: only `Σx_i`.
    None,
    /// All `Σx_i·x_j` with `i ≤ j`.
    All,
}

/// The sums of one slot of a table: row count, then `Σx_i`, then (if asked) `Σx_i·x_j` for `i ≤ j`, row by row of the
/// upper triangle.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sums {
    /// Number of rows.
    pub n: u64,
    /// The sums in the order given above.
    pub sums: Vec<ExactSum>,
}

impl Sums {
    /// Zero rows of `columns` columns.
    pub fn new(columns: usize, products: Products) -> Self {
        Self { n: 0, sums: vec![ExactSum::new(); products.sums(columns)] }
    }

    /// Bytes held on the heap.
    pub fn heap_size(&self) -> usize {
        let inner: usize = self.sums.iter().map(ExactSum::heap_size).sum();
        self.sums.capacity() * size_of::<ExactSum>() + inner
    }

    /// Adds the rows of another slot of the same shape.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        for (mine, theirs) in self.sums.iter_mut().zip(&other.sums) {
            mine.merge(theirs);
        }
    }

    fn add_row(&mut self, products: Products, row: impl Fn(usize) -> f64, columns: usize) {
        self.n += 1;
        for i in 0..columns {
            self.sums[i].add(row(i));
        }
        if products == Products::All {
            let mut k = columns;
            for i in 0..columns {
                for j in i..columns {
                    self.sums[k].add_product(row(i), row(j));
                    k += 1;
                }
            }
        }
    }
}

impl Products {
    /// How many sums a slot of `columns` columns has.
    pub fn sums(self, columns: usize) -> usize {
        match self {
            Self::None => columns,
            Self::All => columns + columns * (columns + 1) / 2,
        }
    }
}

/// The exact sums of many slots (one slot is one group, or one arm of one group, or one bucket of it), fed a batch at a
/// time.
#[derive(Debug, Clone)]
pub struct SumTable {
    columns: usize,
    products: Products,
    slots: Vec<Sums>,
}

impl SumTable {
    /// A table without slots.
    pub fn new(columns: usize, products: Products) -> Self {
        Self { columns, products, slots: Vec::new() }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Makes it `slots` slots; new ones are empty, and slots beyond are dropped.
    pub fn resize(&mut self, slots: usize) {
        self.slots.resize_with(slots, || Sums::new(self.columns, self.products));
    }

    /// Adds row `r` of every column to slot `slots[r]`.
    ///
    /// # Panics
    /// If a slot does not exist or the columns are not of the length of `slots`.
    pub fn add(&mut self, slots: &[u32], columns: &[&[f64]]) {
        assert_eq!(columns.len(), self.columns);
        for (r, &slot) in slots.iter().enumerate() {
            self.slots[slot as usize].add_row(self.products, |c| columns[c][r], self.columns);
        }
    }

    /// Adds all rows to one slot.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn add_all(&mut self, slot: u32, columns: &[&[f64]]) {
        assert_eq!(columns.len(), self.columns);
        let rows = columns.first().map_or(0, |c| c.len());
        let sums = &mut self.slots[slot as usize];
        for r in 0..rows {
            sums.add_row(self.products, |c| columns[c][r], self.columns);
        }
    }

    /// Adds sums of the same shape to a slot.
    pub fn merge(&mut self, slot: u32, sums: &Sums) {
        self.slots[slot as usize].merge(sums);
    }

    /// The rows of a slot so far.
    pub fn count(&self, slot: u32) -> u64 {
        self.slots[slot as usize].n
    }

    /// The sums of a slot.
    pub fn get(&self, slot: u32) -> Sums {
        self.slots[slot as usize].clone()
    }

    /// Empties a slot.
    pub fn clear(&mut self, slot: u32) {
        self.slots[slot as usize] = Sums::new(self.columns, self.products);
    }

    /// Removes the first `n` slots; the others move down.
    pub fn drop_first(&mut self, n: usize) {
        self.slots.drain(..n);
    }

    /// Bytes held, with this struct.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.slots.capacity() * size_of::<Sums>()
            + self
                .slots
                .iter()
                .flat_map(|s| &s.sums)
                .map(|s| size_of::<ExactSum>() + s.heap_size())
                .sum::<usize>()
    }
}
