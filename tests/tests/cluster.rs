//! The statements of `slt` on a cluster of processes, and here: the same bits.
//!
//! Views over literal rows and series become Parquet files on the cluster's side, three or more of them, so that every
//! aggregate is computed in parts whose states cross a shuffle.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::mem::Discriminant;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use gosset_engine::cluster::{Cluster, JobStatus, Security};
use gosset_engine::{Engine, EngineError, EngineOptions};
use gosset_tests::bits::bits;
use gosset_tests::cluster::Processes;
use sqllogictest::{DefaultColumnType, Record};

/// Files of each table on the cluster's side.
const FILES: usize = 3;

/// What a statement takes at most.
const LONGEST: Duration = Duration::from_secs(60);

/// Here and on a cluster, with tables of the same rows.
struct Both {
    here: Engine,
    there: Engine,
    folder: PathBuf,
}

impl Both {
    fn new(cluster: &Processes, folder: &Path) -> Self {
        let here = Engine::new(EngineOptions::new().with_batch_size(7)).unwrap();
        let place = Cluster::new(&cluster.url(), Security::new()).unwrap();
        let options = EngineOptions::new().with_batch_size(100).with_cluster(place);
        Self { here, there: Engine::new(options).unwrap(), folder: folder.to_owned() }
    }

    /// Asserts that a query has the same rows.
    async fn agree(&self, sql: &str) {
        let (here, there) = (rows_of(&self.here, sql).await, rows_of(&self.there, sql).await);
        assert_eq!(bits(&here), bits(&there), "{sql}");
    }

    /// `CREATE VIEW name AS query`: a view here, files there.
    async fn create(&self, statement: &str) {
        self.here.sql(statement).await.unwrap();
        let mut words =
            statement.split_whitespace().skip_while(|word| !word.eq_ignore_ascii_case("view"));
        let name = words.nth(1).unwrap();
        let rows = self.here.sql(&format!("SELECT * FROM {name}")).await.unwrap();
        let schema = Arc::new(rows.schema().as_arrow().clone());
        let rows = concat_batches(&schema, &rows.collect().await.unwrap()).unwrap();
        let folder = self.folder.join(name);
        let writer = SessionContext::new();
        for part in 0..FILES {
            // Of unequal numbers of rows, and none of them in one piece.
            let of = |row: &u32| (row * row % 7) as usize % FILES == part;
            let indices: Vec<u32> = (0..rows.num_rows() as u32).filter(of).collect();
            let part_rows = take_record_batch(&rows, &UInt32Array::from(indices)).unwrap();
            let table = MemTable::try_new(Arc::clone(&schema), vec![vec![part_rows]]).unwrap();
            let frame = writer.read_table(Arc::new(table)).unwrap();
            let file = folder.join(format!("{part}.parquet"));
            std::fs::create_dir_all(&folder).unwrap();
            frame.write_parquet(file.to_str().unwrap(), Default::default(), None).await.unwrap();
        }
        let table = self.there.table(&format!("{}/", folder.display())).await.unwrap();
        self.there.context().deregister_table(name).unwrap();
        self.there.context().register_table(name, table).unwrap();
    }
}

