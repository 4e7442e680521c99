//! Jobs that a cluster computes: published by the runner, with the bits that they have from here.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use gosset_tests::cluster::Processes;
use gosset_tests::place::{Place, Run};
use gosset_tests::programme::{FIRST, Programme};
use gosset_tests::table::Table;
use jiff::ToSpan;

const TABLES: [&str; 3] = ["effects", "audits", "summaries"];

/// The bits of each table that a job published, row by row.
fn bits(results: &Path) -> Vec<Vec<String>> {
    let tables = TABLES.iter().map(|name| results.join(name)).filter(|path| path.is_dir());
    tables.map(|path| Table::read(&path).bits()).collect()
}

/// What jobs publish here, and what after it was deleted a cluster has published; tells what was logged there.
fn both(place: &Place, cluster: &Processes, results: &str, jobs: &[&[&str]]) -> String {
    let results = place.path(results);
    jobs.iter().for_each(|job| {
        place.gosset(job).ended(0);
    });
    let here = bits(&results);
    fs::remove_dir_all(&results).unwrap();
    let url = cluster.url();
    let mut logged = String::new();
    for job in jobs {
        let mut there = place.program(&[*job, &["--cluster", &url]].concat());
        let run = there.env("GOSSET_LOG", "gosset_engine=info,gosset_jobs=info").output().unwrap();
        logged += &Run::from(run).ended(0).stderr;
    }
    assert!(!here.is_empty() && here == bits(&results));
    assert!(!results.join("_scratch").exists(), "what was shared is left");
    logged
}

#[test]
fn rows_of_units() {
    let (place, cluster) = (Place::new(), Processes::start(2, 1));
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs");
    for file in ["hillstrom.toml", "hillstrom.csv"] {
        fs::copy(jobs.join(file), place.path(file)).unwrap();
    }
    both(&place, &cluster, "results", &[&["run", "hillstrom.toml"]]);
}

#[test]
fn rows_that_are_joined() {
    let (place, cluster) = (Place::new(), Processes::start(2, 1));
    place.gosset(&["demo"]).ended(0);
    fs::remove_dir_all(place.path("gosset-demo/results")).unwrap();
    both(&place, &cluster, "gosset-demo/results", &[&["run", "gosset-demo/demo.toml"]]);
}

/// Unit-days, their totals, late rows, and experiments that need two passes; what experiments share is read once, also
/// where totals go on from those of the night before.
#[test]
fn nights_of_a_programme() {
    let (place, cluster) = (Place::new(), Processes::start(2, 1));
    let programme = Programme::new(&place);
    let last = FIRST + 3.days();
    Programme::days()
        .take_while(|night| *night <= last)
        .for_each(|night| programme.write_night(night));
    let (before, last) = ((FIRST + 2.days()).to_string(), last.to_string());
    let history = ["backfill", "job.toml", "--to", &before];
    let night = ["run", "job.toml", "--date", &last];
    let logged = both(&place, &cluster, "results", &[&history, &night]);
    // The sessions, by both runs; of the orders of a day there are fewer than units that may have some.
    assert_eq!(logged.matches("unit-days are read once").count(), 2, "{logged}");
    let url = cluster.url();
    let verify = ["run", "job.toml", "--date", &last, "--verify", "--cluster", &url];
    place.gosset(&verify).ended(0);
}

/// More waves than one: their units are made once, by the executors, in the store.
#[test]
fn waves_over_units_that_are_kept() {
    let (place, cluster) = (Place::new(), Processes::start(2, 1));
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs");
    for file in ["hillstrom.toml", "hillstrom.csv"] {
        fs::copy(jobs.join(file), place.path(file)).unwrap();
    }
    let limited = ["run", "hillstrom.toml", "--memory-limit", "64MB"];
    let logged = both(&place, &cluster, "results", &[&limited]);
    assert!(logged.contains("kept"), "{logged}");
}
