//! The law of summaries: any split of the rows into parts, in any order, merged along any tree, gives the same bytes.
//!
//! On small tables of adversarial doubles: any bit pattern, values that cancel, subnormals, the largest ones, NaN and
//! infinities.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Debug;

use gosset_stats::exact::ExactSum;
use gosset_stats::summary::{
    AnySummary, BinnedMoments, BinnedTable, BucketTable, Buckets, Columns, Counts, Gram,
    GramColumns, GramRows, GramTable, Moments, MomentsTable, Regressor, RegressorKind, Replicates,
    ReplicatesTable, Resampling, Rows, Strata, StratifiedMoments, StratifiedTable, Table, Totals,
};
use gosset_stats::{Summary, units};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

/// A row: outcome, covariates that may be missing, unit.
#[derive(Debug, Clone)]
struct Row {
    y: f64,
    x: [Option<f64>; 2],
    unit: i64,
    /// Which part of the rows it belongs to.
    part: Index,
}

fn double() -> impl Strategy<Value = f64> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1,
        1e9,
        1e300,
        -1e300,
        1e-300,
        5e-324,
        -5e-324,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        9_007_199_254_740_993.0,
    ];
    prop_oneof![
        3 => proptest::sample::select(special.to_vec()),
        2 => any::<u64>().prop_map(f64::from_bits),
        3 => (-1000i32..1000).prop_map(|i| 0.01 * f64::from(i)),
    ]
}

fn row(units: i64) -> impl Strategy<Value = Row> {
    let covariate = || option::weighted(0.8, double());
    (double(), [covariate(), covariate()], -units..units, any::<Index>())
        .prop_map(|(y, x, unit, part)| Row { y, x, unit, part })
}

/// Rows, in how many parts they are, and which pairs of parts are merged.
fn tables() -> impl Strategy<Value = (Vec<Row>, usize, Vec<(Index, Index)>)> {
    tables_of(60, 15)
}

fn tables_of(
    rows: usize,
    units: i64,
) -> impl Strategy<Value = (Vec<Row>, usize, Vec<(Index, Index)>)> {
    (vec(row(units), 0..rows), 1usize..6).prop_flat_map(|(rows, parts)| {
        let pairs = vec((any::<Index>(), any::<Index>()), parts - 1);
        (Just(rows), Just(parts), pairs)
    })
}

/// The rows of each part.
fn parts(rows: &[Row], parts: usize) -> Vec<Vec<Row>> {
    let mut split = vec![Vec::new(); parts];
    rows.iter().for_each(|row| split[row.part.index(parts)].push(row.clone()));
    split
}

/// Merges two of the summaries at a time, each read back from its bytes, until one is left.
fn merged<S: Summary>(mut summaries: Vec<S>, pairs: &[(Index, Index)]) -> S {
    for (first, second) in pairs {
        let mut left = summaries.swap_remove(first.index(summaries.len()));
        let right = summaries.swap_remove(second.index(summaries.len()));
        left.merge(&S::decode(&right.encode()).unwrap()).unwrap();
        summaries.push(S::decode(&left.encode()).unwrap());
    }
    summaries.pop().unwrap()
}

/// Equality without the bytes in the message, which are long.
fn same(found: &[u8], expected: &[u8], what: &str) -> Result<(), TestCaseError> {
    prop_assert!(found == expected, "{} gives other bytes", what);
    Ok(())
}

/// What all summaries have in common: merges of parts, the empty summary, the bytes.
fn check<S: Summary>(
    rows: &[Row],
    count: usize,
    pairs: &[(Index, Index)],
    of: impl Fn(&[Row]) -> S,
) -> Result<(), TestCaseError> {
    let whole = of(rows).encode();
    let summaries: Vec<S> = parts(rows, count).iter().map(|rows| of(rows)).collect();
    same(&merged(summaries, pairs).encode(), &whole, "a merge of parts")?;
    let reversed: Vec<Row> = rows.iter().rev().cloned().collect();
    same(&of(&reversed).encode(), &whole, "the reverse order")?;
    let mut left = of(&[]);
    left.merge(&of(rows)).unwrap();
    same(&left.encode(), &whole, "a merge into the empty summary")?;
    let mut right = of(rows);
    right.merge(&of(&[])).unwrap();
    same(&right.encode(), &whole, "a merge of the empty summary")?;
    same(&AnySummary::decode(&whole).unwrap().encode(), &whole, "a summary of any kind")
}

