//! Calls of every aggregate over one table of awkward rows, for laws that hold of all of them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, LargeBinaryArray,
    RecordBatch, StringArray, StructArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type};
use gosset_stats::Summary;
use gosset_stats::summary::Moments;

/// Every aggregate over the table `t`; by the name of its function.
pub const CALLS: &[(&str, &str)] = &[
    ("ttest", "ttest(y, arm)"),
    ("ttest", "ttest(awkward, cell, {treatment: 'b', control: 'a', confidence: 0.9})"),
    ("proportion_test", "proportion_test(success, arm, {method: 'newcombe'})"),
    ("ratio_test", "ratio_test(awkward, den, arm)"),
    ("clustered_ttest", "clustered_ttest(awkward, arm, unit)"),
    ("clustered_ttest", "clustered_ttest(y, arm, unit, {buckets: 64, std_error: 'jackknife'})"),
    ("cuped", "cuped(y, x, arm)"),
    ("cuped", "cuped(y, [x, gappy], arm)"),
    ("cuped", "cuped(y, {x: x, gappy: gappy, den: den}, arm, {missing: 'drop'})"),
    (
        "lin",
        "lin(y, {x: x, gappy: gappy}, cell, {treatment: 'c', control: 'a', vcov: 'classical'})",
    ),
    ("bootstrap_mean", "bootstrap_mean(awkward, arm, name, {replicates: 50, buckets: 64})"),
    ("bootstrap_ratio", "bootstrap_ratio(y, den, arm, unit, {replicates: 50, interval: 'basic'})"),
    ("bootstrap_mean", "bootstrap_mean(awkward, arm, unit, {replicates: 50, method: 'poisson'})"),
    (
        "bootstrap_mean",
        "bootstrap_mean(y, arm, {unit: unit, day: day}, {replicates: 40, method: 'bayesian'})",
    ),
    (
        "bootstrap_ratio",
        "bootstrap_ratio(awkward, den, arm, name, {replicates: 33, method: 'double_or_nothing', interval: 'bca', buckets: 64})",
    ),
    (
        "bootstrap_mean",
        "bootstrap_mean(y, arm, unit, {replicates: 50, interval: 'studentized', buckets: 64})",
    ),
    (
        "bootstrap_cuped",
        "bootstrap_cuped(y, {x: x, gappy: gappy}, arm, unit, {replicates: 50, interval: 'bca'})",
    ),
    (
        "bootstrap_cuped",
        "bootstrap_cuped(y, [x, den], arm, unit, {replicates: 50, method: 'poisson', missing: 'drop'})",
    ),
    ("replicates", "replicates(unit, awkward, den, {replicates: 35})"),
    (
        "replicates",
        "replicates({name: name, day: day}, {y: y}, gappy, {replicates: 35, method: 'bayesian'})",
    ),
    ("replicates", "replicates(name, y, {replicates: 35, seed: 9, buckets: 64})"),
    ("bootstrap_quantile", "bootstrap_quantile(y, 0.9, arm)"),
    (
        "bootstrap_quantile",
        "bootstrap_quantile(awkward, 0.5, arm, unit, {replicates: 40, method: 'bayesian'})",
    ),
    ("quantile_effects", "quantile_effects(y, arm, name, {replicates: 40})"),
    ("quantile_effects", "quantile_effects(y, arm, name, {replicates: 40, interval: 'delta'})"),
    ("mann_whitney", "mann_whitney(y, arm)"),
    ("ks_test", "ks_test(awkward, cell, {treatment: 'b', control: 'a'})"),
    ("histogram", "histogram(awkward)"),
    ("histogram", "histogram(y, {relative_error: 0.01})"),
    ("histogram", "histogram(y, name, {replicates: 33, seed: 5})"),
    ("lin", "lin(awkward, {x: x, g: gappy}, arm, {vcov: 'HC3', superpopulation: true})"),
    ("lin", "lin(y, {g: gappy}, arm, {vcov: 'HC2', max_rows: 5, missing: 'drop'})"),
    ("cuped_ratio", "cuped_ratio(y, den, {r: {num: awkward, den: den}, x: gappy}, arm)"),
    ("mlrate", "mlrate(awkward, gappy, arm)"),
    ("permutation_test", "permutation_test(awkward, arm, name, {replicates: 45, share: 0.3})"),
    (
        "bootstrap_effects",
        "bootstrap_effects({y: y, awkward: awkward, r: {num: y, den: den}}, cell, unit, {treatment: 'b', control: 'a', replicates: 35})",
    ),
    (
        "bootstrap_effects",
        "bootstrap_effects({y: y, r: {num: awkward, den: den}}, arm, name, {method: 'bayesian', interval: 'bca', replicates: 35})",
    ),
    ("ols", "ols(y, {cell: cell, success: success, den: den})"),
    (
        "ols",
        "ols(y, {cell: cell, gappy: gappy}, den, {vcov: 'HC3', interactions: ['cell:gappy'], max_rows: 500})",
    ),
    ("ols", "ols(x, {awkward: awkward, cell: cell}, {vcov: 'classical'})"),
    ("ols_clustered", "ols_clustered(y, {arm: arm, x: x}, unit, {reference: {arm: 'true'}})"),
    ("ols_clustered", "ols_clustered(y, {cell: cell, x: x}, name, den, {max_rows: 100})"),
    ("ols_clustered", "ols_clustered(y, {arm: arm, x: x}, {unit: unit, day: day})"),
    ("gram", "gram({y: y, awkward: awkward}, {name: name, den: den}, gappy)"),
    (
        "gram",
        "gram(CASE WHEN day = 3 THEN CAST('NaN' AS DOUBLE) ELSE y END, {cell: cell, x: x}, {max_rows: 64})",
    ),
    (
        "gram_clustered",
        "gram_clustered(y, {cell: cell, success: success, awkward: awkward}, unit, {max_rows: 300})",
    ),
    ("gram_clustered", "gram_clustered(y, den, {unit: unit, day: day}, {max_rows: 1000})"),
    ("post_stratify", "post_stratify(y, cell, arm)"),
    ("post_stratify", "post_stratify(awkward, success, arm, gappy, {empty: 'drop'})"),
    (
        "post_stratify",
        "post_stratify(y, CASE WHEN day > 1 THEN day END, cell, {x: x, gappy: gappy}, {treatment: 'b', control: 'a', superpopulation: true})",
    ),
    ("stratified_moments", "stratified_moments(name, {y: y, awkward: awkward}, gappy)"),
    ("stratified_moments", "stratified_moments(day, y, [x, gappy], {missing: 'drop'})"),
    ("winsorized", "winsorized(awkward, cell, {treatment: 'b', control: 'a'})"),
    ("winsorized", "winsorized(y, arm, {upper: 0.9, lower: 0.05, relative_error: 0.1})"),
    ("binned_moments", "binned_moments(awkward)"),
    ("binned_moments", "binned_moments(CASE WHEN day = 3 THEN CAST('NaN' AS DOUBLE) ELSE x END)"),
    ("srm", "srm(cell, {expected: {a: 1, b: 1, c: 2}})"),
    ("moments", "moments({y: y, awkward: awkward}, gappy, [x, den])"),
    ("moments", "moments(CASE WHEN day = 3 THEN CAST('Infinity' AS DOUBLE) ELSE y END, gappy)"),
    ("buckets", "buckets(name, awkward, den, {buckets: 128})"),
    ("exact_sum", "exact_sum(awkward)"),
    ("exact_avg", "exact_avg(gappy)"),
    ("merge_summaries", "merge_summaries(summary)"),
];

