//! The comparisons of `gosset-stats` against the golden numbers of `tests/golden`, which other implementations made.
//!
//! A case is the SQL that it stands for; what is run here is the mathematics alone, on summaries of the same rows.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use gosset_stats::compare::{
    BootstrapOptions, ClusteredStdError, Effect, Interval, LinOptions, LinVcov, ProportionMethod,
    QuantileInterval, QuantileOptions, Variance, bootstrap, bootstrap_quantile,
    bootstrap_replicates, clustered_ttest, cuped, histogram_quantile, ks_test, lin, mann_whitney,
    proportion_test, ratio_test, srm, ttest,
};
use gosset_stats::summary::moments::Columns;
use gosset_stats::summary::{
    BucketTable, Buckets, Counts, HistogramOptions, HistogramTable, Moments, MomentsTable,
    ReplicatesTable, Resampling, Rows, Table,
};
use gosset_stats::{Alternative, Inference, Relative, dist, units};
use serde_json::Value;

fn golden(name: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn expected(name: &str) -> Value {
    serde_json::from_str(&golden(name, "expected.json")).unwrap()
}

/// The columns of a CSV file without quotes, as text.
fn columns(csv: &str) -> BTreeMap<String, Vec<String>> {
    let mut lines = csv.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let rows: Vec<Vec<String>> = lines.collect();
    let column = |c: usize| rows.iter().map(|row| row[c].clone()).collect();
    header.into_iter().enumerate().map(|(c, name)| (name, column(c))).collect()
}

/// The values of an expression such as `num + 100 * den`; a value that is missing is `None`.
fn evaluate(table: &BTreeMap<String, Vec<String>>, expression: &str) -> Vec<Option<f64>> {
    let rows = table.values().next().unwrap().len();
    let apply = |a: &str, b: &str, f: fn(f64, f64) -> f64| {
        let pairs = evaluate(table, a).into_iter().zip(evaluate(table, b));
        pairs.map(|(a, b)| Some(f(a?, b?))).collect()
    };
    if let Some((a, b)) = expression.split_once(" + ") {
        apply(a, b, |a, b| a + b)
    } else if let Some((a, b)) = expression.split_once(" - ") {
        apply(a, b, |a, b| a - b)
    } else if let Some((a, b)) = expression.split_once(" * ") {
        apply(a, b, |a, b| a * b)
    } else if let Some(a) = expression.strip_prefix('-') {
        apply("0", a, |zero, a| zero - a)
    } else if let Ok(constant) = expression.parse() {
        vec![Some(constant); rows]
    } else {
        table[expression].iter().map(|text| text.parse().ok()).collect()
    }
}

/// A call such as `cuped(y, {a: a, b: b}, arm = 'new', {confidence: 0.99})`.
struct Call {
    function: String,
    arguments: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Call {
    fn parse(sql: &str) -> Self {
        let (call, _) = sql.split_once(" FILTER").unwrap_or((sql, ""));
        let (function, rest) = call.split_once('(').unwrap();
        let mut arguments = vec![String::new()];
        let mut depth = 0;
        for c in rest.strip_suffix(')').unwrap().chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if c == ',' && depth == 0 {
                arguments.push(String::new());
            } else {
                arguments.last_mut().unwrap().push(c);
            }
        }
        let mut arguments: Vec<String> = arguments.iter().map(|a| a.trim().to_owned()).collect();
        let first_is_never_options = arguments.len() > 2;
        let options = match arguments.last() {
            Some(last) if first_is_never_options && last.starts_with('{') => arguments.pop(),
            _ => None,
        };
        let options = fields(&options.unwrap_or_default());
        Self { function: function.to_owned(), arguments, options }
    }

    fn option(&self, name: &str, default: &'static str) -> &str {
        self.options.get(name).map_or(default, |value| value.trim_matches('\''))
    }

    fn inference(&self) -> Inference {
        inference(&|name, default| self.option(name, default).to_owned())
    }
}

/// The fields of a struct literal; of a single name, that name.
fn fields(literal: &str) -> BTreeMap<String, String> {
    let inner = literal.trim_start_matches('{').trim_end_matches('}');
    let pairs = inner.split(", ").filter(|field| !field.is_empty());
    pairs
        .map(|field| field.split_once(": ").unwrap_or((field, field)))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn inference(option: &dyn Fn(&str, &'static str) -> String) -> Inference {
    Inference {
        confidence: option("confidence", "0.95").parse().unwrap(),
        alternative: match option("alternative", "two-sided").as_str() {
            "two-sided" => Alternative::TwoSided,
            "greater" => Alternative::Greater,
            "less" => Alternative::Less,
            other => panic!("{other}"),
        },
        relative: match option("relative", "fieller").as_str() {
            "fieller" => Relative::Fieller,
            "log" => Relative::Log,
            "delta" => Relative::Delta,
            other => panic!("{other}"),
        },
    }
}

/// The moments of the rows of an arm. Rows without a covariate are indicated, or dropped.
fn moments(
    names: &[String],
    outcomes: usize,
    values: &[Vec<Option<f64>>],
    keep: &[bool],
    drop_missing: bool,
) -> Moments {
    let whole = |r: usize| values.iter().all(|column| column[r].is_some());
    let rows: Vec<usize> =
        (0..keep.len()).filter(|&r| keep[r] && (!drop_missing || whole(r))).collect();
    let filled: Vec<Vec<f64>> =
        values.iter().map(|v| rows.iter().map(|&r| v[r].unwrap_or(0.0)).collect()).collect();
    let masks: Vec<Vec<bool>> =
        values.iter().map(|v| rows.iter().map(|&r| v[r].is_none()).collect()).collect();
    let mut table = MomentsTable::new(Columns::new(names.iter().cloned(), outcomes).unwrap());
    table.resize(1);
    table.add_dropped(0, (keep.iter().filter(|&&k| k).count() - rows.len()) as u64);
    table.update(Rows {
        slots: &vec![0; rows.len()],
        columns: &filled.iter().map(Vec::as_slice).collect::<Vec<_>>(),
        missing: &masks.iter().map(|m| m.contains(&true).then_some(&m[..])).collect::<Vec<_>>(),
        units: &[],
        ..Rows::default()
    });
    table.get(0)
}

fn run_on_moments(call: &Call, table: &BTreeMap<String, Vec<String>>) -> Effect {
    let arguments = &call.arguments;
    let (arm_column, treated) = arguments.last().unwrap().split_once(" = ").unwrap();
    let in_treatment: Vec<bool> =
        table[arm_column].iter().map(|arm| arm == treated.trim_matches('\'')).collect();
    let in_control: Vec<bool> = in_treatment.iter().map(|&t| !t).collect();
    let (mut names, mut expressions) = (Vec::new(), Vec::new());
    let outcomes = if call.function == "ratio_test" { 2 } else { 1 };
    for (i, argument) in arguments[..arguments.len() - 1].iter().enumerate() {
        if i < outcomes {
            names.push(format!("outcome {i}"));
            expressions.push(argument.clone());
        } else {
            for (name, expression) in fields(argument) {
                names.push(name);
                expressions.push(expression);
            }
        }
    }
    let values: Vec<_> = expressions.iter().map(|e| evaluate(table, e)).collect();
    let drop = call.option("missing", "indicator") == "drop";
    let [t, c] = [&in_treatment, &in_control].map(|k| moments(&names, outcomes, &values, k, drop));
    let inference = call.inference();
    match call.function.as_str() {
        "ttest" => {
            let equal = call.option("variance", "unequal") == "equal";
            ttest(&t, &c, &inference, if equal { Variance::Equal } else { Variance::Unequal })
        }
        "ratio_test" => ratio_test(&t, &c, &inference),
        "cuped" => cuped(&t, &c, &inference),
        "lin" => {
            let classical = call.option("vcov", "by_arm") == "classical";
            let vcov = if classical { LinVcov::Classical } else { LinVcov::ByArm };
            let superpopulation = call.option("superpopulation", "false") == "true";
            lin(&t, &c, &inference, &LinOptions { vcov, superpopulation })
        }
        other => panic!("{other}"),
    }
    .unwrap()
}

/// Relative 1e-10, or absolute 1e-14 next to 0.
#[track_caller]
fn assert_near(found: Option<f64>, expected: &Value, what: &str) {
    let expected = match expected {
        Value::Null => None,
        Value::String(text) if text == "Infinity" => Some(f64::INFINITY),
        Value::String(text) if text == "-Infinity" => Some(f64::NEG_INFINITY),
        number => Some(number.as_f64().unwrap()),
    };
    let near = match (found, expected) {
        (None, None) => true,
        (Some(found), Some(expected)) => {
            found.total_cmp(&expected).is_eq()
                || (found - expected).abs() <= 1e-10 * expected.abs() + 1e-14
        }
        _ => false,
    };
    assert!(near, "{what}: expected {expected:?}, found {found:?}");
}

#[track_caller]
fn assert_effect(effect: &Effect, expected: &Value, what: &str) {
    for (field, expected) in expected.as_object().unwrap() {
        let found = match field.as_str() {
            "estimate" => effect.estimate,
            "std_error" => effect.std_error,
            "statistic" => effect.statistic,
            "df" => effect.df,
            "p_value" => effect.p_value,
            "ci_lower" => effect.ci_lower,
            "ci_upper" => effect.ci_upper,
            "confidence" => Some(effect.confidence),
            "relative" => effect.relative,
            "relative_std_error" => effect.relative_std_error,
            "relative_ci_lower" => effect.relative_ci_lower,
            "relative_ci_upper" => effect.relative_ci_upper,
            "mean_control" => effect.mean_control,
            "mean_treatment" => effect.mean_treatment,
            "n_control" => effect.n_control.map(|n| n as f64),
            "n_treatment" => effect.n_treatment.map(|n| n as f64),
            "rows_control" => Some(effect.rows_control as f64),
            "rows_treatment" => Some(effect.rows_treatment as f64),
            "n_dropped" => Some(effect.n_dropped as f64),
            "variance_reduction" => effect.variance_reduction,
            other => panic!("{other}"),
        };
        assert_near(found, expected, &format!("{what}: {field} (note: {:?})", effect.note));
    }
    for (field, missing) in [
        ("ci_lower", effect.ci_lower.is_none()),
        ("relative_ci_lower", effect.relative_ci_lower.is_none()),
    ] {
        assert!(!missing || effect.note.is_some(), "{what}: nothing says why {field} is missing");
    }
}

fn check_cases(name: &str, run: impl Fn(&Call, &BTreeMap<String, Vec<String>>, &str) -> Effect) {
    let expected = expected(name);
    let table = columns(&golden(name, expected["table"].as_str().unwrap()));
    let cases = expected["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let sql = case["sql"].as_str().unwrap();
        assert_effect(&run(&Call::parse(sql), &table, sql), &case["effect"], sql);
    }
}

#[test]
fn lalonde() {
    check_cases("lalonde", |call, table, _| run_on_moments(call, table));
}

#[test]
fn ratio() {
    check_cases("ratio", |call, table, _| run_on_moments(call, table));
}

#[test]
fn cuped_missing() {
    check_cases("cuped_missing", |call, table, _| run_on_moments(call, table));
}

#[test]
fn petersen() {
    check_cases("petersen", |call, table, sql| {
        let whole = |name: &str| -> Vec<i64> {
            table[name].iter().map(|value| value.parse().unwrap()).collect()
        };
        let (firm, year, y) = (whole("firm"), whole("year"), evaluate(table, "y"));
        let filtered = sql.ends_with("FILTER (WHERE year <= 4 + firm % 7)");
        assert_eq!(filtered, sql.contains("FILTER"), "{sql}");
        let arm = |odd: i64| {
            let kept = |&r: &usize| firm[r] % 2 == odd && (!filtered || year[r] <= 4 + firm[r] % 7);
            let rows: Vec<usize> = (0..firm.len()).filter(kept).collect();
            let values: Vec<f64> = rows.iter().map(|&r| y[r].unwrap()).collect();
            let units: Vec<u128> = rows.iter().map(|&r| units::integer(firm[r].into())).collect();
            buckets(&values, &units, call.option("buckets", "4096").parse().unwrap())
        };
        let std_error = match call.option("std_error", "delta") {
            "jackknife" => ClusteredStdError::Jackknife,
            _ => ClusteredStdError::Delta,
        };
        clustered_ttest(&arm(1), &arm(0), &call.inference(), std_error).unwrap()
    });
}

fn buckets(values: &[f64], units: &[u128], buckets: u32) -> Buckets {
    let columns = Columns::new(["y".to_owned()], 1).unwrap();
    let mut table = BucketTable::new(columns, buckets).unwrap();
    table.resize(1);
    table.update(Rows {
        slots: &vec![0; units.len()],
        columns: &[values],
        missing: &[None],
        units,
        ..Rows::default()
    });
    table.get(0)
}

/// Intervals of R's boot package from the same replicates, by buckets of single units and by replicates of units.
#[test]
fn bootstrap_intervals_are_those_of_r() {
    let golden = expected("bootstrap");
    let table = columns(&self::golden("lalonde", "lalonde.csv"));
    let treated = evaluate(&table, "treat");
    let (count, seed) = (golden["replicates"].as_u64().unwrap() as u32, 7);
    assert_eq!(golden["seed"], seed.to_string());
    let near = |found: Option<f64>, expected: f64, what: &str| {
        let found = found.unwrap_or_else(|| panic!("{what} is NULL"));
        assert!((found / expected - 1.0).abs() < 1e-10, "{what}: {found}, expected {expected}");
    };
    for case in golden["cases"].as_array().unwrap() {
        let names: Vec<String> =
            ["num", "den"].iter().filter_map(|k| case[k].as_str()).map(str::to_owned).collect();
        let values: Vec<Vec<Option<f64>>> = names.iter().map(|n| evaluate(&table, n)).collect();
        let fill = |arm: f64, table: &mut dyn FnMut(Rows<'_>)| {
            let rows: Vec<usize> =
                (0..treated.len()).filter(|&r| treated[r] == Some(arm)).collect();
            let units: Vec<u128> = rows.iter().map(|&r| units::integer(r as i128)).collect();
            let columns: Vec<Vec<f64>> =
                values.iter().map(|v| rows.iter().map(|&r| v[r].unwrap()).collect()).collect();
            let columns: Vec<&[f64]> = columns.iter().map(|c| &c[..]).collect();
            let (slots, missing) = (vec![0; units.len()], vec![None; columns.len()]);
            table(Rows {
                slots: &slots,
                columns: &columns,
                missing: &missing,
                units: &units,
                ..Rows::default()
            });
        };
        let of_columns = || Columns::new(names.clone(), names.len()).unwrap();
        let bucketed = |arm: f64| {
            let mut table = BucketTable::new(of_columns(), 4096).unwrap();
            table.resize(1);
            fill(arm, &mut |rows| table.update(rows));
            table.get(0)
        };
        let keyed = |arm: f64| {
            let resampling = Resampling {
                replicates: count,
                seed,
                buckets: Some(4096),
                ..Resampling::default()
            };
            let mut table = ReplicatesTable::new(of_columns(), resampling).unwrap();
            table.resize(1);
            fill(arm, &mut |rows| table.update(rows));
            table.get(0)
        };
        let (of_buckets, of_replicates) = ([1.0, 0.0].map(bucketed), [1.0, 0.0].map(keyed));
        for (interval, name) in [
            (Interval::Percentile, "percentile"),
            (Interval::Basic, "basic"),
            (Interval::Studentized, "studentized"),
            (Interval::Bca, "bca"),
        ] {
            for level in [0.95, 0.9] {
                let ends = &case["intervals"][name][level.to_string()];
                let one_sided = 1.0 - (1.0 - level) / 2.0;
                for (alternative, confidence, sides) in [
                    (Alternative::TwoSided, level, (true, true)),
                    (Alternative::Greater, one_sided, (true, false)),
                    (Alternative::Less, one_sided, (false, true)),
                ] {
                    let inference = Inference { confidence, alternative, ..Inference::default() };
                    let options = BootstrapOptions { replicates: count, seed, interval };
                    let [t, c] = &of_buckets;
                    let mut effects = vec![bootstrap(t, c, &inference, &options).unwrap()];
                    if interval != Interval::Studentized {
                        let [t, c] = &of_replicates;
                        effects.push(bootstrap_replicates(t, c, &inference, interval).unwrap());
                    }
                    for e in effects {
                        let what = format!("{name} {level} {alternative:?} {}", e.method);
                        near(e.estimate, case["estimate"].as_f64().unwrap(), &what);
                        near(e.std_error, case["std_error"].as_f64().unwrap(), &what);
                        if sides.0 {
                            near(e.ci_lower, ends[0].as_f64().unwrap(), &what);
                        }
                        if sides.1 {
                            near(e.ci_upper, ends[1].as_f64().unwrap(), &what);
                        }
                    }
                }
            }
        }
    }
}

/// R's wilcox.test, ks.test and quantile(type = 2).
#[test]
fn ranks_and_quantiles_are_those_of_r() {
    let golden = expected("rank");
    let table = columns(&self::golden("lalonde", "lalonde.csv"));
    let treated = evaluate(&table, "treat");
    for case in golden.as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let values = evaluate(&table, text("column"));
        let arm = |arm: f64| {
            let rows = (0..treated.len()).filter(|&r| treated[r] == Some(arm));
            let y: Vec<f64> = rows.map(|r| values[r].unwrap()).collect();
            let columns = Columns::new(["y".to_owned()], 1).unwrap();
            let mut table = HistogramTable::new(columns, &HistogramOptions::default()).unwrap();
            table.resize(1);
            table.update(Rows {
                slots: &vec![0; y.len()],
                columns: &[&y],
                missing: &[None],
                units: &[],
                ..Rows::default()
            });
            table.get(0)
        };
        let (t, c) = (arm(1.0), arm(0.0));
        let alternative = match text("which") {
            "greater" => Alternative::Greater,
            "less" => Alternative::Less,
            _ => Alternative::TwoSided,
        };
        let inference = Inference { alternative, ..Inference::default() };
        let found = match text("what") {
            "mann_whitney" => {
                let e = mann_whitney(&t, &c, &inference).unwrap();
                [e.estimate, e.p_value]
            }
            "ks_test" => {
                let e = ks_test(&t, &c, &inference).unwrap();
                [e.statistic, e.p_value]
            }
            "quantile_delta" => {
                let q = text("which").parse().unwrap();
                let interval = QuantileInterval::Delta;
                let options = QuantileOptions { q, interval, ..QuantileOptions::default() };
                let e = bootstrap_quantile(&t, &c, &inference, &options).unwrap();
                [e.std_error, e.p_value]
            }
            _ => [t, c].map(|h| histogram_quantile(&h, text("which").parse().unwrap()).unwrap()),
        };
        for (found, expected) in found.into_iter().zip(case["values"].as_array().unwrap()) {
            let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
            let near = (found - expected).abs() <= 1e-10 * expected.abs();
            assert!(near, "{case}: {found}");
        }
    }
}

/// The moments of successes and failures, made by doubling so that millions are quick.
fn counted(successes: u64, n: u64) -> Moments {
    use gosset_stats::Summary;
    let columns = || Columns::new(["success".to_owned()], 1).unwrap();
    let times = |value: f64, mut count: u64| {
        let mut total = Moments::new(columns());
        let mut power = Moments::of(&["success"], 1, &[&[value]]).unwrap();
        while count > 0 {
            if count % 2 == 1 {
                total.merge(&power).unwrap();
            }
            let half = power.clone();
            power.merge(&half).unwrap();
            count /= 2;
        }
        total
    };
    let mut arm = times(1.0, successes);
    arm.merge(&times(0.0, n - successes)).unwrap();
    arm
}

#[test]
fn proportions() {
    let expected = expected("proportions");
    let mut checked = 0;
    for case in expected.as_array().unwrap() {
        let method = match case["method"].as_str().unwrap() {
            "wald" => ProportionMethod::Wald,
            "score" => ProportionMethod::Score,
            "agresti-caffo" => ProportionMethod::AgrestiCaffo,
            "newcombe" => ProportionMethod::Newcombe,
            // What others offer beside Miettinen and Nurminen's own; not a method here.
            "score without N / (N - 1)" => continue,
            other => panic!("{other}"),
        };
        let count = |name: &str| case["counts"][name].as_u64().unwrap();
        let t = counted(count("x_treatment"), count("n_treatment"));
        let c = counted(count("x_control"), count("n_control"));
        let option = |name: &str, default: &'static str| match &case["options"][name] {
            Value::Null => default.to_owned(),
            Value::String(text) => text.clone(),
            number => number.to_string(),
        };
        let effect = proportion_test(&t, &c, &inference(&option), method).unwrap();
        let what = format!("{} {} {}", case["method"], case["counts"], case["options"]);
        assert_effect(&effect, &case["effect"], &what);
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn sample_ratios() {
    for case in expected("srm").as_array().unwrap() {
        let mut counts = Counts::default();
        for (arm, rows) in case["counts"].as_object().unwrap() {
            // An arm that nobody has is in no row.
            let rows = rows.as_u64().unwrap();
            if rows > 0 {
                counts.add(arm, rows).unwrap();
            }
        }
        let weights: BTreeMap<String, f64> = case["expected"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(arm, weight)| (arm.clone(), weight.as_f64().unwrap()))
            .collect();
        let found = srm(&counts, Some(&weights)).unwrap();
        let what = case["name"].as_str().unwrap();
        assert_near(found.statistic, &case["chi_squared"], what);
        assert_near(found.p_value, &case["p_value"], what);
        assert_eq!(found.df, case["df"].as_u64(), "{what}");
        assert_eq!(found.arms.len(), weights.len(), "{what}");
    }
}

#[test]
fn distributions() {
    let table = columns(&golden("distributions", "expected.csv"));
    let number = |text: &str| text.parse::<f64>().unwrap();
    for (r, law) in table["distribution"].iter().enumerate() {
        let (function, df) = (&table["function"][r], &table["df"][r]);
        let (argument, expected) = (number(&table["argument"][r]), number(&table["value"][r]));
        let found = match (law.as_str(), function.as_str()) {
            ("t", "sf") => dist::t_sf(argument, number(df)),
            ("t", "isf") => dist::t_isf(argument, number(df)),
            ("normal", "sf") => dist::normal_sf(argument),
            ("normal", "isf") => dist::normal_isf(argument),
            ("chi2", "sf") => dist::chi_squared_sf(argument, number(df) as u64),
            other => panic!("{other:?}"),
        };
        let tolerance = if expected.abs() < 1e-290 && function == "sf" {
            // No more digits than exp has of a large argument, and none where the value is subnormal.
            1e-12 * expected + 1e-320
        } else {
            1e-13 * expected.abs()
        };
        assert!(
            (found - expected).abs() <= tolerance,
            "{law} {function}({argument}, {df}): expected {expected:e}, found {found:e}, {:e} off",
            found / expected - 1.0
        );
    }
}
