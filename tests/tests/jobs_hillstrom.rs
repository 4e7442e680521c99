//! The e-mail experiment, as its job file publishes it: the numbers of an independent reference, the same bits however
//! it runs, published once.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gosset_tests::place::Place;
use gosset_tests::table::{Row, Table};

const KEYS: [&str; 5] = ["metric", "segment", "segment_value", "arm", "estimator"];
const ARMS: [&str; 2] = ["Mens E-Mail", "Womens E-Mail"];
const SEGMENTS: [&str; 3] = ["", "channel", "zip_code"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn place() -> Place {
    let place = Place::new();
    for file in ["hillstrom.toml", "hillstrom.csv"] {
        fs::copy(root().join("jobs").join(file), place.path(file)).unwrap();
    }
    place
}

fn published(arguments: &[&str]) -> (Place, Table) {
    let place = place();
    let all = [&["run", "hillstrom.toml"], arguments].concat();
    place.gosset(&all).ended(0).told("email: published 378 effects");
    let effects = place.effects();
    (place, effects)
}

/// The lines of a CSV file without quoted fields, by the names of its header.
fn csv(path: &Path) -> Vec<Vec<(String, String)>> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let cells = |line: &str| {
        let cells = line.split(',').map(ToOwned::to_owned);
        header.iter().map(|name| (*name).to_owned()).zip(cells).collect()
    };
    lines.map(cells).collect()
}

#[test]
fn every_effect_is_that_of_the_reference() {
    let (_place, effects) = published(&[]);
    let expected = csv(&root().join("tests/golden/hillstrom/expected.csv"));
    assert_eq!(expected.len(), 266);
    for line in &expected {
        let (keys, fields) = line.split_at(KEYS.len());
        let keys: Vec<(&str, &str)> =
            keys.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let row = effects.only(&keys);
        for (name, text) in fields {
            let expected = text.parse::<f64>().ok();
            let found = row.number(name);
            let same = match (expected, found) {
                (None, None) => text.is_empty(),
                (Some(expected), Some(found)) if expected.is_finite() => {
                    let tolerance = match name.as_str() {
                        // A difference from 1.
                        "variance_reduction" => 1e-14,
                        _ => 1e-10 * expected.abs(),
                    };
                    (found - expected).abs() <= tolerance
                }
                (Some(expected), Some(found)) => expected.to_bits() == found.to_bits(),
                _ => false,
            };
            assert!(same, "{keys:?} {name}: expected {text:?}, found {found:?}");
        }
    }
    // What is there beside: the bootstrap, and estimators that a ratio cannot take.
    let of_reference = |row: &&Row| {
        let estimator = row.text("estimator").unwrap();
        let ratio = row.text("metric") == Some("spend_per_visit");
        let taken = !ratio || !["cuped", "lin", "post_stratify"].contains(&estimator);
        taken && !estimator.starts_with("bootstrap")
    };
    assert_eq!(effects.rows().iter().filter(of_reference).count(), expected.len());
    for row in effects.rows().iter().filter(|row| !of_reference(row)) {
        assert!(row.text("note").is_some(), "{row:?}");
    }
}

#[test]
fn every_number_of_partitions_gives_the_same_bits() {
    let (first, effects) = published(&["--partitions", "1"]);
    for partitions in ["2", "3", "8"] {
        let (place, others) = published(&["--partitions", partitions]);
        assert_eq!(effects.bits(), others.bits(), "{partitions} partitions");
        assert_eq!(first.audits().bits(), place.audits().bits(), "{partitions} partitions");
    }
}

/// In one wave it takes more than 8 MB.
#[test]
fn little_memory_takes_waves_and_gives_the_same_bits() {
    let (_first, effects) = published(&[]);
    for limit in ["8MB", "2MB"] {
        let (place, others) = published(&["--memory-limit", limit]);
        assert_eq!(effects.bits(), others.bits(), "{limit}");
        let plan = place.gosset(&["plan", "hillstrom.toml", "--memory-limit", limit]).ended(0);
        assert_eq!(plan.stdout, "email: published, version 1 of effects\n");
    }
}

