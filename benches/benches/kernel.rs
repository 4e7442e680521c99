//! The resampling kernels: weights drawn and accumulated, 1000 replicates of units with one row each. The baseline draws 64
//! bits for four weights from a table of 16 bits and adds in doubles, a unit after the other.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{
    HistogramOptions, HistogramTable, Law, ReplicatesTable, Resampling, Rows, Table,
};
use gosset_stats::units;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const UNITS: usize = 1 << 14;
const REPLICATES: usize = 1000;

/// Weights by 16 bits, as a table.
fn table() -> Vec<f64> {
    let law = [24109, 24110, 12055, 4017, 1005, 201, 34, 4, 1];
    law.iter().enumerate().flat_map(|(w, &n)| std::iter::repeat_n(w as f64, n)).collect()
}

fn scalar(table: &[f64], y: &[f64], sums: &mut [f64]) {
    let mut random = SmallRng::seed_from_u64(1);
    for &y in y {
        for sums in sums.chunks_mut(4) {
            let draws: u64 = random.random();
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += table[(draws >> (16 * i)) as usize & 0xffff] * y;
            }
        }
    }
}

fn kernels(c: &mut Criterion) {
    let hashes: Vec<u128> = (0..UNITS as i128).map(units::integer).collect();
    let slots = vec![0; UNITS];
    let ones = vec![1.0; UNITS];
    let mut random = SmallRng::seed_from_u64(2);
    let real: Vec<f64> = (0..UNITS).map(|_| (3.0 * random.random::<f64>()).exp()).collect();
    let whole: Vec<f64> = real.iter().map(|x| (100.0 * x).floor()).collect();
    let mut group = c.benchmark_group("kernel");
    group.throughput(Throughput::Elements((UNITS * REPLICATES) as u64)).sample_size(20);
    let table = table();
    group.bench_function("scalar table, 1 sum", |b| {
        let mut sums = vec![0.0; REPLICATES];
        b.iter(|| scalar(&table, black_box(&real), &mut sums));
    });
    // The number of rows is one more sum, which is the only one where the column is zero.
    let zeros = vec![0.0; UNITS];
    for (name, columns) in [
        ("counts alone, 1 sum", &[&zeros][..]),
        ("whole, 2 sums", &[&whole]),
        ("real, 2 sums", &[&real]),
        ("real and whole, 4 sums", &[&real, &whole, &ones]),
    ] {
        for law in Law::ALL {
            let names = (0..columns.len()).map(|i| format!("y{i}"));
            let of = Columns::new(names, columns.len()).expect("valid columns");
            let resampling = Resampling { law, ..Resampling::default() };
            let columns: Vec<&[f64]> = columns.iter().map(|c| &c[..]).collect();
            let missing = vec![None; columns.len()];
            group.bench_function(format!("{}, {name}", law.name()), |b| {
                let mut table =
                    ReplicatesTable::new(of.clone(), resampling).expect("valid resampling");
                table.resize(1);
                let mut units = hashes.clone();
                b.iter(|| {
                    // Other units every time: rows of one unit are added up before they are weighted.
                    units.iter_mut().for_each(|unit| *unit = unit.wrapping_add(1 << 70 | 1));
                    table.update(Rows {
                        slots: &slots,
                        columns: &columns,
                        missing: &missing,
                        units: &units,
                        ..Rows::default()
                    });
                });
            });
        }
    }
    group.bench_function("poisson, weighted histogram", |b| {
        let of = Columns::new(["y".to_owned()], 1).expect("a valid column");
        let options = HistogramOptions {
            resampling: Some(Resampling::default()),
            ..HistogramOptions::default()
        };
        let mut table = HistogramTable::new(of, &options).expect("valid options");
        table.resize(1);
        b.iter(|| {
            table.update(Rows {
                slots: &slots,
                columns: &[&whole],
                missing: &[None],
                units: &hashes,
                ..Rows::default()
            });
        });
    });
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
