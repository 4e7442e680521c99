//! What is done with a job's tables between its runs: their history, going back, cleaning up, forgetting units; and what
//! a run tells of itself.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use arrow::array::Int64Array;
use gosset_tests::place::Place;
use serde_json::Value;

const USAGE: i32 = 2;
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

fn run(place: &Place, day: u32) {
    place.gosset(&["run", "job.toml", "--date", &format!("2026-03-0{day}")]).ended(0);
}

/// A night: its rows arrive, and the job runs.
fn night(place: &Place, of: u32) {
    day(place, of, 0);
    run(place, of);
}

fn nights(last: u32) -> Place {
    let place = place();
    (1..=last).for_each(|of| night(&place, of));
    place
}

/// The Parquet files that there are of a table, whatever its log says.
fn on_disk(place: &Place, table: &str) -> BTreeSet<String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("_delta_log") => {}
                true => below(&path, found),
                false if path.extension().is_some_and(|end| end == "parquet") => found.push(path),
                false => {}
            }
        }
    }
    let root = place.path("results").join(table);
    let mut found = Vec::new();
    below(&root, &mut found);
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    found.iter().map(name).collect()
}

fn active(place: &Place, table: &str) -> BTreeSet<String> {
    place.files(table).into_iter().collect()
}

const TABLES: [&str; 4] = ["unit_days_rows", "summaries", "audits", "effects"];

fn bits(place: &Place) -> Vec<Vec<String>> {
    let tables = TABLES.iter().filter(|table| **table != "summaries");
    tables.map(|table| place.table(table).bits()).collect()
}

// ------------------------------------------------------------------------------------------- going back

#[test]
fn history_tells_what_each_version_is_of() {
    let place = place();
    place
        .gosset(&["history", "job.toml"])
        .ended(MISSING)
        .told("the store has no table 'effects' yet");
    night(&place, 1);
    day(&place, 2, 0);
    day(&place, 3, 0);
    run(&place, 3);
    let told = place.gosset(&["history", "job.toml"]).ended(0).stdout;
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("published")).collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(
        lines[0].contains("first 2026-03-02 to 2026-03-03") && lines[0].contains(" 2 "),
        "{told}"
    );
    assert!(lines[1].contains("first 2026-03-01"), "{told}");
    assert!(told.contains("create table"), "{told}");
    let parts = place.gosset(&["history", "job.toml", "--table", "unit_days_rows"]).ended(0);
    assert!(parts.stdout.contains("2.csv to 3.csv") && parts.stdout.contains("1.csv"), "{parts:?}");
}

#[test]
fn restored_tables_are_what_they_were_and_runs_know_it() {
    let place = nights(2);
    // Another job in the same store.
    place.write("other.toml", &JOB.replace("\"nights\"", "\"other\""));
    place.gosset(&["run", "other.toml", "--date", "2026-03-01"]).ended(0);
    let of_other = |place: &Place| -> Vec<String> {
        let effects = place.effects();
        effects.of(&[("job", "other")]).iter().map(|row| row.bits()).collect()
    };
    let version = place.version("effects").unwrap();
    let (before, others) = (bits(&place), of_other(&place));

    // The first day is restated, and that was wrong.
    let raw = fs::read_to_string(place.path("rows/1.csv")).unwrap();
    day(&place, 1, 5);
    night(&place, 3);
    assert_ne!(bits(&place), before);
    let wrong = place.version("effects").unwrap();

    let told = place.gosset(&["restore", "job.toml", "--version", &version.to_string()]).ended(0);
    assert!(
        told.stderr
            .contains(&format!("effects: version {} is as version {version} was", wrong + 1)),
        "{told:?}"
    );
    assert_eq!(bits(&place), before);
    place
        .gosset(&["restore", "job.toml", "--version", &version.to_string()])
        .ended(0)
        .told("nothing to do");
    place.gosset(&["history", "job.toml"]).ended(0).printed(&format!("restored version {version}"));
    place.gosset(&["restore", "job.toml", "--version", "99"]).ended(MISSING).told("no version 99");
    place.gosset(&["restore", "job.toml"]).ended(USAGE);
    place.gosset(&["restore", "job.toml", "--to", "soon"]).ended(USAGE).told("found 'soon'");
    place.gosset(&["restore", "job.toml", "--to", "2020-01-01"]).ended(MISSING);

    // With the right rows, two nights are published, and the third is not.
    place.write("rows/1.csv", &raw);
    let plan = place.gosset(&["plan", "job.toml", "--date", "2026-03-03"]).ended(0).stdout;
    assert!(plan.contains("first 2026-03-03: compute, new"), "{plan}");
    let again = place.gosset(&["run", "job.toml", "--date", "2026-03-03"]).ended(0);
    assert!(again.stderr.contains("first 2026-03-01 to 2026-03-02: nothing to do"), "{again:?}");
    assert!(again.stderr.contains("first 2026-03-03: published"), "{again:?}");
    let of_ours = |place: &Place| -> Vec<String> {
        let effects = place.effects();
        effects.of(&[("job", "nights")]).iter().map(|row| row.bits()).collect()
    };
    assert_eq!(of_ours(&place), of_ours(&nights(3)));
    assert_eq!(of_other(&place), others);
    let verify = ["run", "job.toml", "--date", "2026-03-03", "--verify"];
    place.gosset(&verify).ended(0).told("the same bits");

    // What the restore replaced can be restored too.
    place.gosset(&["restore", "job.toml", "--version", &wrong.to_string()]).ended(0);
    let plan = place.gosset(&["plan", "job.toml", "--date", "2026-03-03"]).ended(0).stdout;
    assert!(plan.contains("rows 1.csv: read, changed files"), "{plan}");
}

