//! `gosset demo`

use std::io;

use gosset_jobs::{Asked, demo};
use jiff::civil::date;

use super::job;
use crate::cli::{DemoArgs, ResultFormat};
use crate::exit::{Exit, Failure};
use crate::{App, output};

/// Writes a lake with known effects, runs its job, and prints each estimate beside the truth.
pub(crate) async fn execute(app: &App, args: &DemoArgs) -> Result<Exit, Failure> {
    let step = app.progress.step("writing a lake");
    let lake = demo::write(&args.directory)?;
    drop(step);
    let folder = lake.folder.display();
    app.say(&format!(
        "wrote {folder}: three experiments on 12,000 accounts, 14 days of sessions\n"
    ));
    app.say(&format!("$ gosset run {}", lake.job.display()));
    let runner = job::open(app, &lake.job).await?;
    let outcome = job::observed(app, &runner, &Asked::until(date(2026, 3, 15))).await?;
    job::report(app, &outcome, &runner, &lake.job);

    let query = format!(
        "SELECT e.experiment, e.metric, e.estimator, round(t.truth, 4) AS truth, round(e.estimate, 4) AS estimate,
       round(e.ci_lower, 4) AS ci_lower, round(e.ci_upper, 4) AS ci_upper,
       t.truth BETWEEN e.ci_lower AND e.ci_upper AS covered, round(e.variance_reduction, 2) AS variance_reduction
FROM {effects} e
JOIN {truth} t ON e.experiment = t.experiment AND e.metric = t.metric
WHERE e.segment IS NULL AND e.estimate IS NOT NULL
ORDER BY e.experiment DESC, e.metric, e.estimator",
        effects = quoted(&format!("{folder}/results/effects")),
        truth = quoted(&lake.truth.display().to_string()),
    );
    app.say(&format!("\n$ gosset sql -c \"{query}\""));
    let rows = runner
        .engine()
        .sql(&query)
        .await?
        .execute_stream()
        .await
        .map_err(gosset_engine::EngineError::from)?;
    output::write(rows, ResultFormat::Table, io::stdout(), || ()).await?;
    app.say(
        "\nThe intervals of lost_units miss the truth; its failed sample-ratio audit says so before anybody believes them.",
    );
    let job_file = lake.job.display();
    app.say(&format!(
        "Next: gosset status {job_file} · gosset plan {job_file} --sql · the tables are in {folder}/results"
    ));
    Ok(job::end(&outcome))
}

/// A location as a string literal.
fn quoted(location: &str) -> String {
    format!("'{}'", location.replace('\'', "''"))
}
