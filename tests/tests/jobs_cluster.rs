//! Jobs that a cluster computes: published by the runner, with the bits that they have from here.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use gosset_tests::cluster::Processes;
use gosset_tests::place::Place;
use gosset_tests::programme::{FIRST, Programme};
use gosset_tests::table::Table;
use jiff::ToSpan;

const TABLES: [&str; 3] = ["effects", "audits", "summaries"];

/// The bits of each table that a job published, row by row.
fn bits(results: &Path) -> Vec<Vec<String>> {
    let tables = TABLES.iter().map(|name| results.join(name)).filter(|path| path.is_dir());
    tables.map(|path| Table::read(&path).bits()).collect()
}

/// What is published here, and what after it was deleted a cluster has published.
fn both(place: &Place, cluster: &Processes, results: &str, job: &[&str]) {
    let results = place.path(results);
    place.gosset(job).ended(0);
    let here = bits(&results);
    fs::remove_dir_all(&results).unwrap();
    let url = cluster.url();
    let there = [job, &["--cluster", &url]].concat();
    place.gosset(&there).ended(0);
    assert!(!here.is_empty() && here == bits(&results));
}

#[test]
fn rows_of_units() {
    let (place, cluster) = (Place::new(), Processes::start(2, 1));
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs");
    for file in ["hillstrom.toml", "hillstrom.csv"] {
        fs::copy(jobs.join(file), place.path(file)).unwrap();
    }
    both(&place, &cluster, "results", &["run", "hillstrom.toml"]);
}

#[test]
fn rows_that_are_joined() {
    let (place, cluster) = (Place::new(), Processes::start(2, 1));
    place.gosset(&["demo"]).ended(0);
    fs::remove_dir_all(place.path("gosset-demo/results")).unwrap();
    both(&place, &cluster, "gosset-demo/results", &["run", "gosset-demo/demo.toml"]);
}

/// Unit-days, their totals, late rows, and experiments that need two passes.
#[test]
fn nights_of_a_programme() {
    let (place, cluster) = (Place::new(), Processes::start(2, 1));
    let programme = Programme::new(&place);
    let last = FIRST + 3.days();
    Programme::days()
        .take_while(|night| *night <= last)
        .for_each(|night| programme.write_night(night));
    let last = last.to_string();
    both(&place, &cluster, "results", &["backfill", "job.toml", "--to", &last]);
}