#[test]
fn a_job_goes_back_to_a_time() {
    let place = nights(1);
    let before = bits(&place);
    sleep(Duration::from_millis(1100));
    let now = jiff::Timestamp::now();
    sleep(Duration::from_millis(1100));
    night(&place, 2);
    assert_ne!(bits(&place), before);
    // With an offset, and as a time of the job's zone.
    place.gosset(&["restore", "job.toml", "--to", &now.to_string()]).ended(0);
    assert_eq!(bits(&place), before);
    run(&place, 2);
    let civil = now.to_zoned(jiff::tz::TimeZone::UTC).datetime().to_string();
    place.gosset(&["restore", "job.toml", "--to", &civil]).ended(0);
    assert_eq!(bits(&place), before);
}

// ------------------------------------------------------------------------------------------- cleaning up

#[test]
fn a_vacuum_leaves_what_is_needed() {
    let place = nights(2);
    let version = place.version("effects").unwrap();
    day(&place, 1, 5);
    run(&place, 2);
    let (before, needed) = (bits(&place), TABLES.map(|table| active(&place, table)));
    // A run that was killed left a file.
    let orphan = |age_in_days: u64| {
        let name =
            format!("job=nights/experiment=first/analysis_date=2026-03-01/{age_in_days}.parquet");
        let path = place.path("results/effects").join(&name);
        let file = File::create(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(24 * age_in_days)).unwrap();
        name
    };
    let (young, old) = (orphan(2), orphan(8));
    let there = on_disk(&place, "effects");
    // And one on a cluster what its queries shared.
    let shared = place.path("results/_scratch/0/rows.parquet");
    fs::create_dir_all(shared.parent().unwrap()).unwrap();
    let file = File::create(&shared).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(24 * 8)).unwrap();

    let dry = place.gosset(&["vacuum", "job.toml", "--dry-run"]).ended(0);
    assert_eq!(dry.stdout, format!("effects/{old}\n_scratch/0/rows.parquet\n"));
    assert!(shared.exists());
    assert_eq!(on_disk(&place, "effects"), there);
    let vacuum = place.gosset(&["vacuum", "job.toml"]).ended(0).told("effects: 1 file deleted");
    vacuum.told("_scratch: 1 file deleted");
    assert!(!shared.exists());
    assert!(
        on_disk(&place, "effects").contains(&young) && !on_disk(&place, "effects").contains(&old)
    );
    place.gosset(&["vacuum", "job.toml", "--retain", "1"]).ended(0).told("effects: 1 file deleted");
    assert!(!on_disk(&place, "effects").contains(&young));
    assert_eq!(bits(&place), before);

    // A run may go on for a day.
    place.gosset(&["vacuum", "job.toml", "--retain", "0"]).ended(USAGE).told("--force");
    place.gosset(&["vacuum", "job.toml", "--retain", "0", "--force"]).ended(0);
    for (table, needed) in TABLES.iter().zip(needed) {
        assert_eq!(on_disk(&place, table), needed, "{table}");
    }
    assert_eq!(bits(&place), before);
    let gone = place.gosset(&["restore", "job.toml", "--version", &version.to_string()]);
    gone.ended(MISSING).told("were deleted by a vacuum");
    assert_eq!(bits(&place), before);
    let run = place.gosset(&["run", "job.toml", "--date", "2026-03-02"]).ended(0);
    assert!(run.stderr.contains("nothing to do"), "{run:?}");
}

