//! Exact sums against naive ones: what a row costs, by the number of columns and of groups.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gosset_stats::exact::{ExactSum, Products, SumTable};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const BATCH: usize = 8192;
const ROWS: usize = 16 * BATCH;

/// A kind of values: how they are made of a uniform one.
type Kind = (&'static str, fn(f64) -> f64);

const KINDS: [Kind; 3] = [
    ("whole", |u| (50.0 * u).floor()),
    ("real", |u| -10.0 * (1.0 - u).ln()),
    // The spread of a lognormal with a deviation of 2.5, so that some rows fit no window.
    ("heavy", |u| (2.5 * (u / (1.0 - u).max(f64::EPSILON)).max(f64::EPSILON).ln() / 1.8).exp()),
];

fn columns((_, value): Kind, columns: usize, rows: usize) -> Vec<Vec<f64>> {
    let mut rng = StdRng::seed_from_u64(7);
    (0..columns).map(|_| (0..rows).map(|_| value(rng.random())).collect()).collect()
}

fn slots(groups: usize, rows: usize) -> Vec<u32> {
    let mut rng = StdRng::seed_from_u64(11);
    (0..rows).map(|_| rng.random_range(0..groups as u32)).collect()
}

fn batch(columns: &[Vec<f64>], start: usize) -> Vec<&[f64]> {
    columns.iter().map(|c| &c[start..c.len().min(start + BATCH)]).collect()
}

/// The baseline: count, sums and products in doubles, in the order of the rows.
fn naive(sums: &mut [f64], slots: &[u32], columns: &[Vec<f64>], products: Products) {
    let width = 1 + products.sums(columns.len());
    for (r, &slot) in slots.iter().enumerate() {
        let sums = &mut sums[slot as usize * width..][..width];
        sums[0] += 1.0;
        let mut next = sums[1..].iter_mut();
        for column in columns {
            *next.next().expect("a sum per column") += column[r];
        }
        if products == Products::All {
            for (i, x) in columns.iter().enumerate() {
                for y in &columns[i..] {
                    *next.next().expect("a sum per product") += x[r] * y[r];
                }
            }
        }
    }
}

/// `add_all` and `add`; "moments" are one column with its square, "cuped" two with all products.
fn rows(c: &mut Criterion) {
    for (shape, width, products) in [
        ("sum", 1, Products::None),
        ("moments", 1, Products::All),
        ("cuped", 2, Products::All),
        ("four", 4, Products::All),
    ] {
        let mut group = c.benchmark_group(format!("exact/{shape}"));
        group.throughput(Throughput::Elements(ROWS as u64));
        for kind in KINDS {
            let columns = columns(kind, width, ROWS);
            let name = kind.0;
            let mut table = SumTable::new(width, products);
            table.resize(1);
            group.bench_function(format!("ungrouped/{name}"), |b| {
                b.iter(|| {
                    for start in (0..ROWS).step_by(BATCH) {
                        table.add_all(0, &batch(&columns, start));
                    }
                });
            });
            for groups in [20, 10_000] {
                let slots = slots(groups, ROWS);
                let mut table = SumTable::new(width, products);
                table.resize(groups);
                group.bench_function(format!("{groups} groups/{name}"), |b| {
                    b.iter(|| {
                        for start in (0..ROWS).step_by(BATCH) {
                            table.add(&slots[start..start + BATCH], &batch(&columns, start));
                        }
                    });
                });
            }
        }
        for groups in [1, 20, 10_000] {
            let (columns, slots) = (columns(KINDS[1], width, ROWS), slots(groups, ROWS));
            let mut sums = vec![0.0; groups * (1 + products.sums(width))];
            group.bench_function(format!("{groups} groups/naive"), |b| {
                b.iter(|| naive(black_box(&mut sums), &slots, black_box(&columns), products));
            });
        }
        group.finish();
    }
}

/// Totals of 2.5 million units with four rows each, in random order.
fn units(c: &mut Criterion) {
    let (rows, units) = (10_000_000, 2_500_000);
    let slots = slots(units, rows);
    let mut group = c.benchmark_group("exact/by unit");
    group.throughput(Throughput::Elements(rows as u64)).sample_size(10);
    for kind in &KINDS[..2] {
        let columns = columns(*kind, 1, rows);
        let empty = || {
            let mut table = SumTable::new(1, Products::None);
            table.resize(units);
            table
        };
        let add = |mut table: SumTable| {
            for start in (0..rows).step_by(BATCH) {
                let columns = batch(&columns, start);
                table.add(&slots[start..start + columns[0].len()], &columns);
            }
            table
        };
        group.bench_function(kind.0, |b| b.iter_batched(empty, add, BatchSize::PerIteration));
    }
    let columns = columns(KINDS[1], 1, rows);
    let empty = || vec![0.0; 2 * units];
    group.bench_function("naive", |b| {
        b.iter_batched(
            empty,
            |mut sums| {
                naive(&mut sums, &slots, &columns, Products::None);
                sums
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// What a partial state costs beside its rows: reading, encoding, decoding and merging.
fn states(c: &mut Criterion) {
    let groups = 10_000;
    let mut group = c.benchmark_group("exact/states");
    group.throughput(Throughput::Elements(groups as u64));
    for (shape, width, products) in [("sum", 1, Products::None), ("cuped", 2, Products::All)] {
        let (columns, slots) = (columns(KINDS[1], width, ROWS), slots(groups, ROWS));
        let mut table = SumTable::new(width, products);
        table.resize(groups);
        for start in (0..ROWS).step_by(BATCH) {
            table.add(&slots[start..start + BATCH], &batch(&columns, start));
        }
        let encode = || {
            let mut bytes = Vec::new();
            for slot in 0..groups as u32 {
                table.get(slot).sums.iter().for_each(|sum| sum.encode(&mut bytes));
            }
            bytes
        };
        let bytes = encode();
        group.bench_function(format!("{shape}/encode"), |b| b.iter(encode));
        group.bench_function(format!("{shape}/merge"), |b| {
            let mut merged = SumTable::new(width, products);
            merged.resize(groups);
            b.iter(|| {
                let mut rest = &bytes[..];
                for slot in 0..groups as u32 {
                    let sums: Vec<ExactSum> = (0..products.sums(width))
                        .map(|_| ExactSum::decode(&mut rest).expect("own bytes are read"))
                        .collect();
                    merged.merge_parts(slot, table.count(slot), &sums);
                }
            });
        });
        group.bench_function(format!("{shape}/round"), |b| {
            b.iter(|| (0..groups as u32).map(|slot| table.sum_f64(slot, 0)).sum::<f64>());
        });
    }
    group.finish();
}

criterion_group!(benches, rows, units, states);
criterion_main!(benches);
