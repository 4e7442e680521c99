//! The same rows give the same bits: under any partitions, batches, order, with and without partial aggregation, in
//! both grouped stacks, and when memory is short and groups are spilled. On awkward values: 1e300 beside 1e-300, an
//! offset of 1e9, subnormals.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::datasource::MemTable;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionContext;
use gosset_tests::calls::{CALLS, Stream, bits, rows};
use gosset_tests::session::{MODES, Mode};

/// The rows in another order, in partitions of several batches.
fn arranged(rows: &RecordBatch, seed: u64, partitions: usize) -> MemTable {
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    let mut s = Stream(seed);
    if seed > 0 {
        for i in (1..order.len()).rev() {
            order.swap(i, (s.draw() % (i as u64 + 1)) as usize);
        }
    }
    let shuffled = take_record_batch(rows, &UInt32Array::from(order)).unwrap();
    let mut parts: Vec<Vec<RecordBatch>> = vec![Vec::new(); partitions];
    let mut at = 0;
    while at < shuffled.num_rows() {
        let n = (1 + s.draw() as usize % 700).min(shuffled.num_rows() - at);
        parts[s.draw() as usize % partitions].push(shuffled.slice(at, n));
        at += n;
    }
    MemTable::try_new(rows.schema(), parts).unwrap()
}

