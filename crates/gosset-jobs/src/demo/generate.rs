//! The rows of the demo, made of a fixed stream of random numbers.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::parquet::arrow::ArrowWriter;
use gosset_engine::EngineError;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{ToSpan, civil};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{JobError, Result};

const UNITS: usize = 12_000;
const DAYS: usize = 14;
const FIRST_DAY: Date = date(2026, 3, 2);
/// What the new player does to the minutes of a session.
const LIFT: f64 = 1.08;
/// What it does to the rate of stalls.
const STALLS: f64 = 0.8;
/// One of so many units is in both arms of `same_player`.
const CROSSED: usize = 300;
/// One of so many sessions has a duration that is not a number.
const BROKEN_ROWS: u32 = 4000;

/// The rows of a lake.
pub(super) struct Made {
    pub(super) allocations: RecordBatch,
    pub(super) sessions: Vec<(Date, RecordBatch)>,
    pub(super) truth: String,
}

/// A unit with both of its outcomes.
#[derive(Debug, Clone, Default)]
struct Unit {
    country: &'static str,
    before: f64,
    /// In the new player's treatment.
    treated: bool,
    /// Totals without and with the new player.
    minutes: [f64; 2],
    stalls: [f64; 2],
}

#[derive(Default)]
struct Allocations {
    test: Vec<&'static str>,
    unit: Vec<i64>,
    cell: Vec<&'static str>,
    country: Vec<&'static str>,
    before: Vec<f64>,
    at: Vec<i64>,
}

impl Allocations {
    fn push(&mut self, test: &'static str, id: i64, cell: &'static str, unit: &Unit, at: i64) {
        self.test.push(test);
        self.unit.push(id);
        self.cell.push(cell);
        self.country.push(unit.country);
        self.before.push(unit.before);
        self.at.push(at);
    }
}

#[derive(Default)]
struct Sessions {
    unit: Vec<i64>,
    at: Vec<i64>,
    minutes: Vec<f64>,
    stalls: Vec<i64>,
}

pub(super) fn generate() -> Made {
    let mut random = StdRng::seed_from_u64(1908);
    let mut allocations = Allocations::default();
    let mut days: Vec<Sessions> = (0..DAYS).map(|_| Sessions::default()).collect();
    let mut units = Vec::with_capacity(UNITS);
    let start = microseconds(FIRST_DAY.at(0, 0, 0, 0));
    for i in 0..UNITS {
        let id = 100_000 + i as i64;
        // How much somebody watches: it drives the weeks before and the weeks of the test.
        let level = (0.8 * normal(&mut random)).exp();
        let country = ["BR", "DE", "US"][random.random_range(0..3)];
        let mut unit = Unit {
            country,
            before: 120.0 * level * (0.35 * normal(&mut random)).exp(),
            treated: random.random_bool(0.5),
            ..Unit::default()
        };
        allocations.push("new_player", id, if unit.treated { "new" } else { "old" }, &unit, start);
        let (a, b) = if random.random_bool(0.5) { ("a", "b") } else { ("b", "a") };
        allocations.push("same_player", id, a, &unit, start);
        if i % CROSSED == 0 {
            allocations.push("same_player", id, b, &unit, start + 3 * 86_400_000_000);
        }
        let logged = level > 0.5 || random.random_bool(0.25);
        let new = random.random_bool(0.5);
        if !new || logged {
            allocations.push("lost_units", id, if new { "new" } else { "old" }, &unit, start);
        }
        for (day, sessions) in days.iter_mut().enumerate() {
            if !random.random_bool(0.25 + 0.5 * level / (1.0 + level)) {
                continue;
            }
            let minutes = 35.0 * level.sqrt() * (0.6 * normal(&mut random)).exp();
            let minutes = (100.0 * minutes).round() / 100.0;
            // One uniform number decides both outcomes, so that they differ by the treatment alone.
            let uniform = random.random::<f64>();
            let stalls =
                [1.0, LIFT * STALLS].map(|factor| poisson(uniform, 0.9 * factor * minutes / 60.0));
            for (arm, factor) in [1.0, LIFT].into_iter().enumerate() {
                unit.minutes[arm] += factor * minutes;
                unit.stalls[arm] += stalls[arm] as f64;
            }
            let seen = usize::from(unit.treated);
            let broken = random.random_ratio(1, BROKEN_ROWS);
            sessions.unit.push(id);
            sessions
                .at
                .push(start + day as i64 * 86_400_000_000 + random.random_range(0..86_400_000_000));
            sessions.minutes.push(if broken { f64::NAN } else { [1.0, LIFT][seen] * minutes });
            sessions.stalls.push(stalls[seen]);
        }
        units.push(unit);
    }
    let sessions = days.into_iter().enumerate().map(|(day, rows)| {
        let day = FIRST_DAY.checked_add((day as i64).days()).unwrap_or(FIRST_DAY);
        (day, session_batch(rows))
    });
    Made {
        allocations: allocation_batch(allocations),
        sessions: sessions.collect(),
        truth: truth(&units),
    }
}

