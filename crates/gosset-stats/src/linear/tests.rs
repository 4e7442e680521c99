use super::*;
use crate::summary::{GramColumns, GramRows, GramTable, Regressor, RegressorKind};

/// The gram of rows of a factor, a number and an outcome.
fn gram(rows: &[(&str, f64, f64)], max_rows: u32) -> Gram {
    let kinds = [("f", RegressorKind::Factor), ("x", RegressorKind::Number)];
    let regressors = kinds.map(|(name, kind)| Regressor { name: name.to_owned(), kind });
    let columns = GramColumns::new(["y".to_owned()], regressors, false, 0).expect("valid columns");
    let mut table = GramTable::new(columns, max_rows).expect("a valid limit");
    table.resize(1);
    let f: Vec<u32> = rows.iter().map(|row| table.label(0, row.0)).collect();
    let (x, y): (Vec<f64>, Vec<f64>) = rows.iter().map(|row| (row.1, row.2)).unzip();
    let added = table.update(GramRows {
        slots: &vec![0; rows.len()],
        outcomes: &[&y],
        numbers: &[&x],
        factors: &[&f],
        weights: None,
        clusters: &[],
    });
    added.expect("few cells");
    table.get(0)
}

fn fit(gram: &Gram, vcov: Vcov, interactions: &[&str]) -> LinearFit {
    let interactions = interactions.iter().map(ToString::to_string).collect();
    let options = LinearOptions { vcov: Some(vcov), interactions, ..LinearOptions::default() };
    ols(gram, &options).expect("a valid model")
}

fn estimates(fit: &LinearFit) -> Vec<Option<f64>> {
    fit.coefficients.iter().map(|c| c.estimate.estimate).collect()
}

fn std_errors(fit: &LinearFit) -> Vec<Option<f64>> {
    fit.coefficients.iter().map(|c| c.estimate.std_error).collect()
}

/// y = 1 + 2 [b] + 3 x, and 1 more where x is 0 and 1 less where it is 2.
const ROWS: [(&str, f64, f64); 6] = [
    ("a", 0.0, 2.0),
    ("a", 1.0, 2.0),
    ("a", 2.0, 8.0),
    ("b", 0.0, 2.0),
    ("b", 1.0, 8.0),
    ("b", 2.0, 8.0),
];

#[test]
fn an_offset_of_a_billion_takes_no_digits() {
    let near = fit(&gram(&ROWS, 100), Vcov::Classical, &[]);
    let far: Vec<_> = ROWS.map(|(f, x, y)| (f, x + 1e9, y)).into();
    let far = fit(&gram(&far, 100), Vcov::Classical, &[]);
    for k in 1..3 {
        assert_eq!(near.coefficients[k].estimate, far.coefficients[k].estimate);
    }
    assert_eq!(near.r_squared, far.r_squared);
}

#[test]
fn merged_rows_have_the_same_estimates_and_say_what_they_do_not_have() {
    let (few, many) = (gram(&ROWS, 100), gram(&ROWS, 3));
    assert_eq!(many.distinct_rows(), None);
    assert_eq!(fit(&few, Vcov::Classical, &["f:x"]), fit(&many, Vcov::Classical, &["f:x"]));
    let robust = fit(&many, Vcov::Hc3, &[]);
    assert_eq!(estimates(&robust), estimates(&fit(&few, Vcov::Hc3, &[])));
    assert_eq!(std_errors(&robust), [None; 3]);
    let note = robust.note.expect("a reason");
    assert!(note.contains("HC3 needs the distinct rows") && note.contains("max_rows: 3"), "{note}");
}

#[test]
fn a_saturated_design_has_the_means_of_its_cells() {
    let rows: Vec<_> = ROWS.map(|(f, _, y)| (f, 7.0, y)).into();
    let found = fit(&gram(&rows, 100), Vcov::Hc0, &[]);
    // The number is constant: it depends on the intercept.
    assert_eq!(estimates(&found), [Some(4.0), Some(2.0), None]);
    let note = found.note.as_deref().expect("what was left out");
    assert!(note.contains("constant or dependent on the columns before: 'x'"), "{note}");
    assert_eq!(found.df_residual, Some(4));
    // HC0 of a difference of means is the sum of Σe²/n².
    let squares = (4.0 + 4.0 + 16.0) / 9.0 + (16.0 + 4.0 + 4.0) / 9.0;
    let std_error = std_errors(&found)[1].expect("defined");
    assert!((std_error / f64::sqrt(squares) - 1.0).abs() < 1e-15);
    assert_eq!(found.vcov[2], [None; 3]);
}

