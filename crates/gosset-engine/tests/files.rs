//! Files, directories, patterns and Delta tables as tables of SQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod common;

use std::fs;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use common::{rows, schema};
use gosset_engine::delta::{DeltaStore, Metadata, partition};
use gosset_engine::{Engine, EngineError, EngineOptions, Result};

fn engine() -> Engine {
    Engine::new(EngineOptions::new().with_target_partitions(2)).unwrap()
}

async fn number(engine: &Engine, sql: &str) -> Result<i64> {
    let batches = engine.sql(sql).await?.collect().await?;
    Ok(batches[0].column(0).as_primitive::<Int64Type>().value(0))
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test]
async fn text_files() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(&root.join("a b/x.csv"), "n,s\n1,one\n2,\"two, too\"\n");
    write(&root.join("x.tsv"), "n\ts\n4\tone\n");
    write(&root.join("x.ndjson"), "{\"n\": 5}\n{\"n\": 6}\n");
    write(&root.join("x.json"), "[{\"n\": 7}, {\"n\": 8}]");
    let engine = engine();
    let root = root.display();
    for (file, sum) in [("a b/x.csv", 3), ("x.tsv", 4), ("x.ndjson", 11), ("x.json", 15)] {
        let sql = format!("SELECT sum(n) FROM '{root}/{file}'");
        assert_eq!(number(&engine, &sql).await, Ok(sum), "{file}");
    }
}

#[tokio::test]
async fn directories_patterns_and_partitions() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display();
    let engine = engine();
    for day in 1..=3 {
        let sql = format!(
            "COPY (SELECT {day} AS n UNION ALL SELECT 10 * {day}) \
             TO '{root}/days/ds=2026-01-0{day}/part.parquet'"
        );
        engine.sql(&sql).await.unwrap().collect().await.unwrap();
    }
    write(&directory.path().join("days/_SUCCESS"), "");
    for (place, sum) in [
        ("days", 66),
        ("days/", 66),
        ("days/ds=2026-01-02", 22),
        ("days/ds=2026-01-0[13]/*.parquet", 44),
    ] {
        let sql = format!("SELECT sum(n) FROM '{root}/{place}'");
        assert_eq!(number(&engine, &sql).await, Ok(sum), "{place}");
        let sql = format!("SELECT sum(n) FROM 'file://{root}/{place}'");
        assert_eq!(number(&engine, &sql).await, Ok(sum), "file://…/{place}");
    }
    let sql = format!("SELECT sum(n) FROM '{root}/days' WHERE ds > '2026-01-01'");
    assert_eq!(number(&engine, &sql).await, Ok(55));
    let files = engine.list(&format!("{root}/days")).await.unwrap();
    let names: Vec<_> = files.files().iter().filter_map(|file| file.location.filename()).collect();
    assert_eq!(names, ["part.parquet"; 3], "markers are no data");

    // A file that comes later is seen: nothing remembers the listing.
    let sql = format!("COPY (SELECT 100 AS n) TO '{root}/days/ds=2026-01-04/part.parquet'");
    engine.sql(&sql).await.unwrap().collect().await.unwrap();
    assert_eq!(number(&engine, &format!("SELECT sum(n) FROM '{root}/days'")).await, Ok(166));
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display();
    write(&directory.path().join("broken.parquet"), "PAR1 not really");
    write(&directory.path().join("empty.parquet"), "");
    write(&directory.path().join("docs/readme.txt"), "hello");
    let engine = engine();
    let error = |place: &str| {
        let sql = format!("SELECT * FROM '{root}/{place}'");
        let engine = engine.clone();
        async move { number(&engine, &sql).await.unwrap_err() }
    };
    for missing in ["none.parquet", "none/", "none/*.csv"] {
        let found = error(missing).await;
        assert_eq!(
            found,
            EngineError::MissingInput(format!("no file found at '{root}/{missing}'")),
        );
    }
    for broken in ["broken.parquet", "empty.parquet"] {
        let found = error(broken).await;
        assert!(matches!(found, EngineError::BadData(_)), "{found:?}");
        assert!(found.to_string().contains(broken), "{found}");
    }
    let found = error("docs").await;
    assert!(found.to_string().ends_with("found 'readme.txt'"), "{found}");
    let plain = number(&engine, "SELECT * FROM nothing").await.unwrap_err();
    assert_eq!(plain, EngineError::Query("table 'nothing' not found".into()));
    let scheme = number(&engine, "SELECT * FROM 'ftp://x/y.csv'").await.unwrap_err();
    assert!(matches!(scheme, EngineError::Option(_)), "{scheme:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_tables() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let engine = engine();
    let store = DeltaStore::open(root, &engine).unwrap();
    let mut table = store.table("t", schema(), &["job", "date"]).await.unwrap();
    for (job, date, values) in
        [("a", Some("2026-01-01"), &[1, 2]), ("a", None, &[3, 4]), ("b", None, &[5, 6])]
    {
        let at = partition(&[("job", job.into()), ("date", date.into())]);
        table.replace(rows(job, date, values), at, &Metadata::new(), job).await.unwrap();
    }
    let sum = |filter: &str| {
        let sql = format!("SELECT sum(value) FROM '{root}/t' WHERE {filter}");
        let engine = engine.clone();
        async move { number(&engine, &sql).await }
    };
    assert_eq!(sum("true").await, Ok(21));
    assert_eq!(sum("job = 'a'").await, Ok(10));
    assert_eq!(sum("date IS NULL AND value > 3").await, Ok(15));
    assert_eq!(sum("date >= '2026-01-01'").await, Ok(3));
    assert_eq!(sum("job IN ('a', 'b') AND value = 6").await, Ok(6));

    // The declared order of columns, although partition columns are not in the files.
    let batches =
        engine.sql(&format!("SELECT * FROM '{root}/t'")).await.unwrap().collect().await.unwrap();
    let names: Vec<_> =
        batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["job", "date", "value"]);

    // Rows that were replaced are gone, although their files are still there.
    let at = partition(&[("job", "b".into()), ("date", None::<&str>.into())]);
    table.replace(rows("b", None, &[50]), at, &Metadata::new(), "again").await.unwrap();
    assert_eq!(sum("true").await, Ok(60));
    assert_eq!(engine.list(&format!("{root}/t")).await.unwrap().files().len(), 3);

    let sql = format!("CREATE EXTERNAL TABLE named STORED AS DELTA LOCATION '{root}/t'");
    engine.sql(&sql).await.unwrap();
    assert_eq!(number(&engine, "SELECT count(*) FROM named").await, Ok(5));
    let sql = format!("SELECT count(*) FROM '{root}/t' WHERE job = 'nobody'");
    assert_eq!(number(&engine, &sql).await, Ok(0));
}

