//! Exact sums of the columns of many groups.

use super::dispatch::Kernel;
use super::fit::{Fit, sample};
use super::format::{Extent, Format, ProductGrid, ROWS_PER_FLUSH};
use super::kernel::{ROWS, Rows, Spread, Total};
use super::side::Side;
use super::sum::ExactSum;

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
///
/// A slot is a few integer lanes in one array: 16 to 24 bytes for one column without products. The values that do not
/// fit the lanes go to a side store of [`ExactSum`]s, which is slower and never wrong. If many do not fit, a better format
/// is chosen and the lanes are converted.
#[derive(Debug, Clone)]
pub struct SumTable {
    products: Products,
    format: Format,
    kernel: Kernel,
    slots: usize,
    /// `format.stride()` lanes per slot. A lane is no more than the rows since the slot's count last passed a multiple
    /// of [`ROWS_PER_FLUSH`] can have made it.
    lanes: Vec<i64>,
    side: Side,
    fit: Fit,
    scratch: Scratch,
}

/// Slots of tables of more bytes than this are asked for ahead of their rows: they are not in a cache.
const CACHED: usize = 1 << 20;

/// Room that is used again for every batch.
#[derive(Debug, Clone, Default)]
struct Scratch {
    /// The lanes of a chunk by row, with those of the count and the padding.
    spread: Vec<Rows<i64>>,
    /// The totals of the lanes of a chunk.
    total: Vec<i64>,
    /// The misfits of a chunk by sum.
    misfits: Vec<u64>,
    /// Columns of a chunk that is short, with zeros at the end.
    rows: Vec<Rows<f64>>,
}

impl Scratch {
    fn heap_size(&self) -> usize {
        self.spread.capacity() * size_of::<Rows<i64>>()
            + self.total.capacity() * size_of::<i64>()
            + self.misfits.capacity() * size_of::<u64>()
            + self.rows.capacity() * size_of::<Rows<f64>>()
    }
}

impl SumTable {
    /// A table without slots.
    pub fn new(columns: usize, products: Products) -> Self {
        Self::with_kernel(columns, products, Kernel::detect())
    }

    pub(super) fn with_kernel(columns: usize, products: Products, kernel: Kernel) -> Self {
        Self {
            products,
            format: Format::initial(columns, products),
            kernel,
            slots: 0,
            lanes: Vec::new(),
            side: Side::default(),
            fit: Fit::new(),
            scratch: Scratch::default(),
        }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.format.columns.len()
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Makes it `slots` slots; new ones are empty, and slots beyond are dropped.
    pub fn resize(&mut self, slots: usize) {
        if slots < self.slots {
            self.side.truncate(slots);
        }
        self.lanes.resize(slots * self.format.stride(), 0);
        self.slots = slots;
    }

    /// Makes room for so many slots more.
    pub fn reserve(&mut self, slots: usize) {
        self.lanes.reserve_exact(slots * self.format.stride());
    }

    /// The slots at these places, in this order, as a table of its own.
    pub fn select(&self, places: &[u32]) -> Self {
        let mut table = Self {
            products: self.products,
            format: self.format.clone(),
            kernel: self.kernel,
            slots: places.len(),
            lanes: Vec::with_capacity(places.len() * self.format.stride()),
            side: Side::default(),
            fit: self.fit.clone(),
            scratch: Scratch::default(),
        };
        for (slot, &place) in places.iter().enumerate() {
            table.lanes.extend_from_slice(self.slot(place));
            if let Some(more) = self.side.get(place) {
                table.side.change(slot as u32, more.len(), |sums| sums.clone_from_slice(more));
            }
        }
        table
    }

    /// Adds row `r` of every column to slot `slots[r]`.
    ///
    /// # Panics
    /// If a slot does not exist or the columns are not of the length of `slots`.
    pub fn add(&mut self, slots: &[u32], columns: &[&[f64]]) {
        assert_eq!(columns.len(), self.columns());
        assert!(columns.iter().all(|c| c.len() == slots.len()), "a column has another length");
        if slots.is_empty() {
            return;
        }
        // Not `max`, whose ties take a branch that random slots mislead.
        let largest = slots.iter().fold(0, |largest, &slot| largest.max(slot));
        assert!((largest as usize) < self.slots, "slot {largest} does not exist");
        self.suit(columns);
        self.prepare_spread();
        let (chunks, rest) = slots.as_chunks::<ROWS>();
        let large = size_of_val(&self.lanes[..]) > CACHED;
        for (k, slots) in chunks.iter().enumerate() {
            if large && let Some(next) = chunks.get(k + 1) {
                self.kernel.prefetch(next, self.format.stride(), &self.lanes);
            }
            self.add_chunk(slots, columns, k * ROWS);
        }
        if !rest.is_empty() {
            self.with_padded(columns, chunks.len() * ROWS, |table, columns| {
                table.add_chunk(rest, columns, 0);
            });
        }
    }

    /// Adds all rows to one slot.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn add_all(&mut self, slot: u32, columns: &[&[f64]]) {
        assert_eq!(columns.len(), self.columns());
        assert!((slot as usize) < self.slots, "slot {slot} does not exist");
        let rows = columns.first().map_or(0, |c| c.len());
        assert!(columns.iter().all(|c| c.len() == rows), "a column has another length");
        self.suit(columns);
        let whole = rows / ROWS * ROWS;
        for start in (0..whole).step_by(ROWS) {
            self.add_chunk_to(slot, columns, start, ROWS);
        }
        if whole < rows {
            self.with_padded(columns, whole, |table, columns| {
                table.add_chunk_to(slot, columns, 0, rows - whole);
            });
        }
    }

