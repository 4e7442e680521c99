//! Civil days as bounds of a time column.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, cast, ident, lit};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::{JobError, Result};

/// What a time column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Days, or times of the clock on the wall in the job's time zone.
    Civil,
    /// Instants.
    Instant,
}

/// What the values of a time column mean.
pub(crate) fn clock(data_type: &DataType) -> Result<Clock> {
    match data_type {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, None) => Ok(Clock::Civil),
        DataType::Timestamp(_, Some(_)) => Ok(Clock::Instant),
        other => Err(JobError::Data(format!("expected a timestamp or a date, found {other}"))),
    }
}

/// The civil day of a time, in the time zone.
pub(crate) fn civil_day(time: Expr, data_type: &DataType, zone: &TimeZone) -> Result<Expr> {
    let local = match (data_type, zone.iana_name()) {
        (DataType::Timestamp(unit, Some(_)), Some(zone)) => {
            cast(time, DataType::Timestamp(*unit, Some(zone.into())))
        }
        (DataType::Timestamp(_, Some(_)), None) => {
            return Err(JobError::File("the time zone has no IANA name".into()));
        }
        _ => time,
    };
    clock(data_type)?;
    Ok(cast(local, DataType::Date32))
}

/// Rows from the beginning of `start` to the end of `end`, both days of the time zone: half-open, whatever the clock
/// does between them.
pub(crate) fn within(
    column: &str,
    data_type: &DataType,
    zone: &TimeZone,
    start: Option<Date>,
    end: Option<Date>,
) -> Result<Option<Expr>> {
    let from = start.map(|day| Ok(ident(column).gt_eq(lit(midnight(day, data_type, zone)?))));
    let until = end.map(|day| {
        let next = day.tomorrow().map_err(|_| JobError::File(format!("{day} has no next day")))?;
        Ok(ident(column).lt(lit(midnight(next, data_type, zone)?)))
    });
    let bounds: Result<Vec<Expr>> = from.into_iter().chain(until).collect();
    Ok(bounds?.into_iter().reduce(Expr::and))
}

/// The beginning of a day, as a value of the column's type.
fn midnight(day: Date, data_type: &DataType, zone: &TimeZone) -> Result<ScalarValue> {
    let outside = || JobError::File(format!("{day} is outside of the range of {data_type}"));
    let civil_seconds = || {
        let instant = TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).map_err(|_| outside())?;
        Ok::<_, JobError>(instant.as_second())
    };
    Ok(match data_type {
        DataType::Date32 => {
            let days = civil_seconds()?.div_euclid(86_400);
            ScalarValue::Date32(Some(i32::try_from(days).map_err(|_| outside())?))
        }
        DataType::Date64 => ScalarValue::Date64(Some(civil_seconds()? * 1000)),
        DataType::Timestamp(unit, named) => {
            let seconds = if named.is_some() {
                let start = zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0)).compatible();
                start.map_err(|_| outside())?.as_second()
            } else {
                civil_seconds()?
            };
            let per_second = match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            };
            let value = Some(seconds.checked_mul(per_second).ok_or_else(outside)?);
            let named = named.clone();
            match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(value, named),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(value, named),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(value, named),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(value, named),
            }
        }
        other => {
            return Err(JobError::Data(format!("expected a timestamp or a date, found {other}")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn seconds(day: Date, zone: &str) -> i64 {
        let zone = TimeZone::get(zone).expect("a time zone");
        match midnight(day, &DataType::Timestamp(TimeUnit::Second, Some("UTC".into())), &zone) {
            Ok(ScalarValue::TimestampSecond(Some(seconds), _)) => seconds,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn days_are_as_long_as_they_are() {
        let hours = |a: Date, b: Date, zone| (seconds(b, zone) - seconds(a, zone)) / 3600;
        assert_eq!(hours(date(2026, 3, 29), date(2026, 3, 30), "Europe/Berlin"), 23);
        assert_eq!(hours(date(2026, 10, 25), date(2026, 10, 26), "Europe/Berlin"), 25);
        assert_eq!(hours(date(2024, 2, 28), date(2024, 3, 1), "UTC"), 48);
        // A day that begins at one o'clock, because midnight does not exist.
        assert_eq!(hours(date(2018, 11, 4), date(2018, 11, 5), "America/Sao_Paulo"), 23);
    }

    #[test]
    fn days_leave_no_gap_and_do_not_overlap() {
        for zone in ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu"]
        {
            let mut day = date(2009, 12, 30);
            while day < date(2012, 1, 3) {
                let next = day.tomorrow().expect("a day");
                // Apia had no 30 December 2011: that day is empty, not negative.
                assert!(seconds(day, zone) <= seconds(next, zone), "{zone} {day}");
                day = next;
            }
        }
    }

    #[test]
    fn civil_columns_are_compared_as_they_are() {
        let zone = TimeZone::get("America/New_York").expect("a time zone");
        let of = |t: &DataType| midnight(date(1970, 1, 2), t, &zone).expect("a day");
        assert_eq!(of(&DataType::Date32), ScalarValue::Date32(Some(1)));
        assert_eq!(
            of(&DataType::Timestamp(TimeUnit::Nanosecond, None)),
            ScalarValue::TimestampNanosecond(Some(86_400_000_000_000), None)
        );
        assert!(midnight(date(1970, 1, 2), &DataType::Utf8, &zone).is_err());
        let far =
            midnight(date(9999, 1, 1), &DataType::Timestamp(TimeUnit::Nanosecond, None), &zone);
        assert!(matches!(far, Err(JobError::File(_))));
    }
}
