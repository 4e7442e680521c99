//! Going back, merging small files and deleting old ones: the rows that are asked for stay, whatever partitions are called.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use common::{rows, schema};
use deltalake::protocol::SaveMode;
use gosset_engine::delta::{DeltaStore, DeltaTableHandle, Metadata, Unneeded, partition};
use gosset_engine::{Engine, EngineError, EngineOptions};

/// A name that a path or a string literal must not trip over.
const AWKWARD: &str = "a'b/c \"d\" é; DROP TABLE x --=%20";

async fn replace(table: &mut DeltaTableHandle, job: &str, values: &[i64], run: &str) {
    let at = partition(&[("job", job.into())]);
    table.replace(rows(job, Some("d"), values), at, &Metadata::new(), run).await.unwrap();
}

async fn values(table: &DeltaTableHandle) -> Vec<i64> {
    let batches = table.read(None).await.unwrap();
    let of = |batch: &RecordBatch| {
        batch.column_by_name("value").unwrap().as_primitive::<Int64Type>().values().to_vec()
    };
    let mut values: Vec<i64> = batches.iter().flat_map(of).collect();
    values.sort_unstable();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::new(EngineOptions::new()).unwrap();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine).unwrap();
    assert_eq!(store.names().await.unwrap(), Vec::<String>::new());
    let mut table = store.table("effects", schema(), &["job", "date"]).await.unwrap();
    assert_eq!(store.names().await.unwrap(), ["effects"]);
    replace(&mut table, AWKWARD, &[1, 2], "r1").await;
    replace(&mut table, "other", &[10], "r2").await;
    let version = table.version();
    replace(&mut table, AWKWARD, &[3], "r3").await;
    replace(&mut table, "other", &[20], "r4").await;

    // Back, and only of one job.
    let mut racing = table.clone();
    let then = store.existing_at("effects", version).await.unwrap().unwrap();
    let restoration = table.restoration(&then, ("job", AWKWARD)).await.unwrap();
    let kept: Metadata = [("whole".to_owned(), AWKWARD.to_owned())].into();
    let restored = table.restore(&restoration, &kept, "r5").await.unwrap();
    assert_eq!((restored, values(&table).await), (version + 3, vec![1, 2, 20]));
    let commits = table.commits().await.unwrap();
    assert_eq!(commits[0].run_id.as_deref(), Some("r5"));
    assert_eq!(commits[0].operation.as_deref(), Some("RESTORE"));
    assert_eq!(commits[0].metadata, kept);
    assert!(table.restoration(&then, ("job", AWKWARD)).await.unwrap().is_empty());
    // Who started before it loses.
    let at = partition(&[("job", AWKWARD.into())]);
    let lost = racing.replace(rows(AWKWARD, Some("d"), &[4]), at, &Metadata::new(), "r6").await;
    assert!(matches!(lost, Err(EngineError::Conflict(_))), "{lost:?}");

    // Many small files become one; the files of others stay.
    let url = store.table_url("effects").unwrap();
    for value in 100..110 {
        let other = deltalake::open_table(url.clone()).await.unwrap();
        let rows = rows(AWKWARD, Some("d"), &[value]);
        other.write(rows).with_save_mode(SaveMode::Append).await.unwrap();
    }
    table.refresh().await.unwrap();
    let before = values(&table).await;
    assert_eq!(before.len(), 13);
    assert!(table.compact(("job", "other"), 8, "r7").await.unwrap().is_none());
    assert!(table.compact(("job", AWKWARD), 11, "r7").await.unwrap().is_none());
    let done = table.compact(("job", AWKWARD), 8, "r8").await.unwrap().unwrap();
    assert_eq!((done.before, done.after), (11, 1));
    assert_eq!(values(&table).await, before);
    let last = table.commits().await.unwrap().remove(0);
    assert_eq!((last.run_id.as_deref(), last.metadata.len()), (Some("r8"), 0));

    // Without old files, older versions are gone.
    let dry = table.vacuum(Unneeded::OfNoVersion, Duration::ZERO, true).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let deleted = table.vacuum(Unneeded::Replaced, Duration::ZERO, false).await.unwrap();
    // One is of the writer that lost.
    assert_eq!((dry.len(), deleted.len()), (14, 13));
    let again = table.vacuum(Unneeded::Replaced, Duration::ZERO, true).await.unwrap();
    assert_eq!(again, Vec::<String>::new());
    assert_eq!(values(&table).await, before);
    let gone = table.restoration(&then, ("job", AWKWARD)).await;
    assert!(matches!(gone, Err(EngineError::MissingInput(_))), "{gone:?}");
}
