use super::*;
use crate::summary::Gram;
use crate::units;

fn columns(kinds: &[(&str, RegressorKind)], weighted: bool, clusters: u8) -> GramColumns {
    let regressors = kinds.iter().map(|&(name, kind)| Regressor { name: name.to_owned(), kind });
    GramColumns::new(["y".to_owned()], regressors, weighted, clusters).expect("valid columns")
}

const NUMBER_AND_FACTOR: [(&str, RegressorKind); 2] =
    [("x", RegressorKind::Number), ("f", RegressorKind::Factor)];

/// Rows of a number, a factor, an outcome and a cluster.
fn gram(rows: &[(f64, &str, f64, i128)], clusters: u8, max_rows: u32) -> Gram {
    let mut table =
        GramTable::new(columns(&NUMBER_AND_FACTOR, false, clusters), max_rows).expect("valid");
    table.resize(1);
    let x: Vec<f64> = rows.iter().map(|row| row.0).collect();
    let f: Vec<u32> = rows.iter().map(|row| table.label(0, row.1)).collect();
    let y: Vec<f64> = rows.iter().map(|row| row.2).collect();
    let hashes: Vec<u128> = rows.iter().map(|row| units::integer(row.3)).collect();
    let hashes = vec![hashes.as_slice(); clusters.into()];
    let added = table.update(GramRows {
        slots: &vec![0; rows.len()],
        outcomes: &[&y],
        numbers: &[&x],
        factors: &[&f],
        weights: None,
        clusters: &hashes,
    });
    added.expect("few cells");
    table.get(0)
}

fn sums(gram: &Gram) -> Vec<(Vec<u64>, u64, Vec<f64>)> {
    let all = gram.by_factors().into_iter();
    all.map(|(levels, s)| (levels, s.n, s.sums.iter().map(ExactSum::to_f64).collect())).collect()
}

const ROWS: [(f64, &str, f64, i128); 5] = [
    (1.0, "b", 2.0, 1),
    (2.0, "a", 3.0, 1),
    (1.0, "b", 5.0, 2),
    (-0.0, "b", 1.0, 2),
    (0.0, "b", 7.0, 3),
];

#[test]
fn distinct_rows_are_counted_and_have_the_moments_of_their_rows() {
    let few = gram(&ROWS, 0, 100);
    assert_eq!((few.distinct_rows(), few.n()), (Some(3), 5));
    assert_eq!(few.labels(), [["a", "b"]]);
    // Σx, Σy, Σx², Σxy, Σy².
    let expected = [
        (vec![0], 1, vec![2.0, 3.0, 4.0, 6.0, 9.0]),
        (vec![1], 4, vec![2.0, 15.0, 2.0, 7.0, 79.0]),
    ];
    assert_eq!(sums(&few), expected);
    let many = gram(&ROWS, 0, 2);
    assert_eq!((many.distinct_rows(), many.len(), many.n()), (None, 2, 5));
    assert_eq!(sums(&many), expected);
}

#[test]
fn clusters_are_kept_one_by_one_or_in_buckets() {
    let few = gram(&ROWS, 1, 100);
    assert_eq!(few.distinct_rows(), Some(4));
    assert_eq!(sums(&few), sums(&gram(&ROWS, 0, 100)));
    let many = gram(&ROWS, 1, 3);
    assert_eq!((many.distinct_rows(), many.len()), (None, 4));
    let two = gram(&ROWS, 2, 3);
    assert_eq!((two.distinct_rows(), two.len()), (None, 2));
}

#[test]
fn a_row_that_is_not_finite_is_in_no_cell() {
    let mut rows = ROWS.to_vec();
    rows.extend([(f64::NAN, "c", 1.0, 1), (1.0, "d", f64::INFINITY, 1)]);
    let found = gram(&rows, 0, 100);
    assert_eq!((found.n(), found.not_finite(), found.distinct_rows()), (7, 2, Some(3)));
    assert_eq!(found.labels(), [["a", "b"]]);
}

#[test]
fn a_weighted_row_is_a_row_times_the_root_of_its_weight() {
    let mut table =
        GramTable::new(columns(&[("x", RegressorKind::Number)], true, 0), 1).expect("valid");
    table.resize(1);
    let added = table.update(GramRows {
        slots: &[0, 0],
        outcomes: &[&[3.0, 5.0]],
        numbers: &[&[1.0, 2.0]],
        factors: &[],
        weights: Some(&[4.0, 9.0]),
        clusters: &[],
    });
    added.expect("few cells");
    let found = table.get(0);
    assert_eq!(found.distinct_rows(), None);
    // √w: 2, 3; √w·x: 2, 6; √w·y: 6, 15; then the products.
    let products = vec![13.0, 22.0, 57.0, 40.0, 102.0, 261.0];
    assert_eq!(sums(&found), [(vec![], 2, [vec![5.0, 8.0, 21.0], products].concat())]);
}

#[test]
fn too_many_combinations_of_factors_are_an_error() {
    assert!(check_cells(MAX_CELLS, true).is_ok());
    let error = check_cells(MAX_CELLS + 1, true).expect_err("too many").to_string();
    assert!(error.contains("fewer levels"), "{error}");
}

#[test]
fn different_columns_and_limits_do_not_merge() {
    let mut a = gram(&ROWS, 0, 2);
    let error = a.merge(&gram(&ROWS, 1, 2)).expect_err("columns differ").to_string();
    assert!(error.contains("(y; x, f as labels)") && error.contains("clustered"), "{error}");
    let error = a.merge(&gram(&ROWS, 0, 3)).expect_err("limits differ").to_string();
    assert!(error.contains("expected 2, found 3"), "{error}");
}

#[test]
fn many_buckets_of_clusters_are_those_of_few_at_a_time() {
    let labels = ["a", "b", "c"];
    let row = |i: i128| (i as f64 % 7.0, labels[i as usize % 3], i as f64 % 11.0, i / 2);
    let rows: Vec<(f64, &str, f64, i128)> = (0..30_000).map(row).collect();
    let all = gram(&rows, 1, 10);
    assert!(all.len() > 3 * 3000, "most buckets of each label have rows");
    let mut merged = gram(&[], 1, 10);
    for few in rows.chunks(900) {
        merged.merge(&gram(few, 1, 10)).expect("the same columns");
    }
    assert_eq!(merged.encode(), all.encode());
    assert_eq!(sums(&all), sums(&gram(&rows, 1, 100_000)));
}