/// The effects on these units: the mean difference of their two outcomes.
fn truth(units: &[Unit]) -> String {
    let n = units.len() as f64;
    let sum = |of: fn(&Unit) -> f64| units.iter().map(of).sum::<f64>();
    let minutes = (sum(|u| u.minutes[1]) - sum(|u| u.minutes[0])) / n;
    let rate = |arm: fn(&Unit) -> f64, minutes: fn(&Unit) -> f64| sum(arm) / (sum(minutes) / 60.0);
    let stalls = rate(|u| u.stalls[1], |u| u.minutes[1]) - rate(|u| u.stalls[0], |u| u.minutes[0]);
    let mut csv = String::from("experiment,metric,truth\n");
    for (experiment, metric, truth) in [
        ("new_player", "minutes", minutes),
        ("new_player", "sessions", 0.0),
        ("new_player", "rebuffers_per_hour", stalls),
        ("same_player", "minutes", 0.0),
        ("same_player", "rebuffers_per_hour", 0.0),
        ("lost_units", "minutes", 0.0),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(csv, "{experiment},{metric},{truth}");
    }
    csv
}

/// A standard normal draw, by the method of Box and Muller.
fn normal(random: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

/// The quantile of a Poisson law.
fn poisson(uniform: f64, mean: f64) -> i64 {
    let (mut k, mut term) = (0, (-mean).exp());
    let mut below = term;
    while uniform > below && k < 1000 {
        k += 1;
        term *= mean / k as f64;
        below += term;
    }
    k
}

fn microseconds(time: civil::DateTime) -> i64 {
    TimeZone::UTC.to_timestamp(time).map_or(0, |instant| instant.as_microsecond())
}

fn utc(at: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(at).with_timezone("UTC"))
}

fn allocation_batch(rows: Allocations) -> RecordBatch {
    batch(vec![
        ("test", Arc::new(StringArray::from(rows.test))),
        ("account_id", Arc::new(Int64Array::from(rows.unit))),
        ("cell", Arc::new(StringArray::from(rows.cell))),
        ("country", Arc::new(StringArray::from(rows.country))),
        ("minutes_before", Arc::new(Float64Array::from(rows.before))),
        ("allocated_at", utc(rows.at)),
    ])
}

fn session_batch(rows: Sessions) -> RecordBatch {
    batch(vec![
        ("account_id", Arc::new(Int64Array::from(rows.unit))),
        ("started_at", utc(rows.at)),
        ("minutes", Arc::new(Float64Array::from(rows.minutes))),
        ("rebuffers", Arc::new(Int64Array::from(rows.stalls))),
    ])
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).expect("the columns have one length")
}

pub(super) fn write_parquet(path: &Path, rows: &RecordBatch) -> Result<()> {
    let write = || -> std::result::Result<(), EngineError> {
        let file = std::fs::File::create(path).map_err(|error| EngineError::of(&error))?;
        let told = |error: datafusion::parquet::errors::ParquetError| EngineError::of(&error);
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).map_err(told)?;
        writer.write(rows).map_err(told)?;
        writer.close().map_err(told)?;
        Ok(())
    };
    write().map_err(|error| JobError::Engine(error.about(&path.display().to_string())))
}
