use super::*;
use crate::summary::{Rows, Table};
use crate::units;
use crate::weights::Weights;

fn columns() -> Columns {
    Columns::new(["y", "d"].map(String::from), 2).expect("valid columns")
}

fn resampling() -> Resampling {
    Resampling { replicates: 50, seed: 9, ..Resampling::default() }
}

fn summary(unit_ids: &[i128], y: &[f64], d: &[f64], batch: usize) -> Replicates {
    let mut table = ReplicatesTable::new(columns(), resampling()).expect("valid options");
    table.resize(2);
    for start in (0..y.len()).step_by(batch) {
        let range = start..y.len().min(start + batch);
        let hashes: Vec<u128> =
            unit_ids[range.clone()].iter().map(|&u| units::integer(u)).collect();
        let slots = vec![1; hashes.len()];
        let columns = [&y[range.clone()], &d[range]];
        let missing = [None, None];
        table.update(Rows {
            slots: &slots,
            columns: &columns,
            missing: &missing,
            units: &hashes,
            ..Rows::default()
        });
    }
    table.get(1)
}

/// Sums over rows, row by row.
fn direct(unit_ids: &[i128], x: &[f64], b: usize) -> ExactSum {
    let weights = Weights::new(Law::Poisson, resampling().seed);
    let mut row = vec![0; b + 1];
    let mut sum = ExactSum::new();
    for (&unit, &x) in unit_ids.iter().zip(x) {
        weights.fill(units::integer(unit), &mut row);
        (0..row[b]).for_each(|_| sum.add(x));
    }
    sum
}

/// Doubles of a kind: counts, amounts, any exponent.
fn values(kind: usize, n: usize) -> Vec<f64> {
    let hash = |i: usize| (units::integer(i as i128) >> 64) as u64;
    (0..n)
        .map(|i| match kind {
            0 => (hash(i) % 50) as f64,
            1 => (hash(i) % 10_000) as f64 / 100.0 - 3.0,
            2 if i % 97 == 5 => 1e300,
            _ => {
                let x = f64::from_bits(hash(i));
                if x.is_finite() { x } else { 5e-324 }
            }
        })
        .collect()
}

#[test]
fn replicates_are_the_sums_of_rows_one_by_one() {
    for (n, units) in [(10, 7), (200, 64), (200, 65), (5000, 1500)] {
        for kind in 0..3 {
            let ids: Vec<i128> = (0..n as i128).map(|i| i * 11 % units).collect();
            let (y, d) = (values(kind, n), values(0, n));
            let found = summary(&ids, &y, &d, 999);
            assert_eq!(found.units(), (units <= 64).then_some(units as u64));
            assert_eq!(found.rows(), n as u64);
            let totals = found.totals();
            for b in [0, 17, 31, 32, 49] {
                assert_eq!(totals.columns[0][b], direct(&ids, &y, b), "kind {kind}");
                assert_eq!(totals.columns[1][b], direct(&ids, &d, b));
                assert_eq!(totals.rows[b], direct(&ids, &vec![1.0; n], b));
            }
            assert_eq!(Replicates::decode(&found.encode()).expect("own bytes"), found);
            assert_eq!(summary(&ids, &y, &d, 10_000).encode(), found.encode());
        }
    }
}

/// Units are weighted in blocks that have zeros in the same columns, large ones and such as are too few for one.
#[test]
fn zeros_in_columns_change_no_sum() {
    let n = 24_000;
    let ids: Vec<i128> = (0..n as i128).map(|i| i * 7 % 12_000).collect();
    let only = |values: Vec<f64>, has: fn(i128) -> bool| -> Vec<f64> {
        values.into_iter().zip(&ids).map(|(x, &id)| if has(id) { x } else { 0.0 }).collect()
    };
    let y = only(values(1, n), |id| id % 3 == 0);
    let d = only(values(0, n), |id| id > 11_900 || id % 3 == 1);
    let found = summary(&ids, &y, &d, n);
    let totals = found.totals();
    for b in [0, 31, 49] {
        assert_eq!(totals.columns[0][b], direct(&ids, &y, b));
        assert_eq!(totals.columns[1][b], direct(&ids, &d, b));
        assert_eq!(totals.rows[b], direct(&ids, &vec![1.0; n], b));
    }
    assert_eq!(summary(&ids, &y, &d, 999).encode(), found.encode());
}

/// Units that all have room wait for all of their rows, whatever the size of batches.
#[test]
fn units_that_have_room_wait_together() {
    for (units, batch) in [(28_000, 8192), (5000, 32_768)] {
        let mut table = ReplicatesTable::new(columns(), resampling()).expect("valid options");
        table.resize(1);
        let rows = 20 * batch;
        for start in (0..rows).step_by(batch) {
            let hash = |r: usize| units::integer((r * 7919 % units) as i128);
            let hashes: Vec<u128> = (start..start + batch).map(hash).collect();
            let ones = vec![1.0; batch];
            table.update(Rows {
                slots: &vec![0; batch],
                columns: &[&ones, &ones],
                units: &hashes,
                ..Rows::default()
            });
        }
        assert_eq!(table.pending.waiting_rows, rows as u64, "{units} units");
    }
}

