//! `gosset validate`, `plan`, `run`, `status` and `schema`.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use gosset_engine::{EngineError, EngineOptions};
use gosset_jobs::file::JobFile;
use gosset_jobs::{
    Asked, DuePart, EFFECTS, Event, Job, JobError, Outcome, Place, Runner, State, Work,
};
use jiff::Timestamp;
use jiff::civil::Date;

use super::metrics;
use crate::App;
use crate::cli::{BackfillArgs, JobArgs, PlanArgs, RunArgs};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::Step;
use crate::signals::{self, TimedOut};

/// A job ready to run, with the limits of its file, or of the command line where it says some.
pub(crate) async fn open(app: &App, path: &Path) -> Result<Runner, Failure> {
    let job = Job::read(path)?;
    tracing::Span::current().record("job", &job.name);
    let options = app.placed(options(app, &job), &job.name, job.cluster.as_deref())?;
    let runner = Runner::new(job, options)?;
    #[cfg(feature = "cluster")]
    runner.engine().connect().await?;
    Ok(runner)
}

fn options(app: &App, job: &Job) -> EngineOptions {
    let mut options = EngineOptions::new();
    if let Some(bytes) = job.memory_limit {
        options = options.with_memory_limit(bytes);
    }
    app.engine_options(options)
}

/// Relative paths are relative to the working directory: who runs a job file from elsewhere is told so.
fn told(error: &JobError, job: &Path) -> String {
    let folder = job.parent().filter(|folder| !folder.as_os_str().is_empty());
    match (error, folder) {
        (JobError::Engine(EngineError::MissingInput(_)), Some(folder)) => format!(
            "{error} (relative paths are relative to the working directory, not to {})",
            folder.display()
        ),
        _ => error.to_string(),
    }
}

/// The failure that an error of a job file's queries is.
pub(crate) fn failed(error: &JobError, job: &Path) -> Failure {
    Failure::new(Exit::from(error), told(error, job))
}

pub(crate) fn until(runner: &Runner, asked: Option<Date>) -> Result<Date, Failure> {
    if let Some(date) = asked {
        return Ok(date);
    }
    let today = Timestamp::now().to_zoned(runner.job().timezone.clone()).date();
    today.yesterday().map_err(|error| Failure::new(Exit::Bug, error.to_string()))
}

/// Checks a job file, its SQL, and the columns of its sources.
pub(crate) async fn validate(app: &App, args: &JobArgs) -> Result<Exit, Failure> {
    let runner = open(app, &args.job).await?;
    let step = app.progress.step("checking");
    runner.validate().await.map_err(|error| failed(&error, &args.job))?;
    drop(step);
    app.say(&format!("{}: the job is valid", args.job.display()));
    Ok(Exit::Done)
}

/// Shows what a run would compute, and why.
pub(crate) async fn plan(app: &App, args: &PlanArgs) -> Result<Exit, Failure> {
    let runner = open(app, &args.job).await?;
    let step = app.progress.step("planning");
    let plan = runner.plan_in_detail(&Asked::until(until(&runner, args.date)?)).await?;
    let mut out = Vec::new();
    let mut unplanned = None;
    for part in DuePart::together(&plan.parts) {
        writeln!(out, "{part}")?;
    }
    for days in plan.work.chunk_by(|a, b| b.goes_on(a)) {
        // The states of the last day are the largest.
        let (Some(first), Some(work)) = (days.first(), days.last()) else { continue };
        match (first.analysis_date, work.analysis_date) {
            (Some(from), Some(to)) if from != to => {
                writeln!(out, "{} {from} to {to}: {}", work.experiment, work.told())?;
            }
            _ => writeln!(out, "{work}")?,
        }
        if work.is_due() {
            match runner.waves(&work.experiment, work.analysis_date).await {
                Ok(waves) => writeln!(out, "  {waves}")?,
                Err(error) => {
                    writeln!(out, "  failed: {error}")?;
                    unplanned = unplanned.or(Some(error));
                }
            }
        }
        if args.sql && work.is_due() {
            let sql = runner.sql(&work.experiment).await.map_err(|e| failed(&e, &args.job))?;
            writeln!(out, "\n{sql};\n")?;
        }
    }
    drop(step);
    io::stdout().write_all(&out)?;
    if let Some(error) = plan.work.iter().find_map(failure).or(unplanned.as_ref()) {
        return Err(failed(error, &args.job));
    }
    let due = plan.due().next().is_some() || !plan.parts.is_empty();
    let work = args.detailed_exitcode && due;
    Ok(if work { Exit::WorkFound } else { Exit::Done })
}

