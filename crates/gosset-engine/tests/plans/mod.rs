//! What tests of plans have in common.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use gosset_engine::{Engine, EngineOptions};

pub(crate) fn engine(partitions: usize) -> Engine {
    Engine::new(EngineOptions::new().with_target_partitions(partitions)).unwrap()
}

/// The lines of a table in one order.
fn lines(rows: Result<Vec<RecordBatch>>) -> Vec<String> {
    let table = pretty_format_batches(&rows.unwrap()).unwrap().to_string();
    let mut lines: Vec<String> = table.lines().map(String::from).collect();
    lines.sort();
    lines
}

/// What a plain DataFusion session gives, with Gosset's functions and none of its operators.
pub(crate) async fn expected(query: &str) -> Vec<String> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    gosset_sql::register(&mut session.clone()).unwrap();
    lines(session.sql(query).await.unwrap().collect().await)
}

pub(crate) async fn found(engine: &Engine, query: &str) -> Vec<String> {
    let rows = tokio::time::timeout(Duration::from_secs(60), async {
        engine.sql(query).await.unwrap().collect().await
    });
    lines(rows.await.unwrap())
}

/// The number of a metric.
pub(crate) fn metric(line: &str, name: &str) -> usize {
    let (_, after) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{line}"));
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The error that a query ends with.
pub(crate) async fn error(engine: &Engine, query: &str) -> String {
    let rows = engine.sql(query).await.unwrap().collect();
    tokio::time::timeout(Duration::from_secs(60), rows).await.unwrap().unwrap_err().to_string()
}
