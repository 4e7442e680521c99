//! What a run tells of itself, and its time-outs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use gosset_tests::place::Place;
use serde_json::Value;

const DATA: i32 = 65;
const MISSING: i32 = 66;
const CONFIG: i32 = 78;
const TIMED_OUT: i32 = 124;

const JOB: &str = r#"[job]
name  = "nights"
store = "results"

[sources.rows]
url  = "rows/"
unit = "unit"
time = "at"

[assignments]
url        = "assigned.csv"
experiment = "test"
unit       = "unit"
arm        = "arm"
time       = "at"

[metrics.y]
source = "rows"
value  = "sum(y)"

[experiments.first]
start   = 2026-03-01
end     = 2026-03-05
control = "a"
metrics = ["y"]
periods = ["day", "cumulative"]
"#;

const UNITS: u32 = 60;

/// The rows of a day: half of the units are there.
fn day(place: &Place, day: u32, restated: u32) {
    let mut rows = String::from("unit,at,y\n");
    for unit in (0..UNITS).filter(|unit| (unit + day).is_multiple_of(2) || unit.is_multiple_of(3)) {
        writeln!(rows, "{unit},2026-03-0{day}T10:00:00,{}", unit * day % 17 + restated).unwrap();
    }
    place.write(&format!("rows/{day}.csv"), &rows);
}

fn place() -> Place {
    let place = Place::new();
    let mut assigned = String::from("test,unit,arm,at\n");
    for unit in 0..UNITS {
        let arm = ["a", "b"][unit as usize % 2];
        writeln!(assigned, "first,{unit},{arm},2026-03-01T00:00:00").unwrap();
    }
    place.write("assigned.csv", &assigned);
    place.write("job.toml", JOB);
    place
}

fn metric(place: &Place, name: &str) -> f64 {
    let text = fs::read_to_string(place.path("gosset.prom")).unwrap();
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("expected {name}, found {text}"))
}

#[test]
fn a_run_writes_its_metrics() {
    let place = place();
    (1..=2).for_each(|of| day(&place, of, 0));
    let run = |date: &str| {
        place.gosset(&["run", "job.toml", "--date", date, "--metrics-file", "gosset.prom"])
    };
    run("2026-03-02").ended(0);
    let rows: usize = (1..=2)
        .map(|of| {
            fs::read_to_string(place.path(&format!("rows/{of}.csv"))).unwrap().lines().count() - 1
        })
        .sum();
    let job = |name: &str| metric(&place, &format!("{name}{{job=\"nights\"}}"));
    let state = |state: &str| {
        let labels = format!("{{job=\"nights\",experiment=\"first\",state=\"{state}\"}}");
        metric(&place, &format!("gosset_run_results{labels}"))
    };
    assert_eq!((job("gosset_run_success"), job("gosset_run_exit_code")), (1.0, 0.0));
    assert_eq!((job("gosset_run_read_parts"), job("gosset_run_read_rows")), (2.0, rows as f64));
    assert!(job("gosset_run_read_bytes") > 100.0 && job("gosset_run_duration_seconds") > 0.0);
    assert_eq!((state("published"), state("up_to_date"), state("failed")), (2.0, 0.0, 0.0));
    let last = job("gosset_run_last_success_timestamp_seconds");
    assert!(last > 1.7e9);
    run("2026-03-02").ended(0);
    assert_eq!((state("published"), state("up_to_date")), (0.0, 2.0));
    let last = job("gosset_run_last_success_timestamp_seconds");

    // Half of an arm got lost.
    let good = fs::read_to_string(place.path("assigned.csv")).unwrap();
    let lossy: String = good
        .lines()
        .filter(|line| !line.contains(",a,") || line.starts_with("first,2"))
        .map(|line| format!("{line}\n"))
        .collect();
    place.write("assigned.csv", &lossy);
    run("2026-03-02").ended(DATA);
    assert_eq!((job("gosset_run_success"), job("gosset_run_exit_code")), (0.0, 65.0));
    assert_eq!((state("blocked"), state("published")), (2.0, 0.0));
    assert_eq!(job("gosset_run_last_success_timestamp_seconds").to_bits(), last.to_bits());

    place.write("assigned.csv", &good);
    let backfill = ["backfill", "job.toml", "--to", "2026-03-02", "--metrics-file", "gosset.prom"];
    place.gosset(&backfill).ended(0);
    assert_eq!(job("gosset_run_success").to_bits(), 1_f64.to_bits());
    let beside = fs::read_dir(place.path("")).unwrap();
    let beside =
        beside.filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().contains(".prom"));
    assert_eq!(beside.count(), 1);
    let nowhere = ["run", "job.toml", "--date", "2026-03-02", "--metrics-file", "no/where.prom"];
    place.gosset(&nowhere).ended(MISSING).told("no/where.prom");
}

