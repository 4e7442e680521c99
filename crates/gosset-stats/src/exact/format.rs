//! How the sums of one slot are laid out in integer lanes.
//!
//! A lane is an `i64` that counts units of some power of two. Adding `M = 1.5·2^(52+g)` to a double `x` with
//! `|x| < 2^(g+51)` rounds it to a multiple of `2^g` *and* leaves that multiple in the low bits of the result, so one
//! floating-point and one integer addition put the upper part of `x` into a lane of unit `2^g`; the rest of `x`, which
//! is exact, goes to the next lane in the same way. Whatever is left after the last lane is the residue: a row whose
//! residues are all zero has been added exactly, and any other is a *misfit* that must go elsewhere.
//!
//! In the **narrow** mode there is one lane per sum, for integers and short dyadic fractions. In the **wide** mode there
//! are two for `Σx` and three for `Σx·y`, for any doubles of not too different magnitudes. Any choice of mode and grid
//! gives the same sums; a good one has few misfits.

use std::ops::Range;

use super::int256::I256;
use super::sum::{ExactSum, power_of_two, round_scaled};
use super::table::Products;

/// One row adds at most `2^ROW_BITS` to a lane, and a little to the middle one of a product.
const ROW_BITS: u32 = 47;

/// A slot is emptied each time its count passes a multiple of this: `2^15` rows of `2^47` each leave a lane a bit to
/// spare.
pub(super) const ROWS_PER_FLUSH: u64 = 1 << 15;

/// The distance of the units of neighbouring lanes: a remainder is at most half of the unit above.
const LANE_BITS: i32 = ROW_BITS as i32 + 1;

/// Multiples of the grid below this, where products are asked for: those then fit a double, and a lane.
const NARROW_BITS: i32 = 23;

/// Windows and grids beyond would let products or their rounding errors leave the range of doubles.
const EXTREME: i32 = 380;

/// How many lanes a sum takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Narrow,
    Wide,
}

/// The magic numbers of one column.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnGrid {
    /// The bits of the least magnitude that does not fit.
    pub(super) limit: i64,
    pub(super) magics: [f64; 2],
}

/// The magic numbers of the product of two columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProductGrid {
    pub(super) i: usize,
    pub(super) j: usize,
    pub(super) magics: [f64; 3],
}

/// The layout of a slot: the lane of the row count, then the lanes of every sum, from the upper to the lower.
#[derive(Debug, Clone)]
pub(super) struct Format {
    pub(super) mode: Mode,
    /// Per column the exponent of the grid (narrow) or of the window (wide, `|x| < 2^t`).
    exponents: Vec<i32>,
    pub(super) columns: Vec<ColumnGrid>,
    pub(super) products: Vec<ProductGrid>,
}

/// What is in the lanes of a sum.
enum Lanes {
    /// `value · 2^exponent`.
    One(i128, i32),
    /// `upper · 2^(exponent + LANE_BITS) + lower · 2^exponent`.
    Two(i128, i128, i32),
}

/// The binary extent of a value: it is an odd multiple of `2^low`, and below `2^top` in magnitude.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    low: i16,
    top: i16,
}

impl Extent {
    /// Of a double that is finite and not zero.
    pub(super) fn of(x: f64) -> Option<Self> {
        if !x.is_finite() || x == 0.0 {
            return None;
        }
        let (mantissa, exponent) = super::sum::split(x);
        Some(Self::of_integer(I256::new(mantissa.into()), exponent))
    }

    /// Of the typical one of `rows` values that have this sum.
    pub(super) fn of_sum(sum: &ExactSum, rows: u64) -> Option<Self> {
        let (integer, exponent) = sum.to_i256().filter(|(integer, _)| !integer.is_zero())?;
        let mut extent = Self::of_integer(integer, exponent);
        extent.top = extent.top.saturating_sub(rows.max(1).ilog2() as i16);
        extent.low = extent.low.min(extent.top);
        Some(extent)
    }

    fn of_integer(integer: I256, exponent: i32) -> Self {
        let place = |bits: u32| (exponent + bits as i32).clamp(-10_000, 10_000) as i16;
        Self { low: place(integer.trailing_zeros()), top: place(integer.bits()) }
    }
}

impl Format {
    pub(super) fn new(mode: Mode, exponents: Vec<i32>, products: Products) -> Self {
        let columns = exponents.iter().map(|&e| ColumnGrid::new(mode, e, products)).collect();
        let n = if products == Products::All { exponents.len() } else { 0 };
        let products = (0..n)
            .flat_map(|i| (i..n).map(move |j| (i, j)))
            .map(|(i, j)| ProductGrid::new(mode, (i, j), exponents[i] + exponents[j]))
            .collect();
        Self { mode, exponents, columns, products }
    }