fn columns() -> Columns {
    Columns::new(["y", "x1", "x2"].map(String::from), 1).unwrap()
}

/// Feeds rows to slot `slot` of a table, `batch` at a time.
fn feed<T: Table>(table: &mut T, slot: u32, rows: &[Row], batch: usize) {
    for rows in rows.chunks(batch.max(1)) {
        let slots = vec![slot; rows.len()];
        let y: Vec<f64> = rows.iter().map(|r| r.y).collect();
        let x = [0, 1].map(|c| rows.iter().map(|r| r.x[c].unwrap_or(0.0)).collect::<Vec<_>>());
        let masks = [0, 1].map(|c| rows.iter().map(|r| r.x[c].is_none()).collect::<Vec<_>>());
        let missing = masks.each_ref().map(|m| m.contains(&true).then_some(m.as_slice()));
        let units: Vec<u128> = rows.iter().map(|r| units::integer(r.unit.into())).collect();
        let labels = [Some("b".into()), None, Some("a".into()), Some(String::new())];
        let of: Vec<u32> = rows.iter().map(|r| r.unit.rem_euclid(4) as u32).collect();
        table.update(Rows {
            slots: &slots,
            columns: &[&y, &x[0], &x[1]],
            missing: &[None, missing[0], missing[1]],
            units: &units,
            strata: Strata { labels: &labels, of: &of },
        });
    }
}

/// The summary of the rows in a table of `slots` slots, of which the others hold the same rows in reverse.
fn of_table<T: Table>(mut table: T, slots: usize, rows: &[Row], batch: usize) -> T::Summary {
    table.resize(slots);
    let reversed: Vec<Row> = rows.iter().rev().cloned().collect();
    for slot in 1..slots {
        feed(&mut table, slot as u32, &reversed, batch + 1);
    }
    feed(&mut table, 0, rows, batch);
    if slots > 1 {
        let (first, last) = (table.get(0), table.get(slots - 1));
        assert!(first == last, "the slots of a table differ");
        table.drop_first(slots - 1);
        assert!(table.get(0) == last, "slots do not move down as they are");
    }
    table.get(0)
}

fn moments(rows: &[Row], slots: usize, batch: usize) -> Moments {
    of_table(MomentsTable::new(columns()), slots, rows, batch)
}

fn binned(rows: &[Row], slots: usize, batch: usize) -> BinnedMoments {
    let column = Columns::new(["y".to_owned()], 1).unwrap();
    of_table(BinnedTable::new(column, 0.1).unwrap(), slots, rows, batch)
}

fn stratified(rows: &[Row], slots: usize, batch: usize) -> StratifiedMoments {
    of_table(StratifiedTable::new(columns()), slots, rows, batch)
}

fn buckets(rows: &[Row], slots: usize, batch: usize) -> Buckets {
    of_table(BucketTable::new(columns(), 64).unwrap(), slots, rows, batch)
}

fn replicates(rows: &[Row], slots: usize, batch: usize) -> Replicates {
    let resampling = Resampling { replicates: 35, seed: 3, ..Resampling::default() };
    of_table(ReplicatesTable::new(columns(), resampling).unwrap(), slots, rows, batch)
}

/// What a gram keeps of the rows: whether they have weights, and by how many factors they are clustered.
#[derive(Debug, Clone, Copy)]
struct GramForm {
    weighted: bool,
    clusters: u8,
    max_rows: u32,
}

fn gram_forms() -> impl Strategy<Value = GramForm> {
    (any::<bool>(), 0u8..3, proptest::sample::select(vec![1, 12, 1000]))
        .prop_map(|(weighted, clusters, max_rows)| GramForm { weighted, clusters, max_rows })
}

