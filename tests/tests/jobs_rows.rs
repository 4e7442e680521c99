//! Rows of units with a time and a table of assignments: totals of units and tests of their means, counted again here
//! with plain loops and the textbook's formulas.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use gosset_engine::delta::{DeltaStore, Metadata, partition};
use gosset_engine::{Engine, EngineOptions};
use gosset_tests::place::Place;
use gosset_tests::table::{Row, Table};
use gosset_tests::welch::Welch;

const HOUR: i64 = 3_600_000_000;
/// 28 to 30 March 2026 in Berlin, in microseconds: the second of the days has 23 hours.
const START: i64 = 1_774_652_400_000_000;
const END: i64 = START + 71 * HOUR;

#[derive(Clone)]
struct Allocation {
    unit: Option<i64>,
    arm: Option<&'static str>,
    at: i64,
    country: Option<&'static str>,
    before: Option<f64>,
}

#[derive(Clone)]
struct Session {
    unit: Option<i64>,
    at: i64,
    minutes: Option<f64>,
    stalls: i64,
}

fn utc(at: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC"))
}

fn write_allocations(place: &Place, name: &str, rows: &[Allocation]) {
    place.parquet(
        name,
        vec![
            ("unit", Arc::new(rows.iter().map(|r| r.unit).collect::<Int64Array>())),
            ("arm", Arc::new(rows.iter().map(|r| r.arm).collect::<StringArray>())),
            ("at", utc(rows.iter().map(|r| r.at))),
            ("country", Arc::new(rows.iter().map(|r| r.country).collect::<StringArray>())),
            ("before", Arc::new(rows.iter().map(|r| r.before).collect::<Float64Array>())),
        ],
    );
}

fn write_sessions(place: &Place, name: &str, rows: &[Session]) {
    place.parquet(
        name,
        vec![
            ("unit", Arc::new(rows.iter().map(|r| r.unit).collect::<Int64Array>())),
            ("at", utc(rows.iter().map(|r| r.at))),
            ("minutes", Arc::new(rows.iter().map(|r| r.minutes).collect::<Float64Array>())),
            ("stalls", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.stalls)))),
        ],
    );
}

/// 600 units in two arms, allocated from before the first day until after the last.
fn allocations() -> Vec<Allocation> {
    (0..600)
        .map(|i| Allocation {
            unit: Some(1000 + i),
            arm: Some(if i % 2 == 0 { "old" } else { "new" }),
            at: START + (i * 37 % 90 - 10) * HOUR,
            country: match i % 5 {
                4 => None,
                _ if i % 50 == 0 => Some("XX"),
                0 | 1 => Some("DE"),
                _ => Some("US"),
            },
            before: (i % 7 != 0).then_some(((i * 31) % 53) as f64 * 0.5),
        })
        .collect()
}

/// Rows before, at and after the allocation of their unit, and before, in and after the period.
fn sessions(allocations: &[Allocation]) -> Vec<Session> {
    let mut rows = Vec::new();
    for (i, allocation) in (0..).zip(allocations) {
        for j in 0..(i * 7 % 6) {
            let at = match j {
                3 => allocation.at,
                4 => allocation.at - 1,
                _ => START + ((i * 53 + j * 17) % 100 - 12) * HOUR,
            };
            let lift = if allocation.arm == Some("new") { 1.5 } else { 0.0 };
            let minutes = ((i * 13 + j * 29) % 97) as f64 * 0.25 + lift;
            rows.push(Session {
                unit: allocation.unit,
                at,
                minutes: ((i + j) % 11 != 0).then_some(minutes),
                stalls: (i + j) % 4,
            });
        }
    }
    // Of nobody who is in the experiment, and of nobody at all.
    for i in 0..50 {
        let unit = (i % 2 == 0).then_some(i);
        rows.push(Session { unit, at: START + i * HOUR, minutes: Some(1e6), stalls: 1000 });
    }
    rows
}

/// What a unit did from its allocation to the end of the period.
#[derive(Debug, Clone, Default)]
struct Totals {
    arm: &'static str,
    country: Option<&'static str>,
    before: Option<f64>,
    rows: f64,
    with_minutes: f64,
    minutes: f64,
    stalls: f64,
    stalled: f64,
}

/// What a metric is of a unit; none where it is not defined.
type Value = fn(&Totals) -> Option<f64>;

/// The units that are analysed, counted again.
fn totals(allocations: &[Allocation], sessions: &[Session], end: i64) -> BTreeMap<i64, Totals> {
    let mut units = BTreeMap::new();
    for a in allocations {
        let (Some(unit), Some(arm)) = (a.unit, a.arm) else { continue };
        if a.at >= end {
            continue;
        }
        let mut made = Totals { arm, country: a.country, before: a.before, ..Totals::default() };
        for s in sessions {
            if s.unit != Some(unit) || s.at < a.at || s.at < START || s.at >= end {
                continue;
            }
            made.rows += 1.0;
            if let Some(minutes) = s.minutes {
                made.with_minutes += 1.0;
                made.minutes += minutes;
            }
            made.stalls += s.stalls as f64;
            made.stalled += f64::from(u8::from(s.stalls > 1));
        }
        units.insert(unit, made);
    }
    units
}

const JOB: &str = r#"[job]
name     = "rows"
store    = "results"
timezone = "Europe/Berlin"

[sources.sessions]
url  = "SESSIONS"
unit = "unit"
time = "at"

[assignments]
url  = "ALLOCATIONS"
unit = "unit"
arm  = "arm"
time = "at"

[segments.country]
column = "country"

[metrics.minutes]
source    = "sessions"
value     = "sum(minutes)"
covariate = { column = "before" }
[metrics.rows]
source = "sessions"
value  = "count(*)"
[metrics.stalled]
source = "sessions"
value  = "count(*) FILTER (WHERE stalls > 1)"
[metrics.per_row]
source = "sessions"
value  = "sum(minutes) / count(minutes)"
[metrics.rate]
source      = "sessions"
numerator   = "sum(stalls)"
denominator = "sum(minutes) / 60"

[experiments.player]
control    = "old"
start      = 2026-03-28
end        = 2026-03-30
metrics    = ["minutes", "rows", "stalled", "per_row", "rate"]
segments   = ["country"]
estimators = ["ttest", "cuped", "lin", "bootstrap"]
"#;

fn job(sessions: &str, allocations: &str) -> String {
    JOB.replace("SESSIONS", sessions).replace("ALLOCATIONS", allocations)
}

/// The lake of most tests, and its units counted again.
fn lake() -> (Place, BTreeMap<i64, Totals>) {
    let place = Place::new();
    let allocations = allocations();
    let sessions = sessions(&allocations);
    write_allocations(&place, "allocations.parquet", &allocations);
    write_sessions(&place, "sessions.parquet", &sessions);
    let units = totals(&allocations, &sessions, END);
    (place, units)
}

/// The values of units of each arm: treatment, control.
fn by_arm<T>(
    units: &BTreeMap<i64, Totals>,
    keep: impl Fn(&Totals) -> bool,
    value: impl Fn(&Totals) -> Option<T>,
) -> (Vec<T>, Vec<T>) {
    let of =
        |arm: &str| units.values().filter(|u| u.arm == arm && keep(u)).filter_map(&value).collect();
    (of("new"), of("old"))
}

#[test]
fn outcomes_count_from_the_allocation_to_the_end_of_the_period() {
    let (place, units) = lake();
    place.run(&job("sessions.parquet", "allocations.parquet")).ended(0);
    let effects = place.effects();
    assert!(units.len() > 450 && units.len() < 600, "some units are allocated after the end");
    for country in [Some(None), Some(Some("DE")), Some(Some("US")), None] {
        let keep = |u: &Totals| country.is_none_or(|country| u.country == country);
        let segment = if country.is_some() { "country" } else { "" };
        let keys = |metric, estimator| {
            [
                ("metric", metric),
                ("segment", segment),
                ("segment_value", country.flatten().unwrap_or_default()),
                ("arm", "new"),
                ("estimator", estimator),
            ]
        };
        let means: [(&str, Value); 4] = [
            ("minutes", |u| Some(u.minutes)),
            ("rows", |u| Some(u.rows)),
            ("stalled", |u| Some(u.stalled)),
            ("per_row", |u| (u.with_minutes > 0.0).then(|| u.minutes / u.with_minutes)),
        ];
        for (metric, value) in means {
            let (treatment, control) = by_arm(&units, keep, value);
            Welch::of_means(&treatment, &control).is(effects.only(&keys(metric, "ttest")));
        }
        let (treatment, control) = by_arm(&units, keep, |u| Some((u.stalls, u.minutes / 60.0)));
        Welch::of_ratios(&treatment, &control).is(effects.only(&keys("rate", "ratio_test")));
    }
    // The day of the results, and what every row says of itself.
    for row in effects.rows() {
        assert_eq!(row.text("analysis_date"), Some("2026-03-30"));
        assert_eq!((row.text("job"), row.text("experiment")), (Some("rows"), Some("player")));
        assert_eq!((row.text("period"), row.text("control")), (Some("overall"), Some("old")));
        assert_eq!(row.text("analysis_base"), Some("assignment"));
    }
}