fn failure(work: &Work) -> Option<&JobError> {
    match &work.state {
        State::Failed(error) => Some(error),
        _ => None,
    }
}

/// Computes what is missing and publishes it.
pub(crate) async fn run(app: &App, args: &RunArgs) -> Result<Exit, Failure> {
    let runner = open(app, &args.job).await?;
    let asked = Asked::until(until(&runner, args.date)?);
    if args.verify {
        return verify(app, &runner, &asked, &args.job).await;
    }
    published(app, &runner, &asked, &args.job, args.metrics_file.as_deref()).await
}

/// Computes what is missing of past days.
pub(crate) async fn backfill(app: &App, args: &BackfillArgs) -> Result<Exit, Failure> {
    let runner = open(app, &args.job).await?;
    let asked = Asked {
        until: until(&runner, args.to)?,
        from: args.from,
        experiment: args.experiment.clone(),
        backfill: true,
        jobs: args.jobs.map(usize::from),
        ..Asked::default()
    };
    if let Some(from) = asked.from.filter(|from| *from > asked.until) {
        let message = format!("the first day, {from}, is after the last, {}", asked.until);
        return Err(Failure::new(Exit::Usage, message));
    }
    if let Some(name) = &asked.experiment {
        runner.check_experiment(name)?;
    }
    published(app, &runner, &asked, &args.job, args.metrics_file.as_deref()).await
}

/// Computes what is missing, publishes it, and tells what was done.
async fn published(
    app: &App,
    runner: &Runner,
    asked: &Asked,
    job: &Path,
    metrics: Option<&Path>,
) -> Result<Exit, Failure> {
    let began = Instant::now();
    let outcome = observed(app, runner, asked).await;
    if let Some(file) = metrics {
        metrics::write(file, &runner.job().name, &outcome, began.elapsed())?;
    }
    let outcome = outcome?;
    report(app, &outcome, runner, job);
    Ok(end(&outcome))
}

/// Runs a job while telling what it does.
pub(crate) async fn observed(
    app: &App,
    runner: &Runner,
    asked: &Asked,
) -> Result<Outcome, Failure> {
    let steps = Steps::new(app);
    let tell = |event| steps.show(event);
    let Some(timeout) = runner.job().timeout else { return Ok(runner.run(asked, &tell).await?) };
    match signals::within(timeout.unsigned_abs(), runner.run(asked, &tell)).await {
        Ok(done) => Ok(done?),
        Err(TimedOut) => {
            let text = format!(
                "the run took longer than the time-out of {timeout:#}: what it published so far is whole"
            );
            Err(Failure::new(Exit::TimedOut, text))
        }
    }
}

/// Compares what is published with what raw rows give.
async fn verify(app: &App, runner: &Runner, asked: &Asked, job: &Path) -> Result<Exit, Failure> {
    let steps = Steps::new(app);
    let job_of = runner.job();
    let options = app.placed(options(app, job_of), &job_of.name, job_of.cluster.as_deref())?;
    let verified = runner.verify(asked, options, &|event| steps.show(event)).await?;
    drop(steps);
    for (places, ()) in spans(verified.same.iter().map(|place| (place, ()))) {
        app.say(&format!("{places}: the same bits as from all raw rows"));
    }
    for (places, n) in spans(verified.differ.iter().map(|(place, n)| (place, *n))) {
        app.error(&format!("{places}: {n} effects differ from those of all raw rows"));
    }
    for (place, error) in &verified.failed {
        app.error(&format!("{place}: {}", told(error, job)));
    }
    Ok(match verified.failed.first() {
        Some((_, error)) => Exit::from(error),
        None if verified.differ.is_empty() => Exit::Done,
        None => Exit::BadData,
    })
}

/// What a run does at the moment, on a terminal: the dates that are done, and how long the others will take.
struct Steps<'a> {
    app: &'a App,
    all: Mutex<Option<Step>>,
    now: Mutex<Option<Step>>,
}

impl<'a> Steps<'a> {
    fn new(app: &'a App) -> Self {
        Self { app, all: Mutex::default(), now: Mutex::default() }
    }

