//! Sixty-four rows at a time into lanes.
//!
//! These are plain loops over arrays that a compiler turns into vector code. They are compiled twice: for the target at
//! large, and for the vector units of x86-64 in `avx2`. Both are exact, so they cannot differ.

use super::format::{ColumnGrid, Format, Mode, ProductGrid, ROWS_PER_FLUSH};

/// Rows of a chunk.
pub(super) const ROWS: usize = 64;

/// One number of every row of a chunk.
pub(super) type Rows<T> = [T; ROWS];

/// What tells whether the rows of a chunk fit.
#[derive(Clone, Copy, Default)]
struct Misfit {
    /// Bits of what is left below the last lane. The sign says nothing: `-0.0` is nothing left.
    residue: u64,
    /// Negative if a magnitude is at the limit or above, as NaN is too.
    excess: i64,
}

impl Misfit {
    #[inline(always)]
    fn column(&mut self, x: f64, limit: i64) {
        self.excess |= (limit - 1) - (x.to_bits() & (u64::MAX >> 1)) as i64;
    }

    #[inline(always)]
    fn left(&mut self, rest: f64) {
        self.residue |= rest.to_bits();
    }

    #[inline(always)]
    fn and(&mut self, other: Self) {
        self.residue |= other.residue;
        self.excess |= other.excess;
    }

    #[inline(always)]
    fn is(self) -> bool {
        (self.residue << 1 != 0) | (self.excess < 0)
    }
}

/// The multiple of the grid of `magic` nearest to `x`, and the rest.
#[inline(always)]
fn limb(x: f64, magic: f64) -> (i64, f64) {
    let rounded = x + magic;
    (rounded.to_bits().wrapping_sub(magic.to_bits()) as i64, x - (rounded - magic))
}

/// The product, and its rounding error: exact unless a part of it leaves the range of normal doubles.
#[inline(always)]
fn two_product<const FMA: bool>(x: f64, y: f64) -> (f64, f64) {
    let product = x * y;
    if FMA {
        return (product, x.mul_add(y, -product));
    }
    // Dekker (1971): the halves have 26 bits, so that all of their products are exact.
    let halves = |x: f64| {
        let scaled = 134_217_729.0 * x;
        let upper = scaled - (scaled - x);
        (upper, x - upper)
    };
    let ((a, b), (c, d)) = (halves(x), halves(y));
    (product, ((a * c - product) + a * d + b * c) + b * d)
}

#[inline(always)]
fn narrow_column(x: f64, grid: &ColumnGrid, misfit: &mut Misfit) -> [i64; 1] {
    let (lane, rest) = limb(x, grid.magics[0]);
    misfit.column(x, grid.limit);
    misfit.left(rest);
    [lane]
}

#[inline(always)]
fn wide_column(x: f64, grid: &ColumnGrid, misfit: &mut Misfit) -> [i64; 2] {
    let (hi, rest) = limb(x, grid.magics[0]);
    let (lo, rest) = limb(rest, grid.magics[1]);
    misfit.column(x, grid.limit);
    misfit.left(rest);
    [hi, lo]
}

/// Factors that fit have products that do.
#[inline(always)]
fn narrow_product<const FMA: bool>(x: f64, y: f64, grid: &ProductGrid) -> [i64; 1] {
    let magic = grid.magics[0];
    let rounded = if FMA { x.mul_add(y, magic) } else { x * y + magic };
    [rounded.to_bits().wrapping_sub(magic.to_bits()) as i64]
}

#[inline(always)]
fn wide_product<const FMA: bool>(
    x: f64,
    y: f64,
    grid: &ProductGrid,
    misfit: &mut Misfit,
) -> [i64; 3] {
    let [upper, middle, lower] = grid.magics;
    let (product, error) = two_product::<FMA>(x, y);
    let (hi, rest) = limb(product, upper);
    let (mid, left) = limb(rest, middle);
    let (more, rest) = limb(error, middle);
    let (lo, rest) = limb(rest, lower);
    misfit.left(left);
    misfit.left(rest);
    [hi, mid.wrapping_add(more), lo]
}

/// Sixty-four rows of a column.
#[inline(always)]
fn rows<'a>(columns: &[&'a [f64]], column: usize, start: usize) -> &'a Rows<f64> {
    columns[column][start..].first_chunk().expect("a chunk has all of its rows")
}

/// What becomes of the lanes of the rows of a chunk.
pub(super) trait Sink {
    /// What is made of one lane.
    type Lane;
    /// Takes the lanes `f(row)` of one sum.
    fn put<const N: usize>(out: &mut [Self::Lane], f: impl FnMut(usize) -> [i64; N]);
}

/// They are added up. Garbage of misfits may wrap.
pub(super) struct Total;

impl Sink for Total {
    type Lane = i64;

    #[inline(always)]
    fn put<const N: usize>(out: &mut [i64], mut f: impl FnMut(usize) -> [i64; N]) {
        let mut total = [0i64; N];
        for r in 0..ROWS {
            let lanes = f(r);
            for (total, lane) in total.iter_mut().zip(lanes) {
                *total = total.wrapping_add(lane);
            }
        }
        out.copy_from_slice(&total);
    }
}

/// They are kept row by row.
pub(super) struct Spread;

impl Sink for Spread {
    type Lane = Rows<i64>;