/// The relative error of a bootstrap standard error is `√(1/(2B) + 1/(2K))`: B replicates of K buckets, in which units
/// of one arm meet at random. With two arms it is less.
#[test]
fn bootstrap_and_analytic_standard_errors_agree() {
    let place = place();
    let job = fs::read_to_string(place.path("hillstrom.toml")).unwrap();
    let more = ["recency", "history_segment", "mens", "womens", "newbie"];
    let defined: String =
        more.iter().map(|name| format!("[segments.{name}]\ncolumn = \"{name}\"\n")).collect();
    let named: String = more.iter().map(|name| format!(", \"{name}\"")).collect();
    let job = job
        .replace("[metrics.spend]", &format!("{defined}[metrics.spend]"))
        .replace("\"zip_code\"]", &format!("\"zip_code\"{named}]"))
        .replace("\"cuped\", \"lin\", \"post_stratify\", ", "");
    place.run(&job).ended(0);
    let effects = place.effects();
    let band = 5.0 * (1.0_f64 / (2.0 * 1000.0) + 1.0 / (2.0 * 4096.0)).sqrt();
    let (mut compared, mut sum) = (0, 0.0);
    for row in effects.rows() {
        let analytic = match row.text("estimator").unwrap() {
            "bootstrap_mean" => "ttest",
            "bootstrap_ratio" => "ratio_test",
            _ => continue,
        };
        let mut keys: Vec<(&str, &str)> =
            KEYS.iter().map(|key| (*key, row.text(key).unwrap_or_default())).collect();
        keys[4].1 = analytic;
        let other = effects.only(&keys);
        assert_eq!(row.number("estimate"), other.number("estimate"), "{keys:?}");
        let (ours, theirs) = (row.number("std_error").unwrap(), other.number("std_error").unwrap());
        let deviation = ours / theirs - 1.0;
        assert!(deviation.abs() < band, "{keys:?}: {ours} and {theirs}");
        compared += 1;
        sum += deviation;
    }
    assert!(compared > 200, "only {compared} rows were compared");
    // Rows share buckets and weights, so the mean deviation is not that of as many independent ones.
    let mean = sum / f64::from(compared);
    assert!(mean.abs() < band / 5.0, "standard errors deviate by {mean} on average");
}

#[test]
fn a_published_effect_is_that_of_the_sql_function_to_the_bit() {
    let (place, effects) = published(&[]);
    let names: Vec<String> = gosset_sql::effect_fields().iter().map(|f| f.name().clone()).collect();
    let fields: Vec<String> = names.iter().map(|name| format!("e['{name}'] AS {name}")).collect();
    let fields = fields.join(", ");
    let bootstrap = effects.of(&[("estimator", "bootstrap_mean")]);
    let seed = bootstrap[0].integer("seed").unwrap();
    let mut compared = 0;
    for segment in SEGMENTS {
        let (key, group) = match segment {
            "" => ("CAST(NULL AS VARCHAR)".into(), String::new()),
            column => (format!("\"{column}\""), format!("GROUP BY \"{column}\"")),
        };
        for arm in ARMS {
            let arms = format!("segment, {{treatment: '{arm}', control: 'No E-Mail'}}");
            let arms_and_covariate = arms.replacen(',', ", {history: history},", 1);
            let mut calls = vec![(
                "spend_per_visit",
                "ratio_test",
                format!("ratio_test(spend, visit, {arms})"),
            )];
            for metric in ["spend", "visit", "conversion"] {
                calls.push((metric, "ttest", format!("ttest({metric}, {arms})")));
                calls.push((metric, "cuped", format!("cuped({metric}, history, {arms})")));
                calls.push((metric, "lin", format!("lin({metric}, history, {arms})")));
                let call = format!("post_stratify({metric}, recency, {arms_and_covariate})");
                calls.push((metric, "post_stratify", call));
            }
            for metric in ["visit", "conversion"] {
                let call = format!("proportion_test({metric}, {arms})");
                calls.push((metric, "proportion_test", call));
            }
            // Where no column says the unit, it is the position of the row.
            let with_seed =
                arms.replace('}', &format!(", seed: {seed}}}")).replacen(',', ", unit,", 1);
            for metric in ["spend", "visit", "conversion"] {
                let call = format!("bootstrap_mean({metric}, {with_seed})");
                calls.push((metric, "bootstrap_mean", call));
            }
            let call = format!("bootstrap_ratio(spend, visit, {with_seed})");
            calls.push(("spend_per_visit", "bootstrap_ratio", call));
            for (metric, estimator, call) in calls {
                let name = format!("sql-{compared}.parquet");
                let query = format!(
                    "CREATE VIEW customers AS SELECT *, row_number() OVER () AS unit FROM 'hillstrom.csv';
                     COPY (SELECT segment_value, {fields} FROM
                       (SELECT {key} AS segment_value, {call} AS e FROM customers {group})) TO '{name}'"
                );
                place.gosset(&["sql", "--partitions", "1", "-c", &query]).ended(0);
                let rows = Table::read(&place.path(&name));
                assert_eq!(
                    rows.rows().len(),
                    match segment {
                        "" => 1,
                        _ => 3,
                    }
                );
                for row in rows.rows() {
                    let keys = [
                        ("metric", metric),
                        ("segment", segment),
                        ("segment_value", row.text("segment_value").unwrap_or_default()),
                        ("arm", arm),
                        ("estimator", estimator),
                    ];
                    assert_eq!(row.bits(), effects.only(&keys).common_bits(row), "{keys:?}");
                    compared += 1;
                }
            }
        }
    }
    // All but those of capped values.
    assert_eq!(compared, 210 + 56);
}