    fn show(&self, event: Event) {
        match &event {
            Event::Planned { due, .. } if *due > 1 => {
                let all = self.app.progress.steps("computing dates", *due as u64);
                *self.all.lock().unwrap_or_else(PoisonError::into_inner) = Some(all);
            }
            Event::Computed { .. } => {
                if let Some(all) = &*self.all.lock().unwrap_or_else(PoisonError::into_inner) {
                    all.advance();
                }
            }
            _ => {}
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        // The old step ends before the new one is drawn.
        *now = None;
        *now = self.step(event);
    }

    fn step(&self, event: Event) -> Option<Step> {
        let app = self.app;
        match event {
            Event::Reading { parts } => {
                Some(app.progress.step(format!("reading {parts} parts of sources")))
            }
            Event::Computing { place, wave, waves } => {
                let mut text = format!("computing {place}");
                if waves > 1 {
                    text += &format!(", wave {wave} of {waves}");
                }
                Some(app.progress.step(text))
            }
            Event::Publishing { table } => Some(app.progress.step(format!("publishing {table}"))),
            Event::Planned { .. } | Event::Computed { .. } | Event::Drawing { .. } => None,
        }
    }
}

/// Says what a run did.
pub(crate) fn report(app: &App, outcome: &Outcome, runner: &Runner, job: &Path) {
    tracing::Span::current().record("run_id", &outcome.run_id);
    if outcome.read > 0 {
        let parts = if outcome.read == 1 { "part" } else { "parts" };
        app.say(&format!("read {} {parts} of sources", outcome.read));
    }
    for (places, ()) in spans(outcome.up_to_date.iter().map(|place| (place, ()))) {
        app.say(&format!("{places}: nothing to do, its results are published"));
    }
    for (name, end) in &outcome.not_due {
        app.say(&format!("{name}: not due before the end of {end}"));
    }
    let warnings = outcome.warnings.iter().map(|(place, warning)| (place, warning.as_str()));
    for (places, warning) in spans(warnings) {
        app.warn(&format!("{places}: failed audit: {warning}"));
    }
    for days in runs_of(outcome.published.iter().map(|(place, _)| (place, ()))) {
        let of_days = outcome.published.iter().filter(|(place, _)| days.contains(place));
        let rows: usize = of_days.map(|(_, rows)| rows).sum();
        app.say(&format!("{days}: published {rows} effects"));
    }
    let blocked = outcome.blocked.iter().map(|(place, audits)| (place, audits.join("; ")));
    for (places, audits) in spans(blocked) {
        app.error(&format!("{places}: no effects are published, failed audit: {audits}"));
    }
    let metrics = outcome.failed_metrics.iter();
    let metrics = metrics.map(|(place, metric, error)| (place, (metric, error.to_string())));
    for (places, (metric, error)) in spans(metrics) {
        app.error(&format!("{places}: metric '{metric}' is not measured: {error}"));
    }
    for (place, error) in &outcome.failed {
        app.error(&format!("{place}: {}", told(error, job)));
    }
    if let Some(version) = outcome.version {
        let store = gosset_engine::shown(runner.store().url());
        app.say(&format!("version {version} of {}/{EFFECTS}", store.trim_end_matches('/')));
    }
}

/// Days in a row of an experiment of which the same is said.
pub(super) struct Span<'a, T> {
    first: &'a Place,
    last: &'a Place,
    told: T,
}

impl<T> Span<'_, T> {
    fn contains(&self, place: &Place) -> bool {
        (self.first..=self.last).contains(&place)
    }
}

impl<T> fmt::Display for Span<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last.date.filter(|_| self.first != self.last) {
            Some(date) => write!(f, "{} to {date}", self.first),
            None => write!(f, "{}", self.first),
        }
    }
}

/// The same said of days in a row, once: `precache 2026-03-02 to 2026-03-05`.
pub(super) fn runs_of<'a, T: PartialEq>(
    all: impl IntoIterator<Item = (&'a Place, T)>,
) -> Vec<Span<'a, T>> {
    let mut spans: Vec<Span<'a, T>> = Vec::new();
    for (place, told) in all {
        let follows = |last: &Place| {
            let next = last.date.and_then(|date| date.tomorrow().ok());
            last.experiment == place.experiment && next.is_some() && next == place.date
        };
        match spans.last_mut().filter(|span| follows(span.last) && span.told == told) {
            Some(span) => span.last = place,
            None => spans.push(Span { first: place, last: place, told }),
        }
    }
    spans
}