#[test]
fn log_lines_say_of_what_they_are() {
    let place = place();
    day(&place, 1, 0);
    let run = ["run", "job.toml", "--date", "2026-03-01", "--log-format", "json"];
    let told = place.gosset(&run).ended(0).stderr;
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let computed = lines.iter().find(|line| line["message"] == "computed").unwrap();
    assert_eq!(computed["span"]["experiment"], "first");
    assert_eq!(computed["span"]["date"], "2026-03-01");
    assert!(computed["seconds"].as_f64().unwrap() > 0.0);
    let id = computed["span"]["run_id"].as_str().unwrap();
    assert!(lines.len() > 4 && lines.iter().all(|line| line["span"]["run_id"] == id), "{told}");
    place.gosset(&["status", "job.toml"]).ended(0).printed(id);
}

#[test]
fn a_time_out_ends_a_run_or_an_experiment() {
    // The e-mail job with so many replicates that it runs for minutes.
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("jobs");
    let job = fs::read_to_string(jobs.join("hillstrom.toml")).unwrap();
    let many = "[estimators.bootstrap]\nreplicates = 100000\n[metrics.spend]";
    let job = job.replace("[metrics.spend]", many);
    let place = Place::new();
    fs::copy(jobs.join("hillstrom.csv"), place.path("hillstrom.csv")).unwrap();

    place.write("job.toml", &job.replace("[job]", "[job]\ntimeout = \"2s\""));
    let run = ["run", "job.toml", "--metrics-file", "gosset.prom"];
    place.gosset(&run).ended(TIMED_OUT).told("longer than the time-out of 2s");
    assert!(place.effects().rows().is_empty() && place.audits().rows().is_empty());
    let name = job.lines().find_map(|line| line.strip_prefix("name")).unwrap();
    let name = name.trim_matches([' ', '=', '"']);
    let exit = metric(&place, &format!("gosset_run_exit_code{{job=\"{name}\"}}"));
    assert_eq!(exit.to_bits(), 124_f64.to_bits());

    // The other experiment is published.
    let quick = "[experiments.quick]\ncontrol = \"No E-Mail\"\nmetrics = [\"visit\"]\n\
        [experiments.email]\ntimeout = \"2s\"";
    place.write("job.toml", &job.replace("[experiments.email]", quick));
    let told = place.gosset(&["run", "job.toml"]).ended(TIMED_OUT);
    assert!(told.stderr.contains("quick: published"), "{told:?}");
    assert!(
        told.stderr.contains("error: email: its dates took longer than the time-out of 2s"),
        "{told:?}"
    );
    assert!(place.effects().rows().iter().all(|row| row.text("experiment") == Some("quick")));

    for wrong in ["soon", "0s", "-2h", ""] {
        place.write("job.toml", &job.replace("[job]", &format!("[job]\ntimeout = \"{wrong}\"")));
        place
            .gosset(&["run", "job.toml"])
            .ended(CONFIG)
            .told("'timeout' must be a time such as \"2h\"");
    }
}