#[test]
fn a_segment_without_one_of_the_arms_has_no_number() {
    let (place, units) = lake();
    place.run(&job("sessions.parquet", "allocations.parquet")).ended(0);
    let effects = place.effects();
    assert!(units.values().filter(|u| u.country == Some("XX")).all(|u| u.arm == "old"));
    let rows = effects.of(&[("segment", "country"), ("segment_value", "XX")]);
    assert!(!rows.is_empty());
    for row in rows {
        for name in ["estimate", "std_error", "p_value", "ci_lower", "ci_upper"] {
            assert_eq!(row.number(name), None, "{row:?}");
        }
        assert!(row.text("note").is_some(), "{row:?}");
    }
}

#[test]
fn audits_count_what_is_missing() {
    let (place, units) = lake();
    place.run(&job("sessions.parquet", "allocations.parquet")).ended(0);
    let audits = place.audits();
    let without = units.values().filter(|u| u.rows == 0.0).count();
    let row = audits.only(&[("audit", "units_without_rows"), ("source", "sessions")]);
    assert_eq!(row.number("value"), Some(without as f64 / units.len() as f64));
    assert_eq!(row.text("verdict"), Some("passed"));
    let missing = units.values().filter(|u| u.with_minutes == 0.0).count();
    let share = |metric| audits.only(&[("audit", "missing"), ("metric", metric)]).number("value");
    assert_eq!(share("per_row"), Some(missing as f64 / units.len() as f64));
    assert_eq!(share("minutes"), Some(0.0), "a sum of no rows is 0");
    let effects = place.effects();
    let row = effects.only(&[("metric", "per_row"), ("segment", ""), ("estimator", "ttest")]);
    assert_eq!(row.number("n_dropped"), Some(missing as f64));
}

/// Writes the units that were counted by hand.
fn write_units(place: &Place, units: &BTreeMap<i64, Totals>) {
    let column = |of: fn(&Totals) -> Option<f64>| -> ArrayRef {
        Arc::new(units.values().map(of).collect::<Float64Array>())
    };
    place.parquet(
        "units.parquet",
        vec![
            ("unit", Arc::new(Int64Array::from_iter_values(units.keys().copied()))),
            ("arm", Arc::new(units.values().map(|u| Some(u.arm)).collect::<StringArray>())),
            ("country", Arc::new(units.values().map(|u| u.country).collect::<StringArray>())),
            ("before", column(|u| u.before)),
            ("minutes", column(|u| Some(u.minutes))),
            ("stalls", column(|u| Some(u.stalls))),
            ("hours", column(|u| Some(u.minutes / 60.0))),
        ],
    );
}

/// Asserts that published effects are those of calls of SQL over the units, to the bit. A call has `OPTIONS` where it
/// names the arms and the seed.
#[track_caller]
fn same_as_sql(place: &Place, calls: &[(&str, &str, &str)]) {
    let effects = place.effects();
    let seed = effects.rows().iter().find_map(|row| row.integer("seed")).unwrap();
    let fields: Vec<String> = gosset_sql::effect_fields()
        .iter()
        .map(|field| format!("e['{name}'] AS {name}", name = field.name()))
        .collect();
    let arms = "treatment: 'new', control: 'old'";
    for (metric, estimator, call) in calls {
        let call = call.replace("ARMS", arms).replace("SEED", &format!("seed: {seed}"));
        for segment in ["", "country"] {
            let (key, group) = match segment {
                "" => ("CAST(NULL AS VARCHAR)", ""),
                _ => ("country", "GROUP BY country"),
            };
            let file = format!("{estimator}{segment}.parquet");
            let query = format!(
                "COPY (SELECT segment_value, {} FROM
                   (SELECT {key} AS segment_value, {call} AS e FROM 'units.parquet' {group})) TO '{file}'",
                fields.join(", ")
            );
            place.gosset(&["sql", "-c", &query]).ended(0);
            let by_hand = Table::read(&place.path(&file));
            assert_eq!(by_hand.rows().len(), if segment.is_empty() { 1 } else { 4 });
            // Where an arm is missing only the words differ.
            for row in by_hand.rows().iter().filter(|row| row.text("segment_value") != Some("XX")) {
                let (name, quantile) = estimator.split_once(' ').unwrap_or((estimator, ""));
                let published = effects.only(&[
                    ("metric", metric),
                    ("segment", segment),
                    ("segment_value", row.text("segment_value").unwrap_or_default()),
                    ("estimator", name),
                    ("quantile", quantile),
                ]);
                assert_eq!(published.common_bits(row), row.bits(), "{metric} {estimator} {call}");
            }
        }
    }
}

/// The adjusted and resampled effects are those of the SQL functions over the units counted here.
#[test]
fn sql_over_units_counted_by_hand_gives_the_same_bits() {
    let (place, units) = lake();
    write_units(&place, &units);
    place.run(&job("sessions.parquet", "allocations.parquet")).ended(0);
    same_as_sql(
        &place,
        &[
            ("minutes", "cuped", "cuped(minutes, {before: before}, arm, {ARMS})"),
            ("minutes", "lin", "lin(minutes, {before: before}, arm, {ARMS})"),
            ("minutes", "bootstrap_mean", "bootstrap_mean(minutes, arm, unit, {ARMS, SEED})"),
            ("rate", "bootstrap_ratio", "bootstrap_ratio(stalls, hours, arm, unit, {ARMS, SEED})"),
            ("rate", "ratio_test", "ratio_test(stalls, hours, arm, {ARMS})"),
        ],
    );
}

/// Ratios are adjusted by numbers and by ratios, a prediction adjusts its metric, and Lin's variance may be a superpopulation's.
#[test]
fn adjusted_effects_are_those_of_sql() {
    let (place, units) = lake();
    write_units(&place, &units);
    let job = job("sessions.parquet", "allocations.parquet")
        .replace("\"cuped\", \"lin\", ", "\"cuped\", \"lin\", \"mlrate\", ");
    let with = |covariate: &str| {
        let of_ratio = format!("[metrics.rate]\ncovariate = {{ {covariate} }}");
        job.replace("[metrics.rate]", &of_ratio) + "\n[estimators.lin]\nsuperpopulation = true\n"
    };
    place.run(&with("column = \"before\"")).ended(0);
    same_as_sql(
        &place,
        &[
            ("rate", "cuped", "cuped_ratio(stalls, hours, {before: before}, arm, {ARMS})"),
            ("minutes", "mlrate", "mlrate(minutes, {before: before}, arm, {ARMS})"),
            (
                "minutes",
                "lin",
                "lin(minutes, {before: before}, arm, {ARMS, superpopulation: true})",
            ),
        ],
    );
    let effects = place.effects();
    let row = effects.only(&[("metric", "rate"), ("segment", ""), ("estimator", "mlrate")]);
    assert_eq!(row.text("note"), Some("mlrate takes a metric with a value, this one is a ratio"));
    place.run(&with("numerator = \"before\", denominator = \"unit\"")).ended(0);
    let call = "cuped_ratio(stalls, hours, {'before/unit': {num: before, den: unit}}, arm, {ARMS})";
    same_as_sql(&place, &[("rate", "cuped", call)]);
}

/// Units are stratified by a column of the assignments, of which some have no value and some values few units.
#[test]
fn post_stratified_effects_are_those_of_sql() {
    let (place, units) = lake();
    write_units(&place, &units);
    let job = job("sessions.parquet", "allocations.parquet")
        .replace("\"cuped\", \"lin\", ", "\"post_stratify\", ");
    let run = |options: &str| {
        let section = format!("\n[estimators.post_stratify]\nstrata = \"country\"\n{options}");
        place.run(&(job.clone() + &section)).ended(0);
    };
    run("");
    let call = "post_stratify(minutes, country, arm, {before: before}, {ARMS})";
    same_as_sql(&place, &[("minutes", "post_stratify", call)]);
    run("empty = \"drop\"\nsuperpopulation = true\n");
    let call = "post_stratify(minutes, country, arm, {before: before}, {ARMS, empty: 'drop', superpopulation: true})";
    same_as_sql(&place, &[("minutes", "post_stratify", call)]);
    let effects = place.effects();
    let row = effects.only(&[("metric", "rate"), ("segment", ""), ("estimator", "post_stratify")]);
    let note = "post_stratify takes a metric with a value, this one is a ratio";
    assert_eq!(row.text("note"), Some(note));
}

