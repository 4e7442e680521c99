//! Rows of one unit brought together: the results, to the bit, of a session that knows nothing of it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod plans;

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use gosset_engine::{Engine, EngineOptions};
use plans::{engine, error, expected, found, metric};

/// Every unit has some rows, far from each other.
const ROWS: &str = "
    SELECT value AS i, (value * 7919 % 400009) % 120011 AS unit,
           CASE WHEN value % 11 = 0 THEN NULL ELSE concat('u', (value * 7919 % 400009) % 120011) END AS name,
           CASE WHEN value % 13 = 0 THEN NULL ELSE CAST(value % 1009 AS DOUBLE) / 8 END AS y,
           value % 17 AS n, value % 3 AS few, (value * 7919 % 400009) % 120011 % 2 = 0 AS treated
    FROM generate_series(1, 400000)";

/// The line of the operator after the query ran, with its metrics.
async fn analysed(engine: &Engine, query: &str) -> String {
    let plan = found(engine, &format!("EXPLAIN ANALYZE {query}")).await;
    let line = plan.iter().find(|line| line.contains("UnitExchangeExec"));
    line.unwrap_or_else(|| panic!("{plan:?}")).clone()
}

/// The number of rounds in which rows were dealt out.
async fn rounds(engine: &Engine, query: &str) -> usize {
    metric(&analysed(engine, query).await, "rounds")
}