/// How many rows `t` has.
pub const ROWS: usize = 4000;

/// A fixed stream of 64-bit numbers (SplitMix64).
pub struct Stream(pub u64);

impl Stream {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The rows of `t`: values from 1e300 to the smallest subnormal, offsets of 1e9, gaps, 900 units on 20 days.
///
/// # Panics
/// Never: the columns have one length.
pub fn rows() -> RecordBatch {
    let mut s = Stream(20_240_501);
    let awkward = [1e300, 1e-300, -1e300, 5e-324, 1e9, -0.0, 0.1, 3e-310, 1e16];
    let unit: Vec<i64> = (0..ROWS).map(|_| (s.draw() % 900) as i64 - 450).collect();
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
                        Some(if i % 3 == 0 { awkward[(s.draw() % 9) as usize] } else { s.unit() })
                    })
                    .collect::<Float64Array>(),
            ),
        ),
        (
            "gappy",
            Arc::new(
                (0..ROWS)
                    .map(|_| (!s.draw().is_multiple_of(5)).then(|| s.unit()))
                    .collect::<Float64Array>(),
            ),
        ),
        (
            "den",
            Arc::new((0..ROWS).map(|_| Some(1 + (s.draw() % 4) as i64)).collect::<Int64Array>()),
        ),
        (
            "success",
            Arc::new((0..ROWS).map(|_| Some(s.draw().is_multiple_of(3))).collect::<BooleanArray>()),
        ),
        (
            "summary",
            Arc::new(
                (0..ROWS)
                    .map(|_| (!s.draw().is_multiple_of(6)).then(|| summary(s.unit())))
                    .collect::<LargeBinaryArray>(),
            ),
        ),
        ("day", Arc::new((0..ROWS).map(|_| Some((s.draw() % 20) as i64)).collect::<Int64Array>())),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn summary(y: f64) -> Vec<u8> {
    Moments::of(&["y"], 1, &[&[y]]).expect("one column").encode()
}

/// A result as text that tells every bit of a double.
///
/// # Panics
/// If the batches are not of one schema.
pub fn bits(batches: &[RecordBatch]) -> Vec<String> {
    let Some(first) = batches.first() else { return vec![] };
    let all = concat_batches(&first.schema(), batches).expect("one schema");
    (0..all.num_rows())
        .map(|r| all.columns().iter().map(|c| bits_of(c, r)).collect::<Vec<_>>().join(" "))
        .collect()
}

/// A value as text that tells every bit of a double.
///
/// # Panics
/// If it cannot be shown.
pub fn bits_of(array: &ArrayRef, r: usize) -> String {
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
        _ => arrow::util::display::array_value_to_string(array, r)
            .expect("a value that can be shown"),
    }
}
