//! Aggregation by parts of the groups: the results of a plain DataFusion session, which knows nothing of parts.
#![expect(clippy::unwrap_used, reason = "tests")]

mod plans;

use futures::StreamExt;
use gosset_engine::{Engine, EngineError, EngineOptions};
use plans::{engine, error, expected, found, metric};

/// More rows than it takes to see how many groups there are; every second and a few hundred are of a group of their own.
const ROWS: &str = "
    SELECT value AS i, value * 7919 % 200003 AS unit, value % 100 AS few,
           CASE WHEN value % 11 = 0 THEN NULL ELSE concat('u', value * 7919 % 200003) END AS name,
           CASE WHEN value % 13 = 0 THEN NULL ELSE CAST(value % 1009 AS DOUBLE) / 8 END AS y,
           concat('arm ', value * 7919 % 200003 % 3) AS arm
    FROM generate_series(1, 400000)";

/// The line of the operator after the query ran, with its metrics.
async fn analysed(engine: &Engine, query: &str) -> String {
    let plan = found(engine, &format!("EXPLAIN ANALYZE {query}")).await.join("\n");
    let line = plan.lines().find(|line| line.contains("RadixAggregateExec"));
    line.unwrap_or_else(|| panic!("{plan}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_groups_are_those_of_one_table() {
    let queries = [
        "SELECT unit, sum(y), count(*), count(y), min(y), max(i), min(arm), bool_or(few = 7) FROM rows GROUP BY unit",
        "SELECT name, avg(y), max(arm) FROM rows GROUP BY name",
        "SELECT unit, name, count(DISTINCT few), sum(i) FILTER (WHERE y > 60) FROM rows GROUP BY unit, name",
        "SELECT unit % 150001 AS half, arm, median(y) FROM rows GROUP BY unit % 150001, arm",
        "SELECT DISTINCT unit, arm FROM rows",
        "SELECT unit, sum(y) AS s FROM rows GROUP BY unit HAVING sum(y) > 200",
        "SELECT count(*), sum(n), sum(s) FROM (SELECT unit, count(*) AS n, sum(i) AS s FROM rows GROUP BY unit)",
    ];
    for query in queries {
        let query = query.replace("rows", &format!("({ROWS})"));
        let expected = expected(&query).await;
        for partitions in [1, 2, 7] {
            assert_eq!(found(&engine(partitions), &query).await, expected, "{partitions}: {query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_groups_are_aggregated_as_planned() {
    let query = format!("SELECT few, sum(i), count(name) FROM ({ROWS}) GROUP BY few");
    let engine = engine(3);
    assert_eq!(found(&engine, &query).await, expected(&query).await);
    let line = analysed(&engine, &query).await;
    assert_eq!((metric(&line, "rounds"), metric(&line, "output_rows")), (0, 100), "{line}");

    let query = format!("SELECT unit, sum(i) FROM ({ROWS}) GROUP BY unit");
    let line = analysed(&engine, &query).await;
    assert_eq!((metric(&line, "rounds"), metric(&line, "output_rows")), (1, 200), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_meet_those_of_the_same_partition() {
    let query = format!(
        "WITH r AS ({ROWS}),
              a AS (SELECT unit, count(*) AS n FROM r GROUP BY unit),
              b AS (SELECT unit, max(y) AS m FROM r WHERE few < 90 GROUP BY unit)
         SELECT a.unit, n, m FROM a JOIN b ON a.unit = b.unit"
    );
    let expected = expected(&query).await;
    for partitions in [2, 5] {
        assert_eq!(found(&engine(partitions), &query).await, expected, "{partitions}");
    }
}

/// Six million rows of some groups, those of each far from each other.
fn of_groups(groups: usize) -> String {
    format!(
        "SELECT unit, sum(i) AS s, count(*) AS n, min(t) AS t
         FROM (SELECT value * 7919 % {groups} AS unit, value AS i, concat('a', value % 17) AS t FROM generate_series(1, 6000000))
         GROUP BY unit"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn little_memory_takes_files_or_rounds() {
    let limited = |bytes| EngineOptions::new().with_target_partitions(2).with_memory_limit(bytes);
    let engine = Engine::new(limited(256 << 20)).unwrap();
    // What has few groups is aggregated before there are many rows.
    for (groups, has_files) in [(5_000_011, true), (100_003, false)] {
        let query = of_groups(groups);
        let whole = format!("SELECT count(*), sum(unit), sum(s), sum(n), min(t) FROM ({query})");
        assert_eq!(found(&engine, &whole).await, expected(&whole).await);
        let line = analysed(&engine, &query).await;
        let (rounds, files) = (metric(&line, "rounds"), metric(&line, "spill_count"));
        assert_eq!((rounds == 1, files > 0), (has_files, has_files), "{line}");
        assert!(rounds > 0, "{line}");
    }

    // With less memory it goes as planned.
    let engine = Engine::new(limited(128 << 20)).unwrap();
    let line = analysed(&engine, &of_groups(5_000_011)).await;
    assert!(metric(&line, "rounds") == 0 && metric(&line, "spill_count") > 0, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_disk_takes_rounds_and_a_full_one_is_an_error() {
    let options = EngineOptions::new().with_target_partitions(2).with_memory_limit(256 << 20);
    let engine = Engine::new(options).unwrap();
    let of_disk = async |size: &str| {
        let limit = format!("SET datafusion.runtime.max_temp_directory_size = '{size}'");
        engine.sql(&limit).await.unwrap().collect().await.unwrap();
    };
    let query = of_groups(600_011);
    let whole = format!("SELECT count(*), sum(unit), sum(s), sum(n), min(t) FROM ({query})");
    let expected = expected(&whole).await;
    for (size, in_rounds) in [("1G", false), ("20M", true)] {
        of_disk(size).await;
        assert_eq!(found(&engine, &whole).await, expected, "{size}");
        let line = analysed(&engine, &query).await;
        assert!(metric(&line, "spill_count") > 0, "{line}");
        assert_eq!(metric(&line, "rounds") > 1, in_rounds, "{line}");
    }
    of_disk("1M").await;
    let sorted = "SELECT value FROM generate_series(1, 60000000) ORDER BY value * 7919 % 60000011";
    let rows = engine.sql(sorted).await.unwrap().collect().await;
    let error = EngineError::from(rows.unwrap_err());
    assert!(matches!(error, EngineError::NoSpace(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_rows_reach_the_reader() {
    // In the first rows, and long after it is known that there are many groups; and where there are few.
    for (at, unit) in [(100, "value"), (390_000, "value"), (390_000, "value % 10")] {
        let query = format!(
            "SELECT {unit} AS unit, sum(1000 / (value - {at})) FROM generate_series(1, 400000) GROUP BY 1"
        );
        for partitions in [1, 4] {
            let error = error(&engine(partitions), &query).await;
            assert!(error.contains("Divide by zero"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_may_end_early() {
    let engine = engine(4);
    let query = format!("SELECT unit, sum(i) AS s FROM ({ROWS}) GROUP BY unit");
    assert_eq!(found(&engine, &format!("SELECT count(*) FROM ({query} LIMIT 5)")).await.len(), 5);
    let mut rows = engine.sql(&query).await.unwrap().execute_stream().await.unwrap();
    assert!(rows.next().await.unwrap().unwrap().num_rows() > 0);
    drop(rows);
    // One partition after the other, each to its end.
    let streams = engine.sql(&query).await.unwrap().execute_stream_partitioned().await.unwrap();
    let mut groups = 0;
    for mut stream in streams {
        while let Some(rows) = stream.next().await {
            groups += rows.unwrap().num_rows();
        }
    }
    assert_eq!(groups, 200_003);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_an_order_or_few_rows_is_left_alone() {
    let engine = engine(2);
    for query in [
        format!("SELECT unit, first_value(y ORDER BY i) FROM ({ROWS}) GROUP BY unit"),
        format!("SELECT unit, few, sum(y) FROM ({ROWS}) GROUP BY ROLLUP (unit, few)"),
        format!("SELECT i, count(*) FROM ({ROWS} ORDER BY i) GROUP BY i"),
        format!("SELECT count(*) FROM ({ROWS})"),
        format!("SELECT floor(100000 * random()), count(*) FROM ({ROWS}) GROUP BY 1"),
        "SELECT x, count(*) FROM (VALUES (1), (2)) AS t (x) GROUP BY x".to_owned(),
    ] {
        let plan = found(&engine, &format!("EXPLAIN {query}")).await.join("\n");
        assert!(plan.contains("AggregateExec") && !plan.contains("RadixAggregateExec"), "{plan}");
    }
}
