//! Coverage of the intervals of bootstraps, in experiments whose effect is known.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the command line")]

mod bands;
mod crossed;
mod lifts;
mod means;
mod quantiles;
mod units;

use gosset_stats::Effect;
use gosset_stats::summary::{Law, Resampling};

use crate::simulate::Coverage;
use crate::table::{head_of as head, precision};

const BOOTSTRAP: Resampling =
    Resampling { law: Law::Poisson, replicates: 599, seed: 0, crossed: false, buckets: None };

/// Units of each of two arms as large as the other.
const UNITS: [usize; 6] = [20, 200, 2000, 20_000, 200_000, 1_000_000];

/// Whether all of several intervals hold 0, as an effect of which this can be counted; `None` where one of them is missing.
fn all_hold(intervals: impl IntoIterator<Item = Option<(f64, f64)>>) -> Option<Effect> {
    let held = intervals.into_iter().map(|ends| ends.map(|(low, high)| low <= 0.0 && 0.0 <= high));
    let all = held.collect::<Option<Vec<bool>>>()?.into_iter().all(|held| held);
    let ci_lower = Some(if all { -1.0 } else { 1.0 });
    Some(Effect { ci_lower, ci_upper: Some(2.0), ..Effect::default() })
}

/// The columns of several ways by each of the intervals.
fn each(ways: &[&str], intervals: &[&str]) -> Vec<String> {
    ways.iter().flat_map(|way| intervals.iter().map(move |i| format!("{way} {i}"))).collect()
}

/// A row of coverages; `None` where no way has an interval in most of the experiments.
fn row(what: &str, coverage: &[Coverage], experiments: usize) -> Option<String> {
    let cells: Vec<String> = coverage.iter().map(|c| c.marked(experiments)).collect();
    let some = cells.iter().any(|cell| cell != "–");
    some.then(|| format!("| {what} | {} |", cells.join(" | ")))
}

/// Prints a row, if there is one.
fn print(what: &str, coverage: &[Coverage], experiments: usize) {
    if let Some(row) = row(what, coverage, experiments) {
        println!("{row}");
        eprintln!("{row}");
    }
}

/// Prints the tables, or one of them.
pub(crate) fn tables(experiments: usize, largest: usize, table: usize) {
    let wanted = |number| table == 0 || table == number;
    println!(
        "Coverage of 95 % intervals in %, of {}. \"–\": in most experiments there was no interval, and a note said why.",
        precision(experiments)
    );
    if wanted(1) {
        means::tables(experiments, largest);
    }
    if wanted(2) {
        lifts::table(experiments, largest);
    }
    if wanted(3) {
        quantiles::table(experiments, largest);
    }
    if wanted(4) {
        bands::table(experiments, largest);
    }
    if wanted(5) {
        crossed::table(experiments, largest);
    }
}
