//! Linear models in SQL against the golden numbers of `tests/golden/linear`, and against NIST's certified regressions.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::datasource::MemTable;
use datafusion::prelude::{CsvReadOptions, SessionContext};
use gosset_tests::session::MODES;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn expected() -> Value {
    let text = std::fs::read_to_string(folder().join("linear/expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The one value that a query gives.
async fn run(context: &SessionContext, sql: &str) -> ArrayRef {
    let frame = context.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let batches = frame.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).unwrap();
    Arc::clone(batch.column(0))
}

/// Compares a value with JSON: fields that are named, numbers up to a relative 1e-10.
fn check(array: &ArrayRef, r: usize, expected: &Value, what: &str) {
    match (expected, array.data_type()) {
        (Value::Null, _) => assert!(array.is_null(r), "{what}: expected NULL"),
        (Value::Object(fields), _) => {
            for (name, expected) in fields {
                let field = array.as_struct().column_by_name(name).unwrap();
                check(field, r, expected, &format!("{what}: {name}"));
            }
        }
        (Value::Array(items), _) => {
            let list = array.as_list::<i32>().value(r);
            assert_eq!(list.len(), items.len(), "{what}");
            for (i, expected) in items.iter().enumerate() {
                check(&list, i, expected, &format!("{what}: {i}"));
            }
        }
        (Value::String(text), _) => {
            assert_eq!(array.as_string_view().value(r), text, "{what}");
        }
        (number, DataType::Int64) => {
            let found = array.as_primitive::<Int64Type>().value(r);
            assert_eq!(Some(found), number.as_i64(), "{what}");
        }
        (number, _) => {
            assert!(array.is_valid(r), "{what}: is NULL");
            let (found, expected) =
                (array.as_primitive::<Float64Type>().value(r), number.as_f64().unwrap());
            let near = (found - expected).abs() <= 1e-10 * expected.abs();
            assert!(near, "{what}: expected {expected:e}, found {found:e}");
        }
    }
}

#[tokio::test]
async fn models_are_those_of_the_definition_of_statsmodels_and_of_r() {
    let expected = expected();
    let context = MODES[0].session().unwrap();
    for (name, file) in expected["tables"].as_object().unwrap() {
        let path = folder().join(file.as_str().unwrap());
        context.register_csv(name, path.to_str().unwrap(), CsvReadOptions::new()).await.unwrap();
    }
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() > 100);
    for case in cases {
        let (call, table) = (case["sql"].as_str().unwrap(), case["table"].as_str().unwrap());
        let found = run(&context, &format!("SELECT {call} FROM {table}")).await;
        check(&found, 0, &case["result"], call);
    }
}

/// Lin's regression over all arms of an experiment is one model: each arm's average effect over all rows.
#[tokio::test]
async fn average_effects_of_an_interacted_model_are_lins_over_all_arms() {
    let text = std::fs::read_to_string(folder().join("lin_arms/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let context = MODES[0].session().unwrap();
    let path = folder().join("../../jobs/hillstrom.csv");
    context.register_csv("t", path.to_str().unwrap(), CsvReadOptions::new()).await.unwrap();
    let robust = expected["cases"].as_array().unwrap().iter();
    let robust: Vec<_> = robust.filter(|case| case["std_error_of_model"].is_number()).collect();
    assert_eq!(robust.len(), 16);
    for metric in ["visit", "spend"] {
        for vcov in ["HC0", "HC1", "HC2", "HC3"] {
            let query = format!(
                "SELECT conditional_effects(
                   gram({metric}, {{arm: segment, history: history, recency: recency}}),
                   {{treatment: 'arm', reference: {{arm: 'No E-Mail'}}, interactions: ['arm:history', 'arm:recency'],
                     vcov: '{vcov}'}}) FROM t"
            );
            let effects = run(&context, &query).await;
            let effects = effects.as_list::<i32>().value(0);
            let arms = effects.as_struct().column_by_name("level").unwrap().as_string_view();
            for case in robust.iter().filter(|c| c["metric"] == metric && c["vcov"] == vcov) {
                let arm = case["arm"].as_str().unwrap();
                let row = (0..arms.len()).find(|&r| arms.value(r) == arm).unwrap();
                let number = |name: &str| {
                    let column = effects.as_struct().column_by_name(name).unwrap();
                    column.as_primitive::<Float64Type>().value(row)
                };
                for (found, expected) in [
                    (number("estimate"), &case["effect"]["estimate"]),
                    (number("std_error"), &case["std_error_of_model"]),
                ] {
                    let expected = expected.as_f64().unwrap();
                    let near = (found - expected).abs() <= 1e-9 * expected.abs();
                    assert!(near, "{metric} {arm} {vcov}: expected {expected:e}, found {found:e}");
                }
            }
        }
    }
}

/// Each set with the digits that coefficients and standard errors have of the certified ones (which have 15, of decimal
/// data), and coefficients of the regression of the doubles that are nearest to the data and their powers.
const DIGITS: &[(&str, [f64; 3])] = &[
    ("Norris", [14.0, 13.8, 15.0]),
    ("Pontius", [13.4, 13.7, 15.0]),
    ("NoInt1", [14.6, 15.0, 15.0]),
    ("NoInt2", [15.0, 14.8, 15.0]),
    ("Filip", [7.8, 8.5, 13.5]),
    ("Longley", [14.5, 14.8, 15.0]),
    ("Wampler1", [15.0, 15.0, 15.0]),
    ("Wampler2", [13.1, 15.0, 15.0]),
    ("Wampler3", [15.0, 14.4, 15.0]),
    ("Wampler4", [15.0, 14.4, 15.0]),
    ("Wampler5", [15.0, 14.4, 15.0]),
];

/// How many digits of a number are right, of 15.
fn digits(found: f64, expected: f64) -> f64 {
    let scale = if expected == 0.0 { 1.0 } else { expected.abs() };
    (-((found - expected).abs() / scale).log10()).min(15.0)
}

#[tokio::test]
async fn certified_regressions_have_the_digits_that_are_promised() {
    let expected = expected();
    let sets = expected["nist"].as_array().unwrap();
    assert_eq!(sets.len(), DIGITS.len());
    for (set, (name, promised)) in sets.iter().zip(DIGITS) {
        assert_eq!(set["name"], *name);
        let text =
            std::fs::read_to_string(folder().join(format!("linear/nist/{name}.dat"))).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(60)
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .filter(|row: &Vec<f64>| !row.is_empty())
            .collect();
        let column = |c: usize| -> ArrayRef {
            Arc::new(rows.iter().map(|row| Some(row[c])).collect::<Float64Array>())
        };
        let names = ["y", "x1", "x2", "x3", "x4", "x5", "x6"];
        let width = set["width"].as_u64().unwrap() as usize;
        let columns = (0..width).map(|c| (names[c], column(c)));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let context = MODES[0].session().unwrap();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let fit = run(&context, &format!("SELECT {} FROM t", set["sql"].as_str().unwrap())).await;
        let coefficients = fit.as_struct().column_by_name("coefficients").unwrap();
        let coefficients = coefficients.as_list::<i32>().value(0);
        let field = |name: &str| -> Vec<f64> {
            let column = coefficients.as_struct().column_by_name(name).unwrap();
            column.as_primitive::<Float64Type>().values().to_vec()
        };
        let (estimates, std_errors) = (field("estimate"), field("std_error"));
        let certified = set["certified"]["coefficients"].as_object().unwrap();
        let doubles = set["doubles"]["coefficients"].as_array().unwrap();
        assert_eq!(certified.len(), estimates.len(), "{name}");
        let mut least = [15.0f64; 3];
        for i in 0..estimates.len() {
            let first = usize::from(!certified.contains_key("B0"));
            let certified = &certified[&format!("B{}", i + first)];
            let number = |value: &Value| value.as_f64().unwrap();
            for (least, found) in least.iter_mut().zip([
                digits(estimates[i], number(&certified[0])),
                digits(std_errors[i], number(&certified[1])),
                digits(estimates[i], number(&doubles[i][0])),
            ]) {
                *least = least.min(found);
            }
        }
        for (found, promised) in least.iter().zip(promised) {
            assert!(found >= promised, "{name}: {least:?}, promised {promised:?}");
        }
        let summary = fit.as_struct();
        for what in ["r_squared", "residual_std_error"] {
            let found =
                summary.column_by_name(what).unwrap().as_primitive::<Float64Type>().value(0);
            let certified = set["certified"][what].as_f64().unwrap();
            assert!(digits(found, certified) > 7.0, "{name}: {what} {found}, {certified}");
        }
    }
}