    #[inline(always)]
    fn put<const N: usize>(out: &mut [Rows<i64>], mut f: impl FnMut(usize) -> [i64; N]) {
        let out: &mut [Rows<i64>; N] = out.try_into().expect("the lanes of one sum");
        for r in 0..ROWS {
            let lanes = f(r);
            for (out, lane) in out.iter_mut().zip(lanes) {
                out[r] = lane;
            }
        }
    }
}

/// The lanes of a chunk, without that of the count. `false` if a row is a misfit: then its lanes are wrong.
#[inline(always)]
pub(super) fn chunk<S: Sink, const FMA: bool>(
    format: &Format,
    columns: &[&[f64]],
    start: usize,
    out: &mut [S::Lane],
) -> bool {
    let mut all = Misfit::default();
    let row = |column| rows(columns, column, start);
    let (column_lanes, product_lanes) = format.lanes_per_sum();
    let (of_columns, of_products) = out.split_at_mut(column_lanes * format.columns.len());
    let of_columns = format.columns.iter().zip(of_columns.chunks_exact_mut(column_lanes));
    let of_products = format.products.iter().zip(of_products.chunks_exact_mut(product_lanes));
    for (c, (grid, out)) in of_columns.enumerate() {
        let (x, mut misfit) = (row(c), Misfit::default());
        match format.mode {
            Mode::Narrow => S::put(out, |r| narrow_column(x[r], grid, &mut misfit)),
            Mode::Wide => S::put(out, |r| wide_column(x[r], grid, &mut misfit)),
        }
        all.and(misfit);
    }
    for (grid, out) in of_products {
        let (x, y, mut misfit) = (row(grid.i), row(grid.j), Misfit::default());
        match format.mode {
            Mode::Narrow => S::put(out, |r| narrow_product::<FMA>(x[r], y[r], grid)),
            Mode::Wide => S::put(out, |r| wide_product::<FMA>(x[r], y[r], grid, &mut misfit)),
        }
        all.and(misfit);
    }
    !all.is()
}

/// For every sum the rows of a chunk that are misfits to it, as a set. A product has those of its factors, too: its
/// lanes rely on factors that fit.
#[inline(always)]
pub(super) fn misfits<const FMA: bool>(
    format: &Format,
    columns: &[&[f64]],
    start: usize,
    out: &mut [u64],
) {
    let row = |column| rows(columns, column, start);
    let (of_columns, of_products) = out.split_at_mut(format.columns.len());
    for (c, (grid, out)) in format.columns.iter().zip(of_columns.iter_mut()).enumerate() {
        let x = row(c);
        *out = match format.mode {
            Mode::Narrow => set_of(|r, misfit| _ = narrow_column(x[r], grid, misfit)),
            Mode::Wide => set_of(|r, misfit| _ = wide_column(x[r], grid, misfit)),
        };
    }
    for (grid, out) in format.products.iter().zip(of_products) {
        let (x, y) = (row(grid.i), row(grid.j));
        let own = match format.mode {
            Mode::Narrow => 0,
            Mode::Wide => set_of(|r, misfit| _ = wide_product::<FMA>(x[r], y[r], grid, misfit)),
        };
        *out = own | of_columns[grid.i] | of_columns[grid.j];
    }
}

/// The rows that `f` finds to be misfits.
#[inline(always)]
fn set_of(mut f: impl FnMut(usize, &mut Misfit)) -> u64 {
    let mut flags = [0u8; ROWS];
    for (r, flag) in flags.iter_mut().enumerate() {
        let mut misfit = Misfit::default();
        f(r, &mut misfit);
        *flag = misfit.is().into();
    }
    // The product brings the lowest bits of eight bytes together in the highest byte.
    let eights = flags
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&eight| u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56);
    eights.rev().fold(0, |set, eight| set << 8 | eight)
}

/// Adds the lanes of every row, that of the count too, to the row's slot. Whether the count of a slot was a multiple
/// of [`ROWS_PER_FLUSH`] on the way.
#[inline(always)]
pub(super) fn scatter(
    lanes: &[Rows<i64>],
    slots: &[u32],
    stride: usize,
    table: &mut [i64],
) -> bool {
    match lanes {
        [a, b] => scatter_few([a, b], slots, table),
        [a, b, c] => scatter_few([a, b, c], slots, table),
        _ => {
            let mut full = false;
            for (r, &slot) in slots.iter().enumerate() {
                let slot = &mut table[slot as usize * stride..][..lanes.len()];
                for (sum, lane) in slot.iter_mut().zip(lanes) {
                    *sum = sum.wrapping_add(lane[r]);
                }
                full |= is_full(slot[0]);
            }
            full
        }
    }
}

/// The same for slots that are not padded.
#[inline(always)]
fn scatter_few<const N: usize>(lanes: [&Rows<i64>; N], slots: &[u32], table: &mut [i64]) -> bool {
    let table = table.as_chunks_mut::<N>().0;
    let mut full = false;
    for (r, &slot) in slots.iter().enumerate() {
        let slot = &mut table[slot as usize];
        for (sum, lane) in slot.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(lane[r]);
        }
        full |= is_full(slot[0]);
    }
    full
}

#[inline(always)]
pub(super) fn is_full(count: i64) -> bool {
    (count as u64).is_multiple_of(ROWS_PER_FLUSH)
}
