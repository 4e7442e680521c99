//! The programme of twenty experiments over forty nights, beside what Python made of the same rows.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use gosset_engine::{Engine, EngineOptions};
use gosset_tests::place::{Place, Run};
use gosset_tests::programme::{FIRST, Programme, mix};
use gosset_tests::table::{Row, Table};
use jiff::civil::Date;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/programme").join(name)
}

// ------------------------------------------------------------------------------------------------ the rows

/// The cells of a column as words of 64 bits: integers, instants and days as they are, doubles by their bits, texts
/// folded over their bytes.
fn words(column: &dyn Array) -> Vec<u64> {
    let rows = 0..column.len();
    let word_of: Box<dyn Fn(usize) -> u64> = match column.data_type() {
        DataType::Float64 => {
            let column = column.as_primitive::<Float64Type>().clone();
            Box::new(move |row| column.value(row).to_bits())
        }
        DataType::Utf8 | DataType::Utf8View => {
            let column = cast(column, &DataType::Utf8).unwrap();
            Box::new(move |row| {
                let text = column.as_string::<i32>().value(row);
                text.bytes().fold(text.len() as u64, |state, byte| mix(state ^ u64::from(byte)))
            })
        }
        _ => {
            let column = cast(column, &DataType::Int64).unwrap();
            Box::new(move |row| column.as_primitive::<Int64Type>().value(row).cast_unsigned())
        }
    };
    rows.map(|row| if column.is_null(row) { u64::MAX } else { word_of(row) }).collect()
}

/// A number that differs where a cell of a row differs, whatever the order of the rows.
fn digest(rows: &RecordBatch) -> u64 {
    let mut states = vec![0; rows.num_rows()];
    for column in rows.columns() {
        for (state, word) in states.iter_mut().zip(words(column)) {
            *state = mix(*state ^ word);
        }
    }
    states.into_iter().fold(0, u64::wrapping_add)
}

/// Every file holds the rows that Python has for it.
#[tokio::test]
async fn both_generators_make_the_same_rows() {
    let place = Place::new();
    let programme = Programme::new(&place);
    let engine = Engine::new(EngineOptions::new()).unwrap();
    let text = std::fs::read_to_string(golden("checksums.csv")).unwrap();
    let mut by_night: BTreeMap<Date, Vec<[&str; 3]>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let [night, path, rows, digest] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("expected four cells, found {line}")
        };
        by_night.entry(night.parse().unwrap()).or_default().push([path, rows, digest]);
    }
    let mut compared = 0;
    for (night, files) in by_night {
        // What is from before the first night is there from the beginning on.
        if night >= FIRST {
            programme.write_night(night);
        }
        for [path, rows, expected] in files {
            let frame =
                engine.read(&place.path("").join(path).display().to_string()).await.unwrap();
            let batches = frame.collect().await.unwrap();
            let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(found.to_string(), rows, "rows of {path} in the night of {night}");
            let found = batches.iter().map(digest).fold(0, u64::wrapping_add);
            assert_eq!(found.to_string(), expected, "rows of {path} in the night of {night}");
            compared += 1;
        }
    }
    assert_eq!(compared, 136);
}

// ------------------------------------------------------------------------------------------------ the effects

const KEYS: [&str; 9] = [
    "experiment",
    "analysis_date",
    "period",
    "metric",
    "segment",
    "segment_value",
    "arm",
    "estimator",
    "quantile",
];

fn by_key(table: &Table) -> BTreeMap<[String; 9], &Row> {
    let keyed = table.rows().iter().map(|row| (KEYS.map(|key| row.shown(key)), row));
    let found: BTreeMap<_, _> = keyed.collect();
    assert_eq!(found.len(), table.rows().len(), "no row is there twice");
    found
}

/// Asserts that published rows are the expected lines to nine digits. Where there is no line, or one without numbers,
/// a row has no estimate and says why: an audit blocks it, or the estimator does not fit the metric.
#[track_caller]
fn compare(effects: &Table, expected: &Table) {
    let (effects, expected) = (by_key(effects), by_key(expected));
    let near = |found: f64, expected: f64, scale: f64| {
        (found - expected).abs() <= 1e-9 * expected.abs() + 1e-14 * scale
    };
    for (keys, line) in &expected {
        let row = effects.get(keys).unwrap_or_else(|| panic!("nothing is published of {keys:?}"));
        let means = ["mean_treatment", "mean_control"];
        let scale = means.map(|name| line.number(name).unwrap_or_default().abs());
        for name in
            ["n_treatment", "n_control", "mean_treatment", "mean_control", "estimate", "std_error"]
        {
            let Some(expected) = line.number(name) else { continue };
            // A difference is as accurate as what it is a difference of.
            let scale = if name == "estimate" { scale[0].max(scale[1]) } else { 0.0 };
            let found = row.number(name).unwrap_or(f64::NAN);
            assert!(
                near(found, expected, scale),
                "{keys:?}, {name}: expected {expected}, found {found} in {row:?}"
            );
        }
    }
    for (keys, row) in &effects {
        if expected.get(keys).is_none_or(|line| line.number("estimate").is_none()) {
            assert_eq!(row.number("estimate"), None, "nothing is expected of {keys:?}");
            assert!(row.text("note").is_some(), "{keys:?} does not say why it has no estimate");
        }
    }
}