/// The estimators that take covariates leave out units without one, or refuse them, as their functions of SQL do; the other
/// estimators are of all units still.
#[test]
fn units_without_a_covariate_follow_the_policy() {
    let (place, units) = lake();
    write_units(&place, &units);
    let job = job("sessions.parquet", "allocations.parquet")
        .replace("\"cuped\", \"lin\", ", "\"cuped\", \"lin\", \"mlrate\", \"post_stratify\", ")
        .replace("[metrics.rate]", "[metrics.rate]\ncovariate = { column = \"before\" }");
    let with = |missing: &str| {
        let missing = match missing {
            "" => String::new(),
            word => format!("missing = \"{word}\"\n"),
        };
        let section = |name: &str| format!("[estimators.{name}]\n{missing}");
        let adjusted = ["cuped", "lin", "mlrate"].map(section).concat();
        let strata = "strata = \"country\"\n";
        format!("{job}\n{adjusted}{}{strata}", section("post_stratify"))
    };
    let policies = |word: &str| {
        [
            ("minutes", "cuped", "cuped(minutes, {before: before}, arm, {ARMS, MISSING})"),
            ("rate", "cuped", "cuped_ratio(stalls, hours, {before: before}, arm, {ARMS, MISSING})"),
            ("minutes", "lin", "lin(minutes, {before: before}, arm, {ARMS, MISSING})"),
            ("minutes", "mlrate", "mlrate(minutes, {before: before}, arm, {ARMS, MISSING})"),
            (
                "minutes",
                "post_stratify",
                "post_stratify(minutes, country, arm, {before: before}, {ARMS, MISSING})",
            ),
        ]
        .map(|(metric, estimator, call)| {
            (metric, estimator, call.replace("MISSING", &format!("missing: '{word}'")))
        })
    };
    let same_as = |word: &str| {
        let calls = policies(word);
        let calls =
            calls.each_ref().map(|(metric, estimator, call)| (*metric, *estimator, &**call));
        same_as_sql(&place, &calls);
    };
    place.run(&with("")).ended(0);
    same_as("indicator");
    let by_default = place.effects();
    place.run(&with("indicator")).ended(0).told("nothing to do");

    place.run(&with("drop")).ended(0);
    same_as("drop");
    let effects = place.effects();
    let without = units.values().filter(|unit| unit.before.is_none()).count();
    for estimator in ["cuped", "lin", "mlrate", "post_stratify"] {
        let keys = [("metric", "minutes"), ("segment", ""), ("estimator", estimator)];
        let row = effects.only(&keys);
        assert_eq!(row.number("n_dropped"), Some(without as f64), "{estimator}");
        assert_eq!(by_default.only(&keys).number("n_dropped"), Some(0.0), "{estimator}");
    }
    for estimator in ["ttest", "bootstrap_mean"] {
        let keys = [("metric", "minutes"), ("segment", ""), ("estimator", estimator)];
        assert_eq!(numbers(effects.only(&keys)), numbers(by_default.only(&keys)), "{estimator}");
    }

    let run = place.run(&with("error")).ended(65).told("covariate 'before' is NULL in some rows");
    for metric in ["minutes", "rate"] {
        let told = format!("metric '{metric}' is not measured");
        assert!(run.stderr.contains(&told), "{}", run.stderr);
    }
    let effects = place.effects();
    for estimator in ["ttest", "cuped"] {
        let row = effects.only(&[("metric", "minutes"), ("estimator", estimator)]);
        assert_eq!(row.number("estimate"), None);
        assert!(row.text("note").unwrap().contains("covariate 'before' is NULL"), "{row:?}");
    }
    let keys = [("metric", "per_row"), ("segment", ""), ("estimator", "ttest")];
    assert_eq!(numbers(effects.only(&keys)), numbers(by_default.only(&keys)));

    // Who is not analysed needs no covariate.
    let mut allocations = allocations();
    for allocation in &mut allocations {
        allocation.before.get_or_insert(1.5);
    }
    let sessions = sessions(&allocations);
    write_units(&place, &totals(&allocations, &sessions, END));
    for (unit, arms) in [(1, [None, None]), (2, [Some("old"), Some("new")])] {
        let of = |arm| Allocation { unit: Some(unit), arm, at: START, country: None, before: None };
        allocations.extend(arms.map(of));
    }
    write_allocations(&place, "allocations.parquet", &allocations);
    place.run(&with("error")).ended(0);
    same_as("error");
}

/// The numbers of an effect, as bits.
fn numbers(row: &Row) -> Vec<Option<u64>> {
    let fields = gosset_sql::effect_fields();
    let fields = fields.iter().filter(|field| field.data_type().is_numeric());
    fields.map(|field| row.number(field.name()).map(f64::to_bits)).collect()
}

/// Every estimator of means takes values that are capped at quantiles of all units, in every segment at the same; those of
/// distributions take the values. The estimate without the cap is beside.
#[test]
fn capped_effects_are_those_of_capped_values() {
    let (place, units) = lake();
    let means = ["ttest", "cuped", "lin", "mlrate", "post_stratify", "bootstrap_mean"];
    let distributions = ["quantile", "mann_whitney"];
    let job = job("sessions.parquet", "allocations.parquet").replace(
        "\"cuped\", \"lin\", \"bootstrap\"",
        "\"cuped\", \"lin\", \"mlrate\", \"post_stratify\", \"bootstrap\", \"quantile\", \"mann_whitney\"",
    ) + "\n[estimators.post_stratify]\nstrata = \"country\"\n";
    let run = |job: &str| {
        place.run(job).ended(0);
        place.effects()
    };
    let plain = run(&job);
    let with_cap = "[metrics.minutes]\ncap = { upper = 0.9, lower = 0.45 }";
    let capped = run(&job.replace("[metrics.minutes]", with_cap));

    let mut values: Vec<f64> = units.values().map(|unit| unit.minutes).collect();
    values.sort_by(f64::total_cmp);
    let rank = |share: f64| share * values.len() as f64;
    let upper = values[rank(0.9).ceil() as usize - 1];
    let lower = values[rank(0.45).floor() as usize];
    assert!(values[0] < lower && upper < values[values.len() - 1]);
    let by_hand = |lower: f64, upper: f64| {
        format!(
            "CASE WHEN sum(minutes) > {upper:?} THEN {upper:?} WHEN sum(minutes) < {lower:?} THEN {lower:?} ELSE sum(minutes) END"
        )
    };
    let of_capped =
        run(&job.replace("\"sum(minutes)\"", &format!("\"{}\"", by_hand(lower, upper))));

    for row in capped.of(&[("metric", "minutes")]) {
        let text = |name| row.text(name).unwrap_or_default();
        let keys: Vec<(&str, &str)> = ["metric", "segment", "segment_value", "estimator"]
            .map(|name| (name, text(name)))
            .into();
        let estimator = text("estimator");
        if distributions.contains(&estimator) {
            assert_eq!(row.bits(), plain.only(&keys).bits());
            continue;
        }
        assert!(means.contains(&estimator), "{estimator}");
        assert_eq!(numbers(row), numbers(of_capped.only(&keys)), "{keys:?}");
        assert_eq!((row.number("cap"), row.number("cap_lower")), (Some(upper), Some(lower)));
        let uncapped = plain.only(&keys).number("estimate");
        assert_eq!(row.number("estimate_uncapped"), uncapped, "{keys:?}");
        let inside = |unit: &&Totals| match (text("segment"), text("segment_value")) {
            ("", _) => true,
            (_, value) => unit.country.unwrap_or_default() == value,
        };
        let inside: Vec<f64> = units.values().filter(inside).map(|unit| unit.minutes).collect();
        let beyond = inside.iter().filter(|x| **x < lower || **x > upper).count();
        let share = beyond as f64 / inside.len() as f64;
        assert_eq!(row.number("capped_share"), Some(share), "{keys:?}");
        assert!(text("note").contains(&format!("lower cap {lower}; upper cap {upper}; ")));
    }
    for row in capped.rows().iter().filter(|row| row.text("metric") != Some("minutes")) {
        assert_eq!((row.number("cap"), row.number("capped_share")), (None, None));
    }
    // What is not finite is not beyond a cap: it is no number as it would be without.
    let infinite = job.replace("\"sum(minutes)\"", "\"sum(minutes) * 1e307\"").replace(
        "[metrics.minutes]",
        "[audits.non_finite]\nblocking = false\n[metrics.minutes]\ncap = 0.9",
    );
    let infinite = run(&infinite);
    let row = infinite.only(&[("metric", "minutes"), ("segment", ""), ("estimator", "ttest")]);
    assert!(row.number("estimate").is_none_or(f64::is_nan), "{row:?}");
    // A number is the upper quantile.
    let short = |cap: &str| {
        run(&job.replace("[metrics.minutes]", &format!("[metrics.minutes]\ncap = {cap}")))
    };
    assert_eq!(short("0.9").bits(), short("{ upper = 0.9 }").bits());
    // Units that are made of their days have caps of their own, on every date.
    let daily =
        job.replace("control    =", "periods = [\"cumulative\", \"overall\"]\ncontrol    =");
    let capped = run(&daily.replace("[metrics.minutes]", with_cap));
    let overall = [("metric", "minutes"), ("period", "overall")];
    let cap = |name| capped.of(&overall).iter().find_map(|row| row.number(name)).unwrap();
    let of_capped = run(&daily
        .replace("\"sum(minutes)\"", &format!("\"{}\"", by_hand(cap("cap_lower"), cap("cap")))));
    for row in capped.of(&overall) {
        let keys = ["metric", "segment", "segment_value", "estimator", "period"];
        let keys: Vec<(&str, &str)> =
            keys.map(|name| (name, row.text(name).unwrap_or_default())).into();
        if means.contains(&row.text("estimator").unwrap()) {
            assert_eq!(numbers(row), numbers(of_capped.only(&keys)), "{keys:?}");
        }
    }
}

