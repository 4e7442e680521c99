//! The rows of the programme. `rows.py` beside its golden numbers has the same formulas.

use std::fmt::Write;
use std::sync::LazyLock;

use jiff::ToSpan;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use super::draws::{Draw, mix, remainder};

const UNITS: i64 = 4000;
const HOUR: i64 = 3_600_000_000;
/// A ramp has its first shares on so many days.
const FIRST_DAYS: i64 = 4;
/// Sessions arrive at most so many nights late.
const LATENESS: i64 = 3;

/// A row of the sessions.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) unit: i64,
    pub(super) started_at: i64,
    pub(super) watch_min: Option<f64>,
    pub(super) rebuffers: i64,
    pub(super) play_delay_ms: f64,
    pub(super) device: Option<&'static str>,
    /// Which of the night's files it is in.
    pub(super) file: i64,
}

/// A row of the assignments.
#[derive(Debug, Clone)]
pub(super) struct Allocation {
    pub(super) at: i64,
    pub(super) experiment: String,
    pub(super) unit: i64,
    pub(super) arm: i64,
    pub(super) country: Option<&'static str>,
}

/// Who takes part in an experiment, and how: a line of `design.csv`.
#[derive(Debug)]
struct Design {
    name: String,
    start: i64,
    units_per_mille: i64,
    /// On how many days units are allocated.
    days: i64,
    shares: Vec<i64>,
    /// The shares on the first days of a ramp.
    first_shares: Vec<i64>,
    /// By how many percent the second arm watches more; the third by twice as many.
    lift: i64,
    /// How many days after the start some units turn up in a second arm.
    crossed: Option<i64>,
}

/// A unit in an experiment.
#[derive(Debug, Clone, Copy)]
struct Member {
    experiment: usize,
    day: i64,
    arm: i64,
}

/// The units and what they take part in.
#[derive(Debug)]
pub(super) struct Rows {
    /// Sessions begin on this day.
    begin: i64,
    designs: Vec<Design>,
    /// By unit, in the order of the experiments.
    members: Vec<Vec<Member>>,
}

impl Rows {
    /// What can be drawn for sessions from a day on.
    pub(super) fn new(begin: Date) -> Self {
        let lines = include_str!("../../golden/programme/design.csv").lines().skip(1);
        let designs: Vec<Design> = lines.map(Design::of).collect();
        let members = (0..UNITS).map(|unit| {
            let numbered = designs.iter().enumerate();
            numbered.filter_map(|(e, design)| design.member(e, unit)).collect()
        });
        let members = members.collect();
        Self { begin: ordinal(begin), designs, members }
    }

    /// The sessions that arrive in a night.
    pub(super) fn sessions(&self, night: Date) -> Vec<Session> {
        let night = ordinal(night);
        let mut rows = Vec::new();
        for (unit, members) in (0..).zip(&self.members) {
            for day in (night - LATENESS).max(self.begin)..=night {
                for j in 0..sessions_of(unit, day) {
                    let key = [unit, day, j];
                    let late = match Draw::Late.below(100, &key) {
                        0..90 => 0,
                        90..95 => 1,
                        95..98 => 2,
                        _ => LATENESS,
                    };
                    if day + late == night {
                        rows.push(self.session(members, key, 1 + night % 3));
                    }
                }
            }
        }
        rows
    }

    fn session(&self, members: &[Member], key: [i64; 3], files: i64) -> Session {
        let [unit, day, _] = key;
        let level = Draw::Level.below(100, &[unit]);
        let level = 20 + level * level / 25;
        let [a, b] = [Draw::WatchA, Draw::WatchB].map(|draw| 1 + draw.below(1000, &key));
        let mut hundredths = level * a * b / 15_000;
        for member in members.iter().filter(|member| member.day <= day) {
            hundredths += hundredths * self.designs[member.experiment].lift * member.arm / 100;
        }
        let missing = Draw::Missing.below(100, &key) == 0;
        let device = match Draw::DeviceOfSession.below(50, &key) {
            0 => None,
            r if r % 3 == 0 => Some(Draw::Device.below(4, &[unit])),
            r => Some(r % 4),
        };
        Session {
            unit: account(unit),
            started_at: moment(Draw::Started.of(&key), day),
            watch_min: (!missing).then_some(hundredths as f64 / 100.0),
            rebuffers: hundredths * Draw::Rebuffers.below(4, &key) / 5000,
            play_delay_ms: (2000 + Draw::Delay.below(100_000, &key)) as f64 / 70.0,
            device: device.map(|d| ["tv", "phone", "web", "tablet"][d as usize]),
            file: Draw::File.below(files, &key),
        }
    }

    /// The rows of assignments that arrive in a night.
    pub(super) fn allocations(&self, night: Date) -> Vec<Allocation> {
        let night = ordinal(night);
        let mut rows = Vec::new();
        for (unit, members) in (0..).zip(&self.members) {
            for &Member { experiment, day, arm } in members {
                let design = &self.designs[experiment];
                let e = experiment as i64;
                let mut add = |which: i64, day: i64, arm: i64, country: Option<&'static str>| {
                    if day == night {
                        rows.push(Allocation {
                            at: moment(Draw::Allocated.of(&[e, unit, which]), day),
                            experiment: design.name.clone(),
                            unit: account(unit),
                            arm,
                            country,
                        });
                    }
                };
                add(0, day, arm, country(unit));
                // Some are allocated once more, to the same arm, after they moved to another country.
                if Draw::Again.below(40, &[e, unit]) == 0 {
                    add(1, day + 1 + unit % 3, arm, country(unit + 1));
                }
                if let Some(after) = design.crossed
                    && Draw::Crossed.below(250, &[e, unit]) == 0
                {
                    let last = design.shares.len() as i64 - 1;
                    add(2, design.start + after, last - arm, country(unit));
                }
            }
        }
        rows
    }
}