fn gram_table(form: GramForm) -> GramTable {
    let kinds =
        [("x", RegressorKind::Number), ("f", RegressorKind::Factor), ("g", RegressorKind::Factor)];
    let regressors = kinds.map(|(name, kind)| Regressor { name: name.to_owned(), kind });
    let outcomes = ["y", "z"].map(String::from);
    let columns = GramColumns::new(outcomes, regressors, form.weighted, form.clusters).unwrap();
    GramTable::new(columns, form.max_rows).unwrap()
}

/// Feeds rows to a slot; numbers are coarse, or no row would come twice. A row without the first covariate is dropped.
fn feed_gram(table: &mut GramTable, form: GramForm, slot: u32, rows: &[Row], batch: usize) {
    for rows in rows.chunks(batch.max(1)) {
        let kept: Vec<&Row> = rows.iter().filter(|r| r.x[0].is_some()).collect();
        table.add_dropped(slot as usize, (rows.len() - kept.len()) as u64);
        let x: Vec<f64> = kept.iter().map(|r| r.x[0].unwrap().clamp(-1.5, 1.5).round()).collect();
        let label = |r: &Row| r.unit.rem_euclid(3).to_string();
        let f: Vec<u32> = kept.iter().map(|r| table.label(0, &label(r))).collect();
        let wide = |r: &Row| format!("level {}", r.unit);
        let g: Vec<u32> = kept.iter().map(|r| table.label(1, &wide(r))).collect();
        let y: Vec<f64> = kept.iter().map(|r| r.y).collect();
        let z: Vec<f64> = kept.iter().map(|r| r.x[1].unwrap_or(0.5)).collect();
        let weights: Vec<f64> = kept.iter().map(|r| 1.0 + r.unit.rem_euclid(2) as f64).collect();
        let hashes = [1, 5].map(|n| -> Vec<u128> {
            kept.iter().map(|r| units::integer((r.unit / n).into())).collect()
        });
        let hashes = [&hashes[0][..], &hashes[1][..]];
        let added = table.update(GramRows {
            slots: &vec![slot; kept.len()],
            outcomes: &[&y, &z],
            numbers: &[&x],
            factors: &[&f, &g],
            weights: form.weighted.then_some(&weights[..]),
            clusters: &hashes[..form.clusters.into()],
        });
        added.unwrap();
    }
}

fn gram(form: GramForm, rows: &[Row], slots: usize, batch: usize) -> Gram {
    let mut table = gram_table(form);
    table.resize(slots);
    let reversed: Vec<Row> = rows.iter().rev().cloned().collect();
    for slot in 1..slots {
        feed_gram(&mut table, form, slot as u32, &reversed, batch + 1);
    }
    feed_gram(&mut table, form, 0, rows, batch);
    let last = table.get(slots - 1);
    table.drop_first(slots - 1);
    assert!(table.get(0) == last, "slots do not move down as they are");
    last
}

fn totals(rows: &[Row]) -> Totals {
    let mut totals = Totals { n: rows.len() as u64, sum: ExactSum::new() };
    rows.iter().for_each(|row| totals.sum.add(row.y));
    totals
}

fn counts(rows: &[Row]) -> Counts {
    let mut counts = Counts::default();
    for row in rows {
        match row.x[0] {
            Some(_) => counts.add(&format!("arm {}", row.unit), 1).unwrap(),
            None => counts.add_dropped(1),
        }
    }
    counts
}

