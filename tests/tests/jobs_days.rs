//! Jobs of days, on a lake that is small enough to be counted by hand: what is read, what is published again and why, what
//! fails alone. The numbers of a whole programme are in `programme.rs`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use gosset_engine::delta::{DeltaStore, Metadata, partition};
use gosset_engine::{Engine, EngineOptions};
use gosset_tests::place::Place;
use gosset_tests::table::{Row, Table};

const DATA: i32 = 65;
const MISSING: i32 = 66;
const FILE: i32 = 78;
const WORK: i32 = 20;

const JOB: &str = r#"[job]
name  = "days"
store = "results"

[sources.rows]
url  = "rows/"
unit = "unit"
time = "day"

[assignments]
url  = "assigned/"
unit = "unit"
arm  = "arm"
time = "day"

[audits.sample_ratio]
blocking = false

[metrics.y]
source    = "rows"
value     = "sum(y)"
covariate = { lookback_days = 2 }
[metrics.most]
source = "rows"
value  = "max(y)"
[metrics.any]
source = "rows"
value  = "bool_or(y > 5)"
[metrics.kinds]
source = "rows"
value  = "count(DISTINCT kind)"

[experiments.e]
control    = "a"
start      = 2026-03-02
end        = 2026-03-05
metrics    = ["y", "most", "any", "kinds"]
periods    = ["day", "cumulative", "overall", "days(2)"]
estimators = ["ttest", "cuped"]
"#;

/// A file of rows of a day: units 1 to 8, of which 8 never comes.
fn rows(day: u32, of: impl Fn(u32) -> u32) -> String {
    let mut text = String::from("unit,day,y,kind\n");
    for unit in 1..8 {
        writeln!(text, "{unit},2026-03-{day:02},{}.5,k{}", of(unit), (unit + day) % 3).unwrap();
    }
    text
}

fn usual(day: u32) -> impl Fn(u32) -> u32 {
    move |unit| (unit * 3 + day * 5) % 7
}

/// The day on which a unit is assigned.
fn since(unit: usize) -> usize {
    if unit <= 4 { 2 } else { 3 }
}

fn place() -> Place {
    let place = Place::new();
    place.write("job.toml", JOB);
    let line = |unit| format!("{unit},{},2026-03-0{}\n", ["a", "b"][unit % 2], since(unit));
    let arms = (1..=8).map(line);
    place.write("assigned/first.csv", &format!("unit,arm,day\n{}", arms.collect::<String>()));
    for day in 1..=3 {
        place.write(&format!("rows/{day}.csv"), &rows(day, usual(day)));
    }
    place
}

fn night(place: &Place, day: u32) -> gosset_tests::place::Run {
    place.gosset(&["run", "job.toml", "--date", &format!("2026-03-{day:02}")])
}

#[test]
fn each_night_reads_what_is_new_and_makes_what_follows_from_it() {
    let place = place();
    night(&place, 3)
        .ended(0)
        .told("read 3 parts of sources")
        .told("e 2026-03-02 to 2026-03-03: published");
    night(&place, 3).ended(0).told("e 2026-03-02 to 2026-03-03: nothing to do");
    // The source is not of the day yet: nothing is published of it, and the run says so.
    night(&place, 4).ended(MISSING).told("e 2026-03-04: source 'rows' is not fresh: expected rows of 2026-03-04, the last are of 2026-03-03");
    place.write("rows/4.csv", &rows(4, usual(4)));
    let plan = place.gosset(&["plan", "job.toml", "--date", "2026-03-04", "--detailed-exitcode"]);
    plan.ended(WORK)
        .printed("rows 4.csv: read, new: 1 file")
        .printed("e 2026-03-04: compute, new\n  from all days of units: y, most, any, kinds");
    let run =
        night(&place, 4).ended(0).told("read 1 part of sources").told("e 2026-03-04: published");
    assert!(run.stderr.contains("e 2026-03-02 to 2026-03-03: nothing to do"), "{}", run.stderr);

    // Outcomes of a unit count from its day on. Units 2, 4, 6 and 8 are in `a`, the others in `b`.
    let effects = place.effects();
    let mean = |metric: &str, period: &str, side: &str| {
        let keys = [("metric", metric), ("period", period), ("estimator", "ttest")];
        let of_date: Vec<_> = effects
            .of(&keys)
            .into_iter()
            .filter(|r| r.text("analysis_date") == Some("2026-03-04"))
            .collect();
        assert_eq!(of_date.len(), 1, "{metric} {period}");
        of_date[0].number(side).unwrap()
    };
    let value = |unit: u32, day: u32| f64::from(usual(day)(unit)) + 0.5;
    let near =
        |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    let days = |unit: u32, until: u32| since(unit as usize) as u32..=until;
    let control = [2, 4, 6];
    let sum = |unit: u32, days: std::ops::RangeInclusive<u32>| -> f64 {
        days.map(|day| value(unit, day)).sum()
    };
    let total =
        |of: &dyn Fn(u32) -> f64, units: &[u32]| units.iter().map(|unit| of(*unit)).sum::<f64>();
    let cumulative = |unit: u32| sum(unit, days(unit, 4));
    near(mean("y", "cumulative", "mean_control"), total(&cumulative, &control) / 4.0);
    near(mean("y", "cumulative", "mean_treatment"), total(&cumulative, &[1, 3, 5, 7]) / 4.0);
    near(mean("y", "day", "mean_control"), total(&|unit| value(unit, 4), &control) / 4.0);
    let first = |unit: u32| sum(unit, days(unit, since(unit as usize) as u32 + 1));
    near(mean("y", "days(2)", "mean_control"), total(&first, &control) / 4.0);
    near(mean("y", "days(2)", "mean_treatment"), total(&first, &[1, 3, 5, 7]) / 4.0);
    // The unit that never came has no largest value; it has no kind of row, and never did anything.
    let most = |unit: u32| days(unit, 4).map(|d| value(unit, d)).fold(0.0, f64::max);
    near(mean("most", "cumulative", "mean_control"), total(&most, &control) / 3.0);
    let any = control.iter().filter(|unit| most(**unit) > 5.0).count();
    near(mean("any", "cumulative", "mean_control"), any as f64 / 4.0);
    near(mean("kinds", "cumulative", "mean_control"), (3.0 + 3.0 + 2.0) / 4.0);
    place
        .gosset(&["run", "job.toml", "--date", "2026-03-04", "--verify"])
        .ended(0)
        .told("the same bits");
}

