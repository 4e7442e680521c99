//! Runs every file of `slt` under every mode: `cargo test -p gosset-tests --test slt -- <mode>::<file>`.
//!
//! Floats are printed as the shortest text that reads back to the same bits and compared with a relative tolerance of
//! 1e-12: the expected numbers come from other implementations, named in the header of each file.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use gosset_tests::session::{MODES, Mode};
use libtest_mimic::{Arguments, Failed, Trial};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Normalizer, Runner};

const TOLERANCE: f64 = 1e-12;

struct Engine {
    context: SessionContext,
}

#[async_trait::async_trait]
impl AsyncDB for Engine {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DataFusionError> {
        let frame = self.context.sql(sql).await?;
        let types: Vec<_> = frame.schema().fields().iter().map(|f| letter(f.data_type())).collect();
        let mut rows = Vec::new();
        for batch in frame.collect().await? {
            for r in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|column| cell(column, r));
                rows.push(cells.collect::<Result<Vec<_>, _>>()?);
            }
        }
        if types.is_empty() || sql.trim_start().to_lowercase().starts_with("create") {
            return Ok(DBOutput::StatementComplete(0));
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

fn letter(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        t if t.is_floating() => DefaultColumnType::FloatingPoint,
        t if t.is_integer() => DefaultColumnType::Integer,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => DefaultColumnType::Text,
        _ => DefaultColumnType::Any,
    }
}

fn cell(array: &ArrayRef, row: usize) -> Result<String, DataFusionError> {
    if array.is_null(row) {
        return Ok("NULL".into());
    }
    if array.data_type() == &DataType::Float64 {
        return Ok(format!("{:?}", array.as_primitive::<Float64Type>().value(row)));
    }
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default().with_null("NULL"))?;
    let text = formatter.value(row).to_string();
    Ok(if text.is_empty() { "(empty)".into() } else { text })
}

/// Rows are equal if their cells are: numbers up to the tolerance, anything else as text.
fn equal(normalizer: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    let actual: Vec<String> = actual.iter().map(|row| normalizer(&row.join(" "))).collect();
    let expected: Vec<String> = expected.iter().map(normalizer).collect();
    actual.len() == expected.len() && actual.iter().zip(&expected).all(|(a, e)| equal_row(a, e))
}

fn equal_row(actual: &str, expected: &str) -> bool {
    let (actual, expected): (Vec<_>, Vec<_>) =
        (actual.split(' ').collect(), expected.split(' ').collect());
    actual.len() == expected.len() && actual.iter().zip(&expected).all(|(a, e)| equal_cell(a, e))
}

fn equal_cell(actual: &str, expected: &str) -> bool {
    if actual == expected {
        return true;
    }
    match (actual.parse::<f64>(), expected.parse::<f64>()) {
        (Ok(a), Ok(e)) => (a - e).abs() <= TOLERANCE * e.abs() || (a.is_nan() && e.is_nan()),
        _ => false,
    }
}

fn run(file: &Path, mode: Mode) -> Result<(), Failed> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut runner = Runner::new(|| async { Ok(Engine { context: mode.session()? }) });
        runner.with_validator(equal);
        runner.run_file_async(file).await.map_err(|e| Failed::from(e.display(false).to_string()))
    })
}

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    let trials = MODES
        .iter()
        .flat_map(|mode| {
            files.iter().map(|file| {
                let (mode, file) = (*mode, file.clone());
                let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
                Trial::test(format!("{}::{stem}", mode.name), move || run(&file, mode))
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
