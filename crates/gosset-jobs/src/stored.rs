//! Stored summaries: the totals of a date, as rows of the table `summaries`.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use gosset_stats::summary::{AnySummary, Kind};

use crate::job::{Experiment, Part};
use crate::kept::Kept;
use crate::period::Period;
use crate::summaries::{Cell, Cells, PartCounts, Slice};
use crate::waves::Wave;
use crate::{Result, internal};

/// A summary with what it is of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SummaryRow {
    pub(crate) period: Period,
    pub(crate) metric: String,
    pub(crate) segment: Option<String>,
    pub(crate) segment_value: Option<String>,
    pub(crate) arm: String,
    pub(crate) units: u64,
    pub(crate) counts: PartCounts,
    pub(crate) kind: &'static str,
    pub(crate) summary: Vec<u8>,
}

/// The summaries of a date.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored(Vec<SummaryRow>);

impl Stored {
    /// Reads rows of the table.
    pub(crate) fn read(batches: &[RecordBatch]) -> Result<Self> {
        let mut rows = Vec::new();
        for batch in batches {
            let column = |name: &str, data_type: &DataType| {
                let found = batch.column_by_name(name);
                let found =
                    found.ok_or_else(|| internal(format!("the column {name} is missing")))?;
                Ok::<_, crate::JobError>(cast(found, data_type)?)
            };
            let [period, metric, segment, segment_value, arm] =
                ["period", "metric", "segment", "segment_value", "arm"]
                    .map(|n| column(n, &DataType::Utf8));
            let (period, metric, segment, segment_value, arm) =
                (period?, metric?, segment?, segment_value?, arm?);
            let [units, non_finite, active] =
                ["units", "non_finite", "active"].map(|n| column(n, &DataType::Int64));
            let (units, non_finite, active) = (units?, non_finite?, active?);
            let summary = column("summary", &DataType::Binary)?;
            for row in 0..batch.num_rows() {
                let text = |of: &dyn Array| {
                    of.is_valid(row).then(|| of.as_string::<i32>().value(row).to_owned())
                };
                let known =
                    |of: &dyn Array| text(of).ok_or_else(|| internal("a summary has no name"));
                let number =
                    |of: &dyn Array| of.as_primitive::<Int64Type>().value(row).cast_unsigned();
                rows.push(SummaryRow {
                    period: Period::parse(&known(&period)?)?,
                    metric: known(&metric)?,
                    segment: text(&segment),
                    segment_value: text(&segment_value),
                    arm: known(&arm)?,
                    units: number(&units),
                    counts: PartCounts { non_finite: number(&non_finite), active: number(&active) },
                    // Nothing else is stored.
                    kind: Kind::Buckets.name(),
                    summary: summary.as_binary::<i32>().value(row).to_vec(),
                });
            }
        }
        Ok(Self(rows))
    }

    /// The summaries of a date that were just made.
    pub(crate) fn of(rows: Vec<SummaryRow>) -> Self {
        Self(rows)
    }

    /// As rows again.
    pub(crate) fn into_rows(self) -> Vec<SummaryRow> {
        self.0
    }

    /// Those of some metrics.
    pub(crate) fn of_metrics(mut self, metrics: &[&str]) -> Self {
        self.0.retain(|row| metrics.contains(&row.metric.as_str()));
        self
    }

    /// The summaries of a wave, if all of them are there.
    pub(crate) fn of_wave(
        &self,
        experiment: &Experiment,
        period: Period,
        wave: &Wave,
    ) -> Option<Cells> {
        let mut found: BTreeMap<Slice, BTreeMap<String, Vec<Option<&SummaryRow>>>> =
            BTreeMap::new();
        for row in self.0.iter().filter(|row| row.period == period) {
            let slice = match &row.segment {
                None => Slice::All,
                Some(name) => {
                    let at = experiment.segments.iter().position(|(known, _)| known == name)?;
                    Slice::Segment(at, row.segment_value.clone())
                }
            };
            if wave.slices.as_ref().is_some_and(|slices| !slices.contains(&slice)) {
                continue;
            }
            let is_of = |part: &Part| {
                experiment.metrics[part.metric].name == row.metric
                    && buckets(row) == part.kept.buckets()
            };
            let Some(at) = wave.parts.iter().position(is_of) else { continue };
            let arms = found.entry(slice).or_default();
            arms.entry(row.arm.clone()).or_insert_with(|| vec![None; wave.parts.len()])[at] =
                Some(row);
        }
        let mut cells = Cells::new();
        for (slice, arms) in found {
            for (arm, rows) in arms {
                let rows: Vec<&SummaryRow> = rows.into_iter().collect::<Option<_>>()?;
                let cell = Cell {
                    units: rows.first().map_or(0, |row| row.units),
                    counts: rows.iter().map(|row| row.counts).collect(),
                    summaries: rows.iter().map(|row| row.summary.clone()).collect(),
                    ..Cell::default()
                };
                cells.entry(slice.clone()).or_default().insert(arm, cell);
            }
        }
        (!cells.is_empty()).then_some(cells)
    }
}

/// The number of buckets of a summary.
fn buckets(row: &SummaryRow) -> Option<u32> {
    match AnySummary::decode(&row.summary) {
        Ok(AnySummary::Buckets(buckets)) => Some(buckets.buckets()),
        _ => None,
    }
}

/// The summaries of a wave as rows.
pub(crate) fn rows_of_wave(
    experiment: &Experiment,
    period: Period,
    wave: &Wave,
    cells: &Cells,
) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    for (slice, arms) in cells {
        let (segment, segment_value) = match slice {
            Slice::All => (None, None),
            Slice::Segment(i, value) => (Some(experiment.segments[*i].0.clone()), value.clone()),
        };
        for (arm, cell) in arms {
            for ((part, counts), summary) in
                wave.parts.iter().zip(&cell.counts).zip(&cell.summaries)
            {
                rows.push(SummaryRow {
                    period,
                    metric: experiment.metrics[part.metric].name.clone(),
                    segment: segment.clone(),
                    segment_value: segment_value.clone(),
                    arm: arm.clone(),
                    units: cell.units,
                    counts: *counts,
                    kind: part.kept.function(),
                    summary: summary.clone(),
                });
            }
        }
    }
    rows
}

impl Kept {
    /// The number of buckets of totals.
    fn buckets(&self) -> Option<u32> {
        match self {
            Self::Totals(buckets) => Some(*buckets),
            _ => None,
        }
    }
}
