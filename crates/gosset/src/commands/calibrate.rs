//! `gosset calibrate`.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use gosset_jobs::{Calibrated, Calibration, Event};

use super::job;
use crate::App;
use crate::cli::CalibrateArgs;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::Step;

/// Calibrates the experiments of a job and prints a table of each.
pub(crate) async fn execute(app: &App, args: &CalibrateArgs) -> Result<Exit, Failure> {
    let runner = job::open(app, &args.job).await?;
    if let Some(name) = &args.experiment {
        runner.check_experiment(name)?;
    }
    let until = job::until(&runner, args.date)?;
    let wanted = |name: &str| args.experiment.as_ref().is_none_or(|only| only == name);
    let experiments = runner.job().experiments.iter().filter(|e| wanted(&e.name));
    for experiment in experiments {
        if let Some(start) = experiment.start.filter(|start| *start > until) {
            app.say(&format!("{}: it does not begin before {start}", experiment.name));
            continue;
        }
        let of = Calibration {
            experiment: experiment.name.clone(),
            date: experiment.end.map_or(until, |end| end.min(until)),
            replicates: args.replicates,
            seed: args.seed,
        };
        let bar: Mutex<Option<Step>> = Mutex::default();
        let tell = |event| {
            if let Event::Drawing { draw, of } = event {
                let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
                if draw == 1 {
                    *bar = Some(app.progress.steps("drawing arms", of.into()));
                } else if let Some(bar) = &*bar {
                    bar.advance();
                }
            }
        };
        let found = runner.calibrate(&of, &tell).await.map_err(|e| job::failed(&e, &args.job))?;
        drop(bar);
        let mut out = io::stdout();
        writeln!(out, "{} {}, {} draws", experiment.name, of.date, of.replicates)?;
        out.write_all(table(&found).as_bytes())?;
    }
    Ok(Exit::Done)
}

fn table(found: &[Calibrated]) -> String {
    let header = [
        "metric",
        "estimator",
        "draws",
        "false positives",
        "coverage",
        "p-values from uniform",
        "standard error / spread",
        "found",
    ];
    let rows: Vec<[String; 8]> = found
        .iter()
        .map(|of| {
            let findings = of.findings();
            let with_band = |value: f64, level: f64, band: f64| {
                format!(
                    "{value:.3} ({:.3} to {:.3})",
                    (level - band).max(0.0),
                    (level + band).min(1.0)
                )
            };
            [
                of.metric.clone(),
                of.estimator.clone(),
                of.draws.to_string(),
                with_band(of.false_positives, 1.0 - of.confidence, of.band()),
                with_band(of.coverage, of.confidence, of.band()),
                format!("{:.3} (at most {:.3})", of.distance, of.distance_band()),
                format!("{:.3}", of.std_error_ratio),
                if findings.is_empty() { "as it should be".into() } else { findings.join(", ") },
            ]
        })
        .collect();
    output::grid(&header, &rows)
}