    /// Adds sums of the same shape to a slot.
    pub fn merge(&mut self, slot: u32, sums: &Sums) {
        self.merge_parts(slot, sums.n, &sums.sums);
    }

    /// Adds a slot of another table of the same shape to a slot.
    pub fn merge_slot(&mut self, slot: u32, other: &Self, from: u32) {
        let n = other.count(from);
        if self.format.is(&other.format) && other.side.get(from).is_none() {
            let stride = self.format.stride();
            let lanes = &mut self.lanes[slot as usize * stride..][..stride];
            let rows = lanes[0] as u64 % ROWS_PER_FLUSH;
            if rows.saturating_add(n) < ROWS_PER_FLUSH {
                lanes.iter_mut().zip(other.slot(from)).for_each(|(lane, more)| *lane += more);
                return;
            }
        }
        self.merge(slot, &other.get(from));
    }

    /// Adds `n` rows with these sums, in the order of [`Sums`], to a slot.
    pub fn merge_parts(&mut self, slot: u32, n: u64, sums: &[ExactSum]) {
        self.fit.merging(n, sums, self.columns());
        if self.fit.is_bad() {
            let extents = self.fit.merged.clone();
            self.choose(&extents);
        }
        let stride = self.format.stride();
        let lanes = &mut self.lanes[slot as usize * stride..][..stride];
        let rows = lanes[0] as u64 % ROWS_PER_FLUSH;
        lanes[0] = (lanes[0] as u64).wrapping_add(n) as i64;
        let within = rows.saturating_add(n) < ROWS_PER_FLUSH;
        if !within {
            self.flush(slot);
        }
        let mut left = false;
        for (k, sum) in sums.iter().enumerate() {
            let value = sum.to_i256().filter(|_| within && sum.is_finite());
            let lanes = &mut self.lanes[slot as usize * stride..][..stride];
            if !value.is_some_and(|value| self.format.add(lanes, k, value, n)) {
                left |= within;
                self.side.change(slot, self.format.sums(), |mine| mine[k].merge(sum));
            }
        }
        self.fit.missed += u64::from(left);
    }

    /// The rows of a slot so far.
    #[inline]
    pub fn count(&self, slot: u32) -> u64 {
        self.slot(slot)[0] as u64
    }

    /// One of the sums of a slot, in the order of [`Sums`].
    pub fn sum(&self, slot: u32, index: usize) -> ExactSum {
        let mut sum = self.format.read(self.slot(slot), index);
        if let Some(more) = self.side.get(slot) {
            sum.merge(&more[index]);
        }
        sum
    }

    /// [`sum`](Self::sum) rounded once to the nearest double, in less time.
    pub fn sum_f64(&self, slot: u32, index: usize) -> f64 {
        match self.side.get(slot) {
            None => self.format.read_f64(self.slot(slot), index),
            Some(_) => self.sum(slot, index).to_f64(),
        }
    }

    /// The sums of a slot.
    pub fn get(&self, slot: u32) -> Sums {
        let sums = (0..self.format.sums()).map(|k| self.sum(slot, k)).collect();
        Sums { n: self.count(slot), sums }
    }

