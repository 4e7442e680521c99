//! `gosset demo`: a lake whose effects are known, analysed, beside the truth.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gosset_tests::place::{Place, Run};
use gosset_tests::table::Table;

const EXPERIMENTS: [&str; 3] = ["new_player", "same_player", "lost_units"];

fn demo(place: &Place) -> Run {
    place.gosset(&["demo"]).ended(0)
}

fn table(place: &Place, name: &str) -> Table {
    Table::read(&place.path("gosset-demo/results").join(name))
}

/// The true effects, by experiment and metric.
fn truth(place: &Place) -> BTreeMap<(String, String), f64> {
    let text = fs::read_to_string(place.path("gosset-demo/truth.csv")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("experiment,metric,truth"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            ((cells[0].into(), cells[1].into()), cells[2].parse().unwrap())
        })
        .collect()
}

#[test]
fn estimates_stand_beside_the_truth() {
    let place = Place::new();
    let run = demo(&place);
    for name in EXPERIMENTS {
        assert!(run.stderr.contains(&format!("{name}: published ")), "{}", run.stderr);
        assert!(run.stdout.contains(name), "{}", run.stdout);
    }
    let (effects, truth) = (table(&place, "effects"), truth(&place));
    let (mut covered, mut printed) = (0, 0);
    for row in effects.rows() {
        let text = |name| row.text(name).unwrap_or_default().to_owned();
        let (experiment, metric) = (text("experiment"), text("metric"));
        let true_effect = truth[&(experiment.clone(), metric.clone())];
        let interval = row.number("ci_lower").zip(row.number("ci_upper"));
        let Some((lower, upper)) = interval else {
            assert!(row.text("note").is_some(), "{row:?}");
            continue;
        };
        if row.text("segment").is_some() {
            continue;
        }
        let inside = lower <= true_effect && true_effect <= upper;
        // The seed is fixed: these are facts of the demo, not of the method.
        assert_eq!(inside, experiment != "lost_units", "{row:?}");
        covered += u32::from(inside);
        // The line of the table on standard output.
        let line = run.stdout.lines().find(|line| {
            let cells: Vec<&str> = line.split('┆').map(|c| c.trim_matches([' ', '│'])).collect();
            cells[..3.min(cells.len())]
                == [experiment.as_str(), metric.as_str(), &text("estimator")][..3.min(cells.len())]
        });
        let line = line.unwrap_or_else(|| panic!("no line for {row:?} in {}", run.stdout));
        assert!(line.contains(if inside { "true" } else { "false" }), "{line}");
        printed += 1;
    }
    assert_eq!((covered, printed), (15, 17));
    // Estimators with covariates are more precise.
    for estimator in ["cuped", "lin"] {
        let row = effects.only(&[
            ("experiment", "new_player"),
            ("metric", "minutes"),
            ("segment", ""),
            ("estimator", estimator),
        ]);
        assert!(row.number("variance_reduction").unwrap() > 0.4, "{row:?}");
    }
}

#[test]
fn what_is_wrong_with_the_rows_is_told() {
    let place = Place::new();
    let run = demo(&place);
    assert!(
        run.stderr.contains("warning: lost_units: failed audit: sample_ratio: "),
        "{}",
        run.stderr
    );
    let audits = table(&place, "audits");
    for name in EXPERIMENTS {
        for audit in ["sample_ratio", "sample_ratio_analysed"] {
            let row = audits.only(&[("experiment", name), ("audit", audit)]);
            let lost = name == "lost_units";
            assert_eq!(row.text("verdict"), Some(if lost { "failed" } else { "passed" }), "{name}");
            assert_eq!(row.number("value").unwrap() < 0.001, lost, "{row:?}");
        }
    }
    // Rows that are not finite are left out and counted, and so are units in both arms.
    let row = audits.only(&[
        ("experiment", "new_player"),
        ("audit", "non_finite"),
        ("metric", "minutes"),
    ]);
    assert!(row.number("value").unwrap() > 0.0);
    assert_eq!(row.text("verdict"), Some("counted"));
    let row = audits.only(&[("experiment", "same_player"), ("audit", "multiple_arms")]);
    assert_eq!(row.number("value"), Some(40.0 / 12_000.0));
    let effects = table(&place, "effects");
    let row = effects.only(&[
        ("experiment", "same_player"),
        ("metric", "minutes"),
        ("estimator", "ttest"),
    ]);
    let analysed = row.integer("n_control").unwrap() + row.integer("n_treatment").unwrap();
    assert_eq!(analysed, 12_000 - 40);
    for row in effects.of(&[("experiment", "lost_units")]) {
        assert!(row.text("note").unwrap().contains("failed audit: sample_ratio"), "{row:?}");
    }
}

/// All files of a folder but those of its results, by their paths in it.
fn lake(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("results") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_demo_over_an_old_one_gives_the_same() {
    let place = Place::new();
    let first = demo(&place);
    let folder = place.path("gosset-demo");
    let files = lake(&folder);
    assert_eq!(
        files.len(),
        14 + 3,
        "days of sessions, allocations, the job and the truth: {:?}",
        files.keys()
    );
    let (effects, audits) = (table(&place, "effects").bits(), table(&place, "audits").bits());

    let again = demo(&place);
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(lake(&folder), files);
    assert_eq!(table(&place, "effects").bits(), effects);
    assert_eq!(table(&place, "audits").bits(), audits);

    // Its job is a job like any other.
    let job = "gosset-demo/demo.toml";
    place.gosset(&["validate", job]).ended(0);
    let run = place.gosset(&["run", job]).ended(0);
    for name in EXPERIMENTS {
        assert!(run.stderr.contains(&format!("{name}: nothing to do")), "{}", run.stderr);
    }
    place.gosset(&["plan", job, "--detailed-exitcode"]).ended(0);
    place.gosset(&["status", job]).ended(0).printed("up to date");

    // A day that is restated is noticed.
    fs::remove_file(folder.join("sessions/ds=2026-03-04/part-0.parquet")).unwrap();
    place
        .gosset(&["plan", job, "--detailed-exitcode"])
        .ended(20)
        .printed("new_player 2026-03-15: compute, changed input 'sessions'");
}

#[test]
fn the_folder_is_a_choice_within_limits() {
    let place = Place::new();
    place.gosset(&["demo", "some where/deep"]).ended(0);
    assert!(place.path("some where/deep/results/effects/_delta_log").is_dir());
    place.gosset(&["demo", "a\"b"]).ended(78).told("cannot be named in a job file");
    place.write("file", "");
    let run = place.gosset(&["demo", "file"]);
    assert!(run.status != 0 && run.stderr.starts_with("error: file: "), "{run:?}");
}
