//! Golden numbers of estimators as an analyst asks for them: calls in SQL over the table of their folder.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use gosset_engine::{Engine, EngineOptions};
use serde_json::Value;

/// Relative, beside an absolute 1e-14 next to 0.
async fn check(folder: &str, tolerance: f64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(folder);
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let table = folder.join(golden["table"].as_str().unwrap());
    let engine = Engine::new(EngineOptions::new()).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let call = case["sql"].as_str().unwrap();
        let expected = case["effect"].as_object().unwrap();
        let fields: Vec<String> = expected.keys().map(|field| format!("e['{field}']")).collect();
        let sql = format!(
            "SELECT {} FROM (SELECT {call} AS e FROM '{}')",
            fields.join(", "),
            table.display()
        );
        let statement = engine.parse(&sql).unwrap().into_iter().next().unwrap();
        let plan = engine.plan(statement).await.unwrap();
        let stream = engine.execute(plan).await.unwrap();
        let batches = datafusion::physical_plan::common::collect(stream).await.unwrap();
        for ((field, expected), column) in expected.iter().zip(batches[0].columns()) {
            let found = match column.data_type() {
                _ if column.is_null(0) => None,
                arrow::datatypes::DataType::Int64 => {
                    Some(column.as_primitive::<Int64Type>().value(0) as f64)
                }
                _ => Some(column.as_primitive::<Float64Type>().value(0)),
            };
            let expected = match expected {
                Value::Null => None,
                Value::String(text) => Some(text.parse::<f64>().unwrap()),
                number => Some(number.as_f64().unwrap()),
            };
            let near = match (found, expected) {
                (Some(a), Some(b)) => {
                    a.total_cmp(&b).is_eq() || (a - b).abs() <= tolerance * b.abs() + 1e-14
                }
                (a, b) => a == b,
            };
            assert!(near, "{call}, {field}: expected {expected:?}, found {found:?}");
        }
    }
}

#[tokio::test]
async fn cuped_of_ratios_and_superpopulations() {
    check("cuped_ratio", 1e-9).await;
}

#[tokio::test]
async fn lin_with_robust_standard_errors() {
    check("lin_robust", 1e-9).await;
}

#[tokio::test]
async fn post_stratified_means() {
    check("post_stratify", 1e-10).await;
}

#[tokio::test]
async fn winsorized_means() {
    check("winsorized", 1e-10).await;
}