async fn rows_of(engine: &Engine, sql: &str) -> Vec<RecordBatch> {
    rows(engine, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn rows(engine: &Engine, sql: &str) -> Result<Vec<RecordBatch>, EngineError> {
    let frame = engine.sql(sql).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    Ok(vec![concat_batches(&schema, &batches)?])
}

/// The condition and the words of an error. Which of two wrong rows is met first, and which of two summaries that do not
/// merge is the first, depends on the order of rows: names and numbers are left out, and words are in the order of theirs.
fn said(error: &EngineError) -> (Discriminant<EngineError>, Vec<String>) {
    let text = error.to_string();
    let unquoted: String = text.split('\'').step_by(2).collect::<Vec<_>>().join("'");
    let words = unquoted.split(|c: char| !c.is_alphabetic() && c != '_');
    let mut words: Vec<String> = words.filter(|word| !word.is_empty()).map(plain_word).collect();
    words.sort();
    (std::mem::discriminant(error), words)
}

/// The type of strings has another name on a cluster.
fn plain_word(word: &str) -> String {
    word.replace("View", "")
}

/// Statements that a cluster refuses, with what they say there.
const REFUSED: &[(&str, &str)] = &[(
    // The rewrite of a scalar subquery to a join gives two columns one name, where both are the same call. An alias helps.
    ", y, {replicates: 10}) = (SELECT replicates(",
    "would be ambiguous",
)];

fn is_refused(sql: &str, error: &EngineError) -> bool {
    REFUSED.iter().any(|(part, why)| sql.contains(part) && error.to_string().contains(why))
}

async fn compare(cluster: &Processes, file: &Path) -> (usize, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let both = Both::new(cluster, folder.path());
    let (mut compared, mut differ) = (0, Vec::new());
    for record in sqllogictest::parse_file::<DefaultColumnType>(file).unwrap() {
        let (Record::Statement { sql, loc, .. } | Record::Query { sql, loc, .. }) = record else {
            continue;
        };
        if sql.trim_start().to_lowercase().starts_with("create") {
            both.create(&sql).await;
            continue;
        }
        let here = rows(&both.here, &sql).await;
        let there = tokio::time::timeout(LONGEST, rows(&both.there, &sql)).await;
        let there = there.unwrap_or_else(|_| panic!("{loc}: no answer: {sql}"));
        compared += 1;
        let why = match (&here, &there) {
            (Ok(here), Ok(there)) if bits(here) == bits(there) => continue,
            (Err(here), Err(there)) if said(here) == said(there) => continue,
            (_, Err(there)) if is_refused(&sql, there) => continue,
            (Ok(_), Ok(_)) => "other bits".to_owned(),
            (Err(here), there) => format!("here {here:?}, there {:?}", there.as_ref().err()),
            (Ok(_), Err(there)) => format!("there {there:?}"),
        };
        differ.push(format!("{loc}: {why}"));
    }
    (compared, differ)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bits_as_here() {
    let cluster = Processes::start(2, 2);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut compared, mut differ) = (0, Vec::new());
    let compare = |file: PathBuf| {
        let cluster = &cluster;
        async move { compare(cluster, &file).await }
    };
    // A statement waits more than it computes.
    let mut files = futures::stream::iter(files.into_iter().map(compare)).buffer_unordered(6);
    while let Some((statements, others)) = files.next().await {
        compared += statements;
        differ.extend(others);
    }
    assert!(differ.is_empty(), "{} of {compared}:\n{}", differ.len(), differ.join("\n"));
    assert!(compared > 900, "{compared} statements were compared");
}

/// Files of every kind, four of each so that tasks read several, and rows that only this session has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_file_is_read_as_here() {
    let cluster = Processes::start(2, 2);
    let folder = tempfile::tempdir().unwrap();
    let both = Both::new(&cluster, folder.path());
    let at = folder.path().display();
    for (ending, options) in [
        ("parquet", "STORED AS PARQUET"),
        ("csv", "STORED AS CSV"),
        ("csv.gz", "STORED AS CSV OPTIONS ('format.compression' 'gzip')"),
        ("ndjson", "STORED AS JSON"),
        ("ndjson.zst", "STORED AS JSON OPTIONS ('format.compression' 'zstd')"),
    ] {
        for part in 0..4 {
            let rows = format!(
                "COPY (SELECT i, i % 7 AS k, 'row ' || i AS s FROM generate_series({part}, {}) AS t (i)) \
                 TO '{at}/{ending}/{part}.{ending}' {options}",
                part + 100
            );
            rows_of(&both.here, &rows).await;
        }
        for from in [format!("'{at}/{ending}/'"), format!("'{at}/{ending}/*.{ending}'")] {
            both.agree(&format!(
                "SELECT k, count(*) AS n, sum(i) AS i, max(s) AS s FROM {from} GROUP BY k"
            ))
            .await;
            both.agree(&format!("SELECT count(*) AS n FROM {from}")).await;
        }
    }
    for part in 0..4 {
        let array: Vec<String> = (0..50).map(|i| format!("{{\"i\": {}}}", i + part)).collect();
        let file = folder.path().join(format!("arrays/{part}.json"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("[{}]", array.join(","))).unwrap();
    }
    both.agree(&format!(
        "SELECT i % 3 AS k, count(*) AS n, sum(i) AS i FROM '{at}/arrays/' GROUP BY k"
    ))
    .await;

    for statement in [
        "CREATE TABLE mine AS SELECT i, i % 3 AS k FROM generate_series(1, 1000) AS t (i)"
            .to_owned(),
        format!(
            "CREATE EXTERNAL TABLE semi STORED AS CSV LOCATION '{at}/csv/' OPTIONS ('format.has_header' 'true')"
        ),
    ] {
        rows_of(&both.here, &statement).await;
        rows_of(&both.there, &statement).await;
    }
    both.agree("SELECT k, sum(i) AS i FROM mine GROUP BY k").await;
    both.agree("SELECT m.k, count(*) AS n FROM mine m JOIN semi s ON m.i = s.i GROUP BY m.k").await;
    both.agree("SELECT count(*) AS n FROM semi WHERE k NOT IN (SELECT k FROM mine)").await;
    both.agree("SELECT count(*) AS n FROM generate_series(1, 100)").await;
    both.agree("WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT sum(n) AS n FROM r").await;
    both.agree("SELECT table_name FROM information_schema.tables WHERE table_name = 'mine'").await;

    let refused = async |sql: &str| match rows(&both.there, sql).await {
        Err(EngineError::Query(why)) => why,
        other => panic!("{sql}: {other:?}"),
    };
    let why = refused("INSERT INTO mine VALUES (1, 1)").await;
    assert_eq!(why, "table 'mine' is of this session: a cluster cannot write it");
    let why = refused("WITH RECURSIVE r AS (SELECT i FROM semi UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT * FROM r").await;
    assert_eq!(why, "a cluster cannot run recursive queries of files");
    let why = refused("EXPLAIN ANALYZE SELECT 1").await;
    assert!(why.starts_with("EXPLAIN ANALYZE measures this process"), "{why}");
}

/// A client with one query gets as much of a cluster as one with many, whoever came first.
#[tokio::test(flavor = "multi_thread")]
async fn clients_have_even_shares() {
    const FILES: usize = 24;
    const QUERIES: usize = 6;
    let (cluster, folder) = (Processes::start(1, 1), tempfile::tempdir().unwrap());
    let writer = SessionContext::new();
    for file in 0..FILES {
        let rows = writer.sql("SELECT value AS unit FROM generate_series(1, 20000)").await.unwrap();
        let file = folder.path().join(format!("{file}.parquet"));
        rows.write_parquet(file.to_str().unwrap(), Default::default(), None).await.unwrap();
    }
    let engine = |name: &str| {
        let place = Cluster::new(&cluster.url(), Security::new()).unwrap().with_name(name);
        let options = EngineOptions::new().with_target_partitions(FILES).with_cluster(place);
        Engine::new(options).unwrap()
    };
    let query = format!(
        "SELECT bootstrap_mean(unit, unit % 2 = 0, unit, {{replicates: 10000, method: 'poisson'}}) FROM '{}/'",
        folder.path().display()
    );
    let status = Cluster::new(&cluster.url(), Security::new()).unwrap();
    // Of a query that is over nobody counts tasks any more: it had one for each file at least.
    let tasks_of_many = async || {
        let jobs = status.status().await.unwrap().jobs;
        let of_many = jobs.iter().filter(|job| job.client.starts_with("many"));
        let tasks = |job: &JobStatus| if job.is_over() { FILES } else { job.tasks_done };
        of_many.map(tasks).sum::<usize>()
    };
    let many = engine("many");
    let first = futures::future::join_all((0..QUERIES).map(|_| rows_of(&many, &query)));
    let second = async {
        while tasks_of_many().await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let one = engine("one");
        let before = tasks_of_many().await;
        rows_of(&one, &query).await;
        tasks_of_many().await - before
    };
    let both = tokio::time::timeout(LONGEST, async { tokio::join!(first, second) });
    let (first, meanwhile) = both.await.unwrap();
    let answers: Vec<_> = first.iter().map(|rows| bits(rows)).collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    // One for one, and some while the query is planned, between its stages, and until its end is told.
    assert!(meanwhile <= 2 * FILES, "{meanwhile} tasks of others for {FILES} of one");
}

/// Partial states of many groups with many replicates are more than fits in one message.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_groups_with_replicates() {
    let (cluster, folder) = (Processes::start(2, 1), tempfile::tempdir().unwrap());
    let both = Both::new(&cluster, folder.path());
    both.create(
        "CREATE VIEW many AS SELECT value % 2000 AS g, value AS unit, value % 4 < 2 AS treated \
         FROM generate_series(1, 60000) AS s (value)",
    )
    .await;
    both.agree(
        "SELECT g, bootstrap_mean(unit % 97, treated, unit, {method: 'poisson'}) AS e FROM many GROUP BY g ORDER BY g",
    )
    .await;
}
