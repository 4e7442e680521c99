//! Rows that are computed once for many queries: here and on a cluster, in files that do not outlive them.
#![cfg(feature = "cluster")]
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "commits fail elsewhere")]
mod faulty;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::DataFrame;
use faulty::faulty_stores;
use gosset_engine::cluster::{
    Cluster, Executor, ExecutorOptions, Scheduler, SchedulerOptions, Security,
};
use gosset_engine::{Engine, EngineOptions, Stores};

const QUERY: &str = "SELECT value % 5 AS g, value AS y FROM '{}'";

/// The rows, in one order.
async fn shown(rows: DataFrame) -> String {
    let columns = rows.schema().columns().into_iter().map(Into::into).collect();
    let rows = rows.sort_by(columns).unwrap().collect().await.unwrap();
    pretty_format_batches(&rows).unwrap().to_string()
}

fn files_in(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => files_in(&path),
        _ => 1,
    };
    entries.map(|entry| count(entry.unwrap())).sum()
}

/// A file of rows in a folder, and the query of it.
async fn rows(folder: &Path) -> String {
    let engine = Engine::new(EngineOptions::new()).unwrap();
    let file = folder.join("rows.parquet").display().to_string();
    let series = format!("COPY (SELECT * FROM generate_series(1, 5000)) TO '{file}'");
    engine.sql(&series).await.unwrap().collect().await.unwrap();
    QUERY.replace("{}", &file)
}

/// A cluster within this process, whose executor has these stores; and a session on it with a scratch folder.
async fn on_cluster(folder: &Path, stores: Stores) -> Engine {
    let local = "127.0.0.1:0".parse().unwrap();
    let scheduler = Scheduler::bind(SchedulerOptions {
        listen: local,
        http: None,
        executor_timeout: Duration::from_secs(15),
        client_timeout: Duration::from_secs(30),
        security: Security::new(),
    });
    let scheduler = scheduler.await.unwrap();
    let at = scheduler.address().unwrap();
    tokio::spawn(scheduler.run(std::future::pending()));
    let executor = Executor::bind(ExecutorOptions {
        scheduler: at.to_string(),
        listen: local,
        advertise: None,
        http: None,
        slots: 2,
        work_dir: folder.join("work"),
        drain: Duration::ZERO,
        patience: Duration::from_secs(10),
        security: Security::new(),
        engine: EngineOptions::new().with_stores(stores),
    });
    tokio::spawn(executor.await.unwrap().run(std::future::pending()));
    let cluster = Cluster::new(&format!("df://{at}"), Security::new()).unwrap();
    let engine = Engine::new(EngineOptions::new().with_cluster(cluster)).unwrap();
    engine.with_scratch(&folder.join("_scratch").display().to_string()).unwrap()
}

/// Whether rows that are kept are the rows, and in how many files they are while they are kept.
async fn kept(engine: &Engine, query: &str, folder: &Path) -> usize {
    let rows = engine.sql(query).await.unwrap();
    let kept = engine.kept(rows.clone(), Some("g")).await.unwrap();
    let files = files_in(folder);
    assert_eq!(shown(kept.rows().clone()).await, shown(rows).await);
    let copy = kept.clone();
    drop(kept);
    assert_eq!(files_in(folder), files, "a copy needs them");
    drop(copy);
    assert_eq!(files_in(folder), 0);
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_session_are_kept_where_it_spills() {
    let folder = tempfile::tempdir().unwrap();
    let query = rows(folder.path()).await;
    let spill = folder.path().join("spill");
    std::fs::create_dir(&spill).unwrap();
    let engine = Engine::new(EngineOptions::new().with_spill_directory(&spill)).unwrap();
    assert!(kept(&engine, &query, &spill).await > 0);
    let nothing = format!("{query} WHERE value < 0");
    assert_eq!(kept(&engine, &nothing, &spill).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_cluster_are_kept_in_its_scratch_folder() {
    let folder = tempfile::tempdir().unwrap();
    let query = rows(folder.path()).await;
    let scratch = folder.path().join("_scratch");
    let engine = on_cluster(folder.path(), Stores::new()).await;
    assert!(kept(&engine, &query, &scratch).await > 0);
    assert_eq!(kept(&engine, &format!("{query} WHERE value < 0"), &scratch).await, 0);
    assert!(!scratch.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_that_may_not_write_compute_rows_again() {
    let folder = tempfile::tempdir().unwrap();
    let query = rows(folder.path()).await;
    let (stores, faults) = faulty_stores();
    faults.scratch_refused.store(true, Ordering::Relaxed);
    let engine = on_cluster(folder.path(), stores).await;
    assert_eq!(kept(&engine, &query, &folder.path().join("_scratch")).await, 0);
}