/// One model of three arms, by the covariates at their mean over all of them: numbers of statsmodels.
#[test]
fn lin_among_all_arms_is_one_model() {
    let text = fs::read_to_string(root().join("tests/golden/lin_arms/expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    let place = place();
    let job = fs::read_to_string(place.path("hillstrom.toml")).unwrap();
    let job = job
        .replace("column = \"history\"", "column = [\"history\", \"recency\"]")
        .replace("\"ttest\", \"cuped\", \"lin\", \"post_stratify\", \"bootstrap\"", "\"lin\"");
    let mut compared = 0;
    for (vcov, superpopulation) in [
        ("by_arm", false),
        ("by_arm", true),
        ("HC0", false),
        ("HC1", false),
        ("HC2", false),
        ("HC3", false),
    ] {
        place.run(&format!(
            "{job}\n[estimators.lin]\nvcov = \"{vcov}\"\nsuperpopulation = {superpopulation}\ncentre = \"all_arms\"\n"
        ))
        .ended(0);
        let effects = place.effects();
        for case in cases.iter().filter(|case| {
            case["vcov"] == vcov && case["superpopulation"].as_bool() == Some(superpopulation)
        }) {
            let (metric, arm) = (case["metric"].as_str().unwrap(), case["arm"].as_str().unwrap());
            let row = effects.only(&[("metric", metric), ("segment", ""), ("arm", arm)]);
            assert!(row.text("method").unwrap().contains("among all arms"));
            for (field, value) in case["effect"].as_object().unwrap() {
                let (found, expected) = (row.number(field).unwrap(), value.as_f64().unwrap());
                let near = (found - expected).abs() <= 1e-9 * expected.abs();
                assert!(near, "{metric} {arm} {vcov} {field}: {found:e}, {expected:e}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, cases.len());
}

#[test]
fn running_again_publishes_nothing() {
    let (place, effects) = published(&[]);
    let run = place.gosset(&["run", "hillstrom.toml"]).ended(0);
    assert_eq!(run.stderr, "email: nothing to do, its results are published\n");
    assert_eq!(run.stdout, "");
    assert_eq!((place.version("effects"), place.version("audits")), (Some(1), Some(1)));
    assert_eq!(place.effects().bits(), effects.bits());
    let plan = place.gosset(&["plan", "hillstrom.toml", "--detailed-exitcode"]).ended(0);
    assert_eq!(plan.stdout, "email: published, version 1 of effects\n");
    place.gosset(&["status", "hillstrom.toml"]).ended(0).printed("up to date");
    place.gosset(&["validate", "hillstrom.toml"]).ended(0).told("hillstrom.toml: the job is valid");
}

/// Asserts what `plan` says, runs the job, and asserts that nothing is left to do.
#[track_caller]
fn stale(place: &Place, reasons: &str, version: u64) {
    let plan = place.gosset(&["plan", "hillstrom.toml", "--detailed-exitcode"]).ended(20);
    let first = plan.stdout.lines().next().unwrap();
    assert_eq!(first, format!("email: compute, {reasons}"));
    assert!(plan.stdout.contains("reads customers: 1 file, "), "{}", plan.stdout);
    place.gosset(&["plan", "hillstrom.toml"]).ended(0);
    place.gosset(&["status", "hillstrom.toml"]).ended(0).printed(&format!("stale: {reasons}"));
    place.gosset(&["run", "hillstrom.toml"]).ended(0).told("email: published");
    assert_eq!(place.version("effects"), Some(version));
    place.gosset(&["plan", "hillstrom.toml", "--detailed-exitcode"]).ended(0);
}

fn edit(place: &Place, from: &str, to: &str) {
    let job = fs::read_to_string(place.path("hillstrom.toml")).unwrap();
    assert!(job.contains(from), "{from}");
    place.write("hillstrom.toml", &job.replacen(from, to, 1));
}

#[test]
fn a_plan_names_exactly_what_is_stale() {
    let place = place();
    let plan = place.gosset(&["plan", "hillstrom.toml", "--detailed-exitcode"]).ended(20);
    assert!(plan.stdout.starts_with("email: compute, new\n"), "{}", plan.stdout);
    assert!(!place.path("results").exists(), "a plan writes nothing");
    place.gosset(&["status", "hillstrom.toml"]).ended(0).printed("missing");
    place.gosset(&["run", "hillstrom.toml"]).ended(0);
    let effects = place.effects();

    // Comments and order change nothing.
    edit(&place, "[metrics.visit]", "# a comment\n[metrics.visit]");
    place.gosset(&["plan", "hillstrom.toml", "--detailed-exitcode"]).ended(0);

    edit(&place, "value     = \"spend\"", "value     = \"spend * 2\"");
    stale(&place, "changed metric 'spend'", 2);
    edit(&place, "value     = \"spend * 2\"", "value     = \"spend\"");
    stale(&place, "changed metric 'spend'", 3);
    assert_eq!(place.effects().bits(), effects.bits(), "what was changed back is as it was");

    edit(&place, "\"conversion\", \"spend_per_visit\"]", "\"spend_per_visit\"]");
    edit(&place, "[\"channel\", \"zip_code\"]", "[\"channel\"]");
    stale(&place, "removed metric 'conversion', changed 'segments'", 4);

    // The input: another time is another version of it, and the same rows give the same numbers.
    let before = place.effects().bits();
    let input = fs::File::options().append(true).open(place.path("hillstrom.csv")).unwrap();
    input.set_modified(SystemTime::now() + Duration::from_secs(10)).unwrap();
    stale(&place, "changed input 'customers'", 5);
    assert_eq!(place.effects().bits(), before);
}

#[test]
fn an_edit_of_the_input_changes_what_it_should() {
    let (place, effects) = published(&[]);
    let rows = fs::read_to_string(place.path("hillstrom.csv")).unwrap();
    place.write(
        "hillstrom.csv",
        &format!("{}\n1,1) $0 - $100,1.5,1,0,Rural,0,Web,No E-Mail,1,1,77.5\n", rows.trim_end()),
    );
    place.gosset(&["run", "hillstrom.toml"]).ended(0);
    let keys = [("metric", "spend"), ("segment", ""), ("arm", ARMS[0]), ("estimator", "ttest")];
    let changed = place.effects();
    let (old, new) = (effects.only(&keys), changed.only(&keys));
    assert_eq!(new.number("n_control"), old.number("n_control").map(|n| n + 1.0));
    let urban = |of: &Table| {
        let rows =
            of.of(&[("segment", "zip_code"), ("segment_value", "Urban"), ("estimator", "lin")]);
        rows.iter().map(|row| row.bits()).collect::<Vec<_>>()
    };
    assert_eq!(urban(&effects), urban(&changed), "the other segments are as they were");
}