    /// The format of a table that has seen nothing: small integers.
    pub(super) fn initial(columns: usize, products: Products) -> Self {
        Self::new(Mode::Narrow, vec![0; columns], products)
    }

    /// The format for values of these extents, per column. A mode is never left for a narrower one.
    pub(super) fn choose(&self, extents: &[Vec<Extent>], products: Products) -> Self {
        let grids: Option<Vec<i32>> = match self.mode {
            Mode::Narrow => extents.iter().map(|e| grid_of(e, products)).collect(),
            Mode::Wide => None,
        };
        match grids {
            Some(grids) => Self::new(Mode::Narrow, grids, products),
            None => {
                let old = self.exponents.iter().map(|&e| match self.mode {
                    Mode::Narrow => (e + narrow_bits(products)).clamp(-EXTREME, EXTREME),
                    Mode::Wide => e,
                });
                let windows = extents.iter().zip(old).map(|(e, old)| window_of(e).unwrap_or(old));
                Self::new(Mode::Wide, windows.collect(), products)
            }
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.mode == other.mode && self.exponents == other.exponents
    }

    /// Lanes of a slot that are used.
    pub(super) fn lanes(&self) -> usize {
        let (column, product) = self.lanes_per_sum();
        1 + column * self.columns.len() + product * self.products.len()
    }

    /// Lanes from one slot to the next. Vectors of four are added to slots that are not tiny.
    #[inline]
    pub(super) fn stride(&self) -> usize {
        match self.lanes() {
            lanes @ 0..4 => lanes,
            lanes => lanes.next_multiple_of(4),
        }
    }

    /// Bytes held on the heap.
    pub(super) fn heap_size(&self) -> usize {
        self.exponents.capacity() * size_of::<i32>()
            + self.columns.capacity() * size_of::<ColumnGrid>()
            + self.products.capacity() * size_of::<ProductGrid>()
    }

    /// Number of sums.
    pub(super) fn sums(&self) -> usize {
        self.columns.len() + self.products.len()
    }

    /// Lanes of the sum of a column, and of that of a product.
    pub(super) fn lanes_per_sum(&self) -> (usize, usize) {
        match self.mode {
            Mode::Narrow => (1, 1),
            Mode::Wide => (2, 3),
        }
    }

    /// The lanes of a sum.
    pub(super) fn lanes_of(&self, sum: usize) -> Range<usize> {
        let (first, count, _) = self.place(sum);
        first..first + count
    }

    /// The first lane of a sum, how many there are, and the exponent of the unit of the last.
    fn place(&self, sum: usize) -> (usize, usize, i32) {
        let (per_column, per_product) = self.lanes_per_sum();
        let (lanes, first, top) = match sum.checked_sub(self.columns.len()) {
            None => (per_column, 1 + per_column * sum, self.exponents[sum]),
            Some(k) => {
                let ProductGrid { i, j, .. } = self.products[k];
                let first = 1 + per_column * self.columns.len() + per_product * k;
                (per_product, first, self.exponents[i] + self.exponents[j])
            }
        };
        match self.mode {
            Mode::Narrow => (first, lanes, top),
            Mode::Wide => (first, lanes, unit(top, lanes as i32)),
        }
    }

    /// The value of a sum in the lanes of a slot.
    pub(super) fn read(&self, slot: &[i64], sum: usize) -> ExactSum {
        match self.read_scaled(slot, sum) {
            Lanes::One(value, exponent) => ExactSum::scaled(value, exponent),
            Lanes::Two(upper, lower, exponent) => {
                let mut value = ExactSum::scaled(upper, exponent + LANE_BITS);
                value.add_scaled(lower, exponent);
                value
            }
        }
    }

    /// The value of a sum in the lanes of a slot, rounded once.
    pub(super) fn read_f64(&self, slot: &[i64], sum: usize) -> f64 {
        let rounded = match self.read_scaled(slot, sum) {
            Lanes::One(value, exponent) => round_scaled(value, exponent.into()),
            Lanes::Two(..) => None,
        };
        rounded.unwrap_or_else(|| self.read(slot, sum).to_f64())
    }

    fn read_scaled(&self, slot: &[i64], sum: usize) -> Lanes {
        let (first, count, exponent) = self.place(sum);
        match slot[first..first + count] {
            [lane] => Lanes::One(lane.into(), exponent),
            [hi, lo] => Lanes::One(upper(hi, lo), exponent),
            [hi, mid, lo] => Lanes::Two(upper(hi, mid), lo.into(), exponent),
            _ => unreachable!("a sum has one to three lanes"),
        }
    }

    /// The sum of a column in the lanes of a slot, in its units.
    #[inline]
    pub(super) fn integer(&self, slot: &[i64], column: usize) -> i128 {
        match self.mode {
            Mode::Narrow => slot[1 + column].into(),
            Mode::Wide => upper(slot[1 + 2 * column], slot[2 + 2 * column]),
        }
    }

    /// The sums of columns in the lanes of slots. Slots are far away: each is looked at once.
    pub(super) fn integers<'a>(
        &self,
        slots: impl ExactSizeIterator<Item = &'a [i64]>,
        out: &mut [Vec<i128>],
    ) {
        for column in &mut *out {
            column.clear();
            column.reserve(slots.len());
        }
        for slot in slots {
            for (c, column) in out.iter_mut().enumerate() {
                column.push(self.integer(slot, c));
            }
        }
    }

