//! Publishing to Delta tables: who wins, what is visible, what is remembered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;
mod faulty;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use common::{rows, schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use faulty::{Fault, faulty_engine};
use gosset_engine::delta::{DeltaStore, DeltaTableHandle, Metadata, any_of, partition};
use gosset_engine::{Engine, EngineError, EngineOptions};

fn engine() -> Engine {
    Engine::new(EngineOptions::new()).unwrap()
}

fn at(job: &str, date: Option<&str>) -> Expr {
    partition(&[("job", job.into()), ("date", ScalarValue::Utf8(date.map(Into::into)))])
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

async fn table(store: &DeltaStore) -> DeltaTableHandle {
    store.table("effects", schema(), &["job", "date"]).await.unwrap()
}

/// The values of a read, sorted.
fn values(batches: &[RecordBatch]) -> Vec<i64> {
    let mut values: Vec<i64> = batches
        .iter()
        .flat_map(|batch| {
            let column = batch.column_by_name("value").unwrap();
            assert_eq!(column.null_count(), 0);
            column.as_primitive::<Int64Type>().values().to_vec()
        })
        .collect();
    values.sort_unstable();
    values
}

async fn all(table: &mut DeltaTableHandle) -> Vec<i64> {
    table.refresh().await.unwrap();
    values(&table.read(None).await.unwrap())
}

/// Everything the runner relies on, on any store.
async fn publishes(root: &str) {
    let store = DeltaStore::open(root, &engine()).unwrap();
    assert!(store.existing("effects").await.unwrap().is_none());
    let mut effects = table(&store).await;
    assert_eq!((effects.version(), all(&mut effects).await), (0, vec![]));

    // Two partitions in one commit each, with names that a path or a string literal must not trip over.
    let awkward = "a'b/c \"d\" é; DROP TABLE x --";
    let first = effects
        .replace(
            rows(awkward, Some("2026-01-01"), &[1, 2]),
            at(awkward, Some("2026-01-01")),
            &metadata(&[]),
            "r1",
        )
        .await
        .unwrap();
    assert_eq!((first.version, first.rows), (1, 2));
    effects
        .replace(rows("b", None, &[3]), at("b", None), &metadata(&[("config", "{\"x\": 1}")]), "r2")
        .await
        .unwrap();
    assert_eq!(all(&mut effects).await, [1, 2, 3]);

    // Replacing one leaves the other.
    effects
        .replace(
            rows(awkward, Some("2026-01-01"), &[10]),
            at(awkward, Some("2026-01-01")),
            &metadata(&[]),
            "r3",
        )
        .await
        .unwrap();
    assert_eq!(all(&mut effects).await, [3, 10]);
    effects.replace(rows("b", None, &[30, 31]), at("b", None), &metadata(&[]), "r4").await.unwrap();
    assert_eq!(all(&mut effects).await, [10, 30, 31]);

    // Reading one partition, by values that are strings and by NULL.
    assert_eq!(values(&effects.read(Some(at(awkward, Some("2026-01-01")))).await.unwrap()), [10]);
    assert_eq!(values(&effects.read(Some(at("b", None))).await.unwrap()), [30, 31]);
    assert_eq!(values(&effects.read(Some(at("none", None))).await.unwrap()), Vec::<i64>::new());

    // All partitions in one commit; and none of the rows.
    let both = any_of([at(awkward, Some("2026-01-01")), at("b", None)]);
    let mut twice = rows(awkward, Some("2026-01-01"), &[7]);
    twice.extend(rows("b", None, &[8]));
    effects.replace(twice, both.clone(), &metadata(&[]), "r5").await.unwrap();
    assert_eq!(all(&mut effects).await, [7, 8]);
    effects.replace(vec![], at("b", None), &metadata(&[("empty", "yes")]), "r6").await.unwrap();
    assert_eq!(all(&mut effects).await, [7]);

    // The log remembers what each run kept with its commit.
    let commits = effects.commits().await.unwrap();
    let versions: Vec<u64> = commits.iter().map(|commit| commit.version).collect();
    assert_eq!(versions, [6, 5, 4, 3, 2, 1, 0]);
    let runs: Vec<_> = commits.iter().map(|commit| commit.run_id.as_deref()).collect();
    assert_eq!(runs[..6], [Some("r6"), Some("r5"), Some("r4"), Some("r3"), Some("r2"), Some("r1")]);
    assert!(commits.iter().all(|commit| commit.timestamp.is_some()));
    let found =
        effects.latest_commit(|c| c.metadata.contains_key("config")).await.unwrap().unwrap();
    assert_eq!((found.version, found.metadata["config"].as_str()), (2, "{\"x\": 1}"));
    assert!(effects.latest_commit(|c| c.metadata.contains_key("none")).await.unwrap().is_none());

    // Eight writers of one partition, of which one wins; eight of their own partitions, who all win.
    let won = race(&store, |_| "same".into()).await;
    assert_eq!(won, 1);
    let won = race(&store, |writer| format!("own {writer}")).await;
    assert_eq!(won, 8);
    let mut after = all(&mut table(&store).await).await;
    after.retain(|value| *value >= 100);
    assert_eq!(after.len(), 9);
}

/// Eight writers that all read the same version and then publish; how many won. The others saw a conflict.
async fn race(store: &DeltaStore, job: impl Fn(i64) -> String) -> usize {
    let mut tables = Vec::new();
    for _ in 0..8 {
        tables.push(table(store).await);
    }
    let mut writers = tokio::task::JoinSet::new();
    for (writer, mut table) in (0..).zip(tables) {
        let job = job(writer);
        writers.spawn(async move {
            let run = format!("race {job} {writer}");
            table
                .replace(rows(&job, None, &[100 + writer]), at(&job, None), &Metadata::new(), &run)
                .await
        });
    }
    let outcomes = writers.join_all().await;
    for outcome in &outcomes {
        assert!(matches!(outcome, Ok(_) | Err(EngineError::Conflict(_))), "{outcome:?}");
    }
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_to_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("not yet/a store");
    publishes(root.to_str().unwrap()).await;
}

/// Needs `GOSSET_TEST_STORES`, URLs of buckets, and the variables of their servers: `.ci/run` starts some.
#[tokio::test(flavor = "multi_thread")]
async fn publishes_to_object_stores() {
    let Ok(roots) = std::env::var("GOSSET_TEST_STORES") else {
        eprintln!("not tested: GOSSET_TEST_STORES is not set");
        return;
    };
    let process = std::process::id();
    for root in roots.split_whitespace() {
        publishes(&format!("{root}/gosset-engine-{process}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_create_one_table() {
    let directory = tempfile::tempdir().unwrap();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine()).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_i64 {
        let store = store.clone();
        writers.spawn(async move {
            let mut table = table(&store).await;
            let job = format!("job {writer}");
            table.replace(rows(&job, None, &[writer]), at(&job, None), &Metadata::new(), &job).await
        });
    }
    for outcome in writers.join_all().await {
        outcome.unwrap();
    }
    let mut effects = table(&store).await;
    assert_eq!(all(&mut effects).await, (0..8).collect::<Vec<_>>());
    let commits = effects.commits().await.unwrap();
    assert_eq!(effects.version(), 8, "one commit created it, eight wrote: {commits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_handle_conflicts_and_shows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine()).unwrap();
    let mut early = table(&store).await;
    let mut late = early.clone();
    early.replace(rows("a", None, &[1]), at("a", None), &Metadata::new(), "early").await.unwrap();
    let lost = late.replace(rows("a", None, &[2]), at("a", None), &Metadata::new(), "late").await;
    assert!(matches!(lost, Err(EngineError::Conflict(_))), "{lost:?}");
    assert_eq!(all(&mut early).await, [1]);
    // The loser reads again and may then publish.
    late.refresh().await.unwrap();
    late.replace(rows("a", None, &[2]), at("a", None), &Metadata::new(), "late").await.unwrap();
    assert_eq!(all(&mut early).await, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_partition_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine()).unwrap();
    let mut effects = table(&store).await;
    let wrong =
        effects.replace(rows("b", None, &[1]), at("a", None), &Metadata::new(), "run").await;
    assert!(wrong.is_err());
    assert_eq!((all(&mut effects).await, effects.version()), (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, faults) = faulty_engine();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine).unwrap();
    let mut effects = table(&store).await;
    let before = faults.commits.load(Ordering::Relaxed);
    faults.order(&[Fault::After]);
    let done = effects
        .replace(rows("a", None, &[1]), at("a", None), &Metadata::new(), "run 1")
        .await
        .unwrap();
    assert_eq!((done.version, done.rows), (1, 1));
    assert_eq!(faults.commits.load(Ordering::Relaxed) - before, 1, "it was not written again");
    assert_eq!((all(&mut effects).await, effects.version()), (vec![1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_landed_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, faults) = faulty_engine();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine).unwrap();
    let mut effects = table(&store).await;
    for (run, fault) in [("run 1", Fault::Before), ("run 2", Fault::FalseConflict)] {
        faults.order(&[fault]);
        effects.replace(rows("a", None, &[1]), at("a", None), &Metadata::new(), run).await.unwrap();
    }
    assert_eq!((all(&mut effects).await, effects.version()), (vec![1], 2));
    faults.order(&[Fault::Before; 9]);
    let gone =
        effects.replace(rows("a", None, &[2]), at("a", None), &Metadata::new(), "run 3").await;
    assert!(matches!(gone, Err(EngineError::StoreUnavailable(_))), "{gone:?}");
    assert_eq!((all(&mut effects).await, effects.version()), (vec![1], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_created_although_the_answer_was_lost_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, faults) = faulty_engine();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine).unwrap();
    faults.order(&[Fault::After]);
    assert_eq!(table(&store).await.version(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_and_never_lost() {
    let directory = tempfile::tempdir().unwrap();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine()).unwrap();
    let mut old = table(&store).await;
    old.replace(rows("a", None, &[1]), at("a", None), &Metadata::new(), "old").await.unwrap();

    let mut fields: Vec<Field> =
        schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("note", DataType::Utf8, true));
    let wider = Arc::new(Schema::new(fields));
    let mut new = store.table("effects", Arc::clone(&wider), &["job", "date"]).await.unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["b"])),
        Arc::new(StringArray::from(vec![None::<&str>])),
        Arc::new(Int64Array::from(vec![2])),
        Arc::new(StringArray::from(vec!["new"])),
    ];
    let batch = RecordBatch::try_new(wider, columns).unwrap();
    new.replace(vec![batch], at("b", None), &Metadata::new(), "new").await.unwrap();
    assert_eq!(all(&mut new).await, [1, 2]);
    assert_eq!(new.schema().unwrap().fields().len(), 4);

    let refused = store.table("effects", schema(), &["job", "date"]).await.unwrap_err();
    assert!(refused.to_string().contains("'note' is not known"), "{refused}");
    let refused = store.table("effects", schema(), &["job"]).await.unwrap_err();
    assert!(refused.to_string().contains("expected partitions by job"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_do_not_leave_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = DeltaStore::open(directory.path().to_str().unwrap(), &engine()).unwrap();
    for name in ["", "..", "../x", "a/b", "file:///x", "a b"] {
        assert!(store.table_url(name).is_err(), "{name}");
    }
    assert!(DeltaStore::open("ftp://host/x", &engine()).is_err());
}