/// The rows of a partition in many files, as another writer may leave them.
#[test]
fn small_files_are_merged_after_a_run() {
    let place = nights(1);
    let log = place.path("results/effects/_delta_log");
    let version = place.version("effects").unwrap();
    let entry = fs::read_to_string(log.join(format!("{version:020}.json"))).unwrap();
    let added: Value = entry
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|action| action["add"].is_object())
        .unwrap();
    let path = added["add"]["path"].as_str().unwrap();
    let mut copies = String::new();
    for copy in 0..10 {
        let mut action = added.clone();
        let name = path.replace(".parquet", &format!("-{copy}.parquet"));
        let root = place.path("results/effects");
        fs::copy(root.join(path), root.join(&name)).unwrap();
        action["add"]["path"] = name.into();
        writeln!(copies, "{action}").unwrap();
    }
    fs::write(log.join(format!("{:020}.json", version + 1)), copies).unwrap();
    let before = place.effects();
    let before: Vec<String> =
        before.of(&[("analysis_date", "2026-03-01")]).iter().map(|row| row.bits()).collect();
    assert_eq!(place.files("effects").len(), 11);

    night(&place, 2);
    let after = place.effects();
    let after: Vec<String> =
        after.of(&[("analysis_date", "2026-03-01")]).iter().map(|row| row.bits()).collect();
    assert_eq!(after, before);
    assert_eq!(place.files("effects").len(), 2);
    place.gosset(&["history", "job.toml"]).ended(0).printed("compacted");
    let again = place.gosset(&["run", "job.toml", "--date", "2026-03-02"]).ended(0);
    assert!(again.stderr.contains("first 2026-03-01 to 2026-03-02: nothing to do"), "{again:?}");
}

// ------------------------------------------------------------------------------------------- forgetting units

#[test]
fn erased_units_are_in_no_file_and_what_is_published_stays() {
    let place = nights(3);
    let (effects, audits) = (place.effects().bits(), place.audits().bits());
    let days = place.table("unit_days_rows");
    let of = |unit: i64| days.rows().iter().filter(|row| row.integer("unit") == Some(unit)).count();
    let expected = of(7) + of(12);
    let others: Vec<String> = days
        .rows()
        .iter()
        .filter(|row| ![Some(7), Some(12)].contains(&row.integer("unit")))
        .map(|row| row.bits())
        .collect();
    place.write("units.csv", "unit\n7\n12\n999\n");
    let told = place.gosset(&["erase", "job.toml", "--units", "units.csv"]).ended(0);
    assert!(
        told.stderr
            .contains(&format!("unit_days_rows: {expected} days of units erased, 3 files deleted")),
        "{told:?}"
    );
    assert_eq!(place.table("unit_days_rows").bits(), others);
    assert_eq!(on_disk(&place, "unit_days_rows"), active(&place, "unit_days_rows"));
    let history = place.gosset(&["history", "job.toml", "--table", "unit_days_rows"]).ended(0);
    history.printed("erased 3 units");
    let run_again = place.gosset(&["run", "job.toml", "--date", "2026-03-03"]).ended(0);
    assert!(
        run_again.stderr.contains("first 2026-03-01 to 2026-03-03: nothing to do"),
        "{run_again:?}"
    );
    assert_eq!((place.effects().bits(), place.audits().bits()), (effects, audits));
    let again = place.gosset(&["erase", "job.toml", "--units", "units.csv"]).ended(0);
    assert!(again.stderr.contains("unit_days_rows: 0 days of units erased, 0 files"), "{again:?}");

    // Without its rows in the source, a unit does not come back, and the results that its part changes say so.
    let raw = fs::read_to_string(place.path("rows/1.csv")).unwrap();
    let without: String = raw
        .lines()
        .filter(|line| !line.starts_with("12,"))
        .map(|line| format!("{line}\n"))
        .collect();
    place.write("rows/1.csv", &without);
    let plan = place.gosset(&["plan", "job.toml", "--date", "2026-03-03"]).ended(0);
    assert!(plan.stdout.contains("rows 1.csv: read, changed files"), "{plan:?}");
    run(&place, 3);
    let after = place.table("unit_days_rows");
    assert!(after.rows().iter().all(|row| row.integer("unit") != Some(12)));
}

#[test]
fn a_list_of_units_that_is_none_is_refused() {
    let place = nights(1);
    let before = bits(&place);
    for (text, told) in [
        ("7\n12\n", "expected one column with the header 'unit', found '7'"),
        ("unit,arm\n7,a\n", "found 'unit,arm'"),
        ("unit\n7\nseven\n", "the unit 'seven' is no Int64"),
        ("unit\n7\n\"\"\n", "a unit is missing"),
    ] {
        place.write("units.csv", text);
        place.gosset(&["erase", "job.toml", "--units", "units.csv"]).ended(DATA).told(told);
    }
    place.gosset(&["erase", "job.toml", "--units", "none.csv"]).ended(MISSING);
    assert_eq!(bits(&place), before);
    let units = Int64Array::from(vec![7, 12]);
    place.parquet("units.parquet", vec![("anything", Arc::new(units))]);
    place.gosset(&["erase", "job.toml", "--units", "units.parquet"]).ended(0);
    let after = place.table("unit_days_rows");
    assert!(after.rows().iter().all(|row| ![Some(7), Some(12)].contains(&row.integer("unit"))));
}

// ------------------------------------------------------------------------------------------- what a run tells

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
    let history = place.gosset(&["history", "job.toml"]).ended(0);
    history.printed(id);
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