#[test]
fn a_restated_day_is_noticed_and_only_what_it_changes_is_published_again() {
    let place = place();
    night(&place, 3).ended(0);
    place.write("rows/3.csv", &rows(3, |unit| unit % 2));
    let run =
        night(&place, 3).ended(0).told("read 1 part of sources").told("e 2026-03-03: published");
    assert!(run.stderr.contains("e 2026-03-02: nothing to do"), "{}", run.stderr);
    // The same rows in other files are the same results.
    let effects = place.effects().bits();
    fs::remove_file(place.path("rows/3.csv")).unwrap();
    place.write("rows/3-again.csv", &rows(3, |unit| unit % 2));
    let plan = place.gosset(&["plan", "job.toml", "--date", "2026-03-03"]).ended(0);
    assert!(plan.stdout.contains("rows 3-again.csv: read, new"), "{}", plan.stdout);
    assert!(plan.stdout.contains("rows 3.csv: take away, its file is gone"), "{}", plan.stdout);
    night(&place, 3).ended(0).told("e 2026-03-02 to 2026-03-03: nothing to do");
    assert_eq!(place.effects().bits(), effects);
    place
        .gosset(&["run", "job.toml", "--date", "2026-03-03", "--verify"])
        .ended(0)
        .told("the same bits");
}

#[test]
fn another_estimator_is_made_of_stored_summaries() {
    let place = place();
    let plan = place.gosset(&["plan", "job.toml", "--date", "2026-03-03"]).ended(0);
    plan.printed("rows 1.csv to 3.csv: read, new: 3 files, ");
    let totals = JOB.replace(", \"days(2)\"", "");
    place.write("job.toml", &totals);
    place
        .gosset(&["plan", "job.toml", "--date", "2026-03-03"])
        .ended(0)
        .printed("e 2026-03-02: compute, new\n  from all days of units: y, most, any, kinds")
        .printed("e 2026-03-03: compute, new\n  from the totals of the day before and what the date adds: y\n  from all days of units: most, any, kinds");
    place.write("job.toml", JOB);
    night(&place, 3).ended(0);
    let job =
        JOB.replace("metrics    = [\"y\", \"most\", \"any\", \"kinds\"]", "metrics    = [\"y\"]");
    place.write("job.toml", &job);
    night(&place, 3).ended(0).told("published");
    // Rows and unit-days are gone: nobody asks for them.
    let more = job
        .replace("[\"ttest\", \"cuped\"]", "[\"ttest\", \"cuped\", \"bootstrap\"]")
        .replace("\"days(2)\"", "\"overall\"")
        .replace("\"overall\", \"overall\"", "\"overall\"");
    place.write("job.toml", &more);
    let plan = place.gosset(&["plan", "job.toml", "--date", "2026-03-03"]).ended(0);
    plan.printed("changed 'estimators'").printed("from stored totals: y");
    night(&place, 3).ended(0).told("e 2026-03-02 to 2026-03-03: published");
    place
        .gosset(&["run", "job.toml", "--date", "2026-03-03", "--verify"])
        .ended(0)
        .told("the same bits");
}

#[test]
fn a_unit_in_a_second_arm_is_taken_out_from_that_date_on() {
    let place = place();
    night(&place, 3).ended(0);
    place.write("rows/4.csv", &rows(4, usual(4)));
    place.write("assigned/second.csv", "unit,arm,day\n2,b,2026-03-04\n9,a,2026-03-04\n");
    let lenient = JOB.replace(
        "[audits.sample_ratio]",
        "[audits.multiple_arms]\nthreshold = 0.5\n[audits.sample_ratio]",
    );
    place.write("job.toml", &lenient);
    night(&place, 4).ended(0).told("e 2026-03-02 to 2026-03-04: published");
    let n = |date: &str| {
        let effects = place.effects();
        let rows = effects.of(&[("metric", "y"), ("period", "cumulative"), ("estimator", "ttest")]);
        let row =
            rows.into_iter().find(|row| row.text("analysis_date") == Some(date)).unwrap().clone();
        (row.integer("n_control").unwrap(), row.integer("n_treatment").unwrap())
    };
    assert_eq!(n("2026-03-03"), (4, 4));
    assert_eq!(n("2026-03-04"), (4, 4), "2 is out, 9 is in");
    place
        .gosset(&["run", "job.toml", "--date", "2026-03-04", "--verify"])
        .ended(0)
        .told("the same bits");
}

