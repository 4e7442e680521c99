//! An independent reader sees what was published: Polars reads the Delta tables of the e-mail experiment, bit for bit.
//! Needs python3 with the packages of `readers/requirements.txt`, named by `GOSSET_READERS_PYTHON`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use gosset_engine::{Engine, EngineOptions};
use gosset_tests::gosset_binary;
use serde_json::Value;

const KEYS: [&str; 5] = ["metric", "segment", "segment_value", "arm", "estimator"];
const NUMBERS: [&str; 6] = ["estimate", "std_error", "p_value", "ci_lower", "ci_upper", "relative"];

#[tokio::test]
async fn polars_sees_the_same_bits() {
    let Some(python) = std::env::var_os("GOSSET_READERS_PYTHON") else {
        eprintln!("skipped: GOSSET_READERS_PYTHON is not set (.ci/run sets it)");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in ["hillstrom.toml", "hillstrom.csv"] {
        std::fs::copy(root.join("jobs").join(file), folder.path().join(file)).unwrap();
    }
    let run = Command::new(gosset_binary())
        .args(["run", "hillstrom.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let table = folder.path().join("results/effects");

    let read = Command::new(python)
        .arg(root.join("tests/readers/read.py"))
        .arg(&table)
        .args(KEYS.iter().chain(&NUMBERS))
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let theirs: BTreeSet<String> = String::from_utf8(read.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let cells = KEYS.iter().chain(&NUMBERS).map(|name| match &row[name] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            cells.collect::<Vec<_>>().join("|")
        })
        .collect();

    let engine = Engine::new(EngineOptions::new()).unwrap();
    let columns: Vec<&str> = KEYS.iter().chain(&NUMBERS).copied().collect();
    let frame = engine.read(&table.display().to_string()).await.unwrap();
    let mut ours = BTreeSet::new();
    for batch in frame.select_columns(&columns).unwrap().collect().await.unwrap() {
        for r in 0..batch.num_rows() {
            let cells = batch.columns().iter().enumerate().map(|(c, column)| {
                if column.is_null(r) {
                    "null".into()
                } else if c < KEYS.len() {
                    arrow::util::display::array_value_to_string(column, r).unwrap()
                } else {
                    format!("{:016x}", column.as_primitive::<Float64Type>().value(r).to_bits())
                }
            });
            ours.insert(cells.collect::<Vec<_>>().join("|"));
        }
    }
    assert!(ours.len() > 100, "only {} rows were published", ours.len());
    assert_eq!(ours, theirs);
}