fn spans<'a, T: PartialEq>(all: impl IntoIterator<Item = (&'a Place, T)>) -> Vec<(String, T)> {
    runs_of(all).into_iter().map(|span| (span.to_string(), span.told)).collect()
}

/// The status of a run: that of the first experiment that failed.
pub(crate) fn end(outcome: &Outcome) -> Exit {
    let failed = outcome.failed.first().map(|(_, error)| error);
    match failed.or(outcome.failed_metrics.first().map(|(.., error)| error)) {
        Some(error) => Exit::from(error),
        None if outcome.blocked.is_empty() => Exit::Done,
        None => Exit::BadData,
    }
}

/// Shows what is published, and what a run would do now.
pub(crate) async fn status(app: &App, args: &JobArgs) -> Result<Exit, Failure> {
    let runner = open(app, &args.job).await?;
    let step = app.progress.step("reading");
    let results = runner.status().await?;
    let plan = runner.plan(&Asked::until(until(&runner, None)?)).await?;
    drop(step);
    let header = ["experiment", "date", "published", "version", "rows", "run", "now"];
    let mut rows = Vec::new();
    for found in &results {
        let now = plan.work.iter().find(|work| {
            work.experiment == found.results.experiment
                && work.analysis_date.map(|date| date.to_string()) == found.results.analysis_date
        });
        rows.push([
            found.results.experiment.clone(),
            found.results.analysis_date.clone().unwrap_or_default(),
            when(&runner, found.timestamp),
            found.version.to_string(),
            found.results.rows.to_string(),
            found.run_id.clone().unwrap_or_default(),
            now.map_or_else(|| "not in the job file".into(), in_words),
        ]);
    }
    for work in &plan.work {
        let date = work.analysis_date.map(|date| date.to_string());
        let known = results
            .iter()
            .any(|r| r.results.experiment == work.experiment && r.results.analysis_date == date);
        if !known {
            let name = work.experiment.clone();
            let none = || String::new();
            rows.push([
                name,
                date.unwrap_or_default(),
                none(),
                none(),
                none(),
                none(),
                in_words(work),
            ]);
        }
    }
    io::stdout().write_all(output::grid(&header, &days_together(rows)).as_bytes())?;
    Ok(Exit::Done)
}

/// One row for days in a row of which the same is to be said; their effects are added up.
fn days_together(rows: Vec<[String; 7]>) -> Vec<[String; 7]> {
    let mut together: Vec<([String; 7], Option<Date>)> = Vec::new();
    for row in rows {
        let date: Option<Date> = row[1].parse().ok();
        let same = |of: &[String; 7]| [0, 2, 3, 5, 6].iter().all(|&i| of[i] == row[i]);
        let follows = |last: &Option<Date>| {
            date.is_some() && last.and_then(|last| last.tomorrow().ok()) == date
        };
        match together.last_mut().filter(|(of, last)| same(of) && follows(last)) {
            Some((of, last)) => {
                let first = of[1].split(' ').next().unwrap_or_default();
                of[1] = format!("{first} to {}", row[1]);
                if let (Ok(mine), Ok(more)) = (of[4].parse::<u64>(), row[4].parse::<u64>()) {
                    of[4] = (mine + more).to_string();
                }
                *last = date;
            }
            None => together.push((row, date)),
        }
    }
    together.into_iter().map(|(row, _)| row).collect()
}

/// A time in the job's time zone.
pub(super) fn when(runner: &Runner, ms: Option<i64>) -> String {
    let Some(when) = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()) else {
        return String::new();
    };
    let zoned = when.to_zoned(runner.job().timezone.clone());
    zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

fn in_words(work: &Work) -> String {
    match &work.state {
        State::Missing => "missing".into(),
        State::Stale(reasons) => format!("stale: {}", reasons.join(", ")),
        State::UpToDate(published) if published.results.blocked.is_empty() => "up to date".into(),
        State::UpToDate(published) => {
            format!("blocked by {}", published.results.blocked.join("; "))
        }
        State::NotDue(end) => format!("not due before the end of {end}"),
        State::Failed(error) => format!("failed: {error}"),
    }
}

/// Prints the JSON Schema of job files.
pub(crate) fn schema() -> Result<Exit, Failure> {
    writeln!(io::stdout(), "{:#}", JobFile::schema())?;
    Ok(Exit::Done)
}
