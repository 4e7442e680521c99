//! What effects are of: a day, all days so far, the whole experiment, the first days of each unit.

use std::fmt;

use jiff::civil::Date;

use crate::{JobError, Result};

/// A period of an experiment, seen at the end of an analysis date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// The outcomes of the date, of all units assigned by its end.
    Day,
    /// The outcomes of each unit from its assignment to the end of the date.
    Cumulative,
    /// The same at the end of the experiment.
    Overall,
    /// The first days of each unit, the day of its assignment among them, where all of them are over.
    Days(u16),
}

impl Period {
    /// Reads `day`, `cumulative`, `overall` or `days(7)`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let days = || text.strip_prefix("days(")?.strip_suffix(')')?.trim().parse().ok();
        match text {
            "day" => Ok(Self::Day),
            "cumulative" => Ok(Self::Cumulative),
            "overall" => Ok(Self::Overall),
            _ => match days() {
                Some(days) if days > 0 => Ok(Self::Days(days)),
                _ => Err(JobError::File(format!(
                    "expected the periods 'day', 'cumulative', 'overall' or 'days(n)'; found '{text}'"
                ))),
            },
        }
    }

    /// Whether it has results on every day of an experiment.
    pub(crate) fn is_daily(self) -> bool {
        self != Self::Overall
    }

    /// Whether it has results of a date of an experiment.
    pub(crate) fn is_of(self, date: Date, start: Date, end: Date) -> bool {
        match self {
            Self::Day | Self::Cumulative => (start..=end).contains(&date),
            Self::Overall => date == end,
            Self::Days(days) => days_between(start, date) + 1 >= i64::from(days) && date <= end,
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("day"),
            Self::Cumulative => f.write_str("cumulative"),
            Self::Overall => f.write_str("overall"),
            Self::Days(days) => write!(f, "days({days})"),
        }
    }
}

/// Days from one to another.
pub(crate) fn days_between(from: Date, to: Date) -> i64 {
    i64::from(from.until(to).map_or(0, |span| span.get_days()))
}

/// The day so many days before another, or the first day that there is.
pub(crate) fn days_before(day: Date, days: u16) -> Date {
    day.saturating_sub(jiff::Span::new().days(i64::from(days)))
}

/// All days from one to another, both among them.
pub(crate) fn days(from: Date, to: Date) -> impl Iterator<Item = Date> {
    from.series(jiff::Span::new().days(1)).take_while(move |day| *day <= to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn periods_are_read_and_told() {
        for text in ["day", "cumulative", "overall", "days(7)"] {
            assert_eq!(Period::parse(text).map(|p| p.to_string()), Ok(text.to_owned()));
        }
        for text in ["days", "days()", "days(0)", "days(-1)", "week", "Day"] {
            assert!(matches!(Period::parse(text), Err(JobError::File(_))), "{text}");
        }
    }

    #[test]
    fn first_days_are_over_after_as_many_days() {
        let (start, end) = (date(2026, 3, 2), date(2026, 3, 29));
        let is_of = |day| Period::Days(7).is_of(day, start, end);
        assert!(!is_of(date(2026, 3, 7)));
        assert!(is_of(date(2026, 3, 8)));
        assert!(!is_of(date(2026, 3, 30)));
        assert!(Period::Overall.is_of(end, start, end));
        assert_eq!(days(start, end).count(), 28);
        assert_eq!(days_between(start, end), 27);
        assert_eq!(days_before(end, 27), start);
    }
}