    /// What the lanes of a slot have of the sum of a column, in units of a power of two that all slots have in common.
    #[inline]
    pub(crate) fn integer(&self, slot: u32, column: usize) -> i128 {
        self.format.integer(self.slot(slot), column)
    }

    /// By column these [integers](Self::integer) of some slots, of no more than 112 bits.
    pub(crate) fn integers(&self, slots: &[u32], out: &mut [Vec<i128>]) {
        self.format.integers(slots.iter().map(|&slot| self.slot(slot)), out);
    }

    /// The exponent of their units.
    pub(crate) fn exponent(&self, column: usize) -> i32 {
        self.format.exponent(column)
    }

    /// Whether the lanes of a slot do not have all of its sums.
    #[inline]
    pub(crate) fn is_beside(&self, slot: u32) -> bool {
        self.side.get(slot).is_some()
    }

    /// Empties a slot.
    pub fn clear(&mut self, slot: u32) {
        let stride = self.format.stride();
        self.lanes[slot as usize * stride..][..stride].fill(0);
        self.side.remove(slot);
    }

    /// Removes the first `n` slots; the others move down.
    pub fn drop_first(&mut self, n: usize) {
        self.lanes.drain(..n * self.format.stride());
        self.side.drop_first(n);
        self.slots -= n;
    }

