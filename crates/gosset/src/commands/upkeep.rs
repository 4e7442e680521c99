//! `gosset history`, `restore`, `vacuum` and `erase`.

use std::io::{self, Write};
use std::time::Duration;

use gosset_jobs::{Change, Moment, Runner, Vacuum, units_of};
use jiff::Timestamp;
use jiff::civil::DateTime;

use super::job::{self, runs_of, when};
use crate::App;
use crate::cli::{EraseArgs, HistoryArgs, RestoreArgs, VacuumArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// Shows the versions of a table.
pub(crate) async fn history(app: &App, args: &HistoryArgs) -> Result<Exit, Failure> {
    let runner = job::open(app, &args.job).await?;
    let step = app.progress.step("reading");
    let changes = runner.history(&args.table).await?;
    drop(step);
    let header = ["version", "when", "what", "results", "run", "of"];
    let rows: Vec<[String; 6]> = changes
        .iter()
        .map(|change| {
            let results = change.places.len().max(change.parts.len());
            [
                change.version.to_string(),
                when(&runner, change.timestamp),
                change.what.clone(),
                if results > 0 { results.to_string() } else { String::new() },
                change.run_id.clone().unwrap_or_default(),
                of(change),
            ]
        })
        .collect();
    io::stdout().write_all(output::grid(&header, &rows).as_bytes())?;
    Ok(Exit::Done)
}

/// Experiments and dates, or parts: the first and the last of many.
fn of(change: &Change) -> String {
    let mut places: Vec<_> = change.places.iter().collect();
    places.sort();
    let all: Vec<String> = runs_of(places.into_iter().map(|place| (place, ())))
        .iter()
        .map(ToString::to_string)
        .collect();
    match change.parts.as_slice() {
        [] => all.join(", "),
        [only] => only.clone(),
        [first, .., last] => format!("{first} to {last}"),
    }
}

/// Goes back.
pub(crate) async fn restore(app: &App, args: &RestoreArgs) -> Result<Exit, Failure> {
    let runner = job::open(app, &args.job).await?;
    let to = match (args.version, &args.to) {
        (Some(version), _) => Moment::Version(version),
        (None, to) => Moment::Time(time(&runner, to.as_deref().unwrap_or_default())?),
    };
    let step = app.progress.step("restoring");
    let restored = runner.restore(to).await?;
    drop(step);
    for table in &restored {
        let (name, version, to) = (&table.table, table.version, table.to);
        app.say(&format!("{name}: version {version} is as version {to} was"));
    }
    if restored.is_empty() {
        app.say("nothing to do, the tables are as they were");
    }
    Ok(Exit::Done)
}

/// A time with an offset, or of the job's time zone.
fn time(runner: &Runner, text: &str) -> Result<i64, Failure> {
    let timestamp = text.parse::<Timestamp>().or_else(|_| {
        let civil: DateTime = text.parse()?;
        Ok::<_, jiff::Error>(civil.to_zoned(runner.job().timezone.clone())?.timestamp())
    });
    timestamp.map(Timestamp::as_millisecond).map_err(|_| {
        let told = format!("expected a time such as '2026-03-29 06:00', found '{text}'");
        Failure::new(Exit::Usage, told)
    })
}

/// Deletes files that no version needs.
pub(crate) async fn vacuum(app: &App, args: &VacuumArgs) -> Result<Exit, Failure> {
    let runner = job::open(app, &args.job).await?;
    let retain = Duration::from_hours(24 * u64::from(args.retain));
    let step = app.progress.step("looking for files");
    let vacuum = Vacuum { retain, force: args.force, dry_run: args.dry_run };
    let deleted = runner.vacuum(vacuum).await?;
    drop(step);
    let what = if args.dry_run { "would be deleted" } else { "deleted" };
    for (table, files) in deleted {
        app.say(&format!("{table}: {} {what}", counted(files.len(), "file")));
        if args.dry_run {
            for file in files {
                writeln!(io::stdout(), "{table}/{file}")?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Forgets units.
pub(crate) async fn erase(app: &App, args: &EraseArgs) -> Result<Exit, Failure> {
    let runner = job::open(app, &args.job).await?;
    let units = units_of(&runner, &args.units).await?;
    let step = app.progress.step("erasing");
    let erased = runner.erase(&units).await?;
    drop(step);
    for of in &erased {
        let (table, days) = (&of.table, of.unit_days);
        let rows = if days == 1 { "day of a unit" } else { "days of units" };
        let files = counted(of.files, "file");
        app.say(&format!("{table}: {days} {rows} erased, {files} deleted"));
    }
    if erased.is_empty() {
        app.say("nothing to do, the store keeps no days of units");
    }
    app.say("effects, audits and summaries that are published stay; a part of a source that is read again brings back the units in it");
    Ok(Exit::Done)
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