    /// The exponent of the units of the sum of a column in the lanes.
    pub(super) fn exponent(&self, column: usize) -> i32 {
        self.place(column).2
    }

    /// Adds a finite value to the lanes of a sum, if it fits them and is no more than `rows` rows could have added;
    /// `false` if not, and nothing is done.
    pub(super) fn add(&self, slot: &mut [i64], sum: usize, value: (I256, i32), rows: u64) -> bool {
        let (first, count, unit) = self.place(sum);
        let (integer, exponent) = value;
        if integer.is_zero() {
            return true;
        }
        let units = if exponent >= unit {
            integer.shl((exponent - unit) as u32)
        } else {
            let below = (unit - exponent) as u32;
            (integer.trailing_zeros() >= below).then(|| integer.shr(below.min(255)))
        };
        let Some(mut rest) = units else { return false };
        let mut parts = [0i64; 3];
        for part in parts[1..count].iter_mut().rev() {
            // The low bits with a sign of their own, and a carry where that is negative.
            *part = (rest.low() as i64) << (64 - LANE_BITS) >> (64 - LANE_BITS);
            let above = rest.shr(LANE_BITS as u32).add(I256::new((*part < 0).into()));
            rest = above.expect("there is room after the shift");
        }
        // A row at least for the lower parts, too.
        let most = u128::from(rows) << ROW_BITS;
        match rest.to_i128() {
            Some(top) if rows > 0 && top.unsigned_abs() <= most => parts[0] = top as i64,
            _ => return false,
        }
        for (lane, part) in slot[first..first + count].iter_mut().zip(parts) {
            *lane += part;
        }
        true
    }
}

impl ColumnGrid {
    fn new(mode: Mode, exponent: i32, products: Products) -> Self {
        let (limit, magics) = match mode {
            Mode::Narrow => (exponent + narrow_bits(products), [magic(exponent), 0.0]),
            Mode::Wide => (exponent, [1, 2].map(|lane| magic(unit(exponent, lane)))),
        };
        Self { limit: power_of_two(limit).to_bits() as i64, magics }
    }
}

impl ProductGrid {
    fn new(mode: Mode, (i, j): (usize, usize), exponent: i32) -> Self {
        let magics = match mode {
            Mode::Narrow => [magic(exponent), 0.0, 0.0],
            Mode::Wide => [1, 2, 3].map(|lane| magic(unit(exponent, lane))),
        };
        Self { i, j, magics }
    }
}

/// Two lanes as one.
#[inline]
fn upper(hi: i64, lo: i64) -> i128 {
    (i128::from(hi) << LANE_BITS) + i128::from(lo)
}

/// The exponent of the unit of the `n`-th lane under a window.
fn unit(window: i32, n: i32) -> i32 {
    window + 1 - n * LANE_BITS
}

/// The number that rounds to multiples of `2^unit` when it is added.
fn magic(unit: i32) -> f64 {
    1.5 * power_of_two(52 + unit)
}

fn narrow_bits(products: Products) -> i32 {
    match products {
        Products::None => ROW_BITS as i32,
        Products::All => NARROW_BITS,
    }
}

/// The grid that all values fit in the narrow mode, if there is one: whole numbers where that is possible.
fn grid_of(extents: &[Extent], products: Products) -> Option<i32> {
    let bits = narrow_bits(products);
    let Some(low) = extents.iter().map(|e| i32::from(e.low)).min() else { return Some(0) };
    let top = extents.iter().map(|e| i32::from(e.top)).max()?;
    [low.min(0), low]
        .into_iter()
        .find(|&grid| top - grid <= bits && (-EXTREME..EXTREME - bits).contains(&grid))
}

/// A window with room above the largest of a sample, unless that is far from the others. `None` for no values.
fn window_of(extents: &[Extent]) -> Option<i32> {
    let mut tops: Vec<i32> = extents.iter().map(|e| i32::from(e.top)).collect();
    tops.sort_unstable();
    let median = *tops.get(tops.len() / 2)?;
    let largest = *tops.last()?;
    // A few values say little about the largest to come.
    let room = if tops.len() < 16 { 8 } else { 3 };
    Some((largest.min(median + 16) + room).clamp(-EXTREME, EXTREME))
}