impl Design {
    fn of(line: &str) -> Self {
        let cells: Vec<&str> = line.split(',').collect();
        let [name, start, per_mille, days, shares, first, lift, crossed] = cells[..] else {
            panic!("expected eight cells, found {line}");
        };
        let number = |text: &str| text.parse::<i64>().expect("a number");
        let numbers = |text: &str| text.split(':').map(number).collect();
        Self {
            name: name.to_owned(),
            start: ordinal(start.parse().expect("a day")),
            units_per_mille: number(per_mille),
            days: number(days),
            shares: numbers(shares),
            first_shares: numbers(if first.is_empty() { shares } else { first }),
            lift: number(lift),
            crossed: (!crossed.is_empty()).then(|| number(crossed)),
        }
    }

    /// A unit in the experiment at a position, if it takes part.
    fn member(&self, experiment: usize, unit: i64) -> Option<Member> {
        let key = [experiment as i64, unit];
        if Draw::Participates.below(1000, &key) >= self.units_per_mille {
            return None;
        }
        let day = self.start + Draw::When.below(self.days, &key);
        let is_first = day < self.start + FIRST_DAYS;
        let shares = if is_first { &self.first_shares } else { &self.shares };
        let mut left = Draw::Arm.below(shares.iter().sum(), &key);
        let mut arm = 0;
        for share in shares {
            if left < *share {
                break;
            }
            left -= share;
            arm += 1;
        }
        Some(Member { experiment, day, arm })
    }
}

/// The orders of a day as CSV, by the version of its file.
pub(super) fn orders(day: Date, version: i64) -> String {
    let often = |unit| 10 + Draw::Buys.below(100, &[unit]);
    let of_day = ordinal(day);
    csv(day, version, |unit| Draw::Bought.below(1000, &[unit, of_day]) < often(unit))
}

/// The orders of a day that arrive nights later, as CSV.
pub(super) fn late_orders(day: Date) -> String {
    let of_day = ordinal(day);
    csv(day, 2, |unit| Draw::LateBought.below(100, &[unit, of_day]) == 0)
}

fn csv(day: Date, version: i64, bought: impl Fn(i64) -> bool) -> String {
    let mut text = String::from("account_id,day,amount\n");
    for unit in (0..UNITS).filter(|&unit| bought(unit)) {
        let drawn = Draw::Amount.of(&[unit, ordinal(day), version]);
        let cents = 199 + remainder(drawn, 9800);
        let (sign, cents) = match mix(drawn) % 25 {
            0 => ("", 0),
            1 => ("-", cents),
            _ => ("", cents),
        };
        let (euros, cents) = (cents / 100, cents % 100);
        writeln!(text, "{},{day},{sign}{euros}.{cents:02}", account(unit))
            .expect("a string takes it");
    }
    text
}

/// How many sessions a unit has on a day. One unit in ten has none, ever.
fn sessions_of(unit: i64, day: i64) -> i64 {
    let never = Draw::Never.below(10, &[unit]) == 0;
    let visits = 200 + Draw::Visits.below(700, &[unit]);
    if never || Draw::Active.below(1000, &[unit, day]) >= visits {
        return 0;
    }
    match Draw::Sessions.below(6, &[unit, day]) {
        4 => 2,
        5 => 3,
        _ => 1,
    }
}

fn account(unit: i64) -> i64 {
    10_000 + 7 * unit
}

fn country(unit: i64) -> Option<&'static str> {
    match Draw::Country.below(100, &[unit]) {
        0..45 => Some("DE"),
        45..75 => Some("US"),
        75..90 => Some("BR"),
        _ => None,
    }
}

/// An instant of a civil day, often close to midnight or to the hour that the change of the clock takes away.
fn moment(drawn: u64, day: i64) -> i64 {
    let begin = midnight(day);
    let length = midnight(day + 1) - begin;
    let within = |n: i64| remainder(mix(drawn), n);
    let offset = match drawn % 20 {
        0 => within(HOUR),
        1 => length - HOUR + within(HOUR),
        2 => HOUR + within(2 * HOUR),
        3 => within(2) * (length - 1),
        _ => within(length),
    };
    begin + offset
}

/// The beginning of a day in Berlin, in microseconds since 1970.
fn midnight(day: i64) -> i64 {
    static ZONE: LazyLock<TimeZone> =
        LazyLock::new(|| TimeZone::get("Europe/Berlin").expect("a time zone"));
    let start = (EPOCH + day.days()).to_zoned(ZONE.clone()).expect("a day has a beginning");
    start.timestamp().as_microsecond()
}

const EPOCH: Date = date(1970, 1, 1);

/// Days since 1970-01-01.
fn ordinal(day: Date) -> i64 {
    day.duration_since(EPOCH).as_hours() / 24
}