/// A new metric, and one that is defined anew, are computed; the others keep what is published of them.
#[test]
fn metrics_that_are_not_affected_stay_as_they_are() {
    let place = place();
    let with = |metrics: &str| JOB.replace("\"y\", \"most\", \"any\", \"kinds\"", metrics);
    place.write("job.toml", &with("\"y\", \"most\""));
    night(&place, 3).ended(0);
    let plan = |place: &Place| place.gosset(&["plan", "job.toml", "--date", "2026-03-03"]);
    let fails = "[audits.missing]\nthreshold = 0.0\nblocking = false\n";
    let with_three = with("\"y\", \"most\", \"any\"");
    let edits = [
        // What was published, what the plan tells of the edit.
        (with_three.clone(), "new metric 'any', new input 'any of rows'; kept: y, most"),
        (with_three.replace("max(y)", "max(y) + 1"), "changed metric 'most'; kept: y, any"),
        (
            with("\"y\", \"any\""),
            "removed metric 'most', removed input 'most of rows'; kept: y, any",
        ),
        (with("\"y\", \"any\"").replace("sum(y)", "sum(y) * 2"), "kept: any"),
        (with("\"y\", \"any\"").replace("\"cuped\"", "\"bootstrap\""), "changed 'estimators'"),
        // An audit that fails is told in the notes of all effects: they are made again.
        (with_three.clone() + fails, "changed 'estimators'"),
        (with_three.replace("max(y)", "max(y) + 2") + fails, "changed metric 'most'; kept: y, any"),
        (with_three.replace("max(y)", "max(y) + 3"), "changed 'audits'"),
    ];
    for (job, told) in edits {
        place.write("job.toml", &job);
        night(&place, 2).ended(0);
        let planned = plan(&place).printed(told);
        assert_eq!(planned.stdout.contains("kept"), told.contains("kept"), "{}", planned.stdout);
        night(&place, 3).ended(0).told("published");
        plan(&place).printed("published, version");
        // All of them are what they are from the beginning.
        place
            .gosset(&["run", "job.toml", "--date", "2026-03-03", "--verify"])
            .told("the same bits");
        let other = Place::new();
        for file in ["job.toml", "assigned/first.csv", "rows/1.csv", "rows/2.csv", "rows/3.csv"] {
            other.write(file, &fs::read_to_string(place.path(file)).unwrap());
        }
        night(&other, 3).ended(0);
        for (mine, theirs) in [(place.effects(), other.effects()), (place.audits(), other.audits())]
        {
            let [mut mine, mut theirs] = [mine.bits(), theirs.bits()];
            mine.sort();
            theirs.sort();
            assert_eq!(mine, theirs, "{told}");
        }
    }
}

/// A metric that is quantiles of rows weights units, whose rows are kept by day: what is published of every period is what
/// SQL makes of the rows that count.
#[test]
fn quantiles_of_rows_are_those_of_sql_over_the_rows_that_count() {
    let place = Place::new();
    let job = JOB
        .replace(
            "[metrics.kinds]",
            "[metrics.delay]\nsource = \"rows\"\nquantile = { of = \"y * 10\", at = [0.5, 0.9] }\n\
             [estimators.bootstrap]\nreplicates = 150\n[estimators.quantile]\nreplicates = 150\n\
             method = \"bayesian\"\ninterval = \"basic\"\n[metrics.kinds]",
        )
        .replace("\"y\", \"most\", \"any\", \"kinds\"", "\"delay\", \"y\"")
        .replace("\"ttest\", \"cuped\"", "\"ttest\", \"bootstrap\", \"quantile\"")
        .replace("2026-03-05", "2026-03-03");
    place.write("job.toml", &job);
    let line =
        |unit: usize| format!("{unit},{},2026-03-0{}\n", ["a", "b"][unit % 2], since(unit % 8 + 1));
    let arms = (0..300).map(line);
    place.write("assigned/first.csv", &format!("unit,arm,day\n{}", arms.collect::<String>()));
    for day in 1..=3 {
        let mut text = String::from("unit,day,y,kind\n");
        for i in 0..1200_u32 {
            // One unit in ten never comes; others come up to six times a day.
            let unit = (i * 7 + day * 3) % 270;
            let y = ((i * i + 31 * unit + 17 * day) % 997) as f64 / 8.0;
            let y = if i % 50 == 0 { String::new() } else { y.to_string() };
            writeln!(text, "{unit},2026-03-{day:02},{y},k").unwrap();
        }
        place.write(&format!("rows/{day}.csv"), &text);
        if day > 1 {
            night(&place, day).ended(0);
        }
    }
    place.gosset(&["run", "job.toml", "--date", "2026-03-03", "--verify"]).told("the same bits");
    let effects = place.effects();
    let seed =
        effects.rows().iter().find_map(|row| row.integer("seed")).expect("replicates have a seed");
    let fields: Vec<String> = gosset_sql::effect_fields()
        .iter()
        .map(|field| field.name().clone())
        .filter(|name| !name.starts_with("n_") && name != "note")
        .map(|name| format!("e['{name}'] AS {name}"))
        .collect();
    for (estimator, options) in
        [("bootstrap_quantile", ""), ("quantile", ", method: 'bayesian', interval: 'basic'")]
    {
        for (period, counts) in [("day", "r.day = DATE '2026-03-03'"), ("cumulative", "true")] {
            for q in ["0.5", "0.9"] {
                let query = format!(
                    "COPY (SELECT {} FROM (SELECT bootstrap_quantile(r.y * 10, {q}, a.arm, r.unit,
                       {{treatment: 'b', control: 'a', replicates: 150, seed: {seed}{options}}}) AS e
                     FROM 'rows/' r JOIN 'assigned/' a ON r.unit = a.unit
                     WHERE r.day >= a.day AND y IS NOT NULL AND {counts})) TO 'by hand.parquet'",
                    fields.join(", ")
                );
                place.gosset(&["sql", "-c", &query]).ended(0);
                let by_hand = Table::read(&place.path("by hand.parquet"));
                let published = effects.only(&[
                    ("metric", "delay"),
                    ("analysis_date", "2026-03-03"),
                    ("period", period),
                    ("estimator", estimator),
                    ("quantile", q),
                ]);
                let by_hand = &by_hand.rows()[0];
                assert!(by_hand.number("std_error").is_some_and(|error| error > 0.0));
                assert_eq!(
                    published.common_bits(by_hand),
                    by_hand.bits(),
                    "{estimator} {period} {q}"
                );
                // Units with a value; rows are more.
                let units = published.integer("n_treatment").unwrap();
                assert!(units <= 135 && units < published.integer("rows_treatment").unwrap());
            }
        }
    }
    // The same of rows, without days.
    let of_rows = job
        .replace("name  = \"days\"", "name  = \"rows\"")
        .replace("\"day\", \"cumulative\", \"overall\", \"days(2)\"", "\"overall\"")
        .replace("\"delay\", \"y\"", "\"delay\"");
    place.write("rows.toml", &of_rows);
    place.gosset(&["run", "rows.toml", "--date", "2026-03-03"]).ended(0);
    let both = place.effects();
    for (estimator, quantile) in [("bootstrap_quantile", "0.5"), ("quantile", "0.9")] {
        let of = |job: &str| {
            let keys = [
                ("job", job),
                ("metric", "delay"),
                ("period", "overall"),
                ("estimator", estimator),
                ("quantile", quantile),
            ];
            both.only(&keys).bits().replace(&format!("job={job:?}"), "")
        };
        assert_eq!(of("rows"), of("days"));
    }
    let ttest = effects.only(&[
        ("metric", "delay"),
        ("analysis_date", "2026-03-03"),
        ("period", "day"),
        ("estimator", "ttest"),
    ]);
    let told = "ttest takes a value of each unit, this metric is quantiles of rows: bootstrap and quantile take it";
    assert_eq!((ttest.text("note"), ttest.number("estimate")), (Some(told), None));
}