fn expected() -> Table {
    Table::read(&golden("expected.csv"))
}

#[test]
fn the_expected_lines_are_one_for_each_key() {
    let expected = expected();
    let lines = by_key(&expected);
    let experiments: Vec<&str> = lines.keys().map(|keys| keys[0].as_str()).collect();
    for i in 0..20 {
        // The audit of one experiment blocks its effects.
        assert_eq!(experiments.contains(&&*format!("test_{i:02}")), i != 3, "test_{i:02}");
    }
}

#[test]
fn what_differs_is_found() {
    let place = Place::new();
    let lines = std::fs::read_to_string(golden("expected.csv")).unwrap();
    let as_published = |lines: &str| {
        let (header, rest) = lines.split_once('\n').unwrap();
        place.write("effects.csv", &format!("{header},note\n{}", rest.replace('\n', ",why\n")));
        Table::read(&place.path("effects.csv"))
    };
    compare(&as_published(&lines), &expected());
    let line = lines.lines().find(|line| line.contains("test_08")).unwrap();
    let (keys, std_error) = line.rsplit_once(',').unwrap();
    let further = std_error.parse::<f64>().unwrap() * (1.0 + 2e-9);
    for other in
        [format!("{keys},{further}"), format!("{keys},"), line.replace("test_08", "test_03")]
    {
        let differs = as_published(&lines.replacen(line, &other, 1));
        assert!(std::panic::catch_unwind(|| compare(&differs, &expected())).is_err(), "{other}");
    }
}

/// 65: the audit of one experiment blocks it while it runs.
#[track_caller]
fn went_well(run: &Run) {
    assert!([0, 65].contains(&run.status), "{run:?}");
}

/// All nights, one by one.
fn night_by_night(place: &Place) {
    let programme = Programme::new(place);
    for night in Programme::days() {
        programme.write_night(night);
        went_well(&place.gosset(&["run", "job.toml", "--date", &night.to_string()]));
    }
}

#[test]
fn night_by_night_is_what_python_computes_what_all_raw_rows_give_and_what_a_backfill_makes() {
    let place = Place::new();
    night_by_night(&place);
    compare(&place.effects(), &expected());
    let last = Programme::days().last().unwrap().to_string();
    let again = place.gosset(&["run", "job.toml", "--date", &last]);
    went_well(&again);
    assert!(!again.stderr.contains("published "), "nothing is left to do: {again:?}");
    place.gosset(&["run", "job.toml", "--date", &last, "--verify"]).ended(0).told("the same bits");

    // One backfill at the end, of several experiments at once, publishes the same bits as the nights did.
    let backfilled = Place::new();
    let programme = Programme::new(&backfilled);
    Programme::days().for_each(|night| programme.write_night(night));
    went_well(&backfilled.gosset(&["backfill", "job.toml", "--to", &last, "--jobs", "3"]));
    assert!(sorted_bits(&backfilled) == sorted_bits(&place));
}

fn sorted_bits(place: &Place) -> Vec<String> {
    let mut bits = place.effects().bits();
    bits.sort();
    bits
}

/// Killed 25 times at any moment, a backfill ends with the same bits, and readers saw nothing in between that is not.
#[test]
fn a_backfill_survives_being_killed() {
    let whole = Place::new();
    let programme = Programme::new(&whole);
    Programme::days().for_each(|night| programme.write_night(night));
    let last = Programme::days().last().unwrap().to_string();
    went_well(&whole.gosset(&["backfill", "job.toml", "--to", &last]));
    let expected: BTreeSet<String> = whole.effects().bits().into_iter().collect();
    let arguments = ["backfill", "job.toml", "--to", &last, "--jobs", "2"];

    let place = Place::new();
    let programme = Programme::new(&place);
    Programme::days().for_each(|night| programme.write_night(night));
    for kill in 0..25_u64 {
        let mut child = place.program(&arguments).spawn().unwrap();
        // From before the first byte is read to after the first results are published.
        sleep(Duration::from_millis(mix(kill) % 3000));
        child.kill().unwrap();
        child.wait().unwrap();
        if place.path("results/effects/_delta_log").exists() {
            let seen = place.effects().bits();
            assert!(seen.iter().all(|row| expected.contains(row)), "after kill {kill}");
        }
    }
    went_well(&place.gosset(&arguments));
    let found = place.effects().bits();
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|row| expected.contains(row)));
    place.gosset(&arguments).told("nothing to do");
}