/// Units that come in parts, each with all of its rows in one batch, wait no longer than is good for them; those of parts
/// in several batches do, and those that come again every day.
#[test]
fn units_of_parts_do_not_wait_for_more() {
    let (part, parts) = (20_000, 8);
    let waiting = |batch: usize, unit: fn(usize) -> usize| {
        let mut table = ReplicatesTable::new(columns(), resampling()).expect("valid options");
        table.resize(2);
        let mut ids = Vec::new();
        let (y, d) = (values(1, part).repeat(parts), values(0, part).repeat(parts));
        for start in (0..parts * part).step_by(batch) {
            let rows = start..start + batch;
            let of_batch: Vec<i128> = rows.clone().map(|r| unit(r) as i128).collect();
            table.update(Rows {
                slots: &vec![1; batch],
                columns: &[&y[rows.clone()], &d[rows]],
                units: &of_batch.iter().map(|&id| units::integer(id)).collect::<Vec<_>>(),
                ..Rows::default()
            });
            ids.extend(of_batch);
        }
        assert_eq!(table.get(1).encode(), summary(&ids, &y, &d, 999).encode());
        table.pending.len()
    };
    let of_parts = |row| row / 20_000 * 3000 + row * 7 % 3000;
    assert!(waiting(20_000, of_parts) < 12_000);
    assert_eq!(waiting(10_000, of_parts), 24_000);
    assert_eq!(waiting(20_000, |row| row % 25_000), 25_000);
}

/// More units than wait at once, in batches that are torn, that are not, and that are larger than what waits.
#[test]
fn more_units_than_wait_have_the_same_bytes() {
    let n = 100_000;
    for units in [40_000, n as i128] {
        let ids: Vec<i128> = (0..n as i128).map(|i| i * 7 % units).collect();
        let (y, d) = (values(1, n), values(0, n));
        let expected = summary(&ids, &y, &d, 999).encode();
        for batch in [8192, 20_000, 40_000] {
            assert_eq!(summary(&ids, &y, &d, batch).encode(), expected, "{units} units, {batch}");
        }
    }
}

#[test]
fn values_that_are_not_finite_are_flagged_and_add_nothing() {
    let ids: Vec<i128> = (0..300).collect();
    let (mut y, d) = (values(1, 300), values(0, 300));
    y[7] = f64::INFINITY;
    let found = summary(&ids, &y, &d, 100);
    let total = found.sum().sums[0].to_f64();
    assert!(total.is_infinite() && total > 0.0);
    y[7] = 0.0;
    let finite = summary(&ids, &y, &d, 100);
    assert_eq!(found.totals().columns, finite.totals().columns);
    assert_eq!(found.sum().sums[1], finite.sum().sums[1]);
}

#[test]
fn slots_have_rows_of_their_own_and_sizes_follow_them() {
    let mut table = ReplicatesTable::new(columns(), resampling()).expect("valid options");
    table.resize(300);
    let n = 40_000;
    let ids: Vec<i128> = (0..n as i128).map(|i| i % 20_000).collect();
    let (y, d) = (values(1, n), values(0, n));
    // The first slot has half of the rows, the others a few each.
    let slots: Vec<u32> = (0..n as u32).map(|i| if i % 2 == 0 { 0 } else { i % 299 + 1 }).collect();
    let hashes: Vec<u128> = ids.iter().map(|&u| units::integer(u)).collect();
    let empty = table.size();
    table.update(Rows {
        slots: &slots,
        columns: &[&y, &d],
        missing: &[None, None],
        units: &hashes,
        ..Rows::default()
    });
    assert!(table.size() > empty + 64 * 1024);
    let only = |slot: u32| {
        let rows: Vec<usize> = (0..n).filter(|&r| slots[r] == slot).collect();
        let ids: Vec<i128> = rows.iter().map(|&r| ids[r]).collect();
        let y: Vec<f64> = rows.iter().map(|&r| y[r]).collect();
        let d: Vec<f64> = rows.iter().map(|&r| d[r]).collect();
        summary(&ids, &y, &d, n)
    };
    let last = only(299);
    for slot in [0, 1, 299] {
        assert_eq!(table.get(slot as usize).encode(), only(slot).encode());
    }
    table.drop_first(299);
    assert_eq!(table.get(0).encode(), last.encode());
    let held: usize = table.contents.iter().map(Content::heap_size).sum();
    assert_eq!(table.held, held);
}

#[test]
fn different_resampling_does_not_merge() {
    let new = |resampling| Replicates::new(columns(), resampling).expect("valid options");
    let mut mine = new(resampling());
    for (other, text) in [
        (Resampling { replicates: 51, ..resampling() }, "found 51 replicates (poisson, seed 9)"),
        (Resampling { seed: 10, ..resampling() }, "found 50 replicates (poisson, seed 10)"),
    ] {
        let error = mine.merge(&new(other)).expect_err("different").to_string();
        assert!(error.contains("expected 50 replicates (poisson, seed 9)"), "{error}");
        assert!(error.contains(text), "{error}");
    }
    let columns = Columns::new(["y", "e"].map(String::from), 2).expect("valid columns");
    let other = Replicates::new(columns, resampling()).expect("valid options");
    let error = mine.merge(&other).expect_err("different").to_string();
    assert!(error.contains("(y, d)") && error.contains("(y, e)"), "{error}");
}

/// What is stored for years: another hash here is a change that breaks stored summaries or published numbers.
#[test]
fn the_bytes_stay_as_they_are() {
    for (n, expected) in [(40, 0xc8da_1524_41b7_1c24), (1000, 0x8d1b_d945_f4bd_7a90)] {
        let ids: Vec<i128> = (0..n as i128).collect();
        let bytes = summary(&ids, &values(1, n), &values(0, n), n).encode();
        assert_eq!(xxhash_rust::xxh3::xxh3_64(&bytes), expected, "{n} units");
    }
}