#[tokio::test(flavor = "multi_thread")]
async fn replicates_are_the_same_bits() {
    for of in [
        "bootstrap_mean(y, treated, unit, {method: 'poisson', replicates: 50})",
        "replicates(unit, y, n, {replicates: 40})",
        "replicates(name, y, {method: 'bayesian', replicates: 33})",
        "replicates({u: unit, t: few}, y, {replicates: 40})",
        "few, replicates(unit, y, {replicates: 40}) FILTER (WHERE n > 3), count(*)",
        "permutation_test(y, treated, unit, {replicates: 40})",
        "replicates(unit, y, {replicates: 40}), bootstrap_mean(y, treated, unit)",
    ] {
        let group = if of.starts_with("few") { "GROUP BY few" } else { "" };
        let query = format!("SELECT {of} FROM ({ROWS}) {group}");
        let expected = expected(&query).await;
        for partitions in [1, 2, 7] {
            let engine = engine(partitions);
            assert_eq!(found(&engine, &query).await, expected, "{partitions}: {query}");
        }
        assert_eq!(rounds(&engine(2), &query).await, 1, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_come_once_or_at_once_stay_where_they_are() {
    let engine = engine(2);
    for unit in ["i", "i / 5", "n"] {
        let query = format!(
            "SELECT bootstrap_mean(y, treated, u, {{method: 'poisson', replicates: 50}}) FROM (SELECT *, {unit} AS u FROM ({ROWS}))"
        );
        assert_eq!(rounds(&engine, &query).await, 0, "{unit}");
        assert_eq!(found(&engine, &query).await, expected(&query).await, "{unit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_draws_no_weights_of_units_is_left_alone() {
    let engine = engine(2);
    for (of, rows) in [
        ("ttest(y, treated)", ROWS),
        ("bootstrap_mean(y, treated, unit)", ROWS),
        ("bootstrap_quantile(y, 0.5, treated, unit)", ROWS),
        ("buckets(unit, y)", ROWS),
        ("bootstrap_mean(y, treated, floor(100000 * random())::bigint, {method: 'poisson'})", ROWS),
        // Two units.
        ("replicates(unit, y), replicates(name, y)", ROWS),
        // Few rows.
        ("replicates(i, y)", "SELECT value AS i, value AS y FROM (VALUES (1), (2)) AS t (value)"),
        // They are together already.
        (
            "replicates(unit, y)",
            "SELECT (value * 7919 % 400009) % 120011 AS unit, sum(value) AS y FROM generate_series(1, 400000) GROUP BY 1",
        ),
    ] {
        let query = format!("EXPLAIN SELECT {of} FROM ({rows})");
        let plan = found(&engine, &query).await.join("\n");
        assert!(plan.contains("AggregateExec") && !plan.contains("UnitExchangeExec"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_rows_reach_the_reader() {
    for at in [100, 390_000] {
        let query = format!(
            "SELECT replicates((value * 7919 % 400009) % 120011, 1000 / (value - {at})) FROM generate_series(1, 400000)"
        );
        for partitions in [1, 4] {
            let error = error(&engine(partitions), &query).await;
            assert!(error.contains("Divide by zero"), "{error}");
        }
    }
}

/// The operator in a plan.
fn exchange(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.name() == "UnitExchangeExec" {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(exchange)
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_may_be_read_one_after_the_other_in_little_memory() {
    let of_units = |units: usize| {
        format!(
            "SELECT replicates(value * value % 12000017 % {units}, value, {{replicates: 2}}) FROM generate_series(1, 12000000)"
        )
    };
    let options = EngineOptions::new().with_target_partitions(3).with_memory_limit(256 << 20);
    let engine = Engine::new(options).unwrap();
    // Few units are weighted in rounds; of many, all rows come together.
    let line = analysed(&engine, &of_units(60_001)).await;
    assert!(metric(&line, "rounds") > 1 && metric(&line, "spill_count") == 0, "{line}");
    let query = of_units(3_600_001);
    assert_eq!(found(&engine, &query).await, expected(&query).await);
    let line = analysed(&engine, &query).await;
    assert!(metric(&line, "rounds") == 1 && metric(&line, "spill_count") > 0, "{line}");

    let frame = engine.sql(&query).await.unwrap();
    let context = Arc::new(frame.task_ctx());
    let operator = exchange(&frame.create_physical_plan().await.unwrap()).unwrap();
    let partitions = operator.properties().partitioning.partition_count();
    let streams: Vec<_> =
        (0..partitions).map(|p| operator.execute(p, Arc::clone(&context)).unwrap()).collect();
    let reading = async {
        let mut rows = 0;
        for mut stream in streams {
            while let Some(batch) = stream.next().await {
                rows += batch.unwrap().num_rows();
            }
        }
        rows
    };
    let rows = tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
    assert_eq!(rows, 12_000_000);
    assert_eq!(engine.context().runtime_env().memory_pool.reserved(), 0);

    // Who stops to read gives all back.
    let frame = engine.sql(&query).await.unwrap();
    let mut rows = frame.execute_stream().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(100), rows.next()).await;
    drop(rows);
}

#[tokio::test]
async fn explain_says_what_resampling_takes() {
    let ratio = "{y: y, r: {num: y, den: n}}";
    for (call, cost) in [
        // Four words of a sum and one of a number of rows, by replicate and arm.
        ("bootstrap_mean(y, treated, unit, {method: 'poisson'})", "about 79 KiB per group"),
        (
            &format!("bootstrap_effects({ratio}, treated, unit, {{method: 'poisson'}})"),
            "about 204 KiB per group",
        ),
        (
            "bootstrap_ratio(y, n, treated, unit, {method: 'bayesian', replicates: 100000})",
            "about 13.7 MiB per group",
        ),
        // The same and three words by bucket.
        (
            "bootstrap_mean(y, treated, unit, {method: 'poisson', interval: 'bca'})",
            "about 271 KiB per group",
        ),
        ("bootstrap_cuped(y, n, treated, unit, {method: 'poisson'})", "about 525 KiB per group"),
        (
            "bootstrap_mean(y, treated, unit, {method: 'poisson', buckets: 64})",
            "about 79 KiB per group",
        ),
        ("replicates(unit, y, {buckets: 64})", "about 41 KiB per group"),
        // Three words by bucket and arm.
        (
            "bootstrap_cuped(y, {a: n, b: few}, treated, unit)",
            "4096 buckets, up to about 576 KiB per group",
        ),
        (
            "bootstrap_cuped(y, [n, few], treated, unit)",
            "4096 buckets, up to about 576 KiB per group",
        ),
        ("bootstrap_quantile(y, 0.5, treated, unit)", "6 KiB per bin and arm"),
        ("bootstrap_quantile(y, 0.5, treated)", "1000 binomial replicates"),
        ("permutation_test(y, treated, unit)", "1000 new assignments of units, about"),
    ] {
        let plan =
            found(&engine(2), &format!("EXPLAIN SELECT {call} FROM ({ROWS})")).await.join("\n");
        assert!(plan.contains(cost), "{call}: {plan}");
    }
}
