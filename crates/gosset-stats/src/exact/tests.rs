//! The fast forms against the plain accumulator, byte for byte.

use proptest::prelude::*;

use super::cross;
use super::dispatch::Kernel;
use super::format::{Extent, Format, Mode, ROWS_PER_FLUSH};
use super::sum::ExactSum;
use super::table::{Products, SumTable, Sums};

fn bytes(sum: &ExactSum) -> Vec<u8> {
    let mut out = Vec::new();
    sum.encode(&mut out);
    out
}

/// Doubles of one kind; a batch mixes a few.
fn values() -> BoxedStrategy<f64> {
    let normal = |offset: f64, scale: f64| {
        prop::collection::vec(-1.0..1.0f64, 6)
            .prop_map(move |u| offset + scale * u.iter().sum::<f64>())
    };
    let pick = |values: &'static [f64]| prop::sample::select(values);
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits).boxed(),
        pick(&[1e308, f64::MAX, -f64::MAX, 5e-324, -5e-324, 0.0, -0.0, f64::MIN_POSITIVE]).boxed(),
        pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1.0]).boxed(),
        normal(0.0, 1.0).boxed(),
        normal(1e8, 1.0).boxed(),
        normal(1e9, 3.0).boxed(),
        normal(0.0, 5.0).prop_map(f64::exp).boxed(),
        (-4096..4096i32, -6..3i32).prop_map(|(m, e)| f64::from(m) * f64::from(e).exp2()).boxed(),
        (-50..50i32).prop_map(f64::from).boxed(),
        (-(1i64 << 50)..1 << 50).prop_map(|x| x as f64).boxed(),
        (0..4u64).prop_map(|ulps| f64::from_bits(1.0f64.to_bits() + ulps)).boxed(),
        (-400..400i32).prop_map(|e| f64::from(e).exp2()).boxed(),
    ]
    .boxed()
}

/// Rows of one kind of values, or with some of another among them.
fn columns_of(columns: usize, rows: std::ops::Range<usize>) -> BoxedStrategy<Vec<Vec<f64>>> {
    rows.prop_flat_map(move |rows| {
        prop::collection::vec(
            prop_oneof![
                4 => one_kind(rows),
                1 => (one_kind(rows), prop::collection::vec((any::<prop::sample::Index>(), values()), 0..3))
                    .prop_map(|(mut column, strangers)| {
                        for (at, x) in strangers {
                            if !column.is_empty() {
                                let at = at.index(column.len());
                                column[at] = x;
                            }
                        }
                        column
                    }),
                1 => prop::collection::vec(values(), rows),
            ],
            columns,
        )
    })
    .boxed()
}

fn one_kind(rows: usize) -> BoxedStrategy<Vec<f64>> {
    prop_oneof![
        prop::collection::vec(-1e3..1e3f64, rows),
        prop::collection::vec((-2.0..2.0f64).prop_map(|x| 1e8 + x), rows),
        prop::collection::vec((-30.0..30.0f64).prop_map(f64::exp), rows),
        prop::collection::vec((-50..50i32).prop_map(f64::from), rows),
        prop::collection::vec((-50..50i32).prop_map(|x| f64::from(x) / 8.0), rows),
        prop::collection::vec(Just(0.1), rows),
        prop::collection::vec(any::<u64>().prop_map(f64::from_bits), rows),
    ]
    .boxed()
}

/// What may happen to a table.
#[derive(Debug, Clone)]
enum Step {
    /// Slots are taken modulo their number.
    Add(Vec<u32>, Vec<Vec<f64>>),
    AddAll(u32, Vec<Vec<f64>>),
    /// Adds the sums of these rows, made elsewhere; `true` repeats them until the count is large.
    Merge(u32, Vec<Vec<f64>>, bool),
    Clear(u32),
    DropFirst(usize),
    Resize(usize),
    Flush(u32),
    /// Chooses the format for these values.
    Choose(Vec<Vec<f64>>),
}

fn steps(columns: usize) -> BoxedStrategy<Vec<Step>> {
    let add = columns_of(columns, 0..200).prop_flat_map(|columns| {
        let rows = columns[0].len();
        (prop::collection::vec(0u32..8, rows), Just(columns))
    });
    let step = prop_oneof![
        6 => add.prop_map(|(slots, columns)| Step::Add(slots, columns)),
        4 => (0u32..8, columns_of(columns, 0..200)).prop_map(|(slot, c)| Step::AddAll(slot, c)),
        4 => (0u32..8, columns_of(columns, 0..20), any::<bool>())
            .prop_map(|(slot, c, many)| Step::Merge(slot, c, many)),
        1 => (0u32..8).prop_map(Step::Clear),
        1 => (0usize..3).prop_map(Step::DropFirst),
        1 => (1usize..8).prop_map(Step::Resize),
        1 => (0u32..8).prop_map(Step::Flush),
        1 => columns_of(columns, 1..5).prop_map(Step::Choose),
    ];
    prop::collection::vec(step, 1..12).boxed()
}