async fn results(context: &SessionContext, table: MemTable) -> Vec<(String, Vec<String>)> {
    context.register_table("t", Arc::new(table)).unwrap();
    let mut all = Vec::new();
    for (_, call) in CALLS {
        for sql in [
            format!("SELECT {call} FROM t"),
            format!("SELECT day, {call} FROM t GROUP BY day ORDER BY day"),
            format!("SELECT {call} FILTER (WHERE day < 11) FROM t"),
            format!(
                "SELECT unit, day, {call} FILTER (WHERE day > 3) FROM t WHERE unit > 400 GROUP BY GROUPING SETS ((unit, day), (day), ()) ORDER BY unit, day"
            ),
        ] {
            let frame = context.sql(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            let batches = frame.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            all.push((sql, bits(&batches)));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_every_mode_and_order() {
    let rows = rows();
    let expected = results(&MODES[0].session().unwrap(), arranged(&rows, 0, 1)).await;
    for (seed, mode) in MODES.iter().enumerate() {
        for partitions in [1, 5] {
            let table = arranged(&rows, 1 + seed as u64, partitions);
            let found = results(&mode.session().unwrap(), table).await;
            for ((sql, expected), (_, found)) in expected.iter().zip(&found) {
                assert_eq!(
                    expected, found,
                    "{} with {partitions} input partitions: {sql}",
                    mode.name
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_groups_are_spilled() {
    let rows = rows();
    let sql = "SELECT unit, day, cuped(y, {x: x, gappy: gappy}, arm), exact_sum(awkward), clustered_ttest(y, arm, name) FROM t GROUP BY unit, day ORDER BY unit, day";
    let mode = Mode { batch_size: 64, ..MODES[0] };
    let run = async |context: SessionContext, seed: u64| {
        context.register_table("t", Arc::new(arranged(&rows, seed, 2))).unwrap();
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let batches = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx())
            .await
            .unwrap();
        (bits(&batches), spills(plan.as_ref()))
    };
    let (expected, _) = run(mode.session().unwrap(), 0).await;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(16 << 20)))
        .build_arc()
        .unwrap();
    let small = SessionContext::new_with_config_rt(mode.config().unwrap(), runtime);
    gosset_sql::register(&mut *small.state_ref().write()).unwrap();
    let (found, spilled) = run(small, 9).await;
    assert!(spilled > 0, "nothing was spilled: the test proves nothing");
    assert_eq!(expected, found);
}

fn spills(plan: &dyn datafusion::physical_plan::ExecutionPlan) -> usize {
    let own = plan.metrics().and_then(|m| m.spill_count()).unwrap_or(0);
    own + plan.children().iter().map(|child| spills(child.as_ref())).sum::<usize>()
}

#[test]
fn every_aggregate_is_here() {
    let session = MODES[0].session().unwrap();
    for function in gosset_sql::FUNCTIONS {
        let covered = CALLS.iter().any(|(name, _)| *name == function.name);
        let aggregate = session.udaf(function.name).is_ok();
        assert_eq!(covered, aggregate, "'{}' has no query in CALLS", function.name);
    }
}

/// One call over the rows, and the comparison of the stored summaries of both arms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comparisons_of_summaries_are_the_one_call_forms() {
    let rows = rows();
    let context = MODES[3].session().unwrap();
    context.register_table("t", Arc::new(arranged(&rows, 3, 4))).unwrap();
    for (call, summary, comparison) in [
        ("ttest(awkward, arm)", "moments(awkward)", "ttest_effect(b, a)"),
        ("proportion_test(success, arm)", "moments(success)", "proportion_effect(b, a)"),
        ("ratio_test(y, den, arm)", "moments({n: y, d: den})", "ratio_effect(b, a)"),
        ("cuped(y, [x, gappy], arm)", "moments(y, [x, gappy])", "cuped_effect(b, a)"),
        (
            "lin(y, {x: x}, arm, {vcov: 'HC3', missing: 'drop'})",
            "gram(y, {x: x})",
            "lin_effect(b, a, {vcov: 'HC3'})",
        ),
        (
            "cuped_ratio(y, den, {r: {num: x, den: den}}, arm)",
            "moments({n: y, d: den}, {r: {num: x, den: den}})",
            "cuped_ratio_effect(b, a)",
        ),
        (
            "post_stratify(y, name, arm, {g: gappy}, {superpopulation: true})",
            "stratified_moments(name, y, {g: gappy})",
            "post_stratify_effect(b, a, {superpopulation: true})",
        ),
        (
            "post_stratify(awkward, cell, arm)",
            "stratified_moments(cell, awkward)",
            "post_stratify_effect(b, a)",
        ),
        (
            "winsorized(x, arm, {upper: 0.9, lower: 0.05})",
            "binned_moments(x)",
            "winsorized_effect(b, a, {upper: 0.9, lower: 0.05})",
        ),
        ("mlrate(y, gappy, arm)", "moments(y, gappy)", "mlrate_effect(b, a)"),
        ("lin(y, {g: gappy}, arm)", "moments(y, {g: gappy})", "lin_effect(b, a)"),
        ("clustered_ttest(y, arm, unit)", "buckets(unit, y)", "clustered_ttest_effect(b, a)"),
        (
            "bootstrap_mean(y, arm, unit, {replicates: 30})",
            "buckets(unit, y)",
            "bootstrap_effect(b, a, {replicates: 30})",
        ),
        (
            "bootstrap_ratio(y, den, arm, name, {seed: 3})",
            "buckets(name, {num: y, den: den})",
            "bootstrap_effect(b, a, {seed: 3})",
        ),
        (
            "clustered_ttest(y, arm, unit, {std_error: 'jackknife'})",
            "buckets(unit, y)",
            "clustered_ttest_effect(b, a, {std_error: 'jackknife'})",
        ),
        (
            "bootstrap_quantile(y, 0.7, arm, name, {replicates: 40, interval: 'delta'})",
            "histogram(y, name, {replicates: 40})",
            "quantile_effect(b, a, 0.7, {interval: 'delta'})",
        ),
        (
            "quantile_effects(awkward, arm, {grid: 5, seed: 3})",
            "histogram(awkward)",
            "quantile_effects_of(b, a, {grid: 5, seed: 3})",
        ),
        (
            "bootstrap_effects({y: y, r: {num: y, den: den}}, arm, name, {method: 'poisson', replicates: 30})",
            "replicates(name, {y: y, r: {num: y, den: den}}, {replicates: 30})",
            "bootstrap_effects_of(b, a)",
        ),
    ] {
        let one_call = format!("SELECT {call} AS e FROM t WHERE arm IS NOT NULL");
        let stored = format!(
            "WITH days AS (SELECT day, arm, {summary} AS s FROM t WHERE arm IS NOT NULL GROUP BY day, arm),
             arms AS (SELECT arm, merge_summaries(s) AS s FROM days GROUP BY arm)
             SELECT {comparison} AS e FROM (SELECT t.s AS b, c.s AS a FROM arms t CROSS JOIN arms c WHERE t.arm AND NOT c.arm)"
        );
        let mut found = Vec::new();
        for sql in [one_call, stored] {
            found.push(bits(&context.sql(&sql).await.unwrap().collect().await.unwrap()));
        }
        assert_eq!(found[0], found[1], "{call}");
    }
}

/// One call over the rows, and the model of the stored summaries of days.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_of_summaries_are_the_one_call_forms() {
    let context = MODES[3].session().unwrap();
    context.register_table("t", Arc::new(arranged(&rows(), 3, 4))).unwrap();
    for (arguments, options) in [
        ("(y, {cell: cell, success: success})", "{vcov: 'HC2', interactions: ['cell:success']}"),
        ("(y, {cell: cell, x: x}, den, {max_rows: 50})", "{vcov: 'classical'}"),
        ("_clustered(y, {arm: arm, x: x}, unit)", "{intercept: false}"),
        ("_clustered(y, {arm: arm, x: x}, unit, {max_rows: 50})", "{confidence: 0.9}"),
    ] {
        // The options of both stages are those of the one call.
        let call =
            match arguments.strip_suffix("})").and_then(|head| head.rsplit_once(", {max_rows")) {
                Some((head, max_rows)) => {
                    format!("ols{head}, {{max_rows{max_rows}, {}", &options[1..])
                }
                None => format!("ols{}, {options}", &arguments[..arguments.len() - 1]),
            };
        let one_call = format!("SELECT {call}) AS fit FROM t");
        let stored = format!(
            "WITH days AS (SELECT day, gram{arguments} AS s FROM t GROUP BY day)
             SELECT ols_fit(merge_summaries(s), {options}) AS fit FROM days"
        );
        let mut found = Vec::new();
        for sql in [one_call, stored] {
            found.push(bits(&context.sql(&sql).await.unwrap().collect().await.unwrap()));
        }
        assert_eq!(found[0], found[1], "{call}");
    }
}
