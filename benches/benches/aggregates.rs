//! Aggregates in SQL against `avg` and `var_samp` over the same columns, which add in doubles and depend on the order:
//! what exactness costs where it is used.
//!
//! `cargo bench --bench aggregates`; ratios within one run are what counts.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::datasource::MemTable;
use gosset_engine::{Engine, EngineOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;

const BATCH: usize = 8192;
const BATCHES: usize = 128;
const GROUPS: [i64; 3] = [1, 20, 10_000];

/// What is compared, over doubles `y` and `x` and whole numbers `k`.
const CALLS: [(&str, &str); 11] = [
    (
        "builtin_1",
        "avg(y) FILTER (WHERE t) AS a, var_samp(y) FILTER (WHERE t) AS b, avg(y) FILTER (WHERE NOT t) AS c, var_samp(y) FILTER (WHERE NOT t) AS d",
    ),
    ("ttest", "ttest(y, t)"),
    (
        "builtin_whole",
        "avg(k) FILTER (WHERE t) AS a, var_samp(k) FILTER (WHERE t) AS b, avg(k) FILTER (WHERE NOT t) AS c, var_samp(k) FILTER (WHERE NOT t) AS d",
    ),
    ("ttest_whole", "ttest(k, t)"),
    ("builtin_summary", "avg(y), var_samp(y)"),
    ("moments", "moments(y)"),
    ("builtin_covar", "avg(y), avg(x), var_samp(y), var_samp(x), covar_samp(y, x)"),
    ("moments_2", "moments(y, x)"),
    ("moments_whole", "moments(k)"),
    ("builtin_sum", "sum(y)"),
    ("exact_sum", "exact_sum(y)"),
];

fn table() -> MemTable {
    let mut rng = StdRng::seed_from_u64(1908);
    let batches: Vec<RecordBatch> = (0..BATCHES)
        .map(|_| {
            let mut doubles = || -> ArrayRef {
                Arc::new(
                    (0..BATCH)
                        .map(|_| Some(-10.0 * (1.0 - rng.random::<f64>()).ln()))
                        .collect::<Float64Array>(),
                )
            };
            let (y, x) = (doubles(), doubles());
            let whole = |n: i64, rng: &mut StdRng| -> ArrayRef {
                Arc::new((0..BATCH).map(|_| Some(rng.random_range(0..n))).collect::<Int64Array>())
            };
            let mut columns = vec![("y", y), ("x", x), ("k", whole(50, &mut rng))];
            let names = ["g1", "g20", "g10000"];
            columns
                .extend(names.into_iter().zip(GROUPS).map(|(name, n)| (name, whole(n, &mut rng))));
            let arm: BooleanArray = (0..BATCH).map(|_| Some(rng.random_bool(0.5))).collect();
            columns.push(("t", Arc::new(arm)));
            RecordBatch::try_from_iter(columns).expect("columns of one length")
        })
        .collect();
    let schema = batches[0].schema();
    let (a, b) = batches.split_at(BATCHES / 2);
    MemTable::try_new(schema, vec![a.to_vec(), b.to_vec()]).expect("batches of one schema")
}

fn aggregates(c: &mut Criterion) {
    let runtime = Runtime::new().expect("threads");
    let engine = Engine::new(EngineOptions::new().with_target_partitions(2)).expect("an engine");
    engine.context().register_table("rows", Arc::new(table())).expect("a table");
    let mut group = c.benchmark_group("aggregates");
    group.throughput(Throughput::Elements((BATCH * BATCHES) as u64)).sample_size(10);
    for groups in GROUPS {
        for (name, call) in CALLS {
            let query = match groups {
                1 => format!("SELECT {call} FROM rows"),
                n => format!("SELECT g{n}, {call} FROM rows GROUP BY g{n}"),
            };
            group.bench_with_input(BenchmarkId::new(name, groups), &query, |b, query| {
                b.iter(|| {
                    runtime.block_on(async {
                        engine.sql(query).await.expect("a plan").collect().await.expect("rows")
                    })
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, aggregates);
criterion_main!(benches);