/// The same table by plain sums.
struct Model {
    columns: usize,
    products: Products,
    slots: Vec<Sums>,
}

impl Model {
    fn empty(&self) -> Sums {
        let sums = vec![ExactSum::plain(); self.products.sums(self.columns)];
        Sums { n: 0, sums }
    }

    fn resize(&mut self, slots: usize) {
        let empty = self.empty();
        self.slots.resize(slots, empty);
    }

    fn rows(&self, columns: &[Vec<f64>]) -> Sums {
        let mut sums = self.empty();
        (0..columns[0].len()).for_each(|r| self.add_row(&mut sums, columns, r));
        sums
    }

    fn add_row(&self, sums: &mut Sums, columns: &[Vec<f64>], r: usize) {
        sums.n += 1;
        let mut next = sums.sums.iter_mut();
        columns.iter().for_each(|x| next.next().expect("a sum per column").add(x[r]));
        if self.products == Products::All {
            for (i, x) in columns.iter().enumerate() {
                for y in &columns[i..] {
                    next.next().expect("a sum per product").add_product(x[r], y[r]);
                }
            }
        }
    }
}

fn slices(columns: &[Vec<f64>]) -> Vec<&[f64]> {
    columns.iter().map(Vec::as_slice).collect()
}

/// Takes the steps with both and compares all bytes at the end.
fn check(columns: usize, products: Products, steps: &[Step], kernel: Kernel) {
    let mut table = SumTable::with_kernel(columns, products, kernel);
    let mut model = Model { columns, products, slots: Vec::new() };
    table.resize(5);
    model.resize(5);
    for step in steps {
        let slots = model.slots.len() as u32;
        match step {
            Step::Add(to, rows) => {
                let to: Vec<u32> = to.iter().map(|s| s % slots).collect();
                table.add(&to, &slices(rows));
                for (r, &slot) in to.iter().enumerate() {
                    let mut sums = std::mem::take(&mut model.slots[slot as usize]);
                    model.add_row(&mut sums, rows, r);
                    model.slots[slot as usize] = sums;
                }
            }
            Step::AddAll(slot, rows) => {
                table.add_all(slot % slots, &slices(rows));
                let sums = model.rows(rows);
                model.slots[(slot % slots) as usize].merge(&sums);
            }
            Step::Merge(slot, rows, many) => {
                let mut sums = model.rows(rows);
                if *many {
                    (0..13).for_each(|_| sums.merge(&sums.clone()));
                }
                model.slots[(slot % slots) as usize].merge(&sums);
                let read = sums
                    .sums
                    .iter()
                    .map(|s| ExactSum::decode(&mut &bytes(s)[..]).expect("own bytes are read"));
                table.merge(slot % slots, &Sums { n: sums.n, sums: read.collect() });
            }
            Step::Clear(slot) => {
                table.clear(slot % slots);
                model.slots[(slot % slots) as usize] = model.empty();
            }
            Step::DropFirst(n) => {
                table.drop_first(*n.min(&(slots as usize - 1)));
                model.slots.drain(..*n.min(&(slots as usize - 1)));
            }
            Step::Resize(n) => {
                table.resize(*n);
                model.resize(*n);
            }
            Step::Flush(slot) => table.flush(slot % slots),
            Step::Choose(values) => table.choose(&extents(values)),
        }
    }
    assert_eq!(table.slots(), model.slots.len());
    for (slot, expected) in model.slots.iter().enumerate() {
        let sums = table.get(slot as u32);
        assert_eq!(sums.n, expected.n, "rows of slot {slot}");
        assert_eq!(table.count(slot as u32), expected.n);
        for (k, (sum, expected)) in sums.sums.iter().zip(&expected.sums).enumerate() {
            assert_eq!(bytes(sum), bytes(expected), "sum {k} of slot {slot}");
            let rounded = expected.to_f64().to_bits();
            assert_eq!(sum.to_f64().to_bits(), rounded, "sum {k} of slot {slot}");
            assert_eq!(table.sum_f64(slot as u32, k).to_bits(), rounded, "sum {k} of slot {slot}");
        }
    }
}