#[test]
fn a_metric_fails_alone() {
    let place = place();
    let job = JOB.replace("value  = \"max(y)\"", "value  = \"max(no_such)\"");
    place.write("job.toml", &job);
    let told = "metric 'most' is not measured: 'max(no_such)': No field named no_such.";
    place
        .gosset(&["validate", "job.toml"])
        .ended(FILE)
        .told("metric 'most': 'max(no_such)': No field");
    night(&place, 3).ended(FILE).told(told).told("e 2026-03-02 to 2026-03-03: published");
    let effects = place.effects();
    let row = effects.of(&[("metric", "most"), ("period", "day"), ("estimator", "ttest")])[0];
    assert_eq!(row.number("estimate"), None);
    assert!(row.text("note").unwrap().contains("no_such"));
    assert!(
        effects.of(&[("metric", "y"), ("period", "day"), ("estimator", "ttest")])[0]
            .number("estimate")
            .is_some()
    );
    // It is told every night, and nothing is published again.
    let again = night(&place, 3);
    assert!(again.status != 0 && again.stderr.contains("is not measured"), "{again:?}");
    // Once it is right, it is there.
    place.write("job.toml", JOB);
    night(&place, 3).ended(0).told("e 2026-03-02 to 2026-03-03: published");
}

/// What was published of days before a file that a metric cannot be measured with stays, when other things of these days
/// change too.
#[test]
fn a_bad_file_takes_nothing_back() {
    let place = place();
    night(&place, 3).ended(0);
    let of_kinds = |effects: &Table, date: &str| {
        let keys = [("metric", "kinds"), ("analysis_date", date), ("period", "day")];
        let rows = effects.of(&keys).into_iter();
        rows.map(|row| row.number("estimate")).collect::<Vec<_>>()
    };
    let before = place.effects();
    let dates = ["2026-03-02", "2026-03-03"];
    assert!(dates.iter().all(|date| of_kinds(&before, date).iter().any(Option::is_some)));

    let without = |text: String| text.replace("kind", "other");
    place.write("rows/4.csv", &without(rows(4, usual(4))));
    let told = "metric 'kinds' is not measured";
    night(&place, 4).ended(FILE).told(told).told("e 2026-03-04: published");
    let after = place.effects();
    for date in dates {
        assert_eq!(of_kinds(&after, date), of_kinds(&before, date), "{date}");
    }
    assert!(of_kinds(&after, "2026-03-04").iter().all(Option::is_none));

    // Other metrics of a day before are made again.
    place.write("rows/3.csv", &rows(3, |unit| unit));
    night(&place, 4).ended(FILE).told(told).told("e 2026-03-03");
    let restated = place.effects();
    assert_eq!(of_kinds(&restated, "2026-03-03"), of_kinds(&before, "2026-03-03"));
    let of_y = |effects: &Table| {
        let keys = [("metric", "y"), ("analysis_date", "2026-03-03"), ("period", "day")];
        effects.of(&keys)[0].number("estimate")
    };
    assert_ne!(of_y(&restated), of_y(&before));

    place.write("rows/4.csv", &rows(4, usual(4)));
    let run = night(&place, 4).ended(0).told("e 2026-03-02 to 2026-03-03: nothing to do");
    assert!(run.stderr.contains("e 2026-03-04: published"), "{}", run.stderr);
    assert!(of_kinds(&place.effects(), "2026-03-04").iter().any(Option::is_some));
}

/// A file without a row is a day without one, wherever it is among the others.
#[test]
fn files_without_a_row_are_read() {
    let place = place();
    place.write("rows/0.csv", "unit,day,y,kind\n");
    place.write("rows/9.csv", "unit,day,y,kind\n");
    place.write("rows/99.csv", "");
    night(&place, 3).ended(0).told("e 2026-03-02 to 2026-03-03: published");
    night(&place, 4).ended(MISSING).told("source 'rows' is not fresh");
}