    /// Bytes held, with this struct.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.lanes.capacity() * size_of::<i64>()
            + self.format.heap_size()
            + self.side.heap_size()
            + self.fit.heap_size()
            + self.scratch.heap_size()
    }

    /// Rows that did not fit, since the format was chosen.
    #[cfg(test)]
    pub(super) fn missed(&self) -> u64 {
        self.fit.missed
    }

    #[inline]
    fn slot(&self, slot: u32) -> &[i64] {
        let stride = self.format.stride();
        &self.lanes[slot as usize * stride..][..stride]
    }

    /// Adds a chunk, of which `slots` says how many rows count; the others are zero.
    fn add_chunk(&mut self, slots: &[u32], columns: &[&[f64]], start: usize) {
        self.spread(slots, columns, start);
        let (spread, stride) = (&self.scratch.spread, self.format.stride());
        if self.kernel.scatter(spread, slots, stride, &mut self.lanes) {
            let passed = |&slot: &u32| {
                let rows = self.count(slot);
                rows >= ROWS_PER_FLUSH && rows % ROWS_PER_FLUSH < ROWS as u64
            };
            let full: Vec<u32> = slots.iter().copied().filter(passed).collect();
            full.into_iter().for_each(|slot| self.flush(slot));
        }
    }

    /// Adds a chunk of which `rows` rows count to one slot; the others are zero.
    fn add_chunk_to(&mut self, slot: u32, columns: &[&[f64]], start: usize, rows: usize) {
        let (lanes, stride) = (self.format.lanes(), self.format.stride());
        self.scratch.total.resize(lanes, 0);
        let total = &mut self.scratch.total[1..];
        if !self.kernel.chunk::<Total>(&self.format, columns, start, total) {
            self.prepare_spread();
            self.spread(&[slot; ROWS], columns, start);
            let spread = self.scratch.spread[1..lanes].iter();
            for (total, lane) in self.scratch.total[1..].iter_mut().zip(spread) {
                *total = lane.iter().sum();
            }
        }
        self.scratch.total[0] = rows as i64;
        let sums = &mut self.lanes[slot as usize * stride..][..lanes];
        let before = sums[0] as u64 / ROWS_PER_FLUSH;
        for (sum, lane) in sums.iter_mut().zip(&self.scratch.total) {
            *sum = sum.wrapping_add(*lane);
        }
        if sums[0] as u64 / ROWS_PER_FLUSH != before {
            self.flush(slot);
        }
    }

    /// Brings the lanes of the rows of a chunk into `scratch.spread`, but for what is a misfit, which is added aside.
    fn spread(&mut self, slots: &[u32], columns: &[&[f64]], start: usize) {
        let out = &mut self.scratch.spread[1..self.format.lanes()];
        if !self.kernel.chunk::<Spread>(&self.format, columns, start, out) {
            self.set_aside(slots, columns, start);
        }
    }

    /// Takes the misfits out of `scratch.spread` and adds them to the sums at the side. Their rows are counted with the
    /// others all the same.
    #[cold]
    fn set_aside(&mut self, slots: &[u32], columns: &[&[f64]], start: usize) {
        let (format, misfits) = (&self.format, &mut self.scratch.misfits);
        misfits.resize(format.sums(), 0);
        self.kernel.misfits(format, columns, start, misfits);
        for (k, &rows) in misfits.iter().enumerate().filter(|(_, rows)| **rows != 0) {
            for lane in &mut self.scratch.spread[format.lanes_of(k)] {
                set(rows).for_each(|r| lane[r] = 0);
            }
        }
        for r in set(misfits.iter().fold(0, |all, rows| all | rows)) {
            self.fit.missed += 1;
            self.side.change(slots[r], format.sums(), |sums| {
                let misfits = misfits.iter().enumerate().filter(|(_, rows)| **rows >> r & 1 == 1);
                for (k, _) in misfits {
                    match k.checked_sub(columns.len()) {
                        None => sums[k].add(columns[k][start + r]),
                        Some(product) => {
                            let ProductGrid { i, j, .. } = format.products[product];
                            sums[k].add_product(columns[i][start + r], columns[j][start + r]);
                        }
                    }
                }
            });
        }
    }

    /// Moves the sums of a slot from the lanes to the side.
    #[cold]
    pub(super) fn flush(&mut self, slot: u32) {
        let (format, stride) = (&self.format, self.format.stride());
        let lanes = &mut self.lanes[slot as usize * stride..][..stride];
        self.side.change(slot, format.sums(), |sums| {
            for (k, sum) in sums.iter_mut().enumerate() {
                sum.merge(&format.read(lanes, k));
            }
        });
        lanes[1..].fill(0);
    }

    /// Runs `f` on a chunk of the last rows, with zeros after them.
    fn with_padded(
        &mut self,
        columns: &[&[f64]],
        start: usize,
        f: impl FnOnce(&mut Self, &[&[f64]]),
    ) {
        let mut padded = std::mem::take(&mut self.scratch.rows);
        padded.clear();
        padded.extend(columns.iter().map(|column| {
            let mut rows = [0.0; ROWS];
            rows[..column.len() - start].copy_from_slice(&column[start..]);
            rows
        }));
        let rows: Vec<&[f64]> = padded.iter().map(Rows::as_slice).collect();
        f(self, &rows);
        self.scratch.rows = padded;
    }

    /// The lanes of a chunk that are the same for every chunk: a count of one, and padding.
    fn prepare_spread(&mut self) {
        let stride = self.format.stride();
        if self.scratch.spread.len() != stride {
            self.scratch.spread = vec![[0; ROWS]; stride];
            self.scratch.spread[0] = [1; ROWS];
        }
    }

    /// Chooses a format before rows are added, if there is none or it has proved bad.
    fn suit(&mut self, columns: &[&[f64]]) {
        let rows = columns.first().map_or(0, |c| c.len());
        if rows > 0 && (!self.fit.chosen || self.fit.is_bad()) {
            self.choose(&sample(columns));
        }
        self.fit.seen += rows as u64;
    }

    /// Chooses the format for values of these extents and converts the lanes to it.
    #[cold]
    pub(super) fn choose(&mut self, extents: &[Vec<Extent>]) {
        self.fit.chose();
        self.set_format(self.format.choose(extents, self.products));
    }

    /// Converts the lanes to another format; what does not fit that goes to the side.
    pub(super) fn set_format(&mut self, new: Format) {
        self.fit.chosen = true;
        if new.is(&self.format) {
            return;
        }
        let (old_stride, stride) = (self.format.stride(), new.stride());
        let mut lanes = Vec::with_capacity(self.lanes.capacity() / old_stride * stride);
        lanes.resize(self.slots * stride, 0);
        let slots = self.lanes.chunks_exact(old_stride).zip(lanes.chunks_exact_mut(stride));
        for (slot, (old, lanes)) in slots.enumerate() {
            lanes[0] = old[0];
            if old[1..].iter().all(|&lane| lane == 0) {
                continue;
            }
            let rows = old[0] as u64 % ROWS_PER_FLUSH;
            for k in 0..new.sums() {
                let sum = self.format.read(old, k);
                if !sum.to_i256().is_some_and(|value| new.add(lanes, k, value, rows)) {
                    self.side.change(slot as u32, new.sums(), |sums| sums[k].merge(&sum));
                }
            }
        }
        (self.lanes, self.format) = (lanes, new);
        self.scratch = Scratch::default();
    }
}

/// The members of a set of rows.
fn set(mut rows: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let row = rows.trailing_zeros();
        rows &= rows.wrapping_sub(1);
        (row < 64).then_some(row as usize)
    })
}
