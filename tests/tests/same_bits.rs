//! The same rows give the same bits: under any partitions, batches, order, with and without partial aggregation, in
//! both grouped stacks, and when memory is short and groups are spilled. On awkward values: 1e300 beside 1e-300, an
//! offset of 1e9, subnormals.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    StructArray, UInt32Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionContext;
use gosset_tests::session::{MODES, Mode};

/// Every aggregate over the table `t`; `{group}` is how the rows are grouped.
const CALLS: &[(&str, &str)] = &[
    ("ttest", "ttest(y, arm)"),
    ("ttest", "ttest(awkward, cell, {treatment: 'b', control: 'a', confidence: 0.9})"),
    ("proportion_test", "proportion_test(success, arm, {method: 'newcombe'})"),
    ("ratio_test", "ratio_test(awkward, den, arm)"),
    ("clustered_ttest", "clustered_ttest(awkward, arm, unit)"),
    ("clustered_ttest", "clustered_ttest(y, arm, unit, {buckets: 64})"),
    ("cuped", "cuped(y, x, arm)"),
    ("cuped", "cuped(y, {x: x, gappy: gappy, den: den}, arm, {missing: 'drop'})"),
    (
        "lin",
        "lin(y, {x: x, gappy: gappy}, cell, {treatment: 'c', control: 'a', vcov: 'classical'})",
    ),
    ("bootstrap_mean", "bootstrap_mean(awkward, arm, name, {replicates: 50, buckets: 64})"),
    ("bootstrap_ratio", "bootstrap_ratio(y, den, arm, unit, {replicates: 50, interval: 'basic'})"),
    ("srm", "srm(cell, {expected: {a: 1, b: 1, c: 2}})"),
    ("moments", "moments({y: y, awkward: awkward}, gappy, [x, den])"),
    ("buckets", "buckets(name, awkward, den, {buckets: 128})"),
    ("exact_sum", "exact_sum(awkward)"),
    ("exact_avg", "exact_avg(gappy)"),
];

const ROWS: usize = 4000;

/// A fixed stream of 64-bit numbers (SplitMix64).
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn rows() -> RecordBatch {
    let mut s = Stream(20_240_501);
    let awkward = [1e300, 1e-300, -1e300, 5e-324, 1e9, -0.0, 0.1, 3e-310, 1e16];
    let unit: Vec<i64> = (0..ROWS).map(|_| (s.next() % 900) as i64 - 450).collect();
    let cells = unit.iter().map(|u| ["a", "b", "c"][u.rem_euclid(3) as usize]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("unit", Arc::new(unit.iter().map(|&u| (u != 7).then_some(u)).collect::<Int64Array>())),
        ("name", Arc::new(unit.iter().map(|u| Some(format!("unit {u}"))).collect::<StringArray>())),
        (
            "arm",
            Arc::new(
                unit.iter().map(|u| (u % 11 != 0).then_some(u % 2 == 0)).collect::<BooleanArray>(),
            ),
        ),
        ("cell", Arc::new(cells.map(Some).collect::<StringArray>())),
        ("y", Arc::new((0..ROWS).map(|_| Some(1e9 + s.unit())).collect::<Float64Array>())),
        ("x", Arc::new((0..ROWS).map(|_| Some(s.unit().exp())).collect::<Float64Array>())),
        (
            "awkward",
            Arc::new(
                (0..ROWS)
                    .map(|i| {
                        Some(if i % 3 == 0 { awkward[(s.next() % 9) as usize] } else { s.unit() })
                    })
                    .collect::<Float64Array>(),
            ),
        ),
        (
            "gappy",
            Arc::new(
                (0..ROWS).map(|_| (s.next() % 5 > 0).then(|| s.unit())).collect::<Float64Array>(),
            ),
        ),
        (
            "den",
            Arc::new((0..ROWS).map(|_| Some(1 + (s.next() % 4) as i64)).collect::<Int64Array>()),
        ),
        ("success", Arc::new((0..ROWS).map(|_| Some(s.next() % 3 == 0)).collect::<BooleanArray>())),
        ("day", Arc::new((0..ROWS).map(|_| Some((s.next() % 20) as i64)).collect::<Int64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The rows in another order, in partitions of several batches.
fn arranged(rows: &RecordBatch, seed: u64, partitions: usize) -> MemTable {
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    let mut s = Stream(seed);
    if seed > 0 {
        for i in (1..order.len()).rev() {
            order.swap(i, (s.next() % (i as u64 + 1)) as usize);
        }
    }
    let shuffled = take_record_batch(rows, &UInt32Array::from(order)).unwrap();
    let mut parts: Vec<Vec<RecordBatch>> = vec![Vec::new(); partitions];
    let mut at = 0;
    while at < shuffled.num_rows() {
        let n = (1 + s.next() as usize % 700).min(shuffled.num_rows() - at);
        parts[s.next() as usize % partitions].push(shuffled.slice(at, n));
        at += n;
    }
    MemTable::try_new(rows.schema(), parts).unwrap()
}

/// A result as text that tells every bit of a double.
fn bits(batches: &[RecordBatch]) -> Vec<String> {
    let Some(first) = batches.first() else { return vec![] };
    let all = concat_batches(&first.schema(), batches).unwrap();
    (0..all.num_rows())
        .map(|r| all.columns().iter().map(|c| bits_of(c, r)).collect::<Vec<_>>().join(" "))
        .collect()
}

fn bits_of(array: &ArrayRef, r: usize) -> String {
    if array.is_null(r) {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Float64 => {
            let x = array.as_primitive::<Float64Type>().value(r);
            format!("{:016x}", if x.is_nan() { u64::MAX } else { x.to_bits() })
        }
        DataType::Struct(_) => {
            let array: &StructArray = array.as_struct();
            array.columns().iter().map(|c| bits_of(c, r)).collect::<Vec<_>>().join(",")
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(r);
            (0..items.len()).map(|i| bits_of(&items, i)).collect::<Vec<_>>().join(";")
        }
        _ => arrow::util::display::array_value_to_string(array, r).unwrap(),
    }
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
        .with_memory_pool(Arc::new(FairSpillPool::new(12 << 20)))
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
    let scalars = ["describe_summary", "merge_summaries"];
    for function in gosset_sql::FUNCTIONS {
        let covered = CALLS.iter().any(|(name, _)| *name == function.name);
        let other = scalars.contains(&function.name) || function.name.ends_with("_effect");
        assert!(covered || other, "'{}' has no query in CALLS", function.name);
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