#[test]
fn values_that_a_metric_cannot_take_fail_it_alone_too() {
    let place = place();
    place.write("job.toml", &JOB.replace("count(DISTINCT kind)", "sum(CAST(kind AS DOUBLE))"));
    let run = night(&place, 3).ended(DATA).told("metric 'kinds' is not measured");
    assert!(run.stderr.contains("e 2026-03-02 to 2026-03-03: published"), "{}", run.stderr);
}

/// With a policy that leaves units out, they are made of all their days, and what is said of the others is what is said
/// where nobody else is assigned; the days before a unit's assignment are never missing, and stay totals.
#[test]
fn units_without_a_covariate_follow_the_policy() {
    let place = place();
    let assigned = |left_out: &[u32]| {
        let line = |unit: u32| {
            let known = match unit {
                3 | 8 => String::new(),
                unit => format!("{}.25", unit * unit % 5),
            };
            let arm = ["a", "b"][unit as usize % 2];
            format!("{unit},{arm},2026-03-0{},{known}\n", since(unit as usize))
        };
        let lines = (1..=8).filter(|unit| !left_out.contains(unit)).map(line);
        let text = format!("unit,arm,day,known\n{}", lines.collect::<String>());
        place.write("assigned/first.csv", &text);
    };
    let numbers = |job: &str, estimator: &str, fields: &[&str]| {
        place.write("job.toml", job);
        let _ = fs::remove_dir_all(place.path("results"));
        night(&place, 3).ended(0);
        let effects = place.effects();
        let rows = effects.of(&[("metric", "y"), ("estimator", estimator)]).into_iter();
        let of = |row: &Row| {
            let place = ["analysis_date", "period"].map(|key| row.text(key).unwrap().to_owned());
            (place, fields.iter().map(|field| row.number(field)).collect::<Vec<_>>())
        };
        rows.map(of).collect::<BTreeMap<_, _>>()
    };
    let fields = ["estimate", "std_error", "ci_lower", "n_treatment", "n_control"];
    let drop = "[estimators.cuped]\nmissing = \"drop\"\n[metrics.y]";
    let with_drop = JOB.replace("[metrics.y]", drop);
    let looks_back = numbers(JOB, "cuped", &fields);
    assert_eq!(numbers(&with_drop, "cuped", &fields), looks_back);

    let known = |job: &str| job.replace("lookback_days = 2", "column = \"known\"");
    assigned(&[]);
    let all = numbers(&known(JOB), "ttest", &fields);
    assert_eq!(numbers(&known(&with_drop), "ttest", &fields), all);
    let left_out = numbers(&known(&with_drop), "cuped", &fields);
    let counted = numbers(&known(&with_drop), "cuped", &["n_dropped"]);
    assert!(counted.values().any(|row| row[0] == Some(2.0)), "{counted:?}");
    let error = with_drop.replace("\"drop\"", "\"error\"");
    place.write("job.toml", &known(&error));
    let run = night(&place, 3).ended(DATA).told("covariate 'known' is NULL in some rows");
    assert!(run.stderr.contains("metric 'y' is not measured"), "{}", run.stderr);
    assert!(run.stderr.contains("e 2026-03-02 to 2026-03-03: published"), "{}", run.stderr);
    let effects = place.effects();
    let most = effects.of(&[("metric", "most"), ("period", "day"), ("estimator", "ttest")]);
    assert!(most.iter().any(|row| row.number("estimate").is_some()));

    assigned(&[3, 8]);
    for job in [&with_drop, &error] {
        assert_eq!(numbers(&known(job), "cuped", &fields), left_out);
    }
    // What totals of the others say is the same but for rounding, where each arm has two units.
    let both = ["estimate", "std_error"];
    let of_units = numbers(&known(&with_drop), "cuped", &both);
    let of_totals = numbers(&known(JOB), "cuped", &both);
    assert_eq!(of_units.len(), of_totals.len());
    let inferred = of_units.iter().filter(|(_, row)| row[1].is_some());
    let mut seen = 0;
    for (place, row) in inferred {
        for (a, b) in row.iter().zip(&of_totals[place]) {
            let near = a.zip(*b).is_some_and(|(a, b)| (a - b).abs() <= 1e-12 * b.abs());
            assert!(near, "{place:?}: {a:?} {b:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 4, "of the second date, cumulative and of the day");
}

const FOLDERS: &str = r#"time = "day"
partition = "ds"
max_lateness_days = 1
"#;

#[test]
fn rows_that_come_too_late_wait_for_a_backfill() {
    let place = place();
    for day in 1..=3 {
        fs::create_dir_all(place.path(&format!("rows/ds=2026-03-0{day}"))).unwrap();
        fs::rename(
            place.path(&format!("rows/{day}.csv")),
            place.path(&format!("rows/ds=2026-03-0{day}/rows.csv")),
        )
        .unwrap();
    }
    place.write("job.toml", &JOB.replacen("time = \"day\"\n", FOLDERS, 1));
    night(&place, 3).ended(0);
    let early = place.effects().bits();
    // In time: of the day before. Too late: of two days before.
    place.write(
        "rows/ds=2026-03-04/rows.csv",
        &(rows(4, usual(4)) + "2,2026-03-03,10,k1\n2,2026-03-02,100,k1\n"),
    );
    let run = night(&place, 4).ended(0).told("e 2026-03-03 to 2026-03-04: published");
    assert!(run.stderr.contains("e 2026-03-02: nothing to do"), "{}", run.stderr);
    let late = place.audits();
    let late = late.of(&[("audit", "late_rows"), ("verdict", "failed")]);
    assert!(late.iter().all(|row| row.number("value") == Some(1.0)) && !late.is_empty());
    let cumulative = |date: &str| {
        let effects = place.effects();
        let rows = effects.of(&[("metric", "y"), ("period", "cumulative"), ("estimator", "ttest")]);
        rows.into_iter()
            .find(|row| row.text("analysis_date") == Some(date))
            .unwrap()
            .number("mean_control")
            .unwrap()
    };
    let before = cumulative("2026-03-04");
    // What is published is what it says it is, whatever waits.
    place
        .gosset(&["run", "job.toml", "--date", "2026-03-04", "--verify"])
        .ended(0)
        .told("the same bits");
    place
        .gosset(&["backfill", "job.toml", "--from", "2026-03-04", "--to", "2026-03-03"])
        .ended(2)
        .told("the first day, 2026-03-04, is after the last, 2026-03-03");
    place
        .gosset(&["backfill", "job.toml", "--to", "2026-03-04"])
        .ended(0)
        .told("e 2026-03-02 to 2026-03-04: published");
    assert!((cumulative("2026-03-04") - before - 25.0).abs() < 1e-9);
    assert_ne!(place.effects().bits(), early);
    let audits = place.audits();
    assert!(audits.of(&[("audit", "late_rows"), ("verdict", "failed")]).is_empty());
    // It stays: the next night does not take it away again.
    night(&place, 4).ended(0).told("e 2026-03-02 to 2026-03-04: nothing to do");
    place
        .gosset(&["run", "job.toml", "--date", "2026-03-04", "--verify"])
        .ended(0)
        .told("the same bits");
}

#[test]
fn units_that_met_something_are_analysed_beside_all() {
    let place = place();
    let exposure = "estimators = [\"ttest\", \"cuped\"]\nexposure   = { source = \"rows\", where = \"kind = 'k0'\" }";
    place.write("job.toml", &JOB.replace("estimators = [\"ttest\", \"cuped\"]", exposure));
    place.write("rows/4.csv", &rows(4, usual(4)));
    night(&place, 4).ended(0);
    let effects = place.effects();
    let keys = [
        ("metric", "y"),
        ("period", "cumulative"),
        ("estimator", "ttest"),
        ("analysis_date", "2026-03-03"),
    ];
    let row = |base| {
        let mut keys = keys.to_vec();
        keys.push(("analysis_base", base));
        effects.only(&keys).clone()
    };
    assert_eq!(row("assignment").integer("n_control"), Some(4));
    // A unit meets k0 on days with (unit + day) % 3 = 0: by the third of March 1, 3 and 4 since they are assigned, and 6.
    let first = |unit: usize| (since(unit)..=3).find(|day| (unit + day).is_multiple_of(3));
    let exposed = |arm: usize| {
        (1..8).filter(|unit| unit % 2 == arm && first(*unit).is_some()).collect::<Vec<_>>()
    };
    assert_eq!((exposed(0), exposed(1)), (vec![4, 6], vec![1, 3]));
    let exposure = row("exposure");
    assert_eq!(
        (exposure.integer("n_control"), exposure.integer("n_treatment")),
        (Some(2), Some(2))
    );
    // Outcomes count from the day on which a unit met it.
    let mean = |arm: usize| {
        let of = |unit: usize| {
            (first(unit).unwrap() as u32..=3)
                .map(|day| f64::from(usual(day)(unit as u32)) + 0.5)
                .sum::<f64>()
        };
        exposed(arm).into_iter().map(of).sum::<f64>() / 2.0
    };
    assert_eq!(exposure.number("mean_control"), Some(mean(0)));
    assert_eq!(exposure.number("mean_treatment"), Some(mean(1)));
    let audits = place.audits();
    assert_eq!(
        audits
            .of(&[
                ("audit", "sample_ratio_analysed"),
                ("analysis_base", "exposure"),
                ("analysis_date", "2026-03-03")
            ])
            .len(),
        1
    );
    place
        .gosset(&["run", "job.toml", "--date", "2026-03-04", "--verify"])
        .ended(0)
        .told("the same bits");
}

#[test]
fn one_experiment_is_backfilled_alone() {
    let place = place();
    let second =
        JOB[JOB.find("[experiments.e]").unwrap()..].replace("[experiments.e]", "[experiments.f]");
    place.write("job.toml", &format!("{JOB}\n{second}"));
    let backfill = ["backfill", "job.toml", "--to", "2026-03-03", "--experiment", "f"];
    let run = place.gosset(&backfill).ended(0).told("f 2026-03-02 to 2026-03-03: published");
    assert!(!run.stderr.contains("e 2026"), "{}", run.stderr);
    place
        .gosset(&["backfill", "job.toml", "--experiment", "g"])
        .ended(FILE)
        .told("the experiment 'g' is not defined");
}

#[test]
fn a_calibration_finds_nothing_where_nothing_is() {
    let place = Place::new();
    let mut assigned = String::from("unit,arm,day\n");
    let mut text = String::from("unit,day,y,kind\n");
    for unit in 0..400 {
        writeln!(assigned, "{unit},{},2026-03-02", ["a", "b"][unit % 2]).unwrap();
        for day in 1..=3 {
            writeln!(text, "{unit},2026-03-0{day},{},k", (unit * 37 + day * 11) % 101).unwrap();
        }
    }
    place.write("assigned/first.csv", &assigned);
    place.write("rows/1.csv", &text);
    place.write("job.toml", &JOB.replace("2026-03-05", "2026-03-03"));
    let arguments = ["calibrate", "job.toml", "--replicates", "400"];
    place.gosset(&arguments).ended(DATA).told(
        "the unit-days of source 'rows' are not published up to 2026-03-03: run the job first",
    );
    night(&place, 3).ended(0);
    let found = place.gosset(&arguments).ended(0);
    assert!(found.stdout.contains("e 2026-03-03, 400 draws"), "{}", found.stdout);
    let lines: Vec<&str> = found.stdout.lines().filter(|line| line.contains(" y ")).collect();
    assert_eq!(lines.len(), 2, "ttest and cuped: {}", found.stdout);
    assert!(lines.iter().all(|line| line.contains("as it should be")), "{}", found.stdout);
}

#[test]
fn definitions_are_shared() {
    let place = place();
    let (head, metrics) = JOB.split_at(JOB.find("[metrics.y]").unwrap());
    let (metrics, experiments) = metrics.split_at(metrics.find("[experiments.e]").unwrap());
    place.write("shared/metrics.toml", metrics);
    place.write("job.toml", &format!("include = [\"shared/*.toml\"]\n{head}{experiments}"));
    night(&place, 3).ended(0);
    place.write("shared/more.toml", "[metrics.y]\nsource = \"rows\"\nvalue = \"count(*)\"\n");
    night(&place, 3).ended(FILE).told("shared/more.toml: the metric 'y' is defined twice");
    place.write("shared/more.toml", "[metrics.z]\nsource = \"rows\"\nvalues = \"count(*)\"\n");
    night(&place, 3).ended(FILE).told("more.toml:3:1: unknown key 'values'; did you mean 'value'?");
    place.write("shared/more.toml", "[job]\nname = \"other\"\n");
    night(&place, 3)
        .ended(FILE)
        .told("unknown key 'job'; expected sources, segments, metrics, experiments");
}

/// The jobs that ship plan and run on a lake of the shape that they say.
#[test]
fn the_jobs_that_ship_are_valid() {
    use arrow::array::{
        ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };
    use std::path::Path;
    use std::sync::Arc;
    const DAY: i64 = 86_400_000_000;
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs");
    // Noon in California on the first days of each experiment.
    let starts = [
        ("precache", 20_514),
        ("new_player", 20_521),
        ("artwork_2025_04", 20_185),
        ("previews_2025_09", 20_332),
    ];
    let place = Place::new();
    let at = |days: Vec<i64>| -> ArrayRef {
        let noon = days.into_iter().map(|day| day * DAY + 20 * DAY / 24);
        Arc::new(TimestampMicrosecondArray::from_iter_values(noon).with_timezone("UTC"))
    };
    for (name, start) in starts {
        let units: Vec<i64> = (0..200).collect();
        let arms = units.iter().map(|unit| Some(if unit % 2 == 0 { "cell_1" } else { "cell_2" }));
        place.parquet(
            &format!("lake/allocations/{name}.parquet"),
            vec![
                (
                    "test_id",
                    Arc::new(std::iter::repeat_n(Some(name), 200).collect::<StringArray>()),
                ),
                ("account_id", Arc::new(Int64Array::from(units.clone()))),
                ("cell", Arc::new(arms.collect::<StringArray>())),
                (
                    "country",
                    Arc::new(
                        units
                            .iter()
                            .map(|u| Some(["DE", "US"][*u as usize / 2 % 2]))
                            .collect::<StringArray>(),
                    ),
                ),
                // The ramp of new_player is over for all of them.
                ("allocated_at", at(vec![start + if name == "new_player" { 3 } else { 0 }; 200])),
            ],
        );
        for day in start - 1..start + 5 {
            let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(day);
            place.parquet(
                &format!("lake/sessions/ds={date}/{name}.parquet"),
                vec![
                    ("account_id", Arc::new(Int64Array::from(units.clone()))),
                    ("started_at", at(vec![day; 200])),
                    (
                        "watch_min",
                        Arc::new(
                            units
                                .iter()
                                .map(|u| Some((u * 7 + day) as f64 % 31.0))
                                .collect::<Float64Array>(),
                        ),
                    ),
                    (
                        "rebuffers",
                        Arc::new(Int64Array::from_iter_values(units.iter().map(|u| u % 3))),
                    ),
                ],
            );
        }
    }
    let shared = fs::read_to_string(jobs.join("shared/viewing.toml")).unwrap();
    place.write("shared/viewing.toml", &shared.replace("s3://", ""));
    for (job, last) in [("nightly.toml", "2026-03-13"), ("backfill.toml", "2025-09-05")] {
        let text = fs::read_to_string(jobs.join(job)).unwrap().replace("s3://", "");
        place.write(job, &text);
        place.gosset(&["validate", job]).ended(0);
        place.gosset(&["plan", job, "--date", last]).printed("compute, new");
    }
    let backfill = ["backfill", "backfill.toml", "--to", "2025-04-11", "--jobs", "2"];
    place.gosset(&backfill).ended(0).told("artwork_2025_04 2025-04-07 to 2025-04-11: published");
    let nightly = place.gosset(&["run", "nightly.toml", "--date", "2026-03-06"]);
    nightly.ended(0).told("precache 2026-03-02 to 2026-03-06: published");
}

/// Rows of units at instants: an hour before midnight and an hour after it, in the zone of Berlin.
struct Instants {
    units: Vec<i64>,
    /// In seconds since 1970.
    at: Vec<i64>,
    last: Vec<(&'static str, ArrayRef)>,
}

impl Instants {
    fn columns(&self) -> Vec<(&'static str, ArrayRef)> {
        let at = self.at.iter().map(|at| Some(at * 1_000_000));
        let at = TimestampMicrosecondArray::from_iter(at).with_timezone("UTC");
        let units: ArrayRef = Arc::new(Int64Array::from(self.units.clone()));
        [("unit", units), ("at", Arc::new(at) as ArrayRef)]
            .into_iter()
            .chain(self.last.clone())
            .collect()
    }

    /// Each row as text, of columns that `line` puts together.
    fn lines(&self, line: impl Fn(i64, String, String) -> String) -> String {
        let last =
            arrow::compute::cast(&self.last[0].1, &arrow::datatypes::DataType::Utf8).unwrap();
        let last = arrow::array::AsArray::as_string::<i32>(&last);
        let row = |i: usize| {
            let at = jiff::Timestamp::from_second(self.at[i]).unwrap();
            line(self.units[i], at.to_string(), last.value(i).to_owned()) + "\n"
        };
        (0..self.units.len()).map(row).collect()
    }
}

/// Every format in which rows and assignments can be has times, and gives the same bits, in any zone.
#[test]
fn every_format_has_times() {
    let midnight = |day: i64| {
        jiff::civil::date(2026, 3, day as i8)
            .at(0, 0, 0, 0)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .unwrap()
            .timestamp()
            .as_second()
    };
    let units: Vec<i64> = (1..=40).collect();
    let arms: Vec<&str> = units.iter().map(|unit| ["a", "b"][*unit as usize % 2]).collect();
    let assigned = Instants {
        at: units.iter().map(|unit| midnight(2 + unit / 2 % 2) - 1800).collect(),
        last: vec![("arm", Arc::new(StringArray::from(arms)))],
        units,
    };
    let all = (1..=4).flat_map(|day| (1..=40_i64).map(move |unit| (day, unit)));
    let all: Vec<(i64, i64)> = all.filter(|(day, unit)| (day + unit) % 5 > 0).collect();
    let y = all.iter().map(|(day, unit)| (unit * 7 + day * 3) as f64 % 11.0 + 0.25);
    let rows = Instants {
        units: all.iter().map(|(_, unit)| *unit).collect(),
        at: all.iter().map(|(day, unit)| midnight(*day) + 3600 * (unit % 24)).collect(),
        last: vec![("y", Arc::new(Float64Array::from_iter_values(y)))],
    };

    let place = Place::new();
    for (name, of) in [("rows", &rows), ("assigned", &assigned)] {
        let last = of.last[0].0;
        place.parquet(&format!("{name}.parquet"), of.columns());
        let csv = of.lines(|unit, at, last| format!("{unit},{at},{last}"));
        place.write(&format!("{name}.csv"), &format!("unit,at,{last}\n{csv}"));
        let quoted = |value: String| if name == "rows" { value } else { format!("\"{value}\"") };
        let json = of.lines(|unit, at, value| {
            format!("{{\"unit\":{unit},\"at\":\"{at}\",\"{last}\":{}}}", quoted(value))
        });
        place.write(&format!("{name}.ndjson"), &json);
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let engine = Engine::new(EngineOptions::new()).unwrap();
            let lake =
                DeltaStore::open(&place.path("lake").display().to_string(), &engine).unwrap();
            let batch = RecordBatch::try_from_iter_with_nullable(
                of.columns().into_iter().map(|(name, column)| (name, column, true)),
            );
            let batch = batch.unwrap();
            let mut table = lake.table(name, batch.schema(), &[]).await.unwrap();
            table.replace(vec![batch], partition(&[]), &Metadata::new(), "first").await.unwrap();
        });
    }
    let job = |zone: &str, rows: &str, assigned: &str| {
        JOB.replace("store = \"results\"", &format!("store = \"results\"\ntimezone = \"{zone}\""))
            .replace("\"rows/\"", &format!("\"{rows}\""))
            .replace("\"assigned/\"", &format!("\"{assigned}\""))
            .replace("time = \"day\"", "time = \"at\"")
            .replace("[metrics.kinds]\nsource = \"rows\"\nvalue  = \"count(DISTINCT kind)\"\n", "")
            .replace(", \"kinds\"", "")
    };
    let formats = [
        ("rows.parquet", "assigned.parquet"),
        ("rows.ndjson", "assigned.ndjson"),
        ("lake/rows", "lake/assigned"),
        ("lake/rows", "assigned.ndjson"),
        ("rows.csv", "assigned.csv"),
    ];
    let mut of_zones = Vec::new();
    for (zone, formats) in [("UTC", &formats[..]), ("Europe/Berlin", &formats[..4])] {
        let mut published = Vec::new();
        for (rows, assigned) in formats {
            place.write("job.toml", &job(zone, rows, assigned));
            place.gosset(&["validate", "job.toml"]).ended(0);
            night(&place, 4).ended(0);
            night(&place, 4).ended(0).told("nothing to do");
            place.gosset(&["run", "job.toml", "--date", "2026-03-04", "--verify"]).ended(0);
            published.push(place.effects().bits());
            fs::remove_dir_all(place.path("results")).unwrap();
        }
        for (same, format) in published.iter().zip(formats) {
            assert!(*same == published[0], "{zone} {format:?}");
        }
        of_zones.push(published.remove(0));
    }
    assert!(of_zones[0] != of_zones[1], "days of another zone are others");

    let text = fs::read_to_string(place.path("rows.ndjson")).unwrap();
    place.write("rows.ndjson", &text.replacen("2026-03-01T", "on 2026-03-01T", 1));
    place.write("job.toml", &job("UTC", "rows.ndjson", "assigned.ndjson"));
    night(&place, 4).ended(DATA).told("Error parsing timestamp from 'on 2026-03-01T");
}