fn extents(values: &[Vec<f64>]) -> Vec<Vec<Extent>> {
    values.iter().map(|c| c.iter().filter_map(|&x| Extent::of(x)).collect()).collect()
}

fn products() -> impl Strategy<Value = Products> {
    prop_oneof![Just(Products::None), Just(Products::All)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn tables_have_the_bytes_of_plain_sums(
        (columns, steps) in (1usize..=4).prop_flat_map(|c| (Just(c), steps(c))),
        products in products(),
    ) {
        check(columns, products, &steps, Kernel::detect());
        check(columns, products, &steps, Kernel::Portable);
    }

    #[test]
    fn small_sums_have_the_bytes_of_plain_ones(
        terms in prop::collection::vec((values(), values(), 0..5u8), 0..30),
    ) {
        let (mut small, mut plain) = (ExactSum::new(), ExactSum::plain());
        for (x, y, kind) in terms {
            for sum in [&mut small, &mut plain] {
                let mut other = ExactSum::new();
                match kind {
                    0 => sum.add(x),
                    1 => sum.add_product(x, y),
                    2 => {
                        other.add_product(x, y);
                        sum.merge(&other);
                    }
                    3 => {
                        other.add(x);
                        other.add(y);
                        sum.subtract(&other);
                    }
                    _ => {
                        other.add(x);
                        let half = sum.clone();
                        sum.merge(&half);
                        sum.subtract(&other);
                    }
                }
            }
            let encoded = bytes(&small);
            prop_assert_eq!(&encoded, &bytes(&plain));
            prop_assert_eq!(small.to_f64().to_bits(), plain.to_f64().to_bits());
            prop_assert_eq!(small.is_zero(), plain.is_zero());
            prop_assert_eq!(small.as_f64().map(f64::to_bits), plain.as_f64().map(f64::to_bits));
            let mut rest = &encoded[..];
            let read = ExactSum::decode(&mut rest).expect("own bytes are read");
            prop_assert!(rest.is_empty());
            prop_assert_eq!(&bytes(&read), &encoded);
            let ((a, ea), (b, eb)) = (small.to_integer(), plain.to_integer());
            let low = ea.min(eb);
            prop_assert_eq!(a << (ea - low) as usize, b << (eb - low) as usize);
        }
    }
}

proptest! {
    #[test]
    fn small_and_plain_sums_cross_alike(
        rows in (1usize..30).prop_flat_map(|rows| (one_kind(rows), one_kind(rows))),
    ) {
        let (x, y) = rows;
        let mut sums: [ExactSum; 4] = std::array::from_fn(|_| ExactSum::new());
        let mut plain: [ExactSum; 4] = std::array::from_fn(|_| ExactSum::plain());
        for sums in [&mut sums, &mut plain] {
            for (&x, &y) in x.iter().zip(&y) {
                sums[0].add(1.0);
                sums[1].add_product(x, y);
                sums[2].add(x);
                sums[3].add(y);
            }
        }
        let crossed = |[n, xy, x, y]: &[ExactSum; 4]| cross(n, xy, x, y).to_bits();
        prop_assert_eq!(crossed(&sums), crossed(&plain));
    }
}

/// More rows than lanes hold, of the largest values that fit.
#[test]
fn lanes_are_flushed_before_they_overflow() {
    let rows = 3 * ROWS_PER_FLUSH as usize + 77;
    let just_below_one = 1.0 - f64::EPSILON / 2.0;
    for products in [Products::None, Products::All] {
        let narrow_limit = if products == Products::All { 23 } else { 47 };
        for (mode, window, x) in [
            (Mode::Wide, 5, 32.0 * just_below_one),
            (Mode::Wide, 5, -32.0 * just_below_one),
            (Mode::Narrow, 0, f64::from(narrow_limit).exp2() - 1.0),
        ] {
            let column = vec![x; rows];
            let mut expected = ExactSum::new();
            let mut squares = ExactSum::new();
            for _ in 0..rows {
                expected.add(x);
                squares.add_product(x, x);
            }
            for kernel in [Kernel::Portable, Kernel::detect()] {
                let mut table = SumTable::with_kernel(1, products, kernel);
                table.resize(6);
                table.set_format(Format::new(mode, vec![window], products));
                for part in column.chunks(1000) {
                    table.add(&vec![4; part.len()], &[part]);
                    table.add_all(2, &[part]);
                }
                assert_eq!(table.missed(), 0, "{mode:?} {x}");
                for slot in [2, 4] {
                    assert_eq!(table.count(slot), rows as u64);
                    assert_eq!(table.sum(slot, 0), expected, "{mode:?} {x}");
                    if products == Products::All {
                        assert_eq!(table.sum(slot, 1), squares, "{mode:?} {x}");
                    }
                }
            }
        }
    }
}

/// The same of sums that are merged, a few thousand rows at a time.
#[test]
fn merged_sums_do_not_overflow_lanes() {
    let x = 32.0 * (1.0 - f64::EPSILON / 2.0);
    let mut part = SumTable::new(1, Products::All);
    part.resize(1);
    part.add_all(0, &[&vec![x; 10_000]]);
    let part = part.get(0);
    let mut table = SumTable::new(1, Products::All);
    table.resize(2);
    table.set_format(Format::new(Mode::Wide, vec![5], Products::All));
    let mut expected = Sums { n: 0, sums: vec![ExactSum::plain(); 2] };
    for _ in 0..40 {
        table.merge(1, &part);
        table.add(&[1; 100], &[&[x; 100]]);
        expected.merge(&part);
        expected.n += 100;
        for _ in 0..100 {
            expected.sums[0].add(x);
            expected.sums[1].add_product(x, x);
        }
    }
    assert_eq!(table.get(1), expected);
    assert_eq!(table.missed(), 0);
}

#[test]
fn constants_have_no_variance() {
    for x in [0.1, 1e9 + 0.1, -3.0, 1e-200, 1e200] {
        let mut table = SumTable::new(2, Products::All);
        table.resize(2);
        table.add_all(1, &[&[x; 1000], &[-x; 1000]]);
        let sums = table.get(1);
        let n = ExactSum::from_integer(sums.n.into());
        for (product, (i, j)) in [(2, (0, 0)), (3, (0, 1)), (4, (1, 1))] {
            assert_eq!(cross(&n, &sums.sums[product], &sums.sums[i], &sums.sums[j]), 0.0);
        }
    }
}

/// A table that sent every row the slow way would be right, too.
#[test]
fn ordinary_rows_fit() {
    type Kind = (&'static str, fn(f64) -> f64);
    let mut state = 1u64;
    let mut uniform = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let slots: Vec<u32> = (0..10_000).map(|r| r % 7).collect();
    let kinds: [Kind; 4] = [
        ("small integers", |u| (50.0 * u).floor()),
        ("large integers", |u| (1e6 * u).floor()),
        ("fractions", |u| 1e8 + (64.0 * u).floor() / 8.0),
        ("reals", |u| 100.0 + u),
    ];
    for (name, value) in kinds {
        let columns: Vec<Vec<f64>> =
            (0..3).map(|_| (0..slots.len()).map(|_| value(uniform())).collect()).collect();
        for products in [Products::None, Products::All] {
            let mut table = SumTable::new(3, products);
            table.resize(7);
            table.add(&slots, &slices(&columns));
            table.add_all(3, &slices(&columns));
            assert_eq!(table.missed(), 0, "{name} {products:?}");
        }
    }
}

#[test]
fn slots_of_one_column_are_small() {
    let units = 100_000;
    for (x, most) in [(3.0, 16), (0.1, 24)] {
        let mut table = SumTable::new(1, Products::None);
        table.resize(units);
        let slots: Vec<u32> = (0..units as u32).collect();
        table.add(&slots, &[&vec![x; units]]);
        assert!(table.size() <= most * units + 8192, "{} bytes for {x}", table.size());
    }
}

#[test]
fn empty_states_and_full_neighbours_leave_slots_small() {
    let units = 1000;
    let mut table = SumTable::new(1, Products::None);
    table.resize(units);
    let slots: Vec<u32> = (0..units as u32).collect();
    table.add(&slots, &[&vec![1e150; units]]);
    let size = table.size();
    slots.iter().for_each(|&slot| table.merge(slot, &Sums::new(1, Products::None)));
    assert!(table.size() < size + 1000);
    // Slot 0 is flushed among others that are not.
    for _ in 0..700 {
        let slots: Vec<u32> = slots.iter().map(|&slot| slot * (slot % 16 / 15)).collect();
        table.add(&slots, &[&vec![1e150; units]]);
    }
    assert!(table.size() < size + 1000);
}

#[test]
#[should_panic(expected = "slot 2 does not exist")]
fn rows_of_a_missing_slot_are_refused() {
    let mut table = SumTable::new(1, Products::All);
    table.resize(2);
    table.add(&[0, 2], &[&[1.0, 2.0]]);
}
