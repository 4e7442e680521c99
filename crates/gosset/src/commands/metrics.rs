//! `--metrics-file`: what a run did, for the textfile collector of Prometheus' node exporter.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use gosset_jobs::Outcome;
use jiff::Timestamp;

use super::job;
use crate::exit::{Exit, Failure};

/// The metric that is kept from the file of the run before where this one failed.
const LAST_SUCCESS: &str = "gosset_run_last_success_timestamp_seconds";

/// Writes the metrics of a run, in place of those of the run before: a reader sees one or the other.
pub(crate) fn write(
    path: &Path,
    job: &str,
    outcome: &Result<Outcome, Failure>,
    took: Duration,
) -> Result<(), Failure> {
    let before = fs::read_to_string(path).unwrap_or_default();
    let text = text(job, outcome, took, last_success(&before, job));
    // Collectors read what ends in .prom.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        let failure = Failure::from(error);
        Failure::new(failure.exit, format!("{}: {failure}", path.display()))
    })
}

/// The names of an experiment's results by what became of them.
const STATES: [&str; 4] = ["published", "blocked", "failed", "up_to_date"];

fn text(
    job: &str,
    outcome: &Result<Outcome, Failure>,
    took: Duration,
    last_success: Option<f64>,
) -> String {
    let exit = match outcome {
        Ok(outcome) => job::end(outcome),
        Err(failure) => failure.exit,
    };
    let success = exit == Exit::Done;
    let now = Timestamp::now().as_millisecond() as f64 / 1000.0;
    let last = if success { Some(now) } else { last_success };
    let mut text = Metrics::new(job);
    text.metric("gosset_run_success", "Whether the last run ended with 0.", f64::from(success));
    text.metric("gosset_run_exit_code", "How the last run ended.", f64::from(exit as u8));
    text.metric("gosset_run_duration_seconds", "How long it took.", took.as_secs_f64());
    text.metric("gosset_run_timestamp_seconds", "When it ended.", now);
    if let Some(last) = last {
        text.metric(LAST_SUCCESS, "When a run last ended with 0.", last);
    }
    let Ok(outcome) = outcome else { return text.text };
    let read = [
        ("gosset_run_read_parts", "Parts of sources that it read.", outcome.read as u64),
        ("gosset_run_read_bytes", "Bytes of their files.", outcome.read_bytes),
        ("gosset_run_read_rows", "Their rows.", outcome.read_rows),
    ];
    for (name, help, value) in read {
        text.metric(name, help, value as f64);
    }
    let mut counts: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let published = outcome.published.iter().map(|(place, _)| (0, place));
    let blocked = outcome.blocked.iter().map(|(place, _)| (1, place));
    let failed = outcome.failed.iter().map(|(place, _)| (2, place));
    let same = outcome.up_to_date.iter().map(|place| (3, place));
    for (state, place) in published.chain(blocked).chain(failed).chain(same) {
        counts.entry(&place.experiment).or_default()[state] += 1;
    }
    text.head("gosset_run_results", "Dates of experiments, by what became of them.");
    for (experiment, of) in &counts {
        for (state, n) in STATES.iter().zip(of) {
            text.line(
                "gosset_run_results",
                &[("experiment", experiment), ("state", state)],
                *n as f64,
            );
        }
    }
    let metrics = outcome.failed_metrics.len() as f64;
    text.metric("gosset_run_failed_metrics", "Metrics of results that were not measured.", metrics);
    let warnings = outcome.warnings.len() as f64;
    text.metric("gosset_run_warnings", "Audits that failed and do not block.", warnings);
    text.text
}

/// The text form of metrics of a job.
struct Metrics<'a> {
    job: &'a str,
    text: String,
}

impl<'a> Metrics<'a> {
    fn new(job: &'a str) -> Self {
        Self { job, text: String::new() }
    }

    fn head(&mut self, name: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels = [("job", self.job)].into_iter().chain(labels.iter().copied());
        let labels: Vec<String> =
            labels.map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.text, "{name}{{{}}} {value}", labels.join(","));
    }

    fn metric(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help);
        self.line(name, &[], value);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// When a run last succeeded, as an earlier file says.
fn last_success(text: &str, job: &str) -> Option<f64> {
    let name = format!("{LAST_SUCCESS}{{job=\"{}\"}} ", escaped(job));
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
}