/// Log entries of other writers that name what a plain scan of files would get wrong.
#[tokio::test]
async fn deletion_vectors_and_column_mapping_are_refused() {
    let schema = r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"n\",\"type\":\"long\",\"nullable\":true,\"metadata\":{\"delta.columnMapping.id\":1,\"delta.columnMapping.physicalName\":\"col-1\"}}]}"#;
    let log = |features: &str, configuration: &str, vector: &str| {
        format!(
            "{{\"protocol\":{{\"minReaderVersion\":3,\"minWriterVersion\":7,\"readerFeatures\":[{features}],\"writerFeatures\":[{features}]}}}}\n\
             {{\"metaData\":{{\"id\":\"00000000-0000-0000-0000-000000000000\",\"format\":{{\"provider\":\"parquet\",\"options\":{{}}}},\"schemaString\":\"{schema}\",\"partitionColumns\":[],\"configuration\":{{{configuration}}},\"createdTime\":0}}}}\n\
             {{\"add\":{{\"path\":\"x.parquet\",\"partitionValues\":{{}},\"size\":1,\"modificationTime\":0,\"dataChange\":true{vector}}}}}\n"
        )
    };
    let vector = r#","deletionVector":{"storageType":"u","pathOrInlineDv":"ab^-aqEH.-t@S}K{vb[*k^","offset":4,"sizeInBytes":40,"cardinality":6}"#;
    let directory = tempfile::tempdir().unwrap();
    for (name, text, reason) in [
        (
            "vectors",
            log("\"deletionVectors\"", "\"delta.enableDeletionVectors\":\"true\"", vector),
            "deletion vectors are not supported",
        ),
        (
            "mapping",
            log("\"columnMapping\"", "\"delta.columnMapping.mode\":\"name\"", ""),
            "column mapping is not supported",
        ),
    ] {
        write(&directory.path().join(name).join("_delta_log/00000000000000000000.json"), &text);
        let sql = format!("SELECT * FROM '{}/{name}'", directory.path().display());
        let found = number(&engine(), &sql).await.unwrap_err();
        assert!(matches!(found, EngineError::BadData(_)), "{found:?}");
        assert!(found.to_string().contains(reason) && found.to_string().contains(name), "{found}");
    }
}

#[tokio::test]
async fn a_script_is_split_by_its_grammar() {
    let statements = engine().parse("SELECT ';' AS a; -- one; two\nSELECT 2 /* ; */;;").unwrap();
    assert_eq!(statements.len(), 2);
    let error = engine().parse("SELECT 1; SELEC 2").unwrap_err();
    assert!(
        matches!(error, EngineError::Query(_)) && error.to_string().starts_with("syntax error")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_beyond_its_memory_spills_or_names_the_holder() {
    let small = |bytes| {
        Engine::new(EngineOptions::new().with_memory_limit(bytes).with_target_partitions(2))
            .unwrap()
    };
    let sql = "SELECT count(*) FROM (SELECT value AS v, count(*) FROM generate_series(1, 2000000) GROUP BY 1)";
    assert_eq!(number(&small(20 << 20), sql).await, Ok(2_000_000));
    let error = number(&small(100 << 10), sql).await.unwrap_err();
    assert!(matches!(error, EngineError::MemoryLimit(_)), "{error:?}");
}

#[tokio::test]
async fn a_table_is_of_one_format() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display();
    let engine = engine();
    write(&directory.path().join("mixed/a.csv"), "n\n1\n");
    write(&directory.path().join("mixed/b.json"), "{\"n\": 2}\n");
    for place in ["mixed", "mixed/*"] {
        let found = number(&engine, &format!("SELECT sum(n) FROM '{root}/{place}'")).await;
        let Err(EngineError::BadData(text)) = found else { panic!("{place}: {found:?}") };
        assert!(text.contains("files of one format") && text.contains("b.json"), "{text}");
    }
}
