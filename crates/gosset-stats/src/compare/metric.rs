//! What is compared of the columns of a summary: a mean per row, or a ratio of two sums.

use crate::summary::moments::{DENOMINATOR, NUMERATOR};
use crate::summary::{Columns, Moments};
use crate::{Error, Result};

/// A column over the number of rows, or over another column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metric {
    pub(super) numerator: usize,
    /// `None` for the number of rows.
    pub(super) denominator: Option<usize>,
}

impl Metric {
    /// The mean per row of a column.
    pub(super) fn mean(column: usize) -> Self {
        Self { numerator: column, denominator: None }
    }

    /// Of a summary of one metric: the mean of its outcome, or the ratio of the two.
    pub(super) fn only(columns: &Columns) -> Result<Self> {
        match columns.outcomes() {
            1 => Ok(Self::mean(0)),
            2 => Ok(Self { numerator: 0, denominator: Some(1) }),
            outcomes => Err(Error::Invalid(format!(
                "expected a summary of one outcome, or of numerator and denominator, \
                 found {outcomes} outcomes"
            ))),
        }
    }

    /// Of a summary of any number of metrics, with their names: outcomes that are named as numerator and denominator are
    /// one.
    pub(super) fn all(columns: &Columns) -> Vec<(String, Self)> {
        Self::pairs_of(&columns.names()[..columns.outcomes()], 0)
    }

    /// The covariates of a summary, ratios among them, then the indicators of those that are missing somewhere.
    pub(super) fn covariates(moments: &Moments) -> Vec<Self> {
        let columns = moments.columns();
        let covariates = Self::pairs_of(&columns.names()[columns.outcomes()..], columns.outcomes());
        let missing = (columns.len()..moments.width()).map(Self::mean);
        covariates.into_iter().map(|(_, metric)| metric).chain(missing).collect()
    }

    fn pairs_of(names: &[String], first: usize) -> Vec<(String, Self)> {
        let mut all = Vec::new();
        let mut next = 0;
        while let Some(name) = names.get(next) {
            let ratio = name.strip_suffix(NUMERATOR).filter(|metric| {
                names.get(next + 1).and_then(|d| d.strip_suffix(DENOMINATOR)) == Some(*metric)
            });
            let denominator = ratio.map(|_| first + next + 1);
            let metric = Self { numerator: first + next, denominator };
            all.push((ratio.unwrap_or(name).to_owned(), metric));
            next += if ratio.is_some() { 2 } else { 1 };
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_columns_and_pairs_of_them() {
        let names = ["a", "b numerator", "b denominator", "c numerator", "d denominator", "x"];
        let columns = Columns::new(names.map(String::from), 5).expect("valid columns");
        let found = Metric::all(&columns);
        let expected = [
            ("a".to_owned(), Metric::mean(0)),
            ("b".to_owned(), Metric { numerator: 1, denominator: Some(2) }),
            ("c numerator".to_owned(), Metric::mean(3)),
            ("d denominator".to_owned(), Metric::mean(4)),
        ];
        assert_eq!(found, expected);
    }
}
