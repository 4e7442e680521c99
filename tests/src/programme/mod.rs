//! A programme of twenty experiments over forty nights: the files that arrive, night by night.
//!
//! Every number is a pure function of integers, so that the script in `tests/golden/programme` makes the same rows and
//! computes what must be published of them. What is special:
//!
//! * Experiments overlap, begin and end on different days, and share their units. Units return on many days; one in ten
//!   never comes. Some have no country, some move.
//! * Days are those of Berlin, where 29 March has 23 hours. Many instants are within an hour of midnight.
//! * Sessions arrive in the night's folder up to three nights late, in one to three files. There are two weeks of them
//!   from before the first experiment.
//! * Orders come as one file a day, without folders by day. That of [`RESTATED`] is written again with other amounts on
//!   [`RESTATED_NIGHT`]; more orders of [`LATE`] arrive in a file of their own on [`LATE_NIGHT`].
//! * `test_02` is a ramp; `test_03` has a broken sample ratio; in `test_04` some units turn up in a second arm; three
//!   experiments are so large that they are inferred from buckets of units; `test_05` has some sixty units; `test_19`
//!   still runs after the last night.

mod draws;
mod rows;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use jiff::ToSpan;
use jiff::civil::{Date, date};

use crate::place::Place;
pub use draws::mix;
use rows::{Allocation, Rows, Session, late_orders, orders};

/// The first night.
pub const FIRST: Date = date(2026, 3, 10);
/// The number of nights.
pub const NIGHTS: usize = 40;
/// The day whose orders are restated.
pub const RESTATED: Date = date(2026, 3, 21);
/// The night on which they are.
pub const RESTATED_NIGHT: Date = date(2026, 3, 29);
/// The day of which more orders arrive later.
pub const LATE: Date = date(2026, 3, 31);
/// The night on which they do.
pub const LATE_NIGHT: Date = date(2026, 4, 3);
/// Days with sessions before the first night.
const HISTORY: i64 = 14;

/// The files of the programme in a place.
#[derive(Debug)]
pub struct Programme<'a> {
    place: &'a Place,
    rows: Rows,
}

impl<'a> Programme<'a> {
    /// Writes what is there before the first night: the job file and two weeks of sessions.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn new(place: &'a Place) -> Self {
        let begin = FIRST - HISTORY.days();
        let programme = Self { place, rows: Rows::new(begin) };
        place.write("job.toml", Self::job());
        begin
            .series(1.day())
            .take(HISTORY as usize)
            .for_each(|night| programme.write_sessions(night));
        programme
    }

    /// The text of the job file. Its paths are relative to the place.
    pub fn job() -> &'static str {
        include_str!("../../golden/programme/job.toml")
    }

    /// The nights.
    pub fn days() -> impl Iterator<Item = Date> {
        FIRST.series(1.day()).take(NIGHTS)
    }

    /// Writes the files that arrive in a night.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn write_night(&self, night: Date) {
        self.write_sessions(night);
        self.write_allocations(night);
        self.place.write(&format!("orders/{night}.csv"), &orders(night, 0));
        if night == RESTATED_NIGHT {
            self.place.write(&format!("orders/{RESTATED}.csv"), &orders(RESTATED, 1));
        }
        if night == LATE_NIGHT {
            self.place.write(&format!("orders/late-{LATE}.csv"), &late_orders(LATE));
        }
    }

    fn write_sessions(&self, night: Date) {
        let rows = self.rows.sessions(night);
        let last = rows.iter().map(|row| row.file).max().unwrap_or_default();
        for file in 0..=last {
            let name = format!("sessions/ds={night}/part-{file}.parquet");
            self.place.parquet(&name, of_sessions(rows.iter().filter(|row| row.file == file)));
        }
    }

    fn write_allocations(&self, night: Date) {
        let rows = self.rows.allocations(night);
        self.place.parquet(&format!("allocations/{night}.parquet"), of_allocations(&rows));
    }
}

fn of_sessions<'a>(
    rows: impl Iterator<Item = &'a Session> + Clone,
) -> Vec<(&'static str, ArrayRef)> {
    let each = |of: fn(&Session) -> i64| rows.clone().map(of);
    vec![
        ("account_id", integers(each(|r| r.unit))),
        ("started_at", instants(each(|r| r.started_at))),
        ("watch_min", Arc::new(rows.clone().map(|r| r.watch_min).collect::<Float64Array>())),
        ("rebuffers", integers(each(|r| r.rebuffers))),
        (
            "play_delay_ms",
            Arc::new(Float64Array::from_iter_values(rows.clone().map(|r| r.play_delay_ms))),
        ),
        ("device", Arc::new(rows.clone().map(|r| r.device).collect::<StringArray>())),
    ]
}

fn of_allocations(rows: &[Allocation]) -> Vec<(&'static str, ArrayRef)> {
    let cells = rows.iter().map(|r| Some(format!("cell_{}", r.arm + 1)));
    vec![
        ("allocated_at", instants(rows.iter().map(|r| r.at))),
        ("test_id", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.experiment)))),
        ("account_id", integers(rows.iter().map(|r| r.unit))),
        ("cell", Arc::new(cells.collect::<StringArray>())),
        ("country", Arc::new(rows.iter().map(|r| r.country).collect::<StringArray>())),
    ]
}

fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn instants(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}