proptest! {
    #[test]
    fn of_binned_moments((rows, count, pairs) in tables(), slots in 1usize..4, batch in 1usize..20) {
        check(&rows, count, &pairs, |rows| binned(rows, slots, batch))?;
        let alone = binned(&rows, 1, 1000).encode();
        same(&binned(&rows, slots, batch).encode(), &alone, "a table of several slots")?;
    }

    #[test]
    fn of_stratified_moments((rows, count, pairs) in tables(), slots in 1usize..4, batch in 1usize..20) {
        check(&rows, count, &pairs, |rows| stratified(rows, slots, batch))?;
        let alone = stratified(&rows, 1, 1000).encode();
        same(&stratified(&rows, slots, batch).encode(), &alone, "a table of several slots")?;
    }

    #[test]
    fn of_moments((rows, count, pairs) in tables(), slots in 1usize..4, batch in 1usize..20) {
        check(&rows, count, &pairs, |rows| moments(rows, slots, batch))?;
        let alone = moments(&rows, 1, 1000).encode();
        same(&moments(&rows, slots, batch).encode(), &alone, "a table of several slots")?;
    }

    /// Thirty units beside a limit of sixteen: lists, buckets, and both merged.
    #[test]
    fn of_buckets((rows, count, pairs) in tables(), slots in 1usize..4, batch in 1usize..20) {
        check(&rows, count, &pairs, |rows| buckets(rows, slots, batch))?;
        let alone = buckets(&rows, 1, 1000).encode();
        same(&buckets(&rows, slots, batch).encode(), &alone, "a table of several slots")?;
    }

    /// A hundred units beside a limit of sixty-four: lists, replicates, and both merged.
    #[test]
    fn of_replicates(
        (rows, count, pairs) in tables_of(300, 50), slots in 1usize..4, batch in 1usize..80,
    ) {
        check(&rows, count, &pairs, |rows| replicates(rows, slots, batch))?;
        let alone = replicates(&rows, 1, 1000).encode();
        same(&replicates(&rows, slots, batch).encode(), &alone, "a table of several slots")?;
        let resampling = Resampling { replicates: 35, seed: 3, ..Resampling::default() };
        let mut table = ReplicatesTable::new(columns(), resampling).unwrap();
        table.resize(2);
        for rows in parts(&rows, count) {
            feed(&mut table, 1, &rows[..rows.len() / 2], batch);
            table.merge(1, &replicates(&rows[rows.len() / 2..], 1, batch)).unwrap();
        }
        same(&table.get(1).encode(), &alone, "a table of rows and merges")?;
    }

    /// Up to a hundred distinct rows beside limits of one, twelve and a thousand: lists, cells, and both merged.
    #[test]
    fn of_grams(
        (rows, count, pairs) in tables(), form in gram_forms(), slots in 1usize..4, batch in 1usize..20,
    ) {
        check(&rows, count, &pairs, |rows| gram(form, rows, slots, batch))?;
        let alone = gram(form, &rows, 1, 1000).encode();
        same(&gram(form, &rows, slots, batch).encode(), &alone, "a table of several slots")?;
        let mut table = gram_table(form);
        table.resize(2);
        for rows in parts(&rows, count) {
            feed_gram(&mut table, form, 1, &rows[..rows.len() / 2], batch);
            table.merge(1, &gram(form, &rows[rows.len() / 2..], 1, batch)).unwrap();
        }
        same(&table.get(1).encode(), &alone, "a table of rows and merges")?;
    }

    #[test]
    fn of_totals((rows, count, pairs) in tables()) {
        check(&rows, count, &pairs, totals)?;
    }

    #[test]
    fn of_counts((rows, count, pairs) in tables()) {
        check(&rows, count, &pairs, counts)?;
    }

    /// Tables that are fed by merges hold what tables hold that are fed by rows.
    #[test]
    fn of_tables_that_merge((rows, count, _) in tables(), batch in 1usize..20) {
        let mut of_moments = MomentsTable::new(columns());
        let mut of_buckets = BucketTable::new(columns(), 64).unwrap();
        of_moments.resize(2);
        of_buckets.resize(2);
        for rows in parts(&rows, count) {
            of_moments.merge(1, &moments(&rows, 1, batch)).unwrap();
            of_buckets.merge(1, &buckets(&rows, 1, batch)).unwrap();
        }
        same(&of_moments.get(1).encode(), &moments(&rows, 1, 1000).encode(), "moments")?;
        same(&of_buckets.get(1).encode(), &buckets(&rows, 1, 1000).encode(), "buckets")?;
    }
}