#[test]
fn exact_fits_have_no_standard_error_that_is_noise() {
    let rows: Vec<_> =
        (0..50).map(|i| (["a", "b"][i % 2], 0.1 * i as f64, 0.3 * i as f64 + 0.7)).collect();
    for vcov in [Vcov::Classical, Vcov::Hc1, Vcov::Hc3] {
        let found = fit(&gram(&rows, 100), vcov, &[]);
        assert_eq!(std_errors(&found), [Some(0.0); 3]);
        assert_eq!(found.r_squared, Some(1.0));
        assert_eq!(found.coefficients[2].estimate.p_value, None);
        assert_eq!(found.note.as_deref(), Some("zero variance: no test and no interval"));
    }
}

#[test]
fn too_few_rows_are_no_model() {
    let found = fit(&gram(&ROWS[2..4], 100), Vcov::Classical, &[]);
    assert_eq!(estimates(&found), [None; 3]);
    assert!(found.note.is_some_and(|note| note.contains("3 columns, 2 rows")));
    let found = fit(&gram(&ROWS[1..4], 100), Vcov::Hc1, &[]);
    assert!(estimates(&found).iter().all(Option::is_some));
    assert_eq!((std_errors(&found), found.residual_std_error), (vec![None; 3], None));
    assert!(found.note.is_some_and(|note| note.contains("no degrees of freedom")));
    let found = fit(&gram(&[], 100), Vcov::Classical, &[]);
    assert_eq!(found.note.as_deref(), Some("no rows"));
}

#[test]
fn a_row_of_leverage_one_has_no_hc3() {
    let mut rows = ROWS.to_vec();
    rows.push(("c", 1.0, 5.0));
    let gram = gram(&rows, 100);
    let found = fit(&gram, Vcov::Hc3, &[]);
    assert_eq!(std_errors(&found), [None; 4]);
    assert!(found.note.is_some_and(|note| note.contains("leverage")));
    assert!(std_errors(&fit(&gram, Vcov::Hc1, &[])).iter().all(Option::is_some));
}

#[test]
fn values_that_are_not_finite_give_nan() {
    let mut rows = ROWS.to_vec();
    rows.push(("a", f64::NAN, 5.0));
    let found = fit(&gram(&rows, 100), Vcov::Hc1, &[]);
    assert!(found.coefficients.iter().all(|c| c.estimate.p_value.is_some_and(f64::is_nan)));
    // A square beyond the range of doubles.
    rows[6].1 = 1e200;
    let found = fit(&gram(&rows, 100), Vcov::Hc1, &[]);
    assert!(estimates(&found).iter().all(|b| b.is_some_and(f64::is_nan)));
}

#[test]
fn an_effect_where_a_level_has_no_rows_is_not_estimable() {
    let effects = |rows: &[(&str, f64, f64)]| {
        let options = LinearOptions { vcov: Some(Vcov::Classical), ..LinearOptions::default() };
        conditional_effects(&gram(rows, 100), &options, "x", Some("f")).expect("a valid model")
    };
    let all = effects(&ROWS);
    assert_eq!(all.iter().map(|e| e.estimate.estimate).collect::<Vec<_>>(), [Some(3.0); 2]);
    assert_eq!(
        all.iter().map(|e| e.segment.as_deref()).collect::<Vec<_>>(),
        [Some("a"), Some("b")]
    );
    let mut rows = ROWS.to_vec();
    rows.iter_mut().filter(|row| row.0 == "b").for_each(|row| row.1 = 1.0);
    let some = effects(&rows);
    assert_eq!((some[0].estimate.estimate, some[1].estimate.estimate), (Some(3.0), None));
    assert!(some[1].note.as_ref().is_some_and(|note| note.contains("not estimable")));
}

#[test]
fn wrong_names_are_errors_that_list_the_right_ones() {
    let gram = gram(&ROWS, 100);
    let error = |options: LinearOptions| ols(&gram, &options).expect_err("invalid").to_string();
    let default = LinearOptions::default;
    let found = error(LinearOptions { interactions: vec!["f:z".into()], ..default() });
    assert!(found.contains("no regressor has the name 'z'; expected one of 'f', 'x'"), "{found}");
    let found = error(LinearOptions { interactions: vec!["x:x".into()], ..default() });
    assert!(found.contains("different regressors"), "{found}");
    let found = error(LinearOptions { vcov: Some(Vcov::Cr1), ..default() });
    assert!(found.contains("expected rows with clusters for CR1"), "{found}");
    let found = error(LinearOptions { outcome: Some("z".into()), ..default() });
    assert!(found.contains("no outcome has the name 'z'"), "{found}");
    let reference = [("x".to_owned(), "a".to_owned())].into();
    let found = error(LinearOptions { reference, ..default() });
    assert!(found.contains("'x', which is a number"), "{found}");
    let reference = [("f".to_owned(), "c".to_owned())].into();
    let fit = ols(&gram, &LinearOptions { reference, ..default() }).expect("valid names");
    assert!(
        fit.note.is_some_and(|note| note.contains("no row has the reference level 'c' of 'f'"))
    );
}