/// Lin's robust standard errors by two passes over units, of the National Supported Work experiment, are those that
/// statsmodels gives.
#[test]
fn robust_errors_of_two_passes_are_those_of_statsmodels() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let place = Place::new();
    fs::copy(golden.join("lalonde/lalonde.csv"), place.path("lalonde.csv")).unwrap();
    let expected = fs::read_to_string(golden.join("lin_robust/expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    let mut compared = 0;
    for case in expected["cases"].as_array().unwrap() {
        let call = case["sql"].as_str().unwrap();
        let vcov = ["HC0", "HC1", "HC2", "HC3"].into_iter().find(|name| call.contains(name));
        if !call.starts_with("lin(re78, {age: age, educ: educ, black: black, hisp: hisp, married: married, nodegr: nodegr, re74: re74, re75: re75}, treat = 1, {vcov:") {
            continue;
        }
        let superpopulation = call.contains("superpopulation: true");
        let job = format!(
            "[job]
            name = \"lalonde\"
            store = \"results\"
            [sources.men]
            url = \"lalonde.csv\"
            grain = \"unit\"
            [assignments]
            source = \"men\"
            arm = \"treat\"
            [metrics.re78]
            source = \"men\"
            value = \"re78\"
            covariate = {{ column = [\"age\", \"educ\", \"black\", \"hisp\", \"married\", \"nodegr\", \"re74\", \"re75\"] }}
            [estimators.lin]
            vcov = \"{}\"
            superpopulation = {superpopulation}
            [experiments.nsw]
            control = \"0\"
            metrics = [\"re78\"]
            estimators = [\"lin\"]
            expected = {{ 0 = 260, 1 = 185 }}",
            vcov.unwrap()
        );
        place.run(&job).ended(0);
        let effects = place.effects();
        let row = effects.only(&[("estimator", "lin")]);
        assert!(row.text("method").unwrap().ends_with("in two passes"));
        for (field, value) in case["effect"].as_object().unwrap() {
            let (found, expected) = (row.number(field).unwrap(), value.as_f64().unwrap());
            let apart = (found - expected).abs();
            assert!(apart <= 1e-9 * expected.abs(), "{call} {field}: {found}, {expected}");
        }
        compared += 1;
    }
    assert_eq!(compared, 8);
}

/// Two passes give the numbers of one pass over the distinct rows, in every segment, with covariates that some units lack
/// and with values that are capped; and the same bits however they are made.
#[test]
fn two_passes_over_units_are_one_over_distinct_rows() {
    let (place, units) = lake();
    write_units(&place, &units);
    let job = job("sessions.parquet", "allocations.parquet")
        .replace("\"cuped\", \"lin\", \"bootstrap\"", "\"lin\", \"bootstrap\"")
        + "\n[estimators.lin]\nvcov = \"HC3\"\n";
    for (missing, segment) in
        ["indicator", "drop"].into_iter().flat_map(|m| ["", "country"].map(|s| (m, s)))
    {
        place.run(&format!("{job}missing = \"{missing}\"\n")).ended(0);
        let effects = place.effects();
        let (key, group) = match segment {
            "" => ("CAST(NULL AS VARCHAR)", ""),
            _ => ("country", "GROUP BY country"),
        };
        let query = format!(
            "COPY (SELECT k, e['estimate'] AS estimate, e['std_error'] AS std_error, e['df'] AS df, e['note'] AS note FROM
               (SELECT {key} AS k, lin(minutes, {{before: before}}, arm, {{treatment: 'new', control: 'old', vcov: 'HC3', missing: '{missing}'}}) AS e
                FROM 'units.parquet' {group})) TO 'lin{segment}.parquet'"
        );
        place.gosset(&["sql", "-c", &query]).ended(0);
        let by_hand = Table::read(&place.path(&format!("lin{segment}.parquet")));
        for row in by_hand.rows().iter().filter(|row| row.text("k") != Some("XX")) {
            let found = effects.only(&[
                ("metric", "minutes"),
                ("segment", segment),
                ("segment_value", row.text("k").unwrap_or_default()),
                ("estimator", "lin"),
            ]);
            assert_eq!(found.text("note"), row.text("note"));
            for field in ["estimate", "std_error", "df"] {
                let (a, b) = (found.number(field).unwrap(), row.number(field).unwrap());
                assert!((a - b).abs() <= 1e-11 * b.abs(), "{segment} {field}: {a}, {b}");
            }
        }
    }
    let capped = job.replace("[metrics.minutes]", "[metrics.minutes]\ncap = 0.9");
    let bits = |arguments: &[&str]| {
        place.write("capped.toml", &capped);
        place.gosset(&[&["run", "capped.toml"], arguments].concat()).ended(0);
        let bits = place.effects().bits();
        fs::remove_dir_all(place.path("results")).unwrap();
        bits
    };
    let expected = bits(&["--partitions", "1"]);
    for arguments in [["--partitions", "5"], ["--memory-limit", "8MB"]] {
        assert_eq!(bits(&arguments), expected, "{arguments:?}");
    }
}

/// Every way to resample units, with every interval that it allows.
#[test]
fn resampled_effects_are_those_of_sql_for_every_method() {
    let (place, units) = lake();
    write_units(&place, &units);
    let job =
        job("sessions.parquet", "allocations.parquet").replace("\"cuped\", \"lin\", ", "").replace(
            "[\"minutes\", \"rows\", \"stalled\", \"per_row\", \"rate\"]",
            "[\"minutes\", \"rate\"]",
        );
    let intervals = ["percentile", "normal", "basic", "bca", "studentized"];
    for method in ["buckets", "poisson", "double_or_nothing", "bayesian"] {
        for interval in intervals {
            if method != "buckets" && interval == "studentized" {
                continue;
            }
            let (buckets, option) = match (method, interval) {
                ("buckets", _) | (_, "bca") => ("buckets = 64", ", buckets: 64"),
                _ => ("", ""),
            };
            let section = format!(
                "[estimators.bootstrap]\nmethod = \"{method}\"\ninterval = \"{interval}\"\nreplicates = 150\nseed = 11\n{buckets}\n"
            );
            place.run(&format!("{job}\n{section}")).ended(0);
            let options = format!(
                "{{ARMS, SEED, method: '{method}', interval: '{interval}', replicates: 150{option}}}"
            );
            let mean = format!("bootstrap_mean(minutes, arm, unit, {options})");
            let ratio = format!("bootstrap_ratio(stalls, hours, arm, unit, {options})");
            let calls = [
                ("minutes", "bootstrap_mean", mean.as_str()),
                ("rate", "bootstrap_ratio", ratio.as_str()),
            ];
            same_as_sql(&place, &calls);
        }
    }
}

/// Quantiles and rank tests of values; a ratio has none.
#[test]
fn effects_on_distributions_are_those_of_sql() {
    let (place, units) = lake();
    write_units(&place, &units);
    let job = job("sessions.parquet", "allocations.parquet").replace(
        "\"cuped\", \"lin\", \"bootstrap\"]",
        "\"quantile\", \"mann_whitney\", \"ks_test\"]",
    );
    let section = "[estimators.quantile]\nquantiles = [0.5, 0.9]\n";
    for method in ["binomial", "poisson", "double_or_nothing", "bayesian"] {
        for interval in ["percentile", "normal", "basic"] {
            let options =
                format!("method = \"{method}\"\ninterval = \"{interval}\"\nreplicates = 120\n");
            place.run(&format!("{job}\n{section}{options}")).ended(0);
            let (unit, law) = match method {
                "binomial" => ("", String::new()),
                law => (", unit", format!(", method: '{law}'")),
            };
            let call = |q: &str| {
                format!(
                    "bootstrap_quantile(minutes, {q}, arm{unit}, {{ARMS, SEED, interval: '{interval}', replicates: 120{law}}})"
                )
            };
            same_as_sql(
                &place,
                &[
                    ("minutes", "quantile 0.5", &call("0.5")),
                    ("minutes", "quantile 0.9", &call("0.9")),
                    ("minutes", "mann_whitney", "mann_whitney(minutes, arm, {ARMS})"),
                    ("minutes", "ks_test", "ks_test(minutes, arm, {ARMS})"),
                ],
            );
        }
    }
    let effects = place.effects();
    let of_ratio = effects.of(&[("metric", "rate"), ("segment", "")]);
    let notes: Vec<(&str, Option<&str>)> =
        of_ratio.iter().map(|row| (row.text("estimator").unwrap(), row.text("note"))).collect();
    let because = |name: &str| format!("{name} takes a metric with a value, this one is a ratio");
    for (name, quantile) in
        [("quantile", "0.5"), ("quantile", "0.9"), ("mann_whitney", ""), ("ks_test", "")]
    {
        let place = [("metric", "rate"), ("segment", ""), ("estimator", name)];
        let keys: Vec<_> = place.into_iter().chain([("quantile", quantile)]).collect();
        let row = effects.only(&keys);
        let told = because(name);
        assert_eq!(row.text("note"), Some(told.as_str()), "{notes:?}");
        assert_eq!((row.number("estimate"), row.number("p_value")), (None, None));
        assert_eq!(row.integer("seed"), None);
    }
    assert_eq!(of_ratio.len(), 5, "{notes:?}");
}

#[test]
fn neither_files_nor_the_order_of_rows_nor_partitions_change_a_bit() {
    let (place, _) = lake();
    place.run(&job("sessions.parquet", "allocations.parquet")).ended(0);
    let (effects, audits) = (place.effects().bits(), place.audits().bits());

    let shuffled = Place::new();
    let mut rows = allocations();
    let mut sessions = sessions(&rows);
    rows.reverse();
    // 7919 is prime to the number of rows.
    sessions = (0..sessions.len()).map(|i| sessions[i * 7919 % sessions.len()].clone()).collect();
    for (i, part) in rows.chunks(170).enumerate() {
        write_allocations(&shuffled, &format!("allocations/{i}.parquet"), part);
    }
    for (i, part) in sessions.chunks(301).enumerate() {
        write_sessions(&shuffled, &format!("sessions/day={i}/part.parquet"), part);
    }
    shuffled.write("job.toml", &job("sessions/", "allocations/*.parquet"));
    for partitions in ["1", "2", "7"] {
        shuffled.gosset(&["run", "job.toml", "--partitions", partitions]).ended(0);
        assert_eq!(shuffled.effects().bits(), effects, "{partitions} partitions");
        assert_eq!(shuffled.audits().bits(), audits, "{partitions} partitions");
        fs::remove_dir_all(shuffled.path("results")).unwrap();
    }
}

/// The first and the last instant of days that are as long as they are, in microseconds.
#[test]
fn days_are_half_open_in_every_time_zone() {
    for (zone, day, hours, start) in [
        ("Europe/Berlin", "2026-03-29", 23, 1_774_738_800),
        ("Europe/Berlin", "2026-10-25", 25, 1_792_879_200),
        ("America/New_York", "2026-03-08", 23, 1_772_946_000),
        ("Asia/Kathmandu", "2026-03-02", 24, 1_772_388_900),
        ("UTC", "2024-02-29", 24, 1_709_164_800),
    ] {
        let (start, end) = (start * 1_000_000, start * 1_000_000 + hours * HOUR);
        let place = Place::new();
        let assigned = |unit, arm, at| Allocation {
            unit: Some(unit),
            arm: Some(arm),
            at,
            country: None,
            before: None,
        };
        let mut allocations = Vec::new();
        let mut rows = Vec::new();
        for unit in 0..20 {
            let arm = ["old", "new"][unit as usize % 2];
            // The last units are allocated in the last instant and after it.
            let at = match unit {
                16 | 17 => end - 1,
                18 | 19 => end,
                _ => start - HOUR,
            };
            allocations.push(assigned(unit, arm, at));
            for (at, minutes) in [(start - 1, 1e3), (start, 1.0), (end - 1, 10.0), (end, 1e6)] {
                rows.push(Session { unit: Some(unit), at, minutes: Some(minutes), stalls: 0 });
            }
        }
        write_allocations(&place, "allocations.parquet", &allocations);
        write_sessions(&place, "sessions.parquet", &rows);
        let job = job("sessions.parquet", "allocations.parquet")
            .replace("Europe/Berlin", zone)
            .replace("2026-03-28", day)
            .replace("2026-03-30", day);
        place.run(&job).ended(0);
        let effects = place.effects();
        let row = effects.only(&[("metric", "minutes"), ("segment", ""), ("estimator", "ttest")]);
        // Eight units see both ends of the day, one is there for its last instant alone.
        let mean = (8.0 * 11.0 + 10.0) / 9.0;
        for arm in ["control", "treatment"] {
            assert_eq!(row.number(&format!("n_{arm}")), Some(9.0), "{zone} {day}");
            assert_eq!(row.number(&format!("mean_{arm}")), Some(mean), "{zone} {day}");
        }
    }
}

#[test]
fn times_without_a_zone_are_those_of_the_clock_on_the_wall() {
    let place = Place::new();
    let mut allocations = String::from("unit,arm,at\n");
    let mut sessions = String::from("unit,at,minutes,stalls\n");
    for unit in 0..20 {
        let arm = ["old", "new"][unit % 2];
        let at = if unit < 18 { "2026-03-28T12:00:00" } else { "2026-03-30T00:00:00" };
        allocations += &format!("{unit},{arm},{at}\n");
        for (at, minutes) in [
            ("2026-03-28T11:59:59", 1e3),
            ("2026-03-28T12:00:00", 1.0),
            // An hour that the clock leaves out that night.
            ("2026-03-29T02:30:00", 10.0),
            ("2026-03-29T23:59:59", 100.0),
            ("2026-03-30T00:00:00", 1e6),
        ] {
            sessions += &format!("{unit},{at},{minutes},0\n");
        }
    }
    place.write("allocations.csv", &allocations);
    place.write("sessions.csv", &sessions);
    let job = |ending: &str| {
        job(&format!("sessions.{ending}"), &format!("allocations.{ending}"))
            .replace("2026-03-30", "2026-03-29")
            .replace("covariate = { column = \"before\" }", "")
            .replace("segments   = [\"country\"]", "")
    };
    // A zone that stands in a CSV file is lost when it is read: such times would be taken for those of the wall.
    let told = place.run(&job("csv")).ended(78).stderr;
    assert!(told.contains("'at': the times of CSV files are read without their zone"), "{told}");
    for table in ["sessions", "allocations"] {
        let copy = format!("COPY (SELECT * FROM '{table}.csv') TO '{table}.parquet'");
        place.gosset(&["sql", "-c", &copy]).ended(0);
    }
    place.run(&job("parquet")).ended(0);
    let effects = place.effects();
    let row = effects.only(&[("metric", "minutes"), ("estimator", "ttest")]);
    for arm in ["control", "treatment"] {
        assert_eq!(row.number(&format!("n_{arm}")), Some(9.0));
        assert_eq!(row.number(&format!("mean_{arm}")), Some(111.0));
    }

    // Days: the whole day of the allocation counts.
    place.write("allocations.csv", &allocations.replace("T12:00:00", "").replace("T00:00:00", ""));
    let days: String = sessions
        .lines()
        .map(|line| match line.split_once('T') {
            Some((day, rest)) => format!("{day}{}\n", &rest[8..]),
            None => format!("{line}\n"),
        })
        .collect();
    place.write("sessions.csv", &days);
    place.run(&job("csv")).ended(0);
    let effects = place.effects();
    let row = effects.only(&[("metric", "minutes"), ("estimator", "ttest")]);
    assert_eq!((row.number("n_control"), row.number("mean_control")), (Some(9.0), Some(1111.0)));
}

const ROWS_OF_UNITS: &str = r#"[job]
name  = "units"
store = "results"

[sources.rows]
url  = "ROWS"
unit = "unit"

[assignments]
url  = "ASSIGNED"
unit = "unit"
arm  = "arm"

[metrics.y]
source = "rows"
value  = "sum(y)"

[experiments.e]
control    = "a"
metrics    = ["y"]
estimators = ["ttest", "bootstrap"]
"#;

/// Units with their arms, and units with their values.
type AssignedAndRows = (Vec<(i64, &'static str)>, Vec<(i64, f64)>);

fn assigned_and_rows() -> AssignedAndRows {
    let assigned = (0..100).map(|i| (i, ["a", "b"][i as usize % 2])).collect();
    let rows = (0..300).map(|i| (i % 100, (i * 17 % 41) as f64 * 0.5)).collect();
    (assigned, rows)
}

fn units_job(rows: &str, assigned: &str) -> String {
    ROWS_OF_UNITS.replace("ROWS", rows).replace("ASSIGNED", assigned)
}

#[test]
fn every_format_gives_the_same_bits() {
    let (assigned, rows) = assigned_and_rows();
    let units: Int64Array = assigned.iter().map(|(unit, _)| Some(*unit)).collect();
    let arms: StringArray = assigned.iter().map(|(_, arm)| Some(*arm)).collect();
    let rows_units: Int64Array = rows.iter().map(|(unit, _)| Some(*unit)).collect();
    let y: Float64Array = rows.iter().map(|(_, y)| Some(*y)).collect();
    let assigned_columns: Vec<(&str, ArrayRef)> =
        vec![("unit", Arc::new(units)), ("arm", Arc::new(arms))];
    let columns: Vec<(&str, ArrayRef)> = vec![("unit", Arc::new(rows_units)), ("y", Arc::new(y))];

    let place = Place::new();
    place.parquet("assigned.parquet", assigned_columns.clone());
    place.parquet("rows.parquet", columns.clone());
    let csv = |header: &str, lines: Vec<String>| format!("{header}\n{}\n", lines.join("\n"));
    place.write(
        "assigned.csv",
        &csv("unit,arm", assigned.iter().map(|(unit, arm)| format!("{unit},{arm}")).collect()),
    );
    place.write("rows.csv", &csv("unit,y", rows.iter().map(|(u, y)| format!("{u},{y}")).collect()));
    let json = |lines: Vec<String>| lines.join("\n") + "\n";
    let object = |(unit, arm): &(i64, &str)| format!("{{\"unit\":{unit},\"arm\":\"{arm}\"}}");
    place.write("assigned.ndjson", &json(assigned.iter().map(object).collect()));
    let object = |(unit, y): &(i64, f64)| format!("{{\"unit\":{unit},\"y\":{y:?}}}");
    place.write("rows.ndjson", &json(rows.iter().map(object).collect()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(EngineOptions::new()).unwrap();
        let lake = DeltaStore::open(&place.path("lake").display().to_string(), &engine).unwrap();
        for (name, columns) in [("assigned", assigned_columns), ("rows", columns)] {
            let batch = RecordBatch::try_from_iter_with_nullable(
                columns.into_iter().map(|(name, column)| (name, column, true)),
            )
            .unwrap();
            let mut table = lake.table(name, batch.schema(), &[]).await.unwrap();
            table.replace(vec![batch], partition(&[]), &Metadata::new(), "first").await.unwrap();
        }
    });

    let mut published = Vec::new();
    for (rows, assigned) in [
        ("rows.parquet", "assigned.parquet"),
        ("rows.csv", "assigned.csv"),
        ("rows.ndjson", "assigned.ndjson"),
        ("lake/rows", "lake/assigned"),
        ("rows.csv", "lake/assigned"),
    ] {
        place.run(&units_job(rows, assigned)).ended(0).told("e: published");
        published.push(place.effects().bits());
        let plan = place.gosset(&["plan", "job.toml", "--detailed-exitcode"]).ended(0);
        assert!(plan.stdout.contains("published"), "{}", plan.stdout);
        fs::remove_dir_all(place.path("results")).unwrap();
    }
    assert!(published.iter().all(|bits| *bits == published[0]), "{published:#?}");

    // A new version of a Delta table is a changed input.
    place.run(&units_job("lake/rows", "lake/assigned")).ended(0);
    runtime.block_on(async {
        let engine = Engine::new(EngineOptions::new()).unwrap();
        let lake = DeltaStore::open(&place.path("lake").display().to_string(), &engine).unwrap();
        let mut table = lake.existing("rows").await.unwrap().unwrap();
        let more = table.read(None).await.unwrap();
        table.replace(more, partition(&[]), &Metadata::new(), "second").await.unwrap();
    });
    place
        .gosset(&["plan", "job.toml", "--detailed-exitcode"])
        .ended(20)
        .printed("changed input 'rows'");
}

fn csv_of_assigned(assigned: &[(i64, &str)]) -> String {
    let lines: String = assigned.iter().map(|(unit, arm)| format!("{unit},{arm}\n")).collect();
    format!("unit,arm\n{lines}")
}

fn csv_of_rows(rows: &[(i64, f64)]) -> String {
    let lines: String = rows.iter().map(|(unit, y)| format!("{unit},{y}\n")).collect();
    format!("unit,y\n{lines}")
}

/// The sums of the units of an arm, those without rows too.
fn sums(assigned: &[(i64, &str)], rows: &[(i64, f64)], arm: &str) -> Vec<f64> {
    let of_arm = assigned.iter().filter(|(_, a)| *a == arm);
    of_arm.map(|(unit, _)| rows.iter().filter(|(u, _)| u == unit).map(|(_, y)| y).sum()).collect()
}

#[test]
fn units_in_two_arms_follow_the_policy() {
    let (mut assigned, rows) = assigned_and_rows();
    let single = assigned.clone();
    // Units 0, 2 and 4 of arm a come to arm b, too, at the end of the file and of the day.
    let crossed = [0, 2, 4];
    assigned.extend(crossed.map(|unit| (unit, "b")));
    let place = Place::new();
    place.write("rows.csv", &csv_of_rows(&rows));
    let lines: String = assigned
        .iter()
        .enumerate()
        .map(|(i, (unit, arm))| format!("{unit},{arm},2026-03-01T00:{:02}:{:02}\n", i / 60, i % 60))
        .collect();
    place.write("assigned.csv", &format!("unit,arm,at\n{lines}"));
    let policy = |name: &str| {
        units_job("rows.csv", "assigned.csv")
            .replace("arm  = \"arm\"", "arm  = \"arm\"\ntime = \"at\"")
            .replace(
                "[experiments.e]",
                &format!(
                    "[audits.multiple_arms]\nthreshold = 0.1\n[experiments.e]\nmultiple_arms = \"{name}\""
                ),
            )
    };
    let test = [("metric", "y"), ("estimator", "ttest")];
    let audit = |name: &str| {
        let audits = place.audits();
        let row = audits.only(&[("audit", name)]);
        (row.number("value").unwrap(), row.text("note").unwrap().to_owned())
    };
    let chi_squared = |a: f64, b: f64| (a - b) * (a - b) / (a + b);

    place.run(&policy("exclude")).ended(0);
    let left: Vec<(i64, &str)> =
        single.iter().filter(|(unit, _)| !crossed.contains(unit)).copied().collect();
    Welch::of_means(&sums(&left, &rows, "b"), &sums(&left, &rows, "a"))
        .is(place.effects().only(&test));
    let (share, note) = audit("multiple_arms");
    assert_eq!((share, note.as_str()), (0.03, "3 of 100 units are in more than one arm"));
    // Before they are left out they count in both arms.
    for (name, a, b) in [("sample_ratio", 50.0, 53.0), ("sample_ratio_analysed", 47.0, 50.0)] {
        let (p, note) = audit(name);
        assert!(note.starts_with(&format!("'a' {a} of ")), "{note}");
        assert!(note.contains(&format!("'b' {b} of ")), "{note}");
        // The survival function of chi-squared on one degree of freedom, 2·(1 − Φ(√x)), by Simpson's rule.
        let x = chi_squared(a, b).sqrt();
        let density = |z: f64| (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let h = x / 1000.0;
        let inner: f64 = (0..1000)
            .map(|i| f64::from(i) * h)
            .map(|z| h / 6.0 * (density(z) + 4.0 * density(z + h / 2.0) + density(z + h)))
            .sum();
        assert!((p - (1.0 - 2.0 * inner)).abs() < 1e-9, "{name}: {p}");
    }

    place.run(&policy("first")).ended(0);
    Welch::of_means(&sums(&single, &rows, "b"), &sums(&single, &rows, "a"))
        .is(place.effects().only(&test));
    let (share, note) = audit("multiple_arms");
    assert_eq!((share, note.as_str()), (0.03, "3 of 100 units are in more than one arm"));

    let before = place.version("effects");
    place
        .run(&policy("error"))
        .ended(65)
        .told("multiple_arms: 3 of 100 units are in more than one arm");
    assert!(place.effects().rows().is_empty(), "no effect of a blocked experiment is there");
    assert!(place.version("effects") > before);

    // Beyond its threshold the share blocks under every policy.
    for name in ["exclude", "first"] {
        let strict = policy(name).replace("threshold = 0.1", "threshold = 0.02");
        place.run(&strict).ended(65).told("multiple_arms: 3 of 100");
    }
}

/// Nobody knows whether an assignment without a time was made in time.
#[test]
fn assignments_without_a_time_are_counted_as_none() {
    let (assigned, rows) = assigned_and_rows();
    let place = Place::new();
    place.write("rows.csv", &csv_of_rows(&rows));
    let dated: String = csv_of_assigned(&assigned)
        .lines()
        .skip(1)
        .map(|line| format!("{line},2026-03-02\n"))
        .collect();
    place.write("assigned.csv", &format!("unit,arm,at\n{dated}991,a,\n992,b,\n"));
    let with_end = units_job("rows.csv", "assigned.csv")
        .replace("arm  = \"arm\"", "arm  = \"arm\"\ntime = \"at\"")
        .replace("[experiments.e]", "[experiments.e]\nend = 2026-03-02");
    place.run(&with_end).ended(0);
    let audits = place.audits();
    let of_the_day = audits.only(&[("audit", "unassigned"), ("analysis_date", "2026-03-02")]);
    assert_eq!(of_the_day.number("value"), Some(2.0));
}

#[test]
fn rows_without_a_unit_or_an_arm_are_counted() {
    let (assigned, mut rows) = assigned_and_rows();
    let place = Place::new();
    let mut csv = csv_of_assigned(&assigned);
    csv += ",a\n,b\n,\n777,\n888,\n";
    place.write("assigned.csv", &csv);
    place.write("rows.csv", &(csv_of_rows(&rows) + ",1000\n777,1000\n"));
    place.run(&units_job("rows.csv", "assigned.csv")).ended(0);
    Welch::of_means(&sums(&assigned, &rows, "b"), &sums(&assigned, &rows, "a"))
        .is(place.effects().only(&[("estimator", "ttest")]));
    let audits = place.audits();
    let row = audits.only(&[("audit", "unassigned")]);
    assert_eq!((row.number("value"), row.text("verdict")), (Some(5.0), Some("counted")));
    assert_eq!(row.text("note"), Some("5 rows of the assignments are without a unit or an arm"));

    // A unit whose first row has no arm is in the arm that it has.
    let timed: String = csv
        .lines()
        .skip(1)
        .map(|line| format!("{line},2026-03-02T00:00:00\n"))
        .chain(["0,,2026-03-01T00:00:00\n".into(), "1,,2026-03-01T00:00:00\n".into()])
        .collect();
    place.write("assigned.csv", &format!("unit,arm,at\n{timed}"));
    rows.push((0, 0.0));
    let job = units_job("rows.csv", "assigned.csv")
        .replace("arm  = \"arm\"", "arm  = \"arm\"\ntime = \"at\"")
        .replace("[experiments.e]", "[experiments.e]\nmultiple_arms = \"first\"");
    place.run(&job).ended(0);
    Welch::of_means(&sums(&assigned, &rows, "b"), &sums(&assigned, &rows, "a"))
        .is(place.effects().only(&[("estimator", "ttest")]));
}

#[test]
fn values_that_are_not_finite_follow_the_policy() {
    let (assigned, rows) = assigned_and_rows();
    let place = Place::new();
    place.write("assigned.csv", &csv_of_assigned(&assigned));
    let y: Float64Array = rows
        .iter()
        .map(|(_, y)| Some(*y))
        .chain([Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY), None, Some(-0.0)])
        .collect();
    let units = rows.iter().map(|(unit, _)| *unit).chain([3, 5, 5, 7, 8]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("unit", Arc::new(Int64Array::from_iter_values(units))), ("y", Arc::new(y))];
    place.parquet("rows.parquet", columns);
    let job = units_job("rows.parquet", "assigned.csv");
    let policy =
        |name: &str| job.replace("[metrics.y]", &format!("[metrics.y]\nnon_finite = \"{name}\""));
    let expected = Welch::of_means(&sums(&assigned, &rows, "b"), &sums(&assigned, &rows, "a"));
    let audit = || {
        let audits = place.audits();
        let row = audits.only(&[("audit", "non_finite"), ("metric", "y")]);
        (row.number("value"), row.text("verdict").map(ToOwned::to_owned))
    };

    // By default they stop the experiment, and run again they stop it again, without being counted again.
    for told in [1, 1] {
        place
            .run(&job)
            .ended(65)
            .told("no effects are published, failed audit: non_finite of metric 'y': 3 values");
        assert_eq!(place.version("effects"), Some(told));
        assert!(place.effects().rows().is_empty());
        assert_eq!(audit(), (Some(3.0), Some("failed".into())));
    }
    for name in ["drop", "zero"] {
        place.run(&policy(name)).ended(0);
        expected.is(place.effects().only(&[("estimator", "ttest")]));
        assert_eq!(audit(), (Some(3.0), Some("counted".into())));
    }
    // Told and not stopped: there is no number that looks like one.
    let job = job.replace("[metrics.y]", "[audits.non_finite]\nblocking = false\n[metrics.y]");
    let run = place.run(&job).ended(0);
    assert!(run.stderr.contains("warning: e: failed audit: non_finite"), "{}", run.stderr);
    let effects = place.effects();
    let row = effects.only(&[("estimator", "ttest")]);
    assert!(row.number("estimate").is_none_or(f64::is_nan), "{row:?}");
    assert!(row.text("note").unwrap().contains("failed audit: non_finite"), "{row:?}");
}

#[test]
fn values_of_units_that_are_not_finite_follow_the_policy() {
    let place = Place::new();
    let y = |i: i64| match i {
        10 => f64::NAN,
        11 => f64::INFINITY,
        _ => (i * 7 % 31) as f64,
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("arm", Arc::new((0..60).map(|i| Some(["a", "b"][i % 2])).collect::<StringArray>())),
        ("y", Arc::new(Float64Array::from_iter_values((0..60).map(y)))),
        ("flag", Arc::new((0..60).map(|i| Some(i % 3 == 0)).collect::<BooleanArray>())),
    ];
    place.parquet("units.parquet", columns);
    let job = r#"[job]
name  = "units"
store = "results"
[sources.units]
url   = "units.parquet"
grain = "unit"
[assignments]
source = "units"
arm    = "arm"
[metrics.y]
source = "units"
value  = "y"
[metrics.flag]
source = "units"
value  = "flag"
[experiments.e]
control = "a"
metrics = ["y", "flag"]
"#;
    place.run(job).ended(65).told("non_finite of metric 'y': 2 values are NaN or infinite");
    let of = |arm: usize, bad: Option<f64>| -> Vec<f64> {
        let units = (0..60).filter(|i| i % 2 == arm);
        units.filter_map(|i| Some(y(i as i64)).filter(|y| y.is_finite()).or(bad)).collect()
    };
    for (policy, bad) in [("drop", None), ("zero", Some(0.0))] {
        let job = job.replace("[job]", &format!("[job]\nnon_finite = \"{policy}\""));
        place.run(&job).ended(0);
        let effects = place.effects();
        Welch::of_means(&of(1, bad), &of(0, bad))
            .is(effects.only(&[("metric", "y"), ("estimator", "ttest")]));
        // A condition is 0 or 1, and a proportion.
        assert_eq!(effects.of(&[("metric", "flag"), ("estimator", "proportion_test")]).len(), 1);
        assert_eq!(effects.of(&[("metric", "y"), ("estimator", "proportion_test")]).len(), 0);
    }
}

#[test]
fn a_source_of_units_is_joined_by_unit() {
    let (assigned, rows) = assigned_and_rows();
    let place = Place::new();
    place.write("assigned.csv", &csv_of_assigned(&assigned));
    place.write("rows.csv", &csv_of_rows(&rows));
    // Every third unit is not there, some have no age, and some are of nobody.
    let age = |unit: i64| (unit % 3 != 0 && unit % 10 != 7).then_some((unit * 11 % 60) as f64);
    let lines: String = (0..150)
        .filter(|unit| unit % 3 != 0)
        .map(|unit| format!("{unit},{}\n", age(unit).map(|a| a.to_string()).unwrap_or_default()))
        .collect();
    place.write("people.csv", &format!("person,age\n{lines}"));
    let job = units_job("rows.csv", "assigned.csv")
        .replace(
            "[metrics.y]",
            "[sources.people]\nurl = \"people.csv\"\ngrain = \"unit\"\nunit = \"person\"\n
             [metrics.age]\nsource = \"people\"\nvalue = \"age\"\ncovariate = { column = \"age\" }\n[metrics.y]",
        )
        .replace("[\"y\"]", "[\"y\", \"age\"]");
    place.run(&job).ended(0);
    let effects = place.effects();
    let ages = |arm: &str| -> Vec<f64> {
        assigned.iter().filter(|(_, a)| *a == arm).filter_map(|(unit, _)| age(*unit)).collect()
    };
    Welch::of_means(&ages("b"), &ages("a"))
        .is(effects.only(&[("metric", "age"), ("estimator", "ttest")]));
    Welch::of_means(&sums(&assigned, &rows, "b"), &sums(&assigned, &rows, "a"))
        .is(effects.only(&[("metric", "y"), ("estimator", "ttest")]));
    let audits = place.audits();
    let without = audits.only(&[("audit", "units_without_rows"), ("source", "people")]);
    assert_eq!(without.number("value"), Some(0.34));

    // A unit that is there twice is no unit.
    place.write("people.csv", &format!("person,age\n{lines}1,44\n"));
    place
        .gosset(&["run", "job.toml"])
        .ended(65)
        .told("duplicate_units of source 'people': 1 unit has several rows");
    assert!(place.effects().rows().is_empty());
}

#[test]
fn three_arms_are_each_compared_with_control() {
    let place = Place::new();
    let arm = |i: i64| ["a", "b", "c", "a"][i as usize % 4];
    let assigned: Vec<(i64, &str)> = (0..200).map(|i| (i, arm(i))).collect();
    let rows: Vec<(i64, f64)> = (0..500).map(|i| (i * 7 % 200, (i * i % 37) as f64)).collect();
    place.write("assigned.csv", &csv_of_assigned(&assigned));
    place.write("rows.csv", &csv_of_rows(&rows));
    let job = units_job("rows.csv", "assigned.csv")
        .replace("[experiments.e]", "[experiments.e]\nexpected = { a = 2, b = 1, c = 1 }");
    place.run(&job).ended(0);
    let effects = place.effects();
    for arm in ["b", "c"] {
        Welch::of_means(&sums(&assigned, &rows, arm), &sums(&assigned, &rows, "a"))
            .is(effects.only(&[("arm", arm), ("estimator", "ttest")]));
    }
    assert_eq!(effects.of(&[("arm", "a")]).len(), 0);
    let audits = place.audits();
    assert_eq!(audits.only(&[("audit", "sample_ratio")]).number("value"), Some(1.0));

    // An arm that nobody expects, and one that nobody is in.
    let fewer = job.replace("{ a = 2, b = 1, c = 1 }", "{ a = 2, b = 1, z = 1 }");
    place.run(&fewer).ended(65).told("arms: the arm 'c' is not expected; nobody is in the arm 'z'");
}

#[test]
fn experiments_of_one_job_fail_alone() {
    let (assigned, rows) = assigned_and_rows();
    let place = Place::new();
    place.write("rows.csv", &csv_of_rows(&rows));
    let mut lines = String::from("test,unit,arm\n");
    for (unit, arm) in &assigned {
        lines += &format!("good,{unit},{arm}\n");
        // Most of arm b got lost.
        if *arm == "a" || unit % 5 == 0 {
            lines += &format!("lost,{unit},{arm}\n");
        }
        lines += &format!("other,{unit},{}\n", if *arm == "a" { "x" } else { "y" });
    }
    place.write("assigned.csv", &lines);
    let job = units_job("rows.csv", "assigned.csv")
        .replace("unit = \"unit\"\narm", "unit = \"unit\"\nexperiment = \"test\"\narm")
        .replace(
            "[experiments.e]\ncontrol    = \"a\"\nmetrics    = [\"y\"]",
            "[experiments.other]\ncontrol = \"nobody\"\nmetrics = [\"y\"]\n
             [experiments.lost]\ncontrol = \"a\"\nmetrics = [\"y\"]\n
             [experiments.good]\ncontrol = \"a\"\nmetrics = [\"y\"]",
        );
    let run = place.run(&job).ended(65);
    for text in [
        "good: published 2 effects",
        "error: lost: no effects are published, failed audit: sample_ratio: 'a' 50 of 30.0 expected, 'b' 10 of 30.0",
        "error: other: no unit has the control 'nobody'; arms found: 'x', 'y'",
        "version 1 of results/effects",
    ] {
        assert!(run.stderr.contains(text), "expected '{text}', found: {}", run.stderr);
    }
    let effects = place.effects();
    assert!(effects.rows().iter().all(|row| row.text("experiment") == Some("good")));
    Welch::of_means(&sums(&assigned, &rows, "b"), &sums(&assigned, &rows, "a"))
        .is(effects.only(&[("estimator", "ttest")]));
    let audits = place.audits();
    assert!(audits.of(&[("experiment", "other")]).is_empty());
    for name in ["good", "lost"] {
        let verdict = audits.only(&[("experiment", name), ("audit", "sample_ratio")]);
        assert_eq!(verdict.text("verdict"), Some(if name == "good" { "passed" } else { "failed" }));
    }
    let plan = place.gosset(&["plan", "job.toml"]);
    assert!(plan.stdout.contains("good: published, version 1"), "{}", plan.stdout);
    assert!(plan.stdout.contains("lost: blocked by sample_ratio"), "{}", plan.stdout);
    assert!(plan.stdout.contains("other: compute, new"), "{}", plan.stdout);
}

#[test]
fn an_experiment_that_has_not_ended_is_not_due() {
    let (place, _) = lake();
    place.write("job.toml", &job("sessions.parquet", "allocations.parquet"));
    let early = ["--date", "2026-03-29"];
    let run = place.gosset(&[&["run", "job.toml"], early.as_slice()].concat()).ended(0);
    assert_eq!(run.stderr, "player: not due before the end of 2026-03-30\n");
    assert!(!place.path("results").exists());
    place
        .gosset(&[&["plan", "job.toml", "--detailed-exitcode"], early.as_slice()].concat())
        .ended(0)
        .printed("player 2026-03-30: not due before the end of 2026-03-30");
    place.gosset(&["run", "job.toml", "--date", "2026-03-30"]).ended(0);
    assert_eq!(place.version("effects"), Some(1));
}

/// Later rows stand first, in one file and in several: the arm of the first assignment counts all the same.
#[test]
fn the_first_arm_is_the_first_in_time_wherever_it_stands() {
    let (assigned, rows) = assigned_and_rows();
    let later = |unit: i64| if unit % 3 == 0 { ["b", "a"][unit as usize % 2] } else { "" };
    let first: String =
        assigned.iter().map(|(unit, arm)| format!("{unit},{arm},2026-03-01T00:00:00\n")).collect();
    let second: String = assigned
        .iter()
        .filter(|(unit, _)| !later(*unit).is_empty())
        .map(|(unit, _)| format!("{unit},{},2026-03-02T00:00:00\n", later(*unit)))
        .collect();
    let header = "unit,arm,at\n";
    let place = Place::new();
    place.write("rows.csv", &csv_of_rows(&rows));
    place.write("one/assigned.csv", &format!("{header}{second}{first}"));
    place.write("two/a.csv", &format!("{header}{second}"));
    place.write("two/b.csv", &format!("{header}{first}"));
    for folder in ["one/", "two/"] {
        let job = units_job("rows.csv", folder)
            .replace("arm  = \"arm\"", "arm  = \"arm\"\ntime = \"at\"")
            .replace("[experiments.e]", "[experiments.e]\nmultiple_arms = \"first\"")
            + "\n[audits.multiple_arms]\nblocking = false\n";
        place.run(&job).ended(0);
        Welch::of_means(&sums(&assigned, &rows, "b"), &sums(&assigned, &rows, "a"))
            .is(place.effects().only(&[("estimator", "ttest")]));
    }
}

/// Rows that are dated by day count on the day of the allocation, whatever its time.
#[test]
fn days_count_from_the_day_of_an_allocation() {
    let (assigned, rows) = assigned_and_rows();
    let place = Place::new();
    let at: String =
        assigned.iter().map(|(unit, arm)| format!("{unit},{arm},2026-03-02T14:00:00\n")).collect();
    place.write("assigned.csv", &format!("unit,arm,at\n{at}"));
    let dated: String = rows
        .iter()
        .flat_map(|(unit, y)| {
            [format!("{unit},2026-03-02,{y}\n"), format!("{unit},2026-03-01,1000\n")]
        })
        .collect();
    place.write("rows.csv", &format!("unit,day,y\n{dated}"));
    let job = units_job("rows.csv", "assigned.csv")
        .replace("arm  = \"arm\"", "arm  = \"arm\"\ntime = \"at\"")
        .replacen("unit = \"unit\"", "unit = \"unit\"\ntime = \"day\"", 1);
    place.run(&job).ended(0);
    Welch::of_means(&sums(&assigned, &rows, "b"), &sums(&assigned, &rows, "a"))
        .is(place.effects().only(&[("estimator", "ttest")]));
}

/// A source that no unit is in measures nothing: that is no effect of zero.
#[test]
fn a_source_without_a_row_of_any_unit_blocks() {
    let (assigned, _) = assigned_and_rows();
    let place = Place::new();
    place.write("assigned.csv", &csv_of_assigned(&assigned));
    place.write("rows.csv", "unit,y\n100001,1\n100002,2\n");
    let told = place.run(&units_job("rows.csv", "assigned.csv")).ended(65).stderr;
    assert!(
        told.contains("units_without_rows of source") && told.contains("100 units have no row"),
        "{told}"
    );
}
