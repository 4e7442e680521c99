//! Checks of an experiment's data before its effects are published.

use std::collections::BTreeMap;

use crate::file::{AuditSection, AuditsSection};
use crate::units::Base;
use crate::{JobError, Result};

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditKind {
    /// The arms that are there are those that should be.
    Arms,
    /// The arms are as large as the assignment says: before units are left out.
    SampleRatio,
    /// The same for the units that are analysed.
    SampleRatioAnalysed,
    /// The share of units in more than one arm.
    MultipleArms,
    /// Units with several rows in a source whose rows are units.
    DuplicateUnits,
    /// Rows of the assignments without a unit or without an arm: counted.
    Unassigned,
    /// The share of units without a row in a source.
    UnitsWithoutRows,
    /// The share of units whose value is missing.
    Missing,
    /// NaN and infinite values.
    NonFinite,
    /// Days without rows up to the date.
    Freshness,
    /// Rows that came later than their source allows.
    LateRows,
    /// Rows of the date against those of the days before.
    RowCount,
    /// What units did on the date against what they did on the days before.
    Distribution,
    /// Columns that vanished or changed their type since the part before.
    Schema,
    /// Whether the arms were alike before the experiment.
    Balance,
}

/// When a check fails, and what follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Beyond it the check fails.
    pub threshold: f64,
    /// Whether a failure keeps the effects from being published.
    pub blocking: bool,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// What was checked.
    pub kind: AuditKind,
    /// Of which metric.
    pub metric: Option<String>,
    /// Of which source.
    pub source: Option<String>,
    /// Of which of the assigned units.
    pub base: Base,
    /// What was found.
    pub value: Option<f64>,
    /// Beyond it the check fails; none where something is only counted.
    pub threshold: Option<f64>,
    /// Whether it failed.
    pub failed: bool,
    /// Whether a failure keeps the effects from being published.
    pub blocking: bool,
    /// What was found, in words.
    pub note: Option<String>,
}

impl AuditKind {
    /// Its name in results and job files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arms => "arms",
            Self::SampleRatio => "sample_ratio",
            Self::SampleRatioAnalysed => "sample_ratio_analysed",
            Self::MultipleArms => "multiple_arms",
            Self::DuplicateUnits => "duplicate_units",
            Self::Unassigned => "unassigned",
            Self::UnitsWithoutRows => "units_without_rows",
            Self::Missing => "missing",
            Self::NonFinite => "non_finite",
            Self::Freshness => "freshness",
            Self::LateRows => "late_rows",
            Self::RowCount => "row_count",
            Self::Distribution => "distribution",
            Self::Schema => "schema",
            Self::Balance => "balance",
        }
    }

    /// The rules of a job file. What is only counted has none.
    pub(crate) fn rules(section: &AuditsSection) -> Result<BTreeMap<Self, Rule>> {
        [
            (Self::Arms, section.arms, 0.0),
            (Self::SampleRatio, section.sample_ratio, 0.001),
            (Self::SampleRatioAnalysed, section.sample_ratio, 0.001),
            (Self::MultipleArms, section.multiple_arms, 0.01),
            (Self::DuplicateUnits, section.duplicate_units, 0.0),
            (Self::Missing, section.missing, 1.0),
            (Self::UnitsWithoutRows, section.units_without_rows, 1.0),
            (Self::NonFinite, section.non_finite, 0.0),
            (Self::Freshness, section.freshness, 0.0),
            (Self::LateRows, section.late_rows, 0.0),
            (Self::RowCount, section.row_count, 3.0),
            (Self::Distribution, section.distribution, 3.0),
            (Self::Schema, section.schema, 0.0),
            (Self::Balance, section.balance, 0.001),
        ]
        .into_iter()
        .map(|(kind, section, default)| Ok((kind, rule(kind, section, default)?)))
        .collect()
    }

    /// Whether it is of unit-days.
    pub(crate) fn is_of_days(self) -> bool {
        matches!(
            self,
            Self::Freshness
                | Self::LateRows
                | Self::RowCount
                | Self::Distribution
                | Self::Schema
                | Self::Balance
        )
    }

    /// Whether a failure blocks unless the job says: what may be news of the world and not of the data does not.
    fn blocks(self) -> bool {
        !matches!(
            self,
            Self::LateRows | Self::RowCount | Self::Distribution | Self::Schema | Self::Balance
        )
    }

    /// Whether small values are the bad ones: it is a p-value.
    fn is_p_value(self) -> bool {
        matches!(self, Self::SampleRatio | Self::SampleRatioAnalysed | Self::Balance)
    }

    /// Whether it is a share of units of which all are too many, whatever the threshold: then nothing is measured.
    fn is_of_all_units(self) -> bool {
        matches!(self, Self::Missing | Self::UnitsWithoutRows)
    }
}

fn rule(kind: AuditKind, section: AuditSection, default: f64) -> Result<Rule> {
    let threshold = section.threshold.unwrap_or(default);
    let share = kind.is_p_value() || kind == AuditKind::MultipleArms || kind.is_of_all_units();
    if threshold.is_nan() || threshold < 0.0 || (share && threshold > 1.0) {
        let range = if share { "from 0 to 1" } else { "at least 0" };
        return Err(JobError::File(format!(
            "[audits.{}]: the threshold must be {range}; found {threshold}",
            kind.name()
        )));
    }
    Ok(Rule { threshold, blocking: section.blocking.unwrap_or(kind.blocks()) })
}

impl Audit {
    /// The verdict of a rule on a value; without one nothing fails.
    pub(crate) fn new(kind: AuditKind, rule: Option<&Rule>, value: Option<f64>) -> Self {
        let failed = match (rule, value) {
            (Some(rule), Some(value)) if kind.is_p_value() => value < rule.threshold,
            (Some(_), Some(value)) if kind.is_of_all_units() && value >= 1.0 => true,
            (Some(rule), Some(value)) => value > rule.threshold,
            _ => false,
        };
        Self {
            kind,
            metric: None,
            source: None,
            base: Base::Assignment,
            value,
            threshold: rule.map(|rule| rule.threshold),
            failed,
            blocking: rule.is_some_and(|rule| rule.blocking),
            note: None,
        }
    }

    pub(crate) fn of_metric(mut self, metric: &str) -> Self {
        self.metric = Some(metric.to_owned());
        self
    }

    pub(crate) fn of_source(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    pub(crate) fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Whether it keeps the effects from being published.
    pub fn blocks(&self) -> bool {
        self.failed && self.blocking
    }

    /// The verdict in results.
    pub fn verdict(&self) -> &'static str {
        match (self.threshold, self.failed) {
            (None, _) => "counted",
            (Some(_), false) => "passed",
            (Some(_), true) => "failed",
        }
    }

    /// One line for people.
    pub fn shown(&self) -> String {
        let of = match (&self.metric, &self.source) {
            (Some(name), _) => format!(" of metric '{name}'"),
            (None, Some(name)) => format!(" of source '{name}'"),
            (None, None) => String::new(),
        };
        let note = self.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        format!("{}{of}{note}", self.kind.name())
    }
}
